//! Mirrors and sources under what befalls them: kills of the server, other accounts, domains, buckets of
//! the official clients.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use async_nats::jetstream::{self, kv, stream};
use millrace_tests::server::wait_for;
use millrace_tests::{RawClient, Server, ServerBuilder};
use serde_json::{Value, json};

/// Kills of the server; each finds the copies at another moment of their work.
const KILLS: u64 = 4;
/// Messages published before each kill.
const MESSAGES: u64 = 1_500;

fn api(client: &mut RawClient, call: &str, body: &Value) -> Value {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let answer = client.request(&format!("$JS.API.{call}"), body.as_bytes());
    serde_json::from_slice(&answer.payload).unwrap()
}

fn create(client: &mut RawClient, config: &Value) {
    let name = config["name"].as_str().unwrap();
    let answer = api(client, &format!("STREAM.CREATE.{name}"), config);
    assert!(answer.get("error").is_none(), "{answer}");
}

fn last_sequence(client: &mut RawClient, stream: &str) -> u64 {
    let info = api(client, &format!("STREAM.INFO.{stream}"), &Value::Null);
    info["state"]["last_seq"].as_u64().unwrap_or(0)
}

/// Publishes `messages` and waits for the last one's acknowledgement.
fn publish(client: &mut RawClient, subject: &str, messages: u64) -> u64 {
    client.send(b"SUB acks 8\r\n");
    for number in 0..messages {
        client.publish(subject, "acks", b"", format!("{number}").as_bytes());
    }
    let mut last = 0;
    for _ in 0..messages {
        let ack: Value = serde_json::from_slice(&client.read_message().payload).unwrap();
        last = ack["seq"].as_u64().unwrap_or(last);
    }
    client.send(b"UNSUB 8\r\n");
    last
}

/// All messages of a stream: sequence, headers, payload.
fn messages(client: &mut RawClient, stream: &str) -> Vec<(u64, String, Vec<u8>)> {
    let mut found = Vec::new();
    let last = last_sequence(client, stream);
    for sequence in 1..=last {
        let answer = client.request(
            &format!("$JS.API.DIRECT.GET.{stream}"),
            json!({ "seq": sequence }).to_string().as_bytes(),
        );
        let headers = String::from_utf8(answer.headers).unwrap();
        assert!(headers.contains("Nats-Sequence: "), "{sequence}: {headers}");
        found.push((sequence, headers, answer.payload));
    }
    found
}

// proves: JS-MIR-01, JS-SRC-02
#[test]
fn copies_go_on_after_kills_without_loss_and_without_duplicates() {
    let mut server = Server::jetstream();
    let mut client = RawClient::ready(&server.address);
    create(
        &mut client,
        &json!({"name": "O", "subjects": ["o"], "allow_direct": true}),
    );
    create(
        &mut client,
        &json!({"name": "M", "mirror": {"name": "O"}, "allow_direct": true}),
    );
    create(
        &mut client,
        &json!({"name": "S", "subjects": ["s"], "sources": [{"name": "O"}], "allow_direct": true}),
    );
    let mut last = 0;
    for kill in 0..KILLS {
        last = publish(&mut client, "o", MESSAGES);
        if kill % 2 == 1 {
            // Also when the newest copies were deleted: the position is part of the state.
            wait_for("the source", || {
                (last_sequence(&mut client, "S") >= last).then_some(())
            });
            api(&mut client, "STREAM.PURGE.S", &json!({"keep": 10}));
        }
        server = server.restart(ServerBuilder::millrace().jetstream());
        client = RawClient::ready(&server.address);
        wait_for("JetStream", || {
            let answer = client.request("$JS.API.STREAM.INFO.M", b"");
            (!answer.payload.is_empty()).then_some(())
        });
    }
    publish(&mut client, "o", 1);
    last += 1;
    for stream in ["M", "S"] {
        wait_for(stream, || {
            (last_sequence(&mut client, stream) >= last).then_some(())
        });
        assert_eq!(last_sequence(&mut client, stream), last, "{stream}");
    }
    let origin = messages(&mut client, "O");
    let mirror = messages(&mut client, "M");
    assert_eq!(origin.len() as u64, last);
    for (origin, mirror) in origin.iter().zip(&mirror) {
        assert_eq!((origin.0, &origin.2), (mirror.0, &mirror.2));
    }
    // Whatever was purged: the sequences of the origin stand there once each, in order.
    let info = api(&mut client, "STREAM.INFO.S", &Value::Null);
    assert_eq!(info["sources"][0]["seq"], last);
    let first = info["state"]["first_seq"].as_u64().unwrap();
    for sequence in first..=last {
        let body = json!({ "seq": sequence }).to_string();
        let answer = client.request("$JS.API.DIRECT.GET.S", body.as_bytes());
        let headers = String::from_utf8(answer.headers).unwrap();
        let source = headers.split("Nats-Stream-Source: O ").nth(1).unwrap();
        assert_eq!(source.split(' ').next(), Some(&*sequence.to_string()));
    }
}

