//! Reading messages: the tail from memory, else from the journal; sealed ones from segments, both
//! through the block cache. Every record is checked before it is served. One that fails is read
//! once more past the cache, one that cannot be read some times more; then it counts as damaged and is told once.
//!
//! A reader that goes through a file in order finds the next block read: it is asked for when the
//! reader begins with the one before, so that the disk works while messages are handed out.

use super::index::Row;
use super::io::{Purpose, Source};
use super::segment::pack::{self, Content};
use super::segment::record::{read_record, record_length};
use super::tail::Body;
use super::{Lookup, ReadError, StoreEvent, StoredMessage, StreamStore};
use crate::disk::{DiskError, DiskReply};
use crate::seal::Keys;
use bytes::Bytes;

/// Bytes read at once when a reader goes through a file in order; more for large messages, so that
/// a read has several of them, up to the second limit.
const READ_AHEAD_BYTES: u64 = 256 << 10;
const READ_AHEAD_BYTES_MAX: u64 = 1 << 20;
const READ_AHEAD_MESSAGES: u64 = 8;
/// A block read in order takes at most this part of the share: the one in use must not be driven out
/// by the one behind it.
const READ_AHEAD_DIVISOR: u64 = 3;
/// Bytes read at once for a single message.
const READ_ONE_BYTES: u64 = 16 << 10;
/// A read that begins at most this far behind the last one goes on in order.
const NEAR_BYTES: u64 = 64 << 10;
/// Reads of one store on their way; further readers wait for one to end.
const MAX_READS: usize = 32;
/// So many reads of a message fail before it counts as damaged: what a consumer has passed over is not
/// delivered later, so a fault that passes must not look like one that stays.
const FAILED_READS_MAX: u8 = 5;

/// What is held against a message whose bytes could not be shown yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Suspicion {
    /// It failed its check, and is read past the cache.
    failed_check: bool,
    failed_reads: u8,
}

/// Where the bytes of a message are.
struct Place {
    source: Source,
    offset: u64,
    length: u64,
    /// The file's bytes that count.
    end: u64,
    /// These are the bytes of the pack that has the message.
    packed: bool,
}

impl StreamStore {
    /// A message with its bytes.
    pub fn get(&mut self, sequence: u64) -> Lookup<Result<StoredMessage, ReadError>> {
        if self.ensure_loaded() == Lookup::Loading {
            return Lookup::Loading;
        }
        let Some(row) = self.index.rows.get(sequence) else {
            return Lookup::Ready(Err(ReadError::NotFound));
        };
        if self.damaged.contains(sequence) {
            return Lookup::Ready(Err(ReadError::Damaged));
        }
        let Some(place) = self.place_of(sequence, &row) else {
            return Lookup::Ready(self.in_memory(sequence, &row).ok_or(ReadError::NotFound));
        };
        let found = if place.packed {
            self.blocks.find_pack(place.source, place.offset)
        } else {
            self.blocks.find(place.source, place.offset, place.length)
        };
        let Some(found) = found else {
            self.read_block(sequence, &place);
            return Lookup::Loading;
        };
        if let Some(end) = found.begun {
            self.read_on(sequence, place.source, end);
        }
        if let Some(message) = self.check(sequence, &row, &found.bytes) {
            self.suspects.remove(&sequence);
            return Lookup::Ready(Ok(message));
        }
        let suspicion = self.suspects.entry(sequence).or_default();
        if !std::mem::replace(&mut suspicion.failed_check, true) {
            // The block may be older than the record (read-ahead in the journal), or the memory bad.
            self.blocks.forget(place.source);
            self.read_block(sequence, &place);
            return Lookup::Loading;
        }
        self.note_damaged(sequence, "checksum");
        Lookup::Ready(Err(ReadError::Damaged))
    }

    /// Takes the end of a block read.
    pub(super) fn block_read(
        &mut self,
        (source, start, sequence): (Source, u64, u64),
        in_order: bool,
        result: Result<DiskReply, DiskError>,
    ) {
        let data = match result {
            Ok(DiskReply::Data(data)) => data,
            Ok(_) => return,
            Err(error) => {
                self.read_failed(source, sequence, &error.to_string());
                return;
            }
        };
        let end = start + data.len() as u64;
        self.keep_block(source, start, data, in_order);
        let place = self
            .index
            .rows
            .get(sequence)
            .and_then(|row| self.place_of(sequence, &row));
        if place.is_some_and(|place| place.source == source && place.offset + place.length > end) {
            self.note_damaged(sequence, "the file is too short");
        }
    }

