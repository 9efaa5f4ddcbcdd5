//! Which journal files exist: the active one, the next one prepared ahead of need, the reserve for
//! a full disk, sealed ones, and their removal one by one, oldest first. What a frame holds and
//! when it is written is `writer.rs`.
//!
//! A file is used only once its header is synced and its name is durable. A file is removed only
//! once the removal of the one before it is durable, so that an old record can never come back
//! without the later ones that overrule it.

use super::file::{FIRST_FRAME_OFFSET, FileHeader, JOURNAL_DIRECTORY, RESERVE_PATH, file_path};
use super::{JournalEvent, JournalSettings};
use crate::disk::{DiskError, DiskOperation, DiskRequest, FileId, Lane, Token};
use millrace_clock::{Now, Random};
use std::collections::VecDeque;

/// Draws tokens and file ids that no other room and no earlier recovery of this run has.
#[derive(Debug)]
pub(super) struct Ids {
    next_token: u64,
    next_file: u64,
}

impl Ids {
    pub(super) fn new(attempt: u16) -> Self {
        let base = Token::JOURNAL | (u64::from(attempt) << 40);
        Self {
            next_token: base,
            next_file: base,
        }
    }

    pub(super) fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    pub(super) fn file(&mut self) -> FileId {
        self.next_file += 1;
        FileId(self.next_file)
    }

    /// Queues an operation; gives its token.
    pub(super) fn ask(
        &mut self,
        lane: Lane,
        operation: DiskOperation,
        out: &mut Vec<DiskRequest>,
    ) -> Token {
        let token = self.token();
        out.push(DiskRequest {
            token,
            lane,
            operation,
        });
        token
    }
}

/// A file that frames can be written to, or were.
#[derive(Clone, Debug)]
pub(super) struct OpenFile {
    pub number: u64,
    pub id: FileId,
    pub epoch: u64,
    /// Where the next frame begins.
    pub offset: u64,
    /// The space it takes on the disk.
    pub bytes: u64,
    /// Reads under way.
    pub readers: u32,
    /// Something in it could not be read: kept under another name instead of removed.
    pub damaged: bool,
}

#[derive(Debug)]
enum Next {
    None,
    /// Waiting for space.
    Waiting {
        until_ns: u64,
    },
    /// The file is being created or taken from the reserve; what is asked and not yet answered.
    Opening {
        file: OpenFile,
        token: Token,
        from_reserve: bool,
    },
    /// Header, sync and directory sync are under way.
    Writing {
        file: OpenFile,
        waiting: Vec<Token>,
    },
    Ready(OpenFile),
}

#[derive(Debug)]
enum Reserve {
    Missing,
    Creating { id: FileId, token: Token },
    Syncing { id: FileId, token: Token },
    Present { id: FileId },
}

#[derive(Debug)]
enum Removal {
    Idle,
    Unlinking(Vec<Token>),
    Syncing(Token),
}

/// The files and what is being done about them.
#[derive(Debug)]
pub(super) struct JournalFiles {
    pub sealed: VecDeque<OpenFile>,
    pub active: OpenFile,
    next: Next,
    reserve: Reserve,
    removal: Removal,
    /// The owner was told that the disk is full.
    full: bool,
    reserve_retry_ns: u64,
    next_number: u64,
    epochs: Random,
}

/// The outcome of a completion for the writer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FileOutcome {
    /// The token is not of this file's business.
    NotMine,
    Fine,
    /// The journal's disk is not to be trusted any more.
    Broken(String),
}

impl JournalFiles {
    pub(super) fn new(
        sealed: VecDeque<OpenFile>,
        active: OpenFile,
        reserve: Option<FileId>,
        epochs: Random,
    ) -> Self {
        let next_number = active.number + 1;
        let reserve = reserve.map_or(Reserve::Missing, |id| Reserve::Present { id });
        Self {
            sealed,
            active,
            next: Next::None,
            reserve,
            removal: Removal::Idle,
            full: false,
            reserve_retry_ns: 0,
            next_number,
            epochs,
        }
    }

