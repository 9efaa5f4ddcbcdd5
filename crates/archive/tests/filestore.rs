//! Files that the reference wrote (2.15.1), read.

use bytes::Bytes;
use millrace_archive::filestore::{Block, Record, meta_sum_matches, read_index, unpack_block};

fn data(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).expect("a file of the tests")
}

#[test]
fn configuration_files_check() {
    assert!(meta_sum_matches(
        "S",
        &data("s-meta.inf"),
        &data("s-meta.sum")
    ));
    assert!(!meta_sum_matches(
        "T",
        &data("s-meta.inf"),
        &data("s-meta.sum")
    ));
    assert!(meta_sum_matches(
        "S/C",
        &data("c-meta.inf"),
        &data("c-meta.sum")
    ));
}

#[test]
fn a_block_is_read_record_by_record() {
    let plain = unpack_block(Bytes::from(data("s-1.blk"))).expect("a plain block");
    let block = Block::new("S", 1, plain);
    let (mut messages, mut erased, mut tombstones) = (Vec::new(), Vec::new(), Vec::new());
    for record in block.records() {
        match record {
            Record::Message {
                sequence,
                subject,
                headers,
                payload,
                ..
            } => messages.push((sequence, subject, headers, payload)),
            Record::Erased { sequence, .. } => erased.push(sequence),
            Record::Tombstone { sequence, .. } => tombstones.push(sequence),
            other => panic!("{other:?}"),
        }
    }
    // 7 was deleted without erasing it.
    assert_eq!(messages.len(), 18);
    assert_eq!(erased, [1, 20]);
    assert_eq!(tombstones, [1, 7, 20]);
    let (sequence, subject, headers, payload) = &messages[2];
    assert_eq!(
        (*sequence, &subject[..], &payload[..]),
        (4, &b"s.3"[..], &b"payload-3"[..])
    );
    assert_eq!(&headers[..], b"NATS/1.0\r\nX: y3\r\n\r\n");
    // Under another name nothing checks, and all is looked at.
    let plain = Bytes::from(data("s-1.blk"));
    let other = Block::new("T", 1, plain);
    assert!(
        other
            .records()
            .all(|record| matches!(record, Record::Damaged { .. } | Record::Erased { .. }))
    );
}

#[test]
fn damage_costs_one_record_and_a_cut_its_end() {
    let mut bytes = data("s-1.blk");
    bytes[0x60] ^= 1;
    bytes.truncate(bytes.len() - 10);
    let block = Block::new("S", 1, Bytes::from(bytes));
    let records: Vec<Record> = block.records().collect();
    let damaged = records
        .iter()
        .filter(|record| matches!(record, Record::Damaged { .. }));
    assert_eq!(damaged.count(), 1);
    assert!(matches!(records.last(), Some(Record::Cut { .. })));
    assert_eq!(records.len(), 23);
}

#[test]
fn the_state_file_tells_what_is_deleted() {
    let index = read_index("S", &data("s-index.db")).expect("a good state file");
    assert_eq!((index.messages, index.bytes), (17, 871));
    assert_eq!((index.first_sequence, index.last_sequence), (2, 20));
    assert_eq!(index.blocks.len(), 1);
    assert_eq!(index.blocks[0].deleted, [7, 20]);
    let block = Block::new("S", 1, Bytes::from(data("s-1.blk")));
    assert_eq!(Some(index.last_checksum), block.last_checksum());
    let mut bytes = data("s-index.db");
    bytes[9] ^= 1;
    assert!(read_index("S", &bytes).is_err());
}
