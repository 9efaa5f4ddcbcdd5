//! The engine as the API sees it ([`ApiEngine`] for [`JetStream`]), and the API as the engine calls
//! it. Requests and reads that wait are kept here, in [`Waiting`].

use std::collections::BTreeMap;

use millrace_clock::{Now, Random};
use millrace_store::stream::StreamStore;

use super::advisory::{self, Action, EventContext};
use super::engine::{ApiEngine, ApiTurn, Change, StreamView};
use super::messages::{ParkedRead, Step};
use super::request::{ApiRequest, ConsumerCall, StreamCall};
use super::{direct, dispatch, finish as finishing};
use crate::backup::{RestoreAsk, SnapshotAsk, Way};
use crate::changes::PurgeRequest;
use crate::consumer::{ConsumerEvent, Explanation};
use crate::engine::{Account, JetStream};
use crate::error::ErrorCode;
use crate::ids::{AccountRef, StreamId};
use crate::io::Effect;
use crate::model::{ConsumerConfig, ConsumerInfo, SourceInfo, StreamConfig};
use crate::outbound::Outbound;
use crate::report::as_shown;
use crate::request::{Outcome, PendingRequest};
use crate::settings::Settings;
use crate::stream::{Lead, Stream, Unheard};

/// Most requests that wait for streams that are being created; further ones are told that there is
/// no such stream.
const CREATING_MAX: usize = 10_000;
/// Reads that wait for messages in flight, of all streams; beyond it they see what is applied.
const BEHIND_MAX: usize = 10_000;

/// Requests and reads that wait for something.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Until a change of the stream is applied.
    requests: Vec<(StreamId, PendingRequest)>,
    /// Until the stream they name is created: requests are answered in their order.
    creating: Vec<PendingRequest>,
    /// Until messages that nobody waits for are applied, each up to a proposal of its stream.
    behind: Vec<BehindMessages>,
    /// Until the stream's store has read something.
    loading: BTreeMap<StreamId, Vec<ParkedRead>>,
    /// Until the next turn.
    busy: Vec<ParkedRead>,
}

impl Waiting {
    /// Whether some answer is still being read from the stream.
    pub(crate) fn reads(&self, stream: StreamId) -> bool {
        self.loading.contains_key(&stream) || self.busy.iter().any(|read| read.stream() == stream)
    }

    /// Whether another turn is wanted at once.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.busy.is_empty()
    }

    fn keep(&mut self, read: ParkedRead, step: Step) {
        match step {
            Step::Done => {}
            Step::More => self.busy.push(read),
            Step::Loading => self.loading.entry(read.stream()).or_default().push(read),
        }
    }
}

/// A read that was asked for behind what nobody is told of: messages without a reply subject,
/// and acknowledgements that remove messages.
#[derive(Debug)]
struct BehindMessages {
    stream: StreamId,
    /// What it waits for; `None` until the turn ends in which it is proposed.
    proposal: Option<u64>,
    /// On a direct get subject.
    is_direct: bool,
    request: PendingRequest,
}

/// A message on an API subject.
pub fn handle(
    engine: &mut JetStream,
    now: Now,
    request: PendingRequest,
    out: &mut dyn Outbound,
    effects: &mut Vec<Effect>,
) {
    if engine.waiting.creating.len() < CREATING_MAX && names_unfinished_stream(engine, &request) {
        engine.waiting.creating.push(request);
        return;
    }
    let Some(request) = keep_read(engine, request, effects) else {
        return;
    };
    handle_now(engine, now, request, out, effects);
}

/// Handles a request that waits for nothing any more.
fn handle_now(
    engine: &mut JetStream,
    now: Now,
    request: PendingRequest,
    out: &mut dyn Outbound,
    effects: &mut Vec<Effect>,
) {
    let mut turn = ApiTurn { now, out, effects };
    if let Some((read, step)) = dispatch::handle(engine, &mut turn, request) {
        keep(engine, turn, read, step);
    }
}

