//! The bytes that wait to be written to one connection: a queue of chunks, empty when idle.
//! Limits (`max_pending`, deadlines) are the business of the session; writing is the host's.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

use crate::chunks::ChunkPool;

/// Outbound bytes of one connection, in the order in which they leave.
///
/// Control lines and small payloads are copied into chunks that grow from 1 KiB to 64 KiB; larger
/// payloads are shared and only noted with the place in the copied bytes that they stand at, so
/// that lines of many messages lie in one chunk. Nothing is held while the queue is empty.
#[derive(Debug, Default)]
pub struct Outbound {
    /// Full chunks; of the first (or of `open`) some bytes may be written.
    full: VecDeque<Vec<u8>>,
    /// The chunk that is being filled. Its capacity is never exceeded, so it never moves.
    open: Vec<u8>,
    /// Bytes of the first chunk that are written.
    written_of_chunk: usize,
    /// Copied bytes written, and queued, since the queue was last empty.
    copied_written: u64,
    copied_total: u64,
    shared: VecDeque<Shared>,
    /// Bytes of the first shared payload that are written.
    written_of_shared: usize,
    pending: usize,
    written_total: u64,
}

#[derive(Debug)]
struct Shared {
    /// How many copied bytes leave before it.
    at: u64,
    bytes: Bytes,
}

impl Outbound {
    /// Bytes not yet written.
    #[must_use]
    pub const fn pending(&self) -> usize {
        self.pending
    }

