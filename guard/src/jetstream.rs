//! JetStream on a leader whose log commits at once: publish, batch, replay, and a pull consumer
//! with its acknowledgements. The disk is never reached, the stores stay in memory.

use std::collections::BTreeMap;
use std::hint::black_box;

use bytes::Bytes;
use millrace_clock::Now;
use millrace_jetstream::{
    AccountRef, AccountSettings, Effect, Endpoint, GroupId, Input, JetStream, JournalPosition,
    Message, Outbound, Settings, StreamId,
};

const NOW: Now = Now {
    monotonic_ns: 1_000_000_000,
    wall_ns: 1_700_000_000_000_000_000,
};
const ACCOUNT: AccountRef = AccountRef(1);
/// Publishes that arrive in one turn.
const TURN_MESSAGES: u64 = 50;
/// Messages of a batch.
const BATCH_MESSAGES: u64 = 100;
/// Messages of a pull request.
const PULL_MESSAGES: u64 = 200;
/// Messages in the stream before reading or replaying begins, whatever the count.
const STORED_MESSAGES: u64 = 8_000;
const SUBJECTS: u64 = 100;
const PAYLOAD: &[u8] = &[b'x'; 128];

/// Counts what leaves and keeps the reply subjects of deliveries.
#[derive(Default)]
struct Sink {
    sent: u64,
    acknowledgements: Vec<Bytes>,
}

impl Outbound for Sink {
    fn send(
        &mut self,
        _account: AccountRef,
        subject: &[u8],
        _reply: &[u8],
        _headers: &[u8],
        payload: &[u8],
    ) -> bool {
        black_box((subject, payload));
        self.sent += 1;
        true
    }

    fn deliver(
        &mut self,
        _account: AccountRef,
        _destination: &[u8],
        subject: &[u8],
        reply: &[u8],
        _headers: &[u8],
        payload: &Bytes,
    ) -> bool {
        black_box((subject, payload));
        self.acknowledgements.push(Bytes::copy_from_slice(reply));
        true
    }

    fn has_interest(&self, _account: AccountRef, _subject: &[u8]) -> bool {
        true
    }

    fn has_queue_interest(&self, _account: AccountRef, _subject: &[u8], _queue: &[u8]) -> bool {
        false
    }
}

/// One server's JetStream with the logs of its groups.
struct World {
    engine: JetStream,
    sink: Sink,
    effects: Vec<Effect>,
    /// The committed entries of every group, in order.
    logs: BTreeMap<GroupId, Vec<Bytes>>,
    journal_offset: u64,
}

impl World {
    fn new() -> Self {
        let settings = Settings {
            accounts: vec![AccountSettings {
                tiers: BTreeMap::new(),
                account: ACCOUNT,
                name: "$G".to_owned(),
                limits: Default::default(),
            }],
            seed: 7,
            ..Settings::default()
        };
        let mut world = Self {
            engine: JetStream::new(settings),
            sink: Sink::default(),
            effects: Vec::new(),
            logs: BTreeMap::new(),
            journal_offset: 0,
        };
        world.engine.start(&mut world.effects);
        world
    }

    /// A leader with the stream `S` on `S.>`.
    fn with_stream(extra: &str) -> (Self, StreamId) {
        let mut world = Self::new();
        world.end_turn();
        let body = format!("{{\"name\":\"S\",\"subjects\":[\"S.>\"]{extra}}}");
        world.api("STREAM.CREATE.S", body);
        let stream = world
            .engine
            .stream_by_name(ACCOUNT, "S")
            .expect("the stream was created")
            .id;
        (world, stream)
    }

    fn api(&mut self, call: &str, body: String) {
        let message = Message {
            subject: Bytes::from(format!("$JS.API.{call}")),
            reply: Bytes::from_static(b"_INBOX.api"),
            payload: Bytes::from(body),
            ..Message::default()
        };
        self.deliver(Endpoint::Api, message);
        self.end_turn();
    }

    fn deliver(&mut self, endpoint: Endpoint, message: Message) {
        let input = Input::Deliver {
            account: ACCOUNT,
            endpoint,
            message,
        };
        self.input(input);
    }

    fn input(&mut self, input: Input) {
        self.engine
            .handle(NOW, input, &mut self.sink, &mut self.effects);
    }

    /// Ends the turn, commits what it proposed, until nothing more happens.
    fn end_turn(&mut self) {
        loop {
            self.engine
                .end_of_turn(NOW, &mut self.sink, &mut self.effects);
            if self.effects.is_empty() {
                return;
            }
            for effect in std::mem::take(&mut self.effects) {
                match effect {
                    Effect::CreateGroup { group, .. } => {
                        self.commit(group, Bytes::new());
                        self.input(Input::RoleChanged {
                            group,
                            leader: true,
                            term: 1,
                        });
                    }
                    Effect::Propose { group, data, .. } => self.commit(group, data),
                    _ => {}
                }
            }
        }
    }

