//! Pull mode: requests, statuses, acknowledgements, redelivery, counts.

use super::support::{Bench, MILLISECOND_NS, SECOND_NS, explicit};
use crate::consumer::{AckAnswer, Consumer, ConsumerEvent, StreamFacts};
use crate::model::{AckPolicy, ConsumerConfig, DeliverPolicy, PriorityPolicy, Timestamp};

const THREE: [(&str, &str); 3] = [("a", "1"), ("b", "2"), ("a", "3")];

fn filtered(filter: &str) -> ConsumerConfig {
    ConsumerConfig {
        filter_subject: filter.to_owned(),
        ..explicit()
    }
}

#[test]
fn a_request_gets_messages_with_subject_and_ack_subject_and_counts_follow() {
    let mut bench = Bench::with_messages(filtered("a"), &THREE);
    assert_eq!(bench.counts(), [0, 0, 0, 0, 0, 0, 2]);
    bench.pull("in", r#"{"batch":5}"#);
    let sent = bench.sent();
    assert_eq!(sent.len(), 2);
    assert_eq!(
        (
            sent[0].to.as_str(),
            sent[0].subject.as_str(),
            sent[0].payload.as_str()
        ),
        ("in", "a", "1")
    );
    assert_eq!(sent[0].reply, "$JS.ACK.S.C.1.1.1.1700000000000000000.1");
    assert_eq!(sent[1].reply, "$JS.ACK.S.C.1.3.2.1700000000000000000.0");
    assert_eq!(bench.counts(), [2, 3, 0, 0, 2, 0, 0]);
    bench.ack(&sent[1].reply, "+ACK");
    assert_eq!(bench.counts(), [2, 3, 0, 0, 1, 0, 0]);
    bench.ack(&sent[0].reply, "");
    assert_eq!(bench.counts(), [2, 3, 2, 3, 0, 0, 0]);
    bench.publish("a", "4");
    assert_eq!(bench.words(), ["4"]);
    assert_eq!(bench.info().num_waiting, 1);
}

// proves: JS-CON-05
#[test]
fn each_deliver_policy_starts_where_the_reference_starts() {
    let time = Timestamp(1_700_000_000 * SECOND_NS as i64);
    let rows: [(DeliverPolicy, &str, &str, u64); 8] = [
        (DeliverPolicy::All, "", "123", 0),
        (DeliverPolicy::Last, "", "3", 2),
        (DeliverPolicy::Last, "b", "2", 1),
        (DeliverPolicy::New, "", "", 3),
        (DeliverPolicy::ByStartSequence, "", "23", 1),
        (DeliverPolicy::ByStartTime, "", "123", 0),
        (DeliverPolicy::LastPerSubject, "", "23", 1),
        (DeliverPolicy::LastPerSubject, "a", "3", 2),
    ];
    for (policy, filter, expected, delivered) in rows {
        let config = ConsumerConfig {
            deliver_policy: policy,
            opt_start_seq: 2,
            opt_start_time: Some(time),
            ..filtered(filter)
        };
        let mut bench = Bench::with_messages(config, &THREE);
        let start = [0, delivered, 0, delivered, 0, 0, expected.len() as u64];
        assert_eq!(bench.counts(), start, "{policy:?} {filter}");
        bench.pull("in", r#"{"batch":9}"#);
        assert_eq!(bench.words().concat(), expected, "{policy:?} {filter}");
        bench.publish("a", "4");
        let last = if filter == "b" { "" } else { "4" };
        assert_eq!(bench.words().concat(), last, "{policy:?} {filter}");
    }
}

// proves: JS-CON-14, JS-CON-15
#[test]
fn statuses_are_exact() {
    let mut bench = Bench::with_messages(explicit(), &THREE);
    bench.pull("in", r#"{"batch":5,"no_wait":true}"#);
    assert_eq!(bench.words(), ["1", "2", "3", "404 No Messages"]);
    bench.pull("in", r#"{"batch":5,"no_wait":true}"#);
    assert_eq!(bench.words(), ["404 No Messages"]);
    bench.pull("in", r#"{"batch":5,"expires":1000000000,"max_bytes":100}"#);
    bench.sleep(SECOND_NS);
    assert_eq!(
        bench.words(),
        ["408 Request Timeout|Nats-Pending-Messages: 5|Nats-Pending-Bytes: 100"]
    );
    bench.pull(
        "in",
        r#"{"batch":5,"expires":1000000000,"idle_heartbeat":400000000}"#,
    );
    bench.sleep(SECOND_NS);
    assert_eq!(
        bench.words(),
        [
            "100 Idle Heartbeat|Nats-Last-Consumer: 3|Nats-Last-Stream: 3",
            "100 Idle Heartbeat|Nats-Last-Consumer: 3|Nats-Last-Stream: 3",
            "408 Request Timeout|Nats-Pending-Messages: 5|Nats-Pending-Bytes: 0",
        ]
    );
    let stalled = ConsumerConfig {
        max_ack_pending: 2,
        ..explicit()
    };
    let mut other = Bench::with_messages(stalled, &THREE);
    let request = r#"{"batch":5,"no_wait":true,"expires":1000000000,"idle_heartbeat":400000000}"#;
    other.pull("in", request);
    assert_eq!(other.words(), ["1", "2"]);
    other.sleep(SECOND_NS / 2);
    assert_eq!(other.words(), ["404 No Messages"]);
    bench.pull("in", r#"{"batch":2,"max_bytes":20}"#);
    bench.publish("a", "too long for twenty bytes");
    assert_eq!(
        bench.words(),
        ["409 Message Size Exceeds MaxBytes|Nats-Pending-Messages: 2|Nats-Pending-Bytes: 20"]
    );
    bench.pull("in", r#"{"batch":1,"max_bytes":1000}"#);
    let size = "a".len() + "$JS.ACK.S.C.1.4.4.1700000002000000000.0".len() + 25;
    let words = bench.words();
    assert_eq!(words[0], "too long for twenty bytes");
    let left = 1000 - size;
    assert_eq!(
        words[1],
        format!("409 Batch Completed|Nats-Pending-Messages: 0|Nats-Pending-Bytes: {left}")
    );
    bench.pull("in", "{bad");
    assert_eq!(
        bench.words(),
        ["400 Bad Request - invalid character 'b' looking for beginning of object key string"]
    );
}

// proves: JS-CON-16
#[test]
fn caps_and_max_waiting_refuse_requests() {
    let config = ConsumerConfig {
        max_waiting: 1,
        max_request_batch: 10,
        max_request_expires_ns: 5 * SECOND_NS as i64,
        max_request_max_bytes: 1024,
        ..explicit()
    };
    let mut bench = Bench::new(config);
    bench.pull("in", r#"{"batch":11}"#);
    bench.pull("in", r#"{"expires":6000000000}"#);
    bench.pull("in", r#"{"max_bytes":2048}"#);
    bench.pull("in", "1");
    bench.pull("in", "1");
    bench.pull(
        "in",
        r#"{"expires":4000000000,"idle_heartbeat":1000000000}"#,
    );
    assert_eq!(
        bench.words(),
        [
            "409 Exceeded MaxRequestBatch of 10",
            "409 Exceeded MaxRequestExpires of 5s",
            "409 Exceeded MaxRequestMaxBytes of 1024",
            "409 Exceeded MaxWaiting",
        ]
    );
    bench.with(|consumer, context| consumer.deleted(context));
    assert_eq!(bench.words(), ["409 Consumer Deleted"]);
}

#[test]
fn requests_are_served_in_turns_and_those_nobody_listens_to_are_dropped() {
    let mut bench = Bench::new(explicit());
    bench.pull("x", "2");
    bench.pull("y", "2");
    bench.pull("z", "2");
    bench.outbound.interest.remove("y");
    for payload in ["1", "2", "3", "4", "5"] {
        bench.publish("a", payload);
    }
    let takers: Vec<String> = bench.sent().into_iter().map(|sent| sent.to).collect();
    assert_eq!(takers, ["x", "z", "x", "z"]);
    assert_eq!(bench.counts(), [4, 4, 0, 0, 4, 0, 1]);
}

// proves: JS-CON-20
#[test]
fn unacknowledged_messages_come_again_until_max_deliver_and_are_told_once() {
    let config = ConsumerConfig {
        ack_wait_ns: SECOND_NS as i64,
        backoff_ns: vec![SECOND_NS as i64, 3 * SECOND_NS as i64],
        max_deliver: 3,
        ..explicit()
    };
    let mut bench = Bench::with_messages(config, &THREE[..1]);
    bench.pull("in", "10");
    bench.sleep(SECOND_NS - 1);
    assert_eq!(bench.sent().len(), 1);
    bench.sleep(1);
    assert_eq!(bench.sent().len(), 1);
    assert_eq!(bench.counts(), [2, 1, 0, 0, 1, 1, 0]);
    bench.sleep(3 * SECOND_NS - 1);
    assert_eq!(bench.sent().len(), 0);
    bench.sleep(1);
    assert_eq!(
        bench.sent()[0].reply,
        "$JS.ACK.S.C.3.1.3.1700000000000000000.0"
    );
    bench.sleep(10 * SECOND_NS);
    assert_eq!(
        bench.events,
        [ConsumerEvent::MaxDeliveries {
            sequence: 1,
            deliveries: 3
        }]
    );
    assert_eq!(bench.counts(), [3, 1, 0, 0, 0, 1, 0]);
    bench.remove(1);
    assert_eq!(bench.counts(), [3, 1, 0, 0, 0, 0, 0]);
}

// proves: JS-CON-18, JS-CON-19
#[test]
fn every_ack_verb_does_its_work_and_answers_are_due_as_in_the_reference() {
    let config = ConsumerConfig {
        ack_wait_ns: SECOND_NS as i64,
        ..explicit()
    };
    let mut bench = Bench::with_messages(config, &THREE);
    bench.pull("in", "1");
    let first = bench.sent().remove(0).reply;
    assert_eq!(
        bench.ack_with_reply(&first, "r", "+WPI"),
        AckAnswer::AfterCommit
    );
    bench.sleep(SECOND_NS / 2);
    bench.ack(&first, "+WPI");
    bench.pull("in", "10");
    assert_eq!(bench.words(), ["2", "3"]);
    bench.sleep(SECOND_NS * 3 / 4);
    assert!(bench.sent().is_empty());
    bench.ack(&first, "-NAK");
    assert_eq!(bench.words(), ["1"]);
    assert_eq!(
        bench.ack_with_reply(&first, "r", "?"),
        AckAnswer::AfterCommit
    );
    bench.ack(&first, "-NAK {\"delay\": 500000000}");
    bench.sleep(400 * MILLISECOND_NS);
    let words = bench.words();
    assert!(!words.contains(&"1".to_owned()), "{words:?}");
    bench.sleep(100 * MILLISECOND_NS);
    assert_eq!(bench.words(), ["1"]);
    bench.ack(&first, "+TERM broken");
    let Some(ConsumerEvent::Terminated { reason, .. }) = bench.events.last() else {
        panic!("no event")
    };
    assert_eq!(reason, "broken");
    assert_eq!(
        bench.ack_with_reply("$JS.ACK.S.C.1.9.9.0.0", "r", ""),
        AckAnswer::Silent
    );
    assert_eq!(
        bench.ack_with_reply(&first, "r", ""),
        AckAnswer::AfterCommit
    );
}

#[test]
fn next_acknowledges_and_asks_for_more_at_its_reply() {
    let mut bench = Bench::with_messages(explicit(), &THREE);
    bench.pull("in", "1");
    let first = bench.sent().remove(0).reply;
    bench.outbound.interest.insert("more".to_owned());
    assert_eq!(
        bench.ack_with_reply(&first, "more", "+NXT 2"),
        AckAnswer::Silent
    );
    assert_eq!(bench.words(), ["2", "3"]);
    assert_eq!(bench.counts(), [3, 3, 1, 1, 2, 0, 0]);
}

#[test]
fn ack_all_settles_everything_up_to_the_message() {
    let config = ConsumerConfig {
        ack_policy: AckPolicy::All,
        ..explicit()
    };
    let mut bench = Bench::with_messages(config, &THREE);
    bench.pull("in", "3");
    let second = bench.sent().remove(1).reply;
    bench.ack(&second, "");
    assert_eq!(bench.counts(), [3, 3, 2, 2, 1, 0, 0]);
}

// proves: JS-CON-21
#[test]
fn max_ack_pending_holds_new_messages_but_not_redeliveries() {
    let config = ConsumerConfig {
        max_ack_pending: 1,
        ..explicit()
    };
    let mut bench = Bench::with_messages(config, &THREE);
    bench.pull("in", r#"{"batch":5,"no_wait":true}"#);
    let first = bench.sent().remove(0).reply;
    bench.ack(&first, "-NAK");
    assert_eq!(bench.words(), ["1"]);
    assert_eq!(bench.info().num_waiting, 1);
    bench.ack(&first, "");
    assert_eq!(bench.words(), ["2"]);
}

#[test]
fn naks_are_redelivered_in_the_order_they_came() {
    let mut bench = Bench::with_messages(explicit(), &THREE);
    bench.pull("in", "3");
    let replies: Vec<String> = bench.sent().into_iter().map(|sent| sent.reply).collect();
    bench.ack(&replies[2], "-NAK");
    bench.ack(&replies[0], "-NAK");
    bench.pull("in", "3");
    assert_eq!(bench.words(), ["3", "1"]);
    bench.ack(&replies[2], "");
    assert_eq!(bench.counts(), [5, 3, 0, 0, 2, 1, 0]);
}

#[test]
fn removed_messages_leave_pending_and_counts() {
    let mut bench = Bench::with_messages(explicit(), &THREE);
    bench.pull("in", "1");
    bench.remove(1);
    assert!(matches!(
        bench.events[..],
        [ConsumerEvent::Terminated { sequence: 1, .. }]
    ));
    bench.remove(2);
    assert_eq!(bench.counts(), [1, 1, 1, 1, 0, 0, 1]);
    bench.pull("in", "1");
    assert_eq!(bench.words(), ["1", "3"]);
}

// proves: JS-CON-25
#[test]
fn a_paused_consumer_delivers_nothing_until_the_pause_ends() {
    let mut bench = Bench::with_messages(explicit(), &THREE[..1]);
    let (now, until_ns) = (bench.now, bench.now.wall_ns + 2 * SECOND_NS as i64);
    bench.consumer.pause(now, until_ns);
    bench.pull("in", "1");
    assert!(bench.sent().is_empty() && bench.info().paused);
    bench.sleep(2 * SECOND_NS);
    assert_eq!(bench.words(), ["1"]);
    assert_eq!(bench.events, [ConsumerEvent::PauseEnded]);
    assert!(!bench.info().paused);
}

// proves: JS-CON-29
#[test]
fn a_reset_starts_again_and_makes_older_records_void() {
    let mut bench = Bench::with_messages(explicit(), &THREE);
    bench.pull("in", "2");
    bench.sent();
    let stale = bench
        .consumer
        .take_record(bench.now)
        .expect("something changed");
    let start = bench.with(|consumer, context| consumer.check_reset(Some(2), context.store));
    assert_eq!(start, Ok(2));
    bench.with(|consumer, context| consumer.reset(2, context.store));
    bench
        .with(|consumer, context| consumer.apply(&stale.data, false, context.store))
        .expect("readable");
    assert_eq!(bench.counts(), [0, 1, 0, 1, 0, 0, 2]);
    bench.pull("in", "1");
    assert_eq!(
        bench.sent()[0].reply,
        "$JS.ACK.S.C.1.2.1.1700000000000000000.1"
    );
}

#[test]
fn a_pull_consumer_nobody_uses_asks_to_be_deleted() {
    let config = ConsumerConfig {
        inactive_threshold_ns: 5 * SECOND_NS as i64,
        ..explicit()
    };
    let mut bench = Bench::new(config);
    bench.pull("in", r#"{"expires":3000000000}"#);
    bench.sleep(5 * SECOND_NS - 1);
    assert!(bench.events.is_empty());
    bench.sleep(SECOND_NS + 1);
    assert_eq!(bench.events.first(), Some(&ConsumerEvent::Inactive));
}

#[test]
fn settled_messages_are_needed_until_their_record_is_applied() {
    let facts = StreamFacts {
        removes_on_ack: true,
        ..StreamFacts::default()
    };
    let mut bench = Bench::with_facts(explicit(), &THREE, facts);
    bench.pull("in", "1");
    let first = bench.sent().remove(0).reply;
    bench.end_turn();
    bench.ack(&first, "");
    assert!(bench.consumer.needs(1, b"a"));
    assert_eq!(bench.end_turn(), [1]);
    assert!(!bench.consumer.needs(1, b"a") && bench.consumer.needs(2, b"b"));
}

// proves: JS-CON-26
#[test]
fn overflow_requests_wait_for_their_threshold() {
    let config = ConsumerConfig {
        priority_policy: PriorityPolicy::Overflow,
        priority_groups: vec!["g".to_owned()],
        ..explicit()
    };
    let mut bench = Bench::new(config);
    bench.pull("far", r#"{"batch":5,"group":"g","min_pending":2}"#);
    bench.pull("no", r#"{"batch":5}"#);
    bench.pull("no", r#"{"batch":5,"group":"h"}"#);
    bench.pull("no", r#"{"batch":5,"group":"g","id":"x"}"#);
    bench.pull("no", r#"{"batch":5,"group":"g","priority":10}"#);
    assert_eq!(
        bench.words(),
        [
            "400 Bad Request - Priority Group missing",
            "400 Bad Request - Invalid Priority Group",
            "400 Bad Request - Not a Pinned Client Priority consumer",
            "400 Bad Request - Priority must be between 0 and 9",
        ]
    );
    bench.publish("a", "1");
    assert!(bench.sent().is_empty());
    bench.publish("a", "2");
    assert_eq!(bench.words(), ["1"]);
    bench.pull("near", r#"{"batch":5,"group":"g"}"#);
    assert_eq!(bench.words(), ["2"]);
}

// proves: JS-CON-28
#[test]
fn prioritized_requests_go_by_number_then_by_age() {
    let config = ConsumerConfig {
        priority_policy: PriorityPolicy::Prioritized,
        priority_groups: vec!["g".to_owned()],
        ..explicit()
    };
    let mut bench = Bench::new(config);
    for (inbox, priority) in [("c", 3), ("a", 1), ("b", 1)] {
        bench.pull(
            inbox,
            &format!(r#"{{"batch":1,"group":"g","priority":{priority}}}"#),
        );
    }
    for payload in ["1", "2", "3"] {
        bench.publish("s", payload);
    }
    let takers: Vec<String> = bench.sent().into_iter().map(|sent| sent.to).collect();
    assert_eq!(takers, ["a", "b", "c"]);
}

// proves: JS-CON-27
#[test]
fn a_pinned_client_gets_everything_until_it_is_silent() {
    let config = ConsumerConfig {
        priority_policy: PriorityPolicy::PinnedClient,
        priority_groups: vec!["g".to_owned()],
        priority_timeout_ns: SECOND_NS as i64,
        ..explicit()
    };
    let mut bench = Bench::new(config);
    bench.pull("a", r#"{"batch":1,"group":"g"}"#);
    bench.pull("b", r#"{"batch":5,"group":"g"}"#);
    bench.publish("s", "1");
    let sent = bench.sent().remove(0);
    let id = sent
        .headers
        .trim_end()
        .trim_start_matches("NATS/1.0\r\nNats-Pin-Id: ")
        .to_owned();
    assert_eq!((sent.to.as_str(), id.len()), ("a", 22));
    assert_eq!(bench.info().priority_groups[0].pinned_client_id, id);
    bench.publish("s", "2");
    assert!(bench.sent().is_empty());
    bench.pull("x", r#"{"batch":1,"group":"g","id":"other"}"#);
    assert_eq!(bench.words(), ["423 Nats-Pin-Id mismatch"]);
    bench.pull("a", &format!(r#"{{"batch":1,"group":"g","id":"{id}"}}"#));
    assert_eq!(bench.sent()[0].to, "a");
    bench.publish("s", "3");
    bench.sleep(SECOND_NS);
    assert_eq!(bench.sent()[0].to, "b");
    assert!(matches!(
        bench.events[..],
        [
            ConsumerEvent::Pinned { .. },
            ConsumerEvent::Unpinned {
                reason: "timeout",
                ..
            },
            ConsumerEvent::Pinned { .. }
        ]
    ));
}

// proves: JS-CON-34
#[test]
fn acks_of_deliveries_that_were_never_logged_count_after_a_restart() {
    let mut bench = Bench::with_messages(explicit(), &THREE);
    let before = bench.consumer.snapshot();
    bench.pull("in", "3");
    let second = bench.sent().remove(1).reply;
    let settings = bench.consumer.settings().clone();
    bench.consumer = Consumer::restore(settings, &before).expect("readable");
    bench.with(|consumer, context| consumer.lead(context, true));
    assert_eq!(
        bench.ack_with_reply(&second, "r", ""),
        AckAnswer::AfterCommit
    );
    assert_eq!(
        bench.ack_with_reply("$JS.ACK.S.C.1.4.4.0.0", "r", ""),
        AckAnswer::Silent
    );
    assert_eq!(bench.counts(), [0, 0, 0, 0, 0, 0, 2]);
    bench.pull("in", "3");
    assert_eq!(bench.words(), ["1", "3"]);
    assert_eq!(bench.counts(), [2, 3, 0, 0, 2, 0, 0]);
}

#[test]
fn acks_that_were_not_logged_are_taken_back_with_the_leadership() {
    let facts = StreamFacts {
        removes_on_ack: true,
        ..StreamFacts::default()
    };
    let mut bench = Bench::with_facts(explicit(), &THREE, facts);
    bench.pull("in", "2");
    let replies: Vec<String> = bench.sent().into_iter().map(|sent| sent.reply).collect();
    bench.ack(&replies[0], "");
    bench.end_turn();
    bench.ack(&replies[1], "");
    bench.consumer.follow();
    bench.with(|consumer, context| consumer.lead(context, true));
    assert_eq!(bench.info().num_ack_pending, 1);
    assert!(bench.consumer.needs(2, b"b") && !bench.consumer.needs(1, b"a"));
    assert_eq!(
        bench.ack_with_reply(&replies[1], "r", ""),
        AckAnswer::AfterCommit
    );
    assert_eq!(bench.end_turn(), [2]);
}

#[test]
fn a_request_with_an_overlong_id_is_not_kept() {
    let config = ConsumerConfig {
        priority_policy: PriorityPolicy::PinnedClient,
        priority_groups: vec!["g".to_owned()],
        ..explicit()
    };
    let mut bench = Bench::new(config);
    let id = "x".repeat(100_000);
    bench.pull("in", &format!(r#"{{"group":"g","id":"{id}"}}"#));
    assert_eq!(bench.words(), ["423 Nats-Pin-Id mismatch"]);
    assert_eq!(bench.info().num_waiting, 0);
}

#[test]
fn a_waiting_request_keeps_a_consumer_only_while_somebody_listens() {
    let config = ConsumerConfig {
        inactive_threshold_ns: 5 * SECOND_NS as i64,
        ..explicit()
    };
    let mut bench = Bench::new(config);
    bench.pull("in", "1");
    bench.sleep(20 * SECOND_NS);
    assert!(bench.events.is_empty());
    bench.outbound.interest.remove("in");
    bench.sleep(7 * SECOND_NS);
    assert_eq!(bench.events.first(), Some(&ConsumerEvent::Inactive));
}
