//! From a message on the API endpoint to its answer: which call it is, the checks that all calls
//! share, the counters and the audit event. What each call does is in `streams`, `consumers` and
//! `messages`.

use millrace_wire::headers;

use super::advisory::{self, EventContext};
use super::engine::{ApiEngine, ApiTurn};
use super::messages::{ParkedRead, Step};
use super::request::{ApiRequest, ConsumerCall, PREFIX, StreamCall, without_prefix};
use super::response::{self, Body};
use super::{backups, consumers, messages, sourcing, streams};
use crate::error::{ApiError, ErrorCode};
use crate::ids::StreamId;
use crate::io::Message;
use crate::model::API_LEVEL;
use crate::model::json::parse;
use crate::outbound::ClientFacts;
use crate::request::PendingRequest;

const REQUIRED_LEVEL_HEADER: &[u8] = b"Nats-Required-Api-Level";

/// How a call went on.
#[derive(Debug)]
pub(super) enum Progress {
    /// Answer with this now.
    Answer(Body),
    /// A change was asked of the engine; `finish` answers.
    Pending,
    /// No answer, ever.
    Silent,
    /// The message is being read.
    Reading(Box<ParkedRead>),
}

pub(super) type CallResult = Result<Progress, ApiError>;

/// Handles one message of the API endpoint. A read that needs the disk is handed back; the engine
/// calls its `step` again when the stream's store says that something was read.
#[must_use]
pub(super) fn handle(
    engine: &mut dyn ApiEngine,
    turn: &mut ApiTurn<'_>,
    pending: PendingRequest,
) -> Option<(ParkedRead, Step)> {
    let subject = pending.message.subject.clone();
    let call = ApiRequest::parse(&subject)?;
    if pending.message.reply.is_empty() {
        return None;
    }
    let result = check_common(engine, &pending).and_then(|()| run(engine, turn, &pending, call));
    match result {
        Ok(Progress::Answer(body)) => answer(engine, turn, &pending, call, Ok(&body)),
        Ok(Progress::Pending | Progress::Silent) => {}
        Ok(Progress::Reading(mut read)) => {
            return match read.step(engine, turn) {
                Step::Done => None,
                step => Some((*read, step)),
            };
        }
        Err(error) => answer(engine, turn, &pending, call, Err(&error)),
    }
    None
}

fn run(
    engine: &mut dyn ApiEngine,
    turn: &mut ApiTurn<'_>,
    pending: &PendingRequest,
    call: ApiRequest<'_>,
) -> CallResult {
    match call {
        ApiRequest::AccountInfo => Ok(streams::account_info(engine, pending)),
        ApiRequest::StreamNames => streams::names(engine, pending),
        ApiRequest::StreamList => streams::list(engine, turn, pending),
        ApiRequest::Stream { call, stream } => run_stream(engine, turn, pending, call, stream),
        ApiRequest::ConsumerCreate(address) => consumers::create(engine, turn, pending, &address),
        ApiRequest::ConsumerNames { stream } => consumers::names(engine, pending, stream),
        ApiRequest::ConsumerList { stream } => consumers::list(engine, turn, pending, stream),
        ApiRequest::Consumer {
            call,
            stream,
            consumer: name,
        } => {
            let named = consumers::Named {
                pending,
                stream,
                name,
            };
            named.run(engine, turn, call)
        }
        ApiRequest::NextRequest { .. } | ApiRequest::DirectGet { .. } => Ok(Progress::Silent),
    }
}

fn run_stream(
    engine: &mut dyn ApiEngine,
    turn: &mut ApiTurn<'_>,
    pending: &PendingRequest,
    call: StreamCall,
    stream: &str,
) -> CallResult {
    match call {
        StreamCall::Create => streams::create(engine, turn, pending, stream),
        StreamCall::Update => streams::update(engine, turn, pending, stream),
        StreamCall::Info => streams::info(engine, turn, pending, stream),
        StreamCall::Delete => streams::delete(engine, turn, pending, stream),
        StreamCall::Purge => streams::purge(engine, turn, pending, stream),
        StreamCall::MessageGet => messages::get(engine, pending, stream),
        StreamCall::MessageDelete => streams::delete_message(engine, turn, pending, stream),
        StreamCall::Snapshot => backups::snapshot(engine, turn, pending, stream),
        StreamCall::Restore => backups::restore(engine, turn, pending, stream),
        StreamCall::LeaderStepdown
        | StreamCall::PeerRemove
        | StreamCall::PeerEvacuate
        | StreamCall::CancelMove => Err(ErrorCode::ClusterRequired.into()),
    }
}

/// What every call checks first: the API level, then that the account has JetStream.
fn check_common(engine: &dyn ApiEngine, pending: &PendingRequest) -> Result<(), ApiError> {
    if !level_is_met(&pending.message.headers) {
        return Err(ErrorCode::RequiredApiLevel.into());
    }
    if engine.account(pending.account).is_none() {
        return Err(ErrorCode::NotEnabledForAccount.into());
    }
    Ok(())
}

