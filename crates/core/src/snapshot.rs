//! Fills the snapshots of `monitor.rs` from the broker's state.

use crate::broker::Broker;
use crate::ids::{AccountId, ConnectionId};
use crate::monitor::{AccountInfo, ConnectionInfo, ServerCounters, SubscriptionInfo};
use crate::session::Session;
use crate::subscription::{Owner, Subscription};

impl Broker {
    /// Counters since the start.
    #[must_use]
    pub const fn counters(&self) -> ServerCounters {
        self.counters
    }

    /// Number of open client connections.
    #[must_use]
    pub const fn connection_count(&self) -> usize {
        self.open_sessions
    }

    /// Number of subscriptions of clients and of receivers inside the server.
    #[must_use]
    pub fn subscription_count(&self) -> usize {
        self.subscriptions.len()
    }

    /// Open connections in ascending order of id.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        let open = self
            .sessions
            .iter()
            .filter(|(_, session)| !session.is_closed());
        let mut infos: Vec<_> = open
            .map(|(_, session)| self.session_info(session))
            .collect();
        infos.sort_unstable_by_key(|info| info.id);
        infos
    }

    /// One open connection.
    #[must_use]
    pub fn connection(&self, id: ConnectionId) -> Option<ConnectionInfo> {
        let session = self.sessions.get(self.slot_of(id)? as usize)?;
        (!session.is_closed()).then(|| self.session_info(session))
    }

    pub(crate) fn connection_info(&self, slot: u32) -> Option<ConnectionInfo> {
        Some(self.session_info(self.sessions.get(slot as usize)?))
    }

    /// Closed connections, oldest first, at most `max_closed_clients`.
    #[must_use]
    pub fn closed_connections(&self) -> Vec<ConnectionInfo> {
        self.closed.iter().cloned().collect()
    }

    /// Subscriptions of one connection in ascending order of creation slots.
    #[must_use]
    pub fn subscriptions_of(&self, id: ConnectionId) -> Vec<SubscriptionInfo> {
        let Some(session) = self
            .slot_of(id)
            .and_then(|slot| self.sessions.get(slot as usize))
        else {
            return Vec::new();
        };
        let keys = session.client.subscriptions.keys();
        let records = keys
            .into_iter()
            .filter_map(|key| self.subscriptions.get(key));
        records
            .filter_map(|record| self.subscription_info(record))
            .collect()
    }

    /// All subscriptions of clients.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<SubscriptionInfo> {
        let records = self.subscriptions.iter();
        records
            .filter_map(|(_, record)| self.subscription_info(record))
            .collect()
    }

    /// All accounts in order of their ids.
    #[must_use]
    pub fn accounts(&self) -> Vec<AccountInfo> {
        self.accounts
            .iter()
            .map(|(id, account)| account_info(id, account))
            .collect()
    }

    fn session_info(&self, session: &Session) -> ConnectionInfo {
        let options = session.client.options.as_deref();
        let text = |value: Option<&String>| value.cloned().unwrap_or_default();
        ConnectionInfo {
            id: session.id,
            kind: session.facts.kind,
            ip: session.facts.shown_ip(),
            port: session.facts.peer_port,
            started: session.started,
            last_activity: session.last_activity,
            stopped: None,
            round_trip_ns: session.ping.round_trip_ns,
            pending_bytes: session.outbound.pending(),
            in_msgs: session.counters.in_msgs,
            in_bytes: session.counters.in_bytes,
            out_msgs: session.counters.out_msgs,
            out_bytes: session.counters.out_bytes,
            stalls: session.counters.stalls,
            subscriptions: session.client.subscriptions.len(),
            name: text(options.map(|options| &options.name)),
            lang: text(options.map(|options| &options.lang)),
            version: text(options.map(|options| &options.version)),
            authorized_user: session.claimed_user(),
            account: session.account,
            account_name: session
                .account
                .map_or("", |id| self.account_name(id))
                .to_owned(),
            tls: session.tls.as_deref().cloned(),
        }
    }

    fn subscription_info(&self, record: &Subscription) -> Option<SubscriptionInfo> {
        let Owner::Session(slot) = record.owner else {
            return None;
        };
        let session = self.sessions.get(slot as usize)?;
        Some(SubscriptionInfo {
            id: session.id,
            account: record.account,
            subject: record.filter().to_vec(),
            queue: record.queue().unwrap_or_default().to_vec(),
            sid: record.sid().to_vec(),
            delivered: record.delivered,
            max: record.max,
        })
    }
}

fn account_info(id: AccountId, account: &crate::account::Account) -> AccountInfo {
    let counters = &account.counters;
    AccountInfo {
        id,
        name: account.name.clone(),
        connections: counters.connections,
        total_connections: counters.total_connections,
        subscriptions: account.interest.len(),
        sent_msgs: counters.sent_msgs,
        sent_bytes: counters.sent_bytes,
        received_msgs: counters.received_msgs,
        received_bytes: counters.received_bytes,
        slow_consumers: counters.slow_consumers,
    }
}

impl Session {
    /// Who the client claims to be, in the login or, without one, in CONNECT.
    pub(crate) fn claimed_user(&self) -> String {
        let Some(options) = self.client.options.as_deref() else {
            return self.user.to_string();
        };
        match (&*options.nkey, &*options.user, &*options.auth_token) {
            ("", "", "") => self.user.to_string(),
            ("", "", _) => "[REDACTED]".to_owned(),
            ("", user, _) => user.to_owned(),
            (nkey, ..) => nkey.to_owned(),
        }
    }

    /// How log lines begin: `IP:PORT - cid:N`, and once it is logged in who it says it is.
    pub(crate) fn log_prefix(&self, account: &str) -> String {
        use std::fmt::Write as _;
        let mut prefix = match self.facts.peer_ip {
            Some(core::net::IpAddr::V6(ip)) => format!("[{ip}]:{}", self.facts.peer_port),
            Some(ip) => format!("{ip}:{}", self.facts.peer_port),
            None => "pipe".to_owned(),
        };
        // Writing to a String cannot fail.
        let _ = write!(prefix, " - cid:{}", self.id.0);
        let options = self.client.options.as_deref();
        let Some(options) = options.filter(|_| self.client.connected) else {
            return prefix;
        };
        let version = match &*options.version {
            "" => String::new(),
            version => format!("v{version}"),
        };
        let parts = [&*version, &options.lang, &options.name];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        if !parts.is_empty() {
            let _ = write!(prefix, " - \"{}\"", parts.join(":"));
        }
        let who = match (&*options.nkey, &*options.user, &*options.auth_token) {
            ("", "", "") => String::new(),
            ("", "", _) => "token".to_owned(),
            ("", user, _) => format!("user:{user}"),
            (nkey, ..) => format!("nkey:{nkey}"),
        };
        if !who.is_empty() {
            let _ = write!(prefix, " - \"{account}/{who}\"");
        }
        prefix
    }
}
