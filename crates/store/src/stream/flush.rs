//! Moving the tail into segments, off the acknowledgement path.
//!
//! A flush writes the stream **as it was when it began**: messages removed meanwhile are kept
//! aside until they are written, because the log is replayed onto exactly that state. It goes in
//! runs: records and one index block, written and synced; then the messages of the run are served
//! from the segment and leave the tail. A run that failed never happened.

use super::index::BodyLength;
use super::io::{Purpose, Source};
use super::run::{Run, RunWriter};
use super::segment::index_block::BlockPlace;
use super::segment::manifest::{
    Deletes, DeletesWriter, INLINE_DELETES_BYTES, ManifestContent, deletes_name, deletes_of_name,
};
use super::segment::record::{file_header, record_length, segment_of_name};
use super::segment::{SEGMENT_BYTES, Segment};
use super::tail::Body;
use super::{Manifest, Storage, StoreEvent, StreamState, StreamStore};
use crate::disk::{DiskError, DiskOperation, DiskReply};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use twox_hash::XxHash3_64;

/// A run holds about this many bytes of records: large enough to write at full speed, small enough
/// that taking it over is short.
pub(super) const RUN_BYTES: u64 = 1 << 20;
/// Bodies are read back from a file in pieces of at most this many bytes.
const FETCH_BYTES: u64 = 1 << 20;
/// And at most so many messages, however small.
const RUN_MESSAGES: usize = 4096;
/// Deleted ranges put into bytes in one step.
const DELETES_STEP: usize = 2048;
/// So many flushes are given up because a read fails, before what it would show counts as damaged.
const READ_FAULTS_MAX: u8 = 3;

/// A flush under way.
#[derive(Debug)]
pub(super) struct Flush {
    number: u64,
    state: StreamState,
    /// Deleted ranges as they were when the flush began, while they are put into bytes.
    deletes: Option<DeletesWriter>,
    /// The last sequence that is written.
    pub(super) end: u64,
    /// The first sequence that is not in a completed run.
    pub(super) next: u64,
    /// Removed since the flush began, to be written all the same.
    pub(super) retained: BTreeMap<u64, Candidate>,
    pub(super) fetch: Fetch,
    pub(super) run: Option<Run>,
    pub(super) rewrite: Option<super::rewrite::Rewrite>,
    /// Erased while their run was on its way.
    pub(super) erase: BTreeSet<u64>,
    /// Erased before they were written: their records can never be read, also should the log forget
    /// that they were removed.
    pub(super) erased: BTreeSet<u64>,
    /// Requests whose end the next step waits for.
    pub(super) waiting: usize,
    failed: Option<String>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Prepare,
    Clean,
    Rewrite,
    Runs,
    Deletes,
    Finish,
}

/// A message to be written.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) sequence: u64,
    pub(super) time_ns: i64,
    pub(super) subject: Bytes,
    pub(super) length: BodyLength,
    pub(super) body: Body,
}

/// Bodies on their way back from disk.
#[derive(Debug, Default)]
pub(super) struct Fetch {
    /// What each read is for.
    wanted: BTreeMap<(Source, u64), Vec<Candidate>>,
    /// Headers and payload by sequence; `None`: lost.
    pub(super) bodies: BTreeMap<u64, Option<(Bytes, Bytes)>>,
}

