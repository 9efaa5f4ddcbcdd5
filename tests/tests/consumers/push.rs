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

// proves: JS-CON-11
#[test]
fn a_rate_limit_spaces_messages_alike() {
    compare("rate limit", |client| {
        client.stream(json!({"max_msg_size": 2000}));
        client.send(b"SUB d 20\r\n");
        let payload = "x".repeat(1900);
        for _ in 0..3 {
            client.publish("a.1", &payload);
        }
        // One message a second beyond the burst of one.
        let limit = json!({"deliver_subject": "d", "ack_policy": "none", "rate_limit_bps": 16_000});
        client.consumer("C", limit);
        client.wait(Duration::from_millis(300));
        // No counts here: the reference has taken the next message while it waits with it.
        client.note("after 300 ms");
        client.wait(Duration::from_millis(3000));
        client.counts("C");
    });
}

// proves: JS-CON-08
#[test]
fn redeliveries_of_a_push_consumer_come_alike() {
    compare("push redelivery", |client| {
        client.stream(json!({}));
        client.send(b"SUB d 20\r\n");
        let config = json!({"deliver_subject": "d", "ack_wait": 400_000_000, "max_deliver": 2, "max_ack_pending": 2});
        client.consumer("C", config);
        for payload in ["1", "2", "3"] {
            client.publish("a.1", payload);
        }
        client.counts("C");
        client.wait(Duration::from_millis(400));
        client.counts("C");
        client.ack("C", "2.1.3", "");
        client.counts("C");
        client.wait(Duration::from_millis(1500));
        client.counts("C");
    });
}
