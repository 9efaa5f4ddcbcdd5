//! The deleted sequences of a stream: in blocks of 65,536, each a list of ranges or, when there
//! are many, one bit per sequence. A range costs four bytes, and never more than a bit for each
//! sequence. A copy shares all blocks until they change: a flush writes the state it began with
//! while the stream goes on.

use millrace_subject::SequenceSet;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

const BLOCK_BITS: u32 = 16;
const WORDS: usize = (1 << BLOCK_BITS) / 64;
/// More ranges than this cost more than a bit for each sequence.
const MAX_RANGES: usize = WORDS * 8 / 4;
/// An entry of a B-tree at two thirds filling, and the counts of a shared block.
const PER_BLOCK_BYTES: usize = 24 + 16;

/// A set of sequences.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deleted {
    /// Blocks that hold some, by the upper bits of the sequence.
    blocks: BTreeMap<u64, Arc<Block>>,
    /// Numbers of blocks that are deleted whole.
    full: SequenceSet,
    /// Heap bytes of the blocks, estimated.
    block_bytes: usize,
}

#[derive(Clone, Debug)]
enum Block {
    /// First and last of each, ascending, never touching.
    Ranges(Vec<(u16, u16)>),
    Bits(Box<[u64; WORDS]>),
}

const fn split(sequence: u64) -> (u64, u16) {
    (sequence >> BLOCK_BITS, sequence as u16)
}

const fn join(block: u64, low: u16) -> u64 {
    (block << BLOCK_BITS) | low as u64
}

impl Block {
    fn insert(&mut self, first: u16, last: u16) {
        match self {
            Self::Ranges(ranges) => {
                // All that overlap or touch become one.
                let from =
                    ranges.partition_point(|(_, end)| u32::from(*end) + 1 < u32::from(first));
                let to =
                    ranges.partition_point(|(start, _)| u32::from(*start) <= u32::from(last) + 1);
                let touched = ranges.get(from..to).unwrap_or_default();
                let first = touched
                    .first()
                    .map_or(first, |(start, _)| first.min(*start));
                let last = touched.last().map_or(last, |(_, end)| last.max(*end));
                ranges.splice(from..to, [(first, last)]);
                if ranges.len() > MAX_RANGES {
                    let mut bits = Box::new([0; WORDS]);
                    for (first, last) in ranges.iter() {
                        set(&mut bits, *first, *last, true);
                    }
                    *self = Self::Bits(bits);
                }
            }
            Self::Bits(bits) => set(bits, first, last, true),
        }
    }

    fn remove_below(&mut self, floor: u16) {
        let Some(last) = floor.checked_sub(1) else {
            return;
        };
        match self {
            Self::Ranges(ranges) => {
                let gone = ranges.partition_point(|(_, end)| *end < floor);
                ranges.drain(..gone);
                if let Some((start, _)) = ranges.first_mut() {
                    *start = floor.max(*start);
                }
            }
            Self::Bits(bits) => set(bits, 0, last, false),
        }
    }

    /// The first range that ends at or after `from`.
    fn range_from(&self, from: u16) -> Option<(u16, u16)> {
        match self {
            Self::Ranges(ranges) => {
                let at = ranges.partition_point(|(_, end)| *end < from);
                ranges.get(at).map(|(start, end)| (from.max(*start), *end))
            }
            Self::Bits(bits) => {
                let start = find(bits, from, true)?;
                let end = find(bits, start, false).map_or(u16::MAX, |absent| absent - 1);
                Some((start, end))
            }
        }
    }

    fn contains(&self, low: u16) -> bool {
        match self {
            Self::Ranges(ranges) => {
                let at = ranges.partition_point(|(_, end)| *end < low);
                ranges.get(at).is_some_and(|(start, _)| *start <= low)
            }
            Self::Bits(bits) => {
                let word = bits.get(usize::from(low / 64)).copied().unwrap_or(0);
                word >> (low % 64) & 1 == 1
            }
        }
    }

    fn memory(&self) -> usize {
        PER_BLOCK_BYTES
            + size_of::<Self>()
            + match self {
                Self::Ranges(ranges) => ranges.capacity() * 4,
                Self::Bits(_) => WORDS * 8,
            }
    }
}

