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
//! * end of turn: [`Consumer::take_record`]; answers of acks are held by the stream until the
//!   records of that turn are applied.

mod ack_subject;
mod acks;
mod deliver;
mod explain;
mod invariants;
mod leader;
mod pending;
mod priority;
mod pull;
mod push;
mod record;
mod redelivery;
mod request;
mod settings;
mod source;
mod state;
mod status;
mod timers;
mod transfer;
mod waiting;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use millrace_clock::{Now, Random};
use millrace_store::stream::Filter;

pub use ack_subject::{AckSubject, parse_ack_subject};
pub use deliver::DELIVERIES_PER_WAKE_MAX;
pub use explain::{Explanation, Obstacle};
pub use record::SnapshotError;
pub use settings::{
    MAX_WAITING_DEFAULT, Mode, PullSettings, PushSettings, Settings, Start, StreamFacts,
};
pub use source::{Fetched, MessageSource, VisibleStore};
pub use transfer::{exported_state, imported_snapshot};

use leader::Leadership;
use pending::Slot;
use record::Changes;
use state::State;

use crate::ids::AccountRef;
use crate::model::{
    AckPolicy, ConsumerConfig, ConsumerInfo, PriorityGroupState, SequenceInfo, Timestamp,
};
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
    /// Something that must hold did not, and was put right.
    Repaired {
        /// What it was.
        violation: &'static str,
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

/// What an applied record settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Sequences acknowledged, terminated or (ack none on streams that remove on ack) delivered.
    /// A work queue removes them; an interest stream those that no consumer [`Consumer::needs`].
    pub settled: Vec<u64>,
    /// The last message that was delivered by then; 0: not said.
    pub delivered: u64,
}

/// One consumer.
#[derive(Debug)]
pub struct Consumer {
    settings: Settings,
    created_ns: i64,
    /// On the leader ahead of the log by what this turn and proposals in flight changed.
    state: State,
    /// What changed since the last record.
    turn: Changes,
    /// Whether an answer waits for this turn's record.
    urgent: bool,
    /// Delivered position of the log.
    applied_stream: u64,
    /// Settled, but not yet by an applied record (streams that remove on ack only).
    unconfirmed: BTreeMap<u64, Option<Slot>>,
    leader: Option<Box<Leadership>>,
}

/// Life and configuration.
impl Consumer {
    /// A new consumer as of the applied creation entry (`created_ns` is from the entry).
    #[must_use]
    pub fn create(settings: Settings, created_ns: i64, store: &dyn MessageSource) -> Self {
        let state = State::start(&settings, store);
        Self::with_state(settings, created_ns, state)
    }

    fn with_state(settings: Settings, created_ns: i64, state: State) -> Self {
        Self {
            settings,
            created_ns,
            applied_stream: state.delivered.stream,
            state,
            turn: Changes::default(),
            urgent: false,
            unconfirmed: BTreeMap::new(),
            leader: None,
        }
    }

    /// The effective configuration.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Wall time of the creation.
    #[must_use]
    pub const fn created_ns(&self) -> i64 {
        self.created_ns
    }

    /// Takes a new configuration (an applied update entry): the position stays, changed filters
    /// recount `num_pending`. A running pause is kept, whatever `settings` says. On the leader,
    /// follow with [`Consumer::interest_changed`] and `wake`.
    pub fn update(&mut self, settings: Settings, store: &dyn MessageSource) {
        let pause_until_ns = self.settings.pause_until_ns;
        let filter_changed = settings.filter != self.settings.filter;
        self.settings = Settings {
            pause_until_ns,
            ..settings
        };
        if filter_changed {
            self.state.num_pending = None;
            self.state.count(&self.settings.filter, store);
        }
        if let Some(leader) = self.leader.as_deref_mut() {
            leader.search_again();
            leader
                .pins
                .resize(self.settings.priority_groups.len(), None);
        }
    }

