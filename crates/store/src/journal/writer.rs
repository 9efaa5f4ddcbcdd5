//! The group commit policy: takes all that is queued, writes it as one frame, syncs once, and says
//! what became durable. Which file is written is `files.rs`, which may go `retention.rs`.

use super::file::FIRST_FRAME_OFFSET;
use super::files::{FileOutcome, Ids, JournalFiles};
use super::frame::{self, FLAG_IDLE, FrameHead};
use super::record::VOTE_BYTES;
use super::retention::{HardStates, Retention};
use super::retiring::Retiring;
use super::{
    Durability, GroupId, JournalEvent, JournalPosition, JournalSettings, Record, RecordKind,
    RecordTicket, SyncMode,
};
use crate::disk::{DiskCompletion, DiskOperation, DiskRequest, FileId, Lane, Token};
use millrace_clock::Now;
use std::collections::VecDeque;

/// Frames that may be written or synced at the same time.
const MAX_FRAMES_IN_FLIGHT: usize = 2;

/// While the disk is full, this often space is asked for, and of groups that pin the oldest file a
/// checkpoint.
const FULL_ASK_NS: u64 = 5_000_000_000;

#[derive(Debug)]
struct Queued {
    record: Record,
    ticket: RecordTicket,
    durability: Durability,
}

/// What has to be known of a record once it is durable.
#[derive(Debug)]
struct Written {
    ticket: RecordTicket,
    group: GroupId,
    kind: RecordKind,
    offset: u64,
}

/// A frame whose write or sync is under way.
#[derive(Debug)]
struct InFlight {
    number: u64,
    file: u64,
    write: Option<Token>,
    sync: Option<Token>,
    /// The frame is synced once done, not only written.
    synced: bool,
    records: Vec<Written>,
}

/// A sync on the interval.
#[derive(Debug, Default)]
struct Interval {
    /// The oldest frame not synced has to be by then.
    deadline_ns: Option<u64>,
    /// The sync under way and the frame up to which it reaches.
    under_way: Option<(Token, u64)>,
}

/// The open journal. Made by [`super::Recovery`].
#[derive(Debug)]
pub struct Journal {
    settings: JournalSettings,
    ids: Ids,
    pub(super) files: JournalFiles,
    retention: Retention,
    retiring: Retiring,
    hard_states: HardStates,
    queue: VecDeque<Queued>,
    queued_bytes: u64,
    queued_urgent: usize,
    lazy_deadline_ns: Option<u64>,
    last_ticket: u64,
    in_flight: VecDeque<InFlight>,
    /// Durable frames whose records retention does not know yet: not synced.
    unretained: VecDeque<InFlight>,
    next_frame: u64,
    /// The highest frame known to be synced.
    synced_through: u64,
    /// The last frame that was written holds nothing that needs proof.
    last_is_idle: bool,
    idle_deadline_ns: Option<u64>,
    interval: Interval,
    /// Events raised outside of `complete`.
    pending_events: Vec<JournalEvent>,
    /// Requests raised in `complete`.
    pending_requests: Vec<DiskRequest>,
    asked_for_checkpoint: u64,
    /// While the disk is full, groups are asked to checkpoint again from then on.
    full_ask_ns: u64,
    /// A frame is due and no file takes it: the disk is full or the next file is on its way.
    stalled: bool,
    failed: bool,
}

/// What recovery hands over.
pub(super) struct OpenJournal {
    pub settings: JournalSettings,
    pub ids: Ids,
    pub files: JournalFiles,
    pub retention: Retention,
    pub retiring: Retiring,
    pub hard_states: HardStates,
    pub next_frame: u64,
}

impl Journal {
    pub(super) fn open(open: OpenJournal) -> Self {
        let is_full = open.files.is_full();
        Self {
            settings: open.settings,
            ids: open.ids,
            files: open.files,
            retention: open.retention,
            retiring: open.retiring,
            hard_states: open.hard_states,
            queue: VecDeque::new(),
            queued_bytes: 0,
            queued_urgent: 0,
            lazy_deadline_ns: None,
            last_ticket: 0,
            in_flight: VecDeque::new(),
            unretained: VecDeque::new(),
            next_frame: open.next_frame,
            synced_through: open.next_frame - 1,
            last_is_idle: false,
            idle_deadline_ns: Some(0),
            interval: Interval::default(),
            pending_events: is_full.then_some(JournalEvent::Full).into_iter().collect(),
            pending_requests: Vec::new(),
            asked_for_checkpoint: 0,
            full_ask_ns: 0,
            stalled: false,
            failed: false,
        }
    }

