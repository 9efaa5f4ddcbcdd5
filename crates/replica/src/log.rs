//! The log of one group as the `raft` crate reads it: entries in memory behind a compacted prefix.
//! Durability is elsewhere (the journal); here is only what Raft may still ask for.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use crate::NodeId;
use crate::output::{HardState, LogEntry};

/// A group's log as recovery found it.
#[derive(Clone, Debug, Default)]
pub struct RestoredLog {
    /// Index of the last entry that a checkpoint covers; 0 without checkpoint.
    pub applied_index: u64,
    /// Term of that entry.
    pub applied_term: u64,
    pub hard_state: HardState,
    /// Entries after the checkpoint, without gaps.
    pub entries: Vec<LogEntry>,
}

/// Entries `first..=last` plus index and term of the entry before them.
pub(crate) struct GroupLog {
    conf_state: ConfState,
    hard_state: raft::eraftpb::HardState,
    compacted_index: u64,
    compacted_term: u64,
    entries: VecDeque<Entry>,
}

impl GroupLog {
    pub(crate) fn new(voters: &[NodeId], restored: RestoredLog) -> Self {
        let mut conf_state = ConfState::default();
        conf_state.set_voters(voters.iter().map(|voter| voter.0).collect());
        let entries: VecDeque<Entry> = restored.entries.into_iter().map(to_raft).collect();
        let last_index = restored.applied_index + entries.len() as u64;
        let mut hard_state = raft::eraftpb::HardState::default();
        let highest_term = entries
            .back()
            .map_or(restored.applied_term, |entry| entry.term);
        // A torn tail may hold entries of a term whose hard state was lost with it.
        hard_state.term = restored.hard_state.term.max(highest_term);
        if hard_state.term == restored.hard_state.term {
            hard_state.vote = restored.hard_state.vote;
        }
        // The crate panics on a commit index outside the log.
        hard_state.commit = restored
            .hard_state
            .commit
            .clamp(restored.applied_index, last_index);
        Self {
            conf_state,
            hard_state,
            compacted_index: restored.applied_index,
            compacted_term: restored.applied_term,
            entries,
        }
    }

    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        // A new leader may replace a tail that was never committed.
        let keep = first.index.saturating_sub(self.compacted_index + 1);
        self.entries
            .truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        self.entries.extend(entries.iter().cloned());
    }

    pub(crate) fn set_hard_state(&mut self, hard_state: &raft::eraftpb::HardState) {
        self.hard_state = hard_state.clone();
    }

    pub(crate) fn voters(&self) -> Vec<NodeId> {
        self.conf_state
            .get_voters()
            .iter()
            .map(|voter| NodeId(*voter))
            .collect()
    }

    /// Forgets entries up to and including `index`.
    pub(crate) fn compact(&mut self, index: u64) {
        while let Some(entry) = self.entries.front() {
            if entry.index > index {
                break;
            }
            (self.compacted_index, self.compacted_term) = (entry.index, entry.term);
            self.entries.pop_front();
        }
    }

    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.compacted_index {
            return Some(self.compacted_term);
        }
        let position = index.checked_sub(self.compacted_index + 1)?;
        self.entries
            .get(usize::try_from(position).ok()?)
            .map(|entry| entry.term)
    }

    fn last(&self) -> u64 {
        self.compacted_index + self.entries.len() as u64
    }
}

impl Storage for GroupLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState {
            hard_state: self.hard_state.clone(),
            conf_state: self.conf_state.clone(),
        })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.compacted_index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        let from = (low - self.compacted_index - 1) as usize;
        let to = (high - self.compacted_index - 1) as usize;
        let mut entries: Vec<Entry> = self.entries.range(from..to).cloned().collect();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        self.term_at(index)
            .ok_or(raft::Error::Store(if index < self.compacted_index {
                StorageError::Compacted
            } else {
                StorageError::Unavailable
            }))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.compacted_index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        // Members of a group keep the log that a lagging member still needs, so Raft has no reason
        // to ask. Catch-up by segment ranges comes with replication over the network.
        Err(raft::Error::Store(
            StorageError::SnapshotTemporarilyUnavailable,
        ))
    }
}

fn to_raft(entry: LogEntry) -> Entry {
    Entry {
        index: entry.index,
        term: entry.term,
        data: entry.data,
        ..Entry::default()
    }
}
