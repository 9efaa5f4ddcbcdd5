//! Calls about consumers: bodies, lookups, and the change that is asked of the engine.

use serde::Deserialize;

use super::dispatch::{CallResult, Progress, find_stream, is_empty_body, require_stream};
use super::engine::{ApiEngine, ApiTurn, Change};
use super::request::ConsumerCall;
use super::response::Body;
use super::sourcing;
use super::streams::{LIST_LIMIT, optional_body, page_of};
use crate::error::{ApiError, ErrorCode};
use crate::ids::StreamId;
use crate::model::json::parse;
use crate::model::{
    CheckedConsumer, ConsumerAddress, ConsumerConfig, ConsumerContext, ConsumerCreateRequest,
    ConsumerInfo, ExistingConsumer, Timestamp, check_consumer, check_consumer_address,
    is_valid_group_name, with_dynamic_metadata,
};
use crate::request::PendingRequest;

/// Most names on a page.
const NAMES_LIMIT: u64 = 1024;
/// Length of a generated name.
const GENERATED_NAME_LENGTH: usize = 8;

#[derive(Default, Deserialize)]
#[serde(default, rename = "JSApiConsumersRequest")]
struct ListRequest {
    offset: i64,
}

#[derive(Default, Deserialize)]
#[serde(default, rename = "JSApiConsumerPauseRequest")]
struct PauseRequest {
    pause_until: Option<Timestamp>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename = "JSApiConsumerUnpinRequest")]
struct UnpinRequest {
    group: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename = "JSApiConsumerResetRequest")]
struct ResetRequest {
    seq: u64,
}

fn config_of(engine: &dyn ApiEngine, stream: StreamId, name: &str) -> Option<ConsumerConfig> {
    let consumers = engine.consumers(stream);
    consumers
        .iter()
        .find(|(other, _)| *other == name)
        .map(|(_, config)| (*config).clone())
}

/// A consumer as create, info and reset answers carry it.
pub(super) fn full_info(
    engine: &mut dyn ApiEngine,
    turn: &mut ApiTurn<'_>,
    stream: StreamId,
    name: &str,
) -> Result<Box<ConsumerInfo>, ApiError> {
    let info = engine.consumer_info(turn, stream, name);
    let mut info = info.ok_or(ErrorCode::ConsumerNotFound)?;
    with_dynamic_metadata(&mut info.config.metadata);
    Ok(Box::new(info))
}

pub(super) fn create(
    engine: &mut dyn ApiEngine,
    turn: &mut ApiTurn<'_>,
    pending: &PendingRequest,
    address: &ConsumerAddress<'_>,
) -> CallResult {
    let strict = engine.settings().strict;
    let mut request: ConsumerCreateRequest = parse(&pending.message.payload, strict)?;
    check_consumer_address(address, &mut request)?;
    let id = require_stream(engine, pending, address.stream)?;
    let stream = engine.stream(id).ok_or(ErrorCode::StreamNotFound)?;
    if stream.is_changing {
        engine.park(id, pending.clone());
        return Ok(Progress::Pending);
    }
    sourcing::check_identity(engine, pending, id)?;
    sourcing::adapt(engine, id, &mut request.config);
    match check(engine, turn, pending, id, request)? {
        CheckedConsumer::Exists { name } => Ok(Progress::Answer(Body::Consumer(full_info(
            engine, turn, id, &name,
        )?))),
        CheckedConsumer::Create { name, config } => {
            let name = if name.is_empty() {
                unused_name(engine, id)
            } else {
                name
            };
            store(engine, turn, pending, id, name, &config);
            Ok(Progress::Pending)
        }
        CheckedConsumer::Update { name, config } => {
            store(engine, turn, pending, id, name, &config);
            Ok(Progress::Pending)
        }
    }
}

/// A name that no consumer of the stream has.
fn unused_name(engine: &mut dyn ApiEngine, id: StreamId) -> String {
    loop {
        let name = engine.random().base62(GENERATED_NAME_LENGTH);
        if config_of(engine, id, &name).is_none() {
            return name;
        }
    }
}

