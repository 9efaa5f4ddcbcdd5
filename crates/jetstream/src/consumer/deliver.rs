//! Choosing the next message and handing it to whoever takes it.
//!
//! A message counts as delivered only when somebody received it: if nobody did, nothing has
//! happened and it is tried again with the next request or the next interest.

use bytes::Bytes;

use super::leader::Leadership;
use super::priority::{self, Counts};
use super::record::Again;
use super::settings::Mode;
use super::source::{Fetched, MessageSource};
use super::status::with_header;
use super::{Consumer, ConsumerContext, ConsumerEvent, Wake};
use crate::model::AckPolicy;

/// Most messages one call of [`Consumer::wake`] delivers: the turn is shared with others.
pub const DELIVERIES_PER_WAKE_MAX: usize = 256;

/// The next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Candidate {
    Again(u64),
    New(u64),
}

/// What became of one attempt.
enum Step {
    Delivered,
    /// The message is gone.
    Skipped,
    /// Nobody took it, or it is too early.
    Declined,
    Loading,
}

/// A message as it goes out.
pub(super) struct Outgoing<'a> {
    pub(super) subject: &'a [u8],
    pub(super) reply: &'a [u8],
    pub(super) headers: &'a [u8],
    pub(super) payload: &'a Bytes,
}

impl Outgoing<'_> {
    /// Its size as `max_bytes` and flow control count it.
    pub(super) const fn size(&self) -> u64 {
        (self.subject.len() + self.reply.len() + self.headers.len() + self.payload.len()) as u64
    }
}

/// Why a message ends that is damaged on disk.
const UNREADABLE: &str = "message cannot be read";

impl Consumer {
    /// Delivers what can be delivered, at most [`DELIVERIES_PER_WAKE_MAX`] messages.
    pub fn wake(&mut self, context: &mut ConsumerContext<'_>) -> Wake {
        if self.leader.is_none() {
            return Wake::Idle;
        }
        self.state.count(&self.settings.filter, context.store);
        let mut result = Wake::More;
        for _ in 0..DELIVERIES_PER_WAKE_MAX {
            if !self.may_deliver(context) {
                result = Wake::Idle;
                break;
            }
            let step = match self.next_candidate(context.store) {
                Some(candidate) => self.deliver(context, candidate),
                None if self.recount_if_stuck(context) => Step::Skipped,
                None => {
                    if !self.is_blocked() {
                        self.end_one_shots(context);
                    }
                    Step::Declined
                }
            };
            match step {
                Step::Delivered | Step::Skipped => {}
                Step::Declined => {
                    result = Wake::Idle;
                    break;
                }
                Step::Loading => {
                    result = Wake::Loading;
                    break;
                }
            }
        }
        self.check_invariants(context);
        result
    }

