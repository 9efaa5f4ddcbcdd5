//! The sequences of one subject, ascending, in blocks of 32-bit offsets: four bytes per message,
//! found by binary search, removed without touching other blocks, counted in a logarithm.

use super::ranks::Ranks;
use std::collections::VecDeque;

/// Entries of one block; a removal inside moves at most so many.
const BLOCK_ENTRIES: usize = 512;
/// Fewer blocks are summed up one by one.
const RANKED_BLOCKS: usize = 8;

/// A sorted list of sequences.
#[derive(Debug, Default)]
pub(super) struct Postings {
    blocks: VecDeque<Block>,
    /// Entries of all blocks but the last; only of long lists.
    ranks: Option<Box<Ranks>>,
    /// Heap bytes of the offsets.
    offset_bytes: u64,
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
    /// A list of two, ascending.
    pub(super) fn pair(first: u64, second: u64) -> Self {
        // Most lists stay within one block.
        let mut postings = Self {
            blocks: VecDeque::with_capacity(1),
            ..Self::default()
        };
        postings.push(first);
        postings.push(second);
        postings
    }

    /// Adds a sequence above all others.
    pub(super) fn push(&mut self, sequence: u64) {
        if let Some(block) = self.blocks.back_mut()
            && block.offsets.len() < BLOCK_ENTRIES
            && let Ok(offset) = u32::try_from(sequence - block.base)
        {
            let before = block.offsets.capacity();
            block.offsets.push(offset);
            self.offset_bytes += 4 * (block.offsets.capacity() - before) as u64;
            return;
        }
        if let Some(full) = self.blocks.back_mut() {
            let before = full.offsets.capacity();
            full.offsets.shrink_to_fit();
            self.offset_bytes -= 4 * (before - full.offsets.capacity()) as u64;
            if let Some(ranks) = &mut self.ranks {
                ranks.push_back(full.live().len() as u64);
            }
        }
        let offsets = vec![0];
        self.offset_bytes += 4 * offsets.capacity() as u64;
        self.blocks.push_back(Block {
            base: sequence,
            start: 0,
            offsets,
        });
        if self.ranks.is_none() && self.blocks.len() > RANKED_BLOCKS {
            let complete = self.blocks.iter().take(self.blocks.len() - 1);
            let counts = complete.map(|block| block.live().len() as u64);
            self.ranks = Some(Box::new(Ranks::new(counts)));
        }
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
        let empty = block.live().is_empty();
        if let Some(ranks) = self.ranks.as_mut().filter(|ranks| at < ranks.len()) {
            ranks.subtract(at, 1);
        }
        if empty {
            self.remove_block(at);
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
        let below = block.below(from) as u64;
        match &self.ranks {
            Some(ranks) => self.len() - ranks.before(at) - below,
            None => {
                let rest = self.blocks.range(at..).map(|block| block.live().len());
                rest.sum::<usize>() as u64 - below
            }
        }
    }

    /// How many there are; only asked of long lists.
    fn len(&self) -> u64 {
        let complete = self
            .ranks
            .as_ref()
            .map_or(0, |ranks| ranks.before(ranks.len()));
        complete
            + self
                .blocks
                .back()
                .map_or(0, |last| last.live().len() as u64)
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.blocks.front().map(Block::first)
    }

    pub(super) fn last(&self) -> Option<u64> {
        self.blocks.back().map(Block::last)
    }

    /// Heap bytes and this struct.
    pub(super) fn memory(&self) -> usize {
        let ranks = self.ranks.as_ref();
        let ranks = ranks.map_or(0, |ranks| ranks.memory() + size_of::<Ranks>());
        let blocks = self.blocks.capacity() * size_of::<Block>();
        self.offset_bytes as usize + blocks + ranks + size_of::<Self>()
    }

    fn remove_block(&mut self, at: usize) {
        let Some(block) = self.blocks.remove(at) else {
            return;
        };
        self.offset_bytes -= 4 * block.offsets.capacity() as u64;
        if let Some(ranks) = &mut self.ranks {
            // Without the last block, the one before it is the last now.
            ranks.remove(if at < ranks.len() {
                at
            } else {
                at.saturating_sub(1)
            });
            if self.blocks.len() <= RANKED_BLOCKS / 2 {
                self.ranks = None;
            }
        }
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
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn postings_agree_with_a_set(steps in proptest::collection::vec((1u64..9, 0u8..8, 0u64..40_000), 1..7000)) {
            let mut postings = Postings::default();
            let mut model = BTreeSet::new();
            let mut next = 0;
            for (gap, remove, which) in steps {
                next += gap;
                postings.push(next);
                model.insert(next);
                if remove < 3 {
                    let victim = model.range(which..).next().or_else(|| model.first()).copied().unwrap();
                    postings.remove(victim);
                    postings.remove(victim);
                    model.remove(&victim);
                }
            }
            prop_assert_eq!(postings.first(), model.first().copied());
            prop_assert_eq!(postings.last(), model.last().copied());
            for probe in (0..next + 2).step_by(97) {
                prop_assert_eq!(postings.next(probe), model.range(probe..).next().copied());
                prop_assert_eq!(postings.previous(probe), model.range(..=probe).next_back().copied());
                prop_assert_eq!(postings.count_from(probe), model.range(probe..).count() as u64);
            }
        }
    }
}
