//! An atomic batch of the largest default size, 1,000 messages of 1 MiB: it commits within the
//! server's memory budget, nobody sees a part of it, and other streams go on meanwhile.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use millrace_tests::{RawClient, Server};

const MESSAGES: u64 = 1_000;
/// Headers and payload: the default `max_payload`.
const MESSAGE_BYTES: usize = 1 << 20;
/// What a server may hold of batches that are not committed.
const STAGING_BUDGET_BYTES: u64 = 64 << 20;
/// What it holds besides: the program, what streams keep in memory of their newest messages, blocks
/// read back, frames and parts on their way to the journal.
const OVERHEAD_BYTES: u64 = 64 << 20;
/// The commit moves a gigabyte, on a machine that may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(300);

/// The batch is being staged; it is being committed; it is there.
const STAGING: u32 = 0;
const COMMITTING: u32 = 1;
const COMMITTED: u32 = 2;

fn headers(sequence: u64) -> String {
    let mut block =
        format!("NATS/1.0\r\nNats-Batch-Id: large\r\nNats-Batch-Sequence: {sequence}\r\n");
    if sequence == MESSAGES {
        block.push_str("Nats-Batch-Commit: 1\r\n");
    }
    block.push_str("\r\n");
    block
}

/// A payload that is like no other's.
fn payload(sequence: u64, length: usize) -> Vec<u8> {
    let pattern: Vec<u8> = (0..251_u64)
        .map(|place| (place * 7 + sequence * 13 + (sequence >> 6)) as u8)
        .collect();
    let mut bytes = pattern.repeat(length / pattern.len() + 1);
    bytes.truncate(length);
    bytes
}

/// Publishes the batch and returns the answer to its commit.
fn publish_batch(address: &str, phase: &AtomicU32) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"CONNECT {\"verbose\":false,\"headers\":true}\r\nSUB acks 1\r\n")
        .unwrap();
    for sequence in 1..=MESSAGES {
        let block = headers(sequence);
        let last = sequence == MESSAGES;
        let mut message = Vec::with_capacity(MESSAGE_BYTES + 100);
        let reply = if last { "acks " } else { "" };
        write!(
            message,
            "HPUB large {reply}{} {MESSAGE_BYTES}\r\n{block}",
            block.len()
        )
        .unwrap();
        message.extend_from_slice(&payload(sequence, MESSAGE_BYTES - block.len()));
        message.extend_from_slice(b"\r\n");
        if last {
            phase.store(COMMITTING, Ordering::SeqCst);
        }
        stream.write_all(&message).unwrap();
    }
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    lines.find(|line| line.starts_with("MSG acks ")).unwrap();
    let answer = lines.next().unwrap();
    phase.store(COMMITTED, Ordering::SeqCst);
    answer
}

/// Publishes to another stream, one message after the other, until the batch is there. Gives how
/// many were acknowledged while it was staged, and while it was committed.
fn publish_others(client: &mut RawClient, phase: &AtomicU32) -> (u64, u64) {
    let (mut staging, mut committing) = (0, 0);
    loop {
        let before = phase.load(Ordering::SeqCst);
        let answer = client.request("other", b"meanwhile").text();
        assert!(
            answer.starts_with("{\"stream\":\"OTHER\",\"seq\":"),
            "{answer}"
        );
        match (before, phase.load(Ordering::SeqCst)) {
            (_, STAGING) => staging += 1,
            (COMMITTING, COMMITTING) => committing += 1,
            (COMMITTED, _) => return (staging, committing),
            _ => {}
        }
        let info = client.request("$JS.API.STREAM.INFO.LARGE", b"").json();
        let messages = info["state"]["messages"].as_u64().unwrap();
        assert!(
            messages == 0 || messages == MESSAGES,
            "{messages} are visible"
        );
    }
}

/// The most that the process ever had resident, in bytes.
fn peak_bytes(server: &Server) -> u64 {
    let path = format!("/proc/{}/status", server.process_id());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse::<u64>().unwrap() << 10
}

fn read_back(address: &str) {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::with_capacity(1 << 20, stream);
    writer
        .write_all(b"CONNECT {\"verbose\":false,\"headers\":true}\r\nSUB got 1\r\n")
        .unwrap();
    for sequence in 1..=MESSAGES {
        let request = format!("{{\"seq\":{sequence}}}");
        let mut line = format!("PUB $JS.API.DIRECT.GET.LARGE got {}\r\n", request.len());
        write!(line, "{request}\r\n").unwrap();
        writer.write_all(line.as_bytes()).unwrap();
        let head = loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line.starts_with("HMSG got ") {
                break line;
            }
            let passing = ["INFO", "PING"].iter().any(|verb| line.starts_with(verb));
            assert!(passing, "{line}");
        };
        let mut sizes = head
            .split_whitespace()
            .rev()
            .map(|word| word.parse().unwrap());
        let (total, of_headers): (usize, usize) = (sizes.next().unwrap(), sizes.next().unwrap());
        let mut message = vec![0; total + 2];
        reader.read_exact(&mut message).unwrap();
        let expected = payload(sequence, MESSAGE_BYTES - headers(sequence).len());
        assert!(message[of_headers..total] == expected, "message {sequence}");
    }
}

// proves: JS-BAT-01, JS-BAT-02
#[test]
fn a_batch_of_the_largest_size_commits_within_the_memory_budget_while_others_go_on() {
    let server = Server::jetstream();
    let mut client = RawClient::ready(&server.address);
    for config in [
        &br#"{"name":"LARGE","subjects":["large"],"allow_atomic":true,"allow_direct":true}"#[..],
        br#"{"name":"OTHER","subjects":["other"]}"#,
    ] {
        let name = if config.starts_with(b"{\"name\":\"LARGE") {
            "LARGE"
        } else {
            "OTHER"
        };
        let subject = format!("$JS.API.STREAM.CREATE.{name}");
        let created = client.request(&subject, config).json();
        assert!(created.get("error").is_none(), "{created}");
    }
    let phase = AtomicU32::new(STAGING);
    let (answer, (staging, committing)) = thread::scope(|scope| {
        let batch = scope.spawn(|| publish_batch(&server.address, &phase));
        let others = publish_others(&mut client, &phase);
        (batch.join().unwrap(), others)
    });
    let expected = format!(
        "{{\"stream\":\"LARGE\",\"seq\":{MESSAGES},\"batch\":\"large\",\"count\":{MESSAGES}}}"
    );
    assert_eq!(answer, expected);
    assert!(
        staging > 0,
        "no other stream was served while the batch was staged"
    );
    assert!(
        committing > 0,
        "no other stream was served while the batch was committed"
    );
    read_back(&server.address);
    let peak = peak_bytes(&server);
    println!("peak {} MiB, others {staging} and {committing}", peak >> 20);
    assert!(
        peak <= STAGING_BUDGET_BYTES + OVERHEAD_BYTES,
        "{} MiB at the peak",
        peak >> 20
    );
}
