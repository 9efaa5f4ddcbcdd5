//! A stream on its way in. Its chunks are unpacked and checked a bounded part at a time and written
//! to the log of a stream that nobody sees; once all of it is applied the stream goes to work. What
//! fails before leaves nothing behind.

use std::collections::VecDeque;

use bytes::Bytes;
use millrace_archive::backup::{ConsumerEntry, Item, MessageEntry, Reader, StateHead};
use millrace_archive::s2::Decoder;
use millrace_clock::Now;
use millrace_subject::{has_wildcard, is_valid_subject};

use super::advisory::{Event, tell};
use super::{ID_LENGTH, Kind, PATIENCE_NS, Progress, Way};
use crate::api;
use crate::consumer::imported_snapshot;
use crate::engine::JetStream;
use crate::entry::{Deadline, Decision, MessageParts, MetaOperation, Note, Restored};
use crate::error::{ApiError, ErrorCode};
use crate::ids::{AccountRef, StreamId};
use crate::io::{Effect, LogLevel, Message};
use crate::model::{StorageKind, StreamConfig};
use crate::outbound::ClientFacts;
use crate::publish::checks::{Ttl, parse_ttl};
use crate::publish::header_value;
use crate::request::PendingRequest;
use crate::schedule::Pattern;
use crate::stream::Stream;

/// Bytes of chunks that wait: a sender that does not wait for answers is cut off.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Items written in one step.
const ITEMS_PER_STEP: usize = 1_000;
/// Bytes written in one step.
const BYTES_PER_STEP: usize = 1 << 20;
/// Entries of the log that may be under way.
const ENTRIES_AHEAD_MAX: u64 = 8;

const SECOND_NS: i64 = 1_000_000_000;

/// What a request asks for.
#[derive(Debug)]
pub struct RestoreAsk {
    /// Checked and completed.
    pub(crate) config: StreamConfig,
    pub(crate) client: ClientFacts,
    pub(crate) request: PendingRequest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing is known of the stream yet.
    Head,
    /// Its group is on its way.
    Creating(StreamId),
    /// Consumers and messages.
    Writing(StreamId),
    /// All is written; the sender may still say that it is done.
    Written(StreamId),
    /// The group that decides which streams exist has been told.
    Ending(StreamId),
}

/// A restore under way.
#[derive(Debug)]
pub(super) struct Restore {
    ask: RestoreAsk,
    name: String,
    phase: Phase,
    chunks: VecDeque<Message>,
    waiting_bytes: usize,
    /// Bytes of all chunks.
    bytes: u64,
    decoder: Decoder,
    reader: Reader,
    state: StateHead,
    start_ns: i64,
    heard_ns: u64,
    /// Told with the next answer.
    failure: Option<ApiError>,
    /// Who is told that all went well.
    end_reply: Option<Bytes>,
}

impl JetStream {
    /// Begins a restore; gives the subject that takes its chunks. The request is answered by whoever
    /// calls this.
    pub(crate) fn begin_restore(&mut self, way: &mut Way<'_>, ask: RestoreAsk) -> String {
        let id = self.shared.random.base62(ID_LENGTH);
        let name = ask.config.name.clone();
        let subject = format!("$JS.SNAPSHOT.RESTORE.{name}.{id}");
        let account = ask.request.account;
        let start_ns = way.now.wall_ns;
        let event = Event::RestoreCreate;
        tell(self, way, (account, &name), &ask.client, start_ns, event);
        let restore = Restore {
            reader: Reader::new(self.settings.max_payload),
            ask,
            name,
            phase: Phase::Head,
            chunks: VecDeque::new(),
            waiting_bytes: 0,
            bytes: 0,
            decoder: Decoder::default(),
            state: StateHead::default(),
            start_ns,
            heard_ns: way.now.monotonic_ns,
            failure: None,
            end_reply: None,
        };
        let kind = Kind::Restore(Box::new(restore));
        let filter = Bytes::from(subject.clone());
        self.add_backup(account, filter, kind, way.effects);
        subject
    }

