//! What the bits that flipped may have cost: which operations of a stream are lost if the journal
//! entries that were hit cannot be read, and what the stream is then. A lost operation is as if it
//! had never been sent, but for the sequences it used; everything else stays as it was.

use crate::damage::Record;
use crate::model::{Change, Model};
use crate::resolve::Pending;
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
    lost_pending: BTreeSet<u64>,
}

impl Without {
    /// Says which operations on their way are lost. The server may have learnt from what stands behind
    /// a publish how many sequences it took, or not.
    pub(crate) fn burn(&self, pending: &mut Vec<Pending>) {
        let lost = |one: &Pending| self.lost_pending.contains(&one.number);
        for one in pending.iter_mut().filter(|one| lost(one)) {
            one.burnt = true;
            one.may_be_refused = true;
            one.seen = false;
            one.answer = None;
        }
        pending.retain(|one| !one.burnt || matches!(one.change, Change::Publish { .. }));
    }
}

/// An operation in a stream's log.
struct Logged {
    operation: Lost,
    is_lost: bool,
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
    /// Messages of `thin` were lost before: a purge that keeps some keeps others instead.
    pub(crate) fn without(&self, entries: &[&Record], thin: &BTreeSet<u64>) -> Without {
        let log = self.logged(entries);
        let mut history: Vec<Option<&Done>> = self.history.iter().map(Some).collect();
        let mut lost_pending = BTreeSet::new();
        for (at, logged) in log.iter().enumerate().filter(|(_, it)| it.is_lost) {
            let lost = &logged.operation;
            let open = self.pending.iter().filter(|one| lost.is(&one.change, None));
            match lost {
                Lost::Purge { .. } => match self.purge_at(&log, at) {
                    Some(place) => history[place] = None,
                    None => lost_pending.extend(open.map(|one| one.number)),
                },
                // The same again finds nothing to do, and does it when the first is lost.
                Lost::Delete(_) if log.iter().any(|it| !it.is_lost && it.operation == *lost) => {}
                _ => {
                    for done in &mut history {
                        if done.is_some_and(|it| lost.is(&it.change, Some(it.first))) {
                            *done = None;
                        }
                    }
                    lost_pending.extend(open.map(|one| one.number));
                }
            }
        }
        let history: Vec<Done> = history.into_iter().flatten().cloned().collect();
        let mut model = Model::new(self.initial.clone());
        for done in &history {
            if matches!(done.change, Change::Purge { keep, .. } if keep > 0) {
                thin.iter().for_each(|sequence| model.remove(*sequence));
            }
            model.redo(&done.change, done.first);
        }
        // A delete that found nothing does find what a lost purge left.
        for sequence in &self.idle_deletes {
            let it = Lost::Delete(*sequence);
            if log.iter().any(|one| !one.is_lost && one.operation == it) {
                model.remove(*sequence);
            }
        }
        Without {
            model,
            history,
            lost_pending,
        }
    }

    /// The operations of the log, and which are lost with these entries.
    fn logged(&self, entries: &[&Record]) -> Vec<Logged> {
        let place = |record: &Record| (record.frame(), record.index);
        let lost: BTreeSet<(u64, u64)> = entries.iter().map(|entry| place(entry)).collect();
        let known: BTreeSet<(u64, u64)> = self.log.iter().map(place).collect();
        let gone = entries
            .iter()
            .filter(|entry| !known.contains(&place(entry)));
        let mut log: Vec<&Record> = self.log.iter().chain(gone.copied()).collect();
        log.sort_by_key(|record| place(record));
        let operations = log.into_iter().flat_map(|record| {
            let is_lost = lost.contains(&place(record));
            let logged = move |operation| Logged { operation, is_lost };
            losses_of(record).into_iter().map(logged)
        });
        operations.collect()
    }

    /// Which purge of the history this one of the log is, by the messages before and behind it: the
    /// last of those that are equal, because the first of them leaves nothing to the others.
    fn purge_at(&self, log: &[Logged], at: usize) -> Option<usize> {
        let place_of = |logged: &Logged| {
            let Lost::Message(payload) = &logged.operation else {
                return None;
            };
            self.history.iter().position(|done| match &done.change {
                Change::Publish { messages, .. } => {
                    messages.iter().any(|it| it.payload == *payload)
                }
                _ => false,
            })
        };
        let before = log[..at].iter().rev().find_map(place_of);
        let behind = log[at + 1..].iter().find_map(place_of);
        let between = before.map_or(0, |place| place + 1)..behind.unwrap_or(self.history.len());
        let operation = &log[at].operation;
        let mut places = between.rev();
        places.find(|place| operation.is(&self.history[*place].change, None))
    }

    /// A start is about to read this log, and may miss these entries of it.
    pub(crate) fn doubt(&mut self, log: Vec<Record>, entries: &[&Record]) {
        // What an earlier start read may be in a checkpoint by now, and its files gone.
        let indexes: BTreeSet<u64> = log.iter().map(|record| record.index).collect();
        self.log.retain(|record| !indexes.contains(&record.index));
        self.log.extend(log);
        for lost in entries.iter().flat_map(|entry| losses_of(entry)) {
            if let Lost::CreateConsumer(name) = lost {
                self.doubtful_consumers.insert(name);
            }
        }
        let without = self.without(entries, &BTreeSet::new());
        let there = without.model.messages.keys().copied();
        let back = there.filter(|at| !self.model.messages.contains_key(at));
        let back: Vec<u64> = back.collect();
        for consumer in self.consumers.values_mut() {
            consumer.returned.extend(&back);
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
