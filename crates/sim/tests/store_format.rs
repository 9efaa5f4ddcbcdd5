//! What a start finds in the store directory before it finds any journal: nothing, our format, a
//! newer one, a damaged one.

use bytes::Bytes;
use millrace_clock::Now;
use millrace_sim::disk::{Knobs, SimDisk};
use millrace_store::disk::{DiskOperation, DiskRequest, FileId, Lane, Token};
use millrace_store::journal::{
    JournalSettings, Progress, Recovered, Recovery, RecoveryError, RecoverySettings, STORE_VERSION,
};

fn open(disk: &mut SimDisk, server_id: &str) -> Result<Box<Recovered>, RecoveryError> {
    let settings = RecoverySettings {
        journal: JournalSettings {
            file_bytes: 1 << 16,
            ..JournalSettings::default()
        },
        server_id: server_id.to_owned(),
        seed: 1,
        attempt: 0,
        keys: millrace_store::seal::Keys::default(),
    };
    let mut requests = Vec::new();
    let mut recovery = Recovery::start(settings, Now::default(), &mut requests);
    loop {
        disk.submit(requests.drain(..));
        let completion = disk.step().expect("recovery always asks for something");
        match recovery.complete(Now::default(), completion, &mut requests) {
            Progress::Working | Progress::NoRoom => {}
            Progress::Done(recovered) => return Ok(recovered),
            Progress::Failed(error) => return Err(error),
        }
    }
}

fn with_format(text: &str) -> SimDisk {
    let mut disk = SimDisk::new(1, Knobs::default());
    let file = FileId(1);
    let chunks = vec![Bytes::copy_from_slice(text.as_bytes())];
    let operations = [
        DiskOperation::Create {
            file,
            path: "format".to_owned(),
            preallocate: 0,
        },
        DiskOperation::Write {
            file,
            offset: 0,
            chunks,
        },
        DiskOperation::Close { file },
    ];
    for operation in operations {
        disk.submit([DiskRequest {
            token: Token(1),
            lane: Lane::Data,
            operation,
        }]);
        disk.step().expect("one is pending").result.expect("done");
    }
    disk
}

#[test]
fn a_new_store_keeps_the_first_server_id() {
    let mut disk = SimDisk::new(1, Knobs::POWER);
    let first = open(&mut disk, "FIRST").expect("a new store opens");
    assert!(first.fresh && first.groups.is_empty() && first.report.is_empty());
    disk.power_cut();
    let second = open(&mut disk, "SECOND").expect("it opens again");
    assert!(!second.fresh);
    assert_eq!(second.server_id, "FIRST");
}

#[test]
fn a_newer_format_is_refused_with_a_text_that_says_what_to_do() {
    let newer = STORE_VERSION + 1;
    let text = format!("millrace store format {newer}\n");
    let error = open(&mut with_format(&text), "X").expect_err("newer");
    assert_eq!(
        error,
        RecoveryError::NewerFormat {
            found: newer,
            supported: STORE_VERSION
        }
    );
    assert!(
        error.to_string().contains("start the newer version"),
        "{error}"
    );
}

#[test]
fn a_damaged_format_file_is_refused_and_left_alone() {
    let text = "millrace store format 1\nserver_id A\nchecksum 0000000000000000\n";
    let mut disk = with_format(text);
    let error = open(&mut disk, "X").expect_err("damaged");
    assert!(matches!(error, RecoveryError::FormatFile { .. }), "{error}");
    assert!(
        disk.files()
            .any(|(path, content)| path == "format" && content == text.as_bytes())
    );
}

#[test]
fn journal_files_without_a_format_file_are_not_taken_for_a_new_store() {
    let mut disk = SimDisk::new(1, Knobs::default());
    open(&mut disk, "FIRST").expect("a new store opens");
    let remove = DiskOperation::Remove {
        path: "format".to_owned(),
    };
    disk.submit([DiskRequest {
        token: Token(1),
        lane: Lane::Data,
        operation: remove,
    }]);
    disk.step()
        .expect("one is pending")
        .result
        .expect("removed");
    disk.kill();
    let error = open(&mut disk, "SECOND").expect_err("not new");
    assert!(error.to_string().contains("missing"), "{error}");
}
