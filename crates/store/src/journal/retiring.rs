//! What makes an erase physically complete: after a [`super::RecordKind::Erase`] every file written
//! so far goes, since any of them may hold a copy of what was erased, and with them whatever holds
//! bytes of an earlier life: spares, a next file or a reserve made of one. Nothing is overwritten in
//! place, so that no power cut can hurt what stands beside.
//!
//! A round: what is prepared is made clean; the active file is sealed; groups that keep older files
//! are asked to checkpoint; the files are removed, oldest first. The record that asked for it stands
//! in the last of them: a start that finds one begins a round, and one that finds none has nothing
//! to do. Rounds are apart, so that many erases cost little more than one.

use super::file::{JOURNAL_DIRECTORY, RESERVE_PATH, file_path};
use super::files::{FileOutcome, Ids, JournalFiles, Next, Removal, Reserve};
use super::{JournalEvent, RecordTicket};
use crate::disk::{DiskError, DiskOperation, DiskRequest, FileId, Lane, Token};
use millrace_clock::Now;

/// Between the beginnings of two rounds.
const ROUND_PAUSE_NS: u64 = 500_000_000;
/// Groups that still keep a file are asked again after this long.
const ASK_AGAIN_NS: u64 = 1_000_000_000;

/// How far a round is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// The next file and the reserve are being made anew where they had a life.
    Cleaning,
    /// No frame is begun, so that the active file can be sealed.
    Sealing,
    /// Files up to this number are to go.
    Leaving { through: u64, ask_ns: u64 },
}

/// What is to go because something was erased.
#[derive(Debug, Default)]
pub(super) struct Retiring {
    /// The last erase record that no round covers.
    wanted: Option<RecordTicket>,
    round: Option<Round>,
    earliest_ns: u64,
}

impl Retiring {
    /// Recovery found an erase record.
    pub(super) fn found() -> Self {
        Self {
            wanted: Some(RecordTicket::default()),
            ..Self::default()
        }
    }

    pub(super) fn want(&mut self, ticket: RecordTicket) {
        self.wanted = Some(ticket);
    }

    /// The last record that asks for a round to come.
    pub(super) fn wanted(&self) -> Option<RecordTicket> {
        self.wanted
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.round.is_some()
    }

    pub(super) fn is_at_rest(&self) -> bool {
        self.wanted.is_none() && self.round.is_none()
    }

    /// Frames have to wait for the next file.
    pub(super) fn is_sealing(&self) -> bool {
        self.round == Some(Round::Sealing)
    }

    /// Begins a round if one is due. `first_queued`: the oldest record that is not written.
    pub(super) fn begin(&mut self, now: Now, first_queued: Option<RecordTicket>) {
        let due = now.monotonic_ns >= self.earliest_ns && self.is_written(first_queued);
        if due && self.wanted.is_some() && self.round.is_none() {
            self.round = Some(Round::Cleaning);
            self.earliest_ns = now.after_ns(ROUND_PAUSE_NS);
        }
    }

    /// What was prepared holds nothing of an earlier life.
    pub(super) fn cleaned(&mut self) {
        if self.round == Some(Round::Cleaning) {
            self.round = Some(Round::Sealing);
        }
    }

    /// The file of this number was sealed; records from `first_queued` on are not in it.
    pub(super) fn sealed(&mut self, through: u64, first_queued: Option<RecordTicket>) {
        self.round = Some(Round::Leaving { through, ask_ns: 0 });
        if self.is_written(first_queued) {
            self.wanted = None;
        }
    }

    fn is_written(&self, first_queued: Option<RecordTicket>) -> bool {
        first_queued.is_none_or(|first| self.wanted.is_none_or(|wanted| wanted < first))
    }

    /// Files up to this number are to go; `true`: their groups are to be asked now.
    pub(super) fn leaving(&mut self, now: Now) -> Option<(u64, bool)> {
        let Some(Round::Leaving { through, ask_ns }) = &mut self.round else {
            return None;
        };
        let is_due = now.monotonic_ns >= *ask_ns;
        if is_due {
            *ask_ns = now.after_ns(ASK_AGAIN_NS);
        }
        Some((*through, is_due))
    }

    /// The lowest number of a file that must stay: one that holds a record which asks for a round goes
    /// last in it, or a start would not know of what is still to go.
    pub(super) fn lowest_kept(&self) -> Option<u64> {
        match self.round {
            Some(Round::Leaving { through, .. }) => Some(through + 1),
            Some(_) => Some(0),
            None => self.wanted.map(|_| 0),
        }
    }

    /// All of them are gone. Gives what is to be told.
    pub(super) fn end(&mut self) -> Option<JournalEvent> {
        self.round = None;
        self.wanted.is_none().then_some(JournalEvent::Erased)
    }

    /// When a round may begin.
    pub(super) fn deadline(&self) -> Option<u64> {
        let waits = self.wanted.is_some() && self.round.is_none();
        waits.then_some(self.earliest_ns)
    }
}

impl JournalFiles {
    /// Lets everything prepared go that had an earlier life; `true` once nothing of it is left and a
    /// next file is ready.
    pub(super) fn clean(&mut self, ids: &mut Ids, out: &mut Vec<DiskRequest>) -> bool {
        let mut gone: Vec<(FileId, String)> = Vec::new();
        while let Some(spare) = self.spares.take() {
            gone.push((spare.id, spare.path));
        }
        if let Next::Ready(file) = &self.next
            && file.had_a_life
            && !self.filling.holds(file.number)
        {
            gone.push((file.id, file_path(file.number)));
            self.next = Next::None;
        }
        if let Reserve::Present { id } = self.reserve
            && self.reserve_had_a_life
        {
            gone.push((id, RESERVE_PATH.to_owned()));
            self.reserve = Reserve::Missing;
            self.reserve_had_a_life = false;
            self.reserve_retry_ns = 0;
        }
        if !gone.is_empty() {
            for (file, path) in gone {
                let close = DiskOperation::Close { file };
                self.discarding.push(ids.ask(Lane::Data, close, out));
                let remove = DiskOperation::Remove { path };
                self.discarding.push(ids.ask(Lane::Data, remove, out));
            }
            let path = JOURNAL_DIRECTORY.to_owned();
            let sync = DiskOperation::SyncDirectory { path };
            self.discarding.push(ids.ask(Lane::Data, sync, out));
        }
        let next_is_clean = matches!(&self.next, Next::Ready(file) if !file.had_a_life);
        let becomes_spare = matches!(
            self.removal,
            Removal::Unlinking(_, Some(_)) | Removal::Syncing(_, Some(_))
        );
        let reserve_is_clean = !self.reserve_had_a_life;
        self.discarding.is_empty() && next_is_clean && !becomes_spare && reserve_is_clean
    }

    /// No file up to this number is there any more.
    pub(super) fn are_gone(&self, through: u64) -> bool {
        let left = self.sealed.front().is_some_and(|it| it.number <= through);
        !left && matches!(self.removal, Removal::Idle)
    }

    /// Takes the end of a removal asked for by [`Self::clean`].
    pub(super) fn complete_discarding(
        &mut self,
        token: Token,
        error: Option<&DiskError>,
    ) -> FileOutcome {
        let before = self.discarding.len();
        self.discarding.retain(|asked| *asked != token);
        match error {
            _ if before == self.discarding.len() => FileOutcome::NotMine,
            Some(error) => FileOutcome::Broken(format!("removing a file: {error}")),
            None => FileOutcome::Fine,
        }
    }
}
