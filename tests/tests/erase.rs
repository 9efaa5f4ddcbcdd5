//! Secure erase: what was deleted with its bytes is nowhere below the store's folder, in segments,
//! journal (active, older, spare files) and staging, soon after the answer or after the next start.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::fs;
use std::path::PathBuf;

use millrace_tests::server::wait_for;
use millrace_tests::{RawClient, Server, ServerBuilder};

fn create_stream(client: &mut RawClient, name: &str) {
    let body = format!(r#"{{"name":"{name}","subjects":["{name}.>"],"allow_atomic":true}}"#);
    let created = client.request(&format!("$JS.API.STREAM.CREATE.{name}"), body.as_bytes());
    assert!(created.json().get("error").is_none(), "{}", created.text());
}

/// Publishes a message and gives its sequence.
fn publish(client: &mut RawClient, subject: &str, payload: &str) -> u64 {
    let answer = client.request(subject, payload.as_bytes()).json();
    answer["seq"].as_u64().unwrap_or_else(|| panic!("{answer}"))
}

/// Publishes an atomic batch and gives the sequence of its last message.
fn publish_batch(client: &mut RawClient, subject: &str, payloads: &[String]) -> u64 {
    let mut last = 0;
    for (place, payload) in payloads.iter().enumerate() {
        let commits = place + 1 == payloads.len();
        let commit = if commits {
            "Nats-Batch-Commit: 1\r\n"
        } else {
            ""
        };
        let headers = format!(
            "NATS/1.0\r\nNats-Batch-Id: {}-{}\r\nNats-Batch-Sequence: {}\r\n{commit}\r\n",
            subject,
            payloads.len(),
            place + 1
        );
        let answer = client.request_with_headers(subject, headers.as_bytes(), payload.as_bytes());
        if commits {
            last = answer.json()["seq"].as_u64().unwrap();
        }
    }
    last
}

fn delete(client: &mut RawClient, stream: &str, sequence: u64, no_erase: bool) {
    let body = format!(r#"{{"seq":{sequence},"no_erase":{no_erase}}}"#);
    let answer = client.request(
        &format!("$JS.API.STREAM.MSG.DELETE.{stream}"),
        body.as_bytes(),
    );
    assert_eq!(answer.json()["success"], true, "{}", answer.text());
}

fn payload_of(client: &mut RawClient, stream: &str, sequence: u64) -> Option<String> {
    let body = format!(r#"{{"seq":{sequence}}}"#);
    let answer = client.request(&format!("$JS.API.STREAM.MSG.GET.{stream}"), body.as_bytes());
    let data = answer.json()["message"]["data"].as_str()?.to_owned();
    let bytes = data_encoding::BASE64.decode(data.as_bytes()).unwrap();
    Some(String::from_utf8(bytes).unwrap())
}

/// The files of the store that hold these bytes.
fn holders(server: &Server, secret: &str) -> Vec<PathBuf> {
    let mut files = server.files();
    // It may go while it is looked at.
    files.retain(|path| {
        let content = fs::read(path).unwrap_or_default();
        memchr::memmem::find(&content, secret.as_bytes()).is_some()
    });
    files
}

fn wait_until_gone(server: &Server, secret: &str) {
    wait_for("erased bytes to go", || {
        holders(server, secret).is_empty().then_some(())
    });
}

fn stop_and_start(mut server: Server) -> Server {
    server.signal("TERM");
    assert!(server.wait().success());
    server.restart(ServerBuilder::millrace().jetstream())
}

// proves: JS-STR-11
#[test]
fn an_erased_message_is_nowhere_on_the_disk_and_its_neighbours_are_there() {
    let server = Server::jetstream();
    let mut client = RawClient::ready(&server.address);
    create_stream(&mut client, "A");
    create_stream(&mut client, "OTHER");
    let first = publish(&mut client, "A.a", "neighbour before");
    let secret = publish(&mut client, "A.secret", "the secret that must go");
    publish(&mut client, "A.a", "neighbour behind");
    publish(&mut client, "OTHER.a", "another stream's");
    assert!(!holders(&server, "the secret that must go").is_empty());
    delete(&mut client, "A", secret, false);
    wait_until_gone(&server, "the secret that must go");
    assert_eq!(payload_of(&mut client, "A", secret), None);
    let there = payload_of(&mut client, "A", first);
    assert_eq!(there.as_deref(), Some("neighbour before"));
    let there = payload_of(&mut client, "A", secret + 1);
    assert_eq!(there.as_deref(), Some("neighbour behind"));
    // It stays gone, and nothing else does.
    let server = server.restart(ServerBuilder::millrace().jetstream());
    assert_eq!(
        holders(&server, "the secret that must go"),
        Vec::<PathBuf>::new()
    );
    let mut client = RawClient::ready(&server.address);
    let there = payload_of(&mut client, "OTHER", 1);
    assert_eq!(there.as_deref(), Some("another stream's"));
    assert_eq!(payload_of(&mut client, "A", secret), None);
}

// proves: JS-STR-11
#[test]
fn with_no_erase_a_deleted_message_keeps_its_bytes() {
    let server = Server::jetstream();
    let mut client = RawClient::ready(&server.address);
    create_stream(&mut client, "A");
    let kept = publish(&mut client, "A.a", "deleted and not erased");
    let erased = publish(&mut client, "A.a", "deleted and erased");
    delete(&mut client, "A", kept, true);
    assert_eq!(payload_of(&mut client, "A", kept), None);
    assert!(!holders(&server, "deleted and not erased").is_empty());
    // A segment holds it by then: it was not deleted when the flush began, or it never was there.
    delete(&mut client, "A", erased, false);
    wait_until_gone(&server, "deleted and erased");
}

// proves: JS-STR-11
#[test]
fn what_an_earlier_run_of_the_server_wrote_is_erased_too() {
    let mut server = Server::jetstream();
    let mut client = RawClient::ready(&server.address);
    create_stream(&mut client, "A");
    // Keeps the journal's files from going by themselves.
    create_stream(&mut client, "IDLE");
    publish(&mut client, "IDLE.a", "idle");
    for round in 0..4 {
        let text = format!("secret of round {round}");
        let secret = publish(&mut client, "A.a", &text);
        server = if round % 2 == 0 {
            server.restart(ServerBuilder::millrace().jetstream())
        } else {
            stop_and_start(server)
        };
        client = RawClient::ready(&server.address);
        assert!(!holders(&server, &text).is_empty(), "round {round}");
        delete(&mut client, "A", secret, false);
        if round == 2 {
            // Ended before it is done: the next start takes it up.
            server = server.restart(ServerBuilder::millrace().jetstream());
            client = RawClient::ready(&server.address);
        }
        wait_until_gone(&server, &text);
    }
    assert_eq!(payload_of(&mut client, "IDLE", 1).as_deref(), Some("idle"));
}

// proves: JS-STR-11
#[test]
fn messages_of_batches_are_erased_small_ones_and_those_of_many_parts() {
    let server = Server::jetstream();
    let mut client = RawClient::ready(&server.address);
    create_stream(&mut client, "A");
    let small: Vec<String> = (0..3).map(|at| format!("small batch {at}")).collect();
    let large: Vec<String> = (0..30)
        .map(|at| format!("large batch {at} ").repeat(10_000))
        .collect();
    let last_small = publish_batch(&mut client, "A.small", &small);
    let last_large = publish_batch(&mut client, "A.large", &large);
    delete(&mut client, "A", last_small - 1, false);
    delete(&mut client, "A", last_large - 10, false);
    wait_until_gone(&server, "small batch 1");
    wait_until_gone(&server, "large batch 19 ");
    // A start replays what is left.
    let server = server.restart(ServerBuilder::millrace().jetstream());
    let mut client = RawClient::ready(&server.address);
    let there = payload_of(&mut client, "A", last_small).unwrap();
    assert_eq!(there, "small batch 2");
    let there = payload_of(&mut client, "A", last_large - 9).unwrap();
    assert_eq!(there, large[20]);
    assert_eq!(holders(&server, "large batch 19 "), Vec::<PathBuf>::new());
}
