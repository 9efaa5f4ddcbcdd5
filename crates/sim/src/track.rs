//! What the client knows of one stream: the operations it sent, the answers it got, and what it
//! therefore may and may not read. Every answer and every delivered message goes through here.

use crate::consumer_track::ConsumerTrack;
use crate::model::{Change, Effect, Limits, Model, Sent};
use crate::resolve::{Pending, Seen, may_be, resolve, short};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Messages of a batch, at most.
pub const BATCH_MAX: u64 = 40;

/// Whether the stream is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existence {
    #[default]
    Absent,
    /// Asked for, not answered.
    Creating,
    Present,
    /// Its removal was asked for and not answered.
    Removing,
}

/// A batch that is being sent.
#[derive(Clone, Debug, Default)]
pub struct OpenBatch {
    pub number: u64,
    pub messages: Vec<Sent>,
    pub total: usize,
}

/// One stream.
#[derive(Debug, Default)]
pub struct Track {
    pub name: String,
    pub existence: Existence,
    pub model: Model,
    /// Sent and not yet part of the model, in the order sent.
    pub pending: Vec<Pending>,
    pub batches: Vec<OpenBatch>,
    pub consumers: BTreeMap<String, ConsumerTrack>,
    /// Message ids sent, with the wall time.
    pub ids: Vec<(u64, i64)>,
    /// First and last sequence of acknowledged batches.
    ranges: Vec<(u64, u64)>,
    pub acknowledged: u64,
    /// Counts what became part of the model.
    pub version: u64,
    /// Counts the crashes.
    life: u64,
}

/// A message as a reader got it.
#[derive(Clone, Debug, Default)]
pub struct Read {
    pub sequence: u64,
    pub subject: String,
    pub payload: Bytes,
    /// How many matching messages the server says are behind it.
    pub pending: Option<(String, u64)>,
}

impl Track {
    /// A stream that does not exist.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }

    /// The stream is there, empty.
    pub fn created(&mut self, limits: Limits) {
        *self = Self {
            existence: Existence::Present,
            model: Model::new(limits),
            acknowledged: self.acknowledged,
            ..Self::new(std::mem::take(&mut self.name))
        };
    }

    /// The stream is gone, with all that was on its way.
    pub fn removed(&mut self) {
        *self = Self {
            acknowledged: self.acknowledged,
            ..Self::new(std::mem::take(&mut self.name))
        };
    }

    /// The server is gone, or its JetStream is.
    pub fn crashed(&mut self) {
        self.life += 1;
        self.batches.clear();
        let last = self.model.last + self.pending.len() as u64 * BATCH_MAX;
        for consumer in self.consumers.values_mut() {
            consumer.restarted(last);
        }
    }

    /// What is on its way gets an earlier time than it was sent at, and may expire earlier.
    pub fn clock_went_back(&mut self, back_ns: i64) {
        let batches = self.batches.iter_mut().map(|batch| &mut batch.messages);
        let pending = self
            .pending
            .iter_mut()
            .filter_map(|one| match &mut one.change {
                Change::Publish { messages, .. } => Some(messages),
                _ => None,
            });
        for message in batches.chain(pending).flatten() {
            if message.expires_ns < i64::MAX {
                message.expires_ns -= back_ns;
            }
        }
    }

    /// An operation was sent.
    pub fn sent(&mut self, number: u64, change: Change, may_be_refused: bool) {
        self.pending.push(Pending {
            number,
            life: self.life,
            change,
            answer: None,
            seen: false,
            may_be_refused,
        });
    }

    /// The server says that the operation is done.
    ///
    /// # Errors
    /// The answer is not what the model says.
    pub fn answered(&mut self, number: u64, effect: Effect) -> Result<(), String> {
        let Some(found) = self.pending.iter_mut().find(|one| one.number == number) else {
            return Err(format!("{}: an answer to nothing", self.name));
        };
        if let Effect::Stored(last) = effect
            && let Change::Publish { messages, .. } = &found.change
        {
            self.acknowledged += messages.len() as u64;
            if last < messages.len() as u64 {
                return Err(format!("{}: sequence {last} for a batch", self.name));
            }
        }
        found.answer = Some(effect);
        self.settle()
    }

