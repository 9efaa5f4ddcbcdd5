//! The sequences of one subject, ascending, in blocks of 32-bit offsets: four bytes per message,
//! found by binary search, removed without touching other blocks.

use std::collections::VecDeque;

/// Entries of one block; a removal inside moves at most so many.
const BLOCK_ENTRIES: usize = 512;

/// A sorted list of sequences.
#[derive(Debug, Default)]
pub(super) struct Postings {
    blocks: VecDeque<Block>,
}

#[derive(Debug)]
struct Block {
    base: u64,
    /// Entries before this one are removed (removal from the front is the common case).
    start: usize,
    offsets: Vec<u32>,
}

impl Block {
    fn live(&self) -> &[u32] {
        self.offsets.get(self.start..).unwrap_or_default()
    }

    fn first(&self) -> u64 {
        self.base + self.live().first().map_or(0, |offset| u64::from(*offset))
    }

    fn last(&self) -> u64 {
        self.base + self.live().last().map_or(0, |offset| u64::from(*offset))
    }

    /// How many live entries are below `sequence`.
    fn below(&self, sequence: u64) -> usize {
        self.live()
            .partition_point(|offset| self.base + u64::from(*offset) < sequence)
    }

    fn at(&self, index: usize) -> Option<u64> {
        self.live()
            .get(index)
            .map(|offset| self.base + u64::from(*offset))
    }
}

impl Postings {
    /// Adds a sequence above all others.
    pub(super) fn push(&mut self, sequence: u64) {
        if let Some(block) = self.blocks.back_mut()
            && block.offsets.len() < BLOCK_ENTRIES
            && let Ok(offset) = u32::try_from(sequence - block.base)
        {
            block.offsets.push(offset);
            return;
        }
        if let Some(full) = self.blocks.back_mut() {
            full.offsets.shrink_to_fit();
        }
        self.blocks.push_back(Block {
            base: sequence,
            start: 0,
            offsets: vec![0],
        });
    }

    /// Takes a sequence out; nothing happens if it is not there.
    pub(super) fn remove(&mut self, sequence: u64) {
        let at = self.block_of(sequence);
        let Some(block) = self.blocks.get_mut(at) else {
            return;
        };
        let index = block.below(sequence);
        if block.at(index) != Some(sequence) {
            return;
        }
        if index == 0 {
            block.start += 1;
            if block.start >= BLOCK_ENTRIES / 2 {
                block.offsets.drain(..block.start);
                block.start = 0;
            }
        } else {
            block.offsets.remove(block.start + index);
        }
        if block.live().is_empty() {
            self.blocks.remove(at);
        }
    }

    /// The first at or after `from`.
    pub(super) fn next(&self, from: u64) -> Option<u64> {
        let block = self.blocks.get(self.block_of(from))?;
        block.at(block.below(from))
    }

    /// The last at or before `up_to`.
    pub(super) fn previous(&self, up_to: u64) -> Option<u64> {
        let after = self.blocks.partition_point(|block| block.first() <= up_to);
        let block = self.blocks.get(after.checked_sub(1)?)?;
        block.at(block.below(up_to.saturating_add(1)).checked_sub(1)?)
    }

    /// How many at or after `from`.
    pub(super) fn count_from(&self, from: u64) -> u64 {
        let at = self.block_of(from);
        let Some(block) = self.blocks.get(at) else {
            return 0;
        };
        let here = block.live().len() - block.below(from);
        let later: usize = self
            .blocks
            .range(at + 1..)
            .map(|block| block.live().len())
            .sum();
        (here + later) as u64
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.blocks.front().map(Block::first)
    }

    pub(super) fn last(&self) -> Option<u64> {
        self.blocks.back().map(Block::last)
    }

    /// Heap bytes.
    pub(super) fn memory(&self) -> usize {
        let offsets: usize = self
            .blocks
            .iter()
            .map(|block| block.offsets.capacity() * 4)
            .sum();
        offsets + self.blocks.capacity() * size_of::<Block>()
    }

    /// The first block whose last entry is at or above `sequence`.
    fn block_of(&self, sequence: u64) -> usize {
        self.blocks.partition_point(|block| block.last() < sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn postings_agree_with_a_set(steps in proptest::collection::vec((1u64..9, any::<bool>(), 0u64..4000), 1..1500)) {
            let mut postings = Postings::default();
            let mut model = BTreeSet::new();
            let mut next = 0;
            for (gap, remove, which) in steps {
                next += gap;
                postings.push(next);
                model.insert(next);
                if remove {
                    let victim = model.range(which..).next().or_else(|| model.first()).copied().unwrap();
                    postings.remove(victim);
                    postings.remove(victim);
                    model.remove(&victim);
                }
            }
            prop_assert_eq!(postings.first(), model.first().copied());
            prop_assert_eq!(postings.last(), model.last().copied());
            for probe in (0..next + 2).step_by(7) {
                prop_assert_eq!(postings.next(probe), model.range(probe..).next().copied());
                prop_assert_eq!(postings.previous(probe), model.range(..=probe).next_back().copied());
                prop_assert_eq!(postings.count_from(probe), model.range(probe..).count() as u64);
            }
        }
    }
}
