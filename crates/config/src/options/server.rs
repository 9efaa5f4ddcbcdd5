//! Options of the listener, of connections, of logging, monitoring and shutdown.

/// Default client port.
pub const DEFAULT_PORT: u16 = 4222;
/// Default bind address.
pub const DEFAULT_HOST: &str = "0.0.0.0";
const SECOND_NS: u64 = 1_000_000_000;
const MAX_CONTROL_LINE: usize = 4096;
const MAX_PAYLOAD: usize = 1024 * 1024;
const MAX_PENDING: u64 = 64 * 1024 * 1024;
const MAX_CONNECTIONS: i64 = 64 * 1024;
const MAX_CLOSED_CLIENTS: usize = 10_000;
const PING_INTERVAL_NS: u64 = 120 * SECOND_NS;
const PING_MAX: u32 = 2;
const WRITE_DEADLINE_NS: u64 = 10 * SECOND_NS;
const LAME_DUCK_DURATION_NS: u64 = 120 * SECOND_NS;
const LAME_DUCK_GRACE_PERIOD_NS: u64 = 10 * SECOND_NS;

/// What happens to a connection whose write runs into the deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteTimeout {
    /// What suits the kind of connection (clients are closed).
    #[default]
    Default,
    /// Close it.
    Close,
    /// Try again.
    Retry,
}

impl WriteTimeout {
    /// As in the configuration; empty for the default.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "",
            Self::Close => "close",
            Self::Retry => "retry",
        }
    }
}

/// The client listener and the limits of its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// Bind address.
    pub host: String,
    /// Port; -1 means any free one.
    pub port: i32,
    /// `host[:port]` told to clients and servers instead of the bind address.
    pub advertise: Option<String>,
    /// Longest protocol line in bytes.
    pub max_control_line: usize,
    /// Largest header plus payload in bytes.
    pub max_payload: usize,
    /// Most bytes waiting for one connection.
    pub max_pending: u64,
    /// Most client connections; 0 refuses all, negative means no limit.
    pub max_connections: i64,
    /// Most subscriptions of one connection; 0 means no limit.
    pub max_subscriptions: u64,
    /// Most tokens in a subscription's subject; 0 means no limit.
    pub max_subscription_tokens: u8,
    /// Most closed connections remembered for monitoring.
    pub max_closed_clients: usize,
    /// Longest time one write may take.
    pub write_deadline_ns: u64,
    /// What happens when it takes longer.
    pub write_timeout: WriteTimeout,
    /// Time between PINGs.
    pub ping_interval_ns: u64,
    /// Unanswered PINGs after which a connection is stale.
    pub ping_max: u32,
    /// Do not slow down producers that outrun their consumers.
    pub no_fast_producer_stall: bool,
    /// Do not offer headers.
    pub no_header_support: bool,
    /// Do not cache match results.
    pub disable_match_cache: bool,
    /// Expect the PROXY protocol's header on client connections.
    pub proxy_protocol: bool,
    /// Public keys of proxies that may vouch for clients.
    pub trusted_proxies: Vec<String>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            host: DEFAULT_HOST.to_owned(),
            port: i32::from(DEFAULT_PORT),
            advertise: None,
            max_control_line: MAX_CONTROL_LINE,
            max_payload: MAX_PAYLOAD,
            max_pending: MAX_PENDING,
            max_connections: MAX_CONNECTIONS,
            max_subscriptions: 0,
            max_subscription_tokens: 0,
            max_closed_clients: MAX_CLOSED_CLIENTS,
            write_deadline_ns: WRITE_DEADLINE_NS,
            write_timeout: WriteTimeout::Default,
            ping_interval_ns: PING_INTERVAL_NS,
            ping_max: PING_MAX,
            no_fast_producer_stall: false,
            no_header_support: false,
            disable_match_cache: false,
            proxy_protocol: false,
            trusted_proxies: Vec::new(),
        }
    }
}

/// Monitoring over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorOptions {
    /// Bind address; empty means the client listener's.
    pub host: String,
    /// Port for plain HTTP: 0 off, -1 any free one.
    pub http_port: i32,
    /// Port for HTTPS: 0 off, -1 any free one.
    pub https_port: i32,
    /// Path in front of every endpoint.
    pub base_path: String,
    /// Port for profiles: 0 off, -1 any free one.
    pub profile_port: i32,
    /// With a password: who may look.
    pub user: Option<String>,
    /// The password, or its bcrypt hash.
    pub password: Option<String>,
    /// A token that lets in too, or its bcrypt hash.
    pub token: Option<String>,
    /// Serve the dashboard.
    pub dashboard: bool,
    /// Let the dashboard publish and read messages for who logs in there as a client.
    pub actions: bool,
}

impl MonitorOptions {
    /// Whether the port asks who is there.
    #[must_use]
    pub const fn has_authentication(&self) -> bool {
        (self.user.is_some() && self.password.is_some()) || self.token.is_some()
    }
}

impl Default for MonitorOptions {
    fn default() -> Self {
        Self {
            host: String::new(),
            http_port: 0,
            https_port: 0,
            base_path: "/".to_owned(),
            profile_port: 0,
            user: None,
            password: None,
            token: None,
            dashboard: true,
            actions: true,
        }
    }
}

/// What is logged and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Log debugging lines.
    pub debug: bool,
    /// Log protocol lines.
    pub trace: bool,
    /// Also trace the system account.
    pub trace_verbose: bool,
    /// Trace headers only, without payload.
    pub trace_headers: bool,
    /// Most payload bytes in a trace line; 0 means no limit.
    pub max_traced_message_length: usize,
    /// Put time in front of lines.
    pub time: bool,
    /// The time is UTC.
    pub time_utc: bool,
    /// Log file; `None` means standard error.
    pub file: Option<String>,
    /// Size in bytes above which the file is rotated; 0 means never.
    pub file_size_limit: u64,
    /// Rotated files kept, the current one included; 0 means all.
    pub file_keep: usize,
    /// Log to the system log.
    pub syslog: bool,
    /// Address of a remote system log; empty means the local one.
    pub remote_syslog: String,
    /// Every how many failed first connects to a peer one is logged.
    pub connect_error_reports: u64,
    /// The same for reconnects.
    pub reconnect_error_reports: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            debug: false,
            trace: false,
            trace_verbose: false,
            trace_headers: false,
            max_traced_message_length: 0,
            time: true,
            time_utc: false,
            file: None,
            file_size_limit: 0,
            file_keep: 0,
            syslog: false,
            remote_syslog: String::new(),
            connect_error_reports: 3600,
            reconnect_error_reports: 1,
        }
    }
}

/// Lame duck mode: how clients are sent away before a shutdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LameDuckOptions {
    /// Time over which clients are closed; at least 30 seconds.
    pub duration_ns: u64,
    /// Time before the first client is closed; below `duration_ns`.
    pub grace_period_ns: u64,
}

impl Default for LameDuckOptions {
    fn default() -> Self {
        Self {
            duration_ns: LAME_DUCK_DURATION_NS,
            grace_period_ns: LAME_DUCK_GRACE_PERIOD_NS,
        }
    }
}
