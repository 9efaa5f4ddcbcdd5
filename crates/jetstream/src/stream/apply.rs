//! Applying committed entries: the only place where a stream's state changes (hard-parts 7).
//!
//! What happens follows from the entry and the state alone: no clock, no limits of the server, no
//! other stream. Answers, requests and consumers' deliveries are side effects of the leader.

use bytes::Bytes;
use millrace_store::stream::{Filter, JournaledMessage, Purge, Removed, StoredMessage};

use super::Stream;
use crate::batch::{Assembled, Reference};
use crate::entry::{Deadline, Operation, PublishRecord, Rollup, decode_head};
use crate::ids::JournalPosition;
use crate::io::{Effect, LogLevel};
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

impl Stream {
    /// Applies one entry. Entries come in order of their index; one that is applied already is
    /// ignored.
    pub fn apply(&mut self, turn: &mut Turn<'_>, entry: &Committed) {
        if let Some(loading) = &mut self.loading {
            loading.entries.push(entry.clone());
            return;
        }
        if self.quarantined || entry.index <= self.applied_index {
            return;
        }
        if let Err(error) = self.apply_entry(turn, entry) {
            self.quarantined = true;
            let text = format!(
                "JetStream stream '{}': entry {} cannot be read: {error}; the stream takes no more writes",
                self.name, entry.index
            );
            turn.effects.push(Effect::Log {
                level: LogLevel::Error,
                text,
            });
            return;
        }
        self.applied_index = entry.index;
        self.applied_term = entry.term;
        self.account(turn.shared);
        self.resume_checkpoint(turn);
        if self.lead.is_leader {
            self.release_answers(turn);
            self.advance_commit(turn);
            self.drain_inbox(turn);
        }
    }

    fn apply_entry(
        &mut self,
        turn: &mut Turn<'_>,
        entry: &Committed,
    ) -> Result<(), crate::entry::DecodeError> {
        if self
            .assembly
            .as_ref()
            .is_some_and(|open| open.term() != entry.term)
        {
            self.assembly = None;
        }
        if entry.data.is_empty() {
            self.assembly = None;
            return Ok(());
        }
        let (head, operations) = decode_head(&entry.data)?;
        // Read whole before anything is done: an entry applies as one.
        let operations = operations.collect::<Result<Vec<_>, _>>()?;
        let own = (self.lead.is_leader && head.origin == turn.shared.origin).then_some(head.number);
        for operation in operations {
            if !matches!(operation, Operation::Part { .. } | Operation::Commit(_)) {
                self.assembly = None;
            }
            self.apply_operation(turn, entry, operation, own);
        }
        if let Some(number) = own {
            self.lead.applied = self.lead.applied.max(number);
        }
        Ok(())
    }

    fn apply_operation(
        &mut self,
        turn: &mut Turn<'_>,
        entry: &Committed,
        operation: Operation,
        own: Option<u64>,
    ) {
        match operation {
            Operation::Publish(record) => {
                self.apply_message(&record, entry.position, own.is_some());
            }
            Operation::Batch { messages } => {
                for record in &messages {
                    self.apply_message(record, entry.position, own.is_some());
                }
            }
            Operation::Part { .. } | Operation::Commit(_) => {
                self.apply_chain(turn, entry, operation, own);
            }
            Operation::Purge {
                sequence,
                keep,
                filter,
            } => {
                let purged = self.apply_purge(sequence, keep, &filter);
                self.finish(turn, own, |stream| Outcome::StreamPurged { stream, purged });
            }
            Operation::Delete { sequence, erase } => {
                let existed = self.apply_delete(sequence, erase);
                self.finish(turn, own, |stream| Outcome::MessageDeleted {
                    stream,
                    sequence,
                    existed,
                });
            }
            Operation::Configure { config } => {
                self.apply_configuration(turn, &config);
                self.finish(turn, own, |stream| Outcome::StreamUpdated { stream });
            }
            Operation::Expire { now_ns } => {
                self.apply_expiry(now_ns, own.is_some());
            }
            Operation::Consumer { .. }
            | Operation::ConsumerCreate { .. }
            | Operation::ConsumerDelete { .. }
            | Operation::ConsumerPause { .. }
            | Operation::ConsumerReset { .. } => self.apply_consumer(turn, operation, own),
        }
    }

