//! A stream's consumers: how entries, messages, inputs and time reach them (hard-parts 10). What a
//! consumer does with them is `crate::consumer`'s business.

use bytes::Bytes;
use millrace_clock::Now;
use millrace_store::stream::Filter;

use super::checkpoint::RestoreError;
use super::sweep::Sweep;
use super::{Lead, Stream};
use crate::consumer::{
    AckAnswer, Consumer, ConsumerContext, ConsumerEvent, Place, Settings, StreamFacts,
    VisibleStore, Wake, parse_ack_subject,
};
use crate::entry::{Operation, Reader, put_block, put_i64, put_u64};
use crate::ids::Endpoint;
use crate::io::{Durability, Effect, LogLevel, Message};
use crate::model::{AckPolicy, ConsumerConfig, RetentionPolicy};
use crate::request::Outcome;
use crate::shared::Turn;

/// Times that a consumer's deliveries are continued within one turn.
const WAKES_PER_TURN: usize = 4;

/// A consumer and what the stream keeps about it.
#[derive(Debug)]
pub struct ConsumerSlot {
    /// The stored configuration.
    pub config: ConsumerConfig,
    pub created_ns: i64,
    pub consumer: Consumer,
    place: Place,
    /// Its number in the index.
    pub(super) number: u32,
    pub(super) deadline_ns: Option<u64>,
    /// It may have something to deliver.
    pub(super) wake: bool,
    /// Its deadline may have moved.
    pub(super) touched: bool,
    /// It may have something to log.
    pub(super) unlogged: bool,
    /// Its deletion is in flight: it confirms nothing any more.
    leaving: bool,
}

impl Stream {
    pub(super) fn place(&self, domain: &str) -> Place {
        Place {
            account: self.account,
            stream: self.name.clone(),
            domain: domain.to_owned(),
        }
    }

    pub(super) fn facts(&self, config: &ConsumerConfig) -> StreamFacts {
        let single = self.config.num_replicas <= 1;
        StreamFacts {
            volatile: single && (config.memory_storage || config.direct),
            removes_on_ack: self.config.retention != RetentionPolicy::Limits,
        }
    }

    pub(super) fn insert_consumer(
        &mut self,
        name: &str,
        config: ConsumerConfig,
        created_ns: i64,
        consumer: Consumer,
        place: Place,
    ) {
        let filter = &consumer.settings().filter;
        let number = self.consumer_index.insert(name, filter);
        let mut slot = ConsumerSlot {
            config,
            created_ns,
            consumer,
            place,
            number,
            deadline_ns: None,
            wake: false,
            touched: false,
            unlogged: false,
            leaving: false,
        };
        self.consumer_index.marks.wake(&mut slot);
        self.consumer_index.marks.touch(&mut slot);
        self.consumers.insert(name.to_owned(), slot);
    }

