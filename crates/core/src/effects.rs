//! What goes in and out of the broker besides bytes: facts about a new connection, effects that
//! the host carries out, messages for receivers inside the server. No behaviour lives here.

use core::net::IpAddr;

use bytes::Bytes;
use millrace_auth::HashCheck;

use crate::ids::{AccountId, ConnectionId, EndpointId};

/// By which door a connection came in; decides allowed connection types and `/connz` `type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectionKind {
    /// A client on the client port.
    #[default]
    Client,
    /// A client inside the same process, without a socket.
    InProcess,
    /// A client over WebSocket. What runs inside its frames is what the broker sees.
    Websocket,
}

/// What a WebSocket request said besides the client protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebsocketFacts {
    /// Whom a proxy names as the peer; shown, but no source of rights.
    pub forwarded_for: Option<IpAddr>,
    /// Credentials in cookies: used where CONNECT has none. Empty where there are none.
    pub jwt: String,
    /// As `jwt`, a user's name.
    pub user: String,
    /// As `jwt`, a password.
    pub password: String,
    /// As `jwt`, a token.
    pub token: String,
}

/// What the host knows about a connection when it is accepted.
#[derive(Clone, Debug)]
pub struct ConnectionFacts {
    /// Address of the peer; `None` for connections without one.
    pub peer_ip: Option<IpAddr>,
    /// Port of the peer.
    pub peer_port: u16,
    /// The door.
    pub kind: ConnectionKind,
    /// Whether the bytes already run inside TLS (handshake first).
    pub tls: bool,
    /// Of a connection over WebSocket: what its request said.
    pub websocket: Option<Box<WebsocketFacts>>,
}

/// What is known about a TLS session once its handshake is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// As in `/connz`: `1.2` or `1.3`.
    pub version: String,
    /// IANA name of the cipher suite.
    pub cipher_suite: String,
    /// Certificates of the peer in DER, leaf first; empty without client certificates.
    pub peer_certificates: Vec<Bytes>,
    /// Users the peer's certificate may stand for, best first; empty without `verify_and_map`.
    pub identities: Vec<String>,
}

/// Why a connection ended; texts as in `/connz` and the disconnect event (spec core/03 §3.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CloseReason {
    /// The peer closed the connection.
    ClientClosed,
    /// No CONNECT in time.
    AuthenticationTimeout,
    /// Wrong or missing credentials.
    AuthenticationViolation,
    /// The TLS handshake failed or took too long.
    TlsHandshakeError,
    /// Pending bytes above `max_pending`.
    SlowConsumerPendingBytes,
    /// A write did not finish within `write_deadline`.
    SlowConsumerWriteDeadline,
    /// The socket failed while writing.
    WriteError,
    /// The socket failed while reading.
    ReadError,
    /// Bytes that are no protocol.
    ParseError,
    /// Pings unanswered.
    StaleConnection,
    /// A malformed operation.
    ProtocolViolation,
    /// `protocol` in CONNECT is neither 0 nor 1.
    BadClientProtocolVersion,
    /// The account's connection limit.
    MaxAccountConnectionsExceeded,
    /// `max_connections`.
    MaxConnectionsExceeded,
    /// `max_payload`.
    MaxPayloadExceeded,
    /// `max_control_line`.
    MaxControlLineExceeded,
    /// The subscription limit was exceeded at login.
    MaxSubscriptionsExceeded,
    /// The server stops.
    ServerShutdown,
    /// The user's or account's time is over.
    AuthenticationExpired,
    /// The account is gone.
    MissingAccount,
    /// The user was revoked or changed by a reload.
    Revocation,
    /// `no_responders` without `headers`.
    NoRespondersRequiresHeaders,
    /// Closed on an operator's request.
    Kicked,
    /// A proxy that nobody trusts vouched for it.
    ProxyNotTrusted,
    /// It had to come through a trusted proxy.
    ProxyRequired,
}

impl ConnectionFacts {
    /// The address that monitoring and INFO show.
    #[must_use]
    pub fn shown_ip(&self) -> Option<IpAddr> {
        let forwarded = self
            .websocket
            .as_ref()
            .and_then(|facts| facts.forwarded_for);
        forwarded.or(self.peer_ip)
    }
}

impl CloseReason {
    /// The status of a WebSocket's close frame (cluster/04 §4).
    #[must_use]
    pub const fn websocket_status(self) -> u16 {
        match self {
            Self::ClientClosed => 1000,
            Self::AuthenticationTimeout
            | Self::AuthenticationViolation
            | Self::ProxyNotTrusted
            | Self::ProxyRequired
            | Self::SlowConsumerPendingBytes
            | Self::SlowConsumerWriteDeadline
            | Self::MaxAccountConnectionsExceeded
            | Self::MaxConnectionsExceeded
            | Self::MaxControlLineExceeded
            | Self::MaxSubscriptionsExceeded
            | Self::MissingAccount
            | Self::AuthenticationExpired
            | Self::Revocation => 1008,
            Self::TlsHandshakeError => 1015,
            Self::ParseError | Self::ProtocolViolation | Self::BadClientProtocolVersion => 1002,
            Self::MaxPayloadExceeded => 1009,
            Self::WriteError | Self::ReadError | Self::StaleConnection | Self::ServerShutdown => {
                1001
            }
            _ => 1011,
        }
    }

