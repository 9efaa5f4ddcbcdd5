//! The `$JS.API` interface: how requests are addressed, read and answered. The rules of what a
//! request may ask are in `model`; what it changes is done by the engine ([`ApiEngine`]).
//!
//! * [`handle`]: a message of the API endpoint.
//! * [`finish`]: a change that [`handle`] asked for is applied.
//! * [`direct_get`]: a message of a stream's direct get endpoint.
//! * [`ParkedRead`]: a read that waits for the disk, from [`handle`] or [`direct_get`].
//! * [`advisory`]: events, also for the engine's own use.

pub mod advisory;
mod backups;
mod bridge;
mod consumers;
mod direct;
mod dispatch;
mod engine;
mod finish;
mod messages;
mod need;
mod request;
mod response;
mod sourcing;
mod streams;

pub(crate) use backups::{check_restored_consumer, stream_restored};
pub use bridge::{
    Waiting, consumer_event, consumer_expired, direct_get, end_of_turn, finish, handle, refuse,
    store_read, stream_damaged, stream_gone,
};
pub use dispatch::level_is_met;
pub use engine::{ApiEngine, ApiTurn, Change, StreamView};
pub use messages::{ParkedRead, Step};
pub(crate) use need::{Need, need_of};
pub use request::{ApiRequest, ConsumerCall, PREFIX, StreamCall};
pub use response::{Body, Page, StoredMessageView, failure, success};
