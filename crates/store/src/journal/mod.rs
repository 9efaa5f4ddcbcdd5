//! The journal: one write-ahead log for every stream and group of the server (hard-parts 3, 4, 8, 9).
//!
//! This file holds the words that the rest of the server speaks with the journal. Bytes are in
//! `record.rs`, `frame.rs` and `file.rs`; the group commit policy is [`Journal`] (`writer.rs`), which
//! files exist and which may go is `files.rs` and `retention.rs`; reading it all back at start is
//! [`Recovery`] (`recovery.rs`, `replay.rs`). `docs/format.md` draws every byte.
//!
//! The journal does not know what a payload means and never touches a disk: it asks.

use bytes::Bytes;

mod copies;
pub mod file;
mod files;
mod filling;
pub mod frame;
mod reading;
pub mod record;
mod recovered;
mod recovery;
mod renewal;
mod replay;
mod retention;
mod retiring;
mod spares;
mod writer;

pub use record::Reference;
pub use recovered::{
    Damage, Progress, Recovered, RecoveredCheckpoint, RecoveredEntry, RecoveredGroup,
    RecoveryError, RecoverySettings,
};
pub use recovery::Recovery;
pub use writer::Journal;

/// The version of the record, frame and file formats that this build writes.
pub const FORMAT_VERSION: u16 = 1;
/// The version of a store without keys, and of one that has some: a server that knows nothing of
/// encryption must not open that.
pub const STORE_VERSION_PLAIN: u64 = 1;
pub const STORE_VERSION: u64 = 2;
/// Every frame begins at a multiple of this many bytes: the largest unit that devices in use
/// rewrite as a whole, so that writing a frame can never tear the one before it.
pub const FRAME_ALIGNMENT: u64 = 4096;
/// A journal file is preallocated with this size.
pub const DEFAULT_FILE_BYTES: u64 = 64 << 20;
/// Kept aside for deletes, acks and checkpoints when the disk is full (hard-parts 9).
pub const DEFAULT_RESERVE_BYTES: u64 = 64 << 20;
/// Above this many bytes of journal the groups that pin the oldest file are asked to checkpoint.
pub const DEFAULT_BUDGET_BYTES: u64 = 1 << 30;
/// A frame takes queued records up to this many payload bytes (a single record may be larger).
pub const DEFAULT_FRAME_BYTES: u64 = 8 << 20;
/// A second frame joins the one in flight only when this much is queued; below it, waiting for the
/// sync under way makes the next frame carry more.
pub const DEFAULT_PIPELINE_BYTES: u64 = 256 << 10;
/// A lazy record waits at most this long for a frame to ride in.
pub const DEFAULT_LAZY_NS: u64 = 250_000_000;
/// An idle journal writes one empty frame after this long, to prove the frame before it synced.
pub const DEFAULT_IDLE_FRAME_NS: u64 = 100_000_000;
/// Released files that are kept for another life, instead of being removed, as long as the journal
/// stays within its budget: blocks that were written before take a frame and its sync in half the
/// time of blocks that were only reserved.
pub const DEFAULT_SPARE_FILES: usize = 8;
/// Files that never had a life are filled with zeros ahead of use once a run has written this much:
/// a server with little to do leaves the disk alone.
pub const DEFAULT_FILL_AFTER_BYTES: u64 = 256 << 10;
/// Zeros written and synced at once.
pub const DEFAULT_FILL_BYTES: u64 = 1 << 20;
/// Between two such writes.
pub const DEFAULT_FILL_PAUSE_NS: u64 = 2_000_000;
/// While the disk is full, preallocation is tried again this often.
pub const DEFAULT_SPACE_RETRY_NS: u64 = 1_000_000_000;

/// One log inside the journal: the meta group (0), or a stream's group. Never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u64);

/// Where a record's payload begins in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JournalPosition {
    /// The number of the journal file.
    pub file: u64,
    /// The byte in that file.
    pub offset: u64,
}

/// When a record has to be on disk (hard-parts 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// As soon as the journal can.
    Now,
    /// With the next frame, at the latest after [`JournalSettings::lazy_ns`].
    Lazy,
}