    /// Makes the stream, unseen. False: its name is taken meanwhile.
    fn create_unseen(&mut self, way: &mut Way<'_>, ask: &RestoreAsk) -> Option<StreamId> {
        let account = ask.request.account;
        let config = ask.config.clone();
        let owner = self.accounts.get(&account)?;
        let taken = owner.streams.contains_key(&config.name);
        if taken || self.creating.contains_key(&(account, config.name.clone())) {
            return None;
        }
        if config.storage == StorageKind::Memory && config.num_replicas <= 1 {
            let id = StreamId(self.next_volatile);
            self.next_volatile += 1;
            self.insert_unseen(id, account, config, way.now.wall_ns, way.effects);
            return Some(id);
        }
        if !self.meta.is_leader {
            return None;
        }
        let owner = owner.name.clone();
        let group = self.meta.draw_group();
        let operation = MetaOperation::BeginRestore {
            group,
            created_ns: way.now.wall_ns,
            account: Bytes::from(owner),
            config: Bytes::from(serde_json::to_vec(&config).unwrap_or_default()),
        };
        self.meta.stage(operation, ask.request.clone());
        Some(StreamId(group))
    }

    /// A restored stream is whole: it is seen from now on.
    pub(crate) fn end_restore(
        &mut self,
        now: Now,
        id: StreamId,
        out: &mut dyn crate::outbound::Outbound,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(stream) = self.meta.streams.get_mut(&id.0) {
            stream.restoring = false;
        }
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        let (account, name) = (stream.account, stream.name.clone());
        let origin = name.clone();
        if let Some(account) = self.accounts.get_mut(&account) {
            account.streams.insert(name, id);
        }
        self.with_stream(now, id, out, effects, |stream, turn| stream.activate(turn));
        self.origin_changed(now, (account, origin), true, out, effects);
    }
}

/// Has an unseen stream removed.
pub(super) fn stage_delete(engine: &mut JetStream, id: StreamId, account: AccountRef) {
    if engine.meta.is_leader && engine.meta.streams.contains_key(&id.0) {
        let message = Message::default();
        let request = PendingRequest { account, message };
        engine
            .meta
            .stage(MetaOperation::Delete { group: id.0 }, request);
    }
}

impl Restore {
    pub(super) const fn stream(&self) -> Option<StreamId> {
        match self.phase {
            Phase::Head => None,
            Phase::Creating(id) | Phase::Writing(id) | Phase::Written(id) | Phase::Ending(id) => {
                Some(id)
            }
        }
    }

    pub(super) fn heard(&mut self, now: Now, message: Message) {
        self.heard_ns = now.monotonic_ns;
        let bytes = message.payload.len();
        if self.waiting_bytes + bytes > WAITING_BYTES_MAX {
            self.fail("too many chunks are sent without waiting for their answers");
            return;
        }
        self.waiting_bytes += bytes;
        self.bytes += bytes as u64;
        self.chunks.push_back(message);
    }

    fn fail(&mut self, reason: impl std::fmt::Display) {
        if self.failure.is_none() {
            self.failure = Some(ErrorCode::StreamRestore.with(reason));
        }
    }

    pub(super) fn step(&mut self, engine: &mut JetStream, way: &mut Way<'_>) -> Progress {
        if self.failure.is_none() {
            match self.advance(engine, way) {
                Ok(Progress::Done) => return Progress::Done,
                Ok(progress) if self.failure.is_none() => {
                    return self.patience(engine, way, progress);
                }
                Ok(_) => {}
                Err(error) => self.failure = Some(error),
            }
            self.discard(engine, way);
            // Whoever waits for the chunk that failed goes on and is told with the next one.
            self.pop_chunk(way);
        }
        self.tell_failure(engine, way)
    }

    /// Waits, but not for ever.
    fn patience(
        &mut self,
        engine: &mut JetStream,
        way: &mut Way<'_>,
        progress: Progress,
    ) -> Progress {
        let busy = !self.chunks.is_empty() || matches!(self.phase, Phase::Ending(_));
        if progress == Progress::More || busy {
            self.heard_ns = way.now.monotonic_ns;
            return progress;
        }
        let until_ns = self.heard_ns.saturating_add(PATIENCE_NS);
        if way.now.monotonic_ns < until_ns {
            return Progress::Waiting(until_ns);
        }
        self.fail("timeout");
        self.discard(engine, way);
        self.finish(engine, way);
        Progress::Done
    }