    fn commit(&mut self, group: GroupId, data: Bytes) {
        let log = self.logs.entry(group).or_default();
        log.push(data.clone());
        let index = log.len() as u64;
        self.journal_offset += 4096 + data.len() as u64;
        self.input(Input::Committed {
            group,
            index,
            term: 1,
            data,
            position: Some(JournalPosition {
                file: 1,
                offset: self.journal_offset,
            }),
        });
    }

    /// Publishes in turns; `headers` makes the header block of a message by its number.
    fn publish(&mut self, stream: StreamId, count: u64, headers: impl Fn(u64) -> String) {
        let subjects: Vec<Bytes> = (0..SUBJECTS)
            .map(|number| Bytes::from(format!("S.{number}")))
            .collect();
        for (number, subject) in (0..count).zip(subjects.iter().cycle()) {
            let message = Message {
                subject: subject.clone(),
                reply: Bytes::from_static(b"_INBOX.abcdefgh.1"),
                headers: Bytes::from(headers(number)),
                payload: Bytes::from_static(PAYLOAD),
                client: None,
            };
            self.deliver(Endpoint::Ingest(stream), message);
            if (number + 1) % TURN_MESSAGES == 0 {
                self.end_turn();
            }
        }
    }

    fn stored(&self, stream: StreamId) -> u64 {
        let stream = self.engine.streams.get(&stream);
        stream.map_or(0, |stream| stream.store.state().messages)
    }
}

/// Plain publishes to a file stream.
pub(crate) fn publish(count: u64) {
    let (mut world, stream) = World::with_stream("");
    world.publish(stream, count, |_| String::new());
    assert_eq!(world.stored(stream), count);
}

/// Publishes with an id and an expected sequence to a stream that keeps one message per subject.
pub(crate) fn publish_checked(count: u64) {
    let (mut world, stream) = World::with_stream(",\"max_msgs_per_subject\":1,\"discard\":\"old\"");
    world.publish(stream, count, |number| {
        format!(
            "NATS/1.0\r\nNats-Msg-Id: id-{number}\r\nNats-Expected-Last-Sequence: {number}\r\n\r\n"
        )
    });
    assert_eq!(world.stored(stream), count.min(SUBJECTS));
}

/// Atomic batches from their first message to their acknowledgement.
pub(crate) fn batches(count: u64) {
    let (mut world, stream) = World::with_stream(",\"allow_atomic\":true");
    world.publish(stream, count, |number| {
        let batch = number / BATCH_MESSAGES;
        let place = number % BATCH_MESSAGES + 1;
        let commit = if place == BATCH_MESSAGES {
            "Nats-Batch-Commit: 1\r\n"
        } else {
            ""
        };
        format!("NATS/1.0\r\nNats-Batch-Id: batch-{batch}\r\nNats-Batch-Sequence: {place}\r\n{commit}\r\n")
    });
    assert_eq!(world.stored(stream), count);
}

/// Entries of a log applied by a server that starts.
pub(crate) fn replay(count: u64) {
    let (mut leader, stream) = World::with_stream("");
    leader.publish(stream, STORED_MESSAGES, |_| String::new());
    let mut world = World::new();
    world.effects.clear();
    for data in leader.logs.remove(&GroupId(0)).unwrap_or_default() {
        world.commit(GroupId(0), data);
    }
    for data in leader.logs.remove(&stream.group()).unwrap_or_default() {
        if world.stored(stream) < count {
            world.commit(stream.group(), data);
        }
    }
    assert_eq!(world.stored(stream), count);
}

/// Pull requests of a consumer that acknowledges every message.
pub(crate) fn pull_and_ack(count: u64) {
    let (mut world, stream) = World::with_stream("");
    world.publish(stream, STORED_MESSAGES, |_| String::new());
    let body =
        "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"C\",\"ack_policy\":\"explicit\"}}";
    world.api("CONSUMER.DURABLE.CREATE.S.C", body.to_owned());
    let mut delivered = 0;
    while delivered < count {
        let message = Message {
            subject: Bytes::from_static(b"$JS.API.CONSUMER.MSG.NEXT.S.C"),
            reply: Bytes::from_static(b"_INBOX.abcdefgh.1"),
            payload: Bytes::from(format!("{{\"batch\":{PULL_MESSAGES}}}")),
            ..Message::default()
        };
        world.deliver(Endpoint::NextRequest(stream), message);
        world.end_turn();
        let replies = std::mem::take(&mut world.sink.acknowledgements);
        assert_eq!(replies.len() as u64, PULL_MESSAGES);
        delivered += PULL_MESSAGES;
        for subject in replies {
            let message = Message {
                subject,
                ..Message::default()
            };
            world.deliver(Endpoint::Ack(stream), message);
        }
        world.end_turn();
    }
}