    /// The deliver subject whose interest the stream must watch; `None` in pull mode.
    #[must_use]
    pub fn watched_subject(&self) -> Option<&[u8]> {
        match &self.settings.mode {
            Mode::Push(push) => Some(push.deliver_subject.as_slice()),
            Mode::Pull(_) => None,
        }
    }

    /// This server leads the stream from now on: deliveries start with the next `wake`.
    /// `recovered`: the consumer existed before this leadership, so that acks may arrive for
    /// deliveries that were never logged.
    pub fn lead(&mut self, context: &mut ConsumerContext<'_>, recovered: bool) {
        const JITTER_NS_MAX: u64 = 1_000_000_000;
        let mut leader = Leadership::new(context.now, &context.place.stream, &self.settings);
        let last = context.store.last_sequence();
        if recovered && self.state.delivered.stream > last && self.state.delivered.consumer > 0 {
            // Memory streams come back empty: positions beyond their end mean nothing.
            self.state.delivered.stream = last;
            self.state.floor.stream = self.state.floor.stream.min(last);
            self.state.num_pending = None;
        }
        for sequence in self.state.pending.queued() {
            leader.redeliver.push(sequence);
        }
        leader.trusted_last = if recovered { last } else { 0 };
        leader.inactive_jitter_ns = context.random.below(JITTER_NS_MAX);
        leader.set_pause(context.now, self.settings.pause_until_ns);
        self.applied_stream = self.state.delivered.stream;
        self.unconfirmed.clear();
        self.leader = Some(Box::new(leader));
        self.state.count(&self.settings.filter, context.store);
        self.refresh_interest(context);
    }

    /// This server no longer leads. What it had not logged is taken back where it matters:
    /// acknowledgements that would have removed messages are pending again.
    pub fn follow(&mut self) {
        self.leader = None;
        self.turn = Changes::default();
        self.urgent = false;
        for (_, slot) in std::mem::take(&mut self.unconfirmed) {
            if let Some(slot) = slot {
                self.state.pending.insert(slot);
            }
        }
    }

    /// Raises the consumer's epoch (stepdown API): waiting pulls get `409 Leadership Change`,
    /// pins and flow state go.
    pub fn step_down(&mut self, context: &mut ConsumerContext<'_>) {
        self.end_requests(context, "409 Leadership Change");
        if let Some(leader) = self.leader.as_deref_mut() {
            leader.pins.fill(None);
            leader.push = push::PushState::default();
        }
        self.refresh_interest(context);
    }

    /// The consumer is being deleted: waiting pulls get `409 Consumer Deleted`. Drop it after.
    pub fn deleted(&mut self, context: &mut ConsumerContext<'_>) {
        self.end_requests(context, "409 Consumer Deleted");
        self.leader = None;
    }

    /// Interest in the watched subject changed. Follow with `wake`.
    pub fn interest_changed(&mut self, context: &mut ConsumerContext<'_>) {
        self.refresh_interest(context);
    }

    /// Pauses until a wall time, 0 = resume (an applied pause entry).
    pub fn pause(&mut self, now: Now, until_ns: i64) {
        self.settings.pause_until_ns = until_ns;
        if let Some(leader) = self.leader.as_deref_mut() {
            leader.set_pause(now, until_ns);
        }
    }

    /// Takes the pin from a group's client. False if there is no such group.
    pub fn unpin(&mut self, context: &mut ConsumerContext<'_>, group: &str) -> bool {
        let Some(index) = self
            .settings
            .priority_groups
            .iter()
            .position(|name| name == group)
        else {
            return false;
        };
        if let Some(leader) = self.leader.as_deref_mut() {
            leader.unpin(context.events, &self.settings, index, "admin");
        }
        true
    }
}

/// The stream's messages come and go.
impl Consumer {
    /// A message became visible at the end of the stream. Call on every replica, in order. True
    /// if this consumer wants it: follow with [`Consumer::wake`].
    pub fn message_appended(&mut self, sequence: u64, subject: &[u8]) -> bool {
        let wanted =
            sequence > self.state.delivered.stream && self.settings.filter.matches(subject);
        if wanted {
            self.state.appended();
        }
        wanted
    }

