//! Encryption at rest: nothing of messages, subjects, consumers or configuration stands in the store's
//! files, and only the right key opens them.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

#[allow(dead_code)] // not every test program uses all of it
#[path = "backup/harness.rs"]
mod harness;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use data_encoding::BASE64;
use millrace_tests::server::wait_for;
use millrace_tests::{Server, ServerBuilder, fresh_folder, millrace_binary};
use serde_json::{Value, json};

use crate::harness::{PATIENCE, ok, publish, run};

/// Words that stand in payloads, headers, subjects, and names of streams and consumers.
const PLAINTEXT: &str = "plaintextword";
const MESSAGES: u64 = 400;
/// Bytes of a message of a large batch, and how many make more than batches may hold in memory, and
/// more than one entry of the log.
const LARGE_BYTES: usize = 700_000;
const SCRATCH_MESSAGES: u64 = 75;
const CHAIN_MESSAGES: u64 = 6;

fn server(folder: &Path, encryption: &str) -> Server {
    let config = format!("jetstream {{ {encryption} }}\nmax_payload: 2MB\n");
    let builder = ServerBuilder::millrace().config(&config).jetstream();
    builder.folder(folder).start()
}

/// Ends the server in order, which moves everything to segments.
fn stop(mut server: Server) {
    server.signal("TERM");
    server.wait();
}

/// Builds without optimization encrypt slowly.
async fn connect(server: &Server) -> Client {
    let options = async_nats::ConnectOptions::new().request_timeout(Some(PATIENCE));
    options.connect(server.url()).await.unwrap()
}

fn text(number: u64) -> String {
    format!("{PLAINTEXT} in payload {number}")
}

async fn fill(client: &Client, compression: &str) {
    let config = json!({
        "name": "S", "subjects": ["s.>"], "storage": "file", "allow_atomic": true,
        "compression": compression, "description": PLAINTEXT,
    });
    ok(client, "STREAM.CREATE.S", config).await;
    let consumer = json!({"stream_name": "S", "config": {
        "durable_name": format!("{PLAINTEXT}_consumer"), "ack_policy": "explicit",
        "filter_subject": format!("s.{PLAINTEXT}"),
    }});
    let call = format!("CONSUMER.DURABLE.CREATE.S.{PLAINTEXT}_consumer");
    ok(client, &call, consumer).await;
    for number in 1..=MESSAGES {
        let headers = [("Word", PLAINTEXT)];
        let headers = if number % 2 == 0 { &headers[..] } else { &[] };
        publish(
            client,
            &format!("s.{PLAINTEXT}"),
            headers,
            text(number).as_bytes(),
        )
        .await;
    }
}

/// An atomic batch; with `commit` false it stays open.
async fn batch(client: &Client, messages: u64, bytes: usize, commit: bool) {
    for number in 1..=messages {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Batch-Id", format!("b{messages}").as_str());
        headers.insert("Nats-Batch-Sequence", number.to_string().as_str());
        let mut body = text(number).into_bytes();
        body.resize(bytes.max(body.len()), b'x');
        let subject = format!("s.{PLAINTEXT}.batch");
        let is_last = number == messages;
        if is_last && commit {
            headers.insert("Nats-Batch-Commit", "1");
        }
        let body = Bytes::from(body);
        if number == 1 || is_last {
            let answer = client
                .request_with_headers(subject, headers, body)
                .await
                .unwrap();
            let answer = String::from_utf8_lossy(&answer.payload).into_owned();
            assert!(!answer.contains("error"), "{answer}");
        } else {
            client
                .publish_with_headers(subject, headers, body)
                .await
                .unwrap();
        }
    }
    client.flush().await.unwrap();
}

async fn get(client: &Client, sequence: u64) -> Vec<u8> {
    let found = ok(client, "STREAM.MSG.GET.S", json!({"seq": sequence})).await;
    let data = found["message"]["data"].as_str().unwrap();
    BASE64.decode(data.as_bytes()).unwrap()
}

async fn check(client: &Client) {
    for sequence in 1..=MESSAGES {
        assert_eq!(get(client, sequence).await, text(sequence).as_bytes());
    }
    let call = format!("CONSUMER.INFO.S.{PLAINTEXT}_consumer");
    let info = ok(client, &call, Value::Null).await;
    assert_eq!(info["num_pending"], MESSAGES, "{info}");
}

