//! Streams with `compression: s2`: what is on the disk is smaller, and nobody notices otherwise.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

#[allow(dead_code)] // not every test program uses all of it
#[path = "backup/harness.rs"]
mod harness;

use std::fs;
use std::path::Path;

use async_nats::Client;
use data_encoding::BASE64;
use millrace_tests::server::wait_for;
use millrace_tests::{Server, ServerBuilder, fresh_folder};
use serde_json::{Value, json};

use crate::harness::{api, ok, publish, restore, run, snapshot};

const MESSAGES: u64 = 3000;
/// Bytes that no compressor makes smaller, and that stand nowhere else.
const SECRET: &str = "q9XvB3nLw7ZtK1sR8mYcH5jD2fGp4aVeU6oTiN0bQxJhWkSyMz";

fn config(name: &str, compression: &str) -> Value {
    json!({
        "name": name, "subjects": [format!("{name}.>")], "storage": "file", "compression": compression,
    })
}

fn text(number: u64) -> String {
    format!(
        "message {number:06}: {}",
        "all work and no play ".repeat(20)
    )
}

async fn fill(client: &Client, stream: &str) {
    for number in 1..=MESSAGES {
        let subject = format!("{stream}.{}", number % 7);
        if number % 100 == 0 {
            publish(client, &subject, &[], text(number).as_bytes()).await;
        } else {
            let body = text(number).into();
            client.publish(subject, body).await.unwrap();
        }
    }
}

async fn get(client: &Client, stream: &str, sequence: u64) -> Vec<u8> {
    let call = format!("STREAM.MSG.GET.{stream}");
    let found = ok(client, &call, json!({"seq": sequence})).await;
    let data = found["message"]["data"].as_str().unwrap();
    BASE64.decode(data.as_bytes()).unwrap()
}

async fn check_all(client: &Client, stream: &str) {
    // Scattered first, then in order.
    for step in 0..100 {
        let sequence = 1 + step * 7919 % MESSAGES;
        assert_eq!(
            get(client, stream, sequence).await,
            text(sequence).as_bytes()
        );
    }
    for sequence in (1..=MESSAGES).step_by(5) {
        assert_eq!(
            get(client, stream, sequence).await,
            text(sequence).as_bytes()
        );
    }
}

async fn state(client: &Client, stream: &str) -> Value {
    ok(client, &format!("STREAM.INFO.{stream}"), Value::Null).await["state"].clone()
}

/// Segment files of all streams.
fn segments(server_folder: &Path) -> Vec<Vec<u8>> {
    let streams = server_folder.join("store/millrace/streams");
    let mut found = Vec::new();
    for stream in fs::read_dir(streams).into_iter().flatten().flatten() {
        for file in fs::read_dir(stream.path()).unwrap().flatten() {
            if file
                .path()
                .extension()
                .is_some_and(|ending| ending == "seg")
            {
                found.extend(fs::read(file.path()).ok());
            }
        }
    }
    found
}

/// Ends the server in order, which moves everything to segments, and starts it again.
fn restart_in_order(mut server: Server, folder: &Path) -> Server {
    server.signal("TERM");
    server.wait();
    drop(server);
    ServerBuilder::millrace().jetstream().folder(folder).start()
}

// proves: JS-STR-25
#[test]
fn what_is_compressed_is_smaller_on_the_disk_and_the_same_over_the_wire() {
    let folder = fresh_folder("compression");
    let server = ServerBuilder::millrace()
        .jetstream()
        .folder(&folder)
        .start();
    let mut before = Value::Null;
    run(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        let made = ok(&client, "STREAM.CREATE.C", config("C", "s2")).await;
        assert_eq!(made["config"]["compression"], "s2");
        fill(&client, "C").await;
        before = state(&client, "C").await;
    });
    let server = restart_in_order(server, &folder);
    let stored: usize = segments(&folder).iter().map(Vec::len).sum();
    let counted = before["bytes"].as_u64().unwrap() as usize;
    assert!(counted > 1_000_000, "{before}");
    assert!(stored > 0 && stored * 5 < counted, "{stored} of {counted}");
    run(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        assert_eq!(state(&client, "C").await, before);
        check_all(&client, "C").await;
        // A backup is what an uncompressed stream would give, and comes back.
        let taken = snapshot(&client, "C", json!({})).await;
        ok(&client, "STREAM.DELETE.C", Value::Null).await;
        let back = restore(&client, &taken.answer["config"], &taken.data, 64 << 10).await;
        assert_eq!(back["config"]["compression"], "s2", "{back}");
        check_all(&client, "C").await;
    });
    drop(server);
    fs::remove_dir_all(folder).unwrap();
}

// proves: JS-STR-25
#[test]
fn compression_is_switched_while_messages_are_there_and_survives_a_kill() {
    let folder = fresh_folder("compression");
    let mut server = ServerBuilder::millrace()
        .jetstream()
        .folder(&folder)
        .start();
    run(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        ok(&client, "STREAM.CREATE.C", config("C", "none")).await;
        fill(&client, "C").await;
        let changed = ok(&client, "STREAM.UPDATE.C", config("C", "s2")).await;
        assert_eq!(changed["config"]["compression"], "s2");
        let refused = api(&client, "STREAM.UPDATE.C", config("C", "zstd")).await;
        assert_eq!(refused["error"]["err_code"], 10025, "{refused}");
    });
    server = restart_in_order(server, &folder);
    for compression in ["none", "s2", "none"] {
        run(async {
            let client = async_nats::connect(server.url()).await.unwrap();
            check_all(&client, "C").await;
            for _ in 0..500 {
                publish(&client, "C.more", &[], text(0).as_bytes()).await;
            }
            let changed = ok(&client, "STREAM.UPDATE.C", config("C", compression)).await;
            assert_eq!(changed["config"]["compression"], compression);
        });
        server.kill();
        server = ServerBuilder::millrace()
            .jetstream()
            .folder(&folder)
            .start();
        server = restart_in_order(server, &folder);
    }
    run(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        assert_eq!(state(&client, "C").await["messages"], MESSAGES + 1500);
        check_all(&client, "C").await;
    });
    drop(server);
    fs::remove_dir_all(folder).unwrap();
}

// proves: JS-STR-25
#[test]
fn a_message_erased_in_a_compressed_segment_leaves_no_copy_in_any() {
    let folder = fresh_folder("compression");
    let server = ServerBuilder::millrace()
        .jetstream()
        .folder(&folder)
        .start();
    run(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        ok(&client, "STREAM.CREATE.C", config("C", "s2")).await;
        fill(&client, "C").await;
        publish(&client, "C.secret", &[], SECRET.as_bytes()).await;
        publish(&client, "C.more", &[], b"behind it").await;
    });
    let server = restart_in_order(server, &folder);
    let holds = || {
        let files = segments(&folder);
        let secret = SECRET.as_bytes();
        files
            .iter()
            .any(|file| file.windows(secret.len()).any(|window| window == secret))
    };
    assert!(holds());
    run(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        let delete = json!({"seq": MESSAGES + 1});
        ok(&client, "STREAM.MSG.DELETE.C", delete).await;
        wait_for("the secret to be gone", || (!holds()).then_some(()));
        check_all(&client, "C").await;
        assert_eq!(get(&client, "C", MESSAGES + 2).await, b"behind it");
    });
    let server = restart_in_order(server, &folder);
    run(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        check_all(&client, "C").await;
    });
    drop(server);
    fs::remove_dir_all(folder).unwrap();
}