    /// Makes what is known for certain, from the front, part of the model.
    fn settle(&mut self) -> Result<(), String> {
        while let Some((effect, one)) = self
            .pending
            .first()
            .and_then(|one| Some((one.answer?, one.clone())))
        {
            let first = self.model.last + 1;
            let predicted = self.model.apply(&one.change);
            if predicted != effect {
                let name = &self.name;
                return Err(format!(
                    "{name}: the answer is {effect:?} and should be {predicted:?}"
                ));
            }
            if matches!(one.change, Change::Publish { batch: true, .. }) {
                self.ranges.push((first, self.model.last));
            }
            self.version += 1;
            self.pending.remove(0);
        }
        Ok(())
    }

    /// The server refused: none of it happened.
    ///
    /// # Errors
    /// There was no reason to.
    pub fn refused(&mut self, number: u64, why: &str) -> Result<(), String> {
        let Some(at) = self.pending.iter().position(|one| one.number == number) else {
            return Ok(());
        };
        let one = self.pending.remove(at);
        if one.seen {
            return Err(format!("{}: refused what a reader saw: {why}", self.name));
        }
        if !one.may_be_refused {
            return Err(format!("{}: refused without reason: {why}", self.name));
        }
        self.settle()
    }

    /// A reader got this message.
    ///
    /// # Errors
    /// It must not be there, or not alone.
    pub fn read(&mut self, read: &Read, wall_ns: i64) -> Result<(), String> {
        let fits = |state: &Model| {
            let same = state.messages.get(&read.sequence).is_some_and(|message| {
                message.payload == read.payload && message.subject == read.subject
            });
            same && read.pending.as_ref().is_none_or(|(filter, pending)| {
                let (least, most) = count_after(state, read.sequence, filter, wall_ns);
                (least..=most).contains(pending)
            })
        };
        if !may_be(&self.model, &self.pending, &fits) {
            return Err(format!(
                "{}: {} read at sequence {} with {:?} behind it: {}",
                self.name,
                short(&read.payload),
                read.sequence,
                read.pending,
                self.explain(read)
            ));
        }
        if !self.model.messages.contains_key(&read.sequence) {
            for one in &mut self.pending {
                one.seen |= contains(&one.change, &read.payload);
            }
        }
        Ok(())
    }

    /// What is known about the place of a message that must not be read so.
    fn explain(&self, read: &Read) -> String {
        let filter = read.pending.as_ref().map_or(">", |(filter, _)| filter);
        match self.model.messages.get(&read.sequence) {
            Some(message) if message.payload == read.payload => format!(
                "{} are behind it, {} operations unanswered",
                self.model.count_after(read.sequence, filter),
                self.pending.len()
            ),
            Some(message) => format!("{} is there", short(&message.payload)),
            None => format!(
                "nothing is there; the last is {}, {} operations unanswered",
                self.model.last,
                self.pending.len()
            ),
        }
    }

    /// A reader was told that there is nothing at this sequence.
    ///
    /// # Errors
    /// There is something.
    pub fn read_nothing(&self, sequence: u64, wall_ns: i64) -> Result<(), String> {
        let fits = |state: &Model| {
            state
                .messages
                .get(&sequence)
                .is_none_or(|message| message.expires_ns <= wall_ns)
        };
        if may_be(&self.model, &self.pending, &fits) {
            return Ok(());
        }
        Err(format!(
            "{}: nothing read at sequence {sequence}",
            self.name
        ))
    }

    /// A reader was told the last message of a subject.
    ///
    /// # Errors
    /// It never was.
    pub fn read_last_of(
        &self,
        subject: &str,
        known: u64,
        read: Option<&Read>,
        wall_ns: i64,
    ) -> Result<(), String> {
        // It was looked up between the question and now, and read from the disk since.
        let there = |sequence: u64| {
            let message = self.model.messages.get(&sequence);
            message.filter(|message| message.expires_ns > wall_ns)
        };
        // A server that ended may have removed it and told nobody.
        let gone = |state: &Model| {
            let message = state.messages.get(&known);
            message.is_none_or(|message| message.expires_ns <= wall_ns)
        };
        let known_is_gone = || may_be(&self.model, &self.pending, &gone);
        let good = match read {
            Some(read) => {
                (read.sequence >= known || known_is_gone())
                    && there(read.sequence).is_none_or(|message| {
                        message.payload == read.payload && message.subject == subject
                    })
            }
            None => known_is_gone(),
        };
        if good {
            return Ok(());
        }
        let name = &self.name;
        Err(format!("{name}: the last of {subject} is not {read:?}"))
    }

