//! The stream store on the simulated disk: flushes, rewriting and erasing between power cuts, kills,
//! failing writes and syncs and reordered completions. After each restart the store, with the log
//! behind its last durable checkpoint applied again, must be what a sorted map says, byte for byte.

use bytes::Bytes;
use millrace_clock::Random;
use millrace_sim::disk::{Counters, Knobs, SimDisk};
use millrace_store::disk::{DiskCompletion, DiskReply};
use millrace_store::ids::IdSpace;
use millrace_store::journal::JournalPosition;
use millrace_store::seal::{Cipher, Keyring, Keys, RUN_BYTES};
use millrace_store::stream::{
    Filter, Lookup, Manifest, MemoryShare, Packing, Purge, StoreEvent, StoreRequests,
    StoreSettings, StoredMessage, StreamStore,
};
use std::collections::{BTreeMap, VecDeque};

const SUBJECTS: [&str; 5] = ["orders.1", "orders.2", "orders.new.3", "stock", "rare.one"];
const FILTERS: [&str; 4] = ["orders.*", "stock", ">", "rare.>"];

#[derive(Clone, Debug)]
enum Operation {
    Append(StoredMessage, JournalPosition),
    Skip(u64),
    Remove(u64),
    Erase(u64),
    Purge(&'static str, u64, u64),
}

#[derive(Debug, Default)]
struct Model {
    messages: BTreeMap<u64, StoredMessage>,
    last: u64,
}

impl Model {
    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Append(message, _) => {
                self.last = message.sequence;
                self.messages.insert(message.sequence, message.clone());
            }
            Operation::Skip(to) => self.last = self.last.max(*to),
            Operation::Remove(sequence) | Operation::Erase(sequence) => {
                self.messages.remove(sequence);
            }
            Operation::Purge(filter, below, keep) => {
                let filter = Filter::one(filter.as_bytes());
                let wanted = self.messages.range(..below);
                let wanted = wanted.filter(|(_, message)| filter.matches(&message.subject));
                let wanted: Vec<u64> = wanted.map(|(sequence, _)| *sequence).collect();
                let gone = wanted.len().saturating_sub(*keep as usize);
                wanted[..gone].iter().for_each(|sequence| {
                    self.messages.remove(sequence);
                });
                if filter.is_all() && *keep == 0 {
                    self.last = self.last.max(below - 1);
                }
            }
        }
    }
}

fn apply(store: &mut StreamStore, operation: &Operation) {
    match operation {
        Operation::Append(message, position) => store.append(message.clone(), Some(*position)),
        Operation::Skip(to) => store.skip(*to, 0),
        Operation::Remove(sequence) => assert!(store.remove(*sequence).is_some()),
        Operation::Erase(sequence) => assert!(store.erase(*sequence).is_some()),
        Operation::Purge(filter, below, keep) => {
            let filter = Filter::one(filter.as_bytes());
            let purge = Purge {
                filter: Some(&filter),
                below: Some(*below),
                keep: *keep,
            };
            store.purge(purge, |_| {});
        }
    }
}

struct World {
    random: Random,
    disk: SimDisk,
    journal: Vec<u8>,
    store: StreamStore,
    model: Model,
    log: Vec<Operation>,
    share: MemoryShare,
    packing: Packing,
    run: u32,
    /// The log length that the flush under way belongs to.
    flush_from: usize,
    /// Checkpoint records on their way, and the last durable one.
    written: VecDeque<(Manifest, usize)>,
    durable: Option<(Manifest, usize)>,
    reads: VecDeque<DiskCompletion>,
    failed_flushes: u64,
    flushes: u64,
    payload_bytes: u64,
}

impl World {
    fn new(seed: u64, knobs: Knobs) -> Self {
        let mut random = Random::new(seed).stream(7);
        let share = MemoryShare {
            tail_bytes: random.below(60_000),
            block_bytes: 30_000,
        };
        let mut forms = random.stream(9);
        let compress = forms.below(2) == 0;
        let ring = (forms.below(3) == 0).then(|| Keyring::of_key(Cipher::ChaCha, [7; 32]));
        let packing = Packing {
            compress,
            keys: Keys::new(ring, [1; RUN_BYTES]),
        };
        // Some seeds write enough that segments are worth rewriting.
        let payload_bytes = if random.below(3) == 0 { 9_000 } else { 200 };
        Self {
            disk: SimDisk::new(seed, knobs),
            journal: Vec::new(),
            store: StreamStore::new(Self::settings(share, packing.clone(), 1)),
            model: Model::default(),
            log: Vec::new(),
            share,
            packing,
            run: 1,
            flush_from: 0,
            written: VecDeque::new(),
            durable: None,
            reads: VecDeque::new(),
            failed_flushes: 0,
            flushes: 0,
            payload_bytes,
            random,
        }
    }