    /// Whether nothing waits to be written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pending == 0
    }

    /// Bytes written since the connection was accepted.
    #[must_use]
    pub const fn written_total(&self) -> u64 {
        self.written_total
    }

    /// Number of slices that [`Self::io_slices`] can fill at most.
    #[must_use]
    pub fn chunk_count(&self) -> usize {
        // A shared payload can part one chunk in two.
        self.full.len() + usize::from(!self.open.is_empty()) + 2 * self.shared.len()
    }

    /// A chunk with room for `additional` bytes if that is no more than a chunk holds.
    fn reserve(&mut self, additional: usize, chunks: &mut ChunkPool) {
        if self.open.capacity() - self.open.len() >= additional {
            return;
        }
        let next = chunks.take(self.pending, additional);
        let filled = std::mem::replace(&mut self.open, next);
        if !filled.is_empty() {
            self.full.push_back(filled);
        }
    }

    /// Appends a copy of `bytes`.
    pub(crate) fn push(&mut self, bytes: &[u8], chunks: &mut ChunkPool) {
        let mut rest = bytes;
        loop {
            let room = self.open.capacity() - self.open.len();
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.open.extend_from_slice(now);
            self.count_copied(now.len());
            if later.is_empty() {
                return;
            }
            rest = later;
            self.reserve(rest.len(), chunks);
        }
    }

    /// Appends copies of all `parts`; one check for room, in the common case.
    #[inline]
    pub(crate) fn push_parts<const N: usize>(&mut self, parts: [&[u8]; N], chunks: &mut ChunkPool) {
        let total = parts.iter().map(|part| part.len()).sum();
        if total > self.open.capacity() - self.open.len() {
            self.reserve(total, chunks);
            if total > self.open.capacity() {
                parts.iter().for_each(|part| self.push(part, chunks));
                return;
            }
        }
        for part in parts {
            self.open.extend_from_slice(part);
        }
        self.count_copied(total);
    }

    const fn count_copied(&mut self, count: usize) {
        self.copied_total += count as u64;
        self.pending += count;
    }

    /// Appends `bytes` without copying them.
    pub(crate) fn push_shared(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.pending += bytes.len();
        self.shared.push_back(Shared {
            at: self.copied_total,
            bytes,
        });
    }

    /// Fills `slices` with what waits, in order; returns how many were filled.
    pub fn io_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut slots = slices.iter_mut();
        let mut filled = 0;
        let mut fill = |bytes: &'a [u8]| {
            let slot = slots.next();
            filled += usize::from(slot.is_some());
            slot.map(|slot| *slot = IoSlice::new(bytes)).is_some()
        };
        let mut chunks = self
            .full
            .iter()
            .map(Vec::as_slice)
            .chain(std::iter::once(self.open.as_slice()));
        let mut chunk = chunks
            .next()
            .and_then(|first| first.get(self.written_of_chunk..))
            .unwrap_or_default();
        let mut at = self.copied_written;
        let mut skip = self.written_of_shared;
        let ends = self
            .shared
            .iter()
            .map(|shared| (shared.at, &shared.bytes[..]));
        for (end, payload) in ends.chain(std::iter::once((self.copied_total, &[][..]))) {
            while at < end {
                if chunk.is_empty() {
                    chunk = chunks.next().unwrap_or_default();
                }
                let length = chunk
                    .len()
                    .min(usize::try_from(end - at).unwrap_or(usize::MAX));
                let (now, later) = chunk.split_at(length);
                if length == 0 || !fill(now) {
                    return filled;
                }
                chunk = later;
                at += length as u64;
            }
            let rest = payload.get(skip..).unwrap_or_default();
            skip = 0;
            if !rest.is_empty() && !fill(rest) {
                return filled;
            }
        }
        filled
    }

    /// Forgets the first `count` bytes, which are written. Counts beyond what waits are capped.
    pub fn consumed(&mut self, count: usize) {
        self.consumed_into(count, &mut ChunkPool::default());
    }

    /// Moves all that waits to the end of `bytes`: for those who have no socket to write it to.
    pub fn take_into(&mut self, bytes: &mut Vec<u8>) {
        /// Slices looked at in one round.
        const SLICES: usize = 16;
        while !self.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = self.io_slices(&mut slices);
            let before = bytes.len();
            slices[..filled]
                .iter()
                .for_each(|slice| bytes.extend_from_slice(slice));
            self.consumed(bytes.len() - before);
        }
    }

    /// As [`Self::consumed`]; chunks that are done with go to `chunks`.
    pub(crate) fn consumed_into(&mut self, count: usize, chunks: &mut ChunkPool) {
        let mut left = count.min(self.pending);
        self.pending -= left;
        self.written_total += left as u64;
        if self.pending == 0 {
            self.full.drain(..).for_each(|chunk| chunks.give(chunk));
            chunks.give(std::mem::take(&mut self.open));
            self.clear();
            return;
        }
        while left > 0 {
            let before_shared = self
                .shared
                .front()
                .map_or(self.copied_total, |shared| shared.at)
                - self.copied_written;
            left -= if before_shared > 0 {
                let most = usize::try_from(before_shared).unwrap_or(usize::MAX);
                self.consume_copied(left.min(most), chunks)
            } else {
                self.consume_shared(left)
            };
        }
    }

    /// Some of `most` copied bytes are written; says how many.
    fn consume_copied(&mut self, most: usize, chunks: &mut ChunkPool) -> usize {
        let first = self.full.front().map_or(self.open.len(), Vec::len);
        let rest = first - self.written_of_chunk;
        let count = most.min(rest);
        self.copied_written += count as u64;
        self.written_of_chunk += count;
        if count == rest
            && let Some(chunk) = self.full.pop_front()
        {
            self.written_of_chunk = 0;
            chunks.give(chunk);
        }
        count
    }

    /// Some of `most` bytes of a shared payload are written; says how many.
    fn consume_shared(&mut self, most: usize) -> usize {
        let Some(first) = self.shared.front() else {
            return most;
        };
        let rest = first.bytes.len() - self.written_of_shared;
        let count = most.min(rest);
        self.written_of_shared += count;
        if count == rest {
            self.shared.pop_front();
            self.written_of_shared = 0;
        }
        count
    }

    /// Throws away everything that waits (a slow consumer is cut without a flush).
    pub(crate) fn clear(&mut self) {
        *self = Self {
            written_total: self.written_total,
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(outbound: &Outbound) -> Vec<u8> {
        let mut slices = vec![IoSlice::new(&[]); outbound.chunk_count()];
        let filled = outbound.io_slices(&mut slices);
        slices[..filled]
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect()
    }

    fn chunks() -> ChunkPool {
        ChunkPool::default()
    }

    #[test]
    fn bytes_leave_in_order_across_chunks_and_shared_payloads() {
        let mut outbound = Outbound::default();
        let mut expected = Vec::new();
        for round in 0..200_usize {
            let piece: Vec<u8> = (0..round * 7).map(|value| (value + round) as u8).collect();
            if round % 9 == 0 {
                outbound.push_shared(Bytes::from(piece.clone()));
            } else {
                outbound.push(&piece, &mut chunks());
            }
            expected.extend_from_slice(&piece);
        }
        assert_eq!(outbound.pending(), expected.len());
        assert_eq!(contents(&outbound), expected);
        let mut taken = 0;
        while !outbound.is_empty() {
            let step = (taken % 997 + 1).min(outbound.pending());
            outbound.consumed(step);
            taken += step;
            assert_eq!(contents(&outbound), expected[taken..]);
        }
        assert_eq!(outbound.written_total(), expected.len() as u64);
    }

    #[test]
    fn an_empty_queue_holds_no_memory() {
        let mut outbound = Outbound::default();
        outbound.push(&[1; 100_000], &mut chunks());
        outbound.consumed(100_000);
        assert_eq!((outbound.open.capacity(), outbound.full.capacity()), (0, 0));
    }

    #[test]
    fn writing_while_the_open_chunk_is_partly_written_keeps_order() {
        let mut outbound = Outbound::default();
        outbound.push(b"hello ", &mut chunks());
        outbound.consumed(3);
        outbound.push(b"world", &mut chunks());
        assert_eq!(contents(&outbound), b"lo world");
        outbound.reserve(5000, &mut chunks());
        outbound.push(&[b'x'; 5000], &mut chunks());
        outbound.consumed(8);
        assert_eq!(contents(&outbound), vec![b'x'; 5000]);
    }

    #[test]
    fn a_partly_written_queue_goes_on_where_it_stopped() {
        let mut outbound = Outbound::default();
        outbound.push(b"line", &mut chunks());
        outbound.push_shared(Bytes::from_static(b"payload"));
        outbound.push(b"\r\n", &mut chunks());
        for (written, left) in [
            (2, &b"nepayload\r\n"[..]),
            (4, b"yload\r\n"),
            (6, b"\n"),
            (1, b""),
        ] {
            outbound.consumed(written);
            assert_eq!(contents(&outbound), left);
        }
        assert!(outbound.is_empty());
    }

    #[test]
    fn lines_between_shared_payloads_fill_one_chunk() {
        let mut outbound = Outbound::default();
        let mut chunks = chunks();
        for _ in 0..20 {
            outbound.push_parts([b"MSG a 1 5", b"\r\n"], &mut chunks);
            outbound.push_shared(Bytes::from_static(b"bytes"));
            outbound.push(b"\r\n", &mut chunks);
        }
        assert_eq!((outbound.full.len(), outbound.shared.len()), (0, 20));
        assert_eq!(contents(&outbound), b"MSG a 1 5\r\nbytes\r\n".repeat(20));
    }

    #[test]
    fn written_chunks_are_used_again_and_few_are_kept() {
        let mut pool = chunks();
        let mut outbound = Outbound::default();
        for _ in 0..3 {
            let size = (crate::limits::FREE_CHUNKS_MAX + 10) * crate::limits::OUTBOUND_CHUNK_MAX;
            outbound.push(&vec![7; size], &mut pool);
            assert!(pool.free_count() <= 1);
            outbound.consumed_into(size, &mut pool);
            assert_eq!(pool.free_count(), crate::limits::FREE_CHUNKS_MAX);
        }
    }
}
