//! What happens when a deadline passes: PING and stale connections, late logins, stalled writes.

use millrace_auth::{Expiry, Rejection};
use millrace_clock::Now;
use millrace_config::options::WriteTimeout;
use millrace_wire::encode;

use crate::broker::Broker;
use crate::effects::{CloseReason, LogLevel};
use crate::limits::{FIRST_PING_NS, ROUND_TRIP_VALID_NS};
use crate::session::Phase;
use crate::timers::TimerKind;

impl Broker {
    /// Does what is due at `now`.
    pub fn tick(&mut self, now: Now) {
        while let Some((slot, kind)) = self.timers.pop_due(now.monotonic_ns) {
            let Some(session) = self.sessions.get_mut(slot as usize) else {
                continue;
            };
            match kind {
                TimerKind::Authentication => {
                    session.timers.authentication = None;
                    self.authentication_late(now, slot);
                }
                TimerKind::Ping => {
                    session.timers.ping = None;
                    self.ping_due(now, slot);
                }
                TimerKind::Write => {
                    session.timers.write = None;
                    self.write_due(now, slot);
                }
                TimerKind::Expiry => {
                    session.timers.expiry = None;
                    self.expiry_due(now, slot);
                }
            }
        }
        self.expire_responses(now);
        self.drop_lost_replies(now);
        self.advance_lame_duck(now);
    }

    fn authentication_late(&mut self, now: Now, slot: u32) {
        let Some(session) = self.sessions.get(slot as usize) else {
            return;
        };
        match session.phase {
            Phase::Handshake => {
                self.send_error(slot, b"Secure Connection - TLS Required");
                self.close_session(now, slot, CloseReason::TlsHandshakeError, true);
            }
            Phase::AwaitingConnect | Phase::Undecided => {
                self.fail(
                    now,
                    slot,
                    b"Authentication Timeout",
                    CloseReason::AuthenticationTimeout,
                );
            }
            Phase::Hashing if session.client.asking.is_some() => {
                self.reject(now, slot, &Rejection::default());
            }
            Phase::Hashing | Phase::Open | Phase::Closed => {}
        }
    }

    /// Sets the timer of the moment at which the client must leave, or none.
    pub(crate) fn set_expiry(&mut self, now: Now, slot: u32, expires: Option<Expiry>) {
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        session.client.expires = expires.map(Box::new);
        let note = &mut session.timers.expiry;
        match expires {
            Some(expiry) => {
                let left_ns = expiry.at_wall_ns.saturating_sub(now.wall_ns);
                let deadline_ns = now.after_ns(u64::try_from(left_ns).unwrap_or(0));
                self.timers.set(slot, TimerKind::Expiry, note, deadline_ns);
            }
            None => self.timers.cancel(slot, TimerKind::Expiry, note),
        }
    }

    fn expiry_due(&mut self, now: Now, slot: u32) {
        let Some(session) = self.sessions.get(slot as usize) else {
            return;
        };
        let Some(expiry) = session.client.expires.as_deref().copied() else {
            return;
        };
        if expiry.at_wall_ns > now.wall_ns {
            // The wall clock was set back meanwhile.
            self.set_expiry(now, slot, Some(expiry));
            return;
        }
        let text: &[u8] = if expiry.is_account {
            b"Account Authentication Expired"
        } else {
            b"User Authentication Expired"
        };
        self.fail(now, slot, text, CloseReason::AuthenticationExpired);
    }

    /// After a login the first PING comes early, so that the round trip is known.
    pub(crate) fn set_first_ping(&mut self, now: Now, slot: u32) {
        let interval_ns = self.ping_interval_ns(self.kind_of(slot)).min(FIRST_PING_NS);
        let jitter_ns = self.random.below(interval_ns / 5);
        self.set_ping_timer(slot, now.after_ns(interval_ns + jitter_ns));
    }

    fn set_ping_timer(&mut self, slot: u32, deadline_ns: u64) {
        if let Some(session) = self.sessions.get_mut(slot as usize) {
            self.timers
                .set(slot, TimerKind::Ping, &mut session.timers.ping, deadline_ns);
        }
    }

    fn ping_due(&mut self, now: Now, slot: u32) {
        let interval_ns = self.ping_interval_ns(self.kind_of(slot));
        let ping_max = self.options.client.ping_max;
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        if session.is_closed() {
            return;
        }
        // Traffic from the peer stands for an answer, as long as the round trip is known.
        let is_fresh = session.ping.heard_ns > 0
            && now.monotonic_ns.saturating_sub(session.ping.heard_ns) < interval_ns;
        if !is_fresh {
            // An idle connection keeps as little as it can.
            session.client.cache = None;
        }
        let is_measured = session.ping.measured_ns > 0
            && now.monotonic_ns.saturating_sub(session.ping.measured_ns) < ROUND_TRIP_VALID_NS;
        if !(is_fresh && is_measured) {
            if session.ping.outstanding + 1 > ping_max {
                self.counters.stale_connections += 1;
                self.log_for(slot, LogLevel::Debug, "Stale Client Connection - Closing");
                self.fail(now, slot, b"Stale Connection", CloseReason::StaleConnection);
                return;
            }
            session.ping.outstanding += 1;
            session.ping.sent_ns = now.monotonic_ns;
            self.send(slot, encode::PING);
            self.trace(slot, "->> [PING]");
        }
        self.set_ping_timer(slot, now.after_ns(interval_ns));
    }

    fn write_due(&mut self, now: Now, slot: u32) {
        let deadline_ns = self.options.client.write_deadline_ns;
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        let out = &session.outbound;
        if out.is_empty() || session.is_closed() {
            return;
        }
        if out.written_total() >= session.write_mark {
            session.write_mark = out.written_total() + out.pending() as u64;
            let note = &mut session.timers.write;
            self.timers
                .set(slot, TimerKind::Write, note, now.after_ns(deadline_ns));
            return;
        }
        let (chunks, bytes) = (out.chunk_count(), out.pending());
        let deadline = millrace_clock::go_duration::format(deadline_ns as i64);
        let text = format!(
            "Slow Consumer Detected: WriteDeadline of {deadline} exceeded with {chunks} chunks of \
             {bytes} total bytes."
        );
        self.log_for(slot, LogLevel::Info, &text);
        self.count_slow_consumer(slot);
        if self.options.client.write_timeout == WriteTimeout::Retry {
            // Kept as it is: it gets another deadline, and `max_pending` still holds.
            if let Some(session) = self.sessions.get_mut(slot as usize) {
                let note = &mut session.timers.write;
                self.timers
                    .set(slot, TimerKind::Write, note, now.after_ns(deadline_ns));
            }
            return;
        }
        self.close_session(now, slot, CloseReason::SlowConsumerWriteDeadline, false);
    }
}
