//! The messages that wait for an acknowledgement, in stream order, and when each is due again.
//!
//! Deliveries arrive in ascending order and are mostly acknowledged near the front, so a deque
//! with dead slots beats a tree: nothing is allocated per message. What a due message means
//! (redelivery or giving up) belongs to `timers`.

use std::collections::{BTreeSet, VecDeque};

/// Dead slots tolerated beyond the number of live ones before the deque is rebuilt.
const DEAD_SLOTS_SPARE: usize = 64;

/// A delivered message without an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) sequence: u64,
    /// Of the first delivery. 0 marks a dead slot.
    pub(super) consumer_sequence: u64,
    /// Time of the last delivery on the leader's axis (`Leadership::axis_ns`).
    pub(super) at_ns: i64,
    due: Due,
}

/// When a message is to be delivered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// The ack wait after `at_ns`: the usual case, found by position.
    AckWait,
    /// At a time of its own: redelivered, put off, or in progress.
    At(i64),
    /// It already is in the redelivery queue.
    Queued,
}

impl Slot {
    pub(super) const fn new(sequence: u64, consumer_sequence: u64, at_ns: i64) -> Self {
        Self {
            sequence,
            consumer_sequence,
            at_ns,
            due: Due::AckWait,
        }
    }

    /// Codes of the kinds of due times in checkpoints.
    pub(super) const KIND_ACK_WAIT: u8 = 0;
    pub(super) const KIND_AT: u8 = 1;
    pub(super) const KIND_QUEUED: u8 = 2;

    /// How the due time is given.
    pub(super) const fn kind(&self) -> u8 {
        match self.due {
            Due::AckWait => Self::KIND_ACK_WAIT,
            Due::At(_) => Self::KIND_AT,
            Due::Queued => Self::KIND_QUEUED,
        }
    }

    const fn is_live(&self) -> bool {
        self.consumer_sequence != 0
    }

    /// Due time of its own, if it has one.
    pub(super) const fn due_ns(&self) -> Option<i64> {
        match self.due {
            Due::At(due_ns) => Some(due_ns),
            Due::AckWait | Due::Queued => None,
        }
    }
}

/// All pending messages of a consumer.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    /// Ascending by sequence. The first and the last slot are always live.
    slots: VecDeque<Slot>,
    live: usize,
    /// Slots with `Due::At`.
    timed: BTreeSet<(i64, u64)>,
    /// No slot below this sequence has `Due::AckWait`.
    untimed_from: u64,
}

impl Pending {
    pub(super) const fn len(&self) -> usize {
        self.live
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// The live slots, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| slot.is_live())
    }

    /// Messages whose clock stands still.
    pub(super) fn queued(&self) -> impl Iterator<Item = u64> {
        self.iter()
            .filter(|slot| slot.due == Due::Queued)
            .map(|slot| slot.sequence)
    }

    pub(super) fn first(&self) -> Option<&Slot> {
        self.slots.front()
    }

    fn position(&self, sequence: u64) -> Option<usize> {
        let index = self.slots.partition_point(|slot| slot.sequence < sequence);
        let slot = self.slots.get(index)?;
        (slot.sequence == sequence && slot.is_live()).then_some(index)
    }

    pub(super) fn contains(&self, sequence: u64) -> bool {
        self.position(sequence).is_some()
    }

    /// Adds a message; at the end without cost, elsewhere (an ack taken back) by moving.
    pub(super) fn insert(&mut self, slot: Slot) {
        if self
            .slots
            .back()
            .is_none_or(|last| last.sequence < slot.sequence)
        {
            self.slots.push_back(slot);
        } else {
            self.remove(slot.sequence);
            let index = self
                .slots
                .partition_point(|other| other.sequence < slot.sequence);
            match self.slots.get_mut(index) {
                Some(place) if place.sequence == slot.sequence => *place = slot,
                _ => self.slots.insert(index, slot),
            }
        }
        self.live += 1;
        match slot.due {
            Due::At(due_ns) => {
                self.timed.insert((due_ns, slot.sequence));
            }
            Due::AckWait => self.untimed_from = self.untimed_from.min(slot.sequence),
            Due::Queued => {}
        }
    }

