//! Creating and updating: every rule with its error, in the reference's order.

use millrace_tests::{RawClient, Server};
use serde_json::{Value, json};

use super::client::{Client, compare};

/// Creates (or fails to create) consumer `name` by the subject with a name, then deletes it.
fn attempt(client: &mut Client, name: &str, config: Value) {
    let body = json!({"stream_name": "S", "config": config});
    client.ask(&format!("CONSUMER.CREATE.S.{name}"), &body);
    client.api(&format!("CONSUMER.DELETE.S.{name}"), &Value::Null);
    client.drain();
}

// proves: JS-CON-02
#[test]
fn configurations_are_refused_alike() {
    compare("consumer rules", |client| {
        client.stream(json!({"max_msgs": 10, "consumer_limits": {"max_ack_pending": 500, "inactive_threshold": 60_000_000_000u64}}));
        let rows = [
            json!({}),
            json!({"ack_policy": "explicit"}),
            json!({"ack_policy": "sometimes"}),
            json!({"num_replicas": 3}),
            json!({"num_replicas": -1}),
            json!({"backoff": [-1]}),
            json!({"ack_policy": "explicit", "ack_wait": -1}),
            json!({"ack_policy": "explicit", "backoff": [1_000_000_000, 2_000_000_000], "max_deliver": 1}),
            json!({"ack_policy": "explicit", "backoff": [1_000_000_000, 2_000_000_000], "max_deliver": 2}),
            json!({"description": "x".repeat(5000)}),
            json!({"deliver_subject": "a.*"}),
            json!({"deliver_subject": "a. b"}),
            json!({"deliver_subject": "a.1"}),
            json!({"deliver_subject": "d", "max_waiting": 5}),
            json!({"deliver_subject": "d", "max_ack_pending": 5}),
            json!({"deliver_subject": "d", "idle_heartbeat": 1_000_000}),
            json!({"deliver_subject": "d", "flow_control": true}),
            json!({"deliver_subject": "d", "max_batch": 5}),
            json!({"rate_limit_bps": 5}),
            json!({"idle_heartbeat": 1_000_000_000}),
            json!({"flow_control": true}),
            json!({"deliver_group": "q"}),
            json!({"max_expires": 1000}),
            json!({"ack_policy": "explicit", "max_ack_pending": 501}),
            json!({"inactive_threshold": 61_000_000_000u64}),
            json!({"filter_subject": "a.*", "filter_subjects": ["b.*"]}),
            json!({"filter_subject": "a..b"}),
            json!({"filter_subjects": ["a.*", ""]}),
            json!({"filter_subjects": ["a.*", "a.1"]}),
            json!({"filter_subjects": ["a.*", "b.*"]}),
            json!({"filter_subject": "elsewhere"}),
            json!({"opt_start_seq": 5}),
            json!({"opt_start_time": "2024-01-01T00:00:00Z"}),
            json!({"deliver_policy": "by_start_sequence"}),
            json!({"deliver_policy": "by_start_time"}),
            json!({"deliver_policy": "last_per_subject"}),
            json!({"deliver_policy": "last", "opt_start_seq": 5}),
            json!({"deliver_policy": "new", "opt_start_time": "2024-01-01T00:00:00Z"}),
            json!({"sample_freq": "x"}),
            json!({"sample_freq": "50%", "ack_policy": "explicit"}),
            json!({"sample_freq": "150"}),
            json!({"metadata": {"_nats.x": "y"}}),
            json!({"metadata": {"k": "x".repeat(140_000)}}),
            json!({"priority_policy": "overflow"}),
            json!({"priority_policy": "overflow", "priority_groups": [""]}),
            json!({"priority_policy": "overflow", "priority_groups": ["with space"]}),
            json!({"priority_policy": "pinned_client", "priority_groups": ["g"]}),
            json!({"priority_groups": ["g"]}),
            json!({"priority_timeout": 1_000_000_000}),
            json!({"priority_policy": "overflow", "priority_groups": ["g"], "deliver_subject": "d"}),
            json!({"max_deliver": 0}),
            json!({"max_deliver": -5}),
            json!({"headers_only": true, "mem_storage": true}),
            json!({"replay_policy": "original"}),
            json!({"pause_until": "2090-01-01T00:00:00Z"}),
        ];
        for row in rows {
            client.note(row.to_string().chars().take(80).collect::<String>());
            attempt(client, "C", row);
        }
    });
}

