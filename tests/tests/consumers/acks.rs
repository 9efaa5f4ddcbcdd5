//! Acknowledgements and redelivery.

use std::time::Duration;

use serde_json::json;

use super::client::{Client, compare};

fn ready(client: &mut Client, config: serde_json::Value, messages: u32) {
    client.stream(json!({}));
    for number in 1..=messages {
        client.publish("a.1", &number.to_string());
    }
    client.consumer("C", config);
}

// proves: JS-CON-17, JS-CON-18, JS-CON-19
#[test]
fn every_verb_gets_the_same_answer_and_counts() {
    compare("ack verbs", |client| {
        ready(client, json!({}), 8);
        client.pull("C", "6");
        for (numbers, payload) in [
            ("1.1.1", ""),
            ("1.1.1", "+ACK"),
            ("1.2.2", "+OK"),
            ("1.3.3", "+WPI"),
            ("1.3.3", "what"),
            ("1.4.4", "+TERM"),
            ("1.5.5", "+TERM bad data"),
            ("1.9.9", "+ACK"),
            ("1.9.9", "-NAK"),
            ("1.0.0", "+ACK"),
        ] {
            client.ack("C", numbers, payload);
            client.counts("C");
        }
        client.ack("C", "1.3.3", "-NAK");
        client.ack("C", "1.6.6", "-NAK {\"delay\": 200000000}");
        client.pull("C", r#"{"batch":3,"expires":1000000000}"#);
        client.counts("C");
        client.wait(Duration::from_millis(300));
        client.counts("C");
        client.ack("C", "1.3.3", "+NXT 1");
        client.counts("C");
        client.request("$JS.ACK.S.missing.1.6.6.1700000000000000000.0", "");
        client.request("$JS.ACK.S.C.1.6", "");
    });
}

// proves: JS-CON-17
#[test]
fn ack_all_and_ack_none_count_alike() {
    compare("ack policies", |client| {
        ready(client, json!({"ack_policy": "all"}), 5);
        client.pull("C", "4");
        client.ack("C", "1.2.2", "");
        client.counts("C");
        client.ack("C", "1.1.1", "");
        client.counts("C");
        client.ack("C", "1.4.4", "");
        client.counts("C");
        client.consumer("N", json!({"ack_policy": "none"}));
        client.pull("N", "3");
        client.counts("N");
        client.ack("N", "1.1.1", "");
        client.counts("N");
    });
}

// proves: JS-CON-20, JS-EV-02
#[test]
fn waits_backoff_and_max_deliver_redeliver_alike() {
    compare("redelivery", |client| {
        ready(
            client,
            json!({"ack_wait": 300_000_000, "max_deliver": 3, "backoff": [300_000_000, 600_000_000]}),
            2,
        );
        client.pull("C", "20");
        client.counts("C");
        client.wait(Duration::from_millis(450));
        client.counts("C");
        client.ack("C", "2.2.4", "");
        client.wait(Duration::from_millis(300));
        client.counts("C");
        client.wait(Duration::from_millis(900));
        client.counts("C");
        client.ask("STREAM.MSG.DELETE.S", &json!({"seq": 1}));
        client.counts("C");
    });
}

#[test]
fn naks_come_back_in_the_order_they_were_sent() {
    compare("nak order", |client| {
        ready(client, json!({}), 5);
        client.pull("C", "5");
        for numbers in ["1.4.4", "1.2.2", "1.3.3"] {
            client.ack("C", numbers, "-NAK");
        }
        client.pull("C", "3");
        client.counts("C");
        for numbers in ["1.1.1", "2.4.6", "1.3.3", "1.2.2", "1.5.5"] {
            client.ack("C", numbers, "");
            client.counts("C");
        }
        client.publish("a.1", "6");
        client.pull("C", "1");
        client.counts("C");
    });
}

// proves: JS-CON-21
#[test]
fn max_ack_pending_holds_back_alike() {
    compare("max ack pending", |client| {
        ready(client, json!({"max_ack_pending": 2}), 5);
        client.pull("C", r#"{"batch":5,"no_wait":true}"#);
        client.counts("C");
        client.ack("C", "1.1.1", "-NAK");
        client.counts("C");
        client.ack("C", "1.2.2", "");
        client.counts("C");
    });
}

#[test]
fn max_deliver_of_one_gives_up_at_once() {
    compare("max deliver one", |client| {
        ready(
            client,
            json!({"max_deliver": 1, "ack_wait": 200_000_000}),
            2,
        );
        client.pull("C", "5");
        client.ack("C", "1.1.1", "-NAK");
        client.counts("C");
        client.wait(Duration::from_millis(350));
        client.counts("C");
        client.ack("C", "1.2.2", "");
        client.counts("C");
    });
}

// proves: JS-CON-31
#[test]
fn sampled_acks_are_measured_alike() {
    compare("sampling", |client| {
        client.send(b"SUB $JS.EVENT.METRIC.> 30\r\n");
        ready(client, json!({"sample_freq": "100%"}), 3);
        client.pull("C", "3");
        client.ack("C", "1.1.1", "");
        client.ack("C", "1.2.2", "-NAK");
        client.pull("C", "1");
        client.ack("C", "2.2.4", "");
        client.ack("C", "1.3.3", "+TERM");
        client.ack("C", "1.3.3", "");
        client.counts("C");
    });
}
