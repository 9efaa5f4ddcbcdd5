//! The disk as effects and completions: what a pure room may ask of `host` (or of the simulated
//! disk), and what comes back. Nothing here touches a file.
//!
//! Rules that both executors keep:
//! - requests of one [`Lane`] that name the same file are carried out in the order submitted, and
//!   so are those that name paths; of different files or lanes they may be carried out, and their
//!   completions may arrive, in any order;
//! - a [`DiskOperation::Sync`] covers every write to that file submitted before it;
//! - paths are relative to the store directory (`<store_dir>/millrace/`), use `/`, and never
//!   contain `..`; the empty path is the store directory itself;
//! - bytes of a file that were never written read as zeros; `Create` makes the file `preallocate`
//!   bytes long, and a failed `Create` leaves no file behind;
//! - a failed write or sync leaves the file's content undefined from the first byte of the oldest
//!   write that was not covered by a successful sync.

use bytes::Bytes;

/// Matches a completion to its request. Unique per server run; drawn by the room that asks.
///
/// The top byte says whose it is, so that completions find their way: journal [`Self::JOURNAL`],
/// everything else 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

impl Token {
    /// Set in the tokens of the journal and its recovery.
    pub const JOURNAL: u64 = 1 << 62;

    /// The request was made by the journal or its recovery.
    #[must_use]
    pub const fn is_journal(self) -> bool {
        self.0 & Self::JOURNAL != 0
    }
}

/// An open file. Chosen by the room that opens it, unique per server run; ids of the journal have
/// [`Token::JOURNAL`] set. Once its `Create` or `Open` has completed, every lane may name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u64);

/// Which executor carries the request out; each has a thread of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Journal writes and syncs: on the acknowledgement path.
    Journal,
    /// Segments, indexes, scratch files, directory work.
    Data,
    /// Reads of stored messages: they must not wait behind the writes and syncs of a flush.
    Read,
}

/// One thing to do on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskOperation {
    /// List a directory: names of its files and folders. A missing directory gives an empty list.
    List { directory: String },
    /// Make a directory and its parents. Existing ones are fine.
    CreateDirectory { path: String },
    /// Create a file that must not exist, reserving `preallocate` bytes (0: none), and open it.
    Create {
        file: FileId,
        path: String,
        preallocate: u64,
    },
    /// Open an existing file for reading and writing. Answers [`DiskReply::Opened`] with its length.
    Open { file: FileId, path: String },
    /// Write all chunks one after the other, beginning at `offset`.
    Write {
        file: FileId,
        offset: u64,
        chunks: Vec<Bytes>,
    },
    /// Make every earlier write to the file durable (fdatasync).
    Sync { file: FileId },
    /// Read up to `length` bytes at `offset`; fewer only at the end of the file.
    Read {
        file: FileId,
        offset: u64,
        length: u32,
    },
    /// Cut the file to `length` bytes.
    Truncate { file: FileId, length: u64 },
    /// Close. The id is free afterwards.
    Close { file: FileId },
    /// Rename a file or folder, replacing what is there.
    Rename { from: String, to: String },
    /// Remove a file. Missing is fine.
    Remove { path: String },
    /// Remove a folder and all in it. Missing is fine.
    RemoveTree { path: String },
    /// Make creations, renames and removals in this directory durable.
    SyncDirectory { path: String },
}

/// A request: an operation, where it runs, and the token its completion carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskRequest {
    pub token: Token,
    pub lane: Lane,
    pub operation: DiskOperation,
}

/// What a successful operation gives back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskReply {
    /// Done, nothing to tell.
    Done,
    /// Names in a directory, sorted; folders end in `/`.
    Names(Vec<String>),
    /// The length of the opened file in bytes.
    Opened { length: u64 },
    /// The bytes read.
    Data(Bytes),
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    #[error("no space left on device")]
    NoSpace,
    #[error("not found: {0}")]
    NotFound(String),
    #[error("already exists: {0}")]
    AlreadyExists(String),
    #[error("{0}")]
    Other(String),
}

/// The end of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskCompletion {
    pub token: Token,
    pub result: Result<DiskReply, DiskError>,
}

/// What [`zeros`] is cut from.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// So many zeros as the chunks of a write; they take no memory of their own.
pub(crate) fn zeros(length: u64) -> Vec<Bytes> {
    let mut left = length as usize;
    let mut chunks = Vec::with_capacity(left.div_ceil(ZEROS.len()));
    while left > 0 {
        let chunk = left.min(ZEROS.len());
        chunks.push(Bytes::from_static(ZEROS.get(..chunk).unwrap_or(&ZEROS)));
        left -= chunk;
    }
    chunks
}
