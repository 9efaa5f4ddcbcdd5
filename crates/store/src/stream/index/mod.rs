//! The resident index of a stream: which messages there are, their subjects, times, sizes and
//! places. Applying changes it at once; where the places point to is the business of tail and
//! segments.

mod chunk;
mod deleted;
mod entries;
mod names;
mod order;
mod postings;
mod ranks;
mod rows;
mod search;
mod subjects;
mod touched;

pub(crate) use chunk::{BodyLength, Row};
pub(crate) use deleted::Deleted;
pub(crate) use rows::Rows;
pub(crate) use subjects::{Entry, NextSubject, Subjects};

use super::types::{StreamState, overhead};
use bytes::Bytes;
use std::ops::{ControlFlow, RangeInclusive};

/// The index.
#[derive(Debug)]
pub(crate) struct Index {
    file: bool,
    pub(super) rows: Rows,
    pub(super) subjects: Subjects,
    /// Missing sequences between first and last.
    pub(super) deleted: Deleted,
    messages: u64,
    bytes: u64,
    first_sequence: u64,
    first_time_ns: i64,
    last_sequence: u64,
    last_time_ns: i64,
}

/// A row that was taken out, with its subject.
#[derive(Debug)]
pub(crate) struct TakenRow {
    pub(crate) row: Row,
    pub(crate) subject: Bytes,
    pub(crate) subject_gone: bool,
    pub(crate) size: u64,
}

impl Index {
    /// An empty one; `file` decides the accounting sizes.
    pub(crate) fn new(file: bool) -> Self {
        Self {
            file,
            rows: Rows::default(),
            subjects: Subjects::default(),
            deleted: Deleted::default(),
            messages: 0,
            bytes: 0,
            first_sequence: 0,
            first_time_ns: 0,
            last_sequence: 0,
            last_time_ns: 0,
        }
    }

    pub(crate) fn state(&self) -> StreamState {
        let span = (self.last_sequence + 1).saturating_sub(self.first_sequence);
        // A stream that nothing happened to has first and last 0: no span.
        let span = if self.last_sequence == 0 { 0 } else { span };
        StreamState {
            messages: self.messages,
            bytes: self.bytes,
            first_sequence: self.first_sequence,
            first_time_ns: self.first_time_ns,
            last_sequence: self.last_sequence,
            last_time_ns: self.last_time_ns,
            subjects: self.subjects.len() as u64,
            deleted: span.saturating_sub(self.messages),
        }
    }

    /// Moves the end on without a message.
    pub(crate) fn skip(&mut self, to_sequence: u64, time_ns: i64) {
        if to_sequence <= self.last_sequence {
            return;
        }
        if self.messages > 0 {
            self.deleted
                .insert_range(self.last_sequence + 1..=to_sequence);
        } else {
            self.first_sequence = to_sequence.saturating_add(1);
        }
        self.last_sequence = to_sequence;
        if time_ns != 0 {
            self.last_time_ns = time_ns;
        }
    }

    /// Adds a message above `last_sequence`.
    pub(crate) fn push(
        &mut self,
        sequence: u64,
        subject: &[u8],
        time_ns: i64,
        length: BodyLength,
        location: u32,
    ) {
        self.skip(sequence - 1, 0);
        if self.messages == 0 {
            self.first_sequence = sequence;
            self.first_time_ns = time_ns;
        }
        let subject_id = self.subjects.add(subject, sequence);
        self.rows.push(
            sequence,
            &Row {
                subject: subject_id,
                time_ns,
                length,
                location,
            },
        );
        self.messages += 1;
        self.bytes += self.size(subject.len(), length);
        self.last_sequence = sequence;
        self.last_time_ns = time_ns;
    }

    /// Takes a message out.
    pub(crate) fn remove(&mut self, sequence: u64) -> Option<TakenRow> {
        let row = self.rows.remove(sequence)?;
        let (subject, subject_gone) = self.subjects.remove(row.subject, sequence);
        let size = self.size(subject.len(), row.length);
        self.messages -= 1;
        self.bytes -= size;
        if sequence == self.first_sequence {
            self.find_first(sequence);
        } else {
            self.deleted.insert(sequence);
        }
        Some(TakenRow {
            row,
            subject,
            subject_gone,
            size,
        })
    }

