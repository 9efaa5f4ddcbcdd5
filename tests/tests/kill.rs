//! `kill -9` under load: what was acknowledged is there after the restart, in order and intact, and
//! no atomic batch is there in part.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use millrace_tests::server::wait_for;
use millrace_tests::{RawClient, Server, ServerBuilder};

/// Kills per test; each finds the server at another moment of its work.
const KILLS: u64 = 4;
/// Acknowledgements to wait for before each kill.
const ACKNOWLEDGED_MIN: u64 = 300;
/// Messages of the batches that are published between single messages.
const BATCH_MESSAGES: u64 = 7;

/// Stands in every acknowledgement once.
const SEQUENCE: &[u8] = b"\"seq\"";

/// What the server said it had stored: name of the publish -> (sequence, messages).
type Acknowledged = BTreeMap<String, (u64, u64)>;

/// Publishes single messages and batches until the connection breaks.
fn publish(mut stream: TcpStream, round: u64, stop: &AtomicBool) {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let mut bytes = Vec::new();
        if number % 10 == 9 {
            let id = format!("b{round}-{number}");
            for sequence in 1..=BATCH_MESSAGES {
                let last = sequence == BATCH_MESSAGES;
                let commit = if last { "Nats-Batch-Commit: 1\r\n" } else { "" };
                let reply = if last {
                    format!("acks.{id} ")
                } else {
                    String::new()
                };
                let headers = format!(
                    "NATS/1.0\r\nNats-Batch-Id: {id}\r\nNats-Batch-Sequence: {sequence}\r\n{commit}\r\n"
                );
                let payload = format!("{id}/{sequence}");
                let total = headers.len() + payload.len();
                bytes.extend_from_slice(
                    format!(
                        "HPUB events {reply}{} {total}\r\n{headers}{payload}\r\n",
                        headers.len()
                    )
                    .as_bytes(),
                );
            }
        } else {
            let payload = format!("m{round}-{number}");
            bytes.extend_from_slice(
                format!(
                    "PUB events acks.{payload} {}\r\n{payload}\r\n",
                    payload.len()
                )
                .as_bytes(),
            );
        }
        if stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

/// Collects acknowledgements until the connection breaks.
fn collect(mut stream: TcpStream, count: &AtomicU64) -> Acknowledged {
    let mut received = Vec::new();
    let mut block = vec![0; 64 * 1024];
    let mut acknowledged = 0;
    while let Ok(length) = stream.read(&mut block) {
        if length == 0 {
            break;
        }
        // Only what is new is looked at, and what the end of the last block may have cut in two.
        let from = received.len().saturating_sub(SEQUENCE.len() - 1);
        received.extend_from_slice(&block[..length]);
        let found = received[from..]
            .windows(SEQUENCE.len())
            .filter(|window| *window == SEQUENCE);
        acknowledged += found.count() as u64;
        count.store(acknowledged, Ordering::Relaxed);
    }
    let text = String::from_utf8_lossy(&received);
    let mut found = Acknowledged::new();
    let mut lines = text.split("\r\n");
    while let Some(line) = lines.next() {
        let Some(name) = line
            .strip_prefix("MSG acks.")
            .and_then(|rest| rest.split(' ').next())
        else {
            continue;
        };
        // The last line may be cut off in the middle.
        let Some(answer) = lines
            .next()
            .and_then(|json| serde_json::from_str::<serde_json::Value>(json).ok())
        else {
            break;
        };
        assert!(answer.get("error").is_none(), "{name}: {answer}");
        let messages = answer["count"].as_u64().unwrap_or(1);
        found.insert(name.to_owned(), (answer["seq"].as_u64().unwrap(), messages));
    }
    found
}

/// Loads the server until enough is acknowledged, then kills it.
fn load_and_kill(server: &mut Server, round: u64) -> Acknowledged {
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream
        .write_all(b"CONNECT {\"verbose\":false,\"headers\":true}\r\nSUB acks.> 1\r\n")
        .unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let reader = {
        let (stream, count) = (stream.try_clone().unwrap(), Arc::clone(&count));
        thread::spawn(move || collect(stream, &count))
    };
    let writer = {
        let (stream, stop) = (stream.try_clone().unwrap(), Arc::clone(&stop));
        thread::spawn(move || publish(stream, round, &stop))
    };
    wait_for("acknowledgements", || {
        (count.load(Ordering::Relaxed) >= ACKNOWLEDGED_MIN + round * 37).then_some(())
    });
    server.kill();
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    reader.join().unwrap()
}

/// All messages of the stream: sequence -> payload.
fn read_back(server: &Server) -> BTreeMap<u64, String> {
    let mut client = RawClient::ready(&server.address);
    let info = client.request("$JS.API.STREAM.INFO.EVENTS", b"").json();
    let state = &info["state"];
    let (first, last) = (
        state["first_seq"].as_u64().unwrap(),
        state["last_seq"].as_u64().unwrap(),
    );
    assert_eq!(
        state["messages"].as_u64().unwrap(),
        last - first + 1,
        "{state}"
    );
    let batch = format!("{{\"seq\":{first},\"batch\":{}}}", last - first + 2);
    client.send(b"SUB all 5\r\n");
    client.publish("$JS.API.DIRECT.GET.EVENTS", "all", b"", batch.as_bytes());
    let mut messages = BTreeMap::new();
    loop {
        let message = client.read_message();
        let headers = String::from_utf8_lossy(&message.headers).into_owned();
        if headers.starts_with("NATS/1.0 ") {
            assert!(headers.starts_with("NATS/1.0 204"), "{headers}");
            return messages;
        }
        let sequence = headers
            .lines()
            .find_map(|line| line.strip_prefix("Nats-Sequence: "))
            .and_then(|text| text.trim().parse().ok())
            .unwrap();
        messages.insert(sequence, message.text());
    }
}

/// No batch in part: its messages stand next to each other, all of them or none.
fn assert_batches_are_whole(messages: &BTreeMap<u64, String>) {
    let mut found: BTreeMap<&str, Vec<(u64, &str)>> = BTreeMap::new();
    for (sequence, payload) in messages {
        if let Some((id, number)) = payload.split_once('/') {
            found.entry(id).or_default().push((*sequence, number));
        }
    }
    for (id, parts) in found {
        let numbers: Vec<&str> = parts.iter().map(|(_, number)| *number).collect();
        let expected: Vec<String> = (1..=BATCH_MESSAGES)
            .map(|number| number.to_string())
            .collect();
        assert_eq!(numbers, expected, "batch {id} is there in part");
        assert_eq!(
            parts[parts.len() - 1].0 - parts[0].0,
            BATCH_MESSAGES - 1,
            "batch {id} has gaps"
        );
    }
}

// proves: JS-BAT-01, JS-BAT-04
#[test]
fn what_was_acknowledged_survives_kill_9_and_no_batch_is_left_in_part() {
    let mut server = Server::jetstream();
    let mut client = RawClient::ready(&server.address);
    let created = client
        .request(
            "$JS.API.STREAM.CREATE.EVENTS",
            br#"{"name":"EVENTS","subjects":["events"],"allow_atomic":true,"allow_direct":true}"#,
        )
        .json();
    assert!(created.get("error").is_none(), "{created}");
    drop(client);
    let mut acknowledged = Acknowledged::new();
    for round in 0..KILLS {
        acknowledged.extend(load_and_kill(&mut server, round));
        server = server.restart(ServerBuilder::millrace().jetstream());
        wait_for("JetStream to answer", || {
            let mut client = RawClient::ready(&server.address);
            let answer = client.request("$JS.API.STREAM.INFO.EVENTS", b"");
            (!answer.payload.is_empty()).then_some(())
        });
        let messages = read_back(&server);
        for (name, (sequence, count)) in &acknowledged {
            let payload = messages.get(sequence).map(String::as_str);
            let expected = if *count == 1 {
                name.clone()
            } else {
                format!("{name}/{BATCH_MESSAGES}")
            };
            assert_eq!(
                payload,
                Some(expected.as_str()),
                "acknowledged {name} at {sequence}"
            );
        }
        assert_batches_are_whole(&messages);
    }
    assert!(acknowledged.len() as u64 >= KILLS * ACKNOWLEDGED_MIN / 2);
}