    /// The answer to the chunk in front; gives whether it was the end.
    fn pop_chunk(&mut self, way: &mut Way<'_>) -> bool {
        let Some(chunk) = self.chunks.pop_front() else {
            return false;
        };
        self.waiting_bytes -= chunk.payload.len();
        if chunk.payload.is_empty() {
            self.end_reply = Some(chunk.reply);
            return true;
        }
        if !chunk.reply.is_empty() {
            let account = self.ask.request.account;
            way.out.send(account, &chunk.reply, b"", b"", b"");
        }
        false
    }

    /// After a failure: the next message is answered with it.
    fn tell_failure(&mut self, engine: &mut JetStream, way: &mut Way<'_>) -> Progress {
        let reply = self
            .end_reply
            .take()
            .or_else(|| self.chunks.pop_front().map(|chunk| chunk.reply));
        let until_ns = self.heard_ns.saturating_add(PATIENCE_NS);
        match (reply, &self.failure) {
            (Some(reply), Some(error)) => {
                let account = self.ask.request.account;
                let json = api::failure(CREATE, error);
                way.out.send(account, &reply, b"", b"", &json);
            }
            _ if way.now.monotonic_ns < until_ns => return Progress::Waiting(until_ns),
            _ => {}
        }
        self.finish(engine, way);
        Progress::Done
    }

    /// Has what was restored so far removed.
    fn discard(&mut self, engine: &mut JetStream, way: &mut Way<'_>) {
        let Some(id) = self.stream() else {
            return;
        };
        self.phase = Phase::Head;
        if id.is_volatile() {
            engine.remove_stream(way.now, id, None, way.out, way.effects);
        } else {
            let account = self.ask.request.account;
            if engine.meta.streams.contains_key(&id.0) {
                stage_delete(engine, id, account);
            } else if engine.meta.is_leader {
                // Its creation is still in flight: the log keeps the order.
                let request = self.ask.request.clone();
                let operation = MetaOperation::Delete { group: id.0 };
                engine.meta.stage(operation, request);
            }
        }
    }

    fn finish(&self, engine: &mut JetStream, way: &mut Way<'_>) {
        let (name, bytes) = (&self.name, self.bytes);
        let (level, text) = match &self.failure {
            None => (
                LogLevel::Information,
                format!("JetStream: stream '{name}' is restored from {bytes} bytes"),
            ),
            Some(error) => (
                LogLevel::Warning,
                format!("JetStream: restoring stream '{name}' failed: {error}"),
            ),
        };
        way.effects.push(Effect::Log { level, text });
        let place = (self.ask.request.account, name.as_str());
        let event = Event::RestoreComplete(bytes);
        tell(engine, way, place, &self.ask.client, self.start_ns, event);
    }

    fn advance(&mut self, engine: &mut JetStream, way: &mut Way<'_>) -> Result<Progress, ApiError> {
        const WAIT: Progress = Progress::Waiting(u64::MAX);
        let mut bytes = 0;
        for _ in 0..ITEMS_PER_STEP {
            match self.phase {
                Phase::Head => {}
                Phase::Creating(id) => match engine.streams.get(&id) {
                    Some(stream) if stream.is_leader() => self.phase = Phase::Writing(id),
                    _ => return Ok(WAIT),
                },
                Phase::Writing(id) | Phase::Written(id) => {
                    let Some(stream) = engine.streams.get(&id).filter(|one| one.is_leader()) else {
                        return Err(ErrorCode::ClusterNotAvail.into());
                    };
                    if stream.restore_backlog() > ENTRIES_AHEAD_MAX {
                        return Ok(WAIT);
                    }
                }
                Phase::Ending(id) => {
                    let done = engine.streams.get(&id).is_some_and(|one| !one.restoring);
                    if !done {
                        return Ok(WAIT);
                    }
                    self.succeed(engine, way, id);
                    return Ok(Progress::Done);
                }
            }
            match self.reader.next_item().map_err(restore_error)? {
                Some(item) => bytes += self.take(engine, way, item)?,
                None => match self.decoder.next_block().map_err(restore_error)? {
                    Some(block) => self.reader.push(&block),
                    None if self.more_input(engine, way)? => {}
                    None => return Ok(WAIT),
                },
            }
            if bytes >= BYTES_PER_STEP {
                break;
            }
        }
        Ok(Progress::More)
    }