/// Sets or clears all bits from `first` to `last`.
fn set(bits: &mut [u64; WORDS], first: u16, last: u16, value: bool) {
    let (from, to) = (usize::from(first / 64), usize::from(last / 64));
    for (at, word) in bits.iter_mut().enumerate().take(to + 1).skip(from) {
        let low = if at == from { first % 64 } else { 0 };
        let high = if at == to { last % 64 } else { 63 };
        let mask = (u64::MAX << low) & (u64::MAX >> (63 - high));
        if value {
            *word |= mask;
        } else {
            *word &= !mask;
        }
    }
}

/// The first bit at or after `from` that is `value`.
fn find(bits: &[u64; WORDS], from: u16, value: bool) -> Option<u16> {
    let first = usize::from(from / 64);
    for (at, word) in bits.iter().enumerate().skip(first) {
        let word = if value { *word } else { !*word };
        let word = if at == first {
            word & (u64::MAX << (from % 64))
        } else {
            word
        };
        if word != 0 {
            return Some((at * 64) as u16 + word.trailing_zeros() as u16);
        }
    }
    None
}

impl Deleted {
    /// Adds one.
    pub(crate) fn insert(&mut self, sequence: u64) {
        self.insert_range(sequence..=sequence);
    }

    /// Adds a range.
    pub(crate) fn insert_range(&mut self, range: RangeInclusive<u64>) {
        let (first, last) = range.into_inner();
        if first > last {
            return;
        }
        let ((first_block, low), (last_block, high)) = (split(first), split(last));
        if first_block == last_block {
            self.insert_in(first_block, low, high);
            return;
        }
        self.insert_in(first_block, low, u16::MAX);
        if first_block + 1 < last_block {
            let inner = first_block + 1..=last_block - 1;
            let held: Vec<u64> = self
                .blocks
                .range(inner.clone())
                .map(|(key, _)| *key)
                .collect();
            held.into_iter().for_each(|key| self.drop_block(key));
            self.full.insert_range(inner);
        }
        self.insert_in(last_block, 0, high);
    }

