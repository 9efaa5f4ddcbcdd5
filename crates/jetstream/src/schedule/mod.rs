//! Message schedules (spec jetstream/02 §6): messages that the stream publishes again, later or over
//! and over, on another subject of its own.
//!
//! `pattern.rs` and `cron.rs` say when; here is the timetable, which is part of the applied state and
//! follows from the log alone: the leader decides when a message is due and logs it in the message's
//! note (`entry`). Firing is the leader's business: `stream/firing.rs`.

mod cron;
mod pattern;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use jiff::tz::TimeZone;

use crate::entry::{DecodeError, Reader, put_block, put_i64, put_u64};

pub use pattern::{Due, Pattern, PatternError};

/// A scheduled message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub sequence: u64,
    /// When it is due, nanoseconds since the epoch.
    pub next_ns: i64,
}

/// The timetable of one stream: at most one schedule for each subject.
#[derive(Debug)]
pub struct Schedules {
    local: TimeZone,
    by_subject: BTreeMap<Bytes, Schedule>,
    by_sequence: BTreeMap<u64, Bytes>,
    due: BTreeSet<(i64, u64)>,
}

impl Schedules {
    /// An empty timetable. `local`: what `Local` stands for.
    #[must_use]
    pub fn new(local: TimeZone) -> Self {
        Self {
            local,
            by_subject: BTreeMap::new(),
            by_sequence: BTreeMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// The zone of the machine.
    #[must_use]
    pub fn local(&self) -> &TimeZone {
        &self.local
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_subject.is_empty()
    }

    /// The schedule that a subject holds.
    #[must_use]
    pub fn on(&self, subject: &[u8]) -> Option<Schedule> {
        self.by_subject.get(subject).copied()
    }

    /// The subject of a scheduled message.
    #[must_use]
    pub fn subject_of(&self, sequence: u64) -> Option<&Bytes> {
        self.by_sequence.get(&sequence)
    }

    /// Schedules in the order in which they are due: time and sequence.
    pub fn due(&self) -> impl Iterator<Item = (i64, u64)> + '_ {
        self.due.iter().copied()
    }

    /// A message was stored that is a schedule: it takes the place of the one on its subject.
    pub fn put(&mut self, subject: &[u8], schedule: Schedule) {
        self.forget_subject(subject);
        let subject = Bytes::copy_from_slice(subject);
        self.due.insert((schedule.next_ns, schedule.sequence));
        self.by_sequence.insert(schedule.sequence, subject.clone());
        self.by_subject.insert(subject, schedule);
    }

    /// A schedule fired and is due again. False: it is not there any more.
    pub fn move_on(&mut self, subject: &[u8], fired: Schedule) -> bool {
        let Some(schedule) = self.by_subject.get_mut(subject) else {
            return false;
        };
        if schedule.sequence != fired.sequence {
            return false;
        }
        self.due.remove(&(schedule.next_ns, schedule.sequence));
        *schedule = fired;
        self.due.insert((fired.next_ns, fired.sequence));
        true
    }

    /// A message without a schedule was stored on a subject: what was scheduled there is no more.
    pub fn forget_subject(&mut self, subject: &[u8]) {
        if let Some(schedule) = self.by_subject.remove(subject) {
            self.by_sequence.remove(&schedule.sequence);
            self.due.remove(&(schedule.next_ns, schedule.sequence));
        }
    }

    /// A message is gone.
    pub fn forget(&mut self, sequence: u64) {
        let Some(subject) = self.by_sequence.remove(&sequence) else {
            return;
        };
        if let Some(schedule) = self.by_subject.remove(&subject) {
            self.due.remove(&(schedule.next_ns, schedule.sequence));
        }
    }

    /// All messages are gone.
    pub fn clear(&mut self) {
        *self = Self::new(self.local.clone());
    }

    /// Appends the timetable to a checkpoint.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.by_subject.len() as u64);
        for (subject, schedule) in &self.by_subject {
            put_block(out, subject);
            put_u64(out, schedule.sequence);
            put_i64(out, schedule.next_ns);
        }
    }

    /// Reads it back.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes end too early.
    pub fn decode(&mut self, reader: &mut Reader) -> Result<(), DecodeError> {
        for _ in 0..reader.u64()? {
            let subject = reader.block()?;
            let (sequence, next_ns) = (reader.u64()?, reader.i64()?);
            self.put(&subject, Schedule { sequence, next_ns });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_holds_one_schedule_and_nothing_is_left_behind() {
        let mut schedules = Schedules::new(TimeZone::UTC);
        let at = |sequence, next_ns| Schedule { sequence, next_ns };
        schedules.put(b"a", at(1, 50));
        schedules.put(b"a", at(2, 40));
        schedules.put(b"b", at(3, 30));
        assert_eq!(schedules.due().collect::<Vec<_>>(), [(30, 3), (40, 2)]);
        assert!(schedules.move_on(b"b", at(3, 60)));
        assert!(!schedules.move_on(b"a", at(1, 60)));
        assert_eq!(schedules.due().collect::<Vec<_>>(), [(40, 2), (60, 3)]);
        let mut bytes = Vec::new();
        schedules.encode(&mut bytes);
        let mut again = Schedules::new(TimeZone::UTC);
        again
            .decode(&mut Reader::new(Bytes::from(bytes)))
            .expect("just written");
        assert_eq!(again.due().collect::<Vec<_>>(), [(40, 2), (60, 3)]);
        schedules.forget(1);
        schedules.forget(2);
        schedules.forget_subject(b"b");
        assert!(schedules.is_empty() && schedules.due().next().is_none());
        assert_eq!(schedules.subject_of(3), None);
    }
}
