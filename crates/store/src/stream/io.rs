//! What a store has asked of the disk and of the journal, and which of its files are open.
//!
//! In a lane, requests of one file are carried out in order: an `Open` need not be waited for, and a
//! `Close` comes after what was asked before it. Segments are read in the lane for reads, through
//! files of their own; all else goes to the data lane.

use super::segment::record::segment_name;
use super::types::{JournalRead, StoreRequests};
use crate::disk::{DiskOperation, DiskRequest, FileId, Lane, Token};
use crate::ids::IdSpace;
use crate::journal::JournalPosition;
use std::collections::BTreeMap;

/// Segment files that one store keeps open, for reading and for all else.
const MAX_OPEN_FILES: usize = 4;

/// Why something was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Nobody waits for it.
    Nothing,
    /// A block for the cache; read because of this message, for a reader in order or for that one.
    Block {
        source: Source,
        start: u64,
        sequence: u64,
        in_order: bool,
    },
    /// A step of the flush under way.
    FlushStep,
    /// Bodies of the tail from the journal, or records of a segment that is rewritten, for the
    /// flush; beginning here.
    FlushRead { source: Source, start: u64 },
    /// The file of deleted ranges.
    LoadDeletes,
    /// The end of a segment's chain of index blocks.
    LoadChain { segment: u64, start: u64 },
    /// A whole segment whose index blocks are damaged.
    LoadWhole { segment: u64 },
    /// A piece of a segment whose checksums are looked at.
    Scrub,
    /// The overwriting of an erased message.
    Erase { sequence: u64 },
    /// The overwriting of a segment with erased messages in its packs.
    Wipe { segment: u64 },
}

/// A file that bodies are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// A segment by its id.
    Segment(u64),
    /// A journal file by its number.
    Journal(u64),
}

#[derive(Debug)]
struct OpenFile {
    file: FileId,
    last_used: u64,
}

/// Open segment files of one lane.
#[derive(Debug, Default)]
struct OpenFiles {
    files: BTreeMap<u64, OpenFile>,
    uses: u64,
}

impl OpenFiles {
    /// The file of a segment if it is open.
    fn get(&mut self, id: u64) -> Option<FileId> {
        self.uses += 1;
        let open = self.files.get_mut(&id)?;
        open.last_used = self.uses;
        Some(open.file)
    }

    /// Notes an open file; gives the segment whose file is to be closed for it.
    fn insert(&mut self, id: u64, file: FileId) -> Option<u64> {
        let full = self.files.len() >= MAX_OPEN_FILES;
        let oldest = self.files.iter().min_by_key(|(_, open)| open.last_used);
        let oldest = oldest.map(|(id, _)| *id).filter(|_| full);
        let last_used = self.uses;
        self.files.insert(id, OpenFile { file, last_used });
        oldest
    }
}

/// Requests on their way, and open segment files.
#[derive(Debug)]
pub(super) struct Io {
    pub(super) directory: String,
    ids: IdSpace,
    out: StoreRequests,
    pending: BTreeMap<Token, Purpose>,
    /// For everything but reading.
    open: OpenFiles,
    /// For reading.
    readable: OpenFiles,
}

impl Io {
    pub(super) fn new(directory: String, ids: IdSpace) -> Self {
        Self {
            directory,
            ids,
            out: StoreRequests::default(),
            pending: BTreeMap::new(),
            open: OpenFiles::default(),
            readable: OpenFiles::default(),
        }
    }

    /// Asks the disk.
    pub(super) fn ask(&mut self, operation: DiskOperation, purpose: Purpose) {
        self.ask_lane(Lane::Data, operation, purpose);
    }

    fn ask_lane(&mut self, lane: Lane, operation: DiskOperation, purpose: Purpose) {
        let token = self.ids.token();
        self.pending.insert(token, purpose);
        self.out.disk.push(DiskRequest {
            token,
            lane,
            operation,
        });
    }

    /// Reads from a segment or the journal.
    pub(super) fn read(&mut self, source: Source, start: u64, length: u32, purpose: Purpose) {
        match source {
            Source::Segment(id) => {
                let file = self.readable_file(id);
                let read = DiskOperation::Read {
                    file,
                    offset: start,
                    length,
                };
                self.ask_lane(Lane::Read, read, purpose);
            }
            Source::Journal(file) => {
                let token = self.ids.token();
                self.pending.insert(token, purpose);
                let position = JournalPosition {
                    file,
                    offset: start,
                };
                self.out.journal.push(JournalRead {
                    token,
                    position,
                    length,
                });
            }
        }
    }

    /// What a token was asked for; `None` if it is not ours or was answered.
    pub(super) fn take(&mut self, token: Token) -> Option<Purpose> {
        self.pending.remove(&token)
    }

    /// Hands over what was asked since the last call.
    pub(super) fn drain(&mut self, out: &mut StoreRequests) {
        out.disk.append(&mut self.out.disk);
        out.journal.append(&mut self.out.journal);
    }

    /// How many requests are on their way.
    pub(super) fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// Whether a request with this purpose is on its way.
    pub(super) fn any(&self, wanted: impl Fn(&Purpose) -> bool) -> bool {
        self.pending.values().any(wanted)
    }

    /// The open file of a segment, for all but reading; opens it if need be.
    pub(super) fn segment_file(&mut self, id: u64) -> FileId {
        if let Some(file) = self.open.get(id) {
            return file;
        }
        let file = self.remember(id);
        let path = self.path(&segment_name(id));
        self.ask(DiskOperation::Open { file, path }, Purpose::Nothing);
        file
    }

    fn readable_file(&mut self, id: u64) -> FileId {
        if let Some(file) = self.readable.get(id) {
            return file;
        }
        let file = self.ids.file();
        if let Some(oldest) = self.readable.insert(id, file) {
            self.close_readable(oldest);
        }
        let path = self.path(&segment_name(id));
        let open = DiskOperation::Open { file, path };
        self.ask_lane(Lane::Read, open, Purpose::Nothing);
        file
    }

    /// Creates the file of a segment.
    pub(super) fn create_segment(&mut self, id: u64) -> FileId {
        let file = self.remember(id);
        let path = self.path(&segment_name(id));
        let create = DiskOperation::Create {
            file,
            path,
            preallocate: 0,
        };
        self.ask(create, Purpose::FlushStep);
        file
    }

    /// A file id for a file that is not a segment.
    pub(super) fn new_file(&mut self) -> FileId {
        self.ids.file()
    }

    /// Closes a segment's files if they are open.
    pub(super) fn close_segment(&mut self, id: u64) {
        self.close_writable(id);
        self.close_readable(id);
    }

    fn close_writable(&mut self, id: u64) {
        if let Some(open) = self.open.files.remove(&id) {
            self.ask(DiskOperation::Close { file: open.file }, Purpose::Nothing);
        }
    }

    fn close_readable(&mut self, id: u64) {
        if let Some(open) = self.readable.files.remove(&id) {
            let close = DiskOperation::Close { file: open.file };
            self.ask_lane(Lane::Read, close, Purpose::Nothing);
        }
    }

    /// Closes all files; what was asked before is still carried out.
    pub(super) fn close_all(&mut self) {
        let files = self.open.files.keys().chain(self.readable.files.keys());
        let ids: Vec<u64> = files.copied().collect();
        ids.into_iter().for_each(|id| self.close_segment(id));
    }

    /// The path of a file in the stream's directory.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }

    fn remember(&mut self, id: u64) -> FileId {
        let file = self.ids.file();
        if let Some(oldest) = self.open.insert(id, file) {
            self.close_writable(oldest);
        }
        file
    }
}
