//! What a stream is after a row of operations: a plain model, written from the description of
//! JetStream and not from the server's code. It knows no disk, no log and no time but what it is
//! told; `resolve.rs` asks which rows of operations explain what was seen.

use crate::retention::{Acknowledged, Interest, Retention};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Accounting adds this to a message of a file stream, and this for its headers.
const FILE_OVERHEAD_BYTES: u64 = 22 + 8;
const FILE_HEADERS_BYTES: u64 = 4;
const MEMORY_OVERHEAD_BYTES: u64 = 16;

/// What a stream's configuration says, as far as the model follows it. 0: no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub memory: bool,
    pub max_messages: u64,
    pub max_bytes: u64,
    pub max_per_subject: u64,
    pub max_age_ns: i64,
    pub discard_new: bool,
    pub discard_new_per_subject: bool,
    pub rollups: bool,
    pub ttl: bool,
    pub direct: bool,
    pub retention: Retention,
    /// Tells configurations and incarnations of one name apart.
    pub description: String,
}

impl Limits {
    /// Messages go without being asked to: by their age, or when they are acknowledged.
    #[must_use]
    pub fn vanishes(&self) -> bool {
        self.ttl || self.max_age_ns > 0 || self.retention != Retention::Limits
    }
}

/// Which older messages a message replaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rollup {
    #[default]
    None,
    Subject,
    All,
}

/// A message as it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub subject: String,
    /// Bytes of the header block.
    pub headers_length: usize,
    pub payload: Bytes,
    pub rollup: Rollup,
    /// `Nats-Msg-Id`.
    pub id: Option<u64>,
    /// Wall time from which it may be gone; `i64::MAX`: it stays.
    pub expires_ns: i64,
}

/// A message as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub subject: String,
    pub payload: Bytes,
    pub size: u64,
    pub expires_ns: i64,
}

/// Something that changes a stream as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// One message, or all of a batch.
    Publish {
        messages: Vec<Sent>,
        batch: bool,
    },
    Purge {
        filter: Option<String>,
        /// Only below this one; 0: all.
        below: u64,
        keep: u64,
    },
    Delete {
        sequence: u64,
    },
    Configure(Limits),
    CreateConsumer {
        name: String,
        interest: Interest,
    },
    DeleteConsumer(String),
}

/// What a change comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The last of the messages has this sequence.
    Stored(u64),
    Duplicate(u64),
    /// A limit says no.
    Refused,
    Done,
}

/// The state of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub limits: Limits,
    pub messages: BTreeMap<u64, Arc<Stored>>,
    pub last: u64,
    pub bytes: u64,
    pub ids: BTreeMap<u64, u64>,
    pub consumers: BTreeMap<String, Interest>,
    /// What the client acknowledged, and what the server confirmed of it.
    pub acknowledged: Acknowledged,
}

/// Whether a subject of the workload matches a filter of the workload: literal, or ending in `>`.
#[must_use]
pub fn matches(filter: &str, subject: &str) -> bool {
    match filter.strip_suffix('>') {
        Some(prefix) => subject.starts_with(prefix),
        None => filter == subject,
    }
}

impl Model {
    /// An empty stream.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// The oldest message, or what stands for it when there is none.
    #[must_use]
    pub fn first(&self) -> u64 {
        match self.messages.first_key_value() {
            Some((sequence, _)) => *sequence,
            None if self.last == 0 => 0,
            None => self.last + 1,
        }
    }

    /// Messages behind `sequence` that match.
    #[must_use]
    pub fn count_after(&self, sequence: u64, filter: &str) -> u64 {
        self.messages
            .range(sequence + 1..)
            .filter(|(_, message)| matches(filter, &message.subject))
            .count() as u64
    }

