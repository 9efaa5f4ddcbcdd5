//! What a store has asked of the disk and of the journal, and which of its files are open.
//!
//! All requests go to the data lane, where requests of one file are carried out in order: an
//! `Open` need not be waited for, and a `Close` comes after the reads before it.

use super::segment::record::segment_name;
use super::types::{JournalRead, StoreRequests};
use crate::disk::{DiskOperation, DiskRequest, FileId, Lane, Token};
use crate::ids::IdSpace;
use crate::journal::JournalPosition;
use std::collections::BTreeMap;

/// Segment files that one store keeps open.
const MAX_OPEN_FILES: usize = 4;

/// Why something was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Nobody waits for it.
    Nothing,
    /// A block for the cache; read because of this message.
    Block {
        source: Source,
        start: u64,
        sequence: u64,
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
    /// The overwriting of an erased message.
    Erase { sequence: u64 },
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

/// Requests on their way, and open segment files.
#[derive(Debug)]
pub(super) struct Io {
    pub(super) directory: String,
    ids: IdSpace,
    out: StoreRequests,
    pending: BTreeMap<Token, Purpose>,
    open: BTreeMap<u64, OpenFile>,
    uses: u64,
}

impl Io {
    pub(super) fn new(directory: String, ids: IdSpace) -> Self {
        Self {
            directory,
            ids,
            out: StoreRequests::default(),
            pending: BTreeMap::new(),
            open: BTreeMap::new(),
            uses: 0,
        }
    }

    /// Asks the disk.
    pub(super) fn ask(&mut self, operation: DiskOperation, purpose: Purpose) {
        let token = self.ids.token();
        self.pending.insert(token, purpose);
        self.out.disk.push(DiskRequest {
            token,
            lane: Lane::Data,
            operation,
        });
    }

    /// Reads from a segment or the journal.
    pub(super) fn read(&mut self, source: Source, start: u64, length: u32, purpose: Purpose) {
        match source {
            Source::Segment(id) => {
                let file = self.segment_file(id);
                self.ask(
                    DiskOperation::Read {
                        file,
                        offset: start,
                        length,
                    },
                    purpose,
                );
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

    /// The open file of a segment; opens it if need be.
    pub(super) fn segment_file(&mut self, id: u64) -> FileId {
        self.uses += 1;
        if let Some(open) = self.open.get_mut(&id) {
            open.last_used = self.uses;
            return open.file;
        }
        let file = self.remember(id);
        let path = self.path(&segment_name(id));
        self.ask(DiskOperation::Open { file, path }, Purpose::Nothing);
        file
    }

    /// Creates the file of a segment.
    pub(super) fn create_segment(&mut self, id: u64) -> FileId {
        self.uses += 1;
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

    /// Closes a segment's file if it is open.
    pub(super) fn close_segment(&mut self, id: u64) {
        if let Some(open) = self.open.remove(&id) {
            self.ask(DiskOperation::Close { file: open.file }, Purpose::Nothing);
        }
    }

    /// Closes all files; what was asked before is still carried out.
    pub(super) fn close_all(&mut self) {
        let open: Vec<u64> = self.open.keys().copied().collect();
        open.into_iter().for_each(|id| self.close_segment(id));
    }

    /// The path of a file in the stream's directory.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }

    fn remember(&mut self, id: u64) -> FileId {
        if self.open.len() >= MAX_OPEN_FILES
            && let Some((oldest, _)) = self.open.iter().min_by_key(|(_, open)| open.last_used)
        {
            let oldest = *oldest;
            self.close_segment(oldest);
        }
        let file = self.ids.file();
        self.open.insert(
            id,
            OpenFile {
                file,
                last_used: self.uses,
            },
        );
        file
    }
}
