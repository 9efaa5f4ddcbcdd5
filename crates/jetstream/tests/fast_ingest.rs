//! Fast ingest on the state machine: nothing is told before it is applied, and nothing is left behind.

mod support;

use bytes::Bytes;
use millrace_jetstream::{Endpoint, Input, Message, StreamId};
use support::{ACCOUNT, Harness};

fn send(harness: &mut Harness, stream: StreamId, sequence: u64, operation: u8) -> String {
    let reply = format!("r.b.2.ok.{sequence}.{operation}.$FI");
    let message = Message {
        subject: Bytes::from_static(b"S.a"),
        reply: Bytes::from(reply.clone()),
        payload: Bytes::from_static(b"x"),
        ..Message::default()
    };
    harness.stage(Input::Deliver {
        account: ACCOUNT,
        endpoint: Endpoint::Ingest(stream),
        message,
    });
    reply
}

// proves: JS-FI-01
#[test]
fn flow_answers_and_the_end_wait_until_their_messages_are_applied() {
    let mut harness = Harness::new();
    let stream = harness.create("S", ",\"allow_batched\":true");
    harness.hold = true;
    let start = send(&mut harness, stream, 1, 0);
    let second = send(&mut harness, stream, 2, 1);
    let last = send(&mut harness, stream, 3, 2);
    harness.end_of_turn();
    let first = r#"{"type":"ack","seq":0,"msgs":2}"#;
    assert_eq!(harness.answer(&start), first);
    assert_eq!(harness.answer(&second), "-");
    assert_eq!(harness.answer(&last), "-");
    harness.commit_all();
    let flow = r#"{"type":"ack","seq":2,"msgs":2}"#;
    assert_eq!(harness.answer(&second), flow);
    let end = r#"{"stream":"S","seq":3,"batch":"b","count":3}"#;
    assert_eq!(harness.answer(&last), end);
    assert_eq!(harness.engine.shared.fast_in_flight, 0);
    let replayed = harness.replayed_hash(support::settings(), stream);
    assert_eq!(harness.hash(stream), replayed);
}

// proves: JS-FI-02
#[test]
fn idle_batches_and_those_of_a_lost_lead_are_forgotten() {
    let mut harness = Harness::new();
    let stream = harness.create("S", ",\"allow_batched\":true");
    send(&mut harness, stream, 1, 0);
    harness.end_of_turn();
    harness.advance_ms(10_000);
    assert_eq!(harness.engine.shared.fast_in_flight, 0);
    send(&mut harness, stream, 1, 0);
    harness.end_of_turn();
    assert_eq!(harness.engine.shared.fast_in_flight, 1);
    harness.depose(stream.group());
    assert_eq!(harness.engine.shared.fast_in_flight, 0);
}
