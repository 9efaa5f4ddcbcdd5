//! What the bits that flipped may have cost: which operations of a stream are lost if the journal
//! entries that were hit cannot be read, and what the stream is then. A lost operation is as if it
//! had never been sent, but for the sequences it used; everything else stays as it was.

use crate::damage::Record;
use crate::model::{Change, Model};
use crate::track::{Done, Track};
use bytes::Bytes;
use millrace_jetstream::entry::{MessagePlace, Operation, decode_head};
use std::collections::BTreeSet;

/// What an entry that was hit asks of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Lost {
    /// A message with this payload; with it all of its batch.
    Message(Bytes),
    /// A batch that begins at this sequence.
    Batch {
        first: u64,
        count: usize,
    },
    Purge {
        below: u64,
        keep: u64,
        filter: String,
    },
    Delete(u64),
    Configure(String),
    CreateConsumer(String),
    DeleteConsumer(String),
    /// What was delivered and acknowledged.
    Consumer(String),
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn messages(entry: &Bytes, places: &[MessagePlace]) -> Vec<Lost> {
    let payload = |place: &MessagePlace| Bytes::copy_from_slice(place.parts(entry).payload);
    places.iter().map(payload).map(Lost::Message).collect()
}

/// What an entry says, as the client knows it.
fn losses_of(entry: &Record) -> Vec<Lost> {
    let Ok((_, operations)) = decode_head(&entry.bytes) else {
        return Vec::new();
    };
    let mut lost = Vec::new();
    for operation in operations.flatten() {
        match operation {
            Operation::Publish(place) => lost.extend(messages(&entry.bytes, &[place])),
            Operation::Batch { messages: places }
            | Operation::Part {
                messages: places, ..
            } => lost.extend(messages(&entry.bytes, &places)),
            Operation::Commit(commit) => lost.push(Lost::Batch {
                first: commit.first_sequence,
                count: commit.count as usize,
            }),
            Operation::Purge {
                sequence,
                keep,
                filter,
            } => lost.push(Lost::Purge {
                below: sequence,
                keep,
                filter: text(&filter),
            }),
            Operation::Delete { sequence, .. } => lost.push(Lost::Delete(sequence)),
            Operation::Configure { config } => {
                let config: serde_json::Value = serde_json::from_slice(&config).unwrap_or_default();
                let description = config["description"].as_str().unwrap_or("");
                lost.push(Lost::Configure(description.to_owned()));
            }
            Operation::Consumer { name, .. } => lost.push(Lost::Consumer(text(&name))),
            Operation::ConsumerCreate { name, .. } => lost.push(Lost::CreateConsumer(text(&name))),
            Operation::ConsumerDelete { name } => lost.push(Lost::DeleteConsumer(text(&name))),
            _ => {}
        }
    }
    lost
}

impl Lost {
    /// Whether this is the operation, which began at `first` if that is known.
    fn is(&self, change: &Change, first: Option<u64>) -> bool {
        match (self, change) {
            (Self::Message(payload), Change::Publish { messages, .. }) => {
                messages.iter().any(|message| message.payload == *payload)
            }
            (Self::Batch { first: at, count }, Change::Publish { messages, batch }) => {
                *batch && messages.len() == *count && first.is_none_or(|first| first == *at)
            }
            (
                Self::Purge {
                    below,
                    keep,
                    filter,
                },
                Change::Purge {
                    filter: by,
                    below: under,
                    keep: kept,
                },
            ) => {
                let all = filter.is_empty() || filter == ">";
                let same = by.as_ref().map_or(all, |by| by == filter);
                same && below == under && keep == kept
            }
            (Self::Delete(at), Change::Delete { sequence }) => at == sequence,
            (Self::Configure(description), Change::Configure(limits)) => {
                *description == limits.description
            }
            (Self::CreateConsumer(name), Change::CreateConsumer { name: known, .. })
            | (Self::DeleteConsumer(name), Change::DeleteConsumer(known)) => name == known,
            _ => false,
        }
    }
}

/// A stream without what some entries did.
pub(crate) struct Without {
    pub(crate) model: Model,
    pub(crate) history: Vec<Done>,
    /// Operations that are not answered yet and cannot have happened.
    pub(crate) pending: BTreeSet<u64>,
}

impl Track {
    /// Payloads of these entries may be unreadable from now on.
    pub(crate) fn entries_hit(&mut self, entries: &[Record]) {
        let lost: Vec<Lost> = entries.iter().flat_map(losses_of).collect();
        for lost in &lost {
            match lost {
                Lost::Message(payload) => {
                    self.hit_payloads.insert(payload.clone());
                }
                // It may be erased already.
                Lost::Delete(sequence) => {
                    self.unreadable.insert(*sequence);
                }
                _ => {}
            }
        }
        let hit = |payload: &Bytes| self.hit_payloads.contains(payload);
        for done in &self.history {
            let Change::Publish { messages, .. } = &done.change else {
                continue;
            };
            let places = (done.first..).zip(messages);
            let hit = places.filter(|(_, message)| hit(&message.payload));
            self.unreadable.extend(hit.map(|(sequence, _)| sequence));
        }
    }

    /// The stream as it is if these entries are lost.
    pub(crate) fn without(&self, entries: &[&Record]) -> Without {
        let mut history: Vec<Option<&Done>> = self.history.iter().map(Some).collect();
        let mut pending = BTreeSet::new();
        for lost in entries.iter().flat_map(|entry| losses_of(entry)) {
            if lost.repeats() {
                // The same again does nothing: all of them are lost, or the last alone.
                let last = history
                    .iter()
                    .rposition(|done| done.is_some_and(|it| lost.is(&it.change, Some(it.first))));
                if let Some(last) = last {
                    history[last] = None;
                    continue;
                }
            }
            for done in &mut history {
                if done.is_some_and(|it| lost.is(&it.change, Some(it.first))) {
                    *done = None;
                }
            }
            let open = self.pending.iter();
            pending.extend(
                open.filter(|one| lost.is(&one.change, None))
                    .map(|one| one.number),
            );
        }
        let history: Vec<Done> = history.into_iter().flatten().cloned().collect();
        let mut model = Model::new(self.initial.clone());
        history
            .iter()
            .for_each(|done| model.redo(&done.change, done.first));
        Without {
            model,
            history,
            pending,
        }
    }

    /// What these entries say of consumers is not known any more.
    pub(crate) fn forgive_consumers(&mut self, entries: &[Record]) {
        for lost in entries.iter().flat_map(losses_of) {
            if let Lost::Consumer(name) = lost
                && let Some(consumer) = self.consumers.get_mut(&name)
            {
                consumer.forgive();
            }
        }
    }
}

impl Lost {
    const fn repeats(&self) -> bool {
        matches!(self, Self::Purge { .. })
    }
}
