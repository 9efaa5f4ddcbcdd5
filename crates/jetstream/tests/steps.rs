//! What is too much for one call goes in steps, and nobody sees the steps: readers and later entries
//! wait, or are told the numbers from before.

mod support;

use millrace_jetstream::{Endpoint, Input, Message, StreamId};
use support::{ACCOUNT, Harness, settings};

const MESSAGES: u64 = 6_000;
/// Items that one call may look at, twice: a turn here is a tick and what is committed after it.
const PER_TURN: u64 = 2 * 1_000 + 10;

/// A stream with messages on `S.0` to `S.2` in turn.
fn filled(harness: &mut Harness, extra: &str) -> StreamId {
    let stream = harness.create("S", extra);
    for number in 0..MESSAGES {
        harness.publish_later(stream, &format!("S.{}", number % 3), &[], "x");
        if number % 500 == 499 {
            harness.end_of_turn();
            harness.rest();
        }
    }
    harness.end_of_turn();
    harness.rest();
    harness.out.sent.clear();
    stream
}

/// An API request whose answer may come later; gives the reply subject.
fn ask(harness: &mut Harness, call: &str, body: &str) -> String {
    let reply = harness.fresh_reply();
    harness.input(Input::Deliver {
        account: ACCOUNT,
        endpoint: Endpoint::Api,
        message: Message {
            subject: format!("$JS.API.{call}").into(),
            reply: reply.clone().into(),
            payload: body.to_owned().into(),
            ..Message::default()
        },
    });
    reply
}

fn answer(harness: &mut Harness, reply: &str) -> serde_json::Value {
    serde_json::from_str(&harness.answer(reply)).expect("an answer")
}

/// One turn after the other until all is done; no turn removes more than it may. Gives the turns.
fn step_through(harness: &mut Harness, stream: StreamId) -> u64 {
    let mut turns = 0;
    while harness.engine.next_deadline() == Some(0) {
        let before = harness.state(stream).0;
        harness.input(Input::Tick);
        assert!(
            before.saturating_sub(harness.state(stream).0) <= PER_TURN,
            "turn {turns}"
        );
        turns += 1;
    }
    turns
}

fn check_replays(harness: &Harness, stream: StreamId) {
    for turns in [0, 1, 3, u64::MAX] {
        let replayed = harness.replayed_hash_with(settings(), stream, turns);
        assert_eq!(
            replayed,
            harness.hash(stream),
            "{turns} turns between entries"
        );
    }
}

#[test]
fn a_purge_by_filter_is_seen_as_a_whole() {
    let mut harness = Harness::new();
    let stream = filled(&mut harness, ",\"allow_direct\":true");
    let purge = ask(
        &mut harness,
        "STREAM.PURGE.S",
        "{\"filter\":\"S.*\",\"keep\":3}",
    );
    assert!(harness.state(stream).0 < MESSAGES, "begun");
    assert!(harness.state(stream).0 > 3, "not at its end");
    assert!(harness.take(&purge).is_none(), "answered too early");
    // Readers wait, and a publish waits for its place.
    let info = ask(&mut harness, "STREAM.INFO.S", "");
    let list = ask(&mut harness, "STREAM.LIST", "");
    let get = ask(&mut harness, "STREAM.MSG.GET.S", "{\"seq\":5900}");
    let direct = harness.fresh_reply();
    harness.input(Input::Deliver {
        account: ACCOUNT,
        endpoint: Endpoint::DirectGet(stream),
        message: Message {
            subject: "$JS.API.DIRECT.GET.S".into(),
            reply: direct.clone().into(),
            payload: "{\"seq\":5900}".into(),
            ..Message::default()
        },
    });
    let published = harness.publish_later(
        stream,
        "S.9",
        &[("Nats-Expected-Last-Sequence", "6000")],
        "y",
    );
    for reply in [&info, &list, &get, &direct, &published] {
        assert!(harness.take(reply).is_none(), "answered too early");
    }
    let turns = step_through(&mut harness, stream);
    assert!(turns >= MESSAGES / PER_TURN - 1, "{turns} turns");
    assert_eq!(answer(&mut harness, &purge)["purged"], MESSAGES - 3);
    assert!(answer(&mut harness, &published)["seq"] == MESSAGES + 1);
    let messages = &answer(&mut harness, &info)["state"]["messages"];
    assert!(*messages == 3 || *messages == 4, "{messages}");
    let messages = &answer(&mut harness, &list)["streams"][0]["state"]["messages"];
    assert!(*messages == 3 || *messages == 4, "{messages}");
    assert_eq!(answer(&mut harness, &get)["error"]["err_code"], 10037);
    assert!(
        harness
            .take(&direct)
            .is_some_and(|sent| sent.headers.contains("404"))
    );
    assert_eq!(harness.state(stream), (4, MESSAGES - 2, MESSAGES + 1));
    check_replays(&harness, stream);
}