/// Whether this server has the API level a request asks for.
#[must_use]
pub fn level_is_met(header_block: &[u8]) -> bool {
    let Some(value) = headers::find(header_block, REQUIRED_LEVEL_HEADER) else {
        return true;
    };
    let level = std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse::<i64>().ok());
    level.is_some_and(|level| level <= API_LEVEL)
}

pub(super) fn find_stream(
    engine: &dyn ApiEngine,
    pending: &PendingRequest,
    name: &str,
) -> Option<StreamId> {
    engine.account(pending.account)?.streams.get(name).copied()
}

pub(super) fn require_stream(
    engine: &dyn ApiEngine,
    pending: &PendingRequest,
    name: &str,
) -> Result<StreamId, ApiError> {
    find_stream(engine, pending, name).ok_or_else(|| ErrorCode::StreamNotFound.into())
}

/// Sends an answer, counts the call and tells the audit.
pub(super) fn answer(
    engine: &mut dyn ApiEngine,
    turn: &mut ApiTurn<'_>,
    pending: &PendingRequest,
    call: ApiRequest<'_>,
    result: Result<&Body, &ApiError>,
) {
    let json = match result {
        Ok(body) => response::success(call, body),
        Err(error) => response::failure(call, error),
    };
    let audited = is_audited(call, result.is_ok());
    if audited && let Some(account) = engine.account_mut(pending.account) {
        account.api_total += 1;
        account.api_errors += u64::from(result.is_err_and(|error| counts(call, error)));
    }
    let Message {
        subject,
        reply,
        payload,
        client,
        ..
    } = &pending.message;
    let headers = result.map_or_else(
        |_| Vec::new(),
        |body| sourcing::answer_headers(engine, pending, body),
    );
    turn.out.send(pending.account, reply, b"", &headers, &json);
    if !audited || !advisory::audit_is_wanted(turn.out, pending.account) {
        return;
    }
    let facts = client.and_then(|client| turn.out.client_facts(client));
    let facts = facts.unwrap_or_else(ClientFacts::default);
    let server_name = engine.settings().server_name.clone();
    // A domain in front is mapped away before anybody is told.
    let call = std::str::from_utf8(subject).ok().and_then(without_prefix);
    let subject = format!("{PREFIX}{}", call.unwrap_or_default());
    with_events(engine, turn, pending.account, |events| {
        advisory::api_audit(
            events,
            &server_name,
            &facts,
            subject.as_bytes(),
            payload,
            &json,
        );
    });
}

/// Whether a call is counted and told of. Messages that were read are not, nor what a consumer
/// answers by itself.
fn is_audited(call: ApiRequest<'_>, succeeded: bool) -> bool {
    let read = matches!(
        call,
        ApiRequest::Stream {
            call: StreamCall::MessageGet,
            ..
        }
    );
    let reset = matches!(
        call,
        ApiRequest::Consumer {
            call: ConsumerCall::Reset,
            ..
        }
    );
    !(reset || read && succeeded)
}

/// Whether an error counts as one: the reference leaves out what its store says of a message that
/// is to be deleted.
fn counts(call: ApiRequest<'_>, error: &ApiError) -> bool {
    let deleting = matches!(
        call,
        ApiRequest::Stream {
            call: StreamCall::MessageDelete,
            ..
        }
    );
    let of_store = error.kind == ErrorCode::SequenceNotFound
        || error.kind == ErrorCode::StreamMsgDeleteFailed
            && error.description != "message delete not permitted";
    !(deleting && of_store)
}

/// Lends what events need.
pub(super) fn with_events(
    engine: &mut dyn ApiEngine,
    turn: &mut ApiTurn<'_>,
    account: crate::ids::AccountRef,
    tell: impl FnOnce(&mut EventContext<'_>),
) {
    let domain = engine.settings().domain.clone();
    let mut context = EventContext {
        now: turn.now,
        account,
        domain: &domain,
        random: engine.random(),
        out: turn.out,
    };
    tell(&mut context);
}

/// Whether a body counts as empty.
pub(super) fn is_empty_body(body: &[u8]) -> bool {
    let body = body.trim_ascii();
    body.is_empty() || body == b"{}"
}

/// Reads the body of a call that cannot do without one.
pub(super) fn required_body<T: serde::de::DeserializeOwned + Default>(
    engine: &dyn ApiEngine,
    pending: &PendingRequest,
) -> Result<T, ApiError> {
    let body = &pending.message.payload;
    if is_empty_body(body) {
        return Err(ErrorCode::BadRequest.into());
    }
    parse(body, engine.settings().strict)
}

/// Whether a body is one that calls with optional bodies look at.
pub(super) fn is_json_body(body: &[u8]) -> bool {
    matches!(body.trim_ascii_start().first(), Some(b'{' | b'['))
}