/// Keeps a read until what was published and acknowledged before it is applied. Gives it back if
/// nothing is on its way.
fn keep_behind(
    engine: &mut JetStream,
    stream: StreamId,
    is_direct: bool,
    request: PendingRequest,
    effects: &mut Vec<Effect>,
) -> Option<PendingRequest> {
    let lead = engine.streams.get(&stream).map(|stream| &stream.lead);
    let Some(unheard) = lead.and_then(Lead::unheard) else {
        return Some(request);
    };
    if engine.waiting.behind.len() >= BEHIND_MAX {
        return Some(request);
    }
    let proposal = match unheard {
        Unheard::Proposed(proposal) => {
            effects.push(Effect::Hurry);
            Some(proposal)
        }
        Unheard::Unstaged => None,
    };
    engine.waiting.behind.push(BehindMessages {
        stream,
        proposal,
        is_direct,
        request,
    });
    None
}

/// A question about what one stream holds waits for what came before it, as a client sees it that
/// publishes, flushes and asks.
fn keep_read(
    engine: &mut JetStream,
    request: PendingRequest,
    effects: &mut Vec<Effect>,
) -> Option<PendingRequest> {
    let subject = request.message.subject.clone();
    let stream = match ApiRequest::parse(&subject) {
        Some(ApiRequest::Stream {
            call: StreamCall::MessageGet | StreamCall::Info,
            stream,
        }) => stream,
        Some(
            ApiRequest::ConsumerList { stream }
            | ApiRequest::Consumer {
                call: ConsumerCall::Info,
                stream,
                ..
            },
        ) => stream,
        _ => return Some(request),
    };
    match dispatch::find_stream(engine, &request, stream) {
        Some(id) => keep_behind(engine, id, false, request, effects),
        None => Some(request),
    }
}

/// Goes on with reads whose messages are applied.
fn release_behind(
    engine: &mut JetStream,
    now: Now,
    out: &mut dyn Outbound,
    effects: &mut Vec<Effect>,
) {
    let is_free = |read: &mut BehindMessages| {
        let Some(stream) = engine.streams.get(&read.stream) else {
            return true;
        };
        if read.proposal.is_none() {
            match stream.lead.unheard() {
                Some(Unheard::Unstaged) => return false,
                Some(Unheard::Proposed(proposal)) => {
                    // What is asked about may be lazy: it would take a quarter of a second.
                    effects.push(Effect::Hurry);
                    read.proposal = Some(proposal);
                }
                None => return true,
            }
        }
        let settled = |proposal| stream.lead.is_settled(proposal);
        read.proposal.is_none_or(settled)
    };
    let free: Vec<_> = engine.waiting.behind.extract_if(.., is_free).collect();
    // They do not wait again for what came later: under a steady stream of messages without a reply
    // subject they would wait for ever.
    for read in free {
        if read.is_direct {
            direct_get_now(engine, now, read.stream, &read.request, out, effects);
        } else {
            handle_now(engine, now, read.request, out, effects);
        }
    }
}

/// Whether the stream that a request is about was asked for, but is not there yet.
fn names_unfinished_stream(engine: &JetStream, request: &PendingRequest) -> bool {
    !engine.creating.is_empty()
        && ApiRequest::parse(&request.message.subject)
            .and_then(ApiRequest::existing_stream)
            .is_some_and(|name| JetStream::creating(engine, request.account, name).is_some())
}

/// Answers a request for which there is no room to wait: the streams are not there yet.
pub fn refuse(
    engine: &mut JetStream,
    now: Now,
    request: &PendingRequest,
    out: &mut dyn Outbound,
    effects: &mut Vec<Effect>,
) {
    let mut turn = ApiTurn { now, out, effects };
    let subject = request.message.subject.clone();
    if let Some(call) = ApiRequest::parse(&subject) {
        let error = ErrorCode::ClusterNotAvail.into();
        dispatch::answer(engine, &mut turn, request, call, Err(&error));
    }
}

