//! What a consumer must remember: positions, pending messages, delivery counts. The same on every
//! replica and after recovery; everything that only a leader needs is in `leader`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use millrace_store::stream::Filter;

use super::pending::{Pending, Slot};
use super::record::Changes;
use super::settings::{Settings, Start};
use super::source::MessageSource;
use crate::model::AckPolicy;

/// Most acknowledgements remembered for messages that this server does not know as delivered.
const ACKED_AHEAD_MAX: usize = 65_536;

/// A place in both countings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) consumer: u64,
    pub(super) stream: u64,
}

/// The lasting state.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// Counts resets; records of an earlier epoch are void.
    pub(super) epoch: u64,
    pub(super) delivered: Position,
    pub(super) floor: Position,
    /// Wall time, 0 = never.
    pub(super) last_delivered_ns: i64,
    /// Wall time, 0 = never.
    pub(super) last_ack_ns: i64,
    pub(super) pending: Pending,
    /// Deliveries of messages delivered more than once. One that is not pending was given up
    /// (`max_deliver`).
    pub(super) redelivered: BTreeMap<u64, u64>,
    /// Acknowledged beyond `delivered`: delivered by an earlier leader that could not log it.
    pub(super) acked_ahead: BTreeSet<u64>,
    /// `last_per_subject`: what is left of the newest messages as of creation.
    pub(super) start_list: VecDeque<u64>,
    /// Behind the start list, all matching messages from here on count.
    pub(super) new_from: u64,
    /// Matching messages not yet delivered; `None` = count when asked.
    pub(super) num_pending: Option<u64>,
}

impl State {
    /// The state of a new consumer.
    pub(super) fn start(settings: &Settings, store: &dyn MessageSource) -> Self {
        let end = store.last_sequence().saturating_add(1);
        let first = store.first_sequence();
        let mut state = Self::default();
        let start = match settings.start {
            Start::All => first,
            Start::Last => store.last_match(&settings.filter).unwrap_or(end),
            Start::New => end,
            Start::Sequence(sequence) => sequence.max(first),
            Start::Time(time_ns) => store.sequence_at(time_ns),
            Start::LastPerSubject => {
                state.start_list = store.last_per_subject(&settings.filter).into();
                state.new_from = end;
                state.start_list.front().copied().unwrap_or(end)
            }
        };
        state.delivered.stream = start.saturating_sub(1);
        state.floor = state.delivered;
        state.count(&settings.filter, store);
        state
    }

    /// First sequence that may be a new message once the start list is used up.
    pub(super) fn scan_from(&self) -> u64 {
        self.new_from.max(self.delivered.stream.saturating_add(1))
    }

    /// The next message that was never delivered.
    pub(super) fn next_new(&self, filter: &Filter, store: &dyn MessageSource) -> Option<u64> {
        self.start_list
            .front()
            .copied()
            .or_else(|| store.next_match(filter, self.scan_from()))
    }

    /// `num_pending`, counted if it is not known.
    pub(super) fn count(&mut self, filter: &Filter, store: &dyn MessageSource) -> u64 {
        let count = self.counted(|from| store.count_from(filter, from));
        self.num_pending = Some(count);
        count
    }

    /// The same without remembering it; `count_from` counts what the stream holds of the filter.
    pub(super) fn counted(&self, count_from: impl FnOnce(u64) -> u64) -> u64 {
        if let Some(count) = self.num_pending {
            return count;
        }
        let from = self.scan_from();
        let ahead = self.acked_ahead.range(from..).count() as u64;
        count_from(from).saturating_sub(ahead) + self.start_list.len() as u64
    }

    fn uncount(&mut self) {
        if let Some(count) = &mut self.num_pending {
            *count = count.saturating_sub(1);
        }
    }

    /// Whether an undelivered message counts as pending.
    fn is_awaited(&self, sequence: u64) -> bool {
        if sequence >= self.scan_from() {
            !self.acked_ahead.contains(&sequence)
        } else {
            self.start_list.binary_search(&sequence).is_ok()
        }
    }

    /// Moves over a new message without delivering it (acknowledged ahead, or unreadable).
    pub(super) fn pass(&mut self, sequence: u64) {
        if !self.acked_ahead.remove(&sequence) {
            self.uncount();
        }
        self.move_to(sequence);
    }

    fn move_to(&mut self, sequence: u64) {
        if self.start_list.front() == Some(&sequence) {
            self.start_list.pop_front();
        }
        self.delivered.stream = self.delivered.stream.max(sequence);
    }

    /// Notes the first delivery of a message.
    pub(super) fn deliver_new(&mut self, sequence: u64, at_ns: i64, ack_policy: AckPolicy) {
        self.uncount();
        self.move_to(sequence);
        self.delivered.consumer += 1;
        if ack_policy == AckPolicy::None {
            self.floor = self.delivered;
        } else {
            self.pending
                .insert(Slot::new(sequence, self.delivered.consumer, at_ns));
        }
    }