// proves: JS-SRC-03
#[test]
fn streams_of_another_account_are_copied_through_its_exports() {
    let config = r#"
        accounts {
          A { jetstream: enabled, users: [{user: a, password: a}]
              exports: [{service: "$JS.API.CONSUMER.>", response_type: stream}, {stream: "deliver.>"},
                        {service: "$JS.FC.>", response_type: stream}] }
          B { jetstream: enabled, users: [{user: b, password: b}]
              imports: [{service: {account: A, subject: "$JS.API.CONSUMER.>"}, to: "A.API.CONSUMER.>"},
                        {stream: {account: A, subject: "deliver.>"}},
                        {service: {account: A, subject: "$JS.FC.>"}}] }
        }"#;
    let server = ServerBuilder::millrace().jetstream().config(config).start();
    let connect = |user: &str| {
        let mut client = server.connect();
        client.send(
            format!(
                "CONNECT {{\"verbose\":false,\"headers\":true,\"user\":\"{user}\",\"pass\":\"{user}\"}}\r\n"
            )
            .as_bytes(),
        );
        client
    };
    let (mut one, mut other) = (connect("a"), connect("b"));
    create(&mut one, &json!({"name": "O", "subjects": ["o"]}));
    publish(&mut one, "o", 100);
    let external = json!({"api": "A.API", "deliver": "deliver.b"});
    create(
        &mut other,
        &json!({"name": "M", "mirror": {"name": "O", "external": external}}),
    );
    create(
        &mut other,
        &json!({"name": "S", "sources": [{"name": "O", "external": external}], "allow_direct": true}),
    );
    publish(&mut one, "o", 100);
    for stream in ["M", "S"] {
        wait_for(stream, || {
            (last_sequence(&mut other, stream) == 200).then_some(())
        });
    }
    let (_, headers, _) = &messages(&mut other, "S")[199];
    assert!(
        headers.contains("Nats-Stream-Source: O:4trl36Z3 200 > > o "),
        "{headers}"
    );
}

const DOMAIN: &str = "jetstream { domain: hub }";

// proves: JS-API-11, JS-SRC-03
#[test]
fn a_domain_has_a_prefix_of_its_own() {
    let server = ServerBuilder::millrace().jetstream().config(DOMAIN).start();
    let mut client = RawClient::ready(&server.address);
    create(
        &mut client,
        &json!({"name": "O", "subjects": ["o", "$KV.B.>"]}),
    );
    let ack: Value = serde_json::from_slice(&client.request("o", b"1").payload).unwrap();
    assert_eq!(ack, json!({"stream": "O", "domain": "hub", "seq": 1}));
    let answer = client.request("$JS.hub.API.STREAM.INFO.O", b"");
    let info: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(info["domain"], "hub");
    let info = client.request("$JS.hub.API.INFO", b"");
    let info: Value = serde_json::from_slice(&info.payload).unwrap();
    assert_eq!(info["domain"], "hub");
    let external = json!({"api": "$JS.hub.API", "deliver": ""});
    create(
        &mut client,
        &json!({"name": "M", "mirror": {"name": "O", "external": external}}),
    );
    // Keys are written through the prefix too.
    let ack = client.request("$JS.hub.API.$KV.B.key", b"value").payload;
    let ack: Value = serde_json::from_slice(&ack).unwrap();
    assert_eq!(ack["seq"], 2, "{ack}");
    let body = br#"{"last_by_subj":"$KV.B.key"}"#;
    let answer = client.request("$JS.hub.API.STREAM.MSG.GET.O", body);
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer["message"]["subject"], "$KV.B.key");
    wait_for("the mirror", || {
        (last_sequence(&mut client, "M") == 2).then_some(())
    });
}

