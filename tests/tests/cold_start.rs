//! A stream whose index nobody has needed yet since the start: what reaches it waits, in order, and a
//! long journal costs a start no more memory than the server may use.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use millrace_tests::server::wait_for;
use millrace_tests::{RawClient, Server, ServerBuilder};

/// Messages of the order test, all in the stream before the restart.
const STORED: u64 = 500;
/// Requests sent at once to the cold stream.
const REQUESTS: u64 = 40;
/// Payload bytes of the memory test, and of one message.
const LARGE_BYTES: usize = 300 << 20;
const MESSAGE_BYTES: usize = 64 << 10;
/// Publishes of the memory test before their acknowledgements are awaited.
const WINDOW: usize = 64;
/// What the server of the memory test may keep, and what it may take in all.
const CACHE: &str = "64MB";
const PEAK_BYTES: u64 = 128 << 20;

fn create_stream(server: &Server) {
    let mut client = RawClient::ready(&server.address);
    let body = br#"{"name":"A","subjects":["a.>"],"allow_direct":true}"#;
    let created = client.request("$JS.API.STREAM.CREATE.A", body).json();
    assert!(created.get("error").is_none(), "{created}");
}

fn publish(server: &Server, count: usize, payload: &[u8]) {
    let mut client = RawClient::ready(&server.address);
    client.send(b"SUB acks 7\r\n");
    for first in (0..count).step_by(WINDOW) {
        let window = WINDOW.min(count - first);
        for number in first..first + window {
            client.publish(&format!("a.{}", number % 10), "acks", b"", payload);
        }
        for _ in 0..window {
            let answer = client.read_message().json();
            assert!(answer.get("error").is_none(), "{answer}");
        }
    }
}

fn peak_bytes(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process_id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kib << 10
}

#[test]
fn requests_to_a_cold_stream_are_answered_in_the_order_in_which_they_came() {
    let mut server = Server::jetstream();
    create_stream(&server);
    publish(&server, STORED as usize, b"stored");
    server.signal("TERM");
    assert!(server.wait().success());
    server = server.restart(ServerBuilder::millrace().jetstream());
    let mut client = RawClient::ready(&server.address);
    client.send(b"SUB answers.* 7\r\n");
    for number in 0..REQUESTS {
        let reply = format!("answers.{number}");
        let body = format!(r#"{{"seq":{}}}"#, number + 1);
        match number % 3 {
            0 => client.publish("a.new", &reply, b"", b"new"),
            1 => client.publish("$JS.API.STREAM.MSG.GET.A", &reply, b"", body.as_bytes()),
            _ => client.publish("$JS.API.DIRECT.GET.A", &reply, b"", body.as_bytes()),
        }
    }
    // A publish waits for the disk and may be overtaken by a read, never by another publish; reads
    // of one kind do not overtake each other either.
    let mut answered: [Vec<(u64, u64)>; 3] = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..REQUESTS {
        let answer = client.read_message();
        let number: u64 = answer.subject.rsplit('.').next().unwrap().parse().unwrap();
        let sequence = match number % 3 {
            0 => answer.json()["seq"].as_u64(),
            1 => answer.json()["message"]["seq"].as_u64(),
            _ => String::from_utf8_lossy(&answer.headers)
                .lines()
                .find_map(|line| line.strip_prefix("Nats-Sequence: ")?.trim().parse().ok()),
        };
        let sequence = sequence.unwrap_or_else(|| panic!("{number}: {}", answer.text()));
        answered[(number % 3) as usize].push((number, sequence));
    }
    for (kind, answers) in answered.iter().enumerate() {
        let numbers = (0..REQUESTS).filter(|number| *number as usize % 3 == kind);
        let expected: Vec<(u64, u64)> = match kind {
            0 => numbers.zip(STORED + 1..).collect(),
            _ => numbers.map(|number| (number, number + 1)).collect(),
        };
        assert_eq!(*answers, expected);
    }
}

#[test]
fn a_long_journal_costs_a_start_after_kill_9_no_more_memory_than_the_server_may_use() {
    let config = format!("jetstream {{ max_cache: {CACHE} }}");
    let builder = || ServerBuilder::millrace().config(&config).jetstream();
    let mut server = builder().start();
    create_stream(&server);
    let count = LARGE_BYTES / MESSAGE_BYTES;
    publish(&server, count, &vec![b'x'; MESSAGE_BYTES]);
    let loaded = peak_bytes(&server);
    server = server.restart(builder());
    let state = wait_for("the stream", || {
        let mut client = RawClient::ready(&server.address);
        let info = client.request("$JS.API.STREAM.INFO.A", b"");
        (!info.payload.is_empty()).then(|| info.json()["state"].clone())
    });
    assert_eq!(state["messages"], count, "{state}");
    let mut client = RawClient::ready(&server.address);
    for sequence in [1, count / 2, count] {
        let body = format!(r#"{{"seq":{sequence}}}"#);
        let answer = client.request("$JS.API.DIRECT.GET.A", body.as_bytes());
        assert_eq!(answer.payload.len(), MESSAGE_BYTES, "{sequence}");
    }
    for (when, peak) in [
        ("under load", loaded),
        ("after kill -9", peak_bytes(&server)),
    ] {
        assert!(peak <= PEAK_BYTES, "{when}: {peak} bytes");
    }
}
