//! What the streams of a server keep in memory together: one budget, most of it for who is active.

mod support;

use millrace_jetstream::{Effect, Input, Settings, StreamId};
use support::{Harness, settings};

const BUDGET_BYTES: u64 = 4 << 20;
/// What the few streams used last may keep above it.
const FLOORS_BYTES: u64 = 8 * (320 << 10);

fn cached(harness: &Harness, stream: StreamId) -> u64 {
    harness.engine.streams[&stream].store.resident().cache
}

#[test]
fn a_hundred_streams_keep_no_more_in_memory_than_the_server_allows() {
    let mut harness = Harness::with(Settings {
        store_memory_bytes: BUDGET_BYTES,
        ..settings()
    });
    harness.journaled = true;
    let streams: Vec<(String, StreamId)> = (0..100)
        .map(|number| format!("S{number}"))
        .map(|name| (name.clone(), harness.create(&name, "")))
        .collect();
    let payload = "x".repeat(16 << 10);
    for round in 0..3 {
        for (name, stream) in &streams {
            for _ in 0..4 {
                harness.publish_later(*stream, &format!("{name}.a"), &[], &payload);
            }
            harness.end_of_turn();
            // The engine asks for another turn while somebody has to give memory back.
            while harness.engine.next_deadline() == Some(0) {
                harness.end_of_turn();
            }
            let held: u64 = streams
                .iter()
                .map(|(_, stream)| cached(&harness, *stream))
                .sum();
            assert!(
                held <= BUDGET_BYTES + FLOORS_BYTES,
                "round {round}: {held} bytes"
            );
        }
    }
    let (name, busy) = &streams[0];
    for _ in 0..400 {
        harness.publish(*busy, &format!("{name}.a"), &[], &payload);
    }
    let held = cached(&harness, *busy);
    assert!(
        held > BUDGET_BYTES / 3,
        "the active stream has {held} bytes"
    );
    assert_eq!(harness.state(*busy).0, 3 * 4 + 400);
    // A stream that goes takes its share with it.
    let before = harness.engine.shared.memory.held().0;
    let answer = harness.api(&format!("STREAM.DELETE.{name}"), "");
    assert!(answer.is_some_and(|answer| answer["success"] == true));
    assert_eq!(harness.engine.shared.memory.held().0, before - held);
}

/// What a tick asks of the disk, in its first step.
fn disk_requests(harness: &mut Harness) -> usize {
    let mut effects = Vec::new();
    harness
        .engine
        .handle(harness.now, Input::Tick, &mut harness.out, &mut effects);
    let asked = |effect: &&Effect| matches!(effect, Effect::Disk { .. });
    effects.iter().filter(asked).count()
}

fn pass_ms(harness: &mut Harness, milliseconds: u64) {
    harness.now.monotonic_ns += milliseconds * 1_000_000;
    harness.now.wall_ns += milliseconds as i64 * 1_000_000;
}

#[test]
fn a_stream_that_rests_moves_its_tail_to_segments_and_a_short_tail_stays() {
    let mut harness = Harness::new();
    harness.journaled = true;
    let (short, long) = (harness.create("SHORT", ""), harness.create("LONG", ""));
    let payload = "x".repeat(64 << 10);
    for _ in 0..20 {
        harness.publish(long, "LONG.a", &[], &payload);
        harness.publish(short, "SHORT.a", &[], "x");
        pass_ms(&mut harness, 900);
        assert_eq!(disk_requests(&mut harness), 0, "it does not rest");
        harness.end_of_turn();
    }
    let due_ns = harness.engine.next_deadline().expect("a deadline");
    assert_eq!(due_ns, harness.now.monotonic_ns + 100 * 1_000_000);
    pass_ms(&mut harness, 100);
    assert!(disk_requests(&mut harness) > 0, "it rests");
    harness.end_of_turn();
    pass_ms(&mut harness, 10_000);
    assert_eq!(disk_requests(&mut harness), 0, "one attempt is enough");
}
