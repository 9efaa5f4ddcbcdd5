//! The open fast batches of one stream: how many, until when, and how many messages each may send
//! between two answers.

use std::collections::BTreeMap;

use bytes::Bytes;
use millrace_clock::Now;

use super::address::FastAddress;
use crate::publish::Refusal;
use crate::shared::Shared;

/// Longest batch id, bytes.
pub(super) const ID_BYTES_MAX: usize = 64;
/// Messages that all batches of a stream together may send between two answers.
const WINDOW_MESSAGES: u64 = 500;

/// One open batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FastBatch {
    /// Batch sequence of the last message that arrived.
    pub(super) received: u64,
    /// Up to here all is stored, skipped or known to be lost.
    done: u64,
    /// Batch sequence of the last answer, and how many more the next one covers.
    acknowledged: u64,
    pub(super) messages: u64,
    /// Most messages between two answers, as the client asked.
    flow: u64,
    pub(super) gaps_pass: bool,
    /// Stream sequence of the last message stored; 0: none.
    pub(super) last_stored: u64,
    /// Its last answer is on its way: what comes now is not looked at.
    pub(super) ending: bool,
    /// Monotonic time at which it is given up.
    deadline_ns: u64,
}

impl FastBatch {
    /// What the last answer said: sequence and messages.
    pub(super) const fn standing(&self) -> (u64, u64) {
        (self.acknowledged, self.messages)
    }

    /// All up to `sequence` is dealt with; true if an answer is due.
    fn advance(&mut self, sequence: u64) -> bool {
        self.done = self.done.max(sequence);
        let before = self.acknowledged;
        while self.done >= self.acknowledged.saturating_add(self.messages) {
            self.acknowledged += self.messages;
        }
        self.acknowledged != before
    }

    /// Moves towards its share of the window: twice as many, or half.
    fn adapt(&mut self, batches: usize) {
        let share = WINDOW_MESSAGES / (batches as u64).max(1);
        let target = self.flow.min(share).max(1);
        self.messages = if self.messages < target {
            (self.messages * 2).min(target)
        } else {
            (self.messages / 2).max(target)
        };
    }
}

/// The fast batches of one stream.
#[derive(Debug, Default)]
pub struct FastGroup {
    batches: BTreeMap<Bytes, FastBatch>,
    /// No timer fires before this time.
    quiet_until_ns: u64,
}

impl FastGroup {
    pub(super) fn get(&self, id: &[u8]) -> Option<&FastBatch> {
        self.batches.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &[u8]) -> Option<&mut FastBatch> {
        self.batches.get_mut(id)
    }

    /// Whether another batch may begin.
    ///
    /// # Errors
    /// [`Refusal::FastTooManyInflight`] when the stream or the server has too many.
    pub(super) fn check_room(&self, shared: &Shared) -> Result<(), Refusal> {
        let limits = shared.batch_limits;
        let full = self.batches.len() >= limits.fast_inflight_per_stream
            || shared.fast_in_flight >= limits.fast_inflight_total;
        if full {
            Err(Refusal::FastTooManyInflight)
        } else {
            Ok(())
        }
    }

    /// Begins a batch: counted on stream and server, its timer running.
    pub(super) fn open(&mut self, now: Now, address: &FastAddress<'_>, shared: &mut Shared) {
        let alone = self.batches.is_empty();
        let batch = FastBatch {
            received: 0,
            done: 0,
            acknowledged: 0,
            // Others share the window: it begins low.
            messages: if alone {
                address.flow.min(WINDOW_MESSAGES)
            } else {
                1
            },
            flow: address.flow,
            gaps_pass: address.gaps_pass,
            last_stored: 0,
            ending: false,
            deadline_ns: now.after_ns(shared.batch_limits.timeout_ns),
        };
        self.quiet_until_ns = if alone {
            batch.deadline_ns
        } else {
            self.quiet_until_ns.min(batch.deadline_ns)
        };
        shared.fast_in_flight += 1;
        self.batches
            .insert(Bytes::copy_from_slice(address.id), batch);
    }

    /// A message of the batch arrived: its timer begins anew.
    pub(super) fn touch(&mut self, now: Now, id: &[u8], shared: &Shared) {
        if let Some(batch) = self.batches.get_mut(id) {
            batch.deadline_ns = now.after_ns(shared.batch_limits.timeout_ns);
        }
    }

