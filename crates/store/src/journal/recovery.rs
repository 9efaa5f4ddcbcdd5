//! Reads the journal back at start. What the frames mean together is `replay.rs`, how the journal
//! is made fit to write again `renewal.rs`; this file asks the disk.

use super::copies::CopyRun;
use super::file::{
    FIRST_FRAME_OFFSET, FORMAT_NEW_PATH, FORMAT_PATH, FileHeader, FormatFile, JOURNAL_DIRECTORY,
    RESERVE_PATH, file_number, file_path, spare_number, spare_path,
};
use super::files::{Ids, OpenFile};
use super::frame::{self, FRAME_HEAD_BYTES, FRAME_MAGIC};
use super::record::read_u32;
use super::recovered::{Damage, Progress, RecoveryError, RecoverySettings};
use super::renewal::Room;
use super::replay::Replay;
use super::spares::{Spare, Spares};
use super::{FRAME_ALIGNMENT, STORE_VERSION, STORE_VERSION_PLAIN};
use crate::disk::{
    DiskCompletion, DiskError, DiskOperation, DiskReply, DiskRequest, FileId, Lane, Token,
};
use crate::seal::FileKey;
use bytes::{Buf, BytesMut};
use millrace_clock::{Now, Random};
use std::collections::VecDeque;

/// Bytes asked for in one read: what a start holds of the journal, and a frame more.
const READ_BYTES: u64 = 4 << 20;
/// Reads of a small piece, before it counts as unreadable: a passing fault must not cost entries.
const READ_ATTEMPTS_MAX: u8 = 8;
/// After a failed read the range is read again in pieces of this size, to lose no more than needed.
const RETRY_READ_BYTES: u64 = 64 << 10;

/// A format file is not longer than this.
const FORMAT_READ_BYTES: u32 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    MakeRoot,
    MakeJournal,
    SyncRoot,
    ListRoot,
    OpenFormat,
    ReadFormat,
    CloseFormat,
    ListJournal,
    SyncJournal,
    RemoveNewFormat,
    CreateFormat,
    WriteFormat,
    SyncFormat,
    CloseNewFormat,
    RenameFormat,
    SyncFormatName,
    OpenReserve,
    CloseShortReserve,
    RemoveShortReserve,
    OpenSpare,
    CloseSpare,
    RemoveSpare,
    OpenFile,
    ReadFile,
    CreateActive,
    GiveBack,
    WaitForRoom,
    WriteHeader,
    SyncHeader,
    NameActive,
    SyncName,
    ReadCopy,
    WriteCopy,
    SyncCopies,
    CutTail,
    Finished,
}

/// The file being read: a window that moves over it.
#[derive(Debug, Default)]
struct Reading {
    length: u64,
    /// Where the window begins, and its bytes.
    base: u64,
    window: BytesMut,
    /// Read in small pieces up to here, after a failed read.
    careful_until: u64,
    /// Failed reads of the piece that is next.
    attempts: u8,
    /// Once there was enough to look: the header's epoch, if it is right.
    epoch: Option<Option<u64>>,
    /// The number of the data key that the header names, and the file's key.
    key_number: u16,
    key: Option<FileKey>,
    /// Where to look for the next frame, and where it is expected.
    offset: u64,
    expected: u64,
}

impl Reading {
    fn read_to(&self) -> u64 {
        self.base + self.window.len() as u64
    }

    fn is_whole(&self) -> bool {
        self.read_to() >= self.length
    }

    /// The file is sealed and there is no key for it.
    fn is_locked(&self) -> bool {
        self.key_number != 0 && self.key.is_none()
    }
}

