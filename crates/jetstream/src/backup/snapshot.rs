//! A stream on its way out: read message by message up to where it ended when the request came,
//! packed, and sent in chunks as fast as the receiver acknowledges them.

use bytes::Bytes;
use millrace_archive::backup;
use millrace_archive::s2::Encoder;
use millrace_store::stream::{Filter, Lookup, ReadError};

use super::advisory::{Event, tell};
use super::window::Window;
use super::{ID_LENGTH, Kind, PATIENCE_NS, Progress, Way};
use crate::consumer::exported_state;
use crate::engine::JetStream;
use crate::ids::{AccountRef, StreamId};
use crate::io::{Effect, LogLevel};
use crate::model::json::encode;
use crate::model::{StreamState, consumer_api_level, set_required_level};
use crate::outbound::ClientFacts;
use crate::stream::Stream;

/// The receiver may subscribe a little later than it asks.
const INTEREST_PATIENCE_NS: u64 = 2_000_000_000;
/// How often it is looked for.
const INTEREST_POLL_NS: u64 = 50_000_000;

/// Most messages and bytes read in one step.
const MESSAGES_PER_STEP: usize = 1_000;
const BYTES_PER_STEP: usize = 1 << 20;
/// Consumers told of in one step.
const CONSUMERS_PER_STEP: usize = 64;

const END_OK: &[u8] = b"NATS/1.0 204\r\n\r\n";

/// What a request asks for.
#[derive(Debug)]
pub struct SnapshotAsk {
    pub(crate) account: AccountRef,
    pub(crate) stream: StreamId,
    pub(crate) deliver_subject: String,
    pub(crate) no_consumers: bool,
    pub(crate) chunk_size: i64,
    pub(crate) window_size: i64,
    pub(crate) client: ClientFacts,
    /// As it was answered.
    pub(crate) state: StreamState,
}

#[derive(Debug)]
enum Phase {
    /// Until somebody listens.
    Interest { until_ns: u64 },
    /// Consumers are packed by themselves: how many there are stands before them.
    Consumers {
        names: std::vec::IntoIter<String>,
        packed: Vec<u8>,
        count: u64,
    },
    /// From this sequence on.
    Messages { next: u64 },
    /// All is packed.
    Ending,
}

/// Why a snapshot ends early.
#[derive(Debug)]
enum Failure {
    NoInterest,
    NoFlowResponse,
    /// What happened.
    Generation(String),
}

/// A snapshot under way.
#[derive(Debug)]
pub(super) struct Snapshot {
    ask: SnapshotAsk,
    name: String,
    reply_prefix: String,
    window: Window,
    encoder: Encoder,
    phase: Phase,
    start_ns: i64,
    /// Monotonic time by which the receiver must have acknowledged something.
    flow_deadline_ns: u64,
    filter: Filter,
}

impl JetStream {
    /// Begins to send a stream. The request is answered by whoever calls this.
    pub(crate) fn begin_snapshot(&mut self, way: &mut Way<'_>, ask: SnapshotAsk) {
        let Some(stream) = self.streams.get(&ask.stream) else {
            return;
        };
        let name = stream.name.clone();
        let id = self.shared.random.base62(ID_LENGTH);
        let reply_prefix = format!("$JS.SNAPSHOT.ACK.{name}.{id}");
        let filter = Bytes::from(format!("{reply_prefix}.>"));
        let start_ns = way.now.wall_ns;
        let account = ask.account;
        let event = Event::SnapshotCreate(&ask.state);
        tell(self, way, (account, &name), &ask.client, start_ns, event);
        let snapshot = Snapshot {
            window: Window::new(ask.chunk_size, ask.window_size),
            ask,
            name,
            reply_prefix,
            encoder: Encoder::default(),
            phase: Phase::Interest {
                until_ns: way.now.monotonic_ns.saturating_add(INTEREST_PATIENCE_NS),
            },
            start_ns,
            flow_deadline_ns: u64::MAX,
            filter: Filter::default(),
        };
        let kind = Kind::Snapshot(Box::new(snapshot));
        self.add_backup(account, filter, kind, way.effects);
    }
}

impl Snapshot {
    pub(super) fn acknowledged(&mut self) {
        self.window.acknowledge();
    }