    /// How often a pending message was delivered.
    pub(super) fn deliveries(&self, sequence: u64) -> u64 {
        self.redelivered.get(&sequence).copied().unwrap_or(1)
    }

    /// Notes another delivery of a pending message, due again at `due_ns`.
    pub(super) fn deliver_again(&mut self, sequence: u64, at_ns: i64, due_ns: i64) -> u64 {
        self.delivered.consumer += 1;
        let deliveries = self.deliveries(sequence) + 1;
        self.redelivered.insert(sequence, deliveries);
        self.pending.set_delivered(sequence, at_ns, due_ns);
        deliveries
    }

    /// Settles one message. `None` if it was not pending.
    pub(super) fn acknowledge(&mut self, sequence: u64) -> Option<Slot> {
        let slot = self.pending.remove(sequence)?;
        self.redelivered.remove(&sequence);
        self.raise_floor(&slot);
        Some(slot)
    }

    /// Settles everything up to a message (ack policy all) and tells what that was.
    pub(super) fn acknowledge_through(&mut self, through: Position, settled: &mut Vec<Slot>) {
        while let Some(first) = self.pending.first().copied()
            && first.sequence <= through.stream
        {
            self.pending.remove(first.sequence);
            self.redelivered.remove(&first.sequence);
            settled.push(first);
        }
        if self.pending.is_empty() {
            self.floor = self.delivered;
        } else {
            self.floor.stream = self.floor.stream.max(through.stream);
            self.floor.consumer = self.floor.consumer.max(through.consumer);
        }
    }

    /// Gives a message up after its last delivery: no longer pending, still counted. The floor
    /// stays until the next acknowledgement, as in the reference.
    pub(super) fn exhaust(&mut self, sequence: u64) {
        let deliveries = self.deliveries(sequence);
        if self.pending.remove(sequence).is_some() {
            self.redelivered.insert(sequence, deliveries);
        }
    }

    /// Notes an ack of a message that is not known as delivered. False when there are too many.
    pub(super) fn acknowledge_ahead(&mut self, sequence: u64) -> bool {
        if self.acked_ahead.len() >= ACKED_AHEAD_MAX || !self.is_awaited(sequence) {
            return false;
        }
        if sequence < self.new_from {
            // In the start list, where nothing is remembered of single messages: take it out.
            if let Ok(index) = self.start_list.binary_search(&sequence) {
                self.start_list.remove(index);
            }
        } else {
            self.acked_ahead.insert(sequence);
        }
        self.uncount();
        true
    }

    /// Moves the floor after `settled` left: to the position if nothing is pending; over it and
    /// all settled ones behind it if it was the next one; else not at all.
    fn raise_floor(&mut self, settled: &Slot) {
        let to = match self.pending.first() {
            None => self.delivered,
            Some(first) if settled.consumer_sequence == self.floor.consumer.saturating_add(1) => {
                Position {
                    consumer: first.consumer_sequence - 1,
                    stream: first.sequence - 1,
                }
            }
            Some(_) => return,
        };
        self.floor.stream = self.floor.stream.max(to.stream);
        self.floor.consumer = self.floor.consumer.max(to.consumer);
    }

    /// A matching message became visible.
    pub(super) fn appended(&mut self) {
        if let Some(count) = &mut self.num_pending {
            *count += 1;
        }
    }

    /// A message is gone. Tells its slot and deliveries if it was pending.
    pub(super) fn removed(&mut self, sequence: u64, matches: bool) -> Option<(Slot, u64)> {
        if matches && self.is_awaited(sequence) {
            self.uncount();
        }
        if let Ok(index) = self.start_list.binary_search(&sequence) {
            self.start_list.remove(index);
        }
        self.acked_ahead.remove(&sequence);
        let deliveries = self.deliveries(sequence);
        self.redelivered.remove(&sequence);
        let slot = self.pending.remove(sequence)?;
        self.raise_floor(&slot);
        Some((slot, deliveries))
    }