    /// Takes the next chunk; false if there is none, or all have come.
    fn more_input(&mut self, engine: &mut JetStream, way: &mut Way<'_>) -> Result<bool, ApiError> {
        if self.end_reply.is_some() {
            return self.end_of_input(engine, way);
        }
        let Some(chunk) = self.chunks.front() else {
            return Ok(false);
        };
        self.decoder.push(&chunk.payload);
        self.pop_chunk(way);
        Ok(true)
    }

    /// The sender is done: once all is applied, the stream may be seen.
    fn end_of_input(
        &mut self,
        engine: &mut JetStream,
        way: &mut Way<'_>,
    ) -> Result<bool, ApiError> {
        if !self.decoder.is_at_end() {
            return Err(restore_error("s2: corrupt input"));
        }
        self.reader.finish().map_err(restore_error)?;
        let Phase::Written(id) = self.phase else {
            return Ok(false);
        };
        let waits = engine
            .streams
            .get(&id)
            .is_none_or(|stream| stream.restore_backlog() > 0 || stream.is_behind());
        if waits {
            return Ok(false);
        }
        self.phase = Phase::Ending(id);
        if id.is_volatile() {
            engine.end_restore(way.now, id, way.out, way.effects);
        } else {
            let operation = MetaOperation::EndRestore { group: id.0 };
            engine.meta.stage(operation, self.ask.request.clone());
        }
        Ok(false)
    }

    fn succeed(&mut self, engine: &mut JetStream, way: &mut Way<'_>, id: StreamId) {
        let account = self.ask.request.account;
        self.finish(engine, way);
        let reply = self.end_reply.take().unwrap_or_default();
        api::stream_restored(engine, way.now, (account, id), &reply, way.out, way.effects);
    }

    /// Does what an item asks for; gives its bytes.
    fn take(
        &mut self,
        engine: &mut JetStream,
        way: &mut Way<'_>,
        item: Item,
    ) -> Result<usize, ApiError> {
        match item {
            Item::State(state) => {
                self.state = state;
                self.check_room(engine)?;
                let id = engine
                    .create_unseen(way, &self.ask)
                    .ok_or(ErrorCode::StreamNameExistRestoreFailed)?;
                self.phase = Phase::Creating(id);
                Ok(0)
            }
            Item::Consumer(consumer) => self.take_consumer(engine, way, &consumer),
            Item::Message(message) => self.take_message(engine, way, &message),
            Item::End => {
                if let Phase::Writing(id) = self.phase {
                    let last_sequence = self.state.last_seq;
                    self.with_stream(engine, way, |stream, turn| {
                        stream.restore_piece(Restored::End { last_sequence });
                        stream.lead.propose(stream.id, turn);
                    });
                    self.phase = Phase::Written(id);
                }
                Ok(0)
            }
        }
    }

