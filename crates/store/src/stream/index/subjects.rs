//! The subjects of a stream: name to number and back, and where each one's messages are.

use super::postings::Postings;
use crate::stream::types::SubjectState;
use bytes::Bytes;
use hashbrown::HashTable;
use millrace_subject::SubjectTree;
use std::ops::ControlFlow;
use twox_hash::XxHash3_64;

/// The number of a subject while it has messages; used again afterwards.
pub(crate) type SubjectId = u32;

/// All subjects with messages.
#[derive(Debug, Default)]
pub(crate) struct Subjects {
    entries: Vec<Entry>,
    free: Vec<SubjectId>,
    /// Name to number for the hot path; order never leaves it.
    table: HashTable<SubjectId>,
    /// The same, in order, for wildcards.
    tree: SubjectTree<SubjectId>,
}

/// One subject. Up to two messages it needs no list: first and last say it all.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    name: Bytes,
    count: u64,
    first: u64,
    last: u64,
    postings: Option<Box<Postings>>,
}

impl Entry {
    pub(crate) const fn name(&self) -> &Bytes {
        &self.name
    }

    pub(crate) const fn state(&self) -> SubjectState {
        SubjectState {
            count: self.count,
            first: self.first,
            last: self.last,
        }
    }

    /// The first message at or after `from`.
    pub(crate) fn next(&self, from: u64) -> Option<u64> {
        if from <= self.first {
            return Some(self.first);
        }
        if from > self.last {
            return None;
        }
        self.postings
            .as_ref()
            .map_or(Some(self.last), |postings| postings.next(from))
    }

    /// The last message at or before `up_to`.
    pub(crate) fn previous(&self, up_to: u64) -> Option<u64> {
        if up_to >= self.last {
            return Some(self.last);
        }
        if up_to < self.first {
            return None;
        }
        self.postings
            .as_ref()
            .map_or(Some(self.first), |postings| postings.previous(up_to))
    }

    /// How many messages at or after `from`.
    pub(crate) fn count_from(&self, from: u64) -> u64 {
        match &self.postings {
            _ if from <= self.first => self.count,
            _ if from > self.last => 0,
            Some(postings) => postings.count_from(from),
            None => 1,
        }
    }

    fn add(&mut self, sequence: u64) {
        if self.count == 0 {
            self.first = sequence;
        } else if self.count == 2 {
            let mut postings = Postings::default();
            postings.push(self.first);
            postings.push(self.last);
            self.postings = Some(Box::new(postings));
        }
        if let Some(postings) = &mut self.postings {
            postings.push(sequence);
        }
        self.last = sequence;
        self.count += 1;
    }

    fn take(&mut self, sequence: u64) {
        self.count -= 1;
        if let Some(postings) = &mut self.postings {
            postings.remove(sequence);
            self.first = postings.first().unwrap_or(self.first);
            self.last = postings.last().unwrap_or(self.last);
            if self.count <= 2 {
                self.postings = None;
            }
        } else if sequence == self.first {
            self.first = self.last;
        } else {
            self.last = self.first;
        }
    }
}

fn hash(name: &[u8]) -> u64 {
    XxHash3_64::oneshot(name)
}

impl Subjects {
    /// How many subjects have messages.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// The number of a subject with messages.
    pub(crate) fn find(&self, name: &[u8]) -> Option<SubjectId> {
        self.table
            .find(hash(name), |id| {
                self.entry(*id).is_some_and(|entry| entry.name == name)
            })
            .copied()
    }

    /// The entry behind a number.
    pub(crate) fn entry(&self, id: SubjectId) -> Option<&Entry> {
        self.entries.get(id as usize)
    }

    /// The entry of a name.
    pub(crate) fn by_name(&self, name: &[u8]) -> Option<&Entry> {
        self.find(name).and_then(|id| self.entry(id))
    }

    /// Counts a message, whose sequence is above all others of the subject.
    pub(crate) fn add(&mut self, name: &[u8], sequence: u64) -> SubjectId {
        let id = self.find(name).unwrap_or_else(|| self.insert(name));
        if let Some(entry) = self.entries.get_mut(id as usize) {
            entry.add(sequence);
        }
        id
    }

    /// Forgets a message of a subject. Gives the name, and whether the subject went with it.
    pub(crate) fn remove(&mut self, id: SubjectId, sequence: u64) -> (Bytes, bool) {
        let Some(entry) = self.entries.get_mut(id as usize) else {
            return (Bytes::new(), false);
        };
        if entry.count > 1 {
            entry.take(sequence);
            return (entry.name.clone(), false);
        }
        let name = std::mem::take(entry).name;
        if let Ok(found) = self.table.find_entry(hash(&name), |other| *other == id) {
            found.remove();
        }
        self.tree.remove(&name);
        self.free.push(id);
        (name, true)
    }

    /// Visits the subjects that match, in token order, until `visit` breaks.
    pub(crate) fn walk<'a, B>(
        &'a self,
        filter: &[u8],
        mut visit: impl FnMut(&'a Entry) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        self.tree.walk(filter, None, |_, id| match self.entry(*id) {
            Some(entry) => visit(entry),
            None => ControlFlow::Continue(()),
        })
    }

    /// Visits all subjects in token order.
    pub(crate) fn for_each<'a>(&'a self, mut visit: impl FnMut(&'a Entry)) {
        for (_, id) in self.tree.iter() {
            if let Some(entry) = self.entry(*id) {
                visit(entry);
            }
        }
    }

    /// Heap bytes, estimated for the tree (its key, its number, and a B-tree's slack).
    pub(crate) fn memory(&self) -> usize {
        /// A shared buffer's bookkeeping, an allocator's rounding, a B-tree slot at 2/3 filling.
        const PER_SUBJECT: usize = 32 + 32 + 36;
        let lists: usize = self
            .entries
            .iter()
            .map(|entry| {
                let postings = entry.postings.as_ref();
                let names = if entry.count > 0 {
                    2 * entry.name.len() + PER_SUBJECT
                } else {
                    0
                };
                names + postings.map_or(0, |postings| postings.memory() + size_of::<Postings>())
            })
            .sum();
        lists + self.entries.capacity() * size_of::<Entry>() + self.table.capacity() * 5
    }

    fn insert(&mut self, name: &[u8]) -> SubjectId {
        let entry = Entry {
            name: Bytes::copy_from_slice(name),
            ..Entry::default()
        };
        let id = if let Some(id) = self.free.pop() {
            if let Some(slot) = self.entries.get_mut(id as usize) {
                *slot = entry;
            }
            id
        } else {
            self.entries.push(entry);
            (self.entries.len() - 1) as SubjectId
        };
        let entries = &self.entries;
        self.table.insert_unique(hash(name), id, |other| {
            entries
                .get(*other as usize)
                .map_or(0, |entry| hash(&entry.name))
        });
        self.tree.insert(name, id);
        id
    }
}
