//! Commands on a stopped store: import of the reference's, export, check, repair.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

#[allow(dead_code)] // not every test program uses all of it
#[path = "backup/harness.rs"]
mod harness;
#[allow(dead_code)]
#[path = "backup/life.rs"]
mod life;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use data_encoding::BASE64;
use millrace_tests::packages::reference_binary;
use millrace_tests::{Server, ServerBuilder, fresh_folder, millrace_binary};
use serde_json::{Value, json};

use crate::harness::{ok, publish, restore, run};
use crate::life::{fill, seen};

fn tool(words: &[&str]) -> Output {
    Command::new(millrace_binary())
        .args(words)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    let (out, errors) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(errors)
    )
}

/// Every file below a folder, with its content.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(content(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// A stream whose blocks are full, so that the reference packs them.
async fn fill_packed(client: &async_nats::Client) {
    let config =
        json!({"name": "PACKED", "subjects": ["p"], "storage": "file", "compression": "s2"});
    ok(client, "STREAM.CREATE.PACKED", config).await;
    let words = "all work and no play ".repeat(2_500);
    for number in 0..220 {
        publish(client, "p", &[], format!("{number} {words}").as_bytes()).await;
    }
}

/// What `seen` shows, but for when streams and consumers were made.
fn imported(server: &Server) -> Value {
    let mut found = Value::Null;
    run(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        found = seen(&client, "S").await;
        let packed = ok(&client, "STREAM.INFO.PACKED", Value::Null).await;
        assert_eq!(packed["state"]["messages"], 220);
        let last = ok(&client, "STREAM.MSG.GET.PACKED", json!({"seq": 220})).await;
        let data = last["message"]["data"].as_str().unwrap().as_bytes();
        assert!(BASE64.decode(data).unwrap().starts_with(b"219 all work"));
    });
    found
}

// proves: JS-ST-06
#[test]
fn the_streams_of_a_stopped_reference_are_imported() {
    let Some(binary) = reference_binary() else {
        return;
    };
    for stop in ["INT", "KILL"] {
        let folder = fresh_folder("import");
        let reference = ServerBuilder::binary(binary.clone()).jetstream();
        let mut reference = reference.folder(&folder).start();
        let mut expected = Value::Null;
        run(async {
            let client = async_nats::connect(reference.url()).await.unwrap();
            fill(&client, "file").await;
            fill_packed(&client).await;
            // Consumers' state reaches the disk a little later.
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            expected = seen(&client, "S").await;
        });
        reference.signal(stop);
        reference.wait();
        drop(reference);
        let store = folder.join("store");
        let before = content(&store.join("jetstream"));
        // Without an import the server does not start, and says what to do.
        let refused = tool(&["-js", "-sd", store.to_str().unwrap(), "-p", "-1"]);
        assert!(
            text(&refused).contains("millrace import"),
            "{}",
            text(&refused)
        );
        let done = tool(&["import", store.to_str().unwrap()]);
        assert!(done.status.success(), "{stop}: {}", text(&done));
        assert_eq!(content(&store.join("jetstream")), before, "{stop}");
        let server = ServerBuilder::millrace()
            .jetstream()
            .folder(&folder)
            .start();
        assert_eq!(imported(&server), expected, "{stop}");
        drop(server);
        // Once more: what is there is left alone.
        let again = tool(&["import", store.to_str().unwrap()]);
        assert_eq!(again.status.code(), Some(1), "{}", text(&again));
        assert!(
            text(&again).contains("stream name already in use"),
            "{}",
            text(&again)
        );
        fs::remove_dir_all(folder).unwrap();
    }
}

// proves: JS-ST-06
#[test]
fn an_import_tells_what_it_cannot_copy() {
    let Some(binary) = reference_binary() else {
        return;
    };
    let folder = fresh_folder("import");
    let reference = ServerBuilder::binary(binary).jetstream();
    let mut reference = reference.folder(&folder).start();
    run(async {
        let client = async_nats::connect(reference.url()).await.unwrap();
        for name in ["WELL", "HURT", "LOST"] {
            let config = json!({"name": name, "subjects": [name]});
            ok(&client, &format!("STREAM.CREATE.{name}"), config).await;
            for _ in 0..9 {
                publish(&client, name, &[], b"something to read").await;
            }
        }
    });
    reference.signal("INT");
    reference.wait();
    let streams = folder.join("store/jetstream/$G/streams");
    let block = streams.join("HURT/msgs/1.blk");
    let mut bytes = fs::read(&block).unwrap();
    bytes[100] ^= 1;
    fs::write(&block, bytes).unwrap();
    fs::write(streams.join("LOST/meta.inf"), "{}").unwrap();
    let other = folder.join("other");
    let store = folder.join("store");
    let words = [
        "import",
        store.to_str().unwrap(),
        "-sd",
        other.to_str().unwrap(),
    ];
    let done = tool(&words);
    let said = text(&done);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(
        said.contains("$G > WELL: 9 messages (sequences 1 to 9), 0 consumers"),
        "{said}"
    );
    assert!(said.contains("$G > HURT: 8 messages"), "{said}");
    assert!(
        said.contains("$G > HURT: block 1: a damaged record at byte"),
        "{said}"
    );
    assert!(
        said.contains("$G > LOST: not copied: meta.inf is damaged"),
        "{said}"
    );
    drop(reference);
    fs::remove_dir_all(folder).unwrap();
}

