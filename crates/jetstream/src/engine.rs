//! The room's front door: [`JetStream`] owns accounts, streams and the meta group and hands every
//! input to the one it concerns. What requests ask for is read in `api`; the changes it may ask
//! for are the methods of `changes.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use millrace_clock::Now;
use millrace_store::disk::DiskCompletion;
use millrace_store::ids::IdSpace;

use crate::api;
use crate::backup::Backups;
use crate::gate::Gate;
use crate::ids::{AccountRef, Endpoint, FIRST_VOLATILE_GROUP, GroupId, META_GROUP, StreamId};
use crate::io::{Effect, Input, LogLevel, Message};
use crate::meta::Meta;
use crate::model::StreamConfig;
use crate::outbound::Outbound;
use crate::request::{Outcome, PendingRequest};
use crate::scrub::Scrubbing;
use crate::settings::{AccountLimits, Settings};
use crate::shared::{Shared, Turn};
use crate::shutdown::Ending;
use crate::stream::Stream;
use crate::stream::apply::Committed;

/// What the API listens to below its prefix. Pull requests and direct gets have endpoints of
/// their own, so that there is nobody where there is no consumer or no direct get.
const API_FILTERS: &[&str] = &[
    "*",
    "STREAM.>",
    "CONSUMER.CREATE.>",
    "CONSUMER.DURABLE.>",
    "CONSUMER.NAMES.>",
    "CONSUMER.LIST.>",
    "CONSUMER.INFO.>",
    "CONSUMER.EXPLAIN.>",
    "CONSUMER.DELETE.>",
    "CONSUMER.PAUSE.>",
    "CONSUMER.UNPIN.>",
    "CONSUMER.RESET.>",
    "CONSUMER.LEADER.>",
    "CONSUMER.PEER.>",
    "META.>",
    "SERVER.>",
    "ACCOUNT.>",
];

/// An account with JetStream and the names of its streams.
#[derive(Debug)]
pub struct Account {
    pub name: String,
    pub limits: AccountLimits,
    /// Limits by number of replicas; those of `R1` are `limits`.
    pub tiers: BTreeMap<String, AccountLimits>,
    pub streams: BTreeMap<String, StreamId>,
    /// API requests answered, and how many of them with an error.
    pub api_total: u64,
    pub api_errors: u64,
}

/// The JetStream of one server.
pub struct JetStream {
    pub settings: Settings,
    pub accounts: BTreeMap<AccountRef, Account>,
    pub streams: BTreeMap<StreamId, Stream>,
    pub shared: Shared,
    pub(crate) meta: Meta,
    /// Names of streams that are being created: their configuration and who waits for them.
    pub(crate) creating: BTreeMap<(AccountRef, String), Creation>,
    pub(crate) next_volatile: u64,
    /// Streams that something happened to in this turn.
    pub(crate) touched: BTreeSet<StreamId>,
    /// What each stream wants to be woken for: (monotonic time, stream).
    timers: BTreeSet<(u64, StreamId)>,
    timer_of: BTreeMap<StreamId, u64>,
    /// Which stream a store's completions go to.
    pub(crate) spaces: BTreeMap<u32, StreamId>,
    /// Streams whose index is being read because something needs it.
    pub(crate) reading_index: BTreeSet<StreamId>,
    /// Requests about all streams of an account, while some are not whole yet.
    pub(crate) awaiting_whole: VecDeque<PendingRequest>,
    /// Requests and reads of the API that wait.
    pub(crate) waiting: api::Waiting,
    /// Streams with entries to apply, and what waits for them.
    pub(crate) gate: Gate,
    pub(crate) ending: Ending,
    pub(crate) scrubbing: Scrubbing,
    /// Snapshots and restores under way.
    pub(crate) backups: Backups,
}

/// A stream on its way into being.
#[derive(Debug)]
pub(crate) struct Creation {
    pub(crate) config: StreamConfig,
    /// Answered when the stream takes publishes.
    pub(crate) waiting: Vec<PendingRequest>,
}

