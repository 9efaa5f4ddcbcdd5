//! Applying committed entries: the only place where a stream's state changes (hard-parts 7).
//!
//! What happens follows from the entry and the state alone: no clock, no limits of the server, no
//! other stream. Answers, requests and consumers' deliveries are side effects of the leader.

use bytes::Bytes;
use millrace_store::stream::{Filter, JournaledMessage, Removed};

use super::Stream;
use super::republish::Republication;
use super::stepping::{Applying, Messages};
use super::sweep::Sweep;
use crate::batch::{Assembled, AssembledPart, Reference};
use crate::entry::{Deadline, MessagePlace, Operation, Rollup};
use crate::ids::JournalPosition;
use crate::io::{Effect, LogLevel};
use crate::origin::SourcePosition;
use crate::publish::header_value;
use crate::request::Outcome;
use crate::shared::Turn;

/// A committed entry of the stream's group.
#[derive(Clone, Debug)]
pub struct Committed {
    pub index: u64,
    pub term: u64,
    pub data: Bytes,
    pub position: Option<JournalPosition>,
}

/// Where headers and payload of a message are.
#[derive(Clone, Copy)]
enum Content<'a> {
    /// In its entry, which is here.
    Entry(&'a Bytes),
    /// In the journal only.
    Journal { checksum: u64 },
}

/// A message of a committed entry.
pub(super) struct Incoming<'a> {
    place: MessagePlace,
    subject: &'a [u8],
    /// Never empty.
    id: Option<&'a [u8]>,
    content: Content<'a>,
    /// What else was decided; empty: nothing.
    note: &'a [u8],
    /// Of the entry.
    position: Option<JournalPosition>,
    /// Given by its origin; `None`: the next one.
    sequence: Option<u64>,
}

impl<'a> Incoming<'a> {
    pub(super) fn of_entry(
        data: &'a Bytes,
        place: MessagePlace,
        position: Option<JournalPosition>,
    ) -> Self {
        let parts = place.parts(data);
        let id = header_value(parts.headers, b"Nats-Msg-Id").filter(|id| !id.is_empty());
        Self {
            place,
            subject: parts.subject,
            id,
            content: Content::Entry(data),
            note: parts.note,
            position,
            sequence: None,
        }
    }

    fn of_reference(reference: &'a Reference, part: &AssembledPart, place: MessagePlace) -> Self {
        Self {
            place,
            subject: &reference.subject,
            id: Some(&reference.message_id[..]).filter(|id| !id.is_empty()),
            content: Content::Journal {
                checksum: reference.checksum,
            },
            note: &reference.note,
            position: part.position,
            sequence: None,
        }
    }

    /// The message at a place of a part.
    pub(super) fn of_part(part: &'a AssembledPart, place: usize) -> Option<Self> {
        let message = *part.messages.get(place)?;
        Some(match part.references.get(place) {
            Some(reference) => Self::of_reference(reference, part, message),
            None => Self::of_entry(&part.data, message, part.position),
        })
    }
}