/// Starting, finishing, and what the disk says.
impl StreamStore {
    /// Starts moving the tail into segments. The result comes as [`StoreEvent::Flushed`] with the
    /// manifest of the state **now**: note the applied log index when calling. False when one is
    /// under way or its event was not taken yet (so that one noted index is enough), the store is
    /// not loaded, or it is a memory store.
    pub fn begin_flush(&mut self) -> bool {
        let told = |event: &StoreEvent| {
            matches!(
                event,
                StoreEvent::Flushed(_) | StoreEvent::FlushFailed { .. }
            )
        };
        let busy = self.flush.is_some() || self.events.iter().any(told);
        if self.settings.storage == Storage::Memory || busy || !self.is_loaded() {
            return false;
        }
        self.manifests += 1;
        let state = self.index.state();
        self.retire_empty_segments();
        let rewrite = self.choose_rewrite();
        self.flush = Some(Flush {
            number: self.manifests,
            state,
            deletes: Some(DeletesWriter::new(self.index.deleted.clone())),
            end: state.last_sequence,
            next: self.flushed_through + 1,
            retained: BTreeMap::new(),
            fetch: Fetch::default(),
            run: None,
            rewrite,
            erase: BTreeSet::new(),
            erased: BTreeSet::new(),
            waiting: 0,
            failed: None,
            stage: if self.prepared {
                Stage::Rewrite
            } else {
                Stage::Prepare
            },
        });
        self.advance_flush();
        true
    }

    /// The checkpoint record with this manifest is durable: files it does not name are removed.
    pub fn checkpoint_durable(&mut self, number: u64) {
        let retired = std::mem::take(&mut self.retired);
        let (gone, kept): (Vec<_>, Vec<_>) = retired
            .into_iter()
            .partition(|(manifest, _)| *manifest <= number);
        self.retired = kept;
        let some_gone = !gone.is_empty();
        for (_, name) in gone {
            if let Some(id) = segment_of_name(&name) {
                self.let_segment_go(id);
            }
            let path = self.io.path(&name);
            let operation = if self.kept.remove(&name) {
                let to = format!("{path}.damaged");
                DiskOperation::Rename { from: path, to }
            } else {
                DiskOperation::Remove { path }
            };
            self.io.ask(operation, Purpose::Nothing);
        }
        if some_gone {
            // What was erased in the segment that replaced one must not come back with it.
            let path = self.io.directory.clone();
            self.io
                .ask(DiskOperation::SyncDirectory { path }, Purpose::Nothing);
        }
    }

    /// Takes the end of a step of the flush.
    pub(super) fn flush_step(&mut self, result: Result<DiskReply, DiskError>) {
        let Some(flush) = &mut self.flush else {
            return;
        };
        flush.waiting -= 1;
        match result {
            Ok(DiskReply::Names(names)) => self.remove_leftovers(&names),
            Ok(_) => {}
            Err(error) => flush.failed = Some(error.to_string()),
        }
    }

    /// Takes bodies that were read back.
    pub(super) fn flush_read(
        &mut self,
        source: Source,
        start: u64,
        result: Result<DiskReply, DiskError>,
    ) {
        let Some(flush) = &mut self.flush else {
            return;
        };
        flush.waiting -= 1;
        let data = match result {
            Ok(DiskReply::Data(data)) => data,
            // A fault may pass: what is written now as unreadable would be so for ever.
            Err(_) if flush.failed.is_some() => return,
            Err(error) if self.read_faults < READ_FAULTS_MAX => {
                self.read_faults += 1;
                flush.failed = Some(error.to_string());
                return;
            }
            Ok(_) | Err(_) => Bytes::new(),
        };
        if let Source::Segment(_) = source {
            self.rewrite_read(start, data);
            return;
        }
        let mut lost = Vec::new();
        for candidate in flush
            .fetch
            .wanted
            .remove(&(source, start))
            .unwrap_or_default()
        {
            let body = body_from(&candidate.body, start, &data);
            if body.is_none() {
                lost.push(candidate.sequence);
            }
            flush.fetch.bodies.insert(candidate.sequence, body);
        }
        for sequence in lost {
            self.note_damaged(sequence, "read back from the journal for its segment");
        }
    }

