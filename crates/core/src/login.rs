//! CONNECT: from credentials to an account, with its limits and permissions. Who may log in is
//! decided by `millrace_auth`; comparing bcrypt hashes is left to the host.

use millrace_auth::{Credentials, Decision, Facts, HashCheck, Identity, ProxyProblem, Rejection};
use millrace_clock::Now;
use millrace_config::options::ConnectionType;
use millrace_wire::info::ConnectOptions;

use crate::broker::Broker;
use crate::client::Hashing;
use crate::connect;
use crate::effects::{
    BrokerEffect, CloseReason, ConnectionKind, LogLevel, TlsFacts, WebsocketFacts,
};
use crate::ids::{AccountId, ConnectionId};
use crate::monitor::SessionEvent;
use crate::publish::Source;
use crate::session::{Phase, Session};
use crate::timers::TimerKind;

/// Highest value of `protocol` in CONNECT.
const PROTOCOL_MAX: i64 = 1;

impl Broker {
    pub(crate) fn connect(&mut self, now: Now, slot: u32, json: &[u8]) {
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        let mut options = session.client.options.take().unwrap_or_default();
        let parsed = connect::apply(&mut options, json);
        session.last_activity = now;
        if session.ping.round_trip_ns == 0 {
            // A first estimate; the first PING measures.
            let since_accept_ns = now
                .monotonic_ns
                .saturating_sub(session.started.monotonic_ns);
            session.ping.round_trip_ns = since_accept_ns.max(1);
        }
        let note = &mut session.timers.authentication;
        self.timers.cancel(slot, TimerKind::Authentication, note);
        if parsed.is_err() {
            self.close_session(now, slot, CloseReason::ProtocolViolation, true);
            return;
        }
        let client = &mut session.client;
        client.verbose = options.verbose;
        client.pedantic = options.pedantic;
        client.echo = options.echo;
        client.headers = options.headers && !self.options.client.no_header_support;
        client.no_responders = options.no_responders;
        client.protocol = options.protocol;
        client.options = Some(options);
        client.cache = None;
        self.drop_subscriptions(slot);
        self.authenticate(now, slot);
    }

    fn authenticate(&mut self, now: Now, slot: u32) {
        let Some(session) = self.sessions.get(slot as usize) else {
            return;
        };
        let Some(options) = &session.client.options else {
            return;
        };
        let names_account = !options.account.is_empty() || options.new_account;
        match judge(now, self.rules(session.facts.kind), session, options) {
            _ if names_account => self.reject(now, slot, &Rejection::default()),
            Decision::Accept(identity) => self.admit(now, slot, &identity),
            Decision::Reject(rejection) => self.reject(now, slot, &rejection),
            Decision::NeedHash(check) => self.ask_for_hash(slot, check),
            Decision::Ask(callout) => self.ask_outside(now, slot, *callout),
        }
    }

    fn ask_for_hash(&mut self, slot: u32, check: Box<HashCheck>) {
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        session.phase = Phase::Hashing;
        let identity = check.identity.clone();
        session.client.hashing = Some(Box::new(Hashing {
            identity,
            is_reload: false,
        }));
        self.effects.push(BrokerEffect::HashPassword {
            id: session.id,
            check,
        });
    }

    /// The answer to `HashPassword`.
    pub fn password_checked(&mut self, now: Now, id: ConnectionId, matches: bool) {
        let Some(slot) = self.slot_of(id) else { return };
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        if session.phase != Phase::Hashing {
            return;
        }
        let Some(hashing) = session.client.hashing.take() else {
            return;
        };
        let Hashing {
            identity,
            is_reload,
        } = *hashing;
        session.phase = Phase::AwaitingConnect;
        if !matches {
            let who = match &*identity.user {
                "" => String::new(),
                user => format!("User \"{user}\""),
            };
            self.reject(
                now,
                slot,
                &Rejection {
                    who,
                    ..Rejection::default()
                },
            );
            return;
        }
        if is_reload {
            self.readmit(now, slot, &identity);
        } else {
            self.admit(now, slot, &identity);
        }
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        let waiting = std::mem::take(&mut session.partial);
        self.consume(now, slot, &waiting, Source::Borrowed);
    }

