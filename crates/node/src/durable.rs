//! Between the Raft groups and the journal: which journal record belongs to which append, and where
//! each entry's payload stands. What a restart hands back to the groups is `replay.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use millrace_clock::Now;
use millrace_replica::{GroupId, HardState, LogAppend, LogEntry, PersistTicket, ReplicaOutput};
use millrace_store::disk::{DiskCompletion, DiskError, DiskReply, DiskRequest, Token};
use millrace_store::journal::{
    self, Durability, Journal, JournalEvent, JournalPosition, Record, RecordKind, RecordTicket,
};
use millrace_store::stream::JournalRead;

/// Copies of a group's checkpoint in the journal, in frames of their own: everything before it is
/// gone, so that one flipped bit must not cost it.
pub(crate) const CHECKPOINT_COPIES: u8 = 2;

/// A checkpoint on its way.
struct CheckpointOnItsWay {
    ticket: RecordTicket,
    group: GroupId,
    index: u64,
    /// What is written once more when this copy is durable.
    again: Option<Record>,
}

/// What became durable, or of the journal as a whole, since the last call.
#[derive(Debug, Default)]
pub(crate) struct DurableProgress {
    pub(crate) persisted: Vec<PersistTicket>,
    pub(crate) checkpoints: Vec<(GroupId, u64)>,
    pub(crate) need_checkpoint: Vec<GroupId>,
    pub(crate) released_files: Vec<u64>,
    pub(crate) full: Option<bool>,
    /// Nothing that was erased stands in the journal any more.
    pub(crate) erased: bool,
    /// The disk is still full.
    pub(crate) wants_space: bool,
    pub(crate) failed: Option<String>,
}

/// The journal and the bookkeeping around it.
pub(crate) struct Durable {
    journal: Journal,
    /// Appends whose last record has this ticket, oldest first.
    waiting: VecDeque<(RecordTicket, PersistTicket)>,
    checkpoints: VecDeque<CheckpointOnItsWay>,
    /// Entries that were proposed as lazy, until they are appended.
    lazy: BTreeSet<(GroupId, u64)>,
    /// Records whose position is not reported yet.
    unlocated: VecDeque<(RecordTicket, GroupId, u64)>,
    /// Where entries stand that are not applied yet.
    positions: BTreeMap<(GroupId, u64), JournalPosition>,
    /// Reads from journal files that are under way, and where; each keeps its file.
    reads: BTreeMap<Token, JournalPosition>,
    events: Vec<JournalEvent>,
}

