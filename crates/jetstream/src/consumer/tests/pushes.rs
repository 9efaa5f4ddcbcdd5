//! Push mode: interest, heartbeats, flow control, pace.

use super::support::{Bench, SECOND_NS, explicit};
use crate::consumer::ConsumerEvent;
use crate::model::{AckPolicy, ConsumerConfig, ReplayPolicy};

fn pushed() -> ConsumerConfig {
    ConsumerConfig {
        deliver_subject: "d".to_owned(),
        ack_policy: AckPolicy::None,
        max_ack_pending: 0,
        ..explicit()
    }
}

// proves: JS-CON-08, JS-CON-10
#[test]
fn delivery_begins_with_interest_and_stops_without() {
    let mut bench = Bench::with_messages(pushed(), &[("a", "1")]);
    bench.wake();
    assert!(bench.sent().is_empty() && !bench.info().push_bound);
    bench.listen("d");
    bench.publish("a", "2");
    let sent = bench.sent();
    assert_eq!(sent.len(), 2);
    assert_eq!((sent[0].to.as_str(), sent[0].subject.as_str()), ("d", "a"));
    assert_eq!(sent[1].reply, "$JS.ACK.S.C.1.2.2.1700000000000000000.0");
    assert!(bench.info().push_bound);
    bench.unlisten("d");
    bench.publish("a", "3");
    assert!(bench.sent().is_empty());
    assert_eq!(bench.counts(), [2, 2, 2, 2, 0, 0, 1]);
    bench.listen("d");
    assert_eq!(bench.words(), ["3"]);
}

#[test]
fn a_group_needs_a_member() {
    let config = ConsumerConfig {
        deliver_group: "q".to_owned(),
        ..pushed()
    };
    let mut bench = Bench::with_messages(config, &[("a", "1")]);
    bench.listen("d");
    assert!(bench.sent().is_empty());
    bench.listen("d q");
    assert_eq!(bench.words(), ["1"]);
}

// proves: JS-CON-09
#[test]
fn quiet_consumers_send_heartbeats_and_flow_control_stalls_and_grows() {
    let config = ConsumerConfig {
        idle_heartbeat_ns: SECOND_NS as i64,
        flow_control: true,
        ..pushed()
    };
    let mut bench = Bench::new(config);
    bench.listen("d");
    bench.sleep(SECOND_NS);
    assert_eq!(
        bench.words(),
        ["100 Idle Heartbeat|Nats-Last-Consumer: 0|Nats-Last-Stream: 0"]
    );
    let payload = "x".repeat(1 << 20);
    for _ in 0..5 {
        bench.publish("a", &payload);
    }
    let sent = bench.sent();
    // One message passes half of the window, the second (and third) fill it.
    let requests: Vec<_> = sent
        .iter()
        .filter(|sent| sent.headers.contains("FlowControl"))
        .collect();
    assert_eq!(requests.len(), 1);
    assert_eq!(
        requests[0].headers,
        "NATS/1.0 100 FlowControl Request\r\n\r\n"
    );
    assert!(requests[0].reply.starts_with("$JS.FC.S.C.") && requests[0].reply.len() == 15);
    assert_eq!(sent.len(), 3);
    bench.sleep(SECOND_NS);
    let words = bench.words();
    assert_eq!(
        words,
        [format!(
            "100 Idle Heartbeat|Nats-Last-Consumer: 2|Nats-Last-Stream: 2|Nats-Consumer-Stalled: {}",
            requests[0].reply
        )]
    );
    bench.with(|consumer, context| {
        consumer.flow_control_reply(context, requests[0].reply.as_bytes(), b"");
    });
    bench.wake();
    assert_eq!(
        bench
            .sent()
            .iter()
            .filter(|sent| sent.payload.len() > 1)
            .count(),
        3
    );
}