    /// Does what can be done now.
    pub(super) fn advance_flush(&mut self) {
        while let Some(flush) = &mut self.flush
            && flush.waiting == 0
        {
            if let Some(reason) = flush.failed.take() {
                self.fail_flush(reason);
                return;
            }
            match flush.stage {
                Stage::Prepare => self.ask_for_names(),
                Stage::Clean => flush.stage = Stage::Rewrite,
                Stage::Rewrite => {
                    if !self.advance_rewrite() {
                        self.set_stage(Stage::Runs);
                    }
                }
                Stage::Runs => {
                    self.complete_run();
                    if !self.next_run() {
                        self.set_stage(Stage::Deletes);
                    }
                }
                Stage::Deletes => {
                    let writer = flush.deletes.as_mut();
                    if writer.is_some_and(|writer| !writer.step(DELETES_STEP)) {
                        return;
                    }
                    self.write_deletes();
                }
                Stage::Finish => {
                    // A log replayed from this manifest does not erase again what was erased
                    // before it: the overwriting must be on disk first.
                    if self
                        .io
                        .any(|purpose| matches!(purpose, Purpose::Erase { .. }))
                    {
                        return;
                    }
                    self.finish_flush();
                }
            }
        }
    }

    /// Whether a flush goes on without waiting for the disk.
    pub(super) fn flush_goes_on(&self) -> bool {
        let flush = self.flush.as_ref();
        flush.is_some_and(|flush| flush.stage == Stage::Deletes && flush.waiting == 0)
    }

    /// Counts a step and asks for it.
    pub(super) fn step(&mut self, operation: DiskOperation) {
        if let Some(flush) = &mut self.flush {
            flush.waiting += 1;
        }
        self.io.ask(operation, Purpose::FlushStep);
    }

    fn set_stage(&mut self, stage: Stage) {
        if let Some(flush) = &mut self.flush {
            flush.stage = stage;
        }
    }

    /// The first flush of a run makes the directory and removes files that no manifest names.
    fn ask_for_names(&mut self) {
        let directory = self.io.directory.clone();
        self.step(DiskOperation::CreateDirectory {
            path: directory.clone(),
        });
        self.step(DiskOperation::List {
            directory: directory.clone(),
        });
        let mut parent = directory.as_str();
        while let Some((above, _)) = parent.rsplit_once('/') {
            self.step(DiskOperation::SyncDirectory {
                path: above.to_owned(),
            });
            parent = above;
        }
        self.step(DiskOperation::SyncDirectory {
            path: String::new(),
        });
        self.set_stage(Stage::Clean);
    }

    fn remove_leftovers(&mut self, names: &[String]) {
        self.prepared = true;
        for name in names {
            let known_segment = |id| {
                self.segments.values().any(|segment| segment.id == id)
                    || self.retired.iter().any(|(_, retired)| retired == name)
            };
            let leftover = segment_of_name(name).is_some_and(|id| !known_segment(id))
                || deletes_of_name(name).is_some_and(|number| {
                    !matches!(self.deletes, Some(Deletes::File { number: current, .. }) if current == number)
                        && !self.retired.iter().any(|(_, retired)| retired == name)
                });
            if leftover {
                let path = self.io.path(name);
                self.step(DiskOperation::Remove { path });
            }
        }
    }

    /// Segments without a live message are not named by the manifest that begins now.
    /// A flush and the checkpoint behind it would let segments go.
    #[must_use]
    pub fn has_empty_segments(&self) -> bool {
        let mut segments = self.segments.values();
        segments.any(|segment| segment.live_messages == 0)
    }

    fn retire_empty_segments(&mut self) {
        let mut dead = Vec::new();
        self.segments.retain(|_, segment| {
            if segment.live_messages == 0 {
                dead.push((segment.id, segment.length, segment.wipe));
            }
            segment.live_messages > 0
        });
        for (id, length, wipe) in dead {
            self.note_retired(id, length, wipe);
            self.retired
                .push((self.manifests, super::segment::record::segment_name(id)));
        }
    }