// proves: JS-CON-01
#[test]
fn names_and_subjects_are_checked_alike() {
    compare("consumer names", |client| {
        client.stream(json!({}));
        let of = |config: Value| json!({"stream_name": "S", "config": config});
        let rows = [
            ("CONSUMER.CREATE.S", of(json!({"durable_name": "D"}))),
            ("CONSUMER.CREATE.S", of(json!({"name": "N"}))),
            ("CONSUMER.CREATE.S.N", of(json!({"durable_name": "D"}))),
            ("CONSUMER.CREATE.S.N2", of(json!({"name": "other"}))),
            (
                "CONSUMER.CREATE.S.N3.a.*",
                of(json!({"filter_subject": "b.*"})),
            ),
            (
                "CONSUMER.CREATE.S.N4.a.*",
                of(json!({"filter_subject": "a.*"})),
            ),
            (
                "CONSUMER.CREATE.S.N5.a.*",
                of(json!({"filter_subjects": ["a.*"]})),
            ),
            ("CONSUMER.DURABLE.CREATE.S.D", of(json!({}))),
            (
                "CONSUMER.DURABLE.CREATE.S.D",
                of(json!({"durable_name": "E"})),
            ),
            (
                "CONSUMER.DURABLE.CREATE.S.D",
                of(json!({"durable_name": "D"})),
            ),
            (
                "CONSUMER.CREATE.S.N6",
                json!({"stream_name": "T", "config": {}}),
            ),
            (
                "CONSUMER.CREATE.T.N6",
                json!({"stream_name": "T", "config": {}}),
            ),
            ("CONSUMER.CREATE.S.N7", json!({"config": {}})),
            ("CONSUMER.CREATE.S.N8", Value::Null),
            ("CONSUMER.CREATE.S.N/9", of(json!({}))),
            ("CONSUMER.CREATE.S.N10", of(json!({"durable_name": "a.b"}))),
            (
                "CONSUMER.CREATE.S.N11",
                of(json!({"durable_name": "N11", "name": "N12"})),
            ),
            ("CONSUMER.NAMES.S", Value::Null),
            ("CONSUMER.LIST.S", json!({"offset": 2})),
            ("CONSUMER.NAMES.T", Value::Null),
            ("CONSUMER.INFO.S.none", Value::Null),
            ("CONSUMER.INFO.S.N", json!({"x": 1})),
            ("CONSUMER.DELETE.S.none", Value::Null),
            ("CONSUMER.DELETE.S.N", json!({"x": 1})),
            (
                "CONSUMER.PAUSE.S.none",
                json!({"pause_until": "2090-01-01T00:00:00Z"}),
            ),
            ("CONSUMER.UNPIN.S.none", json!({"group": "g"})),
            ("CONSUMER.UNPIN.S.N", json!({"group": "g"})),
            ("CONSUMER.LEADER.STEPDOWN.S.N", Value::Null),
        ];
        for (subject, body) in rows {
            client.ask(subject, &body);
            client.drain();
        }
    });
}

// proves: JS-CON-03
#[test]
fn updates_are_refused_alike() {
    compare("consumer updates", |client| {
        client.stream(json!({}));
        let ask = |client: &mut Client, name: &str, action: &str, config: Value| {
            let mut config = config;
            config["durable_name"] = json!(name);
            client.note(format!("{name} {action} {config}"));
            let body = json!({"stream_name": "S", "config": config, "action": action});
            client.ask(&format!("CONSUMER.CREATE.S.{name}"), &body);
            client.drain();
        };
        ask(client, "C", "update", json!({"ack_policy": "explicit"}));
        ask(client, "C", "zz", json!({"ack_policy": "explicit"}));
        ask(client, "C", "create", json!({"ack_policy": "explicit"}));
        ask(client, "C", "create", json!({"ack_policy": "explicit"}));
        ask(
            client,
            "C",
            "create",
            json!({"ack_policy": "explicit", "description": "new"}),
        );
        for change in [
            json!({"ack_policy": "explicit", "description": "new"}),
            json!({"ack_policy": "all"}),
            json!({"ack_policy": "explicit", "deliver_policy": "new"}),
            json!({"ack_policy": "explicit", "deliver_policy": "by_start_sequence", "opt_start_seq": 1}),
            json!({"ack_policy": "explicit", "replay_policy": "original"}),
            json!({"ack_policy": "explicit", "max_waiting": 5}),
            json!({"ack_policy": "explicit", "deliver_subject": "d"}),
            json!({"ack_policy": "explicit", "max_ack_pending": 5, "ack_wait": 1_000_000_000, "max_deliver": 4}),
            json!({"ack_policy": "explicit", "mem_storage": true}),
            json!({"ack_policy": "explicit", "inactive_threshold": 5_000_000_000u64}),
            json!({"ack_policy": "explicit", "pause_until": "2090-01-01T00:00:00Z"}),
        ] {
            ask(client, "C", "", change);
        }
        client.send(b"SUB d 20\r\n");
        ask(
            client,
            "P",
            "",
            json!({"deliver_subject": "d", "idle_heartbeat": 1_000_000_000}),
        );
        ask(
            client,
            "P",
            "",
            json!({"deliver_subject": "d", "idle_heartbeat": 2_000_000_000}),
        );
        ask(
            client,
            "P",
            "",
            json!({"deliver_subject": "e", "idle_heartbeat": 1_000_000_000}),
        );
        ask(client, "P", "", json!({"ack_policy": "none"}));
        client.send(b"UNSUB 20\r\n");
        client.drain();
        ask(
            client,
            "P",
            "",
            json!({"deliver_subject": "e", "idle_heartbeat": 1_000_000_000}),
        );
    });
}