    /// Ends the request that asked for the operation just applied, if it was made here.
    pub(crate) fn finish(
        &mut self,
        turn: &mut Turn<'_>,
        own: Option<u64>,
        outcome: impl FnOnce(crate::ids::StreamId) -> Outcome,
    ) {
        if let Some(request) = own.and_then(|number| self.lead.take_request(number)) {
            turn.shared.finished.push((request, outcome(self.id)));
        }
    }

    fn apply_chain(
        &mut self,
        turn: &mut Turn<'_>,
        entry: &Committed,
        operation: Operation,
        own: Option<u64>,
    ) {
        match crate::batch::assemble(&mut self.assembly, entry, operation) {
            Assembled::Waiting | Assembled::Dropped => {}
            Assembled::Damaged(reason) => {
                let text = format!("JetStream stream '{}': batch dropped: {reason}", self.name);
                turn.effects.push(Effect::Log {
                    level: LogLevel::Error,
                    text,
                });
            }
            Assembled::Whole(parts) => {
                for (position, messages) in &parts {
                    for message in messages {
                        let reference = message.reference.as_ref();
                        self.store_message(&message.record, reference, *position, own.is_some());
                    }
                }
            }
        }
    }

    pub(crate) fn apply_message(
        &mut self,
        record: &PublishRecord,
        position: Option<JournalPosition>,
        own: bool,
    ) {
        self.store_message(record, None, position, own);
    }

    /// Stores a message and removes what it replaces or pushes out. With a reference, its headers
    /// and payload are in the journal only.
    fn store_message(
        &mut self,
        record: &PublishRecord,
        reference: Option<&Reference>,
        position: Option<JournalPosition>,
        own: bool,
    ) {
        let sequence = self.store.state().last_sequence + 1;
        let id = match reference {
            Some(reference) => Some(reference.message_id.clone()),
            None if record.headers.is_empty() => None,
            None => header_value(&record.headers, b"Nats-Msg-Id"),
        };
        let id = id.filter(|id| !id.is_empty());
        let enabled = self.dedup.is_enabled();
        let hash = id
            .as_ref()
            .filter(|_| enabled)
            .map(|id| self.dedup.hash(id));
        if own {
            let size = match reference {
                Some(reference) => self.store.accounting_size(
                    record.subject.len(),
                    reference.headers_length as usize,
                    reference.payload_length as usize,
                ),
                None => self.accounting_size(record),
            };
            self.lead
                .flight
                .settle(&record.subject, size, hash, !record.unwanted);
        }
        if let Some(hash) = hash {
            self.dedup.insert(hash, sequence, record.time_ns);
        }
        self.last_message_id = id.unwrap_or_default();
        if record.unwanted {
            self.store.skip(sequence, record.time_ns);
        } else {
            self.append(sequence, record, reference, position);
            self.note_deadline(sequence, record.deadline);
            self.consumers_see(sequence, &record.subject);
        }
        match record.rollup {
            Rollup::None => {}
            Rollup::Subject => {
                self.purge(Some(&Filter::one(&record.subject)), Some(sequence), 0);
            }
            Rollup::All => {
                self.purge(None, Some(sequence), 0);
            }
        }
        self.enforce_subject_limit(&record.subject);
        self.enforce_limits();
    }

