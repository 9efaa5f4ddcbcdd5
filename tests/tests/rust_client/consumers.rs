//! Consumers: pull, push, ordered, acknowledgements, state over a restart.

use std::time::Duration;

use async_nats::jetstream::consumer::{
    AckPolicy, Consumer, DeliverPolicy, OrderedPullConsumer, OrderedPushConsumer, PullConsumer,
    PushConsumer, pull, push,
};
use async_nats::jetstream::stream::{Config, Stream};
use async_nats::jetstream::{AckKind, Context};
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::harness::{restarted, with_client, with_server};
use millrace_tests::Server;

async fn stream_with(context: &Context, count: u64) -> Stream {
    let config = Config {
        name: "S".to_owned(),
        subjects: vec!["s.>".to_owned()],
        ..Config::default()
    };
    let stream = context.create_stream(config).await.unwrap();
    for number in 1..=count {
        let subject = if number % 2 == 0 { "s.even" } else { "s.odd" };
        context
            .publish(subject, number.to_string().into())
            .await
            .unwrap()
            .await
            .unwrap();
    }
    stream
}

fn durable(name: &str) -> pull::Config {
    pull::Config {
        durable_name: Some(name.to_owned()),
        ack_policy: AckPolicy::Explicit,
        ..pull::Config::default()
    }
}

fn text(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload).into_owned()
}

// proves: JS-CON-01, JS-CON-14, JS-CON-17, JS-CON-19
#[test]
fn fetch_batch_and_endless_streams_read_every_message_once() {
    with_client(async |_, context| {
        let stream = stream_with(&context, 30).await;
        let consumer: PullConsumer = stream.create_consumer(durable("C")).await.unwrap();
        let mut read = Vec::new();
        let mut fetched = consumer.fetch().max_messages(10).messages().await.unwrap();
        while let Some(message) = fetched.next().await {
            let message = message.unwrap();
            message.double_ack().await.unwrap();
            read.push(text(&message.payload));
        }
        let mut batch = consumer
            .batch()
            .max_messages(10)
            .expires(Duration::from_secs(5))
            .messages()
            .await
            .unwrap();
        while let Some(message) = batch.next().await {
            let message = message.unwrap();
            message.ack().await.unwrap();
            read.push(text(&message.payload));
        }
        let mut endless = consumer.messages().await.unwrap().take(10);
        while let Some(message) = endless.next().await {
            let message = message.unwrap();
            assert_eq!(message.info().unwrap().delivered, 1);
            message.ack().await.unwrap();
            read.push(text(&message.payload));
        }
        let expected: Vec<String> = (1..=30).map(|number: u32| number.to_string()).collect();
        assert_eq!(read, expected);
    });
}

// proves: JS-CON-05, JS-CON-06, JS-CON-07
#[test]
fn filters_policies_and_info() {
    with_client(async |_, context| {
        let stream = stream_with(&context, 10).await;
        let consumer: PullConsumer = stream
            .create_consumer(pull::Config {
                filter_subjects: vec!["s.even".to_owned(), "s.none".to_owned()],
                deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: 5 },
                ..durable("C")
            })
            .await
            .unwrap();
        assert_eq!(consumer.get_info().await.unwrap().num_pending, 3);
        let messages = consumer.fetch().max_messages(10).messages().await.unwrap();
        let messages: Vec<_> = messages.try_collect().await.unwrap();
        let read: Vec<String> = messages
            .iter()
            .map(|message| text(&message.payload))
            .collect();
        assert_eq!(read, ["6", "8", "10"]);
        let info = consumer.get_info().await.unwrap();
        assert_eq!(
            (
                info.num_ack_pending,
                info.num_pending,
                info.delivered.stream_sequence
            ),
            (3, 0, 10)
        );
        let names: Vec<String> = stream.consumer_names().try_collect().await.unwrap();
        assert_eq!(names, ["C"]);
        stream.delete_consumer("C").await.unwrap();
        assert!(stream.get_consumer::<pull::Config>("C").await.is_err());
    });
}

// proves: JS-CON-18, JS-CON-20
#[test]
fn nak_progress_term_and_ack_wait_redeliver_as_asked() {
    with_client(async |_, context| {
        let stream = stream_with(&context, 4).await;
        let consumer: PullConsumer = stream
            .create_consumer(pull::Config {
                ack_wait: Duration::from_millis(400),
                max_deliver: 2,
                ..durable("C")
            })
            .await
            .unwrap();
        let mut messages = consumer.messages().await.unwrap();
        for kind in [
            AckKind::Nak(None),
            AckKind::Nak(Some(Duration::from_millis(50))),
            AckKind::Term,
        ] {
            messages
                .next()
                .await
                .unwrap()
                .unwrap()
                .ack_with(kind)
                .await
                .unwrap();
        }
        let mut redelivered = Vec::new();
        while redelivered.len() < 3 {
            let message = messages.next().await.unwrap().unwrap();
            let info = message.info().unwrap();
            if info.delivered == 2 {
                redelivered.push(text(&message.payload));
                message.ack().await.unwrap();
            }
        }
        redelivered.sort();
        assert_eq!(redelivered, ["1", "2", "4"]);
    });
}

