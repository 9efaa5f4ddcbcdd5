//! The words of the stream store: what goes in, what comes out. No behaviour but sizes.

use crate::disk::Token;
use crate::ids::IdSpace;
use crate::journal::JournalPosition;
use bytes::Bytes;

pub use super::segment::pack::Packing;

/// One message of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its number in the stream, from 1.
    pub sequence: u64,
    /// When it was stored: nanoseconds since the Unix epoch.
    pub time_ns: i64,
    /// The subject after transforms. At most 65,535 bytes.
    pub subject: Bytes,
    /// The whole header block with status line and final CRLF; empty: none.
    pub headers: Bytes,
    pub payload: Bytes,
}

/// The answer to a question that may need the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup<T> {
    Ready(T),
    /// A disk read was asked for. Try again after a `complete` that returns true.
    Loading,
}

impl<T> Lookup<T> {
    /// The answer, if it is there.
    pub fn ready(self) -> Option<T> {
        match self {
            Self::Ready(value) => Some(value),
            Self::Loading => None,
        }
    }
}

/// Why a message cannot be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Never stored, or removed.
    #[error("no message found")]
    NotFound,
    /// Stored, counted, but its bytes on disk are damaged. Reported once as
    /// [`StoreEvent::Damaged`].
    #[error("message is damaged")]
    Damaged,
}

/// Where the messages of a stream live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In segment files of this directory (relative to the store directory, no final slash), for
    /// example `streams/17`. Made when the first segment is written.
    File { directory: String },
    /// In memory only.
    Memory,
}

/// How many bytes of payload one store may keep in memory at most. Below that,
/// [`super::MemoryBudget`] decides from what all stores of the server hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryShare {
    /// For messages not yet in segments; beyond it they are read back from the journal.
    pub tail_bytes: u64,
    /// For blocks read from disk.
    pub block_bytes: u64,
}

impl Default for MemoryShare {
    fn default() -> Self {
        Self {
            tail_bytes: 32 << 20,
            block_bytes: 8 << 20,
        }
    }
}

/// What a store needs to know.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    pub storage: Storage,
    /// Tokens and file ids come from here; completions of this space go to this store.
    pub ids: IdSpace,
    pub share: MemoryShare,
    /// Seeds the checksums of new segments, so that bytes of another segment never pass.
    pub seed: u64,
    /// How segments are written from now on; what was written otherwise is read all the same.
    pub packing: Packing,
}

impl StoreSettings {
    /// A memory store.
    #[must_use]
    pub fn memory() -> Self {
        Self {
            storage: Storage::Memory,
            ids: IdSpace::new(0),
            share: MemoryShare::default(),
            seed: 0,
            packing: Packing::default(),
        }
    }

    /// A file store with the default share.
    #[must_use]
    pub fn file(directory: &str, ids: IdSpace, seed: u64) -> Self {
        Self {
            storage: Storage::File {
                directory: directory.to_owned(),
            },
            ids,
            share: MemoryShare::default(),
            seed,
            packing: Packing::default(),
        }
    }
}

/// The numbers of a stream (spec jetstream/01 §4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamState {
    pub messages: u64,
    /// Sum of accounting sizes.
    pub bytes: u64,
    /// The oldest message; `last_sequence + 1` when all are gone; 0 when nothing ever happened.
    pub first_sequence: u64,
    /// Time of the oldest message; 0 when there is none (shown as the zero time).
    pub first_time_ns: i64,
    /// Never goes back.
    pub last_sequence: u64,
    /// Time of the newest message ever stored; 0 when there never was one.
    pub last_time_ns: i64,
    /// Distinct subjects.
    pub subjects: u64,
    /// Missing sequences between first and last.
    pub deleted: u64,
}

/// The messages of one subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubjectState {
    pub count: u64,
    pub first: u64,
    pub last: u64,
}

/// A message that was taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    pub sequence: u64,
    pub time_ns: i64,
    pub subject: Bytes,
    /// Its accounting size.
    pub size: u64,
    /// It was the last one of its subject.
    pub subject_gone: bool,
}

/// A message whose bytes are in the journal and not in memory: a part of a large batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournaledMessage {
    pub sequence: u64,
    pub time_ns: i64,
    pub subject: Bytes,
    /// Bytes of headers and of payload, which lie one behind the other.
    pub headers_length: u32,
    pub payload_length: u32,
    /// [`body_checksum`] of both.
    pub checksum: u64,
}

