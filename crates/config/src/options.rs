//! The typed options of a server, with the reference's defaults.
//!
//! [`Options`] is what the rest of the server reads; how it came about (file, flags) is left to
//! the modules beside it. Durations are nanoseconds and sizes are bytes, as their names say.

mod accounts;
mod flags;
mod inactive;
mod jetstream;
mod operator;
mod permissions;
mod server;
mod sharing;
mod tls;
mod websocket;

pub use accounts::{
    AccountJetStream, AccountLimits, AccountOptions, AuthorizationOptions, CalloutOptions,
    ConnectionType, UserOptions,
};
pub use inactive::InactiveOptions;
pub use jetstream::{BatchLimits, JetStreamLimits, JetStreamOptions, StoreCipher, SyncInterval};
pub use operator::{FullResolver, OperatorOptions, Resolver};
pub use permissions::{PermissionOptions, ResponseOptions, SubjectList};
pub use server::{
    ClientOptions, DEFAULT_HOST, DEFAULT_PORT, LameDuckOptions, LogOptions, MonitorOptions,
    WriteTimeout,
};
pub use sharing::{
    ExportOptions, ImportOptions, LatencyOptions, MappingOptions, MessageTraceOptions,
    ResponseType, SharedKind,
};
pub use tls::{CertificatePair, HandshakeMode, TlsOptions, TlsVersion};
pub use websocket::WebsocketOptions;

use std::collections::BTreeMap;

/// Everything a server can be told, after configuration file and flags were merged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Name of the server; `None` means its generated id.
    pub server_name: Option<String>,
    /// Lower-cased tags, without duplicates, in the order given.
    pub server_tags: Vec<String>,
    /// Free key-value pairs shown in monitoring.
    pub server_metadata: BTreeMap<String, String>,
    /// Feature flags by name; unknown names are only logged.
    pub feature_flags: BTreeMap<String, bool>,
    /// The client listener and the limits of its connections.
    pub client: ClientOptions,
    /// The client listener's TLS; `None` means plain text.
    pub tls: Option<TlsOptions>,
    /// With TLS: also accept clients that stay on plain text.
    pub allow_non_tls: bool,
    /// The listener for WebSocket clients, off by default.
    pub websocket: WebsocketOptions,
    /// The top-level `authorization` block.
    pub authorization: AuthorizationOptions,
    /// Accounts in the order of the file; never contains `$G`.
    pub accounts: Vec<AccountOptions>,
    /// Subject mappings of account `$G`.
    pub mappings: Vec<MappingOptions>,
    /// Operator mode.
    pub operator: OperatorOptions,
    /// The user that clients without credentials become.
    pub no_auth_user: Option<String>,
    /// Name of the system account; `None` means `$SYS`.
    pub system_account: Option<String>,
    /// True when no system account is wanted.
    pub no_system_account: bool,
    /// JetStream, off by default.
    pub jetstream: JetStreamOptions,
    /// Monitoring over HTTP.
    pub monitor: MonitorOptions,
    /// What is logged and where.
    pub log: LogOptions,
    /// What was asked for and this version does not have.
    pub inactive: InactiveOptions,
    /// Lame duck mode.
    pub lame_duck: LameDuckOptions,
    /// Where the process id is written at start.
    pub pid_file: Option<String>,
    /// Folder in which the ports file is written once all listeners are up.
    pub ports_file_dir: Option<String>,
    /// The configuration file these options came from.
    pub config_file: Option<String>,
    /// `sha256:HEX` over the parsed file (spec core/06 §6.5); empty without a file.
    pub config_digest: String,
}
