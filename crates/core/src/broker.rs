//! The broker's table of everything and the face it shows the host: accepting, taking what came
//! of a batch, closing. Verbs are in `verbs.rs` and `login.rs`, delivery in `publish.rs`, timers
//! in `tick.rs`, receivers inside the server in `endpoint.rs`.

use core::net::SocketAddr;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::sync::Arc;

use millrace_auth::Authenticator;
use millrace_clock::{Now, Random};
use millrace_config::Options;
use millrace_subject::Matched;
use rustc_hash::FxHashMap;
use slab::Slab;

use crate::account::{Accounts, SubscriptionKey};
use crate::blocks::{BlockPool, CopyArena};
use crate::callout::Callouts;
use crate::chunks::ChunkPool;
use crate::door::websocket_rules;
use crate::effects::{
    BrokerEffect, CloseReason, ConnectionFacts, ConnectionKind, Delivery, LogLevel,
};
use crate::ids::{AccountId, ConnectionId, EndpointId};
use crate::imports::Imports;
use crate::lame_duck::LameDuck;
use crate::limits::PAYLOAD_BLOCKS_BYTES;
use crate::match_cache::MatchCache;
use crate::message_trace::MessageTrace;
use crate::monitor::{ConnectionInfo, ServerCounters, SessionEvent};
use crate::outbound::Outbound;
use crate::session::{Phase, Session};
use crate::settings::{BrokerSettings, ServerIdentity};
use crate::subscription::Subscriptions;
use crate::timers::{TimerKind, Timers};

/// Core messaging of one server.
///
/// The caller feeds bytes and time, and after each batch of inputs takes what came of them:
/// effects, deliveries, interest changes and the connections with bytes to write. The order of
/// calls is the only source of order.
pub struct Broker {
    pub(crate) options: Arc<Options>,
    pub(crate) identity: ServerIdentity,
    pub(crate) authenticator: Authenticator,
    /// Rules of WebSocket clients where they are not those of all.
    pub(crate) websocket_authenticator: Option<Authenticator>,
    pub(crate) random: Random,
    pub(crate) nonces_made: u64,
    pub(crate) accounts: Accounts,
    pub(crate) sessions: Slab<Session>,
    pub(crate) slots: FxHashMap<ConnectionId, u32>,
    pub(crate) last_id: u64,
    /// Sessions that are not closed.
    pub(crate) open_sessions: usize,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) imports: Imports,
    pub(crate) callouts: Callouts,
    /// Whether some account maps subjects.
    pub(crate) has_mappings: bool,
    /// Whether `message_trace` is to be told what the message meets.
    pub(crate) is_message_traced: bool,
    pub(crate) message_trace: Option<Box<MessageTrace>>,
    /// Traces that can be told.
    pub(crate) message_traces: Vec<MessageTrace>,
    /// Bindings of receivers inside the server.
    pub(crate) bindings: FxHashMap<(AccountId, Box<[u8]>, EndpointId), SubscriptionKey>,
    /// Connections that are not read from until a receiver inside the server has room again.
    pub(crate) held: BTreeSet<ConnectionId>,
    pub(crate) timers: Timers,
    pub(crate) effects: Vec<BrokerEffect>,
    pub(crate) deliveries: Vec<Delivery>,
    pub(crate) interest_changes: Vec<(AccountId, Vec<u8>)>,
    pub(crate) dirty: Vec<ConnectionId>,
    pub(crate) counters: ServerCounters,
    pub(crate) closed: VecDeque<ConnectionInfo>,
    pub(crate) session_events: Vec<SessionEvent>,
    pub(crate) lame_duck: Option<LameDuck>,
    pub(crate) is_stopping: bool,
    pub(crate) max_pending: usize,
    /// Whether protocol lines are logged.
    pub(crate) is_tracing: bool,
    /// How long and how often the connection whose input is handled must be held back.
    pub(crate) batch_stall_ns: u64,
    pub(crate) batch_stalls: u64,
    /// Whether a message of this input met a receiver whose socket is full.
    pub(crate) batch_awaits_drain: bool,
    /// Match results of messages that the server itself publishes.
    pub(crate) internal_cache: MatchCache,
    pub(crate) internal_cache_account: AccountId,
    pub(crate) match_scratch: Matched<SubscriptionKey>,
    /// Memory that outbound queues have done with.
    pub(crate) chunks: ChunkPool,
    /// Memory that big payloads come in through.
    pub(crate) blocks: BlockPool,
    /// Memory of messages for receivers inside the server.
    pub(crate) inside: CopyArena,
    nothing: Outbound,
}