    /// Hands a consumer to `act` together with what it may touch. `None`: no such consumer.
    pub fn with_consumer<R>(
        &mut self,
        turn: &mut Turn<'_>,
        name: &str,
        act: impl FnOnce(&mut Consumer, &mut ConsumerContext<'_>) -> R,
    ) -> Option<R> {
        let watermark = self.store.state().last_sequence;
        let slot = self.consumers.get_mut(name)?;
        self.consumer_index.marks.touch(slot);
        let mut events = Vec::new();
        let mut context = ConsumerContext {
            now: turn.now,
            store: &mut VisibleStore::new(&mut self.store, watermark),
            outbound: turn.out,
            events: &mut events,
            random: &mut turn.shared.random,
            place: &slot.place,
        };
        let result = act(&mut slot.consumer, &mut context);
        self.consumer_events(turn, name, events);
        Some(result)
    }

    fn consumer_events(&mut self, turn: &mut Turn<'_>, name: &str, events: Vec<ConsumerEvent>) {
        for event in events {
            if let ConsumerEvent::Repaired { violation } = event {
                turn.shared.consumers_repaired += 1;
                let text = format!(
                    "JetStream consumer '{} > {name}': repaired: {violation}",
                    self.name
                );
                turn.effects.push(Effect::Log {
                    level: LogLevel::Error,
                    text,
                });
            }
            if event == ConsumerEvent::Inactive {
                self.remove_inactive(turn.now, name);
            } else {
                turn.shared
                    .consumer_events
                    .push((self.id, name.to_owned(), event));
            }
        }
    }

    fn remove_inactive(&mut self, now: Now, name: &str) {
        let free = self.lead.commit.is_none();
        let slot = self.consumers.get_mut(name);
        let Some(slot) = slot.filter(|slot| free && !slot.leaving) else {
            return;
        };
        slot.leaving = true;
        let name = Bytes::copy_from_slice(name.as_bytes());
        stage_record(&mut self.lead, slot, now, name.clone());
        self.lead
            .stage(&Operation::ConsumerDelete { name }, Durability::Now);
    }

    /// True if some consumer wants messages on this subject.
    pub(crate) fn is_wanted(&self, subject: &[u8]) -> bool {
        self.config.retention != RetentionPolicy::Interest || self.consumer_index.is_wanted(subject)
    }

    pub(super) fn consumers_see(&mut self, sequence: u64, subject: &[u8]) {
        let consumers = &mut self.consumers;
        self.consumer_index
            .for_concerned(consumers, subject, |_, slot, marks| {
                if slot.consumer.message_appended(sequence, subject) {
                    marks.wake(slot);
                }
            });
    }

    pub(super) fn consumers_lose(&mut self, sequence: u64, subject: &[u8]) {
        let mut events = Vec::new();
        let losses = &mut self.consumer_losses;
        let consumers = &mut self.consumers;
        self.consumer_index
            .for_concerned(consumers, subject, |name, slot, marks| {
                if slot
                    .consumer
                    .message_removed(sequence, subject, &mut events)
                {
                    marks.wake(slot);
                    marks.touch(slot);
                }
                losses.extend(events.drain(..).map(|event| (name.to_owned(), event)));
            });
    }

    /// Every consumer is looked at in this turn.
    pub(crate) fn wake_every_consumer(&mut self) {
        for slot in self.consumers.values_mut() {
            self.consumer_index.marks.wake(slot);
        }
    }

    pub(super) fn consumers_purged(&mut self, filter: Option<&Filter>) {
        let all = Filter::all();
        let watermark = self.store.state().last_sequence;
        let store = VisibleStore::new(&mut self.store, watermark);
        for slot in self.consumers.values_mut() {
            slot.consumer.purged(&store, filter.unwrap_or(&all));
        }
        self.wake_every_consumer();
    }

    /// Lets consumers deliver what they can, bounded per turn.
    pub(crate) fn wake_all(&mut self, turn: &mut Turn<'_>) {
        for (name, event) in std::mem::take(&mut self.consumer_losses) {
            turn.shared.consumer_events.push((self.id, name, event));
        }
        if self.is_applying() {
            return;
        }
        let woken = self.consumer_index.marks.take_woken();
        if woken.is_empty() {
            return;
        }
        for number in woken {
            let Some(name) = self.consumer_index.name(number).cloned() else {
                continue;
            };
            let starting = self.is_starting();
            let mut hungry = false;
            if let Some(slot) = self.consumers.get_mut(&name) {
                slot.wake = false;
                hungry = slot.consumer.is_hungry();
            }
            if starting && hungry {
                // All are woken when the start is over.
                self.want_index(turn.shared);
            } else if !starting && self.lead.is_leader {
                self.wake_one(turn, &name);
            }
        }
        self.poll_store(turn);
    }

    fn wake_one(&mut self, turn: &mut Turn<'_>, name: &str) {
        if self.is_starting() {
            return self.wake_later(name);
        }
        for _ in 0..WAKES_PER_TURN {
            match self.with_consumer(turn, name, |consumer, context| consumer.wake(context)) {
                Some(Wake::More) => {}
                // The read that is asked for here wakes all consumers when it ends.
                Some(Wake::Loading) => return self.poll_store(turn),
                Some(Wake::Idle) | None => return,
            }
        }
        // More than a turn's share: go on with the next one.
        self.wake_later(name);
    }

    fn wake_later(&mut self, name: &str) {
        if let Some(slot) = self.consumers.get_mut(name) {
            self.consumer_index.marks.wake(slot);
        }
    }

    /// An acknowledgement, a pull request or an answer to flow control.
    pub fn consumer_input(&mut self, turn: &mut Turn<'_>, endpoint: Endpoint, message: &Message) {
        if !self.lead.is_leader {
            return;
        }
        match endpoint {
            // It reads nothing: what it makes room for is delivered at the end of the turn.
            Endpoint::Ack(_) => return self.acknowledge(turn, message),
            Endpoint::NextRequest(_) => {
                let Some(name) = last_token(&message.subject) else {
                    return;
                };
                self.with_consumer(turn, &name, |consumer, context| {
                    consumer.pull_request(context, &message.reply, &message.payload);
                });
                self.wake_one(turn, &name);
            }
            Endpoint::FlowControl(_) => {
                let Some(name) = token(&message.subject, 3) else {
                    return;
                };
                self.with_consumer(turn, &name, |consumer, context| {
                    consumer.flow_control_reply(context, &message.subject, &message.headers);
                });
                self.wake_one(turn, &name);
            }
            _ => {}
        }
        self.poll_store(turn);
    }

    fn acknowledge(&mut self, turn: &mut Turn<'_>, message: &Message) {
        let Some(subject) = parse_ack_subject(&message.subject) else {
            return;
        };
        let Ok(name) = std::str::from_utf8(subject.consumer) else {
            return;
        };
        if self.consumers.get(name).is_some_and(|slot| slot.leaving) {
            return;
        }
        let answer = self.with_consumer(turn, name, |consumer, context| {
            consumer.acknowledge(context, &subject, &message.reply, &message.payload)
        });
        if answer == Some(AckAnswer::AfterCommit) && !message.reply.is_empty() {
            self.lead.turn_acknowledgements.push(message.reply.clone());
        }
        if self.config.retention != RetentionPolicy::Limits {
            self.lead.unstaged = true;
        }
        // Acknowledgements come in runs: what they make room for is delivered once, behind the last.
        self.wake_later(name);
    }

    /// The end of a turn: what consumers want logged goes into the entry, and acknowledgements
    /// that were asked to be confirmed wait for it.
    pub(super) fn collect_consumer_records(&mut self, turn: &mut Turn<'_>) {
        for number in self.consumer_index.marks.take_unlogged() {
            let Some(name) = self.consumer_index.name(number) else {
                continue;
            };
            let Some(slot) = self.consumers.get_mut(name) else {
                continue;
            };
            slot.unlogged = false;
            let name = Bytes::copy_from_slice(name.as_bytes());
            stage_record(&mut self.lead, slot, turn.now, name);
        }
        if std::mem::take(&mut self.lead.unstaged) {
            self.lead.note_unheard();
        }
        for reply in std::mem::take(&mut self.lead.turn_acknowledgements) {
            self.lead.acknowledge_later(reply);
        }
        self.release_answers(turn);
    }

    /// A consumer's deletion is staged next: what it was told so far goes into the log before it, or
    /// messages whose acknowledgement is confirmed would stay. From now on it confirms nothing.
    pub(super) fn stage_last_record(&mut self, now: Now, name: &Bytes) {
        let known = std::str::from_utf8(name).ok();
        if let Some(slot) = known.and_then(|known| self.consumers.get_mut(known)) {
            slot.leaving = true;
            stage_record(&mut self.lead, slot, now, name.clone());
        }
    }

    /// Applies what concerns consumers.
    pub(super) fn apply_consumer(
        &mut self,
        turn: &mut Turn<'_>,
        operation: Operation,
        own: Option<u64>,
    ) {
        let text = |name: &Bytes| String::from_utf8_lossy(name).into_owned();
        match operation {
            Operation::Consumer { name, record } => {
                self.apply_consumer_record(turn, &text(&name), &record, own.is_some());
            }
            Operation::ConsumerCreate {
                created_ns,
                name,
                config,
            } => {
                self.apply_consumer_create(turn, &text(&name), created_ns, &config, own);
            }
            Operation::ConsumerDelete { name } => {
                self.apply_consumer_delete(turn, &text(&name), own);
            }
            Operation::ConsumerPause { until_ns, name } => {
                let consumer = text(&name);
                if let Some(slot) = self.consumers.get_mut(&consumer) {
                    slot.consumer.pause(turn.now, until_ns);
                    slot.config.pause_until =
                        (until_ns != 0).then_some(crate::model::Timestamp(until_ns));
                }
                self.wake_later(&consumer);
                self.finish(own, |stream| Outcome::ConsumerPaused { stream, consumer });
            }
            Operation::ConsumerReset { sequence, name } => {
                let consumer = text(&name);
                let watermark = self.store.state().last_sequence;
                let store = VisibleStore::new(&mut self.store, watermark);
                if let Some(slot) = self.consumers.get_mut(&consumer) {
                    slot.consumer.reset(sequence, &store);
                }
                self.wake_later(&consumer);
                self.finish(own, |stream| Outcome::ConsumerReset { stream, consumer });
            }
            _ => {}
        }
    }

    fn apply_consumer_record(
        &mut self,
        turn: &mut Turn<'_>,
        name: &str,
        record: &Bytes,
        own: bool,
    ) {
        let watermark = self.store.state().last_sequence;
        let store = VisibleStore::new(&mut self.store, watermark);
        let Some(slot) = self.consumers.get_mut(name) else {
            return;
        };
        let applied = match slot.consumer.apply(record, own, &store) {
            Ok(applied) => applied,
            Err(error) => {
                let text = format!("JetStream consumer '{} > {name}': {error}", self.name);
                turn.effects.push(Effect::Log {
                    level: LogLevel::Error,
                    text,
                });
                return;
            }
        };
        // What was delivered was there, also when the entry that had it is lost.
        self.close_gap(turn, applied.delivered + 1);
        match self.config.retention {
            RetentionPolicy::Limits => {}
            RetentionPolicy::WorkQueue => {
                for sequence in applied.settled {
                    self.remove(sequence);
                }
            }
            RetentionPolicy::Interest => {
                for sequence in applied.settled {
                    self.remove_if_unneeded(sequence);
                }
            }
        }
    }

    pub(super) fn remove_if_unneeded(&mut self, sequence: u64) {
        let Some(subject) = self.store.subject_of(sequence) else {
            return;
        };
        let needed = self
            .consumers
            .values()
            .any(|slot| slot.consumer.needs(sequence, subject));
        if !needed {
            self.remove(sequence);
        }
    }

    /// Consumers learn whether their acknowledgements remove messages now; what all have
    /// acknowledged already goes.
    pub(super) fn retention_changed(&mut self) {
        let names: Vec<String> = self.consumers.keys().cloned().collect();
        for name in names {
            let Some(slot) = self.consumers.get(&name) else {
                continue;
            };
            let facts = self.facts(&slot.config);
            let settings = Settings::from_config(&name, &slot.config, facts);
            let watermark = self.store.state().last_sequence;
            let store = VisibleStore::new(&mut self.store, watermark);
            if let Some(slot) = self.consumers.get_mut(&name) {
                slot.consumer.update(settings, &store);
            }
        }
        self.remove_unneeded();
    }

    /// Interest retention: messages that nobody needs any more go, because a consumer left or
    /// wants less.
    pub(super) fn remove_unneeded(&mut self) {
        if self.config.retention != RetentionPolicy::Interest {
            return;
        }
        self.sweep(Sweep::Unneeded(0));
    }

    fn apply_consumer_create(
        &mut self,
        turn: &mut Turn<'_>,
        name: &str,
        created_ns: i64,
        config: &Bytes,
        own: Option<u64>,
    ) {
        let Ok(config) = serde_json::from_slice::<ConsumerConfig>(config) else {
            let text = format!("JetStream consumer '{} > {name}': unreadable", self.name);
            turn.effects.push(Effect::Log {
                level: LogLevel::Error,
                text,
            });
            return;
        };
        let settings = Settings::from_config(name, &config, self.facts(&config));
        let place = self.place(&turn.shared.domain);
        let watermark = self.store.state().last_sequence;
        let store = VisibleStore::new(&mut self.store, watermark);
        let updated = match self.consumers.get_mut(name) {
            Some(slot) => {
                self.watch_changes
                    .push((slot.consumer.watched_subject().map(<[u8]>::to_vec), false));
                let before = slot.consumer.settings().filter.clone();
                slot.consumer.update(settings, &store);
                if config.sourcing && config.ack_policy == AckPolicy::FlowControl {
                    // A mirror or source comes back: it gets what it did not acknowledge.
                    let next = slot.consumer.ack_floor() + 1;
                    slot.consumer.reset(next, &store);
                }
                let now = &slot.consumer.settings().filter;
                self.consumer_index.change_filter(slot.number, &before, now);
                slot.config = config;
                true
            }
            None => {
                let consumer = Consumer::create(settings, created_ns, &store);
                self.insert_consumer(name, config, created_ns, consumer, place);
                false
            }
        };
        if updated {
            self.remove_unneeded();
        }
        self.consumer_stored(turn, name, updated, own.is_none());
        let consumer = name.to_owned();
        self.finish(own, |stream| {
            if updated {
                Outcome::ConsumerUpdated { stream, consumer }
            } else {
                Outcome::ConsumerCreated { stream, consumer }
            }
        });
    }

    /// A consumer is new or has a new configuration: its subjects are listened to, and it leads.
    fn consumer_stored(&mut self, turn: &mut Turn<'_>, name: &str, updated: bool, recovered: bool) {
        if self.bound {
            if !updated {
                self.bind_consumer(turn, name, true);
            }
            self.watch_consumer(turn, name);
        }
        if self.lead.is_leader {
            self.with_consumer(turn, name, |consumer, context| {
                if updated {
                    consumer.interest_changed(context);
                } else {
                    consumer.lead(context, recovered);
                }
            });
        }
        self.wake_later(name);
    }

    fn apply_consumer_delete(&mut self, turn: &mut Turn<'_>, name: &str, own: Option<u64>) {
        let inactive = self.consumers.get(name).is_some_and(|slot| slot.leaving);
        self.with_consumer(turn, name, |consumer, context| consumer.deleted(context));
        if let Some(slot) = self.consumers.get(name) {
            self.watch_changes
                .push((slot.consumer.watched_subject().map(<[u8]>::to_vec), false));
        }
        self.flush_watches(turn);
        if self.consumers.contains_key(name) {
            self.bind_consumer(turn, name, false);
        }
        if let Some(slot) = self.consumers.remove(name) {
            self.consumer_index.remove(&slot);
        }
        self.remove_unneeded();
        let consumer = name.to_owned();
        // A deletion for inactivity and one that was asked for may be on their way together.
        let end = format!(".CONSUMER.DELETE.{}.{name}", self.name);
        let asked = own.is_some_and(|number| self.lead.is_asked(number, &end));
        if inactive && own.is_some() && !asked {
            turn.shared
                .consumers_expired
                .push((self.id, consumer.clone()));
        }
        if asked {
            self.finish(own, |stream| Outcome::ConsumerDeleted { stream, consumer });
        }
    }

    fn watch_consumer(&mut self, turn: &mut Turn<'_>, name: &str) {
        if let Some(slot) = self.consumers.get(name) {
            self.watch_changes
                .push((slot.consumer.watched_subject().map(<[u8]>::to_vec), true));
        }
        self.flush_watches(turn);
    }

    fn flush_watches(&mut self, turn: &mut Turn<'_>) {
        let account = self.account;
        for (subject, watch) in self.watch_changes.drain(..) {
            let Some(subject) = subject.map(Bytes::from) else {
                continue;
            };
            turn.effects.push(if watch {
                Effect::WatchInterest { account, subject }
            } else {
                Effect::UnwatchInterest { account, subject }
            });
        }
    }

    /// True if a push consumer delivers to this subject.
    pub(crate) fn watches(&self, subject: &[u8]) -> bool {
        self.consumers
            .values()
            .any(|slot| slot.consumer.watched_subject() == Some(subject))
    }

    /// Interest in a push consumer's subject changed.
    pub(crate) fn interest_changed(&mut self, turn: &mut Turn<'_>, subject: &[u8]) {
        let names: Vec<String> = self
            .consumers
            .iter()
            .filter(|(_, slot)| slot.consumer.watched_subject() == Some(subject))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            self.with_consumer(turn, &name, |consumer, context| {
                consumer.interest_changed(context);
            });
            self.wake_one(turn, &name);
        }
    }