impl Stream {
    /// Does one operation of an entry; the messages of a batch are only made ready to be stored.
    pub(super) fn apply_operation(
        &mut self,
        turn: &mut Turn<'_>,
        applying: &mut Applying,
        operation: Operation,
    ) {
        let own = applying.own;
        match operation {
            Operation::Publish(place) => {
                let entry = &applying.entry;
                let incoming = Incoming::of_entry(&entry.data, place, entry.position);
                self.store_message(&incoming, own.is_some());
            }
            Operation::Mirrored { sequence, message } => {
                let entry = &applying.entry;
                let mut incoming = Incoming::of_entry(&entry.data, message, entry.position);
                incoming.sequence = Some(sequence);
                self.store_message(&incoming, own.is_some());
            }
            Operation::Sourced(place) => {
                let entry = &applying.entry;
                self.note_position(place.parts(&entry.data).headers);
                let incoming = Incoming::of_entry(&entry.data, place, entry.position);
                self.store_message(&incoming, own.is_some());
            }
            Operation::Skip { through } => self.apply_skip(through),
            Operation::SourcePosition {
                sequence,
                name,
                identity,
            } => self
                .source_positions
                .set(name, SourcePosition { sequence, identity }),
            Operation::Batch { messages } => {
                applying.messages = Some(Messages::Entry(messages.into_iter()));
            }
            Operation::At { sequence } => self.close_gap(turn, sequence),
            Operation::Part { .. } | Operation::Commit(_) => {
                self.apply_chain(turn, applying, operation);
            }
            Operation::Purge {
                sequence,
                keep,
                filter,
            } => self.apply_purge(sequence, keep, &filter, own),
            Operation::Delete { sequence, erase } => {
                let existed = self.apply_delete(turn, sequence, erase);
                self.finish(own, |stream| Outcome::MessageDeleted {
                    stream,
                    sequence,
                    existed,
                });
            }
            Operation::Configure { config } => {
                self.apply_configuration(turn, &config);
                self.finish(own, |stream| Outcome::StreamUpdated { stream });
            }
            Operation::Expire { now_ns } => self.sweep(Sweep::Expire { now_ns }),
            Operation::Remove { sequence } => {
                self.remove(sequence);
            }
            Operation::Consumer { .. }
            | Operation::ConsumerCreate { .. }
            | Operation::ConsumerDelete { .. }
            | Operation::ConsumerPause { .. }
            | Operation::ConsumerReset { .. } => self.apply_consumer(turn, operation, own),
            Operation::Restore(restored) => self.apply_restored(turn, &applying.entry, restored),
        }
    }

    /// Ends the request that asked for the operation under way, if it was made here. It is told
    /// when all of the entry is done.
    pub(crate) fn finish(
        &mut self,
        own: Option<u64>,
        outcome: impl FnOnce(crate::ids::StreamId) -> Outcome,
    ) {
        if let Some(request) = own.and_then(|number| self.lead.take_request(number)) {
            self.sweeps.finished.push((request, outcome(self.id)));
        }
    }

    /// The next message has this sequence. Those before it, if they are not there, were in entries
    /// that are lost: they count as used, so that no message moves to another's place.
    pub(super) fn close_gap(&mut self, turn: &mut Turn<'_>, sequence: u64) {
        let next = self.store.state().last_sequence + 1;
        if sequence <= next {
            return;
        }
        self.store.skip(sequence - 1, 0);
        let text = format!(
            "JetStream stream '{}': messages {next} to {} are lost to damage in the journal",
            self.name,
            sequence - 1
        );
        turn.effects.push(Effect::Log {
            level: LogLevel::Error,
            text,
        });
    }

    fn apply_chain(&mut self, turn: &mut Turn<'_>, applying: &mut Applying, operation: Operation) {
        let (first, end) = match &operation {
            Operation::Commit(commit) => (
                commit.first_sequence,
                commit.first_sequence + u64::from(commit.count),
            ),
            _ => (0, 0),
        };
        match crate::batch::assemble(&mut self.assembly, &applying.entry, operation) {
            Assembled::Waiting => {}
            Assembled::Dropped => self.close_gap(turn, end),
            Assembled::Damaged(reason) => {
                self.close_gap(turn, end);
                let text = format!("JetStream stream '{}': batch dropped: {reason}", self.name);
                turn.effects.push(Effect::Log {
                    level: LogLevel::Error,
                    text,
                });
            }
            Assembled::Whole(parts) => {
                self.close_gap(turn, first);
                applying.messages = Some(Messages::Chain(parts, 0, 0));
            }
        }
    }