impl Durable {
    pub(crate) fn new(journal: Journal) -> Self {
        Self {
            journal,
            waiting: VecDeque::new(),
            checkpoints: VecDeque::new(),
            lazy: BTreeSet::new(),
            unlocated: VecDeque::new(),
            positions: BTreeMap::new(),
            reads: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Whether all that was handed in is durable.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.waiting.is_empty() && self.checkpoints.is_empty()
    }

    /// Makes lazy records due at once: the server stops.
    pub(crate) fn hurry(&mut self) {
        self.journal.hurry();
    }

    /// Remembers that this entry may become durable with the next frame that comes along.
    pub(crate) fn mark_lazy(&mut self, group: GroupId, index: u64) {
        self.lazy.insert((group, index));
    }

    /// Queues what the groups want journaled.
    pub(crate) fn append_all(&mut self, output: &mut ReplicaOutput) {
        for append in output.appends.drain(..) {
            self.append(append);
        }
    }

    fn append(&mut self, append: LogAppend) {
        let group = journal::GroupId(append.group.0);
        let mut last = RecordTicket::default();
        if let Some(HardState { term, vote, commit }) = append.hard_state {
            let kind = RecordKind::HardState(journal::HardState { term, vote, commit });
            let record = Record {
                group,
                kind,
                payload: Bytes::new(),
            };
            last = self.journal.append(record, Durability::Now);
        }
        for LogEntry { index, term, data } in append.entries {
            let lazy = self.lazy.remove(&(append.group, index));
            let durability = if lazy {
                Durability::Lazy
            } else {
                Durability::Now
            };
            let kind = RecordKind::Entry { index, term };
            last = self.journal.append(
                Record {
                    group,
                    kind,
                    payload: data,
                },
                durability,
            );
            self.unlocated.push_back((last, append.group, index));
        }
        self.waiting.push_back((last, append.persist));
    }

    /// Writes down that the group's state up to `index` lasts elsewhere, twice: the second copy goes
    /// into another frame.
    pub(crate) fn checkpoint(&mut self, group: GroupId, index: u64, term: u64, state: Bytes) {
        let kind = RecordKind::Checkpoint { index, term };
        let record = Record {
            group: journal::GroupId(group.0),
            kind,
            payload: state,
        };
        let again = Some(record.clone());
        let ticket = self.journal.append(record, Durability::Now);
        self.checkpoints.push_back(CheckpointOnItsWay {
            ticket,
            group,
            index,
            again,
        });
    }

    /// Writes down that the group is gone.
    pub(crate) fn remove(&mut self, group: GroupId) {
        let record = Record {
            group: journal::GroupId(group.0),
            kind: RecordKind::GroupRemoved,
            payload: Bytes::new(),
        };
        self.journal.append(record, Durability::Now);
        self.checkpoints.retain(|one| one.group != group);
        self.positions.retain(|(owner, _), _| *owner != group);
    }

    /// Something of the group was erased: files that may hold a copy are to go.
    pub(crate) fn erase(&mut self, group: GroupId) {
        let _ = self.journal.erase(journal::GroupId(group.0));
    }

    /// Where an entry's payload stands; forgets it, since an entry is applied once.
    pub(crate) fn take_position(&mut self, group: GroupId, index: u64) -> Option<JournalPosition> {
        self.positions.remove(&(group, index))
    }

    /// Begins a read of a payload in the journal. Without the file, the read ends at once.
    pub(crate) fn read(&mut self, read: JournalRead) -> Result<DiskRequest, DiskCompletion> {
        match self.journal.read(read.token, read.position, read.length) {
            Some(request) => {
                self.reads.insert(read.token, read.position);
                Ok(request)
            }
            None => Err(DiskCompletion {
                token: read.token,
                result: Err(DiskError::NotFound(format!(
                    "journal file {}",
                    read.position.file
                ))),
            }),
        }
    }

    /// Lets the journal file of a read go, if it was one of those; with `open`, what was read is then
    /// as it was given to the journal.
    pub(crate) fn read_ended(
        &mut self,
        mut completion: DiskCompletion,
        open: bool,
    ) -> DiskCompletion {
        let Some(position) = self.reads.remove(&completion.token) else {
            return completion;
        };
        if open && let Ok(DiskReply::Data(data)) = &mut completion.result {
            *data = self.journal.open_payload(position, std::mem::take(data));
        }
        self.journal.read_done(position.file);
        completion
    }

    pub(crate) fn poll(&mut self, now: Now, requests: &mut Vec<DiskRequest>) {
        self.journal.poll(now, requests);
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.journal.next_deadline()
    }

    /// Takes the end of one of the journal's disk requests.
    pub(crate) fn complete(
        &mut self,
        now: Now,
        completion: DiskCompletion,
        progress: &mut DurableProgress,
    ) {
        let mut events = std::mem::take(&mut self.events);
        self.journal.complete(now, completion, &mut events);
        for event in events.drain(..) {
            self.event(event, progress);
        }
        self.events = events;
    }

    fn event(&mut self, event: JournalEvent, progress: &mut DurableProgress) {
        match event {
            JournalEvent::Located { ticket, position } => self.located(ticket, position),
            JournalEvent::Durable { through } => self.durable(through, progress),
            JournalEvent::Failed { reason } => progress.failed = Some(reason),
            JournalEvent::Full => progress.full = Some(true),
            JournalEvent::SpaceWanted => progress.wants_space = true,
            JournalEvent::Resumed => progress.full = Some(false),
            JournalEvent::NeedCheckpoint { groups } => {
                progress
                    .need_checkpoint
                    .extend(groups.iter().map(|group| GroupId(group.0)));
            }
            JournalEvent::Erased => progress.erased = true,
            JournalEvent::FileReleased { file } => progress.released_files.push(file),
        }
    }

    fn located(&mut self, ticket: RecordTicket, position: JournalPosition) {
        while let Some((queued, group, index)) = self.unlocated.front().copied() {
            if queued > ticket {
                break;
            }
            self.unlocated.pop_front();
            if queued == ticket {
                self.positions.insert((group, index), position);
            }
        }
    }

    fn durable(&mut self, through: RecordTicket, progress: &mut DurableProgress) {
        while let Some((_, persist)) = self.waiting.pop_front_if(|(ticket, _)| *ticket <= through) {
            progress.persisted.push(persist);
        }
        while let Some(one) = self.checkpoints.pop_front_if(|one| one.ticket <= through) {
            // A newer one on its way makes the copy worthless, and must stay the last.
            let newer = self
                .checkpoints
                .iter()
                .any(|other| other.group == one.group);
            let Some(record) = one.again.filter(|_| !newer) else {
                progress.checkpoints.push((one.group, one.index));
                continue;
            };
            let ticket = self.journal.append(record, Durability::Now);
            self.checkpoints.push_back(CheckpointOnItsWay {
                ticket,
                again: None,
                ..one
            });
        }
    }
}