impl Broker {
    /// A broker without connections.
    #[must_use]
    pub fn new(_now: Now, settings: BrokerSettings) -> Self {
        let options = settings.options;
        let mut broker = Self {
            authenticator: Authenticator::new(&options),
            websocket_authenticator: websocket_rules(&options),
            accounts: Accounts::new(&options),
            max_pending: usize::try_from(options.client.max_pending).unwrap_or(usize::MAX),
            is_tracing: options.log.trace,
            options,
            identity: settings.identity,
            random: Random::new(settings.random_seed),
            nonces_made: 0,
            sessions: Slab::new(),
            slots: FxHashMap::default(),
            last_id: 0,
            open_sessions: 0,
            subscriptions: Subscriptions::default(),
            imports: Imports::default(),
            callouts: Callouts::default(),
            has_mappings: false,
            is_message_traced: false,
            message_trace: None,
            message_traces: Vec::new(),
            bindings: FxHashMap::default(),
            held: BTreeSet::new(),
            timers: Timers::default(),
            effects: Vec::new(),
            deliveries: Vec::new(),
            interest_changes: Vec::new(),
            dirty: Vec::new(),
            counters: ServerCounters::default(),
            closed: VecDeque::new(),
            session_events: Vec::new(),
            lame_duck: None,
            is_stopping: false,
            batch_stall_ns: 0,
            batch_stalls: 0,
            batch_awaits_drain: false,
            internal_cache: MatchCache::default(),
            internal_cache_account: AccountId::GLOBAL,
            match_scratch: Matched::default(),
            chunks: ChunkPool::default(),
            blocks: BlockPool::new(PAYLOAD_BLOCKS_BYTES),
            inside: CopyArena::default(),
            nothing: Outbound::default(),
        };
        broker.renew_imports();
        broker
    }

    /// Takes a new connection: queues INFO (unless TLS comes first) and starts its timers.
    /// With TLS configured the effect `UpgradeTls` follows.
    pub fn accept(&mut self, now: Now, facts: ConnectionFacts) -> ConnectionId {
        self.last_id += 1;
        let id = ConnectionId(self.last_id);
        self.counters.total_connections += 1;
        let (is_inside_tls, kind) = (facts.tls, facts.kind);
        let mut session = Session::new(now, id, facts);
        session.max_payload = self.options.client.max_payload;
        session.max_subscriptions = limit_or_max(self.options.client.max_subscriptions);
        let must_authenticate = self.rules(kind).is_required();
        session.phase = session.phase_before_login(must_authenticate);
        if self.rules(kind).needs_nonce() {
            session.nonce = self.make_nonce();
        }
        // The table never holds 2^32 sessions: each costs a file descriptor and hundreds of bytes.
        let slot = self.sessions.insert(session) as u32;
        self.slots.insert(id, slot);
        self.open_sessions += 1;
        if !must_authenticate {
            self.bind_account(slot, AccountId::GLOBAL);
        }
        self.send_info(slot);
        self.log_for(slot, LogLevel::Debug, "Client connection created");
        if self.refuse_if_full(now, slot) {
            return id;
        }
        self.start_timers(now, slot, must_authenticate);
        self.begin_tls(now, slot, is_inside_tls);
        id
    }

