//! The entries of the subjects by number, in blocks: adding one never moves the others.

use super::subjects::{Entry, SubjectId};

const BLOCK_BITS: u32 = 8;
const BLOCK_ENTRIES: usize = 1 << BLOCK_BITS;

/// Entries by number. The first block grows like a list, for the many streams with few subjects.
#[derive(Debug, Default)]
pub(super) struct Entries {
    blocks: Vec<Vec<Entry>>,
}

const fn split(id: SubjectId) -> (usize, usize) {
    (
        (id >> BLOCK_BITS) as usize,
        id as usize & (BLOCK_ENTRIES - 1),
    )
}

impl Entries {
    pub(super) fn get(&self, id: SubjectId) -> Option<&Entry> {
        let (block, index) = split(id);
        self.blocks.get(block)?.get(index)
    }

    pub(super) fn get_mut(&mut self, id: SubjectId) -> Option<&mut Entry> {
        let (block, index) = split(id);
        self.blocks.get_mut(block)?.get_mut(index)
    }

    /// Adds an entry and gives its number.
    pub(super) fn push(&mut self, entry: Entry) -> SubjectId {
        let full = |block: &Vec<Entry>| block.len() >= BLOCK_ENTRIES;
        if self.blocks.last().is_none_or(full) {
            let room = if self.blocks.is_empty() {
                4
            } else {
                BLOCK_ENTRIES
            };
            self.blocks.push(Vec::with_capacity(room));
        }
        let block = self.blocks.len() - 1;
        let Some(entries) = self.blocks.last_mut() else {
            return SubjectId::MAX;
        };
        entries.push(entry);
        (block << BLOCK_BITS) as SubjectId + (entries.len() - 1) as SubjectId
    }

    /// Heap bytes.
    pub(super) fn memory(&self) -> usize {
        let later = self.blocks.len().saturating_sub(1) * BLOCK_ENTRIES;
        let first = self.blocks.first().map_or(0, Vec::capacity);
        self.blocks.capacity() * size_of::<Vec<Entry>>() + (first + later) * size_of::<Entry>()
    }

    /// Frees about so many entries; true when none is left.
    pub(super) fn free(&mut self, entries: usize) -> bool {
        let left = self.blocks.len();
        let less = left.saturating_sub(entries.div_ceil(BLOCK_ENTRIES));
        self.blocks.truncate(less);
        self.blocks.is_empty()
    }
}
