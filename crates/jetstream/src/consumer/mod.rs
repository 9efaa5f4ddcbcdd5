//! Consumers: cursors over one stream, state machines inside the stream's state machine
//! (DESIGN decision 6, hard-parts 10). The stream calls in, a consumer delivers through
//! [`Outbound`], pushes events, and at the end of the turn hands over records for the log.
//!
//! How the stream drives a consumer:
//! * creation entry applied (every replica): [`Consumer::create`]; recovery from a checkpoint:
//!   [`Consumer::restore`]; every later [`ConsumerRecord`] entry: [`Consumer::apply`].
//! * becoming leader: [`Consumer::lead`]; losing it: [`Consumer::follow`].
//! * message appended and visible: [`Consumer::message_appended`] for each, then `wake`.
//! * message removed / purge applied: [`Consumer::message_removed`] / [`Consumer::purged`].
//! * inputs on the leader: [`Consumer::pull_request`], [`Consumer::acknowledge`],
//!   [`Consumer::flow_control_reply`], [`Consumer::interest_changed`], [`Consumer::tick`].
//! * after any input: [`Consumer::wake`] until it says [`Wake::Idle`] or [`Wake::Loading`].
//! * end of turn: [`Consumer::take_records`]; answers of acks are held by the stream until the
//!   records of that turn are applied.

mod filter;
mod settings;
mod source;

use bytes::Bytes;
use millrace_clock::{Now, Random};

pub use filter::Filter;
pub use settings::{
    AckPolicy, DeliverPolicy, Mode, PriorityPolicy, PullSettings, PushSettings, Settings,
};
pub use source::{Fetched, MessageSource, SourceMessage};

use crate::ids::AccountRef;
use crate::outbound::Outbound;

/// Where a consumer lives: names for subjects, the account for deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The account of the stream.
    pub account: AccountRef,
    /// Stream name.
    pub stream: String,
    /// JetStream domain, empty = none.
    pub domain: String,
    /// Voters of the stream's group.
    pub replicas: usize,
    /// Whether acks remove messages (interest or work queue retention).
    pub removes_on_ack: bool,
}

/// What a consumer may touch while it handles an input.
pub struct ConsumerContext<'a> {
    /// The moment of this input.
    pub now: Now,
    /// The stream's visible messages.
    pub store: &'a mut dyn MessageSource,
    /// Deliveries and status messages.
    pub outbound: &'a mut dyn Outbound,
    /// Things that happened, for advisories and for the stream.
    pub events: &'a mut Vec<ConsumerEvent>,
    /// Chance (flow control ids, pins, sampling).
    pub random: &'a mut Random,
    /// Names.
    pub place: &'a Place,
}

/// Something others may want to know. Advisories are built by `api`, only if somebody listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumerEvent {
    /// MAX_DELIVERIES.
    MaxDeliveries {
        /// Stream sequence.
        sequence: u64,
        /// Deliveries made.
        deliveries: u64,
    },
    /// MSG_NAKED.
    Naked {
        /// Consumer sequence.
        consumer_sequence: u64,
        /// Stream sequence.
        sequence: u64,
        /// Deliveries made.
        deliveries: u64,
    },
    /// MSG_TERMINATED.
    Terminated {
        /// Consumer sequence.
        consumer_sequence: u64,
        /// Stream sequence.
        sequence: u64,
        /// Deliveries made.
        deliveries: u64,
        /// Why, empty when not told.
        reason: String,
    },
    /// PINNED.
    Pinned {
        /// Priority group.
        group: String,
        /// New pin id.
        id: String,
    },
    /// UNPINNED.
    Unpinned {
        /// Priority group.
        group: String,
        /// `timeout` or `admin`.
        reason: &'static str,
    },
    /// A pause ran out: PAUSE advisory with `paused:false`.
    PauseEnded,
    /// The ack metric of a sampled message.
    AckSample {
        /// Consumer sequence.
        consumer_sequence: u64,
        /// Stream sequence.
        sequence: u64,
        /// Nanoseconds since the last delivery.
        ack_time_ns: u64,
        /// Deliveries made.
        deliveries: u64,
    },
    /// Inactive for its threshold: the stream proposes the deletion. Said once a second until done.
    Inactive,
}

/// What to do with the reply subject of an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckAnswer {
    /// No answer is due.
    Silent,
    /// An empty message to the reply subject once this turn's records are applied.
    AfterCommit,
}

/// What [`Consumer::wake`] left undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Nothing more can be done now.
    Idle,
    /// The bound of one turn was reached: call again.
    More,
    /// Waits for a disk read: call again when the store says so.
    Loading,
}

