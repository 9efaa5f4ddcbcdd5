//! From one server to another, messages and consumers as they were.

use async_nats::Client;
use async_nats::jetstream::{self, AckKind};
use futures_util::StreamExt as _;
use millrace_tests::packages::reference_binary;
use millrace_tests::{Server, ServerBuilder};
use serde_json::{Value, json};

use crate::harness::{api, ok, publish, restore, run, snapshot};

const MESSAGES: u64 = 60;

fn config(name: &str, storage: &str) -> Value {
    json!({
        "name": name,
        "subjects": [format!("{name}.>"), "s.>"],
        "storage": storage,
        "num_replicas": 1,
        "allow_msg_ttl": true,
        "allow_direct": true,
    })
}

/// A stream with everything that a backup must keep.
async fn fill(client: &Client, storage: &str) {
    ok(client, "STREAM.CREATE.S", config("S", storage)).await;
    let binary: Vec<u8> = (0..=255).collect();
    for number in 1..=MESSAGES {
        let subject = format!("s.{}", number % 7);
        match number % 5 {
            0 => {
                publish(
                    client,
                    &subject,
                    &[("A", "b"), ("Nats-Msg-Id", &number.to_string())],
                    b"",
                )
                .await
            }
            1 => {
                publish(
                    client,
                    &subject,
                    &[("Nats-TTL", "1h")],
                    b"with a time to live",
                )
                .await
            }
            2 => publish(client, &subject, &[], &binary).await,
            _ => {
                publish(
                    client,
                    &subject,
                    &[],
                    format!("message {number}").as_bytes(),
                )
                .await
            }
        }
    }
    for sequence in [1, 2, 17, 18, 19, 40] {
        let request = json!({"seq": sequence, "no_erase": sequence % 2 == 0});
        ok(client, "STREAM.MSG.DELETE.S", request).await;
    }
    consume(client).await;
    // The end of a stream can be a gap, too.
    let last = ok(client, "STREAM.INFO.S", Value::Null).await["state"]["last_seq"].clone();
    ok(client, "STREAM.MSG.DELETE.S", json!({"seq": last})).await;
}

async fn create_consumer(client: &Client, name: &str, mut config: Value) {
    config["name"] = json!(name);
    config["durable_name"] = json!(name);
    let request = json!({"stream_name": "S", "config": config});
    ok(client, &format!("CONSUMER.CREATE.S.{name}"), request).await;
}

/// Consumers in the middle of their work: acknowledged here and there, redelivered, filtered.
async fn consume(client: &Client) {
    let wait = 600_000_000_000u64;
    let explicit = json!({"ack_policy": "explicit", "ack_wait": wait});
    create_consumer(client, "EXPLICIT", explicit).await;
    let all = json!({"ack_policy": "all", "ack_wait": wait, "filter_subject": "s.3"});
    create_consumer(client, "ALL", all).await;
    create_consumer(client, "IDLE", json!({"ack_policy": "none"})).await;
    let context = jetstream::new(client.clone());
    let stream = context.get_stream_no_info("S").await.unwrap();
    for (name, count) in [("EXPLICIT", 20), ("ALL", 4)] {
        let consumer: jetstream::consumer::PullConsumer = stream.get_consumer(name).await.unwrap();
        let mut messages = consumer
            .fetch()
            .max_messages(count)
            .messages()
            .await
            .unwrap();
        let mut number = 0;
        while let Some(message) = messages.next().await {
            let message = message.unwrap();
            number += 1;
            match (name, number) {
                ("EXPLICIT", 1 | 2 | 5 | 9) | ("ALL", 2) => message.double_ack().await.unwrap(),
                ("EXPLICIT", 3 | 7) => message.ack_with(AckKind::Nak(None)).await.unwrap(),
                _ => {}
            }
        }
        if name == "EXPLICIT" {
            // What was refused comes again and stays open.
            let mut again = consumer.fetch().max_messages(2).messages().await.unwrap();
            while let Some(message) = again.next().await {
                message.unwrap();
            }
        }
    }
}

/// All that clients can see of a stream.
async fn seen(client: &Client, stream: &str) -> Value {
    let mut messages = Vec::new();
    for sequence in 0..=MESSAGES + 1 {
        let call = format!("STREAM.MSG.GET.{stream}");
        messages.push(api(client, &call, json!({"seq": sequence})).await["message"].clone());
    }
    let call = format!("STREAM.INFO.{stream}");
    let info = ok(client, &call, json!({"deleted_details": true})).await;
    let mut state = info["state"].clone();
    // The reference forgets the time of a last message that was deleted.
    state.as_object_mut().unwrap().remove("last_ts");
    let mut consumers = Vec::new();
    for name in ["ALL", "EXPLICIT", "IDLE"] {
        let mut info = ok(
            client,
            &format!("CONSUMER.INFO.{stream}.{name}"),
            Value::Null,
        )
        .await;
        for place in ["delivered", "ack_floor"] {
            info[place].as_object_mut().unwrap().remove("last_active");
        }
        let kept = |field: &str| (field.to_owned(), info[field].clone());
        let fields = [
            "delivered",
            "ack_floor",
            "num_ack_pending",
            "num_redelivered",
            "num_pending",
        ];
        let mut shown = serde_json::Map::from_iter(fields.map(kept));
        for field in ["ack_policy", "ack_wait", "filter_subject", "durable_name"] {
            shown.insert(field.to_owned(), info["config"][field].clone());
        }
        consumers.push(Value::Object(shown));
    }
    json!({"messages": messages, "state": state, "consumers": consumers})
}

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