    fn settings(share: MemoryShare, packing: Packing, run: u32) -> StoreSettings {
        StoreSettings {
            share,
            packing,
            ..StoreSettings::file("streams/1", IdSpace::new(run), 5)
        }
    }

    fn operation(&mut self) -> Option<Operation> {
        let held = self.model.messages.len() as u64;
        let random = &mut self.random;
        let any = |random: &mut Random| {
            let nth = random.below(held) as usize;
            self.model.messages.keys().nth(nth).copied()
        };
        Some(match random.below(20) {
            0 => Operation::Skip(self.model.last + random.below(4)),
            1..=5 => Operation::Remove(any(random)?),
            6 => Operation::Erase(any(random)?),
            7..=8 => Operation::Remove(*self.model.messages.keys().next()?),
            9 if random.below(6) == 0 => {
                let filter = FILTERS[random.below(4) as usize];
                Operation::Purge(
                    filter,
                    1 + random.below(self.model.last + 2),
                    random.below(5),
                )
            }
            _ => {
                let sequence = self.model.last + 1;
                let length = random.below(self.payload_bytes) as usize;
                let mut payload = format!("message {sequence:08}/").into_bytes();
                payload.extend((0..length).map(|at| (at as u64 * 31 + sequence) as u8));
                let headers = vec![b'h'; random.below(3) as usize * 9];
                self.journal.extend_from_slice(b"head");
                let position = JournalPosition {
                    file: 1,
                    offset: self.journal.len() as u64,
                };
                self.journal.extend_from_slice(&headers);
                self.journal.extend_from_slice(&payload);
                let message = StoredMessage {
                    sequence,
                    time_ns: sequence as i64 * 10,
                    subject: SUBJECTS[random.below(5) as usize].into(),
                    headers: headers.into(),
                    payload: payload.into(),
                };
                Operation::Append(message, position)
            }
        })
    }

    fn poll(&mut self) {
        let mut requests = StoreRequests::default();
        self.store.poll(&mut requests);
        self.disk.submit(requests.disk);
        for read in requests.journal {
            let start = (read.position.offset as usize).min(self.journal.len());
            let end = (start + read.length as usize).min(self.journal.len());
            let data = Bytes::copy_from_slice(&self.journal[start..end]);
            self.reads.push_back(DiskCompletion {
                token: read.token,
                result: Ok(DiskReply::Data(data)),
            });
        }
        let mut events = Vec::new();
        self.store.take_events(&mut events);
        for event in events {
            match event {
                StoreEvent::Flushed(manifest) => {
                    self.flushes += 1;
                    self.written.push_back((manifest, self.flush_from));
                }
                StoreEvent::FlushFailed { .. } => self.failed_flushes += 1,
                StoreEvent::Erased { .. } | StoreEvent::EraseFailed { .. } => {}
                damage => panic!("nothing was damaged, but: {damage:?}"),
            }
        }
    }

    /// One completion; false when nothing is on its way.
    fn step(&mut self) -> bool {
        self.poll();
        let journal_first = self.random.below(2) == 0;
        let completion = match self.reads.pop_front() {
            Some(read) if journal_first || self.disk.pending() == 0 => Some(read),
            other => {
                if let Some(read) = other {
                    self.reads.push_front(read);
                }
                self.disk.step()
            }
        };
        if let Some(completion) = completion {
            self.store.complete(completion);
            self.poll();
            return true;
        }
        if self.store.wants_turn() {
            self.store.turn();
            self.poll();
            return true;
        }
        false
    }

    fn checkpoint_durable(&mut self) {
        if let Some((manifest, index)) = self.written.pop_front() {
            self.store.checkpoint_durable(manifest.number);
            self.durable = Some((manifest, index));
        }
    }

    fn flush(&mut self) {
        self.poll();
        let at = self.log.len();
        if self.store.begin_flush() {
            self.flush_from = at;
        }
    }

