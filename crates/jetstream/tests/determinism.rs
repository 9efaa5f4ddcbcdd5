//! Random publishes, batches, purges and deletes with entries committed late: what the stream holds
//! equals a naive model of the acknowledged operations, and its log replayed from scratch gives the
//! same state.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use millrace_jetstream::{Input, Settings, StreamId};
use proptest::prelude::*;
use support::Harness;

#[derive(Clone, Debug)]
enum Action {
    Publish {
        subject: u8,
        id: Option<u8>,
        expect_last: bool,
        rollup: bool,
    },
    Batch {
        subjects: Vec<u8>,
        broken: bool,
        large: bool,
    },
    Purge {
        subject: Option<u8>,
        keep: u8,
    },
    Delete {
        back: u8,
    },
    Commit,
    EndOfTurn,
    Depose,
    Wait,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        8 => (0..4u8, prop::option::of(0..6u8), prop::bool::weighted(0.2), prop::bool::weighted(0.1))
            .prop_map(|(subject, id, expect_last, rollup)| Action::Publish {
                subject, id, expect_last, rollup
            }),
        3 => (prop::collection::vec(0..4u8, 1..5), prop::bool::weighted(0.2), prop::bool::weighted(0.1))
            .prop_map(|(subjects, broken, large)| Action::Batch { subjects, broken, large }),
        1 => (prop::option::of(0..4u8), 0..3u8)
            .prop_map(|(subject, keep)| Action::Purge { subject, keep }),
        1 => (0..5u8).prop_map(|back| Action::Delete { back }),
        4 => Just(Action::Commit),
        6 => Just(Action::EndOfTurn),
        1 => Just(Action::Depose),
        1 => Just(Action::Wait),
    ];
    prop::collection::vec(action, 1..60)
}

/// What a client was promised: sequence to payload, as far as acknowledged.
#[derive(Default)]
struct Promises {
    /// Reply to the payloads it stands for, in order.
    open: BTreeMap<String, Vec<String>>,
    /// Sequence to payload.
    stored: BTreeMap<u64, String>,
    /// Nobody was told what became of these: the lead was lost while they were carried out.
    unknown: BTreeSet<String>,
}

impl Promises {
    fn collect(&mut self, harness: &mut Harness) {
        let replies: Vec<String> = self.open.keys().cloned().collect();
        for reply in replies {
            let Some(sent) = harness.take(&reply) else {
                continue;
            };
            let Some(payloads) = self.open.remove(&reply) else {
                continue;
            };
            let answer: serde_json::Value =
                serde_json::from_str(&sent.payload).expect("an acknowledgement");
            if answer.get("error").is_some() || answer.get("duplicate").is_some() {
                continue;
            }
            let last = answer["seq"].as_u64().expect("a sequence");
            let first = last + 1 - payloads.len() as u64;
            for (sequence, payload) in (first..).zip(payloads) {
                let before = self.stored.insert(sequence, payload);
                assert_eq!(before, None, "sequence {sequence} was given twice");
            }
        }
    }
}

fn batch(
    harness: &mut Harness,
    stream: StreamId,
    serial: usize,
    action: &Action,
) -> (String, Vec<String>) {
    let Action::Batch {
        subjects,
        broken,
        large,
    } = action
    else {
        unreachable!("a batch")
    };
    let id = format!("batch{serial}");
    let filler = if *large {
        "y".repeat(700 * 1024)
    } else {
        String::new()
    };
    let (mut reply, mut payloads) = (String::new(), Vec::new());
    for (place, subject) in subjects.iter().enumerate() {
        let sequence = (place + 1).to_string();
        let mut headers = vec![
            ("Nats-Batch-Id", id.as_str()),
            ("Nats-Batch-Sequence", &sequence),
        ];
        if place + 1 == subjects.len() {
            headers.push(("Nats-Batch-Commit", "1"));
        }
        if *broken && place + 1 == subjects.len() {
            headers.push(("Nats-Expected-Stream", "other"));
        }
        let payload = format!("{serial}.{place}{filler}");
        reply = harness.publish_later(stream, &format!("S.{subject}"), &headers, &payload);
        payloads.push(payload);
    }
    (reply, payloads)
}

/// Publishes one message; gives its reply and payload.
fn single(
    harness: &mut Harness,
    stream: StreamId,
    serial: usize,
    action: &Action,
) -> (String, Vec<String>) {
    let Action::Publish {
        subject,
        id,
        expect_last,
        rollup,
    } = action
    else {
        unreachable!("a publish")
    };
    let id = id.map(|id| format!("id{id}"));
    let mut headers = Vec::new();
    if let Some(id) = &id {
        headers.push(("Nats-Msg-Id", id.as_str()));
    }
    if *expect_last {
        headers.push(("Nats-Expected-Last-Subject-Sequence", "0"));
    }
    if *rollup {
        headers.push(("Nats-Rollup", "sub"));
    }
    let payload = format!("{serial}");
    let reply = harness.publish_later(stream, &format!("S.{subject}"), &headers, &payload);
    (reply, vec![payload])
}