// proves: JS-CON-06
#[test]
fn each_of_many_consumers_sees_its_messages_alike() {
    const NAMES: [&str; 9] = ["A", "B", "C", "D", "E", "F", "G", "H", "I"];
    compare("many consumers", |client| {
        client.stream(json!({}));
        let filters = [
            json!({"filter_subject": "a.1"}),
            json!({"filter_subject": "a.*"}),
            json!({"filter_subject": ">"}),
            json!({}),
            json!({"filter_subjects": ["a.1", "b.1"]}),
            json!({"filter_subjects": ["a.2", "b.*"]}),
            json!({"filter_subject": "b.2"}),
            json!({"filter_subject": "*.2"}),
            json!({"filter_subject": "b.9"}),
        ];
        for (name, filter) in NAMES.iter().zip(filters) {
            client.consumer(name, filter);
        }
        let all = |client: &mut Client| NAMES.iter().for_each(|name| client.counts(name));
        for subject in ["a.1", "b.1", "a.2", "b.2", "b.3", "a.3"] {
            client.publish(subject, subject);
        }
        all(client);
        // A waiting request is served at once; one of another subject is not.
        client.pull("A", r#"{"batch":3,"expires":30000000000}"#);
        client.pull("I", r#"{"batch":3,"expires":30000000000}"#);
        client.publish("a.1", "again");
        client.publish("b.9", "first");
        all(client);
        // A consumer is not told of the end of what only its filter of before let through.
        client.pull("B", "2");
        client.consumer("B", json!({"filter_subject": "b.2"}));
        for sequence in [1, 2, 4] {
            client.ask("STREAM.MSG.DELETE.S", &json!({"seq": sequence}));
            client.drain();
        }
        all(client);
        client.ask("CONSUMER.DELETE.S.C", &Value::Null);
        client.publish("b.2", "last");
        client.ask("CONSUMER.INFO.S.C", &Value::Null);
        for name in ["B", "D", "G"] {
            client.pull(name, r#"{"batch":9,"no_wait":true}"#);
            client.counts(name);
        }
    });
}

// proves: JS-CON-01
#[test]
fn a_consumer_may_be_asked_for_before_its_stream_was_answered() {
    let server = Server::jetstream();
    for storage in ["memory", "file"] {
        let mut client = RawClient::ready(&server.address);
        client.send(b"SUB made 2\r\n");
        let stream = json!({"name": storage, "subjects": [storage], "storage": storage});
        let config = json!({"durable_name": "C", "ack_policy": "explicit"});
        let consumer = json!({"stream_name": storage, "config": config});
        for (call, body) in [
            (format!("STREAM.CREATE.{storage}"), stream.to_string()),
            (
                format!("CONSUMER.DURABLE.CREATE.{storage}.C"),
                consumer.to_string(),
            ),
            (format!("CONSUMER.INFO.{storage}.C"), String::new()),
            (format!("STREAM.DELETE.{storage}"), String::new()),
        ] {
            client.publish(&format!("$JS.API.{call}"), "made", b"", body.as_bytes());
        }
        for kind in [
            "stream_create_response",
            "consumer_create_response",
            "consumer_info_response",
            "stream_delete_response",
        ] {
            let answer = client.read_message().json();
            let expected = format!("io.nats.jetstream.api.v1.{kind}");
            assert_eq!(answer["type"], expected, "{answer}");
            assert!(answer.get("error").is_none(), "{answer}");
        }
    }
}