    /// A message left the stream (limits, delete, ack, expiry). Call after the store removed it,
    /// on every replica. If it was pending, that ends with a terminated advisory, and true says
    /// that there may be room for others: follow with [`Consumer::wake`]. A message that a filter of
    /// before let through is found gone when it is to be delivered again, as in the reference.
    pub fn message_removed(
        &mut self,
        sequence: u64,
        subject: &[u8],
        events: &mut Vec<ConsumerEvent>,
    ) -> bool {
        if !self.settings.filter.matches(subject) {
            return false;
        }
        let lost = self.state.removed(sequence, true);
        let was_pending = lost.is_some();
        if let (Some(leader), Some((slot, deliveries))) = (self.leader.as_deref_mut(), lost) {
            leader.redeliver.remove(sequence);
            events.push(ConsumerEvent::Terminated {
                consumer_sequence: slot.consumer_sequence,
                sequence,
                deliveries,
                reason: "Unacknowledged message was deleted".to_owned(),
            });
        }
        was_pending
    }

    /// Many messages left at once (purge): recounts instead of one call per message, silently.
    /// `purged`: what the purge was limited to; positions move only if it touches this
    /// consumer's subjects.
    pub fn purged(&mut self, store: &dyn MessageSource, purged: &Filter) {
        let moves = overlap(purged, &self.settings.filter);
        let gone = self.state.purged(&self.settings.filter, moves, store);
        if let Some(leader) = self.leader.as_deref_mut() {
            for sequence in gone {
                leader.redeliver.remove(sequence);
            }
        }
    }

    /// Whether the log still wants this message (interest retention): it matches, and no applied
    /// record settled it.
    #[must_use]
    pub fn needs(&self, sequence: u64, subject: &[u8]) -> bool {
        if !self.settings.filter.matches(subject) {
            return false;
        }
        let state = &self.state;
        if sequence > self.applied_stream {
            return self.unconfirmed.contains_key(&sequence)
                || !state.acked_ahead.contains(&sequence);
        }
        state.pending.contains(sequence)
            || state.redelivered.contains_key(&sequence)
            || self.unconfirmed.contains_key(&sequence)
    }
}

/// Whether a subject may pass both filters.
fn overlap(one: &Filter, other: &Filter) -> bool {
    one.is_all()
        || other.is_all()
        || one.subjects().any(|subject| {
            other
                .subjects()
                .any(|other| millrace_subject::overlaps(subject, other))
        })
}

/// The log.
impl Consumer {
    /// Whether only the position matters, and only now and then (hard-parts 10).
    fn logs_slowly(&self) -> bool {
        self.settings.ack_policy == AckPolicy::None && !self.settings.removes_on_ack
    }

    /// End of turn: what changed since the last record, if it is to be logged now.
    pub fn take_record(&mut self, now: Now) -> Option<ConsumerRecord> {
        let urgent = std::mem::take(&mut self.urgent);
        if self.settings.is_unlogged() {
            self.turn = Changes::default();
            return None;
        }
        if self.turn.is_empty() {
            return None;
        }
        let logs_slowly = self.logs_slowly();
        let leader = self.leader.as_deref_mut()?;
        let next_ns = leader
            .position_logged_ns
            .saturating_add(timers::POSITION_INTERVAL_NS);
        if logs_slowly && next_ns > now.monotonic_ns {
            return None;
        }
        leader.position_logged_ns = now.monotonic_ns;
        let mut changes = std::mem::take(&mut self.turn);
        changes.epoch = self.state.epoch;
        changes.time_ns = leader.axis_ns(now);
        changes.acked.sort_unstable();
        changes.exhausted.sort_unstable();
        let settled = !changes.acked.is_empty() || !changes.exhausted.is_empty();
        changes.floor = settled.then_some(self.state.floor);
        let data = changes.encode();
        Some(ConsumerRecord { data, urgent })
    }