#[test]
fn an_ephemeral_without_interest_asks_to_be_deleted() {
    let config = ConsumerConfig {
        inactive_threshold_ns: 5 * SECOND_NS as i64,
        ..pushed()
    };
    let mut bench = Bench::new(config);
    bench.listen("d");
    bench.sleep(20 * SECOND_NS);
    assert!(bench.events.is_empty());
    bench.unlisten("d");
    bench.sleep(5 * SECOND_NS - 1);
    assert!(bench.events.is_empty());
    bench.sleep(SECOND_NS + 1);
    assert_eq!(bench.events.first(), Some(&ConsumerEvent::Inactive));
}

// proves: JS-CON-13
#[test]
fn headers_only_tells_the_size_instead_of_the_payload() {
    let config = ConsumerConfig {
        headers_only: true,
        ..pushed()
    };
    let mut bench = Bench::with_messages(config, &[("a", "12345")]);
    bench.listen("d");
    let sent = bench.sent();
    assert_eq!(sent[0].headers, "NATS/1.0\r\nNats-Msg-Size: 5\r\n\r\n");
    assert_eq!(sent[0].payload, "");
}

// proves: JS-CON-11, JS-CON-12
#[test]
fn replay_keeps_gaps_and_a_rate_limit_spaces_messages() {
    let replay = ConsumerConfig {
        replay_policy: ReplayPolicy::Original,
        ..pushed()
    };
    let mut bench = Bench::new(replay);
    bench.publish("a", "1");
    bench.sleep(SECOND_NS);
    bench.publish("a", "2");
    bench.listen("d");
    assert_eq!(bench.words(), ["1"]);
    bench.sleep(SECOND_NS - 1);
    assert!(bench.sent().is_empty());
    bench.sleep(1);
    assert_eq!(bench.words(), ["2"]);

    let limited = ConsumerConfig {
        rate_limit_bits_per_second: 8 * 140,
        ..pushed()
    };
    let payload = "x".repeat(100);
    let mut bench = Bench::with_messages(limited, &[("a", &payload), ("a", &payload)]);
    bench.listen("d");
    assert_eq!(bench.sent().len(), 1);
    bench.sleep(2 * SECOND_NS);
    assert_eq!(bench.sent().len(), 1);
}

// proves: JS-SRC-07
#[test]
fn answers_to_flow_control_acknowledge_what_the_receiver_has() {
    let config = ConsumerConfig {
        idle_heartbeat_ns: SECOND_NS as i64,
        flow_control: true,
        ack_policy: AckPolicy::FlowControl,
        ack_wait_ns: 0,
        max_ack_pending: 4,
        ..pushed()
    };
    let mut bench = Bench::new(config);
    bench.listen("d");
    bench.publish("a", "1");
    assert_eq!(bench.words(), ["1"]);
    // Half of what may be unacknowledged is out: asked for at once.
    bench.publish("a", "2");
    let sent = bench.sent();
    let asked = sent[1].reply.clone();
    assert!(asked.starts_with("$JS.FC.S.C."), "{sent:?}");
    let answer = |bench: &mut Bench, subject: &str, last: u64| {
        let block =
            format!("NATS/1.0\r\nNats-Last-Consumer: {last}\r\nNats-Last-Stream: {last}\r\n\r\n");
        bench.with(|consumer, context| {
            consumer.flow_control_reply(context, subject.as_bytes(), block.as_bytes());
        });
    };
    // Somebody else's answer changes nothing, one beyond the end no more than there is.
    answer(&mut bench, "$JS.FC.S.C.none", 2);
    assert_eq!(bench.info().num_ack_pending, 2);
    answer(&mut bench, &asked, 1);
    assert_eq!(bench.info().num_ack_pending, 1);
    // Nothing is delivered again by itself; after a second of quiet it is asked for the rest.
    bench.sleep(SECOND_NS);
    let sent = bench.sent();
    let asked = sent[1].reply.clone();
    assert_eq!(sent.len(), 2, "{sent:?}");
    answer(&mut bench, &asked, 99);
    assert_eq!(bench.info().num_ack_pending, 0);
    assert_eq!(bench.info().ack_floor.stream, 2);
}
