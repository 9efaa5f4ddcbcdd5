//! Calls about accounts and streams: bodies, lookups, and the change that is asked of the engine.

use std::collections::BTreeMap;

use bytes::Bytes;
use millrace_subject::overlaps;
use serde::Deserialize;

use super::dispatch::{
    CallResult, Progress, find_stream, is_empty_body, is_json_body, require_stream, required_body,
};
use super::engine::{ApiEngine, ApiTurn, Change, StreamView};
use super::messages::{ParkedRead, Step};
use super::response::{Body, Page};
use crate::engine::Account;
use crate::error::{ApiError, ErrorCode};
use crate::ids::StreamId;
use crate::model::json::parse;
use crate::model::{
    API_LEVEL, AccountApiStats, AccountInfo, AccountLimits, AccountTier, ClusterInfo, StreamConfig,
    StreamContext, StreamDirectory, StreamInfo, StreamState, Timestamp, check_create, check_update,
    unsupported, with_dynamic_metadata,
};
use crate::report::state_of;
use crate::request::PendingRequest;

/// Most names on a page.
const NAMES_LIMIT: u64 = 1024;
/// Most infos on a page.
pub(super) const LIST_LIMIT: u64 = 256;
/// Most subjects on a page of a stream's info.
const SUBJECTS_LIMIT: u64 = 100_000;
/// Subjects looked at in one turn for it.
const SUBJECTS_PER_STEP: usize = 1_000;

/// `{"offset":n,"subject":s}` of stream names and list.
#[derive(Default, Deserialize)]
#[serde(default, rename = "JSApiStreamNamesRequest")]
struct ListRequest {
    offset: i64,
    subject: String,
}

#[derive(Debug, Default, Deserialize)]
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
            *match stream.config.storage {
                crate::model::StorageKind::Memory => &mut info.reserved_memory,
                crate::model::StorageKind::File => &mut info.reserved_storage,
            } += stream.config.reserved_bytes();
        }
    }
    if let Some(account) = engine.account(pending.account) {
        with_tiers(&mut info, account);
    }
    info.domain.clone_from(&engine.settings().domain);
    Progress::Answer(Body::Account(Box::new(info)))
}

/// The tier of streams with a single replica: without a cluster there are no others.
const SINGLE_REPLICA: &str = "R1";

/// An account with tiers stores nothing where it has no tier for it.
fn check_tier(engine: &dyn ApiEngine, pending: &PendingRequest) -> Result<(), ApiError> {
    let account = engine.account(pending.account);
    let is_missing = account.is_some_and(|account| {
        !account.tiers.is_empty() && !account.tiers.contains_key(SINGLE_REPLICA)
    });
    if is_missing {
        return Err(ErrorCode::NoLimits.into());
    }
    Ok(())
}

/// Where limits are given by number of replicas, all is told of the tier; without a cluster every
/// stream is of the one of a single replica. The others are told of by their limits.
fn with_tiers(info: &mut AccountInfo, account: &Account) {
    let of = |limits: &AccountLimits| AccountTier {
        limits: *limits,
        ..AccountTier::default()
    };
    let tiers = account.tiers.iter();
    info.tiers = tiers
        .map(|(name, limits)| (name.clone(), of(limits)))
        .collect();
    if info.tiers.is_empty() {
        return;
    }
    info.limits = AccountLimits::NONE_HERE;
    if let Some(single) = info.tiers.get_mut(SINGLE_REPLICA) {
        *single = AccountTier {
            memory: info.memory,
            storage: info.storage,
            reserved_memory: info.reserved_memory,
            reserved_storage: info.reserved_storage,
            streams: info.streams,
            consumers: info.consumers,
            limits: single.limits,
        };
    }
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
    let mut state = state_of(stream.store, stream.config);
    let consumers = engine.consumers(id).into_iter();
    state.consumer_count = consumers.filter(|(_, config)| !config.direct).count() as u64;
    let origins = engine.origins(id, turn.now);
    let (mirror, sources) = if stream.config.mirror.is_some() {
        (origins.into_iter().next(), Vec::new())
    } else {
        (None, origins)
    };
    Some(StreamInfo {
        mirror,
        sources,
        config: stream.config.clone(),
        created: Timestamp(stream.created_ns),
        state,
        domain: engine.settings().domain.clone(),
        ts: Timestamp(turn.now.wall_ns),
        ..StreamInfo::default()
    })
}

