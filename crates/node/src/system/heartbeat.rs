//! What a server tells the system account of itself unasked: its figures from time to time, and that
//! it leaves (spec core/13 §13.2).

use millrace_clock::Now;
use millrace_core::AccountId;
use serde_json::json;

use crate::monitor::HostFacts;
use crate::node::Node;

/// The first figures come so long after the start; each time is twice the one before …
const FIRST_NS: u64 = 250 * Now::MILLISECOND_NS;
/// … up to this.
const INTERVAL_MAX_NS: u64 = 10 * Now::SECOND_NS;
/// No two come within this.
const PAUSE_NS: u64 = Now::SECOND_NS;

impl Node {
    /// Sees to it that figures are due while somebody may hear them. A server of its own tells them
    /// to nobody.
    pub(crate) fn plan_statistics(&mut self, now: Now) {
        if !self.broker.is_watched() {
            self.system.statistics_due_ns = None;
        } else if self.system.statistics_due_ns.is_none() {
            let started_ns = self.started.monotonic_ns;
            self.system.statistics_due_ns = Some(next_moment(started_ns, now.monotonic_ns));
        }
    }

    pub(super) fn are_statistics_due(&self, now: Now) -> bool {
        let due_ns = self.system.statistics_due_ns;
        due_ns.is_some_and(|due_ns| due_ns <= now.monotonic_ns)
    }

    pub(super) fn publish_statistics(&mut self, now: Now, facts: &HostFacts) {
        self.system.statistics_due_ns = None;
        let last_ns = self.system.statistics_told_ns;
        if last_ns.is_some_and(|last_ns| now.monotonic_ns.saturating_sub(last_ns) < PAUSE_NS) {
            return;
        }
        let subject = self.own_subject("STATSZ");
        let statistics = self.statistics(now, facts);
        let value = json!({"server": self.server_value(now), "statsz": statistics});
        let payload = serde_json::to_vec(&value).unwrap_or_default();
        let subject = subject.as_bytes();
        let told = self
            .broker
            .publish(now, AccountId::SYSTEM, subject, b"", b"", &payload);
        if told.any() {
            self.system.statistics_told_ns = Some(now.monotonic_ns);
        }
    }

    /// Tells that the server leaves: `SHUTDOWN` or `LAMEDUCK`.
    pub(crate) fn publish_end(&mut self, now: Now, what: &str) {
        let subject = self.own_subject(what);
        let value = self.server_value(now);
        self.publish_system(now, AccountId::SYSTEM, subject.as_bytes(), &value);
    }

    fn own_subject(&self, what: &str) -> String {
        format!("$SYS.SERVER.{}.{what}", self.broker.identity().server_id)
    }
}

/// The next moment of a server that started then.
fn next_moment(started_ns: u64, now_ns: u64) -> u64 {
    let (mut moment_ns, mut interval_ns) = (started_ns + FIRST_NS, FIRST_NS);
    while moment_ns <= now_ns {
        interval_ns = (interval_ns * 2).min(INTERVAL_MAX_NS);
        if interval_ns == INTERVAL_MAX_NS {
            let passed_ns = now_ns - moment_ns;
            return moment_ns + (passed_ns / interval_ns + 1) * interval_ns;
        }
        moment_ns += interval_ns;
    }
    moment_ns
}

#[cfg(test)]
mod tests {
    use super::next_moment;

    // proves: SYS-14
    #[test]
    fn the_moments_are_those_of_the_reference() {
        const MILLISECOND: u64 = 1_000_000;
        let mut moments = Vec::new();
        let mut now = 5 * MILLISECOND;
        for _ in 0..9 {
            now = next_moment(5 * MILLISECOND, now);
            moments.push(now / MILLISECOND - 5);
        }
        // As read off version 2.15.1, from its start.
        let expected = [250, 750, 1750, 3750, 7750, 15_750, 25_750, 35_750, 45_750];
        assert_eq!(moments, expected);
    }
}
