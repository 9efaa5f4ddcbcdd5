//! Who may connect: the authorization block, accounts and their users.

use std::collections::BTreeMap;

use super::permissions::PermissionOptions;
use super::sharing::{ExportOptions, ImportOptions, MappingOptions, MessageTraceOptions};

const AUTHORIZATION_TIMEOUT_NS: u64 = 2_000_000_000;

/// Ways a client can be connected; a user may be limited to some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConnectionType {
    /// The client protocol on the client port.
    Standard,
    /// The client protocol over WebSocket.
    Websocket,
    /// A leaf node.
    Leafnode,
    /// A leaf node over WebSocket.
    LeafnodeWebsocket,
    /// MQTT.
    Mqtt,
    /// MQTT over WebSocket.
    MqttWebsocket,
    /// A client inside the process.
    InProcess,
}

impl ConnectionType {
    const ALL: [Self; 7] = [
        Self::Standard,
        Self::Websocket,
        Self::Leafnode,
        Self::LeafnodeWebsocket,
        Self::Mqtt,
        Self::MqttWebsocket,
        Self::InProcess,
    ];

    /// The name in configurations and tokens.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Standard => "STANDARD",
            Self::Websocket => "WEBSOCKET",
            Self::Leafnode => "LEAFNODE",
            Self::LeafnodeWebsocket => "LEAFNODE_WS",
            Self::Mqtt => "MQTT",
            Self::MqttWebsocket => "MQTT_WS",
            Self::InProcess => "IN_PROCESS",
        }
    }

    /// The type of this name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|known| known.name().eq_ignore_ascii_case(name))
    }
}

/// The top-level `authorization` block.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthorizationOptions {
    /// Name of the only user.
    pub user: Option<String>,
    /// Password of the only user, plain or bcrypt.
    pub password: Option<String>,
    /// Token all clients share, plain or bcrypt.
    pub token: Option<String>,
    /// Time from accept within which a client must have sent a valid CONNECT.
    pub timeout_ns: u64,
    /// Users of account `$G`.
    pub users: Vec<UserOptions>,
    /// Permissions of users that have none of their own.
    pub default_permissions: Option<PermissionOptions>,
    /// Only clients behind a trusted proxy may connect.
    pub proxy_required: bool,
    /// A service that decides who clients are.
    pub callout: Option<CalloutOptions>,
}

/// A service inside an account that is asked who clients are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CalloutOptions {
    /// Public account key that signs its answers.
    pub issuer: String,
    /// The account it listens in.
    pub account: String,
    /// Users, by name or nkey, that log in without it: the service itself.
    pub users: Vec<String>,
    /// Public curve key that requests are sealed to.
    pub curve_key: Option<String>,
    /// Only users of these accounts are decided about; empty for all.
    pub allowed_accounts: Vec<String>,
}

impl Default for AuthorizationOptions {
    fn default() -> Self {
        Self {
            user: None,
            password: None,
            token: None,
            timeout_ns: AUTHORIZATION_TIMEOUT_NS,
            users: Vec::new(),
            default_permissions: None,
            proxy_required: false,
            callout: None,
        }
    }
}

/// A user: known by name and password, or by an nkey.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserOptions {
    /// Name; empty for an nkey user.
    pub name: String,
    /// Password, plain or bcrypt; empty if there is none.
    pub password: String,
    /// Public nkey (`U...`) instead of name and password.
    pub nkey: Option<String>,
    /// What the user may do; the default permissions are already filled in. `None` allows all.
    pub permissions: Option<PermissionOptions>,
    /// Connection types the user may use; empty means all.
    pub allowed_connection_types: Vec<ConnectionType>,
    /// The user must come through a trusted proxy.
    pub proxy_required: bool,
}

/// One account of the `accounts` block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccountOptions {
    /// Name, case kept.
    pub name: String,
    /// Public nkey of the account.
    pub nkey: Option<String>,
    /// Its users.
    pub users: Vec<UserOptions>,
    /// Permissions of users that have none of their own.
    pub default_permissions: Option<PermissionOptions>,
    /// JetStream for this account; `None` means off.
    pub jetstream: Option<AccountJetStream>,
    /// Limits of connections and their subscriptions.
    pub limits: AccountLimits,
    /// What other accounts may import.
    pub exports: Vec<ExportOptions>,
    /// What is imported, each allowed by its exporter.
    pub imports: Vec<ImportOptions>,
    /// Subject mappings, the first that fits is the one.
    pub mappings: Vec<MappingOptions>,
    /// Traces of messages with a `traceparent`.
    pub message_trace: MessageTraceOptions,
}

/// Limits of an account's connections; negative means no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountLimits {
    /// Most client connections.
    pub max_connections: i64,
    /// Most subscriptions of a connection.
    pub max_subscriptions: i64,
    /// Largest header plus payload in bytes.
    pub max_payload: i64,
    /// Most leaf nodes.
    pub max_leafnodes: i64,
}

impl Default for AccountLimits {
    fn default() -> Self {
        Self {
            max_connections: -1,
            max_subscriptions: -1,
            max_payload: -1,
            max_leafnodes: -1,
        }
    }
}

/// JetStream limits of an account; -1 means no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountJetStream {
    /// Bytes in memory streams.
    pub max_memory: i64,
    /// Bytes in file streams.
    pub max_file: i64,
    /// Number of streams.
    pub max_streams: i64,
    /// Number of consumers of one stream.
    pub max_consumers: i64,
    /// Streams must say `max_bytes`.
    pub max_bytes_required: bool,
    /// Bytes of one memory stream.
    pub memory_max_stream_bytes: i64,
    /// Bytes of one file stream.
    pub disk_max_stream_bytes: i64,
    /// Unacknowledged messages of a consumer.
    pub max_ack_pending: i64,
    /// Limits by number of replicas (`R1`, `R3`), in operator mode only. Where there are any, those of
    /// `R1` stand above, too.
    pub tiers: BTreeMap<String, Self>,
}

impl Default for AccountJetStream {
    fn default() -> Self {
        Self {
            max_memory: -1,
            max_file: -1,
            max_streams: -1,
            max_consumers: -1,
            max_bytes_required: false,
            memory_max_stream_bytes: -1,
            disk_max_stream_bytes: -1,
            max_ack_pending: -1,
            tiers: BTreeMap::new(),
        }
    }
}