    /// A reader was told the stream's numbers.
    ///
    /// # Errors
    /// They were never these together.
    pub fn read_numbers(&self, count: u64, last: u64, wall_ns: i64) -> Result<(), String> {
        let fits = |state: &Model| {
            let (least, most) = count_after(state, 0, ">", wall_ns);
            state.last == last && (least..=most).contains(&count)
        };
        if may_be(&self.model, &self.pending, &fits) {
            return Ok(());
        }
        Err(format!(
            "{}: {count} messages up to {last}, where {} up to {} are known and {} operations unanswered",
            self.name,
            self.model.messages.len(),
            self.model.last,
            self.pending.len()
        ))
    }

    /// A reader asked for a row of messages, `most` at most, and got these.
    ///
    /// # Errors
    /// One is missing between two others, or a batch stops in the middle.
    pub fn read_row(
        &self,
        start: u64,
        sequences: &[u64],
        most: usize,
        filter: &str,
        wall_ns: i64,
    ) -> Result<(), String> {
        let Some(last) = sequences.last() else {
            return Ok(());
        };
        let shows = |sequence: &u64| {
            self.model.messages.get(sequence).is_some_and(|message| {
                message.expires_ns > wall_ns && crate::model::matches(filter, &message.subject)
            })
        };
        let holes = |from: u64, to: u64| {
            (from..=to).find(|sequence| {
                shows(sequence)
                    && !sequences.contains(sequence)
                    // A delete on its way may have been seen.
                    && self.read_nothing(*sequence, wall_ns).is_err()
            })
        };
        if let Some(hole) = holes(start, *last) {
            let name = &self.name;
            return Err(format!("{name}: {hole} is missing in {sequences:?}"));
        }
        let batch = self
            .ranges
            .iter()
            .rev()
            .find(|(first, end)| (*first..=*end).contains(last));
        if let Some((_, end)) = batch
            && sequences.len() < most
            && let Some(hole) = holes(*last, *end)
        {
            let name = &self.name;
            return Err(format!(
                "{name}: {hole} of a batch is missing behind {sequences:?}"
            ));
        }
        Ok(())
    }

    /// Takes what a quiet stream holds, after a restart or at rest.
    ///
    /// # Errors
    /// It cannot be explained.
    pub fn resolve(&mut self, seen: &Seen, wall_ns: i64) -> Result<(), String> {
        let state = resolve(&self.model, &self.pending, seen, wall_ns)
            .map_err(|wrong| format!("{}: {wrong}", self.name))?;
        self.model = state;
        self.pending.clear();
        self.batches.clear();
        let consumers = &self.model.consumers;
        self.consumers.retain(|name, _| consumers.contains(name));
        Ok(())
    }

    /// An operation found nothing to do.
    ///
    /// # Errors
    /// What was answered before does not fit.
    pub fn came_to_nothing(&mut self, number: u64) -> Result<(), String> {
        self.pending.retain(|one| one.number != number);
        self.settle()
    }

    /// A change is on its way. Changes of configurations are looked at again when it is done, and
    /// what was sent behind them may overtake them.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        let changes = |one: &Pending| !matches!(one.change, Change::Publish { .. });
        self.pending.iter().any(changes)
    }

    /// The last known message of a subject; 0: none.
    #[must_use]
    pub fn last_of(&self, subject: &str) -> u64 {
        let of_subject = self.model.messages.iter().rev();
        let last = of_subject
            .filter(|(_, message)| message.subject == subject)
            .map(|(sequence, _)| *sequence)
            .next();
        last.unwrap_or(0)
    }

    /// Some message that is there.
    #[must_use]
    pub fn some_sequence(&self, pick: u64) -> Option<u64> {
        let count = self.model.messages.len() as u64;
        let at = usize::try_from(pick % count.max(1)).ok()?;
        self.model.messages.keys().nth(at).copied()
    }
}

/// How many matching messages are behind a sequence: without and with those that may have expired.
#[must_use]
pub fn count_after(state: &Model, sequence: u64, filter: &str, wall_ns: i64) -> (u64, u64) {
    let most = state.count_after(sequence, filter);
    let expired = state
        .messages
        .range(sequence + 1..)
        .filter(|(_, message)| {
            message.expires_ns <= wall_ns && crate::model::matches(filter, &message.subject)
        })
        .count() as u64;
    (most - expired, most)
}

fn contains(change: &Change, payload: &Bytes) -> bool {
    match change {
        Change::Publish { messages, .. } => {
            messages.iter().any(|message| message.payload == *payload)
        }
        _ => false,
    }
}