    fn write_deletes(&mut self) {
        let Some(flush) = &mut self.flush else {
            return;
        };
        let written = flush.deletes.take().map(DeletesWriter::finish);
        let bytes = Bytes::from(written.unwrap_or_default());
        let number = flush.number;
        self.set_stage(Stage::Finish);
        let old = self.deletes.take();
        if bytes.len() <= INLINE_DELETES_BYTES {
            self.retire_deletes(old);
            self.deletes = Some(Deletes::Inline(bytes.to_vec()));
            return;
        }
        let checksum = XxHash3_64::oneshot(&bytes);
        let length = bytes.len() as u32;
        if let Some(Deletes::File {
            length: l,
            checksum: c,
            ..
        }) = &old
            && (*l, *c) == (length, checksum)
        {
            self.deletes = old;
            return;
        }
        self.retire_deletes(old);
        let file = self.io.new_file();
        let path = self.io.path(&deletes_name(number));
        self.step(DiskOperation::Create {
            file,
            path,
            preallocate: 0,
        });
        self.step(DiskOperation::Write {
            file,
            offset: 0,
            chunks: vec![bytes],
        });
        self.step(DiskOperation::Sync { file });
        self.step(DiskOperation::Close { file });
        let directory = self.io.directory.clone();
        self.step(DiskOperation::SyncDirectory { path: directory });
        self.deletes = Some(Deletes::File {
            number,
            length,
            checksum,
        });
    }

    fn retire_deletes(&mut self, old: Option<Deletes>) {
        if let Some(Deletes::File { number, .. }) = old {
            self.retired.push((self.manifests, deletes_name(number)));
        }
    }

    fn finish_flush(&mut self) {
        let Some(flush) = self.flush.take() else {
            return;
        };
        self.flushed_through = self.flushed_through.max(flush.end);
        self.read_faults = 0;
        // Ten thousand idle streams must not hold a descriptor each.
        self.io.close_all();
        let content = ManifestContent {
            number: flush.number,
            state: flush.state,
            next_segment: self.next_segment,
            segments: self.segments.clone(),
            deletes: self.deletes.clone().unwrap_or(Deletes::Inline(Vec::new())),
        };
        let bytes = Bytes::from(content.encode());
        self.events.push(StoreEvent::Flushed(Manifest {
            number: flush.number,
            bytes,
        }));
    }

    fn fail_flush(&mut self, reason: String) {
        let Some(flush) = self.flush.take() else {
            return;
        };
        // What a failed write left in a file is unknown: nothing is appended to it any more.
        if let Some(run) = flush.run {
            self.abandon_segment(&run.segment, run.is_new);
        }
        if let Some(segment) = flush.rewrite.and_then(super::rewrite::Rewrite::into_target) {
            self.abandon_segment(&segment, true);
        }
        // The file of deleted ranges may be half written: the next flush writes its own.
        if let Some(Deletes::File { number, .. }) = self.deletes
            && number == flush.number
        {
            self.retire_deletes_now(number);
        }
        self.events.push(StoreEvent::FlushFailed { reason });
    }

    fn retire_deletes_now(&mut self, number: u64) {
        self.deletes = None;
        let path = self.io.path(&deletes_name(number));
        self.io
            .ask(DiskOperation::Remove { path }, Purpose::Nothing);
    }

    fn abandon_segment(&mut self, segment: &Segment, is_new: bool) {
        if is_new {
            self.io.close_segment(segment.id);
            let path = self
                .io
                .path(&super::segment::record::segment_name(segment.id));
            self.io
                .ask(DiskOperation::Remove { path }, Purpose::Nothing);
        } else if let Some(known) = self.segments.get_mut(&segment.first_sequence) {
            known.sealed = true;
        }
    }
}

