//! JetStream's machinery of one server: recovery at start, then the turn that carries publishes
//! from the streams through the Raft groups into the journal and back.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::sync::Arc;
use std::vec::Drain;

use bytes::Bytes;
use millrace_clock::{Now, Random};
use millrace_core::{AccountId, Broker, ConnectionId, Delivery, EndpointId};
use millrace_jetstream::outbound::ClientHandle;
use millrace_jetstream::{
    AccountRef, Durability, Effect, Endpoint, Input, JetStream, LogLevel, META_GROUP, Message,
};
use millrace_replica::{GroupId, Groups, ReplicaOutput, RoleChange};
use millrace_store::disk::{DiskCompletion, DiskRequest};
use millrace_store::journal::{
    self, JournalSettings, Progress, Recovered, RecoveredGroup, Recovery, RecoverySettings,
};

use crate::durable::{Durable, DurableProgress};
use crate::node::{LogLine, LogSeverity};
use crate::outbound::BrokerOutbound;
use crate::reconcile::Reconciliation;
use crate::replay::Replays;

/// Rounds of a turn: each may cause more work for the next (a consumer's delivery that is another
/// stream's publish). What is left waits for the next turn, so that a loop of streams cannot hold
/// the server.
const ROUNDS_MAX: usize = 16;
/// Recoveries after a failed write or sync before JetStream stays off (hard-parts 9).
const RESTARTS_MAX: u16 = 3;
/// Token spaces for each start within one server run, of the 2^20 there are.
const ID_SPACES_PER_ATTEMPT: u32 = 1 << 18;

/// What the engine is made of; kept for a restart after a failed journal.
#[derive(Clone)]
pub(crate) struct EngineSettings {
    pub(crate) engine: millrace_jetstream::Settings,
    pub(crate) journal: JournalSettings,
    pub(crate) server_id: String,
    pub(crate) seed: u64,
    pub(crate) wake: Option<Arc<dyn Fn() + Send + Sync>>,
}

/// How JetStream is doing, for health checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EngineHealth {
    Recovering,
    Running,
    Failed(String),
}

enum Phase {
    Recovering(Box<Recovery>),
    Running(Box<Running>),
    Failed(String),
}

pub(crate) struct Engine {
    settings: EngineSettings,
    phase: Phase,
    attempt: u16,
    /// Interest of the current phase in the broker, to be taken back when it fails.
    binds: BTreeSet<(AccountId, Vec<u8>, u64)>,
}

/// The parts that exist once the journal is read.
pub(crate) struct Running {
    pub(crate) jetstream: JetStream,
    pub(crate) groups: Groups,
    pub(crate) durable: Durable,
    pub(crate) recovered: BTreeMap<GroupId, RecoveredGroup>,
    /// Until the meta group leads, nobody knows which streams there are: streams take no messages
    /// and the API does not answer.
    pub(crate) starting: bool,
    /// How the list of streams is compared with the groups that there are.
    pub(crate) reconciliation: Reconciliation,
    /// Groups that have entries of the journal to apply before they open.
    pub(crate) replays: Replays,
    pub(crate) deferred_binds: Vec<(AccountRef, Bytes, Endpoint)>,
    pub(crate) effects: Vec<Effect>,
    output: ReplicaOutput,
    pub(crate) terms: BTreeMap<GroupId, u64>,
    /// The last turn ended before everything had come to rest: another is due at once.
    unsettled: bool,
    pub(crate) seed: u64,
    /// The disk became full, and nobody was told yet.
    is_out_of_storage: bool,
}

/// What a turn needs from around the engine.
pub(crate) struct TurnContext<'a> {
    pub(crate) now: Now,
    pub(crate) broker: &'a mut Broker,
    pub(crate) requests: &'a mut Vec<DiskRequest>,
    pub(crate) log: &'a mut Vec<LogLine>,
}

impl Engine {
    pub(crate) fn start(
        now: Now,
        settings: EngineSettings,
        requests: &mut Vec<DiskRequest>,
    ) -> Self {
        let recovery = begin_recovery(&settings, 0, now, requests);
        Self {
            settings,
            phase: recovery,
            attempt: 0,
            binds: BTreeSet::new(),
        }
    }

