//! Limits of an account, set in the configuration, and lists at size: the same requests to the
//! reference and to ours, answered alike.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use millrace_tests::packages::{reference_binary, skip};
use millrace_tests::{RawClient, Server, ServerBuilder};
use serde_json::{Value, json};

/// Requests in order, with the error code of each answer; 0: none.
const LIMITED: &[(&str, &str, u64)] = &[
    // File: 2 MiB of the account are reserved by `max_bytes`.
    (
        "STREAM.CREATE.F1",
        r#"{"name":"F1","subjects":["f1"],"num_replicas":1,"max_bytes":1500000}"#,
        0,
    ),
    (
        "STREAM.CREATE.F2",
        r#"{"name":"F2","subjects":["f2"],"num_replicas":1,"max_bytes":1500000}"#,
        10047,
    ),
    (
        "STREAM.UPDATE.F1",
        r#"{"name":"F1","subjects":["f1"],"num_replicas":1,"max_bytes":3000000}"#,
        10047,
    ),
    // Memory: 1 MiB.
    (
        "STREAM.CREATE.M",
        r#"{"name":"M","subjects":["m"],"num_replicas":1,"max_bytes":2000000,"storage":"memory"}"#,
        10028,
    ),
    // Consumers of a stream: the smaller of both limits.
    (
        "STREAM.CREATE.F2",
        r#"{"name":"F2","subjects":["f2"],"num_replicas":1,"max_consumers":5}"#,
        10026,
    ),
    (
        "STREAM.CREATE.F2",
        r#"{"name":"F2","subjects":["f2"],"num_replicas":1,"max_consumers":1}"#,
        0,
    ),
    (
        "CONSUMER.DURABLE.CREATE.F2.A",
        r#"{"stream_name":"F2","config":{"durable_name":"A","ack_policy":"explicit"}}"#,
        0,
    ),
    (
        "CONSUMER.DURABLE.CREATE.F2.B",
        r#"{"stream_name":"F2","config":{"durable_name":"B","ack_policy":"explicit"}}"#,
        10026,
    ),
    (
        "CONSUMER.DURABLE.CREATE.F1.A",
        r#"{"stream_name":"F1","config":{"durable_name":"A","ack_policy":"explicit"}}"#,
        0,
    ),
    (
        "CONSUMER.DURABLE.CREATE.F1.B",
        r#"{"stream_name":"F1","config":{"durable_name":"B","ack_policy":"explicit"}}"#,
        0,
    ),
    (
        "CONSUMER.DURABLE.CREATE.F1.C",
        r#"{"stream_name":"F1","config":{"durable_name":"C","ack_policy":"explicit"}}"#,
        10026,
    ),
    // Streams: two.
    (
        "STREAM.CREATE.F3",
        r#"{"name":"F3","subjects":["f3"],"num_replicas":1}"#,
        10027,
    ),
    // What was given up can be had again.
    ("STREAM.DELETE.F1", "", 0),
    (
        "STREAM.CREATE.M",
        r#"{"name":"M","subjects":["m"],"num_replicas":1,"max_bytes":1000000,"storage":"memory"}"#,
        0,
    ),
    ("INFO", "", 0),
];

const ACCOUNT: &str = "accounts { A {\n\
  jetstream { max_mem: 1MB, max_file: 2MB, max_streams: 2, max_consumers: 2 }\n\
  users [{user a, password a}]\n} }\n";

fn limited(builder: ServerBuilder) -> (Server, RawClient) {
    let server = builder.config(ACCOUNT).jetstream().start();
    let mut client = server.connect();
    client.read_line();
    client.send(b"CONNECT {\"verbose\":false,\"headers\":true,\"user\":\"a\",\"pass\":\"a\"}\r\n");
    assert_eq!(client.flush(), b"");
    (server, client)
}

/// The answers' errors, and the account's usage at the end.
fn use_up(builder: ServerBuilder) -> Vec<Value> {
    let (_server, mut client) = limited(builder);
    let mut answers = Vec::new();
    for (call, body, code) in LIMITED {
        let answer = client.request(&format!("$JS.API.{call}"), body.as_bytes());
        let answer = answer.json();
        let found = answer["error"]["err_code"].as_u64().unwrap_or(0);
        assert_eq!(found, *code, "{call} {body}: {answer}");
        answers.push(answer["error"].clone());
        if *call == "INFO" {
            answers.push(json!([
                answer["reserved_memory"],
                answer["reserved_storage"],
                answer["streams"],
                answer["consumers"],
                answer["limits"],
            ]));
        }
    }
    // Storage that nobody reserved is used up by messages.
    let payload = vec![b'x'; 900_000];
    for _ in 0..4 {
        let answer = client.request("f2", &payload).json();
        answers.push(answer["error"].clone());
    }
    let codes = answers.iter().rev().take(4);
    assert!(codes.clone().any(|error| error.is_null()), "{answers:?}");
    assert!(codes.clone().any(|error| !error.is_null()), "{answers:?}");
    answers
}