    /// Queues a record. It becomes durable after [`Self::poll`] and the disk have done their work;
    /// [`JournalEvent::Durable`] tells.
    pub fn append(&mut self, record: Record, durability: Durability) -> RecordTicket {
        let group = record.group;
        let kind = record.kind;
        let ticket = self.enqueue(record, durability);
        match kind {
            RecordKind::HardState(state) => self.hard_states.set(group, state),
            RecordKind::GroupRemoved => self.hard_states.remove(group),
            RecordKind::Checkpoint { .. } => {
                if let Some(state) = self.hard_states.get(group) {
                    let kind = RecordKind::HardState(state);
                    let copy = Record {
                        group,
                        kind,
                        payload: bytes::Bytes::new(),
                    };
                    self.enqueue(copy, Durability::Lazy);
                }
            }
            _ => {}
        }
        ticket
    }

    /// Something of this group was erased, and every file written so far may hold a copy of it: all of
    /// them are to go, soon. [`JournalEvent::Erased`] tells when they are gone; a start that finds
    /// it undone takes it up again. Gives the record that says so.
    pub fn erase(&mut self, group: GroupId) -> RecordTicket {
        // One with nothing queued behind it says it for all before.
        let last = self.queue.back().map(|queued| queued.ticket);
        if let Some(last) = last.filter(|last| self.retiring.wanted() == Some(*last)) {
            return last;
        }
        let kind = RecordKind::Erase;
        let payload = bytes::Bytes::new();
        let record = Record {
            group,
            kind,
            payload,
        };
        let ticket = self.enqueue(record, Durability::Now);
        self.retiring.want(ticket);
        ticket
    }

    /// Files still hold what was erased.
    #[must_use]
    pub fn is_erasing(&self) -> bool {
        !self.retiring.is_at_rest()
    }

    fn first_queued(&self) -> Option<RecordTicket> {
        self.queue.front().map(|queued| queued.ticket)
    }

    fn enqueue(&mut self, record: Record, durability: Durability) -> RecordTicket {
        self.last_ticket += 1;
        let ticket = RecordTicket(self.last_ticket);
        self.queued_bytes += record_bytes(&record);
        self.queued_urgent += usize::from(durability == Durability::Now);
        self.queue.push_back(Queued {
            record,
            ticket,
            durability,
        });
        ticket
    }

    /// Asks the disk for what is to be done now. Call after a turn's appends, after
    /// [`Self::complete`], and at [`Self::next_deadline`].
    pub fn poll(&mut self, now: Now, out: &mut Vec<DiskRequest>) {
        if self.failed {
            return;
        }
        out.append(&mut self.pending_requests);
        self.note_lazy(now);
        self.stalled = false;
        self.retire(now, out);
        while self.frame_is_due(now) {
            if self.retiring.is_sealing() {
                self.stalled = true;
                break;
            }
            let (count, length) = self.next_frame_size();
            if !self.make_room(length, out) {
                self.stalled = true;
                break;
            }
            self.write_frame(now, count, 0, out);
        }
        // Zeros in the way are a matter of a moment, and of no use to a full disk.
        let length = self.next_frame_size().1;
        let exhausted = (self.stalled && !self.fits(length)).then_some(length);
        self.files.poll(
            now,
            &self.settings,
            exhausted,
            self.oldest_kept(),
            &mut self.ids,
            out,
            &mut self.pending_events,
        );
        self.sync_on_interval(now, out);
        self.prove_when_idle(now, out);
        let is_quiet = self.is_quiet();
        self.files
            .fill(now, &self.settings, is_quiet, &mut self.ids, out);
    }

    /// Little is on its way: there is time for what makes later frames faster.
    fn is_quiet(&self) -> bool {
        self.queued_bytes < self.settings.pipeline_bytes
            && self.in_flight.len() < MAX_FRAMES_IN_FLIGHT
    }