    pub(crate) fn health(&self) -> EngineHealth {
        match &self.phase {
            Phase::Recovering(_) => EngineHealth::Recovering,
            Phase::Running(running) if running.starting => EngineHealth::Recovering,
            Phase::Running(_) => EngineHealth::Running,
            Phase::Failed(reason) => EngineHealth::Failed(reason.clone()),
        }
    }

    /// The stream whose publishes come to this receiver.
    pub(crate) fn stream_of(&self, receiver: EndpointId) -> Option<String> {
        let Phase::Running(running) = &self.phase else {
            return None;
        };
        let Some(Endpoint::Ingest(id)) = Endpoint::from_number(receiver.0) else {
            return None;
        };
        Some(running.jetstream.streams.get(&id)?.config.name.clone())
    }

    /// Makes lazy records due at once: the server stops.
    pub(crate) fn hurry(&mut self) {
        if let Phase::Running(running) = &mut self.phase {
            running.durable.hurry();
        }
    }

    /// The server stops, or its connections are about to be closed: JetStream tells who waits.
    pub(crate) fn shut_down(&mut self, context: &mut TurnContext<'_>) {
        if let Phase::Running(running) = &mut self.phase {
            let mut out = BrokerOutbound {
                now: context.now,
                broker: context.broker,
            };
            running
                .jetstream
                .shut_down(context.now, &mut out, &mut running.effects);
        }
    }

    pub(crate) const fn seed(&self) -> u64 {
        self.settings.engine.seed
    }

    /// Goes on with changed limits and accounts, also in a start that is under way.
    pub(crate) fn apply_settings(&mut self, settings: millrace_jetstream::Settings) {
        if let Phase::Running(running) = &mut self.phase {
            running
                .jetstream
                .apply_settings(&settings, &mut running.effects);
            running.unsettled = true;
        }
        let sizes = &self.settings.engine;
        self.settings.engine = millrace_jetstream::Settings {
            store_memory_bytes: sizes.store_memory_bytes,
            batch_memory_bytes: sizes.batch_memory_bytes,
            batch_part_bytes: sizes.batch_part_bytes,
            index_idle_ns: sizes.index_idle_ns,
            ..settings
        };
    }

    /// Nobody is connected any more: every stream writes its last checkpoint. True when all that is
    /// to be written is on the disk.
    pub(crate) fn finish(&mut self, context: &mut TurnContext<'_>) -> bool {
        match &mut self.phase {
            // A start that is not over has nothing to add to what it found.
            Phase::Running(running) if !running.starting => running.finish(context),
            Phase::Running(_) | Phase::Recovering(_) | Phase::Failed(_) => true,
        }
    }

    pub(crate) fn replayed_groups(&self) -> u64 {
        match &self.phase {
            Phase::Running(running) => running.replays.added(),
            Phase::Recovering(_) | Phase::Failed(_) => 0,
        }
    }

    pub(crate) fn jetstream(&self) -> Option<&JetStream> {
        match &self.phase {
            Phase::Running(running) => Some(&running.jetstream),
            Phase::Recovering(_) | Phase::Failed(_) => None,
        }
    }

    pub(crate) fn groups(&self) -> Option<&Groups> {
        match &self.phase {
            Phase::Running(running) => Some(&running.groups),
            Phase::Recovering(_) | Phase::Failed(_) => None,
        }
    }