/// Runs.
impl StreamStore {
    /// Asks for the next run, or for bodies that it needs. False when there is nothing left.
    fn next_run(&mut self) -> bool {
        let candidates = self.gather();
        if candidates.is_empty() {
            return false;
        }
        if self.fetch_missing(&candidates) {
            return true;
        }
        let (segment, is_new) = self.segment_for_append(&candidates);
        let mut writer = RunWriter::new(segment, is_new, &self.settings.packing);
        let Some(flush) = &mut self.flush else {
            return false;
        };
        let bodies = std::mem::take(&mut flush.fetch.bodies);
        for candidate in &candidates {
            let fetched = bodies.get(&candidate.sequence).cloned().flatten();
            let body = candidate.body.parts().or(fetched);
            let is_gone = self.damaged.contains(candidate.sequence)
                || flush.erased.contains(&candidate.sequence);
            writer.push(candidate, body.filter(|_| !is_gone));
        }
        let run = self.write_run(writer);
        if let Some(flush) = &mut self.flush {
            flush.run = Some(run);
        }
        true
    }

    /// The messages of the next run, as they were when the flush began.
    fn gather(&self) -> Vec<Candidate> {
        let Some(flush) = self.flush.as_ref().filter(|flush| flush.next <= flush.end) else {
            return Vec::new();
        };
        let mut candidates = Vec::new();
        let mut bytes = 0;
        let mut last = flush.end;
        let _ = self.index.rows.scan_rows(flush.next, |sequence, row| {
            if sequence > flush.end {
                return ControlFlow::Break(());
            }
            if let (Some(entry), Some(body)) = (
                self.index.subjects.entry(row.subject),
                self.tail.get(row.location),
            ) {
                let subject = entry.name().clone();
                bytes += record_length(subject.len(), row.length.bytes());
                let body = body.clone();
                let (time_ns, length) = (row.time_ns, row.length);
                candidates.push(Candidate {
                    sequence,
                    time_ns,
                    subject,
                    length,
                    body,
                });
            }
            if bytes >= RUN_BYTES || candidates.len() >= RUN_MESSAGES {
                last = sequence;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        let mut removed = 0;
        for (sequence, candidate) in flush.retained.range(flush.next..=last) {
            removed += record_length(candidate.subject.len(), candidate.length.bytes());
            candidates.push(candidate.clone());
            if removed >= RUN_BYTES || candidates.len() >= 2 * RUN_MESSAGES {
                last = *sequence;
                break;
            }
        }
        candidates.retain(|candidate| candidate.sequence <= last);
        candidates.sort_by_key(|candidate| candidate.sequence);
        candidates
    }

    /// Asks for bodies that are only in the journal; false when all are at hand.
    fn fetch_missing(&mut self, candidates: &[Candidate]) -> bool {
        let Some(flush) = &mut self.flush else {
            return false;
        };
        let mut reads: Vec<(u64, u64, u64, Vec<Candidate>)> = Vec::new();
        for candidate in candidates {
            let Body::Journal {
                position, length, ..
            } = &candidate.body
            else {
                continue;
            };
            let known = flush.fetch.bodies.contains_key(&candidate.sequence)
                || self.damaged.contains(candidate.sequence);
            if known {
                continue;
            }
            let end = position.offset + u64::from(*length);
            match reads.last_mut() {
                Some((file, start, stop, list))
                    if *file == position.file
                        && position.offset >= *start
                        && end - *start <= FETCH_BYTES =>
                {
                    *stop = end.max(*stop);
                    list.push(candidate.clone());
                }
                _ => reads.push((position.file, position.offset, end, vec![candidate.clone()])),
            }
        }
        for (file, start, stop, list) in &reads {
            let source = Source::Journal(*file);
            flush.waiting += 1;
            flush.fetch.wanted.insert((source, *start), list.clone());
            let length = u32::try_from(stop - start).unwrap_or(u32::MAX);
            let purpose = Purpose::FlushRead {
                source,
                start: *start,
            };
            self.io.read(source, *start, length, purpose);
        }
        !reads.is_empty()
    }

    fn segment_for_append(&mut self, candidates: &[Candidate]) -> (Segment, bool) {
        if let Some((_, last)) = self.segments.last_key_value()
            && !last.sealed
            && last.length < SEGMENT_BYTES
            && last.packed == self.settings.packing.is_packed()
            && last.key == self.settings.packing.keys.current()
        {
            return (last.clone(), false);
        }
        let first = candidates.first().map_or(0, |candidate| candidate.sequence);
        (self.new_segment(first), true)
    }

    /// A segment with nothing in it yet.
    pub(super) fn new_segment(&mut self, first_sequence: u64) -> Segment {
        let id = self.next_segment;
        self.next_segment += 1;
        let seed = XxHash3_64::oneshot_with_seed(self.settings.seed, &id.to_le_bytes());
        Segment {
            id,
            seed,
            first_sequence,
            last_sequence: first_sequence,
            length: 0,
            sealed: false,
            packed: self.settings.packing.is_packed(),
            key: self.settings.packing.keys.current(),
            unpacked_bytes: 0,
            wipe: false,
            last_block: BlockPlace {
                chain: seed,
                ..BlockPlace::default()
            },
            live_messages: 0,
            live_bytes: 0,
        }
    }

    /// Asks for the writing and syncing of a run.
    pub(super) fn write_run(&mut self, writer: RunWriter) -> Run {
        let offset = writer.offset();
        let (run, bytes) = writer.finish();
        let was_new = run.is_new && offset == 0;
        let id = run.segment.id;
        let mut chunks = vec![Bytes::from(bytes)];
        if was_new {
            chunks.insert(0, Bytes::from(file_header(id, run.segment.seed)));
        }
        let file = if was_new {
            if let Some(flush) = &mut self.flush {
                flush.waiting += 1;
            }
            self.appendable = Some(id);
            self.io.create_segment(id)
        } else {
            self.io.segment_file(id)
        };
        if self.appendable != Some(id) {
            // Bytes of an earlier run of the server that no manifest names.
            self.step(DiskOperation::Truncate {
                file,
                length: offset,
            });
            self.appendable = Some(id);
        }
        self.step(DiskOperation::Write {
            file,
            offset,
            chunks,
        });
        self.step(DiskOperation::Sync { file });
        if was_new {
            let directory = self.io.directory.clone();
            self.step(DiskOperation::SyncDirectory { path: directory });
        }
        run
    }

    /// The run on its way is synced: its messages are in the segment now.
    fn complete_run(&mut self) {
        let Some(mut run) = self.flush.as_mut().and_then(|flush| flush.run.take()) else {
            return;
        };
        for (sequence, offset, length) in &run.rows {
            if let Some(row) = self.index.rows.get(*sequence) {
                self.tail.remove(row.location);
                self.index.rows.set_location(*sequence, *offset);
                run.segment.live_messages += 1;
                run.segment.live_bytes += length;
            }
        }
        let (last, id) = (run.segment.last_sequence, run.segment.id);
        self.segments
            .insert(run.segment.first_sequence, run.segment);
        self.flushed_through = last;
        let mut erase = BTreeSet::new();
        if let Some(flush) = &mut self.flush {
            flush.next = last + 1;
            flush.retained = flush.retained.split_off(&(last + 1));
            erase = std::mem::take(&mut flush.erase);
        }
        self.note_packs(id, &run.packs);
        for (sequence, offset, length) in run.rows {
            if erase.contains(&sequence) {
                self.overwrite(sequence, id, offset, length);
            }
        }
    }
}

fn body_from(body: &Body, start: u64, data: &Bytes) -> Option<(Bytes, Bytes)> {
    let Body::Journal {
        position, length, ..
    } = body
    else {
        return None;
    };
    let from = usize::try_from(position.offset.checked_sub(start)?).ok()?;
    let to = from.checked_add(*length as usize)?;
    if to > data.len() {
        return None;
    }
    body.verify(&data.slice(from..to))
}
