//! What only the leader of a stream keeps for a consumer: its clock, the redelivery queue, waiting
//! requests, pins, the push state. None of it is logged; all of it goes with the leadership.

use millrace_clock::Now;

use super::ack_subject::AckSubjectWriter;
use super::priority::Pin;
use super::push::PushState;
use super::redelivery::RedeliveryQueue;
use super::settings::Settings;
use super::waiting::Waiting;

/// Leader-only state.
#[derive(Debug, Default)]
pub(super) struct Leadership {
    /// Wall time minus monotonic time when the leadership began: delivery times and due times are
    /// on this axis, so that they survive a restart but not every jump of the clock moves them.
    origin_ns: i64,
    pub(super) redeliver: RedeliveryQueue,
    /// No matching new message below this one: a search that found nothing is not repeated.
    pub(super) searched_to: u64,
    /// Acks up to here are taken even beyond the delivered position: the leader before may have
    /// delivered what it could not log.
    pub(super) trusted_last: u64,
    pub(super) waiting: Waiting,
    /// One place per priority group.
    pub(super) pins: Vec<Option<Pin>>,
    pub(super) push: PushState,
    /// Monotonic: last pull request, or last moment with push interest.
    pub(super) last_used_ns: u64,
    /// Monotonic time of the last delivery.
    pub(super) last_delivery_ns: u64,
    /// Up to a second on top of the inactive threshold.
    pub(super) inactive_jitter_ns: u64,
    /// Monotonic end of a pause.
    pub(super) resume_at_ns: Option<u64>,
    /// Monotonic time of the last logged position (ack policy none).
    pub(super) position_logged_ns: u64,
    /// Flow control is to be asked for, however few bytes were sent.
    pub(super) asks_soon: bool,
    pub(super) ack: AckSubjectWriter,
    /// Reused for headers that a delivery changes.
    pub(super) headers: Vec<u8>,
}

impl Leadership {
    pub(super) fn new(now: Now, stream: &str, settings: &Settings) -> Self {
        let monotonic_ns = i64::try_from(now.monotonic_ns).unwrap_or(i64::MAX);
        Self {
            origin_ns: now.wall_ns.saturating_sub(monotonic_ns),
            ack: AckSubjectWriter::new(stream, &settings.name),
            pins: vec![None; settings.priority_groups.len()],
            last_used_ns: now.monotonic_ns,
            position_logged_ns: now.monotonic_ns,
            ..Self::default()
        }
    }

    /// The moment on the axis of delivery times.
    pub(super) fn axis_ns(&self, now: Now) -> i64 {
        let monotonic_ns = i64::try_from(now.monotonic_ns).unwrap_or(i64::MAX);
        self.origin_ns.saturating_add(monotonic_ns)
    }

    /// A moment of the axis as monotonic time.
    pub(super) fn monotonic_ns(&self, axis_ns: i64) -> u64 {
        u64::try_from(axis_ns.saturating_sub(self.origin_ns)).unwrap_or(0)
    }

    /// Sets when the pause ends.
    pub(super) fn set_pause(&mut self, now: Now, until_ns: i64) {
        let left_ns = u64::try_from(until_ns.saturating_sub(now.wall_ns)).unwrap_or(0);
        self.resume_at_ns = (left_ns > 0).then(|| now.after_ns(left_ns));
    }
}
