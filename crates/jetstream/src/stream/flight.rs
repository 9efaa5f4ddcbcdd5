//! Messages that are decided but not applied: what staged state adds to applied state. The same
//! shape holds a batch's staged diff while the batch is being checked.

use bytes::Bytes;
use millrace_subject::{is_literal, matches};
use num_bigint::BigInt;
use rustc_hash::FxHashMap;

use super::dedup::IdHash;

/// What is under way on one subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectFlight {
    pub messages: u64,
    pub bytes: u64,
    pub last_sequence: u64,
    /// The counter's value after the last of them.
    pub counter: Option<BigInt>,
    /// The last of them is a schedule.
    pub schedule: bool,
}

/// Messages under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flight {
    pub messages: u64,
    pub bytes: u64,
    pub subjects: FxHashMap<Bytes, SubjectFlight>,
    pub ids: FxHashMap<IdHash, u64>,
}

/// One message on its way in.
#[derive(Clone, Debug)]
pub struct Departure<'a> {
    pub subject: &'a [u8],
    pub bytes: u64,
    pub sequence: u64,
    pub id: Option<IdHash>,
    pub counter: Option<BigInt>,
    /// It is a schedule.
    pub schedule: bool,
    /// False: only its id and sequence count, nothing is stored.
    pub stored: bool,
}

impl Flight {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages == 0 && self.ids.is_empty()
    }

    /// Takes a message up.
    pub fn add(&mut self, departure: Departure<'_>) {
        if let Some(id) = departure.id {
            self.ids.insert(id, departure.sequence);
        }
        if !departure.stored {
            return;
        }
        self.messages += 1;
        self.bytes += departure.bytes;
        let subject = match self.subjects.get_mut(departure.subject) {
            Some(subject) => subject,
            None => {
                let name = Bytes::copy_from_slice(departure.subject);
                self.subjects.entry(name).or_default()
            }
        };
        subject.messages += 1;
        subject.bytes += departure.bytes;
        subject.last_sequence = departure.sequence;
        subject.counter = departure.counter;
        subject.schedule = departure.schedule;
    }

    /// Takes up all of a batch's diff.
    pub fn merge(&mut self, diff: Self) {
        self.messages += diff.messages;
        self.bytes += diff.bytes;
        self.ids.extend(diff.ids);
        for (name, staged) in diff.subjects {
            let subject = self.subjects.entry(name).or_default();
            subject.messages += staged.messages;
            subject.bytes += staged.bytes;
            subject.last_sequence = staged.last_sequence;
            subject.counter = staged.counter;
            subject.schedule = staged.schedule;
        }
    }

    /// Lets a message go: it was applied. Entries at zero are removed.
    pub fn settle(&mut self, subject: &[u8], bytes: u64, id: Option<IdHash>, stored: bool) {
        if let Some(id) = id {
            self.ids.remove(&id);
        }
        if !stored {
            return;
        }
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(entry) = self.subjects.get_mut(subject) {
            entry.messages = entry.messages.saturating_sub(1);
            entry.bytes = entry.bytes.saturating_sub(bytes);
            if entry.messages == 0 {
                self.subjects.remove(subject);
            }
        }
    }

    /// Newest sequence under way on the subjects that match; 0: none.
    #[must_use]
    pub fn last_of(&self, filter: &[u8]) -> u64 {
        if is_literal(filter) {
            return self
                .subjects
                .get(filter)
                .map_or(0, |subject| subject.last_sequence);
        }
        let matching = self
            .subjects
            .iter()
            .filter(|(subject, _)| matches(filter, subject));
        matching
            .map(|(_, subject)| subject.last_sequence)
            .max()
            .unwrap_or(0)
    }

    /// Messages under way on one subject.
    #[must_use]
    pub fn messages_of(&self, subject: &[u8]) -> u64 {
        self.subjects
            .get(subject)
            .map_or(0, |subject| subject.messages)
    }

    /// Forgets everything: the lead was lost, or the batch is done with.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_settles_leaves_nothing_behind() {
        let mut flight = Flight::default();
        for sequence in [3, 4] {
            let counter = None;
            flight.add(Departure {
                subject: b"a.b",
                bytes: 10,
                sequence,
                id: None,
                counter,
                schedule: false,
                stored: true,
            });
        }
        assert_eq!(
            (flight.messages, flight.bytes, flight.last_of(b"a.*")),
            (2, 20, 4)
        );
        flight.settle(b"a.b", 10, None, true);
        assert_eq!(flight.messages_of(b"a.b"), 1);
        flight.settle(b"a.b", 10, None, true);
        assert_eq!(flight, Flight::default());
    }
}
