//! What consumers remember when the server is killed.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, compare};

fn file_stream(client: &mut Client, config: Value, messages: u32) {
    let mut full = json!({"storage": "file"});
    for (key, value) in config.as_object().unwrap() {
        full[key] = value.clone();
    }
    client.stream(full);
    for number in 1..=messages {
        let subject = format!("{}.{}", if number % 2 == 0 { "b" } else { "a" }, number % 3);
        client.publish(&subject, &number.to_string());
    }
}

// proves: JS-CON-34
#[test]
fn positions_acks_and_redeliveries_are_remembered_alike() {
    compare("restart", |client| {
        file_stream(client, json!({}), 10);
        client.consumer("C", json!({}));
        client.consumer("F", json!({"filter_subject": "b.*"}));
        client.consumer(
            "L",
            json!({"deliver_policy": "last_per_subject", "filter_subject": ">"}),
        );
        client.consumer("N", json!({"ack_policy": "none"}));
        client.consumer("A", json!({"ack_policy": "all"}));
        for name in ["C", "F", "L", "N", "A"] {
            client.pull(name, "4");
        }
        client.pull("W", "2");
        client.ack("C", "1.1.1", "");
        client.ack("C", "1.3.3", "");
        client.ack("C", "1.2.2", "-NAK");
        client.pull("C", "1");
        client.ack("F", "1.4.2", "");
        client.ack("A", "1.3.3", "");
        for name in ["C", "F", "L", "N", "A"] {
            client.counts(name);
        }
        client.restart();
        for name in ["C", "F", "L", "N", "A"] {
            client.counts(name);
            client.pull(name, r#"{"batch":2,"no_wait":true}"#);
            client.counts(name);
        }
        client.ack("C", "1.4.4", "");
        client.counts("C");
        client.pull("W", r#"{"batch":2,"expires":2000000000}"#);
        client.wait(Duration::from_millis(1200));
        client.counts("W");
    });
}

// proves: JS-CON-03, JS-CON-04, JS-CON-25, JS-CON-29
#[test]
fn changes_of_consumers_are_remembered_alike() {
    compare("restart after changes", |client| {
        file_stream(client, json!({}), 6);
        for name in ["D", "P", "R", "U"] {
            client.consumer(name, json!({}));
            client.pull(name, "2");
        }
        client.ask("CONSUMER.DELETE.S.D", &Value::Null);
        client.ask(
            "CONSUMER.PAUSE.S.P",
            &json!({"pause_until": "2090-01-01T00:00:00Z"}),
        );
        client.ask("CONSUMER.RESET.S.R", &json!({"seq": 5}));
        client.consumer("U", json!({"filter_subject": "b.*", "max_ack_pending": 3}));
        client.restart();
        client.ask("CONSUMER.NAMES.S", &Value::Null);
        for name in ["P", "R", "U"] {
            client.counts(name);
            client.pull(name, r#"{"batch":3,"expires":200000000}"#);
            client.wait(Duration::from_millis(300));
            client.counts(name);
        }
    });
}

// proves: JS-STR-16, JS-STR-17
#[test]
fn acknowledged_messages_do_not_come_back_alike() {
    for retention in ["workqueue", "interest"] {
        compare(&format!("restart {retention}"), |client| {
            file_stream(client, json!({"retention": retention}), 0);
            client.consumer("C", json!({}));
            for number in 1..=6 {
                client.publish("a.1", &number.to_string());
            }
            client.pull("C", "5");
            for numbers in ["1.1.1", "1.3.3", "1.4.4"] {
                client.ack("C", numbers, "");
            }
            client.counts("C");
            client.restart();
            let info = client.api("STREAM.INFO.S", &Value::Null);
            client.note(format!(
                "{} {}",
                info["state"]["messages"], info["state"]["first_seq"]
            ));
            client.counts("C");
            client.ack("C", "1.2.2", "");
            client.ack("C", "1.5.5", "");
            client.pull("C", r#"{"batch":3,"no_wait":true}"#);
            let info = client.api("STREAM.INFO.S", &Value::Null);
            client.note(format!(
                "{} {}",
                info["state"]["messages"], info["state"]["first_seq"]
            ));
            client.counts("C");
        });
    }
}