    /// Makes what waits for a frame due at once: the server stops. Follow with [`Self::poll`].
    pub fn hurry(&mut self) {
        if !self.queue.is_empty() {
            self.lazy_deadline_ns = Some(0);
        }
    }

    fn note_lazy(&mut self, now: Now) {
        if self.queue.is_empty() {
            self.lazy_deadline_ns = None;
        } else if self.lazy_deadline_ns.is_none() {
            self.lazy_deadline_ns = Some(now.after_ns(self.settings.lazy_ns));
        }
    }

    fn frame_is_due(&self, now: Now) -> bool {
        let room = match self.in_flight.len() {
            0 => true,
            in_flight => {
                in_flight < MAX_FRAMES_IN_FLIGHT
                    && self.queued_bytes >= self.settings.pipeline_bytes
            }
        };
        let lazy_due = self
            .lazy_deadline_ns
            .is_some_and(|due| due <= now.monotonic_ns);
        let large = self.queued_bytes >= self.settings.pipeline_bytes;
        room && !self.queue.is_empty() && (self.queued_urgent > 0 || lazy_due || large)
    }

    /// How many queued records go into the next frame, and its length.
    fn next_frame_size(&self) -> (usize, u64) {
        let (mut count, mut bytes) = (0, 0);
        let active = &self.files.active;
        let room = active.bytes.saturating_sub(active.offset);
        // On a full disk the rest of a file is worth a frame of its own.
        let leaves = |count, bytes, more| {
            self.files.is_full()
                && frame::frame_length(count, bytes) <= room
                && frame::frame_length(count + 1, bytes + more) > room
        };
        for queued in &self.queue {
            let more = stored_length(&queued.record);
            let is_enough = bytes + more > self.settings.frame_bytes || leaves(count, bytes, more);
            if count > 0 && is_enough {
                break;
            }
            count += 1;
            bytes += more;
        }
        (count, frame::frame_length(count, bytes))
    }

    fn fits(&self, length: u64) -> bool {
        let active = &self.files.active;
        // A frame larger than a whole file gets one to itself; a short one is for a full disk.
        let is_whole = active.bytes >= self.settings.file_bytes;
        active.offset + length <= active.bytes || (is_whole && active.offset == FIRST_FRAME_OFFSET)
    }

    /// Does what is due of what an erase asks for (`retiring.rs`).
    fn retire(&mut self, now: Now, out: &mut Vec<DiskRequest>) {
        // A full disk may not give back what is let go for a clean file.
        if !self.files.is_full() {
            self.retiring.begin(now, self.first_queued());
        }
        self.files.is_retiring = !self.retiring.is_at_rest();
        if !self.retiring.is_under_way() {
            return;
        }
        if !self.files.is_full() && self.files.clean(&mut self.ids, out) {
            self.retiring.cleaned();
        }
        let at_rest = self.in_flight.is_empty() && self.interval.under_way.is_none();
        if !self.retiring.is_sealing() || !at_rest {
            return;
        }
        if self.synced_through + 1 < self.next_frame {
            self.start_interval_sync(out);
            return;
        }
        let number = self.files.active.number;
        if self.files.roll() {
            let first = self.first_queued();
            self.retiring.sealed(number, first);
        }
    }

    /// The oldest file that is needed.
    fn oldest_kept(&self) -> Option<u64> {
        let needed = self.retention.oldest_needed();
        // A full disk needs the room more than a start needs to know.
        match self
            .retiring
            .lowest_kept()
            .filter(|_| !self.files.is_full())
        {
            Some(kept) => Some(kept.min(needed.unwrap_or(self.files.active.number))),
            None => needed,
        }
    }

    /// Asks the groups that keep files which are to go, and notes when all are gone.
    fn ask_for_retirement(&mut self, now: Now, events: &mut Vec<JournalEvent>) {
        let Some((through, is_due)) = self.retiring.leaving(now) else {
            return;
        };
        if self.files.are_gone(through) {
            events.extend(self.retiring.end());
            return;
        }
        let groups = self.retention.pinning(through);
        if is_due && !groups.is_empty() {
            events.push(JournalEvent::NeedCheckpoint { groups });
        }
    }

