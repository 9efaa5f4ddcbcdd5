//! Which groups still need which journal file. Removing files is `files.rs`.

use super::{GroupId, HardState};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

#[derive(Debug, Default)]
struct GroupPins {
    /// Files with entries after the checkpoint, oldest first, each with its highest index.
    entries: VecDeque<(u64, u64)>,
    /// Files of the last two copies of the checkpoint, the older first.
    checkpoint_files: Option<(u64, u64)>,
    checkpoint_index: Option<u64>,
    hard_state_file: Option<u64>,
}

impl GroupPins {
    fn oldest(&self) -> Option<u64> {
        let entry_file = self.entries.front().map(|entry| entry.0);
        let checkpoint_file = self.checkpoint_files.map(|(older, _)| older);
        [entry_file, checkpoint_file, self.hard_state_file]
            .into_iter()
            .flatten()
            .min()
    }
}

/// Keeps count of what pins what, as records become durable.
#[derive(Debug, Default)]
pub(super) struct Retention {
    groups: BTreeMap<GroupId, GroupPins>,
    /// (oldest file, group) of every group that needs one.
    by_file: BTreeSet<(u64, GroupId)>,
}

impl Retention {
    fn change(&mut self, group: GroupId, change: impl FnOnce(&mut GroupPins)) {
        let pins = self.groups.entry(group).or_default();
        let before = pins.oldest();
        change(pins);
        let after = pins.oldest();
        if before != after {
            if let Some(file) = before {
                self.by_file.remove(&(file, group));
            }
            if let Some(file) = after {
                self.by_file.insert((file, group));
            }
        }
    }

    /// An entry is durable in `file`; what it replaced is not needed any more.
    pub(super) fn entry(&mut self, group: GroupId, index: u64, file: u64) {
        self.change(group, |pins| {
            while let Some(last) = pins.entries.back_mut() {
                if last.1 < index {
                    break;
                }
                // Entries from `index` on are replaced; the file may still hold earlier ones.
                last.1 = index.saturating_sub(1);
                let empty = pins.entries.iter().rev().nth(1).is_some_and(|before| {
                    pins.entries.back().is_some_and(|last| last.1 <= before.1)
                });
                if !empty {
                    break;
                }
                pins.entries.pop_back();
            }
            match pins.entries.back_mut() {
                Some(last) if last.0 == file => last.1 = index,
                _ => pins.entries.push_back((file, index)),
            }
        });
    }

    /// A checkpoint is durable in `file`: entries up to `index` are not needed any more. Of one
    /// checkpoint the last two copies stay needed.
    pub(super) fn checkpoint(&mut self, group: GroupId, index: u64, file: u64) {
        self.change(group, |pins| {
            if pins.checkpoint_index.is_some_and(|known| known > index) {
                return;
            }
            while pins.entries.front().is_some_and(|entry| entry.1 <= index) {
                pins.entries.pop_front();
            }
            let copy = pins.checkpoint_index.replace(index) == Some(index);
            let before = pins.checkpoint_files.filter(|_| copy);
            pins.checkpoint_files = Some((before.map_or(file, |(_, newer)| newer), file));
        });
    }

    /// A hard state is durable in `file`.
    pub(super) fn hard_state(&mut self, group: GroupId, file: u64) {
        self.change(group, |pins| pins.hard_state_file = Some(file));
    }

    /// The group is gone.
    pub(super) fn remove(&mut self, group: GroupId) {
        if let Some(file) = self.groups.remove(&group).and_then(|pins| pins.oldest()) {
            self.by_file.remove(&(file, group));
        }
    }

    /// The oldest file that any group needs.
    pub(super) fn oldest_needed(&self) -> Option<u64> {
        self.by_file.first().map(|(file, _)| *file)
    }

    /// The groups that need `file` or an older one.
    pub(super) fn pinning(&self, file: u64) -> Vec<GroupId> {
        let pinned = self
            .by_file
            .iter()
            .take_while(|(oldest, _)| *oldest <= file);
        pinned.map(|(_, group)| *group).collect()
    }
}

/// The last hard state queued for each group: copied forward with every checkpoint, so that a
/// checkpoint frees the group from all older files.
#[derive(Debug, Default)]
pub(super) struct HardStates(BTreeMap<GroupId, HardState>);

impl HardStates {
    pub(super) fn set(&mut self, group: GroupId, state: HardState) {
        self.0.insert(group, state);
    }

    pub(super) fn get(&self, group: GroupId) -> Option<HardState> {
        self.0.get(&group).copied()
    }

    pub(super) fn remove(&mut self, group: GroupId) {
        self.0.remove(&group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: GroupId = GroupId(1);
    const B: GroupId = GroupId(2);

    #[test]
    fn a_file_is_needed_until_every_group_has_a_checkpoint_behind_it() {
        let mut retention = Retention::default();
        retention.hard_state(A, 1);
        retention.entry(A, 1, 1);
        retention.entry(A, 2, 2);
        retention.entry(B, 1, 2);
        assert_eq!(retention.pinning(1), vec![A]);
        retention.checkpoint(A, 1, 3);
        assert_eq!(
            retention.oldest_needed(),
            Some(1),
            "the hard state is still there"
        );
        retention.hard_state(A, 3);
        assert_eq!(retention.oldest_needed(), Some(2));
        assert_eq!(retention.pinning(2), vec![A, B]);
        retention.checkpoint(A, 2, 3);
        retention.remove(B);
        assert_eq!(retention.oldest_needed(), Some(3));
    }

    #[test]
    fn the_last_two_copies_of_a_checkpoint_are_needed() {
        let mut retention = Retention::default();
        retention.checkpoint(A, 1, 1);
        retention.checkpoint(A, 1, 2);
        assert_eq!(retention.oldest_needed(), Some(1));
        retention.checkpoint(A, 1, 3);
        assert_eq!(retention.oldest_needed(), Some(2));
        retention.checkpoint(A, 2, 4);
        assert_eq!(retention.oldest_needed(), Some(4));
    }

    #[test]
    fn replaced_entries_pin_nothing() {
        let mut retention = Retention::default();
        retention.entry(A, 1, 1);
        retention.entry(A, 5, 2);
        retention.entry(A, 2, 3);
        retention.checkpoint(A, 1, 4);
        assert_eq!(retention.oldest_needed(), Some(3));
    }
}