    fn restart(&mut self) {
        if self.random.below(3) == 0 {
            self.disk.kill();
        } else {
            self.disk.power_cut();
        }
        let knobs = self.disk.knobs();
        self.disk.set_knobs(Knobs {
            fail_write_permille: 0,
            fail_sync_permille: 0,
            ..knobs
        });
        self.written.clear();
        self.reads.clear();
        self.run += 1;
        let settings = Self::settings(self.share, self.packing.clone(), self.run);
        let (store, from) = match &self.durable {
            None => (StreamStore::new(settings), 0),
            Some((manifest, index)) => (
                StreamStore::from_manifest(settings, &manifest.bytes).expect("a manifest"),
                *index,
            ),
        };
        self.store = store;
        while self.store.ensure_loaded() == Lookup::Loading {
            let goes_on = self.step() || self.store.is_building();
            assert!(goes_on, "loading waits for nothing");
        }
        for operation in &self.log[from..] {
            apply(&mut self.store, operation);
        }
        self.disk.set_knobs(knobs);
        self.check();
    }

    /// No segment holds the payload of an erased message.
    fn check_erased(&self) {
        for operation in &self.log {
            let Operation::Erase(sequence) = operation else {
                continue;
            };
            let secret = format!("message {sequence:08}/").into_bytes();
            for (path, content) in self.disk.files() {
                let found = content
                    .windows(secret.len())
                    .any(|bytes| bytes == secret.as_slice());
                assert!(!found, "message {sequence} was erased and stands in {path}");
            }
        }
    }

    fn check(&mut self) {
        let state = self.store.state();
        assert_eq!(state.messages, self.model.messages.len() as u64);
        assert_eq!(state.last_sequence, self.model.last);
        for filter in FILTERS {
            let filter = Filter::one(filter.as_bytes());
            let wanted = self
                .model
                .messages
                .values()
                .filter(|one| filter.matches(&one.subject));
            assert_eq!(self.store.count_from(&filter, 0), wanted.count() as u64);
        }
        let mut next = 0;
        for (sequence, expected) in self.model.messages.clone() {
            assert_eq!(self.store.next_match(&Filter::all(), next), Some(sequence));
            next = sequence + 1;
            let found = loop {
                match self.store.get(sequence) {
                    Lookup::Ready(found) => break found,
                    Lookup::Loading => assert!(self.step(), "message {sequence} waits for nothing"),
                }
            };
            assert_eq!(found.as_ref(), Ok(&expected), "message {sequence}");
        }
    }
}

fn run(seed: u64, knobs: Knobs) -> World {
    let mut world = World::new(seed, knobs);
    for _ in 0..1_500 {
        match world.random.below(100) {
            0..=54 => {
                if let Some(operation) = world.operation() {
                    apply(&mut world.store, &operation);
                    world.model.apply(&operation);
                    world.log.push(operation);
                }
            }
            55..=58 => world.flush(),
            59..=62 => world.checkpoint_durable(),
            63 if world.random.below(8) == 0 => world.restart(),
            _ => {
                world.step();
            }
        }
    }
    world.restart();
    while world.step() {}
    world.check();
    world
}

#[test]
fn no_power_cut_loses_or_brings_back_a_message() {
    let mut counters = Counters::default();
    let mut flushes = 0;
    for seed in 0..60 {
        let mut world = run(seed, Knobs::POWER);
        assert_eq!(world.failed_flushes, 0, "seed {seed}");
        counters.add(&world.disk.counters());
        flushes += world.flushes;
        if seed % 6 != 0 {
            continue;
        }
        // The checkpoint makes segments go that a rewriting replaced, and leftovers of crashes.
        world.flush();
        while world.step() {}
        while !world.written.is_empty() {
            world.checkpoint_durable();
        }
        while world.step() {}
        world.check_erased();
    }
    assert_eq!(counters.idle_knobs(&Knobs::POWER), Vec::<&str>::new());
    assert!(flushes > 500, "{flushes} flushes");
}

#[test]
fn no_failing_write_or_sync_loses_or_brings_back_a_message() {
    let knobs = Knobs {
        fail_write_permille: 60,
        fail_sync_permille: 60,
        ..Knobs::POWER
    };
    let mut counters = Counters::default();
    let (mut failed, mut flushes) = (0, 0);
    for seed in 1_000..1_060 {
        let world = run(seed, knobs);
        counters.add(&world.disk.counters());
        failed += world.failed_flushes;
        flushes += world.flushes;
    }
    assert_eq!(counters.idle_knobs(&knobs), Vec::<&str>::new());
    assert!(
        failed > 20 && flushes > 200,
        "{failed} failed, {flushes} went well"
    );
}
