//! Answers of the JetStream API, publish acknowledgements and `$JS.EVENT` messages against the
//! published JSON schemas (`tests/schemas`). The same life is lived on the reference when it is at
//! hand: what it does against a schema ours may do too, and nothing else.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use millrace_tests::packages::{reference_binary, skip};
use millrace_tests::schema::Schemas;
use millrace_tests::{RawClient, Server, ServerBuilder};
use serde_json::{Value, json};

/// Places in which the reference is not as its schemas say: kind, and the beginning of the problem.
const REFERENCE_DIFFERS: &[(&str, &str)] = &[
    ("advisory.v1.consumer_group_pinned", ": server is missing"),
    ("advisory.v1.consumer_group_unpinned", ": server is missing"),
    ("advisory.v1.nak", "/consumer_seq: "),
    ("advisory.v1.snapshot_create", "/state is unknown"),
    ("advisory.v1.snapshot_create", ": block_size is missing"),
    ("advisory.v1.snapshot_create", ": blocks is missing"),
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
    ("pinned P", ""),
    ("CONSUMER.UNPIN.S.P", r#"{"group":"g"}"#),
    ("CONSUMER.UNPIN.S.P", r#"{"group":"none"}"#),
    ("batch left", ""),
    ("STREAM.PURGE.S", r#"{"filter":"s.a"}"#),
    ("STREAM.PURGE.S", ""),
    ("STREAM.PURGE.NOPE", ""),
    ("CONSUMER.DELETE.S.C", ""),
    ("CONSUMER.DELETE.S.C", ""),
    ("STREAM.LEADER.STEPDOWN.S", ""),
    ("CONSUMER.LEADER.STEPDOWN.S.P", ""),
    ("STREAM.PEER.REMOVE.S", r#"{"peer":"nobody"}"#),
    ("backup S", ""),
    ("STREAM.DELETE.S", ""),
    ("restore S", ""),
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
    "consumer_group_pinned",
    "consumer_group_unpinned",
    "consumer_pause",
    "max_deliver",
    "nak",
    "restore_complete",
    "restore_create",
    "snapshot_complete",
    "snapshot_create",
    "stream_action",
    "stream_batch_abandoned",
    "terminated",
];

/// A stream as a server gave it.
#[derive(Default)]
struct Backup {
    config: Value,
    state: Value,
    data: Vec<u8>,
}

impl Backup {
    /// Has a stream sent to `receiver`; gives the answer.
    fn take(&mut self, client: &mut RawClient, receiver: &mut RawClient, stream: &str) -> Value {
        receiver.send(b"SUB chunks 1\r\n");
        receiver.flush();
        let call = format!("$JS.API.STREAM.SNAPSHOT.{stream}");
        let answer = client
            .request(&call, br#"{"deliver_subject":"chunks"}"#)
            .json();
        self.config = answer["config"].clone();
        self.state = answer["state"].clone();
        loop {
            let chunk = receiver.read_message();
            if chunk.payload.is_empty() {
                return answer;
            }
            self.data.extend_from_slice(&chunk.payload);
            receiver.publish(&chunk.reply, "", b"", b"");
        }
    }

    /// Has it made again; gives the answers to the request and to its end.
    fn give_back(&self, client: &mut RawClient, stream: &str) -> [Value; 2] {
        let call = format!("$JS.API.STREAM.RESTORE.{stream}");
        let body = json!({"config": self.config, "state": self.state}).to_string();
        let begun = client.request(&call, body.as_bytes()).json();
        let subject = begun["deliver_subject"].as_str().unwrap().to_owned();
        client.request(&subject, &self.data);
        let ended = client.request(&subject, b"").json();
        [begun, ended]
    }
}

/// Everything with a type that a server said, and its publish acknowledgements.
fn live(builder: ServerBuilder) -> Vec<Value> {
    let server = builder.jetstream().start();
    let mut events = RawClient::ready(&server.address);
    events.send(b"SUB $JS.EVENT.> 1\r\n");
    events.flush();
    let mut client = RawClient::ready(&server.address);
    let mut said = Vec::new();
    let mut backup = Backup::default();
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
            Some(("pinned", consumer)) => {
                let subject = format!("$JS.API.CONSUMER.MSG.NEXT.S.{consumer}");
                client.request(&subject, b"{\"batch\":1,\"group\":\"g\"}");
            }
            Some(("backup", stream)) => {
                let mut receiver = RawClient::ready(&server.address);
                said.push(backup.take(&mut client, &mut receiver, stream));
            }
            Some(("restore", stream)) => said.extend(backup.give_back(&mut client, stream)),
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

/// A server with a system account, and a service whose times are measured.
const SYSTEM: &str = r#"
accounts {
  SYS { users: [{user: s, password: x}] }
  A { users: [{user: a, password: x}]
      exports [{service: asked, latency: {subject: measured, sampling: 100}}] }
  B { users: [{user: b, password: x}]
      imports [{service: {account: A, subject: asked}}] }
}
system_account: SYS
"#;

fn log_in(server: &Server, user: &str) -> RawClient {
    let mut client = server.connect();
    client.read_line();
    let connect = format!(
        "CONNECT {{\"verbose\":false,\"headers\":true,\"no_responders\":true,\"user\":\"{user}\",\"pass\":\"x\"}}\r\n"
    );
    client.send(connect.as_bytes());
    client.flush();
    client
}

/// What the server tells of clients that come, ask for a measured service and go.
fn told_of_clients() -> Vec<Value> {
    let server = ServerBuilder::millrace().config(SYSTEM).start();
    let mut listener = log_in(&server, "s");
    listener.send(b"SUB $SYS.ACCOUNT.> 1\r\n");
    listener.flush();
    let mut service = log_in(&server, "a");
    service.send(b"SUB asked 1\r\nSUB measured 2\r\n");
    service.flush();
    let mut asker = log_in(&server, "b");
    asker.send(b"SUB answer 1\r\nPUB asked answer 0\r\n\r\n");
    let question = service.read_message();
    service.publish(&question.reply, "", b"", b"yes");
    asker.read_message();
    let mut told = vec![service.read_message().json()];
    drop(asker);
    while kinds(&told).len() < 4 {
        told.push(listener.read_message().json());
    }
    told
}

/// The same of the server's own schemas; the reference has these too.
const SERVER_DIFFERS: &[&str] = &["/server/feature_flags is unknown"];
/// And of the event about an account's connections.
const CONNECTIONS_DIFFER: &[&str] = &["/name is unknown", "/num_subscriptions is unknown"];

// proves: SYS-11, SYS-12
#[test]
fn events_about_clients_are_as_their_schemas_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/server");
    let mut schemas = Schemas::new(&folder);
    for value in told_of_clients() {
        let kind = value["type"].as_str().unwrap_or_default();
        let name = kind.strip_prefix("io.nats.server.").unwrap_or_default();
        let found = schemas.problems(&format!("{}.json", name.replace('.', "/")), &value);
        let mut found = found.unwrap_or_else(|| vec!["there is no schema".to_owned()]);
        found.retain(|problem| !SERVER_DIFFERS.contains(&problem.as_str()));
        if name.ends_with("account_connections") {
            found.retain(|problem| !CONNECTIONS_DIFFER.contains(&problem.as_str()));
        }
        assert_eq!(found, Vec::<String>::new(), "{value}");
    }
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