    pub(super) fn step(&mut self, engine: &mut JetStream, way: &mut Way<'_>) -> Progress {
        if engine.is_applying(self.ask.stream) {
            // A part of a batch must not be seen.
            return Progress::More;
        }
        match self.advance(engine, way) {
            Ok(Progress::Done) => {
                self.end(engine, way, None);
                Progress::Done
            }
            Ok(progress) => progress,
            Err(failure) => {
                self.end(engine, way, Some(failure));
                Progress::Done
            }
        }
    }

    fn advance(&mut self, engine: &mut JetStream, way: &mut Way<'_>) -> Result<Progress, Failure> {
        if let Phase::Interest { until_ns } = self.phase {
            let subject = self.ask.deliver_subject.as_bytes();
            if !way.out.has_interest(self.ask.account, subject) {
                let now_ns = way.now.monotonic_ns;
                if now_ns >= until_ns {
                    return Err(Failure::NoInterest);
                }
                let next_ns = now_ns.saturating_add(INTEREST_POLL_NS);
                return Ok(Progress::Waiting(until_ns.min(next_ns)));
            }
            self.begin(engine);
        }
        self.send_chunks(way)?;
        if self.window.is_full() {
            if way.now.monotonic_ns >= self.flow_deadline_ns {
                return Err(Failure::NoFlowResponse);
            }
            return Ok(Progress::Waiting(self.flow_deadline_ns));
        }
        let Some(stream) = engine.streams.get_mut(&self.ask.stream) else {
            return Err(Failure::Generation("stream not found".to_owned()));
        };
        match &self.phase {
            Phase::Interest { .. } => {}
            Phase::Consumers { .. } => self.pack_consumers(stream, way.now.wall_ns)?,
            Phase::Messages { next } => {
                let next = *next;
                let packed = self.pack_messages(stream, next)?;
                let id = self.ask.stream;
                engine.with_stream(way.now, id, way.out, way.effects, Stream::poll_store);
                if packed == Lookup::Loading {
                    return Ok(Progress::Waiting(u64::MAX));
                }
            }
            Phase::Ending => {
                self.send_chunks(way)?;
                return Ok(if self.window.is_full() {
                    Progress::More
                } else {
                    Progress::Done
                });
            }
        }
        Ok(Progress::More)
    }

    fn begin(&mut self, engine: &JetStream) {
        let stream = engine.streams.get(&self.ask.stream);
        let stream = stream.filter(|_| !self.ask.no_consumers);
        let consumers = stream.map(|stream| stream.consumers.iter());
        let names: Vec<String> = consumers
            .into_iter()
            .flatten()
            .filter(|(_, slot)| !slot.config.direct)
            .map(|(name, _)| name.clone())
            .collect();
        self.phase = Phase::Consumers {
            names: names.into_iter(),
            packed: Vec::new(),
            count: 0,
        };
    }

    fn pack_consumers(&mut self, stream: &Stream, now_ns: i64) -> Result<(), Failure> {
        let Phase::Consumers {
            names,
            packed,
            count,
        } = &mut self.phase
        else {
            return Ok(());
        };
        let last_sequence = self.ask.state.last_seq;
        let mut entry = Vec::new();
        for name in names.by_ref().take(CONSUMERS_PER_STEP) {
            let Some(slot) = stream.consumers.get(&name) else {
                continue;
            };
            let state = exported_state(&slot.consumer.snapshot(), last_sequence)
                .map_err(|error| Failure::Generation(error.to_string()))?;
            let mut config = slot.config.clone();
            let level = consumer_api_level(&config);
            set_required_level(&mut config.metadata, level);
            entry.clear();
            backup::put_consumer(&mut entry, now_ns, &name, &encode(&config), &state);
            self.encoder.write(&entry, packed);
            *count += 1;
        }
        if names.len() > 0 {
            return Ok(());
        }
        self.encoder.flush(packed);
        let mut state = self.ask.state.clone();
        state.consumer_count = *count;
        let mut head = Vec::new();
        backup::put_state(&mut head, now_ns, &encode(&state));
        let packed = std::mem::take(packed);
        let mut encoder = Encoder::default();
        let mut out = Vec::new();
        encoder.write(&head, &mut out);
        encoder.flush(&mut out);
        self.window.push(&out);
        self.window.push(&packed);
        self.encoder = encoder;
        self.phase = Phase::Messages {
            next: self.ask.state.first_seq,
        };
        Ok(())
    }

