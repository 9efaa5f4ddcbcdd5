//! What must always hold of a consumer, looked at where its state changes (DESIGN decision 6). A
//! violation is a bug of ours: builds for tests stop there; a server repairs the state from what the
//! log and the stream's index say, goes on delivering, and reports it as an event.

use super::source::MessageSource;
use super::state::{Position, State};
use super::{Consumer, ConsumerContext, ConsumerEvent};

impl State {
    /// Repairs what does not hold, and says what it was.
    pub(super) fn repair(&mut self, last_sequence: u64) -> Option<&'static str> {
        if !self.pending.is_empty() && self.delivered.stream > last_sequence {
            // Nothing beyond the stream's end can have been delivered.
            self.delivered.stream = last_sequence;
            self.num_pending = None;
            return Some("delivered beyond the stream");
        }
        let ceiling = match self.pending.first() {
            Some(first) => Position {
                consumer: first.consumer_sequence.saturating_sub(1),
                stream: first.sequence.saturating_sub(1),
            },
            None => self.delivered,
        };
        if self.floor.stream > self.delivered.stream
            || self.floor.consumer > self.delivered.consumer
        {
            self.floor.stream = self.floor.stream.min(ceiling.stream);
            self.floor.consumer = self.floor.consumer.min(ceiling.consumer);
            return Some("acknowledged beyond what was delivered");
        }
        if !self.pending.is_empty() && self.floor.stream > ceiling.stream {
            self.floor.stream = ceiling.stream;
            return Some("acknowledged beyond what waits for its acknowledgement");
        }
        None
    }
}

impl Consumer {
    /// After deliveries: all that can be told without a look at every message.
    pub(super) fn check_invariants(&mut self, context: &mut ConsumerContext<'_>) {
        let violation = self.state.repair(context.store.last_sequence());
        debug_assert_eq!(violation, None, "{:?}", self.state);
        if let Some(violation) = violation {
            context.events.push(ConsumerEvent::Repaired { violation });
        }
    }

    /// No message was found although some should be pending: the count or the search is wrong, and
    /// either would keep the consumer from delivering what comes. True: there is one to be found.
    pub(super) fn recount_if_stuck(&mut self, context: &mut ConsumerContext<'_>) -> bool {
        if self.state.num_pending.is_none_or(|count| count == 0) || self.is_blocked() {
            return false;
        }
        let store: &dyn MessageSource = context.store;
        let next = self.state.next_new(&self.settings.filter, store);
        self.state.num_pending = None;
        let count = self.state.count(&self.settings.filter, store);
        let violation = match next {
            Some(_) => "messages were passed over",
            None if count == 0 => "more messages counted than there are",
            None => return false,
        };
        if let Some(leader) = self.leader.as_deref_mut() {
            leader.search_again();
        }
        context.events.push(ConsumerEvent::Repaired { violation });
        next.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::pending::Slot;
    use super::*;

    fn state() -> State {
        let at = |consumer, stream| Position { consumer, stream };
        let mut state = State {
            delivered: at(5, 10),
            floor: at(2, 4),
            ..State::default()
        };
        state.pending.insert(Slot::new(7, 4, 0));
        state
    }

    #[test]
    fn a_sound_state_is_left_alone() {
        let mut sound = state();
        assert_eq!(sound.repair(10), None);
        assert_eq!(sound.floor, state().floor);
    }

    #[test]
    fn what_does_not_hold_is_repaired_once() {
        type Damage = fn(&mut State);
        let cases: [(Damage, u64); 4] = [
            (|state| state.floor.stream = 11, 10),
            (|state| state.floor.consumer = 6, 10),
            (|state| state.floor.stream = 8, 10),
            (|_| {}, 9),
        ];
        for (place, (break_it, last)) in cases.into_iter().enumerate() {
            let mut broken = state();
            break_it(&mut broken);
            assert!(broken.repair(last).is_some(), "case {place}");
            assert_eq!(broken.repair(last), None, "case {place}");
            assert!(broken.floor.stream < 7 && broken.floor.consumer < 4);
        }
    }
}
