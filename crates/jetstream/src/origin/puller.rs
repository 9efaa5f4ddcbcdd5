//! One origin of a stream: asked, pulled from, lost and asked again.
//!
//! ```text
//! Waiting --time--> Asked --answer--> Pulling --gap, silence, refusal--> Waiting
//!                     |--error, no answer--> Waiting (longer each time)
//! ```
//!
//! Each attempt has subjects and an [`OriginId`] of its own: what still comes for an earlier one finds
//! nobody.

use bytes::Bytes;
use millrace_clock::Now;
use millrace_subject::{Transform, is_literal, matches};

use super::ask::{Ask, Reply, deliver_subject};
use super::delivery::{Control, Delivered};
use super::{
    ANSWER_TIMEOUT_NS, ATTEMPT_INTERVAL_NS, FAILURE_DELAY_MAX_NS, FAILURE_DELAY_NS, IndexName,
    SILENCE_NS, SourcePosition, short_hash,
};
use crate::consumer::parse_ack_subject;
use crate::ids::{AccountRef, Endpoint, OriginId, StreamId};
use crate::io::{Effect, Message};
use crate::model::{ReportedError, SourceInfo, StreamSource};
use crate::shared::Turn;

/// Length of the random part of subjects.
const RANDOM_LENGTH: usize = 8;
/// "consumer's stream identity does not match": the origin is not the stream that it was.
const IDENTITY_MISMATCH: u16 = 10225;

/// The stream that copies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    pub(crate) account: Option<AccountRef>,
    pub(crate) account_name: String,
    pub(crate) domain: String,
    pub(crate) stream: String,
    pub(crate) id: Option<StreamId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Mirror,
    Source(IndexName),
}

/// A try to get messages from the origin.
#[derive(Clone, Debug)]
struct Attempt {
    origin: OriginId,
    deliver_subject: Bytes,
    reply: Bytes,
}

#[derive(Debug)]
enum Phase {
    Waiting {
        until_ns: u64,
    },
    Asked {
        attempt: Attempt,
        until_ns: u64,
    },
    Pulling {
        attempt: Attempt,
        consumer: String,
        /// The consumer's count of the last message taken.
        delivered: u64,
        acknowledges: bool,
        /// Highest sequence of the origin that came.
        taken: u64,
        silent_at_ns: u64,
    },
}

/// A message as it came from the origin.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) origin: OriginId,
    pub(crate) delivered: Delivered,
    pub(crate) message: Message,
    /// After the source's transforms.
    pub(crate) subject: Bytes,
}

/// What an answer of the origin led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    Nothing,
    /// Deliveries begin behind this sequence of the origin.
    Begun {
        origin: OriginId,
        delivered: u64,
    },
}

/// An answer to flow control, to be sent when all that came before is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FlowAnswer {
    pub(crate) origin: OriginId,
    pub(crate) reply: Bytes,
    pub(crate) headers: Bytes,
}

#[derive(Debug)]
pub(crate) struct Puller {
    pub(crate) source: StreamSource,
    pub(crate) kind: Kind,
    pub(super) consumer_name: String,
    filters: Vec<(Bytes, Option<Transform>)>,
    phase: Phase,
    /// Highest sequence of the origin that is staged or passed over; 0: none.
    pub(super) position: u64,
    pub(super) identity: Bytes,
    failures: u64,
    attempted_ns: Option<u64>,
    lag: u64,
    heard_ns: Option<u64>,
    error: Option<ReportedError>,
}

