//! Calls about accounts and streams: bodies, lookups, and the change that is asked of the engine.

use std::collections::BTreeMap;

use millrace_store::stream::Filter;
use millrace_subject::{is_valid_subject, overlaps};
use serde::Deserialize;

use super::dispatch::{
    CallResult, Progress, find_stream, is_empty_body, is_json_body, require_stream,
};
use super::engine::{ApiEngine, ApiTurn, Change, StreamView};
use super::response::{Body, Page};
use crate::error::{ApiError, ErrorCode};
use crate::ids::StreamId;
use crate::model::json::parse;
use crate::model::{
    API_LEVEL, AccountApiStats, AccountInfo, ClusterInfo, StreamConfig, StreamContext,
    StreamDirectory, StreamInfo, StreamState, Timestamp, check_create, check_update, unsupported,
    with_dynamic_metadata,
};
use crate::request::PendingRequest;

/// Most names on a page.
const NAMES_LIMIT: u64 = 1024;
/// Most infos on a page.
pub(super) const LIST_LIMIT: u64 = 256;
/// Most subjects on a page of a stream's info.
const SUBJECTS_LIMIT: u64 = 100_000;

/// `{"offset":n,"subject":s}` of stream names and list.
#[derive(Default, Deserialize)]
#[serde(default, rename = "JSApiStreamNamesRequest")]
struct ListRequest {
    offset: i64,
    subject: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename = "JSApiStreamInfoRequest")]
struct InfoRequest {
    offset: i64,
    deleted_details: bool,
    subjects_filter: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename = "JSApiStreamPurgeRequest")]
struct PurgeRequest {
    seq: u64,
    filter: String,
    keep: u64,
}

#[derive(Default, Deserialize)]
#[serde(default, rename = "JSApiMsgDeleteRequest")]
struct DeleteMessageRequest {
    seq: u64,
    no_erase: bool,
}

/// Reads the body of a call that may do without one.
pub(super) fn optional_body<T: serde::de::DeserializeOwned + Default>(
    engine: &dyn ApiEngine,
    pending: &PendingRequest,
) -> Result<T, ApiError> {
    let body = &pending.message.payload;
    if is_json_body(body) {
        parse(body, engine.settings().strict)
    } else {
        Ok(T::default())
    }
}

pub(super) fn account_info(engine: &dyn ApiEngine, pending: &PendingRequest) -> Progress {
    let mut info = AccountInfo::default();
    if let Some(account) = engine.account(pending.account) {
        (info.memory, info.storage) = engine.usage(pending.account);
        info.streams = account.streams.len() as u64;
        info.limits = account.limits;
        info.api = AccountApiStats {
            level: API_LEVEL,
            total: account.api_total,
            errors: account.api_errors,
            inflight: 0,
        };
        for id in account.streams.values() {
            info.consumers += engine.consumers(*id).len() as u64;
            let Some(stream) = engine.stream(*id) else {
                continue;
            };
            let reserved = u64::try_from(stream.config.max_bytes).unwrap_or(0);
            let copies = u64::try_from(stream.config.num_replicas).unwrap_or(1);
            *match stream.config.storage {
                crate::model::StorageKind::Memory => &mut info.reserved_memory,
                crate::model::StorageKind::File => &mut info.reserved_storage,
            } += reserved.saturating_mul(copies);
        }
    }
    info.domain.clone_from(&engine.settings().domain);
    Progress::Answer(Body::Account(Box::new(info)))
}

/// A page of `all`: offsets below zero count as zero, beyond the end as the end.
pub(super) fn page_of<T>(all: Vec<T>, offset: i64, limit: u64) -> (Page, Vec<T>) {
    let total = all.len() as u64;
    let offset = u64::try_from(offset).unwrap_or(0).min(total);
    let skip = usize::try_from(offset).unwrap_or(usize::MAX);
    let take = usize::try_from(limit).unwrap_or(usize::MAX);
    (
        Page {
            total,
            offset,
            limit,
        },
        all.into_iter().skip(skip).take(take).collect(),
    )
}

/// The account's streams that capture something of `subject`, in name order.
fn matching(
    engine: &dyn ApiEngine,
    pending: &PendingRequest,
    subject: &str,
) -> Vec<(String, StreamId)> {
    let Some(account) = engine.account(pending.account) else {
        return Vec::new();
    };
    let wanted = |id: &StreamId| {
        subject.is_empty()
            || engine.stream(*id).is_some_and(|stream| {
                stream
                    .config
                    .subject_filters()
                    .any(|captured| overlaps(captured, subject.as_bytes()))
            })
    };
    let streams = account.streams.iter().filter(|(_, id)| wanted(id));
    streams.map(|(name, id)| (name.clone(), *id)).collect()
}