fn check_served(server: &Server) {
    run(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        check(&client).await;
    });
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// Files of the store in which the word stands.
fn leaks(folder: &Path, word: &str) -> Vec<PathBuf> {
    let word = word.as_bytes();
    let holds = |path: &PathBuf| {
        let content = fs::read(path).unwrap_or_default();
        memchr(&content, word)
    };
    files(&folder.join("store"))
        .into_iter()
        .filter(holds)
        .collect()
}

fn memchr(content: &[u8], word: &[u8]) -> bool {
    let first = word[0];
    let mut at = 0;
    while let Some(found) = content[at..].iter().position(|byte| *byte == first) {
        if content[at + found..].starts_with(word) {
            return true;
        }
        at += found + 1;
    }
    false
}

fn expect_clean(folder: &Path, when: &str) {
    assert_eq!(leaks(folder, PLAINTEXT), Vec::<PathBuf>::new(), "{when}");
}

fn refused(folder: &Path, encryption: &str) -> String {
    let config = folder.join("refused.conf");
    fs::write(&config, format!("jetstream {{ {encryption} }}\n")).unwrap();
    let store = folder.join("store");
    let output = Command::new(millrace_binary())
        .args(["-a", "127.0.0.1", "-p", "-1", "-js", "-sd"])
        .arg(&store)
        .arg("-c")
        .arg(&config)
        .output()
        .unwrap();
    assert!(!output.status.success(), "{encryption}");
    said(&output)
}

fn said(output: &Output) -> String {
    let (out, errors) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(errors)
    )
}

fn content(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = files(&folder.join("store"));
    found.sort();
    found
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

// proves: JS-ST-04
#[test]
fn no_file_of_an_encrypted_store_has_a_word_of_what_is_stored() {
    for (cipher, title, compression) in [
        ("chacha", "ChaCha20-Poly1305", "none"),
        ("aes", "AES-GCM", "s2"),
    ] {
        let folder = fresh_folder("encryption");
        let encryption = format!("key: \"the first key\", cipher: {cipher}");
        let mut first = server(&folder, &encryption);
        assert!(
            first.log().contains(&format!("Encryption:      {title}")),
            "{}",
            first.log()
        );
        run(async {
            let client = connect(&first).await;
            fill(&client, compression).await;
            batch(&client, 5, 10, true).await;
            batch(&client, SCRATCH_MESSAGES, LARGE_BYTES, false).await;
        });
        let scratch = |path: &PathBuf| path.to_string_lossy().contains("/batches/");
        wait_for("a scratch file", || {
            files(&folder.join("store"))
                .iter()
                .any(scratch)
                .then_some(())
        });
        expect_clean(&folder, "while it runs");
        first.kill();
        expect_clean(&folder, "after kill -9");
        let second = server(&folder, &encryption);
        check_served(&second);
        run(async {
            let client = connect(&second).await;
            batch(&client, CHAIN_MESSAGES, LARGE_BYTES, true).await;
            let data = get(&client, MESSAGES + 5 + CHAIN_MESSAGES).await;
            assert!(data.starts_with(text(CHAIN_MESSAGES).as_bytes()));
        });
        stop(second);
        let segment = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "seg");
        assert!(files(&folder.join("store")).iter().any(segment));
        expect_clean(&folder, "after an orderly stop");
        let third = server(&folder, &encryption);
        check_served(&third);
        drop(third);
        fs::remove_dir_all(folder).unwrap();
    }
}

