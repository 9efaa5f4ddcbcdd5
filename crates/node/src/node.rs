//! The node as its driver sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_auth::operator::TokenChange;
use millrace_clock::{Now, Random};
use millrace_config::Options;
use millrace_core::{Broker, Delivery};
use millrace_replica::GroupHandle;
use millrace_store::disk::{DiskCompletion, DiskRequest};

use crate::engine::{Engine, EngineSettings, TurnContext};
use crate::settings::{
    JetStreamHostSettings, NodeSettings, StoreSizes, engine_settings, journal_settings,
};
use crate::system::System;

/// How loud a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSeverity {
    Error,
    Warning,
    Information,
    Debug,
}

/// A line for the server's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    pub severity: LogSeverity,
    pub text: String,
}

impl LogLine {
    pub(crate) const fn new(severity: LogSeverity, text: String) -> Self {
        Self { severity, text }
    }
}

/// One server: everything but its sockets, files and threads.
pub struct Node {
    pub(crate) broker: Broker,
    pub(crate) engine: Option<Engine>,
    pub(crate) jetstream_host: Option<JetStreamHostSettings>,
    pub(crate) options: Arc<Options>,
    pub(crate) started: Now,
    /// Monitoring requests by path.
    pub(crate) http_requests: BTreeMap<String, u64>,
    pub(crate) system: System,
    deliveries: Vec<Delivery>,
    requests: Vec<DiskRequest>,
    log: Vec<LogLine>,
}

impl Node {
    /// Starts a server. Core messaging works at once; JetStream begins to read its store, and
    /// answers when it has.
    #[must_use]
    pub fn new(now: Now, settings: NodeSettings) -> Self {
        let journal = settings
            .jetstream
            .as_ref()
            .map(|host| journal_settings(&settings.broker.options, host))
            .unwrap_or_default();
        let sizes = StoreSizes {
            journal,
            ..StoreSizes::default()
        };
        Self::with_sizes(now, settings, sizes)
    }

    /// As [`Self::new`], with sizes that are not the configuration's: small ones, for tests.
    #[must_use]
    pub fn with_sizes(now: Now, settings: NodeSettings, sizes: StoreSizes) -> Self {
        let options = Arc::clone(&settings.broker.options);
        let random = Random::new(settings.broker.random_seed);
        let broker = Broker::new(now, settings.broker);
        let mut requests = Vec::new();
        let engine = settings.jetstream.as_ref().map(|host| {
            let settings = EngineSettings {
                engine: engine_settings(
                    &options,
                    host,
                    &broker,
                    &sizes,
                    random.stream(1).next_u64(),
                ),
                journal: sizes.journal.clone(),
                server_id: broker.identity().server_id.clone(),
                seed: random.stream(2).next_u64(),
                wake: settings.wake.clone(),
            };
            Engine::start(now, settings, &mut requests)
        });
        let mut node = Self {
            broker,
            engine,
            jetstream_host: settings.jetstream,
            options,
            started: now,
            http_requests: BTreeMap::new(),
            system: System::new(random.stream(3)),
            deliveries: Vec::new(),
            requests,
            log: Vec::new(),
        };
        node.bind_system();
        node
    }

    /// The broker: connections are accepted, fed, flushed and closed on it directly.
    pub fn broker(&mut self) -> &mut Broker {
        &mut self.broker
    }

    /// Takes the end of a disk request.
    pub fn handle_disk(&mut self, now: Now, completion: DiskCompletion) {
        self.with_engine(now, |engine, context| engine.disk(completion, context));
    }

    /// Does what is due at `now` in the broker. The rest of the node follows in
    /// [`Self::end_of_turn`].
    pub fn tick(&mut self, now: Now) {
        if self.broker.is_about_to_close(now) {
            self.tell_waiting_pulls(now);
        }
        self.broker.tick(now);
        self.repeat_connections(now);
        self.plan_statistics(now);
    }

    /// The server stops: waiting pulls are told (409 Server Shutdown), then every connection is closed
    /// once its bytes are written. Groups and journal go on until their driver lets them stop.
    pub fn shut_down(&mut self, now: Now) {
        self.tell_waiting_pulls(now);
        self.publish_end(now, "SHUTDOWN");
        self.broker.shutdown(now);
    }

    /// Enters lame duck mode: no new clients, and those there are leave one by one.
    pub fn lame_duck(&mut self, now: Now) {
        self.broker.lame_duck(now);
        self.publish_end(now, "LAMEDUCK");
    }

    fn tell_waiting_pulls(&mut self, now: Now) {
        self.with_engine(now, |engine, context| engine.shut_down(context));
    }

    /// Ends a batch of inputs: JetStream takes what reached it, groups and journal move on.
    pub fn end_of_turn(&mut self, now: Now) {
        self.publish_session_events(now);
        self.publish_message_traces(now);
        let mut deliveries = std::mem::take(&mut self.deliveries);
        self.broker.take_deliveries(&mut deliveries);
        self.take_system_requests(&mut deliveries);
        if self.engine.is_none() {
            deliveries.clear();
        }
        self.with_engine(now, |engine, context| engine.turn(&mut deliveries, context));
        if self
            .engine
            .as_mut()
            .is_some_and(Engine::take_out_of_storage)
        {
            self.publish_out_of_storage(now);
        }
        self.deliveries = deliveries;
    }

