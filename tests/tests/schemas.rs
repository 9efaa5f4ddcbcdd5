//! Answers of the JetStream API, publish acknowledgements and `$JS.EVENT` messages against the
//! published JSON schemas (`tests/schemas`). The same life is lived on the reference when it is at
//! hand: what it does against a schema ours may do too, and nothing else.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use millrace_tests::packages::{reference_binary, skip};
use millrace_tests::schema::Schemas;
use millrace_tests::{RawClient, ServerBuilder};
use serde_json::{Value, json};

/// Places in which the reference is not as its schemas say: kind, and the beginning of the problem.
const REFERENCE_DIFFERS: &[(&str, &str)] = &[
    ("advisory.v1.nak", "/consumer_seq: "),
    ("advisory.v1.terminated", "/consumer_seq: "),
    ("api.v1.consumer_unpin_response", "/error: error is missing"),
];

const PUBLISH_ACKNOWLEDGEMENT: &str = "api.v1.pub_ack_response";

/// Requests of a server's life, in order; `{pull}` and `{publish}` steps make messages move.
const CALLS: &[(&str, &str)] = &[
    ("INFO", ""),
    (
        "STREAM.CREATE.S",
        r#"{"name":"S","subjects":["s.>"],"num_replicas":1,"storage":"file","allow_atomic":true,"metadata":{"a":"b"},"max_consumers":9}"#,
    ),
    (
        "STREAM.CREATE.S",
        r#"{"name":"S","subjects":["t.>"],"num_replicas":1}"#,
    ),
    (
        "STREAM.CREATE.W",
        r#"{"name":"W","subjects":["w.>"],"num_replicas":1,"storage":"memory","retention":"workqueue","max_msgs_per_subject":2,"allow_rollup_hdrs":true}"#,
    ),
    (
        "STREAM.UPDATE.S",
        r#"{"name":"S","subjects":["s.>"],"num_replicas":1,"storage":"file","allow_atomic":true,"max_msgs":1000}"#,
    ),
    (
        "STREAM.UPDATE.S",
        r#"{"name":"S","subjects":["s.>"],"num_replicas":1,"storage":"memory"}"#,
    ),
    ("publish s.a", ""),
    ("publish s.b", ""),
    ("publish s.c", ""),
    ("publish s.a", ""),
    ("publish w.a", ""),
    (
        "STREAM.INFO.S",
        r#"{"subjects_filter":">","deleted_details":true}"#,
    ),
    ("STREAM.INFO.NOPE", ""),
    ("STREAM.NAMES", ""),
    ("STREAM.NAMES", r#"{"offset":9}"#),
    ("STREAM.LIST", ""),
    ("STREAM.MSG.GET.S", r#"{"seq":1}"#),
    ("STREAM.MSG.GET.S", r#"{"last_by_subj":"s.c"}"#),
    ("STREAM.MSG.GET.S", r#"{"seq":99}"#),
    ("STREAM.MSG.DELETE.S", r#"{"seq":2}"#),
    ("STREAM.MSG.DELETE.S", r#"{"seq":2}"#),
    ("STREAM.INFO.S", r#"{"deleted_details":true}"#),
    (
        "CONSUMER.DURABLE.CREATE.S.C",
        r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit","max_deliver":2,"ack_wait":50000000,"sample_freq":"100","metadata":{"x":"y"}}}"#,
    ),
    (
        "CONSUMER.DURABLE.CREATE.S.C",
        r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"none"}}"#,
    ),
    (
        "CONSUMER.CREATE.S.P",
        r#"{"stream_name":"S","config":{"name":"P","ack_policy":"explicit","priority_groups":["g"],"priority_policy":"pinned_client"}}"#,
    ),
    (
        "CONSUMER.CREATE.S",
        r#"{"stream_name":"S","config":{"ack_policy":"none","deliver_subject":"push.here","inactive_threshold":30000000000}}"#,
    ),
    ("pull C", "-NAK"),
    ("pull C", "+TERM because"),
    ("pull C", "+ACK"),
    ("unanswered C", ""),
    ("CONSUMER.INFO.S.C", ""),
    ("CONSUMER.INFO.S.NOPE", ""),
    ("CONSUMER.NAMES.S", ""),
    ("CONSUMER.LIST.S", ""),
    (
        "CONSUMER.PAUSE.S.C",
        r#"{"pause_until":"2099-01-01T00:00:00Z"}"#,
    ),
    ("CONSUMER.PAUSE.S.C", ""),
    ("CONSUMER.RESET.S.C", r#"{"seq":1}"#),
    ("CONSUMER.UNPIN.S.P", r#"{"group":"g"}"#),
    ("CONSUMER.UNPIN.S.P", r#"{"group":"none"}"#),
    ("batch left", ""),
    ("STREAM.PURGE.S", r#"{"filter":"s.a"}"#),
    ("STREAM.PURGE.S", ""),
    ("STREAM.PURGE.NOPE", ""),
    ("CONSUMER.DELETE.S.C", ""),
    ("CONSUMER.DELETE.S.C", ""),
    ("STREAM.LEADER.STEPDOWN.S", ""),
    ("STREAM.DELETE.S", ""),
    ("STREAM.DELETE.S", ""),
    ("STREAM.DELETE.W", ""),
    ("INFO", ""),
];

/// Kinds of events that the calls above must have caused.
const EVENTS: &[&str] = &[
    "api_audit",
    "consumer_action",
    "consumer_ack",
    "consumer_pause",
    "max_deliver",
    "nak",
    "stream_action",
    "stream_batch_abandoned",
    "terminated",
];

/// Everything with a type that a server said, and its publish acknowledgements.
fn live(builder: ServerBuilder) -> Vec<Value> {
    let server = builder.jetstream().start();
    let mut events = RawClient::ready(&server.address);
    events.send(b"SUB $JS.EVENT.> 1\r\n");
    events.flush();
    let mut client = RawClient::ready(&server.address);
    let mut said = Vec::new();
    for (call, body) in CALLS {
        match call.split_once(' ') {
            None => {
                let answer = client.request(&format!("$JS.API.{call}"), body.as_bytes());
                assert!(!answer.payload.is_empty(), "{call}: {answer:?}");
                said.push(answer.json());
            }
            Some(("publish", subject)) => {
                let mut acknowledged = client.request(subject, b"hello").json();
                acknowledged["type"] =
                    json!(format!("io.nats.jetstream.{PUBLISH_ACKNOWLEDGEMENT}"));
                said.push(acknowledged);
            }
            Some(("pull", consumer)) => {
                let subject = format!("$JS.API.CONSUMER.MSG.NEXT.S.{consumer}");
                let message = client.request(&subject, b"{\"batch\":1}");
                client.request(&message.reply, body.as_bytes());
            }
            Some(("unanswered", consumer)) => {
                // Twice delivered and never acknowledged: `max_deliver` is reached.
                let subject = format!("$JS.API.CONSUMER.MSG.NEXT.S.{consumer}");
                for _ in 0..2 {
                    client.request(&subject, b"{\"batch\":1,\"expires\":5000000000}");
                }
                client.send(b"SUB gone 8\r\n");
                let wait = b"{\"batch\":1,\"expires\":300000000}";
                client.publish(&subject, "gone", b"", wait);
                client.read_message();
                client.send(b"UNSUB 8\r\n");
            }
            Some(("batch", id)) => {
                let headers =
                    format!("NATS/1.0\r\nNats-Batch-Id: {id}\r\nNats-Batch-Sequence: 1\r\n\r\n");
                client.request_with_headers("s.x", headers.as_bytes(), b"1");
                let headers =
                    format!("NATS/1.0\r\nNats-Batch-Id: {id}\r\nNats-Batch-Sequence: 3\r\n\r\n");
                client.request_with_headers("s.x", headers.as_bytes(), b"3");
            }
            Some(other) => panic!("{other:?}"),
        }
    }
    // Events come in order: one that marks the end is behind all others.
    client.publish("$JS.EVENT.end", "", b"", b"{\"type\":\"end\"}");
    loop {
        let event = events.read_message().json();
        if event["type"] == "end" {
            return said;
        }
        said.push(event);
    }
}

/// Kind -> what is wrong with something of that kind, places in lists left out.
fn problems(said: &[Value]) -> BTreeMap<String, BTreeSet<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/jetstream");
    let mut schemas = Schemas::new(&folder);
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for value in said {
        let kind = value["type"].as_str().unwrap_or_default().to_owned();
        let name = kind.strip_prefix("io.nats.jetstream.").unwrap_or_default();
        let file = format!("{}.json", name.replace('.', "/"));
        let mut value = value.clone();
        if name == PUBLISH_ACKNOWLEDGEMENT {
            // Ours, so that it is known here; on the wire it has none.
            value.as_object_mut().unwrap().remove("type");
        }
        let found = schemas.problems(&file, &value);
        let found = found.unwrap_or_else(|| vec![format!("there is no schema {file}")]);
        all.entry(kind).or_default().extend(found);
    }
    all
}

fn kinds(said: &[Value]) -> BTreeSet<&str> {
    said.iter()
        .filter_map(|value| value["type"].as_str()?.rsplit('.').next())
        .collect()
}

// proves: JS-API-01, JS-EV-01, JS-EV-03
#[test]
fn answers_and_events_are_as_their_schemas_say() {
    let ours = live(ServerBuilder::millrace());
    let seen = kinds(&ours);
    for event in EVENTS {
        assert!(seen.contains(event), "{event} never came: {seen:?}");
    }
    let allowed = |kind: &str, problem: &str| {
        REFERENCE_DIFFERS
            .iter()
            .any(|(end, begin)| kind.ends_with(end) && problem.starts_with(begin))
    };
    let mut unexpected = Vec::new();
    for (kind, found) in problems(&ours) {
        let found = found.into_iter().filter(|problem| !allowed(&kind, problem));
        unexpected.extend(found.map(|problem| format!("{kind}: {problem}")));
    }
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
}

#[test]
fn the_reference_differs_from_its_schemas_where_this_file_says() {
    let Some(reference) = reference_binary() else {
        skip(
            "schemas of the reference",
            "the reference binary is not to be had",
        );
        return;
    };
    let theirs = live(ServerBuilder::binary(reference));
    let seen = kinds(&theirs);
    assert_eq!(EVENTS.iter().find(|event| !seen.contains(**event)), None);
    let found = problems(&theirs);
    for (end, begin) in REFERENCE_DIFFERS {
        let mut kinds = found.iter().filter(|(kind, _)| kind.ends_with(end));
        let known = kinds.any(|(_, all)| all.iter().any(|problem| problem.starts_with(begin)));
        assert!(known, "{end}: the reference no longer has {begin:?}");
    }
}
