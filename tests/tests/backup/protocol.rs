//! Chunks, windows, refusals and events.

use std::time::Duration;

use async_nats::{Client, Subscriber};
use futures_util::StreamExt as _;
use millrace_tests::{Server, ServerBuilder};
use serde_json::{Value, json};

use crate::harness::{api, begin_restore, ok, publish, restore, run, snapshot};

async fn client_of(server: &Server) -> Client {
    async_nats::connect(server.url()).await.unwrap()
}

/// Bytes that do not get smaller by packing.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

async fn fill(client: &Client, messages: u64) {
    let config = json!({"name": "S", "subjects": ["s"], "num_replicas": 1});
    ok(client, "STREAM.CREATE.S", config).await;
    for number in 0..messages {
        publish(client, "s", &[], &noise(20_000, number)).await;
    }
}

// proves: JS-BK-01
#[test]
fn only_a_window_of_chunks_goes_before_acknowledgements_come() {
    let server = Server::jetstream();
    run(async {
        let client = client_of(&server).await;
        fill(&client, 40).await;
        let mut chunks = client.subscribe("here").await.unwrap();
        let request =
            json!({"deliver_subject": "here", "chunk_size": 65536, "window_size": 200_000});
        ok(&client, "STREAM.SNAPSHOT.S", request).await;
        for number in 1..=3 {
            let chunk = chunks.next().await.unwrap();
            let reply = chunk.reply.unwrap();
            assert_eq!(chunk.payload.len(), 65536);
            assert!(reply.ends_with(&format!(".65536.{number}")), "{reply}");
            assert!(reply.starts_with("$JS.SNAPSHOT.ACK.S."), "{reply}");
        }
        // Nobody answers: it is given up, and says so.
        let end = chunks.next().await.unwrap();
        assert_eq!(end.status.map(|status| status.as_u16()), Some(408));
        assert_eq!(end.description.as_deref(), Some("No Flow Response"));
        let taken = snapshot(&client, "S", json!({"chunk_size": 65536})).await;
        assert_eq!((taken.chunks.len(), taken.status), (13, Some(204)));
    });
}

// proves: JS-BK-01
#[test]
fn a_snapshot_shows_the_stream_as_it_was_when_it_was_asked_for() {
    let server = Server::jetstream();
    run(async {
        let client = client_of(&server).await;
        fill(&client, 30).await;
        let mut chunks = client.subscribe("here").await.unwrap();
        let request = json!({"deliver_subject": "here", "chunk_size": 65536, "window_size": 65536});
        ok(&client, "STREAM.SNAPSHOT.S", request).await;
        let mut data = Vec::new();
        while let Some(chunk) = chunks.next().await {
            data.extend_from_slice(&chunk.payload);
            // Meanwhile the stream goes on.
            publish(&client, "s", &[], b"later").await;
            match chunk.reply {
                Some(reply) => client.publish(reply, "".into()).await.unwrap(),
                None if chunk.payload.is_empty() => break,
                None => {}
            }
        }
        let config = json!({"name": "T", "subjects": ["t"], "num_replicas": 1});
        let answer = restore(&client, &config, &data, 1 << 17).await;
        assert_eq!(answer["state"]["messages"], 30);
        assert_eq!(answer["state"]["last_seq"], 30);
    });
}

// proves: JS-BK-01 JS-BK-02
#[test]
fn requests_are_checked() {
    let server = Server::jetstream();
    run(async {
        let client = client_of(&server).await;
        fill(&client, 1).await;
        for (call, body, code) in [
            ("STREAM.SNAPSHOT.S", json!({}), 10003),
            (
                "STREAM.SNAPSHOT.NONE",
                json!({"deliver_subject": "x"}),
                10059,
            ),
            (
                "STREAM.SNAPSHOT.S",
                json!({"deliver_subject": "x.*"}),
                10015,
            ),
            ("STREAM.SNAPSHOT.S", json!({"deliver_subject": ""}), 10015),
            ("STREAM.RESTORE.R", Value::Null, 10003),
            ("STREAM.RESTORE.S", json!({"config": {"name": "S"}}), 10130),
            ("STREAM.RESTORE.R", json!({"config": {"name": "Q"}}), 10056),
            (
                "STREAM.RESTORE.R",
                json!({"config": {"name": "R", "max_bytes": 1u64 << 60}}),
                10047,
            ),
        ] {
            let answer = api(&client, call, body.clone()).await;
            assert_eq!(answer["error"]["err_code"], code, "{call} {body}: {answer}");
        }
    });
}

