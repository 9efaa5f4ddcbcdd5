//! Checkpoints before anybody asks for them: of a stream that came to rest, and of one whose tail
//! would become so long that its end or its replay takes seconds. The journal asks by itself only
//! when it outgrows its budget.

use millrace_clock::Now;

use super::Stream;
use crate::shared::Turn;

/// A tail of so many messages is moved to segments however busy the stream is: each costs
/// bookkeeping in memory (64 bytes) and time in a replay (some 0.4 µs).
const TAIL_MESSAGES_MAX: u64 = 1 << 20;
/// A smaller tail, in bytes of messages, is worth no segment of its own while there is room in the
/// journal: ten thousand streams that rest are left alone.
const RESTING_TAIL_BYTES: u64 = 1 << 20;
/// A stream rests when nothing changed it for this long.
const REST_NS: u64 = 1_000_000_000;

/// What was tried.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Monotonic time of the last entry that changed something.
    changed_ns: u64,
    /// The log index at the last attempt: one that failed is not repeated before there is more.
    tried_index: u64,
    tried_ns: u64,
}

impl Ahead {
    pub(super) const fn changed(&mut self, now_ns: u64) {
        self.changed_ns = now_ns;
    }
}

impl Stream {
    /// Monotonic time at which a checkpoint is due that nobody asked for.
    pub(super) fn ahead_deadline(&self) -> Option<u64> {
        let long = self.store.tail_messages() >= TAIL_MESSAGES_MAX;
        if !long && self.store.tail_bytes() < RESTING_TAIL_BYTES {
            return None;
        }
        let ahead = &self.ahead;
        let is_new = ahead.tried_index < self.applied_index;
        let is_busy = self.is_starting() || self.restoring || self.is_checkpointing();
        if !is_new || is_busy || !self.lacks_checkpoint() {
            return None;
        }
        let rested_ns = ahead.changed_ns.saturating_add(REST_NS);
        let pause_ns = ahead.tried_ns.saturating_add(REST_NS);
        Some(if long {
            pause_ns.min(rested_ns)
        } else {
            rested_ns
        })
    }

    /// As [`Self::want_checkpoint`], for a reason that is no need: not again right after it failed, for
    /// want of room most likely.
    pub(super) fn want_checkpoint_at_leisure(&mut self, turn: &mut Turn<'_>) {
        if turn.now.monotonic_ns >= self.ahead.tried_ns.saturating_add(REST_NS) {
            self.want_checkpoint(turn);
        }
    }

    /// Messages could not be moved.
    pub(super) const fn note_tried(&mut self, now: Now) {
        self.ahead.tried_ns = now.monotonic_ns;
    }

    /// Begins a checkpoint if one is due.
    pub(super) fn checkpoint_ahead(&mut self, turn: &mut Turn<'_>) {
        let now_ns = turn.now.monotonic_ns;
        if self.ahead_deadline().is_some_and(|due_ns| due_ns <= now_ns) {
            self.ahead.tried_index = self.applied_index;
            self.ahead.tried_ns = now_ns;
            // On a full disk the journal says what is worth the last room.
            if !turn.shared.disk_full {
                self.want_checkpoint(turn);
            }
        }
    }
}
