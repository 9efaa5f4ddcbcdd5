//! The chunks that outbound queues are filled in: small ones from the allocator, big ones from a
//! bounded list of those written before, so that a busy server touches the same memory again
//! instead of fresh pages. What stands in a chunk is `outbound.rs`'s business.

use crate::limits::{FREE_CHUNKS_MAX, OUTBOUND_CHUNK_MAX, OUTBOUND_CHUNK_MIN};

/// How much more than what already waits the next chunk holds: few chunks, little slack.
const GROWTH: usize = 8;

/// Empty chunks of the greatest size, kept for the next queue that needs one.
#[derive(Debug, Default)]
pub(crate) struct ChunkPool {
    free: Vec<Vec<u8>>,
}

impl ChunkPool {
    /// An empty chunk for a queue in which `pending` bytes wait, with room for `least` bytes as
    /// long as that is no more than the greatest chunk.
    pub(crate) fn take(&mut self, pending: usize, least: usize) -> Vec<u8> {
        let wanted = pending
            .saturating_mul(GROWTH)
            .max(least)
            .clamp(OUTBOUND_CHUNK_MIN, OUTBOUND_CHUNK_MAX);
        if wanted > OUTBOUND_CHUNK_MAX / 2 {
            let fresh = || Vec::with_capacity(OUTBOUND_CHUNK_MAX);
            self.free.pop().unwrap_or_else(fresh)
        } else {
            Vec::with_capacity(wanted)
        }
    }

    /// Takes a chunk back that nobody needs any more.
    pub(crate) fn give(&mut self, mut chunk: Vec<u8>) {
        if chunk.capacity() >= OUTBOUND_CHUNK_MAX && self.free.len() < FREE_CHUNKS_MAX {
            chunk.clear();
            self.free.push(chunk);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.free.is_empty()
    }

    /// Lets go of all of them.
    pub(crate) fn release(&mut self) {
        self.free = Vec::new();
    }

    #[cfg(test)]
    pub(crate) fn free_count(&self) -> usize {
        self.free.len()
    }
}
