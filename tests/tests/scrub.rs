//! The background scrub: damage in cold segments is found, counted and told before anybody asks.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::fs;
use std::path::{Path, PathBuf};

use millrace_tests::server::wait_for;
use millrace_tests::{RawClient, Server, ServerBuilder};
use serde_json::Value;

const MESSAGES: u64 = 40;

fn scrubbing() -> ServerBuilder {
    let text = "jetstream { scrub_interval: \"1s\" }\n";
    ServerBuilder::millrace().jetstream().config(text)
}

fn segments(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            segments(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "seg") {
            found.push(path);
        }
    }
}

/// Changes a bit of the segment that holds these bytes.
fn hurt(server: &Server, bytes: &str) {
    let mut found = Vec::new();
    segments(server.folder(), &mut found);
    for path in found {
        let mut content = fs::read(&path).unwrap();
        if let Some(at) = memchr::memmem::find(&content, bytes.as_bytes()) {
            content[at] ^= 1;
            fs::write(&path, content).unwrap();
            return;
        }
    }
    panic!("no segment holds {bytes}");
}

fn counters(server: &Server) -> Value {
    let (_, text) = millrace_tests::http::get(server, "/jsz");
    serde_json::from_str::<Value>(&text).unwrap()["millrace"].clone()
}

fn get(client: &mut RawClient, sequence: u64) -> Value {
    let body = format!(r#"{{"seq":{sequence}}}"#);
    client
        .request("$JS.API.STREAM.MSG.GET.A", body.as_bytes())
        .json()
}

#[test]
fn damage_is_told_without_a_reader_and_what_is_whole_is_served() {
    let mut server = scrubbing().start();
    let mut client = RawClient::ready(&server.address);
    let created = client.request(
        "$JS.API.STREAM.CREATE.A",
        br#"{"name":"A","subjects":["a"]}"#,
    );
    assert!(created.json().get("error").is_none(), "{}", created.text());
    for number in 1..=MESSAGES {
        let answer = client
            .request("a", format!("<message {number}>").as_bytes())
            .json();
        assert_eq!(answer["seq"], number);
    }
    // What was erased is no damage.
    let deleted = client.request("$JS.API.STREAM.MSG.DELETE.A", br#"{"seq":5}"#);
    assert_eq!(deleted.json()["success"], true);
    server.signal("TERM");
    assert!(server.wait().success());
    let server = server.restart(scrubbing());
    wait_for("a whole pass", || {
        (counters(&server)["scrub_passes"].as_u64()? >= 1).then_some(())
    });
    assert_eq!(counters(&server)["damage_found"], 0, "{}", server.log());
    assert!(counters(&server)["scrub_bytes"].as_u64().unwrap() > 1000);

    let mut listener = RawClient::ready(&server.address);
    listener.send(b"SUB $JS.EVENT.ADVISORY.STREAM.DAMAGED.> 1\r\n");
    listener.sync();
    hurt(&server, "<message 17>");
    let advisory = listener.read_message();
    assert_eq!(advisory.subject, "$JS.EVENT.ADVISORY.STREAM.DAMAGED.A");
    let body = advisory.json();
    assert_eq!(
        body["type"], "io.nats.jetstream.advisory.v1.stream_damaged",
        "{body}"
    );
    assert_eq!(body["stream"], "A");
    assert!(
        body["place"].as_str().unwrap().contains(".seg bytes "),
        "{body}"
    );
    assert_eq!(counters(&server)["damage_found"], 1);
    assert!(server.log().contains("damaged on disk"), "{}", server.log());

    let mut client = RawClient::ready(&server.address);
    assert_eq!(get(&mut client, 17)["error"]["err_code"], 10051);
    for sequence in (1..=MESSAGES).filter(|sequence| ![5, 17].contains(sequence)) {
        assert!(
            get(&mut client, sequence).get("message").is_some(),
            "{sequence}"
        );
    }
}
