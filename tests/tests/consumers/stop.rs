//! What waiting pull requests are told when the server goes down.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use millrace_tests::{RawClient, ServerBuilder};
use serde_json::json;

use super::client::{Client, compare};

/// One request per consumer: the reference tells an inbox once, however many requests it has there.
fn waiting_pulls(client: &mut Client) {
    client.stream(json!({}));
    for name in ["C", "D", "E"] {
        client.consumer(name, json!({}));
    }
    client.publish("a.1", "one");
    client.pull("C", r#"{"batch":10,"expires":60000000000}"#);
    client.pull(
        "D",
        r#"{"batch":5,"expires":60000000000,"max_bytes":1000,"idle_heartbeat":20000000000}"#,
    );
    client.pull("E", "7");
}

// proves: JS-CON-15
#[test]
fn waiting_pulls_are_told_that_the_server_stops_alike() {
    for signal in ["TERM", "INT"] {
        compare(&format!("stop by {signal}"), |client| {
            waiting_pulls(client);
            client.stop(signal);
        });
    }
}

// proves: JS-CON-15
#[test]
fn waiting_pulls_are_told_before_lame_duck_mode_closes_their_connection() {
    let config = "lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"200ms\"\n";
    let server = ServerBuilder::millrace().jetstream().config(config).start();
    let mut client = RawClient::ready(&server.address);
    client.send(b"SUB in 1\r\nSUB made 2\r\n");
    let stream = br#"{"name":"S","subjects":["a"],"storage":"memory"}"#;
    client.publish("$JS.API.STREAM.CREATE.S", "made", b"", stream);
    let consumer = br#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit"}}"#;
    client.publish("$JS.API.CONSUMER.DURABLE.CREATE.S.C", "made", b"", consumer);
    for _ in 0..2 {
        let made = client.read_message().json();
        assert!(made.get("error").is_none(), "{made}");
    }
    let request = br#"{"batch":3,"expires":60000000000}"#;
    client.publish("$JS.API.CONSUMER.MSG.NEXT.S.C", "in", b"", request);
    client.flush();
    server.signal("USR2");
    let told = String::from_utf8(client.read_to_end()).unwrap();
    let status = "NATS/1.0 409 Server Shutdown\r\nNats-Pending-Messages: 3\r\nNats-Pending-Bytes: 0\r\n\r\n\r\n";
    assert!(told.ends_with(status), "{told}");
}
