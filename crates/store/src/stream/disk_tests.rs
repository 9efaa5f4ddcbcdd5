//! The store on a small disk in memory: flushes at random moments, crashes that lose what was not
//! synced, damage, eviction to the journal. After each, it must be what a sorted map says.

use super::index_tests::check_index;
use super::model::{Model, Operation};
use super::*;
use crate::disk::{DiskError, DiskOperation, DiskReply, DiskRequest, FileId};
use crate::ids::IdSpace;
use crate::journal::JournalPosition;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::VecDeque;

#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) content: Vec<u8>,
    pub(super) synced: Vec<u8>,
}

/// Files by path, and a journal of one file.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) files: BTreeMap<String, File>,
    open: BTreeMap<FileId, String>,
    journal: Vec<u8>,
    pub(super) reads: u64,
    journal_reads: u64,
    fail_writes: bool,
    /// So many reads fail next.
    pub(super) fail_reads: u32,
}

impl Disk {
    fn run(&mut self, request: DiskRequest) -> DiskCompletion {
        DiskCompletion {
            token: request.token,
            result: self.operate(request.operation),
        }
    }

    fn operate(&mut self, operation: DiskOperation) -> Result<DiskReply, DiskError> {
        match operation {
            DiskOperation::List { directory } => {
                let prefix = format!("{directory}/");
                let names = self
                    .files
                    .keys()
                    .filter_map(|path| path.strip_prefix(&prefix));
                return Ok(DiskReply::Names(names.map(str::to_owned).collect()));
            }
            DiskOperation::Create { file, path, .. } => {
                if self.files.contains_key(&path) {
                    return Err(DiskError::AlreadyExists(path));
                }
                self.files.insert(path.clone(), File::default());
                self.open.insert(file, path);
            }
            DiskOperation::Open { file, path } => {
                let length = self
                    .files
                    .get(&path)
                    .ok_or_else(|| DiskError::NotFound(path.clone()))?
                    .content
                    .len();
                self.open.insert(file, path);
                return Ok(DiskReply::Opened {
                    length: length as u64,
                });
            }
            DiskOperation::Write {
                file,
                offset,
                chunks,
            } => self.write(file, offset, &chunks)?,
            DiskOperation::Sync { file } => {
                let file = self.file(file)?;
                file.synced = file.content.clone();
            }
            DiskOperation::Read {
                file,
                offset,
                length,
            } => return self.read(file, offset, length),
            DiskOperation::Truncate { file, length } => {
                self.file(file)?.content.truncate(length as usize)
            }
            DiskOperation::Close { file } => {
                self.open.remove(&file);
            }
            DiskOperation::Remove { path } => {
                self.files.remove(&path);
            }
            DiskOperation::Rename { from, to } => {
                let file = self.files.remove(&from).ok_or(DiskError::NotFound(from))?;
                self.files.insert(to, file);
            }
            _ => {}
        }
        Ok(DiskReply::Done)
    }

    fn write(&mut self, file: FileId, offset: u64, chunks: &[Bytes]) -> Result<(), DiskError> {
        if self.fail_writes {
            return Err(DiskError::NoSpace);
        }
        let content = &mut self.file(file)?.content;
        let mut at = offset as usize;
        for chunk in chunks {
            let end = at + chunk.len();
            content.resize(content.len().max(end), 0);
            content[at..end].copy_from_slice(chunk);
            at = end;
        }
        Ok(())
    }

    fn read(&mut self, file: FileId, offset: u64, length: u32) -> Result<DiskReply, DiskError> {
        self.reads += 1;
        if self.fail_reads > 0 {
            self.fail_reads -= 1;
            return Err(DiskError::Other("a passing fault".into()));
        }
        let content = &self.file(file)?.content;
        let start = (offset as usize).min(content.len());
        let end = (start + length as usize).min(content.len());
        Ok(DiskReply::Data(Bytes::copy_from_slice(
            &content[start..end],
        )))
    }

    fn file(&mut self, file: FileId) -> Result<&mut File, DiskError> {
        let path = self
            .open
            .get(&file)
            .ok_or_else(|| DiskError::NotFound("closed".into()))?;
        self.files
            .get_mut(path)
            .ok_or_else(|| DiskError::NotFound("removed".into()))
    }