    /// Lets the engine, if there is one, work with what is around it.
    fn with_engine(&mut self, now: Now, act: impl FnOnce(&mut Engine, &mut TurnContext<'_>)) {
        let Some(engine) = &mut self.engine else {
            return;
        };
        let mut context = TurnContext {
            now,
            broker: &mut self.broker,
            requests: &mut self.requests,
            log: &mut self.log,
        };
        act(engine, &mut context);
    }

    /// Makes records that may wait for company due at once: the server stops. They are asked for by
    /// the next [`Self::end_of_turn`].
    pub fn hurry(&mut self) {
        if let Some(engine) = &mut self.engine {
            engine.hurry();
        }
    }

    /// Nobody is connected any more: what changed since its last checkpoint gets one more, so that the
    /// next start replays nothing. Call once a turn, before [`Self::end_of_turn`], until it is true:
    /// all is on the disk. Whoever does not wait loses nothing but time at the next start.
    pub fn finish(&mut self, now: Now) -> bool {
        let mut finished = true;
        self.with_engine(now, |engine, context| finished = engine.finish(context));
        finished
    }

    /// Bytes that the background scrub has looked at.
    #[must_use]
    pub fn scrubbed_bytes(&self) -> u64 {
        let jetstream = self.engine.as_ref().and_then(Engine::jetstream);
        jetstream.map_or(0, |it| it.scrub_counts().bytes)
    }

    /// Indexes of idle streams that were given back to keep to the memory budget.
    #[must_use]
    pub fn indexes_given_up(&self) -> u64 {
        let jetstream = self.engine.as_ref().and_then(Engine::jetstream);
        jetstream.map_or(0, |it| it.shared.memory.indexes_given_up())
    }

    /// Groups that this start found with entries to replay; none after an end in order.
    #[must_use]
    pub fn replayed_groups(&self) -> u64 {
        self.engine.as_ref().map_or(0, Engine::replayed_groups)
    }

    /// Appends the disk requests since the last call, in order.
    pub fn take_disk_requests(&mut self, out: &mut Vec<DiskRequest>) {
        out.append(&mut self.requests);
    }

    /// Appends the log lines of JetStream since the last call.
    pub fn take_log(&mut self, out: &mut Vec<LogLine>) {
        out.append(&mut self.log);
    }

    /// Monotonic time at which [`Self::tick`] and [`Self::end_of_turn`] have something to do.
    /// In the past when a turn left work behind.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        if !self.deliveries.is_empty() {
            return Some(0);
        }
        let engine = self.engine.as_ref().and_then(Engine::next_deadline);
        [
            self.broker.next_deadline(),
            engine,
            self.system.connections_due_ns,
            self.system.statistics_due_ns,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Handles of all Raft groups: by them a stopping server ends each group and learns, from any
    /// thread, that its log is released. Until then groups go on, so that leadership can move.
    #[must_use]
    pub fn group_handles(&self) -> Vec<GroupHandle> {
        let Some(groups) = self.engine.as_ref().and_then(Engine::groups) else {
            return Vec::new();
        };
        groups.ids().filter_map(|id| groups.handle(id)).collect()
    }

    /// Whether JetStream has read its store (or is off, or failed): what was stored is served.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.engine
            .as_ref()
            .is_none_or(|engine| engine.health() != crate::engine::EngineHealth::Recovering)
    }

    /// Whether JetStream has read its store and works.
    #[must_use]
    pub fn serves_streams(&self) -> bool {
        let engine = self.engine.as_ref();
        engine.is_some_and(|engine| engine.jetstream().is_some())
    }

    /// Names of the accounts that have streams in the store, served or not; none before it is read.
    #[must_use]
    pub fn stored_accounts(&self) -> Vec<String> {
        let jetstream = self.engine.as_ref().and_then(Engine::jetstream);
        jetstream.map_or_else(Vec::new, millrace_jetstream::JetStream::stored_accounts)
    }

    /// Options the server runs with now.
    #[must_use]
    pub const fn options(&self) -> &Arc<Options> {
        &self.options
    }

    /// Applies new options to the running server; what cannot change was refused before.
    pub fn apply_options(&mut self, now: Now, options: Arc<Options>) {
        self.options = Arc::clone(&options);
        self.broker.apply_options(now, options);
        self.bind_system();
        self.renew_jetstream();
    }

    /// JetStream's limits and accounts follow the options.
    fn renew_jetstream(&mut self) {
        let (Some(engine), Some(host)) = (&mut self.engine, &mut self.jetstream_host) else {
            return;
        };
        let jetstream = &self.options.jetstream;
        host.max_memory_bytes = jetstream.max_memory.unwrap_or(host.max_memory_bytes);
        host.max_file_bytes = jetstream.max_file.unwrap_or(host.max_file_bytes);
        let sizes = StoreSizes::default();
        let seed = engine.seed();
        let settings = engine_settings(&self.options, host, &self.broker, &sizes, seed);
        engine.apply_settings(settings);
    }

    /// Goes on with what changed account tokens make of the options.
    pub(crate) fn apply_tokens(&mut self, now: Now, change: TokenChange) {
        let options = Arc::new(change.options);
        self.options = Arc::clone(&options);
        let written = change.written.iter().map(|(key, _)| key.as_str());
        let accounts = written.chain(change.removed.iter().map(String::as_str));
        self.broker
            .apply_tokens(now, options, change.mode, accounts);
        self.bind_system();
        self.renew_jetstream();
    }
}
