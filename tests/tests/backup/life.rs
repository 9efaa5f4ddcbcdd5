//! The life of a stream that has everything a backup must keep, and what clients see of it.

use async_nats::Client;
use async_nats::jetstream::{self, AckKind};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::harness::{api, ok, publish};

pub(crate) const MESSAGES: u64 = 60;

pub(crate) fn config(name: &str, storage: &str) -> Value {
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
pub(crate) async fn fill(client: &Client, storage: &str) {
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
pub(crate) async fn seen(client: &Client, stream: &str) -> Value {
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
