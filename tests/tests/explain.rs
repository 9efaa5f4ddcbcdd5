//! `CONSUMER.EXPLAIN` and `millrace explain`: for each thing that keeps a consumer from delivering, the
//! server says which it is, and says nothing once it is gone. Our own, the reference has no such call.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::process::Command;

use millrace_tests::server::{millrace_binary, wait_for};
use millrace_tests::{RawClient, Server};
use serde_json::Value;

struct Asker {
    server: Server,
    /// Asks and publishes.
    client: RawClient,
    /// Listens, pulls and acknowledges.
    listener: RawClient,
}

impl Asker {
    fn new(stream: &str) -> Self {
        let server = Server::jetstream();
        let client = RawClient::ready(&server.address);
        let listener = RawClient::ready(&server.address);
        let mut asker = Self {
            server,
            client,
            listener,
        };
        asker.api("STREAM.CREATE.S", stream);
        asker
    }

    fn api(&mut self, call: &str, body: &str) -> Value {
        let subject = format!("$JS.API.{call}");
        let answer = self.client.request(&subject, body.as_bytes()).json();
        assert!(answer.get("error").is_none(), "{call} {answer}");
        answer
    }

    fn consumer(&mut self, config: &str) {
        let body = format!("{{\"stream_name\":\"S\",\"config\":{{\"name\":\"c\",{config}}}}}");
        self.api("CONSUMER.CREATE.S.c", &body);
    }

    fn publish(&mut self, count: usize) {
        for _ in 0..count {
            self.client.request("S.a", b"x");
        }
    }

    fn reasons(&mut self) -> Vec<String> {
        let answer = self.api("CONSUMER.EXPLAIN.S.c", "");
        let reasons = answer["reasons"].as_array().unwrap();
        let words = reasons
            .iter()
            .map(|reason| reason["reason"].as_str().unwrap().to_owned());
        let words: Vec<String> = words.collect();
        assert_eq!(answer["delivering"], words.is_empty(), "{answer}");
        words
    }

    /// A pull request that waits, with a listener that is there.
    fn pull(&mut self, body: &str) {
        self.listener.send(b"SUB pulled 7\r\n");
        self.listener.publish(
            "$JS.API.CONSUMER.MSG.NEXT.S.c",
            "pulled",
            b"",
            body.as_bytes(),
        );
        self.listener.sync();
    }
}

const STREAM: &str = r#"{"name":"S","subjects":["S.>"]}"#;

