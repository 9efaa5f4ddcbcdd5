//! The simulated disk forgets what a real one may forget, and nothing else.

use bytes::Bytes;
use millrace_sim::disk::{Counters, Knobs, SimDisk};
use millrace_store::disk::{DiskError, DiskOperation, DiskReply, DiskRequest, FileId, Lane, Token};

fn run(disk: &mut SimDisk, operation: DiskOperation) -> Result<DiskReply, DiskError> {
    let token = Token(disk.operations());
    disk.submit([DiskRequest {
        token,
        lane: Lane::Data,
        operation,
    }]);
    disk.step().expect("one is pending").result
}

fn write(disk: &mut SimDisk, offset: u64, bytes: &'static [u8]) {
    let chunks = vec![Bytes::from_static(bytes)];
    let write = DiskOperation::Write {
        file: FileId(1),
        offset,
        chunks,
    };
    run(disk, write).expect("written");
}

fn synced_file(disk: &mut SimDisk) {
    let create = DiskOperation::Create {
        file: FileId(1),
        path: "a".to_owned(),
        preallocate: 0,
    };
    run(disk, create).expect("created");
    write(disk, 0, b"synced");
    run(disk, DiskOperation::Sync { file: FileId(1) }).expect("synced");
    run(
        disk,
        DiskOperation::SyncDirectory {
            path: String::new(),
        },
    )
    .expect("synced");
}

#[test]
fn what_is_synced_survives_every_cut() {
    for seed in 0..50 {
        let mut disk = SimDisk::new(seed, Knobs::POWER);
        synced_file(&mut disk);
        write(&mut disk, 6, b" and not");
        disk.power_cut();
        let (path, content) = disk.files().next().expect("the file is there");
        assert_eq!(path, "a");
        assert!(
            content == b"synced" || content == b"synced and not",
            "seed {seed}"
        );
    }
}

#[test]
fn a_name_without_a_directory_sync_may_be_lost() {
    let lost = (0..50).any(|seed| {
        let mut disk = SimDisk::new(seed, Knobs::POWER);
        synced_file(&mut disk);
        let rename = DiskOperation::Rename {
            from: "a".to_owned(),
            to: "b".to_owned(),
        };
        run(&mut disk, rename).expect("renamed");
        disk.power_cut();
        let names: Vec<&str> = disk.files().map(|(path, _)| path).collect();
        assert!(
            names == ["a"] || names == ["b"],
            "a rename is atomic: {names:?}"
        );
        names == ["a"]
    });
    assert!(lost);
}

#[test]
fn a_failed_sync_is_forgotten_by_the_cache_and_lost_by_the_cut() {
    let lost = (0..50).any(|seed| {
        let mut disk = SimDisk::new(seed, Knobs::POWER);
        synced_file(&mut disk);
        write(&mut disk, 0, b"SYNCED");
        disk.set_knobs(Knobs {
            fail_sync_permille: 1000,
            ..Knobs::POWER
        });
        assert!(run(&mut disk, DiskOperation::Sync { file: FileId(1) }).is_err());
        disk.set_knobs(Knobs::POWER);
        run(&mut disk, DiskOperation::Sync { file: FileId(1) }).expect("looks fine");
        disk.power_cut();
        disk.files().any(|(_, content)| content == b"synced")
    });
    assert!(lost);
}

#[test]
fn a_full_disk_refuses_and_counts() {
    let mut disk = SimDisk::new(
        1,
        Knobs {
            capacity_bytes: 10,
            ..Knobs::default()
        },
    );
    let create = DiskOperation::Create {
        file: FileId(1),
        path: "a".to_owned(),
        preallocate: 11,
    };
    assert_eq!(run(&mut disk, create), Err(DiskError::NoSpace));
    assert_eq!(disk.counters().no_space, 1);
    assert_eq!(
        disk.counters().idle_knobs(&disk.knobs()),
        Vec::<&str>::new()
    );
    let idle = Counters::default().idle_knobs(&Knobs::POWER);
    assert_eq!(idle.len(), 5, "{idle:?}");
}
