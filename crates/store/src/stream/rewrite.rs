//! Rewriting a segment that is less than half alive, as the first part of a flush: its live
//! messages go into a new segment, the manifest of the flush names that one instead, and the old
//! file goes once the manifest is durable. Nothing is changed in place.

use super::flush::{Candidate, RUN_BYTES};
use super::index::BodyLength;
use super::io::{Purpose, Source};
use super::run::{Run, RunWriter};
use super::segment::Segment;
use super::segment::pack::{self, Content};
use super::segment::record::{read_record, record_length, segment_name};
use super::tail::Body;
use super::{StoredMessage, StreamStore};
use crate::seal::Keys;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// A segment is rewritten when so many of its bytes are of no use, and more than half.
const MIN_DEAD_BYTES: u64 = 256 << 10;

/// A rewriting under way.
#[derive(Debug)]
pub(super) struct Rewrite {
    old: Segment,
    /// Live when the flush began.
    rows: Vec<Row>,
    /// The first of them that is not in the target yet.
    next: usize,
    window: Option<(u64, Bytes)>,
    target: Option<Segment>,
    run: Option<Run>,
    /// Sequence, offset in the target, record length.
    moved: Vec<(u64, u32, u64)>,
    /// Packs of the target.
    packs: Vec<(u32, u32)>,
    /// Removed since: what the index knew, for records that cannot be read (erased, or damaged).
    pub(super) removed: BTreeMap<u64, Candidate>,
}

/// A message that lives in the old segment.
#[derive(Clone, Copy, Debug)]
struct Row {
    sequence: u64,
    /// Of its record, or of the pack that has it.
    offset: u32,
    length: u32,
    record_length: u32,
}

impl Rewrite {
    /// The segment that was being written.
    pub(super) fn into_target(self) -> Option<Segment> {
        self.run.map(|run| run.segment).or(self.target)
    }

    pub(super) const fn covers(&self, sequence: u64) -> bool {
        sequence >= self.old.first_sequence && sequence <= self.old.last_sequence
    }
}

/// A part of the old segment, and the pack of it that was looked at last.
struct Window<'a> {
    start: u64,
    data: &'a Bytes,
    pack: Option<(u32, Bytes)>,
    keys: Keys,
}

impl Window<'_> {
    fn slice(&self, row: &Row) -> Option<Bytes> {
        let from = usize::try_from(u64::from(row.offset).checked_sub(self.start)?).ok()?;
        let to = from.checked_add(row.length as usize)?;
        (to <= self.data.len()).then(|| self.data.slice(from..to))
    }

    fn covers(&self, row: &Row) -> bool {
        self.slice(row).is_some()
    }

    fn message(&mut self, row: &Row, segment: &Segment) -> Option<StoredMessage> {
        if !segment.packed {
            return read_record(&self.slice(row)?, segment.seed);
        }
        if self.pack.as_ref().is_none_or(|(at, _)| *at != row.offset) {
            let found = pack::unpack(&self.slice(row)?, segment.seed, &self.keys);
            let plain = found.filter(|(content, _)| *content == Content::Records);
            self.pack = Some((row.offset, plain.map_or_else(Bytes::new, |found| found.1)));
        }
        let (_, plain) = self.pack.as_ref()?;
        read_record(&pack::find_record(plain, row.sequence)?, segment.seed)
    }
}

impl StreamStore {
    /// Picks a segment in which something was erased, or the one with most to gain, and notes what
    /// lives in it.
    pub(super) fn choose_rewrite(&mut self) -> Option<Rewrite> {
        let dead = |segment: &Segment| segment.record_bytes().saturating_sub(segment.live_bytes);
        let worn = |segment: &&mut Segment| {
            let is_worn =
                dead(segment) >= MIN_DEAD_BYTES && segment.live_bytes * 2 < segment.record_bytes();
            is_worn || segment.wipe
        };
        let worst = self
            .segments
            .values_mut()
            .filter(worn)
            .max_by_key(|segment| (segment.wipe, dead(segment)))?;
        worst.sealed = true;
        let old = worst.clone();
        let mut rows = Vec::new();
        let _ = self
            .index
            .rows
            .scan_rows(old.first_sequence, |sequence, row| {
                if sequence > old.last_sequence {
                    return ControlFlow::Break(());
                }
                let subject = self
                    .index
                    .subjects
                    .entry(row.subject)
                    .map_or(0, |e| e.name().len());
                let length = record_length(subject, row.length.bytes());
                let record_length = u32::try_from(length).unwrap_or(u32::MAX);
                let pack = self.packs.get(&(old.id, row.location));
                rows.push(Row {
                    sequence,
                    offset: row.location,
                    length: pack.copied().unwrap_or(record_length),
                    record_length,
                });
                ControlFlow::Continue(())
            });
        Some(Rewrite {
            old,
            rows,
            next: 0,
            window: None,
            target: None,
            run: None,
            moved: Vec::new(),
            packs: Vec::new(),
            removed: BTreeMap::new(),
        })
    }