    /// Whether anybody could take a message now.
    fn may_deliver(&self, context: &ConsumerContext<'_>) -> bool {
        let Some(leader) = self.leader.as_deref() else {
            return false;
        };
        if leader.resume_at_ns.is_some() {
            return false;
        }
        match &self.settings.mode {
            Mode::Push(push) => leader.push.may_send(push, context.now),
            Mode::Pull(_) => {
                let counts = self.counts();
                leader.waiting.any(|request| {
                    priority::is_eligible(&self.settings, &leader.pins, counts, request)
                })
            }
        }
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            num_pending: self.state.num_pending.unwrap_or(0),
            ack_pending: self.state.pending.len() as u64,
        }
    }

    /// Whether `max_ack_pending` holds new messages back.
    pub(super) fn is_blocked(&self) -> bool {
        let limit = self.settings.max_ack_pending;
        limit != 0
            && self.settings.ack_policy != AckPolicy::None
            && self.state.pending.len() >= limit
    }

    /// Redeliveries first, also when the limit of pending acks is reached.
    fn next_candidate(&mut self, store: &dyn MessageSource) -> Option<Candidate> {
        let leader = self.leader.as_deref_mut()?;
        if let Some(sequence) = leader.redeliver.first() {
            return Some(Candidate::Again(sequence));
        }
        if self.is_blocked() {
            return None;
        }
        let leader = self.leader.as_deref_mut()?;
        loop {
            let next = if self.state.start_list.is_empty() {
                let from = self.state.scan_from().max(leader.searched_to);
                let end = store.last_sequence().saturating_add(1);
                if from >= end {
                    return None;
                }
                let next = store.next_match(&self.settings.filter, from);
                leader.searched_to = next.unwrap_or(end);
                next?
            } else {
                *self.state.start_list.front()?
            };
            if !self.state.acked_ahead.contains(&next) {
                return Some(Candidate::New(next));
            }
            self.state.pass(next);
            self.turn.delivered = Some(self.state.delivered);
        }
    }

    fn deliver(&mut self, context: &mut ConsumerContext<'_>, candidate: Candidate) -> Step {
        let (sequence, deliveries, new) = match candidate {
            Candidate::Again(sequence) => (sequence, self.state.deliveries(sequence) + 1, false),
            Candidate::New(sequence) => (sequence, 1, true),
        };
        let message = match context.store.fetch(sequence) {
            Fetched::Message(message) => message,
            Fetched::Loading => return Step::Loading,
            Fetched::Gone => return self.skip(context, candidate, ""),
            Fetched::Unreadable => return self.skip(context, candidate, UNREADABLE),
        };
        let Some(leader) = self.leader.as_deref_mut() else {
            return Step::Declined;
        };
        if self.settings.replay_original
            && new
            && !leader.push.replay_due(context.now, message.time_ns)
        {
            return Step::Declined;
        }
        let num_pending = self
            .state
            .num_pending
            .unwrap_or(0)
            .saturating_sub(u64::from(new));
        leader.ack.write(
            deliveries,
            sequence,
            self.state.delivered.consumer + 1,
            message.time_ns,
            num_pending,
        );
        let ack = std::mem::take(&mut leader.ack);
        let mut headers = std::mem::take(&mut leader.headers);
        let nothing = Bytes::new();
        let mut outgoing = Outgoing {
            subject: &message.subject,
            reply: ack.subject(),
            headers: &message.headers,
            payload: &message.payload,
        };
        if self.settings.headers_only {
            let mut digits = itoa::Buffer::new();
            let size = digits.format(message.payload.len());
            with_header(
                &message.headers,
                "Nats-Msg-Size",
                size.as_bytes(),
                &mut headers,
            );
            outgoing.headers = &headers;
            outgoing.payload = &nothing;
        }
        let taken = match &self.settings.mode {
            Mode::Push(_) => self.push(context, &outgoing),
            Mode::Pull(_) => self.serve(context, &outgoing),
        };
        if let Some(leader) = self.leader.as_deref_mut() {
            leader.ack = ack;
            leader.headers = headers;
            if taken && self.settings.replay_original {
                leader.push.replayed(context.now, message.time_ns);
            }
        }
        if !taken {
            return Step::Declined;
        }
        self.note_delivered(context, candidate);
        Step::Delivered
    }

    fn push(&mut self, context: &mut ConsumerContext<'_>, outgoing: &Outgoing<'_>) -> bool {
        let (Some(leader), Mode::Push(push)) = (self.leader.as_deref_mut(), &self.settings.mode)
        else {
            return false;
        };
        let received = context.outbound.deliver(
            context.place.account,
            &push.deliver_subject,
            outgoing.subject,
            outgoing.reply,
            outgoing.headers,
            outgoing.payload,
        );
        // Half of what may be unacknowledged is out: time to hear what has arrived.
        let many = self.settings.ack_policy == AckPolicy::FlowControl
            && (self.state.pending.len() + 1) * 2 >= self.settings.max_ack_pending;
        if received {
            leader.asks_soon = many;
            leader.note_pushed(context, push, &self.settings.name, outgoing.size());
        } else {
            leader.push.active = false;
        }
        received
    }

    /// The message is not there, or cannot be read: a consumer goes on without it. Who waits for the
    /// message hears why it does not come, if there is a reason.
    fn skip(
        &mut self,
        context: &mut ConsumerContext<'_>,
        candidate: Candidate,
        reason: &str,
    ) -> Step {
        match candidate {
            Candidate::Again(sequence) => {
                let lost = self.state.removed(sequence, false);
                if let Some(leader) = self.leader.as_deref_mut() {
                    leader.redeliver.remove(sequence);
                }
                if let Some((slot, deliveries)) = lost {
                    self.turn.acked.push(sequence);
                    context.events.push(ConsumerEvent::Terminated {
                        consumer_sequence: slot.consumer_sequence,
                        sequence,
                        deliveries,
                        reason: reason.to_owned(),
                    });
                }
            }
            Candidate::New(sequence) => {
                self.state.pass(sequence);
                self.turn.delivered = Some(self.state.delivered);
                if !reason.is_empty() {
                    context.events.push(ConsumerEvent::Terminated {
                        consumer_sequence: 0,
                        sequence,
                        deliveries: 1,
                        reason: reason.to_owned(),
                    });
                }
            }
        }
        Step::Skipped
    }

    fn note_delivered(&mut self, context: &ConsumerContext<'_>, candidate: Candidate) {
        let Some(leader) = self.leader.as_deref_mut() else {
            return;
        };
        let at_ns = leader.axis_ns(context.now);
        leader.last_delivery_ns = context.now.monotonic_ns;
        match candidate {
            Candidate::New(sequence) => {
                self.state
                    .deliver_new(sequence, at_ns, self.settings.ack_policy);
                if self.settings.ack_policy == AckPolicy::None && self.settings.removes_on_ack {
                    self.note_settled(sequence, None);
                }
            }
            Candidate::Again(sequence) => {
                leader.redeliver.remove(sequence);
                let wait_ns = self
                    .settings
                    .redelivery_wait_ns(self.state.deliveries(sequence) + 1);
                let due_ns = at_ns.saturating_add(wait_ns);
                let deliveries = self.state.deliver_again(sequence, at_ns, due_ns);
                let consumer_sequence = self.state.delivered.consumer;
                self.turn.redelivered.push(Again {
                    sequence,
                    consumer_sequence,
                    deliveries,
                });
                self.turn.postponed.remove(&sequence);
            }
        }
        self.state.last_delivered_ns = context.now.wall_ns;
        self.turn.delivered = Some(self.state.delivered);
    }
}

impl Leadership {
    /// Forgets what was found out about the end of the stream.
    pub(super) const fn search_again(&mut self) {
        self.searched_to = 0;
    }
}