    pub(super) fn tick_consumers(&mut self, turn: &mut Turn<'_>) {
        let due = self.consumer_index.due(turn.now.monotonic_ns);
        for name in due {
            self.with_consumer(turn, &name, |consumer, context| consumer.tick(context));
            self.wake_one(turn, &name);
        }
    }

    /// Asks consumers that did something for their next deadline; [`Stream::consumer_deadline`] is the earliest.
    pub(crate) fn refresh_consumer_deadlines(&mut self) {
        for number in self.consumer_index.marks.take_touched() {
            let Some(name) = self.consumer_index.name(number) else {
                continue;
            };
            if let Some(slot) = self.consumers.get_mut(name) {
                slot.touched = false;
                let deadline_ns = slot.consumer.next_deadline();
                self.consumer_index.set_deadline(slot, deadline_ns);
            }
        }
    }

    pub(super) fn consumer_deadline(&self) -> Option<u64> {
        self.consumer_index.next_deadline()
    }

    pub(super) fn unlead_consumers(&mut self) {
        for slot in self.consumers.values_mut() {
            slot.consumer.follow();
            self.consumer_index.set_deadline(slot, None);
        }
    }

    pub(super) fn lead_consumers(&mut self, turn: &mut Turn<'_>) {
        if self.restoring {
            return;
        }
        let names: Vec<String> = self.consumers.keys().cloned().collect();
        for name in names {
            self.with_consumer(turn, &name, |consumer, context| {
                consumer.lead(context, true)
            });
        }
        self.wake_every_consumer();
    }