    fn keep_block(&mut self, source: Source, start: u64, data: Bytes, in_order: bool) {
        let budget = self.settings.share.block_bytes;
        let packed = match source {
            Source::Segment(id) => self.segments.values().find(|one| one.id == id),
            Source::Journal(_) => None,
        };
        let Some(segment) = packed.filter(|segment| segment.packed) else {
            self.blocks.insert((source, start), data, in_order, budget);
            return;
        };
        let end = start + data.len() as u64;
        let mut packs = unpack_all(&data, start, segment.seed, &self.settings.packing.keys);
        if packs.first().is_none_or(|(first, _)| *first != start) {
            // Nothing is found in it, and so it is known to be damaged.
            packs.insert(0, (start, Bytes::new()));
        }
        self.blocks
            .insert_packs(source, packs, end, in_order, budget);
    }

    /// A message's bytes are lost for good: say so once.
    pub(super) fn note_damaged(&mut self, sequence: u64, why: &str) {
        self.suspects.remove(&sequence);
        if !self.damaged.insert(sequence) {
            return;
        }
        let place = self
            .index
            .rows
            .get(sequence)
            .and_then(|row| self.place_of(sequence, &row))
            .map_or_else(String::new, |place| self.describe(&place));
        self.events.push(StoreEvent::Damaged {
            sequence,
            place: format!("{place}: {why}"),
        });
    }

    fn read_failed(&mut self, source: Source, sequence: u64, why: &str) {
        let row = self.index.rows.get(sequence);
        let place = row.and_then(|row| self.place_of(sequence, &row));
        // The message may have moved meanwhile: then the next attempt reads elsewhere.
        if place.is_none_or(|place| place.source != source) {
            return;
        }
        // Again, with the file opened anew: it may have been a passing fault.
        let suspicion = self.suspects.entry(sequence).or_default();
        suspicion.failed_reads += 1;
        if suspicion.failed_reads < FAILED_READS_MAX {
            if let Source::Segment(id) = source {
                self.io.close_segment(id);
            }
            return;
        }
        self.note_damaged(sequence, why);
    }

    fn describe(&self, place: &Place) -> String {
        let end = place.offset + place.length;
        match place.source {
            Source::Segment(id) => {
                let name = super::segment::record::segment_name(id);
                format!("{}/{name} bytes {}..{end}", self.io.directory, place.offset)
            }
            Source::Journal(file) => format!("journal file {file} bytes {}..{end}", place.offset),
        }
    }

    /// Where on disk a message's bytes are; `None` when they are in memory.
    fn place_of(&self, sequence: u64, row: &Row) -> Option<Place> {
        if sequence > self.flushed_through {
            let Body::Journal {
                position, length, ..
            } = self.tail.get(row.location)?
            else {
                return None;
            };
            return Some(Place {
                source: Source::Journal(position.file),
                offset: position.offset,
                length: u64::from(*length),
                end: u64::MAX,
                packed: false,
            });
        }
        let (_, segment) = self.segments.range(..=sequence).next_back()?;
        let length = if segment.packed {
            u64::from(*self.packs.get(&(segment.id, row.location))?)
        } else {
            let subject = self.index.subjects.entry(row.subject)?.name().len();
            record_length(subject, row.length.bytes())
        };
        Some(Place {
            source: Source::Segment(segment.id),
            offset: u64::from(row.location),
            length,
            end: u64::from(segment.length),
            packed: segment.packed,
        })
    }

    fn in_memory(&self, sequence: u64, row: &Row) -> Option<StoredMessage> {
        let (headers, payload) = self.tail.get(row.location)?.parts()?;
        let subject = self.index.subjects.entry(row.subject)?.name().clone();
        Some(StoredMessage {
            sequence,
            time_ns: row.time_ns,
            subject,
            headers,
            payload,
        })
    }

    fn check(&self, sequence: u64, row: &Row, found: &Bytes) -> Option<StoredMessage> {
        if sequence > self.flushed_through {
            let (headers, payload) = self.tail.get(row.location)?.verify(found)?;
            let subject = self.index.subjects.entry(row.subject)?.name().clone();
            return Some(StoredMessage {
                sequence,
                time_ns: row.time_ns,
                subject,
                headers,
                payload,
            });
        }
        let (_, segment) = self.segments.range(..=sequence).next_back()?;
        let mut message = if segment.packed {
            read_record(&pack::find_record(found, sequence)?, segment.seed)?
        } else {
            read_record(found, segment.seed)?
        };
        // The subject in the index is shared; the one in the record would keep the block alive.
        let subject = self.index.subjects.entry(row.subject)?.name();
        let same = message.sequence == sequence && message.subject == subject;
        message.subject = subject.clone();
        same.then_some(message)
    }