    /// Takes all out that are below `floor`.
    pub(crate) fn remove_below(&mut self, floor: u64) {
        let (number, low) = split(floor);
        self.full.remove_below(number);
        while let Some(key) = self
            .blocks
            .keys()
            .next()
            .copied()
            .filter(|key| *key < number)
        {
            self.drop_block(key);
        }
        if low > 0 && self.full.remove(number) {
            self.insert_in(number, low, u16::MAX);
        } else if let Some(block) = self.blocks.get_mut(&number)
            // Looked at first: most floors move over what is there, not over what is deleted.
            && block.range_from(0).is_some_and(|(start, _)| start < low)
        {
            Arc::make_mut(block).remove_below(low);
            if block.range_from(0).is_none() {
                self.drop_block(number);
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn contains(&self, sequence: u64) -> bool {
        let (number, low) = split(sequence);
        let block = self.blocks.get(&number);
        block.is_some_and(|block| block.contains(low)) || self.full.contains(number)
    }

    /// The first range that ends at or after `from`; it may have begun before.
    pub(crate) fn range_from(&self, from: u64) -> Option<(u64, u64)> {
        let (start, mut end) = self.piece_from(from)?;
        // Ranges go on in the next block.
        while end < u64::MAX
            && end as u16 == u16::MAX
            && let Some((next, further)) = self.piece_from(end + 1)
            && next == end + 1
        {
            end = further;
        }
        Some((start, end))
    }

    /// All ranges, ascending.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
        let mut from = Some(0);
        std::iter::from_fn(move || {
            let (start, end) = self.range_from(from?)?;
            from = end.checked_add(1);
            Some(start..=end)
        })
    }

    /// Heap bytes, estimated; blocks that a copy shares count here.
    pub(crate) fn memory(&self) -> usize {
        self.block_bytes + self.full.range_count() * 24
    }

    /// The part within one block, or the run of full blocks, of the first range that ends at or
    /// after `from`.
    fn piece_from(&self, from: u64) -> Option<(u64, u64)> {
        let (number, low) = split(from);
        let mut partial = self.blocks.range(number..);
        let in_block = partial.find_map(|(key, block)| {
            let low = if *key == number { low } else { 0 };
            let (start, end) = block.range_from(low)?;
            Some((join(*key, start), join(*key, end)))
        });
        let full = self.full.ranges_from(number).next();
        let in_full = full.map(|run| {
            let (first, last) = run.into_inner();
            (join(first.max(number), 0).max(from), join(last, u16::MAX))
        });
        match (in_block, in_full) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    fn insert_in(&mut self, number: u64, first: u16, last: u16) {
        if self.full.contains(number) {
            return;
        }
        if (first, last) == (0, u16::MAX) {
            self.drop_block(number);
            self.full.insert(number);
            return;
        }
        let block_bytes = &mut self.block_bytes;
        let block = self.blocks.entry(number).or_insert_with(|| {
            let block = Block::Ranges(Vec::new());
            *block_bytes += block.memory();
            Arc::new(block)
        });
        let before = block.memory();
        Arc::make_mut(block).insert(first, last);
        // A copy made here has no room to spare, so both may grow and shrink.
        *block_bytes = (*block_bytes + block.memory()).saturating_sub(before);
        if block.range_from(0) == Some((0, u16::MAX)) {
            self.drop_block(number);
            self.full.insert(number);
        }
    }

    fn drop_block(&mut self, number: u64) {
        if let Some(block) = self.blocks.remove(&number) {
            self.block_bytes = self.block_bytes.saturating_sub(block.memory());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn places() -> impl Strategy<Value = u64> {
        // Around the borders of blocks, where the cases are.
        prop_oneof![
            0u64..300,
            65_300u64..65_800,
            131_000u64..131_200,
            (1u64 << 40)..(1 << 40) + 200_000
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_of_ranges(
            steps in proptest::collection::vec((0u8..9, places(), 0u64..150_000), 1..150), dense: bool,
        ) {
            let (mut deleted, mut model) = (Deleted::default(), SequenceSet::new());
            let mut copies = Vec::new();
            if dense {
                for sequence in (0..30_000).step_by(2) {
                    deleted.insert(sequence);
                    model.insert(sequence);
                }
            }
            for (kind, place, width) in steps {
                match kind {
                    0 => {
                        deleted.remove_below(place);
                        model.remove_below(place);
                    }
                    1 => {
                        deleted.insert_range(place..=place + width);
                        model.insert_range(place..=place + width);
                    }
                    2 => copies.push((deleted.clone(), model.clone())),
                    _ => {
                        deleted.insert(place);
                        model.insert(place);
                    }
                }
                prop_assert_eq!(deleted.contains(place), model.contains(place));
                prop_assert_eq!(deleted.contains(place + 1), model.contains(place + 1));
                let range = model.ranges_from(place).next().map(|range| (*range.start().max(&place), *range.end()));
                prop_assert_eq!(deleted.range_from(place), range);
            }
            copies.push((deleted, model));
            for (deleted, model) in copies {
                prop_assert!(deleted.ranges().eq(model.ranges()));
            }
        }
    }

    #[test]
    fn many_ranges_cost_four_bytes_each_and_never_more_than_a_bit_for_each_sequence() {
        let mut deleted = Deleted::default();
        for sequence in (0..6_000u64).step_by(3) {
            deleted.insert(sequence);
        }
        assert!(deleted.memory() <= 2_000 * 8, "{}", deleted.memory());
        for sequence in (0..1_000_000u64).step_by(2) {
            deleted.insert(sequence);
        }
        assert!(
            deleted.memory() <= 1_000_000 / 8 * 11 / 10,
            "{}",
            deleted.memory()
        );
        // A gap of almost all numbers there are.
        deleted.insert_range(2_000_000..=u64::MAX - 1);
        assert!(deleted.memory() <= 150_000);
        assert_eq!(
            deleted.range_from(3_000_000),
            Some((3_000_000, u64::MAX - 1))
        );
    }
}
