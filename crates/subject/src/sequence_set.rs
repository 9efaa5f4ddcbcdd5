//! Sets of sequence numbers kept as ranges: deleted messages, acknowledgements above the floor.
//! Cost grows with the number of ranges, not of members.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// A set of `u64` stored as disjoint, non-adjacent ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SequenceSet {
    /// First member of a range -> its last member (inclusive).
    ranges: BTreeMap<u64, u64>,
    len: u64,
}

impl SequenceSet {
    /// An empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            ranges: BTreeMap::new(),
            len: 0,
        }
    }

    /// Adds one member; false if it was there.
    pub fn insert(&mut self, sequence: u64) -> bool {
        self.insert_range(sequence..=sequence) == 1
    }

    /// Adds all of `range` and returns how many were new. An empty range adds nothing.
    pub fn insert_range(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (mut first, mut last) = range.into_inner();
        if first > last {
            return 0;
        }
        let mut absorbed = 0;
        // Ranges that overlap or touch, from the right: each starts at or before last + 1.
        while let Some((start, end)) = self
            .ranges
            .range(..=last.saturating_add(1))
            .next_back()
            .map(|(s, e)| (*s, *e))
        {
            if end.saturating_add(1) < first {
                break;
            }
            if start <= first && end >= last {
                return 0;
            }
            self.ranges.remove(&start);
            absorbed += end - start + 1;
            first = first.min(start);
            last = last.max(end);
        }
        self.ranges.insert(first, last);
        let added = (last - first).wrapping_add(1).wrapping_sub(absorbed);
        self.len = self.len.wrapping_add(added);
        added
    }

    /// Removes one member; false if it was not there.
    pub fn remove(&mut self, sequence: u64) -> bool {
        self.remove_range(sequence..=sequence) == 1
    }

    /// Removes all of `range` and returns how many were there.
    pub fn remove_range(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (first, last) = range.into_inner();
        if first > last {
            return 0;
        }
        let mut removed = 0;
        while let Some((start, end)) = self
            .ranges
            .range(..=last)
            .next_back()
            .map(|(s, e)| (*s, *e))
        {
            if end < first {
                break;
            }
            self.ranges.remove(&start);
            if end > last {
                self.ranges.insert(last + 1, end);
            }
            removed += end.min(last) - start.max(first) + 1;
            if start < first {
                self.ranges.insert(start, first - 1);
                break;
            }
        }
        self.len -= removed;
        removed
    }

    /// Removes every member below `floor`, and returns how many there were.
    pub fn remove_below(&mut self, floor: u64) -> u64 {
        if floor == 0 {
            0
        } else {
            self.remove_range(0..=floor - 1)
        }
    }

    /// Whether `sequence` is a member.
    #[must_use]
    pub fn contains(&self, sequence: u64) -> bool {
        self.range_of(sequence).is_some()
    }

    /// The whole range that holds `sequence`.
    #[must_use]
    pub fn range_of(&self, sequence: u64) -> Option<RangeInclusive<u64>> {
        let (start, end) = self.ranges.range(..=sequence).next_back()?;
        (*end >= sequence).then_some(*start..=*end)
    }

    /// How many members there are.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many ranges hold the members: what memory and scans cost.
    #[must_use]
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// The ranges, ascending.
    pub fn ranges(&self) -> impl DoubleEndedIterator<Item = RangeInclusive<u64>> + '_ {
        self.ranges.iter().map(|(start, end)| *start..=*end)
    }

    /// The ranges that hold a member at or above `from`, ascending; the first may begin below.
    pub fn ranges_from(&self, from: u64) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
        let start = self.range_of(from).map_or(from, |range| *range.start());
        self.ranges.range(start..).map(|(start, end)| *start..=*end)
    }

    /// The smallest member.
    #[must_use]
    pub fn min(&self) -> Option<u64> {
        self.ranges.first_key_value().map(|(start, _)| *start)
    }

    /// The greatest member.
    #[must_use]
    pub fn max(&self) -> Option<u64> {
        self.ranges.last_key_value().map(|(_, end)| *end)
    }

    /// The smallest number at or above `from` that is not a member; `None` past `u64::MAX`.
    #[must_use]
    pub fn next_absent(&self, from: u64) -> Option<u64> {
        self.range_of(from)
            .map_or(Some(from), |range| range.end().checked_add(1))
    }

    /// The smallest member at or above `from`.
    #[must_use]
    pub fn next_present(&self, from: u64) -> Option<u64> {
        if self.contains(from) {
            return Some(from);
        }
        self.ranges.range(from..).next().map(|(start, _)| *start)
    }

    /// The greatest number at or below `from` that is not a member; `None` below zero.
    #[must_use]
    pub fn previous_absent(&self, from: u64) -> Option<u64> {
        self.range_of(from)
            .map_or(Some(from), |range| range.start().checked_sub(1))
    }

    /// How many members lie in `range`.
    #[must_use]
    pub fn count_in(&self, range: RangeInclusive<u64>) -> u64 {
        let (first, last) = range.into_inner();
        if first > last {
            return 0;
        }
        self.ranges_from(first)
            .take_while(|held| *held.start() <= last)
            .map(|held| (*held.end()).min(last) - (*held.start()).max(first) + 1)
            .sum()
    }

    /// Removes every member.
    pub fn clear(&mut self) {
        self.ranges.clear();
        self.len = 0;
    }
}

