//! Subject numbers in the token order of their names, for listings and wildcards: blocks of a few
//! hundred numbers, so that a subject costs some six bytes here and its name is kept once.

use super::entries::Entries;
use super::subjects::{Entry, SubjectId, name_of};
use bytes::Bytes;
use millrace_subject::token_order;
use std::cmp::Ordering;
use std::ops::Bound;

/// Numbers in one block.
const BLOCK_SUBJECTS: usize = 256;

/// The numbers, ordered.
#[derive(Debug, Default)]
pub(super) struct Order {
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    /// Not after the name of its first subject, and after all names of the block before: the
    /// names of most subjects need not be looked up to find a block.
    floor: Bytes,
    ids: Vec<SubjectId>,
}

/// A place between two subjects: a block and an index in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    block: usize,
    index: usize,
}

impl Order {
    /// Adds a subject whose entry is made and who is not in here.
    pub(super) fn insert(&mut self, id: SubjectId, entries: &Entries) {
        let Some(subject) = entries.get(id).map(Entry::name) else {
            return;
        };
        let at = self.lower(Bound::Included(subject), entries);
        let Some(block) = self.blocks.get_mut(at.block) else {
            self.append(id, subject);
            return;
        };
        if at.index == 0 && token_order(subject, &block.floor) == Ordering::Less {
            block.floor = subject.clone();
        }
        block.ids.insert(at.index, id);
        if block.ids.len() > BLOCK_SUBJECTS {
            self.split(at.block, entries);
        }
    }

    /// Takes a subject out whose entry still has its name.
    pub(super) fn remove(&mut self, subject: &[u8], entries: &Entries) {
        let at = self.lower(Bound::Included(subject), entries);
        let Some(block) = self.blocks.get_mut(at.block) else {
            return;
        };
        let found = block.ids.get(at.index);
        if found.is_none_or(|id| name_of(entries, *id) != subject) {
            return;
        }
        block.ids.remove(at.index);
        if block.ids.is_empty() {
            self.blocks.remove(at.block);
        }
    }

    /// The place of the first subject at or after a bound.
    pub(super) fn lower(&self, bound: Bound<&[u8]>, entries: &Entries) -> Cursor {
        let (subject, or_equal) = match bound {
            Bound::Included(subject) => (subject, false),
            Bound::Excluded(subject) => (subject, true),
            Bound::Unbounded => (&[][..], false),
        };
        let before = |other: &[u8]| match token_order(other, subject) {
            Ordering::Less => true,
            Ordering::Equal => or_equal,
            Ordering::Greater => false,
        };
        let after = self.blocks.partition_point(|block| before(&block.floor));
        let block = after.saturating_sub(1);
        let ids = self.blocks.get(block).map_or(&[][..], |block| &block.ids);
        let index = ids.partition_point(|id| before(name_of(entries, *id)));
        if index == ids.len() && block + 1 < self.blocks.len() {
            return Cursor {
                block: block + 1,
                index: 0,
            };
        }
        Cursor { block, index }
    }

    /// The subject at a place, and the place behind it.
    pub(super) fn at(&self, cursor: Cursor) -> Option<(SubjectId, Cursor)> {
        let block = self.blocks.get(cursor.block)?;
        let id = *block.ids.get(cursor.index)?;
        let next = if cursor.index + 1 < block.ids.len() {
            Cursor {
                index: cursor.index + 1,
                ..cursor
            }
        } else {
            Cursor {
                block: cursor.block + 1,
                index: 0,
            }
        };
        Some((id, next))
    }

    /// Heap bytes.
    pub(super) const fn memory(&self) -> usize {
        let block = size_of::<Block>() + (BLOCK_SUBJECTS + 1) * size_of::<SubjectId>();
        self.blocks.len() * block
    }

    fn append(&mut self, id: SubjectId, subject: &Bytes) {
        let mut ids = Vec::with_capacity(4);
        ids.push(id);
        self.blocks.push(Block {
            floor: subject.clone(),
            ids,
        });
    }

    /// Divides a full block: in the middle, or, when names come in order, at its end.
    fn split(&mut self, at: usize, entries: &Entries) {
        let last = at + 1 == self.blocks.len();
        let Some(block) = self.blocks.get_mut(at) else {
            return;
        };
        let cut = if last {
            BLOCK_SUBJECTS
        } else {
            BLOCK_SUBJECTS / 2
        };
        let mut upper = block.ids.split_off(cut.min(block.ids.len()));
        // Exactly what a block needs, not the next power of two.
        block.ids.shrink_to(BLOCK_SUBJECTS + 1);
        upper.reserve_exact(BLOCK_SUBJECTS + 1 - upper.len().min(BLOCK_SUBJECTS));
        let Some(first) = upper.first() else {
            return;
        };
        let floor = entries.get(*first);
        let floor = floor.map_or_else(Bytes::new, |entry| entry.name().clone());
        self.blocks.insert(at + 1, Block { floor, ids: upper });
    }
}