// proves: JS-LIM-02, JS-LIM-04
#[test]
fn an_account_gets_what_its_limits_say_and_no_more() {
    let ours = use_up(ServerBuilder::millrace());
    match reference_binary() {
        Some(reference) => assert_eq!(ours, use_up(ServerBuilder::binary(reference))),
        None => skip("account limits", "the reference binary is not to be had"),
    }
}

const STREAMS: usize = 300;
const CONSUMERS: usize = 2_000;
const SUBJECTS: usize = 2_000;

/// Sends many requests at once and waits for all answers.
fn ask_all(client: &mut RawClient, requests: impl Iterator<Item = (String, String)>) {
    client.send(b"SUB many 7\r\n");
    let mut waiting = 0;
    for (subject, body) in requests {
        client.publish(&subject, "many", b"", body.as_bytes());
        waiting += 1;
    }
    for _ in 0..waiting {
        let answer = client.read_message().json();
        assert!(answer.get("error").is_none(), "{answer}");
    }
    client.send(b"UNSUB 7\r\n");
}

/// `total offset limit` of a page, how many it holds, and its first and last name.
fn page(client: &mut RawClient, call: &str, body: &str, list: &str) -> String {
    let answer = client.request(&format!("$JS.API.{call}"), body.as_bytes());
    let answer = answer.json();
    let items = answer[list].as_array().cloned().unwrap_or_default();
    let name = |item: Option<&Value>| match item {
        Some(Value::String(name)) => name.clone(),
        Some(item) => item["config"]["name"].as_str().unwrap_or("?").to_owned(),
        None => "-".to_owned(),
    };
    format!(
        "{} {} {}: {} from {} to {}",
        answer["total"],
        answer["offset"],
        answer["limit"],
        items.len(),
        name(items.first()),
        name(items.last())
    )
}

/// Everything that is listed in pages, page by page.
fn pages(builder: ServerBuilder) -> Vec<String> {
    let server = builder.jetstream().start();
    let mut client = RawClient::ready(&server.address);
    let streams = (0..STREAMS).map(|number| {
        let name = format!("S{number:04}");
        let body = json!({"name": name, "subjects": [format!("{name}.>")], "num_replicas": 1, "storage": "memory", "max_consumers": CONSUMERS});
        (format!("$JS.API.STREAM.CREATE.{name}"), body.to_string())
    });
    ask_all(&mut client, streams);
    let consumers = (0..CONSUMERS).map(|number| {
        let name = format!("C{number:04}");
        let config = json!({"name": name, "durable_name": name, "ack_policy": "explicit"});
        let body = json!({"stream_name": "S0000", "config": config});
        (
            format!("$JS.API.CONSUMER.CREATE.S0000.{name}"),
            body.to_string(),
        )
    });
    ask_all(&mut client, consumers);
    let messages = (0..SUBJECTS).map(|number| (format!("S0001.{number:04}"), String::new()));
    ask_all(&mut client, messages);
    let mut found = Vec::new();
    for offset in [0, 1, 256, 299, 300, 5_000] {
        let body = json!({"offset": offset}).to_string();
        found.push(page(&mut client, "STREAM.NAMES", &body, "streams"));
        found.push(page(&mut client, "STREAM.LIST", &body, "streams"));
    }
    for offset in [0, 256, 1_024, 1_999, 2_000] {
        let body = json!({"offset": offset}).to_string();
        found.push(page(
            &mut client,
            "CONSUMER.NAMES.S0000",
            &body,
            "consumers",
        ));
        found.push(page(&mut client, "CONSUMER.LIST.S0000", &body, "consumers"));
    }
    for offset in [0, 1_500, 2_000] {
        let body = json!({"offset": offset, "subjects_filter": ">"}).to_string();
        let answer = client.request("$JS.API.STREAM.INFO.S0001", body.as_bytes());
        let answer = answer.json();
        let subjects = answer["state"]["subjects"]
            .as_object()
            .map_or(0, |all| all.len());
        let page = [&answer["total"], &answer["offset"], &answer["limit"]];
        found.push(format!("{page:?}: {subjects} subjects"));
    }
    found
}

// proves: JS-API-05
#[test]
fn long_lists_come_in_pages_in_the_order_of_names() {
    let ours = pages(ServerBuilder::millrace());
    assert_eq!(ours[0], "300 0 1024: 300 from S0000 to S0299");
    assert_eq!(ours[1], "300 0 256: 256 from S0000 to S0255");
    assert_eq!(ours[5], "300 256 256: 44 from S0256 to S0299");
    match reference_binary() {
        Some(reference) => assert_eq!(ours, pages(ServerBuilder::binary(reference))),
        None => skip("long lists", "the reference binary is not to be had"),
    }
}
