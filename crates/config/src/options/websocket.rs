//! The `websocket` block (cluster/04 §1): a listener for clients that can speak HTTP only.

use std::collections::BTreeMap;

use super::TlsOptions;

/// The listener and what its clients may do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WebsocketOptions {
    /// Address to listen on; empty means all.
    pub host: String,
    /// Port; -1 means any free one, 0 that there is no listener.
    pub port: i32,
    /// `host:port` that clients are told to use.
    pub advertise: Option<String>,
    /// TLS from the first byte.
    pub tls: Option<TlsOptions>,
    /// Plain text is accepted; without it TLS must be configured.
    pub no_tls: bool,
    /// The origin of a request must be the host that it asks.
    pub same_origin: bool,
    /// Origins that may come, as written; empty for all.
    pub allowed_origins: Vec<String>,
    /// `permessage-deflate` may be agreed.
    pub compression: bool,
    /// Longest time for TLS and the HTTP request; 0 means no limit.
    pub handshake_timeout_ns: u64,
    /// Time between PINGs; `None` means that of other clients.
    pub ping_interval_ns: Option<u64>,
    /// The user that clients without credentials become.
    pub no_auth_user: Option<String>,
    /// Name of the only user, instead of the server's own rules.
    pub user: Option<String>,
    /// Password of the only user.
    pub password: Option<String>,
    /// Token that all share, instead of the server's own rules.
    pub token: Option<String>,
    /// Time for a valid CONNECT; `None` means that of other clients.
    pub authorization_timeout_ns: Option<u64>,
    /// Cookie with a user's signed token.
    pub jwt_cookie: Option<String>,
    /// Cookie with a user's name.
    pub user_cookie: Option<String>,
    /// Cookie with a password.
    pub pass_cookie: Option<String>,
    /// Cookie with a token.
    pub token_cookie: Option<String>,
    /// Lines added to the answer that opens a connection.
    pub headers: BTreeMap<String, String>,
}

impl WebsocketOptions {
    /// Whether there is a listener at all.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.port != 0
    }

    /// Whether its clients are judged by rules of their own.
    #[must_use]
    pub const fn overrides_authorization(&self) -> bool {
        self.user.is_some() || self.token.is_some() || self.no_auth_user.is_some()
    }
}