    /// Makes the change.
    pub fn apply(&mut self, change: &Change) -> Effect {
        match change {
            Change::Publish { messages, batch } => self.publish(messages, *batch),
            Change::Purge {
                filter,
                below,
                keep,
            } => {
                self.purge(filter.as_deref(), *below, *keep);
                if filter.is_none() && *keep == 0 {
                    self.last = self.last.max(below.saturating_sub(1));
                }
                Effect::Done
            }
            Change::Delete { sequence } => {
                self.remove(*sequence);
                Effect::Done
            }
            Change::Configure(limits) => {
                let before = std::mem::replace(&mut self.limits, limits.clone());
                if before.max_per_subject != self.limits.max_per_subject {
                    let mut subjects: Vec<String> = self
                        .messages
                        .values()
                        .map(|message| message.subject.clone())
                        .collect();
                    subjects.sort();
                    subjects.dedup();
                    for subject in subjects {
                        self.enforce_subject(&subject);
                    }
                }
                self.enforce();
                Effect::Done
            }
            Change::CreateConsumer { name, interest } => {
                // What may be gone by now does not come back for it.
                self.note_uncertain();
                self.consumers.insert(name.clone(), interest.clone());
                Effect::Done
            }
            Change::DeleteConsumer(name) => {
                self.consumers.remove(name);
                self.remove_unneeded();
                Effect::Done
            }
        }
    }

    /// Makes a change again that is known to have taken effect; its messages begin at `first`.
    pub fn redo(&mut self, change: &Change, first: u64) {
        let Change::Publish { messages, .. } = change else {
            self.apply(change);
            return;
        };
        self.last = self.last.max(first.saturating_sub(1));
        messages.iter().for_each(|sent| self.store(sent));
    }

    fn size(&self, sent: &Sent) -> u64 {
        let body = (sent.subject.len() + sent.headers_length + sent.payload.len()) as u64;
        let headers = u64::from(sent.headers_length > 0) * FILE_HEADERS_BYTES;
        if self.limits.memory {
            body + MEMORY_OVERHEAD_BYTES
        } else {
            body + FILE_OVERHEAD_BYTES + headers
        }
    }

    fn publish(&mut self, messages: &[Sent], batch: bool) -> Effect {
        if let Some(known) = messages
            .iter()
            .find_map(|sent| self.ids.get(&sent.id?).copied())
        {
            return if batch {
                Effect::Refused
            } else {
                Effect::Duplicate(known)
            };
        }
        let (mut count, mut bytes) = (0, 0);
        for (at, sent) in messages.iter().enumerate() {
            let of_subject = |other: &&Sent| other.subject == sent.subject;
            let more = messages[..at].iter().filter(of_subject).count() as u64;
            if self.is_refused(sent, count, bytes, more) {
                return Effect::Refused;
            }
            count += 1;
            bytes += self.size(sent);
        }
        for sent in messages {
            self.store(sent);
        }
        Effect::Stored(self.last)
    }

    fn of_subject(&self, subject: &str) -> u64 {
        self.messages
            .values()
            .filter(|message| message.subject == subject)
            .count() as u64
    }

    /// Discard new: `count` messages of `bytes` come before this one, `more` of them on its subject.
    fn is_refused(&self, sent: &Sent, count: u64, bytes: u64, more: u64) -> bool {
        let limits = &self.limits;
        if !limits.discard_new {
            return false;
        }
        if limits.discard_new_per_subject
            && limits.max_per_subject > 0
            && self.of_subject(&sent.subject) + more >= limits.max_per_subject
        {
            return sent.rollup == Rollup::None;
        }
        let messages = self.messages.len() as u64 + count + 1;
        (limits.max_messages > 0 && messages > limits.max_messages)
            || (limits.max_bytes > 0 && self.bytes + bytes + self.size(sent) > limits.max_bytes)
    }

    fn store(&mut self, sent: &Sent) {
        self.last += 1;
        let size = self.size(sent);
        self.bytes += size;
        if let Some(id) = sent.id {
            self.ids.insert(id, self.last);
        }
        let stored = Stored {
            subject: sent.subject.clone(),
            payload: sent.payload.clone(),
            size,
            expires_ns: sent.expires_ns,
        };
        self.messages.insert(self.last, Arc::new(stored));
        self.remove_if_unneeded(self.last);
        match sent.rollup {
            Rollup::None => {}
            Rollup::Subject => self.purge(Some(&sent.subject), self.last, 0),
            Rollup::All => self.purge(None, self.last, 0),
        }
        self.enforce_subject(&sent.subject);
        self.enforce();
    }

    /// Takes one message out.
    pub fn remove(&mut self, sequence: u64) {
        if let Some(message) = self.messages.remove(&sequence) {
            self.bytes -= message.size;
        }
    }