/// A stream as the answer to its creation carries it: without its domain, and without the filter of a
/// mirror that was not begun yet.
pub(super) fn created_stream_info(
    engine: &dyn ApiEngine,
    turn: &ApiTurn<'_>,
    id: StreamId,
) -> Option<Box<StreamInfo>> {
    let mut info = full_stream_info(engine, turn, id)?;
    info.domain.clear();
    if let Some(mirror) = &mut info.mirror {
        mirror.filter_subject.clear();
    }
    Some(info)
}

/// A stream as update and info answers carry it.
pub(super) fn full_stream_info(
    engine: &dyn ApiEngine,
    turn: &ApiTurn<'_>,
    id: StreamId,
) -> Option<Box<StreamInfo>> {
    let mut info = stream_info(engine, turn, id)?;
    with_dynamic_metadata(&mut info.config.metadata);
    Some(Box::new(info))
}

pub(super) fn info(
    engine: &dyn ApiEngine,
    turn: &ApiTurn<'_>,
    pending: &PendingRequest,
    name: &str,
) -> CallResult {
    let request: InfoRequest = optional_body(engine, pending)?;
    let id = require_stream(engine, pending, name)?;
    if !request.subjects_filter.is_empty() {
        let listing = Listing::new(request);
        let read = ParkedRead::listing(id, pending.clone(), listing);
        return Ok(Progress::Reading(Box::new(read)));
    }
    let body = info_body(engine, turn, id, &request)?;
    Ok(Progress::Answer(body))
}

fn info_body(
    engine: &dyn ApiEngine,
    turn: &ApiTurn<'_>,
    id: StreamId,
    request: &InfoRequest,
) -> Result<Body, ApiError> {
    let mut info = full_stream_info(engine, turn, id).ok_or(ErrorCode::StreamNotFound)?;
    let leader = engine.settings().server_name.clone();
    info.cluster = Some(ClusterInfo {
        leader,
        ..ClusterInfo::default()
    });
    if let Some(stream) = engine.stream(id).filter(|_| request.deleted_details) {
        add_deleted(&stream, &mut info.state);
    }
    Ok(Body::StreamInfo {
        page: Page::default(),
        info: Some(info),
    })
}

fn add_deleted(stream: &StreamView<'_>, state: &mut StreamState) {
    state.deleted = stream.store.deleted_ranges().flatten().collect();
    // A quirk of the reference: a stream that was never used has a deleted message 0.
    if state.last_seq == 0 && state.first_seq == 0 && state.messages == 0 {
        state.deleted = vec![0];
        state.num_deleted = 1;
    }
}

/// The subjects of a stream's info, collected a bounded part at a time.
#[derive(Debug)]
pub(super) struct Listing {
    request: InfoRequest,
    /// Where to go on; `None` once all are collected.
    after: Option<Bytes>,
    collected: bool,
    /// In the order of the answer.
    found: BTreeMap<String, u64>,
    total: u64,
    page: BTreeMap<String, u64>,
    answered: bool,
}

impl Listing {
    const fn new(request: InfoRequest) -> Self {
        Self {
            request,
            after: None,
            collected: false,
            found: BTreeMap::new(),
            total: 0,
            page: BTreeMap::new(),
            answered: false,
        }
    }