    /// The server goes down: waiting pulls are told.
    pub fn shut_down(&mut self, turn: &mut Turn<'_>) {
        let names: Vec<String> = self.consumers.keys().cloned().collect();
        for name in names {
            self.with_consumer(turn, &name, |consumer, context| consumer.shut_down(context));
        }
    }

    pub(super) fn encode_consumers(&self, out: &mut Vec<u8>) {
        put_u64(out, self.consumers.len() as u64);
        for (name, slot) in &self.consumers {
            put_block(out, name.as_bytes());
            put_i64(out, slot.created_ns);
            put_block(out, &serde_json::to_vec(&slot.config).unwrap_or_default());
            put_block(out, &slot.consumer.snapshot());
        }
    }

    pub(super) fn decode_consumers(
        &mut self,
        reader: &mut Reader,
        domain: &str,
    ) -> Result<(), RestoreError> {
        for _ in 0..reader.u64()? {
            let name =
                String::from_utf8(reader.block()?.to_vec()).map_err(|_| RestoreError::Config)?;
            let created_ns = reader.i64()?;
            let config = reader.block()?;
            let snapshot = reader.block()?;
            let config: ConsumerConfig =
                serde_json::from_slice(&config).map_err(|_| RestoreError::Config)?;
            let settings = Settings::from_config(&name, &config, self.facts(&config));
            let consumer = Consumer::restore(settings, &snapshot)
                .map_err(|_| RestoreError::Consumer(name.clone()))?;
            let place = self.place(domain);
            self.insert_consumer(&name, config, created_ns, consumer, place);
        }
        Ok(())
    }
}

fn token(subject: &[u8], index: usize) -> Option<String> {
    let token = subject.split(|byte| *byte == b'.').nth(index)?;
    std::str::from_utf8(token).ok().map(str::to_owned)
}

fn last_token(subject: &[u8]) -> Option<String> {
    let token = subject.rsplit(|byte| *byte == b'.').next()?;
    std::str::from_utf8(token).ok().map(str::to_owned)
}

/// What a consumer has done since its last record becomes part of the entry being collected.
fn stage_record(lead: &mut Lead, slot: &mut ConsumerSlot, now: Now, name: Bytes) {
    let Some(record) = slot.consumer.take_record(now) else {
        return;
    };
    let durability = if record.urgent {
        Durability::Now
    } else {
        Durability::Lazy
    };
    let record = record.data;
    lead.stage(&Operation::Consumer { name, record }, durability);
}