/// A record for the stream's log, opaque to the stream (binary, versioned).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// Encoded content.
    pub data: Bytes,
    /// True: an answer waits for it (durability now); false: lazy.
    pub urgent: bool,
}

/// Counters for consumer info.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerInfoState {
    /// Deliveries including redeliveries.
    pub delivered_consumer: u64,
    /// Highest stream sequence delivered.
    pub delivered_stream: u64,
    /// Wall time of the last delivery, 0 = never.
    pub last_delivered_ns: i64,
    /// Consumer sequence of the ack floor.
    pub ack_floor_consumer: u64,
    /// Stream sequence of the ack floor.
    pub ack_floor_stream: u64,
    /// Wall time of the last ack, 0 = never.
    pub last_ack_ns: i64,
    /// Unacknowledged messages.
    pub num_ack_pending: usize,
    /// Messages delivered more than once.
    pub num_redelivered: usize,
    /// Waiting pull requests.
    pub num_waiting: usize,
    /// Matching messages not yet delivered.
    pub num_pending: u64,
    /// Whether somebody listens to the deliver subject.
    pub push_bound: bool,
}

/// One consumer.
#[derive(Debug)]
pub struct Consumer {
    settings: Settings,
}

impl Consumer {
    /// A new consumer as of the applied creation entry (deterministic: `created_ns` is from it).
    #[must_use]
    pub fn create(settings: Settings, created_ns: i64, store: &dyn MessageSource) -> Self {
        let _ = (created_ns, store);
        Self { settings }
    }

    /// The effective configuration.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes a new configuration (an applied update entry). Changed filters recount
    /// `num_pending`.
    pub fn update(&mut self, settings: Settings, store: &dyn MessageSource) {
        let _ = store;
        self.settings = settings;
    }

    /// The deliver subject whose interest the stream must watch; `None` in pull mode.
    #[must_use]
    pub const fn watched_subject(&self) -> Option<&[u8]> {
        match &self.settings.mode {
            Mode::Push(push) => Some(push.deliver_subject.as_slice()),
            Mode::Pull(_) => None,
        }
    }

    /// This server leads the stream from now on: deliveries start with the next `wake`.
    pub fn lead(&mut self, context: &mut ConsumerContext<'_>) {
        let _ = context;
    }

    /// This server no longer leads: waiting requests, pins and flow state are forgotten.
    pub fn follow(&mut self) {}

    /// Raises the consumer's epoch (stepdown API): waiting pulls get `409 Leadership Change`.
    pub fn step_down(&mut self, context: &mut ConsumerContext<'_>) {
        let _ = context;
    }

    /// The consumer is being deleted: waiting pulls get `409 Consumer Deleted`. Drop it after.
    pub fn deleted(&mut self, context: &mut ConsumerContext<'_>) {
        let _ = context;
    }

    /// A message became visible at the end of the stream. Call on every replica, in order.
    pub fn message_appended(&mut self, sequence: u64, subject: &[u8]) {
        let _ = (sequence, subject);
    }

    /// A message left the stream (limits, delete, ack, expiry). Call after the store removed it.
    pub fn message_removed(
        &mut self,
        sequence: u64,
        subject: &[u8],
        events: &mut Vec<ConsumerEvent>,
    ) {
        let _ = (sequence, subject, events);
    }

    /// Many messages left at once (purge): recounts instead of one call per message.
    pub fn purged(&mut self, store: &dyn MessageSource, events: &mut Vec<ConsumerEvent>) {
        let _ = (store, events);
    }

    /// A pull request: body of `CONSUMER.MSG.NEXT` and the inbox. Statuses go out at once.
    pub fn pull_request(&mut self, context: &mut ConsumerContext<'_>, reply: &[u8], body: &[u8]) {
        let _ = (context, reply, body);
    }

    /// An acknowledgement: message on the ack subject (see [`parse_ack_subject`]).
    pub fn acknowledge(
        &mut self,
        context: &mut ConsumerContext<'_>,
        subject: &AckSubject<'_>,
        reply: &[u8],
        headers: &[u8],
        payload: &[u8],
    ) -> AckAnswer {
        let _ = (context, subject, reply, headers, payload);
        AckAnswer::Silent
    }

    /// A message on `$JS.FC.<stream>.<consumer>.<id>`.
    pub fn flow_control_reply(&mut self, context: &mut ConsumerContext<'_>, subject: &[u8]) {
        let _ = (context, subject);
    }

    /// Interest in the watched subject changed.
    pub fn interest_changed(&mut self, context: &mut ConsumerContext<'_>) {
        let _ = context;
    }

