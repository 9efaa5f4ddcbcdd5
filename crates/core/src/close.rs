//! How a session ends: subscriptions go, timers stop, monitoring remembers it, the host closes
//! the socket. Why it ends is decided by the callers.

use millrace_clock::Now;

use crate::broker::Broker;
use crate::effects::{BrokerEffect, CloseReason, LogLevel};
use crate::ids::ConnectionId;
use crate::monitor::SessionEvent;
use crate::session::Phase;
use crate::timers::TimerKind;

impl Broker {
    /// Ends a session and asks the host to close its socket, after what waits is written or not.
    pub(crate) fn close_session(
        &mut self,
        now: Now,
        slot: u32,
        reason: CloseReason,
        after_flush: bool,
    ) {
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        if session.is_closed() {
            return;
        }
        let id = session.id;
        self.end_session(now, slot, reason);
        if let Some(session) = self.sessions.get_mut(slot as usize)
            && !after_flush
        {
            session.outbound.clear();
        }
        self.effects.push(BrokerEffect::CloseConnection {
            id,
            after_flush,
            reason,
        });
    }

    /// The broker's side of an end; the socket may already be gone.
    pub(crate) fn end_session(&mut self, now: Now, slot: u32, reason: CloseReason) {
        self.log_for(
            slot,
            LogLevel::Debug,
            &format!("Client connection closed: {}", reason.text()),
        );
        if let Some(mut info) = self.connection_info(slot) {
            info.stopped = Some((now, reason));
            if self.is_watched() {
                let boxed = Box::new(info.clone());
                if reason == CloseReason::AuthenticationViolation {
                    self.session_events
                        .push(SessionEvent::Refused(boxed.clone()));
                }
                self.session_events.push(SessionEvent::Disconnected(boxed));
            }
            let limit = self.options.client.max_closed_clients;
            while self.closed.len() >= limit.max(1) {
                self.closed.pop_front();
            }
            if limit > 0 {
                self.closed.push_back(info);
            }
        }
        self.forget_question(slot);
        self.drop_subscriptions(slot);
        self.unbind_account(slot);
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        session.phase = Phase::Closed;
        session.close_reason = Some(reason);
        session.partial = bytes::BytesMut::new();
        session.incoming = None;
        session.client = crate::client::Client::default();
        let timers = &mut session.timers;
        self.timers
            .cancel(slot, TimerKind::Authentication, &mut timers.authentication);
        self.timers.cancel(slot, TimerKind::Ping, &mut timers.ping);
        self.timers
            .cancel(slot, TimerKind::Write, &mut timers.write);
        self.timers
            .cancel(slot, TimerKind::Expiry, &mut timers.expiry);
        self.open_sessions -= 1;
    }

    /// A receiver has more than `max_pending` bytes waiting: cut at once, nothing is flushed.
    pub(crate) fn cut_slow_consumer(&mut self, now: Now, slot: u32) {
        self.count_slow_consumer(slot);
        let text = format!(
            "Slow Consumer Detected: MaxPending of {} Exceeded",
            self.max_pending
        );
        self.log_for(slot, LogLevel::Info, &text);
        self.close_session(now, slot, CloseReason::SlowConsumerPendingBytes, false);
    }

    pub(crate) fn count_slow_consumer(&mut self, slot: u32) {
        self.counters.slow_consumers += 1;
        let account = self
            .sessions
            .get(slot as usize)
            .and_then(|session| session.account);
        if let Some(account) = account.and_then(|id| self.accounts.get_mut(id)) {
            account.counters.slow_consumers += 1;
        }
    }

    /// Sends an `-ERR` and closes after it is written.
    pub(crate) fn fail(&mut self, now: Now, slot: u32, text: &[u8], reason: CloseReason) {
        self.send_error(slot, text);
        self.close_session(now, slot, reason, true);
    }

    /// Closes a client's connection on an operator's request. False if there is none of this id.
    pub fn kick(&mut self, now: Now, id: ConnectionId, reason: CloseReason) -> bool {
        let Some(slot) = self.slot_of(id) else {
            return false;
        };
        self.close_session(now, slot, reason, true);
        true
    }

    /// Closes every connection with the reason `Server Shutdown`, after a flush.
    pub fn shutdown(&mut self, now: Now) {
        self.is_stopping = true;
        self.lame_duck = None;
        let slots: Vec<u32> = self.sessions.iter().map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            self.close_session(now, slot, CloseReason::ServerShutdown, true);
        }
    }
}
