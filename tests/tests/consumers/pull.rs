//! Pull mode: requests, statuses, counts.

use std::time::Duration;

use serde_json::json;

use super::client::{Client, compare};

fn six_messages(client: &mut Client) {
    for subject in ["a.1", "b.1", "a.2", "a.1", "b.1", "a.1"] {
        client.publish(subject, subject);
    }
}

// proves: JS-CON-05, JS-CON-06, JS-CON-07, JS-CON-22
#[test]
fn deliver_policies_and_filters_start_at_the_same_message_with_the_same_counts() {
    compare("deliver policies", |client| {
        client.stream(json!({}));
        six_messages(client);
        let rows = [
            json!({"deliver_policy": "all"}),
            json!({"deliver_policy": "last"}),
            json!({"deliver_policy": "new"}),
            json!({"deliver_policy": "by_start_sequence", "opt_start_seq": 3}),
            json!({"deliver_policy": "by_start_sequence", "opt_start_seq": 30}),
            json!({"deliver_policy": "by_start_time", "opt_start_time": "2020-01-01T00:00:00Z"}),
            json!({"deliver_policy": "last_per_subject"}),
            json!({"deliver_policy": "last_per_subject", "filter_subject": "a.*"}),
            json!({"deliver_policy": "last", "filter_subject": "b.*"}),
            json!({"filter_subject": "a.2"}),
            json!({"filter_subjects": ["a.2", "b.*"]}),
        ];
        for (index, row) in rows.into_iter().enumerate() {
            let name = format!("C{index}");
            client.consumer(&name, row);
            client.counts(&name);
            client.pull(&name, r#"{"batch":2,"no_wait":true}"#);
            client.counts(&name);
            client.pull(&name, r#"{"batch":10,"no_wait":true}"#);
            client.counts(&name);
        }
        client.publish("a.2", "new");
        for index in 0..11 {
            let name = format!("C{index}");
            client.pull(&name, r#"{"batch":10,"no_wait":true}"#);
            client.counts(&name);
        }
    });
}

// proves: JS-CON-14, JS-CON-15
#[test]
fn requests_end_with_the_same_statuses() {
    compare("pull statuses", |client| {
        client.stream(json!({}));
        client.consumer("C", json!({}));
        client.pull("C", r#"{"batch":2,"no_wait":true}"#);
        client.pull("C", r#"{"batch":2,"no_wait":true,"expires":100000000}"#);
        client.wait(Duration::from_millis(150));
        client.pull("C", r#"{"batch":2,"expires":100000000,"max_bytes":500}"#);
        client.counts("C");
        client.wait(Duration::from_millis(150));
        client.pull(
            "C",
            r#"{"batch":2,"expires":500000000,"idle_heartbeat":200000000}"#,
        );
        client.wait(Duration::from_millis(600));
        for body in [
            r#"{"expires":100000000,"idle_heartbeat":60000000}"#,
            r#"{"idle_heartbeat":60000000}"#,
            "{bad",
            r#"{"batch":true}"#,
            r#"{"group":"x"}"#,
        ] {
            client.pull("C", body);
        }
        client.counts("C");
        for _ in 0..5 {
            client.publish("a.1", "hello");
        }
        client.counts("C");
        client.pull("C", "2");
        client.pull("C", "");
        client.pull("C", r#"{"batch":1,"max_bytes":1000}"#);
        client.pull("C", r#"{"batch":1,"max_bytes":10}"#);
        client.pull("C", r#"{"batch":10,"max_bytes":120}"#);
        client.counts("C");
        client.pull("C", r#"{"batch":5}"#);
        client.pull("C", r#"{"batch":5,"no_wait":true}"#);
        client.counts("C");
        client.publish("a.1", "one");
        client.pull("C", r#"{"batch":5,"no_wait":true}"#);
        client.ask("CONSUMER.DELETE.S.C", &json!(null));
        client.drain();
        client.pull("C", "1");
    });
}

// proves: JS-CON-16
#[test]
fn caps_refuse_requests_with_the_same_words() {
    compare("pull caps", |client| {
        client.stream(json!({}));
        client.consumer(
            "C",
            json!({"max_waiting": 2, "max_batch": 3, "max_expires": 5_000_000_000u64, "max_bytes": 100}),
        );
        for body in [
            r#"{"batch":4}"#,
            r#"{"batch":1,"expires":6000000000}"#,
            r#"{"batch":1,"max_bytes":101}"#,
            r#"{"batch":1}"#,
            r#"{"batch":1,"expires":3000000000}"#,
            r#"{"batch":1,"expires":3000000000}"#,
            r#"{"batch":1,"expires":3000000000,"idle_heartbeat":1000000000}"#,
        ] {
            client.pull("C", body);
        }
        client.counts("C");
        client.send(b"UNSUB 1\r\n");
        client.counts("C");
        client.publish("a.1", "x");
        client.counts("C");
    });
}

#[test]
fn purges_and_deletes_move_positions_and_counts_alike() {
    compare("purge", |client| {
        client.stream(json!({}));
        six_messages(client);
        client.consumer("P", json!({}));
        client.consumer("Q", json!({}));
        client.consumer("F", json!({"filter_subject": "b.*"}));
        client.pull("P", r#"{"batch":3,"no_wait":true}"#);
        client.ask("STREAM.MSG.DELETE.S", &json!({"seq": 2}));
        client.drain();
        client.ask("STREAM.MSG.DELETE.S", &json!({"seq": 5}));
        client.drain();
        for name in ["P", "Q", "F"] {
            client.counts(name);
        }
        client.ask("STREAM.PURGE.S", &json!({"filter": "a.1", "keep": 1}));
        client.drain();
        for name in ["P", "Q", "F"] {
            client.counts(name);
        }
        client.ask("STREAM.PURGE.S", &json!({}));
        client.drain();
        for name in ["P", "Q", "F"] {
            client.counts(name);
        }
        client.publish("b.1", "after");
        for name in ["P", "Q", "F"] {
            client.pull(name, r#"{"batch":10,"no_wait":true}"#);
            client.counts(name);
        }
    });
}

#[test]
fn limits_drop_messages_under_consumers_alike() {
    compare("limits", |client| {
        client.stream(json!({"max_msgs": 3}));
        client.consumer("C", json!({}));
        client.publish("a.1", "1");
        client.publish("a.1", "2");
        client.pull("C", "1");
        for payload in ["3", "4", "5"] {
            client.publish("a.1", payload);
        }
        client.counts("C");
        client.pull("C", r#"{"batch":10,"no_wait":true}"#);
        client.counts("C");
    });
}
