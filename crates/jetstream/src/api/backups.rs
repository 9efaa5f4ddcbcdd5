//! Calls that begin a snapshot or a restore: bodies, rules, answers. What they begin is
//! `crate::backup`.

use millrace_clock::Now;
use millrace_subject::{has_wildcard, is_valid_subject};
use serde::Deserialize;

use super::advisory::{self, Action};
use super::dispatch::{
    CallResult, Progress, find_stream, is_empty_body, require_stream, required_body, with_events,
};
use super::engine::{ApiEngine, ApiTurn};
use super::request::{ApiRequest, StreamCall};
use super::response::{self, Body};
use super::streams::{check_restored, full_stream_info, stream_info};
use crate::backup::{RestoreAsk, SnapshotAsk};
use crate::engine::JetStream;
use crate::error::{ApiError, ErrorCode};
use crate::ids::{AccountRef, StreamId};
use crate::io::Effect;
use crate::model::json::parse;
use crate::model::{
    CheckedConsumer, ConsumerConfig, ConsumerContext, ConsumerCreateRequest, ExistingConsumer,
    StreamConfig, check_consumer,
};
use crate::outbound::{ClientFacts, Outbound};
use crate::request::PendingRequest;

const TOO_MANY: &str = "too many snapshots and restores at the same time";

#[derive(Default, Deserialize)]
#[serde(default, rename = "JSApiStreamSnapshotRequest")]
struct SnapshotRequest {
    deliver_subject: String,
    no_consumers: bool,
    chunk_size: i64,
    window_size: i64,
    /// Every message is checked, asked for or not.
    #[allow(dead_code)]
    jsck: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, rename = "JSApiStreamRestoreRequest")]
struct RestoreRequest {
    config: StreamConfig,
    /// The archive says it itself.
    #[allow(dead_code)]
    state: serde_json::Value,
}

fn client_of(turn: &ApiTurn<'_>, pending: &PendingRequest) -> ClientFacts {
    let client = pending.message.client;
    let facts = client.and_then(|client| turn.out.client_facts(client));
    facts.unwrap_or_default()
}

pub(super) fn snapshot(
    engine: &mut dyn ApiEngine,
    turn: &mut ApiTurn<'_>,
    pending: &PendingRequest,
    name: &str,
) -> CallResult {
    if is_empty_body(&pending.message.payload) {
        return Err(ErrorCode::BadRequest.into());
    }
    let id = require_stream(engine, pending, name)?;
    let request: SnapshotRequest = parse(&pending.message.payload, engine.settings().strict)?;
    let subject = request.deliver_subject.as_bytes();
    if !is_valid_subject(subject) || has_wildcard(subject) {
        return Err(ErrorCode::SnapshotDeliverSubjectInvalid.into());
    }
    let info = stream_info(engine, turn, id).ok_or(ErrorCode::StreamNotFound)?;
    let ask = SnapshotAsk {
        account: pending.account,
        stream: id,
        deliver_subject: request.deliver_subject,
        no_consumers: request.no_consumers,
        chunk_size: request.chunk_size,
        window_size: request.window_size,
        client: client_of(turn, pending),
        state: info.state.clone(),
    };
    if !engine.begin_snapshot(turn, ask) {
        return Err(ErrorCode::StreamSnapshot.with(TOO_MANY));
    }
    Ok(Progress::Answer(Body::Snapshot {
        config: Box::new(info.config),
        state: Box::new(info.state),
    }))
}

pub(super) fn restore(
    engine: &mut dyn ApiEngine,
    turn: &mut ApiTurn<'_>,
    pending: &PendingRequest,
    name: &str,
) -> CallResult {
    let request: RestoreRequest = required_body(engine, pending)?;
    if find_stream(engine, pending, name).is_some() {
        return Err(ErrorCode::StreamNameExistRestoreFailed.into());
    }
    let config = check_restored(engine, pending, name, request.config)?;
    let ask = RestoreAsk {
        config,
        client: client_of(turn, pending),
        request: pending.clone(),
    };
    let deliver_subject = engine
        .begin_restore(turn, ask)
        .ok_or_else(|| ErrorCode::StreamRestore.with(TOO_MANY))?;
    Ok(Progress::Answer(Body::Restore { deliver_subject }))
}

/// The name and configuration of a consumer that is restored, checked as if it were created.
pub(crate) fn check_restored_consumer(
    engine: &JetStream,
    account: AccountRef,
    stream: StreamId,
    entry_name: &str,
    config: &[u8],
    out: &dyn Outbound,
) -> Result<(String, ConsumerConfig), ApiError> {
    let mut config: ConsumerConfig = parse(config, false)?;
    if config.name.is_empty() && config.durable.is_empty() {
        entry_name.clone_into(&mut config.name);
    }
    let stream = engine
        .streams
        .get(&stream)
        .ok_or(ErrorCode::StreamNotFound)?;
    let limits = engine.accounts.get(&account).map(|account| account.limits);
    let consumers: Vec<ExistingConsumer<'_>> = stream
        .consumers
        .iter()
        .map(|(name, slot)| ExistingConsumer {
            name,
            config: &slot.config,
        })
        .collect();
    let context = ConsumerContext {
        standalone: true,
        stream: &stream.config,
        limits: limits.ok_or(ErrorCode::NotEnabledForAccount)?,
        max_ack_pending: engine.settings.max_ack_pending,
        max_request_batch: engine.settings.max_request_batch,
        default_max_consumers: engine.settings.default_max_consumers,
        consumers: &consumers,
        has_interest: &|subject| out.has_interest(account, subject),
    };
    let request = ConsumerCreateRequest {
        stream_name: stream.name.clone(),
        config,
        ..ConsumerCreateRequest::default()
    };
    match check_consumer(&context, request)? {
        CheckedConsumer::Create { name, config } if !name.is_empty() => Ok((name, config)),
        _ => Err(ErrorCode::ConsumerNameExist.into()),
    }
}

/// A restored stream has gone to work: answers the end of its chunks and tells of it.
pub(crate) fn stream_restored(
    engine: &mut JetStream,
    now: Now,
    (account, stream): (AccountRef, StreamId),
    reply: &[u8],
    out: &mut dyn Outbound,
    effects: &mut Vec<Effect>,
) {
    let mut turn = ApiTurn { now, out, effects };
    let Some(info) = full_stream_info(engine, &turn, stream) else {
        return;
    };
    let name = info.config.name.clone();
    let call = ApiRequest::Stream {
        call: StreamCall::Create,
        stream: &name,
    };
    let body = Body::StreamCreated {
        info,
        did_create: false,
    };
    let json = response::success(call, &body);
    turn.out.send(account, reply, b"", b"", &json);
    with_events(engine, &mut turn, account, |events| {
        advisory::stream_action(events, &name, Action::Create);
    });
}