    /// The text shown to operators.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::ClientClosed => "Client Closed",
            Self::AuthenticationTimeout => "Authentication Timeout",
            Self::AuthenticationViolation => "Authentication Failure",
            Self::TlsHandshakeError => "TLS Handshake Failure",
            Self::SlowConsumerPendingBytes => "Slow Consumer (Pending Bytes)",
            Self::SlowConsumerWriteDeadline => "Slow Consumer (Write Deadline)",
            Self::WriteError => "Write Error",
            Self::ReadError => "Read Error",
            Self::ParseError => "Parse Error",
            Self::StaleConnection => "Stale Connection",
            Self::ProtocolViolation => "Protocol Violation",
            Self::BadClientProtocolVersion => "Bad Client Protocol Version",
            Self::MaxAccountConnectionsExceeded => "Maximum Account Connections Exceeded",
            Self::MaxConnectionsExceeded => "Maximum Connections Exceeded",
            Self::MaxPayloadExceeded => "Maximum Message Payload Exceeded",
            Self::MaxControlLineExceeded => "Maximum Control Line Exceeded",
            Self::MaxSubscriptionsExceeded => "Maximum Subscriptions Exceeded",
            Self::ServerShutdown => "Server Shutdown",
            Self::AuthenticationExpired => "Authentication Expired",
            Self::MissingAccount => "Missing Account",
            Self::Revocation => "Credentials Revoked",
            Self::NoRespondersRequiresHeaders => "No Responders Requires Headers",
            Self::Kicked => "Kicked",
            Self::ProxyNotTrusted => "Proxy Not Trusted",
            Self::ProxyRequired => "Proxy Required",
        }
    }
}

/// Severity of a log line, as the reference's `[INF]`, `[WRN]`, `[ERR]`, `[DBG]`, `[TRC]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// `[TRC]`
    Trace,
    /// `[DBG]`
    Debug,
    /// `[INF]`
    Info,
    /// `[WRN]`
    Warning,
    /// `[ERR]`
    Error,
}

/// Work that only the host can do, in the order in which it was asked for.
#[derive(Clone, Debug)]
pub enum BrokerEffect {
    /// Close the socket; with `after_flush` only when the outbound queue is empty or a short time
    /// has passed. Then call [`crate::Broker::closed_by_peer`] once, as for every ended socket.
    CloseConnection {
        /// Which one.
        id: ConnectionId,
        /// Whether what waits in the outbound queue is still written.
        after_flush: bool,
        /// For the log; the broker already recorded it.
        reason: CloseReason,
    },
    /// Flush, then do the server side of a TLS handshake on this socket, then call
    /// [`crate::Broker::tls_established`] or [`crate::Broker::closed_by_peer`]. Bytes that
    /// [`crate::Broker::receive`] did not consume belong to the handshake.
    UpgradeTls {
        /// Which one.
        id: ConnectionId,
    },
    /// Run [`HashCheck::verify`] on the hashing pool and answer with
    /// [`crate::Broker::password_checked`]. Do not read from the connection meanwhile.
    HashPassword {
        /// Who waits.
        id: ConnectionId,
        /// The password and the hash it must match.
        check: Box<HashCheck>,
    },
    /// Do not read from this connection before `until_ns` on the monotonic clock (fast producer).
    PauseRead {
        /// Which one.
        id: ConnectionId,
        /// Monotonic time at which reading goes on by itself; `u64::MAX`: not before another
        /// such effect.
        until_ns: u64,
        /// Reading goes on earlier if a connection whose socket was full is written out.
        until_drained: bool,
    },
    /// A line for the server's log.
    Log {
        /// Severity.
        level: LogLevel,
        /// Text without time and level.
        text: String,
    },
    /// Lame duck mode has closed its last client: shut down normally now.
    LameDuckDone,
}

/// A message for a receiver inside the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Who receives it.
    pub endpoint: EndpointId,
    /// The account in which it was published.
    pub account: AccountId,
    /// Published subject.
    pub subject: Bytes,
    /// Reply subject; empty when there is none.
    pub reply: Bytes,
    /// Header block through its blank line; empty when there is none.
    pub headers: Bytes,
    /// Payload without headers.
    pub payload: Bytes,
    /// The client that published it; `None` when the server itself did.
    pub publisher: Option<ConnectionId>,
}

/// What became of a message published by the server itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Client connections that got the message (a queue group counts once).
    pub clients: u32,
    /// Receivers inside the server that got it.
    pub endpoints: u32,
    /// Imports through which somebody in another account got it.
    pub imports: u32,
}

impl Delivered {
    /// Whether anybody got the message.
    #[must_use]
    pub const fn any(self) -> bool {
        self.clients > 0 || self.endpoints > 0 || self.imports > 0
    }
}
