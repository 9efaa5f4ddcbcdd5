//! The broker's table of everything and its public face. Verbs live with the peers, delivery in
//! `publish.rs`, timers in `tick.rs`, receivers inside the server in `endpoint.rs`.

use std::sync::Arc;

use millrace_clock::{Now, Random};
use millrace_config::Options;

use crate::account::Accounts;
use crate::effects::{BrokerEffect, CloseReason, ConnectionFacts, Delivered, Delivery, TlsFacts};
use crate::ids::{AccountId, ConnectionId, EndpointId};
use crate::monitor::{AccountInfo, ConnectionInfo, ServerCounters, SubscriptionInfo};
use crate::outbound::Outbound;
use crate::settings::{BrokerSettings, ServerIdentity};
use crate::timers::Timers;

/// Core messaging of one server.
///
/// The caller feeds bytes and time, and after each batch of inputs takes what came of them:
/// effects, deliveries, interest changes and the connections with bytes to write. The order of
/// calls is the only source of order.
pub struct Broker {
    options: Arc<Options>,
    identity: ServerIdentity,
    random: Random,
    accounts: Accounts,
    timers: Timers,
    effects: Vec<BrokerEffect>,
    deliveries: Vec<Delivery>,
    interest_changes: Vec<(AccountId, Vec<u8>)>,
    dirty: Vec<ConnectionId>,
    counters: ServerCounters,
    scratch: Outbound,
}

impl Broker {
    /// A broker without connections.
    #[must_use]
    pub fn new(_now: Now, settings: BrokerSettings) -> Self {
        Self {
            random: Random::new(settings.random_seed),
            accounts: Accounts::new(&settings.options),
            options: settings.options,
            identity: settings.identity,
            timers: Timers::default(),
            effects: Vec::new(),
            deliveries: Vec::new(),
            interest_changes: Vec::new(),
            dirty: Vec::new(),
            counters: ServerCounters::default(),
            scratch: Outbound::default(),
        }
    }

    // ---- connections

    /// Takes a new connection: queues INFO (unless TLS comes first) and starts its timers.
    /// With TLS configured the effect `UpgradeTls` follows.
    pub fn accept(&mut self, _now: Now, _facts: ConnectionFacts) -> ConnectionId {
        ConnectionId(0)
    }

    /// Handles bytes from a connection; returns how many were taken. What is not taken belongs to
    /// a TLS handshake that was just asked for; in every other case all of `data` is taken.
    pub fn receive(&mut self, _now: Now, _id: ConnectionId, data: &[u8]) -> usize {
        data.len()
    }

    /// The TLS handshake that `UpgradeTls` asked for is done.
    pub fn tls_established(&mut self, _now: Now, _id: ConnectionId, _tls: TlsFacts) {}

    /// The answer to `HashPassword`.
    pub fn password_checked(&mut self, _now: Now, _id: ConnectionId, _matches: bool) {}

    /// The socket is gone, whoever closed it. Must be called once for every accepted connection;
    /// after that the id means nothing. `reason` counts only if the broker had not closed it.
    pub fn closed_by_peer(&mut self, _now: Now, _id: ConnectionId, _reason: CloseReason) {}

    /// What waits to be written; an empty queue for unknown connections.
    pub fn outbound(&mut self, _id: ConnectionId) -> &mut Outbound {
        &mut self.scratch
    }

    /// The socket took no more bytes although some wait: `write_deadline` runs from now, unless it
    /// already does. Progress is seen through [`Outbound::consumed`].
    pub fn write_blocked(&mut self, _now: Now, _id: ConnectionId) {}

    /// Appends the connections that got bytes since the last call, each once.
    pub fn take_dirty(&mut self, out: &mut Vec<ConnectionId>) {
        out.append(&mut self.dirty);
    }

    /// Appends the effects since the last call, in order.
    pub fn take_effects(&mut self, out: &mut Vec<BrokerEffect>) {
        out.append(&mut self.effects);
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, _now: Now) {}

