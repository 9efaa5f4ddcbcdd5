//! The scrub: a store's segments are read from the first byte to the last and every checksum in them is
//! looked at, a piece at a time, when the owner says so. What fails is read once more; a message whose
//! record fails again counts as damaged from then on, exactly as if a reader had found it: told
//! once, never served, everything around it is. How fast and how often is the owner's.

use super::io::{Purpose, Source};
use super::segment::Segment;
use super::segment::index_block::{self, IndexBlock};
use super::segment::pack;
use super::segment::record::{self, FILE_HEADER_BYTES, file_header, read_record, segment_name};
use super::{Storage, StoreEvent, StreamStore};
use crate::disk::{DiskError, DiskReply};
use bytes::Bytes;
use std::ops::ControlFlow;

/// Bytes of a piece, unless something in it is longer.
pub const SCRUB_PIECE_BYTES: u32 = 256 << 10;
/// Places that are damaged and belong to no known message are told once each, so many of a store.
const TOLD_MAX: usize = 1_024;
/// Bytes that say how long what begins there is.
const HEAD_BYTES: usize = 16;

/// What the owner's call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubStep {
    /// So many bytes are on their way.
    Reading { bytes: u32 },
    /// Something else is under way; ask again later.
    Busy,
    /// All segments were looked at. The next call begins again.
    Ended,
}

/// Where the scrub is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scrub {
    /// The first sequence of the segment, and its id.
    key: u64,
    id: u64,
    offset: u32,
    wanted: u32,
    /// Something in this piece failed; it is read once more.
    again: bool,
}

/// What stands at a place of a segment.
enum Piece {
    /// All is well, for so many bytes.
    Good(u64),
    /// Not all of it is here: so many bytes are needed.
    Short(u64),
    /// So many bytes fail their checksum, or nothing can begin here (0).
    Bad(u64),
}

impl StreamStore {
    /// Looks at the next piece. Call [`Self::poll`] afterwards.
    pub fn scrub(&mut self) -> ScrubStep {
        let scrubs = |purpose: &Purpose| matches!(purpose, Purpose::Scrub);
        let loads = self.load.as_ref().is_some_and(|load| load.is_started());
        if self.flush.is_some() || loads || self.io.any(scrubs) {
            return ScrubStep::Busy;
        }
        let Some(at) = self
            .next_piece()
            .filter(|_| self.settings.storage != Storage::Memory)
        else {
            if let Some(at) = self.scrub.take() {
                self.io.close_segment(at.id);
            }
            return ScrubStep::Ended;
        };
        if let Some(before) = self.scrub.filter(|before| before.id != at.id) {
            self.io.close_segment(before.id);
        }
        self.scrub = Some(at);
        let source = Source::Segment(at.id);
        self.io
            .read(source, u64::from(at.offset), at.wanted, Purpose::Scrub);
        ScrubStep::Reading { bytes: at.wanted }
    }

    fn next_piece(&self) -> Option<Scrub> {
        let (segment, mut at) = match self.scrub {
            Some(at) => match self.segments.get(&at.key) {
                Some(segment) if segment.id == at.id && at.offset < segment.length => (segment, at),
                Some(segment) if segment.id != at.id => (segment, begin(segment, at.key)),
                _ => {
                    let (key, segment) = self.segments.range(at.key + 1..).next()?;
                    (segment, begin(segment, *key))
                }
            },
            None => {
                let (key, segment) = self.segments.first_key_value()?;
                (segment, begin(segment, *key))
            }
        };
        at.wanted = at.wanted.min(segment.length.saturating_sub(at.offset));
        (at.wanted > 0).then_some(at)
    }

    /// Takes the end of a piece's read.
    pub(super) fn scrubbed(&mut self, result: Result<DiskReply, DiskError>) {
        let Some(at) = self.scrub else {
            return;
        };
        // It may have been rewritten meanwhile.
        let segment = self
            .segments
            .get(&at.key)
            .filter(|segment| segment.id == at.id);
        let Some(segment) = segment.cloned() else {
            return;
        };
        let data = match result {
            Ok(DiskReply::Data(data)) => data,
            Ok(_) | Err(_) => Bytes::new(),
        };
        let is_last = at.offset + at.wanted >= segment.length;
        let (mut next, mut bad) = (at.offset, Vec::new());
        let mut short = None;
        while next < at.offset + at.wanted {
            let here = data.slice(data.len().min((next - at.offset) as usize)..);
            match look(&here, next, &segment) {
                Piece::Good(length) => next = next.saturating_add(length as u32),
                Piece::Short(length) if data.len() == at.wanted as usize && !is_last => {
                    short = Some(length);
                    break;
                }
                Piece::Bad(length) if length > 0 && length <= here.len() as u64 => {
                    bad.push((next, next + length as u32));
                    next += length as u32;
                }
                Piece::Short(_) | Piece::Bad(_) => {
                    let skipped = skip(&here, next, &segment);
                    bad.push((next, next + skipped));
                    next += skipped;
                }
            }
        }
        bad.retain(|range| self.is_damage(*range, &data, at.offset, &segment));
        if !bad.is_empty() && !at.again {
            // A passing fault, or memory: the file is opened anew.
            self.io.close_segment(at.id);
            self.scrub = Some(Scrub { again: true, ..at });
            return;
        }
        for range in bad {
            self.tell_damage(range, &segment);
        }
        let longer = short.filter(|_| next == at.offset);
        self.scrub = Some(Scrub {
            offset: next,
            wanted: longer.map_or(SCRUB_PIECE_BYTES, |length| {
                u32::try_from(length).unwrap_or(u32::MAX)
            }),
            again: false,
            ..at
        });
    }

