//! What recovery is told and what it gives back. How it comes to it is `recovery.rs`.

use super::{GroupId, HardState, Journal, JournalPosition, JournalSettings};
use crate::seal::Keys;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// What recovery needs to know.
#[derive(Clone, Debug)]
pub struct RecoverySettings {
    pub journal: JournalSettings,
    /// Written down when the store is new; otherwise the stored one counts.
    pub server_id: String,
    /// Seeds the epochs of new files.
    pub seed: u64,
    /// 0 for the first recovery of a server run, one more for each after a failed journal: keeps
    /// tokens and file ids apart.
    pub attempt: u16,
    /// What sealed files are opened with, and new ones sealed.
    pub keys: Keys,
}

/// How far recovery is.
#[derive(Debug)]
pub enum Progress {
    Working,
    /// There is no room for anything to be written: [`super::Recovery::tick`] looks again. Said once.
    NoRoom,
    Done(Box<Recovered>),
    Failed(RecoveryError),
}

/// Why the store cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    #[error(
        "the store has format {found}, this version reads up to {supported}: \
         start the newer version, or restore a backup made by this one"
    )]
    NewerFormat { found: u64, supported: u64 },
    #[error("the store's format file is unreadable: {reason}")]
    FormatFile { reason: String },
    #[error("journal file {file} is sealed with key {key}, which the store does not have")]
    NoKey { file: u64, key: u16 },
    #[error("disk: {step}: {reason}")]
    Disk { step: String, reason: String },
}

/// The server's logs as the journal holds them, and the journal ready to write.
#[derive(Debug)]
pub struct Recovered {
    pub server_id: String,
    /// The store did not exist before.
    pub fresh: bool,
    /// Groups that exist, with all that is durable of each.
    pub groups: BTreeMap<GroupId, RecoveredGroup>,
    /// Groups that existed once and whose end the journal still says.
    pub removed: BTreeSet<GroupId>,
    pub journal: Journal,
    /// What was found damaged. Empty on a healthy store; a torn tail is not damage.
    pub report: Vec<Damage>,
}

/// One group as found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredGroup {
    pub checkpoint: Option<RecoveredCheckpoint>,
    pub hard_state: Option<HardState>,
    /// Entries after the checkpoint, by ascending index; without holes unless `missing` says so.
    pub entries: Vec<RecoveredEntry>,
    /// Index ranges (first, last) that were durable and are unreadable now, ascending.
    pub missing: Vec<(u64, u64)>,
}

/// A log entry as found: where its payload lies. The payload itself stays on the disk, so that a
/// long journal costs a start no memory; [`Journal::read`] fetches it, [`Journal::is_intact`]
/// checks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveredEntry {
    pub index: u64,
    pub term: u64,
    pub position: JournalPosition,
    /// Bytes of payload.
    pub length: u32,
    /// Of the payload, seeded with its place.
    pub checksum: u64,
}

/// A group's last checkpoint record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredCheckpoint {
    pub index: u64,
    pub term: u64,
    pub payload: Bytes,
    /// How often it stands in the journal, intact.
    pub copies: u8,
}

/// Something that was durable and cannot be read any more. The bytes are left where they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error(
        "journal file {file}: frames {first_frame} to {last_frame} at byte {offset} are damaged"
    )]
    Frames {
        file: u64,
        offset: u64,
        length: u64,
        first_frame: u64,
        last_frame: u64,
    },
    #[error(
        "journal file {file}: a record of group {group:?} at byte {offset} is damaged (index {index})"
    )]
    Record {
        file: u64,
        offset: u64,
        length: u64,
        group: GroupId,
        index: u64,
    },
    #[error("journal file {file}: the header is damaged")]
    FileHeader { file: u64 },
    #[error("journal file {file}: bytes {offset} to {} cannot be read: {reason}", offset + length)]
    Unreadable {
        file: u64,
        offset: u64,
        length: u64,
        reason: String,
    },
}

impl Damage {
    /// The number of the journal file.
    #[must_use]
    pub const fn file(&self) -> u64 {
        match self {
            Self::Frames { file, .. }
            | Self::Record { file, .. }
            | Self::FileHeader { file }
            | Self::Unreadable { file, .. } => *file,
        }
    }
}
