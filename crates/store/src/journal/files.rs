//! Which journal files exist: the active one, the next one prepared ahead of need, the reserve for
//! a full disk, sealed ones, and their removal one by one, oldest first. What a frame holds and
//! when it is written is `writer.rs`.
//!
//! A file is used only once its header is synced and its name is durable. A file goes (is removed,
//! or becomes a spare) only once the going of the one before it is durable, so that an old record
//! can never come back without the later ones that overrule it.

use super::file::{FIRST_FRAME_OFFSET, FileHeader, JOURNAL_DIRECTORY, RESERVE_PATH, file_path};
use super::filling::Filling;
use super::spares::{Spare, Spares};
use super::{JournalEvent, JournalSettings};
use crate::disk::{DiskError, DiskOperation, DiskRequest, FileId, Lane, Token};
use crate::seal::{FileKey, Keys};
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
    /// What its entries and checkpoints are sealed with, and the number of the data key.
    pub key: Option<FileKey>,
    pub key_number: u16,
    /// Where the next frame begins.
    pub offset: u64,
    /// The space it takes on the disk.
    pub bytes: u64,
    /// Up to here its blocks were written before, by frames, zeros or an earlier life.
    pub written: u64,
    /// Reads under way.
    pub readers: u32,
    /// Something in it could not be read: kept under another name instead of removed.
    pub damaged: bool,
    /// Behind its frames stand bytes of an earlier life.
    pub had_a_life: bool,
}

impl OpenFile {
    /// A file without frames.
    pub(super) fn new(number: u64, id: FileId, epoch: u64, bytes: u64) -> Self {
        Self {
            number,
            id,
            epoch,
            key: None,
            key_number: 0,
            offset: FIRST_FRAME_OFFSET,
            bytes,
            written: 0,
            readers: 0,
            damaged: false,
            had_a_life: false,
        }
    }

    /// A file that is to be written with the newest key there is.
    pub(super) fn sealed(mut self, keys: &Keys) -> Self {
        self.key_number = keys.current();
        self.key = keys.journal(self.key_number, self.number, self.epoch);
        self
    }
}

/// On a full disk a file may be as short as this.
const SHORTEST_FILE_BYTES: u64 = 64 << 10;

#[derive(Debug)]
pub(super) enum Next {
    None,
    /// Waiting for space.
    Waiting {
        until_ns: u64,
    },
    /// The file is being created.
    Opening {
        file: OpenFile,
        token: Token,
    },
    /// Its header is being written, under another name if there is one: what is asked and not yet
    /// answered.
    Writing {
        file: OpenFile,
        waiting: Vec<Token>,
        other_name: Option<String>,
    },
    Ready(OpenFile),
}

