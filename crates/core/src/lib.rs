//! The broker: connections, accounts, interest and the publish path of core messaging.
//!
//! A plain single-threaded state machine. Bytes and the time come in, bytes to write (a queue per
//! connection), messages for receivers inside the server and effects for the host come out.
//! Sockets, TLS, password hashing and logs are left to the host; streams to `jetstream`.

// Partial until the codecs are in place.
#![allow(dead_code, unused_imports)]

mod account;
mod broker;
mod effects;
mod ids;
mod limits;
mod monitor;
mod outbound;
mod settings;
mod timers;

pub use broker::Broker;
pub use effects::{
    BrokerEffect, CloseReason, ConnectionFacts, ConnectionKind, Delivered, Delivery, LogLevel,
    TlsFacts,
};
pub use ids::{AccountId, ConnectionId, EndpointId};
pub use limits::{COMPATIBLE_VERSION, MILLRACE_VERSION};
pub use monitor::{AccountInfo, ConnectionInfo, ServerCounters, SubscriptionInfo};
pub use outbound::Outbound;
pub use settings::{BrokerSettings, ServerIdentity};