    pub(crate) fn journal_bytes(&self) -> u64 {
        match &self.phase {
            Phase::Running(running) => running.durable.journal().disk_bytes(),
            Phase::Recovering(_) | Phase::Failed(_) => 0,
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        match &self.phase {
            Phase::Running(running) if running.unsettled => Some(0),
            Phase::Running(running) => [
                running.replay_deadline(),
                running.jetstream.next_deadline(),
                running.groups.next_deadline(),
                running.durable.next_deadline(),
            ]
            .into_iter()
            .flatten()
            .min(),
            Phase::Recovering(recovery) => recovery.next_deadline(),
            Phase::Failed(_) => None,
        }
    }

    /// Whether the disk became full since the last call: an event of the server.
    pub(crate) fn take_out_of_storage(&mut self) -> bool {
        match &mut self.phase {
            Phase::Running(running) => std::mem::take(&mut running.is_out_of_storage),
            Phase::Recovering(_) | Phase::Failed(_) => false,
        }
    }

    /// Takes the end of a disk request.
    pub(crate) fn disk(&mut self, completion: DiskCompletion, context: &mut TurnContext<'_>) {
        match &mut self.phase {
            Phase::Recovering(recovery) => {
                match recovery.complete(context.now, completion, context.requests) {
                    Progress::Working => {}
                    Progress::NoRoom => {
                        let text = "JetStream: the disk is full: its start waits for room";
                        let line = LogLine::new(LogSeverity::Warning, text.to_owned());
                        context.log.push(line);
                    }
                    Progress::Done(recovered) => self.recovered(*recovered, context),
                    Progress::Failed(error) => self.give_up(error.to_string(), context),
                }
            }
            Phase::Running(running) => {
                if !completion.token.is_journal() {
                    // A replay checks the bytes as they stand in the journal first.
                    let is_replay = running.replays.owns(completion.token);
                    let completion = running.durable.read_ended(completion, !is_replay);
                    if !is_replay {
                        running.input(Input::Disk(completion), context);
                    } else if let Err(reason) = running.replay_read(completion, context) {
                        self.give_up(reason, context);
                    }
                    return;
                }
                let mut progress = DurableProgress::default();
                running
                    .durable
                    .complete(context.now, completion, &mut progress);
                if let Some(reason) = progress.failed.take() {
                    self.restart(&reason, context);
                    return;
                }
                running.durable_progress(progress, context);
            }
            Phase::Failed(_) => {}
        }
    }

    /// Hands on what reached JetStream's endpoints and the timers, and moves everything as far as
    /// it goes without the disk.
    pub(crate) fn turn(&mut self, deliveries: &mut Vec<Delivery>, context: &mut TurnContext<'_>) {
        if let Phase::Recovering(recovery) = &mut self.phase {
            recovery.tick(context.now, context.requests);
        }
        let Phase::Running(running) = &mut self.phase else {
            deliveries.clear();
            return;
        };
        running.turn(deliveries, &mut self.binds, context);
    }

    fn recovered(&mut self, recovered: Recovered, context: &mut TurnContext<'_>) {
        for damage in &recovered.report {
            context.log.push(LogLine::new(
                LogSeverity::Error,
                format!("JetStream: {damage}"),
            ));
        }
        let mut random = Random::new(self.settings.seed);
        let seed = random.next_u64();
        let meta = recovered.groups.get(&journal::GroupId(META_GROUP.0));
        let meta_missing = meta.is_some_and(|meta| !meta.missing.is_empty());
        let mut running = Box::new(Running {
            jetstream: JetStream::new(millrace_jetstream::Settings {
                id_space_offset: u32::from(self.attempt) * ID_SPACES_PER_ATTEMPT,
                seed: random.next_u64(),
                ..self.settings.engine.clone()
            }),
            groups: Groups::new(self.settings.wake.clone()),
            durable: Durable::new(recovered.journal),
            recovered: recovered
                .groups
                .into_iter()
                .map(|(group, found)| (GroupId(group.0), found))
                .collect(),
            starting: true,
            reconciliation: Reconciliation::new(&recovered.report, meta_missing, recovered.removed),
            replays: Replays::new(self.attempt),
            deferred_binds: Vec::new(),
            effects: Vec::new(),
            output: ReplicaOutput::default(),
            terms: BTreeMap::new(),
            unsettled: false,
            seed,
            is_out_of_storage: false,
        });
        running.jetstream.start(&mut running.effects);
        self.phase = Phase::Running(running);
    }

    /// A write or sync of the journal failed: nothing in flight is answered, core messaging goes
    /// on, and JetStream starts again on a new journal file by way of recovery (hard-parts 9).
    fn restart(&mut self, reason: &str, context: &mut TurnContext<'_>) {
        let text = format!("JetStream: the journal failed: {reason}");
        context.log.push(LogLine::new(LogSeverity::Error, text));
        if self.attempt >= RESTARTS_MAX {
            self.give_up(reason.to_owned(), context);
            return;
        }
        self.attempt += 1;
        context.broker.release_reads(context.now);
        self.take_back_binds(context.broker);
        self.phase = begin_recovery(&self.settings, self.attempt, context.now, context.requests);
    }

    fn give_up(&mut self, reason: String, context: &mut TurnContext<'_>) {
        let text = format!("JetStream is off until the next start: {reason}");
        context.log.push(LogLine::new(LogSeverity::Error, text));
        context.broker.release_reads(context.now);
        self.take_back_binds(context.broker);
        self.phase = Phase::Failed(reason);
    }

    fn take_back_binds(&mut self, broker: &mut Broker) {
        for (account, filter, endpoint) in std::mem::take(&mut self.binds) {
            broker.unbind(account, &filter, EndpointId(endpoint));
        }
    }
}

fn begin_recovery(
    settings: &EngineSettings,
    attempt: u16,
    now: Now,
    requests: &mut Vec<DiskRequest>,
) -> Phase {
    let recovery_settings = RecoverySettings {
        journal: settings.journal.clone(),
        server_id: settings.server_id.clone(),
        seed: Random::new(settings.seed)
            .stream(u64::from(attempt) + 1)
            .next_u64(),
        attempt,
        keys: settings.engine.keys.clone(),
    };
    Phase::Recovering(Box::new(Recovery::start(recovery_settings, now, requests)))
}

impl Running {
    pub(crate) fn input(&mut self, input: Input, context: &mut TurnContext<'_>) {
        let mut out = BrokerOutbound {
            now: context.now,
            broker: context.broker,
        };
        self.jetstream
            .handle(context.now, input, &mut out, &mut self.effects);
    }