pub(super) fn names(engine: &dyn ApiEngine, pending: &PendingRequest) -> CallResult {
    let request: ListRequest = optional_body(engine, pending)?;
    let found = matching(engine, pending, &request.subject);
    let (page, found) = page_of(found, request.offset, NAMES_LIMIT);
    let names: Vec<String> = found.into_iter().map(|(name, _)| name).collect();
    let streams = (!names.is_empty()).then_some(names);
    Ok(Progress::Answer(Body::StreamNames { page, streams }))
}

pub(super) fn list(
    engine: &dyn ApiEngine,
    turn: &ApiTurn<'_>,
    pending: &PendingRequest,
) -> CallResult {
    let request: ListRequest = optional_body(engine, pending)?;
    let found = matching(engine, pending, &request.subject);
    let (page, found) = page_of(found, request.offset, LIST_LIMIT);
    let streams = found
        .iter()
        .filter_map(|(_, id)| stream_info(engine, turn, *id))
        .collect();
    Ok(Progress::Answer(Body::StreamList { page, streams }))
}

/// A stream as lists carry it: only the stored metadata key, no `cluster`.
pub(super) fn stream_info(
    engine: &dyn ApiEngine,
    turn: &ApiTurn<'_>,
    id: StreamId,
) -> Option<StreamInfo> {
    let stream = engine.stream(id)?;
    let mut state = state_of(&stream);
    state.consumer_count = engine.consumers(id).len() as u64;
    Some(StreamInfo {
        config: stream.config.clone(),
        created: Timestamp(stream.created_ns),
        state,
        domain: engine.settings().domain.clone(),
        ts: Timestamp(turn.now.wall_ns),
        ..StreamInfo::default()
    })
}

/// A stream as create, update and info answers carry it.
pub(super) fn full_stream_info(
    engine: &dyn ApiEngine,
    turn: &ApiTurn<'_>,
    id: StreamId,
) -> Option<Box<StreamInfo>> {
    let mut info = stream_info(engine, turn, id)?;
    with_dynamic_metadata(&mut info.config.metadata);
    Some(Box::new(info))
}

fn state_of(stream: &StreamView<'_>) -> StreamState {
    let state = stream.store.state();
    let moment = |time_ns: i64| {
        if time_ns == 0 {
            Timestamp::ZERO
        } else {
            Timestamp(time_ns)
        }
    };
    StreamState {
        messages: state.messages,
        bytes: state.bytes,
        first_seq: state.first_sequence,
        first_ts: moment(state.first_time_ns),
        last_seq: state.last_sequence,
        last_ts: moment(state.last_time_ns),
        num_subjects: state.subjects,
        num_deleted: state.deleted,
        ..StreamState::default()
    }
}

pub(super) fn info(
    engine: &dyn ApiEngine,
    turn: &ApiTurn<'_>,
    pending: &PendingRequest,
    name: &str,
) -> CallResult {
    let request: InfoRequest = optional_body(engine, pending)?;
    let id = require_stream(engine, pending, name)?;
    let mut page = Page::default();
    let mut info = full_stream_info(engine, turn, id).ok_or(ErrorCode::StreamNotFound)?;
    let leader = engine.settings().server_name.clone();
    info.cluster = Some(ClusterInfo {
        leader,
        ..ClusterInfo::default()
    });
    if let Some(stream) = engine.stream(id) {
        if request.deleted_details {
            add_deleted(&stream, &mut info.state);
        }
        if !request.subjects_filter.is_empty() {
            page = add_subjects(&stream, &request, &mut info.state);
        }
    }
    Ok(Progress::Answer(Body::StreamInfo {
        page,
        info: Some(info),
    }))
}

fn add_deleted(stream: &StreamView<'_>, state: &mut StreamState) {
    state.deleted = stream.store.deleted_ranges().flatten().collect();
    // A quirk of the reference: a stream that was never used has a deleted message 0.
    if state.last_seq == 0 && state.first_seq == 0 && state.messages == 0 {
        state.deleted = vec![0];
        state.num_deleted = 1;
    }
}

fn add_subjects(stream: &StreamView<'_>, request: &InfoRequest, state: &mut StreamState) -> Page {
    let filter = Filter::one(request.subjects_filter.as_bytes());
    let mut all = Vec::new();
    stream.store.for_each_subject(&filter, |subject, messages| {
        all.push((
            String::from_utf8_lossy(subject).into_owned(),
            messages.count,
        ));
    });
    if all.is_empty() {
        return Page::default();
    }
    all.sort_unstable();
    let (mut page, subjects) = page_of(all, request.offset, SUBJECTS_LIMIT);
    // Unlike other listings, this one repeats an offset beyond the end.
    page.offset = u64::try_from(request.offset).unwrap_or(0);
    state.subjects = subjects.into_iter().collect();
    page
}