    /// Timers: ack waits, request expiry, heartbeats, inactivity, pause end.
    pub fn tick(&mut self, context: &mut ConsumerContext<'_>) {
        let _ = context;
    }

    /// When [`Consumer::tick`] wants to be called, monotonic nanoseconds.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<u64> {
        None
    }

    /// Delivers what can be delivered, bounded per call.
    pub fn wake(&mut self, context: &mut ConsumerContext<'_>) -> Wake {
        let _ = context;
        Wake::Idle
    }

    /// End of turn: what this turn changed, as at most one record (none when nothing changed,
    /// or for volatile consumers).
    pub fn take_record(&mut self, now: Now) -> Option<ConsumerRecord> {
        let _ = now;
        None
    }

    /// Applies a logged record, on every replica and in recovery. `own` = this server made it and
    /// led ever since, so the live state already holds it.
    pub fn apply(&mut self, data: &[u8], own: bool, store: &dyn MessageSource) -> Applied {
        let _ = (data, own, store);
        Applied::default()
    }

    /// Whether the applied state still wants this message (interest retention): it matches and
    /// is not yet acknowledged in the log.
    #[must_use]
    pub fn needs(&self, sequence: u64, subject: &[u8]) -> bool {
        let _ = sequence;
        self.settings.filter.matches(subject)
    }

    /// Pauses until a wall time, 0 = resume (an applied pause entry).
    pub const fn pause(&mut self, until_ns: i64) {
        self.settings.pause_until_ns = until_ns;
    }

    /// Where a reset would start (`None` body = ack floor + 1), or the text after
    /// `invalid reset: `. Ask before proposing.
    pub const fn check_reset(&self, sequence: Option<u64>) -> Result<u64, &'static str> {
        match sequence {
            Some(sequence) => Ok(sequence),
            None => Ok(1),
        }
    }

    /// Starts again at a sequence (an applied reset entry): pending and counts are cleared.
    pub fn reset(&mut self, sequence: u64, store: &dyn MessageSource) {
        let _ = (sequence, store);
    }

    /// Takes the pin from a group's client. False if there is no such group.
    pub fn unpin(&mut self, context: &mut ConsumerContext<'_>, group: &str) -> bool {
        let _ = (context, group);
        false
    }

    /// Counters for consumer info.
    pub fn info(&mut self, context: &mut ConsumerContext<'_>) -> ConsumerInfoState {
        let _ = context;
        ConsumerInfoState::default()
    }

    /// State for a checkpoint.
    #[must_use]
    pub fn snapshot(&self) -> Bytes {
        Bytes::new()
    }

    /// A consumer from a checkpoint. An unreadable snapshot is an error.
    pub fn restore(settings: Settings, snapshot: &[u8]) -> Result<Self, SnapshotError> {
        let _ = snapshot;
        Ok(Self { settings })
    }
}

/// What an applied record settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Sequences acknowledged, terminated or (ack none on streams that remove on ack) delivered.
    /// A work queue removes them; an interest stream those that no consumer [`Consumer::needs`].
    pub settled: Vec<u64>,
}

/// A checkpoint of a consumer cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("consumer snapshot is unreadable")]
pub struct SnapshotError;

/// The parts of an ack subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckSubject<'a> {
    /// Stream name.
    pub stream: &'a [u8],
    /// Consumer name.
    pub consumer: &'a [u8],
    /// Delivery count.
    pub deliveries: u64,
    /// Stream sequence.
    pub stream_sequence: u64,
    /// Consumer sequence.
    pub consumer_sequence: u64,
}

/// Reads `$JS.ACK...` in its old (9 tokens) and new (11 or more tokens) form.
#[must_use]
pub fn parse_ack_subject(subject: &[u8]) -> Option<AckSubject<'_>> {
    let mut tokens = [b"".as_slice(); 11];
    let mut count = 0;
    for token in subject.split(|byte| *byte == b'.') {
        if let Some(slot) = tokens.get_mut(count) {
            *slot = token;
        }
        count += 1;
    }
    let tokens = match count {
        9 => tokens.get(2..)?,
        11.. => tokens.get(4..)?,
        _ => return None,
    };
    let &[
        stream,
        consumer,
        deliveries,
        stream_sequence,
        consumer_sequence,
        ..,
    ] = tokens
    else {
        return None;
    };
    Some(AckSubject {
        stream,
        consumer,
        deliveries: number(deliveries)?,
        stream_sequence: number(stream_sequence)?,
        consumer_sequence: number(consumer_sequence)?,
    })
}

fn number(token: &[u8]) -> Option<u64> {
    std::str::from_utf8(token).ok()?.parse().ok()
}