fn act(
    harness: &mut Harness,
    stream: StreamId,
    serial: usize,
    action: &Action,
    promises: &mut Promises,
) {
    let group = stream.group();
    match action {
        Action::Publish { .. } => {
            promises
                .open
                .extend([single(harness, stream, serial, action)]);
        }
        Action::Batch { .. } => {
            promises
                .open
                .extend([batch(harness, stream, serial, action)]);
        }
        Action::Purge { subject, keep } => {
            let filter = subject.map_or(String::new(), |subject| format!("S.{subject}"));
            let body = format!(r#"{{"filter":"{filter}","keep":{keep}}}"#);
            harness.api("STREAM.PURGE.S", &body);
        }
        Action::Delete { back } => {
            let sequence = harness.state(stream).2.saturating_sub(u64::from(*back));
            let body = format!(r#"{{"seq":{sequence}}}"#);
            harness.api("STREAM.MSG.DELETE.S", &body);
        }
        Action::Commit => {
            harness.commit_one(group);
        }
        Action::EndOfTurn => {
            harness.end_of_turn();
            if serial.is_multiple_of(2) {
                harness.stage(Input::Tick);
            }
        }
        Action::Depose => {
            harness.depose(group);
            harness.elect(group);
            // It leads when what was committed before is carried out.
            harness.end_of_turn();
            harness.rest();
            promises.collect(harness);
            let open = std::mem::take(&mut promises.open);
            promises.unknown.extend(open.into_values().flatten());
        }
        Action::Wait => harness.advance_ms(700),
    }
    promises.collect(harness);
}

/// Steps of two items: nearly every entry is carried out in several turns.
fn small_steps() -> Settings {
    Settings {
        items_per_step: 2,
        ..support::settings()
    }
}

fn run(actions: &[Action], extra: &str) {
    run_with(actions, extra, support::settings());
    run_with(actions, extra, small_steps());
}

fn run_with(actions: &[Action], extra: &str, settings: Settings) {
    let mut harness = Harness::with(settings);
    let stream = harness.create("S", extra);
    let mut promises = Promises::default();
    harness.hold = true;
    for (serial, action) in actions.iter().enumerate() {
        act(&mut harness, stream, serial, action, &mut promises);
    }
    harness.end_of_turn();
    for _ in 0..actions.len() + 10 {
        harness.commit_all();
        harness.rest();
    }
    promises.collect(&mut harness);
    let open: Vec<&String> = promises.open.keys().collect();
    assert!(open.is_empty(), "unanswered: {open:?}");
    assert_eq!(harness.log_lines, Vec::<String>::new());
    assert_eq!(harness.engine.shared.batches_in_flight, 0);
    // However the steps fall, the log gives the same state.
    for (settings, turns) in [
        (support::settings(), u64::MAX),
        (small_steps(), 0),
        (small_steps(), 1),
        (small_steps(), u64::MAX),
    ] {
        let replayed = harness.replayed_hash_with(settings, stream, turns);
        assert_eq!(harness.hash(stream), replayed);
    }
    check(&mut harness, stream, &promises);
}

/// What is stored is what was acknowledged under that sequence.
fn check(harness: &mut Harness, stream: StreamId, promises: &Promises) {
    let last = harness.state(stream).2;
    let store = &mut harness
        .engine
        .streams
        .get_mut(&stream)
        .expect("a stream")
        .store;
    for sequence in 1..=last {
        let Some(Ok(message)) = store.get(sequence).ready() else {
            continue;
        };
        let payload = String::from_utf8_lossy(&message.payload);
        match promises.stored.get(&sequence) {
            Some(promised) => assert_eq!(payload, *promised, "sequence {sequence}"),
            None => assert!(promises.unknown.contains(&*payload), "stored and refused"),
        }
    }
    assert!(promises.stored.keys().all(|sequence| *sequence <= last));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn what_is_acknowledged_is_stored_and_the_log_alone_gives_the_state(actions in actions()) {
        run(&actions, r#","allow_atomic":true,"allow_rollup_hdrs":true"#);
    }

    #[test]
    fn limits_do_not_change_that(actions in actions()) {
        run(
            &actions,
            r#","allow_atomic":true,"allow_rollup_hdrs":true,"max_msgs":6,"max_msgs_per_subject":2,"max_age":2000000000,"duplicate_window":1000000000"#,
        );
    }

    #[test]
    fn refusing_new_messages_does_not_change_that(actions in actions()) {
        run(
            &actions,
            r#","allow_atomic":true,"allow_rollup_hdrs":true,"max_msgs":8,"discard":"new","max_msgs_per_subject":3"#,
        );
    }
}
