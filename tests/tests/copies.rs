//! Mirrors and sources, script by script: what Millrace answers and stores is compared with what the
//! reference did (`tests/tables/copies.txt`).
//!
//! ```text
//! === a script, on a server of its own account of streams: all are deleted before it
//! > subject below $JS.API. and, behind a blank, the body
//! = subject and payload of a message to publish
//! ^ header line that goes with the next request or message
//! ~ stream and fields that its info must show before the script goes on, as JSON
//! ? stream: its state, its origins and all its messages
//! @ two streams: are their messages with equal sequences of the same time?
//! < a line of answer of the reference
//! ```
//!
//! `MILLRACE_CORPUS_RECORD=1` writes the reference's answers into the table instead.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::path::PathBuf;
use std::time::{Duration, Instant};

use millrace_tests::packages::reference_binary;
use millrace_tests::{RawClient, Server, ServerBuilder};
use serde_json::{Value, json};

/// The reference asks a missing origin again after ten seconds.
const PATIENCE: Duration = Duration::from_secs(40);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const INBOX: &str = "_T.answer";

#[derive(Debug, Default)]
struct Step {
    line: String,
    answers: Vec<String>,
}

#[derive(Debug, Default)]
struct Script {
    name: String,
    steps: Vec<Step>,
}

fn table_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tables/copies.txt")
}

fn table() -> Vec<Script> {
    let text = std::fs::read_to_string(table_path()).unwrap();
    let mut scripts: Vec<Script> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix("=== ") {
            let name = name.to_owned();
            scripts.push(Script {
                name,
                steps: Vec::new(),
            });
            continue;
        }
        let steps = &mut scripts.last_mut().unwrap().steps;
        match line.strip_prefix("< ") {
            Some(answer) => steps.last_mut().unwrap().answers.push(answer.to_owned()),
            None => steps.push(Step {
                line: line.to_owned(),
                answers: Vec::new(),
            }),
        }
    }
    scripts
}

struct Player {
    client: RawClient,
    headers: String,
}

impl Player {
    fn new(server: &Server) -> Self {
        let mut client = RawClient::ready(&server.address);
        client.send(b"SUB _T.* 7\r\n");
        client.flush();
        Self {
            client,
            headers: String::new(),
        }
    }

    fn request(&mut self, subject: &str, body: &str) -> (Vec<u8>, Vec<u8>) {
        let headers = std::mem::take(&mut self.headers);
        let block = if headers.is_empty() {
            String::new()
        } else {
            format!("NATS/1.0\r\n{headers}\r\n")
        };
        self.client
            .publish(subject, INBOX, block.as_bytes(), body.as_bytes());
        let message = self.client.read_message();
        (message.headers, message.payload)
    }

    fn api(&mut self, call: &str, body: &str) -> Value {
        let (_, payload) = self.request(&format!("$JS.API.{call}"), body);
        serde_json::from_slice(&payload).unwrap()
    }

    fn clear(&mut self) {
        let names = self.api("STREAM.NAMES", "");
        for name in names["streams"].as_array().into_iter().flatten() {
            self.api(&format!("STREAM.DELETE.{}", name.as_str().unwrap()), "");
        }
    }

    fn step(&mut self, line: &str) -> Vec<String> {
        // Shown when an answer that must come does not.
        println!("{line}");
        let (kind, rest) = line.split_at(1);
        let rest = rest.trim_start();
        let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
        match kind {
            ">" => {
                let (headers, payload) = self.request(&format!("$JS.API.{first}"), second);
                vec![shown(&headers, &payload)]
            }
            "=" => {
                let (headers, payload) = self.request(first, second);
                vec![shown(&headers, &payload)]
            }
            "^" => {
                self.headers.push_str(rest);
                self.headers.push_str("\r\n");
                Vec::new()
            }
            "~" => {
                self.wait(first, &serde_json::from_str(second).unwrap());
                Vec::new()
            }
            "?" => self.describe(first),
            "@" => vec![self.compare_times(first, second)],
            other => panic!("{other}"),
        }
    }

    /// Waits until the stream's info shows all that `wanted` holds, in `state` or beside it.
    fn wait(&mut self, stream: &str, wanted: &Value) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let info = self.api(&format!("STREAM.INFO.{stream}"), "");
            if shows(&info, wanted) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{stream} never shows {wanted}: {info}"
            );
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn describe(&mut self, stream: &str) -> Vec<String> {
        let mut info = self.api(&format!("STREAM.INFO.{stream}"), "");
        normalise(&mut info);
        let state = &info["state"];
        let summary = json!({
            "state": state,
            "mirror": info.get("mirror"),
            "sources": info.get("sources"),
            "config": info.get("config"),
            "error": info.get("error"),
        });
        let mut lines = vec![summary.to_string()];
        let number = |key: &str| state[key].as_u64().unwrap_or(0);
        for sequence in number("first_seq").max(1)..=number("last_seq") {
            let body = json!({ "seq": sequence }).to_string();
            let answer = self.api(&format!("STREAM.MSG.GET.{stream}"), &body);
            let Some(message) = answer.get("message") else {
                lines.push(format!("{sequence} {}", answer["error"]["description"]));
                continue;
            };
            let text = |key: &str| {
                let encoded = message[key].as_str().unwrap_or_default();
                let bytes = data_encoding::BASE64.decode(encoded.as_bytes()).unwrap();
                without_identity(&String::from_utf8_lossy(&bytes))
            };
            let (headers, data) = (text("hdrs"), text("data"));
            lines.push(format!(
                "{sequence} {} {headers:?} {data:?}",
                message["subject"]
            ));
        }
        lines
    }

    fn compare_times(&mut self, one: &str, other: &str) -> String {
        let times = [one, other].map(|stream| {
            let info = self.api(&format!("STREAM.INFO.{stream}"), "");
            let last = info["state"]["last_seq"].as_u64().unwrap();
            let mut times = Vec::new();
            for sequence in 1..=last {
                let body = json!({ "seq": sequence }).to_string();
                let answer = self.api(&format!("STREAM.MSG.GET.{stream}"), &body);
                times.push(answer["message"]["time"].clone());
            }
            times
        });
        let [one, other] = times;
        let mut pairs = one.iter().zip(&other);
        pairs.all(|(one, other)| one == other).to_string()
    }
}