    /// Applies a logged record, on every replica and in recovery. `own`: this server made it and
    /// has led ever since, so that the live state holds it already.
    ///
    /// # Errors
    /// [`SnapshotError`] for bytes that this version cannot read; nothing changes then.
    pub fn apply(
        &mut self,
        data: &[u8],
        own: bool,
        store: &dyn MessageSource,
    ) -> Result<Applied, SnapshotError> {
        let changes = Changes::decode(data)?;
        if changes.epoch != self.state.epoch {
            return Ok(Applied::default());
        }
        let mut settled = Vec::new();
        if !own {
            self.state
                .apply(&changes, &self.settings, store, &mut settled);
        }
        if let Some(delivered) = changes.delivered {
            self.applied_stream = self.applied_stream.max(delivered.stream);
        }
        if !self.unconfirmed.is_empty() {
            for sequence in &changes.acked {
                self.unconfirmed.remove(sequence);
            }
        }
        settled.extend(changes.acked);
        let delivered = changes.delivered.map_or(0, |delivered| delivered.stream);
        Ok(Applied { settled, delivered })
    }

    /// Where a reset to `sequence` would start (`None`: behind the ack floor), or the text that
    /// follows `invalid reset: `. Ask before proposing.
    ///
    /// # Errors
    /// The reason of the refusal.
    pub fn check_reset(
        &self,
        sequence: Option<u64>,
        store: &dyn MessageSource,
    ) -> Result<u64, &'static str> {
        let floor_next = self.state.floor.stream.saturating_add(1);
        let Some(sequence) = sequence.filter(|sequence| *sequence != 0) else {
            return Ok(floor_next);
        };
        match self.settings.start {
            Start::All => Ok(sequence),
            Start::Sequence(start) if sequence < start => Err("below start seq"),
            Start::Time(time_ns) if sequence < store.sequence_at(time_ns) => {
                Err("below start time")
            }
            Start::Sequence(_) | Start::Time(_) => Ok(sequence),
            Start::Last | Start::New | Start::LastPerSubject => Err("not allowed"),
        }
    }

    /// Starts again at a sequence (an applied reset entry): pending and counts are cleared.
    pub fn reset(&mut self, sequence: u64, store: &dyn MessageSource) {
        self.state.reset(sequence, &self.settings.filter, store);
        self.turn = Changes::default();
        self.unconfirmed.clear();
        self.applied_stream = self.state.delivered.stream;
        if let Some(leader) = self.leader.as_deref_mut() {
            leader.redeliver.clear();
            leader.search_again();
            leader.trusted_last = 0;
        }
    }

    /// All messages up to this sequence are acknowledged.
    #[must_use]
    pub const fn ack_floor(&self) -> u64 {
        self.state.floor.stream
    }

    /// Stream sequence delivered last.
    pub(crate) const fn last_delivered(&self) -> u64 {
        self.state.delivered.stream
    }

    /// State for a checkpoint.
    #[must_use]
    pub fn snapshot(&self) -> Bytes {
        let unconfirmed = self.unconfirmed.values().flatten();
        record::encode_snapshot(self.created_ns, &self.state, unconfirmed)
    }

    /// A consumer from a checkpoint.
    ///
    /// # Errors
    /// [`SnapshotError`] for bytes that this version cannot read.
    pub fn restore(settings: Settings, snapshot: &[u8]) -> Result<Self, SnapshotError> {
        let (created_ns, state) = record::decode_snapshot(snapshot)?;
        Ok(Self::with_state(settings, created_ns, state))
    }
}

/// After a restart, before the stream's index is there.
impl Consumer {
    /// `num_pending` is known without asking the store.
    #[must_use]
    pub const fn is_counted(&self) -> bool {
        self.state.num_pending.is_some()
    }

    /// Messages or records were lost to damage: what is pending is counted when it is asked for.
    pub const fn recount(&mut self) {
        self.state.num_pending = None;
    }

