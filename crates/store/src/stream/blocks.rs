//! Blocks read from segments and journal files, kept for the next reader: least recently used ones
//! go first, those nobody has used yet last.

use super::io::Source;
use bytes::Bytes;
use std::collections::BTreeMap;

/// How far before its end a block may begin and still be looked at for a record.
const MAX_LOOK_BACK: usize = 4;
/// Blocks that nobody has used yet are kept above the budget up to this number.
const MAX_FRESH: usize = 64;

/// The cache of one store.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    blocks: BTreeMap<(Source, u64), Block>,
    /// Use number to block, oldest first; fresh blocks are not in it.
    by_use: BTreeMap<u64, (Source, u64)>,
    fresh: BTreeMap<u64, (Source, u64)>,
    uses: u64,
    bytes: u64,
    /// Where the last block read begins and ends.
    last: Option<(Source, u64, u64)>,
}

#[derive(Debug)]
struct Block {
    data: Bytes,
    used: u64,
    fresh: bool,
}

impl Blocks {
    /// The bytes from `offset` on, if one block has them all.
    pub(super) fn find(&mut self, source: Source, offset: u64, length: u64) -> Option<Bytes> {
        let candidates = self
            .blocks
            .range(..=(source, offset))
            .rev()
            .take(MAX_LOOK_BACK);
        let (key, from) = candidates
            .take_while(|((other, _), _)| *other == source)
            .find_map(|(key, block)| {
                let from = offset - key.1;
                (from + length <= block.data.len() as u64).then_some((*key, from))
            })?;
        self.touch(key);
        let data = &self.blocks.get(&key)?.data;
        Some(data.slice(from as usize..(from + length) as usize))
    }

    /// Keeps a block.
    pub(super) fn insert(&mut self, source: Source, start: u64, data: Bytes, budget: u64) {
        let key = (source, start);
        self.remove(key);
        self.last = Some((source, start, start + data.len() as u64));
        self.bytes += data.len() as u64;
        self.uses += 1;
        self.fresh.insert(self.uses, key);
        self.blocks.insert(
            key,
            Block {
                data,
                used: self.uses,
                fresh: true,
            },
        );
        self.shrink(budget);
    }

    /// Whether a read at `offset` goes on where the last one ended.
    pub(super) fn is_sequential(&self, source: Source, offset: u64, near: u64) -> bool {
        self.last.is_some_and(|(last, start, end)| {
            if last == source {
                offset >= start && offset <= end.saturating_add(near)
            } else {
                offset < near
            }
        })
    }

    /// Forgets all blocks of a file.
    pub(super) fn forget(&mut self, source: Source) {
        let keys: Vec<_> = self
            .blocks
            .range((source, 0)..=(source, u64::MAX))
            .map(|(key, _)| *key)
            .collect();
        keys.into_iter().for_each(|key| self.remove(key));
    }

    /// Lets go of blocks until the budget holds.
    pub(super) fn shrink(&mut self, budget: u64) {
        while self.bytes > budget {
            let oldest = self.by_use.first_key_value();
            let oldest = oldest.or_else(|| {
                (self.fresh.len() > MAX_FRESH)
                    .then(|| self.fresh.first_key_value())
                    .flatten()
            });
            let Some((_, key)) = oldest else {
                return;
            };
            let key = *key;
            self.remove(key);
        }
    }

    /// Lets go of up to `blocks` blocks, unread ones too, until only `keep_bytes` are held: for a
    /// store that had nothing to do for a while, whose readers are gone.
    pub(super) fn release(&mut self, keep_bytes: u64, blocks: usize) {
        for _ in 0..blocks {
            let oldest = self.by_use.first_key_value();
            let oldest = oldest.or_else(|| self.fresh.first_key_value());
            let Some((_, key)) = oldest.filter(|_| self.bytes > keep_bytes) else {
                return;
            };
            let key = *key;
            self.remove(key);
        }
    }

    /// Bytes held.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    fn touch(&mut self, key: (Source, u64)) {
        let Some(block) = self.blocks.get_mut(&key) else {
            return;
        };
        let list = if block.fresh {
            &mut self.fresh
        } else {
            &mut self.by_use
        };
        list.remove(&block.used);
        self.uses += 1;
        block.used = self.uses;
        block.fresh = false;
        self.by_use.insert(self.uses, key);
    }

    fn remove(&mut self, key: (Source, u64)) {
        if let Some(block) = self.blocks.remove(&key) {
            let list = if block.fresh {
                &mut self.fresh
            } else {
                &mut self.by_use
            };
            list.remove(&block.used);
            self.bytes -= block.data.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_block_goes_and_unread_ones_stay() {
        let mut blocks = Blocks::default();
        let data = |byte: u8| Bytes::from(vec![byte; 100]);
        for start in [0, 100, 200] {
            blocks.insert(Source::Segment(1), start, data(start as u8), 250);
            assert!(blocks.find(Source::Segment(1), start, 100).is_some());
        }
        assert_eq!(blocks.find(Source::Segment(1), 0, 10), None);
        assert_eq!(blocks.find(Source::Segment(1), 150, 60), None);
        assert_eq!(
            blocks.find(Source::Segment(1), 210, 10),
            Some(Bytes::from(vec![200; 10]))
        );
        blocks.insert(Source::Journal(1), 0, data(7), 50);
        assert_eq!(blocks.bytes(), 100);
        assert!(blocks.find(Source::Journal(1), 5, 5).is_some());
        blocks.forget(Source::Journal(1));
        assert_eq!(blocks.bytes(), 0);
    }
}