    fn refuse_if_full(&mut self, now: Now, slot: u32) -> bool {
        if self.is_stopping || self.lame_duck.is_some() {
            self.close_session(now, slot, CloseReason::ServerShutdown, false);
            return true;
        }
        let limit = self.options.client.max_connections;
        let is_full = limit >= 0 && self.open_sessions as i64 > limit;
        if is_full || limit == 0 {
            self.send_error(slot, b"maximum connections exceeded");
            self.close_session(now, slot, CloseReason::MaxConnectionsExceeded, true);
        }
        is_full || limit == 0
    }

    fn begin_tls(&mut self, now: Now, slot: u32, is_inside_tls: bool) {
        let kind = self.kind_of(slot);
        // A WebSocket is introduced behind its handshake.
        if kind == ConnectionKind::Websocket || self.options.tls.is_none() || is_inside_tls {
            return;
        }
        if !self.options.allow_non_tls {
            self.begin_handshake(now, slot);
        } else if let Some(session) = self.sessions.get_mut(slot as usize) {
            session.phase = Phase::Undecided;
        }
    }

    /// From here on bytes belong to the handshake that the host is asked for.
    pub(crate) fn begin_handshake(&mut self, now: Now, slot: u32) {
        let timeout_ns = self.options.tls.as_ref().map_or(0, |tls| tls.timeout_ns);
        if let Some(session) = self.sessions.get_mut(slot as usize) {
            session.phase = Phase::Handshake;
            self.effects
                .push(BrokerEffect::UpgradeTls { id: session.id });
            self.set_login_timer(now, slot, timeout_ns);
        }
    }

    fn start_timers(&mut self, now: Now, slot: u32, must_authenticate: bool) {
        let kind = self.kind_of(slot);
        let (ping_ns, login_ns) = (self.ping_interval_ns(kind), self.login_timeout_ns(kind));
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        let ping_ns = now.after_ns(ping_ns);
        self.timers
            .set(slot, TimerKind::Ping, &mut session.timers.ping, ping_ns);
        if must_authenticate {
            self.set_login_timer(now, slot, login_ns);
        }
    }

    /// What must have happened within `duration_ns`: a handshake or a CONNECT.
    pub(crate) fn set_login_timer(&mut self, now: Now, slot: u32, duration_ns: u64) {
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        let note = &mut session.timers.authentication;
        self.timers.set(
            slot,
            TimerKind::Authentication,
            note,
            now.after_ns(duration_ns),
        );
    }

    /// A proxy has said whom it speaks for: from here on the connection is that peer's.
    pub fn set_peer(&mut self, id: ConnectionId, peer: SocketAddr) {
        let slot = self.slots.get(&id);
        if let Some(session) = slot.and_then(|slot| self.sessions.get_mut(*slot as usize)) {
            session.facts.peer_ip = Some(peer.ip());
            session.facts.peer_port = peer.port();
        }
    }

    /// The socket is gone, whoever closed it. Must be called once for every accepted connection;
    /// after that the id means nothing. `reason` counts only if the broker had not closed it.
    pub fn closed_by_peer(&mut self, now: Now, id: ConnectionId, reason: CloseReason) {
        let Some(slot) = self.slots.remove(&id) else {
            return;
        };
        if self
            .sessions
            .get(slot as usize)
            .is_some_and(|session| !session.is_closed())
        {
            self.end_session(now, slot, reason);
        }
        self.sessions.try_remove(slot as usize);
        self.drop_lost_replies(now);
    }

    /// What waits to be written; an empty queue for unknown connections.
    pub fn outbound(&mut self, id: ConnectionId) -> &mut Outbound {
        let session = self
            .slots
            .get(&id)
            .and_then(|slot| self.sessions.get_mut(*slot as usize));
        session.map_or(&mut self.nothing, |session| &mut session.outbound)
    }