    /// Power loss: what was not synced is gone or garbage.
    fn crash(&mut self) {
        self.open.clear();
        for file in self.files.values_mut() {
            let garbage = file.content.len().saturating_sub(file.synced.len()) / 2;
            file.content = file.synced.clone();
            file.content.extend(std::iter::repeat_n(0x5a, garbage));
        }
    }
}

/// A store, its disk, the model, and the log that would be replayed.
pub(super) struct World {
    pub(super) disk: Disk,
    pub(super) store: StreamStore,
    pub(super) model: Model,
    log: Vec<(Operation, Option<JournalPosition>)>,
    /// The last durable checkpoint: manifest and log length.
    checkpoint: Option<(Manifest, usize)>,
    /// A checkpoint record on its way.
    written: Option<(Manifest, usize)>,
    delay_checkpoints: bool,
    flush_from: usize,
    queue: VecDeque<DiskRequest>,
    pub(super) events: Vec<StoreEvent>,
    share: MemoryShare,
    pub(super) packing: Packing,
    runs: u32,
}

impl World {
    pub(super) fn new(share: MemoryShare) -> Self {
        Self::with_packing(share, Packing::default())
    }

    pub(super) fn with_packing(share: MemoryShare, packing: Packing) -> Self {
        Self {
            disk: Disk::default(),
            store: StreamStore::new(Self::settings(share, &packing, 1)),
            model: Model {
                file: true,
                ..Model::default()
            },
            log: Vec::new(),
            checkpoint: None,
            written: None,
            delay_checkpoints: false,
            flush_from: 0,
            queue: VecDeque::new(),
            events: Vec::new(),
            share,
            packing,
            runs: 1,
        }
    }

    fn settings(share: MemoryShare, packing: &Packing, run: u32) -> StoreSettings {
        StoreSettings {
            share,
            packing: packing.clone(),
            ..StoreSettings::file("streams/1", IdSpace::new(run), 42)
        }
    }

    pub(super) fn apply(&mut self, operation: Operation) {
        let position = self.journal(&operation);
        operation.apply(&mut self.store, &self.model, position);
        operation.apply_to_model(&mut self.model);
        self.log.push((operation, position));
    }

    fn journal(&mut self, operation: &Operation) -> Option<JournalPosition> {
        let Operation::Append(message) = operation else {
            return None;
        };
        self.disk
            .journal
            .extend_from_slice(b"noise between records");
        let offset = self.disk.journal.len() as u64;
        self.disk.journal.extend_from_slice(&message.headers);
        self.disk.journal.extend_from_slice(&message.payload);
        Some(JournalPosition { file: 1, offset })
    }

    pub(super) fn append(&mut self, subject: &'static str, payload: usize) {
        let sequence = self.model.last_sequence + 1;
        let payload = (0..payload)
            .map(|at| (at as u64 * 7 + sequence) as u8)
            .collect();
        let time_ns = self.model.last_time_ns + 1;
        let message = StoredMessage {
            sequence,
            time_ns,
            subject: subject.into(),
            headers: Bytes::from_static(b"h"),
            payload,
        };
        self.apply(Operation::Append(message));
    }

    /// Carries out at most `limit` requests.
    pub(super) fn turn(&mut self, limit: usize) -> bool {
        self.store.turn();
        let mut asked = StoreRequests::default();
        self.store.poll(&mut asked);
        self.queue.extend(asked.disk);
        for read in asked.journal {
            self.disk.journal_reads += 1;
            let start = (read.position.offset as usize).min(self.disk.journal.len());
            let end = (start + read.length as usize).min(self.disk.journal.len());
            let data = Bytes::copy_from_slice(&self.disk.journal[start..end]);
            self.store.complete(DiskCompletion {
                token: read.token,
                result: Ok(DiskReply::Data(data)),
            });
        }
        for _ in 0..limit {
            let Some(request) = self.queue.pop_front() else {
                break;
            };
            let completion = self.disk.run(request);
            self.store.complete(completion);
        }
        let mut events = Vec::new();
        self.store.take_events(&mut events);
        for event in &events {
            if let StoreEvent::Flushed(manifest) = event {
                self.written = Some((manifest.clone(), self.flush_from));
                if !self.delay_checkpoints {
                    self.checkpoint_durable();
                }
            }
        }
        self.events.extend(events);
        let mut rest = StoreRequests::default();
        self.store.poll(&mut rest);
        self.queue.extend(rest.disk);
        let reads = !rest.journal.is_empty();
        for read in rest.journal {
            let completion = DiskCompletion {
                token: read.token,
                result: Err(DiskError::Other("again".into())),
            };
            // Not lost: answered in the next turn as the journal would.
            let start = (read.position.offset as usize).min(self.disk.journal.len());
            let end = (start + read.length as usize).min(self.disk.journal.len());
            let data = Bytes::copy_from_slice(&self.disk.journal[start..end]);
            self.disk.journal_reads += 1;
            self.store.complete(DiskCompletion {
                result: Ok(DiskReply::Data(data)),
                ..completion
            });
        }
        reads || !self.queue.is_empty() || self.store.wants_turn()
    }

