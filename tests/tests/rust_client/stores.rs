//! Key-value buckets and object stores.

use async_nats::jetstream::kv::{self, CreateErrorKind, Operation, UpdateErrorKind};
use async_nats::jetstream::object_store;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::io::AsyncReadExt as _;

use super::harness::with_client;

fn bucket(history: i64) -> kv::Config {
    kv::Config {
        bucket: "B".to_owned(),
        history,
        ..kv::Config::default()
    }
}

// proves: JS-KV-01, JS-KV-02
#[test]
fn keys_are_put_created_updated_and_deleted_with_revisions() {
    with_client(async |_, context| {
        let store = context.create_key_value(bucket(5)).await.unwrap();
        let first = store.put("a", "1".into()).await.unwrap();
        assert_eq!(store.get("a").await.unwrap().as_deref(), Some(&b"1"[..]));
        let second = store.update("a", "2".into(), first).await.unwrap();
        let error = store.update("a", "3".into(), first).await.unwrap_err();
        assert_eq!(error.kind(), UpdateErrorKind::WrongLastRevision);
        let error = store.create("a", "4".into()).await.unwrap_err();
        assert_eq!(error.kind(), CreateErrorKind::AlreadyExists);
        assert_eq!(store.entry("a").await.unwrap().unwrap().revision, second);
        store.delete("a").await.unwrap();
        assert_eq!(store.get("a").await.unwrap(), None);
        store.create("a", "5".into()).await.unwrap();
        let history: Vec<_> = store
            .history("a")
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        let operations: Vec<_> = history.iter().map(|entry| entry.operation).collect();
        assert_eq!(
            operations,
            [
                Operation::Put,
                Operation::Put,
                Operation::Delete,
                Operation::Put
            ]
        );
        store.purge("a").await.unwrap();
        assert_eq!(store.stream.get_info().await.unwrap().state.messages, 1);
        assert_eq!(store.status().await.unwrap().bucket(), "B");
    });
}

// proves: JS-KV-03
#[test]
fn keys_and_watchers_see_current_values_and_changes() {
    with_client(async |_, context| {
        let store = context.create_key_value(bucket(1)).await.unwrap();
        for key in ["x.a", "x.b", "y.c"] {
            store.put(key, key.to_owned().into()).await.unwrap();
        }
        store.delete("x.b").await.unwrap();
        let mut keys: Vec<String> = store.keys().await.unwrap().try_collect().await.unwrap();
        keys.sort();
        assert_eq!(keys, ["x.a", "y.c"]);
        let mut watch = store.watch_with_history("x.>").await.unwrap();
        let entry = watch.next().await.unwrap().unwrap();
        assert_eq!(
            (entry.key.as_str(), entry.operation),
            ("x.a", Operation::Put)
        );
        let entry = watch.next().await.unwrap().unwrap();
        assert_eq!(
            (entry.key.as_str(), entry.operation),
            ("x.b", Operation::Delete)
        );
        store.put("x.d", "new".into()).await.unwrap();
        let entry = watch.next().await.unwrap().unwrap();
        assert_eq!((entry.key.as_str(), &entry.value[..]), ("x.d", &b"new"[..]));
        context.delete_key_value("B").await.unwrap();
        assert!(context.get_key_value("B").await.is_err());
    });
}

// proves: JS-OBJ-01
#[test]
fn objects_are_stored_in_chunks_and_read_back() {
    with_client(async |_, context| {
        let mut store = context
            .create_object_store(object_store::Config {
                bucket: "O".to_owned(),
                ..object_store::Config::default()
            })
            .await
            .unwrap();
        let content: Vec<u8> = (0..3_000_000u32)
            .map(|number| (number % 251) as u8)
            .collect();
        let info = store.put("big", &mut &content[..]).await.unwrap();
        assert_eq!(info.size, content.len());
        let mut object = store.get("big").await.unwrap();
        let mut read = Vec::new();
        object.read_to_end(&mut read).await.unwrap();
        assert!(read == content);
        store.put("big", &mut &b"small"[..]).await.unwrap();
        let mut object = store.get("big").await.unwrap();
        let mut read = Vec::new();
        object.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"small");
        // The object's description and its one chunk: what it replaced is gone, and so is, after
        // its deletion, the chunk.
        let stored = async || {
            let stream = context.get_stream("OBJ_O").await.unwrap();
            stream.get_info().await.unwrap().state.messages
        };
        assert_eq!(stored().await, 2);
        let names: Vec<_> = store.list().await.unwrap().try_collect().await.unwrap();
        assert_eq!(
            names
                .iter()
                .map(|info| info.name.as_str())
                .collect::<Vec<_>>(),
            ["big"]
        );
        store.delete("big").await.unwrap();
        assert!(store.get("big").await.is_err());
        assert_eq!(stored().await, 1);
        store.seal().await.unwrap();
        assert!(store.put("late", &mut &b"x"[..]).await.is_err());
    });
}
