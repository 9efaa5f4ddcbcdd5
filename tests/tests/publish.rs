//! Publishes and atomic batches as a client sees them: every answer of a script of nearly 300 steps is
//! the reference's, byte for byte. The answers in `jetstream/publish.jsonl` are the reference's; with
//! the reference binary at hand it is asked again, so that the file cannot go stale.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use millrace_tests::packages::{reference_binary, skip};
use millrace_tests::server::millrace_binary;
use millrace_tests::{RawClient, ServerBuilder};
use serde_json::{Map, Value};

/// Fields of an API answer that the script looks at.
const ANSWER_FIELDS: &[&str] = &["error", "success", "purged", "did_create"];

/// Long enough to store a message.
const UNANSWERED: Duration = Duration::from_millis(300);

fn steps() -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("jetstream/publish.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn text<'a>(step: &'a Value, field: &str) -> &'a str {
    step[field].as_str().unwrap_or_default()
}

fn header_block(step: &Value) -> Vec<u8> {
    let headers = step["headers"].as_array().unwrap();
    if headers.is_empty() {
        return Vec::new();
    }
    let mut block = "NATS/1.0\r\n".to_owned();
    for header in headers {
        let part = |index: usize| header[index].as_str().unwrap();
        write!(block, "{}: {}\r\n", part(0), part(1)).unwrap();
    }
    block.push_str("\r\n");
    block.into_bytes()
}

/// What the server makes of a step, in the form in which the script has it.
fn play(client: &mut RawClient, step: &Value) -> Value {
    if let Some(name) = step["info"].as_str() {
        let answer = client
            .request(&format!("$JS.API.STREAM.INFO.{name}"), b"")
            .json();
        let state = answer["state"].as_object().unwrap().clone();
        return state
            .into_iter()
            .filter(|(field, _)| !field.ends_with("_ts"))
            .collect();
    }
    if let Some(call) = step["api"].as_str() {
        let body = text(step, "body").as_bytes();
        let answer = client.request(&format!("$JS.API.{call}"), body).json();
        let kept = ANSWER_FIELDS
            .iter()
            .filter_map(|field| Some(((*field).to_owned(), answer.get(field)?.clone())));
        return Value::Object(kept.collect::<Map<String, Value>>());
    }
    let subject = text(step, "publish");
    let payload = text(step, "payload").as_bytes();
    if step["answer"].is_null() {
        client.publish(subject, "nobody.answers", &header_block(step), payload);
        client.flush();
        // Nothing tells when it is stored.
        std::thread::sleep(UNANSWERED);
        return Value::Null;
    }
    let headers = header_block(step);
    Value::String(
        client
            .request_with_headers(subject, &headers, payload)
            .text(),
    )
}

fn play_all(binary: PathBuf) {
    let server = ServerBuilder::binary(binary).jetstream().start();
    let mut client = RawClient::ready(&server.address);
    for (index, step) in steps().iter().enumerate() {
        let expected = if step.get("info").is_some() {
            &step["state"]
        } else {
            &step["answer"]
        };
        assert_eq!(
            &play(&mut client, step),
            expected,
            "step {}: {step}",
            index + 1
        );
    }
}

// proves: JS-PUB-01, JS-PUB-02, JS-PUB-03, JS-PUB-04, JS-PUB-05, JS-PUB-06, JS-TTL-01, JS-CTR-01
// proves: JS-BAT-01, JS-BAT-02, JS-BAT-03, JS-STR-10, JS-STR-11, JS-STR-13, JS-STR-14, JS-STR-15
// proves: JS-STR-16, JS-STR-19, JS-STR-22, JS-STR-23, JS-STR-30
#[test]
fn every_answer_to_a_publisher_is_the_references() {
    play_all(millrace_binary());
}

#[test]
fn the_script_still_says_what_the_reference_answers() {
    match reference_binary() {
        Some(binary) => play_all(binary),
        None => skip("publish script", "no reference server to ask"),
    }
}
