//! The way of a snapshot to its receiver: bytes cut into chunks, so many of them under way without
//! an acknowledgement, and how long one waits for those.

use bytes::{Bytes, BytesMut};

const CHUNK_BYTES_DEFAULT: i64 = 128 << 10;
const CHUNK_BYTES_MAX: i64 = 1 << 20;
const WINDOW_BYTES_DEFAULT: i64 = 8 << 20;
const WINDOW_BYTES_MAX: i64 = 32 << 20;
/// Neither chunk nor window is smaller.
const BYTES_MIN: i64 = 1 << 10;

/// Chunks of a snapshot.
#[derive(Debug)]
pub(super) struct Window {
    buffer: BytesMut,
    chunk_bytes: usize,
    /// Most chunks without an acknowledgement.
    chunks_max: u64,
    sent: u64,
    acknowledged: u64,
}

impl Window {
    /// As a request asks for it: zero and less mean the default.
    pub(super) fn new(chunk_size: i64, window_size: i64) -> Self {
        let limited = |asked: i64, default: i64, max: i64| {
            if asked <= 0 {
                default
            } else {
                asked.clamp(BYTES_MIN, max)
            }
        };
        let chunk = limited(chunk_size, CHUNK_BYTES_DEFAULT, CHUNK_BYTES_MAX);
        let window = limited(window_size, WINDOW_BYTES_DEFAULT, WINDOW_BYTES_MAX).max(chunk);
        Self {
            buffer: BytesMut::new(),
            // Both are between the limits above.
            chunk_bytes: usize::try_from(chunk).unwrap_or(usize::MAX),
            chunks_max: (window / chunk).cast_unsigned(),
            sent: 0,
            acknowledged: 0,
        }
    }

    pub(super) fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// Enough is there for the chunks that may go: no more should be made.
    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() >= self.chunk_bytes
    }

    /// The receiver owes acknowledgements before another chunk may go.
    pub(super) fn is_waiting(&self) -> bool {
        self.sent - self.acknowledged >= self.chunks_max
    }

    /// The next whole chunk and its number from 1, if it may go.
    pub(super) fn next_chunk(&mut self) -> Option<(Bytes, u64)> {
        if !self.is_full() || self.is_waiting() {
            return None;
        }
        self.sent += 1;
        Some((self.buffer.split_to(self.chunk_bytes).freeze(), self.sent))
    }

    /// What is left behind the last whole chunk.
    pub(super) fn take_rest(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }

    pub(super) fn acknowledge(&mut self) {
        self.acknowledged = self.sent.min(self.acknowledged + 1);
    }

    pub(super) const fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// Whole chunks sent.
    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_kept_within_their_limits() {
        for (chunk, window, expected) in [
            (0, 0, (128 << 10, 64)),
            (5, 5, (1 << 10, 1)),
            (10_000_000, 5, (1 << 20, 1)),
            (1024, i64::MAX, (1024, 32_768)),
            (-1, 200_000, (128 << 10, 1)),
            (65_536, 200_000, (65_536, 3)),
        ] {
            let made = Window::new(chunk, window);
            assert_eq!(
                (made.chunk_bytes, made.chunks_max),
                expected,
                "{chunk} {window}"
            );
        }
    }

    #[test]
    fn a_full_window_waits_for_an_acknowledgement() {
        let mut window = Window::new(1024, 2048);
        window.push(&[7; 4000]);
        assert_eq!(window.next_chunk().map(|(_, number)| number), Some(1));
        assert_eq!(window.next_chunk().map(|(_, number)| number), Some(2));
        assert!(window.next_chunk().is_none() && window.is_waiting());
        window.acknowledge();
        assert_eq!(
            window
                .next_chunk()
                .map(|(chunk, number)| (chunk.len(), number)),
            Some((1024, 3))
        );
        assert_eq!(window.take_rest().len(), 4000 - 3 * 1024);
        for _ in 0..9 {
            window.acknowledge();
        }
        assert!(!window.is_waiting());
    }
}
