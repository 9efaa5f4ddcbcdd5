//! Schedules and markers: what the leader logs, and that the log alone makes the state.

mod support;

use millrace_jetstream::StreamId;
use support::{Harness, code};

const DUE: &str = "@at 2023-11-14T22:13:25Z";

/// Sequence, subject and headers of all messages.
fn messages(harness: &mut Harness, stream: StreamId) -> Vec<(u64, String, String)> {
    let store = &mut harness
        .engine
        .streams
        .get_mut(&stream)
        .expect("a stream")
        .store;
    let last = store.state().last_sequence;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (1..=last)
        .filter_map(|sequence| {
            let message = store.get(sequence).ready()?.ok()?;
            Some((sequence, text(&message.subject), text(&message.headers)))
        })
        .collect()
}

fn scheduled(harness: &mut Harness, pattern: &str) -> StreamId {
    let stream = harness.create("S", ",\"allow_msg_schedules\":true,\"allow_atomic\":true");
    let headers = [
        ("Nats-Schedule", pattern),
        ("Nats-Schedule-Target", "S.target"),
    ];
    let answer = harness.publish(stream, "S.plan", &headers, "body");
    assert_eq!(code(&answer), 0, "{answer}");
    stream
}

// proves: JS-SCH-01, JS-SCH-04
#[test]
fn a_schedule_fires_once_and_its_log_replays_to_the_same_state() {
    let mut harness = Harness::new();
    let stream = scheduled(&mut harness, DUE);
    harness.advance_ms(4_999);
    assert_eq!(harness.state(stream), (1, 1, 1));
    harness.advance_ms(1);
    assert_eq!(harness.state(stream), (1, 2, 2));
    harness.advance_ms(5_000);
    assert_eq!(harness.state(stream), (1, 2, 2));
    assert_eq!(
        harness.hash(stream),
        harness.replayed_hash(support::settings(), stream)
    );
    let expected = "NATS/1.0\r\nNats-Scheduler: S.plan\r\nNats-Schedule-Next: purge\r\n\r\n";
    let all = messages(&mut harness, stream);
    assert_eq!(all, [(2, "S.target".to_owned(), expected.to_owned())]);
}

// proves: JS-SCH-04
#[test]
fn what_fired_does_not_fire_again_while_that_is_in_flight() {
    let mut harness = Harness::new();
    let stream = scheduled(&mut harness, "@every 1s");
    harness.hold = true;
    harness.advance_ms(1_500);
    harness.advance_ms(2_000);
    assert_eq!(harness.logs[&stream.group()].pending.len(), 1);
    harness.commit_all();
    // Due again after what was missed: once.
    assert_eq!(harness.state(stream), (2, 1, 2));
    harness.hold = false;
    harness.advance_ms(300);
    assert_eq!(harness.state(stream), (3, 1, 3));
    let replayed = harness.replayed_hash(support::settings(), stream);
    assert_eq!(harness.hash(stream), replayed);
}

#[test]
fn a_firing_that_is_lost_with_the_lead_is_made_up_for_by_the_next_leader() {
    let mut harness = Harness::new();
    let stream = scheduled(&mut harness, DUE);
    harness.hold = true;
    harness.advance_ms(5_000);
    harness.depose(stream.group());
    harness.hold = false;
    harness.elect(stream.group());
    harness.end_of_turn();
    assert_eq!(harness.state(stream), (1, 1, 1));
    harness.advance_ms(300);
    assert_eq!(harness.state(stream), (1, 2, 2));
}

// proves: JS-SCH-03
#[test]
fn a_cancelled_schedule_does_not_fire_even_before_the_cancel_is_applied() {
    let mut harness = Harness::new();
    let stream = scheduled(&mut harness, DUE);
    harness.hold = true;
    let cancel = [
        ("Nats-Schedule-Next", "purge"),
        ("Nats-Scheduler", "S.plan"),
    ];
    let reply = harness.publish_later(stream, "S.x", &cancel, "");
    harness.end_of_turn();
    harness.advance_ms(5_000);
    harness.commit_all();
    assert_eq!(harness.answer(&reply), r#"{"stream":"S","seq":2}"#);
    harness.hold = false;
    harness.advance_ms(5_000);
    assert_eq!(harness.state(stream), (1, 2, 2));
}

#[test]
fn the_last_of_what_is_in_flight_decides_whether_a_subject_holds_a_schedule() {
    let mut harness = Harness::new();
    let stream = scheduled(&mut harness, DUE);
    harness.hold = true;
    let cancel = [
        ("Nats-Schedule-Next", "purge"),
        ("Nats-Scheduler", "S.plan"),
    ];
    harness.publish_later(stream, "S.plan", &[], "plain");
    let reply = harness.publish_later(stream, "S.x", &cancel, "");
    harness.end_of_turn();
    harness.commit_all();
    assert_eq!(code(&harness.answer(&reply)), 10212);
}

// proves: JS-TTL-03
#[test]
fn markers_are_logged_by_the_leader_and_replay_to_the_same_state() {
    let mut harness = Harness::new();
    let extra = ",\"subject_delete_marker_ttl\":5000000000,\"max_msgs_per_subject\":1";
    let stream = harness.create("S", extra);
    for subject in ["S.a", "S.b", "S.c"] {
        harness.publish(stream, subject, &[("Nats-TTL", "1s")], "x");
    }
    harness.publish(stream, "S.b", &[], "newer");
    harness.advance_ms(1_000);
    harness.advance_ms(100);
    let subjects: Vec<String> = messages(&mut harness, stream)
        .into_iter()
        .map(|(sequence, subject, _)| format!("{sequence} {subject}"))
        .collect();
    assert_eq!(subjects, ["4 S.b", "5 S.a", "6 S.c"]);
    harness.advance_ms(5_000);
    harness.advance_ms(100);
    assert_eq!(harness.state(stream), (1, 4, 6));
    let replayed = harness.replayed_hash(support::settings(), stream);
    assert_eq!(harness.hash(stream), replayed);
}

#[test]
fn a_message_that_arrives_meanwhile_makes_a_marker_needless() {
    let mut harness = Harness::new();
    let stream = harness.create("S", ",\"subject_delete_marker_ttl\":5000000000");
    harness.publish(stream, "S.a", &[("Nats-TTL", "5s")], "old");
    harness.hold = true;
    harness.advance_ms(5_000);
    harness.publish_later(stream, "S.a", &[], "new");
    harness.end_of_turn();
    harness.commit_all();
    harness.hold = false;
    harness.advance_ms(100);
    let left = messages(&mut harness, stream);
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].2.is_empty());
}