/// A message on a stream's direct get subjects.
pub fn direct_get(
    engine: &mut JetStream,
    now: Now,
    stream: StreamId,
    request: PendingRequest,
    out: &mut dyn Outbound,
    effects: &mut Vec<Effect>,
) {
    if let Some(request) = keep_behind(engine, stream, true, request, effects) {
        direct_get_now(engine, now, stream, &request, out, effects);
    }
}

fn direct_get_now(
    engine: &mut JetStream,
    now: Now,
    stream: StreamId,
    request: &PendingRequest,
    out: &mut dyn Outbound,
    effects: &mut Vec<Effect>,
) {
    let mut turn = ApiTurn { now, out, effects };
    let PendingRequest { account, message } = request;
    let read = direct::direct_get(engine, &mut turn, *account, stream, message);
    if let Some((read, step)) = read {
        keep(engine, turn, read, step);
    }
}

fn keep(engine: &mut JetStream, turn: ApiTurn<'_>, read: ParkedRead, step: Step) {
    let stream = read.stream();
    engine.waiting.keep(read, step);
    engine.with_stream(turn.now, stream, turn.out, turn.effects, Stream::poll_store);
}

/// The stream's store has read something: goes on with what waited for it.
pub fn store_read(
    engine: &mut JetStream,
    now: Now,
    stream: StreamId,
    out: &mut dyn Outbound,
    effects: &mut Vec<Effect>,
) {
    let reads = engine.waiting.loading.remove(&stream).unwrap_or_default();
    continue_reads(engine, now, reads, out, effects);
}

/// A stream was removed: what waited for a read of it is answered.
pub fn stream_gone(
    engine: &mut JetStream,
    now: Now,
    stream: StreamId,
    out: &mut dyn Outbound,
    effects: &mut Vec<Effect>,
) {
    store_read(engine, now, stream, out, effects);
}

/// A turn ends: goes on with long answers, and with requests whose stream is free again.
pub fn end_of_turn(
    engine: &mut JetStream,
    now: Now,
    out: &mut dyn Outbound,
    effects: &mut Vec<Effect>,
) {
    let reads = std::mem::take(&mut engine.waiting.busy);
    let (waiting, reads) = reads
        .into_iter()
        .partition(|read| engine.is_applying(read.stream()));
    engine.waiting.busy = waiting;
    continue_reads(engine, now, reads, out, effects);
    release_behind(engine, now, out, effects);
    for request in std::mem::take(&mut engine.waiting.creating) {
        handle(engine, now, request, out, effects);
    }
    for (stream, request) in std::mem::take(&mut engine.waiting.requests) {
        // One that is let through may make its stream busy for the next.
        if engine.streams.get(&stream).is_some_and(is_changing) {
            engine.waiting.requests.push((stream, request));
        } else {
            handle(engine, now, request, out, effects);
        }
    }
}

fn continue_reads(
    engine: &mut JetStream,
    now: Now,
    reads: Vec<ParkedRead>,
    out: &mut dyn Outbound,
    effects: &mut Vec<Effect>,
) {
    for mut read in reads {
        let mut turn = ApiTurn { now, out, effects };
        let step = read.step(engine, &mut turn);
        keep(engine, turn, read, step);
    }
}

/// A change that a request asked for came to its end: answer it.
pub fn finish(
    engine: &mut JetStream,
    now: Now,
    request: &PendingRequest,
    outcome: &Outcome,
    out: &mut dyn Outbound,
    effects: &mut Vec<Effect>,
) {
    finishing::finish(engine, &mut ApiTurn { now, out, effects }, request, outcome);
}

/// Something that a consumer did: an advisory, if somebody listens.
pub fn consumer_event(
    engine: &mut JetStream,
    now: Now,
    stream: StreamId,
    consumer: &str,
    event: &ConsumerEvent,
    out: &mut dyn Outbound,
) {
    with_stream_events(engine, now, stream, out, |events, account, name| {
        advisory::consumer_event(events, account, name, consumer, event);
    });
}

