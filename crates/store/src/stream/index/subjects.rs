//! The subjects of a stream: name to number and back, and where each one's messages are.

use super::entries::Entries;
use super::names::Names;
use super::order::Order;
use super::postings::Postings;
use super::touched::Touched;
use crate::stream::types::SubjectState;
use bytes::Bytes;
use millrace_subject::{FilterWalk, WalkStep, is_literal};
use std::ops::{Bound, ControlFlow};

/// The number of a subject while it has messages; used again afterwards.
pub(crate) type SubjectId = u32;

/// All subjects with messages.
#[derive(Debug, Default)]
pub(crate) struct Subjects {
    entries: Entries,
    free: Vec<SubjectId>,
    /// Name to number for the hot path.
    table: Names,
    /// The same, in order, for wildcards.
    order: Order,
    /// Heap bytes of names and lists, estimated.
    heap_bytes: usize,
    touched: Touched,
}

/// What a name costs beside its own bytes: a shared buffer's bookkeeping, an allocator's rounding.
const PER_NAME_BYTES: usize = 32 + 16;

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
            self.postings = Some(Box::new(Postings::pair(self.first, self.last)));
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

/// What a bounded search for a subject found.
pub(crate) enum NextSubject<'a> {
    Found(&'a Entry),
    /// Nothing up to this one; go on after it.
    Pause(&'a Bytes),
    End,
}

impl Entry {
    fn list_bytes(&self) -> usize {
        self.postings
            .as_ref()
            .map_or(0, |postings| postings.memory())
    }
}

/// The name behind a number.
pub(super) fn name_of(entries: &Entries, id: SubjectId) -> &[u8] {
    entries.get(id).map_or(&[], |entry| entry.name.as_ref())
}

impl Subjects {
    /// How many subjects have messages.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// The number of a subject with messages.
    pub(crate) fn find(&self, name: &[u8]) -> Option<SubjectId> {
        self.table.find(name, |id| name_of(&self.entries, id))
    }

    /// The entry behind a number.
    pub(crate) fn entry(&self, id: SubjectId) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// The entry of a name.
    pub(crate) fn by_name(&self, name: &[u8]) -> Option<&Entry> {
        self.find(name).and_then(|id| self.entry(id))
    }

    /// The number of a subject, made if there is none; a message must be counted next.
    pub(crate) fn number(&mut self, name: &[u8]) -> SubjectId {
        self.find(name).unwrap_or_else(|| self.insert(name))
    }

    /// Counts a message, whose sequence is above all others of the subject.
    pub(crate) fn add(&mut self, name: &[u8], sequence: u64) -> SubjectId {
        let id = self.number(name);
        self.count(id, sequence);
        id
    }

    /// Counts a message of a subject by its number.
    pub(crate) fn count(&mut self, id: SubjectId, sequence: u64) {
        if let Some(entry) = self.entries.get_mut(id) {
            let before = entry.list_bytes();
            entry.add(sequence);
            self.heap_bytes = self.heap_bytes + entry.list_bytes() - before;
        }
    }

    /// Forgets a message of a subject. Gives the name, and whether the subject went with it.
    pub(crate) fn remove(&mut self, id: SubjectId, sequence: u64) -> (Bytes, bool) {
        let Some(entry) = self.entries.get_mut(id) else {
            return (Bytes::new(), false);
        };
        if entry.count > 1 {
            let before = entry.list_bytes();
            entry.take(sequence);
            self.heap_bytes = self.heap_bytes + entry.list_bytes() - before;
            return (entry.name.clone(), false);
        }
        self.heap_bytes -= entry.list_bytes() + entry.name.len() + PER_NAME_BYTES;
        if let Some(entry) = self.entries.get(id) {
            self.order.remove(&entry.name, &self.entries);
        }
        let entry = self.entries.get_mut(id);
        let name = entry.map(std::mem::take).unwrap_or_default().name;
        self.table.remove(&name, id);
        self.free.push(id);
        (name, true)
    }

    /// Visits the subjects that match and come after `after`, in token order, until `visit` breaks.
    pub(crate) fn walk<'a, B>(
        &'a self,
        filter: &[u8],
        after: Option<&[u8]>,
        mut visit: impl FnMut(&'a Entry) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if is_literal(filter) {
            let wanted =
                after.is_none_or(|after| millrace_subject::token_order(after, filter).is_lt());
            self.touched.add(1);
            return match self.by_name(filter).filter(|_| wanted) {
                Some(entry) => visit(entry),
                None => ControlFlow::Continue(()),
            };
        }
        let mut walk = FilterWalk::new(filter);
        let mut cursor = self.order.lower(walk.start(after), &self.entries);
        while let Some((id, next)) = self.order.at(cursor) {
            cursor = next;
            self.touched.add(1);
            let Some(entry) = self.entry(id) else {
                continue;
            };
            match walk.step(&entry.name) {
                WalkStep::Match => visit(entry)?,
                WalkStep::Next => {}
                WalkStep::Jump => {
                    let target = Bound::Included(walk.target());
                    cursor = self.order.lower(target, &self.entries);
                }
                WalkStep::End => break,
            }
        }
        ControlFlow::Continue(())
    }

    /// The first subject that matches a filter and comes after `after`, found in at most `steps`
    /// looks; what is left of them stays in `steps`.
    pub(crate) fn next_match(
        &self,
        filter: &[u8],
        after: Option<&[u8]>,
        steps: &mut usize,
    ) -> NextSubject<'_> {
        let mut walk = FilterWalk::new(filter);
        let mut cursor = self.order.lower(walk.start(after), &self.entries);
        while let Some((id, next)) = self.order.at(cursor) {
            cursor = next;
            let Some(entry) = self.entry(id) else {
                continue;
            };
            self.touched.add(1);
            *steps = steps.saturating_sub(1);
            match walk.step(&entry.name) {
                WalkStep::Match => return NextSubject::Found(entry),
                WalkStep::End => return NextSubject::End,
                WalkStep::Next | WalkStep::Jump if *steps == 0 => {
                    return NextSubject::Pause(&entry.name);
                }
                WalkStep::Next => {}
                WalkStep::Jump => {
                    let target = Bound::Included(walk.target());
                    cursor = self.order.lower(target, &self.entries);
                }
            }
        }
        NextSubject::End
    }

    /// Visits all subjects in token order.
    pub(crate) fn for_each<'a>(&'a self, mut visit: impl FnMut(&'a Entry)) {
        let mut cursor = self.order.lower(Bound::Unbounded, &self.entries);
        while let Some((id, next)) = self.order.at(cursor) {
            cursor = next;
            self.touched.add(1);
            if let Some(entry) = self.entry(id) {
                visit(entry);
            }
        }
    }

    /// Heap bytes.
    pub(crate) fn memory(&self) -> usize {
        self.heap_bytes
            + self.entries.memory()
            + self.free.capacity() * size_of::<SubjectId>()
            + self.table.memory()
            + self.order.memory()
    }

    /// Frees up to so many entries of subjects that nobody needs any more; true when none is left.
    pub(crate) fn free(&mut self, entries: usize) -> bool {
        self.entries.free(entries)
    }

    /// Subjects looked at so far; tests show with it what does not grow.
    #[cfg(test)]
    pub(crate) fn touched(&self) -> u64 {
        self.touched.count()
    }

    fn insert(&mut self, name: &[u8]) -> SubjectId {
        // Not cloned here: a name that nobody asked for needs no shared buffer.
        let entry = Entry {
            name: Bytes::copy_from_slice(name),
            ..Entry::default()
        };
        let id = if let Some(id) = self.free.pop() {
            if let Some(slot) = self.entries.get_mut(id) {
                *slot = entry;
            }
            id
        } else {
            self.entries.push(entry)
        };
        let entries = &self.entries;
        self.table.insert(name, id, |id| name_of(entries, id));
        self.order.insert(id, &self.entries);
        self.heap_bytes += name.len() + PER_NAME_BYTES;
        id
    }
}
