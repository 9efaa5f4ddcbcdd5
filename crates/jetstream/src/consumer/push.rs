//! Push mode: interest, idle heartbeats, the flow control window, pace (spec jetstream/04 §5).

use millrace_clock::Now;

use super::leader::Leadership;
use super::settings::{Mode, PushSettings};
use super::status::{push_heartbeat, status};
use super::{Consumer, ConsumerContext, Place};
use crate::model::AckPolicy;

/// Flow control window at the start, and its upper limit, in bytes.
const WINDOW_START_BYTES: u64 = 2 << 20;
const WINDOW_MAX_BYTES: u64 = 32 << 20;
/// Random characters at the end of a flow control subject.
const FLOW_ID_LENGTH: usize = 4;
const BITS_PER_BYTE: u128 = 8;
const SECOND_NS: u128 = 1_000_000_000;

/// Flow control request without an answer yet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outstanding {
    subject: String,
    /// Bytes that an answer settles.
    bytes: u64,
}

/// State of push delivery. Times are monotonic nanoseconds.
#[derive(Debug)]
pub(super) struct PushState {
    /// Whether somebody listens.
    pub(super) active: bool,
    window_bytes: u64,
    /// Bytes sent since the last answer.
    sent_bytes: u64,
    outstanding: Option<Outstanding>,
    next_heartbeat_ns: u64,
    /// Rate limit: nothing is sent before.
    paced_until_ns: u64,
    /// Replay: stored time and sending time of the message before.
    replayed: Option<(i64, u64)>,
    /// Replay: the next message waits until then.
    replay_at_ns: Option<u64>,
}

impl Default for PushState {
    fn default() -> Self {
        Self {
            active: false,
            window_bytes: WINDOW_START_BYTES,
            sent_bytes: 0,
            outstanding: None,
            next_heartbeat_ns: 0,
            paced_until_ns: 0,
            replayed: None,
            replay_at_ns: None,
        }
    }
}

impl PushState {
    /// Whether flow control and rate allow another message.
    pub(super) fn may_send(&self, push: &PushSettings, now: Now) -> bool {
        self.active
            && (!push.flow_control || self.sent_bytes <= self.window_bytes)
            && self.paced_until_ns <= now.monotonic_ns
    }

    /// What holds messages back although somebody listens: a word and a text.
    pub(super) fn held_back(
        &self,
        push: &PushSettings,
        now: Now,
    ) -> Option<(&'static str, String)> {
        if push.flow_control && self.sent_bytes > self.window_bytes {
            let subject = self.outstanding.as_ref().map(|it| it.subject.as_str());
            let text = format!(
                "{} bytes were sent since the last answer to flow control, more than the window of {}; an answer to {} opens it",
                self.sent_bytes,
                self.window_bytes,
                subject.unwrap_or_default()
            );
            return Some(("flow_control", text));
        }
        if self.paced_until_ns > now.monotonic_ns {
            let wait_ns = i64::try_from(self.paced_until_ns - now.monotonic_ns);
            let wait = millrace_clock::go_duration::format(wait_ns.unwrap_or(i64::MAX));
            let text = format!(
                "the rate limit of {} bits per second allows the next message in {wait}",
                push.rate_limit_bps
            );
            return Some(("rate_limit", text));
        }
        None
    }

    /// Accounts for a message of `size` bytes; true if a flow control request is due.
    fn sent(&mut self, push: &PushSettings, now: Now, size: u64) -> bool {
        if push.idle_heartbeat_ns > 0 {
            self.next_heartbeat_ns = now.after_ns(push.idle_heartbeat_ns);
        }
        if push.rate_limit_bps > 0 {
            let cost =
                u128::from(size) * BITS_PER_BYTE * SECOND_NS / u128::from(push.rate_limit_bps);
            let cost_ns = u64::try_from(cost).unwrap_or(u64::MAX);
            self.paced_until_ns = self
                .paced_until_ns
                .max(now.monotonic_ns)
                .saturating_add(cost_ns);
        }
        if !push.flow_control {
            return false;
        }
        let due = self.outstanding.is_none() && self.sent_bytes + size > self.window_bytes / 2;
        self.sent_bytes += size;
        due
    }

    /// An answer to flow control: the window opens and grows. False for an unknown subject.
    fn answered(&mut self, subject: &[u8]) -> bool {
        let Some(outstanding) = self
            .outstanding
            .take_if(|outstanding| outstanding.subject.as_bytes() == subject)
        else {
            return false;
        };
        self.window_bytes = (self.window_bytes * 2).min(WINDOW_MAX_BYTES);
        self.sent_bytes = self.sent_bytes.saturating_sub(outstanding.bytes);
        true
    }

    /// With replay `original`: whether the message of this time may go now. Notes when if not.
    pub(super) fn replay_due(&mut self, now: Now, time_ns: i64) -> bool {
        let Some((before_ns, sent_ns)) = self.replayed else {
            return true;
        };
        let gap_ns = u64::try_from(time_ns.saturating_sub(before_ns)).unwrap_or(0);
        let at_ns = sent_ns.saturating_add(gap_ns);
        self.replay_at_ns = (at_ns > now.monotonic_ns).then_some(at_ns);
        self.replay_at_ns.is_none()
    }