fn check(
    engine: &dyn ApiEngine,
    turn: &ApiTurn<'_>,
    pending: &PendingRequest,
    id: StreamId,
    request: ConsumerCreateRequest,
) -> Result<CheckedConsumer, ApiError> {
    let stream = engine.stream(id).ok_or(ErrorCode::StreamNotFound)?;
    let account = engine
        .account(pending.account)
        .ok_or(ErrorCode::NotEnabledForAccount)?;
    let consumers: Vec<ExistingConsumer<'_>> = engine
        .consumers(id)
        .into_iter()
        .map(|(name, config)| ExistingConsumer { name, config })
        .collect();
    let settings = engine.settings();
    let has_interest = |subject: &[u8]| turn.out.has_interest(pending.account, subject);
    let context = ConsumerContext {
        standalone: true,
        stream: stream.config,
        limits: account.limits,
        max_ack_pending: settings.max_ack_pending,
        max_request_batch: settings.max_request_batch,
        default_max_consumers: settings.default_max_consumers,
        consumers: &consumers,
        has_interest: &has_interest,
    };
    check_consumer(&context, request)
}

fn store(
    engine: &mut dyn ApiEngine,
    turn: &mut ApiTurn<'_>,
    pending: &PendingRequest,
    id: StreamId,
    name: String,
    config: &ConsumerConfig,
) {
    let change = Change::StoreConsumer {
        name,
        config: Box::new(config.clone()),
    };
    engine.change_stream(turn, id, change, pending.clone());
}

/// Names of the stream's consumers; those of mirrors and sources are hidden.
fn visible_names(engine: &dyn ApiEngine, id: StreamId) -> Vec<String> {
    let consumers = engine.consumers(id).into_iter();
    consumers
        .filter(|(_, config)| !config.direct)
        .map(|(name, _)| name.to_owned())
        .collect()
}

pub(super) fn names(engine: &dyn ApiEngine, pending: &PendingRequest, stream: &str) -> CallResult {
    let request: ListRequest = optional_body(engine, pending)?;
    let id = require_stream(engine, pending, stream)?;
    let (page, consumers) = page_of(visible_names(engine, id), request.offset, NAMES_LIMIT);
    Ok(Progress::Answer(Body::ConsumerNames { page, consumers }))
}

pub(super) fn list(
    engine: &mut dyn ApiEngine,
    turn: &mut ApiTurn<'_>,
    pending: &PendingRequest,
    stream: &str,
) -> CallResult {
    let request: ListRequest = optional_body(engine, pending)?;
    let id = require_stream(engine, pending, stream)?;
    let (page, names) = page_of(visible_names(engine, id), request.offset, LIST_LIMIT);
    let infos = names
        .iter()
        .filter_map(|name| engine.consumer_info(turn, id, name));
    let consumers = infos.collect();
    Ok(Progress::Answer(Body::ConsumerList { page, consumers }))
}

/// Reads a body the way calls do that came late to the reference: always lenient, and an empty one
/// is an error.
fn lenient_body<T: serde::de::DeserializeOwned + Default>(body: &[u8]) -> Result<T, ApiError> {
    if body.is_empty() {
        return Err(ErrorCode::InvalidJSON.with("unexpected end of JSON input"));
    }
    parse(body, false)
}

/// A request about one consumer.
pub(super) struct Named<'a> {
    pub(super) pending: &'a PendingRequest,
    pub(super) stream: &'a str,
    pub(super) name: &'a str,
}