    /// Stores a message and removes what it replaces or pushes out.
    pub(super) fn store_message(&mut self, incoming: &Incoming<'_>, own: bool) {
        self.apply_items += 1;
        let last = self.store.state().last_sequence;
        let sequence = incoming.sequence.unwrap_or(last + 1);
        let Incoming {
            subject, id, place, ..
        } = *incoming;
        let decision = place.decision;
        let enabled = self.dedup.is_enabled();
        let hash = id.filter(|_| enabled).map(|id| self.dedup.hash(id));
        if own {
            let size = self.store.accounting_size(
                subject.len(),
                place.headers_length as usize,
                place.payload_length as usize,
            );
            self.lead
                .flight
                .settle(subject, size, hash, !decision.unwanted);
        }
        if let Some(hash) = hash {
            self.dedup.insert(hash, sequence, decision.time_ns);
        }
        self.last_message_id = id.map(Bytes::copy_from_slice).unwrap_or_default();
        if decision.unwanted {
            self.store.skip(sequence, decision.time_ns);
        } else {
            self.note_republication(sequence, incoming);
            self.append(sequence, incoming);
            self.note_deadline(sequence, decision.deadline);
            self.consumers_see(sequence, subject);
        }
        match decision.rollup {
            Rollup::None => {}
            Rollup::Subject => {
                self.sweep_purge(Some(&Filter::one(subject)), Some(sequence), 0, None);
            }
            Rollup::All => self.sweep_purge(None, Some(sequence), 0, None),
        }
        if !incoming.note.is_empty() || !self.schedules.is_empty() {
            self.apply_note(sequence, subject, incoming.note, !decision.unwanted);
        }
        if self.over_subject_limit(subject).is_some() {
            self.sweep(Sweep::SubjectLimit(Bytes::copy_from_slice(subject)));
        }
        if self.over_limits().is_some() {
            self.sweep(Sweep::Limits);
        }
    }

    /// Remembers a message that is to be published again once its entry is applied.
    fn note_republication(&mut self, sequence: u64, incoming: &Incoming<'_>) {
        let Some(republisher) = self
            .republisher
            .as_mut()
            .filter(|_| self.lead.is_leader && !self.restoring)
        else {
            return;
        };
        if !republisher.wants(incoming.subject) {
            return;
        }
        let place = incoming.place;
        let body = match incoming.content {
            Content::Entry(data) => {
                let end = place.end().min(data.len());
                let body = data.slice(place.body().min(end)..end);
                let headers_length = (place.headers_length as usize).min(body.len());
                Some((body, headers_length))
            }
            Content::Journal { .. } => None,
        };
        republisher.push(Republication {
            sequence,
            time_ns: place.decision.time_ns,
            subject: Bytes::copy_from_slice(incoming.subject),
            last_sequence: self.store.last_of(incoming.subject).unwrap_or(0),
            body,
        });
    }

    fn append(&mut self, sequence: u64, incoming: &Incoming<'_>) {
        let place = incoming.place;
        let position = incoming.position.map(|position| JournalPosition {
            file: position.file,
            offset: position.offset + place.body() as u64,
        });
        let time_ns = place.decision.time_ns;
        match (incoming.content, position) {
            (Content::Entry(data), _) => {
                // What `place` says was checked when it was decoded from these bytes.
                let end = place.end().min(data.len());
                let body = data.slice(place.body().min(end)..end);
                self.store.append_joined(
                    (sequence, time_ns),
                    incoming.subject,
                    (body, place.headers_length),
                    position,
                );
            }
            (Content::Journal { checksum }, Some(position)) => {
                let message = JournaledMessage {
                    sequence,
                    time_ns,
                    subject: Bytes::copy_from_slice(incoming.subject),
                    headers_length: place.headers_length,
                    payload_length: place.payload_length,
                    checksum,
                };
                self.store.append_journaled(&message, position);
            }
            // Only what has a position is left to the journal.
            (Content::Journal { .. }, None) => self.store.skip(sequence, time_ns),
        }
    }

    fn note_deadline(&mut self, sequence: u64, deadline: Deadline) {
        match deadline {
            Deadline::Stream => {}
            Deadline::Never => {
                self.deadline_of.insert(sequence, i64::MAX);
            }
            Deadline::At(time_ns) => {
                self.deadlines.insert((time_ns, sequence));
                self.deadline_of.insert(sequence, time_ns);
            }
        }
    }

