//! The journal: records of many groups joined into frames with their checksums, on a disk that
//! takes everything at once.

use bytes::Bytes;
use millrace_clock::Now;
use millrace_store::disk::{DiskCompletion, DiskOperation, DiskReply, DiskRequest};
use millrace_store::journal::{
    Durability, GroupId, Journal, JournalSettings, Progress, Record, RecordKind, Recovery,
    RecoverySettings,
};

const NOW: Now = Now {
    monotonic_ns: 1_000_000_000,
    wall_ns: 1_700_000_000_000_000_000,
};
/// Records that wait when a frame is made.
const FRAME_RECORDS: u64 = 50;
const PAYLOAD_BYTES: usize = 200;

fn answer(request: DiskRequest) -> DiskCompletion {
    let reply = match request.operation {
        DiskOperation::List { .. } => DiskReply::Names(Vec::new()),
        DiskOperation::Open { .. } => DiskReply::Opened { length: 0 },
        DiskOperation::Read { .. } => DiskReply::Data(Bytes::new()),
        _ => DiskReply::Done,
    };
    DiskCompletion {
        token: request.token,
        result: Ok(reply),
    }
}

/// A new journal on an empty disk.
fn open() -> Journal {
    let settings = RecoverySettings {
        journal: JournalSettings::default(),
        server_id: "NID".to_owned(),
        seed: 1,
        attempt: 0,
        keys: millrace_store::seal::Keys::default(),
    };
    let mut requests = Vec::new();
    let mut recovery = Recovery::start(settings, NOW, &mut requests);
    while let Some(request) = requests.pop() {
        match recovery.complete(NOW, answer(request), &mut requests) {
            Progress::Working | Progress::NoRoom => {}
            Progress::Done(recovered) => return recovered.journal,
            Progress::Failed(error) => panic!("an empty disk recovers: {error}"),
        }
    }
    panic!("recovery came to rest before it ended");
}

/// Carries out all that the journal wants, until it rests.
fn settle(journal: &mut Journal, requests: &mut Vec<DiskRequest>) {
    let mut events = Vec::new();
    loop {
        journal.poll(NOW, requests);
        if requests.is_empty() {
            return;
        }
        for request in requests.drain(..) {
            journal.complete(NOW, answer(request), &mut events);
        }
    }
}

pub(crate) fn append(count: u64) {
    let mut journal = open();
    let mut requests = Vec::new();
    settle(&mut journal, &mut requests);
    let payload = Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
    for index in 1..=count {
        let record = Record {
            group: GroupId(index % 7 + 1),
            kind: RecordKind::Entry { index, term: 1 },
            payload: payload.clone(),
        };
        journal.append(record, Durability::Now);
        if index % FRAME_RECORDS == 0 {
            settle(&mut journal, &mut requests);
        }
    }
}