    /// An operation came before CONNECT although logins are required: `no_auth_user` may stand in.
    /// False if the connection was closed.
    pub(crate) fn login_without_connect(&mut self, now: Now, slot: u32) -> bool {
        let Some(session) = self.sessions.get(slot as usize) else {
            return false;
        };
        let nothing = ConnectOptions::default();
        let decision = if self.rules(session.facts.kind).announces_required() {
            Decision::Reject(Rejection::default())
        } else {
            judge(now, self.rules(session.facts.kind), session, &nothing)
        };
        match decision {
            Decision::Accept(identity) => self.bind_identity(now, slot, &identity),
            _ => {
                self.reject(now, slot, &Rejection::default());
                false
            }
        }
    }

    pub(crate) fn reject(&mut self, now: Now, slot: u32, rejection: &Rejection) {
        if !rejection.reason.is_empty() {
            self.log_for(slot, LogLevel::Debug, &rejection.reason);
        }
        let line = match &*rejection.who {
            "" => "authentication error".to_owned(),
            who => format!("authentication error - {who}"),
        };
        self.log_for(slot, LogLevel::Error, &line);
        let reason = match rejection.proxy {
            Some(ProxyProblem::NotTrusted) => CloseReason::ProxyNotTrusted,
            Some(ProxyProblem::Required) => CloseReason::ProxyRequired,
            None => CloseReason::AuthenticationViolation,
        };
        self.fail(now, slot, b"Authorization Violation", reason);
    }

    pub(crate) fn admit(&mut self, now: Now, slot: u32, identity: &Identity) {
        if !self.bind_identity(now, slot, identity) {
            return;
        }
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        let client = &mut session.client;
        client.connected = true;
        if !(0..=PROTOCOL_MAX).contains(&client.protocol) {
            let reason = CloseReason::BadClientProtocolVersion;
            self.fail(now, slot, b"invalid client protocol", reason);
            return;
        }
        if client.no_responders && !client.headers {
            let reason = CloseReason::NoRespondersRequiresHeaders;
            self.fail(now, slot, b"no responders requires headers support", reason);
            return;
        }
        self.send_ok(slot);
        self.set_first_ping(now, slot);
        if self.is_watched()
            && let Some(info) = self.connection_info(slot)
        {
            self.session_events
                .push(SessionEvent::Connected(Box::new(info)));
        }
    }

