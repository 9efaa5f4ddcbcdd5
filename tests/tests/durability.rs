//! What an acknowledgement means and what a damaged store costs: the sync modes as an operator sets and
//! sees them, kills in both, and bytes that change on the disk: reported, never served, and all
//! else goes on. Power cuts are the simulator's (`crates/sim/tests`).

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::fs;

use millrace_tests::server::wait_for;
use millrace_tests::{RawClient, Server, ServerBuilder};
use serde_json::Value;

const MESSAGES: u64 = 60;
/// The message whose bytes change on the disk.
const HURT: u64 = 31;

fn with_sync(mode: &str) -> ServerBuilder {
    let text = format!("jetstream {{ {mode} }}\n");
    ServerBuilder::millrace().jetstream().config(&text)
}

fn api(client: &mut RawClient, subject: &str, body: &str) -> Value {
    client
        .request(&format!("$JS.API.{subject}"), body.as_bytes())
        .json()
}

fn create_stream(client: &mut RawClient, name: &str) {
    let body = format!(r#"{{"name":"{name}","subjects":["{name}.>"]}}"#);
    let created = api(client, &format!("STREAM.CREATE.{name}"), &body);
    assert!(created.get("error").is_none(), "{created}");
}

/// Publishes so many messages; each tells its number.
fn publish(client: &mut RawClient, name: &str, count: u64) {
    for number in 1..=count {
        let subject = format!("{name}.{number}");
        let answer = client
            .request(&subject, text_of(name, number).as_bytes())
            .json();
        assert_eq!(answer["seq"], number, "{answer}");
    }
}

fn text_of(name: &str, number: u64) -> String {
    format!("<{name} message {number}>")
}

fn state(client: &mut RawClient, name: &str) -> Value {
    api(client, &format!("STREAM.INFO.{name}"), "")["state"].clone()
}

/// The text of a message, or the error.
fn get(client: &mut RawClient, name: &str, sequence: u64) -> Result<String, Value> {
    let body = format!(r#"{{"seq":{sequence}}}"#);
    let answer = api(client, &format!("STREAM.MSG.GET.{name}"), &body);
    match answer["message"]["data"].as_str() {
        Some(data) => {
            let bytes = data_encoding::BASE64.decode(data.as_bytes()).unwrap();
            Ok(String::from_utf8(bytes).unwrap())
        }
        None => Err(answer["error"].clone()),
    }
}

/// Changes one bit of these bytes, wherever they stand in files with this ending; gives how often.
fn hurt(server: &Server, ending: &str, bytes: &str) -> usize {
    let mut files = server.files();
    files.retain(|path| path.to_string_lossy().ends_with(ending));
    let mut hurt = 0;
    for path in files {
        let mut content = fs::read(&path).unwrap();
        if let Some(at) = memchr::memmem::find(&content, bytes.as_bytes()) {
            content[at + bytes.len() / 2] ^= 4;
            fs::write(&path, content).unwrap();
            hurt += 1;
        }
    }
    hurt
}

// proves: JS-ST-02
#[test]
fn the_sync_mode_is_what_was_configured_and_a_kill_loses_nothing_in_any() {
    let modes = [
        (
            "",
            "sync_interval: always",
            "sync_always",
            Value::Bool(true),
        ),
        (
            "sync_interval: always",
            "sync_interval: always",
            "sync_always",
            Value::Bool(true),
        ),
        (
            "sync_interval: \"30s\"",
            "30s after an acknowledgement",
            "sync_interval",
            30_000_000_000_u64.into(),
        ),
        (
            "sync: \"1m\"",
            "1m0s after an acknowledgement",
            "sync_interval",
            60_000_000_000_u64.into(),
        ),
    ];
    for (mode, banner, key, value) in modes {
        let server = with_sync(mode).start();
        assert!(server.log().contains(banner), "{mode}: {}", server.log());
        let (_, varz) = millrace_tests::http::get(&server, "/varz");
        let varz: Value = serde_json::from_str(&varz).unwrap();
        let config = &varz["jetstream"]["config"];
        assert_eq!(config[key], value, "{mode}: {config}");
        let mut client = RawClient::ready(&server.address);
        create_stream(&mut client, "A");
        publish(&mut client, "A", MESSAGES);
        let server = server.restart(with_sync(mode));
        let mut client = RawClient::ready(&server.address);
        assert_eq!(state(&mut client, "A")["messages"], MESSAGES, "{mode}");
        for sequence in 1..=MESSAGES {
            assert_eq!(
                get(&mut client, "A", sequence),
                Ok(text_of("A", sequence)),
                "{mode}"
            );
        }
    }
}

/// No message found.
const NO_MESSAGE: u16 = 10037;
/// A message cannot be read.
const UNREADABLE: u16 = 10051;

/// What is left of a stream with one message hurt: all others, its numbers, and a line in the log.
/// `code` says what asking for it is answered with: an entry of the journal that is lost leaves a gap, a message
/// whose record is damaged is still known.
fn check_hurt(server: &Server, code: u16) {
    let mut client = RawClient::ready(&server.address);
    for sequence in 1..=MESSAGES {
        let found = get(&mut client, "A", sequence);
        if sequence == HURT {
            assert_eq!(found.unwrap_err()["err_code"], code);
        } else {
            assert_eq!(found, Ok(text_of("A", sequence)));
        }
        assert_eq!(get(&mut client, "B", sequence), Ok(text_of("B", sequence)));
    }
    let log = server.log();
    assert!(log.contains("damage"), "{log}");
    // Numbers are not given twice, and the stream goes on.
    let answer = client.request("A.next", b"next").json();
    assert_eq!(answer["seq"], MESSAGES + 1);
    assert_eq!(get(&mut client, "A", MESSAGES + 1), Ok("next".to_owned()));
    // A consumer passes over it.
    let config = r#"{"stream_name":"A","config":{"durable_name":"c","ack_policy":"none"}}"#;
    let created = api(&mut client, "CONSUMER.DURABLE.CREATE.A.c", config);
    assert!(created.get("error").is_none(), "{created}");
    client.send(b"SUB pulled 7\r\n");
    let batch = MESSAGES;
    let ask = format!(r#"{{"batch":{batch},"expires":20000000000}}"#);
    client.publish(
        "$JS.API.CONSUMER.MSG.NEXT.A.c",
        "pulled",
        b"",
        ask.as_bytes(),
    );
    let numbers = (1..=MESSAGES).filter(|number| *number != HURT);
    for text in numbers
        .map(|number| text_of("A", number))
        .chain(["next".to_owned()])
    {
        assert_eq!(client.read_message().text(), text);
    }
}

// proves: JS-ST-03
#[test]
fn a_damaged_segment_costs_the_message_it_hit_and_the_server_starts() {
    let mut server = Server::jetstream();
    let mut client = RawClient::ready(&server.address);
    create_stream(&mut client, "A");
    create_stream(&mut client, "B");
    publish(&mut client, "A", MESSAGES);
    publish(&mut client, "B", MESSAGES);
    server.signal("TERM");
    assert!(server.wait().success());
    assert_eq!(hurt(&server, ".seg", &text_of("A", HURT)), 1);
    let server = server.restart(ServerBuilder::millrace().jetstream());
    check_hurt(&server, UNREADABLE);
}

// proves: JS-ST-03
#[test]
fn a_damaged_journal_costs_the_message_it_hit_and_the_server_starts() {
    let mut server = Server::jetstream();
    let mut client = RawClient::ready(&server.address);
    create_stream(&mut client, "A");
    create_stream(&mut client, "B");
    publish(&mut client, "A", MESSAGES);
    publish(&mut client, "B", MESSAGES);
    // Until a later frame has proven it, a frame that cannot be read is a torn one.
    publish_lazily(&server);
    server.kill();
    assert_eq!(hurt(&server, ".journal", &text_of("A", HURT)), 1);
    let server = server.restart(ServerBuilder::millrace().jetstream());
    check_hurt(&server, NO_MESSAGE);
}

/// Something behind all that counts.
fn publish_lazily(server: &Server) {
    let mut client = RawClient::ready(&server.address);
    create_stream(&mut client, "C");
    publish(&mut client, "C", 3);
}

// proves: JS-ST-03
#[test]
fn a_segment_that_is_cut_short_loses_what_was_behind_and_nothing_before() {
    let mut server = Server::jetstream();
    let mut client = RawClient::ready(&server.address);
    create_stream(&mut client, "A");
    publish(&mut client, "A", MESSAGES);
    server.signal("TERM");
    assert!(server.wait().success());
    let files = server.files();
    let segment = files
        .iter()
        .find(|path| path.to_string_lossy().ends_with(".seg"))
        .unwrap();
    let content = fs::read(segment).unwrap();
    let cut = memchr::memmem::find(&content, text_of("A", HURT).as_bytes()).unwrap();
    fs::write(segment, &content[..cut]).unwrap();
    let server = server.restart(ServerBuilder::millrace().jetstream());
    let mut client = RawClient::ready(&server.address);
    for sequence in 1..=MESSAGES {
        let found = get(&mut client, "A", sequence);
        assert_eq!(found.is_ok(), sequence < HURT, "{sequence}: {found:?}");
    }
    let answer = client.request("A.next", b"next").json();
    assert_eq!(answer["seq"], MESSAGES + 1);
    wait_for("the damage to be in the log", || {
        server.log().contains("lost").then_some(())
    });
}