impl Next {
    fn ready(&self) -> Option<&OpenFile> {
        match self {
            Self::Ready(file) => Some(file),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(super) enum Reserve {
    Missing,
    Creating { id: FileId, token: Token },
    Syncing { id: FileId, token: Token },
    Present { id: FileId },
}

/// How the oldest file goes; with what it becomes, if it gets another life.
#[derive(Debug)]
pub(super) enum Removal {
    Idle,
    Unlinking(Vec<Token>, Option<Spare>),
    Syncing(Token, Option<Spare>),
}

/// The files and what is being done about them.
#[derive(Debug)]
pub(super) struct JournalFiles {
    pub sealed: VecDeque<OpenFile>,
    pub active: OpenFile,
    pub(super) next: Next,
    pub(super) reserve: Reserve,
    /// It was a journal file once, or that is not known.
    pub(super) reserve_had_a_life: bool,
    pub(super) removal: Removal,
    pub(super) spares: Spares,
    pub(super) filling: Filling,
    /// Removals asked for because something was erased.
    pub(super) discarding: Vec<Token>,
    /// Something was erased: nothing that goes gets another life.
    pub(super) is_retiring: bool,
    /// The owner was told that the disk is full.
    full: bool,
    /// What goes on on a full disk has used up the reserve: a file of this length is tried next.
    short_bytes: Option<u64>,
    pub(super) reserve_retry_ns: u64,
    next_number: u64,
    epochs: Random,
    keys: Keys,
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
        spares: Spares,
        is_full: bool,
        (epochs, keys): (Random, Keys),
    ) -> Self {
        let next_number = active.number + 1;
        let reserve = reserve.map_or(Reserve::Missing, |id| Reserve::Present { id });
        Self {
            sealed,
            active,
            next: Next::None,
            reserve_had_a_life: matches!(reserve, Reserve::Present { .. }),
            reserve,
            removal: Removal::Idle,
            spares,
            filling: Filling::default(),
            discarding: Vec::new(),
            is_retiring: false,
            full: is_full,
            short_bytes: None,
            reserve_retry_ns: 0,
            next_number,
            epochs,
            keys,
        }
    }

    /// Bytes of all files: those prepared, the reserve and the spares included.
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
        sealed + self.active.bytes + next + reserve + self.spares.bytes()
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

    /// As [`Self::find`], the prepared one too.
    fn find_any(&mut self, number: u64) -> Option<&mut OpenFile> {
        if let Next::Ready(file) = &mut self.next
            && file.number == number
        {
            return Some(file);
        }
        // Looked for last: the borrow goes with the answer.
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
    /// `exhausted`: the active file has no room for what is queued, which takes so many bytes.
    pub(super) fn poll(
        &mut self,
        now: Now,
        settings: &JournalSettings,
        exhausted: Option<u64>,
        oldest_needed: Option<u64>,
        ids: &mut Ids,
        out: &mut Vec<DiskRequest>,
        events: &mut Vec<JournalEvent>,
    ) {
        let is_due = match self.next {
            Next::None => true,
            Next::Waiting { until_ns } => {
                let urgent = exhausted.is_some() && self.spares.count() == 0;
                !(urgent && self.take_reserve(settings, ids, out)) && now.monotonic_ns >= until_ns
            }
            _ => false,
        };
        if is_due {
            let bytes = self.next_bytes(settings, exhausted);
            self.open_next(bytes, ids, out);
        }
        if self.wants_reserve(settings) && now.monotonic_ns >= self.reserve_retry_ns {
            self.make_reserve(settings, ids, out);
        }
        self.remove_oldest(settings, oldest_needed, ids, out, events);
    }

    fn make_reserve(
        &mut self,
        settings: &JournalSettings,
        ids: &mut Ids,
        out: &mut Vec<DiskRequest>,
    ) {
        let path = RESERVE_PATH.to_owned();
        let spare = self.spares.take_with(settings.reserve_bytes);
        self.reserve_had_a_life = spare.is_some();
        let (id, make) = match spare {
            Some(spare) => {
                let (from, to) = (spare.path, path);
                (spare.id, DiskOperation::Rename { from, to })
            }
            None => {
                let (file, preallocate) = (ids.file(), settings.reserve_bytes);
                let create = DiskOperation::Create {
                    file,
                    path,
                    preallocate,
                };
                (file, create)
            }
        };
        let token = ids.ask(Lane::Data, make, out);
        self.reserve = Reserve::Creating { id, token };
    }

    fn new_file(&mut self, id: FileId, bytes: u64) -> OpenFile {
        let number = self.next_number;
        self.next_number += 1;
        let epoch = self.epochs.next_u64();
        OpenFile::new(number, id, epoch, bytes).sealed(&self.keys)
    }

    /// How long the next file is to be: whole, or what there is room for when work would stop.
    fn next_bytes(&mut self, settings: &JournalSettings, exhausted: Option<u64>) -> u64 {
        let bytes = self.short_bytes.take().unwrap_or(settings.file_bytes);
        let Some(needed) = exhausted else {
            return settings.file_bytes;
        };
        let shortest = (FIRST_FRAME_OFFSET + needed).max(SHORTEST_FILE_BYTES);
        self.short_bytes = (bytes / 2 >= shortest).then_some(bytes / 2);
        bytes
    }

    fn open_next(&mut self, bytes: u64, ids: &mut Ids, out: &mut Vec<DiskRequest>) {
        if let Some(spare) = self.spares.take() {
            let mut file = self.new_file(spare.id, spare.bytes);
            file.written = spare.bytes;
            file.had_a_life = true;
            self.next = write_header(file, Some(spare.path), ids, out);
            return;
        }
        let file = self.new_file(ids.file(), bytes);
        let create = DiskOperation::Create {
            file: file.id,
            path: file_path(file.number),
            preallocate: bytes,
        };
        let token = ids.ask(Lane::Data, create, out);
        self.next = Next::Opening { file, token };
    }

    /// Fills files with zeros ahead of their frames. `is_quiet`: the journal has little to do.
    pub(super) fn fill(
        &mut self,
        now: Now,
        settings: &JournalSettings,
        is_quiet: bool,
        ids: &mut Ids,
        out: &mut Vec<DiskRequest>,
    ) {
        if is_quiet {
            let files = std::iter::once(&self.active).chain(self.next.ready());
            self.filling.poll(now, settings, files, ids, out);
        }
    }

    /// When to fill on, if the journal has little to do until then.
    pub(super) fn fill_deadline(&self, settings: &JournalSettings) -> Option<u64> {
        let files = std::iter::once(&self.active).chain(self.next.ready());
        self.filling.deadline(settings, files)
    }

    /// Zeros are on their way to where a frame of this length would go: it has to wait for them.
    pub(super) fn is_filled_at(&self, length: u64) -> bool {
        let end = self.active.offset + length;
        self.filling.is_in_the_way(self.active.number, end)
    }

    /// A frame of this length goes into the active file: its place.
    pub(super) fn place_frame(&mut self, length: u64) {
        let active = &mut self.active;
        active.offset += length;
        active.bytes = active.bytes.max(active.offset);
        active.written = active.written.max(active.offset);
        self.filling.note_frame(length);
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
        let mut file = self.new_file(id, settings.reserve_bytes);
        file.had_a_life = std::mem::take(&mut self.reserve_had_a_life);
        self.next = write_header(file, Some(RESERVE_PATH.to_owned()), ids, out);
        true
    }

    /// A released file gets another life if the next one would have to be created, or if there is
    /// room in the budget. One that is not as long as others, or damaged, does not.
    fn is_worth_keeping(&self, file: &OpenFile, settings: &JournalSettings) -> bool {
        let within = self.disk_bytes(settings) <= settings.budget_bytes;
        // What a plain file holds must not outlive the change to a sealed store.
        let is_plain = self.keys.is_on() && file.key_number == 0;
        file.bytes == settings.file_bytes
            && !file.damaged
            && !self.is_retiring
            && !is_plain
            && self.spares.count() < settings.spare_files
            && (within || self.spares.count() == 0)
    }

    fn remove_oldest(
        &mut self,
        settings: &JournalSettings,
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
        if oldest.number >= needed || oldest.readers > 0 || self.filling.holds(oldest.number) {
            return;
        }
        let keep = self.is_worth_keeping(oldest, settings);
        let Some(oldest) = self.sealed.pop_front() else {
            return;
        };
        let path = file_path(oldest.number);
        let mut tokens = Vec::new();
        let spare = keep.then(|| self.spares.name(&oldest));
        let unlink = match &spare {
            Some(spare) => DiskOperation::Rename {
                to: spare.path.clone(),
                from: path,
            },
            None => {
                let close = DiskOperation::Close { file: oldest.id };
                tokens.push(ids.ask(Lane::Data, close, out));
                if oldest.damaged {
                    let to = format!("{path}.damaged");
                    DiskOperation::Rename { to, from: path }
                } else {
                    DiskOperation::Remove { path }
                }
            }
        };
        tokens.push(ids.ask(Lane::Data, unlink, out));
        self.removal = Removal::Unlinking(tokens, spare);
        events.push(JournalEvent::FileReleased {
            file: oldest.number,
        });
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
        let outcome = match outcome {
            FileOutcome::NotMine => self.complete_filling(now, token, error, settings),
            other => other,
        };
        let outcome = match outcome {
            FileOutcome::NotMine => self.complete_discarding(token, error),
            other => other,
        };
        // A short next file will do: the reserve is made only after it, when there is room again.
        let ready = self.next.ready().is_some();
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
            Next::Opening { file, token: asked } if asked == token => match error {
                None => {
                    self.next = write_header(file, None, ids, out);
                    FileOutcome::Fine
                }
                Some(DiskError::NoSpace) => {
                    // A shorter one is tried at once.
                    let until_ns = match self.short_bytes {
                        Some(_) => 0,
                        None => now.after_ns(settings.space_retry_ns),
                    };
                    self.next = Next::Waiting { until_ns };
                    self.say_full(events);
                    FileOutcome::Fine
                }
                Some(error) => FileOutcome::Broken(format!("preparing a file: {error}")),
            },
            Next::Writing {
                file,
                mut waiting,
                other_name,
            } if waiting.contains(&token) => {
                if let Some(error) = error {
                    return FileOutcome::Broken(format!("preparing a file: {error}"));
                }
                waiting.retain(|asked| *asked != token);
                self.next = match other_name {
                    _ if !waiting.is_empty() => Next::Writing {
                        file,
                        waiting,
                        other_name,
                    },
                    Some(name) => give_name(file, name, ids, out),
                    None => Next::Ready(file),
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

    fn complete_filling(
        &mut self,
        now: Now,
        token: Token,
        error: Option<&DiskError>,
        settings: &JournalSettings,
    ) -> FileOutcome {
        let has_room = error != Some(&DiskError::NoSpace);
        match self.filling.complete(now, token, has_room, settings) {
            None => FileOutcome::NotMine,
            // A failed sync may have hidden a failed frame.
            Some(_) if error.is_some() && has_room => {
                let reason = error.map_or_else(String::new, ToString::to_string);
                FileOutcome::Broken(format!("filling a file: {reason}"))
            }
            Some(done) => {
                if let Some((file, written)) = done
                    && let Some(file) = self.find_any(file)
                {
                    file.written = file.written.max(written);
                }
                FileOutcome::Fine
            }
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
            Removal::Unlinking(waiting, spare) if waiting.contains(&token) => {
                waiting.retain(|asked| *asked != token);
                if waiting.is_empty() {
                    let spare = spare.take();
                    let path = JOURNAL_DIRECTORY.to_owned();
                    let sync = DiskOperation::SyncDirectory { path };
                    self.removal = Removal::Syncing(ids.ask(Lane::Data, sync, out), spare);
                }
                true
            }
            Removal::Syncing(asked, spare) if *asked == token => {
                // Only now: a crash could give an unsynced one its old name back.
                if let Some(spare) = spare.take() {
                    self.spares.push(spare);
                }
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

/// Writes the header and syncs it. A file that has its name already is made durable in one go,
/// since the name needs no content: without frames it means nothing. One that had a life gets its
/// name when the header is durable, or recovery would read the earlier life under the new name.
fn write_header(
    file: OpenFile,
    other_name: Option<String>,
    ids: &mut Ids,
    out: &mut Vec<DiskRequest>,
) -> Next {
    let header = FileHeader {
        number: file.number,
        epoch: file.epoch,
        key: file.key_number,
    };
    let write = DiskOperation::Write {
        file: file.id,
        offset: 0,
        chunks: vec![header.encode()],
    };
    let mut waiting = vec![
        ids.ask(Lane::Data, write, out),
        ids.ask(Lane::Data, DiskOperation::Sync { file: file.id }, out),
    ];
    if other_name.is_none() {
        waiting.push(ids.ask(Lane::Data, sync_directory(), out));
    }
    Next::Writing {
        file,
        waiting,
        other_name,
    }
}

fn give_name(file: OpenFile, from: String, ids: &mut Ids, out: &mut Vec<DiskRequest>) -> Next {
    let to = file_path(file.number);
    let waiting = vec![
        ids.ask(Lane::Data, DiskOperation::Rename { from, to }, out),
        ids.ask(Lane::Data, sync_directory(), out),
    ];
    Next::Writing {
        file,
        waiting,
        other_name: None,
    }
}

fn sync_directory() -> DiskOperation {
    let path = JOURNAL_DIRECTORY.to_owned();
    DiskOperation::SyncDirectory { path }
}
