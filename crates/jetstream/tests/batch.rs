//! Atomic batches on a leader: every row of spec jetstream/03 §2, the staged diff, limits, timers,
//! chains of parts, and that a refused batch leaves no trace.

mod support;

use millrace_jetstream::{Settings, StreamId};
use support::{Harness, code};

const ADVISORIES: &[u8] = b"$JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.*";

fn harness() -> Harness {
    listening(support::settings())
}

fn listening(settings: Settings) -> Harness {
    let mut harness = Harness::with(settings);
    harness.out.listens.insert(ADVISORIES.to_vec());
    harness
}

/// The reasons of the advisories since the last call.
fn reasons(harness: &mut Harness) -> Vec<String> {
    let mut found = Vec::new();
    while let Some(sent) = harness.take("$JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.S") {
        let advisory: serde_json::Value = serde_json::from_str(&sent.payload).expect("JSON");
        assert_eq!(
            advisory["type"],
            "io.nats.jetstream.advisory.v1.stream_batch_abandoned"
        );
        found.push(advisory["reason"].as_str().expect("a reason").to_owned());
    }
    found
}

fn member<'a>(id: &'a str, sequence: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![("Nats-Batch-Id", id), ("Nats-Batch-Sequence", sequence)]
}

fn commit<'a>(id: &'a str, sequence: &'a str, how: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut headers = member(id, sequence);
    headers.push(("Nats-Batch-Commit", how));
    headers
}

fn assert_idle(harness: &Harness) {
    assert_eq!(harness.engine.shared.batches_in_flight, 0);
    assert_eq!(harness.engine.shared.staging.memory_bytes(), 0);
}

fn assert_replays(harness: &Harness, stream: StreamId) {
    assert_eq!(
        harness.hash(stream),
        harness.replayed_hash(support::settings(), stream)
    );
}

const ATOMIC: &str = r#","allow_atomic":true"#;

