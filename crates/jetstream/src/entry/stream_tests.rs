//! Tests of `stream.rs`.

use proptest::prelude::*;

use super::super::samples::{DECISION, parts};
use super::*;

fn every_operation() -> Vec<Operation> {
    vec![
        Operation::Purge {
            sequence: 1,
            keep: 2,
            filter: Bytes::from_static(b"a.>"),
        },
        Operation::Delete {
            sequence: 3,
            erase: true,
        },
        Operation::Configure {
            config: Bytes::from_static(b"{}"),
        },
        Operation::Expire { now_ns: -1 },
        Operation::At { sequence: 8 },
        Operation::Remove { sequence: 9 },
        Operation::Consumer {
            name: Bytes::from_static(b"n"),
            record: Bytes::from_static(b"c"),
        },
        Operation::ConsumerCreate {
            created_ns: 3,
            name: Bytes::from_static(b"n"),
            config: Bytes::from_static(b"{}"),
        },
        Operation::ConsumerDelete {
            name: Bytes::from_static(b"n"),
        },
        Operation::ConsumerPause {
            until_ns: 5,
            name: Bytes::from_static(b"n"),
        },
        Operation::ConsumerReset {
            sequence: 6,
            name: Bytes::from_static(b"n"),
        },
        Operation::Skip { through: 8 },
        Operation::SourcePosition {
            sequence: 9,
            name: Bytes::from_static(b"O > >"),
            identity: Bytes::from_static(b"i"),
        },
        Operation::Commit(CommitRecord {
            batch: 4,
            parts: 2,
            count: 3,
            first_sequence: 10,
            bytes: 100,
            checksum: 42,
        }),
    ]
}

#[test]
fn every_operation_survives_encoding() {
    let operations = every_operation();
    let mut writer = StreamEntryWriter::default();
    for operation in &operations {
        writer.push(operation);
    }
    let head = EntryHead {
        origin: 1,
        number: 2,
    };
    let data = writer.finish(head);
    let (read_head, read) = decode_head(&data).expect("just written");
    let read: Result<Vec<_>, _> = read.collect();
    let read = read.expect("just written");
    assert_eq!(read_head, head);
    assert_eq!(read, operations);
}

#[test]
fn messages_tell_what_was_decided_and_where_their_bytes_are() {
    let all = [parts("x", "1"), parts("y.z", ""), parts("", "22")];
    let mut messages = Vec::new();
    for message in all {
        put_message(&mut messages, DECISION, message);
    }
    let head = EntryHead {
        origin: 1,
        number: 2,
    };
    let mut part = part_front(head, 4, 1, 3).to_vec();
    part.extend_from_slice(&messages);
    let mut writer = StreamEntryWriter::default();
    all.iter()
        .for_each(|parts| writer.publish(DECISION, *parts));
    writer.batch(3, &messages);
    let mut batch = vec![0; PART_FRONT_LENGTH];
    batch.extend_from_slice(&messages);
    let batch = batch_entry(head, 9, 3, batch);
    for data in [writer.finish(head), Bytes::from(part), batch] {
        let (read_head, operations) = decode_head(&data).expect("just written");
        assert_eq!(read_head, head);
        let mut read = Vec::new();
        for operation in operations {
            match operation.expect("just written") {
                Operation::At { sequence: 9 } => {}
                Operation::Publish(place) => read.push(place),
                Operation::Batch { messages } => read.extend(messages),
                Operation::Part {
                    batch: 4,
                    index: 1,
                    messages,
                } => read.extend(messages),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(read.len() % 3, 0);
        for (place, expected) in read.iter().zip(all.iter().cycle()) {
            assert_eq!((place.decision, place.parts(&data)), (DECISION, *expected));
        }
    }
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut data = vec![FORMAT_VERSION];
        data.extend_from_slice(&bytes);
        if let Ok((_, operations)) = decode_head(&Bytes::from(data)) {
            prop_assert!(operations.count() <= 200);
        }
    }
}