// proves: JS-BK-02
#[test]
fn an_account_without_room_takes_no_backup() {
    let config = "accounts { A { jetstream { max_file: 1MB, max_mem: 1MB }, users: [{user: a, password: a}] },
        B { jetstream: enabled, users: [{user: b, password: b}] } }";
    let server = ServerBuilder::millrace().jetstream().config(config).start();
    run(async {
        let login = |user: &str| {
            let options =
                async_nats::ConnectOptions::with_user_and_password(user.into(), user.into());
            options.connect(server.url())
        };
        let rich = login("b").await.unwrap();
        fill(&rich, 100).await;
        let taken = snapshot(&rich, "S", json!({})).await;
        let poor = login("a").await.unwrap();
        let config = json!({"name": "T", "subjects": ["t"], "num_replicas": 1});
        let answer = restore(&poor, &config, &taken.data, 1 << 17).await;
        assert_eq!(answer["error"]["err_code"], 10002, "{answer}");
        assert_eq!(ok(&poor, "STREAM.NAMES", Value::Null).await["total"], 0);
    });
}

async fn event(events: &mut Subscriber, verb: &str) -> Value {
    loop {
        let event = events.next().await.unwrap();
        if event.subject.contains(verb) {
            return serde_json::from_slice(&event.payload).unwrap();
        }
    }
}

// proves: JS-EV-04 JS-BK-01
#[test]
fn snapshots_and_restores_are_told_of() {
    let server = Server::jetstream();
    run(async {
        let client = client_of(&server).await;
        fill(&client, 3).await;
        let mut events = client
            .subscribe("$JS.EVENT.ADVISORY.STREAM.>")
            .await
            .unwrap();
        let taken = snapshot(&client, "S", json!({})).await;
        let create = event(&mut events, "SNAPSHOT_CREATE.S").await;
        assert_eq!(
            create["type"],
            "io.nats.jetstream.advisory.v1.snapshot_create"
        );
        assert_eq!(create["state"]["messages"], 3);
        assert_eq!(create["client"]["acc"], "$G");
        let complete = event(&mut events, "SNAPSHOT_COMPLETE.S").await;
        assert!(complete["error"].is_null() && complete["start"].is_string());
        let config = json!({"name": "T", "subjects": ["t"], "num_replicas": 1});
        restore(&client, &config, &taken.data, 1 << 17).await;
        event(&mut events, "RESTORE_CREATE.T").await;
        let complete = event(&mut events, "RESTORE_COMPLETE.T").await;
        assert_eq!(complete["bytes"], taken.data.len());
        assert_eq!(
            event(&mut events, "STREAM.CREATED.T").await["action"],
            "create"
        );
        // Nobody listens.
        ok(
            &client,
            "STREAM.SNAPSHOT.S",
            json!({"deliver_subject": "nobody"}),
        )
        .await;
        let complete = event(&mut events, "SNAPSHOT_COMPLETE.S").await;
        assert_eq!(complete["error"], "no interest");
    });
}

// proves: JS-BK-02
#[test]
fn a_restore_without_chunks_is_given_up_and_leaves_nothing() {
    let server = Server::jetstream();
    run(async {
        let client = client_of(&server).await;
        let mut events = client
            .subscribe("$JS.EVENT.ADVISORY.STREAM.RESTORE_COMPLETE.T")
            .await
            .unwrap();
        let config = json!({"name": "T", "subjects": ["t"], "num_replicas": 1});
        let subject = begin_restore(&client, &config).await;
        tokio::time::timeout(Duration::from_secs(20), events.next())
            .await
            .unwrap();
        // Its subject is gone with it.
        let late = client.request(subject, "x".into()).await;
        assert!(late.is_err(), "{late:?}");
        ok(&client, "STREAM.CREATE.T", config).await;
    });
}

// proves: JS-BK-02
#[test]
fn a_restore_that_a_crash_ends_leaves_nothing() {
    let server = Server::jetstream();
    let config = json!({"name": "T", "subjects": ["t"], "num_replicas": 1});
    run(async {
        let client = client_of(&server).await;
        fill(&client, 40).await;
        let taken = snapshot(&client, "S", json!({})).await;
        let subject = begin_restore(&client, &config).await;
        for piece in taken.data[..taken.data.len() / 2].chunks(1 << 16) {
            let piece = bytes::Bytes::copy_from_slice(piece);
            client.request(subject.clone(), piece).await.unwrap();
        }
        // Not there for anybody, not even half.
        assert_eq!(ok(&client, "STREAM.NAMES", Value::Null).await["total"], 1);
    });
    let server = server.restart(ServerBuilder::millrace().jetstream());
    run(async {
        let client = client_of(&server).await;
        assert_eq!(ok(&client, "STREAM.NAMES", Value::Null).await["total"], 1);
        ok(&client, "STREAM.CREATE.T", config.clone()).await;
        let info = ok(&client, "INFO", Value::Null).await;
        assert_eq!(info["streams"], 2);
        let one = ok(&client, "STREAM.INFO.S", Value::Null).await;
        assert_eq!(info["storage"], one["state"]["bytes"]);
    });
}