// proves: JS-CON-08, JS-CON-09, JS-CON-10
#[test]
fn push_consumers_deliver_with_heartbeats_and_flow_control() {
    with_client(async |client, context| {
        let stream = stream_with(&context, 0).await;
        let consumer: PushConsumer = stream
            .create_consumer(push::Config {
                deliver_subject: client.new_inbox(),
                durable_name: Some("P".to_owned()),
                ack_policy: AckPolicy::Explicit,
                flow_control: true,
                idle_heartbeat: Duration::from_millis(500),
                ..push::Config::default()
            })
            .await
            .unwrap();
        let mut messages = consumer.messages().await.unwrap();
        let payload = "x".repeat(100_000);
        for _ in 0..100 {
            context
                .publish("s.big", payload.clone().into())
                .await
                .unwrap()
                .await
                .unwrap();
        }
        for number in 1..=100 {
            let message = messages.next().await.unwrap().unwrap();
            assert_eq!(message.info().unwrap().stream_sequence, number);
            message.ack().await.unwrap();
        }
    });
}

// proves: JS-CON-33
#[test]
fn ordered_consumers_of_both_kinds_read_everything_in_order() {
    with_client(async |client, context| {
        let stream = stream_with(&context, 500).await;
        let pulled: OrderedPullConsumer = stream
            .create_consumer(pull::OrderedConfig::default())
            .await
            .unwrap();
        let mut messages = pulled.messages().await.unwrap();
        for number in 1..=500 {
            let message = messages.next().await.unwrap().unwrap();
            assert_eq!(message.info().unwrap().stream_sequence, number);
        }
        let config = push::OrderedConfig {
            deliver_subject: client.new_inbox(),
            ..Default::default()
        };
        let pushed: OrderedPushConsumer = stream.create_consumer(config).await.unwrap();
        let mut messages = pushed.messages().await.unwrap();
        for number in 1..=500 {
            let message = messages.next().await.unwrap().unwrap();
            assert_eq!(message.info().unwrap().stream_sequence, number);
        }
    });
}

// proves: JS-CON-34, JS-CON-04
#[test]
fn acknowledgements_and_positions_survive_a_killed_server() {
    let server = Server::jetstream();
    with_server(&server, async |_, context| {
        let stream = stream_with(&context, 10).await;
        let consumer: PullConsumer = stream.create_consumer(durable("C")).await.unwrap();
        let messages = consumer.fetch().max_messages(6).messages().await.unwrap();
        let messages: Vec<_> = messages.try_collect().await.unwrap();
        for message in messages.iter().take(4) {
            message.double_ack().await.unwrap();
        }
    });
    let server = restarted(server);
    with_server(&server, async |_, context| {
        let stream = context.get_stream("S").await.unwrap();
        let mut consumer: Consumer<pull::Config> = stream.get_consumer("C").await.unwrap();
        let info = consumer.info().await.unwrap();
        assert_eq!(
            (
                info.ack_floor.stream_sequence,
                info.delivered.stream_sequence
            ),
            (4, 6)
        );
        assert_eq!((info.num_ack_pending, info.num_pending), (2, 4));
        let messages = consumer.fetch().max_messages(10).messages().await.unwrap();
        let messages: Vec<_> = messages.try_collect().await.unwrap();
        let read: Vec<String> = messages
            .iter()
            .map(|message| text(&message.payload))
            .collect();
        assert_eq!(read, ["7", "8", "9", "10"]);
    });
}

// proves: JS-CON-33, JS-ST-01
#[test]
fn data_beyond_the_memory_budget_is_read_back_from_disk_in_order() {
    const COUNT: u64 = 700;
    let payload = |number: u64| {
        let mut payload = number.to_string().into_bytes();
        payload.resize(100_000, b'x');
        payload
    };
    let read_all = async |client: async_nats::Client, context: Context| {
        let stream = context.get_stream("S").await.unwrap();
        let config = push::OrderedConfig {
            deliver_subject: client.new_inbox(),
            ..Default::default()
        };
        let consumer: OrderedPushConsumer = stream.create_consumer(config).await.unwrap();
        let mut messages = consumer.messages().await.unwrap();
        for number in 1..=COUNT {
            let message = messages.next().await.unwrap().unwrap();
            assert_eq!(message.info().unwrap().stream_sequence, number);
            assert!(message.payload[..] == payload(number)[..]);
        }
    };
    let server = Server::jetstream();
    with_server(&server, async |client, context| {
        stream_with(&context, 0).await;
        for number in 1..=COUNT {
            let publish = context.publish("s.big", payload(number).into()).await;
            publish.unwrap().await.unwrap();
        }
        read_all(client, context).await;
    });
    let server = restarted(server);
    with_server(&server, read_all);
}
