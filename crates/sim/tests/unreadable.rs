//! A message whose bytes are damaged on disk: everybody who asks for it is told so, nobody is told
//! that there is none, and everything else is served.

mod support;

use millrace_sim::client::Received;
use millrace_sim::world::World;
use serde_json::Value;
use support::{ask, settle, started, stop};

/// A server with three messages in segments, the second of which is damaged.
fn damaged() -> World {
    let mut world = started();
    let config = r#"{"name":"S","subjects":["s.>"],"allow_direct":true}"#;
    ask(
        &mut world,
        "$JS.API.STREAM.CREATE.S",
        "answers.create",
        config,
    );
    for payload in ["the first", "the second", "the third"] {
        ask(&mut world, "s.a", "answers.publish", payload);
    }
    stop(&mut world);
    let place = world.disk.files().find_map(|(path, bytes)| {
        let found = bytes.windows(10).position(|part| part == b"the second");
        let is_segment = path.starts_with("streams/");
        Some((path.to_owned(), found.filter(|_| is_segment)?))
    });
    let (path, offset) = place.expect("it is in a segment");
    assert!(world.disk.flip_bit(&path, offset as u64, 3));
    world.boot();
    settle(&mut world);
    world.received.clear();
    world
}

/// What came on a subject.
fn answers<'a>(world: &'a World, subject: &str) -> Vec<&'a Received> {
    let all = world.received.iter();
    all.filter(|message| message.subject == subject).collect()
}

// proves: JS-STR-12
#[test]
fn a_message_that_cannot_be_read_is_not_said_to_be_missing() {
    let mut world = damaged();
    let call = "$JS.API.STREAM.MSG.GET.S";
    ask(&mut world, call, "answers.get", r#"{"seq":2}"#);
    ask(&mut world, call, "answers.none", r#"{"seq":9}"#);
    ask(&mut world, call, "answers.next", r#"{"seq":3}"#);
    let error = |subject: &str| {
        let found = answers(&world, subject);
        assert_eq!(found.len(), 1, "{subject}");
        let body: Value = serde_json::from_slice(&found[0].payload).expect("JSON");
        body["error"].clone()
    };
    let refused = error("answers.get");
    assert_eq!(
        (&refused["code"], &refused["err_code"]),
        (&500.into(), &10_051.into())
    );
    assert_eq!(refused["description"], "message 2 cannot be read");
    assert_eq!(error("answers.none")["err_code"], 10_037);
    assert_eq!(error("answers.next"), Value::Null);
}

#[test]
fn a_direct_get_says_what_it_cannot_read_and_gives_the_rest() {
    let mut world = damaged();
    let call = "$JS.API.DIRECT.GET.S";
    ask(&mut world, call, "answers.one", r#"{"seq":2}"#);
    ask(&mut world, call, "answers.batch", r#"{"seq":1,"batch":9}"#);
    ask(&mut world, call, "answers.behind", r#"{"seq":3,"batch":9}"#);
    let found = answers(&world, "answers.one");
    let line = b"NATS/1.0 500 Message Cannot Be Read\r\n";
    assert!(
        found.len() == 1 && found[0].headers.starts_with(line),
        "{found:?}"
    );
    let found = answers(&world, "answers.batch");
    let sequences: Vec<_> = found.iter().map(|it| it.header("Nats-Sequence")).collect();
    assert_eq!(sequences, [Some("1"), Some("3"), Some("2")]);
    let end = found[2];
    assert_eq!(
        (end.status(), end.header("Nats-Num-Pending")),
        (Some(500), Some("0"))
    );
    let found = answers(&world, "answers.behind");
    assert_eq!(found.last().and_then(|end| end.status()), Some(204));
}

#[test]
fn a_consumer_goes_on_without_it_and_says_why() {
    let mut world = damaged();
    let config = r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit","deliver_subject":"answers.push"}}"#;
    ask(
        &mut world,
        "$JS.API.CONSUMER.DURABLE.CREATE.S.C",
        "answers.create",
        config,
    );
    let pushed: Vec<_> = world
        .received
        .iter()
        .filter(|message| message.reply.starts_with("$JS.ACK.S.C."))
        .map(|message| String::from_utf8_lossy(&message.payload).into_owned())
        .collect();
    assert_eq!(pushed, ["the first", "the third"]);
    let told = answers(&world, "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.S.C");
    assert_eq!(told.len(), 1, "{told:?}");
    let event: Value = serde_json::from_slice(&told[0].payload).expect("JSON");
    assert_eq!(event["stream_seq"], 2);
    assert_eq!(event["reason"], "message cannot be read");
}
