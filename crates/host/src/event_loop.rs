//! The loop that owns the node and every socket: waits for the system, feeds what came to the
//! node, ends the turn, and carries out what it asks for.
//!
//! Sockets are watched edge-triggered for reading and writing at once, so that a connection costs
//! one system call of registration in its life; what an edge announced is remembered in `ready`
//! until it is read.

use crate::clock::Clock;
use crate::connection::{Connection, Phase};
use crate::disk::DiskLanes;
use crate::files::{PortsFile, PortsWriter};
use crate::limits::{
    READ_BLOCKS_BYTES, READ_BUFFER_MIN, SETTLED_TURNS, STOPPING_WAIT_NS, TURN_EVENTS, TURN_INPUTS,
};
use crate::logger::{Level, Logger};
use crate::machine;
use crate::monitor::MonitorRequest;
use crate::passwords::PasswordPool;
use crate::resting::Resting;
use crate::run::Reload;
use crate::signals::Signal;
use crate::store_folder::StoreFolder;
use crate::websocket::Door;
use bytes::BytesMut;
use millrace_clock::Now;
use millrace_core::{BlockPool, BrokerEffect, CloseReason, ConnectionId, LogLevel};
use millrace_node::{HostFacts, LogLine, LogSeverity, Node, StoreTokens};
use millrace_replica::GroupHandle;
use millrace_store::disk::{DiskCompletion, DiskRequest};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};
use rustls::ServerConfig;
use slab::Slab;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tokio::sync::watch;

pub(crate) const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const WEBSOCKET_LISTENER: Token = Token(2);
/// Tokens of connections are their slots behind the fixed ones.
pub(crate) const FIRST_CONNECTION: usize = 3;
/// Below this the system's clock ticks are too coarse to sleep.
const SPIN_NS: u64 = 100_000;

/// What other threads tell the loop.
#[derive(Debug)]
pub(crate) enum Input {
    Disk(DiskCompletion),
    PasswordChecked {
        id: ConnectionId,
        matches: bool,
    },
    Signal(Signal),
    Monitor(MonitorRequest),
    /// A client of the server's own, and who sits behind it.
    LocalClient {
        socket: std::net::TcpStream,
        peer: SocketAddr,
    },
    TokensStored(Box<StoreTokens>, Result<(), String>),
}

/// The way into the loop from other threads. Bounded by what each of them has outstanding.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    sender: Sender<Input>,
    waker: Arc<Waker>,
}

impl Inputs {
    /// Hands `input` over and wakes the loop. After the loop has ended it is dropped.
    pub(crate) fn send(&self, input: Input) {
        if self.sender.send(input).is_ok() {
            self.wake();
        }
    }

    /// Hands `input` over for the next turn, whenever that is.
    pub(crate) fn send_quietly(&self, input: Input) {
        let _ = self.sender.send(input);
    }

    pub(crate) fn wake(&self) {
        // The only failure is a full counter, and then the loop is awake.
        let _ = self.waker.wake();
    }
}

/// What the loop waits with: made before the node, because threads need the way in.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) poll: Poll,
    pub(crate) inputs: Inputs,
    receiver: Receiver<Input>,
}

impl Waiting {
    /// # Errors
    /// The system refuses a poll or its waker.
    pub(crate) fn new() -> std::io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (sender, receiver) = channel();
        Ok(Self {
            poll,
            inputs: Inputs { sender, waker },
            receiver,
        })
    }

    /// The next input, waited for so long; for those who have no sockets to wait for.
    pub(crate) fn receive_within(&self, time: Duration) -> Option<Input> {
        self.receiver.recv_timeout(time).ok()
    }
}

/// How far the server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// JetStream reads its store; clients wait in the listener's queue, at most until then.
    Starting {
        until_ns: u64,
    },
    Serving,
    LameDuck,
    /// Connections and disk are being finished, at most until then.
    Stopping {
        until_ns: u64,
    },
}

/// A port that clients come in by.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    /// Monotonic time until which nothing is accepted, after a failure.
    pub(crate) paused_until: u64,
    /// Length of the next such pause; 0 after a success.
    pub(crate) pause_ns: u64,
    /// Connections may be waiting.
    pub(crate) pending: bool,
}

impl Listener {
    pub(crate) const fn new(socket: TcpListener) -> Self {
        Self {
            socket,
            paused_until: 0,
            pause_ns: 0,
            pending: true,
        }
    }
}