    /// Gives the session its account, permissions and limits. False if that closed it.
    pub(crate) fn bind_identity(&mut self, now: Now, slot: u32, identity: &Identity) -> bool {
        let account = self.accounts.find_or_add(&identity.account);
        self.bind_account(slot, account);
        let limits = self.account_limits(&identity.account);
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return false;
        };
        session.phase = Phase::Open;
        session.user = identity.user.clone();
        session.client.permissions = identity.permissions.clone();
        session.client.permits = None;
        session.client.cache = None;
        let payload = limits.payload.min(limit(identity.limits.max_payload));
        session.max_payload = self.options.client.max_payload.min(payload);
        let configured = crate::broker::limit_or_max(self.options.client.max_subscriptions);
        session.max_subscriptions = configured
            .min(limits.subscriptions)
            .min(limit(identity.limits.max_subscriptions));
        let note = &mut session.timers.authentication;
        self.timers.cancel(slot, TimerKind::Authentication, note);
        let bound = self
            .accounts
            .get(account)
            .map_or(0, |account| account.counters.connections);
        if bound > limits.connections {
            let reason = CloseReason::MaxAccountConnectionsExceeded;
            self.fail(
                now,
                slot,
                b"maximum account active connections exceeded",
                reason,
            );
            return false;
        }
        self.set_expiry(now, slot, identity.expires);
        true
    }

    pub(crate) fn bind_account(&mut self, slot: u32, account_id: AccountId) {
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        if session.account == Some(account_id) {
            return;
        }
        self.unbind_account(slot);
        if let Some(account) = self.accounts.get_mut(account_id) {
            account.counters.connections += 1;
            account.counters.total_connections += 1;
        }
        if let Some(session) = self.sessions.get_mut(slot as usize) {
            session.account = Some(account_id);
        }
    }

    pub(crate) fn unbind_account(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        if let Some(account) = session
            .account
            .take()
            .and_then(|id| self.accounts.get_mut(id))
        {
            account.counters.connections = account.counters.connections.saturating_sub(1);
        }
    }

    fn account_limits(&self, name: &str) -> Limits {
        let configured = self
            .options
            .accounts
            .iter()
            .find(|account| account.name == name);
        configured.map_or(Limits::NONE, |account| Limits {
            connections: limit(account.limits.max_connections),
            subscriptions: limit(account.limits.max_subscriptions),
            payload: limit(account.limits.max_payload),
        })
    }

    /// The TLS handshake that `UpgradeTls` asked for is done.
    pub fn tls_established(&mut self, now: Now, id: ConnectionId, tls: TlsFacts) {
        let Some(slot) = self.slot_of(id) else { return };
        let kind = self.kind_of(slot);
        let must_authenticate = self.rules(kind).is_required();
        let timeout_ns = self.login_timeout_ns(kind);
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        session.tls = Some(Box::new(tls));
        if session.phase != Phase::Handshake {
            return;
        }
        session.phase = session.phase_before_login(must_authenticate);
        if must_authenticate {
            self.set_login_timer(now, slot, timeout_ns);
        } else {
            let note = &mut session.timers.authentication;
            self.timers.cancel(slot, TimerKind::Authentication, note);
        }
    }
}

/// Negative means no limit, which is what the conversion fails on.
fn limit(value: i64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// What an account allows each of its connections, and how many of them.
struct Limits {
    connections: usize,
    subscriptions: usize,
    payload: usize,
}

impl Limits {
    const NONE: Self = Self {
        connections: usize::MAX,
        subscriptions: usize::MAX,
        payload: usize::MAX,
    };
}

/// What the rules say to the credentials a client has given so far.
pub(crate) fn judge(
    now: Now,
    authenticator: &millrace_auth::Authenticator,
    session: &Session,
    options: &ConnectOptions,
) -> Decision {
    fn given(text: &str) -> Option<&str> {
        (!text.is_empty()).then_some(text)
    }
    let cookies = session.facts.websocket.as_deref();
    let or = |text, cookie: fn(&WebsocketFacts) -> &str| {
        given(text).or_else(|| cookies.and_then(|cookies| given(cookie(cookies))))
    };
    let credentials = Credentials {
        user: or(&options.user, |cookies| &cookies.user),
        password: or(&options.pass, |cookies| &cookies.password),
        token: or(&options.auth_token, |cookies| &cookies.token),
        nkey: given(&options.nkey),
        signature: given(&options.sig),
        jwt: or(&options.jwt, |cookies| &cookies.jwt),
        proxy_signature: given(&options.proxy_sig),
    };
    authenticator.start(&credentials, &facts_of(now, session))
}

/// What the server knows of a connection.
pub(crate) fn facts_of(now: Now, session: &Session) -> Facts<'_> {
    let connection_type = match session.facts.kind {
        ConnectionKind::Client => ConnectionType::Standard,
        ConnectionKind::InProcess => ConnectionType::InProcess,
        ConnectionKind::Websocket => ConnectionType::Websocket,
    };
    let tls_identities = session.tls.as_ref().map_or(&[][..], |tls| &tls.identities);
    Facts {
        connection_type,
        nonce: &session.nonce,
        tls_identities,
        peer_ip: session.facts.peer_ip,
        now_wall_ns: now.wall_ns,
    }
}