    /// Goes on. The answer comes once, in a step before the last one if there is much to forget.
    pub(super) fn step(
        &mut self,
        engine: &dyn ApiEngine,
        turn: &ApiTurn<'_>,
        id: StreamId,
    ) -> (Option<Result<Body, ApiError>>, Step) {
        if !self.collected {
            let Some(stream) = engine.stream(id) else {
                return (Some(Err(ErrorCode::StreamNotFound.into())), Step::Done);
            };
            self.collect(&stream);
            if !self.collected {
                return (None, Step::More);
            }
            self.total = self.found.len() as u64;
        }
        if !self.answered && !self.turn_to_page() {
            return (None, Step::More);
        }
        let answer =
            (!std::mem::replace(&mut self.answered, true)).then(|| self.answer(engine, turn, id));
        for _ in 0..SUBJECTS_PER_STEP {
            if self.found.pop_last().is_none() {
                return (answer, Step::Done);
            }
        }
        (answer, Step::More)
    }

    fn collect(&mut self, stream: &StreamView<'_>) {
        let filter = self.request.subjects_filter.as_bytes();
        let found = &mut self.found;
        let after = self.after.take();
        let next = stream.store.walk_subjects(
            filter,
            after.as_deref(),
            SUBJECTS_PER_STEP,
            |subject, messages| {
                let subject = String::from_utf8_lossy(subject).into_owned();
                found.insert(subject, messages.count);
            },
        );
        self.collected = next.is_none();
        self.after = next;
    }

    /// Leaves out what is before the page and takes what is on it; true when both are done.
    fn turn_to_page(&mut self) -> bool {
        let offset = u64::try_from(self.request.offset)
            .unwrap_or(0)
            .min(self.total);
        for _ in 0..SUBJECTS_PER_STEP {
            let passed = self.total - self.found.len() as u64;
            if passed >= offset && self.page.len() as u64 >= SUBJECTS_LIMIT {
                return true;
            }
            let Some((subject, count)) = self.found.pop_first() else {
                return true;
            };
            if passed >= offset {
                self.page.insert(subject, count);
            }
        }
        false
    }

    fn answer(
        &mut self,
        engine: &dyn ApiEngine,
        turn: &ApiTurn<'_>,
        id: StreamId,
    ) -> Result<Body, ApiError> {
        let mut body = info_body(engine, turn, id, &self.request)?;
        if let Body::StreamInfo {
            page,
            info: Some(info),
        } = &mut body
            && self.total > 0
        {
            *page = Page {
                total: self.total,
                // Unlike other listings, this one repeats an offset beyond the end.
                offset: u64::try_from(self.request.offset).unwrap_or(0),
                limit: SUBJECTS_LIMIT,
            };
            info.state.subjects = std::mem::take(&mut self.page);
        }
        Ok(body)
    }
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
    check_tier(engine, pending)?;
    let checked = with_context(engine, pending, |context| {
        check_create(context, name, config)
    })?;
    if checked.exists
        && let Some(id) = find_stream(engine, pending, name)
    {
        let info = created_stream_info(engine, turn, id).ok_or(ErrorCode::StreamNotFound)?;
        return Ok(Progress::Answer(Body::StreamCreated {
            info,
            did_create: true,
        }));
    }
    if let Some(error) = unsupported(&checked.config) {
        return Err(error);
    }
    if engine.is_disk_full() && checked.config.storage == crate::model::StorageKind::File {
        return Err(ErrorCode::InsufficientResources.into());
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
    let request: DeleteMessageRequest = required_body(engine, pending)?;
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

/// The configuration of a stream that is restored, checked as if it were created; a sealed stream
/// may come back sealed.
pub(super) fn check_restored(
    engine: &dyn ApiEngine,
    pending: &PendingRequest,
    name: &str,
    mut config: StreamConfig,
) -> Result<StreamConfig, ApiError> {
    if config.name.is_empty() {
        name.clone_into(&mut config.name);
    }
    let sealed = std::mem::take(&mut config.sealed);
    let checked = with_context(engine, pending, |context| {
        check_create(context, name, config)
    })?;
    if checked.exists {
        return Err(ErrorCode::StreamNameExistRestoreFailed.into());
    }
    if let Some(error) = unsupported(&checked.config) {
        return Err(error);
    }
    let mut config = checked.config;
    config.sealed = sealed;
    Ok(config)
}