    /// Notes a replayed message.
    pub(super) const fn replayed(&mut self, now: Now, time_ns: i64) {
        self.replayed = Some((time_ns, now.monotonic_ns));
    }

    /// Forgets waits that are over.
    pub(super) fn tick(&mut self, now: Now) {
        if self.paced_until_ns <= now.monotonic_ns {
            self.paced_until_ns = 0;
        }
        self.replay_at_ns
            .take_if(|at_ns| *at_ns <= now.monotonic_ns);
    }

    /// When push mode wants a tick.
    pub(super) fn deadline_ns(&self, push: &PushSettings) -> Option<u64> {
        if !self.active {
            return None;
        }
        let heartbeat = (push.idle_heartbeat_ns > 0).then_some(self.next_heartbeat_ns);
        let paced = (self.paced_until_ns > 0).then_some(self.paced_until_ns);
        [heartbeat, paced].into_iter().flatten().min()
    }

    /// When the next replayed message may go.
    pub(super) const fn replay_at_ns(&self) -> Option<u64> {
        self.replay_at_ns
    }
}

impl Leadership {
    /// Sends a flow control request and accounts for a delivered message.
    pub(super) fn note_pushed(
        &mut self,
        context: &mut ConsumerContext<'_>,
        push: &PushSettings,
        consumer: &str,
        size: u64,
    ) {
        let due = self.push.sent(push, context.now, size);
        if due || self.asks_soon {
            self.ask_flow(context, push, consumer);
        }
    }

    /// Sends a flow control request, unless one has no answer yet.
    fn ask_flow(&mut self, context: &mut ConsumerContext<'_>, push: &PushSettings, consumer: &str) {
        if self.push.outstanding.is_some() {
            return;
        }
        let subject = flow_control_subject(
            context.place,
            consumer,
            &context.random.base62(FLOW_ID_LENGTH),
        );
        let headers = status("100 FlowControl Request");
        context.outbound.send(
            context.place.account,
            &push.deliver_subject,
            subject.as_bytes(),
            &headers,
            b"",
        );
        let bytes = self.push.sent_bytes;
        self.push.outstanding = Some(Outstanding { subject, bytes });
    }
}

fn flow_control_subject(place: &Place, consumer: &str, id: &str) -> String {
    format!("$JS.FC.{}.{consumer}.{id}", place.stream)
}

impl Consumer {
    /// Looks whether somebody listens to the deliver subject.
    pub(super) fn refresh_interest(&mut self, context: &mut ConsumerContext<'_>) {
        let (Some(leader), Mode::Push(push)) = (self.leader.as_deref_mut(), &self.settings.mode)
        else {
            return;
        };
        let account = context.place.account;
        let active = if push.deliver_group.is_empty() {
            context
                .outbound
                .has_interest(account, &push.deliver_subject)
        } else {
            context
                .outbound
                .has_queue_interest(account, &push.deliver_subject, &push.deliver_group)
        };
        if active && !leader.push.active {
            // A new listener starts with a fresh window: nobody will answer for the old one.
            leader.push = PushState {
                active: true,
                next_heartbeat_ns: context.now.after_ns(push.idle_heartbeat_ns),
                ..PushState::default()
            };
        }
        leader.push.active = active;
        leader.last_used_ns = context.now.monotonic_ns;
    }

    /// A message on `$JS.FC.<stream>.<consumer>.<id>`: the answer to a flow control request.
    pub fn flow_control_reply(
        &mut self,
        context: &mut ConsumerContext<'_>,
        subject: &[u8],
        headers: &[u8],
    ) {
        let known = self
            .leader
            .as_deref_mut()
            .is_some_and(|leader| leader.push.answered(subject));
        if known {
            self.acknowledge_by_flow(context, headers);
        }
    }

    /// Sends the idle heartbeat of a push consumer when it is due.
    pub(super) fn push_heartbeat(&mut self, context: &mut ConsumerContext<'_>) {
        let (Some(leader), Mode::Push(push)) = (self.leader.as_deref_mut(), &self.settings.mode)
        else {
            return;
        };
        let state = &mut leader.push;
        if push.idle_heartbeat_ns == 0
            || !state.active
            || state.next_heartbeat_ns > context.now.monotonic_ns
        {
            return;
        }
        state.next_heartbeat_ns = context.now.after_ns(push.idle_heartbeat_ns);
        let delivered = self.state.delivered;
        let stalled = state
            .outstanding
            .as_ref()
            .map(|outstanding| outstanding.subject.as_str());
        let headers = push_heartbeat(delivered.consumer, delivered.stream, stalled);
        context.outbound.send(
            context.place.account,
            &push.deliver_subject,
            b"",
            &headers,
            b"",
        );
        // A second of quiet: what is not acknowledged yet is asked for.
        if self.settings.ack_policy == AckPolicy::FlowControl && !self.state.pending.is_empty() {
            leader.ask_flow(context, push, &self.settings.name);
        }
    }
}