/// The state machine that opens the store: one operation at a time, so that every crash point is
/// the end of a prefix.
#[derive(Debug)]
pub struct Recovery {
    pub(super) settings: RecoverySettings,
    pub(super) ids: Ids,
    pub(super) epochs: Random,
    pub(super) step: Step,
    asked: Token,
    format_id: FileId,
    pub(super) has_format: bool,
    pub(super) server_id: String,
    /// Files still to be opened, by number.
    names: VecDeque<u64>,
    has_reserve: bool,
    pub(super) reserve: Option<FileId>,
    /// Spares still to be opened, by number, and those that are.
    spare_names: VecDeque<u64>,
    pub(super) spares: Spares,
    /// The spare being opened.
    spare: Option<Spare>,
    pub(super) scanned: VecDeque<OpenFile>,
    reading: Reading,
    pub(super) replay: Replay,
    pub(super) active: Option<OpenFile>,
    /// The name that the active file has until its header is durable.
    pub(super) active_name: Option<String>,
    pub(super) room: Room,
    /// While there is no room for a new file: when to look again.
    retry_ns: Option<u64>,
    pub(super) copies: Option<CopyRun>,
    pub(super) copy_attempts: u8,
    pub(super) next_frame: u64,
}

pub(super) type Outcome = Result<Option<DiskOperation>, RecoveryError>;

impl Recovery {
    /// Begins; asks for the first disk work.
    pub fn start(settings: RecoverySettings, _now: Now, out: &mut Vec<DiskRequest>) -> Self {
        let mut ids = Ids::new(settings.attempt);
        let format_id = ids.file();
        let epochs = Random::new(settings.seed).stream(u64::from(settings.attempt) + 1);
        let root = DiskOperation::CreateDirectory {
            path: String::new(),
        };
        let asked = ids.ask(Lane::Data, root, out);
        Self {
            server_id: settings.server_id.clone(),
            settings,
            ids,
            epochs,
            step: Step::MakeRoot,
            asked,
            format_id,
            has_format: false,
            names: VecDeque::new(),
            has_reserve: false,
            reserve: None,
            spare_names: VecDeque::new(),
            spares: Spares::default(),
            spare: None,
            scanned: VecDeque::new(),
            reading: Reading::default(),
            replay: Replay::default(),
            active: None,
            active_name: None,
            room: Room::default(),
            retry_ns: None,
            copies: None,
            copy_attempts: 0,
            next_frame: 1,
        }
    }

    /// Takes the end of a request and asks for more, until done or failed. After [`Progress::Done`]
    /// completions go to the journal.
    pub fn complete(
        &mut self,
        now: Now,
        completion: DiskCompletion,
        out: &mut Vec<DiskRequest>,
    ) -> Progress {
        if completion.token != self.asked {
            return Progress::Working;
        }
        match self.advance(completion.result) {
            Ok(Some(operation)) => {
                self.asked = self.ids.ask(Lane::Data, operation, out);
                Progress::Working
            }
            Ok(None) if self.step == Step::WaitForRoom => {
                self.retry_ns = Some(now.after_ns(self.settings.journal.space_retry_ns));
                if std::mem::replace(&mut self.room.is_told, true) {
                    Progress::Working
                } else {
                    Progress::NoRoom
                }
            }
            Ok(None) => match self.finish() {
                Some(recovered) => Progress::Done(Box::new(recovered)),
                None => Progress::Working,
            },
            Err(error) => Progress::Failed(error),
        }
    }