    /// All of the batch up to `sequence` is dealt with. An answer that is due: sequence and messages.
    pub(super) fn advance(&mut self, id: &[u8], sequence: u64) -> Option<(u64, u64)> {
        let batches = self.batches.len();
        let batch = self.batches.get_mut(id)?;
        if !batch.advance(sequence) {
            return None;
        }
        batch.adapt(batches);
        Some(batch.standing())
    }

    /// Forgets a batch.
    pub(super) fn close(&mut self, id: &[u8], shared: &mut Shared) {
        if self.batches.remove(id).is_some() {
            shared.fast_in_flight = shared.fast_in_flight.saturating_sub(1);
        }
    }

    /// Drops, silently, the batches that were idle for too long.
    pub(crate) fn expire(&mut self, now: Now, shared: &mut Shared) {
        // Timers only ever move on.
        if self.batches.is_empty() || now.monotonic_ns < self.quiet_until_ns {
            return;
        }
        let before = self.batches.len();
        self.batches
            .retain(|_, batch| batch.deadline_ns > now.monotonic_ns);
        let gone = before - self.batches.len();
        shared.fast_in_flight = shared.fast_in_flight.saturating_sub(gone);
        let deadlines = self.batches.values().map(|batch| batch.deadline_ns);
        self.quiet_until_ns = deadlines.min().unwrap_or(0);
    }

    /// Drops all: the stream, the lead or the feature ends.
    pub(crate) fn stop(&mut self, shared: &mut Shared) {
        let gone = std::mem::take(&mut self.batches).len();
        shared.fast_in_flight = shared.fast_in_flight.saturating_sub(gone);
    }

    /// Monotonic time at which to look for idle batches. May be early.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        (!self.batches.is_empty()).then_some(self.quiet_until_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fast::FastOperation;
    use crate::settings::{BatchLimits, Settings};

    fn address(id: &'static str, flow: u64) -> FastAddress<'static> {
        FastAddress {
            id: id.as_bytes(),
            flow,
            gaps_pass: true,
            sequence: 1,
            operation: FastOperation::Start,
        }
    }

    fn at(monotonic_ns: u64) -> Now {
        Now {
            monotonic_ns,
            wall_ns: 0,
        }
    }

    // proves: JS-FI-03
    #[test]
    fn answers_come_at_multiples_that_grow_and_shrink_with_the_number_of_batches() {
        let mut shared = Shared::new(&Settings::default());
        let mut group = FastGroup::default();
        group.open(at(0), &address("a", 400), &mut shared);
        for id in ["b", "c", "d", "e"] {
            group.open(at(0), &address(id, 10), &mut shared);
        }
        assert_eq!(group.advance(b"a", 399), None);
        assert_eq!(group.advance(b"a", 400), Some((400, 200)));
        assert_eq!(group.advance(b"a", 600), Some((600, 100)));
        for id in [&b"b"[..], b"c", b"d"] {
            group.close(id, &mut shared);
        }
        assert_eq!(group.advance(b"a", 700), Some((700, 200)));
        assert_eq!(group.advance(b"a", 900), Some((900, 250)));
        // Begun beside others: from one message on, up to what was asked for.
        let acks = [1, 3, 7, 15].map(|sequence| group.advance(b"e", sequence));
        let expected = [(1, 2), (3, 4), (7, 8), (15, 10)];
        assert_eq!(acks, expected.map(Some));
        // Several that are due are one.
        assert_eq!(group.advance(b"e", 44), Some((35, 10)));
        assert_eq!(shared.fast_in_flight, 2);
    }

    #[test]
    fn batches_are_counted_timed_and_forgotten() {
        let limits = BatchLimits {
            fast_inflight_per_stream: 2,
            fast_inflight_total: 3,
            timeout_ns: 100,
            ..BatchLimits::default()
        };
        let mut shared = Shared::new(&Settings {
            batch: limits,
            ..Settings::default()
        });
        let (mut one, mut two) = (FastGroup::default(), FastGroup::default());
        one.open(at(0), &address("a", 1), &mut shared);
        one.open(at(10), &address("b", 1), &mut shared);
        let full = Err(Refusal::FastTooManyInflight);
        assert_eq!(one.check_room(&shared), full);
        two.open(at(0), &address("a", 1), &mut shared);
        assert_eq!(two.check_room(&shared), full);
        one.touch(at(50), b"a", &shared);
        one.expire(at(110), &mut shared);
        assert!(one.get(b"a").is_some() && one.get(b"b").is_none());
        assert_eq!(one.next_deadline(), Some(150));
        one.stop(&mut shared);
        two.stop(&mut shared);
        assert_eq!((shared.fast_in_flight, one.next_deadline()), (0, None));
    }
}
