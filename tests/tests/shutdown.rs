//! A server that is stopped in order: what it acknowledged is in segments and checkpoints, so that the
//! next start replays nothing; asked twice, it goes at once.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use millrace_tests::server::wait_for;
use millrace_tests::{RawClient, Server, ServerBuilder};

/// Stands in the log of a start that has entries to replay.
const REPLAYS: &str = "entries to replay";

fn create_stream(server: &Server, name: &str, storage: &str) {
    let mut client = RawClient::ready(&server.address);
    let body = format!(r#"{{"name":"{name}","subjects":["{name}.>"],"storage":"{storage}"}}"#);
    let subject = format!("$JS.API.STREAM.CREATE.{name}");
    let created = client.request(&subject, body.as_bytes()).json();
    assert!(created.get("error").is_none(), "{created}");
}

/// Publishes `count` messages and waits for their acknowledgements.
fn publish(server: &Server, name: &str, count: usize) {
    let mut client = RawClient::ready(&server.address);
    for number in 0..count {
        let subject = format!("{name}.{number}");
        let answer = client.request(&subject, b"payload").json();
        assert!(answer.get("error").is_none(), "{answer}");
    }
}

fn state(server: &Server, name: &str) -> serde_json::Value {
    let mut client = RawClient::ready(&server.address);
    let info = client.request(&format!("$JS.API.STREAM.INFO.{name}"), b"");
    info.json()["state"].clone()
}

/// What the newest start wrote to the log, from the first line on.
fn last_start(server: &Server) -> String {
    let log = server.log();
    let at = log.rfind("Starting").unwrap_or(0);
    log[at..].to_owned()
}

fn ends_by(server: &mut Server, signal: &str) {
    server.signal(signal);
    assert!(server.wait().success(), "{signal}");
}

#[test]
fn a_server_stopped_by_a_signal_replays_nothing_at_its_next_start() {
    let mut server = Server::jetstream();
    create_stream(&server, "A", "file");
    create_stream(&server, "B", "file");
    let mut messages = 0;
    for signal in ["TERM", "INT", "USR2"] {
        publish(&server, "A", 50);
        messages += 50;
        ends_by(&mut server, signal);
        server = server.restart(ServerBuilder::millrace().jetstream());
        assert_eq!(state(&server, "A")["messages"], messages, "{signal}");
        let log = last_start(&server);
        assert!(!log.contains(REPLAYS), "after {signal}: {log}");
    }
    // The other way is what it is compared with.
    publish(&server, "A", 50);
    server = server.restart(ServerBuilder::millrace().jetstream());
    assert_eq!(state(&server, "A")["messages"], messages + 50);
    assert!(last_start(&server).contains(REPLAYS), "{}", server.log());
}

#[test]
fn what_is_acknowledged_while_a_server_stops_is_there_at_its_next_start() {
    let mut server = Server::jetstream();
    create_stream(&server, "A", "file");
    let stream = TcpStream::connect(&server.address).unwrap();
    let last = Arc::new(AtomicU64::new(0));
    let reader = {
        let (mut stream, last) = (stream.try_clone().unwrap(), Arc::clone(&last));
        thread::spawn(move || read_sequences(&mut stream, &last))
    };
    let writer = thread::spawn(move || {
        let mut stream = stream;
        let hello = b"CONNECT {\"verbose\":false}\r\nSUB acks 1\r\n";
        let mut alive = stream.write_all(hello).is_ok();
        while alive {
            alive = stream.write_all(b"PUB A.x acks 7\r\npayload\r\n").is_ok();
        }
    });
    wait_for("acknowledgements", || {
        (last.load(Ordering::Relaxed) > 1000).then_some(())
    });
    ends_by(&mut server, "TERM");
    writer.join().unwrap();
    reader.join().unwrap();
    server = server.restart(ServerBuilder::millrace().jetstream());
    let state = state(&server, "A");
    assert_eq!(state["first_seq"], 1, "{state}");
    assert_eq!(state["messages"], state["last_seq"], "{state}");
    assert!(state["last_seq"].as_u64().unwrap() >= last.load(Ordering::Relaxed));
    assert!(!last_start(&server).contains(REPLAYS), "{}", server.log());
}

/// The highest sequence of the acknowledgements until the connection ends.
fn read_sequences(stream: &mut TcpStream, last: &AtomicU64) {
    use std::io::{BufRead, BufReader};
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        let Some((_, rest)) = line.split_once("\"seq\":") else {
            continue;
        };
        let digits = rest.trim_end_matches(|character: char| !character.is_ascii_digit());
        if let Ok(sequence) = digits.parse() {
            last.fetch_max(sequence, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_second_signal_ends_a_stopping_server_at_once_and_nothing_is_lost() {
    let mut server = Server::jetstream();
    create_stream(&server, "A", "file");
    publish(&server, "A", 200);
    server.signal("TERM");
    server.signal("TERM");
    assert!(server.wait().success());
    server = server.restart(ServerBuilder::millrace().jetstream());
    assert_eq!(state(&server, "A")["messages"], 200);
}