    /// The message that goes next because its subject has too many.
    pub(super) fn over_subject_limit(&self, subject: &[u8]) -> Option<u64> {
        let limit = self.config.max_msgs_per_subject;
        if limit <= 0 {
            return None;
        }
        let state = self.store.subject_state(subject)?;
        (state.count > limit.unsigned_abs()).then_some(state.first)
    }

    /// The message that goes next because the stream is over its limits.
    pub(super) fn over_limits(&self) -> Option<u64> {
        let (messages, bytes) = (self.config.max_msgs, self.config.max_bytes);
        let state = self.store.state();
        let over = (messages > 0 && state.messages > messages.unsigned_abs())
            || (bytes > 0 && state.bytes > bytes.unsigned_abs());
        self.store.oldest().filter(|_| over)
    }

    /// Takes one message out and tells the consumers.
    pub(crate) fn remove(&mut self, sequence: u64) -> Option<Removed> {
        let removed = self.store.remove(sequence)?;
        self.apply_items += 1;
        self.forget_deadline(sequence);
        self.consumers_lose(removed.sequence, &removed.subject);
        Some(removed)
    }

    pub(super) fn forget_deadline(&mut self, sequence: u64) {
        if !self.schedules.is_empty() {
            self.schedules.forget(sequence);
        }
        if !self.lingering.is_empty() {
            self.lingering.remove(&sequence);
        }
        if !self.lead.leaving.is_empty() {
            self.lead.leaving.remove(&sequence);
        }
        if self.deadline_of.is_empty() {
            return;
        }
        if let Some(deadline_ns) = self.deadline_of.remove(&sequence) {
            self.deadlines.remove(&(deadline_ns, sequence));
        }
    }

    fn apply_purge(&mut self, sequence: u64, keep: u64, filter: &Bytes, own: Option<u64>) {
        let filter = Filter::one(filter);
        let filter = Some(&filter).filter(|filter| !filter.is_all());
        // Below 2 there is nothing: a sequence of 1 is a no-op, 0 means that none was given.
        if sequence == 1 {
            self.finish(own, |stream| Outcome::StreamPurged { stream, purged: 0 });
            return;
        }
        self.sweep_purge(filter, (sequence > 1).then_some(sequence), keep, own);
    }

    fn apply_delete(&mut self, turn: &mut Turn<'_>, sequence: u64, erase: bool) -> bool {
        if !erase {
            return self.remove(sequence).is_some();
        }
        let Some(erased) = self.store.erase(sequence) else {
            return false;
        };
        self.forget_deadline(sequence);
        self.consumers_lose(sequence, &erased.subject);
        if !self.id.is_volatile() {
            // Before any checkpoint that covers this entry: a start that does not replay it finds
            // in the journal that copies are still to go.
            turn.effects.push(Effect::Erase {
                group: self.id.group(),
            });
        }
        true
    }

    fn apply_configuration(&mut self, turn: &mut Turn<'_>, config: &Bytes) {
        let Ok(config) = serde_json::from_slice::<crate::model::StreamConfig>(config) else {
            let text = format!(
                "JetStream stream '{}': a logged configuration is unreadable",
                self.name
            );
            turn.effects.push(Effect::Log {
                level: LogLevel::Error,
                text,
            });
            return;
        };
        // What was stored before the change goes out under the rules of then.
        if self.lead.is_leader {
            self.publish_again(turn);
        }
        let before = std::mem::replace(&mut self.config, config);
        self.compile();
        if before.allow_atomic && !self.config.allow_atomic {
            self.stop_batches(turn.shared);
        }
        if before.allow_batched && !self.config.allow_batched {
            self.lead.fast.stop(turn.shared);
        }
        if self.bound {
            self.rebind(turn, &before);
        }
        if self.lead.is_leader
            && (before.mirror, before.sources)
                != (self.config.mirror.clone(), self.config.sources.clone())
        {
            self.begin_copying(turn);
        }
        if before.retention != self.config.retention {
            self.retention_changed();
        }
        let limit = self.config.max_msgs_per_subject;
        if limit > 0 && limit != before.max_msgs_per_subject {
            self.sweep(Sweep::SubjectLimits(None));
        }
        self.sweep(Sweep::Limits);
    }
}
