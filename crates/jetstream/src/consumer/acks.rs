//! Acknowledgements: every verb, for every ack policy (spec jetstream/04 §4).

use millrace_clock::go_duration;
use millrace_wire::json::{Strictness, from_slice};
use serde::Deserialize;

use super::ack_subject::AckSubject;
use super::pending::Slot;
use super::state::Position;
use super::{AckAnswer, Consumer, ConsumerContext, ConsumerEvent};
use crate::model::AckPolicy;
use crate::publish::{header_value, parse_number};

/// What the payload of an acknowledgement asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb<'a> {
    Acknowledge,
    /// Rest: empty, a JSON object, or a duration.
    Negative(&'a [u8]),
    InProgress,
    /// Rest: the reason.
    Terminate(&'a [u8]),
    /// Rest: a pull request.
    Next(&'a [u8]),
    Unknown,
}

impl<'a> Verb<'a> {
    fn parse(payload: &'a [u8]) -> Self {
        match payload {
            b"" | b"+ACK" | b"+OK" => Self::Acknowledge,
            b"+WPI" => Self::InProgress,
            _ => {
                if let Some(rest) = payload.strip_prefix(b"+NXT") {
                    Self::Next(rest)
                } else if let Some(rest) = payload.strip_prefix(b"-NAK") {
                    Self::Negative(rest.trim_ascii())
                } else if let Some(rest) = payload.strip_prefix(b"+TERM") {
                    Self::Terminate(rest.trim_ascii())
                } else {
                    Self::Unknown
                }
            }
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NakOptions {
    delay: i64,
}

/// The delay of a NAK in nanoseconds; `None` = at once, also for what cannot be read.
fn nak_delay_ns(rest: &[u8]) -> Option<i64> {
    match rest.first()? {
        b'{' => from_slice::<NakOptions>(rest, Strictness::Lenient)
            .ok()
            .map(|options| options.delay),
        _ => go_duration::parse(std::str::from_utf8(rest).ok()?).ok(),
    }
}

impl Consumer {
    /// An acknowledgement: the message on an ack subject (see [`super::parse_ack_subject`]).
    /// Names and account were checked by the caller. Follow with [`Consumer::wake`].
    pub fn acknowledge(
        &mut self,
        context: &mut ConsumerContext<'_>,
        subject: &AckSubject<'_>,
        reply: &[u8],
        payload: &[u8],
    ) -> AckAnswer {
        if self.leader.is_none() || self.settings.ack_policy == AckPolicy::None {
            return AckAnswer::Silent;
        }
        let sequence = subject.stream_sequence;
        let verb = Verb::parse(payload);
        let settles = matches!(verb, Verb::Acknowledge | Verb::Terminate(_) | Verb::Next(_));
        let unknown = sequence > self.state.delivered.stream;
        if settles && unknown && !self.is_trusted(context, sequence) {
            return AckAnswer::Silent;
        }
        match verb {
            Verb::Acknowledge => self.settle(context, subject, true),
            Verb::Negative(rest) => self.negative(context, subject, rest),
            Verb::InProgress => self.in_progress(context, sequence),
            Verb::Terminate(reason) => {
                self.settle(context, subject, false);
                context.events.push(ConsumerEvent::Terminated {
                    consumer_sequence: subject.consumer_sequence,
                    sequence,
                    deliveries: subject.deliveries,
                    reason: String::from_utf8_lossy(reason).into_owned(),
                });
            }
            Verb::Next(body) => {
                self.settle(context, subject, true);
                self.pull_request(context, reply, body);
                return AckAnswer::Silent;
            }
            Verb::Unknown => {}
        }
        if reply.is_empty() {
            return AckAnswer::Silent;
        }
        self.urgent = true;
        AckAnswer::AfterCommit
    }

    /// An answer to flow control that says what the receiver has: all of that is acknowledged.
    pub(super) fn acknowledge_by_flow(&mut self, context: &mut ConsumerContext<'_>, block: &[u8]) {
        let number = |name: &[u8]| header_value(block, name).and_then(parse_number);
        let (Some(consumer_sequence), Some(stream_sequence)) =
            (number(b"Nats-Last-Consumer"), number(b"Nats-Last-Stream"))
        else {
            return;
        };
        if self.settings.ack_policy != AckPolicy::FlowControl {
            return;
        }
        let delivered = self.state.delivered;
        // Never more than was delivered, whatever the answer says.
        let subject = AckSubject {
            stream: b"",
            consumer: b"",
            deliveries: 1,
            stream_sequence: stream_sequence.min(delivered.stream),
            consumer_sequence: consumer_sequence.min(delivered.consumer),
        };
        self.settle(context, &subject, true);
    }

    /// Whether an ack beyond the delivered position may be one of the leader before this one.
    fn is_trusted(&self, context: &ConsumerContext<'_>, sequence: u64) -> bool {
        self.leader
            .as_ref()
            .is_some_and(|leader| sequence <= leader.trusted_last)
            && context.store.matches(sequence, &self.settings.filter)
    }

    fn settle(
        &mut self,
        context: &mut ConsumerContext<'_>,
        subject: &AckSubject<'_>,
        sample: bool,
    ) {
        let sequence = subject.stream_sequence;
        if sequence > self.state.delivered.stream {
            if self.state.acknowledge_ahead(sequence) {
                self.note_settled(sequence, None);
            }
        } else if self.settings.acknowledges_through() {
            if sequence <= self.state.floor.stream {
                return;
            }
            let through = Position {
                consumer: subject.consumer_sequence,
                stream: sequence,
            };
            let mut settled = Vec::new();
            let deliveries = self.state.deliveries(sequence);
            self.state.acknowledge_through(through, &mut settled);
            for slot in settled {
                if sample && slot.sequence == sequence {
                    self.sample(context, &slot, subject.consumer_sequence, deliveries);
                }
                self.note_settled(slot.sequence, Some(slot));
            }
        } else {
            let deliveries = self.state.deliveries(sequence);
            if let Some(slot) = self.state.acknowledge(sequence) {
                if sample {
                    self.sample(context, &slot, subject.consumer_sequence, deliveries);
                }
                self.note_settled(sequence, Some(slot));
            } else if self.state.redelivered.remove(&sequence).is_some() {
                // Given up by max_deliver, yet the client did its work.
                self.note_settled(sequence, None);
            }
        }
        self.state.last_ack_ns = context.now.wall_ns;
    }

    /// Notes a settled message for the log and for retention.
    pub(super) fn note_settled(&mut self, sequence: u64, slot: Option<Slot>) {
        if let Some(leader) = self.leader.as_deref_mut() {
            leader.redeliver.remove(sequence);
        }
        self.turn.acked.push(sequence);
        if self.settings.removes_on_ack {
            self.unconfirmed.insert(sequence, slot);
        }
    }

    fn sample(
        &self,
        context: &mut ConsumerContext<'_>,
        slot: &Slot,
        consumer_sequence: u64,
        deliveries: u64,
    ) {
        let percent = u64::from(self.settings.sample_percent);
        let Some(leader) = self.leader.as_deref() else {
            return;
        };
        if percent == 0 || (percent < 100 && context.random.below(100) >= percent) {
            return;
        }
        let ack_time_ns = leader.axis_ns(context.now).saturating_sub(slot.at_ns);
        context.events.push(ConsumerEvent::AckSample {
            consumer_sequence,
            sequence: slot.sequence,
            ack_time_ns: u64::try_from(ack_time_ns).unwrap_or(0),
            deliveries,
        });
    }

    fn negative(
        &mut self,
        context: &mut ConsumerContext<'_>,
        subject: &AckSubject<'_>,
        rest: &[u8],
    ) {
        let sequence = subject.stream_sequence;
        let consumer_sequence = subject.consumer_sequence;
        if consumer_sequence <= self.state.floor.consumer
            || consumer_sequence > self.state.delivered.consumer
            || !self.state.pending.contains(sequence)
        {
            return;
        }
        context.events.push(ConsumerEvent::Naked {
            consumer_sequence,
            sequence,
            deliveries: subject.deliveries,
        });
        let Some(leader) = self.leader.as_deref_mut() else {
            return;
        };
        let now_ns = leader.axis_ns(context.now);
        let deliveries = self.state.deliveries(sequence);
        if let Some(delay_ns) = nak_delay_ns(rest) {
            // Quirk: with a backoff the delay counts from where its first step would end.
            let extra_ns =
                self.settings.redelivery_wait_ns(deliveries) - self.settings.first_wait_ns();
            let due_ns = now_ns.saturating_add(delay_ns).saturating_add(extra_ns);
            leader.redeliver.remove(sequence);
            self.state.pending.set_due_at(sequence, due_ns);
            self.turn.postponed.insert(sequence, due_ns);
        } else {
            self.make_due(context, sequence);
            self.turn.postponed.insert(sequence, now_ns);
        }
    }

    fn in_progress(&mut self, context: &ConsumerContext<'_>, sequence: u64) {
        let Some(leader) = self.leader.as_deref() else {
            return;
        };
        if !self.state.pending.contains(sequence) || leader.redeliver.contains(sequence) {
            return;
        }
        let wait_ns = self
            .settings
            .redelivery_wait_ns(self.state.deliveries(sequence));
        let due_ns = leader.axis_ns(context.now).saturating_add(wait_ns);
        self.state.pending.set_due_at(sequence, due_ns);
        self.turn.postponed.insert(sequence, due_ns);
    }

    /// A pending message is due: it joins the redelivery queue, or is given up.
    pub(super) fn make_due(&mut self, context: &mut ConsumerContext<'_>, sequence: u64) {
        let Some(leader) = self.leader.as_deref_mut() else {
            return;
        };
        let deliveries = self.state.deliveries(sequence);
        if self.settings.is_exhausted(deliveries) {
            self.state.exhaust(sequence);
            leader.redeliver.remove(sequence);
            self.turn.exhausted.push(sequence);
            context.events.push(ConsumerEvent::MaxDeliveries {
                sequence,
                deliveries,
            });
        } else {
            self.state.pending.set_queued(sequence);
            leader.redeliver.push(sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: JS-CON-18
    #[test]
    fn verbs_and_delays_are_read_as_the_reference_reads_them() {
        assert_eq!(Verb::parse(b""), Verb::Acknowledge);
        assert_eq!(Verb::parse(b"+OK"), Verb::Acknowledge);
        assert_eq!(Verb::parse(b"+ACKx"), Verb::Unknown);
        assert_eq!(Verb::parse(b"+TERM no good "), Verb::Terminate(b"no good"));
        assert_eq!(Verb::parse(b"+NXT 5"), Verb::Next(b" 5"));
        assert_eq!(Verb::parse(b"-NAK"), Verb::Negative(b""));
        assert_eq!(nak_delay_ns(b""), None);
        assert_eq!(nak_delay_ns(b"{\"delay\": 300000000}"), Some(300_000_000));
        assert_eq!(nak_delay_ns(b"300ms"), Some(300_000_000));
        assert_eq!(nak_delay_ns(b"soon"), None);
    }
}