#[test]
fn limits_that_are_lowered_and_messages_that_are_due_go_in_steps() {
    let mut harness = Harness::new();
    let stream = filled(&mut harness, "");
    let update = |extra: &str| format!("{{\"name\":\"S\",\"subjects\":[\"S.>\"],{extra}}}");
    let reply = ask(
        &mut harness,
        "STREAM.UPDATE.S",
        &update("\"max_msgs_per_subject\":1500"),
    );
    assert!(harness.take(&reply).is_none(), "answered too early");
    assert!(step_through(&mut harness, stream) > 0);
    assert_eq!(answer(&mut harness, &reply)["state"]["messages"], 4_500);

    let reply = ask(
        &mut harness,
        "STREAM.UPDATE.S",
        &update("\"max_msgs\":2500"),
    );
    assert!(harness.take(&reply).is_none(), "answered too early");
    assert!(step_through(&mut harness, stream) > 0);
    assert_eq!(answer(&mut harness, &reply)["state"]["messages"], 2_500);

    let reply = ask(
        &mut harness,
        "STREAM.UPDATE.S",
        &update("\"max_age\":1000000000"),
    );
    harness.rest();
    assert!(harness.take(&reply).is_some());
    harness.advance_ms(2_000);
    assert!(harness.state(stream).0 > 0, "all due messages in one call");
    assert!(step_through(&mut harness, stream) > 0);
    assert_eq!(harness.state(stream), (0, MESSAGES + 1, MESSAGES));
    check_replays(&harness, stream);
}

#[test]
fn a_roll_up_of_many_messages_ends_before_the_next_entry() {
    let mut harness = Harness::new();
    let stream = filled(&mut harness, ",\"allow_rollup_hdrs\":true");
    let first = harness.publish_later(stream, "S.0", &[("Nats-Rollup", "sub")], "y");
    harness.end_of_turn();
    let second = harness.publish_later(stream, "S.1", &[("Nats-Rollup", "all")], "z");
    harness.end_of_turn();
    assert!(harness.take(&first).is_none() && harness.take(&second).is_none());
    step_through(&mut harness, stream);
    assert_eq!(answer(&mut harness, &first)["seq"], MESSAGES + 1);
    assert_eq!(answer(&mut harness, &second)["seq"], MESSAGES + 2);
    assert_eq!(harness.state(stream), (1, MESSAGES + 2, MESSAGES + 2));
    check_replays(&harness, stream);
}

#[test]
fn the_lead_may_change_hands_between_two_steps() {
    let mut harness = Harness::new();
    let stream = filled(&mut harness, "");
    ask(&mut harness, "STREAM.PURGE.S", "{\"filter\":\"S.1\"}");
    harness.depose(stream.group());
    harness.input(Input::Tick);
    harness.elect(stream.group());
    step_through(&mut harness, stream);
    assert_eq!(harness.state(stream).0, MESSAGES * 2 / 3);
    let answer = harness.publish(stream, "S.1", &[], "y");
    assert!(answer.contains("6001"), "{answer}");
    check_replays(&harness, stream);
}

#[test]
fn emptying_a_stream_is_one_step() {
    let mut harness = Harness::new();
    let stream = filled(&mut harness, "");
    let purge = ask(&mut harness, "STREAM.PURGE.S", "");
    assert_eq!(answer(&mut harness, &purge)["purged"], MESSAGES);
    assert_eq!(harness.state(stream), (0, MESSAGES + 1, MESSAGES));
    harness.rest();
    check_replays(&harness, stream);
}

#[test]
fn many_subjects_are_listed_in_steps_and_in_pages() {
    const SUBJECTS: u64 = 4_500;
    let mut harness = Harness::new();
    let stream = harness.create("S", "");
    for number in 0..SUBJECTS {
        // '-' sorts before '.', tokens sort otherwise: the answer is sorted by its text.
        let subject = if number % 2 == 0 {
            format!("S.k-{number}")
        } else {
            format!("S.k.{number}")
        };
        harness.publish_later(stream, &subject, &[], "x");
    }
    harness.end_of_turn();
    harness.rest();
    let reply = ask(
        &mut harness,
        "STREAM.INFO.S",
        "{\"subjects_filter\":\"S.>\",\"offset\":4490}",
    );
    assert!(harness.take(&reply).is_none(), "all in one call");
    assert!(harness.rest() >= 4);
    let answer = answer(&mut harness, &reply);
    assert_eq!(
        (&answer["total"], &answer["offset"]),
        (&SUBJECTS.into(), &4490.into())
    );
    let listed = answer["state"]["subjects"].as_object().expect("subjects");
    assert_eq!(listed.len(), 10);
    assert!(
        listed.keys().all(|subject| subject.starts_with("S.k.9")),
        "{listed:?}"
    );
    let answer = harness
        .api("STREAM.INFO.S", "{\"subjects_filter\":\"S.k.7\"}")
        .expect("few at once");
    assert_eq!(answer["state"]["subjects"]["S.k.7"], 1);
}