    fn read_block(&mut self, sequence: u64, place: &Place) {
        let in_order = self
            .blocks
            .is_sequential(place.source, place.offset, NEAR_BYTES);
        if self.suspects.contains_key(&sequence) {
            self.ask_for_block(sequence, place, place.length, false);
        } else if in_order {
            self.ask_for_run(sequence, place);
        } else {
            self.ask_for_block(sequence, place, READ_ONE_BYTES, false);
        }
    }

    /// Asks for what comes behind a block that ends at `end` and has the message of `sequence`.
    fn read_on(&mut self, sequence: u64, source: Source, end: u64) {
        let next = self.first_beyond(sequence, source, end);
        if let Some((next, place)) = next
            && place.length <= self.run_bytes_max()
            && !self.blocks.has(place.source, place.offset, place.length)
        {
            self.ask_for_run(next, &place);
        }
    }

    /// Asks for a message and those behind it, up to the end of one: the next block begins there.
    fn ask_for_run(&mut self, sequence: u64, place: &Place) {
        let several = place.length.saturating_mul(READ_AHEAD_MESSAGES);
        let wanted = several.clamp(READ_AHEAD_BYTES, READ_AHEAD_BYTES_MAX);
        let wanted = wanted.min(self.run_bytes_max()).max(place.length);
        let reach = place.offset.saturating_add(wanted);
        let beyond = self.first_beyond(sequence, place.source, reach);
        let end = beyond
            .filter(|(_, next)| next.source == place.source)
            .map_or(reach, |(_, next)| next.offset.min(reach));
        self.ask_for_block(sequence, place, end.saturating_sub(place.offset), true);
    }

    const fn run_bytes_max(&self) -> u64 {
        self.settings.share.block_bytes / READ_AHEAD_DIVISOR
    }

    /// The first message behind `sequence` that is not in `source` before `reach`; `None` if all
    /// are, or if that one is in memory.
    fn first_beyond(&self, sequence: u64, source: Source, reach: u64) -> Option<(u64, Place)> {
        let is_beyond = |found: u64| {
            let row = self.index.rows.get(found);
            let place = row.and_then(|row| self.place_of(found, &row));
            place.is_none_or(|place| place.source != source || place.offset + place.length > reach)
        };
        let mut low = sequence.saturating_add(1);
        let mut high = self.index.state().last_sequence.saturating_add(1);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.index.rows.next(middle) {
                Some((found, _)) if !is_beyond(found) => low = found + 1,
                _ => high = middle,
            }
        }
        let (found, _) = self.index.rows.next(low)?;
        let row = self.index.rows.get(found)?;
        Some((found, self.place_of(found, &row)?))
    }

    fn ask_for_block(&mut self, sequence: u64, place: &Place, wanted: u64, in_order: bool) {
        let covered = |purpose: &Purpose| match purpose {
            Purpose::Block {
                source,
                start,
                sequence: other,
                ..
            } => *source == place.source && (*start == place.offset || *other == sequence),
            _ => false,
        };
        let reads = |purpose: &Purpose| matches!(purpose, Purpose::Block { .. });
        if self.io.in_flight() > MAX_READS && self.io.any(reads) || self.io.any(covered) {
            return;
        }
        let rest = place.end.saturating_sub(place.offset);
        let length = wanted.min(rest).max(place.length);
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let purpose = Purpose::Block {
            source: place.source,
            start: place.offset,
            sequence,
            in_order,
        };
        self.io.read(place.source, place.offset, length, purpose);
    }
}

/// The contents of the whole packs of records in bytes that begin at `start` in their segment; a pack
/// that fails its check is left out.
fn unpack_all(data: &Bytes, start: u64, seed: u64, keys: &Keys) -> Vec<(u64, Bytes)> {
    let mut packs = Vec::new();
    let mut at = 0;
    while let Some(length) = data.get(at..).and_then(pack::claimed_length)
        && let Some(end) = usize::try_from(length).ok().and_then(|l| at.checked_add(l))
        && end <= data.len()
    {
        if let Some((Content::Records, plain)) = pack::unpack(&data.slice(at..end), seed, keys) {
            packs.push((start + at as u64, plain));
        }
        at = end;
    }
    packs
}