/// The checksum by which a body read back from the journal is known: of headers and payload as
/// they lie one behind the other.
#[must_use]
pub fn body_checksum(body: &[u8]) -> u64 {
    twox_hash::XxHash3_64::oneshot(body)
}

/// What to purge. All conditions hold together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Purge<'a> {
    /// Only matching messages; `None` or a filter that matches all: every message.
    pub filter: Option<&'a super::Filter>,
    /// Only messages below this sequence (not including it).
    pub below: Option<u64>,
    /// Leave the newest so many of what matches.
    pub keep: u64,
}

/// What a purge removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    pub messages: u64,
    pub bytes: u64,
}

/// A read from the journal that the store needs. Ask [`crate::journal::Journal::read`] with it; the
/// completion goes to [`super::StreamStore::complete`], then call `read_done`. If the journal
/// answers `None`, complete the token with [`crate::disk::DiskError::NotFound`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalRead {
    pub token: Token,
    pub position: JournalPosition,
    pub length: u32,
}

/// What a store asks for: disk work, and reads that go through the journal.
#[derive(Debug, Default)]
pub struct StoreRequests {
    pub disk: Vec<crate::disk::DiskRequest>,
    pub journal: Vec<JournalRead>,
}

/// The result of a finished flush: everything up to `last_sequence` lasts in segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Counts the store's manifests; hand it to [`super::StreamStore::checkpoint_durable`].
    pub number: u64,
    /// The stream's state and segment list **as of the call of `begin_flush`**: the checkpoint
    /// record that carries it names the log index applied at that moment.
    pub bytes: Bytes,
}

/// Something to tell the operator or the node, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// The record of this message failed its checksum or cannot be read.
    Damaged {
        sequence: u64,
        /// File and byte range, or the journal position, in words.
        place: String,
    },
    /// Bytes of a segment fail their checksum, and no message that is there is known to be hit: an
    /// index block, a header, or a store whose index is not read. What they hold is read otherwise.
    SegmentDamaged { place: String },
    /// Messages that the checkpoint counts are not in the segments any more (inclusive range).
    /// They are treated as deleted.
    Lost { first: u64, last: u64 },
    /// The file that says which messages are deleted is damaged: deleted messages whose records
    /// still exist came back.
    DeletesDamaged { place: String },
    /// A flush failed and was given up; the tail stays in memory and journal. Begin again later.
    FlushFailed { reason: String },
    /// A flush ended well.
    Flushed(Manifest),
    /// The overwriting of an erased message in its segment is synced.
    Erased { sequence: u64 },
    /// The overwriting of an erased message failed; its bytes may still be in the segment.
    EraseFailed { sequence: u64, reason: String },
}

/// What a store keeps in memory, in bytes. Estimates that include what allocators round up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// Per message.
    pub rows: u64,
    /// Per subject, and four bytes per message of subjects with more than two.
    pub subjects: u64,
    /// Per range of deleted messages.
    pub deleted: u64,
    /// Payloads of the tail, with 64 bytes for each message in it.
    pub tail: u64,
    /// Blocks read from disk.
    pub blocks: u64,
    /// What of all this can be let go, because it can be read again.
    pub cache: u64,
}

impl Resident {
    /// All bytes together.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.rows + self.subjects + self.deleted + self.tail + self.blocks
    }
}

/// The accounting size of a message in bytes (spec jetstream/01 §4).
#[must_use]
pub fn accounting_size(file: bool, subject: usize, headers: usize, payload: usize) -> u64 {
    (subject + headers + payload) as u64 + overhead(file, headers > 0)
}

/// What accounting adds to the bytes of subject, headers and payload.
pub(super) const fn overhead(file: bool, headers: bool) -> u64 {
    match (file, headers) {
        (true, true) => 22 + 8 + 4,
        (true, false) => 22 + 8,
        (false, _) => 16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Sizes of spec jetstream/01 §4, as probed.
    #[test]
    fn accounting_sizes_are_those_of_the_reference() {
        assert_eq!(accounting_size(true, 1, 0, 2), 33);
        assert_eq!(accounting_size(true, 1, 28, 2), 65);
        assert_eq!(accounting_size(false, 1, 28, 2), 47);
    }
}