    fn with_stream(
        &self,
        engine: &mut JetStream,
        way: &mut Way<'_>,
        act: impl FnOnce(&mut Stream, &mut crate::shared::Turn<'_>),
    ) {
        if let Phase::Writing(id) = self.phase {
            engine.with_stream(way.now, id, way.out, way.effects, act);
        }
    }

    /// Whether account and server have room for what the archive says it holds.
    fn check_room(&self, engine: &JetStream) -> Result<(), ApiError> {
        let storage = self.ask.config.storage;
        let allowance = engine.shared.allowance(self.ask.request.account, storage);
        let available = allowance.account_available;
        if available.is_some_and(|available| self.state.bytes > available) {
            return Err(ErrorCode::AccountResourcesExceeded.into());
        }
        if allowance.server_exceeded {
            return Err(ErrorCode::StorageResourcesExceeded.into());
        }
        Ok(())
    }

    fn take_consumer(
        &mut self,
        engine: &mut JetStream,
        way: &mut Way<'_>,
        entry: &ConsumerEntry,
    ) -> Result<usize, ApiError> {
        let Phase::Writing(id) = self.phase else {
            return Ok(0);
        };
        let json = entry.config.get().as_bytes();
        let account = self.ask.request.account;
        let (name, config) =
            api::check_restored_consumer(engine, account, id, &entry.name, json, way.out).map_err(
                |error| {
                    let name = &entry.name;

                    restore_error(format!("failed to add consumer {name:?}: {error}"))
                },
            )?;
        let created_ns = way.now.wall_ns;
        let last_sequence = self.state.last_seq;
        let piece = Restored::Consumer {
            created_ns,
            snapshot: imported_snapshot(
                &entry.state,
                created_ns,
                last_sequence,
                config.ack_wait_ns,
            ),
            config: Bytes::from(serde_json::to_vec(&config).unwrap_or_default()),
            name: Bytes::from(name),
        };
        self.with_stream(engine, way, |stream, turn| {
            stream.restore_piece(piece);
            // Applied before the next one is checked against it.
            stream.lead.propose(stream.id, turn);
        });
        Ok(json.len())
    }

    fn take_message(
        &mut self,
        engine: &mut JetStream,
        way: &mut Way<'_>,
        message: &MessageEntry,
    ) -> Result<usize, ApiError> {
        let sequence = message.sequence;
        let bytes = message.headers.len() + message.payload.len();
        check_message(message, self.ask.config.max_msg_size)?;
        let mut decision = Decision {
            time_ns: message.time_ns,
            ..Decision::default()
        };
        let ttl = header_value(&message.headers, b"Nats-TTL").filter(|ttl| !ttl.is_empty());
        if let Some(ttl) = ttl.filter(|_| self.ask.config.allow_msg_ttl) {
            let ttl = parse_ttl(ttl).ok_or_else(|| {
                restore_error("failed to parse message TTL: invalid per-message TTL (10165)")
            })?;
            decision.deadline = match ttl {
                Ttl::Never => Deadline::Never,
                Ttl::Seconds(seconds) => {
                    let after_ns = seconds.saturating_mul(SECOND_NS);
                    let at_ns = message.time_ns.saturating_add(after_ns);
                    if at_ns <= way.now.wall_ns {
                        // Expired meanwhile: its sequence is a gap.
                        return Ok(bytes);
                    }
                    Deadline::At(at_ns)
                }
            };
        }
        let schedules = self.ask.config.allow_msg_schedules;
        let now_ns = way.now.wall_ns;
        self.with_stream(engine, way, |stream, turn| {
            let next_ns = schedules
                .then(|| first_due(stream, message, now_ns))
                .flatten();
            let note = next_ns.map(|next_ns| Note::Scheduled { next_ns }.encode());
            let parts = MessageParts {
                subject: &message.subject,
                headers: &message.headers,
                payload: &message.payload,
                note: note.as_deref().unwrap_or_default(),
            };
            stream.restore_message(turn, sequence, decision, parts);
        });
        Ok(bytes)
    }
}

/// The call whose answer ends a restore.
const CREATE: api::ApiRequest<'static> = api::ApiRequest::Stream {
    call: api::StreamCall::Create,
    stream: "",
};

fn restore_error(reason: impl std::fmt::Display) -> ApiError {
    ErrorCode::StreamRestore.with(reason)
}

/// When a message that is a schedule is due. One that cannot be read is a message like others.
fn first_due(stream: &Stream, message: &MessageEntry, now_ns: i64) -> Option<i64> {
    let text = |name| std::str::from_utf8(header_value(&message.headers, name)?).ok();
    let pattern = text(b"Nats-Schedule".as_slice())?;
    let zone = text(b"Nats-Schedule-Time-Zone".as_slice());
    let pattern = Pattern::parse(pattern, zone, stream.schedules.local()).ok()?;
    pattern.first(message.time_ns, now_ns)
}

/// What the stream could not have stored itself is refused: it would break who reads it.
fn check_message(message: &MessageEntry, max_msg_size: i32) -> Result<(), ApiError> {
    let sequence = message.sequence;
    let MessageEntry {
        subject, headers, ..
    } = message;
    let subject_is_good =
        is_valid_subject(subject) && !has_wildcard(subject) && u16::try_from(subject.len()).is_ok();
    if !subject_is_good {
        return Err(restore_error(format!(
            "message sequence {sequence} has an invalid subject"
        )));
    }
    let block_is_good = headers.starts_with(b"NATS/1.0") && headers.ends_with(b"\r\n\r\n");
    if !headers.is_empty() && !block_is_good {
        return Err(restore_error(format!(
            "message sequence {sequence} has invalid headers"
        )));
    }
    let bytes = headers.len() + message.payload.len();
    if u64::try_from(max_msg_size).is_ok_and(|max| max > 0 && bytes as u64 > max) {
        return Err(restore_error(format!(
            "message sequence {sequence} exceeds maximum message size"
        )));
    }
    Ok(())
}
