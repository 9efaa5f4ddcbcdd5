//! Streams whose messages leave when they are acknowledged.

use serde_json::{Value, json};

use super::client::{Client, compare};

/// Notes what is left in the stream.
fn state(client: &mut Client) {
    client.drain();
    let info = client.api("STREAM.INFO.S", &Value::Null);
    let state = &info["state"];
    client.note(format!(
        "stream: {} messages, {} to {}",
        state["messages"], state["first_seq"], state["last_seq"]
    ));
}

// proves: JS-STR-17, JS-CON-24
#[test]
fn a_work_queue_loses_what_is_acknowledged_alike() {
    compare("work queue", |client| {
        client.stream(json!({"retention": "workqueue"}));
        for number in 1..=6 {
            client.publish(
                if number % 2 == 0 { "b.1" } else { "a.1" },
                &number.to_string(),
            );
        }
        client.consumer("N", json!({"ack_policy": "none"}));
        client.consumer("L", json!({"deliver_policy": "last"}));
        client.consumer("A", json!({"filter_subject": "a.*"}));
        client.consumer("X", json!({}));
        client.consumer("O", json!({"filter_subject": "a.1"}));
        client.consumer("B", json!({"filter_subject": "b.*"}));
        client.pull("A", "3");
        client.pull("B", "2");
        state(client);
        client.ack("A", "1.3.2", "");
        state(client);
        client.ack("B", "1.2.1", "+TERM");
        state(client);
        client.ack("A", "1.1.1", "+NXT");
        state(client);
        client.ack("A", "1.5.3", "-NAK");
        client.counts("A");
        client.ask("CONSUMER.DELETE.S.A", &Value::Null);
        state(client);
        client.counts("B");
    });
}

// proves: JS-STR-16
#[test]
fn an_interest_stream_keeps_what_somebody_needs_alike() {
    compare("interest", |client| {
        client.stream(json!({"retention": "interest"}));
        client.publish("a.1", "nobody");
        state(client);
        client.consumer("A", json!({"filter_subject": "a.*"}));
        client.consumer("B", json!({}));
        client.consumer("N", json!({"ack_policy": "none", "filter_subject": "b.*"}));
        for subject in ["a.1", "b.1", "a.2", "b.2"] {
            client.publish(subject, subject);
        }
        state(client);
        client.pull("A", "5");
        client.pull("B", "5");
        client.ack("A", "1.2.1", "");
        state(client);
        client.ack("B", "1.2.1", "");
        state(client);
        client.ack("B", "1.3.2", "");
        state(client);
        client.pull("N", "1");
        state(client);
        client.ack("B", "1.5.4", "");
        client.pull("N", "1");
        state(client);
        client.counts("A");
        client.counts("B");
        client.ask("CONSUMER.DELETE.S.A", &Value::Null);
        state(client);
        client.ack("B", "1.4.3", "");
        state(client);
        client.publish("a.1", "late");
        client.ask("CONSUMER.DELETE.S.B", &Value::Null);
        state(client);
        client.publish("a.1", "nobody again");
        state(client);
    });
}

#[test]
fn ack_all_on_an_interest_stream_frees_everything_below_alike() {
    compare("interest ack all", |client| {
        client.stream(json!({"retention": "interest"}));
        client.consumer(
            "A",
            json!({"ack_policy": "all", "max_deliver": 1, "ack_wait": 200_000_000}),
        );
        for number in 1..=5 {
            client.publish("a.1", &number.to_string());
        }
        client.pull("A", "4");
        client.ack("A", "1.3.3", "");
        state(client);
        client.counts("A");
        client.wait(std::time::Duration::from_millis(400));
        state(client);
        client.counts("A");
    });
}
