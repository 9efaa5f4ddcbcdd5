//! Streams whose messages leave when they are acknowledged: acknowledgements and what happens to
//! their consumer at the same time.

mod support;

use millrace_jetstream::{Endpoint, Input, Message, StreamId};
use support::{ACCOUNT, Harness};

const CONSUMER: &str =
    r#"{"stream_name":"W","config":{"durable_name":"C","ack_policy":"explicit"}}"#;

/// Hands in a message within the current turn; gives the reply subject.
fn send(harness: &mut Harness, endpoint: Endpoint, subject: &str, payload: &str) -> String {
    let reply = harness.fresh_reply();
    let message = Message {
        subject: subject.to_owned().into(),
        reply: reply.clone().into(),
        payload: payload.to_owned().into(),
        ..Message::default()
    };
    harness.stage(Input::Deliver {
        account: ACCOUNT,
        endpoint,
        message,
    });
    reply
}

fn acknowledge(harness: &mut Harness, stream: StreamId, sequence: u64) -> String {
    let subject = format!("$JS.ACK.W.C.1.{sequence}.{sequence}.1700000000000000000.0");
    send(harness, Endpoint::Ack(stream), &subject, "+ACK")
}

/// A stream with two messages that the consumer C was given.
fn delivered(harness: &mut Harness, retention: &str) -> StreamId {
    let stream = harness.create("W", &format!(r#","retention":"{retention}""#));
    harness.api("CONSUMER.DURABLE.CREATE.W.C", CONSUMER);
    harness.publish(stream, "W.a", &[], "one");
    harness.publish(stream, "W.a", &[], "two");
    let next = "$JS.API.CONSUMER.MSG.NEXT.W.C";
    let reply = send(
        harness,
        Endpoint::NextRequest(stream),
        next,
        r#"{"batch":2}"#,
    );
    harness.end_of_turn();
    assert_eq!(harness.answer(&reply), "one");
    assert_eq!(harness.answer(&reply), "two");
    stream
}

// proves: JS-STR-17
#[test]
fn what_a_consumer_acknowledged_goes_when_it_is_deleted_at_the_same_time() {
    let mut harness = Harness::new();
    let stream = delivered(&mut harness, "workqueue");
    let acknowledged = acknowledge(&mut harness, stream, 1);
    let deleted = send(
        &mut harness,
        Endpoint::Api,
        "$JS.API.CONSUMER.DELETE.W.C",
        "",
    );
    harness.end_of_turn();
    assert_eq!(harness.answer(&acknowledged), "");
    assert!(harness.answer(&deleted).contains("true"));
    assert_eq!(harness.state(stream), (1, 2, 2), "the first was confirmed");
}

#[test]
fn a_consumer_whose_deletion_is_under_way_confirms_nothing() {
    let mut harness = Harness::new();
    let stream = delivered(&mut harness, "workqueue");
    harness.hold = true;
    let deleted = send(
        &mut harness,
        Endpoint::Api,
        "$JS.API.CONSUMER.DELETE.W.C",
        "",
    );
    harness.end_of_turn();
    let acknowledged = acknowledge(&mut harness, stream, 1);
    harness.end_of_turn();
    harness.hold = false;
    harness.commit_all();
    assert!(harness.answer(&deleted).contains("true"));
    assert_eq!(harness.answer(&acknowledged), "-", "nobody heard of it");
    assert_eq!(harness.state(stream), (2, 1, 2));
}
