//! `/jsz` over HTTP: the same streams, messages and consumers on the reference and on ours, and the
//! same questions; the answers are the same, value for value and in the same order.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use millrace_tests::http::get;
use millrace_tests::packages::{reference_binary, skip};
use millrace_tests::{RawClient, Server, ServerBuilder};
use serde_json::{Value, json};

const ACCOUNTS: &str = "accounts {\n\
  A { jetstream { max_mem: 50MB, max_file: 500MB, max_streams: 10, max_consumers: 20 }, users [{user a, password a}] }\n\
  B { jetstream: enabled, users [{user b, password b}] }\n}\n";

const QUESTIONS: &[&str] = &[
    "/jsz",
    "/jsz?accounts=1",
    "/jsz?streams=1",
    "/jsz?consumers=1",
    "/jsz?consumers=1&config=1",
    "/jsz?consumers=1&direct-consumers=1",
    "/jsz?direct-consumers=1",
    "/jsz?acc=A",
    "/jsz?acc=Z",
    "/jsz?acc=A&streams=1",
    "/jsz?accounts=1&limit=1",
    "/jsz?accounts=1&offset=1",
    "/jsz?raft=1",
    "/jsz?leader-only=1",
    "/jsz?stream-leader-only=1",
    "/jsz?consumers=x",
    "/jsz?limit=x",
    "/jsz?leader-only=x",
];

/// A server with both accounts, a stream of each storage, some messages and two consumers.
fn server(builder: ServerBuilder) -> Server {
    let folder = millrace_tests::fresh_folder("jsz-store");
    let config = format!(
        "{ACCOUNTS}jetstream {{ store_dir: {:?}, max_mem: 100MB, max_file: 1GB }}\n",
        folder.display().to_string()
    );
    let server = builder.config(&config).start();
    let mut client = RawClient::connect(&server.address);
    client.read_line();
    client.send(b"CONNECT {\"verbose\":false,\"headers\":true,\"user\":\"a\",\"pass\":\"a\"}\r\n");
    assert_eq!(client.flush(), b"");
    let mut ask = |call: &str, body: Value| {
        let answer = client.request(&format!("$JS.API.{call}"), body.to_string().as_bytes());
        let answer = answer.json();
        assert!(answer.get("error").is_none(), "{call}: {answer}");
    };
    ask(
        "STREAM.CREATE.S",
        json!({"name":"S","subjects":["s.>"],"max_bytes":1_000_000,"num_replicas":1,"storage":"file"}),
    );
    ask(
        "STREAM.CREATE.M",
        json!({"name":"M","subjects":["m.>"],"num_replicas":1,"storage":"memory"}),
    );
    for (subject, count) in [("s", 5), ("m", 2)] {
        for number in 0..count {
            let acknowledged = client.request(&format!("{subject}.{number}"), b"hello");
            assert!(acknowledged.json().get("seq").is_some());
        }
    }
    let mut ask = |call: &str, body: Value| {
        let answer = client.request(&format!("$JS.API.{call}"), body.to_string().as_bytes());
        let answer = answer.json();
        assert!(answer.get("error").is_none(), "{call}: {answer}");
    };
    ask("STREAM.MSG.DELETE.S", json!({"seq":2}));
    for (name, config) in [
        ("C", json!({"durable_name":"C","ack_policy":"explicit"})),
        (
            "D",
            json!({"durable_name":"D","ack_policy":"explicit","filter_subject":"s.1"}),
        ),
    ] {
        let body = json!({"stream_name":"S","config":config});
        ask(&format!("CONSUMER.DURABLE.CREATE.S.{name}"), body);
    }
    for _ in 0..2 {
        let message = client.request("$JS.API.CONSUMER.MSG.NEXT.S.C", b"{\"batch\":1}");
        if message.text() == "hello" && message.reply.contains(".1.1.1.") {
            let done = client.request(&message.reply, b"+ACK");
            assert_eq!(done.text(), "");
        }
    }
    server
}