    /// Makes sure that the active file takes a frame of this length; `false`: not yet.
    fn make_room(&mut self, length: u64, out: &mut Vec<DiskRequest>) -> bool {
        if self.fits(length) {
            return !self.files.is_filled_at(length);
        }
        if !self.in_flight.is_empty() || self.interval.under_way.is_some() {
            return false;
        }
        if self.synced_through + 1 < self.next_frame {
            // A sealed file is synced to its end.
            self.start_interval_sync(out);
            return false;
        }
        if !self.files.roll() {
            return false;
        }
        self.ask_for_checkpoints();
        !self.files.is_filled_at(length)
    }

    fn ask_for_checkpoints(&mut self) {
        let (_, groups) = self.pressure();
        let above = self.files.is_full() || self.disk_bytes() > self.settings.budget_bytes;
        if above && !groups.is_empty() && self.asked_for_checkpoint < self.files.active.number {
            self.asked_for_checkpoint = self.files.active.number;
            self.pending_events
                .push(JournalEvent::NeedCheckpoint { groups });
        }
    }

    fn write_frame(&mut self, now: Now, count: usize, flags: u16, out: &mut Vec<DiskRequest>) {
        let queued: Vec<Queued> = self.queue.drain(..count).collect();
        let urgent = |queued: &Queued| queued.durability == Durability::Now;
        let must_sync = self.settings.sync == SyncMode::Always
            || flags & FLAG_IDLE != 0
            || queued
                .iter()
                .any(|queued| urgent(queued) && is_hard_state(queued.record.kind));
        self.queued_urgent -= queued.iter().filter(|queued| urgent(queued)).count();
        let bytes: u64 = queued
            .iter()
            .map(|queued| record_bytes(&queued.record))
            .sum();
        self.queued_bytes -= bytes;
        self.lazy_deadline_ns = None;
        self.note_lazy(now);
        let (tickets, records): (Vec<RecordTicket>, Vec<Record>) = queued
            .into_iter()
            .map(|queued| (queued.ticket, queued.record))
            .unzip();
        let active = &self.files.active;
        let number = self.next_frame;
        self.next_frame += 1;
        let head = FrameHead {
            flags,
            epoch: active.epoch,
            number,
            durable_through: self.synced_through,
            run_place: 0,
        };
        let key = active.key.as_ref();
        let encoded = frame::encode_sealed(head, active.offset, &records, key);
        let (file, id, offset) = (active.number, active.id, active.offset);
        self.files.place_frame(encoded.length);
        let written = tickets.iter().zip(&records).zip(&encoded.payload_offsets);
        let records = written.map(|((ticket, record), offset)| Written {
            ticket: *ticket,
            group: record.group,
            kind: record.kind,
            offset: *offset,
        });
        let records = records.collect();
        let write = DiskOperation::Write {
            file: id,
            offset,
            chunks: encoded.chunks,
        };
        let write = Some(self.ids.ask(Lane::Journal, write, out));
        let sync = must_sync.then(|| {
            self.ids
                .ask(Lane::Journal, DiskOperation::Sync { file: id }, out)
        });
        let idle = flags & FLAG_IDLE != 0;
        let frame = InFlight {
            number,
            file,
            write,
            sync,
            synced: must_sync,
            records,
        };
        self.in_flight.push_back(frame);
        self.idle_deadline_ns = None;
        self.last_is_idle = idle;
    }

    fn sync_on_interval(&mut self, now: Now, out: &mut Vec<DiskRequest>) {
        let due = self
            .interval
            .deadline_ns
            .is_some_and(|due| due <= now.monotonic_ns);
        if due && self.interval.under_way.is_none() {
            self.start_interval_sync(out);
        }
    }

    fn start_interval_sync(&mut self, out: &mut Vec<DiskRequest>) {
        self.interval.deadline_ns = None;
        let file = self.files.active.id;
        let token = self
            .ids
            .ask(Lane::Journal, DiskOperation::Sync { file }, out);
        self.interval.under_way = Some((token, self.next_frame - 1));
    }

    fn prove_when_idle(&mut self, now: Now, out: &mut Vec<DiskRequest>) {
        let due = self
            .idle_deadline_ns
            .is_some_and(|due| due <= now.monotonic_ns);
        if !due || !self.is_idle() {
            return;
        }
        let length = frame::frame_length(0, 0);
        if self.make_room(length, out) {
            self.write_frame(now, 0, FLAG_IDLE, out);
        } else if self.fits(length) {
            self.idle_deadline_ns = Some(now.after_ns(self.settings.idle_frame_ns));
        } else {
            // The first frame of the next file will prove it.
            self.idle_deadline_ns = None;
        }
    }