impl FromIterator<u64> for SequenceSet {
    fn from_iter<I: IntoIterator<Item = u64>>(members: I) -> Self {
        let mut set = Self::new();
        for member in members {
            set.insert(member);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_ends_of_the_number_space_are_members_like_others() {
        let mut set = SequenceSet::new();
        assert!(set.insert(u64::MAX));
        assert!(set.insert(0));
        assert!(set.insert(u64::MAX - 1));
        assert_eq!(set.range_count(), 2);
        assert_eq!(set.next_absent(u64::MAX - 1), None);
        assert_eq!(set.previous_absent(0), None);
        assert!(set.remove(u64::MAX));
        assert_eq!(
            (set.min(), set.max(), set.len()),
            (Some(0), Some(u64::MAX - 1), 2)
        );
    }

    proptest! {
        #[test]
        fn agrees_with_a_tree_of_numbers(
            steps in proptest::collection::vec((0u8..4, 0u64..60, 0u64..12), 1..80),
        ) {
            let mut set = SequenceSet::new();
            let mut model = BTreeSet::new();
            for (kind, first, width) in steps {
                let range = first..=first + width;
                match kind {
                    0 => prop_assert_eq!(set.insert(first), model.insert(first)),
                    1 => prop_assert_eq!(set.remove(first), model.remove(&first)),
                    2 => {
                        let added = range.clone().filter(|n| model.insert(*n)).count();
                        prop_assert_eq!(set.insert_range(range), added as u64);
                    }
                    _ => {
                        let removed = range.clone().filter(|n| model.remove(n)).count();
                        prop_assert_eq!(set.remove_range(range), removed as u64);
                    }
                }
                prop_assert_eq!(set.len(), model.len() as u64);
                prop_assert_eq!(set.min(), model.first().copied());
                prop_assert_eq!(set.max(), model.last().copied());
                let members: Vec<u64> = set.ranges().flatten().collect();
                prop_assert_eq!(&members, &model.iter().copied().collect::<Vec<_>>());
                for probe in 0..75 {
                    prop_assert_eq!(set.contains(probe), model.contains(&probe));
                    prop_assert_eq!(set.next_absent(probe), (probe..).find(|n| !model.contains(n)));
                    prop_assert_eq!(set.previous_absent(probe), (0..=probe).rev().find(|n| !model.contains(n)));
                    prop_assert_eq!(set.next_present(probe), model.range(probe..).next().copied());
                }
                prop_assert_eq!(set.count_in(5..=30), model.range(5..=30).count() as u64);
                prop_assert!(set.ranges().zip(set.ranges().skip(1)).all(|(a, b)| a.end() + 1 < *b.start()), "ranges never touch");
            }
            let below = model.range(..20).count() as u64;
            prop_assert_eq!(set.remove_below(20), below);
        }
    }
}
