//! Blocks read from segments and journal files, kept for the next reader: least recently used ones
//! go first, those nobody has used yet last.

use super::io::Source;
use bytes::Bytes;
use std::collections::BTreeMap;

/// How far before its end a block may begin and still be looked at for a record.
const MAX_LOOK_BACK: usize = 4;
/// Blocks that nobody has used yet are kept above the budget up to this number.
const MAX_FRESH: usize = 64;

/// Bytes out of a block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) bytes: Bytes,
    /// The end of the block, when a reader in order begins with it: what follows may be read now.
    pub(super) begun: Option<u64>,
}

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
    /// Where what was read with it ends in the file: for packs that is not where `data` ends.
    end: u64,
    /// Read for somebody who goes through the file in order.
    in_order: bool,
    used: u64,
    fresh: bool,
}

impl Blocks {
    /// The bytes from `offset` on, if one block has them all.
    pub(super) fn find(&mut self, source: Source, offset: u64, length: u64) -> Option<Found> {
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
        let (data, begun) = self.take(key)?;
        Some(Found {
            bytes: data.slice(from as usize..(from + length) as usize),
            begun,
        })
    }

    /// The content of the pack that begins at `offset`.
    pub(super) fn find_pack(&mut self, source: Source, offset: u64) -> Option<Found> {
        let (bytes, begun) = self.take((source, offset))?;
        Some(Found { bytes, begun })
    }

    /// Uses a block; with its end if a reader in order begins with it.
    fn take(&mut self, key: (Source, u64)) -> Option<(Bytes, Option<u64>)> {
        let is_fresh = self.touch(key);
        let block = self.blocks.get(&key)?;
        let begun = (is_fresh && block.in_order).then_some(block.end);
        Some((block.data.clone(), begun))
    }

    /// Whether one block has all these bytes. Not a use of it.
    pub(super) fn has(&self, source: Source, offset: u64, length: u64) -> bool {
        let before = self.blocks.range((source, 0)..=(source, offset)).rev();
        before
            .take(MAX_LOOK_BACK)
            .any(|(_, block)| offset + length <= block.end)
    }

    /// Keeps a block.
    pub(super) fn insert(
        &mut self,
        (source, start): (Source, u64),
        data: Bytes,
        in_order: bool,
        budget: u64,
    ) {
        let end = start + data.len() as u64;
        self.last = Some((source, start, end));
        self.keep((source, start), data, end, in_order);
        self.shrink(budget);
    }

    /// Keeps the contents of packs that were read at once, from where the first begins up to `end`.
    pub(super) fn insert_packs(
        &mut self,
        source: Source,
        packs: Vec<(u64, Bytes)>,
        end: u64,
        in_order: bool,
        budget: u64,
    ) {
        let first = packs.first().map(|(start, _)| *start);
        self.last = first.map(|start| (source, start, end));
        for (start, data) in packs {
            self.keep((source, start), data, end, in_order && first == Some(start));
        }
        self.shrink(budget);
    }

    fn keep(&mut self, key: (Source, u64), data: Bytes, end: u64, in_order: bool) {
        self.remove(key);
        self.bytes += data.len() as u64;
        self.uses += 1;
        self.fresh.insert(self.uses, key);
        self.blocks.insert(
            key,
            Block {
                data,
                end,
                in_order,
                used: self.uses,
                fresh: true,
            },
        );
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

    /// Notes a use; true for the first one.
    fn touch(&mut self, key: (Source, u64)) -> bool {
        let Some(block) = self.blocks.get_mut(&key) else {
            return false;
        };
        let is_fresh = block.fresh;
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
        is_fresh
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
            blocks.insert((Source::Segment(1), start), data(start as u8), false, 250);
            assert!(blocks.find(Source::Segment(1), start, 100).is_some());
        }
        assert_eq!(blocks.find(Source::Segment(1), 0, 10), None);
        assert_eq!(blocks.find(Source::Segment(1), 150, 60), None);
        let found = Found {
            bytes: Bytes::from(vec![200; 10]),
            begun: None,
        };
        assert_eq!(blocks.find(Source::Segment(1), 210, 10), Some(found));
        blocks.insert((Source::Journal(1), 0), data(7), false, 50);
        assert_eq!(blocks.bytes(), 100);
        assert!(blocks.find(Source::Journal(1), 5, 5).is_some());
        blocks.forget(Source::Journal(1));
        assert_eq!(blocks.bytes(), 0);
    }

    #[test]
    fn the_first_use_of_a_block_read_in_order_says_where_it_ends() {
        let mut blocks = Blocks::default();
        let source = Source::Segment(1);
        let data = Bytes::from(vec![0; 100]);
        blocks.insert((source, 50), data.clone(), true, 1000);
        blocks.insert((source, 150), data, false, 1000);
        assert!(blocks.has(source, 60, 90) && !blocks.has(source, 60, 91));
        let mut begun = |offset| {
            blocks
                .find(source, offset, 10)
                .and_then(|found| found.begun)
        };
        assert_eq!(
            (begun(60), begun(70), begun(150)),
            (Some(150), None, None),
            "told once, and only for a block that was read in order"
        );
    }
}