    /// Takes everything out at once; the old index is to be freed in steps.
    pub(crate) fn clear(&mut self) -> Self {
        let fresh = Self {
            first_sequence: self.last_sequence.saturating_add(1),
            last_sequence: self.last_sequence,
            last_time_ns: self.last_time_ns,
            ..Self::new(self.file)
        };
        std::mem::replace(self, fresh)
    }

    /// Frees some of an index that nobody needs any more; true when nothing is left of it.
    pub(crate) fn free(&mut self, items: usize) -> bool {
        let rows = self.rows.free(items.div_ceil(chunk::CHUNK_ROWS));
        rows && self.subjects.free(items)
    }

    /// Everything was purged: also a stream that never held a message begins at `last + 1` now.
    pub(crate) fn note_purged(&mut self) {
        if self.messages == 0 {
            self.first_sequence = self.last_sequence.saturating_add(1);
        }
    }

    /// The accounting size of a message.
    pub(crate) fn size(&self, subject: usize, length: BodyLength) -> u64 {
        let content = subject as u64 + u64::from(length.bytes());
        content + overhead(self.file, length.has_headers())
    }

    /// The accounting size of a stored message.
    pub(crate) fn size_of(&self, sequence: u64) -> Option<u64> {
        let row = self.rows.get(sequence)?;
        Some(self.size(self.subjects.entry(row.subject)?.name().len(), row.length))
    }

    /// Adds a message that was read back; call in ascending order, then [`Self::finish_load`].
    /// `subject_bytes`: the length of its subject.
    pub(crate) fn load(&mut self, sequence: u64, row: &Row, subject_bytes: usize) {
        self.subjects.count(row.subject, sequence);
        self.rows.push(sequence, row);
        self.messages += 1;
        self.bytes += self.size(subject_bytes, row.length);
    }

    /// Sets what the rows do not tell. Gives the ranges of messages that should be there and are
    /// not; they count as deleted. Without `deleted` every gap is taken for a deletion.
    pub(crate) fn finish_load(
        &mut self,
        state: &StreamState,
        deleted: Option<Deleted>,
    ) -> Vec<(u64, u64)> {
        self.last_sequence = state.last_sequence;
        self.last_time_ns = state.last_time_ns;
        self.first_sequence = state.first_sequence;
        let known = deleted.is_some();
        self.deleted = deleted.unwrap_or_default();
        let mut lost = Vec::new();
        if self.messages != state.messages || !known {
            for gap in self.gaps(state.first_sequence) {
                let (mut at, end) = gap.into_inner();
                while at <= end {
                    let known = self.deleted.range_from(at);
                    let known = known.filter(|(start, _)| *start <= end);
                    let (start, stop) = known.unwrap_or_else(|| (end.saturating_add(1), end));
                    if start > at {
                        lost.push((at, start - 1));
                    }
                    at = stop.saturating_add(1);
                }
            }
            for (first, last) in &lost {
                self.deleted.insert_range(*first..=*last);
            }
        }
        if self.messages > 0 || state.messages > 0 {
            self.find_first(state.first_sequence);
        }
        if known { lost } else { Vec::new() }
    }

    /// Sequences from `first` to the last without a row.
    fn gaps(&self, first: u64) -> Vec<RangeInclusive<u64>> {
        let mut gaps = Vec::new();
        let mut next = first;
        let _ = self.rows.scan(first, |sequence, _| -> ControlFlow<()> {
            if sequence > next {
                gaps.push(next..=sequence - 1);
            }
            next = sequence + 1;
            ControlFlow::Continue(())
        });
        if next <= self.last_sequence {
            gaps.push(next..=self.last_sequence);
        }
        gaps
    }

    /// Heap bytes: rows, subjects, deleted ranges.
    pub(crate) fn memory(&self) -> (usize, usize, usize) {
        (
            self.rows.memory(),
            self.subjects.memory(),
            self.deleted.memory(),
        )
    }

    fn find_first(&mut self, from: u64) {
        match self
            .rows
            .next(from)
            .and_then(|(sequence, _)| Some((sequence, self.rows.get(sequence)?)))
        {
            Some((sequence, row)) => {
                self.first_sequence = sequence;
                self.first_time_ns = row.time_ns;
                self.deleted.remove_below(sequence);
            }
            None => {
                self.first_sequence = self.last_sequence.saturating_add(1);
                self.first_time_ns = 0;
                self.deleted.clear();
            }
        }
    }
}
