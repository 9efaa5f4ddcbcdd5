//! The end of a start: a new file for all that recovery read and could not prove, written and synced
//! before anything rests on it; then the journal is open. Nothing is ever appended to an old file.

use super::Journal;
use super::copies::{CopyRun, CopySource};
use super::file::{FileHeader, JOURNAL_DIRECTORY, RESERVE_PATH, file_path};
use super::files::{Ids, JournalFiles, OpenFile};
use super::recovered::{Recovered, RecoveryError};
use super::recovery::{Outcome, Recovery, Step, confused};
use super::retention::{HardStates, Retention};
use super::retiring::Retiring;
use super::writer::OpenJournal;
use crate::disk::{DiskError, DiskOperation, DiskReply};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Reads of a frame that is to be copied, before the start gives up.
const COPY_ATTEMPTS_MAX: u8 = 4;

/// On a full disk the new file may be as short as this, behind what is copied to it.
const SHORTEST_FILE_BYTES: u64 = 64 << 10;

/// How the search for room for the new file goes.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Old files gave back what they did not use.
    has_cut: bool,
    /// There is no room for a whole file, or was not: the journal begins as full.
    is_short: bool,
    /// The owner was told that the start waits.
    pub(super) is_told: bool,
}

impl Recovery {
    /// A new file for all that is not proven: nothing is ever appended to an old one.
    pub(super) fn create_active(&mut self) -> Outcome {
        let number = self.scanned.back().map_or(1, |file| file.number + 1);
        let remainder = self.replay.end();
        let epoch = self.epochs.next_u64();
        let (base, first) = (remainder.base, remainder.next_number);
        let keys = &self.settings.keys;
        let key = keys.journal(keys.current(), number, epoch);
        let copies = CopyRun::new((number, epoch, key), base, first, remainder.unproven);
        let offset = copies.end_offset();
        self.next_frame = copies.next_number();
        self.copies = Some(copies);
        let wanted_bytes = self.settings.journal.file_bytes.max(offset);
        let mut active = OpenFile {
            offset,
            ..OpenFile::new(number, self.ids.file(), epoch, wanted_bytes)
                .sealed(&self.settings.keys)
        };
        if let Some(spare) = self.spares.take_with(offset) {
            (active.id, active.bytes) = (spare.id, spare.bytes);
            active.written = spare.bytes;
            active.had_a_life = true;
            return self.write_header(active, Some(spare.path));
        }
        self.active = Some(active);
        self.create()
    }

    fn create(&mut self) -> Outcome {
        let Some(active) = &self.active else {
            return Err(confused(Step::CreateActive));
        };
        let create = DiskOperation::Create {
            file: active.id,
            path: file_path(active.number),
            preallocate: active.bytes,
        };
        self.go(Step::CreateActive, create)
    }

    /// The disk is full. Room is looked for in this order: what old files reserved and did not use;
    /// the reserve; less than a whole file. If there is none, the start waits for it.
    pub(super) fn find_room(&mut self) -> Outcome {
        let reserve_bytes = self.settings.journal.reserve_bytes;
        let file_bytes = self.settings.journal.file_bytes;
        if !self.room.has_cut {
            return self.cut_unused();
        }
        let Some(active) = &mut self.active else {
            return Err(confused(Step::CreateActive));
        };
        self.room.is_short = true;
        if active.offset < reserve_bytes
            && let Some(reserve) = self.reserve.take()
        {
            (active.id, active.bytes) = (reserve, reserve_bytes);
            let active = self
                .active
                .take()
                .ok_or_else(|| confused(Step::CreateActive))?;
            return self.write_header(active, Some(RESERVE_PATH.to_owned()));
        }
        let shortest = (active.offset + SHORTEST_FILE_BYTES).min(file_bytes.max(active.offset));
        if active.bytes > shortest {
            active.bytes = (active.bytes / 2).max(shortest);
            return self.create();
        }
        active.bytes = file_bytes.max(active.offset);
        self.room.has_cut = false;
        self.step = Step::WaitForRoom;
        Ok(None)
    }

    /// Looks for room again.
    pub(super) fn look_again(&mut self) -> Outcome {
        self.create()
    }

    /// Gives back what files reserved behind their last frame, one after the other. One in which
    /// something could not be read may have more frames there.
    pub(super) fn cut_unused(&mut self) -> Outcome {
        let replay = &self.replay;
        let unused = |file: &&mut OpenFile| {
            file.offset > 0 && file.offset < file.bytes && !replay.is_damaged(file.number)
        };
        let Some(file) = self.scanned.iter_mut().find(unused) else {
            self.room.has_cut = true;
            return self.create();
        };
        file.bytes = file.offset;
        let (file, length) = (file.id, file.offset);
        self.go(Step::GiveBack, DiskOperation::Truncate { file, length })
    }

    /// A file that had a life before gets its name only once its header is durable.
    fn write_header(&mut self, active: OpenFile, other_name: Option<String>) -> Outcome {
        let header = FileHeader {
            number: active.number,
            epoch: active.epoch,
            key: active.key_number,
        };
        let write = DiskOperation::Write {
            file: active.id,
            offset: 0,
            chunks: vec![header.encode()],
        };
        self.active = Some(active);
        self.active_name = other_name;
        self.go(Step::WriteHeader, write)
    }

