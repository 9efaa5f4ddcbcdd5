//! The verbs of the client protocol apart from CONNECT (`login.rs`) and PUB (`publish.rs`), and
//! the small answers that all of them share.

use millrace_clock::Now;
use millrace_wire::json::Strictness;
use millrace_wire::{encode, json};

use crate::broker::Broker;
use crate::effects::{BrokerEffect, CloseReason, LogLevel};
use crate::reserved;
use crate::subscription::{Owner, Subscription};

impl Broker {
    pub(crate) fn mark_dirty(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        if !session.is_dirty {
            session.is_dirty = true;
            self.dirty.push(session.id);
        }
    }

    /// Queues protocol bytes of our own; they count against nothing.
    pub(crate) fn send(&mut self, slot: u32, bytes: &[u8]) {
        if let Some(session) = self.sessions.get_mut(slot as usize)
            && !session.is_closed()
        {
            session.outbound.push(bytes, &mut self.chunks);
            self.mark_dirty(slot);
        }
    }

    pub(crate) fn send_error(&mut self, slot: u32, text: &[u8]) {
        if self.is_tracing {
            self.trace(
                slot,
                &format!("->> [-ERR {}]", String::from_utf8_lossy(text)),
            );
        }
        self.send(slot, b"-ERR '");
        self.send(slot, text);
        self.send(slot, b"'\r\n");
    }

    /// `+OK` if the client wants it.
    pub(crate) fn send_ok(&mut self, slot: u32) {
        if self
            .sessions
            .get(slot as usize)
            .is_some_and(|session| session.client.verbose)
        {
            self.send(slot, encode::OK);
            self.trace(slot, "->> [OK]");
        }
    }

    /// A line for the log, prefixed with who the connection is.
    pub(crate) fn log_for(&mut self, slot: u32, level: LogLevel, text: &str) {
        if !self.is_logged(level) {
            return;
        }
        let Some(session) = self.sessions.get(slot as usize) else {
            return;
        };
        let account = session.account.map_or("", |id| self.account_name(id));
        let text = format!("{} - {text}", session.log_prefix(account));
        self.effects.push(BrokerEffect::Log { level, text });
    }

    fn is_logged(&self, level: LogLevel) -> bool {
        match level {
            LogLevel::Trace => self.options.log.trace,
            LogLevel::Debug => self.options.log.debug,
            _ => true,
        }
    }

    pub(crate) fn ping_received(&mut self, now: Now, slot: u32) {
        self.send(slot, encode::PONG);
        self.trace(slot, "->> [PONG]");
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        session.ping.heard_ns = now.monotonic_ns;
        let client = &mut session.client;
        if client.connected && !client.first_ping_answered {
            client.first_ping_answered = true;
            if client.protocol >= 1 {
                self.send_connect_info(slot);
            }
        }
    }

    pub(crate) fn pong_received(&mut self, now: Now, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        let ping = &mut session.ping;
        ping.outstanding = 0;
        if ping.sent_ns > 0 {
            ping.round_trip_ns = now.monotonic_ns.saturating_sub(ping.sent_ns).max(1);
            ping.measured_ns = now.monotonic_ns;
        }
    }

    /// INFO from a client is read and ignored, but it must be JSON.
    pub(crate) fn info_received(&mut self, now: Now, slot: u32, bytes: &[u8]) {
        if json::from_slice::<AnyInfo>(bytes, Strictness::Lenient).is_err() {
            self.close_session(now, slot, CloseReason::ProtocolViolation, true);
        }
    }

