//! Reading stored messages for requests: `STREAM.MSG.GET` here, direct get in `direct`; both may
//! wait for the disk as a [`ParkedRead`].

use data_encoding::BASE64;
use millrace_store::stream::{Filter, Lookup, ReadError, StoredMessage, StreamStore};
use serde::Deserialize;

use super::direct::DirectGet;
use super::dispatch::{CallResult, Progress, answer, require_stream, required_body};
use super::engine::{ApiEngine, ApiTurn};
use super::request::ApiRequest;
use super::response::{Body, StoredMessageView};
use super::streams::Listing;
use crate::error::{ApiError, ErrorCode};
use crate::ids::StreamId;
use crate::model::Timestamp;
use crate::request::PendingRequest;

/// What became of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Answered.
    Done,
    /// Call again when the stream's store says that something was read.
    Loading,
    /// Enough for one turn: call again in the next.
    More,
}

/// A read that is not answered yet. The engine keeps it and calls [`ParkedRead::step`].
#[derive(Debug)]
pub struct ParkedRead {
    stream: StreamId,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Message {
        pending: PendingRequest,
        sequence: u64,
        no_headers: bool,
    },
    Direct(DirectGet),
    Listing {
        pending: PendingRequest,
        listing: Listing,
    },
}

impl ParkedRead {
    pub(super) fn direct(stream: StreamId, read: DirectGet) -> Self {
        Self {
            stream,
            kind: Kind::Direct(read),
        }
    }

    pub(super) fn listing(stream: StreamId, pending: PendingRequest, listing: Listing) -> Self {
        Self {
            stream,
            kind: Kind::Listing { pending, listing },
        }
    }

    /// The stream it reads.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// Goes on as far as memory allows.
    pub fn step(&mut self, engine: &mut dyn ApiEngine, turn: &mut ApiTurn<'_>) -> Step {
        match &mut self.kind {
            Kind::Direct(read) => match engine.store_mut(self.stream) {
                Some(store) => read.step(store, turn.out),
                None => Step::Done,
            },
            Kind::Listing { pending, listing } => {
                let (body, step) = listing.step(engine, turn, self.stream);
                let subject = pending.message.subject.clone();
                if let (Some(body), Some(call)) = (body, ApiRequest::parse(&subject)) {
                    answer(engine, turn, pending, call, body.as_ref());
                }
                step
            }
            Kind::Message {
                pending,
                sequence,
                no_headers,
            } => {
                let found = engine
                    .store_mut(self.stream)
                    .map(|store| store.get(*sequence));
                let message = match found {
                    Some(Lookup::Loading) => return Step::Loading,
                    Some(Lookup::Ready(found)) => found.map_err(|error| refusal(error, *sequence)),
                    None => Err(ErrorCode::NoMessageFound.into()),
                };
                let subject = pending.message.subject.clone();
                let Some(call) = ApiRequest::parse(&subject) else {
                    return Step::Done;
                };
                let body = message.map(|message| Body::Message {
                    message: view(&message, *no_headers),
                });
                answer(engine, turn, pending, call, body.as_ref());
                Step::Done
            }
        }
    }
}

/// A message that is there and cannot be read is not the same as none: whoever takes it for deleted
/// would go on without it. The reference says for both that there is no message.
fn refusal(error: ReadError, sequence: u64) -> ApiError {
    match error {
        ReadError::NotFound => ErrorCode::NoMessageFound.into(),
        ReadError::Damaged => {
            ErrorCode::StreamGeneralError.with(format!("message {sequence} cannot be read"))
        }
    }
}

fn view(message: &StoredMessage, no_headers: bool) -> StoredMessageView {
    let headers = if no_headers {
        &b""[..]
    } else {
        &message.headers
    };
    StoredMessageView {
        subject: String::from_utf8_lossy(&message.subject).into_owned(),
        seq: message.sequence,
        hdrs: BASE64.encode(headers),
        data: BASE64.encode(&message.payload),
        time: Timestamp(message.time_ns),
    }
}

/// The body of message get and direct get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename = "JSApiMsgGetRequest")]
pub(super) struct GetRequest {
    pub(super) seq: u64,
    pub(super) last_by_subj: String,
    pub(super) next_by_subj: String,
    pub(super) start_time: Option<Timestamp>,
    pub(super) batch: i64,
    pub(super) max_bytes: i64,
    pub(super) multi_last: Vec<String>,
    pub(super) up_to_seq: u64,
    pub(super) up_to_time: Option<Timestamp>,
    #[serde(rename = "no_hdr")]
    pub(super) no_headers: bool,
}

impl GetRequest {
    /// Whether it says where to look at all.
    pub(super) fn selects(&self) -> bool {
        self.seq > 0
            || !self.last_by_subj.is_empty()
            || !self.next_by_subj.is_empty()
            || self.start_time.is_some()
    }

    /// Whether two of the ways to say where exclude each other.
    pub(super) fn conflicts(&self) -> bool {
        let last = !self.last_by_subj.is_empty();
        let elsewhere = self.seq > 0 || !self.next_by_subj.is_empty() || self.start_time.is_some();
        (last && elsewhere) || (self.seq > 0 && self.start_time.is_some())
    }

    /// Where reading begins: the sequence, or the first at or after the time.
    pub(super) fn first_sequence(&self, store: &StreamStore) -> Option<u64> {
        match self.start_time {
            Some(time) => store.first_at_or_after(time.0),
            None => Some(self.seq.max(1)),
        }
    }

    /// The one message that is meant.
    pub(super) fn pick(&self, store: &StreamStore) -> Option<u64> {
        if !self.last_by_subj.is_empty() {
            let filter = Filter::one(self.last_by_subj.as_bytes());
            return store.last_match(&filter, u64::MAX);
        }
        let from = self.first_sequence(store)?;
        if !self.next_by_subj.is_empty() {
            return store.next_match(&Filter::one(self.next_by_subj.as_bytes()), from);
        }
        store.contains(from).then_some(from)
    }
}

pub(super) fn get(engine: &dyn ApiEngine, pending: &PendingRequest, stream: &str) -> CallResult {
    let request: GetRequest = required_body(engine, pending)?;
    let batched = request.batch > 0 || request.max_bytes > 0;
    if batched || !request.selects() || request.conflicts() {
        return Err(ErrorCode::BadRequest.into());
    }
    let id = require_stream(engine, pending, stream)?;
    let view = engine.stream(id).ok_or(ErrorCode::StreamNotFound)?;
    let sequence = request.pick(view.store).ok_or(ErrorCode::NoMessageFound)?;
    let read = ParkedRead {
        stream: id,
        kind: Kind::Message {
            pending: pending.clone(),
            sequence,
            no_headers: request.no_headers,
        },
    };
    Ok(Progress::Reading(Box::new(read)))
}