    /// Somebody waits for messages and there may be some.
    #[must_use]
    pub fn is_hungry(&self) -> bool {
        let Some(leader) = self.leader.as_deref() else {
            return false;
        };
        let asked = leader.push.active || !leader.waiting.is_empty();
        asked && (self.state.num_pending != Some(0) || leader.redeliver.len() > 0)
    }
}

/// Information.
impl Consumer {
    /// Consumer info without `cluster`. `config` is the stored configuration. On the leader it
    /// also drops requests without interest.
    pub fn info(
        &mut self,
        context: &mut ConsumerContext<'_>,
        config: &ConsumerConfig,
    ) -> ConsumerInfo {
        self.prune_requests(context);
        let num_pending = self.state.count(&self.settings.filter, context.store);
        self.describe(context.now, &context.place.stream, config, num_pending)
    }

    /// Messages not yet delivered; `count_from` counts those of a filter from a sequence on.
    #[must_use]
    pub fn num_pending(&self, count_from: impl FnOnce(&Filter, u64) -> u64) -> u64 {
        let filter = &self.settings.filter;
        self.state.counted(|from| count_from(filter, from))
    }

    /// [`Self::info`] for who only looks.
    #[must_use]
    pub fn describe(
        &self,
        now: Now,
        stream: &str,
        config: &ConsumerConfig,
        num_pending: u64,
    ) -> ConsumerInfo {
        let state = &self.state;
        let leader = self.leader.as_deref();
        let (num_ack_pending, num_redelivered, num_waiting) = self.loads();
        let now_ns = now.wall_ns;
        let active = |time_ns: i64| (time_ns != 0).then_some(Timestamp(time_ns));
        let pause_left_ns = self.settings.pause_until_ns.saturating_sub(now_ns).max(0);
        ConsumerInfo {
            stream_name: stream.to_owned(),
            name: self.settings.name.clone(),
            created: Timestamp(self.created_ns),
            config: config.clone(),
            delivered: SequenceInfo {
                consumer: state.delivered.consumer,
                stream: state.delivered.stream,
                last_active: active(state.last_delivered_ns),
            },
            ack_floor: SequenceInfo {
                consumer: state.floor.consumer,
                stream: state.floor.stream,
                last_active: active(state.last_ack_ns),
            },
            num_ack_pending,
            num_redelivered,
            num_waiting,
            num_pending,
            cluster: None,
            push_bound: leader.is_some_and(|leader| leader.push.active),
            paused: pause_left_ns > 0,
            pause_remaining_ns: pause_left_ns,
            ts: Timestamp(now_ns),
            priority_groups: self.priority_group_states(),
        }
    }

    /// What waits for acknowledgement, what was delivered more than once, and waiting requests.
    pub(crate) fn loads(&self) -> (u64, u64, u64) {
        let redelivered = match self.settings.max_deliver {
            1 => 0,
            _ => self.state.redelivered.len() as u64,
        };
        let leader = self.leader.as_deref();
        let waiting = leader.map_or(0, |leader| leader.waiting.len() as u64);
        (self.state.pending.len() as u64, redelivered, waiting)
    }

    /// Whether deliveries are paused now.
    #[must_use]
    pub const fn is_paused(&self, now: Now) -> bool {
        self.settings.pause_until_ns > now.wall_ns
    }

    fn priority_group_states(&self) -> Vec<PriorityGroupState> {
        let pins = self
            .leader
            .as_deref()
            .map_or(&[][..], |leader| &leader.pins);
        let groups = self.settings.priority_groups.iter().enumerate();
        groups
            .map(|(index, group)| {
                let pin = pins.get(index).and_then(Option::as_ref);
                PriorityGroupState {
                    group: group.clone(),
                    pinned_client_id: pin.map(|pin| pin.id.clone()).unwrap_or_default(),
                    pinned_ts: pin.map_or(Timestamp::ZERO, |pin| Timestamp(pin.since_ns)),
                }
            })
            .collect()
    }
}
