//! Which consumers of a stream a message, a turn or a moment concerns, so that a thousand consumers
//! with nothing to do cost nothing. What is done with them is `consumers.rs`'s business.

use std::collections::{BTreeMap, BTreeSet};

use millrace_store::stream::Filter;
use millrace_subject::{InterestTrie, Matched};

use super::consumers::ConsumerSlot;

/// Up to this number all consumers are asked: that is cheaper than looking up who is concerned.
const FEW_CONSUMERS: usize = 4;
/// Stands for a filter that everything passes.
const EVERYTHING: &[u8] = b">";

/// Numbers of consumers, by what is asked of them. A number is never used twice, so that one of a
/// consumer that is gone means nothing.
#[derive(Debug, Default)]
pub(crate) struct ConsumerIndex {
    interest: InterestTrie<u32>,
    matched: Matched<u32>,
    names: BTreeMap<u32, String>,
    next_number: u32,
    deadlines: BTreeSet<(u64, u32)>,
    pub(super) marks: Marks,
}

/// What consumers wait for within a turn; each is in a list once, by the flag in its slot.
#[derive(Debug, Default)]
pub(super) struct Marks {
    woken: Vec<u32>,
    touched: Vec<u32>,
    unlogged: Vec<u32>,
}

impl Marks {
    /// The consumer may have something to deliver.
    pub(super) fn wake(&mut self, slot: &mut ConsumerSlot) {
        if !std::mem::replace(&mut slot.wake, true) {
            self.woken.push(slot.number);
        }
    }

    /// The consumer did something: its deadline may have moved, and there may be a record to log.
    pub(super) fn touch(&mut self, slot: &mut ConsumerSlot) {
        if !std::mem::replace(&mut slot.touched, true) {
            self.touched.push(slot.number);
        }
        if !std::mem::replace(&mut slot.unlogged, true) {
            self.unlogged.push(slot.number);
        }
    }

    pub(super) fn take_woken(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.woken)
    }

    pub(super) fn take_touched(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.touched)
    }

    pub(super) fn take_unlogged(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.unlogged)
    }
}

impl ConsumerIndex {
    /// Takes a consumer in and gives its number.
    pub(super) fn insert(&mut self, name: &str, filter: &Filter) -> u32 {
        let number = self.next_number;
        self.next_number += 1;
        self.names.insert(number, name.to_owned());
        self.listen(number, filter);
        number
    }

    /// A consumer is gone.
    pub(super) fn remove(&mut self, slot: &ConsumerSlot) {
        let number = slot.number;
        self.names.remove(&number);
        if let Some(deadline_ns) = slot.deadline_ns {
            self.deadlines.remove(&(deadline_ns, number));
        }
        self.stop_listening(number, &slot.consumer.settings().filter);
    }

    /// A consumer's filter changed.
    pub(super) fn change_filter(&mut self, number: u32, before: &Filter, now: &Filter) {
        if before != now {
            self.stop_listening(number, before);
            self.listen(number, now);
        }
    }

    fn listen(&mut self, number: u32, filter: &Filter) {
        if filter.is_all() {
            self.interest.insert(EVERYTHING, None, number);
        }
        for subject in filter.subjects() {
            self.interest.insert(subject, None, number);
        }
    }

    fn stop_listening(&mut self, number: u32, filter: &Filter) {
        if filter.is_all() {
            self.interest.remove(EVERYTHING, None, number);
        }
        for subject in filter.subjects() {
            self.interest.remove(subject, None, number);
        }
    }

    /// Whether any consumer wants messages on this subject.
    pub(super) fn is_wanted(&self, subject: &[u8]) -> bool {
        self.interest.has_interest(subject)
    }

    pub(super) fn name(&self, number: u32) -> Option<&String> {
        self.names.get(&number)
    }

    /// Visits the consumers whose filter matches `subject`; with few consumers all of them.
    pub(super) fn for_concerned(
        &mut self,
        consumers: &mut BTreeMap<String, ConsumerSlot>,
        subject: &[u8],
        mut visit: impl FnMut(&str, &mut ConsumerSlot, &mut Marks),
    ) {
        if consumers.len() <= FEW_CONSUMERS {
            for (name, slot) in consumers {
                visit(name, slot, &mut self.marks);
            }
            return;
        }
        self.interest.matches(subject, &mut self.matched);
        let numbers = &mut self.matched.plain;
        // The trie has an order of its own, and several filters of a consumer may match.
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers.iter() {
            if let Some(name) = self.names.get(number)
                && let Some(slot) = consumers.get_mut(name)
            {
                visit(name, slot, &mut self.marks);
            }
        }
    }

    /// Notes when a consumer wants to be asked again.
    pub(super) fn set_deadline(&mut self, slot: &mut ConsumerSlot, deadline_ns: Option<u64>) {
        if slot.deadline_ns == deadline_ns {
            return;
        }
        if let Some(before_ns) = slot.deadline_ns {
            self.deadlines.remove(&(before_ns, slot.number));
        }
        if let Some(deadline_ns) = deadline_ns {
            self.deadlines.insert((deadline_ns, slot.number));
        }
        slot.deadline_ns = deadline_ns;
    }

    /// Consumers whose time has come.
    pub(super) fn due(&self, now_ns: u64) -> Vec<String> {
        let due = self.deadlines.range(..=(now_ns, u32::MAX));
        due.filter_map(|(_, number)| self.names.get(number).cloned())
            .collect()
    }

    /// Monotonic time at which the next consumer wants something; 0 = at once.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        if !self.marks.woken.is_empty() {
            return Some(0);
        }
        self.deadlines.first().map(|(deadline_ns, _)| *deadline_ns)
    }
}
