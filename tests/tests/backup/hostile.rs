//! Archives that are damaged, cut, or made to do harm: refused with a clear text, and nothing is left
//! of them.

use millrace_archive::backup::{put_end, put_message_head, put_state};
use millrace_archive::s2::Encoder;
use millrace_tests::Server;
use serde_json::{Value, json};

use crate::harness::{ok, restore, run};

const STATE: &str = r#"{"messages":2,"bytes":60,"first_seq":1,"last_seq":2}"#;

fn framed(archive: &[u8]) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::default(), Vec::new());
    encoder.write(archive, &mut out);
    encoder.flush(&mut out);
    out
}

fn archive(state: &str, messages: &[(&str, u64, &str, &[u8])], ends: bool) -> Vec<u8> {
    let mut out = Vec::new();
    put_state(&mut out, 1, state.as_bytes());
    for (subject, sequence, headers, payload) in messages {
        let (subject, headers) = (subject.as_bytes(), headers.as_bytes());
        put_message_head(
            &mut out,
            subject,
            *sequence,
            1_700_000_000,
            headers,
            payload.len(),
        );
        out.extend_from_slice(payload);
    }
    if ends {
        put_end(&mut out);
    }
    framed(&out)
}

/// What is sent, and how its refusal begins.
type Case = (&'static str, Vec<u8>, &'static str);

const GOOD: (&str, u64, &str, &[u8]) = ("t.a", 1, "", b"x");

/// Bytes that are no archive, or only a part of one.
fn damaged() -> Vec<Case> {
    let whole = archive(STATE, &[GOOD], true);
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let garbage = b"hello, this is no archive".to_vec();
    let cut = whole[..whole.len() - 3].to_vec();
    let no_magic = framed(b"NATSARC9 and so on");
    vec![
        ("garbage", garbage, "s2: corrupt input"),
        ("cut frame", cut, "s2: corrupt input"),
        ("flipped bit", flipped, "s2: corrupt input"),
        ("empty", Vec::new(), "EOF"),
        ("no end", archive(STATE, &[GOOD], false), "EOF"),
        ("no magic", no_magic, "archive: invalid archive stream"),
    ]
}

/// Archives that say what cannot be.
fn lying() -> Vec<Case> {
    let state = |state: &str| archive(state, &[GOOD], true);
    let message =
        |subject: &str, headers: &str| archive(STATE, &[(subject, 1, headers, &b""[..])], true);
    let mut huge = Vec::new();
    put_state(&mut huge, 1, STATE.as_bytes());
    put_message_head(&mut huge, b"t.a", 1, 1, b"", 1 << 40);
    let negative = state(r#"{"consumer_count":-1}"#);
    let range = state(r#"{"first_seq":9,"last_seq":3}"#);
    let missing = state(r#"{"messages":1,"first_seq":1,"last_seq":1,"consumer_count":3}"#);
    let twice = archive(STATE, &[GOOD, GOOD], true);
    let path = message("../../etc passwd", "");
    let headers = message("t.a", "PUB x 1");
    let time = message("t.a", "NATS/1.0\r\nNats-TTL: soon\r\n\r\n");
    vec![
        ("negative", negative, "invalid stream state: negative"),
        ("range", range, "invalid stream state: incons"),
        ("no consumers", missing, "expected consumer, found \"t.a\""),
        ("twice", twice, "message sequence 1 out of order"),
        ("huge", framed(&huge), "message sequence 1 exceeds maximum"),
        ("path", path, "message sequence 1 has an invalid subject"),
        ("headers", headers, "message sequence 1 has invalid headers"),
        ("time to live", time, "failed to parse message TTL"),
    ]
}

// proves: JS-BK-02 JS-BK-03
#[test]
fn what_lies_is_refused_and_leaves_nothing() {
    let server = Server::jetstream();
    run(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        let config =
            json!({"name": "T", "subjects": ["t.>"], "num_replicas": 1, "allow_msg_ttl": true});
        for (what, data, expected) in damaged().into_iter().chain(lying()) {
            let answer = restore(&client, &config, &data, 1 << 16).await;
            let text = answer["error"]["description"].as_str().unwrap_or_default();
            let expected = format!("restore failed: {expected}");
            assert!(text.starts_with(&expected), "{what}: {answer}");
            assert_eq!(answer["error"]["err_code"], 10062, "{what}");
            assert_eq!(
                ok(&client, "STREAM.NAMES", Value::Null).await["total"],
                0,
                "{what}"
            );
        }
        let good = archive(STATE, &[("t.a", 1, "", b"x")], true);
        let answer = restore(&client, &config, &good, 1 << 16).await;
        assert_eq!(answer["state"]["last_seq"], 2, "{answer}");
    });
}

// proves: JS-BK-03
#[test]
fn a_few_bytes_that_stand_for_very_many_do_not_fill_memory() {
    let server = Server::jetstream();
    let resident = || {
        let path = format!("/proc/{}/statm", server.process_id());
        let text = std::fs::read_to_string(path).unwrap();
        text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    run(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        // 600 messages of zeros, 300 MB, that pack to almost nothing, and no end.
        let zeros = vec![0u8; 1 << 20];
        let messages: Vec<(&str, u64, &str, &[u8])> = (1..=600)
            .map(|sequence| ("t.a", sequence, "", &zeros[..1 << 19]))
            .collect();
        let state = r#"{"messages":600,"bytes":0,"first_seq":1,"last_seq":600}"#;
        let data = archive(state, &messages, false);
        assert!(data.len() < 2 << 20, "{}", data.len());
        let config = json!({"name": "T", "subjects": ["t.>"], "num_replicas": 1});
        let before = resident();
        let answer = restore(&client, &config, &data, 1 << 19).await;
        assert_eq!(answer["error"]["err_code"], 10062, "{answer}");
        let grown = resident().saturating_sub(before);
        assert!(grown < 200 << 20, "{grown} bytes more");
    });
}
