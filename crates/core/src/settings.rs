//! What a broker is told once, when it is made.

use std::sync::Arc;

use millrace_auth::ServerKeys;
use millrace_config::Options;

/// Who this server is; chosen by the host, because ids and seeds need entropy.
#[derive(Clone, Debug, Default)]
pub struct ServerIdentity {
    /// Public server key, 56 characters beginning with `N`.
    pub server_id: String,
    /// Configured name, or the id.
    pub server_name: String,
    /// Short commit; empty when unknown.
    pub git_commit: String,
    /// Host of the client listener, as INFO shows it where nothing else is advertised.
    pub host: String,
    /// Port that listener is bound to.
    pub port: u16,
    /// Host and port shown to WebSocket clients; `None` without such a listener.
    pub websocket: Option<(String, u16)>,
    /// Secret from which nonces are derived; must come from the system's entropy.
    pub nonce_seed: [u8; 32],
    /// Whether INFO says that JetStream is on.
    pub jetstream: bool,
    /// JetStream domain; empty when there is none.
    pub domain: String,
    /// Cluster name; empty when there is none.
    pub cluster: String,
    /// Secret keys, of which `server_id` and `xkey` are the public ones.
    pub keys: ServerKeys,
    /// Curve public key (`X...`); empty when there is none.
    pub xkey: String,
}

/// Everything a broker needs to start.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    /// The configuration.
    pub options: Arc<Options>,
    /// Who we are.
    pub identity: ServerIdentity,
    /// Seed of all choices that need no secrecy (queue group members, timer jitter).
    pub random_seed: u64,
}