    /// Takes a message out.
    pub(super) fn remove(&mut self, sequence: u64) -> Option<Slot> {
        let index = self.position(sequence)?;
        let slot = self.slots.get_mut(index)?;
        let removed = *slot;
        slot.consumer_sequence = 0;
        self.live -= 1;
        if let Due::At(due_ns) = removed.due {
            self.timed.remove(&(due_ns, sequence));
        }
        while self.slots.front().is_some_and(|slot| !slot.is_live()) {
            self.slots.pop_front();
        }
        while self.slots.back().is_some_and(|slot| !slot.is_live()) {
            self.slots.pop_back();
        }
        if self.slots.len() > 2 * self.live + DEAD_SLOTS_SPARE {
            self.slots.retain(Slot::is_live);
        }
        Some(removed)
    }

    fn set_due(&mut self, sequence: u64, due: Due) {
        let Some(index) = self.position(sequence) else {
            return;
        };
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        if let Due::At(due_ns) = slot.due {
            self.timed.remove(&(due_ns, sequence));
        }
        slot.due = due;
        if let Due::At(due_ns) = due {
            self.timed.insert((due_ns, sequence));
        }
    }

    /// Gives a message a due time of its own.
    pub(super) fn set_due_at(&mut self, sequence: u64, due_ns: i64) {
        self.set_due(sequence, Due::At(due_ns));
    }

    /// Stops the clock of a message: it stands in the redelivery queue.
    pub(super) fn set_queued(&mut self, sequence: u64) {
        self.set_due(sequence, Due::Queued);
    }

    /// Notes a redelivery.
    pub(super) fn set_delivered(&mut self, sequence: u64, at_ns: i64, due_ns: i64) {
        if let Some(index) = self.position(sequence)
            && let Some(slot) = self.slots.get_mut(index)
        {
            slot.at_ns = at_ns;
        }
        self.set_due_at(sequence, due_ns);
    }

    /// The next due time and its message.
    pub(super) fn first_due(&mut self, ack_wait_ns: i64) -> Option<(i64, u64)> {
        let timed = self.timed.first().copied();
        let untimed = self
            .first_untimed()
            .map(|slot| (slot.at_ns.saturating_add(ack_wait_ns), slot.sequence));
        match (timed, untimed) {
            (Some(timed), Some(untimed)) => Some(timed.min(untimed)),
            (timed, untimed) => timed.or(untimed),
        }
    }

    /// Deliveries are made in order of time, so the first slot without a time of its own is due
    /// first among its kind. The search never looks at a slot twice.
    fn first_untimed(&mut self) -> Option<Slot> {
        let start = self
            .slots
            .partition_point(|slot| slot.sequence < self.untimed_from);
        for slot in self.slots.range(start..) {
            if slot.is_live() && slot.due == Due::AckWait {
                self.untimed_from = slot.sequence;
                return Some(*slot);
            }
        }
        self.untimed_from = u64::MAX;
        None
    }

    /// Takes the next message that is due at `now_ns` and marks it as queued.
    pub(super) fn take_due(&mut self, now_ns: i64, ack_wait_ns: i64) -> Option<u64> {
        let (due_ns, sequence) = self.first_due(ack_wait_ns)?;
        if due_ns > now_ns {
            return None;
        }
        self.set_queued(sequence);
        Some(sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_messages_come_by_time_and_acknowledged_ones_never() {
        let mut pending = Pending::default();
        for sequence in 1..=5 {
            pending.insert(Slot::new(sequence, sequence, sequence as i64));
        }
        pending.remove(2);
        pending.set_due_at(1, 50);
        assert_eq!(pending.first_due(10), Some((13, 3)));
        assert_eq!(pending.take_due(14, 10), Some(3));
        assert_eq!(pending.take_due(14, 10), Some(4));
        assert_eq!(pending.take_due(14, 10), None);
        assert_eq!(pending.take_due(15, 10), Some(5));
        assert_eq!(pending.first_due(10), Some((50, 1)));
        assert_eq!(pending.len(), 4);
        for sequence in 1..=5 {
            pending.remove(sequence);
        }
        assert!(pending.is_empty() && pending.first().is_none());
        pending.insert(Slot::new(9, 6, 9));
        assert_eq!(pending.first_due(10), Some((19, 9)));
    }

    #[test]
    fn dead_slots_are_reclaimed() {
        let mut pending = Pending::default();
        for sequence in 1..=10_000 {
            pending.insert(Slot::new(sequence, sequence, 0));
        }
        for sequence in 2..10_000 {
            pending.remove(sequence);
        }
        assert!(pending.slots.len() <= 2 * pending.len() + DEAD_SLOTS_SPARE);
        assert_eq!(pending.iter().count(), 2);
    }
}
