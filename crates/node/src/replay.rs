//! Replaying logs at start. Recovery says where a group's entries lie in the journal; they are read
//! back from there in windows, a few groups at a time, and handed on in order, so that a long
//! journal costs a start neither memory nor one long step.
//!
//! A group with one voter is its own quorum: what is durable is committed. Its entries go straight
//! to the state machine, and the group opens behind them with nothing left to apply. A group with
//! more voters gets its entries back as a log.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use millrace_replica::{GroupId, GroupSpec, LogEntry, RestoredLog};
use millrace_store::disk::{DiskCompletion, DiskReply, Token};
use millrace_store::ids::IdSpace;
use millrace_store::journal::{Journal, JournalPosition, RecoveredEntry};
use millrace_store::stream::JournalRead;

/// Bytes of the journal read at once; an entry that is longer is a window of its own.
const WINDOW_BYTES: u64 = 1 << 20;
/// Bytes of other groups between two entries that are read along instead of beginning anew.
const GAP_BYTES: u64 = 64 << 10;
/// Groups that replay at the same time: each has one window in memory.
const ACTIVE_MAX: usize = 4;
/// Reads of one window, before the group is set aside.
const ATTEMPTS_MAX: u8 = 4;
/// The id space of the reads; those from 16 on belong to the streams. One for each start within a
/// server run.
const FIRST_ID_SPACE: u32 = 8;

/// A group that has entries to replay.
pub(crate) struct Replay {
    pub(crate) spec: GroupSpec,
    /// What the group opens with.
    pub(crate) log: RestoredLog,
    entries: VecDeque<RecoveredEntry>,
    /// Entries of the front that are being read.
    reading: usize,
    attempts: u8,
}

/// An entry to be applied.
pub(crate) struct ReplayedEntry {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) data: Bytes,
    pub(crate) position: Option<JournalPosition>,
}

/// Why a window cannot be used.
pub(crate) enum WindowFault {
    /// Read it again.
    Again,
    /// It stays unreadable.
    Lost(String),
}

impl Replay {
    pub(crate) fn new(spec: GroupSpec, log: RestoredLog, entries: Vec<RecoveredEntry>) -> Self {
        Self {
            spec,
            log,
            entries: entries.into(),
            reading: 0,
            attempts: 0,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.entries.is_empty()
    }

    fn last_index(&self) -> u64 {
        self.log.applied_index + self.log.entries.len() as u64
    }

    /// The next run of entries that lie close together: from where, how long, how many.
    fn window(&self) -> Option<(JournalPosition, u32, usize)> {
        let first = self.entries.front()?;
        let start = first.position;
        let end_of = |entry: &RecoveredEntry| entry.position.offset + u64::from(entry.length);
        let (mut end, mut count) = (end_of(first), 1);
        for entry in self.entries.iter().skip(1) {
            let at = entry.position;
            let near = at.file == start.file && at.offset >= end && at.offset - end <= GAP_BYTES;
            if !near || end_of(entry) - start.offset > WINDOW_BYTES {
                break;
            }
            end = end_of(entry);
            count += 1;
        }
        let length = u32::try_from(end - start.offset).unwrap_or(u32::MAX);
        Some((start, length, count))
    }

    /// Takes the entries of a window that has been read. A hole before an entry is passed on as an
    /// empty entry: what was lost to damage was reported, what is behind it still counts.
    fn take(&mut self, window: &Bytes, journal: &Journal) -> Option<Vec<ReplayedEntry>> {
        let start = self.entries.front()?.position.offset;
        let mut taken = Vec::with_capacity(self.reading);
        let (mut last, mut last_term) = (self.last_index(), self.log.applied_term);
        for entry in self.entries.iter().take(self.reading) {
            let from = usize::try_from(entry.position.offset - start).ok()?;
            let data = window.get(from..from + entry.length as usize)?;
            if !journal.is_intact(entry, data) {
                return None;
            }
            if last + 1 < entry.index {
                taken.push(ReplayedEntry {
                    index: entry.index - 1,
                    term: last_term,
                    data: Bytes::new(),
                    position: None,
                });
            }
            taken.push(ReplayedEntry {
                index: entry.index,
                term: entry.term,
                // Messages keep slices of their entry: the window must not stay with them.
                data: journal.open_payload(entry.position, Bytes::copy_from_slice(data)),
                position: Some(entry.position),
            });
            (last, last_term) = (entry.index, entry.term);
        }
        self.entries.drain(..self.reading);
        self.reading = 0;
        self.attempts = 0;
        Some(taken)
    }

    /// What has been handed to the state machine need not be in the group's log.
    fn applied(&mut self, entries: &[ReplayedEntry]) {
        if let Some(last) = entries.last() {
            self.log.applied_index = last.index;
            self.log.applied_term = last.term;
        }
    }

    /// Keeps entries for a group whose members decide what is committed.
    fn keep(&mut self, entries: Vec<ReplayedEntry>) {
        for entry in entries {
            let ReplayedEntry {
                index, term, data, ..
            } = entry;
            while self.last_index() + 1 < index {
                let index = self.last_index() + 1;
                let data = Bytes::new();
                self.log.entries.push(LogEntry { index, term, data });
            }
            self.log.entries.push(LogEntry { index, term, data });
        }
    }
}

/// All groups that replay.
pub(crate) struct Replays {
    ids: IdSpace,
    waiting: BTreeMap<GroupId, Replay>,
    active: BTreeMap<GroupId, Replay>,
    reads: BTreeMap<Token, GroupId>,
    added: u64,
}

impl Replays {
    /// `attempt`: how many starts there were before in this run of the server.
    pub(crate) fn new(attempt: u16) -> Self {
        Self {
            ids: IdSpace::new(FIRST_ID_SPACE + u32::from(attempt)),
            waiting: BTreeMap::new(),
            active: BTreeMap::new(),
            reads: BTreeMap::new(),
            added: 0,
        }
    }