/// Whether `info` holds the fields of `wanted`.
fn shows(info: &Value, wanted: &Value) -> bool {
    let fields = wanted.as_object().unwrap();
    let mut info = info.clone();
    if let Some(sources) = info.get_mut("sources").and_then(Value::as_array_mut) {
        sources.sort_by_key(|source| source["name"].to_string());
    }
    fields.iter().all(|(key, value)| {
        let found = info.pointer(&format!("/{}", key.replace('.', "/")));
        match value {
            Value::Null => found.is_some_and(|found| !found.is_null()),
            _ => found == Some(value),
        }
    })
}

fn shown(headers: &[u8], payload: &[u8]) -> String {
    let headers = String::from_utf8_lossy(headers);
    let lines = headers.split("\r\n").filter(|line| !line.is_empty());
    let lines = lines.map(|line| match line.split_once(": ") {
        Some(("Nats-Time-Stamp", _)) => "Nats-Time-Stamp: T".to_owned(),
        Some(("Nats-Stream-Identity", _)) => "Nats-Stream-Identity: ID".to_owned(),
        _ => without_identity(line),
    });
    let mut text: String = lines.map(|line| line + " | ").collect();
    match serde_json::from_slice::<Value>(payload) {
        Ok(mut value @ Value::Object(_)) => {
            normalise(&mut value);
            text.push_str(&value.to_string());
        }
        _ => text.push_str(&String::from_utf8_lossy(payload)),
    }
    text
}

/// The last word of `Nats-Stream-Source` is of this run.
fn without_identity(text: &str) -> String {
    let lines = text
        .split("\r\n")
        .map(|line| match line.strip_prefix("Nats-Stream-Source: ") {
            Some(value) => {
                let mut words: Vec<&str> = value.split(' ').collect();
                if words.len() > 5 {
                    words[5] = "ID";
                }
                format!("Nats-Stream-Source: {}", words.join(" "))
            }
            None => line.to_owned(),
        });
    lines.collect::<Vec<_>>().join("\r\n")
}

/// Replaces what cannot be the same twice.
fn normalise(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields.iter_mut() {
                match (key.as_str(), &value) {
                    ("active", Value::Number(number)) => {
                        let heard = number.as_i64() != Some(-1);
                        *value = Value::from(if heard { "heard" } else { "never" });
                    }
                    ("leader", Value::String(_)) => *value = Value::from("L"),
                    ("id", Value::String(_)) => *value = Value::from("I"),
                    _ => normalise(value),
                }
                // The reference reports sources in any order.
                if key == "sources"
                    && let Value::Array(sources) = value
                    && sources.iter().all(|source| source.get("lag").is_some())
                {
                    sources.sort_by_key(ToString::to_string);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(normalise),
        Value::String(text) if is_now(text) => *value = Value::from("T"),
        _ => {}
    }
}

/// A time of this test run, not one that a script named.
fn is_now(text: &str) -> bool {
    text.len() > 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T' && text.contains('.')
}

fn start(binary: Option<PathBuf>) -> Server {
    let builder = match binary {
        Some(binary) => ServerBuilder::binary(binary),
        None => ServerBuilder::millrace(),
    };
    builder.jetstream().start()
}

/// Plays the table; returns what differs.
fn differences(server: &Server, table: &[Script]) -> Vec<String> {
    let mut player = Player::new(server);
    let mut found = Vec::new();
    for script in table {
        player.clear();
        for step in &script.steps {
            let answers = player.step(&step.line);
            if answers != step.answers {
                found.push(format!(
                    "{}: {}\n  reference {:#?}\n  got       {answers:#?}",
                    script.name, step.line, step.answers
                ));
            }
        }
    }
    found
}

// proves: JS-MIR-01, JS-MIR-02, JS-MIR-03, JS-MIR-04, JS-MIR-05, JS-SRC-01, JS-SRC-02, JS-SRC-04
// proves: JS-SRC-05, JS-SRC-06, JS-SRC-07, JS-SRC-08, JS-DG-05
#[test]
fn copies_are_made_as_the_reference_makes_them() {
    if std::env::var_os("MILLRACE_CORPUS_RECORD").is_some() {
        record();
        return;
    }
    let found = differences(&start(None), &table());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Writes the table anew from what the reference does: its copies are made in the background and now
/// and then come too late under load, so that no test run depends on it.
fn record() {
    let server = start(Some(reference_binary().unwrap()));
    let mut player = Player::new(&server);
    let mut text = String::new();
    for script in table() {
        player.clear();
        text.push_str(&format!("=== {}\n", script.name));
        for step in &script.steps {
            text.push_str(&format!("{}\n", step.line));
            for answer in player.step(&step.line) {
                text.push_str(&format!("< {answer}\n"));
            }
        }
    }
    std::fs::write(table_path(), text).unwrap();
}