    fn is_idle(&self) -> bool {
        let all_synced = self.synced_through + 1 == self.next_frame;
        self.queue.is_empty() && self.in_flight.is_empty() && all_synced && !self.last_is_idle
    }

    /// Takes the end of a request of this journal ([`Token::is_journal`]).
    pub fn complete(
        &mut self,
        now: Now,
        completion: DiskCompletion,
        events: &mut Vec<JournalEvent>,
    ) {
        if self.failed {
            return;
        }
        events.append(&mut self.pending_events);
        let DiskCompletion { token, result } = completion;
        let error = result.err();
        let failure = match self.complete_frame(token, error.as_ref()) {
            FileOutcome::NotMine => self.files.complete(
                now,
                token,
                error.as_ref(),
                &self.settings,
                &mut self.ids,
                &mut self.pending_requests,
                events,
            ),
            other => other,
        };
        if let FileOutcome::Broken(reason) = failure {
            self.failed = true;
            self.queue.clear();
            self.in_flight.clear();
            events.push(JournalEvent::Failed { reason });
            return;
        }
        self.release(now, events);
        self.ask_while_full(now, events);
        self.ask_for_retirement(now, events);
        events.append(&mut self.pending_events);
    }

    /// What the oldest files hold may find room elsewhere, or be deleted by now; then it makes room.
    fn ask_while_full(&mut self, now: Now, events: &mut Vec<JournalEvent>) {
        if !self.files.is_full() || now.monotonic_ns < self.full_ask_ns {
            return;
        }
        self.full_ask_ns = now.after_ns(FULL_ASK_NS);
        events.push(JournalEvent::SpaceWanted);
        let (_, groups) = self.pressure();
        if !groups.is_empty() {
            events.push(JournalEvent::NeedCheckpoint { groups });
        }
    }

    fn complete_frame(
        &mut self,
        token: Token,
        error: Option<&crate::disk::DiskError>,
    ) -> FileOutcome {
        let interval = self.interval.under_way.filter(|(asked, _)| *asked == token);
        let frame = self
            .in_flight
            .iter_mut()
            .find(|frame| frame.write == Some(token) || frame.sync == Some(token));
        if let (None, None) = (interval, &frame) {
            return FileOutcome::NotMine;
        }
        if let Some(error) = error {
            return FileOutcome::Broken(format!("writing the journal: {error}"));
        }
        if let Some((_, through)) = interval {
            self.interval.under_way = None;
            self.synced_through = self.synced_through.max(through);
        }
        if let Some(frame) = frame {
            if frame.write == Some(token) {
                frame.write = None;
            } else {
                frame.sync = None;
            }
        }
        FileOutcome::Fine
    }

    /// Tells what is durable, in order.
    fn release(&mut self, now: Now, events: &mut Vec<JournalEvent>) {
        while self
            .in_flight
            .front()
            .is_some_and(|frame| frame.write.is_none() && frame.sync.is_none())
        {
            let Some(frame) = self.in_flight.pop_front() else {
                break;
            };
            if frame.synced {
                // A sync covers all that was written to the file before it.
                self.synced_through = self.synced_through.max(frame.number);
                self.interval.deadline_ns = None;
            } else if let (SyncMode::Interval(every_ns), None) =
                (self.settings.sync, self.interval.deadline_ns)
            {
                self.interval.deadline_ns = Some(now.after_ns(every_ns));
            }
            tell_durable(&frame, events);
            self.unretained.push_back(frame);
        }
        self.retain_synced();
        if self.is_idle() && self.idle_deadline_ns.is_none() {
            self.idle_deadline_ns = Some(now.after_ns(self.settings.idle_frame_ns));
        }
    }

