//! The bytes that wait to be written to one connection: a queue of chunks, empty when idle.
//! Limits (`max_pending`, deadlines) are the business of the session; writing is the host's.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

use crate::limits::{OUTBOUND_CHUNK_MAX, OUTBOUND_CHUNK_MIN};

/// Outbound bytes of one connection, in the order in which they leave.
///
/// Small messages are copied into chunks that grow from 1 KiB to 64 KiB; big payloads are
/// shared. Nothing is held while the queue is empty.
#[derive(Debug, Default)]
pub struct Outbound {
    /// Complete chunks; the first may be partly written.
    sealed: VecDeque<Bytes>,
    /// The chunk that is being filled. Its capacity is never exceeded, so it never moves.
    open: Vec<u8>,
    /// Bytes of the first chunk (or of `open`) that are already written.
    written_of_first: usize,
    pending: usize,
    written_total: u64,
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
        self.sealed.len() + usize::from(!self.open.is_empty())
    }

    /// Makes room so that the next `additional` bytes land in one chunk where that is sensible.
    pub(crate) fn reserve(&mut self, additional: usize) {
        if self.open.capacity() - self.open.len() >= additional {
            return;
        }
        self.seal();
        let wanted = self.pending.clamp(OUTBOUND_CHUNK_MIN, OUTBOUND_CHUNK_MAX);
        self.open = Vec::with_capacity(wanted.max(additional.min(OUTBOUND_CHUNK_MAX)));
    }

    /// Appends a copy of `bytes`.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        loop {
            let room = self.open.capacity() - self.open.len();
            if rest.len() <= room {
                self.open.extend_from_slice(rest);
                self.pending += rest.len();
                return;
            }
            let (now, later) = rest.split_at(room);
            self.open.extend_from_slice(now);
            self.pending += now.len();
            rest = later;
            self.reserve(rest.len());
        }
    }

    /// Appends copies of all `parts`; one check for room, in the common case.
    pub(crate) fn push_parts<const N: usize>(&mut self, parts: [&[u8]; N]) {
        let total = parts.iter().map(|part| part.len()).sum();
        self.reserve(total);
        if total > self.open.capacity() - self.open.len() {
            parts.iter().for_each(|part| self.push(part));
            return;
        }
        for part in parts {
            self.open.extend_from_slice(part);
        }
        self.pending += total;
    }

    /// Appends `bytes` without copying them.
    pub(crate) fn push_shared(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.seal();
        self.pending += bytes.len();
        self.sealed.push_back(bytes);
    }

    /// Fills `slices` with what waits, in order; returns how many were filled.
    pub fn io_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let mut skip = self.written_of_first;
        let chunks = self.sealed.iter().map(|chunk| &chunk[..]);
        for chunk in chunks.chain(std::iter::once(&self.open[..])) {
            let rest = &chunk[skip.min(chunk.len())..];
            skip = 0;
            if rest.is_empty() {
                continue;
            }
            let Some(slot) = slices.get_mut(filled) else {
                break;
            };
            *slot = IoSlice::new(rest);
            filled += 1;
        }
        filled
    }

    /// Forgets the first `count` bytes, which are written. Counts beyond what waits are capped.
    pub fn consumed(&mut self, count: usize) {
        let mut left = count.min(self.pending);
        self.pending -= left;
        self.written_total += left as u64;
        while left > 0 {
            let Some(first) = self.sealed.front() else {
                self.written_of_first += left;
                break;
            };
            let rest = first.len() - self.written_of_first;
            if left < rest {
                self.written_of_first += left;
                break;
            }
            left -= rest;
            self.written_of_first = 0;
            self.sealed.pop_front();
        }
        if self.pending == 0 {
            self.clear();
        }
    }

    /// Throws away everything that waits (a slow consumer is cut without a flush).
    pub(crate) fn clear(&mut self) {
        self.sealed = VecDeque::new();
        self.open = Vec::new();
        self.written_of_first = 0;
        self.pending = 0;
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.sealed
                .push_back(Bytes::from(std::mem::take(&mut self.open)));
        }
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

    #[test]
    fn bytes_leave_in_order_across_chunks_and_shared_payloads() {
        let mut outbound = Outbound::default();
        let mut expected = Vec::new();
        for round in 0..200_usize {
            let piece: Vec<u8> = (0..round * 7).map(|value| (value + round) as u8).collect();
            if round % 9 == 0 {
                outbound.push_shared(Bytes::from(piece.clone()));
            } else {
                outbound.push(&piece);
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
        outbound.push(&[1; 100_000]);
        outbound.consumed(100_000);
        assert_eq!(
            (outbound.open.capacity(), outbound.sealed.capacity()),
            (0, 0)
        );
    }

    #[test]
    fn writing_while_the_open_chunk_is_partly_written_keeps_order() {
        let mut outbound = Outbound::default();
        outbound.push(b"hello ");
        outbound.consumed(3);
        outbound.push(b"world");
        assert_eq!(contents(&outbound), b"lo world");
        outbound.reserve(5000);
        outbound.push(&[b'x'; 5000]);
        outbound.consumed(8);
        assert_eq!(contents(&outbound), vec![b'x'; 5000]);
    }
}