/// What `start` hands over.
pub(crate) struct Parts {
    pub(crate) waiting: Waiting,
    pub(crate) clock: Clock,
    pub(crate) node: Node,
    pub(crate) logger: Logger,
    pub(crate) listener: TcpListener,
    /// Shown in the log when clients are let in.
    pub(crate) listening_text: String,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) websocket: Option<Door>,
    pub(crate) monitoring_tls: Option<watch::Sender<Arc<ServerConfig>>>,
    pub(crate) disk: Option<DiskLanes>,
    pub(crate) store: Option<StoreFolder>,
    pub(crate) passwords: PasswordPool,
    pub(crate) reload: Option<Reload>,
    pub(crate) facts: HostFacts,
    /// Writes the ports file once clients are let in.
    pub(crate) ports: PortsWriter,
    pub(crate) starting_until_ns: u64,
}

pub(crate) struct EventLoop {
    pub(crate) poll: Poll,
    inputs: Receiver<Input>,
    /// For threads that are started later.
    pub(crate) way_in: Inputs,
    pub(crate) clock: Clock,
    pub(crate) node: Node,
    pub(crate) logger: Logger,
    pub(crate) listener: Option<Listener>,
    listening_text: String,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) websocket: Option<Door>,
    /// Where monitoring over HTTPS hears of new certificates.
    pub(crate) monitoring_tls: Option<watch::Sender<Arc<ServerConfig>>>,
    disk: Option<DiskLanes>,
    _store: Option<StoreFolder>,
    passwords: PasswordPool,
    pub(crate) reload: Option<Reload>,
    pub(crate) facts: HostFacts,
    processor: (u64, u64),
    ports: PortsWriter,
    ports_file: Option<PortsFile>,
    pub(crate) stage: Stage,
    pub(crate) connections: Slab<Connection>,
    pub(crate) by_id: HashMap<ConnectionId, usize>,
    pub(crate) next_serial: u64,
    pub(crate) lingering: usize,
    /// Connections that the broker does not know yet.
    pub(crate) strangers: usize,
    /// Sockets that have, or may have, bytes to read.
    pub(crate) ready: VecDeque<usize>,
    /// Sockets to write to at the end of the turn, besides those the broker names.
    pub(crate) unflushed: Vec<usize>,
    /// Sockets (slot, serial, end of the pause) that are not read until one that was full is
    /// written out.
    pub(crate) held_back: Vec<(usize, u64, u64)>,
    /// `(monotonic time, slot, serial)`.
    pub(crate) timers: BinaryHeap<Reverse<(u64, usize, u64)>>,
    /// What the next read fills; one block serves all connections.
    pub(crate) read_block: BytesMut,
    /// Earlier blocks, slices of which may still wait to be written.
    pub(crate) read_blocks: BlockPool,
    pub(crate) plain_buffer: Vec<u8>,
    pub(crate) resting: Resting,
    /// Something happened behind the end of the turn: make another at once.
    pub(crate) again: bool,
    /// A second of the monotonic clock, and the TLS handshakes begun in it.
    pub(crate) handshakes: (u64, u64),
    disk_in_flight: usize,
    /// Account tokens are being written; what is asked of the system account waits for it.
    pub(crate) is_storing_tokens: bool,
    /// Turns in a row in which a stopping server had nothing in flight.
    settled_turns: u32,
    /// A stopping server has written its last checkpoints.
    finished: bool,
    effects: Vec<BrokerEffect>,
    requests: Vec<DiskRequest>,
    dirty: Vec<ConnectionId>,
    lines: Vec<LogLine>,
}