    fn finish(&mut self, context: &mut TurnContext<'_>) -> bool {
        let mut out = BrokerOutbound {
            now: context.now,
            broker: context.broker,
        };
        let jetstream = &mut self.jetstream;
        let finished = jetstream.finish(context.now, &mut out, &mut self.effects);
        self.durable.hurry();
        // What is still on its way may call for another checkpoint.
        let at_rest = self.effects.is_empty() && !self.unsettled && self.durable.is_at_rest();
        finished && at_rest
    }

    fn turn(
        &mut self,
        deliveries: &mut Vec<Delivery>,
        binds: &mut BTreeSet<(AccountId, Vec<u8>, u64)>,
        context: &mut TurnContext<'_>,
    ) {
        self.advance_replays(context);
        self.groups.tick(context.now);
        if self
            .jetstream
            .next_deadline()
            .is_some_and(|at| at <= context.now.monotonic_ns)
        {
            self.input(Input::Tick, context);
        }
        let mut changes = Vec::new();
        self.unsettled = true;
        for _ in 0..ROUNDS_MAX {
            let mut arrived = deliveries.drain(..).peekable();
            while let Some(delivery) = arrived.next() {
                self.deliver(delivery, &mut arrived, context);
            }
            drop(arrived);
            context.broker.take_interest_changes(&mut changes);
            for (account, subject) in changes.drain(..) {
                let account = AccountRef(account.0);
                self.input(
                    Input::InterestChanged {
                        account,
                        subject: subject.into(),
                    },
                    context,
                );
            }
            let mut out = BrokerOutbound {
                now: context.now,
                broker: context.broker,
            };
            self.jetstream
                .end_of_turn(context.now, &mut out, &mut self.effects);
            let worked = self.carry_out(binds, context) | self.replicate(context);
            context.broker.take_deliveries(deliveries);
            if !worked && deliveries.is_empty() && self.effects.is_empty() {
                self.unsettled = false;
                break;
            }
        }
        if self.finish_start(context) {
            self.carry_out(binds, context);
        } else if !self.effects.is_empty() {
            self.unsettled = true;
        }
        self.durable.poll(context.now, context.requests);
    }

