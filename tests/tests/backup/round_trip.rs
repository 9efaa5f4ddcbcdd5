//! From one server to another, messages and consumers as they were.

use millrace_tests::packages::reference_binary;
use millrace_tests::{Server, ServerBuilder};
use serde_json::{Value, json};

use crate::harness::{ok, publish, restore, run, snapshot};
use crate::life::{MESSAGES, config, fill, seen};

async fn goes_from_to(from: &Server, to: &Server, storage: [&str; 2]) {
    let source = async_nats::connect(from.url()).await.unwrap();
    let target = async_nats::connect(to.url()).await.unwrap();
    fill(&source, storage[0]).await;
    let expected = seen(&source, "S").await;
    let taken = snapshot(&source, "S", json!({"chunk_size": 1024})).await;
    assert_eq!(taken.status, Some(204));
    assert_eq!(taken.answer["config"]["name"], "S");
    assert_eq!(
        taken.answer["state"]["messages"],
        expected["state"]["messages"]
    );
    let mut wanted = config("COPY", storage[1]);
    wanted["subjects"] = json!(["other.>"]);
    let answer = restore(&target, &wanted, &taken.data, 700).await;
    assert!(answer.get("error").is_none(), "{answer}");
    assert_eq!(answer["config"]["subjects"], json!(["other.>"]));
    let mut found = seen(&target, "COPY").await;
    if storage[0] != storage[1] {
        // A message counts for more in a file than in memory.
        found["state"]["bytes"] = expected["state"]["bytes"].clone();
    }
    assert_eq!(found, expected, "from {:?}", from.folder());
    // It goes on where it was.
    publish(&target, "other.next", &[], b"next").await;
    let info = ok(&target, "STREAM.INFO.COPY", Value::Null).await;
    assert_eq!(info["state"]["last_seq"], MESSAGES + 1);
}

fn reference() -> Option<Server> {
    Some(
        ServerBuilder::binary(reference_binary()?)
            .jetstream()
            .start(),
    )
}

// proves: JS-BK-01 JS-BK-02 JS-BK-03
#[test]
fn a_backup_of_the_reference_is_restored() {
    let Some(reference) = reference() else { return };
    let ours = Server::jetstream();
    run(goes_from_to(&reference, &ours, ["file", "file"]));
}

// proves: JS-BK-01 JS-BK-02 JS-BK-03
#[test]
fn the_reference_restores_a_backup_of_ours() {
    let Some(reference) = reference() else { return };
    let ours = Server::jetstream();
    run(goes_from_to(&ours, &reference, ["file", "file"]));
}

// proves: JS-BK-01 JS-BK-02
#[test]
fn a_file_stream_becomes_a_memory_stream_and_the_other_way_round() {
    for storage in [["file", "memory"], ["memory", "file"]] {
        let (one, other) = (Server::jetstream(), Server::jetstream());
        run(goes_from_to(&one, &other, storage));
    }
}

// proves: JS-BK-02
#[test]
fn a_restored_stream_outlives_the_server() {
    let server = Server::jetstream();
    let (mut expected, mut found) = (Value::Null, Value::Null);
    run(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        fill(&client, "file").await;
        expected = seen(&client, "S").await;
        let taken = snapshot(&client, "S", json!({})).await;
        ok(&client, "STREAM.DELETE.S", Value::Null).await;
        let answer = restore(&client, &config("S", "file"), &taken.data, 1 << 16).await;
        assert!(answer.get("error").is_none(), "{answer}");
    });
    let server = server.restart(ServerBuilder::millrace().jetstream());
    run(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        found = seen(&client, "S").await;
        // The subjects are the stream's again.
        publish(&client, "s.next", &[], b"next").await;
    });
    assert_eq!(found, expected);
}