    fn pack_messages(&mut self, stream: &mut Stream, mut next: u64) -> Result<Lookup<()>, Failure> {
        let mut out = Vec::new();
        let (mut head, mut bytes) = (Vec::new(), 0);
        for _ in 0..MESSAGES_PER_STEP {
            let found = stream.store.next_match(&self.filter, next);
            let found = found.filter(|found| *found <= self.ask.state.last_seq);
            let Some(sequence) = found else {
                head.clear();
                backup::put_end(&mut head);
                self.encoder.write(&head, &mut out);
                self.encoder.flush(&mut out);
                self.window.push(&out);
                self.phase = Phase::Ending;
                return Ok(Lookup::Ready(()));
            };
            let message = match stream.store.get(sequence) {
                Lookup::Loading => {
                    self.window.push(&out);
                    self.phase = Phase::Messages { next };
                    return Ok(Lookup::Loading);
                }
                Lookup::Ready(Ok(message)) => message,
                Lookup::Ready(Err(ReadError::NotFound)) => {
                    next = sequence + 1;
                    continue;
                }
                Lookup::Ready(Err(ReadError::Damaged)) => {
                    let text = format!("message {sequence} is damaged");
                    return Err(Failure::Generation(text));
                }
            };
            head.clear();
            backup::put_message_head(
                &mut head,
                &message.subject,
                sequence,
                message.time_ns,
                &message.headers,
                message.payload.len(),
            );
            self.encoder.write(&head, &mut out);
            self.encoder.write(&message.payload, &mut out);
            bytes += head.len() + message.payload.len();
            next = sequence + 1;
            if bytes >= BYTES_PER_STEP {
                break;
            }
        }
        self.window.push(&out);
        self.phase = Phase::Messages { next };
        Ok(Lookup::Ready(()))
    }

    fn send_chunks(&mut self, way: &mut Way<'_>) -> Result<(), Failure> {
        while let Some((chunk, number)) = self.window.next_chunk() {
            let size = self.window.chunk_bytes();
            let reply = format!("{}.{size}.{number}", self.reply_prefix);
            self.send(way, reply.as_bytes(), b"", &chunk)?;
            self.flow_deadline_ns = way.now.monotonic_ns.saturating_add(PATIENCE_NS);
        }
        Ok(())
    }

    fn send(
        &self,
        way: &mut Way<'_>,
        reply: &[u8],
        headers: &[u8],
        payload: &Bytes,
    ) -> Result<(), Failure> {
        let subject = self.ask.deliver_subject.as_bytes();
        let account = self.ask.account;
        let heard = way
            .out
            .deliver(account, subject, subject, reply, headers, payload);
        if heard {
            Ok(())
        } else {
            Err(Failure::NoInterest)
        }
    }

    fn end(&mut self, engine: &mut JetStream, way: &mut Way<'_>, failure: Option<Failure>) {
        let failure = failure.or_else(|| {
            let rest = self.window.take_rest();
            let sent = rest.is_empty() || self.send(way, b"", b"", &rest).is_ok();
            (!sent).then_some(Failure::NoInterest)
        });
        let (headers, error) = match failure {
            None if self.window.sent() > 0 => (END_OK.to_vec(), String::new()),
            None => (Vec::new(), String::new()),
            Some(Failure::NoInterest) => (status("408 No Interest"), "no interest".to_owned()),
            Some(Failure::NoFlowResponse) => (
                status("408 No Flow Response"),
                "no flow response".to_owned(),
            ),
            Some(Failure::Generation(text)) => (status(&format!("500 {text}")), text),
        };
        // Whoever is gone does not hear it.
        let _ = self.send(way, b"", &headers, &Bytes::new());
        let (level, text) = if error.is_empty() {
            let text = format!("JetStream: snapshot of stream '{}' is complete", self.name);
            (LogLevel::Information, text)
        } else {
            let text = format!(
                "JetStream: snapshot of stream '{}' failed: {error}",
                self.name
            );
            (LogLevel::Warning, text)
        };
        way.effects.push(Effect::Log { level, text });
        let place = (self.ask.account, self.name.as_str());
        let event = Event::SnapshotComplete(&error);
        tell(engine, way, place, &self.ask.client, self.start_ns, event);
    }
}

fn status(text: &str) -> Vec<u8> {
    format!("NATS/1.0 {text}\r\n\r\n").into_bytes()
}