    pub(crate) fn add(&mut self, group: GroupId, replay: Replay) {
        self.waiting.insert(group, replay);
        self.added += 1;
    }

    /// How many groups had something to replay in this start.
    pub(crate) const fn added(&self) -> u64 {
        self.added
    }

    /// The group is gone, or opens.
    pub(crate) fn remove(&mut self, group: GroupId) -> Option<Replay> {
        let active = self.active.remove(&group);
        active.or_else(|| self.waiting.remove(&group))
    }

    pub(crate) fn contains(&self, group: GroupId) -> bool {
        self.active.contains_key(&group) || self.waiting.contains_key(&group)
    }

    pub(crate) fn owns(&self, token: Token) -> bool {
        self.ids.owns(token)
    }

    /// This group may begin now, whatever else waits.
    pub(crate) fn begin_first(&mut self, group: GroupId) {
        if let Some(replay) = self.waiting.remove(&group) {
            self.active.insert(group, replay);
        }
    }

    /// Groups that may begin now, those that `is_wanted` first.
    pub(crate) fn begin(&mut self, is_wanted: impl Fn(GroupId) -> bool) -> Vec<GroupId> {
        let mut begun = Vec::new();
        while self.active.len() < ACTIVE_MAX {
            let wanted = self.waiting.keys().copied().find(|group| is_wanted(*group));
            let first = self.waiting.first_key_value().map(|(group, _)| *group);
            let Some(group) = wanted.or(first) else {
                break;
            };
            if let Some(replay) = self.waiting.remove(&group) {
                self.active.insert(group, replay);
                begun.push(group);
            }
        }
        begun
    }

    /// Active groups with nothing being read.
    pub(crate) fn idle(&self) -> Vec<GroupId> {
        let idle = self.active.iter().filter(|(_, replay)| replay.reading == 0);
        idle.map(|(group, _)| *group).collect()
    }

    pub(crate) fn get(&self, group: GroupId) -> Option<&Replay> {
        self.active.get(&group)
    }

    /// The read of a group's next window.
    pub(crate) fn read(&mut self, group: GroupId) -> Option<JournalRead> {
        let replay = self.active.get_mut(&group)?;
        let (position, length, count) = replay.window()?;
        replay.reading = count;
        let token = self.ids.token();
        self.reads.insert(token, group);
        Some(JournalRead {
            token,
            position,
            length,
        })
    }

