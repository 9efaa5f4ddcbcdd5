//! Publishes against one stream: answers byte for byte, orders of checks, what is in flight.

mod support;

use millrace_jetstream::{Endpoint, Input, Message};
use support::{ACCOUNT, Harness, code};

// proves: JS-PUB-01
#[test]
fn a_stored_message_is_acknowledged_with_its_sequence() {
    let mut harness = Harness::new();
    let stream = harness.create("S", "");
    assert_eq!(
        harness.publish(stream, "S.a", &[], "1"),
        r#"{"stream":"S","seq":1}"#
    );
    assert_eq!(
        harness.publish(stream, "S.a", &[], "2"),
        r#"{"stream":"S","seq":2}"#
    );
    assert_eq!(harness.state(stream), (2, 1, 2));
    assert_eq!(
        harness.hash(stream),
        harness.replayed_hash(support::settings(), stream)
    );
}

#[test]
fn no_acknowledgement_leaves_before_its_entry_is_applied() {
    let mut harness = Harness::new();
    let stream = harness.create("S", "");
    harness.hold = true;
    let first = harness.publish_later(stream, "S.a", &[], "1");
    harness.end_of_turn();
    let expect = [("Nats-Expected-Last-Sequence", "0")];
    let second = harness.publish_later(stream, "S.a", &expect, "2");
    harness.end_of_turn();
    assert_eq!(
        (harness.answer(&first), harness.answer(&second)),
        ("-".into(), "-".into())
    );
    harness.commit(stream.group());
    assert_eq!(harness.answer(&first), r#"{"stream":"S","seq":1}"#);
    assert_eq!(code(&harness.answer(&second)), 10071);
}

#[test]
fn publishes_of_one_turn_are_one_entry() {
    let mut harness = Harness::new();
    let stream = harness.create("S", "");
    harness.hold = true;
    let replies: Vec<String> = (0..10)
        .map(|_| harness.publish_later(stream, "S.a", &[], "x"))
        .collect();
    harness.end_of_turn();
    let pending = harness.logs[&stream.group()].pending.len();
    assert_eq!(pending, 1);
    harness.commit(stream.group());
    for (place, reply) in replies.iter().enumerate() {
        let expected = format!(r#"{{"stream":"S","seq":{}}}"#, place + 1);
        assert_eq!(harness.answer(reply), expected);
    }
}

// proves: JS-PUB-02
#[test]
fn a_duplicate_gets_the_first_sequence_also_while_that_is_in_flight() {
    let mut harness = Harness::new();
    let stream = harness.create("S", "");
    harness.hold = true;
    let id = [("Nats-Msg-Id", "x")];
    let first = harness.publish_later(stream, "S.a", &id, "1");
    let second = harness.publish_later(stream, "S.a", &id, "1");
    harness.end_of_turn();
    assert_eq!(harness.answer(&second), "-");
    harness.commit(stream.group());
    assert_eq!(harness.answer(&first), r#"{"stream":"S","seq":1}"#);
    assert_eq!(
        harness.answer(&second),
        r#"{"stream":"S","seq":1,"duplicate": true}"#
    );
    harness.hold = false;
    let again = harness.publish(stream, "S.a", &id, "1");
    assert_eq!(again, r#"{"stream":"S","seq":1,"duplicate": true}"#);
    harness.advance_ms(2 * 60 * 1000 + 1);
    assert_eq!(
        harness.publish(stream, "S.a", &id, "1"),
        r#"{"stream":"S","seq":2}"#
    );
}

type Headers = &'static [(&'static str, &'static str)];
/// Headers, whether the payload is above the limit, and the code of the answer.
const VIOLATIONS: &[(Headers, bool, u64)] = &[
    (&[("Nats-Expected-Stream", "T")], false, 10060),
    (&[("Nats-Expected-Last-Sequence", "7")], false, 10071),
    (&[("Nats-Expected-Last-Sequence", "x")], false, 10071),
    (
        &[("Nats-Expected-Last-Subject-Sequence", "0")],
        false,
        10071,
    ),
    (
        &[("Nats-Expected-Last-Subject-Sequence-Subject", "S.b")],
        false,
        10193,
    ),
    (&[("Nats-Expected-Last-Msg-Id", "m0")], false, 10070),
    (&[("Nats-Rollup", "sub")], false, 10111),
    (&[("Nats-TTL", "1h")], false, 10166),
    (&[("Nats-TTL", "zz")], false, 10165),
    (&[("Nats-Incr", "1")], false, 10168),
    (&[("Nats-Incr", "a")], false, 10171),
    (&[("Nats-Stream-Source", "a")], false, 10227),
    (&[("Nats-Schedule", "@every 1s")], false, 10188),
    // Two at once: the earlier check wins.
    (
        &[("Nats-Expected-Stream", "T"), ("Nats-Incr", "1")],
        false,
        10168,
    ),
    (
        &[("Nats-TTL", "1h"), ("Nats-Expected-Stream", "T")],
        false,
        10060,
    ),
    (
        &[("Nats-TTL", "1h"), ("Nats-Expected-Last-Sequence", "9")],
        false,
        10166,
    ),
    (
        &[("Nats-TTL", "zz"), ("Nats-Expected-Last-Sequence", "9")],
        false,
        10071,
    ),
    (
        &[("Nats-Msg-Id", "m1"), ("Nats-Expected-Last-Sequence", "9")],
        false,
        10071,
    ),
    (
        &[("Nats-Msg-Id", "m1"), ("Nats-Expected-Last-Msg-Id", "q")],
        false,
        0,
    ),
    (
        &[("Nats-Expected-Last-Msg-Id", "q"), ("Nats-Rollup", "sub")],
        false,
        10070,
    ),
    (&[("Nats-Rollup", "sub")], true, 10111),
    (&[], true, 10054),
];

// proves: JS-PUB-03, JS-PUB-04, JS-PUB-05, JS-PUB-06, JS-PUB-09, JS-TTL-01
#[test]
fn the_first_violation_in_the_order_of_r1_is_reported() {
    let mut harness = Harness::new();
    let stream = harness.create("S", r#","max_msg_size":200"#);
    harness.publish(stream, "S.a", &[("Nats-Msg-Id", "m1")], "1");
    let long = "x".repeat(300);
    for (headers, is_long, expected) in VIOLATIONS {
        let payload = if *is_long { &long } else { "" };
        let answer = harness.publish(stream, "S.a", headers, payload);
        assert_eq!(code(&answer), *expected, "{headers:?} {answer}");
    }
    assert_eq!(harness.state(stream), (1, 1, 1));
    let wrong = harness.publish(stream, "S.a", &[("Nats-Expected-Last-Sequence", "7")], "");
    assert!(wrong.contains("wrong last sequence: 1"), "{wrong}");
    let wrong = harness.publish(stream, "S.a", &[("Nats-Expected-Last-Msg-Id", "m0")], "");
    assert!(wrong.contains("wrong last msg ID: m1"), "{wrong}");
}

#[test]
fn expectations_that_hold_pass() {
    let mut harness = Harness::new();
    let stream = harness.create("S", "");
    for (headers, sequence) in [
        (
            vec![("Nats-Expected-Last-Sequence", "0"), ("Nats-Msg-Id", "a")],
            1,
        ),
        (vec![("Nats-Expected-Last-Msg-Id", "a")], 2),
        (vec![("Nats-Expected-Last-Subject-Sequence", "2")], 3),
        (
            vec![
                ("Nats-Expected-Last-Subject-Sequence", "3"),
                ("Nats-Expected-Last-Subject-Sequence-Subject", "S.*"),
            ],
            4,
        ),
        (vec![("Nats-Expected-Stream", "S")], 5),
    ] {
        let answer = harness.publish(stream, "S.a", &headers, "");
        assert_eq!(answer, format!(r#"{{"stream":"S","seq":{sequence}}}"#));
    }
}

// proves: JS-STR-13, JS-STR-14, JS-STR-15
#[test]
fn limits_push_out_old_messages_or_refuse_new_ones() {
    let mut harness = Harness::new();
    let old = harness.create("O", r#","max_msgs":2"#);
    for _ in 0..5 {
        harness.publish(old, "O.a", &[], "x");
    }
    assert_eq!(harness.state(old), (2, 4, 5));
    let subject = harness.create("P", r#","max_msgs_per_subject":1"#);
    for name in ["P.a", "P.b", "P.a"] {
        harness.publish(subject, name, &[], "x");
    }
    assert_eq!(harness.state(subject), (2, 2, 3));
    let new = harness.create("N", r#","max_msgs":2,"discard":"new""#);
    harness.hold = true;
    let replies: Vec<String> = (0..3)
        .map(|_| harness.publish_later(new, "N.a", &[], "x"))
        .collect();
    harness.end_of_turn();
    harness.commit_all();
    let codes: Vec<u64> = replies
        .iter()
        .map(|reply| code(&harness.answer(reply)))
        .collect();
    assert_eq!(codes, [0, 0, 10077]);
    harness.hold = false;
    let each = harness.create(
        "E",
        r#","max_msgs_per_subject":1,"discard":"new","discard_new_per_subject":true"#,
    );
    assert_eq!(code(&harness.publish(each, "E.a", &[], "x")), 0);
    let refused = harness.publish(each, "E.a", &[], "x");
    assert!(
        refused.contains("maximum messages per subject exceeded"),
        "{refused}"
    );
    assert_eq!(code(&harness.publish(each, "E.b", &[], "x")), 0);
    for stream in [old, subject, new, each] {
        assert_eq!(
            harness.hash(stream),
            harness.replayed_hash(support::settings(), stream)
        );
    }
}

#[test]
fn a_conditional_publish_waits_for_evictions_in_flight() {
    let mut harness = Harness::new();
    let stream = harness.create("S", r#","max_msgs":1"#);
    harness.publish(stream, "S.a", &[], "1");
    harness.hold = true;
    let evicting = harness.publish_later(stream, "S.b", &[], "2");
    let conditional = harness.publish_later(
        stream,
        "S.a",
        &[("Nats-Expected-Last-Subject-Sequence", "0")],
        "3",
    );
    harness.end_of_turn();
    harness.commit_all();
    assert_eq!(harness.answer(&evicting), r#"{"stream":"S","seq":2}"#);
    assert_eq!(harness.answer(&conditional), r#"{"stream":"S","seq":3}"#);
}

#[test]
fn rollups_replace_what_came_before() {
    let mut harness = Harness::new();
    let stream = harness.create("S", r#","allow_rollup_hdrs":true"#);
    for subject in ["S.a", "S.b", "S.a", "S.c"] {
        harness.publish(stream, subject, &[], "x");
    }
    harness.publish(stream, "S.a", &[("Nats-Rollup", "sub")], "x");
    assert_eq!(harness.state(stream), (3, 2, 5));
    let bad = harness.publish(stream, "S.a", &[("Nats-Rollup", "zz")], "x");
    assert!(bad.contains(r#"rollup value invalid: \"zz\""#), "{bad}");
    harness.publish(stream, "S.a", &[("Nats-Rollup", "ALL")], "x");
    assert_eq!(harness.state(stream), (1, 6, 6));
    assert_eq!(
        harness.hash(stream),
        harness.replayed_hash(support::settings(), stream)
    );
}

// proves: JS-TTL-02
#[test]
fn messages_expire_by_age_and_ttl_and_never_means_never() {
    let mut harness = Harness::new();
    let stream = harness.create(
        "S",
        r#","max_age":10000000000,"allow_msg_ttl":true,"duplicate_window":1000000000"#,
    );
    harness.publish(stream, "S.a", &[("Nats-TTL", "never")], "x");
    harness.publish(stream, "S.b", &[("Nats-TTL", "2s")], "x");
    harness.publish(stream, "S.c", &[], "x");
    assert_eq!(harness.state(stream), (3, 1, 3));
    harness.advance_ms(2_500);
    assert_eq!(harness.state(stream).0, 2);
    harness.advance_ms(8_000);
    assert_eq!(harness.state(stream), (1, 1, 3));
    harness.advance_ms(100_000);
    assert_eq!(harness.state(stream), (1, 1, 3));
    assert_eq!(harness.engine.next_deadline(), None);
    assert_eq!(
        harness.hash(stream),
        harness.replayed_hash(support::settings(), stream)
    );
}

// proves: JS-STR-10, JS-STR-11, JS-STR-20
#[test]
fn purge_and_delete_are_barriers_for_later_publishes() {
    let mut harness = Harness::new();
    let stream = harness.create("S", "");
    for _ in 0..3 {
        harness.publish(stream, "S.a", &[], "x");
    }
    harness.hold = true;
    let purge = harness.api("STREAM.PURGE.S", "");
    assert_eq!(purge, None);
    let conditional = harness.publish_later(
        stream,
        "S.a",
        &[("Nats-Expected-Last-Subject-Sequence", "0")],
        "x",
    );
    harness.end_of_turn();
    assert_eq!(harness.answer(&conditional), "-");
    harness.commit_all();
    assert_eq!(harness.answer(&conditional), r#"{"stream":"S","seq":4}"#);
    harness.hold = false;
    assert_eq!(harness.state(stream), (1, 4, 4));
    let deleted = harness
        .api("STREAM.MSG.DELETE.S", r#"{"seq":4}"#)
        .expect("an answer");
    assert_eq!(deleted["success"], true);
    assert_eq!(harness.state(stream), (0, 5, 4));
    assert_eq!(
        harness.hash(stream),
        harness.replayed_hash(support::settings(), stream)
    );
}

// proves: JS-PUB-08
#[test]
fn a_full_queue_answers_429() {
    let mut settings = support::settings();
    settings.max_buffered_messages = 3;
    let mut harness = Harness::with(settings);
    let stream = harness.create("S", "");
    harness.hold = true;
    for _ in 0..3 {
        harness.publish_later(stream, "S.a", &[], "x");
    }
    let refused = harness.publish_later(stream, "S.a", &[], "x");
    let sent = harness.take(&refused).expect("at once");
    assert_eq!(sent.headers, "NATS/1.0 429 Too Many Requests\r\n\r\n");
    assert_eq!(code(&sent.payload), 10167);
}

#[test]
fn message_times_never_go_back() {
    let mut harness = Harness::new();
    let stream = harness.create("S", "");
    harness.publish(stream, "S.a", &[], "x");
    harness.now.wall_ns -= 5_000_000_000;
    harness.publish(stream, "S.a", &[], "x");
    let store = &harness.engine.streams[&stream].store;
    assert_eq!(store.time_of(1), store.time_of(2));
}

#[test]
fn losing_the_lead_drops_answers_and_staged_state() {
    let mut harness = Harness::new();
    let stream = harness.create("S", "");
    harness.hold = true;
    let lost = harness.publish_later(stream, "S.a", &[("Nats-Msg-Id", "x")], "1");
    harness.end_of_turn();
    harness.depose(stream.group());
    harness.elect(stream.group());
    harness.hold = false;
    assert_eq!(harness.answer(&lost), "-");
    let again = harness.publish(stream, "S.a", &[("Nats-Msg-Id", "x")], "1");
    assert_eq!(again, r#"{"stream":"S","seq":1}"#);
}

// proves: JS-STR-02, JS-STR-09
#[test]
fn streams_are_created_once_and_deleted() {
    let mut harness = Harness::new();
    let stream = harness.create("S", "");
    assert!(harness.binds.contains(&b"S.>"[..]));
    assert_eq!(harness.create("S", ""), stream);
    let deleted = harness.api("STREAM.DELETE.S", "").expect("an answer");
    assert_eq!(deleted["success"], true);
    assert!(!harness.binds.contains(&b"S.>"[..]));
    let again = harness.create("S", "");
    assert_ne!(again, stream);
    assert_eq!(harness.state(again).2, 0);
}

/// As the leader of a replicated stream.
fn replicated(harness: &mut Harness) -> millrace_jetstream::StreamId {
    let stream = harness.create("S", "");
    let found = harness
        .engine
        .streams
        .get_mut(&stream)
        .expect("just created");
    found.config.num_replicas = 3;
    stream
}

// proves: JS-PUB-07
#[test]
fn a_replicated_stream_finds_duplicates_before_it_compares_sequences() {
    let mut harness = Harness::new();
    let stream = replicated(&mut harness);
    harness.publish(stream, "S.a", &[("Nats-Msg-Id", "x")], "1");
    let both = [("Nats-Msg-Id", "x"), ("Nats-Expected-Last-Sequence", "9")];
    let again = harness.publish(stream, "S.a", &both, "1");
    assert_eq!(again, r#"{"stream":"S","seq":1,"duplicate": true}"#);
    // The expected id is checked before proposing: the stream goes on (02 §3.2, reference bug).
    let wrong = harness.publish(stream, "S.a", &[("Nats-Expected-Last-Msg-Id", "y")], "1");
    assert_eq!(code(&wrong), 10070);
    assert_eq!(
        harness.publish(stream, "S.a", &[], "2"),
        r#"{"stream":"S","seq":2}"#
    );
}

// proves: JS-PUB-07
#[test]
fn a_replicated_stream_refuses_conflicts_with_what_is_in_flight_at_once() {
    let mut harness = Harness::new();
    let stream = replicated(&mut harness);
    harness.hold = true;
    let first = harness.publish_later(
        stream,
        "S.a",
        &[
            ("Nats-Msg-Id", "x"),
            ("Nats-Expected-Last-Subject-Sequence", "0"),
        ],
        "1",
    );
    let same_id = harness.publish_later(stream, "S.b", &[("Nats-Msg-Id", "x")], "1");
    assert_eq!(code(&harness.answer(&same_id)), 10158);
    let expected = [("Nats-Expected-Last-Subject-Sequence", "0")];
    let racing = harness.publish_later(stream, "S.a", &expected, "1");
    assert_eq!(code(&harness.answer(&racing)), 10164);
    harness.end_of_turn();
    harness.commit_all();
    assert_eq!(harness.answer(&first), r#"{"stream":"S","seq":1}"#);
    harness.hold = false;
    assert_eq!(code(&harness.publish(stream, "S.a", &expected, "1")), 10071);
}

// proves: JS-CTR-01
#[test]
fn counters_add_up_also_while_increments_are_in_flight() {
    let mut harness = Harness::new();
    let stream = harness.create("S", r#","allow_msg_counter":true"#);
    harness.hold = true;
    let replies: Vec<String> = ["1", "+5", "-10"]
        .iter()
        .map(|increment| harness.publish_later(stream, "S.a", &[("Nats-Incr", increment)], ""))
        .collect();
    harness.end_of_turn();
    harness.commit_all();
    let answers: Vec<String> = replies.iter().map(|reply| harness.answer(reply)).collect();
    assert_eq!(
        answers,
        [
            r#"{"stream":"S","seq":1,"val":"1"}"#,
            r#"{"stream":"S","seq":2,"val":"6"}"#,
            r#"{"stream":"S","seq":3,"val":"-4"}"#,
        ]
    );
    harness.hold = false;
    let next = harness.publish(stream, "S.a", &[("Nats-Incr", "4")], "");
    assert_eq!(next, r#"{"stream":"S","seq":4,"val":"0"}"#);
    assert_eq!(
        harness.hash(stream),
        harness.replayed_hash(support::settings(), stream)
    );
}

// proves: JS-STR-23
#[test]
fn subjects_are_checked_and_stored_as_transformed() {
    let mut harness = Harness::new();
    let transform = r#","subject_transform":{"src":"S.*","dest":"out.$1"}"#;
    let stream = harness.create("S", transform);
    let expected = [("Nats-Expected-Last-Subject-Sequence", "0")];
    assert_eq!(code(&harness.publish(stream, "S.a", &expected, "1")), 0);
    assert_eq!(code(&harness.publish(stream, "S.a", &expected, "1")), 10071);
    let store = &harness.engine.streams[&stream].store;
    assert_eq!(
        store.subject_of(1).map(|subject| subject.to_vec()),
        Some(b"out.a".to_vec())
    );
}

// proves: JS-STR-16
#[test]
fn interest_streams_store_nothing_that_nobody_wants() {
    let mut harness = Harness::new();
    let stream = harness.create("S", r#","retention":"interest""#);
    let unwanted = harness.publish(stream, "S.a", &[("Nats-Msg-Id", "x")], "1");
    assert_eq!(unwanted, r#"{"stream":"S","seq":1}"#);
    assert_eq!(harness.state(stream), (0, 2, 1));
    let again = harness.publish(stream, "S.a", &[("Nats-Msg-Id", "x")], "1");
    assert_eq!(again, r#"{"stream":"S","seq":1,"duplicate": true}"#);
    let consumer = r#"{"stream_name":"S","config":{"durable_name":"c","name":"c","ack_policy":"explicit","filter_subject":"S.a"}}"#;
    let created = harness
        .api("CONSUMER.CREATE.S.c.S.a", consumer)
        .expect("an answer");
    assert!(created.get("error").is_none(), "{created}");
    harness.publish(stream, "S.a", &[], "2");
    harness.publish(stream, "S.b", &[], "3");
    assert_eq!(harness.state(stream), (1, 2, 3));
    harness.api("CONSUMER.DELETE.S.c", "").expect("an answer");
    assert_eq!(harness.state(stream).0, 0);
    assert_eq!(
        harness.hash(stream),
        harness.replayed_hash(support::settings(), stream)
    );
}

#[test]
fn a_publish_behind_a_purge_beyond_the_end_is_acknowledged_with_the_sequence_it_gets() {
    let mut harness = Harness::new();
    let stream = harness.create("S", "");
    harness.publish(stream, "S.a", &[], "1");
    harness.api("STREAM.PURGE.S", r#"{"seq":10}"#);
    assert_eq!(harness.state(stream).2, 9);
    assert_eq!(
        harness.publish(stream, "S.a", &[], "2"),
        r#"{"stream":"S","seq":10}"#
    );
    assert_eq!(harness.state(stream), (1, 10, 10));
}

/// Who publishes without a reply, or is published again by the server, cannot know when to read.
#[test]
fn a_read_sees_what_was_published_before_it_and_nobody_was_told_of() {
    let mut harness = Harness::new();
    let stream = harness.create("S", r#","allow_direct":true"#);
    harness.hold = true;
    let publish = |harness: &mut Harness, reply: &str| {
        harness.stage(Input::Deliver {
            account: ACCOUNT,
            endpoint: Endpoint::Ingest(stream),
            message: Message {
                subject: "S.1".into(),
                reply: reply.to_owned().into(),
                payload: "x".into(),
                ..Message::default()
            },
        });
    };
    let ask = |harness: &mut Harness, endpoint, subject: &'static str| {
        let reply = harness.fresh_reply();
        harness.stage(Input::Deliver {
            account: ACCOUNT,
            endpoint,
            message: Message {
                subject: subject.into(),
                reply: reply.clone().into(),
                payload: r#"{"last_by_subj":"S.1"}"#.into(),
                ..Message::default()
            },
        });
        harness.end_of_turn();
        reply
    };
    let direct =
        |harness: &mut Harness| ask(harness, Endpoint::DirectGet(stream), "$JS.API.DIRECT.GET.S");
    let by_api = |harness: &mut Harness| ask(harness, Endpoint::Api, "$JS.API.STREAM.MSG.GET.S");
    // A publisher that waits for its answer holds nobody up.
    publish(&mut harness, "told");
    let early = direct(&mut harness);
    assert!(
        harness
            .take(&early)
            .is_some_and(|sent| sent.headers.contains("404"))
    );
    publish(&mut harness, "");
    let replies = [direct(&mut harness), by_api(&mut harness)];
    for reply in &replies {
        assert!(harness.take(reply).is_none(), "answered too early");
    }
    harness.commit_all();
    harness.end_of_turn();
    let sent = harness.take(&replies[0]).expect("an answer");
    assert!(
        sent.headers.contains("Nats-Sequence: 2"),
        "{}",
        sent.headers
    );
    let sent = harness.take(&replies[1]).expect("an answer");
    assert!(sent.payload.contains("\"seq\":2"), "{}", sent.payload);
}

/// Asks for the deletion of a message within the current turn; gives the reply subject.
fn delete_later(harness: &mut Harness, sequence: u64) -> String {
    let reply = harness.fresh_reply();
    let message = Message {
        subject: "$JS.API.STREAM.MSG.DELETE.S".into(),
        reply: reply.clone().into(),
        payload: format!("{{\"seq\":{sequence},\"no_erase\":true}}").into(),
        ..Message::default()
    };
    harness.stage(Input::Deliver {
        account: ACCOUNT,
        endpoint: Endpoint::Api,
        message,
    });
    reply
}

#[test]
fn deletions_share_an_entry_and_a_publish_among_them_keeps_its_place() {
    let mut harness = Harness::new();
    let stream = harness.create("S", "");
    for _ in 0..10 {
        harness.publish(stream, "S.a", &[], "x");
    }
    harness.hold = true;
    let pending = |harness: &Harness| harness.logs[&stream.group()].pending.len();
    let mut deleted: Vec<String> = (1..=5).map(|n| delete_later(&mut harness, n)).collect();
    deleted.push(delete_later(&mut harness, 3));
    harness.end_of_turn();
    assert_eq!(pending(&harness), 1, "of one turn: one entry");
    let late = delete_later(&mut harness, 6);
    harness.end_of_turn();
    assert_eq!(pending(&harness), 2, "of the next: beside the first");
    let condition = [("Nats-Expected-Last-Sequence", "10")];
    let published = harness.publish_later(stream, "S.a", &condition, "y");
    let behind = delete_later(&mut harness, 7);
    harness.end_of_turn();
    assert_eq!(pending(&harness), 2, "a publish waits for what is deleted");
    assert_eq!(harness.answer(&deleted[0]), "-", "not yet applied");
    harness.hold = false;
    harness.commit_all();
    let answers: Vec<String> = deleted.iter().map(|reply| harness.answer(reply)).collect();
    assert!(
        answers[..5]
            .iter()
            .all(|text| text.contains("\"success\":true"))
    );
    assert!(answers[5].contains("no message found") || answers[5].contains("not found"));
    for reply in [&late, &behind] {
        assert!(harness.answer(reply).contains("\"success\":true"));
    }
    assert_eq!(harness.answer(&published), r#"{"stream":"S","seq":11}"#);
    assert_eq!(harness.state(stream), (4, 8, 11));
}
