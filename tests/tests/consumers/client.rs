//! A client that writes down what happens, and the comparison of two servers by it.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use millrace_tests::packages::{reference_binary, skip};
use millrace_tests::server::millrace_binary;
use millrace_tests::{RawClient, Server, ServerBuilder};
use serde_json::{Value, json};

/// Long enough for everything that is under way on a loaded machine.
pub(crate) const SOON: Duration = Duration::from_millis(60);

/// A connection with an inbox `in`, an answer box `answer`, and the transcript so far.
pub(crate) struct Client {
    server: Option<Server>,
    binary: PathBuf,
    raw: RawClient,
    transcript: Vec<String>,
    /// Seen, but not yet in the transcript: what comes by different ways has no order.
    seen: Vec<String>,
}

/// Runs a scenario on our server and on the reference and compares what was seen.
pub(crate) fn compare(name: &str, scenario: impl Fn(&mut Client)) {
    let ours = record(millrace_binary(), &scenario);
    let Some(reference) = reference_binary() else {
        skip(name, "no reference server to compare with");
        return;
    };
    let theirs = record(reference, &scenario);
    for (index, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        assert_eq!(ours, theirs, "{name}, line {index}");
    }
    assert_eq!(ours, theirs, "{name}");
}

fn record(binary: PathBuf, scenario: &impl Fn(&mut Client)) -> Vec<String> {
    let server = ServerBuilder::binary(binary.clone()).jetstream().start();
    let raw = connect(&server);
    let mut client = Client {
        server: Some(server),
        binary,
        raw,
        transcript: Vec::new(),
        seen: Vec::new(),
    };
    scenario(&mut client);
    client.transcript
}

fn connect(server: &Server) -> RawClient {
    let mut raw = RawClient::ready(&server.address);
    raw.send(b"SUB in 1\r\nSUB answer 2\r\nSUB fence 3\r\nSUB $JS.EVENT.ADVISORY.CONSUMER.> 4\r\n");
    raw.flush();
    raw
}

impl Client {
    /// Writes a line into the transcript.
    pub(crate) fn note(&mut self, line: impl Into<String>) {
        self.transcript.push(line.into());
    }

    /// `kill -9`, a moment after the last change, and a start on the same data.
    pub(crate) fn restart(&mut self) {
        self.wait(Duration::from_millis(1000));
        self.note("killed and started again");
        let server = self.server.take().unwrap();
        let builder = ServerBuilder::binary(self.binary.clone()).jetstream();
        let server = server.restart(builder);
        self.raw = connect(&server);
        self.server = Some(server);
    }

    /// Stops the server by a signal and notes what it sends to the end, without what the server says
    /// about itself. Sorted: consumers are told in any order.
    pub(crate) fn stop(&mut self, signal: &str) {
        self.server.as_ref().unwrap().signal(signal);
        let text = String::from_utf8_lossy(&self.raw.read_to_end()).into_owned();
        let mut told: Vec<String> = text
            .split("HMSG ")
            .filter(|told| told.starts_with("in "))
            .map(str::to_owned)
            .collect();
        told.sort();
        self.note(format!("stopped by {signal}"));
        self.transcript.append(&mut told);
    }

