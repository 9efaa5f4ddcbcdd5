//! Up to 1,024 neighbouring messages of the index, column by column: 18 bytes per message, 22
//! when some between them are gone.

/// Messages in one chunk.
pub(super) const CHUNK_ROWS: usize = 1024;
/// Times in one chunk lie within so many nanoseconds (48 bits: about three days).
const MAX_TIME_SPAN: u64 = 1 << 48;
/// The subject number of a row whose message is gone.
const GONE: u32 = u32::MAX;
/// Below this many rows, gone ones are left where they are.
const SMALL: usize = 32;

/// What the index keeps of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) subject: u32,
    pub(crate) time_ns: i64,
    pub(crate) length: BodyLength,
    /// Where the body is: a slot of the tail, or an offset in the segment.
    pub(crate) location: u32,
}

/// Length of headers and payload together, and whether there are headers, in four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BodyLength(pub(crate) u32);

impl BodyLength {
    pub(crate) fn new(headers: usize, payload: usize) -> Self {
        let length = u32::try_from(headers + payload).unwrap_or(u32::MAX >> 1);
        Self((length.min(u32::MAX >> 1) << 1) | u32::from(headers > 0))
    }

    /// Bytes of headers and payload.
    pub(crate) const fn bytes(self) -> u32 {
        self.0 >> 1
    }

    pub(crate) const fn has_headers(self) -> bool {
        self.0 & 1 == 1
    }
}

/// Rows by ascending sequence.
#[derive(Debug)]
pub(super) struct Chunk {
    first: u64,
    base_time_ns: i64,
    live: usize,
    /// Distance of each row from `first`; empty when row n is sequence `first + n`.
    offsets: Vec<u32>,
    subjects: Vec<u32>,
    lengths: Vec<u32>,
    times_low: Vec<u32>,
    times_high: Vec<u16>,
    locations: Vec<u32>,
}

impl Chunk {
    pub(super) fn new(sequence: u64, time_ns: i64) -> Self {
        Self {
            first: sequence,
            base_time_ns: time_ns,
            live: 0,
            offsets: Vec::new(),
            subjects: Vec::new(),
            lengths: Vec::new(),
            times_low: Vec::new(),
            times_high: Vec::new(),
            locations: Vec::new(),
        }
    }

    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    pub(super) const fn live(&self) -> usize {
        self.live
    }

    pub(super) fn rows(&self) -> usize {
        self.subjects.len()
    }

    /// Appends a row with a higher sequence; false when it does not fit here.
    pub(super) fn push(&mut self, sequence: u64, row: &Row) -> bool {
        let span = row
            .time_ns
            .checked_sub(self.base_time_ns)
            .and_then(|s| u64::try_from(s).ok());
        let Some(span) = span.filter(|span| *span < MAX_TIME_SPAN) else {
            return false;
        };
        let Ok(offset) = u32::try_from(sequence.wrapping_sub(self.first)) else {
            return false;
        };
        let rows = self.rows();
        if rows >= CHUNK_ROWS {
            return false;
        }
        if !self.offsets.is_empty() {
            self.offsets.push(offset);
        } else if offset as usize != rows {
            self.offsets.extend(0..rows as u32);
            self.offsets.push(offset);
        }
        self.subjects.push(row.subject);
        self.lengths.push(row.length.0);
        self.times_low.push(span as u32);
        self.times_high.push((span >> 32) as u16);
        self.locations.push(row.location);
        self.live += 1;
        true
    }

    /// Gives back what the columns reserved too much.
    pub(super) fn shrink(&mut self) {
        self.offsets.shrink_to_fit();
        self.subjects.shrink_to_fit();
        self.lengths.shrink_to_fit();
        self.times_low.shrink_to_fit();
        self.times_high.shrink_to_fit();
        self.locations.shrink_to_fit();
    }

    /// The row number of the first row at or after `sequence`, gone or not.
    pub(super) fn lower(&self, sequence: u64) -> usize {
        let Some(distance) = sequence.checked_sub(self.first) else {
            return 0;
        };
        if self.offsets.is_empty() {
            usize::try_from(distance)
                .unwrap_or(usize::MAX)
                .min(self.rows())
        } else {
            self.offsets
                .partition_point(|offset| u64::from(*offset) < distance)
        }
    }

    /// The row number of the first row whose time is at or after `time_ns`, gone or not.
    pub(super) fn lower_time(&self, time_ns: i64) -> usize {
        let (mut low, mut high) = (0, self.rows());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.time(middle) < time_ns {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    pub(super) fn sequence(&self, index: usize) -> u64 {
        let offset = self
            .offsets
            .get(index)
            .map_or(index as u64, |offset| u64::from(*offset));
        self.first + offset
    }

    /// The subject of a row, if its message is there.
    pub(super) fn subject(&self, index: usize) -> Option<u32> {
        self.subjects
            .get(index)
            .copied()
            .filter(|subject| *subject != GONE)
    }

    pub(super) fn time(&self, index: usize) -> i64 {
        let low = self.times_low.get(index).copied().unwrap_or(0);
        let high = self.times_high.get(index).copied().unwrap_or(0);
        self.base_time_ns + (i64::from(high) << 32 | i64::from(low))
    }

    pub(super) fn row(&self, index: usize) -> Option<Row> {
        Some(Row {
            subject: self.subject(index)?,
            time_ns: self.time(index),
            length: BodyLength(*self.lengths.get(index)?),
            location: *self.locations.get(index)?,
        })
    }

    /// The row number of a message that is there.
    pub(super) fn find(&self, sequence: u64) -> Option<usize> {
        let index = self.lower(sequence);
        (index < self.rows() && self.sequence(index) == sequence && self.subject(index).is_some())
            .then_some(index)
    }

    pub(super) fn set_location(&mut self, index: usize, location: u32) {
        if let Some(slot) = self.locations.get_mut(index) {
            *slot = location;
        }
    }

    /// Marks a live row as gone.
    pub(super) fn remove(&mut self, index: usize) {
        if let Some(subject) = self
            .subjects
            .get_mut(index)
            .filter(|subject| **subject != GONE)
        {
            *subject = GONE;
            self.live -= 1;
        }
    }

    /// Whether so many rows are gone that a copy without them pays.
    pub(super) fn is_sparse(&self) -> bool {
        self.rows() >= SMALL && self.live * 2 <= self.rows()
    }

    /// Live rows at or after row `index`.
    pub(super) fn live_from(&self, index: usize) -> usize {
        if index == 0 {
            return self.live;
        }
        let rest = self.subjects.get(index..).unwrap_or_default();
        rest.iter().filter(|subject| **subject != GONE).count()
    }

    /// Pushes all live rows onto `target`; false (and `target` unfit for use) if one does not fit.
    pub(super) fn copy_to(&self, target: &mut Self) -> bool {
        (0..self.rows()).all(|index| {
            self.row(index)
                .is_none_or(|row| target.push(self.sequence(index), &row))
        })
    }

    /// A chunk with the live rows only; `None` if there is none.
    pub(super) fn compacted(&self) -> Option<Self> {
        let index = (0..self.rows()).find(|index| self.subject(*index).is_some())?;
        let mut target = Self::new(self.sequence(index), self.time(index));
        self.copy_to(&mut target).then_some(target)
    }

    /// Heap bytes and this struct.
    pub(super) fn memory(&self) -> usize {
        let words = self.offsets.capacity()
            + self.subjects.capacity()
            + self.lengths.capacity()
            + self.times_low.capacity()
            + self.locations.capacity();
        words * 4 + self.times_high.capacity() * 2 + size_of::<Self>()
    }
}