    fn append(
        &mut self,
        sequence: u64,
        record: &PublishRecord,
        reference: Option<&Reference>,
        position: Option<JournalPosition>,
    ) {
        let body_offset = (record.offset + record.subject.len()) as u64;
        let position = position.map(|position| JournalPosition {
            file: position.file,
            offset: position.offset + body_offset,
        });
        if let (Some(reference), Some(position)) = (reference, position) {
            let message = JournaledMessage {
                sequence,
                time_ns: record.time_ns,
                subject: record.subject.clone(),
                headers_length: reference.headers_length,
                payload_length: reference.payload_length,
                checksum: reference.checksum,
            };
            self.store.append_journaled(&message, position);
            return;
        }
        let message = StoredMessage {
            sequence,
            time_ns: record.time_ns,
            subject: record.subject.clone(),
            headers: record.headers.clone(),
            payload: record.payload.clone(),
        };
        self.store.append(message, position);
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

    fn enforce_subject_limit(&mut self, subject: &[u8]) {
        let limit = self.config.max_msgs_per_subject;
        if limit <= 0 {
            return;
        }
        while let Some(state) = self.store.subject_state(subject) {
            if state.count <= limit.unsigned_abs() || self.remove(state.first).is_none() {
                return;
            }
        }
    }

    /// Removes the oldest messages until the stream is within its limits.
    fn enforce_limits(&mut self) {
        let (messages, bytes) = (self.config.max_msgs, self.config.max_bytes);
        loop {
            let state = self.store.state();
            let over = (messages > 0 && state.messages > messages.unsigned_abs())
                || (bytes > 0 && state.bytes > bytes.unsigned_abs());
            let Some(oldest) = self.store.oldest().filter(|_| over) else {
                return;
            };
            if self.remove(oldest).is_none() {
                return;
            }
        }
    }

    /// Takes one message out and tells the consumers.
    pub(crate) fn remove(&mut self, sequence: u64) -> Option<Removed> {
        let removed = self.store.remove(sequence)?;
        self.forget_deadline(sequence);
        self.consumers_lose(removed.sequence, &removed.subject);
        Some(removed)
    }

    fn forget_deadline(&mut self, sequence: u64) {
        if self.deadline_of.is_empty() {
            return;
        }
        if let Some(deadline_ns) = self.deadline_of.remove(&sequence) {
            self.deadlines.remove(&(deadline_ns, sequence));
        }
    }

    /// Takes out many messages at once. Gives how many there were.
    fn purge(&mut self, filter: Option<&Filter>, below: Option<u64>, keep: u64) -> u64 {
        let mut gone = Vec::new();
        let purged = self.store.purge(
            Purge {
                filter,
                below,
                keep,
            },
            |removed| {
                gone.push(removed.sequence);
            },
        );
        for sequence in &gone {
            self.forget_deadline(*sequence);
        }
        if purged.messages > 0 {
            self.consumers_purged(filter);
        }
        purged.messages
    }

    fn apply_purge(&mut self, sequence: u64, keep: u64, filter: &Bytes) -> u64 {
        let filter = Filter::one(filter);
        let filter = Some(&filter).filter(|filter| !filter.is_all());
        // Below 2 there is nothing: a sequence of 1 is a no-op, 0 means that none was given.
        if sequence == 1 {
            return 0;
        }
        self.purge(filter, (sequence > 1).then_some(sequence), keep)
    }

    fn apply_delete(&mut self, sequence: u64, erase: bool) -> bool {
        if !erase {
            return self.remove(sequence).is_some();
        }
        let Some(erased) = self.store.erase(sequence) else {
            return false;
        };
        self.forget_deadline(sequence);
        self.consumers_lose(sequence, &erased.removed.subject);
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
        let before = std::mem::replace(&mut self.config, config);
        self.compile();
        if before.allow_atomic && !self.config.allow_atomic {
            self.stop_batches(turn.shared);
        }
        if self.lead.is_leader {
            self.rebind(turn, &before);
        }
        if before.retention != self.config.retention {
            self.retention_changed();
        }
        let limit = self.config.max_msgs_per_subject;
        if limit > 0 && limit != before.max_msgs_per_subject {
            let mut full = Vec::new();
            self.store
                .for_each_subject(&Filter::all(), |subject, state| {
                    if state.count > limit.unsigned_abs() {
                        full.push(subject.to_vec());
                    }
                });
            for subject in full {
                self.enforce_subject_limit(&subject);
            }
        }
        self.enforce_limits();
    }
}
