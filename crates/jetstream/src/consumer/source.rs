//! What a consumer asks of its stream's messages. A trait, so that the visible watermark
//! (hard-parts 6) is applied in one place: [`VisibleStore`].

use millrace_store::stream::{Filter, Lookup, ReadError, StoredMessage, StreamStore};

/// Answer of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The message.
    Message(StoredMessage),
    /// Removed: skip it.
    Gone,
    /// Its bytes are damaged: skip it, and say so.
    Unreadable,
    /// A disk read is under way; call [`super::Consumer::wake`] again when it is done.
    Loading,
}

/// The visible messages of one stream. No method shows anything above the watermark.
pub trait MessageSource {
    /// First sequence (last + 1 when empty).
    fn first_sequence(&self) -> u64;
    /// Highest visible sequence, also when its message is gone.
    fn last_sequence(&self) -> u64;
    /// First message at or after `from` that matches.
    fn next_match(&self, filter: &Filter, from: u64) -> Option<u64>;
    /// Last message that matches.
    fn last_match(&self, filter: &Filter) -> Option<u64>;
    /// How many messages at or after `from` match.
    fn count_from(&self, filter: &Filter, from: u64) -> u64;
    /// First sequence stored at or after this time; last + 1 if there is none.
    fn sequence_at(&self, time_ns: i64) -> u64;
    /// Newest sequence of each matching subject, ascending.
    fn last_per_subject(&self, filter: &Filter) -> Vec<u64>;
    /// Whether the message is still there.
    fn contains(&self, sequence: u64) -> bool;
    /// Whether the message is there and matches.
    fn matches(&self, sequence: u64, filter: &Filter) -> bool;
    /// Reads a message.
    fn fetch(&mut self, sequence: u64) -> Fetched;
}

/// A stream's store up to its visible watermark.
#[derive(Debug)]
pub struct VisibleStore<'a> {
    store: &'a mut StreamStore,
    visible_last: u64,
}

impl<'a> VisibleStore<'a> {
    /// Shows `store` up to and with `visible_last`.
    pub const fn new(store: &'a mut StreamStore, visible_last: u64) -> Self {
        Self {
            store,
            visible_last,
        }
    }
}

impl MessageSource for VisibleStore<'_> {
    fn first_sequence(&self) -> u64 {
        self.store
            .state()
            .first_sequence
            .min(self.visible_last.saturating_add(1))
            .max(1)
    }

    fn last_sequence(&self) -> u64 {
        self.visible_last.min(self.store.state().last_sequence)
    }

    fn next_match(&self, filter: &Filter, from: u64) -> Option<u64> {
        if from > self.visible_last {
            return None;
        }
        self.store
            .next_match(filter, from)
            .filter(|sequence| *sequence <= self.visible_last)
    }

    fn last_match(&self, filter: &Filter) -> Option<u64> {
        self.store.last_match(filter, self.visible_last)
    }

    fn count_from(&self, filter: &Filter, from: u64) -> u64 {
        let hidden = match self.visible_last.checked_add(1) {
            Some(hidden) if hidden <= self.store.state().last_sequence => {
                self.store.count_from(filter, hidden.max(from))
            }
            _ => 0,
        };
        self.store.count_from(filter, from).saturating_sub(hidden)
    }

    fn sequence_at(&self, time_ns: i64) -> u64 {
        let end = self.last_sequence().saturating_add(1);
        self.store
            .first_at_or_after(time_ns)
            .map_or(end, |sequence| sequence.min(end))
    }

    fn last_per_subject(&self, filter: &Filter) -> Vec<u64> {
        let mut sequences = Vec::new();
        self.store.for_each_subject(filter, |subject, state| {
            if state.last <= self.visible_last {
                sequences.push(state.last);
            } else if let Some(last) = self
                .store
                .last_match(&Filter::one(subject), self.visible_last)
            {
                sequences.push(last);
            }
        });
        sequences.sort_unstable();
        sequences
    }

    fn contains(&self, sequence: u64) -> bool {
        sequence <= self.visible_last && self.store.contains(sequence)
    }

    fn matches(&self, sequence: u64, filter: &Filter) -> bool {
        sequence <= self.visible_last
            && self
                .store
                .subject_of(sequence)
                .is_some_and(|subject| filter.matches(subject))
    }

    fn fetch(&mut self, sequence: u64) -> Fetched {
        if sequence > self.visible_last {
            return Fetched::Gone;
        }
        match self.store.get(sequence) {
            Lookup::Ready(Ok(message)) => Fetched::Message(message),
            Lookup::Ready(Err(ReadError::NotFound)) => Fetched::Gone,
            Lookup::Ready(Err(ReadError::Damaged)) => Fetched::Unreadable,
            Lookup::Loading => Fetched::Loading,
        }
    }
}
