//! Core messaging.

use std::time::Duration;

use async_nats::{HeaderMap, RequestErrorKind};
use futures_util::StreamExt as _;

use super::harness::with_client;

// proves: PRO-09, PRO-10, SUB-03
#[test]
fn messages_with_headers_reach_wildcard_and_queue_subscribers() {
    with_client(async |client, _| {
        let mut all = client.subscribe("greet.>").await.unwrap();
        let mut one = client
            .queue_subscribe("greet.*", "q".to_owned())
            .await
            .unwrap();
        client.flush().await.unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("Key", "value");
        client
            .publish_with_headers("greet.joe", headers, "hello".into())
            .await
            .unwrap();
        for subscriber in [&mut all, &mut one] {
            let message = subscriber.next().await.unwrap();
            assert_eq!(message.subject.as_str(), "greet.joe");
            assert_eq!(&message.payload[..], b"hello");
            let headers = message.headers.unwrap();
            assert_eq!(headers.get("Key").unwrap().as_str(), "value");
        }
    });
}

// proves: PRO-19
#[test]
fn requests_are_answered_or_told_that_nobody_listens() {
    with_client(async |client, _| {
        let mut service = client.subscribe("time").await.unwrap();
        let answering = client.clone();
        tokio::join!(
            async {
                let request = service.next().await.unwrap();
                let reply = request.reply.unwrap();
                answering.publish(reply, "now".into()).await.unwrap();
                answering.flush().await.unwrap();
            },
            async {
                let answer = client.request("time", "".into()).await.unwrap();
                assert_eq!(&answer.payload[..], b"now");
            }
        );
        let error = client.request("nobody", "".into()).await.unwrap_err();
        assert_eq!(error.kind(), RequestErrorKind::NoResponders);
    });
}

// proves: SUB-10
#[test]
fn unsubscribe_after_takes_so_many_messages() {
    with_client(async |client, _| {
        let mut subscriber = client.subscribe("a").await.unwrap();
        subscriber.unsubscribe_after(2).await.unwrap();
        for _ in 0..3 {
            client.publish("a", "x".into()).await.unwrap();
        }
        client.flush().await.unwrap();
        assert!(subscriber.next().await.is_some() && subscriber.next().await.is_some());
        let third = tokio::time::timeout(Duration::from_secs(5), subscriber.next()).await;
        assert!(third.unwrap().is_none());
    });
}