impl Named<'_> {
    pub(super) fn run(
        &self,
        engine: &mut dyn ApiEngine,
        turn: &mut ApiTurn<'_>,
        call: ConsumerCall,
    ) -> CallResult {
        // What was asked before this is done before this.
        let stream = find_stream(engine, self.pending, self.stream);
        let stream = stream.and_then(|id| engine.stream(id));
        if let Some(stream) = stream.filter(|stream| stream.is_changing) {
            engine.park(stream.id, self.pending.clone());
            return Ok(Progress::Pending);
        }
        match call {
            ConsumerCall::Info => self.info(engine, turn),
            ConsumerCall::Delete => self.delete(engine, turn),
            ConsumerCall::Pause => self.pause(engine, turn),
            ConsumerCall::Unpin => self.unpin(engine, turn),
            ConsumerCall::Reset => self.reset(engine, turn),
            ConsumerCall::Explain => self.explain(engine, turn),
            ConsumerCall::LeaderStepdown
            | ConsumerCall::PeerRemove
            | ConsumerCall::PeerEvacuate => Err(ErrorCode::ClusterRequired.into()),
        }
    }

    fn find(&self, engine: &dyn ApiEngine) -> Result<(StreamId, ConsumerConfig), ApiError> {
        let id = require_stream(engine, self.pending, self.stream)?;
        let config = config_of(engine, id, self.name).ok_or(ErrorCode::ConsumerNotFound)?;
        Ok((id, config))
    }

    /// For calls that take no body.
    fn find_without_body(&self, engine: &dyn ApiEngine) -> Result<StreamId, ApiError> {
        if !is_empty_body(&self.pending.message.payload) {
            return Err(ErrorCode::NotEmptyRequest.into());
        }
        Ok(self.find(engine)?.0)
    }

    /// Asks for a change of the consumer.
    fn change(
        &self,
        engine: &mut dyn ApiEngine,
        turn: &mut ApiTurn<'_>,
        id: StreamId,
        change: impl FnOnce(String) -> Change,
    ) -> CallResult {
        let change = change(self.name.to_owned());
        engine.change_stream(turn, id, change, self.pending.clone());
        Ok(Progress::Pending)
    }

    fn info(&self, engine: &mut dyn ApiEngine, turn: &mut ApiTurn<'_>) -> CallResult {
        let id = self.find_without_body(engine)?;
        let info = full_info(engine, turn, id, self.name)?;
        Ok(Progress::Answer(Body::Consumer(info)))
    }

    fn explain(&self, engine: &mut dyn ApiEngine, turn: &mut ApiTurn<'_>) -> CallResult {
        let id = self.find_without_body(engine)?;
        let explanation = engine.explain(turn, id, self.name);
        let explanation = explanation.ok_or(ErrorCode::ConsumerNotFound)?;
        Ok(Progress::Answer(Body::Explanation(Box::new(explanation))))
    }

    fn delete(&self, engine: &mut dyn ApiEngine, turn: &mut ApiTurn<'_>) -> CallResult {
        let id = self.find_without_body(engine)?;
        self.change(engine, turn, id, |name| Change::DeleteConsumer { name })
    }

    fn pause(&self, engine: &mut dyn ApiEngine, turn: &mut ApiTurn<'_>) -> CallResult {
        let request: PauseRequest = optional_body(engine, self.pending)?;
        let (id, _) = self.find(engine)?;
        let until_ns = request
            .pause_until
            .filter(|until| !until.is_zero())
            .map_or(0, |until| until.0);
        self.change(engine, turn, id, |name| Change::PauseConsumer {
            until_ns,
            name,
        })
    }

    fn unpin(&self, engine: &mut dyn ApiEngine, turn: &mut ApiTurn<'_>) -> CallResult {
        let request: UnpinRequest = lenient_body(&self.pending.message.payload)?;
        if request.group.is_empty() {
            return Err(ErrorCode::InvalidJSON.with("consumer group not specified"));
        }
        if !is_valid_group_name(&request.group) {
            return Err(ErrorCode::ConsumerInvalidGroupName.into());
        }
        let (id, config) = self.find(engine)?;
        let known = config.priority_groups.contains(&request.group);
        if !known || !engine.unpin(turn, id, self.name, &request.group) {
            return Err(ErrorCode::ConsumerInvalidPriorityGroup.into());
        }
        Ok(Progress::Answer(Body::Empty {}))
    }

    fn reset(&self, engine: &mut dyn ApiEngine, turn: &mut ApiTurn<'_>) -> CallResult {
        // Answered by the consumer itself: without one, nobody does.
        let Ok((id, _)) = self.find(engine) else {
            return Ok(Progress::Silent);
        };
        sourcing::check_identity(engine, self.pending, id)?;
        let body = &self.pending.message.payload;
        let request: ResetRequest = if body.is_empty() {
            ResetRequest::default()
        } else {
            lenient_body(body)?
        };
        let wanted = (request.seq != 0).then_some(request.seq);
        let sequence = engine
            .check_reset(turn, id, self.name, wanted)
            .map_err(|reason| ErrorCode::ConsumerInvalidReset.with(reason))?;
        self.change(engine, turn, id, |name| Change::ResetConsumer {
            sequence,
            name,
        })
    }
}