    /// Whether bytes that fail are ones that somebody could ask for: not those of an erased or removed
    /// message, nor of one that is known as lost.
    fn is_damage(
        &self,
        (from, to): (u32, u32),
        data: &Bytes,
        start: u32,
        segment: &Segment,
    ) -> bool {
        let bytes = data.get((from - start) as usize..).unwrap_or_default();
        let bytes = bytes.get(..(to - from) as usize).unwrap_or(bytes);
        let Some(sequence) = claimed_sequence(bytes, segment) else {
            return true;
        };
        if record::is_erased(bytes) || record::is_poisoned(bytes, segment.seed) {
            return false;
        }
        if !self.is_loaded() {
            return true;
        }
        // The number itself may be what changed: then the row is elsewhere.
        match self.index.rows.get(sequence) {
            Some(row) if row.location == from => !self.damaged.contains(sequence),
            _ => !self.live_between(segment, (from, to)).is_empty(),
        }
    }

    /// Messages that are there and whose records, or packs, begin in these bytes.
    fn live_between(&self, segment: &Segment, (from, to): (u32, u32)) -> Vec<u64> {
        let mut found = Vec::new();
        let _ = self
            .index
            .rows
            .scan_rows(segment.first_sequence, |sequence, row| {
                if sequence > segment.last_sequence {
                    return ControlFlow::Break(());
                }
                if (from..to).contains(&row.location) {
                    found.push(sequence);
                }
                ControlFlow::Continue(())
            });
        found
    }

    fn tell_damage(&mut self, range: (u32, u32), segment: &Segment) {
        let (from, to) = range;
        if self.is_loaded() {
            let hurt = self.live_between(segment, range);
            for sequence in &hurt {
                self.note_damaged(*sequence, "found by the scrub");
            }
            if !hurt.is_empty() {
                return;
            }
        }
        // Whose record it is tells the index; what the bytes themselves say may be what changed.
        let is_new = !self.scrub_told.contains(&(segment.id, from));
        if is_new && self.scrub_told.len() < TOLD_MAX {
            self.scrub_told.insert((segment.id, from));
            let name = segment_name(segment.id);
            let place = format!("{}/{name} bytes {from}..{to}", self.io.directory);
            self.events.push(StoreEvent::SegmentDamaged { place });
        }
    }
}

/// The message whose record seems to begin here.
fn claimed_sequence(bytes: &[u8], segment: &Segment) -> Option<u64> {
    if segment.packed {
        return None;
    }
    record::claimed_length(bytes)?;
    let sequences = segment.first_sequence..=segment.last_sequence;
    record::claimed_sequence(bytes).filter(|sequence| sequences.contains(sequence))
}

fn begin(segment: &Segment, key: u64) -> Scrub {
    Scrub {
        key,
        id: segment.id,
        offset: 0,
        wanted: SCRUB_PIECE_BYTES,
        again: false,
    }
}

/// What begins at `offset` of a segment.
fn look(bytes: &Bytes, offset: u32, segment: &Segment) -> Piece {
    if offset == 0 {
        let header = file_header(segment.id, segment.seed);
        return match bytes.get(..FILE_HEADER_BYTES as usize) {
            Some(found) if found == header => Piece::Good(FILE_HEADER_BYTES),
            Some(_) => Piece::Bad(FILE_HEADER_BYTES),
            None => Piece::Short(FILE_HEADER_BYTES),
        };
    }
    if bytes.len() < HEAD_BYTES {
        return Piece::Short(HEAD_BYTES as u64);
    }
    let claimed = if segment.packed {
        pack::claimed_length(bytes)
    } else {
        record::claimed_length(bytes).or_else(|| index_block::claimed_length(bytes))
    };
    let Some(length) = claimed else {
        return Piece::Bad(0);
    };
    if length > u64::from(segment.length - offset) {
        return Piece::Bad(0);
    }
    if length > bytes.len() as u64 {
        return Piece::Short(length);
    }
    if is_good(&bytes.slice(..length as usize), segment) {
        Piece::Good(length)
    } else {
        Piece::Bad(length)
    }
}

fn is_good(bytes: &Bytes, segment: &Segment) -> bool {
    if !segment.packed {
        return read_record(bytes, segment.seed).is_some() || IndexBlock::read(bytes).is_some();
    }
    pack::is_intact(bytes, segment.seed)
}

/// Bytes until something whole begins again, or to the end of these.
fn skip(bytes: &Bytes, offset: u32, segment: &Segment) -> u32 {
    let length = (segment.length - offset).min(bytes.len() as u32);
    let begins = |at: &u32| {
        let rest = bytes.slice(*at as usize..);
        matches!(look(&rest, offset + at, segment), Piece::Good(_))
    };
    let at = (1..length).find(begins).unwrap_or(length);
    // Nothing was read: all that was asked for is passed over.
    at.max(1).max(if bytes.is_empty() {
        SCRUB_PIECE_BYTES
    } else {
        1
    })
}