    /// Hands on a message, and with it those directly behind it for the same stream.
    fn deliver(
        &mut self,
        delivery: Delivery,
        arrived: &mut Peekable<Drain<'_, Delivery>>,
        context: &mut TurnContext<'_>,
    ) {
        let number = delivery.endpoint;
        let Some(endpoint) = Endpoint::from_number(number.0) else {
            return;
        };
        let account = AccountRef(delivery.account.0);
        if let Endpoint::Ingest(stream) = endpoint {
            let same = |next: &Delivery| next.endpoint == number;
            let behind = std::iter::from_fn(|| arrived.next_if(same).map(message));
            let messages = std::iter::once(message(delivery)).chain(behind);
            let mut out = BrokerOutbound {
                now: context.now,
                broker: context.broker,
            };
            self.jetstream
                .ingest(context.now, stream, messages, &mut out, &mut self.effects);
            return;
        }
        let message = message(delivery);
        self.input(
            Input::Deliver {
                account,
                endpoint,
                message,
            },
            context,
        );
    }

    /// Carries out effects, also those that come of carrying out others. True if there were any.
    fn carry_out(
        &mut self,
        binds: &mut BTreeSet<(AccountId, Vec<u8>, u64)>,
        context: &mut TurnContext<'_>,
    ) -> bool {
        let worked = !self.effects.is_empty();
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                self.effect(effect, binds, context);
            }
        }
        worked
    }

    fn effect(
        &mut self,
        effect: Effect,
        binds: &mut BTreeSet<(AccountId, Vec<u8>, u64)>,
        context: &mut TurnContext<'_>,
    ) {
        match effect {
            Effect::Propose {
                group,
                data,
                durability,
            } => {
                self.propose(GroupId(group.0), data, durability);
            }
            Effect::CreateGroup { group, volatile } => {
                self.create_group(GroupId(group.0), volatile, context);
            }
            Effect::RemoveGroup { group } => self.remove_group(GroupId(group.0)),
            Effect::Hurry => self.durable.hurry(),
            Effect::Erase { group } => self.durable.erase(GroupId(group.0)),
            Effect::Bind {
                account,
                filter,
                endpoint,
            } => {
                if self.starting {
                    self.deferred_binds.push((account, filter, endpoint));
                } else {
                    bind(context.broker, binds, account, &filter, endpoint);
                }
            }
            Effect::Unbind {
                account,
                filter,
                endpoint,
            } => self.unbind(account, &filter, endpoint, binds, context.broker),
            Effect::WatchInterest { account, subject } => {
                context
                    .broker
                    .watch_interest(AccountId(account.0), &subject);
            }
            Effect::UnwatchInterest { account, subject } => {
                context
                    .broker
                    .unwatch_interest(AccountId(account.0), &subject);
            }
            Effect::HoldPublisher { client } => context.broker.hold_reads(ConnectionId(client.0)),
            Effect::ReleasePublishers => context.broker.release_reads(context.now),
            Effect::Disk(request) => context.requests.push(request),
            Effect::JournalRead(read) => match self.durable.read(read) {
                Ok(request) => context.requests.push(request),
                Err(failed) => self.input(Input::Disk(failed), context),
            },
            Effect::Checkpoint {
                group,
                index,
                term,
                state,
            } => {
                self.durable
                    .checkpoint(GroupId(group.0), index, term, state);
            }
            Effect::Log { level, text } => {
                context.log.push(LogLine::new(severity(level), text));
            }
        }
    }

    fn propose(&mut self, group: GroupId, data: Bytes, durability: Durability) {
        // A refusal means that leadership is being lost, of which the engine hears next.
        if let Ok((_, index)) = self.groups.propose(group, data)
            && durability == Durability::Lazy
        {
            self.durable.mark_lazy(group, index);
        }
    }

    fn unbind(
        &mut self,
        account: AccountRef,
        filter: &Bytes,
        endpoint: Endpoint,
        binds: &mut BTreeSet<(AccountId, Vec<u8>, u64)>,
        broker: &mut Broker,
    ) {
        self.deferred_binds
            .retain(|bind| *bind != (account, filter.clone(), endpoint));
        let (account, number) = (AccountId(account.0), endpoint.to_number());
        if binds.remove(&(account, filter.to_vec(), number)) {
            broker.unbind(account, filter, EndpointId(number));
        }
    }

    pub(crate) fn remove_group(&mut self, group: GroupId) {
        if let Some(handle) = self.groups.handle(group) {
            handle.stop();
        }
        self.recovered.remove(&group);
        self.replays.remove(group);
        self.terms.remove(&group);
        // Of a volatile group nothing was ever journaled.
        if !millrace_jetstream::StreamId(group.0).is_volatile() {
            self.durable.remove(group);
        }
    }

    /// Drains the Raft groups: journals what they ask for and applies what is committed.
    fn replicate(&mut self, context: &mut TurnContext<'_>) -> bool {
        if !self.groups.is_dirty() {
            return false;
        }
        let mut output = std::mem::take(&mut self.output);
        self.groups.poll(&mut output);
        self.durable.append_all(&mut output);
        for (group, entries) in output.committed.drain(..) {
            let mut applied = 0;
            for entry in entries {
                applied = entry.index;
                let input = Input::Committed {
                    group: millrace_jetstream::GroupId(group.0),
                    index: entry.index,
                    term: entry.term,
                    data: entry.data,
                    position: self.durable.take_position(group, entry.index),
                };
                self.input(input, context);
            }
            self.groups.applied(group, applied);
        }
        for role in output.roles.drain(..) {
            self.role_changed(role, context);
        }
        output.messages.clear();
        output.stopped.clear();
        self.output = output;
        true
    }

    fn role_changed(&mut self, role: RoleChange, context: &mut TurnContext<'_>) {
        let (group, leader, term) = match role {
            RoleChange::LeaderReady { group, term } => (group, true, term),
            RoleChange::LeaderLost { group } => (
                group,
                false,
                self.terms.get(&group).copied().unwrap_or_default(),
            ),
        };
        self.terms.insert(group, term);
        let input = Input::RoleChanged {
            group: millrace_jetstream::GroupId(group.0),
            leader,
            term,
        };
        self.input(input, context);
    }

    fn durable_progress(&mut self, progress: DurableProgress, context: &mut TurnContext<'_>) {
        for ticket in progress.persisted {
            self.groups.persisted(ticket);
        }
        for (group, index) in progress.checkpoints {
            let group = millrace_jetstream::GroupId(group.0);
            self.input(Input::CheckpointDurable { group, index }, context);
        }
        for file in progress.released_files {
            self.input(Input::JournalReleased { file }, context);
        }
        for group in progress.need_checkpoint {
            let group = millrace_jetstream::GroupId(group.0);
            self.input(Input::CheckpointWanted { group }, context);
        }
        if progress.erased {
            let text = "JetStream: what was erased is gone from the journal".to_owned();
            context.log.push(LogLine::new(LogSeverity::Debug, text));
        }
        if progress.wants_space {
            self.input(Input::SpaceWanted, context);
        }
        if let Some(full) = progress.full {
            self.is_out_of_storage |= full;
            self.input(Input::DiskFull { full }, context);
            let text = if full {
                "JetStream: the disk is full: publishes are refused until there is room"
            } else {
                "JetStream: there is room on the disk again"
            };
            context
                .log
                .push(LogLine::new(LogSeverity::Warning, text.to_owned()));
        }
    }
}

fn message(delivery: Delivery) -> Message {
    Message {
        subject: delivery.subject,
        reply: delivery.reply,
        headers: delivery.headers,
        payload: delivery.payload,
        client: delivery.publisher.map(|id| ClientHandle(id.0)),
    }
}

fn bind(
    broker: &mut Broker,
    binds: &mut BTreeSet<(AccountId, Vec<u8>, u64)>,
    account: AccountRef,
    filter: &Bytes,
    endpoint: Endpoint,
) {
    let (account, number) = (AccountId(account.0), endpoint.to_number());
    if binds.insert((account, filter.to_vec(), number)) {
        let receiver = EndpointId(number);
        match endpoint {
            // A stream and its mirrors answer in turn.
            Endpoint::DirectGet(_) => broker.bind_shared(account, filter, receiver),
            _ => broker.bind(account, filter, receiver),
        }
    }
}

fn severity(level: LogLevel) -> LogSeverity {
    match level {
        LogLevel::Error => LogSeverity::Error,
        LogLevel::Warning => LogSeverity::Warning,
        LogLevel::Information => LogSeverity::Information,
        LogLevel::Debug => LogSeverity::Debug,
    }
}
