//! What a consumer asks of its stream's messages. A trait, so that the visible watermark
//! (hard-parts 6) is applied in one place and state-machine tests need no disk.

use bytes::Bytes;

use super::filter::Filter;

/// A stored message on its way to a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceMessage {
    /// Sequence in the stream.
    pub sequence: u64,
    /// Stored time, nanoseconds since the epoch.
    pub time_ns: i64,
    /// Stored subject.
    pub subject: Bytes,
    /// Header block, empty when there is none.
    pub headers: Bytes,
    /// Payload.
    pub payload: Bytes,
}

/// Answer of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The message.
    Message(SourceMessage),
    /// Removed or unreadable: skip it.
    Gone,
    /// A disk read is under way; call [`super::Consumer::wake`] again when it is done.
    Loading,
}

/// The visible messages of one stream. No method may show anything above the watermark.
pub trait MessageSource {
    /// First sequence (last + 1 when empty).
    fn first_sequence(&self) -> u64;
    /// Highest visible sequence, also when its message is gone.
    fn last_sequence(&self) -> u64;
    /// First message at or after `from` that matches.
    fn next_match(&self, filter: &Filter, from: u64) -> Option<u64>;
    /// Last message that matches.
    fn last_match(&self, filter: &Filter) -> Option<u64>;
    /// How many messages at or after `from` match.
    fn count_from(&self, filter: &Filter, from: u64) -> u64;
    /// First sequence stored at or after this time; last + 1 if there is none.
    fn sequence_at(&self, time_ns: i64) -> u64;
    /// Newest sequence of each matching subject, ascending, at most `limit` of them.
    fn last_per_subject(&self, filter: &Filter, limit: usize) -> Vec<u64>;
    /// Whether the message is still there.
    fn contains(&self, sequence: u64) -> bool;
    /// Reads a message.
    fn fetch(&mut self, sequence: u64) -> Fetched;
}