/// What "durable" means on this server (`sync_interval`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Synced to the device. Our default.
    Always,
    /// Written to the operating system; synced every so many nanoseconds. Frames with an urgent
    /// hard state are synced at once all the same.
    Interval(u64),
}

/// The term, vote and commit index that a group must not forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub term: u64,
    /// The node voted for in `term`; 0 for none.
    pub vote: u64,
    pub commit: u64,
}

/// What a record says. The payload stands beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// A log entry. One whose index is not above the group's last replaces that entry and all
    /// after it.
    Entry { index: u64, term: u64 },
    /// Replaces the group's hard state. No payload.
    HardState(HardState),
    /// The group's state up to and with `index` lasts elsewhere; the payload says where. Entries up
    /// to `index` are no longer needed; later ones stay, unless the entry at `index` has another
    /// term (a snapshot was installed over a diverged log).
    Checkpoint { index: u64, term: u64 },
    /// Forget the group. No payload.
    GroupRemoved,
    /// An entry whose content stands in another file; the payload is an encoded
    /// `Reference`. Decodable from version 1, not written yet.
    EntryByReference { index: u64, term: u64 },
    /// Something that stands in this file or an older one was erased: all of them are to go, and what
    /// earlier lives left in others. No payload. See [`Journal::erase`].
    Erase,
}

/// One thing to write down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub group: GroupId,
    pub kind: RecordKind,
    /// At most `u32::MAX` bytes; should stay below [`DEFAULT_FRAME_BYTES`].
    pub payload: Bytes,
}

/// The order in which records were queued; the first of a run is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordTicket(pub u64);

/// What the journal tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalEvent {
    /// An entry's payload can be read back from here.
    Located {
        ticket: RecordTicket,
        position: JournalPosition,
    },
    /// This record and all queued before it are durable in the sense of [`SyncMode`].
    Durable { through: RecordTicket },
    /// A write or sync failed. Nothing in flight or queued will become durable; this journal does
    /// nothing any more. Recover to go on.
    Failed { reason: String },
    /// No room for the next file. Refuse publishes and creates; deletes, acknowledgements and
    /// checkpoints go on in the reserve.
    Full,
    /// The disk is still full: whoever can give space back should. Comes again and again.
    SpaceWanted,
    /// There is room again, the reserve included.
    Resumed,
    /// The journal is above its budget, the disk is full, or something was erased, and these groups
    /// keep old files: checkpoint them.
    NeedCheckpoint { groups: Vec<GroupId> },
    /// No file holds what was erased before the last [`RecordKind::Erase`] any more.
    Erased,
    /// Nobody needs this file any more; it is removed or gets another life. Positions in it are void.
    FileReleased { file: u64 },
}

/// How the journal behaves. All fields have defaults that fit a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalSettings {
    pub sync: SyncMode,
    pub file_bytes: u64,
    pub reserve_bytes: u64,
    pub budget_bytes: u64,
    pub frame_bytes: u64,
    pub pipeline_bytes: u64,
    pub lazy_ns: u64,
    pub idle_frame_ns: u64,
    pub space_retry_ns: u64,
    pub spare_files: usize,
    pub fill_after_bytes: u64,
    pub fill_bytes: u64,
    pub fill_pause_ns: u64,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            sync: SyncMode::Always,
            file_bytes: DEFAULT_FILE_BYTES,
            reserve_bytes: DEFAULT_RESERVE_BYTES,
            budget_bytes: DEFAULT_BUDGET_BYTES,
            frame_bytes: DEFAULT_FRAME_BYTES,
            pipeline_bytes: DEFAULT_PIPELINE_BYTES,
            lazy_ns: DEFAULT_LAZY_NS,
            idle_frame_ns: DEFAULT_IDLE_FRAME_NS,
            space_retry_ns: DEFAULT_SPACE_RETRY_NS,
            spare_files: DEFAULT_SPARE_FILES,
            fill_after_bytes: DEFAULT_FILL_AFTER_BYTES,
            fill_bytes: DEFAULT_FILL_BYTES,
            fill_pause_ns: DEFAULT_FILL_PAUSE_NS,
        }
    }
}