fn with_context<F: Future<Output = ()>>(
    server: &Server,
    test: impl FnOnce(jetstream::Context) -> F,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        let context = jetstream::new(client);
        tokio::time::timeout(std::time::Duration::from_secs(60), test(context))
            .await
            .unwrap();
    });
}

// proves: JS-KV-05, JS-MIR-01, JS-MIR-04
#[test]
fn a_bucket_is_mirrored_and_written_through_its_mirror() {
    let server = ServerBuilder::millrace().jetstream().config(DOMAIN).start();
    with_context(&server, async |context| {
        let bucket = kv::Config {
            bucket: "B".to_owned(),
            ..kv::Config::default()
        };
        let origin = context.create_key_value(bucket).await.unwrap();
        origin.put("a", "1".into()).await.unwrap();
        let mirrored = kv::Config {
            bucket: "MIRROR".to_owned(),
            mirror: Some(stream::Source {
                name: "B".to_owned(),
                external: Some(stream::External {
                    api_prefix: "$JS.hub.API".to_owned(),
                    delivery_prefix: None,
                }),
                ..stream::Source::default()
            }),
            ..kv::Config::default()
        };
        let mirror = context.create_key_value(mirrored).await.unwrap();
        // The mirror answers direct gets for its origin too, so both may be a moment behind.
        let becomes = async |store: &kv::Store, key: &str, value: &[u8]| {
            while store.get(key).await.unwrap().as_deref() != Some(value) {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        becomes(&mirror, "a", b"1").await;
        // A write goes to the origin and comes back through the mirror.
        mirror.put("b", "2".into()).await.unwrap();
        becomes(&origin, "b", b"2").await;
        becomes(&mirror, "b", b"2").await;
        origin.delete("a").await.unwrap();
        while mirror.get("a").await.unwrap().is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
}

// proves: JS-KV-05, JS-SRC-01
#[test]
fn a_bucket_takes_the_keys_of_others() {
    let server = Server::jetstream();
    with_context(&server, async |context| {
        for (bucket, key) in [("ONE", "a"), ("TWO", "b")] {
            let config = kv::Config {
                bucket: bucket.to_owned(),
                ..kv::Config::default()
            };
            let store = context.create_key_value(config).await.unwrap();
            store.put(key, bucket.to_owned().into()).await.unwrap();
        }
        let source = |bucket: &str| stream::Source {
            name: format!("KV_{bucket}"),
            subject_transforms: vec![stream::SubjectTransform {
                source: format!("$KV.{bucket}.>"),
                destination: "$KV.ALL.>".to_owned(),
            }],
            ..stream::Source::default()
        };
        let config = stream::Config {
            name: "KV_ALL".to_owned(),
            subjects: vec!["$KV.ALL.>".to_owned()],
            max_messages_per_subject: 1,
            allow_rollup: true,
            allow_direct: true,
            sources: Some(vec![source("ONE"), source("TWO")]),
            ..stream::Config::default()
        };
        context.create_stream(config).await.unwrap();
        let all = context.get_key_value("ALL").await.unwrap();
        all.put("own", "3".into()).await.unwrap();
        for (key, value) in [("a", &b"ONE"[..]), ("b", b"TWO"), ("own", b"3")] {
            while all.get(key).await.unwrap().as_deref() != Some(value) {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    });
}