    /// Sends raw protocol lines.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.raw.send(bytes);
    }

    /// Keeps everything until a message for the inbox `subject` arrives.
    fn read_past(&mut self, subject: &str) -> Value {
        loop {
            let message = self.raw.read_message();
            if message.subject == subject {
                return message.json();
            }
            self.seen.push(describe(&message));
        }
    }

    /// A stream `S` on `subjects`.
    pub(crate) fn stream(&mut self, config: Value) {
        let mut full = json!({"name": "S", "subjects": ["a.*", "b.*"], "storage": "memory"});
        merge(&mut full, config);
        let answer = self.api("STREAM.CREATE.S", &full);
        assert!(answer["error"].is_null(), "{answer}");
    }

    /// An API request; the answer is given back, not noted.
    pub(crate) fn api(&mut self, subject: &str, body: &Value) -> Value {
        self.raw.send(b"SUB api 9\r\nUNSUB 9 1\r\n");
        self.raw.publish(
            &format!("$JS.API.{subject}"),
            "api",
            b"",
            body.to_string().as_bytes(),
        );
        self.read_past("api")
    }

    /// An API request whose answer is noted, without what differs from run to run.
    pub(crate) fn ask(&mut self, subject: &str, body: &Value) {
        self.raw.send(b"SUB api 9\r\nUNSUB 9 1\r\n");
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        self.raw
            .publish(&format!("$JS.API.{subject}"), "api", b"", &body);
        let mut answer = self.read_past("api");
        scrub(&mut answer);
        self.note(format!("{subject}: {answer}"));
    }

    /// A durable consumer `name`; explicit acks unless `config` says otherwise.
    pub(crate) fn consumer(&mut self, name: &str, config: Value) {
        let mut full = json!({"durable_name": name, "ack_policy": "explicit"});
        merge(&mut full, config);
        let body = json!({"stream_name": "S", "config": full});
        self.ask(&format!("CONSUMER.DURABLE.CREATE.S.{name}"), &body);
        self.drain();
    }

    /// Publishes without waiting for the stream's answer, then waits a moment.
    pub(crate) fn publish(&mut self, subject: &str, payload: &str) {
        self.raw.publish(subject, "", b"", payload.as_bytes());
        self.drain();
    }

    /// Sends a pull request and notes what comes within a moment.
    pub(crate) fn pull(&mut self, name: &str, body: &str) {
        self.note(format!("pull {name} {body}"));
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.S.{name}");
        self.raw.publish(&subject, "in", b"", body.as_bytes());
        self.drain();
    }

    /// Acknowledges a delivery of consumer `name` with these numbers, with `answer` as reply.
    pub(crate) fn ack(&mut self, name: &str, numbers: &str, payload: &str) {
        self.note(format!("ack {name} {numbers} {payload}"));
        let subject = format!("$JS.ACK.S.{name}.{numbers}.1700000000000000000.0");
        self.raw
            .publish(&subject, "answer", b"", payload.as_bytes());
        self.drain();
    }

    /// A message to any subject, with a reply subject, and what comes of it.
    pub(crate) fn request(&mut self, subject: &str, payload: &str) {
        self.raw.publish(subject, "answer", b"", payload.as_bytes());
        self.drain();
    }

    /// Notes what arrives within a moment.
    pub(crate) fn drain(&mut self) {
        self.wait(SOON);
    }

    /// Notes what arrives within `duration`.
    pub(crate) fn wait(&mut self, duration: Duration) {
        std::thread::sleep(duration);
        self.raw.publish("fence", "", b"", b"");
        loop {
            let message = self.raw.read_message();
            if message.subject == "fence" {
                break;
            }
            self.seen.push(describe(&message));
        }
        self.write_down();
    }

    /// Answers to acknowledgements, then messages, both in their order, then advisories sorted:
    /// these three come by different ways.
    fn write_down(&mut self) {
        let mut advisories = Vec::new();
        let mut messages = Vec::new();
        for line in std::mem::take(&mut self.seen) {
            if line.starts_with("answer ") {
                self.transcript.push(line);
            } else if line.starts_with("$JS.EVENT.") {
                advisories.push(line);
            } else {
                messages.push(line);
            }
        }
        advisories.sort();
        self.transcript.extend(messages);
        self.transcript.extend(advisories);
    }

    /// Notes the counts of a consumer.
    pub(crate) fn counts(&mut self, name: &str) {
        self.raw.send(b"SUB api 9\r\nUNSUB 9 1\r\n");
        self.raw
            .publish(&format!("$JS.API.CONSUMER.INFO.S.{name}"), "api", b"", b"");
        let info = self.read_past("api");
        let mut line = format!("{name}:");
        for key in ["delivered", "ack_floor"] {
            let _ = write!(
                line,
                " {key} {}/{}",
                info[key]["consumer_seq"], info[key]["stream_seq"]
            );
        }
        for key in [
            "num_ack_pending",
            "num_redelivered",
            "num_waiting",
            "num_pending",
            "push_bound",
            "paused",
        ] {
            let _ = write!(line, " {key} {}", info[key]);
        }
        self.note(line);
    }
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        for (key, value) in from {
            into.insert(key, value);
        }
    }
}

/// A message as a line, without times and random ids.
fn describe(message: &millrace_tests::raw::Message) -> String {
    let headers = String::from_utf8_lossy(&message.headers).replace("\r\n", "|");
    let mut headers = mask(&headers, "Nats-Pin-Id: ");
    headers = mask_last_token(&headers, "$JS.FC.");
    let payload = match serde_json::from_slice::<Value>(&message.payload) {
        Ok(mut value @ Value::Object(_)) => {
            scrub(&mut value);
            value.to_string()
        }
        _ if message.payload.len() > 100 => format!("{} bytes", message.payload.len()),
        _ => message.text(),
    };
    format!(
        "{} reply={} {headers} {payload}",
        message.subject,
        mask_reply(&message.reply)
    )
}

/// The value behind `key`, up to the end of the line, becomes `*`.
fn mask(text: &str, key: &str) -> String {
    let Some(start) = text.find(key).map(|start| start + key.len()) else {
        return text.to_owned();
    };
    let end = text[start..]
        .find('|')
        .map_or(text.len(), |length| start + length);
    format!("{}*{}", &text[..start], &text[end..])
}

fn mask_last_token(text: &str, prefix: &str) -> String {
    let Some(start) = text.find(prefix) else {
        return text.to_owned();
    };
    let end = text[start..]
        .find('|')
        .map_or(text.len(), |length| start + length);
    let last = text[start..end]
        .rfind('.')
        .map_or(end, |dot| start + dot + 1);
    format!("{}*{}", &text[..last], &text[end..])
}

/// Time of an ack subject and id of a flow control subject become `*`.
fn mask_reply(reply: &str) -> String {
    let mut tokens: Vec<&str> = reply.split('.').collect();
    if reply.starts_with("$JS.ACK.") && tokens.len() == 9 {
        tokens[7] = "*";
    } else if reply.starts_with("$JS.FC.") {
        let last = tokens.len() - 1;
        tokens[last] = "*";
    }
    tokens.join(".")
}

/// Takes out what differs from run to run and from server to server.
fn scrub(value: &mut Value) {
    const GONE: [&str; 14] = [
        "id",
        "timestamp",
        "ts",
        "created",
        "last_active",
        "cluster",
        "pinned_ts",
        "pinned_id",
        "pinned_client_id",
        "pause_until",
        "pause_remaining",
        "ack_time",
        "server",
        "account",
    ];
    match value {
        Value::Object(map) => {
            for key in GONE {
                map.shift_remove(key);
            }
            for (key, value) in map.iter_mut() {
                if key == "metadata"
                    && let Value::Object(metadata) = value
                {
                    metadata.shift_remove("_nats.ver");
                }
                scrub(value);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(scrub),
        _ => {}
    }
}