    /// Takes the end of a read: whose it is, and the entries to apply. `None`: the group is gone.
    pub(crate) fn complete(
        &mut self,
        completion: DiskCompletion,
        journal: &Journal,
    ) -> Option<(GroupId, Result<Vec<ReplayedEntry>, WindowFault>)> {
        let group = self.reads.remove(&completion.token)?;
        let replay = self.active.get_mut(&group)?;
        let reason = match completion.result {
            Ok(DiskReply::Data(window)) => match replay.take(&window, journal) {
                Some(entries) if replay.spec.voters.len() > 1 => {
                    replay.keep(entries);
                    return Some((group, Ok(Vec::new())));
                }
                Some(entries) => {
                    replay.applied(&entries);
                    return Some((group, Ok(entries)));
                }
                None => "its bytes have changed".to_owned(),
            },
            Ok(_) => "the disk gave an answer of the wrong kind".to_owned(),
            Err(error) => error.to_string(),
        };
        replay.reading = 0;
        replay.attempts += 1;
        let fault = if replay.attempts < ATTEMPTS_MAX {
            WindowFault::Again
        } else {
            WindowFault::Lost(reason)
        };
        Some((group, Err(fault)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_replica::NodeId;

    fn entry(index: u64, file: u64, offset: u64, length: u32) -> RecoveredEntry {
        RecoveredEntry {
            index,
            term: 1,
            position: JournalPosition { file, offset },
            length,
            checksum: 0,
        }
    }

    fn replay(voters: u64, entries: Vec<RecoveredEntry>) -> Replay {
        let spec = GroupSpec {
            node: NodeId(1),
            voters: (1..=voters).map(NodeId).collect(),
            volatile: false,
            seed: 1,
        };
        Replay::new(spec, RestoredLog::default(), entries)
    }

    #[test]
    fn a_window_takes_entries_that_lie_close_together_and_no_more_than_its_size() {
        let long = (WINDOW_BYTES - 100) as u32;
        let entries = vec![
            entry(1, 1, 4200, 50),
            entry(2, 1, 8300, 50),
            entry(3, 1, 8350 + GAP_BYTES + 1, 50),
            entry(4, 2, 100, 200),
            entry(5, 2, 300, long),
        ];
        let mut replay = replay(1, entries);
        let mut windows = Vec::new();
        while let Some((position, length, count)) = replay.window() {
            windows.push((position.file, position.offset, length, count));
            replay.entries.drain(..count);
        }
        let expected = vec![
            (1, 4200, 4150, 2),
            (1, 8350 + GAP_BYTES + 1, 50, 1),
            (2, 100, 200, 1),
            (2, 300, long, 1),
        ];
        assert_eq!(windows, expected);
    }

    #[test]
    fn groups_begin_a_few_at_a_time_and_wanted_ones_first() {
        let mut replays = Replays::new(0);
        for group in 1..=9 {
            replays.add(GroupId(group), replay(1, vec![entry(1, 1, 1, 1)]));
        }
        let begun = replays.begin(|group| group == GroupId(7));
        assert_eq!(begun, [7, 1, 2, 3].map(GroupId));
        assert_eq!(replays.begin(|_| true), Vec::new());
        replays.remove(GroupId(1));
        assert_eq!(replays.begin(|_| false), vec![GroupId(4)]);
    }

    #[test]
    fn a_group_with_more_voters_gets_its_entries_back_as_a_log_without_holes() {
        let mut replay = replay(3, Vec::new());
        let given = |index| ReplayedEntry {
            index,
            term: 1,
            data: Bytes::from_static(b"x"),
            position: None,
        };
        replay.keep(vec![given(1), given(4)]);
        let indexes: Vec<u64> = replay.log.entries.iter().map(|entry| entry.index).collect();
        assert_eq!(indexes, [1, 2, 3, 4]);
        assert_eq!(replay.log.applied_index, 0);
    }
}
