//! Blocks of memory that bytes from sockets are read into and that leave as shared slices. A block
//! is used again once the last slice of it is gone; what is kept for that is bounded.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Blocks that are looked at when one is asked for: the oldest ones are the likeliest to be free.
const LOOKED_AT: usize = 4;
/// Sizes are multiples of this many bytes, so that blocks of about one size fit each other.
const GRAIN_BYTES: usize = 4 * 1024;
/// A block is used for what needs at least this share of it, in quarters.
const USED_QUARTERS: usize = 3;

/// Blocks that were lent out as [`Bytes`], in the order in which they came back.
#[derive(Debug)]
pub struct BlockPool {
    blocks: VecDeque<Bytes>,
    held_bytes: usize,
    limit_bytes: usize,
}

impl BlockPool {
    /// A pool that holds on to at most `limit_bytes`.
    #[must_use]
    pub const fn new(limit_bytes: usize) -> Self {
        Self {
            blocks: VecDeque::new(),
            held_bytes: 0,
            limit_bytes,
        }
    }

    /// A block of at least `length` bytes, all of them initialised (with anything).
    pub fn take(&mut self, length: usize) -> BytesMut {
        let size = length.max(1).div_ceil(GRAIN_BYTES) * GRAIN_BYTES;
        for _ in 0..self.blocks.len().min(LOOKED_AT) {
            let Some(block) = self.blocks.pop_front() else {
                break;
            };
            self.held_bytes -= block.len();
            let fits = block.len() >= size && block.len() / 4 * USED_QUARTERS <= size;
            if !fits {
                // Another size than what is in use now: let it go when nobody reads it.
                if !block.is_unique() {
                    self.hold(block);
                }
                continue;
            }
            match block.try_into_mut() {
                Ok(block) => return block,
                Err(block) => self.hold(block),
            }
        }
        BytesMut::zeroed(size)
    }

    /// Takes a whole block back, though slices of it may still be on their way.
    pub fn give(&mut self, block: Bytes) {
        while self.held_bytes + block.len() > self.limit_bytes {
            let Some(oldest) = self.blocks.pop_front() else {
                return;
            };
            self.held_bytes -= oldest.len();
        }
        self.hold(block);
    }

    /// Whether a block of `length` bytes can be given back without letting go of another: if not,
    /// slow readers hold on to so much that what comes next should be copied.
    #[must_use]
    pub fn has_room(&self, length: usize) -> bool {
        self.held_bytes + length <= self.limit_bytes
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Lets go of what nobody reads any more. What is still on its way stays counted.
    pub fn release(&mut self) {
        self.blocks.retain(|block| !block.is_unique());
        self.blocks.shrink_to_fit();
        self.held_bytes = self.blocks.iter().map(Bytes::len).sum();
    }

    fn hold(&mut self, block: Bytes) {
        self.held_bytes += block.len();
        self.blocks.push_back(block);
    }
}

/// Copies of small messages that lie behind one another, so that few of them cost an allocation.
///
/// Whoever keeps a copy keeps what it lies in: that is little, for some keep theirs for long.
#[derive(Debug, Default)]
pub(crate) struct CopyArena {
    free: BytesMut,
}

/// What is allocated at once for copies, in bytes.
const ARENA_BYTES: usize = 8 * 1024;

impl CopyArena {
    /// A copy of all `parts`, one behind the other.
    pub(crate) fn copy<const N: usize>(&mut self, parts: [&[u8]; N]) -> Bytes {
        let length = parts.iter().map(|part| part.len()).sum();
        if length > ARENA_BYTES / 4 {
            return Bytes::from(parts.concat());
        }
        if self.free.capacity() < length {
            // Not `reserve`: it looks whether the memory can be had again, which it hardly ever can.
            self.free = BytesMut::with_capacity(ARENA_BYTES);
        }
        for part in parts {
            self.free.extend_from_slice(part);
        }
        self.free.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_share_little_memory_and_big_ones_have_their_own() {
        let mut arena = CopyArena::default();
        let copies: Vec<Bytes> = (0..200)
            .map(|number: u8| arena.copy([&[number; 60], b"-", &[number; 30]]))
            .collect();
        for (number, copy) in copies.iter().enumerate() {
            let expected = [&[number as u8; 60][..], b"-", &[number as u8; 30]].concat();
            assert_eq!(copy, &expected);
        }
        let before = arena.free.capacity();
        assert_eq!(arena.copy([&[7; ARENA_BYTES]]).len(), ARENA_BYTES);
        assert_eq!(arena.free.capacity(), before);
    }

    #[test]
    fn a_block_is_used_again_once_its_last_slice_is_gone() {
        let mut pool = BlockPool::new(4 * GRAIN_BYTES);
        let block = pool.take(1000);
        assert_eq!(block.len(), GRAIN_BYTES);
        let place = block.as_ptr();
        let shared = block.freeze();
        let slice = shared.slice(10..20);
        pool.give(shared);
        let other = pool.take(1000);
        assert_ne!(other.as_ptr(), place, "still read by somebody");
        drop(slice);
        assert_eq!(pool.take(1000).as_ptr(), place);
    }

    #[test]
    fn what_is_held_is_bounded_and_said() {
        let mut pool = BlockPool::new(2 * GRAIN_BYTES);
        let lent: Vec<Bytes> = (0..5).map(|_| pool.take(1).freeze()).collect();
        for block in &lent {
            pool.give(block.clone());
            assert!(pool.held_bytes <= 2 * GRAIN_BYTES);
        }
        assert!(!pool.has_room(1));
        drop(lent);
        let free = pool.take(1);
        assert!(pool.has_room(free.len()));
        pool.give(Bytes::from(vec![0; 3 * GRAIN_BYTES]));
        assert_eq!(pool.held_bytes, 0, "greater than all that may be held");
    }

    #[test]
    fn what_nobody_reads_is_let_go_and_the_rest_stays_counted() {
        let mut pool = BlockPool::new(8 * GRAIN_BYTES);
        let blocks = [GRAIN_BYTES, 2 * GRAIN_BYTES].map(|size| pool.take(size).freeze());
        let lent = blocks[1].slice(3..5);
        for block in blocks {
            pool.give(block);
        }
        pool.release();
        assert!(!pool.is_empty() && pool.has_room(6 * GRAIN_BYTES));
        assert!(!pool.has_room(6 * GRAIN_BYTES + 1));
        drop(lent);
        pool.release();
        assert!(pool.is_empty() && pool.has_room(8 * GRAIN_BYTES));
    }

    #[test]
    fn blocks_of_another_size_make_way() {
        let mut pool = BlockPool::new(8 * GRAIN_BYTES);
        let big = pool.take(4 * GRAIN_BYTES);
        pool.give(big.freeze());
        assert_eq!(pool.take(2 * GRAIN_BYTES).len(), 2 * GRAIN_BYTES);
        assert_eq!(pool.held_bytes, 0);
    }
}
