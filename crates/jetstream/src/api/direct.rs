//! Direct get (spec jetstream/05 §5): raw messages as answers, one or many, and status messages.

use std::collections::VecDeque;

use bytes::Bytes;
use millrace_store::stream::{Filter, Lookup, ReadError, StoredMessage, StreamStore};
use millrace_wire::headers::HeaderBuilder;
use millrace_wire::json::{Strictness, from_slice};

use super::dispatch::level_is_met;
use super::engine::{ApiEngine, ApiTurn};
use super::messages::{GetRequest, ParkedRead, Step};
use super::request::without_prefix;
use crate::ids::{AccountRef, StreamId};
use crate::io::Message;
use crate::model::Timestamp;
use crate::outbound::Outbound;

/// Most subjects of a `multi_last` request.
const MAX_SUBJECTS: usize = 1024;
/// Bytes of an answer when the request names no `max_bytes`.
const DEFAULT_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Enough room for the headers that an answer adds, but for the names in them.
const ADDED_HEADERS_BYTES: usize = 224;
/// Most messages sent in one turn.
const MESSAGES_PER_STEP: usize = 1000;
/// Most bytes sent in one turn.
const BYTES_PER_STEP: u64 = 1024 * 1024;

/// Answers a message of a stream's direct get endpoint. A read that needs the disk, or another
/// turn, is handed back.
#[must_use]
pub(super) fn direct_get(
    engine: &mut dyn ApiEngine,
    turn: &mut ApiTurn<'_>,
    account: AccountRef,
    stream: StreamId,
    message: &Message,
) -> Option<(ParkedRead, Step)> {
    if message.reply.is_empty() {
        return None;
    }
    let view = engine.stream(stream)?;
    let target = Target {
        account,
        reply: message.reply.clone(),
    };
    // A mirror answers for its origin too.
    let mirror = view.config.mirror.as_ref();
    let names = [
        Some(view.config.name.as_str()),
        mirror.map(|one| one.name.as_str()),
    ];
    let plan = read_request(message, names)
        .and_then(|request| plan(&request, view.store).map(|plan| (request, plan)));
    let (request, plan) = match plan {
        Ok(found) => found,
        Err((code, text)) => {
            target.send_status(turn.out, code, text);
            return None;
        }
    };
    let mut read = DirectGet::new(target, view.config.name.clone(), &request, plan);
    let store = engine.store_mut(stream)?;
    match read.step(store, turn.out) {
        Step::Done => None,
        step => Some((ParkedRead::direct(stream, read), step)),
    }
}