impl Puller {
    pub(crate) fn new(place: &Place, source: &StreamSource, kind: Kind, now: Now) -> Self {
        let transforms = source.subject_transforms.iter();
        let filters = transforms.map(|one| {
            let transform = Transform::new(one.src.as_bytes(), one.dest.as_bytes());
            let transform = transform.ok().filter(|_| !one.dest.is_empty());
            (Bytes::from(one.src.clone()), transform)
        });
        let prefix = match kind {
            Kind::Mirror => "JS_MIRROR_",
            Kind::Source(_) => "JS_SRC_",
        };
        let mut seed = format!(
            "{}\n{}\n{}\n{}\n",
            place.domain, place.account_name, place.stream, source.name
        );
        if let Kind::Source(name) = &kind {
            seed.push_str(&String::from_utf8_lossy(&name.key()));
        }
        Self {
            consumer_name: format!("{prefix}{}", short_hash(seed.as_bytes())),
            filters: filters.collect(),
            source: source.clone(),
            kind,
            phase: Phase::Waiting {
                until_ns: now.monotonic_ns,
            },
            position: 0,
            identity: Bytes::new(),
            failures: 0,
            attempted_ns: None,
            lag: 0,
            heard_ns: None,
            error: None,
        }
    }

    /// Where to go on: what the stream's state says.
    pub(crate) fn set_position(&mut self, position: SourcePosition) {
        self.position = position.sequence;
        self.identity = position.identity;
    }

    pub(crate) fn position(&self) -> SourcePosition {
        SourcePosition {
            sequence: self.position,
            identity: self.identity.clone(),
        }
    }

    /// A message was staged, or passed over.
    pub(crate) fn advance(&mut self, sequence: u64) {
        self.position = self.position.max(sequence);
    }

    /// The attempt under way.
    pub(crate) fn origin(&self) -> Option<OriginId> {
        match &self.phase {
            Phase::Waiting { .. } => None,
            Phase::Asked { attempt, .. } | Phase::Pulling { attempt, .. } => Some(attempt.origin),
        }
    }

    pub(crate) fn next_deadline(&self) -> u64 {
        match &self.phase {
            Phase::Waiting { until_ns } | Phase::Asked { until_ns, .. } => *until_ns,
            Phase::Pulling { silent_at_ns, .. } => *silent_at_ns,
        }
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>, place: &Place) {
        if self.next_deadline() > turn.now.monotonic_ns {
            return;
        }
        match self.phase {
            Phase::Waiting { .. } => self.ask(turn, place),
            Phase::Asked { .. } => self.failed(turn, place, None),
            Phase::Pulling { .. } => self.restart(turn, place),
        }
    }

    /// The origin may be there now: do not wait any longer.
    pub(crate) fn hurry(&mut self, now: Now) {
        if let Phase::Waiting { until_ns } = &mut self.phase {
            *until_ns = now.monotonic_ns;
            self.failures = 0;
        }
    }

    fn ask(&mut self, turn: &mut Turn<'_>, place: &Place) {
        let (Some(account), Some(id)) = (place.account, place.id) else {
            return;
        };
        let deliver = deliver_subject(self, &turn.shared.random.base62(RANDOM_LENGTH));
        let reply = format!("$JSC.R.{}", turn.shared.random.base62(RANDOM_LENGTH));
        let ask = Ask::consumer(self, place, &deliver);
        let attempt = Attempt {
            origin: turn.shared.add_origin(id),
            deliver_subject: Bytes::from(deliver),
            reply: Bytes::from(reply),
        };
        attempt.bind(turn, account, true);
        turn.out.send(
            account,
            ask.subject.as_bytes(),
            &attempt.reply,
            ask.headers.as_bytes(),
            &ask.payload,
        );
        self.attempted_ns = Some(turn.now.monotonic_ns);
        self.phase = Phase::Asked {
            attempt,
            until_ns: turn.now.after_ns(ANSWER_TIMEOUT_NS),
        };
    }

