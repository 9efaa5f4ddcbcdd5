//! The staged batches of one stream: how many, until when, and that each is cleaned up exactly
//! once, whoever comes first: commit, refusal, timer, or the end of the stream.

use std::collections::BTreeMap;

use bytes::Bytes;
use millrace_clock::Now;
use millrace_store::staging::StagedId;

use crate::entry::PART_FRONT_LENGTH;
use crate::publish::Refusal;
use crate::shared::Shared;

/// Longest `Nats-Batch-Id`, bytes.
pub const MAX_BATCH_ID_BYTES: usize = 64;

/// Why a batch was dropped, in the words of the advisory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abandoned {
    Timeout,
    Large,
    Incomplete,
    Unsupported,
}

impl Abandoned {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Large => "large",
            Self::Incomplete => "incomplete",
            Self::Unsupported => "unsupported",
        }
    }
}

/// One batch that is not committed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StagedBatch {
    staged: StagedId,
    /// Batch sequence of the last message.
    sequence: u64,
    /// Monotonic time at which the timer drops it.
    deadline_ns: u64,
    /// The timer cannot drop it any more: it is being committed.
    ready: bool,
    /// A message expects a last message id, which batches do not support.
    expects_message_id: bool,
}

/// The batches of one stream.
#[derive(Debug, Default)]
pub struct BatchGroup {
    batches: BTreeMap<Bytes, StagedBatch>,
    /// No timer fires before this time.
    quiet_until_ns: u64,
}

impl BatchGroup {
    /// Batches in flight.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    #[must_use]
    pub fn contains(&self, id: &[u8]) -> bool {
        self.batches.contains_key(id)
    }

    /// Begins a batch: counted on the stream and on the server, its timer running.
    ///
    /// # Errors
    /// [`Refusal::BatchTooManyInflight`] when the stream or the server has too many.
    pub fn open(
        &mut self,
        now: Now,
        id: &[u8],
        directory: &str,
        shared: &mut Shared,
    ) -> Result<(), Refusal> {
        let limits = shared.batch_limits;
        if self.batches.len() >= limits.max_inflight_per_stream
            || shared.batches_in_flight >= limits.max_inflight_total
        {
            return Err(Refusal::BatchTooManyInflight);
        }
        let batch = StagedBatch {
            staged: shared.staging.open(directory, id, PART_FRONT_LENGTH),
            sequence: 0,
            deadline_ns: now.after_ns(limits.timeout_ns),
            ready: false,
            expects_message_id: false,
        };
        if self.batches.is_empty() {
            self.quiet_until_ns = batch.deadline_ns;
        }
        self.quiet_until_ns = self.quiet_until_ns.min(batch.deadline_ns);
        shared.batches_in_flight += 1;
        // The id may pin a whole message: keep a copy.
        self.batches.insert(Bytes::copy_from_slice(id), batch);
        Ok(())
    }

    /// Takes the next message's sequence, starts the timer anew, and tells where the message goes.
    /// `None`: a gap, a repeat, or no such batch; or it is being committed.
    pub fn advance(
        &mut self,
        now: Now,
        id: &[u8],
        sequence: u64,
        timeout_ns: u64,
    ) -> Option<StagedId> {
        let batch = self.batches.get_mut(id)?;
        if batch.ready || sequence != batch.sequence + 1 {
            return None;
        }
        batch.sequence = sequence;
        batch.deadline_ns = now.after_ns(timeout_ns);
        Some(batch.staged)
    }

    /// Remembers that a message of the batch expects a last message id.
    pub fn note_expected_message_id(&mut self, id: &[u8]) {
        if let Some(batch) = self.batches.get_mut(id) {
            batch.expects_message_id = true;
        }
    }

    #[must_use]
    pub fn expects_message_id(&self, id: &[u8]) -> bool {
        self.batches
            .get(id)
            .is_some_and(|batch| batch.expects_message_id)
    }

    /// Where a batch's messages are staged.
    #[must_use]
    pub fn staged(&self, id: &[u8]) -> Option<StagedId> {
        self.batches.get(id).map(|batch| batch.staged)
    }

    /// Stops the timer for the commit. `None`: the timer fired first, or the batch is gone.
    pub fn ready_for_commit(&mut self, now: Now, id: &[u8]) -> Option<StagedId> {
        let batch = self.batches.get_mut(id)?;
        if batch.ready || batch.deadline_ns <= now.monotonic_ns {
            return None;
        }
        batch.ready = true;
        Some(batch.staged)
    }

    /// Forgets a batch and all that it holds. True the first time only.
    pub fn cleanup(&mut self, id: &[u8], shared: &mut Shared) -> bool {
        let Some(batch) = self.batches.remove(id) else {
            return false;
        };
        shared.batches_in_flight = shared.batches_in_flight.saturating_sub(1);
        shared.staging.remove(batch.staged);
        true
    }