    /// Bytes of all files, the prepared one and the reserve included.
    pub(super) fn disk_bytes(&self, settings: &JournalSettings) -> u64 {
        let sealed: u64 = self.sealed.iter().map(|file| file.bytes).sum();
        let next = match &self.next {
            Next::Ready(file) | Next::Writing { file, .. } => file.bytes,
            _ => 0,
        };
        let reserve = match self.reserve {
            Reserve::Present { .. } | Reserve::Syncing { .. } => settings.reserve_bytes,
            _ => 0,
        };
        sealed + self.active.bytes + next + reserve
    }

    /// The owner was told that the disk is full, and not yet that there is room again.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    pub(super) fn find(&mut self, number: u64) -> Option<&mut OpenFile> {
        if self.active.number == number {
            return Some(&mut self.active);
        }
        self.sealed.iter_mut().find(|file| file.number == number)
    }

    /// Makes the next file the active one. The caller has nothing in flight and nothing unsynced.
    /// `false` when it is not ready.
    pub(super) fn roll(&mut self) -> bool {
        match std::mem::replace(&mut self.next, Next::None) {
            Next::Ready(file) => {
                let sealed = std::mem::replace(&mut self.active, file);
                self.sealed.push_back(sealed);
                true
            }
            other => {
                self.next = other;
                false
            }
        }
    }

    /// When something is to be tried again.
    pub(super) fn next_deadline(&self, settings: &JournalSettings) -> Option<u64> {
        match self.next {
            Next::Waiting { until_ns } => Some(until_ns),
            _ => self
                .wants_reserve(settings)
                .then_some(self.reserve_retry_ns),
        }
    }

    /// Asks for what is missing: the next file first, then the reserve, then removals.
    /// `exhausted`: the active file has no room for what is queued.
    pub(super) fn poll(
        &mut self,
        now: Now,
        settings: &JournalSettings,
        exhausted: bool,
        oldest_needed: Option<u64>,
        ids: &mut Ids,
        out: &mut Vec<DiskRequest>,
        events: &mut Vec<JournalEvent>,
    ) {
        let (missing, retry) = match self.next {
            Next::None => (true, false),
            Next::Waiting { until_ns } => (false, now.monotonic_ns >= until_ns),
            _ => (false, false),
        };
        let waiting = matches!(self.next, Next::Waiting { .. });
        let from_reserve = waiting && exhausted && self.take_reserve(settings, ids, out);
        if !from_reserve && (missing || retry) {
            self.open_next(settings, ids, out);
        }
        let due = self.wants_reserve(settings) && now.monotonic_ns >= self.reserve_retry_ns;
        if due {
            let id = ids.file();
            let create = DiskOperation::Create {
                file: id,
                path: RESERVE_PATH.to_owned(),
                preallocate: settings.reserve_bytes,
            };
            let token = ids.ask(Lane::Data, create, out);
            self.reserve = Reserve::Creating { id, token };
        }
        self.remove_oldest(oldest_needed, ids, out, events);
    }

    fn new_file(&mut self, id: FileId, bytes: u64) -> OpenFile {
        let number = self.next_number;
        self.next_number += 1;
        let epoch = self.epochs.next_u64();
        let offset = FIRST_FRAME_OFFSET;
        OpenFile {
            number,
            id,
            epoch,
            offset,
            bytes,
            readers: 0,
            damaged: false,
        }
    }

    fn open_next(&mut self, settings: &JournalSettings, ids: &mut Ids, out: &mut Vec<DiskRequest>) {
        let file = self.new_file(ids.file(), settings.file_bytes);
        let create = DiskOperation::Create {
            file: file.id,
            path: file_path(file.number),
            preallocate: settings.file_bytes,
        };
        let token = ids.ask(Lane::Data, create, out);
        self.next = Next::Opening {
            file,
            token,
            from_reserve: false,
        };
    }

    /// The reserve comes after the next file.
    fn wants_reserve(&self, settings: &JournalSettings) -> bool {
        let next = matches!(self.next, Next::Ready(_) | Next::Writing { .. });
        next && matches!(self.reserve, Reserve::Missing) && settings.reserve_bytes > 0
    }

    fn take_reserve(
        &mut self,
        settings: &JournalSettings,
        ids: &mut Ids,
        out: &mut Vec<DiskRequest>,
    ) -> bool {
        let Reserve::Present { id } = self.reserve else {
            return false;
        };
        self.reserve = Reserve::Missing;
        let file = self.new_file(id, settings.reserve_bytes);
        let rename = DiskOperation::Rename {
            from: RESERVE_PATH.to_owned(),
            to: file_path(file.number),
        };
        let token = ids.ask(Lane::Data, rename, out);
        self.next = Next::Opening {
            file,
            token,
            from_reserve: true,
        };
        true
    }

    fn remove_oldest(
        &mut self,
        oldest_needed: Option<u64>,
        ids: &mut Ids,
        out: &mut Vec<DiskRequest>,
        events: &mut Vec<JournalEvent>,
    ) {
        if !matches!(self.removal, Removal::Idle) {
            return;
        }
        let needed = oldest_needed.unwrap_or(self.active.number);
        let Some(oldest) = self.sealed.front() else {
            return;
        };
        if oldest.number >= needed || oldest.readers > 0 {
            return;
        }
        let path = file_path(oldest.number);
        let unlink = if oldest.damaged {
            DiskOperation::Rename {
                to: format!("{path}.damaged"),
                from: path,
            }
        } else {
            DiskOperation::Remove { path }
        };
        let close = DiskOperation::Close { file: oldest.id };
        let tokens = vec![
            ids.ask(Lane::Data, close, out),
            ids.ask(Lane::Data, unlink, out),
        ];
        self.removal = Removal::Unlinking(tokens);
        events.push(JournalEvent::FileReleased {
            file: oldest.number,
        });
        self.sealed.pop_front();
    }

    /// Takes a completion if it is about files.
    pub(super) fn complete(
        &mut self,
        now: Now,
        token: Token,
        error: Option<&DiskError>,
        settings: &JournalSettings,
        ids: &mut Ids,
        out: &mut Vec<DiskRequest>,
        events: &mut Vec<JournalEvent>,
    ) -> FileOutcome {
        let outcome = self.complete_next(now, token, error, settings, ids, out, events);
        let outcome = match outcome {
            FileOutcome::NotMine => {
                self.complete_reserve(now, token, error, settings, ids, out, events)
            }
            other => other,
        };
        let outcome = match outcome {
            FileOutcome::NotMine => self.complete_removal(token, error, ids, out),
            other => other,
        };
        let ready = matches!(self.next, Next::Ready(_));
        let reserved =
            settings.reserve_bytes == 0 || matches!(self.reserve, Reserve::Present { .. });
        if self.full && ready && reserved {
            self.full = false;
            events.push(JournalEvent::Resumed);
        }
        outcome
    }

    fn complete_next(
        &mut self,
        now: Now,
        token: Token,
        error: Option<&DiskError>,
        settings: &JournalSettings,
        ids: &mut Ids,
        out: &mut Vec<DiskRequest>,
        events: &mut Vec<JournalEvent>,
    ) -> FileOutcome {
        match std::mem::replace(&mut self.next, Next::None) {
            Next::Opening {
                file,
                token: asked,
                from_reserve,
            } if asked == token => match error {
                None => {
                    self.next = start_file(file, ids, out);
                    FileOutcome::Fine
                }
                Some(DiskError::NoSpace) if !from_reserve => {
                    let until_ns = now.after_ns(settings.space_retry_ns);
                    self.next = Next::Waiting { until_ns };
                    self.say_full(events);
                    FileOutcome::Fine
                }
                Some(error) => FileOutcome::Broken(format!("preparing a file: {error}")),
            },
            Next::Writing { file, mut waiting } if waiting.contains(&token) => {
                if let Some(error) = error {
                    return FileOutcome::Broken(format!("preparing a file: {error}"));
                }
                waiting.retain(|asked| *asked != token);
                self.next = if waiting.is_empty() {
                    Next::Ready(file)
                } else {
                    Next::Writing { file, waiting }
                };
                FileOutcome::Fine
            }
            other => {
                self.next = other;
                FileOutcome::NotMine
            }
        }
    }

    fn complete_reserve(
        &mut self,
        now: Now,
        token: Token,
        error: Option<&DiskError>,
        settings: &JournalSettings,
        ids: &mut Ids,
        out: &mut Vec<DiskRequest>,
        events: &mut Vec<JournalEvent>,
    ) -> FileOutcome {
        match self.reserve {
            Reserve::Creating { id, token: asked } if asked == token => {
                self.reserve = if error.is_some() {
                    self.reserve_retry_ns = now.after_ns(settings.space_retry_ns);
                    self.say_full(events);
                    Reserve::Missing
                } else {
                    let path = JOURNAL_DIRECTORY.to_owned();
                    let sync = DiskOperation::SyncDirectory { path };
                    Reserve::Syncing {
                        id,
                        token: ids.ask(Lane::Data, sync, out),
                    }
                };
                FileOutcome::Fine
            }
            Reserve::Syncing { id, token: asked } if asked == token => {
                self.reserve = Reserve::Present { id };
                match error {
                    Some(error) => FileOutcome::Broken(format!("preparing the reserve: {error}")),
                    None => FileOutcome::Fine,
                }
            }
            _ => FileOutcome::NotMine,
        }
    }

    fn say_full(&mut self, events: &mut Vec<JournalEvent>) {
        if !self.full {
            self.full = true;
            events.push(JournalEvent::Full);
        }
    }

    fn complete_removal(
        &mut self,
        token: Token,
        error: Option<&DiskError>,
        ids: &mut Ids,
        out: &mut Vec<DiskRequest>,
    ) -> FileOutcome {
        let done = match &mut self.removal {
            Removal::Unlinking(waiting) if waiting.contains(&token) => {
                waiting.retain(|asked| *asked != token);
                if waiting.is_empty() {
                    let path = JOURNAL_DIRECTORY.to_owned();
                    let sync = DiskOperation::SyncDirectory { path };
                    self.removal = Removal::Syncing(ids.ask(Lane::Data, sync, out));
                }
                true
            }
            Removal::Syncing(asked) if *asked == token => {
                self.removal = Removal::Idle;
                // There may be room now.
                if let Next::Waiting { until_ns } = &mut self.next {
                    *until_ns = 0;
                }
                true
            }
            _ => false,
        };
        match (done, error) {
            (false, _) => FileOutcome::NotMine,
            (true, None) => FileOutcome::Fine,
            (true, Some(error)) => FileOutcome::Broken(format!("removing a file: {error}")),
        }
    }
}

/// Header, sync, and the directory: in one go, since the lane keeps the order within a file and
/// the name needs no content.
fn start_file(file: OpenFile, ids: &mut Ids, out: &mut Vec<DiskRequest>) -> Next {
    let header = FileHeader {
        number: file.number,
        epoch: file.epoch,
    };
    let write = DiskOperation::Write {
        file: file.id,
        offset: 0,
        chunks: vec![header.encode()],
    };
    let directory = DiskOperation::SyncDirectory {
        path: JOURNAL_DIRECTORY.to_owned(),
    };
    let waiting = vec![
        ids.ask(Lane::Data, write, out),
        ids.ask(Lane::Data, DiskOperation::Sync { file: file.id }, out),
        ids.ask(Lane::Data, directory, out),
    ];
    Next::Writing { file, waiting }
}