    /// Monotonic time at which [`Self::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.timers.next_deadline()
    }

    // ---- receivers inside the server

    /// Subscribes a receiver inside the server. The same pair twice counts once.
    pub fn bind(&mut self, _account: AccountId, _filter: &[u8], _endpoint: EndpointId) {}

    /// Takes one binding back.
    pub fn unbind(&mut self, _account: AccountId, _filter: &[u8], _endpoint: EndpointId) {}

    /// Appends the messages for receivers inside the server since the last call, in order.
    pub fn take_deliveries(&mut self, out: &mut Vec<Delivery>) {
        out.append(&mut self.deliveries);
    }

    /// Publishes on behalf of the server itself. Reaches clients and bound receivers alike.
    /// `headers` is a whole block through its blank line, or empty.
    pub fn publish(
        &mut self,
        _now: Now,
        _account: AccountId,
        _subject: &[u8],
        _reply: &[u8],
        _headers: &[u8],
        _payload: &[u8],
    ) -> Delivered {
        Delivered::default()
    }

    /// As [`Self::publish`], but recipients are found by `destination` and shown `subject`: a
    /// JetStream delivery goes to an inbox and carries the subject it was stored under.
    pub fn deliver(
        &mut self,
        now: Now,
        account: AccountId,
        destination: &[u8],
        _subject: &[u8],
        reply: &[u8],
        headers: &[u8],
        payload: &[u8],
    ) -> Delivered {
        self.publish(now, account, destination, reply, headers, payload)
    }

    /// As [`Self::publish`], but routed by `destination` while recipients are shown `subject`: a
    /// consumer's delivery reaches an inbox and carries the subject it was stored under.
    #[allow(clippy::too_many_arguments)] // the parts of a message, each borrowed
    pub fn publish_as(
        &mut self,
        _now: Now,
        _account: AccountId,
        _destination: &[u8],
        _subject: &[u8],
        _reply: &[u8],
        _headers: &[u8],
        _payload: &[u8],
    ) -> Delivered {
        Delivered::default()
    }

    /// Whether a message on this literal subject would find a subscription.
    #[must_use]
    pub fn has_interest(&self, _account: AccountId, _subject: &[u8]) -> bool {
        false
    }

    /// Whether a member of this queue group would match a message on this literal subject.
    #[must_use]
    pub fn has_queue_interest(&self, _account: AccountId, _subject: &[u8], _queue: &[u8]) -> bool {
        false
    }

    /// Reports changes of interest in a literal subject from now on; counted per caller.
    pub fn watch_interest(&mut self, _account: AccountId, _subject: &[u8]) {}

    /// Takes one [`Self::watch_interest`] back.
    pub fn unwatch_interest(&mut self, _account: AccountId, _subject: &[u8]) {}

    /// Appends the watched subjects for which a matching subscription came or went.
    pub fn take_interest_changes(&mut self, out: &mut Vec<(AccountId, Vec<u8>)>) {
        out.append(&mut self.interest_changes);
    }

    // ---- accounts

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

    // ---- life of the server

    /// Enters lame duck mode: tells clients, then closes them one by one; `LameDuckDone` follows.
    pub fn lame_duck(&mut self, _now: Now) {}

    /// Closes every connection with the reason `Server Shutdown`, after a flush.
    pub fn shutdown(&mut self, _now: Now) {}

    /// Applies new options to the running broker; what cannot change was refused before.
    pub fn apply_options(&mut self, _now: Now, options: Arc<Options>) {
        self.options = options;
    }

    // ---- monitoring

    /// Counters since the start.
    #[must_use]
    pub const fn counters(&self) -> ServerCounters {
        self.counters
    }

    /// Number of open client connections.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        0
    }

    /// Number of subscriptions of clients and of receivers inside the server.
    #[must_use]
    pub fn subscription_count(&self) -> usize {
        0
    }

    /// Open connections in ascending order of id.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        Vec::new()
    }

    /// One open connection.
    #[must_use]
    pub fn connection(&self, _id: ConnectionId) -> Option<ConnectionInfo> {
        None
    }

    /// Closed connections, oldest first, at most `max_closed_clients`.
    #[must_use]
    pub fn closed_connections(&self) -> Vec<ConnectionInfo> {
        Vec::new()
    }

    /// Subscriptions of one connection, in order of their ids.
    #[must_use]
    pub fn subscriptions_of(&self, _id: ConnectionId) -> Vec<SubscriptionInfo> {
        Vec::new()
    }

    /// All accounts in order of their ids.
    #[must_use]
    pub fn accounts(&self) -> Vec<AccountInfo> {
        Vec::new()
    }

    /// Who this server is.
    #[must_use]
    pub const fn identity(&self) -> &ServerIdentity {
        &self.identity
    }
}
