//! All messages of the index by sequence, in chunks. Chunks that lose half their messages are
//! copied without the gaps and joined with a small neighbour, so memory follows what is live.
//!
//! Finding a sequence, a time, or how many messages follow costs a logarithm.

use super::chunk::{CHUNK_ROWS, Chunk, Row};
use super::ranks::Ranks;
use super::touched::Touched;
use std::collections::VecDeque;
use std::ops::ControlFlow;

/// Rows by sequence.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    chunks: VecDeque<Place>,
    /// Live messages of all chunks but the last, which changes with every message.
    ranks: Ranks,
    live: u64,
    /// Heap bytes of the chunks.
    chunk_bytes: usize,
    touched: Touched,
}

/// A chunk, and the first sequence that it may hold.
#[derive(Debug)]
struct Place {
    first: u64,
    chunk: Box<Chunk>,
}

impl Rows {
    /// Adds a row above all others.
    pub(crate) fn push(&mut self, sequence: u64, row: &Row) {
        self.live += 1;
        if let Some(last) = self.chunks.back_mut() {
            let before = last.chunk.memory();
            if last.chunk.push(sequence, row) {
                self.chunk_bytes += last.chunk.memory() - before;
                return;
            }
            last.chunk.shrink();
            self.chunk_bytes -= before - last.chunk.memory();
            self.ranks.push_back(last.chunk.live() as u64);
        }
        let mut chunk = Box::new(Chunk::new(sequence, row.time_ns));
        chunk.push(sequence, row);
        self.chunk_bytes += chunk.memory();
        self.chunks.push_back(Place {
            first: sequence,
            chunk,
        });
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<Row> {
        let chunk = &self.chunks.get(self.position_of(sequence)?)?.chunk;
        chunk.row(chunk.find(sequence)?)
    }

    pub(crate) fn set_location(&mut self, sequence: u64, location: u32) -> bool {
        let position = self.position_of(sequence);
        let Some(place) = position.and_then(|position| self.chunks.get_mut(position)) else {
            return false;
        };
        let found = place.chunk.find(sequence);
        if let Some(index) = found {
            place.chunk.set_location(index, location);
        }
        found.is_some()
    }

    /// Takes a row out.
    pub(crate) fn remove(&mut self, sequence: u64) -> Option<Row> {
        let position = self.position_of(sequence)?;
        let chunk = &mut self.chunks.get_mut(position)?.chunk;
        let index = chunk.find(sequence)?;
        let row = chunk.row(index)?;
        chunk.remove(index);
        self.live -= 1;
        let (live, sparse) = (chunk.live(), chunk.is_sparse());
        if position < self.ranks.len() {
            self.ranks.subtract(position, 1);
        }
        if live == 0 {
            self.take_chunk(position);
        } else if sparse {
            self.compact(position);
        }
        Some(row)
    }

    /// The first live sequence at or after `from`, with its subject number.
    pub(crate) fn next(&self, from: u64) -> Option<(u64, u32)> {
        let found = self.scan(from, |sequence, subject| {
            ControlFlow::Break((sequence, subject))
        });
        found.break_value()
    }

    /// Visits live sequences and their subject numbers from `from` on, ascending.
    pub(crate) fn scan<B>(
        &self,
        from: u64,
        mut visit: impl FnMut(u64, u32) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for place in self.chunks.range(self.position_of(from).unwrap_or(0)..) {
            let chunk = &place.chunk;
            for index in chunk.lower(from)..chunk.rows() {
                self.touched.add(1);
                if let Some(subject) = chunk.subject(index) {
                    visit(chunk.sequence(index), subject)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Visits live sequences and their subject numbers from `up_to` down.
    pub(crate) fn scan_back<B>(
        &self,
        up_to: u64,
        mut visit: impl FnMut(u64, u32) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let Some(last) = self.position_of(up_to) else {
            return ControlFlow::Continue(());
        };
        for place in self.chunks.range(..=last).rev() {
            let chunk = &place.chunk;
            let end = chunk.lower(up_to.saturating_add(1));
            let end = if up_to == u64::MAX { chunk.rows() } else { end };
            for index in (0..end).rev() {
                self.touched.add(1);
                if let Some(subject) = chunk.subject(index) {
                    visit(chunk.sequence(index), subject)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Visits live rows from `from` on, ascending.
    pub(crate) fn scan_rows<B>(
        &self,
        from: u64,
        mut visit: impl FnMut(u64, &Row) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for place in self.chunks.range(self.position_of(from).unwrap_or(0)..) {
            let chunk = &place.chunk;
            for index in chunk.lower(from)..chunk.rows() {
                self.touched.add(1);
                if let Some(row) = chunk.row(index) {
                    visit(chunk.sequence(index), &row)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// How many rows are live at or after `from`.
    pub(crate) fn count_from(&self, from: u64) -> u64 {
        let Some(position) = self.position_of(from) else {
            return self.live;
        };
        let Some(place) = self.chunks.get(position) else {
            return 0;
        };
        let index = place.chunk.lower(from);
        let before_chunk = self.ranks.before(position);
        self.touched.add((place.chunk.rows() - index) as u64 + 16);
        let here = place.chunk.live_from(index) as u64;
        self.live - before_chunk - place.chunk.live() as u64 + here
    }

    /// The first live sequence whose time is at or after `time_ns`: times never go down inside a
    /// stream.
    pub(crate) fn first_at_or_after(&self, time_ns: i64) -> Option<u64> {
        // The chunk before the first that begins at or after the time may hold it.
        let after = self
            .chunks
            .partition_point(|place| place.chunk.time(0) < time_ns);
        let position = after.saturating_sub(1);
        let place = self.chunks.get(position)?;
        let index = place.chunk.lower_time(time_ns);
        let from = if index < place.chunk.rows() {
            place.chunk.sequence(index)
        } else {
            self.chunks.get(position + 1)?.first
        };
        self.next(from).map(|(sequence, _)| sequence)
    }

    /// Heap bytes.
    pub(crate) fn memory(&self) -> usize {
        self.chunk_bytes + self.chunks.capacity() * size_of::<Place>() + self.ranks.memory()
    }

    /// Frees up to `chunks` chunks of an index that nobody needs any more; true when none is left.
    pub(crate) fn free(&mut self, chunks: usize) -> bool {
        self.chunks
            .truncate(self.chunks.len().saturating_sub(chunks));
        self.chunks.is_empty()
    }

    /// Rows and other items looked at so far; tests show with it what does not grow.
    #[cfg(test)]
    pub(crate) fn touched(&self) -> u64 {
        self.touched.count()
    }

    /// The position of the chunk that holds `sequence` if any does; `None`: it is before all.
    fn position_of(&self, sequence: u64) -> Option<usize> {
        // New messages and those who follow them are in the last chunk.
        let last = self.chunks.len().checked_sub(1)?;
        if self.chunks.get(last)?.first <= sequence {
            return Some(last);
        }
        self.chunks
            .partition_point(|place| place.first <= sequence)
            .checked_sub(1)
    }

    fn take_chunk(&mut self, position: usize) {
        let Some(place) = self.chunks.remove(position) else {
            return;
        };
        self.chunk_bytes -= place.chunk.memory();
        if position < self.ranks.len() {
            self.ranks.remove(position);
        } else if let Some(before) = position.checked_sub(1) {
            // The one before it is the last now.
            self.ranks.remove(before);
        }
    }

    /// Copies a chunk without its gaps and joins it with a small neighbour before it.
    fn compact(&mut self, position: usize) {
        let chunk = self.chunks.get(position);
        let Some(mut chunk) = chunk.and_then(|place| place.chunk.compacted()) else {
            return;
        };
        let before = position.checked_sub(1);
        if let Some((before, place)) = before.and_then(|at| Some((at, self.chunks.get(at)?)))
            && place.chunk.live() + chunk.live() <= CHUNK_ROWS / 2
            && let Some(mut joined) = place.chunk.compacted()
            && chunk.copy_to(&mut joined)
        {
            joined.shrink();
            self.replace(before, joined);
            self.take_chunk(position);
            if before < self.ranks.len() {
                self.ranks.add(before, chunk.live() as u64);
            }
            return;
        }
        chunk.shrink();
        self.replace(position, chunk);
    }

    fn replace(&mut self, position: usize, chunk: Chunk) {
        if let Some(place) = self.chunks.get_mut(position) {
            self.chunk_bytes -= place.chunk.memory();
            self.chunk_bytes += chunk.memory();
            *place = Place {
                first: chunk.first(),
                chunk: Box::new(chunk),
            };
        }
    }
}
