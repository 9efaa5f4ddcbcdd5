//! The stream store as a plain sorted map: what the real one is compared with in tests.

use super::{Filter, Purge, StoredMessage, StreamState, accounting_size};
use std::collections::BTreeMap;

/// All messages by sequence.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) file: bool,
    pub(super) messages: BTreeMap<u64, StoredMessage>,
    pub(super) last_sequence: u64,
    pub(super) last_time_ns: i64,
    pub(super) purged: bool,
}

impl Model {
    pub(super) fn size(&self, message: &StoredMessage) -> u64 {
        let (headers, payload) = (message.headers.len(), message.payload.len());
        accounting_size(self.file, message.subject.len(), headers, payload)
    }

    pub(super) fn append(&mut self, message: StoredMessage) {
        self.last_sequence = message.sequence;
        self.last_time_ns = message.time_ns;
        self.messages.insert(message.sequence, message);
    }

    pub(super) fn skip(&mut self, to_sequence: u64, time_ns: i64) {
        if to_sequence > self.last_sequence {
            self.last_sequence = to_sequence;
            if time_ns != 0 {
                self.last_time_ns = time_ns;
            }
        }
    }

    pub(super) fn purge(&mut self, purge: Purge<'_>) -> Vec<u64> {
        let all = Filter::all();
        let filter = purge.filter.unwrap_or(&all);
        let below = purge.below.unwrap_or(u64::MAX);
        let mut matching: Vec<u64> = self
            .messages
            .range(..below)
            .filter(|(_, message)| filter.matches(&message.subject))
            .map(|(sequence, _)| *sequence)
            .collect();
        matching.truncate(matching.len().saturating_sub(purge.keep as usize));
        for sequence in &matching {
            self.messages.remove(sequence);
        }
        if filter.is_all()
            && purge.keep == 0
            && let Some(below) = purge.below
        {
            self.skip(below.saturating_sub(1), 0);
        } else if filter.is_all() && purge.keep == 0 {
            self.purged = true;
        }
        matching
    }

    pub(super) fn state(&self) -> StreamState {
        let first = self.messages.values().next();
        let fresh = self.last_sequence == 0;
        let first_sequence = first.map_or_else(
            || self.last_sequence + u64::from(!fresh || self.purged),
            |m| m.sequence,
        );
        let mut subjects: Vec<_> = self.messages.values().map(|m| &m.subject).collect();
        subjects.sort();
        subjects.dedup();
        let span = if fresh {
            0
        } else {
            self.last_sequence + 1 - first_sequence
        };
        StreamState {
            messages: self.messages.len() as u64,
            bytes: self
                .messages
                .values()
                .map(|message| self.size(message))
                .sum(),
            first_sequence,
            first_time_ns: first.map_or(0, |message| message.time_ns),
            last_sequence: self.last_sequence,
            last_time_ns: self.last_time_ns,
            subjects: subjects.len() as u64,
            deleted: span - self.messages.len() as u64,
        }
    }

    pub(super) fn matching(&self, filter: &Filter) -> Vec<u64> {
        let wanted = self
            .messages
            .values()
            .filter(|message| filter.matches(&message.subject));
        wanted.map(|message| message.sequence).collect()
    }
}