impl EventLoop {
    pub(crate) fn new(parts: Parts) -> Self {
        let Waiting {
            poll,
            inputs,
            receiver,
        } = parts.waiting;
        Self {
            poll,
            inputs: receiver,
            way_in: inputs,
            is_storing_tokens: false,
            clock: parts.clock,
            node: parts.node,
            logger: parts.logger,
            listener: Some(Listener::new(parts.listener)),
            listening_text: parts.listening_text,
            tls: parts.tls,
            websocket: parts.websocket,
            monitoring_tls: parts.monitoring_tls,
            disk: parts.disk,
            _store: parts.store,
            passwords: parts.passwords,
            reload: parts.reload,
            facts: parts.facts,
            processor: (0, 0),
            ports: parts.ports,
            ports_file: None,
            stage: Stage::Starting {
                until_ns: parts.starting_until_ns,
            },
            connections: Slab::new(),
            by_id: HashMap::new(),
            next_serial: 0,
            lingering: 0,
            strangers: 0,
            ready: VecDeque::new(),
            unflushed: Vec::new(),
            held_back: Vec::new(),
            timers: BinaryHeap::new(),
            read_block: BytesMut::zeroed(READ_BUFFER_MIN),
            read_blocks: BlockPool::new(READ_BLOCKS_BYTES),
            plain_buffer: Vec::new(),
            resting: Resting::default(),
            again: true,
            handshakes: (0, 0),
            disk_in_flight: 0,
            settled_turns: 0,
            finished: false,
            effects: Vec::new(),
            requests: Vec::new(),
            dirty: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// Runs until the server has stopped.
    ///
    /// # Errors
    /// A text for the log: the system's poll failed, or the server could not begin to serve.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        let mut events = Events::with_capacity(TURN_EVENTS);
        loop {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                    return Err(format!("waiting for events failed: {error}"));
                }
                _ => {}
            }
            let now = self.clock.now();
            self.again = false;
            self.node.tick(now);
            self.take_inputs(now);
            for event in &events {
                self.note_event(event);
            }
            self.fire_timers(now);
            self.accept(now);
            let read_bytes = self.read_ready(now);
            self.node.end_of_turn(now);
            self.answer_system_requests(now);
            self.settle(now);
            self.rest(now, read_bytes);
            if self.advance_stage(now)? {
                self.ports_file = None;
                return Ok(());
            }
        }
    }

    /// How long the next wait may take.
    fn timeout(&self) -> Option<Duration> {
        if self.again || !self.ready.is_empty() || !self.unflushed.is_empty() {
            return Some(Duration::ZERO);
        }
        let websocket = self
            .websocket
            .as_ref()
            .and_then(|door| door.listener.as_ref());
        let accept = [self.listener.as_ref(), websocket]
            .into_iter()
            .flatten()
            .filter(|listener| self.stage == Stage::Serving && listener.pending)
            .map(|listener| listener.paused_until)
            .min();
        let stage = match self.stage {
            Stage::Starting { until_ns } => Some(until_ns),
            Stage::Stopping { .. } => Some(self.clock.now().after_ns(STOPPING_WAIT_NS)),
            Stage::Serving | Stage::LameDuck => None,
        };
        let timer = self.timers.peek().map(|Reverse((deadline, ..))| *deadline);
        let rest = self.resting.deadline();
        let deadline = [self.node.next_deadline(), timer, accept, stage, rest]
            .into_iter()
            .flatten()
            .min()?;
        let left = deadline.saturating_sub(self.clock.now().monotonic_ns);
        Some(Duration::from_nanos(if left < SPIN_NS { 0 } else { left }))
    }

    fn note_event(&mut self, event: &mio::event::Event) {
        match event.token() {
            WAKER => {}
            LISTENER => {
                if let Some(listener) = &mut self.listener {
                    listener.pending = true;
                }
            }
            WEBSOCKET_LISTENER => {
                let door = self.websocket.as_mut();
                if let Some(listener) = door.and_then(|door| door.listener.as_mut()) {
                    listener.pending = true;
                }
            }
            Token(number) => {
                let key = number - FIRST_CONNECTION;
                let Some(connection) = self.connections.get_mut(key) else {
                    return;
                };
                if event.is_read_closed() || event.is_error() {
                    connection.peer_closing = true;
                }
                if event.is_writable() && connection.write_blocked {
                    connection.write_blocked = false;
                    self.unflushed.push(key);
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.mark_ready(key);
                }
            }
        }
    }

    /// Queues a socket for reading.
    pub(crate) fn mark_ready(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.queued
        {
            connection.queued = true;
            self.ready.push_back(key);
        }
    }

    fn take_inputs(&mut self, now: Now) {
        for _ in 0..TURN_INPUTS {
            let Ok(input) = self.inputs.try_recv() else {
                return;
            };
            match input {
                Input::Disk(completion) => {
                    self.disk_in_flight = self.disk_in_flight.saturating_sub(1);
                    self.node.handle_disk(now, completion);
                }
                Input::PasswordChecked { id, matches } => {
                    self.node.broker().password_checked(now, id, matches);
                    if let Some(key) = self.by_id.get(&id).copied() {
                        if let Some(connection) = self.connections.get_mut(key) {
                            connection.hashing = false;
                        }
                        self.mark_ready(key);
                    }
                    self.apply_effects(now);
                }
                Input::Signal(signal) => self.signal(now, signal),
                Input::Monitor(request) => self.monitor(now, request),
                Input::LocalClient { socket, peer } => self.admit_local(now, socket, peer),
                Input::TokensStored(task, result) => self.tokens_stored(now, *task, result),
            }
        }
        // More may wait; the waker's edge is spent.
        self.again = true;
    }

    /// What only the host knows and monitoring shows, as of now.
    pub(crate) fn update_facts(&mut self, now: Now) {
        let used = machine::processor_ns();
        let (used_before, at) = self.processor;
        let passed = now.monotonic_ns.saturating_sub(at).max(1);
        self.facts.memory_bytes = machine::resident_bytes();
        self.facts.cpu_percent = used.saturating_sub(used_before) as f64 * 100.0 / passed as f64;
        self.processor = (used, now.monotonic_ns);
        self.facts.processor_ns = used;
        self.facts.accepts_clients = self.stage == Stage::Serving;
        self.facts.was_open |= self.facts.accepts_clients;
        if let Some(disk) = &self.disk {
            self.facts.sync_times = disk.sync_times().read();
        }
    }

    fn monitor(&mut self, now: Now, request: MonitorRequest) {
        self.update_facts(now);
        let answer = self
            .node
            .monitor(now, &self.facts, &request.path, &request.query);
        request.answer(answer);
    }

    /// Carries out what the broker asked for, in order.
    pub(crate) fn apply_effects(&mut self, now: Now) {
        let mut effects = std::mem::take(&mut self.effects);
        loop {
            self.node.broker().take_effects(&mut effects);
            if effects.is_empty() {
                break;
            }
            for effect in effects.drain(..) {
                self.apply_effect(now, effect);
            }
        }
        self.effects = effects;
    }

    fn apply_effect(&mut self, now: Now, effect: BrokerEffect) {
        match effect {
            BrokerEffect::CloseConnection {
                id,
                after_flush,
                reason,
            } => {
                self.close(now, id, after_flush, reason);
            }
            BrokerEffect::UpgradeTls { id } => self.upgrade(now, id),
            BrokerEffect::HashPassword { id, check } => {
                if let Some(connection) = self.connection_of(id) {
                    connection.hashing = true;
                    self.passwords.check(id, check);
                }
            }
            BrokerEffect::PauseRead {
                id,
                until_ns,
                until_drained,
            } => {
                let key = self.by_id.get(&id).copied();
                if let Some(connection) = self.connection_of(id)
                    && !(until_drained && connection.paused_until != 0)
                {
                    connection.paused_until = until_ns.max(1);
                    let (serial, pause) = (connection.serial, connection.paused_until);
                    let key = key.unwrap_or_default();
                    // Without end: until another pause takes its place.
                    if until_ns < u64::MAX {
                        self.timers.push(Reverse((until_ns, key, serial)));
                    }
                    if until_drained {
                        self.held_back.push((key, serial, pause));
                    }
                }
            }
            BrokerEffect::Log { level, text } => {
                let level = match level {
                    LogLevel::Trace => Level::Trace,
                    LogLevel::Debug => Level::Debug,
                    LogLevel::Info => Level::Info,
                    LogLevel::Warning => Level::Warning,
                    LogLevel::Error => Level::Error,
                };
                self.logger.line(level, &text);
            }
            BrokerEffect::LameDuckDone => self.begin_shutdown(now),
        }
    }

    pub(crate) fn connection_of(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let key = *self.by_id.get(&id)?;
        self.connections.get_mut(key)
    }

    /// After the node's turn: disk requests out, effects carried out, sockets written.
    fn settle(&mut self, now: Now) {
        self.node.take_disk_requests(&mut self.requests);
        if let Some(disk) = &self.disk {
            self.disk_in_flight += self.requests.len();
            for request in self.requests.drain(..) {
                disk.submit(request);
            }
        }
        self.apply_effects(now);
        let mut keys = std::mem::take(&mut self.unflushed);
        self.node.broker().take_dirty(&mut self.dirty);
        keys.extend(self.dirty.drain(..).filter_map(|id| self.by_id.get(&id)));
        for key in keys.drain(..) {
            self.flush(now, key);
        }
        if self.unflushed.is_empty() {
            self.unflushed = keys;
        }
        self.apply_effects(now);
        self.node.take_log(&mut self.lines);
        for line in self.lines.drain(..) {
            let level = match line.severity {
                LogSeverity::Error => Level::Error,
                LogSeverity::Warning => Level::Warning,
                LogSeverity::Information => Level::Info,
                LogSeverity::Debug => Level::Debug,
            };
            self.logger.line(level, &line.text);
        }
    }

    /// Moves the server along its life; true when it has stopped.
    fn advance_stage(&mut self, now: Now) -> Result<bool, String> {
        match self.stage {
            Stage::Starting { until_ns } => {
                if self.node.is_ready() || now.monotonic_ns >= until_ns {
                    self.begin_serving()?;
                }
                Ok(false)
            }
            Stage::Serving | Stage::LameDuck => Ok(false),
            Stage::Stopping { until_ns } => {
                if !self.has_settled(now) && now.monotonic_ns < until_ns {
                    return Ok(false);
                }
                self.logger.info("Server Exiting..");
                Ok(true)
            }
        }
    }

    /// Whether a stopping server has nothing left to do: connections are written and closed, what
    /// waited for the disk is on it, every stream has its last checkpoint, and then the groups have
    /// let go of their logs.
    fn has_settled(&mut self, now: Now) -> bool {
        self.node.hurry();
        let closed = self.connections.len() <= self.lingering;
        if closed && !self.finished {
            self.finished = self.node.finish(now);
        }
        let quiet = self.finished && self.disk_in_flight == 0;
        self.settled_turns = if quiet { self.settled_turns + 1 } else { 0 };
        if self.settled_turns < SETTLED_TURNS {
            return false;
        }
        let groups = self.node.group_handles();
        for group in &groups {
            group.stop();
        }
        groups.iter().all(GroupHandle::is_released)
    }

    fn begin_serving(&mut self) -> Result<(), String> {
        if let Some(listener) = &mut self.listener {
            self.poll
                .registry()
                .register(&mut listener.socket, LISTENER, Interest::READABLE)
                .map_err(|error| format!("Error listening for clients: {error}"))?;
        }
        if let Some(door) = &mut self.websocket
            && let Some(listener) = &mut door.listener
        {
            self.poll
                .registry()
                .register(&mut listener.socket, WEBSOCKET_LISTENER, Interest::READABLE)
                .map_err(|error| format!("Error listening for websocket clients: {error}"))?;
            self.logger.info(&door.listening_text);
            if door.terms.tls.is_none() {
                let text = "Websocket not configured with TLS. DO NOT USE IN PRODUCTION!";
                self.logger.line(Level::Warning, text);
            }
        }
        self.write_ports();
        self.stage = Stage::Serving;
        self.again = true;
        let text = std::mem::take(&mut self.listening_text);
        self.logger.info(&text);
        self.logger.info("Server is ready");
        Ok(())
    }

    /// Writes the ports file, in place of an earlier one.
    pub(crate) fn write_ports(&mut self) {
        self.ports_file = None;
        match self
            .ports
            .write(self.node.options().ports_file_dir.as_ref())
        {
            Ok(file) => self.ports_file = file,
            Err(error) => {
                let text = format!("Error writing ports file: {error}");
                self.logger.line(Level::Error, &text);
            }
        }
    }

    /// Ends a socket at once, whatever it holds.
    pub(crate) fn end(&mut self, now: Now, key: usize, reason: CloseReason) {
        let Some(mut connection) = self.connections.try_remove(key) else {
            return;
        };
        let _ = self.poll.registry().deregister(&mut connection.socket);
        match connection.phase {
            Phase::Lingering => self.lingering -= 1,
            Phase::Undecided | Phase::Upgrading => self.strangers -= 1,
            Phase::Open | Phase::Closing => {}
        }
        if let Some(id) = connection.id {
            self.by_id.remove(&id);
            self.node.broker().closed_by_peer(now, id, reason);
        }
        self.again = true;
    }
}
