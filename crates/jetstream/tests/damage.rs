//! A log from which damage has taken an entry: what is left stands where it stood, and what is gone
//! is said.

mod support;

use std::collections::BTreeMap;

use bytes::Bytes;
use millrace_jetstream::{GroupId, Input, META_GROUP, StreamId};
use support::Harness;

/// What a stream holds: subject and length of the payload, by sequence.
fn messages(harness: &mut Harness, stream: StreamId) -> BTreeMap<u64, (Bytes, usize)> {
    let (_, _, last) = harness.state(stream);
    let stream = harness.engine.streams.get_mut(&stream).expect("a stream");
    let read = |sequence| {
        let message = stream
            .store
            .get(sequence)
            .ready()
            .expect("in memory")
            .ok()?;
        Some((sequence, (message.subject, message.payload.len())))
    };
    (1..=last).filter_map(read).collect()
}

/// Hands the groups' logs to a fresh engine; of the stream's, the entry at `lost` is empty.
fn replayed_without(harness: &Harness, stream: StreamId, lost: u64) -> Harness {
    let mut other = Harness::new();
    let mut feed = |group: GroupId, lost: u64| {
        for (index, term, data) in &harness.logs[&group].entries {
            let data = if *index == lost {
                Bytes::new()
            } else {
                data.clone()
            };
            other.input(Input::Committed {
                group,
                index: *index,
                term: *term,
                data,
                position: None,
            });
        }
    };
    feed(META_GROUP, 0);
    feed(stream.group(), lost);
    other.rest();
    other
}

#[test]
fn an_entry_that_is_lost_moves_no_message_to_the_place_of_another() {
    let mut harness = Harness::new();
    let stream = harness.create("S", r#","allow_atomic":true"#);
    let batch = |harness: &mut Harness, id: &str, count: usize, length: usize| {
        // A chain is proposed further while its first parts are applied.
        harness.hold = true;
        for place in 1..=count {
            let place_text = place.to_string();
            let mut headers = vec![("Nats-Batch-Id", id), ("Nats-Batch-Sequence", &place_text)];
            if place == count {
                headers.push(("Nats-Batch-Commit", "1"));
            }
            let subject = format!("S.{id}");
            harness.publish_later(stream, &subject, &headers, &"x".repeat(length));
        }
        harness.end_of_turn();
        harness.commit_all();
        harness.hold = false;
    };
    harness.publish(stream, "S.a", &[], "1");
    harness.publish(stream, "S.b", &[], "22");
    batch(&mut harness, "small", 3, 4);
    batch(&mut harness, "whole", 3, 40 << 10);
    batch(&mut harness, "chain", 8, 400 << 10);
    harness.publish(stream, "S.c", &[], "333");
    let all = messages(&mut harness, stream);
    assert_eq!(all.len(), 17);
    let entries = harness.logs[&stream.group()].entries.clone();
    assert!(entries.len() > 8, "a chain of several entries");
    for (lost, _, data) in entries.iter().filter(|(_, _, data)| !data.is_empty()) {
        let mut other = replayed_without(&harness, stream, *lost);
        let left = messages(&mut other, stream);
        assert!(left.len() < all.len(), "{} bytes were lost", data.len());
        for (sequence, message) in &left {
            assert_eq!(Some(message), all.get(sequence), "entry {lost}");
        }
        if Some(*lost) != entries.last().map(|entry| entry.0) {
            assert_eq!(other.state(stream).2, 17, "entry {lost}");
            let told = |line: &String| line.contains("are lost to damage");
            assert!(other.log_lines.iter().any(told), "entry {lost}");
        }
    }
}