    /// The origin's answer to the request.
    pub(crate) fn answered(
        &mut self,
        turn: &mut Turn<'_>,
        place: &Place,
        message: &Message,
    ) -> Answered {
        let Phase::Asked { attempt, .. } = &self.phase else {
            return Answered::Nothing;
        };
        let attempt = attempt.clone();
        match Reply::parse(message) {
            Reply::Consumer {
                name,
                delivered,
                consumer_sequence,
                pending,
                identity,
                acknowledges,
            } => {
                self.failures = 0;
                self.error = None;
                self.lag = pending;
                self.heard_ns = Some(turn.now.monotonic_ns);
                if matches!(self.kind, Kind::Source(_)) && !identity.is_empty() {
                    self.identity = identity;
                }
                let origin = attempt.origin;
                self.phase = Phase::Pulling {
                    attempt,
                    consumer: name,
                    delivered: consumer_sequence,
                    acknowledges,
                    taken: self.position.max(delivered),
                    silent_at_ns: turn.now.after_ns(SILENCE_NS),
                };
                Answered::Begun { origin, delivered }
            }
            Reply::Refused(error) if error.err_code == IDENTITY_MISMATCH => {
                // Another stream under the same name: all of it is new.
                self.position = 0;
                self.identity = Bytes::new();
                self.leave(turn, place);
                self.phase = Phase::Waiting {
                    until_ns: turn.now.monotonic_ns,
                };
                Answered::Nothing
            }
            Reply::Refused(error) => {
                self.failed(turn, place, Some(error));
                Answered::Nothing
            }
            Reply::Unreadable => {
                self.failed(turn, place, None);
                Answered::Nothing
            }
        }
    }

    /// A heartbeat or flow control request. Gives the answer to send once what came before is
    /// stored.
    pub(crate) fn control(
        &mut self,
        turn: &mut Turn<'_>,
        place: &Place,
        message: &Message,
    ) -> Option<FlowAnswer> {
        let Phase::Pulling {
            attempt,
            delivered,
            acknowledges,
            taken,
            silent_at_ns,
            ..
        } = &mut self.phase
        else {
            return None;
        };
        *silent_at_ns = turn.now.after_ns(SILENCE_NS);
        self.heard_ns = Some(turn.now.monotonic_ns);
        let reply = match Control::parse(message) {
            Control::FlowControl => message.reply.clone(),
            Control::Heartbeat {
                last_consumer_sequence: Some(last),
                ..
            } if last > 0 && last != *delivered => {
                self.restart(turn, place);
                return None;
            }
            Control::Heartbeat { stalled, .. } => Bytes::from(stalled?),
        };
        let headers = if *acknowledges {
            Bytes::from(format!(
                "NATS/1.0\r\nNats-Last-Consumer: {delivered}\r\nNats-Last-Stream: {taken}\r\n\r\n"
            ))
        } else {
            Bytes::new()
        };
        Some(FlowAnswer {
            origin: attempt.origin,
            reply,
            headers,
        })
    }

    /// A delivered message, if it is the next one.
    pub(crate) fn take(
        &mut self,
        turn: &mut Turn<'_>,
        place: &Place,
        message: Message,
    ) -> Option<Arrival> {
        let Phase::Pulling {
            attempt,
            consumer,
            delivered,
            taken,
            silent_at_ns,
            ..
        } = &mut self.phase
        else {
            return None;
        };
        // A consumer of an earlier attempt counts otherwise: what it sends is no next message, and
        // after a restart of JetStream it may have the same deliver subject.
        if parse_ack_subject(&message.reply)?.consumer != consumer.as_bytes() {
            return None;
        }
        let came = Delivered::parse(&message.reply)?;
        *silent_at_ns = turn.now.after_ns(SILENCE_NS);
        self.heard_ns = Some(turn.now.monotonic_ns);
        let expected = *delivered + 1;
        if came.consumer_sequence != expected {
            // Something is missing in between, or it is older than what came.
            if came.consumer_sequence > expected {
                self.restart(turn, place);
            }
            return None;
        }
        *delivered = came.consumer_sequence;
        self.lag = came.pending;
        if came.sequence <= *taken {
            return None;
        }
        *taken = came.sequence;
        let origin = attempt.origin;
        let subject = self.mapped(turn, &message.subject)?;
        Some(Arrival {
            origin,
            delivered: came,
            message,
            subject,
        })
    }

