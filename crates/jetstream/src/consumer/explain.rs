//! Why a consumer is not delivering: what is in the way, most lasting first. Looks at what
//! [`Consumer::wake`] looks at, and changes nothing.

use millrace_clock::{Now, go_duration, rfc3339};
use serde::Serialize;

use super::Consumer;
use super::priority;
use super::settings::Mode;
use crate::model::PriorityPolicy;

/// Something that keeps a consumer from delivering.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// One word for programs.
    pub reason: &'static str,
    /// For people.
    pub text: String,
}

/// The answer to the question why a consumer does not deliver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Explanation {
    pub stream_name: String,
    pub name: String,
    /// Nothing is in the way: what is there is being delivered.
    pub delivering: bool,
    pub reasons: Vec<Obstacle>,
    pub num_pending: u64,
    pub num_ack_pending: u64,
    pub num_waiting: u64,
    /// Messages to be delivered again at once.
    pub num_redelivering: u64,
}

impl Consumer {
    /// Why this consumer does not deliver now. `num_pending` as its information tells it.
    #[must_use]
    pub fn explain(&self, now: Now, stream: &str, num_pending: u64) -> Explanation {
        let leader = self.leader.as_deref();
        let reasons = self.obstacles(now, num_pending);
        Explanation {
            stream_name: stream.to_owned(),
            name: self.settings.name.clone(),
            delivering: reasons.is_empty(),
            reasons,
            num_pending,
            num_ack_pending: self.state.pending.len() as u64,
            num_waiting: leader.map_or(0, |leader| leader.waiting.len() as u64),
            num_redelivering: leader.map_or(0, |leader| leader.redeliver.len() as u64),
        }
    }

    fn obstacles(&self, now: Now, num_pending: u64) -> Vec<Obstacle> {
        let mut found = Vec::new();
        let mut add = |reason, text: String| found.push(Obstacle { reason, text });
        let Some(leader) = self.leader.as_deref() else {
            add(
                "not_leading",
                "this server does not lead the stream".to_owned(),
            );
            return found;
        };
        if leader.resume_at_ns.is_some() {
            let until = rfc3339::format(self.settings.pause_until_ns);
            add("paused", format!("it is paused until {until}"));
        }
        match &self.settings.mode {
            Mode::Push(push) => {
                let subject = String::from_utf8_lossy(&push.deliver_subject);
                if !leader.push.active {
                    let group = String::from_utf8_lossy(&push.deliver_group);
                    let who = if group.is_empty() {
                        String::new()
                    } else {
                        format!(" in the queue group {group:?}")
                    };
                    let text = format!("nobody is subscribed to {subject}{who}");
                    add("no_interest", text);
                } else if let Some(text) = leader.push.held_back(push, now) {
                    add(text.0, text.1);
                }
            }
            Mode::Pull(_) => {
                if let Some((reason, text)) = self.pull_obstacle() {
                    add(reason, text);
                }
            }
        }
        if leader.redeliver.len() == 0 {
            if num_pending == 0 {
                let unacknowledged = self.state.pending.len();
                let text = if unacknowledged == 0 {
                    "every message of the stream that it wants was delivered".to_owned()
                } else {
                    format!(
                        "every message that it wants was delivered; {unacknowledged} wait for their acknowledgement"
                    )
                };
                add("nothing_pending", text);
            } else if self.is_blocked() {
                let limit = self.settings.max_ack_pending;
                let wait = go_duration::format(self.settings.first_wait_ns());
                add(
                    "max_ack_pending",
                    format!(
                        "{limit} messages wait for their acknowledgement, as many as max_ack_pending allows; the first is delivered again {wait} after its delivery"
                    ),
                );
            } else if let Some(at_ns) = leader.push.replay_at_ns() {
                let wait_ns = i64::try_from(at_ns.saturating_sub(now.monotonic_ns));
                let wait = go_duration::format(wait_ns.unwrap_or(i64::MAX));
                let text = format!("the original pace is kept: the next message goes in {wait}");
                add("replay", text);
            }
        }
        found
    }

    /// Why no waiting request may be served.
    fn pull_obstacle(&self) -> Option<(&'static str, String)> {
        let leader = self.leader.as_deref()?;
        if leader.waiting.is_empty() {
            let text = "no pull request is waiting: nobody asks for messages".to_owned();
            return Some(("no_waiting_pull", text));
        }
        let counts = self.counts();
        let eligible = |request: &super::waiting::Request| {
            priority::is_eligible(&self.settings, &leader.pins, counts, request)
        };
        if leader.waiting.any(eligible) {
            return None;
        }
        Some(match self.settings.priority_policy {
            PriorityPolicy::PinnedClient => (
                "pinned_elsewhere",
                "the requests that wait are not those of the pinned client".to_owned(),
            ),
            _ => (
                "below_overflow",
                "no request that waits is for so few pending messages (min_pending, min_ack_pending)"
                    .to_owned(),
            ),
        })
    }
}