    /// A checkpoint may let go of old files only once it is synced itself, also when written counts
    /// as durable.
    fn retain_synced(&mut self) {
        while self
            .unretained
            .front()
            .is_some_and(|frame| frame.number <= self.synced_through)
        {
            let Some(frame) = self.unretained.pop_front() else {
                break;
            };
            let file = frame.file;
            for record in &frame.records {
                let group = record.group;
                match record.kind {
                    RecordKind::Entry { index, .. }
                    | RecordKind::EntryByReference { index, .. } => {
                        self.retention.entry(group, index, file);
                    }
                    RecordKind::HardState(_) => self.retention.hard_state(group, file),
                    RecordKind::Checkpoint { index, .. } => {
                        self.retention.checkpoint(group, index, file);
                    }
                    RecordKind::GroupRemoved => self.retention.remove(group),
                    RecordKind::Erase => {}
                }
            }
        }
    }

    /// When to call [`Self::poll`] next, if nothing else happens. Monotonic nanoseconds.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        if self.failed {
            return None;
        }
        let may_write = self.in_flight.is_empty() && !self.stalled;
        let lazy = self.lazy_deadline_ns.filter(|_| may_write);
        let idle = self.idle_deadline_ns.filter(|_| self.is_idle());
        let interval = self
            .interval
            .deadline_ns
            .filter(|_| self.interval.under_way.is_none());
        let fill = self.files.fill_deadline(&self.settings);
        [
            lazy,
            idle,
            interval,
            fill.filter(|_| self.is_quiet()),
            self.retiring.deadline().filter(|_| !self.files.is_full()),
            self.files.next_deadline(&self.settings),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// A read of a payload that lies in the journal. The completion carries the caller's `token`
    /// and belongs to the caller, who then calls [`Self::read_done`]; until then the file stays.
    /// `None` when the file is gone.
    pub fn read(
        &mut self,
        token: Token,
        position: JournalPosition,
        length: u32,
    ) -> Option<DiskRequest> {
        let file = self.files.find(position.file)?;
        file.readers += 1;
        let offset = position.offset;
        let operation = DiskOperation::Read {
            file: file.id,
            offset,
            length,
        };
        Some(DiskRequest {
            token,
            lane: Lane::Read,
            operation,
        })
    }

    /// Ends a read begun with [`Self::read`].
    pub fn read_done(&mut self, file: u64) {
        if let Some(file) = self.files.find(file) {
            file.readers = file.readers.saturating_sub(1);
        }
    }

    /// The open file behind a journal file number.
    #[must_use]
    pub fn file_id(&self, file: u64) -> Option<FileId> {
        if self.files.active.number == file {
            return Some(self.files.active.id);
        }
        self.files
            .sealed
            .iter()
            .find(|sealed| sealed.number == file)
            .map(|sealed| sealed.id)
    }

    /// The number of the oldest file, and which groups keep it. No groups while it is the active
    /// one.
    #[must_use]
    pub fn pressure(&self) -> (u64, Vec<GroupId>) {
        match self.files.sealed.front() {
            Some(oldest) => (oldest.number, self.retention.pinning(oldest.number)),
            None => (self.files.active.number, Vec::new()),
        }
    }

    /// Bytes of journal files on disk, the prepared one and the reserve included.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.files.disk_bytes(&self.settings)
    }

    /// A write or sync failed: this journal does nothing any more.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.failed
    }

    /// Records queued or in flight, for limits upstream.
    #[must_use]
    pub fn backlog_bytes(&self) -> u64 {
        self.queued_bytes
    }
}

fn tell_durable(frame: &InFlight, events: &mut Vec<JournalEvent>) {
    let file = frame.file;
    for record in &frame.records {
        if let RecordKind::Entry { .. } | RecordKind::EntryByReference { .. } = record.kind {
            let position = JournalPosition {
                file,
                offset: record.offset,
            };
            events.push(JournalEvent::Located {
                ticket: record.ticket,
                position,
            });
        }
    }
    if let Some(last) = frame.records.last() {
        events.push(JournalEvent::Durable {
            through: last.ticket,
        });
    }
}

fn is_hard_state(kind: RecordKind) -> bool {
    matches!(kind, RecordKind::HardState(_))
}

fn stored_length(record: &Record) -> u64 {
    match record.kind {
        RecordKind::HardState(_) => VOTE_BYTES,
        RecordKind::GroupRemoved | RecordKind::Erase => 0,
        _ => record.payload.len() as u64,
    }
}

fn record_bytes(record: &Record) -> u64 {
    stored_length(record) + super::record::RECORD_HEAD_BYTES as u64
}