/// A stopped store of ours, and what it showed.
fn stopped() -> (PathBuf, Value) {
    let folder = fresh_folder("tools");
    let mut server = ServerBuilder::millrace()
        .jetstream()
        .folder(&folder)
        .start();
    let mut expected = Value::Null;
    run(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        fill(&client, "file").await;
        expected = seen(&client, "S").await;
    });
    server.signal("TERM");
    server.wait();
    (folder, expected)
}

// proves: JS-BK-03
#[test]
fn a_stopped_store_is_exported_and_stays_as_it_is() {
    let (folder, expected) = stopped();
    let store = folder.join("store");
    let store = store.to_str().unwrap();
    let before = content(&folder.join("store"));
    let archive = folder.join("archive");
    let words = [
        "export",
        store,
        "-s",
        "S",
        "-f",
        "backup",
        "-o",
        archive.to_str().unwrap(),
    ];
    let done = tool(&words);
    assert!(done.status.success(), "{}", text(&done));
    let lines = tool(&["export", store, "-s", "S"]);
    assert!(lines.status.success(), "{}", text(&lines));
    let lines: Vec<Value> = String::from_utf8(lines.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["stream"]["name"], "S");
    let messages = lines
        .iter()
        .filter(|line| line["sequence"].is_u64())
        .count();
    assert_eq!(json!(messages), expected["state"]["messages"]);
    assert_eq!(
        lines
            .iter()
            .filter(|line| line["consumer"].is_string())
            .count(),
        3
    );
    let well = tool(&["check", store]);
    assert!(well.status.success(), "{}", text(&well));
    assert!(
        text(&well).contains("$G > S: 53 messages are well, 0 damaged"),
        "{}",
        text(&well)
    );
    assert_eq!(content(&folder.join("store")), before);
    let other = Server::jetstream();
    run(async {
        let client = async_nats::connect(other.url()).await.unwrap();
        let config =
            json!({"name": "COPY", "subjects": ["c"], "num_replicas": 1, "allow_msg_ttl": true});
        let answer = restore(&client, &config, &fs::read(&archive).unwrap(), 1 << 16).await;
        assert!(answer.get("error").is_none(), "{answer}");
        let found = seen(&client, "COPY").await;
        assert_eq!(found["messages"], expected["messages"]);
        assert_eq!(found["consumers"], expected["consumers"]);
    });
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn commands_say_how_they_are_used() {
    for command in ["import", "export", "check", "repair"] {
        let help = tool(&[command, "--help"]);
        assert!(help.status.success());
        assert!(text(&help).starts_with(&format!("Usage: millrace {command}")));
        let wrong = tool(&[command, "--nonsense", "1"]);
        assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong));
    }
    let missing = tool(&["check", "/nowhere"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        text(&missing).contains("holds no store of Millrace"),
        "{}",
        text(&missing)
    );
}

/// Changes one byte in the payload of a message that lies in a segment.
fn damage(folder: &Path, payload: &[u8]) {
    for (path, mut bytes) in content(folder) {
        let is_segment = path.extension().is_some_and(|end| end == "seg");
        let found = bytes
            .windows(payload.len())
            .position(|part| part == payload);
        if let (true, Some(at)) = (is_segment, found) {
            bytes[at] ^= 1;
            fs::write(path, bytes).unwrap();
            return;
        }
    }
    panic!("the message is in no segment");
}

#[test]
fn damage_is_told_with_its_place_and_repaired() {
    let (folder, _) = stopped();
    let store = folder.join("store");
    // Message 33 of the life: "message 33".
    damage(&store, b"message 33");
    let store = store.to_str().unwrap();
    let before = content(&folder.join("store"));
    let hurt = tool(&["check", store]);
    let said = text(&hurt);
    assert_eq!(hurt.status.code(), Some(1), "{said}");
    assert!(said.contains("message 33 is damaged on disk"), "{said}");
    assert!(
        said.contains("$G > S: 52 messages are well, 1 damaged"),
        "{said}"
    );
    assert_eq!(content(&folder.join("store")), before);
    let export = tool(&["export", store, "-s", "S"]);
    assert_eq!(export.status.code(), Some(1));
    assert!(
        text(&export).contains("message 33 is damaged"),
        "{}",
        text(&export)
    );
    let repaired = tool(&["repair", store]);
    assert!(repaired.status.success(), "{}", text(&repaired));
    assert!(text(&repaired).contains("$G > S: message 33 is removed"));
    let well = tool(&["check", store]);
    assert!(well.status.success(), "{}", text(&well));
    assert!(
        text(&well).contains("52 messages are well, 0 damaged"),
        "{}",
        text(&well)
    );
    fs::remove_dir_all(folder).unwrap();
}