type Status = (u16, &'static str);

const NOT_FOUND: Status = (404, "Message Not Found");
const NO_RESULTS: Status = (404, "No Results");
const EMPTY_REQUEST: Status = (408, "Empty Request");
const MALFORMED_REQUEST: Status = (408, "Malformed Request");
const BAD_REQUEST: Status = (408, "Bad Request");
const REQUIRED_API_LEVEL: Status = (412, "Required Api Level");
const TOO_MANY_RESULTS: Status = (413, "Too Many Results");
/// Ours: the message is there, and its bytes are not what was written.
const UNREADABLE: Status = (500, "Message Cannot Be Read");

/// The request from body and subject.
fn read_request(message: &Message, streams: [Option<&str>; 2]) -> Result<GetRequest, Status> {
    if !level_is_met(&message.headers) {
        return Err(REQUIRED_API_LEVEL);
    }
    let call = std::str::from_utf8(&message.subject)
        .ok()
        .and_then(without_prefix)
        .and_then(|call| call.strip_prefix("DIRECT.GET."));
    let behind = |stream: &str| call?.strip_prefix(stream)?.strip_prefix('.');
    let subject = streams.into_iter().flatten().find_map(behind);
    let mut request = GetRequest::default();
    if !message.payload.is_empty() {
        request =
            from_slice(&message.payload, Strictness::Lenient).map_err(|_| MALFORMED_REQUEST)?;
    }
    if let Some(subject) = subject {
        if request.selects() || !request.multi_last.is_empty() {
            return Err(BAD_REQUEST);
        }
        subject.clone_into(&mut request.last_by_subj);
    }
    let last = !request.last_by_subj.is_empty();
    let multiple = !request.multi_last.is_empty();
    if !request.selects() && !multiple {
        return Err(EMPTY_REQUEST);
    }
    let by_subject = last || !request.next_by_subj.is_empty();
    let mixed = (multiple && by_subject) || (last && request.batch > 0);
    let two_ends = multiple && request.up_to_seq > 0 && request.up_to_time.is_some();
    if request.conflicts() || mixed || two_ends {
        return Err(BAD_REQUEST);
    }
    Ok(request)
}

/// What will be sent.
#[derive(Debug)]
enum Plan {
    /// One message, without an end marker.
    One(u64),
    /// Messages that match, from a sequence on.
    Run {
        filter: Filter,
        next: Option<u64>,
        pending: u64,
    },
    /// Exactly these, as of a sequence.
    Chosen {
        sequences: VecDeque<u64>,
        up_to: u64,
    },
}

fn plan(request: &GetRequest, store: &StreamStore) -> Result<Plan, Status> {
    if !request.multi_last.is_empty() {
        return plan_last(request, store);
    }
    if request.batch == 0 {
        return request.pick(store).map(Plan::One).ok_or(NOT_FOUND);
    }
    let filter = match request.next_by_subj.as_str() {
        "" => Filter::default(),
        subject => Filter::one(subject.as_bytes()),
    };
    let from = request.first_sequence(store).ok_or(NOT_FOUND)?;
    let next = store.next_match(&filter, from).ok_or(NOT_FOUND)?;
    let pending = store.count_from(&filter, next);
    Ok(Plan::Run {
        filter,
        next: Some(next),
        pending,
    })
}

/// The last message of every subject that matches, as of `up_to`.
fn plan_last(request: &GetRequest, store: &StreamStore) -> Result<Plan, Status> {
    let state = store.state();
    let mut up_to = state.last_sequence;
    if request.up_to_seq > 0 {
        // Beyond the end the reference finds nothing.
        if request.up_to_seq > state.last_sequence {
            return Err(NO_RESULTS);
        }
        up_to = request.up_to_seq;
    } else if let Some(time) = request.up_to_time {
        let after = store.first_at_or_after(time.0);
        up_to = after.map_or(state.last_sequence, |sequence| sequence.saturating_sub(1));
    }
    // An empty subject matches nothing here, while an empty filter would match everything.
    let subjects = request
        .multi_last
        .iter()
        .filter(|subject| !subject.is_empty());
    let filter = Filter::many(subjects.map(String::as_bytes));
    if filter.is_all() && !request.multi_last.iter().any(|subject| subject == ">") {
        return Err(NO_RESULTS);
    }
    let from = request.first_sequence(store).unwrap_or(u64::MAX);
    let found = store
        .last_per_subject(&filter, up_to, MAX_SUBJECTS)
        .ok_or(TOO_MANY_RESULTS)?;
    let sequences: VecDeque<u64> = found
        .into_iter()
        .filter(|sequence| *sequence >= from)
        .collect();
    if sequences.is_empty() {
        return Err(NO_RESULTS);
    }
    Ok(Plan::Chosen { sequences, up_to })
}

/// Where answers go.
#[derive(Clone, Debug)]
struct Target {
    account: AccountRef,
    reply: Bytes,
}

impl Target {
    fn send_status(&self, out: &mut dyn Outbound, code: u16, text: &str) {
        let block = HeaderBuilder::new().status(code, text).finish();
        out.send(self.account, &self.reply, b"", &block, b"");
    }

    fn send_message(&self, out: &mut dyn Outbound, block: &[u8], payload: &Bytes) {
        out.deliver(self.account, &self.reply, &self.reply, b"", block, payload);
    }
}

/// A direct get under way.
#[derive(Debug)]
pub(super) struct DirectGet {
    target: Target,
    stream: String,
    plan: Plan,
    no_headers: bool,
    /// Messages still wanted; bytes still allowed.
    messages_left: u64,
    bytes_left: u64,
    /// Sequence of the previous message of this answer.
    previous: u64,
    /// The first message that was left out because it cannot be read.
    unreadable: Option<u64>,
}

impl DirectGet {
    fn new(target: Target, stream: String, request: &GetRequest, plan: Plan) -> Self {
        // A negative batch sends nothing but its end; multi_last without a batch sends all.
        let messages_left = match request.batch {
            0 => u64::MAX,
            batch => u64::try_from(batch).unwrap_or(0),
        };
        let bytes_left = match u64::try_from(request.max_bytes) {
            Ok(0) | Err(_) => DEFAULT_MAX_BYTES,
            Ok(bytes) => bytes,
        };
        Self {
            target,
            stream,
            plan,
            no_headers: request.no_headers,
            messages_left,
            bytes_left,
            previous: 0,
            unreadable: None,
        }
    }

    /// Sends what can be sent now.
    pub(super) fn step(&mut self, store: &mut StreamStore, out: &mut dyn Outbound) -> Step {
        if let Plan::One(sequence) = self.plan {
            return self.send_one(sequence, store, out);
        }
        let mut sent_bytes = 0;
        for _ in 0..MESSAGES_PER_STEP {
            let Some(sequence) = self.upcoming() else {
                self.send_end(out);
                return Step::Done;
            };
            let message = match store.get(sequence) {
                Lookup::Loading => return Step::Loading,
                Lookup::Ready(found) => found,
            };
            self.advance(store);
            let message = match message {
                Ok(message) => message,
                Err(ReadError::NotFound) => continue,
                Err(ReadError::Damaged) => {
                    self.unreadable.get_or_insert(sequence);
                    continue;
                }
            };
            let size =
                (message.subject.len() + message.headers.len() + message.payload.len()) as u64;
            self.send_batched(&message, out);
            self.messages_left = self.messages_left.saturating_sub(1);
            self.bytes_left = self.bytes_left.saturating_sub(size.max(1));
            sent_bytes += size;
            if sent_bytes >= BYTES_PER_STEP {
                break;
            }
        }
        Step::More
    }

    fn send_one(&self, sequence: u64, store: &mut StreamStore, out: &mut dyn Outbound) -> Step {
        let message = match store.get(sequence) {
            Lookup::Loading => return Step::Loading,
            Lookup::Ready(Ok(message)) => message,
            Lookup::Ready(Err(error)) => {
                let (code, text) = match error {
                    ReadError::NotFound => NOT_FOUND,
                    ReadError::Damaged => UNREADABLE,
                };
                self.target.send_status(out, code, text);
                return Step::Done;
            }
        };
        let block = if self.no_headers {
            Vec::new()
        } else {
            self.headers_of(&message, &[])
        };
        self.target.send_message(out, &block, &message.payload);
        Step::Done
    }

    /// The next message to send, unless the answer is complete.
    fn upcoming(&self) -> Option<u64> {
        if self.messages_left == 0 || self.bytes_left == 0 {
            return None;
        }
        match &self.plan {
            Plan::One(_) => None,
            Plan::Run { next, .. } => *next,
            Plan::Chosen { sequences, .. } => sequences.front().copied(),
        }
    }

    fn advance(&mut self, store: &StreamStore) {
        match &mut self.plan {
            Plan::One(_) => {}
            Plan::Run {
                filter,
                next,
                pending,
            } => {
                *pending = pending.saturating_sub(1);
                *next = next.and_then(|at| store.next_match(filter, at.saturating_add(1)));
            }
            Plan::Chosen { sequences, .. } => {
                sequences.pop_front();
            }
        }
    }

    fn pending(&self) -> u64 {
        match &self.plan {
            Plan::One(_) => 0,
            Plan::Run { pending, .. } => *pending,
            Plan::Chosen { sequences, .. } => sequences.len() as u64,
        }
    }

    fn send_batched(&mut self, message: &StoredMessage, out: &mut dyn Outbound) {
        let extra = [
            ("Nats-Num-Pending", self.pending().to_string()),
            ("Nats-Last-Sequence", self.previous.to_string()),
        ];
        let block = self.headers_of(message, &extra);
        self.previous = message.sequence;
        self.target.send_message(out, &block, &message.payload);
    }

    /// The end of the answer; it says so if something is missing in it.
    fn send_end(&self, out: &mut dyn Outbound) {
        let (code, text) = match self.unreadable {
            None => (204, "EOB"),
            Some(_) => UNREADABLE,
        };
        let mut builder = HeaderBuilder::new()
            .status(code, text)
            .add("Nats-Num-Pending", self.pending().to_string())
            .add("Nats-Last-Sequence", self.previous.to_string());
        if let Some(sequence) = self.unreadable {
            builder = builder.add("Nats-Sequence", sequence.to_string());
        }
        if let Plan::Chosen { up_to, .. } = self.plan {
            builder = builder.add("Nats-UpTo-Sequence", up_to.to_string());
        }
        out.send(
            self.target.account,
            &self.target.reply,
            b"",
            &builder.finish(),
            b"",
        );
    }

    /// The stored headers followed by those that say where the message comes from.
    fn headers_of(&self, message: &StoredMessage, extra: &[(&str, String)]) -> Vec<u8> {
        let stored = match message.headers.strip_suffix(b"\r\n") {
            Some(stored) if !stored.is_empty() => stored,
            _ => b"NATS/1.0\r\n",
        };
        let named = self.stream.len() + message.subject.len();
        let mut block = Vec::with_capacity(stored.len() + named + ADDED_HEADERS_BYTES);
        block.extend_from_slice(stored);
        let mut add = |key: &str, value: &[u8]| {
            block.extend_from_slice(key.as_bytes());
            block.extend_from_slice(b": ");
            block.extend_from_slice(value);
            block.extend_from_slice(b"\r\n");
        };
        add("Nats-Stream", self.stream.as_bytes());
        add("Nats-Subject", &message.subject);
        let mut digits = itoa::Buffer::new();
        add("Nats-Sequence", digits.format(message.sequence).as_bytes());
        add(
            "Nats-Time-Stamp",
            Timestamp(message.time_ns).to_text().as_bytes(),
        );
        for (key, value) in extra {
            add(key, value.as_bytes());
        }
        block.extend_from_slice(b"\r\n");
        block
    }
}
