//! `kill -9` while a consumer is at work: what was confirmed as acknowledged never comes back, and
//! what nobody acknowledged is delivered until somebody does (hard-parts 10).

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::collections::BTreeSet;

use millrace_tests::server::wait_for;
use millrace_tests::{RawClient, Server, ServerBuilder};
use serde_json::json;

/// Kills per test; each finds the consumer at another moment of its work.
const KILLS: usize = 4;
/// Messages of the stream.
const MESSAGES: u64 = 3000;
/// Confirmations to wait for before each kill.
const CONFIRMED_MIN: usize = 250;
/// Messages of a pull request.
const BATCH: usize = 100;

/// What the client knows about the messages.
#[derive(Default)]
struct Ledger {
    /// Acknowledged, and the server confirmed it.
    confirmed: BTreeSet<u64>,
    /// Acknowledged, confirmed or not.
    sent: BTreeSet<u64>,
    /// Delivered at least once.
    seen: BTreeSet<u64>,
}

fn start(server: Server) -> Server {
    let server = server.restart(ServerBuilder::millrace().jetstream());
    wait_for("JetStream to answer", || {
        let mut client = RawClient::ready(&server.address);
        let answer = client.request("$JS.API.CONSUMER.INFO.WORK.C", b"");
        (!answer.payload.is_empty()).then_some(())
    });
    server
}

fn create(server: &Server, retention: &str) {
    let mut client = RawClient::ready(&server.address);
    let stream = json!({"name": "WORK", "subjects": ["work"], "retention": retention});
    let answer = client.request("$JS.API.STREAM.CREATE.WORK", stream.to_string().as_bytes());
    assert!(answer.json().get("error").is_none(), "{}", answer.text());
    // The ack wait is short, so that what a kill left pending comes again soon.
    let config = json!({
        "durable_name": "C", "ack_policy": "explicit", "ack_wait": 1_000_000_000,
        "max_ack_pending": 500,
    });
    let body = json!({"stream_name": "WORK", "config": config});
    let answer = client.request(
        "$JS.API.CONSUMER.DURABLE.CREATE.WORK.C",
        body.to_string().as_bytes(),
    );
    assert!(answer.json().get("error").is_none(), "{}", answer.text());
    client.send(b"SUB stored 7\r\n");
    for number in 1..=MESSAGES {
        client.publish("work", "stored", b"", number.to_string().as_bytes());
    }
    for _ in 0..MESSAGES {
        let answer = client.read_message().json();
        assert!(answer.get("error").is_none(), "{answer}");
    }
}

/// The stream sequence in an ack subject.
fn sequence_of(reply: &str) -> u64 {
    reply.split('.').nth(5).unwrap().parse().unwrap()
}

/// Takes messages and acknowledges each with a request for confirmation, until `enough`.
fn work(server: &Server, ledger: &mut Ledger, enough: impl Fn(&Ledger) -> bool) {
    let mut client = RawClient::ready(&server.address);
    client.send(b"SUB in 1\r\nSUB confirmed.* 2\r\n");
    let request = format!("{{\"batch\":{BATCH},\"expires\":3000000000}}");
    let next = "$JS.API.CONSUMER.MSG.NEXT.WORK.C";
    client.publish(next, "in", b"", request.as_bytes());
    let mut taken = 0;
    while !enough(ledger) {
        let message = client.read_message();
        if let Some(sequence) = message.subject.strip_prefix("confirmed.") {
            ledger.confirmed.insert(sequence.parse().unwrap());
            continue;
        }
        let expired = message.headers.starts_with(b"NATS/1.0 408");
        if !expired {
            assert!(message.headers.is_empty(), "{message:?}");
            let sequence = sequence_of(&message.reply);
            assert_eq!(message.text(), sequence.to_string());
            assert!(
                !ledger.confirmed.contains(&sequence),
                "{sequence} came again though its acknowledgement was confirmed"
            );
            ledger.seen.insert(sequence);
            ledger.sent.insert(sequence);
            let verb = if sequence.is_multiple_of(5) {
                "+TERM"
            } else {
                "+ACK"
            };
            let answer = format!("confirmed.{sequence}");
            client.publish(&message.reply, &answer, b"", verb.as_bytes());
            taken += 1;
        }
        if expired || taken == BATCH {
            taken = 0;
            client.publish(next, "in", b"", request.as_bytes());
        }
    }
}

fn acknowledgements_survive(retention: &str) {
    let mut server = Server::jetstream();
    create(&server, retention);
    let mut ledger = Ledger::default();
    for kill in 1..=KILLS {
        // Not a multiple of the batch: the kill comes in the middle of one.
        let enough = kill * CONFIRMED_MIN + kill * 7;
        work(&server, &mut ledger, |ledger| {
            ledger.confirmed.len() >= enough
        });
        server = start(server);
    }
    let mut client = RawClient::ready(&server.address);
    if retention == "workqueue" {
        let info = client.request("$JS.API.STREAM.INFO.WORK", b"").json();
        let left = info["state"]["messages"].as_u64().unwrap();
        assert!(left <= MESSAGES - ledger.confirmed.len() as u64, "{info}");
        assert!(left >= MESSAGES - ledger.sent.len() as u64, "{info}");
    }
    // An unconfirmed acknowledgement may have been logged or not; everything else has to come.
    let unconfirmed: BTreeSet<u64> = ledger.sent.difference(&ledger.confirmed).copied().collect();
    work(&server, &mut ledger, |ledger| {
        let done =
            |sequence: &u64| ledger.confirmed.contains(sequence) || unconfirmed.contains(sequence);
        (1..=MESSAGES).all(|sequence| done(&sequence))
    });
    assert_eq!(ledger.seen.len() as u64, MESSAGES, "all were delivered");
    let info = wait_for("the last redeliveries to be settled", || {
        let info = client.request("$JS.API.CONSUMER.INFO.WORK.C", b"").json();
        let left = |what: &str| info[what].as_u64().unwrap();
        if left("num_ack_pending") > 0 {
            let ledger = &mut ledger;
            let pending = left("num_ack_pending");
            work_once(&server, ledger, pending);
            return None;
        }
        (left("num_pending") == 0).then_some(info)
    });
    assert_eq!(info["ack_floor"]["stream_seq"], MESSAGES, "{info}");
}

/// Takes what an unconfirmed acknowledgement of before the last kill left pending.
fn work_once(server: &Server, ledger: &mut Ledger, pending: u64) {
    let before = ledger.confirmed.len();
    let wanted = usize::try_from(pending).unwrap();
    work(server, ledger, |ledger| {
        ledger.confirmed.len() >= before + wanted
    });
}

// proves: JS-CON-19, JS-CON-34
#[test]
fn a_confirmed_acknowledgement_survives_kill_9_and_nothing_else_is_lost() {
    acknowledgements_survive("limits");
}

// proves: JS-STR-17, JS-CON-19
#[test]
fn a_work_queue_keeps_after_kill_9_exactly_what_was_not_acknowledged() {
    acknowledgements_survive("workqueue");
}