    /// When to call [`Self::tick`], after [`Progress::NoRoom`]. Monotonic nanoseconds.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.retry_ns
    }

    /// Looks for room again, if it is time.
    pub fn tick(&mut self, now: Now, out: &mut Vec<DiskRequest>) {
        if self.retry_ns.is_none_or(|due| due > now.monotonic_ns) {
            return;
        }
        self.retry_ns = None;
        if let Ok(Some(operation)) = self.look_again() {
            self.asked = self.ids.ask(Lane::Data, operation, out);
        }
    }

    fn advance(&mut self, result: Result<DiskReply, DiskError>) -> Outcome {
        match (self.step, result) {
            (Step::ReadFile, result) => self.read_piece(result),
            (Step::ReadCopy, result) => self.copy_read(result),
            (Step::CreateActive, Err(DiskError::NoSpace)) => self.find_room(),
            // Short of its size, or not there any more: it is made again later.
            (Step::OpenReserve, Err(_)) => {
                self.has_reserve = false;
                self.reserve = None;
                self.open_next_spare()
            }
            (Step::OpenSpare, Err(_)) => self.open_next_spare(),
            (step, Err(error)) => Err(RecoveryError::Disk {
                step: format!("{step:?}"),
                reason: error.to_string(),
            }),
            (step, Ok(reply)) if step < Step::OpenReserve => self.advance_format(step, reply),
            (step, Ok(reply)) => self.advance_journal(step, &reply),
        }
    }

    pub(super) fn go(&mut self, step: Step, operation: DiskOperation) -> Outcome {
        self.step = step;
        Ok(Some(operation))
    }

    /// The folders and the format file.
    fn advance_format(&mut self, step: Step, reply: DiskReply) -> Outcome {
        let root = String::new();
        let journal = || JOURNAL_DIRECTORY.to_owned();
        let id = self.format_id;
        match step {
            Step::MakeRoot => self.go(
                Step::MakeJournal,
                DiskOperation::CreateDirectory { path: journal() },
            ),
            Step::MakeJournal => {
                self.go(Step::SyncRoot, DiskOperation::SyncDirectory { path: root })
            }
            Step::SyncRoot => self.go(Step::ListRoot, DiskOperation::List { directory: root }),
            Step::ListRoot => {
                let DiskReply::Names(names) = reply else {
                    return Err(confused(step));
                };
                self.has_format = names.iter().any(|name| name == FORMAT_PATH);
                if self.has_format {
                    let path = FORMAT_PATH.to_owned();
                    return self.go(Step::OpenFormat, DiskOperation::Open { file: id, path });
                }
                self.go(
                    Step::ListJournal,
                    DiskOperation::List {
                        directory: journal(),
                    },
                )
            }
            Step::OpenFormat => {
                let read = DiskOperation::Read {
                    file: id,
                    offset: 0,
                    length: FORMAT_READ_BYTES,
                };
                self.go(Step::ReadFormat, read)
            }
            Step::ReadFormat => {
                let DiskReply::Data(text) = reply else {
                    return Err(confused(step));
                };
                self.check_format(&text)?;
                self.go(Step::CloseFormat, DiskOperation::Close { file: id })
            }
            Step::CloseFormat => self.go(
                Step::ListJournal,
                DiskOperation::List {
                    directory: journal(),
                },
            ),
            Step::ListJournal => {
                let DiskReply::Names(names) = reply else {
                    return Err(confused(step));
                };
                self.take_names(&names);
                // A process that was killed may have left names that no sync has reached. A file
                // whose name says spare would get another header, and after a power cut its old
                // name back: a journal file that looks damaged.
                let path = journal();
                self.go(Step::SyncJournal, DiskOperation::SyncDirectory { path })
            }
            Step::SyncJournal => self.begin_format(),
            _ => self.write_format(step),
        }
    }

    fn check_format(&mut self, text: &[u8]) -> Result<(), RecoveryError> {
        let found = FormatFile::decode(text).map_err(|reason| RecoveryError::FormatFile {
            reason: reason.to_owned(),
        })?;
        let supported = STORE_VERSION;
        if found.version > supported {
            return Err(RecoveryError::NewerFormat {
                found: found.version,
                supported,
            });
        }
        self.server_id = found.server_id;
        Ok(())
    }

    fn take_names(&mut self, names: &[String]) {
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| file_number(name)).collect();
        numbers.sort_unstable();
        self.names = numbers.into();
        self.spare_names = names.iter().filter_map(|name| spare_number(name)).collect();
        self.has_reserve = names
            .iter()
            .any(|name| RESERVE_PATH.ends_with(name.as_str()));
    }

    /// The format file is there, or the store is new.
    fn begin_format(&mut self) -> Outcome {
        if self.has_format {
            return self.open_reserve();
        }
        if !self.names.is_empty() {
            let reason = "it is missing, but there are journal files".to_owned();
            return Err(RecoveryError::FormatFile { reason });
        }
        let path = FORMAT_NEW_PATH.to_owned();
        self.go(Step::RemoveNewFormat, DiskOperation::Remove { path })
    }

    /// Writes the format file of a new store: content first, then the name.
    fn write_format(&mut self, step: Step) -> Outcome {
        let file = self.format_id;
        let path = FORMAT_NEW_PATH.to_owned();
        match step {
            Step::RemoveNewFormat => {
                let create = DiskOperation::Create {
                    file,
                    path,
                    preallocate: 0,
                };
                self.go(Step::CreateFormat, create)
            }
            Step::CreateFormat => {
                let version = if self.settings.keys.is_on() {
                    STORE_VERSION
                } else {
                    STORE_VERSION_PLAIN
                };
                let format = FormatFile {
                    version,
                    server_id: self.server_id.clone(),
                };
                let chunks = vec![format.encode()];
                self.go(
                    Step::WriteFormat,
                    DiskOperation::Write {
                        file,
                        offset: 0,
                        chunks,
                    },
                )
            }
            Step::WriteFormat => self.go(Step::SyncFormat, DiskOperation::Sync { file }),
            Step::SyncFormat => self.go(Step::CloseNewFormat, DiskOperation::Close { file }),
            Step::CloseNewFormat => {
                let rename = DiskOperation::Rename {
                    from: path,
                    to: FORMAT_PATH.to_owned(),
                };
                self.go(Step::RenameFormat, rename)
            }
            Step::RenameFormat => {
                let sync = DiskOperation::SyncDirectory {
                    path: String::new(),
                };
                self.go(Step::SyncFormatName, sync)
            }
            _ => self.open_reserve(),
        }
    }

    fn open_reserve(&mut self) -> Outcome {
        if !self.has_reserve {
            return self.open_next_spare();
        }
        let file = self.ids.file();
        self.reserve = Some(file);
        let path = RESERVE_PATH.to_owned();
        self.go(Step::OpenReserve, DiskOperation::Open { file, path })
    }

    /// Everything behind the format file.
    fn advance_journal(&mut self, step: Step, reply: &DiskReply) -> Outcome {
        let reserve = RESERVE_PATH.to_owned();
        match step {
            Step::OpenReserve => {
                let DiskReply::Opened { length } = *reply else {
                    return Err(confused(step));
                };
                // What a failed journal of this run asked for may still reach its files.
                let first = self.settings.attempt == 0;
                if first && length >= self.settings.journal.reserve_bytes {
                    return self.open_next_spare();
                }
                match self.reserve.take() {
                    Some(file) => self.go(Step::CloseShortReserve, DiskOperation::Close { file }),
                    None => self.open_next_spare(),
                }
            }
            Step::CloseShortReserve => self.go(
                Step::RemoveShortReserve,
                DiskOperation::Remove { path: reserve },
            ),
            Step::RemoveShortReserve | Step::RemoveSpare => self.open_next_spare(),
            Step::OpenSpare => {
                let DiskReply::Opened { length } = *reply else {
                    return Err(confused(step));
                };
                self.spare_opened(length)
            }
            Step::CloseSpare => match self.spare.take() {
                Some(Spare { path, .. }) => {
                    self.go(Step::RemoveSpare, DiskOperation::Remove { path })
                }
                None => self.open_next_spare(),
            },
            Step::OpenFile => {
                let DiskReply::Opened { length } = *reply else {
                    return Err(confused(step));
                };
                self.reading = Reading {
                    length,
                    ..Reading::default()
                };
                self.read_on()
            }
            _ => self.advance_active(step),
        }
    }

    fn open_next_spare(&mut self) -> Outcome {
        let Some(number) = self.spare_names.pop_front() else {
            return self.open_next_file();
        };
        self.spares.note_number(number);
        let (id, path) = (self.ids.file(), spare_path(number));
        self.spare = Some(Spare {
            id,
            path: path.clone(),
            bytes: 0,
        });
        self.go(Step::OpenSpare, DiskOperation::Open { file: id, path })
    }

    fn spare_opened(&mut self, length: u64) -> Outcome {
        let Some(spare) = &mut self.spare else {
            return self.open_next_spare();
        };
        spare.bytes = length;
        // As with the reserve.
        let reusable = self.settings.attempt == 0
            && length == self.settings.journal.file_bytes
            && self.spares.count() < self.settings.journal.spare_files;
        if !reusable {
            let file = spare.id;
            return self.go(Step::CloseSpare, DiskOperation::Close { file });
        }
        if let Some(spare) = self.spare.take() {
            self.spares.push(spare);
        }
        self.open_next_spare()
    }

    fn open_next_file(&mut self) -> Outcome {
        let Some(number) = self.names.pop_front() else {
            return self.create_active();
        };
        let id = self.ids.file();
        self.scanned.push_back(OpenFile {
            offset: 0,
            ..OpenFile::new(number, id, 0, 0)
        });
        self.go(
            Step::OpenFile,
            DiskOperation::Open {
                file: id,
                path: file_path(number),
            },
        )
    }

    fn read_on(&mut self) -> Outcome {
        let Some(file) = self.scanned.back().map(|file| file.id) else {
            return self.create_active();
        };
        self.scan();
        if self.reading.is_locked() {
            let file = self.scanned.back().map_or(0, |file| file.number);
            let key = self.reading.key_number;
            return Err(RecoveryError::NoKey { file, key });
        }
        let offset = self.reading.read_to();
        if offset >= self.reading.length {
            self.end_file();
            return self.open_next_file();
        }
        let piece = if offset < self.reading.careful_until {
            RETRY_READ_BYTES
        } else {
            READ_BYTES
        };
        let length = piece.min(self.reading.length - offset) as u32;
        self.go(
            Step::ReadFile,
            DiskOperation::Read {
                file,
                offset,
                length,
            },
        )
    }

    fn read_piece(&mut self, result: Result<DiskReply, DiskError>) -> Outcome {
        let offset = self.reading.read_to();
        let number = self.scanned.back().map_or(0, |file| file.number);
        match result {
            Ok(DiskReply::Data(bytes)) if !bytes.is_empty() => {
                self.reading.window.extend_from_slice(&bytes);
                self.reading.attempts = 0;
            }
            // Shorter than it said: the rest is not there.
            Ok(_) => self.reading.length = offset,
            Err(_) if offset >= self.reading.careful_until => {
                self.reading.careful_until = offset + READ_BYTES;
            }
            Err(_) if self.reading.attempts + 1 < READ_ATTEMPTS_MAX => self.reading.attempts += 1,
            Err(error) => {
                self.reading.attempts = 0;
                let length = RETRY_READ_BYTES.min(self.reading.length - offset);
                let reason = error.to_string();
                self.replay.report(Damage::Unreadable {
                    file: number,
                    offset,
                    length,
                    reason,
                });
                let window = &mut self.reading.window;
                window.resize(window.len() + length as usize, 0);
            }
        }
        self.read_on()
    }

    /// Finds the frames in what has been read, and lets go of what was looked at.
    fn scan(&mut self) {
        let (Some(file), reading) = (self.scanned.back(), &mut self.reading) else {
            return;
        };
        if reading.epoch.is_none() {
            if reading.read_to() < FIRST_FRAME_OFFSET && !reading.is_whole() {
                return;
            }
            let header = FileHeader::decode(&reading.window);
            let header = header.filter(|header| header.number == file.number);
            if let Some(FileHeader { number, epoch, key }) = header {
                reading.key_number = key;
                reading.key = self.settings.keys.journal(key, number, epoch);
            }
            reading.epoch = Some(header.map(|header| header.epoch));
            if reading.is_locked() {
                return;
            }
            (reading.offset, reading.expected) = (FIRST_FRAME_OFFSET, FIRST_FRAME_OFFSET);
        }
        let epoch = reading.epoch.flatten();
        while reading.offset < reading.read_to() {
            let at = (reading.offset - reading.base) as usize;
            let window = &reading.window[at..];
            let short = |length: u64| (window.len() as u64) < length && !reading.is_whole();
            if short(FRAME_HEAD_BYTES as u64) {
                break;
            }
            let Some(epoch) = epoch else {
                // A file whose creation was cut short has no frames; one with frames lost its header.
                if read_u32(window, 8) == Some(FRAME_MAGIC) {
                    let damage = Damage::FileHeader { file: file.number };
                    self.replay.report(damage);
                    reading.offset = reading.length;
                    break;
                }
                reading.offset += FRAME_ALIGNMENT;
                continue;
            };
            if frame::claimed_length(epoch, window).is_some_and(short) {
                break;
            }
            match frame::decode_at(epoch, window, reading.offset) {
                Some(frame) => {
                    let expected = reading.expected;
                    let of_file = (file.number, reading.key.as_ref());
                    self.replay.feed(of_file, window, &frame, expected);
                    reading.offset += frame.length;
                    reading.expected = reading.offset;
                }
                None => reading.offset += FRAME_ALIGNMENT,
            }
        }
        let done = reading.offset.saturating_sub(reading.base);
        let done = done.min(reading.window.len() as u64);
        reading.window.advance(done as usize);
        reading.base += done;
    }

    /// The file has been read to its end.
    fn end_file(&mut self) {
        let reading = std::mem::take(&mut self.reading);
        if let Some(file) = self.scanned.back_mut() {
            file.bytes = reading.length;
            if let Some(Some(epoch)) = reading.epoch {
                file.epoch = epoch;
                file.key_number = reading.key_number;
                file.key = reading.key.clone();
                file.offset = reading.expected;
            }
        }
    }
}

