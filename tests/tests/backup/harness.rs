//! Clients of the snapshot and restore protocol, and servers to use it on.

use std::future::Future;
use std::time::Duration;

use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

/// Longest time a step may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test that waits.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.unwrap() });
}

/// A call of the JetStream API.
pub(crate) async fn api(client: &Client, call: &str, body: Value) -> Value {
    let body = match body {
        Value::Null => Bytes::new(),
        body => Bytes::from(body.to_string()),
    };
    let subject = format!("$JS.API.{call}");
    let answer = client.request(subject, body).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

/// The same; it must work.
pub(crate) async fn ok(client: &Client, call: &str, body: Value) -> Value {
    let answer = api(client, call, body).await;
    assert!(answer.get("error").is_none(), "{call}: {answer}");
    answer
}

/// Publishes and waits for the acknowledgement.
pub(crate) async fn publish(client: &Client, subject: &str, headers: &[(&str, &str)], body: &[u8]) {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, *value);
    }
    let subject = subject.to_owned();
    let body = Bytes::copy_from_slice(body);
    let answer = if headers.is_empty() {
        client.request(subject, body).await
    } else {
        client.request_with_headers(subject, map, body).await
    };
    let answer: Value = serde_json::from_slice(&answer.unwrap().payload).unwrap();
    assert!(answer.get("error").is_none(), "{answer}");
}

/// What a snapshot sent.
pub(crate) struct Snapshot {
    /// The answer to the request.
    pub(crate) answer: Value,
    pub(crate) data: Vec<u8>,
    /// Sizes of the chunks.
    pub(crate) chunks: Vec<usize>,
    /// Status of the last message, if it had one.
    pub(crate) status: Option<u16>,
}

/// Takes a whole snapshot, every chunk acknowledged.
pub(crate) async fn snapshot(client: &Client, stream: &str, mut request: Value) -> Snapshot {
    let inbox = client.new_inbox();
    let mut chunks = client.subscribe(inbox.clone()).await.unwrap();
    request["deliver_subject"] = json!(inbox);
    let answer = ok(client, &format!("STREAM.SNAPSHOT.{stream}"), request).await;
    let mut taken = Snapshot {
        answer,
        data: Vec::new(),
        chunks: Vec::new(),
        status: None,
    };
    while let Some(chunk) = chunks.next().await {
        if let Some(reply) = chunk.reply {
            client.publish(reply, Bytes::new()).await.unwrap();
        }
        if chunk.payload.is_empty() {
            taken.status = chunk.status.map(|status| status.as_u16());
            break;
        }
        taken.chunks.push(chunk.payload.len());
        taken.data.extend_from_slice(&chunk.payload);
    }
    taken
}

/// Begins a restore: the subject for the chunks.
pub(crate) async fn begin_restore(client: &Client, config: &Value) -> String {
    let name = config["name"].as_str().unwrap();
    let request = json!({"config": config, "state": {}});
    let answer = ok(client, &format!("STREAM.RESTORE.{name}"), request).await;
    answer["deliver_subject"].as_str().unwrap().to_owned()
}

/// Restores a stream; gives the last answer.
pub(crate) async fn restore(client: &Client, config: &Value, data: &[u8], chunk: usize) -> Value {
    let subject = begin_restore(client, config).await;
    let end: &[u8] = &[];
    for piece in data.chunks(chunk).chain([end]) {
        let piece = Bytes::copy_from_slice(piece);
        let answer = client.request(subject.clone(), piece).await.unwrap();
        if !answer.payload.is_empty() {
            return serde_json::from_slice(&answer.payload).unwrap();
        }
    }
    panic!("the end of a restore was not answered");
}
