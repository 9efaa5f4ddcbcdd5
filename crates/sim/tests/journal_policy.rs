//! The group commit policy, request by request: when a frame is written, what rides in it, when it
//! is synced, and what is told when.

use bytes::Bytes;
use millrace_clock::Now;
use millrace_sim::disk::{Knobs, SimDisk};
use millrace_store::disk::{
    DiskCompletion, DiskError, DiskOperation, DiskReply, DiskRequest, Lane,
};
use millrace_store::journal::{
    DEFAULT_IDLE_FRAME_NS, DEFAULT_LAZY_NS, Durability, GroupId, HardState, Journal, JournalEvent,
    JournalSettings, Progress, Record, RecordKind, RecordTicket, Recovery, RecoverySettings,
    SyncMode,
};

/// A journal whose files are in order and whose own disk requests the test answers by hand.
struct Bench {
    journal: Journal,
    disk: SimDisk,
    now: Now,
    next_index: u64,
    /// Journal lane requests not yet answered.
    asked: Vec<DiskRequest>,
    events: Vec<JournalEvent>,
}

impl Bench {
    fn new(sync: SyncMode) -> Self {
        let mut disk = SimDisk::new(1, Knobs::default());
        let settings = RecoverySettings {
            journal: JournalSettings {
                sync,
                file_bytes: 8 << 20,
                ..JournalSettings::default()
            },
            server_id: "X".to_owned(),
            seed: 1,
            attempt: 0,
            keys: millrace_store::seal::Keys::default(),
        };
        let now = Now {
            monotonic_ns: 1_000,
            wall_ns: 0,
        };
        let mut requests = Vec::new();
        let mut recovery = Recovery::start(settings, now, &mut requests);
        let journal = loop {
            disk.submit(requests.drain(..));
            let completion = disk.step().expect("recovery goes on");
            match recovery.complete(now, completion, &mut requests) {
                Progress::Done(recovered) => break recovered.journal,
                Progress::Working | Progress::NoRoom => {}
                Progress::Failed(error) => panic!("{error}"),
            }
        };
        let (asked, events) = (Vec::new(), Vec::new());
        let mut bench = Self {
            journal,
            disk,
            now,
            next_index: 1,
            asked,
            events,
        };
        // The first idle frame, the next file and the reserve.
        for _ in 0..20 {
            bench.poll();
            while !bench.asked.is_empty() {
                bench.answer(Ok(DiskReply::Done));
            }
        }
        bench.events.clear();
        bench
    }

    fn append(&mut self, bytes: usize, durability: Durability) -> RecordTicket {
        let kind = RecordKind::Entry {
            index: self.next_index,
            term: 1,
        };
        self.next_index += 1;
        let payload = Bytes::from(vec![1; bytes]);
        self.journal.append(
            Record {
                group: GroupId(1),
                kind,
                payload,
            },
            durability,
        )
    }

    /// Polls; file work is done at once, journal writes and syncs wait for [`Self::answer`].
    fn poll(&mut self) {
        let mut requests = Vec::new();
        self.journal.poll(self.now, &mut requests);
        for request in requests {
            if request.lane == Lane::Journal {
                self.asked.push(request);
                continue;
            }
            self.disk.submit([request]);
            let completion = self.disk.step().expect("one is pending");
            self.journal
                .complete(self.now, completion, &mut self.events);
        }
    }

    /// Ends the oldest journal request.
    fn answer(&mut self, result: Result<DiskReply, DiskError>) {
        let token = self.asked.remove(0).token;
        self.journal
            .complete(self.now, DiskCompletion { token, result }, &mut self.events);
    }

    fn done(&mut self) {
        self.answer(Ok(DiskReply::Done));
    }

    /// What is asked of the journal's disk, in short.
    fn asked(&self) -> Vec<&'static str> {
        let short = |request: &DiskRequest| match request.operation {
            DiskOperation::Write { .. } => "write",
            DiskOperation::Sync { .. } => "sync",
            _ => "other",
        };
        self.asked.iter().map(short).collect()
    }

    fn durable(&self) -> Option<RecordTicket> {
        self.events.iter().rev().find_map(|event| match event {
            JournalEvent::Durable { through } => Some(*through),
            _ => None,
        })
    }
}

#[test]
fn a_single_record_is_written_and_synced_at_once() {
    let mut bench = Bench::new(SyncMode::Always);
    let ticket = bench.append(10, Durability::Now);
    bench.poll();
    assert_eq!(bench.asked(), ["write", "sync"]);
    bench.done();
    assert_eq!(bench.durable(), None, "written is not synced");
    bench.done();
    assert_eq!(bench.durable(), Some(ticket));
}