impl JetStream {
    /// An empty JetStream. Call [`JetStream::start`] once; then checkpoints and committed entries
    /// of the groups it asks for are handed in.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let accounts = settings.accounts.iter().map(|account| {
            let state = Account {
                name: account.name.clone(),
                limits: account.limits,
                tiers: account.tiers.clone(),
                streams: BTreeMap::new(),
                api_total: 0,
                api_errors: 0,
            };
            (account.account, state)
        });
        Self {
            accounts: accounts.collect(),
            streams: BTreeMap::new(),
            shared: Shared::new(&settings),
            scrubbing: Scrubbing::new(settings.scrub_interval_ns),
            settings,
            meta: Meta::default(),
            creating: BTreeMap::new(),
            next_volatile: FIRST_VOLATILE_GROUP,
            touched: BTreeSet::new(),
            timers: BTreeSet::new(),
            timer_of: BTreeMap::new(),
            spaces: BTreeMap::new(),
            reading_index: BTreeSet::new(),
            awaiting_whole: VecDeque::new(),
            waiting: api::Waiting::default(),
            gate: Gate::default(),
            ending: Ending::default(),
            backups: Backups::default(),
        }
    }

    /// Asks for the meta group and the API subscriptions.
    pub fn start(&mut self, effects: &mut Vec<Effect>) {
        effects.push(Effect::CreateGroup {
            group: META_GROUP,
            volatile: false,
        });
        let accounts = self.accounts.keys().chain(&self.settings.bare_accounts);
        for account in accounts.copied().collect::<Vec<_>>() {
            self.bind_api(account, effects);
        }
    }

    /// Lets an account ask, also one without JetStream: it is told so.
    pub(crate) fn bind_api(&self, account: AccountRef, effects: &mut Vec<Effect>) {
        let mut prefixes = vec!["$JS.API".to_owned()];
        if !self.settings.domain.is_empty() {
            prefixes.push(format!("$JS.{}.API", self.settings.domain));
        }
        for prefix in &prefixes {
            for filter in API_FILTERS {
                let filter = Bytes::from(format!("{prefix}.{filter}"));
                let endpoint = Endpoint::Api;
                effects.push(Effect::Bind {
                    account,
                    filter,
                    endpoint,
                });
            }
        }
    }

    /// Takes a group's last checkpoint, before any of its entries.
    pub fn restore(&mut self, group: GroupId, checkpoint: &Bytes, effects: &mut Vec<Effect>) {
        if group == META_GROUP {
            if let Err(error) = self.meta.restore(checkpoint) {
                let text = format!("JetStream: the list of streams is unreadable: {error}");
                effects.push(Effect::Log {
                    level: LogLevel::Error,
                    text,
                });
                return;
            }
            let streams = self.meta.streams.clone();
            for (group, stream) in &streams {
                self.adopt(*group, stream, effects);
            }
            return;
        }
        let id = StreamId::from(group);
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if let Err(error) = stream.restore(checkpoint, &self.shared.domain) {
            stream.quarantined = true;
            let name = &stream.name;
            let text = format!(
                "JetStream stream '{name}' is set aside, nothing of it is deleted: {error}"
            );
            effects.push(Effect::Log {
                level: LogLevel::Error,
                text,
            });
        }
        stream.store.set_share(self.shared.memory.share());
        if !stream.quarantined {
            stream.begin_start(false);
        }
        stream.account(&mut self.shared);
        self.touched.insert(id);
    }

    /// Handles one input.
    pub fn handle(
        &mut self,
        now: Now,
        input: Input,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        if self.is_behind() && self.must_wait(&input) {
            self.keep_waiting(input);
            return;
        }
        match input {
            Input::Deliver {
                account,
                endpoint,
                message,
            } => {
                self.deliver(now, account, endpoint, message, out, effects);
            }
            Input::Committed {
                group,
                index,
                term,
                data,
                position,
            } => {
                let entry = Committed {
                    index,
                    term,
                    data,
                    position,
                };
                self.committed(now, group, &entry, out, effects);
            }
            Input::Replayed { group } => {
                self.with_stream(now, group.into(), out, effects, Stream::replayed);
            }
            Input::SetAside { group } => {
                self.with_stream(now, group.into(), out, effects, Stream::set_aside);
            }
            Input::Started => self.bind_starting(now, out, effects),
            Input::RoleChanged { group, leader, .. } => {
                self.role_changed(now, group, leader, out, effects);
            }
            Input::Disk(completion) => self.disk(now, completion, out, effects),
            Input::InterestChanged { account, subject } => {
                self.interest_changed(now, account, &subject, out, effects);
            }
            Input::CheckpointDurable { group, index } if group == META_GROUP => {
                self.meta.durable_index = self.meta.durable_index.max(index);
            }
            Input::CheckpointDurable { group, index } => {
                self.with_stream(now, group.into(), out, effects, |stream, turn| {
                    stream.checkpoint_durable(turn, index);
                });
            }
            Input::CheckpointWanted { group } => {
                self.checkpoint_wanted(now, group, out, effects);
            }
            Input::JournalReleased { file } => self.journal_released(file),
            Input::DiskFull { full } => self.shared.disk_full = full,
            Input::SpaceWanted => self.free_segments(now, out, effects),
            Input::Tick => self.tick(now, out, effects),
        }
        self.unpark(now, out, effects);
        self.finish_requests(now, out, effects);
    }

    /// Messages on a stream's subjects, one after the other: as [`Input::Deliver`] for each.
    pub fn ingest(
        &mut self,
        now: Now,
        id: StreamId,
        messages: impl Iterator<Item = Message>,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        self.with_stream(now, id, out, effects, |stream, turn| {
            for message in messages {
                if stream.is_starting() {
                    stream.park_message(turn, Endpoint::Ingest(id), message);
                } else {
                    stream.publish(turn, message);
                }
            }
            stream.poll_store(turn);
        });
        self.finish_requests(now, out, effects);
    }

    /// Hands a stream to `act`, and marks it as touched.
    pub fn with_stream<R>(
        &mut self,
        now: Now,
        id: StreamId,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
        act: impl FnOnce(&mut Stream, &mut Turn<'_>) -> R,
    ) -> Option<R> {
        let stream = self.streams.get_mut(&id)?;
        self.touched.insert(id);
        let mut turn = Turn {
            now,
            out,
            effects,
            shared: &mut self.shared,
        };
        let result = act(stream, &mut turn);
        if stream.is_behind() {
            self.gate.behind(id);
        }
        Some(result)
    }

    /// The stream of an account by its name.
    #[must_use]
    pub fn stream_by_name(&self, account: AccountRef, name: &str) -> Option<&Stream> {
        let id = self.accounts.get(&account)?.streams.get(name)?;
        self.streams.get(id)
    }

    pub(crate) fn deliver(
        &mut self,
        now: Now,
        account: AccountRef,
        endpoint: Endpoint,
        message: Message,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        if endpoint == Endpoint::Api {
            let request = PendingRequest { account, message };
            if let Some(request) = self.admit_request(now, request, out, effects) {
                api::handle(self, now, request, out, effects);
            }
            return;
        }
        if let Endpoint::Backup(number) = endpoint {
            self.backups.heard(now, number, message);
            return;
        }
        let id = match endpoint {
            Endpoint::Origin(origin) | Endpoint::OriginAnswer(origin) => {
                self.shared.reader_of(origin)
            }
            _ => endpoint.stream(),
        };
        let Some(id) = id else {
            return;
        };
        let starting = self.streams.get(&id).is_some_and(|stream| {
            stream.is_starting() && !stream.takes_while_starting(endpoint, &message)
        });
        if starting {
            self.with_stream(now, id, out, effects, |stream, turn| {
                stream.park_message(turn, endpoint, message);
            });
            return;
        }
        match endpoint {
            Endpoint::DirectGet(stream) => {
                let request = PendingRequest { account, message };
                api::direct_get(self, now, stream, request, out, effects);
                self.with_stream(now, stream, out, effects, Stream::poll_store);
            }
            Endpoint::Origin(_) | Endpoint::OriginAnswer(_) => {
                self.with_stream(now, id, out, effects, |stream, turn| {
                    stream.origin_input(turn, endpoint, message);
                    stream.poll_store(turn);
                });
            }
            Endpoint::Ingest(id) => {
                self.with_stream(now, id, out, effects, |stream, turn| {
                    stream.publish(turn, message);
                    stream.poll_store(turn);
                });
            }
            _ => {
                self.with_stream(now, id, out, effects, |stream, turn| {
                    stream.consumer_input(turn, endpoint, &message);
                });
            }
        }
    }

    fn committed(
        &mut self,
        now: Now,
        group: GroupId,
        entry: &Committed,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        if group == META_GROUP {
            self.apply_meta(now, entry, out, effects);
            return;
        }
        self.with_stream(now, group.into(), out, effects, |stream, turn| {
            stream.apply(turn, entry);
            stream.poll_store(turn);
        });
    }

    fn role_changed(
        &mut self,
        now: Now,
        group: GroupId,
        leader: bool,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        if group == META_GROUP {
            if leader {
                self.meta.is_leader = true;
                self.drop_unfinished_restores();
            } else {
                self.meta.abandon(&mut self.shared.finished);
                self.creating.clear();
            }
            return;
        }
        let id = StreamId::from(group);
        self.with_stream(now, id, out, effects, |stream, turn| {
            if leader {
                stream.start_leading(turn);
            } else {
                stream.stop_leading(turn);
            }
        });
        let stream = self.streams.get(&id).filter(|stream| !stream.restoring);
        if leader && let Some(stream) = stream {
            let key = (stream.account, stream.name.clone());
            if let Some(creation) = self.creating.remove(&key) {
                let outcome = Outcome::StreamCreated {
                    stream: id,
                    created: true,
                };
                let waiting = creation.waiting.into_iter();
                let finished = waiting.map(|request| (request, outcome.clone()));
                self.shared.finished.extend(finished);
            }
            self.origin_changed(now, key, true, out, effects);
        }
    }

    fn disk(
        &mut self,
        now: Now,
        completion: DiskCompletion,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        let space = IdSpace::space_of(completion.token);
        if space == self.shared.staging_space {
            if self.shared.staging.complete(completion) {
                let waiting = self
                    .streams
                    .values()
                    .filter(|stream| stream.lead.commit.is_some());
                let waiting: Vec<StreamId> = waiting.map(|stream| stream.id).collect();
                for id in waiting {
                    self.with_stream(now, id, out, effects, |stream, turn| {
                        stream.advance_commit(turn);
                        stream.drain_inbox(turn);
                    });
                }
            }
            let mut requests = Vec::new();
            self.shared.staging.poll(&mut requests);
            effects.extend(requests.into_iter().map(Effect::Disk));
            return;
        }
        let Some(id) = self.spaces.get(&space).copied() else {
            return;
        };
        let woken = self.with_stream(now, id, out, effects, |stream, turn| {
            let woken = stream.store.complete(completion);
            stream.poll_store(turn);
            if woken {
                stream.loaded(turn);
            }
            woken
        });
        self.note_index_read(id);
        // Who waits for this stream to be applied is let through with it.
        if woken == Some(true) && !self.is_applying(id) {
            api::store_read(self, now, id, out, effects);
        }
    }

    fn interest_changed(
        &mut self,
        now: Now,
        account: AccountRef,
        subject: &[u8],
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        let streams: Vec<StreamId> = match self.accounts.get(&account) {
            Some(account) => account.streams.values().copied().collect(),
            None => return,
        };
        for id in streams {
            if self
                .streams
                .get(&id)
                .is_some_and(|stream| stream.watches(subject))
            {
                self.with_stream(now, id, out, effects, |stream, turn| {
                    stream.interest_changed(turn, subject);
                });
            }
        }
    }

    fn journal_released(&mut self, file: u64) {
        for stream in self.streams.values_mut() {
            stream.store.journal_released(file);
        }
    }

    /// Segments without a live message go with their stream's next checkpoint.
    fn free_segments(&mut self, now: Now, out: &mut dyn Outbound, effects: &mut Vec<Effect>) {
        let streams = self.streams.iter();
        let hold_dead = streams.filter(|(_, stream)| stream.store.has_empty_segments());
        let ids: Vec<StreamId> = hold_dead.map(|(id, _)| *id).collect();
        for id in ids {
            self.with_stream(now, id, out, effects, Stream::want_checkpoint);
        }
    }

    fn checkpoint_wanted(
        &mut self,
        now: Now,
        group: GroupId,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        if group == META_GROUP {
            self.checkpoint_meta(effects);
            return;
        }
        self.with_stream(now, group.into(), out, effects, Stream::want_checkpoint);
    }

    pub(crate) fn checkpoint_meta(&self, effects: &mut Vec<Effect>) {
        effects.push(Effect::Checkpoint {
            group: META_GROUP,
            index: self.meta.applied_index,
            term: self.meta.applied_term,
            state: self.meta.checkpoint(),
        });
    }

    fn tick(&mut self, now: Now, out: &mut dyn Outbound, effects: &mut Vec<Effect>) {
        self.advance_behind(now, out, effects);
        self.advance_scrub(now, effects);
        while let Some((deadline_ns, id)) = self.timers.first().copied() {
            if deadline_ns > now.monotonic_ns {
                return;
            }
            self.forget_timer(id);
            let loaded = self.with_stream(now, id, out, effects, |stream, turn| {
                let building = stream.store.is_building();
                stream.tick(turn);
                building && stream.store.is_loaded()
            });
            if loaded == Some(true) {
                self.note_index_read(id);
                api::store_read(self, now, id, out, effects);
            }
        }
    }

    pub(crate) fn forget_timer(&mut self, id: StreamId) {
        if let Some(deadline_ns) = self.timer_of.remove(&id) {
            self.timers.remove(&(deadline_ns, id));
        }
    }

    /// Ends a turn: what the inputs since the last call staged is proposed, one entry per stream.
    pub fn end_of_turn(&mut self, now: Now, out: &mut dyn Outbound, effects: &mut Vec<Effect>) {
        api::end_of_turn(self, now, out, effects);
        self.advance_backups(now, out, effects);
        self.read_indexes(now, out, effects);
        self.meta.propose(self.shared.origin, effects);
        for id in std::mem::take(&mut self.touched) {
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            let mut turn = Turn {
                now,
                out,
                effects,
                shared: &mut self.shared,
            };
            stream.wake_all(&mut turn);
            stream.end_of_turn(&mut turn);
            stream.refresh_consumer_deadlines();
            let resident = stream.store.resident();
            self.shared.memory.used(id.0, &resident, now.monotonic_ns);
            let deadline_ns = stream.next_deadline(now, self.shared.stopping);
            if deadline_ns == self.timer_of.get(&id).copied() {
                continue;
            }
            self.forget_timer(id);
            if let Some(deadline_ns) = deadline_ns {
                self.timers.insert((deadline_ns, id));
                self.timer_of.insert(id, deadline_ns);
            }
        }
        self.keep_memory_budget(now, out, effects);
        self.finish_requests(now, out, effects);
        if self.shared.holding && self.shared.staging.is_relieved() {
            self.shared.holding = false;
            effects.push(Effect::ReleasePublishers);
        }
    }

    /// Monotonic time at which [`Input::Tick`] is due; `None`: nothing waits for time.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        if self.waiting.is_busy() || self.is_behind() || self.shared.memory.debtor().is_some() {
            return Some(0);
        }
        let timer = self.timers.first().map(|(deadline_ns, _)| *deadline_ns);
        let backup = self.backups.next_deadline();
        let scrub = self.scrubbing.deadline().filter(|_| !self.shared.stopping);
        [timer, backup, self.memory_deadline(), scrub]
            .into_iter()
            .flatten()
            .min()
    }

    /// Wakes a stream at once.
    pub(crate) fn wake_now(&mut self, id: StreamId) {
        self.forget_timer(id);
        self.timers.insert((0, id));
        self.timer_of.insert(id, 0);
    }

    /// Answers what came to its end.
    fn finish_requests(&mut self, now: Now, out: &mut dyn Outbound, effects: &mut Vec<Effect>) {
        // An answer may end further requests: bounded by what is waiting, never by a loop of its own.
        for (request, outcome) in std::mem::take(&mut self.shared.finished) {
            api::finish(self, now, &request, &outcome, out, effects);
        }
        for (stream, consumer, event) in std::mem::take(&mut self.shared.consumer_events) {
            api::consumer_event(self, now, stream, &consumer, &event, out);
        }
        for (stream, sequence, place) in std::mem::take(&mut self.shared.damage_events) {
            api::stream_damaged(self, now, stream, sequence, &place, out);
        }
        for (stream, consumer) in std::mem::take(&mut self.shared.consumers_expired) {
            api::consumer_expired(self, now, stream, &consumer, out);
        }
    }
}
