//! Fast ingest (spec jetstream/03 §5 to §7): an ordered, flow-controlled way to publish without
//! atomicity. The client tells what it wants in the reply subject (`address.rs`); the server answers
//! there now and then how far messages are stored, and how many more may come before the next such
//! answer (`group.rs`). What becomes of a message is `ingest.rs`.
//!
//! Nothing of a batch is logged but its messages: the state here lives on the leader, is bounded by
//! [`crate::settings::BatchLimits`], and ends with the lead.

mod address;
mod group;
mod ingest;

pub use address::{FastAddress, FastOperation, is_fast};
pub use group::FastGroup;
pub(crate) use ingest::FastStep;
