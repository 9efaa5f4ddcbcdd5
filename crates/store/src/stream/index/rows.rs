//! All messages of the index by sequence, in chunks. Chunks that lose half their messages are
//! copied without the gaps and joined with a small neighbour, so memory follows what is live.

use super::chunk::{CHUNK_ROWS, Chunk, Row};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Rows by sequence.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// By the first sequence each chunk may hold.
    chunks: BTreeMap<u64, Box<Chunk>>,
}

impl Rows {
    /// Adds a row above all others.
    pub(crate) fn push(&mut self, sequence: u64, row: &Row) {
        if let Some(mut last) = self.chunks.last_entry() {
            if last.get_mut().push(sequence, row) {
                return;
            }
            last.get_mut().shrink();
        }
        let mut chunk = Chunk::new(sequence, row.time_ns);
        chunk.push(sequence, row);
        self.chunks.insert(sequence, Box::new(chunk));
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<Row> {
        let (_, chunk) = self.chunks.range(..=sequence).next_back()?;
        chunk.row(chunk.find(sequence)?)
    }

    pub(crate) fn set_location(&mut self, sequence: u64, location: u32) -> bool {
        let Some((_, chunk)) = self.chunks.range_mut(..=sequence).next_back() else {
            return false;
        };
        let found = chunk.find(sequence);
        if let Some(index) = found {
            chunk.set_location(index, location);
        }
        found.is_some()
    }

    /// Takes a row out.
    pub(crate) fn remove(&mut self, sequence: u64) -> Option<Row> {
        let (key, chunk) = self.chunks.range_mut(..=sequence).next_back()?;
        let key = *key;
        let index = chunk.find(sequence)?;
        let row = chunk.row(index)?;
        chunk.remove(index);
        if chunk.live() == 0 {
            self.chunks.remove(&key);
        } else if chunk.is_sparse() {
            self.compact(key);
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
        let start = self
            .chunks
            .range(..=from)
            .next_back()
            .map_or(from, |(key, _)| *key);
        for (_, chunk) in self.chunks.range(start..) {
            for index in chunk.lower(from)..chunk.rows() {
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
        for (_, chunk) in self.chunks.range(..=up_to).rev() {
            let end = chunk.lower(up_to.saturating_add(1));
            let end = if up_to == u64::MAX { chunk.rows() } else { end };
            for index in (0..end).rev() {
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
        let start = self
            .chunks
            .range(..=from)
            .next_back()
            .map_or(from, |(key, _)| *key);
        for (_, chunk) in self.chunks.range(start..) {
            for index in chunk.lower(from)..chunk.rows() {
                if let Some(row) = chunk.row(index) {
                    visit(chunk.sequence(index), &row)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// How many rows are live at or after `from`. Costs one step per 1,024 messages.
    pub(crate) fn count_from(&self, from: u64) -> u64 {
        let start = self
            .chunks
            .range(..=from)
            .next_back()
            .map_or(from, |(key, _)| *key);
        let chunks = self.chunks.range(start..);
        chunks
            .map(|(_, chunk)| chunk.live_from(chunk.lower(from)) as u64)
            .sum()
    }

    /// The first live sequence whose time is at or after `time_ns`, by binary search over the
    /// chunks: times never go down inside a stream.
    pub(crate) fn first_at_or_after(&self, time_ns: i64) -> Option<u64> {
        let (mut low, mut high) = (
            *self.chunks.keys().next()?,
            *self.chunks.keys().next_back()?,
        );
        let chunk_at = |sequence| self.chunks.range(..=sequence).next_back();
        // The highest sequence whose chunk begins before the time (or the lowest of all).
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if chunk_at(middle).is_some_and(|(_, chunk)| chunk.time(0) < time_ns) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        let start = chunk_at(low).map_or(low, |(key, _)| *key);
        self.scan_rows(start, |sequence, row| {
            if row.time_ns >= time_ns {
                ControlFlow::Break(sequence)
            } else {
                ControlFlow::Continue(())
            }
        })
        .break_value()
    }

    /// Heap bytes.
    pub(crate) fn memory(&self) -> usize {
        self.chunks.values().map(|chunk| chunk.memory() + 24).sum()
    }

    /// Copies a chunk without its gaps and joins it with a small neighbour before it.
    fn compact(&mut self, key: u64) {
        let Some(chunk) = self.chunks.get(&key).and_then(|chunk| chunk.compacted()) else {
            return;
        };
        self.chunks.remove(&key);
        if let Some((_, before)) = self.chunks.range_mut(..key).next_back()
            && before.live() + chunk.live() <= CHUNK_ROWS / 2
            && let Some(mut joined) = before.compacted()
            && chunk.copy_to(&mut joined)
        {
            joined.shrink();
            let old = before.first();
            self.chunks.remove(&old);
            self.chunks.insert(joined.first(), Box::new(joined));
            return;
        }
        let mut chunk = chunk;
        chunk.shrink();
        self.chunks.insert(chunk.first(), Box::new(chunk));
    }
}