    fn purge(&mut self, filter: Option<&str>, below: u64, keep: u64) {
        let mut found: Vec<u64> = self
            .messages
            .iter()
            .filter(|(sequence, message)| {
                (below == 0 || **sequence < below)
                    && filter.is_none_or(|filter| matches(filter, &message.subject))
            })
            .map(|(sequence, _)| *sequence)
            .collect();
        found.truncate(found.len().saturating_sub(keep as usize));
        found.into_iter().for_each(|sequence| self.remove(sequence));
    }

    fn enforce_subject(&mut self, subject: &str) {
        let limit = self.limits.max_per_subject;
        if limit > 0 {
            self.purge(Some(subject), 0, limit);
        }
    }

    fn enforce(&mut self) {
        let (messages, bytes) = (self.limits.max_messages, self.limits.max_bytes);
        while (messages > 0 && self.messages.len() as u64 > messages)
            || (bytes > 0 && self.bytes > bytes)
        {
            let Some((first, _)) = self.messages.first_key_value() else {
                return;
            };
            self.remove(*first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(subject: &str, payload: &str) -> Sent {
        Sent {
            subject: subject.to_owned(),
            payload: Bytes::from(payload.to_owned()),
            expires_ns: i64::MAX,
            ..Sent::default()
        }
    }

    fn one(subject: &str) -> Change {
        Change::Publish {
            messages: vec![sent(subject, "x")],
            batch: false,
        }
    }

    fn sequences(model: &Model) -> Vec<u64> {
        model.messages.keys().copied().collect()
    }

    #[test]
    fn limits_take_the_oldest_away() {
        let mut model = Model::new(Limits {
            max_messages: 3,
            max_per_subject: 2,
            ..Limits::default()
        });
        for subject in ["a", "a", "a", "b", "c"] {
            model.apply(&one(subject));
        }
        assert_eq!(sequences(&model), [3, 4, 5]);
        assert_eq!(model.bytes, 3 * (1 + 1 + 30));
    }

    #[test]
    fn a_full_stream_that_discards_new_refuses_whole_batches() {
        let mut model = Model::new(Limits {
            max_messages: 3,
            discard_new: true,
            ..Limits::default()
        });
        let batch = |count: usize| Change::Publish {
            messages: vec![sent("a", "x"); count],
            batch: true,
        };
        assert_eq!(model.apply(&batch(4)), Effect::Refused);
        assert_eq!(model.apply(&batch(3)), Effect::Stored(3));
        assert_eq!(model.apply(&one("a")), Effect::Refused);
        assert_eq!(sequences(&model), [1, 2, 3]);
    }

    #[test]
    fn purges_follow_filter_bound_and_keep() {
        let mut model = Model::new(Limits::default());
        for subject in ["s.a", "s.b", "s.a", "s.b", "s.a"] {
            model.apply(&one(subject));
        }
        let purge = |filter: Option<&str>, below, keep| Change::Purge {
            filter: filter.map(str::to_owned),
            below,
            keep,
        };
        model.apply(&purge(Some("s.a"), 3, 0));
        assert_eq!(sequences(&model), [2, 3, 4, 5]);
        model.apply(&purge(Some("s.b"), 0, 1));
        assert_eq!(sequences(&model), [3, 4, 5]);
        model.apply(&purge(Some("s.>"), 0, 0));
        assert_eq!((sequences(&model), model.first()), (vec![], 6));
    }

    #[test]
    fn an_id_is_taken_once_and_a_rollup_replaces() {
        let mut model = Model::new(Limits::default());
        let with_id = Change::Publish {
            messages: vec![Sent {
                id: Some(7),
                ..sent("a", "x")
            }],
            batch: false,
        };
        assert_eq!(model.apply(&with_id), Effect::Stored(1));
        assert_eq!(model.apply(&with_id), Effect::Duplicate(1));
        model.apply(&one("b"));
        let rollup = Change::Publish {
            messages: vec![Sent {
                rollup: Rollup::Subject,
                ..sent("a", "y")
            }],
            batch: false,
        };
        model.apply(&rollup);
        assert_eq!(sequences(&model), [2, 3]);
    }
}
