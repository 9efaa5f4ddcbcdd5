//! Giving memory back when the server rests: read blocks, outbound chunks and the memory of big payloads
//! are kept while much is moving, because fresh pages are slow, and are of no use afterwards.

use crate::event_loop::EventLoop;
use crate::limits::{BUSY_TURN_BYTES, READ_BUFFER_MIN, REST_NS};
use bytes::BytesMut;
use millrace_clock::Now;

/// When something large was moved last.
#[derive(Debug, Default)]
pub(crate) struct Resting {
    /// Monotonic time of the last turn that read much.
    busy_ns: u64,
    /// Something is kept, to be given back when the time has come.
    keeps: bool,
}

impl Resting {
    /// Monotonic time at which there is something to be given back.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.keeps.then(|| self.busy_ns.saturating_add(REST_NS))
    }
}

impl EventLoop {
    /// Ends a turn that read so many bytes.
    pub(crate) fn rest(&mut self, now: Now, read_bytes: usize) {
        if read_bytes >= BUSY_TURN_BYTES {
            self.resting.busy_ns = now.monotonic_ns;
        }
        self.resting.keeps = self.read_block.len() > READ_BUFFER_MIN
            || !self.read_blocks.is_empty()
            || self.node.broker().has_spare_memory();
        if self
            .resting
            .deadline()
            .is_some_and(|due_ns| due_ns <= now.monotonic_ns)
        {
            self.read_block = BytesMut::zeroed(READ_BUFFER_MIN);
            self.read_blocks.release();
            self.plain_buffer = Vec::new();
            self.node.broker().release_spare_memory();
            // What slow readers still hold is looked at again later.
            self.resting.busy_ns = now.monotonic_ns;
            self.resting.keeps = !self.read_blocks.is_empty();
        }
    }
}