    /// Drops the batches whose time is over, and names them.
    pub fn expire(&mut self, now: Now, shared: &mut Shared) -> Vec<Bytes> {
        // Timers only ever move on.
        if now.monotonic_ns < self.quiet_until_ns {
            return Vec::new();
        }
        let over: Vec<Bytes> = self
            .batches
            .iter()
            .filter(|(_, batch)| !batch.ready && batch.deadline_ns <= now.monotonic_ns)
            .map(|(id, _)| id.clone())
            .collect();
        for id in &over {
            self.cleanup(id, shared);
        }
        self.quiet_until_ns = self.next_deadline().unwrap_or(0);
        over
    }

    /// Drops all: the stream or the server stops, or the lead was lost.
    pub fn stop(&mut self, shared: &mut Shared) {
        while let Some(id) = self.batches.keys().next().cloned() {
            self.cleanup(&id, shared);
        }
    }

    /// Monotonic time of the next timer.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let timed = self.batches.values().filter(|batch| !batch.ready);
        timed.map(|batch| batch.deadline_ns).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{BatchLimits, Settings};

    const TIMEOUT_NS: u64 = 10_000_000_000;

    fn shared(max_inflight_per_stream: usize, max_inflight_total: usize) -> Shared {
        let limits = BatchLimits {
            max_inflight_per_stream,
            max_inflight_total,
            ..BatchLimits::default()
        };
        Shared::new(&Settings {
            batch: limits,
            ..Settings::default()
        })
    }

    fn at(monotonic_ns: u64) -> Now {
        Now {
            monotonic_ns,
            wall_ns: 0,
        }
    }

    fn id(name: &'static str) -> Bytes {
        Bytes::from_static(name.as_bytes())
    }

    #[test]
    fn a_new_batch_is_counted_on_stream_and_server() {
        let mut shared = shared(2, 3);
        let (mut one, mut two) = (BatchGroup::default(), BatchGroup::default());
        assert_eq!(one.open(at(0), &id("a"), "d", &mut shared), Ok(()));
        assert_eq!(one.open(at(0), &id("b"), "d", &mut shared), Ok(()));
        let refused = Err(Refusal::BatchTooManyInflight);
        assert_eq!(one.open(at(0), &id("c"), "d", &mut shared), refused);
        assert_eq!(two.open(at(0), &id("c"), "d", &mut shared), Ok(()));
        assert_eq!(two.open(at(0), &id("d"), "d", &mut shared), refused);
        assert_eq!((one.len(), two.len(), shared.batches_in_flight), (2, 1, 3));
    }

    #[test]
    fn sequences_must_follow_each_other_and_restart_the_timer() {
        let mut shared = shared(2, 3);
        let mut group = BatchGroup::default();
        group.open(at(0), &id("a"), "d", &mut shared).expect("room");
        let staged = group.staged(b"a");
        assert_eq!(group.advance(at(5), b"a", 1, TIMEOUT_NS), staged);
        assert_eq!(group.next_deadline(), Some(TIMEOUT_NS + 5));
        assert_eq!(group.advance(at(6), b"a", 1, TIMEOUT_NS), None);
        assert_eq!(group.advance(at(6), b"a", 3, TIMEOUT_NS), None);
        assert_eq!(group.advance(at(7), b"a", 2, TIMEOUT_NS), staged);
        assert_eq!(group.advance(at(7), b"unknown", 1, TIMEOUT_NS), None);
    }

    #[test]
    fn a_timer_that_fired_first_wins_over_the_commit() {
        let mut shared = shared(2, 3);
        let mut group = BatchGroup::default();
        group.open(at(0), &id("a"), "d", &mut shared).expect("room");
        assert_eq!(group.ready_for_commit(at(TIMEOUT_NS), b"a"), None);
        assert_eq!(group.expire(at(TIMEOUT_NS), &mut shared), vec![id("a")]);
        assert!(!group.cleanup(b"a", &mut shared));
        assert_eq!(shared.batches_in_flight, 0);
    }

    #[test]
    fn a_batch_that_is_ready_is_out_of_the_timers_reach() {
        let mut shared = shared(2, 3);
        let mut group = BatchGroup::default();
        group.open(at(0), &id("a"), "d", &mut shared).expect("room");
        assert!(group.ready_for_commit(at(1), b"a").is_some());
        assert!(group.ready_for_commit(at(1), b"a").is_none());
        assert!(group.expire(at(TIMEOUT_NS * 2), &mut shared).is_empty());
        assert_eq!(group.next_deadline(), None);
        assert!(group.cleanup(b"a", &mut shared));
        assert!(!group.cleanup(b"a", &mut shared));
        assert_eq!(
            (shared.batches_in_flight, shared.staging.memory_bytes()),
            (0, 0)
        );
    }

    #[test]
    fn stopping_leaves_nothing_counted_as_in_flight() {
        let mut shared = shared(5, 5);
        let mut group = BatchGroup::default();
        for name in ["a", "b", "c"] {
            group
                .open(at(0), &id(name), "d", &mut shared)
                .expect("room");
            let staged = group.staged(name.as_bytes()).expect("just opened");
            shared.staging.push(staged, &[b"message"]);
        }
        group.ready_for_commit(at(0), b"b");
        group.stop(&mut shared);
        group.stop(&mut shared);
        assert!(group.is_empty());
        assert_eq!(
            (shared.batches_in_flight, shared.staging.memory_bytes()),
            (0, 0)
        );
    }
}