    fn checkpoint_durable(&mut self) {
        if let Some((manifest, index)) = self.written.take() {
            self.store.checkpoint_durable(manifest.number);
            self.checkpoint = Some((manifest, index));
        }
    }

    pub(super) fn settle(&mut self) {
        while self.turn(usize::MAX) {}
    }

    pub(super) fn flush(&mut self) {
        let at = self.log.len();
        if self.store.begin_flush() {
            self.flush_from = at;
        }
    }

    pub(super) fn flush_and_settle(&mut self) {
        self.settle();
        self.flush();
        self.settle();
    }

    /// Loses memory and unsynced bytes, and comes back from checkpoint and log.
    pub(super) fn crash(&mut self) {
        self.queue.clear();
        self.written = None;
        self.disk.crash();
        self.runs += 1;
        let settings = Self::settings(self.share, &self.packing, self.runs);
        let mut from = 0;
        self.store = match &self.checkpoint {
            None => StreamStore::new(settings),
            Some((manifest, index)) => {
                from = *index;
                StreamStore::from_manifest(settings, &manifest.bytes).unwrap()
            }
        };
        while self.store.ensure_loaded() == Lookup::Loading {
            self.settle();
        }
        let mut model = Model {
            file: true,
            ..Model::default()
        };
        for (number, (operation, position)) in self.log.iter().enumerate() {
            if number >= from {
                operation.apply(&mut self.store, &model, *position);
            }
            operation.apply_to_model(&mut model);
        }
    }

    /// Gives the index up if it can be, and reads it again.
    pub(super) fn sleep(&mut self) -> bool {
        self.flush_and_settle();
        self.checkpoint_durable();
        self.settle();
        let at = self.checkpoint.as_ref().map(|(_, index)| *index);
        let slept = at == Some(self.log.len()) && self.store.give_up_index();
        while self.store.ensure_loaded() == Lookup::Loading {
            self.settle();
        }
        slept
    }

    pub(super) fn get(&mut self, sequence: u64) -> Result<StoredMessage, ReadError> {
        for _ in 0..20 {
            if let Lookup::Ready(answer) = self.store.get(sequence) {
                return answer;
            }
            self.settle();
        }
        panic!("message {sequence} never comes");
    }

