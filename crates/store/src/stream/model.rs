//! The stream store as a plain sorted map, and random operations for both: what the real one is
//! compared with in tests.

use super::{Filter, Purge, StoredMessage, StreamState, StreamStore, accounting_size};
use crate::journal::JournalPosition;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;

const SUBJECTS: [&str; 8] = ["a", "a.b", "a.c", "b.c", "b.c.d", "a.b.c", "x-y.z", "x.y"];
const FILTERS: [&[&str]; 9] = [
    &[],
    &["a"],
    &["a.*"],
    &["*.c"],
    &["a.>", "b.c"],
    &["x.*", "*.y"],
    &["*"],
    &["none.*"],
    &["b.>"],
];

pub(super) const fn filters() -> usize {
    FILTERS.len()
}

pub(super) fn filter(number: usize) -> Filter {
    Filter::many(
        FILTERS[number % FILTERS.len()]
            .iter()
            .map(|text| text.as_bytes()),
    )
}

/// A random step; what it does depends on what is there.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Append {
        subject: usize,
        gap: u64,
        headers: usize,
        payload: usize,
        delay: i64,
    },
    Skip(u64),
    Remove(usize),
    RemoveFirst(u64),
    Purge {
        filter: usize,
        below: Option<u64>,
        keep: u64,
    },
}

/// What the log would hold.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Append(StoredMessage),
    Skip(u64),
    Remove(u64),
    Erase(u64),
    Purge {
        filter: usize,
        below: Option<u64>,
        keep: u64,
    },
}

impl Operation {
    pub(super) fn any() -> impl Strategy<Value = Step> {
        prop_oneof![
            12 => (0usize..64, 0u64..40, 0usize..3, 0usize..5, 0i64..1000).prop_map(
                |(subject, gap, headers, payload, delay)| Step::Append {
                    // The first subjects are common, the last ones rare.
                    subject: (subject * subject) / 512,
                    gap: if gap > 36 { gap } else { 1 },
                    headers,
                    payload,
                    delay,
                }
            ),
            1 => (0u64..5).prop_map(Step::Skip),
            6 => any::<usize>().prop_map(Step::Remove),
            3 => (0u64..4).prop_map(Step::RemoveFirst),
            1 => (0usize..9, proptest::option::of(0u64..700), 0u64..6)
                .prop_map(|(filter, below, keep)| Step::Purge { filter, below, keep }),
        ]
    }

    /// Does it to the store, and compares what it tells with the model before the operation.
    pub(super) fn apply(
        &self,
        store: &mut StreamStore,
        model: &Model,
        position: Option<JournalPosition>,
    ) {
        match self {
            Self::Append(message) => store.append(message.clone(), position),
            Self::Skip(sequence) => store.skip(*sequence, 0),
            Self::Remove(sequence) | Self::Erase(sequence) => {
                let expected = &model.messages[sequence];
                let removed = if matches!(self, Self::Remove(_)) {
                    store.remove(*sequence)
                } else {
                    store.erase(*sequence)
                };
                let removed = removed.unwrap();
                assert_eq!(removed.size, model.size(expected));
                assert_eq!(removed.subject, expected.subject);
                let others = model.matching(&Filter::one(&expected.subject));
                assert_eq!(removed.subject_gone, others == [*sequence]);
                assert!(store.remove(*sequence).is_none());
            }
            Self::Purge {
                filter: number,
                below,
                keep,
            } => {
                let filter = filter(*number);
                let purge = Purge {
                    filter: Some(&filter),
                    below: *below,
                    keep: *keep,
                };
                let mut removed = Vec::new();
                let mut cursor = store.begin_purge(purge);
                let steps = 1 + *keep as usize;
                while !store.step_purge(&mut cursor, steps, |one| removed.push(one.sequence)) {}
                let expected = model.clone().purge(purge);
                assert_eq!(cursor.purged().messages, expected.len() as u64);
                removed.sort_unstable();
                assert!(removed == expected || removed.is_empty(), "{removed:?}");
                while store.free_purged(3) {}
            }
        }
    }

    pub(super) fn apply_to_model(&self, model: &mut Model) {
        match self {
            Self::Append(message) => model.append(message.clone()),
            Self::Skip(sequence) => model.skip(*sequence, 0),
            Self::Remove(sequence) | Self::Erase(sequence) => {
                model.messages.remove(sequence);
            }
            Self::Purge {
                filter: number,
                below,
                keep,
            } => {
                let filter = filter(*number);
                model.purge(Purge {
                    filter: Some(&filter),
                    below: *below,
                    keep: *keep,
                });
            }
        }
    }
}

impl Step {
    /// The operations that this step stands for now.
    pub(super) fn resolve(self, model: &Model) -> Vec<Operation> {
        let nth = |which: usize| model.messages.keys().nth(which).copied();
        match self {
            Self::Append {
                subject,
                gap,
                headers,
                payload,
                delay,
            } => {
                let sequence = model.last_sequence + gap.max(1);
                let fill = |length: usize, salt: u64| {
                    (0..length as u64)
                        .map(|at| (sequence * 31 + at * salt) as u8)
                        .collect::<Bytes>()
                };
                vec![Operation::Append(StoredMessage {
                    sequence,
                    time_ns: model.last_time_ns + delay,
                    subject: Bytes::from_static(SUBJECTS[subject % SUBJECTS.len()].as_bytes()),
                    headers: fill(headers, 7),
                    payload: fill(payload, 13),
                })]
            }
            Self::Skip(gap) => vec![Operation::Skip(model.last_sequence + gap)],
            Self::Remove(_) if model.messages.is_empty() => Vec::new(),
            Self::Remove(which) => {
                let sequence = nth(which % model.messages.len()).unwrap();
                let erase = which % 5 == 0;
                vec![if erase {
                    Operation::Erase(sequence)
                } else {
                    Operation::Remove(sequence)
                }]
            }
            Self::RemoveFirst(count) => (0..count as usize)
                .filter_map(nth)
                .map(Operation::Remove)
                .collect(),
            Self::Purge {
                filter,
                below,
                keep,
            } => vec![Operation::Purge {
                filter,
                below,
                keep,
            }],
        }
    }
}

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