    pub(super) fn advance_active(&mut self, step: Step) -> Outcome {
        let Some(active) = &self.active else {
            return Err(confused(step));
        };
        let (file, number) = (active.id, active.number);
        match step {
            Step::CreateActive => {
                let active = self.active.take().ok_or_else(|| confused(step))?;
                self.write_header(active, None)
            }
            Step::GiveBack => self.cut_unused(),
            Step::WriteHeader => self.go(Step::SyncHeader, DiskOperation::Sync { file }),
            Step::SyncHeader if self.active_name.is_some() => {
                let from = self.active_name.take().unwrap_or_default();
                let to = file_path(number);
                self.go(Step::NameActive, DiskOperation::Rename { from, to })
            }
            Step::SyncHeader | Step::NameActive => {
                let path = JOURNAL_DIRECTORY.to_owned();
                self.go(Step::SyncName, DiskOperation::SyncDirectory { path })
            }
            Step::SyncName => self.copy_next(),
            Step::WriteCopy if self.copies.as_ref().is_some_and(|run| !run.is_ended()) => {
                self.copy_next()
            }
            Step::WriteCopy => self.go(Step::SyncCopies, DiskOperation::Sync { file }),
            Step::SyncCopies => self.cut_tail(),
            _ => {
                self.step = Step::Finished;
                Ok(None)
            }
        }
    }

    /// Reads what the next copied frame repeats; there may be nothing to read.
    fn copy_next(&mut self) -> Outcome {
        let source = self.copies.as_ref().and_then(CopyRun::source);
        let Some(CopySource {
            file,
            offset,
            length,
        }) = source
        else {
            return self.copy_write(&Bytes::new());
        };
        let found = self.scanned.iter().find(|open| open.number == file);
        let Some(file) = found.map(|open| open.id) else {
            return Err(confused(Step::ReadCopy));
        };
        let read = DiskOperation::Read {
            file,
            offset,
            length,
        };
        self.go(Step::ReadCopy, read)
    }

    pub(super) fn copy_read(&mut self, result: Result<DiskReply, DiskError>) -> Outcome {
        match result {
            Ok(DiskReply::Data(payloads)) => self.copy_write(&payloads),
            Ok(_) => Err(confused(Step::ReadCopy)),
            Err(error) => self.copy_again(&error.to_string()),
        }
    }

    /// It was readable a moment ago: a passing fault, or the start fails and nothing is changed.
    fn copy_again(&mut self, reason: &str) -> Outcome {
        self.copy_attempts += 1;
        if self.copy_attempts < COPY_ATTEMPTS_MAX {
            return self.copy_next();
        }
        Err(RecoveryError::Disk {
            step: "reading what is not proven yet".to_owned(),
            reason: reason.to_owned(),
        })
    }

    fn copy_write(&mut self, payloads: &Bytes) -> Outcome {
        let (Some(copies), Some(active)) = (&mut self.copies, &self.active) else {
            return Err(confused(Step::WriteCopy));
        };
        let (file, offset) = (active.id, copies.offset);
        let Some(chunks) = copies.encode_next(payloads) else {
            return self.copy_again("the bytes are not those that were found before");
        };
        self.copy_attempts = 0;
        let write = DiskOperation::Write {
            file,
            offset,
            chunks,
        };
        self.go(Step::WriteCopy, write)
    }

    /// Gives back what the last file reserved and did not use; its void frames go with it.
    fn cut_tail(&mut self) -> Outcome {
        let whole = |file: &&mut OpenFile| file.offset > 0 && file.offset < file.bytes;
        let Some(file) = self.scanned.back_mut().filter(whole) else {
            self.step = Step::Finished;
            return Ok(None);
        };
        file.bytes = file.offset;
        let (file, length) = (file.id, file.offset);
        self.go(Step::CutTail, DiskOperation::Truncate { file, length })
    }

    pub(super) fn finish(&mut self) -> Option<Recovered> {
        let mut replay = std::mem::take(&mut self.replay);
        for found in self.copies.take()?.copied {
            replay.apply(found);
        }
        // What is not sealed as it is to be from now on goes as if something in it had been erased.
        let keys = &self.settings.keys;
        let mut files = self.scanned.iter();
        let outdated = keys.is_on() && files.any(|file| file.key_number != keys.current());
        let retiring = if replay.has_erased() || outdated {
            Retiring::found()
        } else {
            Retiring::default()
        };
        let found = replay.finish();
        let (logs, report) = (found.groups, found.damage);
        for damage in &report {
            let hurt = self
                .scanned
                .iter_mut()
                .find(|file| file.number == damage.file());
            if let Some(file) = hurt {
                file.damaged = true;
            }
        }
        let (mut retention, mut hard_states) = (Retention::default(), HardStates::default());
        let mut groups = BTreeMap::new();
        for (group, log) in logs {
            for (index, file) in log.entry_places() {
                retention.entry(group, index, file);
            }
            if let Some((state, file)) = log.hard_state {
                retention.hard_state(group, file);
                hard_states.set(group, state);
            }
            if let Some((checkpoint, file)) = &log.checkpoint {
                retention.checkpoint(group, checkpoint.index, *file);
            }
            groups.insert(group, log.finish());
        }
        let active = self.active.take()?;
        let sealed = std::mem::take(&mut self.scanned);
        let epochs = self.epochs.clone();
        let journal = Journal::open(OpenJournal {
            settings: self.settings.journal.clone(),
            ids: std::mem::replace(&mut self.ids, Ids::new(self.settings.attempt)),
            files: JournalFiles::new(
                sealed,
                active,
                self.reserve.take(),
                std::mem::take(&mut self.spares),
                self.room.is_short,
                (epochs, self.settings.keys.clone()),
            ),
            retention,
            retiring,
            hard_states,
            next_frame: self.next_frame,
        });
        let server_id = self.server_id.clone();
        Some(Recovered {
            server_id,
            fresh: !self.has_format,
            groups,
            removed: found.removed,
            journal,
            report,
        })
    }
}
