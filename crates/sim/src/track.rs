//! What the client knows of one stream: the operations it sent, the answers it got, and what it
//! therefore may and may not read. Every answer and every delivered message goes through here.

use crate::consumer_track::ConsumerTrack;
use crate::damage::Record;
use crate::model::{Change, Effect, Limits, Model, Sent};
use crate::resolve::{Pending, Resolved, Seen, apply_pending, may_be, resolve, short};
use crate::retention::{Retention, UNCERTAIN_NS};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Messages of a batch, at most.
pub const BATCH_MAX: u64 = 40;
/// Damaged journal entries of which every combination is looked at; no run has more at once.
const HITS_MAX: usize = 8;

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

/// An operation that took effect, and where its messages begin.
#[derive(Clone, Debug)]
pub struct Done {
    pub change: Change,
    pub first: u64,
}

/// One stream.
#[derive(Debug, Default)]
pub struct Track {
    /// The configuration that it began with, and what happened since.
    pub initial: Limits,
    pub history: Vec<Done>,
    /// Messages whose bytes were hit: they may not be served, or not be there.
    pub unreadable: BTreeSet<u64>,
    pub missing: BTreeSet<u64>,
    /// The server started without some operations, and which is not looked at yet.
    pub(crate) doubtful: bool,
    /// Consumers whose creation may be lost, until that is looked at.
    pub(crate) doubtful_consumers: BTreeSet<String>,
    /// The stream's entries in the journal at the last start.
    pub(crate) log: Vec<Record>,
    /// Deletes that were answered with that there is no such message. They may stand in the log.
    pub(crate) idle_deletes: BTreeSet<u64>,
    /// Payloads in journal entries that were hit.
    pub(crate) hit_payloads: BTreeSet<Bytes>,
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
    /// Messages that were not stored because nobody wants them, not counted yet.
    pub unwanted: u64,
    /// Messages that went because all who wanted them have acknowledged them.
    pub settled: u64,
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
    /// Messages before it that may have gone since they were counted as behind it.
    pub passed: u64,
    /// Messages behind it that may be done with already, and are not counted then.
    pub settled: u64,
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
            initial: limits.clone(),
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
    pub fn sent(&mut self, number: u64, mut change: Change, may_be_refused: bool) {
        self.note_uncertain(&mut change);
        self.pending.push(Pending {
            number,
            life: self.life,
            change,
            answer: None,
            seen: false,
            may_be_refused,
            burnt: false,
        });
    }