/// The account's streams for the rules.
struct Directory<'a> {
    engine: &'a dyn ApiEngine,
    streams: &'a BTreeMap<String, StreamId>,
    /// Streams on their way: they count, and their subjects are taken.
    creating: Vec<&'a StreamConfig>,
}

impl StreamDirectory for Directory<'_> {
    fn for_each(&self, visit: &mut dyn FnMut(&StreamConfig)) {
        for id in self.streams.values() {
            if let Some(stream) = self.engine.stream(*id) {
                visit(stream.config);
            }
        }
        self.creating.iter().for_each(|config| visit(config));
    }

    fn find(&self, name: &str) -> Option<&StreamConfig> {
        if let Some(id) = self.streams.get(name) {
            return self.engine.stream(*id).map(|stream| stream.config);
        }
        self.creating
            .iter()
            .copied()
            .find(|config| config.name == name)
    }
}

/// Lends the context of the rules.
fn with_context<T>(
    engine: &dyn ApiEngine,
    pending: &PendingRequest,
    check: impl FnOnce(&StreamContext<'_>) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    let account = engine
        .account(pending.account)
        .ok_or(ErrorCode::NotEnabledForAccount)?;
    let settings = engine.settings();
    let directory = Directory {
        engine,
        streams: &account.streams,
        creating: engine.creating(pending.account),
    };
    let signed = |limit: u64| i64::try_from(limit).unwrap_or(i64::MAX);
    let context = StreamContext {
        standalone: true,
        limits: account.limits,
        max_duplicate_window_ns: signed(settings.max_duplicate_window_ns),
        free_memory: signed(settings.max_memory_bytes),
        free_storage: signed(settings.max_file_bytes),
        streams: &directory,
    };
    check(&context)
}

pub(super) fn create(
    engine: &mut dyn ApiEngine,
    turn: &mut ApiTurn<'_>,
    pending: &PendingRequest,
    name: &str,
) -> CallResult {
    let config: StreamConfig = parse(&pending.message.payload, engine.settings().strict)?;
    let checked = with_context(engine, pending, |context| {
        check_create(context, name, config)
    })?;
    if checked.exists
        && let Some(id) = find_stream(engine, pending, name)
    {
        let info = full_stream_info(engine, turn, id).ok_or(ErrorCode::StreamNotFound)?;
        return Ok(Progress::Answer(Body::StreamCreated {
            info,
            did_create: true,
        }));
    }
    if let Some(error) = unsupported(&checked.config) {
        return Err(error);
    }
    engine.create_stream(turn, checked.config, pending.clone());
    Ok(Progress::Pending)
}

pub(super) fn update(
    engine: &mut dyn ApiEngine,
    turn: &mut ApiTurn<'_>,
    pending: &PendingRequest,
    name: &str,
) -> CallResult {
    let config: StreamConfig = parse(&pending.message.payload, engine.settings().strict)?;
    let found = find_stream(engine, pending, name);
    let current = found.and_then(|id| engine.stream(id));
    if let (Some(id), true) = (found, current.is_some_and(|stream| stream.is_changing)) {
        engine.park(id, pending.clone());
        return Ok(Progress::Pending);
    }
    let current = current.map(|stream| stream.config.clone());
    let config = with_context(engine, pending, |context| {
        check_update(context, name, current.as_ref(), config)
    })?;
    let id = found.ok_or(ErrorCode::StreamNotFound)?;
    check_consumers_fit(engine, id, &config)?;
    if let Some(error) = unsupported(&config) {
        return Err(error);
    }
    engine.change_stream(
        turn,
        id,
        Change::Configure(Box::new(config)),
        pending.clone(),
    );
    Ok(Progress::Pending)
}

/// New limits for consumers must leave the stream's consumers valid.
fn check_consumers_fit(
    engine: &dyn ApiEngine,
    id: StreamId,
    config: &StreamConfig,
) -> Result<(), ApiError> {
    let limits = config.consumer_limits;
    let over = |value: i64, limit: i64| limit > 0 && value > limit;
    let consumers = engine.consumers(id);
    let violating: Vec<&str> = consumers
        .iter()
        .filter(|(_, consumer)| {
            over(consumer.max_ack_pending, limits.max_ack_pending)
                || over(consumer.inactive_threshold_ns, limits.inactive_threshold_ns)
        })
        .map(|(name, _)| *name)
        .collect();
    if violating.is_empty() {
        return Ok(());
    }
    let names = violating.join(", ");
    Err(ErrorCode::StreamUpdate.with(format!("change to limits violates consumers: {names}")))
}

pub(super) fn delete(
    engine: &mut dyn ApiEngine,
    turn: &mut ApiTurn<'_>,
    pending: &PendingRequest,
    name: &str,
) -> CallResult {
    if !is_empty_body(&pending.message.payload) {
        return Err(ErrorCode::NotEmptyRequest.into());
    }
    let id = require_stream(engine, pending, name)?;
    // What was asked before this is answered before there is no stream to ask.
    if engine.stream(id).is_some_and(|stream| stream.is_changing) {
        engine.park(id, pending.clone());
        return Ok(Progress::Pending);
    }
    engine.delete_stream(turn, id, pending.clone());
    Ok(Progress::Pending)
}

pub(super) fn purge(
    engine: &mut dyn ApiEngine,
    turn: &mut ApiTurn<'_>,
    pending: &PendingRequest,
    name: &str,
) -> CallResult {
    let request: PurgeRequest = optional_body(engine, pending)?;
    if request.seq > 0 && request.keep > 0 {
        return Err(ErrorCode::BadRequest.into());
    }
    let id = require_stream(engine, pending, name)?;
    let stream = engine.stream(id).ok_or(ErrorCode::StreamNotFound)?;
    if stream.config.sealed {
        return Err(ErrorCode::StreamSealed.into());
    }
    if stream.config.deny_purge {
        return Err(ErrorCode::StreamPurgeFailed.with("stream purge not permitted"));
    }
    let change = Change::Purge {
        sequence: request.seq,
        keep: request.keep,
        filter: request.filter,
    };
    engine.change_stream(turn, id, change, pending.clone());
    Ok(Progress::Pending)
}

pub(super) fn delete_message(
    engine: &mut dyn ApiEngine,
    turn: &mut ApiTurn<'_>,
    pending: &PendingRequest,
    name: &str,
) -> CallResult {
    if is_empty_body(&pending.message.payload) {
        return Err(ErrorCode::BadRequest.into());
    }
    let request: DeleteMessageRequest = parse(&pending.message.payload, engine.settings().strict)?;
    let id = require_stream(engine, pending, name)?;
    let stream = engine.stream(id).ok_or(ErrorCode::StreamNotFound)?;
    if stream.config.sealed {
        return Err(ErrorCode::StreamSealed.into());
    }
    if stream.config.deny_delete {
        return Err(ErrorCode::StreamMsgDeleteFailed.with("message delete not permitted"));
    }
    check_deletable(&stream, request.seq)?;
    let change = Change::DeleteMessage {
        sequence: request.seq,
        erase: !request.no_erase,
    };
    engine.change_stream(turn, id, change, pending.clone());
    Ok(Progress::Pending)
}

fn check_deletable(stream: &StreamView<'_>, sequence: u64) -> Result<(), ApiError> {
    if stream.store.contains(sequence) {
        return Ok(());
    }
    Err(no_such_message(stream, sequence))
}

/// The error for a message that is not there to be deleted.
pub(super) fn no_such_message(stream: &StreamView<'_>, sequence: u64) -> ApiError {
    let state = stream.store.state();
    if sequence > state.last_sequence {
        ErrorCode::StreamMsgDeleteFailed.with("stream store EOF")
    } else if sequence < state.first_sequence.max(1) {
        ErrorCode::StreamMsgDeleteFailed.with("no message found")
    } else {
        ErrorCode::SequenceNotFound.with(sequence)
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename = "JSApiStreamSnapshotRequest")]
#[allow(dead_code)] // Read for its errors; snapshots are not built yet.
struct SnapshotRequest {
    deliver_subject: String,
    no_consumers: bool,
    chunk_size: i64,
    window_size: i64,
    jsck: bool,
}

pub(super) fn snapshot(engine: &dyn ApiEngine, pending: &PendingRequest, name: &str) -> CallResult {
    if is_empty_body(&pending.message.payload) {
        return Err(ErrorCode::BadRequest.into());
    }
    require_stream(engine, pending, name)?;
    let request: SnapshotRequest = parse(&pending.message.payload, engine.settings().strict)?;
    if !is_valid_subject(request.deliver_subject.as_bytes())
        || millrace_subject::has_wildcard(request.deliver_subject.as_bytes())
    {
        return Err(ErrorCode::SnapshotDeliverSubjectInvalid.into());
    }
    Err(ErrorCode::StreamSnapshot.with("not supported yet"))
}

pub(super) fn restore(engine: &dyn ApiEngine, pending: &PendingRequest, name: &str) -> CallResult {
    if is_empty_body(&pending.message.payload) {
        return Err(ErrorCode::BadRequest.into());
    }
    let _: RestoreRequest = parse(&pending.message.payload, engine.settings().strict)?;
    if find_stream(engine, pending, name).is_some() {
        return Err(ErrorCode::StreamNameExistRestoreFailed.into());
    }
    Err(ErrorCode::StreamRestore.with("not supported yet"))
}

#[derive(Default, Deserialize)]
#[serde(default, rename = "JSApiStreamRestoreRequest")]
#[allow(dead_code)] // Read for its errors; restoring is not built yet.
struct RestoreRequest {
    config: StreamConfig,
    state: serde_json::Value,
}