#[test]
fn what_arrives_during_a_sync_shares_the_next_one() {
    let mut bench = Bench::new(SyncMode::Always);
    bench.append(10, Durability::Now);
    bench.poll();
    let last = (0..100).map(|_| bench.append(10, Durability::Now)).last();
    bench.poll();
    assert_eq!(bench.asked(), ["write", "sync"], "the second frame waits");
    bench.done();
    bench.done();
    bench.poll();
    assert_eq!(
        bench.asked(),
        ["write", "sync"],
        "one write and one sync for a hundred"
    );
    bench.done();
    bench.done();
    assert_eq!(bench.durable(), last);
}

#[test]
fn a_second_frame_joins_when_much_is_queued_and_is_not_told_before_the_first() {
    let mut bench = Bench::new(SyncMode::Always);
    let first = bench.append(10, Durability::Now);
    bench.poll();
    for _ in 0..3 {
        bench.append(300 << 10, Durability::Now);
        bench.poll();
    }
    assert_eq!(
        bench.asked(),
        ["write", "sync", "write", "sync"],
        "never a third"
    );
    let order = [2, 2, 0, 0];
    for (step, at) in order.into_iter().enumerate() {
        let request = bench.asked.remove(at);
        bench.asked.insert(0, request);
        bench.done();
        if step == 1 {
            assert_eq!(bench.durable(), None, "the first frame is not done");
        }
    }
    assert!(bench.durable() > Some(first));
}

#[test]
fn a_lazy_record_waits_for_company_or_its_deadline() {
    let mut bench = Bench::new(SyncMode::Always);
    let lazy = bench.append(10, Durability::Lazy);
    bench.poll();
    assert_eq!(bench.asked(), [""; 0]);
    bench.now.monotonic_ns = bench.journal.next_deadline().expect("a deadline");
    assert_eq!(bench.now.monotonic_ns, 1_000 + DEFAULT_LAZY_NS);
    bench.poll();
    assert_eq!(bench.asked(), ["write", "sync"]);
    bench.done();
    bench.done();
    assert_eq!(bench.durable(), Some(lazy));
    bench.append(10, Durability::Lazy);
    let company = bench.append(10, Durability::Now);
    bench.poll();
    bench.done();
    bench.done();
    assert_eq!(bench.durable(), Some(company), "both went in one frame");
}

#[test]
fn an_idle_journal_writes_one_empty_frame_and_no_more() {
    let mut bench = Bench::new(SyncMode::Always);
    bench.append(10, Durability::Now);
    bench.poll();
    bench.done();
    bench.done();
    let due = bench.journal.next_deadline().expect("a deadline");
    assert_eq!(due, bench.now.monotonic_ns + DEFAULT_IDLE_FRAME_NS);
    bench.now.monotonic_ns = due;
    bench.poll();
    assert_eq!(bench.asked(), ["write", "sync"]);
    bench.done();
    bench.done();
    assert_eq!(bench.journal.next_deadline(), None, "an idle server sleeps");
}

#[test]
fn with_an_interval_written_counts_and_the_sync_comes_later() {
    let mut bench = Bench::new(SyncMode::Interval(1_000_000_000));
    let ticket = bench.append(10, Durability::Now);
    bench.poll();
    assert_eq!(bench.asked(), ["write"]);
    bench.done();
    assert_eq!(bench.durable(), Some(ticket));
    let due = bench.journal.next_deadline().expect("a deadline");
    assert_eq!(due, bench.now.monotonic_ns + 1_000_000_000);
    bench.now.monotonic_ns = due;
    bench.poll();
    assert_eq!(bench.asked(), ["sync"]);
    bench.done();
    // A vote must never be forgotten.
    let kind = RecordKind::HardState(HardState {
        term: 2,
        vote: 1,
        commit: 0,
    });
    let record = Record {
        group: GroupId(1),
        kind,
        payload: Bytes::new(),
    };
    bench.journal.append(record, Durability::Now);
    bench.poll();
    assert_eq!(bench.asked(), ["write", "sync"]);
}

#[test]
fn after_a_failed_sync_nothing_is_told_and_nothing_is_asked() {
    let mut bench = Bench::new(SyncMode::Always);
    bench.append(10, Durability::Now);
    bench.poll();
    bench.append(300 << 10, Durability::Now);
    bench.poll();
    bench.done();
    bench.answer(Err(DiskError::Other("gone".to_owned())));
    assert!(matches!(
        bench.events.as_slice(),
        [JournalEvent::Failed { .. }]
    ));
    while !bench.asked.is_empty() {
        bench.done();
    }
    bench.append(10, Durability::Now);
    bench.poll();
    assert_eq!(bench.asked(), [""; 0]);
    assert_eq!(
        (bench.durable(), bench.journal.next_deadline()),
        (None, None)
    );
}
