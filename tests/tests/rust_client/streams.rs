//! Streams: management, publishing, reading single messages.

use async_nats::HeaderMap;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use futures_util::TryStreamExt as _;

use super::harness::{restarted, with_client, with_server};
use millrace_tests::Server;

fn config(name: &str, subject: &str) -> Config {
    Config {
        name: name.to_owned(),
        subjects: vec![subject.to_owned()],
        ..Config::default()
    }
}

// proves: JS-STR-08, JS-STR-09, JS-STR-10, JS-STR-18
#[test]
fn streams_are_made_changed_listed_purged_and_deleted() {
    with_client(async |_, context| {
        for storage in [StorageType::File, StorageType::Memory] {
            let name = format!("S{storage:?}");
            let subject = format!("{name}.>");
            let stream = context
                .create_stream(Config {
                    storage,
                    ..config(&name, &subject)
                })
                .await
                .unwrap();
            for number in 1..=5u64 {
                let ack = context
                    .publish(format!("{name}.a"), "m".into())
                    .await
                    .unwrap();
                assert_eq!(ack.await.unwrap().sequence, number);
            }
            let mut updated = stream.get_info().await.unwrap().config;
            updated.max_messages = 3;
            updated.discard = DiscardPolicy::Old;
            context.update_stream(updated).await.unwrap();
            let info = stream.get_info().await.unwrap();
            assert_eq!((info.state.messages, info.state.first_sequence), (3, 3));
            assert_eq!(stream.purge().keep(1).await.unwrap().purged, 2);
        }
        let mut names: Vec<String> = context.stream_names().try_collect().await.unwrap();
        names.sort();
        assert_eq!(names, ["SFile", "SMemory"]);
        assert!(context.delete_stream("SFile").await.unwrap().success);
        assert!(context.get_stream("SFile").await.is_err());
    });
}

// proves: JS-PUB-01, JS-PUB-02, JS-PUB-03
#[test]
fn publishes_are_deduplicated_and_refused_when_their_expectation_fails() {
    with_client(async |_, context| {
        context.create_stream(config("S", "s")).await.unwrap();
        let publish = async |id: &str, expected: Option<u64>| {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", id);
            if let Some(sequence) = expected {
                headers.insert("Nats-Expected-Last-Sequence", sequence.to_string().as_str());
            }
            context
                .publish_with_headers("s", headers, "m".into())
                .await
                .unwrap()
                .await
        };
        assert!(!publish("one", None).await.unwrap().duplicate);
        assert!(publish("one", None).await.unwrap().duplicate);
        let error = publish("two", Some(7)).await.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::WrongLastSequence);
        assert_eq!(publish("two", Some(1)).await.unwrap().sequence, 2);
    });
}

// proves: JS-DG-01, JS-STR-11, JS-STR-12
#[test]
fn single_messages_are_read_and_deleted() {
    with_client(async |_, context| {
        let stream = context
            .create_stream(Config {
                allow_direct: true,
                ..config("S", "s.*")
            })
            .await
            .unwrap();
        for subject in ["s.a", "s.b", "s.a"] {
            context
                .publish(subject, subject.into())
                .await
                .unwrap()
                .await
                .unwrap();
        }
        assert_eq!(
            stream.get_raw_message(2).await.unwrap().subject.as_str(),
            "s.b"
        );
        assert_eq!(
            stream
                .get_last_raw_message_by_subject("s.a")
                .await
                .unwrap()
                .sequence,
            3
        );
        assert_eq!(&stream.direct_get(1).await.unwrap().payload[..], b"s.a");
        assert_eq!(
            stream
                .direct_get_last_for_subject("s.b")
                .await
                .unwrap()
                .sequence,
            2
        );
        assert!(stream.delete_message(2).await.unwrap());
        assert!(stream.get_raw_message(2).await.is_err());
    });
}

// proves: JS-ST-01
#[test]
fn acknowledged_messages_are_there_after_the_server_was_killed() {
    let server = Server::jetstream();
    with_server(&server, async |_, context| {
        context.create_stream(config("S", "s")).await.unwrap();
        for _ in 0..50 {
            context
                .publish("s", "m".into())
                .await
                .unwrap()
                .await
                .unwrap();
        }
    });
    let server = restarted(server);
    with_server(&server, async |_, context| {
        let info = context
            .get_stream("S")
            .await
            .unwrap()
            .get_info()
            .await
            .unwrap();
        assert_eq!((info.state.messages, info.state.last_sequence), (50, 50));
    });
}
