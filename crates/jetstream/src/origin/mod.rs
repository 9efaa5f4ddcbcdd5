//! Copying from other streams: how a mirror or a source gets its origin's messages (spec
//! jetstream/01 §6).
//!
//! A [`Puller`] asks its origin for a push consumer, on the same subjects as every client, so that
//! exports, imports and domains lie between them as for a client. It sees to it that deliveries come
//! without a gap and begins anew where one is missing. It decides nothing about storing: that is
//! `stream/copying.rs`; the header that names where a message came from is `source_header.rs`, what a
//! consumer is asked for with is `ask.rs`.

mod ask;
mod delivery;
mod position;
mod puller;
mod source_header;
#[cfg(test)]
mod tests;
mod watch;

pub(crate) use delivery::is_control;
pub(crate) use position::{SourcePosition, SourcePositions};
pub(crate) use puller::{Answered, Arrival, FlowAnswer, Kind, Place, Puller};
pub(crate) use source_header::{IndexName, from_origin, from_source, origin_of, short_hash};

use millrace_clock::Now;

/// No two attempts to reach an origin begin closer together.
const ATTEMPT_INTERVAL_NS: u64 = 2 * Now::SECOND_NS;
/// After the first failure; after the n-th it is n times as long.
const FAILURE_DELAY_NS: u64 = 10 * Now::SECOND_NS;
const FAILURE_DELAY_MAX_NS: u64 = 120 * Now::SECOND_NS;
/// How long the answer to a request may take.
const ANSWER_TIMEOUT_NS: u64 = 30 * Now::SECOND_NS;
/// An origin sends a heartbeat every second: when nothing comes for so long, its consumer is gone.
const SILENCE_NS: u64 = 10 * Now::SECOND_NS;
/// A mirror that is at most so many messages behind answers direct gets for its origin.
pub(crate) const CAUGHT_UP_LAG: u64 = 10;