    pub(crate) fn subscribe(
        &mut self,
        slot: u32,
        subject: &[u8],
        queue: Option<&[u8]>,
        sid: &[u8],
    ) {
        let Some(session) = self.sessions.get(slot as usize) else {
            return;
        };
        let Some(account) = session.account else {
            return;
        };
        let rules = session.client.permissions.as_deref();
        if queue == Some(reserved::SYSTEM_QUEUE)
            || rules.is_some_and(|rules| !rules.can_subscribe(subject, queue))
        {
            self.subscribe_violation(slot, subject, queue, sid);
            return;
        }
        let deny = rules.and_then(|rules| rules.deny_filter(subject, queue));
        if session.client.subscriptions.len() >= session.max_subscriptions {
            self.send_error(slot, b"maximum subscriptions exceeded");
            return;
        }
        let max_tokens = usize::from(self.options.client.max_subscription_tokens);
        if max_tokens > 0 && millrace_subject::token_count(subject) > max_tokens {
            let text = violation(b"Subscription to ", subject, b", too many tokens");
            self.send_error(slot, &text);
            return;
        }
        if session
            .client
            .subscriptions
            .find(&self.subscriptions, sid)
            .is_none()
        {
            if !millrace_subject::is_valid_filter(subject) {
                self.send_error(slot, b"Invalid Subject");
                return;
            }
            let owner = Owner::Session(slot);
            let mut record = Subscription::new(owner, account, subject, queue, sid);
            record.deny = deny;
            self.add_subscription(record);
        }
        self.send_ok(slot);
    }

    pub(crate) fn unsubscribe(&mut self, slot: u32, sid: &[u8], max: Option<u64>) {
        let Some(session) = self.sessions.get(slot as usize) else {
            return;
        };
        if let Some(key) = session.client.subscriptions.find(&self.subscriptions, sid)
            && let Some(record) = self.subscriptions.get_mut(key)
        {
            match max {
                Some(max) if max > record.delivered => record.max = max,
                _ => self.remove_subscription(key),
            }
        }
        self.send_ok(slot);
    }

    fn subscribe_violation(&mut self, slot: u32, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) {
        let text = subscription_text(subject, queue);
        let mut line = format!("Subscription Violation - Subject {}", quoted(subject));
        if let Some(queue) = queue {
            line.push_str(&format!(", Queue: {}", quoted(queue)));
        }
        line.push_str(&format!(", SID {}", String::from_utf8_lossy(sid)));
        self.send_error(slot, &text);
        self.log_for(slot, LogLevel::Error, &line);
    }

    /// A subscription was removed because permissions changed.
    pub(crate) fn removal_violation(
        &mut self,
        slot: u32,
        subject: &[u8],
        queue: Option<&[u8]>,
        sid: &[u8],
    ) {
        let mut text = subscription_text(subject, queue);
        text.extend_from_slice(b" (sid ");
        text.extend_from_slice(quoted(sid).as_bytes());
        text.push(b')');
        self.send_error(slot, &text);
        let line = format!(
            "Removed sub {} (sid {}) - not authorized",
            quoted(subject),
            quoted(sid)
        );
        self.log_for(slot, LogLevel::Info, &line);
    }

    pub(crate) fn publish_violation(&mut self, slot: u32, subject: &[u8]) {
        self.send_error(slot, &violation(b"Publish to ", subject, b""));
        let line = format!("Publish Violation - Subject {}", quoted(subject));
        self.log_for(slot, LogLevel::Error, &line);
    }

    pub(crate) fn reply_violation(&mut self, slot: u32, reply: &[u8]) {
        self.send_error(slot, &violation(b"Publish with Reply of ", reply, b""));
        let line = format!("Publish Violation - Reply {}", quoted(reply));
        self.log_for(slot, LogLevel::Error, &line);
    }
}

/// `Permissions Violation for WHAT "SUBJECT"END`.
fn violation(what: &[u8], subject: &[u8], end: &[u8]) -> Vec<u8> {
    let mut text = b"Permissions Violation for ".to_vec();
    text.extend_from_slice(what);
    text.extend_from_slice(quoted(subject).as_bytes());
    text.extend_from_slice(end);
    text
}

fn subscription_text(subject: &[u8], queue: Option<&[u8]>) -> Vec<u8> {
    let mut text = violation(b"Subscription to ", subject, b"");
    if let Some(queue) = queue {
        text.extend_from_slice(b" using queue ");
        text.extend_from_slice(quoted(queue).as_bytes());
    }
    text
}

/// A subject or queue in double quotes, escaped as Go does.
fn quoted(text: &[u8]) -> String {
    millrace_wire::quote::quoted(text)
}

/// INFO from a client: any JSON object.
#[derive(serde::Deserialize)]
struct AnyInfo {}