/// What differs between any two servers, or by intent, made the same.
fn normalise(value: &mut Value, name: &str) {
    const TIMES: [&str; 6] = ["now", "created", "first_ts", "last_ts", "ts", "last_active"];
    match value {
        Value::Object(fields) => {
            // How data is synced is ours to say; limits of the reference's own.
            for gone in [
                "sync_interval",
                "sync_always",
                "compress_ok",
                "default_max_consumers",
            ] {
                fields.shift_remove(gone);
            }
            for (name, field) in fields {
                normalise(field, name);
            }
        }
        Value::Array(elements) => {
            // The reference lists streams in no order.
            elements.sort_by_key(|element| element["name"].as_str().map(str::to_owned));
            for element in elements {
                normalise(element, name);
            }
        }
        Value::String(text) if TIMES.contains(&name) => {
            assert!(text.contains('T') && text.ends_with('Z'), "{name}: {text}");
            *text = "<time>".to_owned();
        }
        Value::String(text) if name == "server_id" || name == "leader" => {
            assert!(text.len() == 56 && text.starts_with('N'), "{name}: {text}");
            *text = "<server>".to_owned();
        }
        Value::String(text) if name == "store_dir" => *text = "<folder>".to_owned(),
        _ => {}
    }
}

fn answer(server: &Server, path: &str) -> (u16, String) {
    let (status, body) = get(server, path);
    match serde_json::from_str::<Value>(&body) {
        Ok(mut value) => {
            normalise(&mut value, "");
            // What only ours counts.
            if let Some(fields) = value.as_object_mut() {
                fields.shift_remove("millrace");
            }
            (status, serde_json::to_string_pretty(&value).unwrap())
        }
        Err(_) => (status, body),
    }
}

// proves: MON-10
#[test]
fn jetstream_is_shown_as_the_reference_shows_it() {
    let Some(reference) = reference_binary() else {
        skip("jsz", "the reference binary is not to be had");
        return;
    };
    let theirs = server(ServerBuilder::binary(reference));
    let ours = server(ServerBuilder::millrace());
    for path in QUESTIONS {
        assert_eq!(answer(&ours, path), answer(&theirs, path), "{path}");
    }
}

/// Health of what there is and what there is not, word for word.
// proves: MON-11
#[test]
fn health_is_told_as_the_reference_tells_it() {
    let Some(reference) = reference_binary() else {
        skip("healthz", "the reference binary is not to be had");
        return;
    };
    let theirs = server(ServerBuilder::binary(reference));
    let ours = server(ServerBuilder::millrace());
    for question in [
        "",
        "details=1",
        "js-enabled-only=1",
        "js-enabled=1",
        "js-server-only=1&details=1",
        "js-meta-only=true",
        "account=A",
        "account=A&details=1",
        "account=Z",
        "account=Z&details=1",
        "account=A&stream=S",
        "account=A&stream=T",
        "account=A&stream=T&details=1",
        "account=A&stream=S&consumer=C",
        "account=A&stream=S&consumer=X",
        "account=A&stream=S&consumer=X&details=1",
        "stream=S",
        "stream=S&details=1",
        "account=A&consumer=C",
        "account=A&consumer=C&details=1",
        "js-enabled-only=1&account=Z",
        "js-server-only=1&account=A&stream=T",
        "details=x",
        "js-server-only=x",
    ] {
        let path = format!("/healthz?{question}");
        let [expected, found] = [&theirs, &ours].map(|server| {
            let (status, body) = get(server, &path);
            (status, body.trim().to_owned())
        });
        assert_eq!(found, expected, "{path}");
    }
}

#[test]
fn without_jetstream_it_is_said_to_be_disabled() {
    let Some(reference) = reference_binary() else {
        skip("jsz", "the reference binary is not to be had");
        return;
    };
    let off = "jetstream: disabled\n";
    let theirs = ServerBuilder::binary(reference).config(off).start();
    let ours = ServerBuilder::millrace().config(off).start();
    for path in ["/jsz", "/jsz?accounts=1"] {
        assert_eq!(answer(&ours, path), answer(&theirs, path), "{path}");
    }
}