    /// Whether somebody wants a message is asked when it comes, and consumers that come or go at the
    /// same time are there or not.
    fn note_uncertain(&mut self, change: &mut Change) {
        if self.model.limits.retention != Retention::Interest {
            return;
        }
        let is_publish = |change: &Change| matches!(change, Change::Publish { .. });
        if !is_publish(change) {
            let open = self
                .batches
                .iter_mut()
                .flat_map(|batch| &mut batch.messages);
            let pending = self.pending.iter_mut().map(|one| &mut one.change);
            pending.for_each(make_uncertain);
            open.for_each(|message| message.expires_ns = UNCERTAIN_NS);
        } else if self.pending.iter().any(|one| !is_publish(&one.change)) {
            make_uncertain(change);
        }
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
        // Which operations before them are lost is known when everything is looked at.
        if self.doubtful {
            return Ok(());
        }
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
            if let (Change::Publish { messages, .. }, Effect::Stored(last)) = (&one.change, effect)
            {
                let stored = self.model.messages.range(first..=last).count();
                let retained = self.model.limits.retention == Retention::Interest;
                self.unwanted += u64::from(retained) * (messages.len() - stored) as u64;
            }
            if matches!(one.change, Change::Publish { batch: true, .. }) {
                self.ranges.push((first, self.model.last));
            }
            if matches!(effect, Effect::Stored(_) | Effect::Done) {
                self.remember(one.change, first);
            }
            self.version += 1;
            self.pending.remove(0);
        }
        self.remove_settled();
        Ok(())
    }

    /// What all have acknowledged is gone, unless consumers that are not part of the model yet want
    /// it too.
    fn remove_settled(&mut self) {
        let comes_or_goes = |one: &Pending| {
            matches!(
                one.change,
                Change::CreateConsumer { .. } | Change::DeleteConsumer(_)
            )
        };
        if !self.pending.iter().any(comes_or_goes) {
            let gone = self.model.remove_unneeded();
            self.settled += gone;
            self.version += gone;
        }
    }

    /// The server answered an acknowledgement.
    pub fn confirmed(&mut self, consumer: &str, sequence: u64) {
        let Some(track) = self.consumers.get_mut(consumer) else {
            return;
        };
        track.confirm(sequence);
        let covered = track.covered(sequence);
        self.model.confirm(consumer, covered);
        self.remove_settled();
    }

    fn remember(&mut self, change: Change, first: u64) {
        if let Change::Publish { messages, .. } = &change {
            let places = (first..).zip(messages);
            let hit = places.filter(|(_, message)| self.hit_payloads.contains(&message.payload));
            self.unreadable.extend(hit.map(|(sequence, _)| sequence));
        }
        self.history.push(Done { change, first });
    }

    /// Messages that were hit: as many may not be counted any more.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.unreadable.union(&self.missing).count() as u64
    }

    /// Whether the bytes of this message were hit.
    #[must_use]
    pub fn is_hit(&self, sequence: u64) -> bool {
        self.unreadable.contains(&sequence) || self.missing.contains(&sequence)
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
        if self.doubtful {
            return self.read_in_doubt(read);
        }
        let fits = |state: &Model| {
            let same = state.messages.get(&read.sequence).is_some_and(|message| {
                message.payload == read.payload && message.subject == read.subject
            });
            same && read.pending.as_ref().is_none_or(|(filter, pending)| {
                let (least, most) = count_after(state, read.sequence, filter, wall_ns);
                let least = least.saturating_sub(self.hits() + read.settled);
                (least..=most + read.passed).contains(pending)
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

    /// Some operations may be lost: what is read must have been stored there once, or be on its way.
    fn read_in_doubt(&self, read: &Read) -> Result<(), String> {
        let is_it =
            |message: &Sent| message.payload == read.payload && message.subject == read.subject;
        let stored = self.history.iter().any(|done| match &done.change {
            Change::Publish { messages, .. } => (done.first..)
                .zip(messages)
                .any(|(at, message)| at == read.sequence && is_it(message)),
            _ => false,
        });
        let on_its_way = self.pending.iter().any(|one| match &one.change {
            Change::Publish { messages, .. } => messages.iter().any(is_it),
            _ => false,
        });
        if stored || on_its_way {
            return Ok(());
        }
        let (name, payload) = (&self.name, short(&read.payload));
        Err(format!(
            "{name}: {payload} read at sequence {}, where it never was",
            read.sequence
        ))
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
                .is_none_or(|message| state.may_be_gone(sequence, message, wall_ns))
        };
        if self.doubtful || self.is_hit(sequence) || may_be(&self.model, &self.pending, &fits) {
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
            let message = message.filter(|_| !self.is_hit(sequence));
            message.filter(|message| !self.model.may_be_gone(sequence, message, wall_ns))
        };
        // A server that ended may have removed it and told nobody.
        let gone = |state: &Model| {
            let message = state.messages.get(&known);
            message.is_none_or(|message| state.may_be_gone(known, message, wall_ns))
        };
        let known_is_gone = || may_be(&self.model, &self.pending, &gone);
        let good = match read {
            Some(read) => {
                (read.sequence >= known || known_is_gone())
                    && there(read.sequence).is_none_or(|message| {
                        message.payload == read.payload && message.subject == subject
                    })
            }
            // Its bytes were hit: whoever asks for it is told that there is none.
            None => self.is_hit(known) || known_is_gone(),
        };
        if good || self.doubtful {
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
            let least = least.saturating_sub(self.hits());
            state.last == last && (least..=most).contains(&count)
        };
        if self.doubtful || may_be(&self.model, &self.pending, &fits) {
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

    /// Messages of a row, from `start` and before `end`, that may have expired since the row was asked
    /// for: the server counts once what is behind each.
    #[must_use]
    pub fn expired_between(&self, start: u64, end: u64, filter: &str, wall_ns: i64) -> u64 {
        let between = self.model.messages.range(start.min(end)..end);
        let expired = between.filter(|(_, message)| {
            message.expires_ns <= wall_ns && crate::model::matches(filter, &message.subject)
        });
        expired.count() as u64
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
        let Some(last) = sequences.last().filter(|_| !self.doubtful) else {
            return Ok(());
        };
        let shows = |sequence: &u64| {
            !self.is_hit(*sequence)
                && self.model.messages.get(sequence).is_some_and(|message| {
                    !self.model.may_be_gone(*sequence, message, wall_ns)
                        && crate::model::matches(filter, &message.subject)
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

    /// Takes what a quiet stream holds, after a restart or at rest. The entries of `hit` may be lost;
    /// tells whether one is.
    ///
    /// # Errors
    /// It cannot be explained.
    pub fn resolve(
        &mut self,
        seen: &Seen,
        wall_ns: i64,
        hit: &[Record],
        told: bool,
    ) -> Result<bool, String> {
        // Those of one frame are lost together.
        let mut frames: Vec<u64> = hit.iter().map(Record::frame).collect();
        frames.dedup();
        // Without a word in the log, nothing may be lost.
        let count = if told { frames.len().min(HITS_MAX) } else { 0 };
        let mut wrong = None;
        // Messages that were hit in their segment may be lost before a purge counts what it keeps.
        let thin = if told {
            self.missing.clone()
        } else {
            BTreeSet::new()
        };
        let nothing = BTreeSet::new();
        let subsets = (0..1_u32 << count).rev();
        let tries = subsets.clone().map(|lost| (lost, &nothing));
        let thinner = subsets.map(|lost| (lost, &thin));
        for (lost, thin) in tries.chain(thinner.filter(|(_, thin)| !thin.is_empty())) {
            let is_lost = |entry: &&Record| {
                let at = frames.iter().position(|frame| *frame == entry.frame());
                told && at.is_some_and(|at| at >= count || lost & (1 << at) != 0)
            };
            let entries: Vec<&Record> = hit.iter().filter(is_lost).collect();
            match self.resolve_without(seen, wall_ns, &entries, thin) {
                Ok(()) => return Ok(lost > 0),
                Err(why) => wrong = wrong.or(Some(why)),
            }
        }
        let hit = hit.len();
        Err(format!(
            "{}: {} ({hit} entries hit)",
            self.name,
            wrong.unwrap_or_default()
        ))
    }

    fn resolve_without(
        &mut self,
        seen: &Seen,
        wall_ns: i64,
        lost: &[&Record],
        thin: &BTreeSet<u64>,
    ) -> Result<(), String> {
        let gaps = !lost.is_empty() || !thin.is_empty();
        let (mut model, mut history) = (self.model.clone(), Vec::new());
        let mut pending = self.pending.clone();
        if gaps {
            let without = self.without(lost, thin);
            (model, history) = (without.model.clone(), without.history.clone());
            without.burn(&mut pending);
        }
        let mut found = resolve(&model, &pending, seen, wall_ns, gaps);
        // What came behind the lost ones may have said which sequence it had.
        for last in [self.model.last, seen.last.min(self.model.last)] {
            if found.is_err() && model.last < last {
                let start = Model {
                    last,
                    ..model.clone()
                };
                found = resolve(&start, &pending, seen, wall_ns, gaps);
                if found.is_ok() {
                    model = start;
                }
            }
        }
        let Resolved { model: state, done } = found?;
        if gaps {
            self.history = history;
            // Whether the lost ones' ids are remembered is not known.
            self.ids.clear();
        }
        self.end_doubt();
        // What came back because its removal was lost is behind what consumers have passed.
        let back = state
            .messages
            .keys()
            .filter(|at| !self.model.messages.contains_key(at));
        let back: Vec<u64> = back.copied().filter(|at| *at <= self.model.last).collect();
        for consumer in self.consumers.values_mut().filter(|_| gaps) {
            consumer.finished.extend(back.iter().copied());
        }
        for at in done {
            let one = &pending[at];
            if one.burnt {
                apply_pending(&mut model, one, gaps);
                continue;
            }
            let effect = apply_pending(&mut model, one, gaps);
            let first = match (&one.change, effect) {
                (Change::Publish { messages, .. }, Effect::Stored(last)) => {
                    last + 1 - messages.len() as u64
                }
                (_, Effect::Done) => model.last + 1,
                _ => continue,
            };
            self.remember(one.change.clone(), first);
        }
        self.forget_unseen_ids(seen);
        self.model = state;
        self.pending.clear();
        self.batches.clear();
        let consumers = &self.model.consumers;
        self.consumers
            .retain(|name, _| consumers.contains_key(name));
        Ok(())
    }

    /// It is known what the last start read.
    fn end_doubt(&mut self) {
        self.doubtful = false;
        self.doubtful_consumers.clear();
        self.log.clear();
    }

    /// Whether a message that nobody answered for was stored before it went away cannot be told, nor
    /// whether its id is remembered.
    fn forget_unseen_ids(&mut self, seen: &Seen) {
        for one in &self.pending {
            let Change::Publish { messages, .. } = &one.change else {
                continue;
            };
            for message in messages {
                let is_seen = seen
                    .messages
                    .values()
                    .any(|(_, payload)| *payload == message.payload);
                if let (Some(id), false) = (message.id, is_seen) {
                    self.ids.retain(|(known, _)| *known != id);
                }
            }
        }
    }

    /// An operation found nothing to do.
    ///
    /// # Errors
    /// What was answered before does not fit.
    pub fn came_to_nothing(&mut self, number: u64) -> Result<(), String> {
        for one in self.pending.iter().filter(|one| one.number == number) {
            if let Change::Delete { sequence } = one.change {
                self.idle_deletes.insert(sequence);
            }
        }
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
        .filter(|(sequence, message)| {
            state.may_be_gone(**sequence, message, wall_ns)
                && crate::model::matches(filter, &message.subject)
        })
        .count() as u64;
    (most - expired, most)
}

fn make_uncertain(change: &mut Change) {
    if let Change::Publish { messages, .. } = change {
        messages
            .iter_mut()
            .for_each(|message| message.expires_ns = UNCERTAIN_NS);
    }
}

fn contains(change: &Change, payload: &Bytes) -> bool {
    match change {
        Change::Publish { messages, .. } => {
            messages.iter().any(|message| message.payload == *payload)
        }
        _ => false,
    }
}