    /// What the transforms make of a subject: the first whose source matches counts.
    fn mapped(&self, turn: &mut Turn<'_>, subject: &Bytes) -> Option<Bytes> {
        if !millrace_subject::is_valid_subject(subject) || !is_literal(subject) {
            return None;
        }
        let found = self
            .filters
            .iter()
            .find(|(filter, _)| filter.is_empty() || matches(filter, subject));
        let mapped = found
            .and_then(|(_, transform)| transform.as_ref())
            .and_then(|transform| transform.apply(subject, &mut turn.shared.random));
        Some(mapped.map_or_else(|| subject.clone(), Bytes::from))
    }

    /// Gives up the attempt and begins another, not too soon after the last.
    pub(crate) fn restart(&mut self, turn: &mut Turn<'_>, place: &Place) {
        self.leave(turn, place);
        let earliest = self.attempted_ns.map_or(0, |at| at + ATTEMPT_INTERVAL_NS);
        self.phase = Phase::Waiting {
            until_ns: earliest.max(turn.now.monotonic_ns),
        };
    }

    fn failed(&mut self, turn: &mut Turn<'_>, place: &Place, error: Option<ReportedError>) {
        self.leave(turn, place);
        self.failures += 1;
        if error.is_some() {
            self.error = error;
        }
        let delay_ns = FAILURE_DELAY_NS
            .saturating_mul(self.failures)
            .min(FAILURE_DELAY_MAX_NS);
        self.phase = Phase::Waiting {
            until_ns: turn.now.after_ns(delay_ns),
        };
    }

    /// Listens no more, and has a consumer of its own removed.
    pub(crate) fn leave(&mut self, turn: &mut Turn<'_>, place: &Place) {
        let waiting = Phase::Waiting { until_ns: u64::MAX };
        let (attempt, consumer) = match std::mem::replace(&mut self.phase, waiting) {
            Phase::Waiting { .. } => return,
            Phase::Asked { attempt, .. } => (attempt, None),
            Phase::Pulling {
                attempt,
                consumer,
                acknowledges,
                ..
            } => (attempt, (!acknowledges).then_some(consumer)),
        };
        let Some(account) = place.account else {
            return;
        };
        attempt.bind(turn, account, false);
        turn.shared.remove_origin(attempt.origin);
        if let Some(consumer) = consumer.filter(|_| self.source.consumer.is_none()) {
            let ask = Ask::end(&self.source, &consumer);
            let reply = format!("$JSC.R.{}", turn.shared.random.base62(RANDOM_LENGTH));
            let (subject, reply) = (ask.subject.as_bytes(), reply.as_bytes());
            turn.out.send(account, subject, reply, &[], &ask.payload);
        }
    }

    /// As stream info reports it, but for how far it was read: the stream's state knows that.
    pub(crate) fn info(&self, now: Now) -> SourceInfo {
        let active_ns = self.heard_ns.map_or(-1, |at| {
            i64::try_from(now.monotonic_ns.saturating_sub(at)).unwrap_or(i64::MAX)
        });
        SourceInfo {
            lag: self.lag,
            active_ns,
            error: self.error.clone(),
            ..SourceInfo::of(&self.source)
        }
    }

    pub(crate) fn lag(&self) -> u64 {
        self.lag
    }

    pub(crate) fn is_pulling(&self) -> bool {
        matches!(self.phase, Phase::Pulling { .. })
    }
}

impl Attempt {
    /// Subscribes to what the origin sends, or takes that back.
    fn bind(&self, turn: &mut Turn<'_>, account: AccountRef, bind: bool) {
        let pairs = [
            (&self.deliver_subject, Endpoint::Origin(self.origin)),
            (&self.reply, Endpoint::OriginAnswer(self.origin)),
        ];
        for (filter, endpoint) in pairs {
            let filter = filter.clone();
            turn.effects.push(if bind {
                Effect::Bind {
                    account,
                    filter,
                    endpoint,
                }
            } else {
                Effect::Unbind {
                    account,
                    filter,
                    endpoint,
                }
            });
        }
    }
}
