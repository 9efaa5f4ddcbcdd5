//! The puller, input by input.

use bytes::Bytes;
use millrace_clock::Now;

use super::{Answered, IndexName, Kind, Place, Puller};
use crate::ids::{AccountRef, Endpoint, StreamId};
use crate::io::{Effect, Message};
use crate::model::{StreamSource, SubjectTransformConfig};
use crate::outbound::Outbound;
use crate::settings::Settings;
use crate::shared::{Shared, Turn};

const SECOND_NS: u64 = Now::SECOND_NS;

#[derive(Default)]
struct Sent(Vec<(String, String, String)>);

impl Outbound for Sent {
    fn send(
        &mut self,
        _: AccountRef,
        subject: &[u8],
        _: &[u8],
        headers: &[u8],
        body: &[u8],
    ) -> bool {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.0.push((text(subject), text(headers), text(body)));
        true
    }

    fn deliver(
        &mut self,
        account: AccountRef,
        destination: &[u8],
        _: &[u8],
        reply: &[u8],
        headers: &[u8],
        payload: &Bytes,
    ) -> bool {
        self.send(account, destination, reply, headers, payload)
    }

    fn has_interest(&self, _: AccountRef, _: &[u8]) -> bool {
        true
    }

    fn has_queue_interest(&self, _: AccountRef, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

struct Bench {
    puller: Puller,
    place: Place,
    shared: Shared,
    now: Now,
    out: Sent,
    effects: Vec<Effect>,
}

impl Bench {
    fn new(source: StreamSource) -> Self {
        let now = Now {
            monotonic_ns: 100 * SECOND_NS,
            wall_ns: 1_700_000_000_000_000_000,
        };
        let place = Place {
            account: Some(AccountRef(1)),
            account_name: "A".to_owned(),
            domain: String::new(),
            stream: "S".to_owned(),
            id: Some(StreamId(7)),
        };
        let kind = Kind::Source(IndexName::new(&source));
        Self {
            puller: Puller::new(&place, &source, kind, now),
            place,
            shared: Shared::new(&Settings::default()),
            now,
            out: Sent::default(),
            effects: Vec::new(),
        }
    }

    fn with<R>(&mut self, act: impl FnOnce(&mut Puller, &mut Turn<'_>, &Place) -> R) -> R {
        let mut turn = Turn {
            now: self.now,
            out: &mut self.out,
            effects: &mut self.effects,
            shared: &mut self.shared,
        };
        act(&mut self.puller, &mut turn, &self.place)
    }

    /// Lets time pass; gives what was sent.
    fn sleep(&mut self, seconds: u64) -> Vec<(String, String, String)> {
        self.now.monotonic_ns += seconds * SECOND_NS;
        self.with(|puller, turn, place| puller.tick(turn, place));
        std::mem::take(&mut self.out.0)
    }

    fn answer(&mut self, headers: &str, body: &str) -> Answered {
        let message = Message {
            headers: Bytes::from(headers.to_owned()),
            payload: Bytes::from(body.to_owned()),
            ..Message::default()
        };
        self.with(|puller, turn, place| puller.answered(turn, place, &message))
    }

    fn begin(&mut self) {
        self.sleep(0);
        let answered = self.answer(
            "NATS/1.0\r\nNats-Stream-Identity: id\r\n\r\n",
            r#"{"name":"C","num_pending":3,"delivered":{"consumer_seq":0,"stream_seq":0}}"#,
        );
        assert!(matches!(answered, Answered::Begun { delivered: 0, .. }));
    }

    /// A delivery; gives its sequence and subject if it was taken.
    fn deliver(&mut self, subject: &str, sequence: u64, consumer: u64) -> Option<(u64, Bytes)> {
        let message = Message {
            subject: Bytes::from(subject.to_owned()),
            reply: Bytes::from(format!("$JS.ACK.O.C.1.{sequence}.{consumer}.5.0")),
            ..Message::default()
        };
        let taken = self.with(|puller, turn, place| puller.take(turn, place, message));
        taken.map(|arrival| (arrival.delivered.sequence, arrival.subject))
    }

    fn control(&mut self, reply: &str, headers: &str) -> Option<Bytes> {
        let message = Message {
            reply: Bytes::from(reply.to_owned()),
            headers: Bytes::from(headers.to_owned()),
            ..Message::default()
        };
        let answer = self.with(|puller, turn, place| puller.control(turn, place, &message));
        answer.map(|answer| answer.reply)
    }
}

fn source() -> StreamSource {
    StreamSource {
        name: "O".to_owned(),
        ..StreamSource::default()
    }
}

#[test]
fn an_origin_is_asked_listened_to_and_left() {
    let mut bench = Bench::new(StreamSource {
        filter_subject: "a.*".to_owned(),
        opt_start_seq: 5,
        ..source()
    });
    let sent = bench.sleep(0);
    let (subject, headers, body) = &sent[0];
    assert!(subject.starts_with("$JS.API.CONSUMER.CREATE.O.JS_SRC_") && subject.ends_with(".a.*"));
    assert!(headers.contains("Nats-Required-Api-Level: 5\r\nNats-Stream-Identity: \r\n"));
    assert!(body.contains(r#""deliver_policy":"by_start_sequence","opt_start_seq":5"#));
    let binds = bench.effects.iter().filter(|effect| {
        matches!(
            effect,
            Effect::Bind {
                endpoint: Endpoint::Origin(_) | Endpoint::OriginAnswer(_),
                ..
            }
        )
    });
    assert_eq!(binds.count(), 2);
    bench.answer("", r#"{"name":"C"}"#);
    bench.effects.clear();
    bench.with(|puller, turn, place| puller.leave(turn, place));
    assert_eq!(bench.out.0[0].0, "$JS.API.CONSUMER.DELETE.O.C");
    assert_eq!(bench.effects.len(), 2);
    assert_eq!(bench.puller.origin(), None);
}

#[test]
fn messages_are_taken_in_order_and_a_gap_begins_anew() {
    let mut bench = Bench::new(source());
    bench.begin();
    assert_eq!(bench.deliver("a", 2, 1).map(|(one, _)| one), Some(2));
    // Again, or from before: nothing happens.
    assert_eq!(bench.deliver("a", 2, 1), None);
    assert!(bench.puller.is_pulling());
    assert_eq!(bench.deliver("a", 4, 2).map(|(one, _)| one), Some(4));
    bench.puller.advance(4);
    assert_eq!(bench.deliver("a", 9, 4), None);
    assert!(!bench.puller.is_pulling());
    // Not at once: two seconds lie between attempts.
    bench.out.0.clear();
    assert!(bench.sleep(1).is_empty());
    let sent = bench.sleep(1);
    assert!(sent[0].2.contains(r#""opt_start_seq":5"#), "{sent:?}");
    assert!(sent[0].1.contains("Nats-Stream-Identity: id\r\n"));
}

#[test]
fn what_the_consumer_of_another_attempt_sends_is_not_taken_for_the_next_message() {
    let mut bench = Bench::new(source());
    bench.begin();
    assert_eq!(bench.deliver("a", 5, 1).map(|(one, _)| one), Some(5));
    let message = Message {
        subject: Bytes::from_static(b"a"),
        reply: Bytes::from_static(b"$JS.ACK.O.OLD.1.7.2.5.0"),
        ..Message::default()
    };
    let taken = bench.with(|puller, turn, place| puller.take(turn, place, message));
    assert!(taken.is_none() && bench.puller.is_pulling());
    assert_eq!(bench.deliver("a", 6, 2).map(|(one, _)| one), Some(6));
}

#[test]
fn control_messages_are_answered_and_heartbeats_tell_what_is_missing() {
    let mut bench = Bench::new(source());
    bench.begin();
    bench.deliver("a", 1, 1);
    let flow = "NATS/1.0 100 FlowControl Request\r\n\r\n";
    assert_eq!(
        bench.control("$JS.FC.x", flow),
        Some(Bytes::from("$JS.FC.x"))
    );
    let beat = |last: u64, more: &str| {
        format!("NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: {last}\r\n{more}\r\n")
    };
    assert_eq!(bench.control("", &beat(1, "")), None);
    let stalled = beat(1, "Nats-Consumer-Stalled: $JS.FC.y\r\n");
    assert_eq!(bench.control("", &stalled), Some(Bytes::from("$JS.FC.y")));
    assert!(bench.puller.is_pulling());
    bench.control("", &beat(2, ""));
    assert!(!bench.puller.is_pulling());
}

#[test]
fn silence_and_missing_answers_are_noticed() {
    let mut bench = Bench::new(source());
    bench.begin();
    bench.sleep(9);
    assert!(bench.puller.is_pulling());
    bench.sleep(1);
    assert!(!bench.puller.is_pulling());
    bench.sleep(0);
    assert!(bench.puller.origin().is_some());
    bench.sleep(30);
    assert_eq!(bench.puller.origin(), None);
}

#[test]
fn refusals_are_reported_and_make_the_next_attempt_wait_longer() {
    let mut bench = Bench::new(source());
    let refusal = r#"{"error":{"code":404,"err_code":10059,"description":"stream not found"}}"#;
    for wait in [10, 20, 30] {
        bench.sleep(0);
        bench.answer("", refusal);
        let error = bench.puller.info(bench.now).error;
        assert_eq!(error.map(|error| error.err_code), Some(10059));
        assert!(bench.sleep(wait - 1).is_empty());
        assert_eq!(bench.sleep(1).len(), 1);
    }
    bench.answer("", refusal);
    let now = bench.now;
    bench.puller.hurry(now);
    assert_eq!(bench.sleep(0).len(), 1);
    bench.answer("", r#"{"name":"C"}"#);
    assert_eq!(bench.puller.info(bench.now).error, None);
}

// proves: JS-SRC-06
#[test]
fn another_origin_under_the_same_name_is_read_from_its_beginning() {
    let mut bench = Bench::new(source());
    bench.begin();
    bench.deliver("a", 8, 1);
    bench.puller.advance(8);
    bench.sleep(10);
    bench.sleep(0);
    let refusal = r#"{"error":{"code":400,"err_code":10225,"description":"other: x"}}"#;
    bench.answer("", refusal);
    let sent = bench.sleep(0);
    assert!(sent[0].1.contains("Nats-Stream-Identity: \r\n"), "{sent:?}");
    assert!(sent[0].2.contains(r#""deliver_policy":"all""#), "{sent:?}");
    bench.answer("", r#"{"name":"C"}"#);
    assert_eq!(bench.deliver("a", 1, 1).map(|(one, _)| one), Some(1));
}

#[test]
fn the_first_transform_that_matches_makes_the_subject() {
    let mut bench = Bench::new(StreamSource {
        subject_transforms: [("a.*", "x.$1"), ("b.>", "")]
            .map(|(src, dest)| SubjectTransformConfig {
                src: src.to_owned(),
                dest: dest.to_owned(),
            })
            .to_vec(),
        ..source()
    });
    bench.begin();
    let mut subject = |subject: &str, sequence: u64| {
        let taken = bench.deliver(subject, sequence, sequence);
        taken.map(|(_, subject)| String::from_utf8_lossy(&subject).into_owned())
    };
    assert_eq!(subject("a.1", 1).as_deref(), Some("x.1"));
    assert_eq!(subject("b.2", 2).as_deref(), Some("b.2"));
    // No subject that could be stored.
    assert_eq!(subject("a..b", 3), None);
}