    pub(super) fn check(&mut self) {
        check_index(&self.store, &self.model);
        for message in self.model.messages.clone().into_values() {
            assert_eq!(self.get(message.sequence), Ok(message));
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Step(model::Step),
    Flush,
    Turn(usize),
    Crash,
    Sleep,
    CheckpointDurable,
    FailWrites(bool),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        60 => Operation::any().prop_map(Event::Step),
        4 => Just(Event::Flush),
        20 => (0usize..6).prop_map(Event::Turn),
        4 => Just(Event::CheckpointDurable),
        1 => Just(Event::Crash),
        1 => Just(Event::Sleep),
        1 => any::<bool>().prop_map(Event::FailWrites),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_crash_and_no_failed_flush_loses_or_brings_back_a_message(
        events in proptest::collection::vec(any_event(), 1..500), tail_bytes in 0u64..2000, compress: bool, seal: bool,
    ) {
        let share = MemoryShare { tail_bytes, block_bytes: 500 };
        let mut world = World::with_packing(share, packed_tests::packing(compress, seal));
        world.delay_checkpoints = true;
        for event in events {
            match event {
                Event::Step(step) => {
                    for operation in step.resolve(&world.model) {
                        world.apply(operation);
                    }
                }
                Event::Flush => world.flush(),
                Event::Turn(limit) => { world.turn(limit); }
                Event::CheckpointDurable => world.checkpoint_durable(),
                Event::Crash => world.crash(),
                Event::Sleep => { world.sleep(); }
                Event::FailWrites(fail) => world.disk.fail_writes = fail,
            }
        }
        world.disk.fail_writes = false;
        world.delay_checkpoints = false;
        world.check();
        world.flush_and_settle();
        world.check();
        world.crash();
        world.check();
        let damage = |event: &StoreEvent| matches!(event, StoreEvent::Damaged { .. } | StoreEvent::Lost { .. } | StoreEvent::DeletesDamaged { .. });
        prop_assert!(!world.events.iter().any(damage), "{:?}", world.events);
    }

    #[test]
    fn a_flipped_bit_in_a_segment_costs_at_most_the_message_it_is_in(flip: u64, seed in 0u64..1000) {
        let mut world = World::new(MemoryShare::default());
        for number in 0..40 {
            world.append(if number % 3 == 0 { "a" } else { "b.c" }, ((seed + number) % 90) as usize);
            if number % 15 == 14 {
                world.flush_and_settle();
            }
        }
        world.flush_and_settle();
        let path = world.disk.files.keys().next().unwrap().clone();
        let file = world.disk.files.get_mut(&path).unwrap();
        let bit = flip % (file.content.len() as u64 * 8);
        file.content[(bit / 8) as usize] ^= 1 << (bit % 8);
        file.synced = file.content.clone();
        world.log.clear();
        world.checkpoint.as_mut().unwrap().1 = 0;
        world.crash();
        prop_assert_eq!(world.store.state().messages, 40);
        let mut damaged = 0;
        for message in world.model.messages.clone().into_values() {
            match world.get(message.sequence) {
                Ok(found) => prop_assert_eq!(found, message),
                Err(error) => {
                    prop_assert_eq!(error, ReadError::Damaged);
                    prop_assert_eq!(world.get(message.sequence), Err(ReadError::Damaged));
                    damaged += 1;
                }
            }
        }
        let mut events = Vec::new();
        world.store.take_events(&mut events);
        events.append(&mut world.events);
        let told = events.iter().filter(|event| matches!(event, StoreEvent::Damaged { .. })).count();
        prop_assert!(damaged <= 1);
        prop_assert_eq!(told, damaged, "told exactly once");
    }
}

#[test]
fn a_tail_beyond_its_share_is_read_back_from_the_journal() {
    let mut world = World::new(MemoryShare {
        tail_bytes: 1000,
        block_bytes: 4000,
    });
    for _ in 0..100 {
        world.append("a", 100);
    }
    assert!(world.store.resident().tail < 20_000);
    world.check();
    assert!(world.disk.journal_reads > 0);
    world.flush_and_settle();
    assert_eq!(world.store.tail_bytes(), 0);
    world.disk.journal.fill(0);
    world.check();
}

#[test]
fn a_reader_in_order_finds_the_next_block_read_already() {
    for (messages, payload) in [(4000, 400), (40, 100_000)] {
        let mut world = World::new(MemoryShare {
            tail_bytes: 0,
            block_bytes: 4 << 20,
        });
        for _ in 0..messages {
            world.append("a", payload);
        }
        world.flush_and_settle();
        let (mut waits, reads_before) = (0, world.disk.reads);
        for sequence in 1..=messages {
            while world.store.get(sequence) == Lookup::Loading {
                waits += 1;
                world.settle();
            }
            world.settle();
        }
        assert!(waits <= 2, "waited {waits} times for the disk");
        let reads = world.disk.reads - reads_before;
        assert!(reads <= 12, "{reads} reads");
    }
}

#[test]
fn damage_in_the_journal_is_told_once_and_stays_one_message_through_the_flush() {
    let mut world = World::new(MemoryShare {
        tail_bytes: 0,
        block_bytes: 4000,
    });
    for _ in 0..10 {
        world.append("a", 100);
    }
    let (_, position) = &world.log[4];
    let at = position.unwrap().offset as usize + 20;
    world.disk.journal[at] ^= 1;
    assert_eq!(world.get(5), Err(ReadError::Damaged));
    world.flush_and_settle();
    assert_eq!(world.get(5), Err(ReadError::Damaged));
    world.crash();
    assert_eq!(world.get(5), Err(ReadError::Damaged));
    assert_eq!(world.store.state().messages, 10);
    assert!((1..=10).filter(|n| *n != 5).all(|n| world.get(n).is_ok()));
}

#[test]
fn segments_without_a_live_message_go_only_after_the_checkpoint_is_durable() {
    let mut world = World::new(MemoryShare::default());
    for _ in 0..10 {
        world.append("a", 10);
    }
    world.flush_and_settle();
    let first: Vec<_> = world.disk.files.keys().cloned().collect();
    world.apply(Operation::Purge {
        filter: 0,
        below: None,
        keep: 0,
    });
    world.append("b", 10);
    world.settle();
    assert_eq!(world.disk.files.keys().cloned().collect::<Vec<_>>(), first);
    world.flush_and_settle();
    let second: Vec<_> = world.disk.files.keys().cloned().collect();
    assert_eq!(second.len(), 1);
    assert_ne!(first, second);
    world.crash();
    world.check();
}

#[test]
fn a_segment_under_half_live_is_rewritten_and_nothing_is_lost() {
    let mut world = World::new(MemoryShare::default());
    for _ in 0..400 {
        world.append("a", 4000);
    }
    world.flush_and_settle();
    let size = |world: &World| {
        world
            .disk
            .files
            .values()
            .map(|file| file.content.len())
            .sum::<usize>()
    };
    let before = size(&world);
    for sequence in (1..=400).filter(|sequence| sequence % 5 != 0) {
        world.apply(Operation::Remove(sequence));
    }
    world.flush();
    // Removed while it is rewritten: as the flush began it was there, and the log removes it again.
    world.apply(Operation::Remove(5));
    world.apply(Operation::Erase(10));
    world.settle();
    assert!(size(&world) * 2 < before);
    world.check();
    world.crash();
    world.check();
    world.flush_and_settle();
    world.crash();
    world.check();
}

#[test]
fn an_erased_message_leaves_no_copy_in_any_segment() {
    let mut world = World::new(MemoryShare::default());
    let secret = b"a very secret payload";
    let holds = |world: &World| {
        world.disk.files.values().any(|file| {
            [&file.content, &file.synced]
                .iter()
                .any(|bytes| bytes.windows(secret.len()).any(|w| w == secret))
        })
    };
    for turns in 0..30 {
        world.append("a", 10);
        let sequence = world.model.last_sequence + 1;
        let message = StoredMessage {
            sequence,
            time_ns: world.model.last_time_ns + 1,
            subject: "a".into(),
            headers: Bytes::new(),
            payload: Bytes::from_static(secret),
        };
        world.apply(Operation::Append(message));
        world.append("a", 10);
        world.flush();
        for _ in 0..turns {
            world.turn(1);
        }
        world.apply(Operation::Erase(sequence));
        world.settle();
        assert!(!holds(&world), "erased after {turns} requests");
        assert!(world.events.contains(&StoreEvent::Erased { sequence }));
    }
    world.check();
}

#[test]
fn a_passing_read_fault_costs_nothing() {
    let mut world = World::new(MemoryShare::default());
    for _ in 0..30 {
        world.append("a", 10);
    }
    world.flush_and_settle();
    world.crash();
    for sequence in 1..=5 {
        world.disk.fail_reads = 1;
        assert!(world.get(sequence).is_ok());
        world.store.set_share(MemoryShare {
            tail_bytes: 0,
            block_bytes: 0,
        });
        world.store.set_share(MemoryShare::default());
    }
    // Loading: three faults in a row are one after the chain and two of the whole segment.
    world.disk.fail_reads = 3;
    world.crash();
    assert_eq!(world.disk.fail_reads, 0);
    world.check();
    assert!(
        world.events.is_empty() || !matches!(world.events.last(), Some(StoreEvent::Lost { .. }))
    );
}

#[test]
fn a_segment_that_cannot_be_read_is_set_aside_and_never_removed() {
    let mut world = World::new(MemoryShare::default());
    for _ in 0..30 {
        world.append("a", 10);
    }
    world.flush_and_settle();
    world.log.clear();
    world.checkpoint.as_mut().unwrap().1 = 0;
    world.disk.fail_reads = 100;
    world.crash();
    world.disk.fail_reads = 0;
    assert_eq!(world.store.state().messages, 0);
    assert_eq!(world.store.state().last_sequence, 30);
    world.flush_and_settle();
    assert!(
        world
            .events
            .contains(&StoreEvent::Lost { first: 1, last: 30 })
    );
    let names: Vec<_> = world.disk.files.keys().cloned().collect();
    assert!(
        names.iter().all(|name| name.ends_with(".seg.damaged")),
        "{names:?}"
    );
    assert_eq!(names.len(), 1);
}

#[test]
fn an_erase_is_not_forgotten_by_a_crash_around_the_next_checkpoint() {
    let secret = b"a very secret payload";
    for turns in 0..20 {
        let mut world = World::new(MemoryShare::default());
        world.append("a", 10);
        let message = StoredMessage {
            sequence: 2,
            time_ns: 2,
            subject: "a".into(),
            headers: Bytes::new(),
            payload: Bytes::from_static(secret),
        };
        world.apply(Operation::Append(message));
        world.append("a", 10);
        world.flush_and_settle();
        world.apply(Operation::Erase(2));
        // With nothing in the tail, nothing but the overwriting keeps the flush from its end.
        if turns % 2 == 0 {
            world.append("a", 10);
        }
        world.flush();
        for _ in 0..turns / 2 {
            world.turn(1);
        }
        world.crash();
        world.settle();
        let mut files = world.disk.files.values();
        let found = files.any(|file| file.content.windows(secret.len()).any(|at| at == secret));
        assert!(!found, "crash after {turns} requests");
        world.check();
    }
}

#[test]
fn start_up_reads_nothing_before_the_first_touch() {
    let mut world = World::new(MemoryShare::default());
    for _ in 0..50 {
        world.append("a", 10);
    }
    world.flush_and_settle();
    let (manifest, _) = world.checkpoint.clone().unwrap();
    let settings = World::settings(world.share, &world.packing, 9);
    let mut store = StreamStore::from_manifest(settings, &manifest.bytes).unwrap();
    assert_eq!(store.state(), world.model.state());
    let mut asked = StoreRequests::default();
    store.poll(&mut asked);
    assert!(asked.disk.is_empty() && !store.is_loaded());
}

#[test]
fn an_index_is_built_in_steps() {
    const MESSAGES: u64 = 12_000;
    let mut world = World::new(MemoryShare::default());
    for number in 0..MESSAGES {
        world.append(["a.x", "b.y", "c"][number as usize % 3], 1);
    }
    world.flush_and_settle();
    let (manifest, _) = world.checkpoint.clone().unwrap();
    world.store = StreamStore::from_manifest(
        World::settings(world.share, &world.packing, 9),
        &manifest.bytes,
    )
    .unwrap();
    let built = |store: &StreamStore| store.load.as_ref().map_or(MESSAGES, |load| load.built());
    let mut steps = 0;
    while world.store.ensure_loaded() == Lookup::Loading {
        let before = built(&world.store);
        if !world.store.is_building() {
            world.turn(1);
        } else {
            steps += 1;
            let _ = world.store.ensure_loaded();
        }
        assert!(built(&world.store) - before <= 2048);
    }
    assert!(steps > 1, "{steps}");
    assert_eq!(world.store.state(), world.model.state());
}

#[test]
fn many_deleted_ranges_go_into_a_file_of_their_own() {
    let mut world = World::new(MemoryShare::default());
    for _ in 0..24_000 {
        world.append("a", 1);
    }
    world.flush_and_settle();
    for sequence in (2..24_000).step_by(2) {
        world.store.remove(sequence);
        world.model.messages.remove(&sequence);
        world.log.push((Operation::Remove(sequence), None));
    }
    world.flush_and_settle();
    assert!(world.disk.files.keys().any(|path| path.ends_with(".del")));
    let log = std::mem::take(&mut world.log);
    world.checkpoint.as_mut().unwrap().1 = 0;
    world.crash();
    assert_eq!(world.store.state(), world.model.state());
    assert_eq!(world.store.deleted_ranges().count(), 11_999);
    drop(log);
}