pub(super) fn confused(step: Step) -> RecoveryError {
    let reason = "the disk gave an answer of the wrong kind".to_owned();
    RecoveryError::Disk {
        step: format!("{step:?}"),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::super::JournalSettings;
    use super::*;
    use bytes::Bytes;

    /// What the disk of a server that was killed says, and what is asked of it.
    fn asked(journal_names: &[&str]) -> Vec<DiskOperation> {
        let settings = RecoverySettings {
            journal: JournalSettings::default(),
            server_id: String::new(),
            seed: 1,
            attempt: 0,
            keys: crate::seal::Keys::default(),
        };
        let format = FormatFile {
            version: STORE_VERSION_PLAIN,
            server_id: "N".to_owned(),
        };
        let names =
            |names: &[&str]| DiskReply::Names(names.iter().map(|it| (*it).into()).collect());
        let mut requests = Vec::new();
        let mut recovery = Recovery::start(settings, Now::default(), &mut requests);
        let mut seen = Vec::new();
        while let Some(DiskRequest {
            token, operation, ..
        }) = requests.pop()
        {
            let reply = match &operation {
                DiskOperation::List { directory } if directory.is_empty() => names(&[FORMAT_PATH]),
                DiskOperation::List { .. } => names(journal_names),
                DiskOperation::Open { .. } => DiskReply::Opened {
                    length: JournalSettings::default().file_bytes,
                },
                DiskOperation::Read { offset: 0, .. } => DiskReply::Data(format.encode()),
                DiskOperation::Read { .. } => DiskReply::Data(Bytes::new()),
                _ => DiskReply::Done,
            };
            seen.push(operation);
            let completion = DiskCompletion {
                token,
                result: Ok(reply),
            };
            recovery.complete(Now::default(), completion, &mut requests);
        }
        seen
    }

    /// After a power cut the spare might be called a journal file again, which has frames and
    /// another's header.
    #[test]
    fn the_names_that_are_found_are_made_durable_before_a_spare_is_used() {
        let seen = asked(&["000000000002.journal", "000000000001.spare"]);
        let at = |is: &dyn Fn(&DiskOperation) -> bool| seen.iter().position(is);
        let listed = at(
            &|it| matches!(it, DiskOperation::List { directory } if directory == JOURNAL_DIRECTORY),
        );
        let synced = at(
            &|it| matches!(it, DiskOperation::SyncDirectory { path } if path == JOURNAL_DIRECTORY),
        );
        let written = at(&|it| matches!(it, DiskOperation::Write { .. }));
        let reused =
            at(&|it| matches!(it, DiskOperation::Rename { from, .. } if from.ends_with(".spare")));
        assert!(reused.is_some(), "{seen:?}");
        assert!(listed < synced && synced < written, "{seen:?}");
    }
}