    /// Goes on with the rewriting; false when there is none, or none any more.
    pub(super) fn advance_rewrite(&mut self) -> bool {
        let Some(rewrite) = self.flush.as_mut().and_then(|flush| flush.rewrite.as_mut()) else {
            return false;
        };
        if let Some(run) = rewrite.run.take() {
            rewrite.moved.extend(run.rows);
            rewrite.packs.extend(run.packs);
            rewrite.target = Some(run.segment);
        }
        if rewrite.next >= rewrite.rows.len() {
            self.finish_rewrite();
            return false;
        }
        match rewrite.window.take() {
            Some((start, data)) => self.write_rewritten(start, &data),
            None => self.ask_for_window(),
        }
        true
    }

    /// Takes records of the old segment.
    pub(super) fn rewrite_read(&mut self, start: u64, data: Bytes) {
        if let Some(rewrite) = self.flush.as_mut().and_then(|flush| flush.rewrite.as_mut()) {
            rewrite.window = Some((start, data));
        }
    }

    fn ask_for_window(&mut self) {
        let Some(flush) = &mut self.flush else {
            return;
        };
        let Some(rewrite) = &flush.rewrite else {
            return;
        };
        let Some(first) = rewrite.rows.get(rewrite.next) else {
            return;
        };
        let start = u64::from(first.offset);
        let rows = rewrite.rows.get(rewrite.next..).unwrap_or_default();
        let mut end = 0;
        let mut unpacked = 0;
        for row in rows {
            let stop = u64::from(row.offset) + u64::from(row.length);
            unpacked += u64::from(row.record_length);
            if end > 0 && (stop - start).max(unpacked) > 2 * RUN_BYTES {
                break;
            }
            end = stop;
        }
        flush.waiting += 1;
        let source = Source::Segment(rewrite.old.id);
        let length = u32::try_from(end.saturating_sub(start)).unwrap_or(u32::MAX);
        self.io
            .read(source, start, length, Purpose::FlushRead { source, start });
    }

    /// Writes the messages whose records the window should hold.
    fn write_rewritten(&mut self, start: u64, data: &Bytes) {
        let Some(mut rewrite) = self.flush.as_mut().and_then(|flush| flush.rewrite.take()) else {
            return;
        };
        let target = match rewrite.target.take() {
            Some(target) => target,
            None => self.new_segment(rewrite.rows.first().map_or(0, |row| row.sequence)),
        };
        let mut writer = RunWriter::new(target, true, &self.settings.packing);
        let mut taken = 0;
        let mut window = Window {
            start,
            data,
            pack: None,
            keys: self.settings.packing.keys.clone(),
        };
        for row in rewrite.rows.get(rewrite.next..).unwrap_or_default() {
            // A short read gives up the first message only: the next window shows the rest.
            if taken > 0 && !window.covers(row) {
                break;
            }
            taken += 1;
            let message = window.message(row, &rewrite.old);
            let removed = rewrite.removed.remove(&row.sequence);
            self.rewrite_message(&mut writer, rewrite.old.id, row.sequence, message, removed);
        }
        rewrite.next += taken;
        let run = self.write_run(writer);
        rewrite.run = Some(run);
        if let Some(flush) = &mut self.flush {
            flush.rewrite = Some(rewrite);
        }
    }

    fn rewrite_message(
        &mut self,
        writer: &mut RunWriter,
        segment: u64,
        sequence: u64,
        message: Option<StoredMessage>,
        removed: Option<Candidate>,
    ) {
        let message = message.filter(|message| message.sequence == sequence);
        if let Some(message) = message {
            let length = BodyLength::new(message.headers.len(), message.payload.len());
            let (time_ns, subject) = (message.time_ns, message.subject);
            let body = Body::none();
            let candidate = Candidate {
                sequence,
                time_ns,
                subject,
                length,
                body,
            };
            writer.push(&candidate, Some((message.headers, message.payload)));
            return;
        }
        // Unreadable: its place in the index stays, so that the stream's numbers stay what they
        // are. What was removed meanwhile may have been erased, and nobody asks for it.
        let candidate = removed.or_else(|| {
            self.kept.insert(segment_name(segment));
            self.note_damaged(sequence, "found when its segment was rewritten");
            let row = self.index.rows.get(sequence)?;
            Some(Candidate {
                sequence,
                time_ns: row.time_ns,
                subject: self.index.subjects.entry(row.subject)?.name().clone(),
                length: row.length,
                body: Body::none(),
            })
        });
        if let Some(candidate) = candidate {
            writer.push(&candidate, None);
        }
    }

    /// The target takes the place of the old segment.
    fn finish_rewrite(&mut self) {
        let Some(flush) = &mut self.flush else {
            return;
        };
        let Some(rewrite) = flush.rewrite.take() else {
            return;
        };
        let erased = flush.erase.clone();
        let old = self.segments.remove(&rewrite.old.first_sequence);
        let wipe = old.is_some_and(|segment| segment.wipe);
        self.note_retired(rewrite.old.id, rewrite.old.length, wipe);
        self.retired
            .push((self.manifests, segment_name(rewrite.old.id)));
        let Some(mut target) = rewrite.target else {
            return;
        };
        target.sealed = true;
        let id = target.id;
        for (sequence, offset, length) in &rewrite.moved {
            if self.index.rows.set_location(*sequence, *offset) {
                target.live_messages += 1;
                target.live_bytes += length;
            }
        }
        self.segments.insert(target.first_sequence, target);
        self.note_packs(id, &rewrite.packs);
        for (sequence, offset, length) in rewrite.moved {
            if erased.contains(&sequence) {
                self.overwrite(sequence, id, offset, length);
            }
        }
    }
}