/// A consumer was deleted because nobody used it: its DELETED advisory.
pub fn consumer_expired(
    engine: &mut JetStream,
    now: Now,
    stream: StreamId,
    consumer: &str,
    out: &mut dyn Outbound,
) {
    with_stream_events(engine, now, stream, out, |events, _, name| {
        advisory::consumer_action(events, name, consumer, Action::Delete);
    });
}

/// Damage was found in what a stream has on disk: an advisory of our own.
pub fn stream_damaged(
    engine: &mut JetStream,
    now: Now,
    stream: StreamId,
    sequence: Option<u64>,
    place: &str,
    out: &mut dyn Outbound,
) {
    with_stream_events(engine, now, stream, out, |events, _, name| {
        advisory::stream_damaged(events, name, sequence, place);
    });
}

/// Lends what events of a stream need: context, account name, stream name.
fn with_stream_events(
    engine: &mut JetStream,
    now: Now,
    stream: StreamId,
    out: &mut dyn Outbound,
    tell: impl FnOnce(&mut EventContext<'_>, &str, &str),
) {
    let Some(stream) = engine.streams.get(&stream) else {
        return;
    };
    let account_name = engine
        .accounts
        .get(&stream.account)
        .map(|account| account.name.as_str());
    let domain = engine.shared.domain.clone();
    let mut context = EventContext {
        now,
        account: stream.account,
        domain: &domain,
        random: &mut engine.shared.random,
        out,
    };
    tell(&mut context, account_name.unwrap_or_default(), &stream.name);
}

fn is_changing(stream: &Stream) -> bool {
    stream.lead.has_changes()
}

impl ApiEngine for JetStream {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn random(&mut self) -> &mut Random {
        &mut self.shared.random
    }

    fn account(&self, account: AccountRef) -> Option<&Account> {
        self.accounts.get(&account)
    }

    fn account_mut(&mut self, account: AccountRef) -> Option<&mut Account> {
        self.accounts.get_mut(&account)
    }

    fn usage(&self, account: AccountRef) -> (u64, u64) {
        let usage = self
            .shared
            .account_usage
            .get(&account)
            .copied()
            .unwrap_or_default();
        (usage.memory_bytes, usage.file_bytes)
    }

    fn stream(&self, stream: StreamId) -> Option<StreamView<'_>> {
        let stream = self.streams.get(&stream)?;
        Some(StreamView {
            id: stream.id,
            config: &stream.config,
            created_ns: stream.created_ns,
            store: &stream.store,
            is_changing: is_changing(stream),
        })
    }

    fn origins(&self, stream: StreamId, now: Now) -> Vec<SourceInfo> {
        let stream = self.streams.get(&stream);
        stream.map_or_else(Vec::new, |stream| stream.source_infos(now))
    }

    fn store_mut(&mut self, stream: StreamId) -> Option<&mut StreamStore> {
        self.streams
            .get_mut(&stream)
            .map(|stream| &mut stream.store)
    }

    fn consumers(&self, stream: StreamId) -> Vec<(&str, &ConsumerConfig)> {
        let Some(stream) = self.streams.get(&stream) else {
            return Vec::new();
        };
        let slots = stream.consumers.iter();
        slots
            .map(|(name, slot)| (name.as_str(), &slot.config))
            .collect()
    }

    fn consumer_info(
        &mut self,
        turn: &mut ApiTurn<'_>,
        stream: StreamId,
        consumer: &str,
    ) -> Option<ConsumerInfo> {
        let config = self
            .streams
            .get(&stream)?
            .consumers
            .get(consumer)?
            .config
            .clone();
        self.with_stream(turn.now, stream, turn.out, turn.effects, |stream, turn| {
            stream.with_consumer(turn, consumer, |consumer, context| {
                consumer.info(context, &config)
            })
        })?
        .map(as_shown)
    }

    fn explain(
        &mut self,
        turn: &mut ApiTurn<'_>,
        stream: StreamId,
        consumer: &str,
    ) -> Option<Explanation> {
        // Asking for its information drops requests that nobody waits for any more.
        let info = self.consumer_info(turn, stream, consumer)?;
        let stream = self.streams.get(&stream)?;
        let slot = stream.consumers.get(consumer)?;
        Some(
            slot.consumer
                .explain(turn.now, &stream.name, info.num_pending),
        )
    }

    fn check_reset(
        &mut self,
        turn: &mut ApiTurn<'_>,
        stream: StreamId,
        consumer: &str,
        sequence: Option<u64>,
    ) -> Result<u64, &'static str> {
        let checked = self.with_stream(turn.now, stream, turn.out, turn.effects, |stream, turn| {
            stream.with_consumer(turn, consumer, |consumer, context| {
                consumer.check_reset(sequence, context.store)
            })
        });
        checked.flatten().unwrap_or(Err("not allowed"))
    }

    fn unpin(
        &mut self,
        turn: &mut ApiTurn<'_>,
        stream: StreamId,
        consumer: &str,
        group: &str,
    ) -> bool {
        let done = self.with_stream(turn.now, stream, turn.out, turn.effects, |stream, turn| {
            stream.with_consumer(turn, consumer, |consumer, context| {
                consumer.unpin(context, group)
            })
        });
        done.flatten().unwrap_or(false)
    }

    fn creating(&self, account: AccountRef) -> Vec<&StreamConfig> {
        let creations = self.creating.iter();
        creations
            .filter(|((owner, _), _)| *owner == account)
            .map(|(_, creation)| &creation.config)
            .collect()
    }

    fn park(&mut self, stream: StreamId, request: PendingRequest) {
        self.waiting.requests.push((stream, request));
    }

    fn begin_snapshot(&mut self, turn: &mut ApiTurn<'_>, ask: SnapshotAsk) -> bool {
        let free = !self.backups.is_full();
        if free {
            Self::begin_snapshot(self, &mut Way::new(turn), ask);
        }
        free
    }

    fn begin_restore(&mut self, turn: &mut ApiTurn<'_>, ask: RestoreAsk) -> Option<String> {
        let free = !self.backups.is_full();
        free.then(|| Self::begin_restore(self, &mut Way::new(turn), ask))
    }

    fn is_disk_full(&self) -> bool {
        self.shared.disk_full
    }

    fn create_stream(
        &mut self,
        turn: &mut ApiTurn<'_>,
        config: StreamConfig,
        request: PendingRequest,
    ) {
        let account = request.account;
        Self::create_stream(self, turn.now, account, config, request, turn.effects);
    }

    fn delete_stream(&mut self, turn: &mut ApiTurn<'_>, stream: StreamId, request: PendingRequest) {
        Self::delete_stream(self, turn.now, stream, request, turn.out, turn.effects);
    }

    fn change_stream(
        &mut self,
        turn: &mut ApiTurn<'_>,
        stream: StreamId,
        change: Change,
        request: PendingRequest,
    ) {
        let ApiTurn { now, out, effects } = turn;
        let now = *now;
        match change {
            Change::Configure(config) => {
                self.update_stream(now, stream, &config, request, *out, effects);
            }
            Change::Purge {
                sequence,
                keep,
                filter,
            } => {
                let purge = PurgeRequest {
                    filter: filter.into(),
                    sequence,
                    keep,
                };
                self.purge_stream(now, stream, purge, request, *out, effects);
            }
            Change::DeleteMessage { sequence, erase } => {
                self.delete_message(now, stream, sequence, erase, request, *out, effects);
            }
            Change::StoreConsumer { name, config } => {
                self.create_consumer(now, stream, &name, &config, request, *out, effects);
            }
            Change::DeleteConsumer { name } => {
                self.delete_consumer(now, stream, &name, request, *out, effects);
            }
            Change::PauseConsumer { name, until_ns } => {
                self.pause_consumer(now, stream, &name, until_ns, request, *out, effects);
            }
            Change::ResetConsumer { name, sequence } => {
                self.reset_consumer(now, stream, &name, sequence, request, *out, effects);
            }
        }
    }
}