#[test]
fn a_pull_consumer_without_requests_or_messages_says_so() {
    let mut asker = Asker::new(STREAM);
    asker.consumer(r#""ack_policy":"explicit""#);
    assert_eq!(asker.reasons(), ["no_waiting_pull", "nothing_pending"]);
    asker.publish(1);
    assert_eq!(asker.reasons(), ["no_waiting_pull"]);
    asker.pull("5");
    assert_eq!(asker.reasons(), ["nothing_pending"]);
}

#[test]
fn the_limit_of_pending_acknowledgements_is_told() {
    let mut asker = Asker::new(STREAM);
    asker.consumer(r#""ack_policy":"explicit","max_ack_pending":1"#);
    asker.publish(2);
    asker.pull("5");
    assert_eq!(asker.reasons(), ["max_ack_pending"]);
    let delivered = asker.listener.read_message();
    asker.listener.publish(&delivered.reply, "", b"", b"+ACK");
    wait_for("the second message", || {
        (asker.reasons() == ["nothing_pending"]).then_some(())
    });
}

#[test]
fn a_pause_is_told_and_ends() {
    let mut asker = Asker::new(STREAM);
    asker.consumer(r#""ack_policy":"explicit""#);
    asker.publish(1);
    asker.pull("5");
    asker.publish(1);
    let until = r#"{"pause_until":"2099-01-01T00:00:00Z"}"#;
    asker.api("CONSUMER.PAUSE.S.c", until);
    asker.publish(1);
    assert_eq!(asker.reasons(), ["paused"]);
    asker.api("CONSUMER.PAUSE.S.c", "");
    wait_for("what was held back", || {
        (asker.reasons() == ["nothing_pending"]).then_some(())
    });
}

#[test]
fn a_push_consumer_that_nobody_listens_to_says_so() {
    let mut asker = Asker::new(STREAM);
    asker.consumer(r#""deliver_subject":"to.me","deliver_group":"g""#);
    asker.publish(1);
    assert_eq!(asker.reasons(), ["no_interest"]);
    asker.listener.send(b"SUB to.me g 8\r\n");
    asker.listener.sync();
    wait_for("the listener", || {
        (asker.reasons() == ["nothing_pending"]).then_some(())
    });
}

#[test]
fn a_rate_limit_is_told() {
    let mut asker = Asker::new(STREAM);
    asker.consumer(r#""deliver_subject":"to.me","rate_limit_bps":8"#);
    asker.listener.send(b"SUB to.me 8\r\n");
    asker.listener.sync();
    asker.publish(3);
    assert_eq!(asker.reasons(), ["rate_limit"]);
}

#[test]
fn a_flow_control_request_without_answer_is_told() {
    let mut asker = Asker::new(STREAM);
    asker.consumer(r#""deliver_subject":"to.me","flow_control":true,"idle_heartbeat":1000000000"#);
    asker.listener.send(b"SUB to.me 8\r\n");
    asker.listener.sync();
    let big = vec![b'x'; 512 * 1024];
    for _ in 0..8 {
        asker.client.publish("S.a", "", b"", &big);
    }
    wait_for("the window to be full", || {
        (asker.reasons() == ["flow_control"]).then_some(())
    });
}

#[test]
fn the_original_pace_is_told() {
    let mut asker = Asker::new(STREAM);
    asker.publish(1);
    std::thread::sleep(std::time::Duration::from_secs(2));
    asker.publish(1);
    asker.consumer(r#""deliver_subject":"to.me","replay_policy":"original""#);
    asker.listener.send(b"SUB to.me 8\r\n");
    asker.listener.sync();
    asker.listener.read_message();
    assert_eq!(asker.reasons(), ["replay"]);
}

#[test]
fn priorities_that_keep_requests_waiting_are_told() {
    let mut asker = Asker::new(STREAM);
    asker.consumer(
        r#""ack_policy":"explicit","priority_policy":"overflow","priority_groups":["g"]"#,
    );
    asker.publish(1);
    asker.pull(r#"{"batch":1,"group":"g","min_pending":5}"#);
    assert_eq!(asker.reasons(), ["below_overflow"]);
    let mut pinned = Asker::new(STREAM);
    pinned.consumer(
        r#""ack_policy":"explicit","priority_policy":"pinned_client","priority_groups":["g"],"priority_timeout":60000000000"#,
    );
    pinned.publish(1);
    pinned.pull(r#"{"batch":1,"group":"g"}"#);
    pinned.listener.read_message();
    pinned.publish(1);
    pinned.pull(r#"{"batch":1,"group":"g"}"#);
    assert_eq!(pinned.reasons(), ["pinned_elsewhere"]);
}

#[test]
fn the_command_tells_what_the_server_says() {
    let mut asker = Asker::new(STREAM);
    asker.consumer(r#""ack_policy":"explicit""#);
    asker.publish(1);
    let run = |consumer: &str| {
        Command::new(millrace_binary())
            .args(["explain", &asker.server.url(), "S", consumer])
            .output()
            .unwrap()
    };
    let told = run("c");
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.status.success(), "{text}");
    assert!(
        text.starts_with("S > c: not delivering\n  no_waiting_pull: "),
        "{text}"
    );
    let unknown = run("zz");
    assert!(!unknown.status.success());
    let text = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(text.contains("consumer not found"), "{text}");
}