    /// The stream lost many messages at once. `moves`: the purge was about this consumer's
    /// subjects, so that positions below the stream's start move up.
    pub(super) fn purged(
        &mut self,
        filter: &Filter,
        moves: bool,
        store: &dyn MessageSource,
    ) -> Vec<u64> {
        let gone: Vec<Slot> = self
            .pending
            .iter()
            .filter(|slot| !store.contains(slot.sequence))
            .copied()
            .collect();
        for slot in &gone {
            self.pending.remove(slot.sequence);
            self.floor.consumer = self.floor.consumer.max(slot.consumer_sequence);
        }
        self.redelivered
            .retain(|sequence, _| store.contains(*sequence));
        self.acked_ahead
            .retain(|sequence| store.contains(*sequence));
        self.start_list.retain(|sequence| store.contains(*sequence));
        if moves {
            let before_first = store.first_sequence().saturating_sub(1);
            self.delivered.stream = self.delivered.stream.max(before_first);
            self.floor.stream = self.floor.stream.max(before_first);
            if self.pending.is_empty() {
                self.floor = self.delivered;
            }
        }
        // What is pending may lie between what is gone: the floor stays below it.
        if let Some(first) = self.pending.first() {
            self.floor.consumer = self.floor.consumer.min(first.consumer_sequence - 1);
            self.floor.stream = self.floor.stream.min(first.sequence - 1);
        }
        self.num_pending = None;
        self.count(filter, store);
        gone.into_iter().map(|slot| slot.sequence).collect()
    }

    /// Starts again at `sequence`.
    pub(super) fn reset(&mut self, sequence: u64, filter: &Filter, store: &dyn MessageSource) {
        let position = Position {
            consumer: 0,
            stream: sequence.saturating_sub(1),
        };
        *self = Self {
            epoch: self.epoch + 1,
            delivered: position,
            floor: position,
            last_delivered_ns: self.last_delivered_ns,
            last_ack_ns: self.last_ack_ns,
            ..Self::default()
        };
        self.count(filter, store);
    }

    /// Applies what a leader logged. Changes that are already known do nothing. Tells what lies below
    /// the new floor and was not settled: a record that said so is lost.
    pub(super) fn apply(
        &mut self,
        changes: &Changes,
        settings: &Settings,
        store: &dyn MessageSource,
        settled: &mut Vec<u64>,
    ) {
        if let Some(to) = changes.delivered {
            self.apply_delivered(to, changes, settings, store);
        }
        let at_ns = changes.time_ns;
        for again in &changes.redelivered {
            if self.pending.contains(again.sequence) {
                self.redelivered.insert(again.sequence, again.deliveries);
                let wait_ns = settings.redelivery_wait_ns(again.deliveries);
                self.pending
                    .set_delivered(again.sequence, at_ns, at_ns.saturating_add(wait_ns));
            }
        }
        // The floor comes with the record: what it was depends on the order within the turn.
        for sequence in &changes.exhausted {
            let deliveries = self.deliveries(*sequence);
            if self.pending.remove(*sequence).is_some() {
                self.redelivered.insert(*sequence, deliveries);
            }
        }
        for sequence in &changes.acked {
            self.redelivered.remove(sequence);
            if self.pending.remove(*sequence).is_none() && *sequence > self.delivered.stream {
                self.acknowledge_ahead(*sequence);
            }
        }
        for (sequence, due_ns) in &changes.postponed {
            self.pending.set_due_at(*sequence, *due_ns);
        }
        if let Some(floor) = changes.floor {
            self.floor.stream = self.floor.stream.max(floor.stream);
            self.floor.consumer = self.floor.consumer.max(floor.consumer);
            // More was delivered, in a record that is lost.
            self.delivered.stream = self.delivered.stream.max(self.floor.stream);
            self.delivered.consumer = self.delivered.consumer.max(self.floor.consumer);
            self.settle_below_floor(settled);
        }
        if !changes.acked.is_empty() {
            self.last_ack_ns = self.last_ack_ns.max(at_ns);
        }
    }

    fn settle_below_floor(&mut self, settled: &mut Vec<u64>) {
        while let Some(first) = self.pending.first().copied()
            && first.sequence <= self.floor.stream
        {
            self.pending.remove(first.sequence);
            self.redelivered.remove(&first.sequence);
            settled.push(first.sequence);
        }
    }

    fn apply_delivered(
        &mut self,
        to: Position,
        changes: &Changes,
        settings: &Settings,
        store: &dyn MessageSource,
    ) {
        self.last_delivered_ns = self.last_delivered_ns.max(changes.time_ns);
        if settings.ack_policy == AckPolicy::None && self.start_list.is_empty() {
            // Nothing is remembered per message: skip the walk, count again when asked.
            if to.stream > self.delivered.stream {
                self.num_pending = None;
                self.floor = to;
            }
        } else {
            let mut consumer = self.delivered.consumer;
            while let Some(sequence) = self.next_new(&settings.filter, store)
                && sequence <= to.stream
            {
                if self.acked_ahead.contains(&sequence) {
                    self.pass(sequence);
                    continue;
                }
                consumer += 1;
                while changes
                    .redelivered
                    .iter()
                    .any(|again| again.consumer_sequence == consumer)
                {
                    consumer += 1;
                }
                self.delivered.consumer = consumer - 1;
                self.deliver_new(sequence, changes.time_ns, settings.ack_policy);
            }
        }
        self.delivered.stream = self.delivered.stream.max(to.stream);
        self.delivered.consumer = self.delivered.consumer.max(to.consumer);
    }
}
