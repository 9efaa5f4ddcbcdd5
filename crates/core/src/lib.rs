//! The broker: connections, accounts, interest and the publish path of core messaging.
//!
//! A plain single-threaded state machine. Bytes and the time come in, bytes to write (a queue per
//! connection), messages for receivers inside the server and effects for the host come out.
//! Sockets, TLS, password hashing and logs are left to the host; streams to `jetstream`.

mod account;
mod blocks;
mod broker;
mod callout;
mod chunks;
mod client;
mod close;
mod connect;
mod door;
mod effects;
mod endpoint;
mod ids;
mod imports;
mod info;
mod interest;
mod lame_duck;
mod limits;
mod login;
mod mapping;
mod match_cache;
mod message_trace;
mod monitor;
mod outbound;
mod permits;
mod publish;
mod receive;
mod reload;
mod reserved;
mod session;
mod settings;
mod snapshot;
mod subscription;
mod tick;
mod timers;
mod trace;
mod verbs;

pub use blocks::BlockPool;
pub use broker::Broker;
pub use effects::{
    BrokerEffect, CloseReason, ConnectionFacts, ConnectionKind, Delivered, Delivery, LogLevel,
    TlsFacts, WebsocketFacts,
};
pub use ids::{AccountId, ConnectionId, EndpointId};
pub use limits::{COMPATIBLE_VERSION, MILLRACE_VERSION, RUNTIME};
pub use message_trace::{MessageTrace, TraceKind, TraceStep};
pub use monitor::{AccountInfo, ConnectionInfo, ServerCounters, SessionEvent, SubscriptionInfo};
pub use outbound::Outbound;
pub use settings::{BrokerSettings, ServerIdentity};
