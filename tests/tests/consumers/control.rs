//! Pause, reset, update, deletion for inactivity.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::compare;

// proves: JS-CON-25
#[test]
fn a_pause_stops_deliveries_alike() {
    compare("pause", |client| {
        client.stream(json!({}));
        client.publish("a.1", "1");
        client.consumer("C", json!({}));
        client.ask(
            "CONSUMER.PAUSE.S.C",
            &json!({"pause_until": "2020-01-01T00:00:00Z"}),
        );
        client.drain();
        client.ask(
            "CONSUMER.PAUSE.S.C",
            &json!({"pause_until": "2090-01-01T00:00:00Z"}),
        );
        client.drain();
        // A request that waits when the pause ends is left out: we serve it, the reference forgets.
        client.pull("C", r#"{"expires":30000000}"#);
        client.counts("C");
        client.ask("CONSUMER.PAUSE.S.C", &Value::Null);
        client.drain();
        client.counts("C");
        client.pull("C", "1");
        client.counts("C");
    });
}

// proves: JS-CON-29
#[test]
fn resets_start_again_alike() {
    compare("reset", |client| {
        client.stream(json!({}));
        for number in 1..=5 {
            client.publish("a.1", &number.to_string());
        }
        client.consumer("C", json!({}));
        client.pull("C", "4");
        client.ack("C", "1.1.1", "");
        client.ask("CONSUMER.RESET.S.C", &Value::Null);
        client.drain();
        client.counts("C");
        client.pull("C", "2");
        client.counts("C");
        client.ask("CONSUMER.RESET.S.C", &json!({"seq": 4}));
        client.drain();
        client.counts("C");
        client.pull("C", r#"{"batch":5,"no_wait":true}"#);
        client.consumer(
            "B",
            json!({"deliver_policy": "by_start_sequence", "opt_start_seq": 3}),
        );
        client.ask("CONSUMER.RESET.S.B", &json!({"seq": 2}));
        client.ask("CONSUMER.RESET.S.B", &json!({"seq": 4}));
        client.drain();
        client.counts("B");
        client.consumer("L", json!({"deliver_policy": "last"}));
        client.ask("CONSUMER.RESET.S.L", &json!({"seq": 2}));
    });
}

// proves: JS-CON-03, JS-CON-06
#[test]
fn changed_filters_keep_the_position_and_recount_alike() {
    compare("update", |client| {
        client.stream(json!({}));
        for subject in ["a.1", "b.1", "a.1", "b.1", "b.1"] {
            client.publish(subject, subject);
        }
        client.consumer("C", json!({"filter_subject": "a.*"}));
        client.pull("C", "1");
        client.consumer("C", json!({"filter_subject": "b.*"}));
        client.counts("C");
        client.pull("C", r#"{"batch":5,"no_wait":true}"#);
        client.counts("C");
        client.consumer("C", json!({"filter_subject": "b.*", "max_ack_pending": 1}));
        client.counts("C");
    });
}

// proves: JS-CON-04
#[test]
fn unused_ephemerals_are_deleted_alike() {
    compare("inactive", |client| {
        client.stream(json!({}));
        let body = json!({"stream_name": "S", "config": {
            "name": "E", "ack_policy": "none", "inactive_threshold": 500_000_000}});
        client.ask("CONSUMER.CREATE.S.E", &body);
        client.drain();
        client.pull("E", r#"{"expires":200000000}"#);
        client.wait(Duration::from_millis(250));
        client.ask("CONSUMER.INFO.S.E", &Value::Null);
        client.wait(Duration::from_millis(2000));
        client.ask("CONSUMER.INFO.S.E", &Value::Null);
    });
}
