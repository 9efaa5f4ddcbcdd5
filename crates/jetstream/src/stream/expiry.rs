//! Messages that go by themselves: `max_age` and `Nats-TTL`. The leader logs "all that is due at
//! this time" at most four times a second; what that means follows from the state.

use millrace_clock::Now;
use millrace_store::stream::Filter;

use super::Stream;
use crate::entry::Operation;
use crate::io::Durability;
use crate::shared::Turn;

/// Expiry entries come at most this often (hard-parts 7).
const EXPIRE_INTERVAL_NS: u64 = 250 * Now::MILLISECOND_NS;

impl Stream {
    /// Wall time at which the next message is due.
    pub(super) fn next_due_ns(&self) -> Option<i64> {
        let by_ttl = self.deadlines.first().map(|(deadline_ns, _)| *deadline_ns);
        let by_age = if self.config.max_age_ns > 0 && !self.store.is_loaded() {
            // Without the index the oldest message's time is known; it may be one that never goes.
            let state = self.store.state();
            (state.messages > 0).then(|| state.first_time_ns.saturating_add(self.config.max_age_ns))
        } else if self.config.max_age_ns > 0 {
            let oldest = self.store.next_match(&Filter::all(), self.age_cursor);
            let time_ns = oldest.and_then(|sequence| self.store.time_of(sequence));
            time_ns.map(|time_ns| time_ns.saturating_add(self.config.max_age_ns))
        } else {
            None
        };
        [by_ttl, by_age].into_iter().flatten().min()
    }

    /// Monotonic time at which the leader must look.
    pub(super) fn expiry_deadline(&self, now: Now) -> Option<u64> {
        let busy = self.lead.expire_pending || self.lead.commit.is_some();
        if busy || self.is_waiting_for_index() {
            return None;
        }
        let wait_ns = self
            .next_due_ns()?
            .saturating_sub(now.wall_ns)
            .max(0)
            .unsigned_abs();
        Some(now.after_ns(wait_ns).max(self.lead.next_expire_ns))
    }

    /// Logs an expiry if something is due.
    pub(super) fn expire_messages(&mut self, turn: &mut Turn<'_>) {
        let busy = self.lead.expire_pending || self.lead.commit.is_some();
        if busy || turn.now.monotonic_ns < self.lead.next_expire_ns {
            return;
        }
        if self
            .next_due_ns()
            .is_none_or(|due_ns| due_ns > turn.now.wall_ns)
        {
            return;
        }
        if !self.store.is_loaded() {
            self.want_index(turn.shared);
            return;
        }
        // Where a marker follows, it is to stand there a quarter of a second later, not two.
        let durability = if self.config.subject_delete_marker_ttl_ns > 0 {
            Durability::Now
        } else {
            Durability::Lazy
        };
        let now_ns = turn.now.wall_ns;
        self.lead.stage(&Operation::Expire { now_ns }, durability);
        self.lead.expire_pending = true;
        self.lead.next_expire_ns = turn.now.after_ns(EXPIRE_INTERVAL_NS);
    }

    /// What is due at `now_ns` and goes next.
    pub(super) fn next_expired(&mut self, now_ns: i64) -> Option<Expired> {
        if let Some((deadline_ns, sequence)) = self.deadlines.first().copied()
            && deadline_ns <= now_ns
        {
            return Some(Expired::Deadline(deadline_ns, sequence));
        }
        if self.config.max_age_ns <= 0 {
            return None;
        }
        let horizon_ns = now_ns.saturating_sub(self.config.max_age_ns);
        let sequence = self.store.next_match(&Filter::all(), self.age_cursor)?;
        let time_ns = self.store.time_of(sequence)?;
        (time_ns <= horizon_ns).then_some(Expired::Age(sequence))
    }

    /// Removes it, unless it never expires.
    pub(super) fn remove_expired(&mut self, expired: Expired) {
        match expired {
            Expired::Deadline(deadline_ns, sequence) => {
                self.deadlines.remove(&(deadline_ns, sequence));
                self.remove_or_linger(sequence);
            }
            Expired::Age(sequence) => {
                if self.deadline_of.get(&sequence) != Some(&i64::MAX) {
                    self.remove_or_linger(sequence);
                }
                self.age_cursor = sequence + 1;
            }
        }
    }
}

impl Stream {
    fn remove_or_linger(&mut self, sequence: u64) {
        if self.must_linger(sequence) {
            self.lingering.insert(sequence);
        } else {
            self.remove(sequence);
        }
    }
}

/// A message that is due.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expired {
    /// By its own TTL.
    Deadline(i64, u64),
    /// By the stream's `max_age`.
    Age(u64),
}