    /// The first `count` bytes of what waited are written. As [`Outbound::consumed`], and keeps
    /// memory for the next messages.
    pub fn written(&mut self, id: ConnectionId, count: usize) {
        let slot = self.slots.get(&id);
        if let Some(session) = slot.and_then(|slot| self.sessions.get_mut(*slot as usize)) {
            session.outbound.consumed_into(count, &mut self.chunks);
            session.is_blocked &= !session.outbound.is_empty();
        }
    }

    /// The socket took no more bytes although some wait: `write_deadline` runs from now, unless it
    /// already does. Progress is seen through [`Outbound::consumed`].
    pub fn write_blocked(&mut self, now: Now, id: ConnectionId) {
        let Some(&slot) = self.slots.get(&id) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        session.is_blocked = true;
        if session.timers.write.is_some() || session.is_closed() {
            return;
        }
        session.write_mark = session.outbound.written_total() + session.outbound.pending() as u64;
        let deadline_ns = now.after_ns(self.options.client.write_deadline_ns);
        self.timers.set(
            slot,
            TimerKind::Write,
            &mut session.timers.write,
            deadline_ns,
        );
    }

    /// Appends the connections that got bytes since the last call, each once.
    pub fn take_dirty(&mut self, out: &mut Vec<ConnectionId>) {
        for id in &self.dirty {
            let slot = self.slots.get(id).copied().unwrap_or(u32::MAX);
            if let Some(session) = self.sessions.get_mut(slot as usize) {
                session.is_dirty = false;
                out.push(*id);
            }
        }
        self.dirty.clear();
    }

    /// Appends the effects since the last call, in order.
    pub fn take_effects(&mut self, out: &mut Vec<BrokerEffect>) {
        out.append(&mut self.effects);
    }

    /// Appends the messages for receivers inside the server since the last call, in order.
    pub fn take_deliveries(&mut self, out: &mut Vec<Delivery>) {
        out.append(&mut self.deliveries);
    }

    /// Appends the watched subjects for which a matching subscription came or went.
    pub fn take_interest_changes(&mut self, out: &mut Vec<(AccountId, Vec<u8>)>) {
        out.append(&mut self.interest_changes);
    }

    /// Appends what happened to clients since the last call, in order.
    pub fn take_session_events(&mut self, out: &mut Vec<SessionEvent>) {
        out.append(&mut self.session_events);
    }

    /// Whether a client of the system account is there to hear of others.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        let system = self.accounts.get(AccountId::SYSTEM);
        system.is_some_and(|account| account.counters.connections > 0)
    }

    /// Monotonic time at which [`Self::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let lame_duck = self.lame_duck.as_ref().and_then(|state| state.deadline_ns);
        let responses = self.imports.responses.next_deadline();
        [self.timers.next_deadline(), lame_duck, responses]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether memory is kept only to be used again.
    #[must_use]
    pub fn has_spare_memory(&self) -> bool {
        !self.chunks.is_empty() || !self.blocks.is_empty()
    }

    /// Gives back what is kept only to be used again: nothing large moved for a while.
    pub fn release_spare_memory(&mut self) {
        self.chunks.release();
        self.blocks.release();
    }

    /// The account of this name.
    #[must_use]
    pub fn account(&self, name: &str) -> Option<AccountId> {
        self.accounts.find(name)
    }

    /// The name of an account; empty for unknown ones.
    #[must_use]
    pub fn account_name(&self, id: AccountId) -> &str {
        self.accounts.get(id).map_or("", |account| &account.name)
    }

    /// Who this server is.
    #[must_use]
    pub const fn identity(&self) -> &ServerIdentity {
        &self.identity
    }

    /// The options in force.
    #[must_use]
    pub const fn options(&self) -> &Arc<Options> {
        &self.options
    }

    pub(crate) fn slot_of(&self, id: ConnectionId) -> Option<u32> {
        self.slots.get(&id).copied()
    }
}

/// A configured limit in which zero means none.
pub(crate) fn limit_or_max(limit: u64) -> usize {
    if limit == 0 {
        usize::MAX
    } else {
        usize::try_from(limit).unwrap_or(usize::MAX)
    }
}