// proves: JS-BAT-01, BAT-01
#[test]
fn a_batch_becomes_visible_as_one_with_its_commit() {
    let mut harness = harness();
    let stream = harness.create("S", ATOMIC);
    harness.publish(stream, "S.x", &[], "before");
    assert_eq!(harness.publish(stream, "S.a", &member("b", "1"), "1"), "");
    assert_eq!(harness.publish(stream, "S.b", &member("b", "2"), "2"), "");
    assert_eq!(harness.state(stream), (1, 1, 1));
    let entries = harness.logs[&stream.group()].entries.len();
    let answer = harness.publish(stream, "S.c", &commit("b", "3", "1"), "3");
    assert_eq!(answer, r#"{"stream":"S","seq":4,"batch":"b","count":3}"#);
    assert_eq!(harness.logs[&stream.group()].entries.len(), entries + 1);
    assert_eq!(harness.state(stream), (4, 1, 4));
    assert_idle(&harness);
    assert_replays(&harness, stream);
}

// proves: JS-BAT-01, BAT-01
#[test]
fn end_of_batch_commits_without_its_own_message() {
    let mut harness = harness();
    let stream = harness.create("S", ATOMIC);
    harness.publish(stream, "S.a", &member("b", "1"), "1");
    harness.publish(stream, "S.b", &member("b", "2"), "2");
    let answer = harness.publish(stream, "S.c", &commit("b", "3", "eob"), "not stored");
    assert_eq!(answer, r#"{"stream":"S","seq":2,"batch":"b","count":2}"#);
    assert_eq!(harness.state(stream), (2, 1, 2));
    let streams = &mut harness.engine.streams;
    let store = &mut streams.get_mut(&stream).expect("a stream").store;
    let last = store.get(2).ready().expect("in memory").expect("stored");
    assert!(last.headers.ends_with(b"Nats-Batch-Commit: 1\r\n\r\n"));
    assert_replays(&harness, stream);
    assert_eq!(harness.state(stream).2, 2);
}

#[test]
fn one_message_may_be_a_batch() {
    let mut harness = harness();
    let stream = harness.create("S", ATOMIC);
    let answer = harness.publish(stream, "S.a", &commit("b", "1", "1"), "1");
    assert_eq!(answer, r#"{"stream":"S","seq":1,"batch":"b","count":1}"#);
    let refused = harness.publish(stream, "S.a", &commit("b", "1", "eob"), "1");
    assert_eq!(code(&refused), 10176);
    assert_eq!(reasons(&mut harness), ["incomplete"]);
    assert_idle(&harness);
}

/// Name; extra stream configuration; headers of the message looked at; messages before; its code;
/// is the batch still there (a commit of the next sequence works); advisories.
type Row = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    usize,
    u64,
    bool,
    &'static [&'static str],
);
const ROWS: &[Row] = &[
    (
        "6 disabled",
        "",
        &[("Nats-Batch-Sequence", "1")],
        0,
        10174,
        false,
        &[],
    ),
    ("8 no sequence", ATOMIC, &[], 1, 10175, true, &[]),
    (
        "8 not a number",
        ATOMIC,
        &[("Nats-Batch-Sequence", "x")],
        1,
        10175,
        true,
        &[],
    ),
    (
        "9 too large",
        ATOMIC,
        &[("Nats-Batch-Sequence", "1001")],
        0,
        10199,
        false,
        &[],
    ),
    (
        "10 unknown",
        ATOMIC,
        &[("Nats-Batch-Sequence", "2")],
        0,
        10176,
        false,
        &[],
    ),
    (
        "14 commit",
        ATOMIC,
        &[("Nats-Batch-Sequence", "2"), ("Nats-Batch-Commit", "x")],
        1,
        10200,
        false,
        &[],
    ),
    (
        "15 level",
        ATOMIC,
        &[
            ("Nats-Batch-Sequence", "2"),
            ("Nats-Required-Api-Level", "99"),
        ],
        1,
        10185,
        false,
        &["unsupported"],
    ),
    (
        "16 gap",
        ATOMIC,
        &[("Nats-Batch-Sequence", "3")],
        1,
        10176,
        false,
        &["incomplete"],
    ),
    (
        "16 repeat",
        ATOMIC,
        &[("Nats-Batch-Sequence", "1")],
        1,
        10176,
        false,
        &["incomplete"],
    ),
];

// proves: JS-BAT-02, BAT-01
#[test]
fn every_row_of_the_table_has_its_code_disposition_and_advisory() {
    for (name, extra, headers, before, expected, kept, advisories) in ROWS {
        let mut harness = harness();
        let stream = harness.create("S", extra);
        for place in 0..*before {
            let sequence = (place + 1).to_string();
            harness.publish(stream, "S.a", &member("b", &sequence), "x");
        }
        let mut all = vec![("Nats-Batch-Id", "b")];
        all.extend_from_slice(headers);
        let answer = harness.publish(stream, "S.a", &all, "x");
        assert_eq!(code(&answer), *expected, "{name}: {answer}");
        assert_eq!(reasons(&mut harness), *advisories, "{name}");
        let next = (before + 1).to_string();
        let after = harness.publish(stream, "S.a", &commit("b", &next, "1"), "x");
        let works = code(&after) == 0;
        assert!(!kept || works, "{name}: {after}");
        if *before > 0 && !kept {
            assert_eq!(code(&after), 10176, "{name}: {after}");
        }
        assert_idle(&harness);
        let count = if works { *before as u64 + 1 } else { 0 };
        assert_eq!(harness.state(stream).2, count, "{name}");
    }
}

// proves: JS-BAT-02, BAT-01
#[test]
fn an_id_may_have_64_bytes_and_no_more() {
    let mut harness = harness();
    let stream = harness.create("S", ATOMIC);
    let (fits, too_long) = ("i".repeat(64), "i".repeat(65));
    assert_eq!(harness.publish(stream, "S.a", &member(&fits, "1"), "x"), "");
    let refused = harness.publish(stream, "S.a", &member(&too_long, "1"), "x");
    assert_eq!(code(&refused), 10179);
}

// proves: JS-BAT-02, BAT-01
#[test]
fn too_large_messages_are_refused_and_the_batch_is_kept() {
    let mut harness = harness();
    let stream = harness.create("S", r#","allow_atomic":true,"max_msg_size":200"#);
    harness.publish(stream, "S.a", &member("b", "1"), "x");
    let refused = harness.publish(stream, "S.a", &member("b", "2"), &"x".repeat(300));
    assert_eq!(code(&refused), 10054);
    let answer = harness.publish(stream, "S.a", &commit("b", "2", "1"), "x");
    assert_eq!(answer, r#"{"stream":"S","seq":2,"batch":"b","count":2}"#);
}

// proves: JS-BAT-02, JS-BAT-05, BAT-01, BAT-09
#[test]
fn limits_per_batch_stream_and_server_are_configurable() {
    let mut settings = support::settings();
    settings.batch.max_messages = 3;
    settings.batch.max_inflight_per_stream = 2;
    settings.batch.max_inflight_total = 3;
    let mut harness = listening(settings);
    let stream = harness.create("S", ATOMIC);
    let other = harness.create("T", ATOMIC);
    for id in ["a", "b"] {
        assert_eq!(harness.publish(stream, "S.a", &member(id, "1"), "x"), "");
    }
    assert_eq!(
        code(&harness.publish(stream, "S.a", &member("c", "1"), "x")),
        10210
    );
    assert_eq!(harness.publish(other, "T.a", &member("a", "1"), "x"), "");
    assert_eq!(
        code(&harness.publish(other, "T.a", &member("b", "1"), "x")),
        10210
    );
    for sequence in ["2", "3"] {
        assert_eq!(
            harness.publish(stream, "S.a", &member("a", sequence), "x"),
            ""
        );
    }
    let refused = harness.publish(stream, "S.a", &member("a", "4"), "x");
    assert!(
        refused.contains("atomic publish batch is too large: 3"),
        "{refused}"
    );
    assert_eq!(reasons(&mut harness), ["large"]);
    // Room again on the stream; a full batch may still end with `eob`.
    for sequence in ["1", "2", "3"] {
        assert_eq!(
            harness.publish(stream, "S.a", &member("d", sequence), "x"),
            ""
        );
    }
    let answer = harness.publish(stream, "S.a", &commit("d", "4", "eob"), "x");
    assert_eq!(answer, r#"{"stream":"S","seq":3,"batch":"d","count":3}"#);
}

// proves: JS-BAT-02, JS-BAT-05, BAT-01, BAT-09, BAT-08
#[test]
fn an_idle_batch_is_dropped_without_a_word_to_the_client() {
    let mut harness = harness();
    let stream = harness.create("S", ATOMIC);
    harness.publish(stream, "S.a", &member("b", "1"), "x");
    harness.advance_ms(6_000);
    harness.publish(stream, "S.a", &member("b", "2"), "x");
    harness.advance_ms(6_000);
    assert_eq!(reasons(&mut harness), Vec::<String>::new());
    harness.out.sent.clear();
    harness.advance_ms(4_001);
    assert_eq!(reasons(&mut harness), ["timeout"]);
    assert_eq!(harness.out.sent, []);
    assert_idle(&harness);
    let late = harness.publish(stream, "S.a", &commit("b", "3", "1"), "x");
    assert_eq!(code(&late), 10176);
}

#[test]
fn a_commit_after_the_timer_is_incomplete_even_if_the_tick_is_late() {
    let mut harness = harness();
    let stream = harness.create("S", ATOMIC);
    harness.publish(stream, "S.a", &member("b", "1"), "x");
    harness.now.monotonic_ns += 11_000_000_000;
    let late = harness.publish(stream, "S.a", &commit("b", "2", "1"), "x");
    assert_eq!(code(&late), 10176);
    assert_eq!(reasons(&mut harness), ["timeout"]);
    assert_idle(&harness);
}

/// Subjects and headers of a batch's messages.
type Members = &'static [(&'static str, &'static [(&'static str, &'static str)])];
/// A batch, and the code that its commit is refused with.
const REFUSED: &[(Members, u64)] = &[
    (
        &[("S.a", &[]), ("S.a", &[("Nats-Expected-Stream", "T")])],
        10060,
    ),
    (
        &[
            ("S.a", &[("Nats-Msg-Id", "q")]),
            ("S.b", &[("Nats-Msg-Id", "q")]),
        ],
        10201,
    ),
    (&[("S.a", &[("Nats-Msg-Id", "known")])], 10201),
    (&[("S.a", &[("Nats-Expected-Last-Sequence", "9")])], 10071),
    (
        &[
            ("S.a", &[]),
            ("S.a", &[("Nats-Expected-Last-Sequence", "2")]),
        ],
        10164,
    ),
    (
        &[
            ("S.a", &[]),
            ("S.a", &[("Nats-Expected-Last-Subject-Sequence", "0")]),
        ],
        10164,
    ),
    (
        &[("S.a", &[("Nats-Expected-Last-Subject-Sequence", "5")])],
        10071,
    ),
    (
        &[(
            "S.a",
            &[("Nats-Expected-Last-Subject-Sequence-Subject", "S.b")],
        )],
        10193,
    ),
    (&[("S.a", &[("Nats-Expected-Last-Msg-Id", "known")])], 10177),
    (&[("S.a", &[("Nats-TTL", "1h")])], 10166),
    (&[("S.a", &[("Nats-Incr", "1")])], 10168),
    (&[("S.a", &[("Nats-Stream-Source", "x")])], 10227),
    (&[("S.a", &[("Nats-Schedule", "@every 1s")])], 10188),
    (&[("S.a", &[("Nats-Rollup", "zz")])], 10111),
    (&[("S.a", &[]), ("S.a", &[("Nats-Rollup", "sub")])], 10111),
    (&[("S.a", &[]), ("S.b", &[("Nats-Rollup", "all")])], 10111),
    (
        &[("S.a", &[]), ("S.a", &[]), ("S.a", &[]), ("S.a", &[])],
        10077,
    ),
    // Duplicates come before expected sequences in a batch, unlike on a single publish.
    (
        &[(
            "S.a",
            &[
                ("Nats-Msg-Id", "known"),
                ("Nats-Expected-Last-Sequence", "9"),
            ],
        )],
        10201,
    ),
];

// proves: JS-BAT-03, BAT-02
#[test]
fn the_whole_batch_is_refused_at_its_commit_and_leaves_no_trace() {
    let extra = r#","allow_atomic":true,"allow_rollup_hdrs":true,"max_msgs":4,"discard":"new""#;
    for (members, expected) in REFUSED {
        let mut harness = harness();
        let stream = harness.create("S", extra);
        harness.publish(stream, "S.z", &[("Nats-Msg-Id", "known")], "x");
        let entries = harness.logs[&stream.group()].entries.len();
        let hash = harness.hash(stream);
        let mut answer = String::new();
        for (place, (subject, headers)) in members.iter().enumerate() {
            let sequence = (place + 1).to_string();
            let last = place + 1 == members.len();
            let mut all = if last {
                commit("b", &sequence, "1")
            } else {
                member("b", &sequence)
            };
            all.extend_from_slice(headers);
            answer = harness.publish(stream, subject, &all, "x");
        }
        assert_eq!(code(&answer), *expected, "{members:?} {answer}");
        assert_eq!(
            harness.logs[&stream.group()].entries.len(),
            entries,
            "{members:?}"
        );
        assert_eq!(harness.hash(stream), hash);
        assert_idle(&harness);
        assert_eq!(reasons(&mut harness), Vec::<String>::new());
        let next = harness.publish(stream, "S.a", &[("Nats-Expected-Last-Sequence", "1")], "x");
        assert_eq!(next, r#"{"stream":"S","seq":2}"#);
    }
}

// proves: JS-BAT-03, BAT-02
#[test]
fn what_others_have_in_flight_conflicts_with_a_batch() {
    let mut harness = harness();
    let stream = harness.create("S", ATOMIC);
    harness.hold = true;
    harness.publish_later(stream, "S.a", &[("Nats-Msg-Id", "q")], "x");
    let id = [&commit("b", "1", "1")[..], &[("Nats-Msg-Id", "q")]].concat();
    let reply = harness.publish_later(stream, "S.b", &id, "x");
    assert_eq!(code(&harness.answer(&reply)), 10158);
    let expected = [
        &commit("c", "1", "1")[..],
        &[("Nats-Expected-Last-Subject-Sequence", "0")],
    ]
    .concat();
    let reply = harness.publish_later(stream, "S.a", &expected, "x");
    assert_eq!(code(&harness.answer(&reply)), 10164);
    let last = [
        &commit("d", "1", "1")[..],
        &[("Nats-Expected-Last-Sequence", "1")],
    ]
    .concat();
    let reply = harness.publish_later(stream, "S.b", &last, "x");
    harness.end_of_turn();
    assert_eq!(harness.answer(&reply), "-");
    harness.commit_all();
    assert_eq!(
        harness.answer(&reply),
        r#"{"stream":"S","seq":2,"batch":"d","count":1}"#
    );
}

#[test]
fn several_messages_may_check_a_subject_that_the_batch_does_not_write() {
    let mut harness = harness();
    let stream = harness.create("S", ATOMIC);
    harness.publish(stream, "S.lock", &[], "x");
    let check = [
        ("Nats-Expected-Last-Subject-Sequence", "1"),
        ("Nats-Expected-Last-Subject-Sequence-Subject", "S.lock"),
    ];
    let first = [&member("b", "1")[..], &check].concat();
    let second = [&commit("b", "2", "1")[..], &check].concat();
    harness.publish(stream, "S.a", &first, "x");
    let answer = harness.publish(stream, "S.b", &second, "x");
    assert_eq!(answer, r#"{"stream":"S","seq":3,"batch":"b","count":2}"#);
}

#[test]
fn batches_interleave_and_each_commits_whole() {
    let mut harness = harness();
    let stream = harness.create("S", ATOMIC);
    for id in ["a", "b"] {
        harness.publish(stream, "S.a", &member(id, "1"), id);
    }
    harness.publish(stream, "S.single", &[], "x");
    let first = harness.publish(stream, "S.a", &commit("b", "2", "1"), "b");
    let second = harness.publish(stream, "S.a", &commit("a", "2", "1"), "a");
    assert_eq!(first, r#"{"stream":"S","seq":3,"batch":"b","count":2}"#);
    assert_eq!(second, r#"{"stream":"S","seq":5,"batch":"a","count":2}"#);
    assert_replays(&harness, stream);
}

// proves: JS-BAT-06, BAT-08
#[test]
fn switching_off_stepping_down_and_deleting_clear_staged_batches() {
    for way in ["disable", "depose", "delete", "purge"] {
        let mut harness = harness();
        let stream = harness.create("S", ATOMIC);
        harness.publish(stream, "S.a", &member("b", "1"), "x");
        assert_eq!(harness.engine.shared.batches_in_flight, 1);
        match way {
            "disable" => {
                let body = r#"{"name":"S","subjects":["S.>"]}"#;
                let answer = harness.api("STREAM.UPDATE.S", body).expect("an answer");
                assert!(answer.get("error").is_none(), "{answer}");
            }
            "depose" => harness.depose(stream.group()),
            "delete" => {
                harness.api("STREAM.DELETE.S", "").expect("an answer");
            }
            _ => {
                harness.api("STREAM.PURGE.S", "").expect("an answer");
                let answer = harness.publish(stream, "S.a", &commit("b", "2", "1"), "x");
                assert_eq!(code(&answer), 0);
            }
        }
        assert_eq!(reasons(&mut harness), Vec::<String>::new(), "{way}");
        assert_idle(&harness);
    }
}

/// Stages a batch of `count` messages of 400 KiB; the last commits. Gives the commit's reply.
fn large_batch(harness: &mut Harness, stream: StreamId, id: &str, count: usize) -> String {
    let payload = "x".repeat(400 * 1024);
    for sequence in 1..count {
        let sequence = sequence.to_string();
        harness.publish_later(stream, "S.a", &member(id, &sequence), &payload);
    }
    harness.out.sent.clear();
    let last = count.to_string();
    harness.publish_later(stream, "S.b", &commit(id, &last, "1"), &payload)
}

// proves: JS-BAT-04, BAT-03, BAT-06
#[test]
fn a_large_batch_is_a_chain_that_becomes_visible_in_one_step() {
    let mut harness = harness();
    let stream = harness.create("S", ATOMIC);
    harness.publish(stream, "S.x", &[], "before");
    harness.hold = true;
    let reply = large_batch(&mut harness, stream, "b", 20);
    let waiting = harness.publish_later(stream, "S.x", &[], "after");
    harness.end_of_turn();
    let group = stream.group();
    let mut steps = 0;
    while harness.logs[&group]
        .pending
        .iter()
        .any(|entry| !entry.is_empty())
    {
        assert!(
            harness.logs[&group].pending.len() <= 5,
            "bounded memory in flight"
        );
        let before = harness.state(stream);
        harness.commit_one(group);
        harness.end_of_turn();
        let after = harness.state(stream);
        assert!(
            after == before || after.2 >= before.2 + 20 || before.2 >= 21,
            "{after:?}"
        );
        steps += 1;
    }
    assert!(steps > 5, "a chain of parts");
    assert_eq!(
        harness.answer(&reply),
        r#"{"stream":"S","seq":21,"batch":"b","count":20}"#
    );
    assert_eq!(harness.answer(&waiting), r#"{"stream":"S","seq":22}"#);
    assert_idle(&harness);
    assert_replays(&harness, stream);
}

#[test]
fn a_large_batch_that_fails_its_checks_proposes_nothing() {
    let mut harness = harness();
    let stream = harness.create("S", r#","allow_atomic":true,"max_msgs":5,"discard":"new""#);
    let entries = harness.logs[&stream.group()].entries.len();
    let reply = large_batch(&mut harness, stream, "b", 8);
    harness.end_of_turn();
    assert_eq!(code(&harness.answer(&reply)), 10077);
    assert_eq!(harness.logs[&stream.group()].entries.len(), entries);
    assert_idle(&harness);
}

// proves: JS-BAT-04, JS-BAT-06, BAT-03, BAT-04, BAT-08
#[test]
fn a_chain_cut_by_a_new_term_is_dropped_on_every_replica() {
    let mut harness = harness();
    let stream = harness.create("S", ATOMIC);
    harness.publish(stream, "S.x", &[], "before");
    harness.hold = true;
    let reply = large_batch(&mut harness, stream, "b", 20);
    harness.end_of_turn();
    for _ in 0..3 {
        harness.commit_one(stream.group());
    }
    harness.depose(stream.group());
    harness.elect(stream.group());
    harness.hold = false;
    assert_eq!(harness.answer(&reply), "-");
    assert_idle(&harness);
    let next = harness.publish(stream, "S.x", &[], "after");
    assert_eq!(next, r#"{"stream":"S","seq":2}"#);
    assert_replays(&harness, stream);
}

#[test]
fn changes_asked_for_during_a_chain_wait_for_its_end() {
    let mut harness = harness();
    let stream = harness.create("S", ATOMIC);
    harness.hold = true;
    let reply = large_batch(&mut harness, stream, "b", 20);
    assert_eq!(harness.api("STREAM.PURGE.S", ""), None);
    harness.commit_all();
    assert_eq!(
        harness.answer(&reply),
        r#"{"stream":"S","seq":20,"batch":"b","count":20}"#
    );
    assert_eq!(harness.state(stream), (0, 21, 20));
    assert_replays(&harness, stream);
}

#[test]
fn the_required_level_is_checked_and_not_stored() {
    let mut harness = harness();
    let stream = harness.create("S", ATOMIC);
    let level = [
        &commit("b", "1", "1")[..],
        &[("Nats-Required-Api-Level", "2")],
    ]
    .concat();
    assert_eq!(code(&harness.publish(stream, "S.a", &level, "x")), 0);
    let store = &mut harness
        .engine
        .streams
        .get_mut(&stream)
        .expect("a stream")
        .store;
    let stored = store.get(1).ready().expect("in memory").expect("stored");
    let expected = support::header_block(&commit("b", "1", "1"));
    assert_eq!(stored.headers, expected);
}

/// More messages than one step takes.
fn several_steps(harness: &mut Harness, stream: StreamId) -> String {
    let count = 2_500;
    for sequence in 1..count {
        let sequence = sequence.to_string();
        harness.publish_later(stream, "S.x", &member("b", &sequence), "");
    }
    let last = count.to_string();
    harness.publish_later(stream, "S.x", &commit("b", &last, "1"), "")
}

// proves: JS-BAT-03, BAT-03, BAT-06
#[test]
fn a_batch_that_takes_several_steps_is_seen_whole_or_not_at_all_while_others_go_on() {
    let mut settings = support::settings();
    settings.batch.max_messages = 5_000;
    let mut harness = listening(settings);
    let (stream, other) = (harness.create("S", ATOMIC), harness.create("T", ""));
    harness.publish(stream, "S.a", &[], "before");
    let reply = several_steps(&mut harness, stream);
    harness.end_of_turn();
    // One step is done, and nobody sees it.
    assert!(harness.engine.is_behind());
    assert!(harness.take(&reply).is_none());
    let stored = harness.engine.streams[&stream].store.state().messages;
    assert!(stored > 1 && stored < 2_501, "{stored}");
    assert!(harness.api("STREAM.INFO.S", "").is_none());
    let asked = harness.last_reply();
    harness.publish(other, "T.a", &[], "meanwhile");
    assert_eq!(harness.state(other).0, 1);
    // A later entry waits for its turn.
    let later = harness.publish_later(stream, "S.b", &[], "later");
    harness.end_of_turn();
    assert!(harness.take(&later).is_none());
    let mut steps = 0;
    while harness.engine.streams[&stream].is_applying() {
        assert!(harness.take(&asked).is_none(), "a part was seen");
        harness.advance_ms(0);
        steps += 1;
    }
    assert!(steps >= 2, "{steps} steps");
    let info = harness.take(&asked).expect("answered now").payload;
    harness.advance_ms(0);
    assert!(!harness.engine.is_behind());
    assert!(info.contains(r#""messages":2501,"#), "{info}");
    let answer = harness.take(&reply).expect("committed").payload;
    assert_eq!(
        answer,
        r#"{"stream":"S","seq":2501,"batch":"b","count":2500}"#
    );
    let later = harness.take(&later).expect("stored").payload;
    assert_eq!(later, r#"{"stream":"S","seq":2502}"#);
    assert_replays(&harness, stream);
}