// proves: JS-ST-04
#[test]
fn a_wrong_key_or_none_is_refused_and_changes_nothing_and_the_previous_one_is_replaced() {
    let folder = fresh_folder("encryption");
    let first = server(&folder, "key: one");
    run(async {
        let client = async_nats::connect(first.url()).await.unwrap();
        fill(&client, "none").await;
    });
    stop(first);
    let before = content(&folder);
    let wrong = refused(&folder, "key: two");
    assert!(wrong.contains("unable to recover keys"), "{wrong}");
    let wrong = refused(&folder, "key: two, prev_key: three");
    assert!(wrong.contains("unable to recover keys"), "{wrong}");
    for none in ["max_mem: 1GB", "prev_key: one", "key: \"\""] {
        let none = refused(&folder, none);
        assert!(none.contains("encryption not enabled"), "{none}");
    }
    assert!(content(&folder) == before, "something was changed");
    // Another key, with the one before it; then it opens alone, and the old one does not.
    let second = server(
        &folder,
        "encryption_key: two, previous_encryption_key: one"
            .replace("previous_encryption_key", "prev_encryption_key")
            .as_str(),
    );
    assert!(
        second.log().contains("sealed under the new one"),
        "{}",
        second.log()
    );
    check_served(&second);
    drop(second);
    assert!(refused(&folder, "key: one").contains("unable to recover keys"));
    let third = server(&folder, "ek: two");
    check_served(&third);
    drop(third);
    // Another cipher: what is there is read, and sealed with the new one bit by bit.
    let fourth = server(&folder, "key: two, cipher: AES");
    assert!(
        fourth.log().contains("Encryption:      AES-GCM"),
        "{}",
        fourth.log()
    );
    check_served(&fourth);
    stop(fourth);
    let fifth = server(&folder, "key: two, cipher: aes");
    check_served(&fifth);
    drop(fifth);
    expect_clean(&folder, "after all this");
    // Without its keys nothing can be read, and nothing is made of that.
    fs::rename(folder.join("store/millrace/keys"), folder.join("keys")).unwrap();
    let lost = refused(&folder, "key: two");
    assert!(
        lost.contains("keys is missing") || lost.contains("is missing"),
        "{lost}"
    );
    fs::rename(folder.join("keys"), folder.join("store/millrace/keys")).unwrap();
    let last = server(&folder, "key: two, cipher: aes");
    check_served(&last);
    drop(last);
    fs::remove_dir_all(folder).unwrap();
}

// proves: JS-ST-04
#[test]
fn a_plain_store_that_gets_a_key_is_sealed_while_it_is_used() {
    let folder = fresh_folder("encryption");
    let plain = server(&folder, "max_mem: 1GB");
    run(async {
        let client = async_nats::connect(plain.url()).await.unwrap();
        fill(&client, "none").await;
    });
    stop(plain);
    assert!(!leaks(&folder, PLAINTEXT).is_empty());
    let sealed = server(&folder, "key: one");
    assert!(
        sealed.log().contains("encrypted from now on"),
        "{}",
        sealed.log()
    );
    check_served(&sealed);
    // Segments are written anew one after the other, and the journal's files go.
    wait_for("everything to be sealed", || {
        leaks(&folder, PLAINTEXT).is_empty().then_some(())
    });
    stop(sealed);
    let sealed = server(&folder, "key: one");
    check_served(&sealed);
    stop(sealed);
    expect_clean(&folder, "after another start");
    let again = server(&folder, "key: one");
    check_served(&again);
    drop(again);
    fs::remove_dir_all(folder).unwrap();
}

// proves: JS-ST-04
#[test]
fn tools_take_the_key_from_the_configuration() {
    let folder = fresh_folder("encryption");
    let first = server(&folder, "key: one");
    run(async {
        let client = async_nats::connect(first.url()).await.unwrap();
        fill(&client, "s2").await;
    });
    stop(first);
    let config = folder.join("tool.conf");
    let store = folder.join("store");
    let write = |key: &str| {
        let text = format!(
            "jetstream {{ store_dir: {:?}, {key} }}\n",
            store.display().to_string()
        );
        fs::write(&config, text).unwrap();
    };
    let tool = |name: &str| {
        let output = Command::new(millrace_binary())
            .arg(name)
            .arg("-c")
            .arg(&config)
            .output();
        let output = output.unwrap();
        (output.status.success(), said(&output))
    };
    write("key: one");
    for name in ["check", "repair"] {
        let (done, text) = tool(name);
        assert!(done, "{name}: {text}");
        assert!(text.contains("400"), "{name}: {text}");
    }
    let before = content(&folder);
    // Who only reads seals nothing anew.
    write("key: two, prev_key: one");
    let (done, text) = tool("check");
    assert!(done, "{text}");
    write("key: wrong");
    let (done, text) = tool("check");
    assert!(!done && text.contains("unable to recover keys"), "{text}");
    assert!(content(&folder) == before, "something was changed");
    expect_clean(&folder, "after the tools");
    fs::remove_dir_all(folder).unwrap();
}

// proves: JS-ST-04
#[test]
fn a_cipher_that_is_not_known_is_refused_as_the_reference_does() {
    let folder = fresh_folder("encryption");
    let text = refused(&folder, "key: one, cipher: des");
    assert!(text.contains("Unknown cipher type: \"des\""), "{text}");
    fs::remove_dir_all(folder).unwrap();
}
