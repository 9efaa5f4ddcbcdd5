//! Push mode.

use std::time::Duration;

use serde_json::json;

use super::client::compare;

// proves: JS-CON-08, JS-CON-10
#[test]
fn delivery_follows_interest_alike() {
    compare("push interest", |client| {
        client.stream(json!({}));
        client.publish("a.1", "1");
        client.consumer("C", json!({"deliver_subject": "d"}));
        client.counts("C");
        client.send(b"SUB d 20\r\n");
        client.drain();
        client.publish("a.1", "2");
        client.counts("C");
        client.ack("C", "1.1.1", "");
        client.counts("C");
        client.ack("C", "1.2.2", "-NAK");
        client.send(b"UNSUB 20\r\n");
        client.publish("a.1", "3");
        client.counts("C");
        client.send(b"SUB d 21\r\n");
        client.drain();
        client.counts("C");
        client.pull("C", "1");
        client.consumer(
            "G",
            json!({"deliver_subject": "e", "deliver_group": "q", "ack_policy": "none"}),
        );
        client.send(b"SUB e 22\r\n");
        client.drain();
        client.counts("G");
        client.send(b"SUB e q 23\r\nUNSUB 22\r\n");
        client.drain();
        client.counts("G");
    });
}

// proves: JS-CON-09
#[test]
fn heartbeats_and_flow_control_alike() {
    compare("flow control", |client| {
        client.stream(json!({}));
        client.send(b"SUB d 20\r\n");
        client.consumer(
            "C",
            json!({"deliver_subject": "d", "ack_policy": "none", "flow_control": true, "idle_heartbeat": 300_000_000}),
        );
        client.wait(Duration::from_millis(400));
        let payload = "x".repeat(700_000);
        for _ in 0..5 {
            client.publish("a.1", &payload);
        }
        client.counts("C");
        client.wait(Duration::from_millis(450));
    });
}

// proves: JS-CON-13
#[test]
fn headers_only_alike() {
    compare("headers only", |client| {
        client.stream(json!({}));
        client.publish("a.1", "12345");
        client.send(b"HPUB a.1 20 23\r\nNATS/1.0\r\nKey: v\r\n\r\nabc\r\n");
        client.drain();
        client.consumer("C", json!({"headers_only": true}));
        client.pull("C", "2");
    });
}

// proves: JS-CON-12
#[test]
fn replay_original_keeps_gaps_alike() {
    compare("replay", |client| {
        client.stream(json!({}));
        client.publish("a.1", "1");
        client.wait(Duration::from_millis(500));
        client.publish("a.1", "2");
        client.send(b"SUB d 20\r\n");
        client.consumer(
            "C",
            json!({"deliver_subject": "d", "ack_policy": "none", "replay_policy": "original"}),
        );
        client.wait(Duration::from_millis(100));
        client.note("after 100 ms");
        client.wait(Duration::from_millis(600));
    });
}
