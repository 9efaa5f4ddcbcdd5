//! JetStream as a state machine: accounts, streams, atomic batches, consumers and their API.
//!
//! [`engine::JetStream`] is the whole room: it takes an [`io::Input`] and the time, and gives
//! back [`io::Effect`]s; deliveries leave at once through [`outbound::Outbound`], because what
//! happens next may depend on whether somebody received them. Replication, the disk and sockets
//! belong to others.

pub mod api;
mod backup;
pub mod batch;
mod changes;
pub mod consumer;
pub mod engine;
pub mod entry;
pub mod error;
mod existence;
pub mod fast;
mod gate;
mod gauges;
pub mod ids;
pub mod io;
mod memory;
mod meta;
pub mod model;
mod origin;
pub mod outbound;
pub mod publish;
mod rebuild;
mod reload;
pub mod report;
pub mod request;
pub mod schedule;
mod scrub;
pub mod settings;
pub mod shared;
mod shutdown;
mod start;
pub mod stream;
mod totals;

pub use backup::{RestoreAsk, SnapshotAsk};
pub use changes::PurgeRequest;
pub use engine::JetStream;
pub use gauges::{ConsumerGauges, GaugeLimits, Gauges, OtherGauges, StreamGauges};
pub use ids::{AccountRef, Endpoint, GroupId, JournalPosition, META_GROUP, OriginId, StreamId};
pub use io::{Durability, Effect, Input, LogLevel, Message};
pub use outbound::{ClientFacts, ClientHandle, Outbound};
pub use rebuild::Stray;
pub use request::{Outcome, PendingRequest};
pub use settings::{AccountLimits, AccountSettings, BatchLimits, Settings};
pub use totals::Totals;
