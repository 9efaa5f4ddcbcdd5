//! What every connection has, whatever it speaks: identity, outbound queue, unparsed input,
//! timers, counters. The verbs belong to the peer inside (`client.rs`).

use std::sync::Arc;

use bytes::BytesMut;
use millrace_clock::Now;
use millrace_wire::client::Parser;

use crate::client::Client;
use crate::effects::{CloseReason, ConnectionFacts, TlsFacts};
use crate::ids::{AccountId, ConnectionId};
use crate::outbound::Outbound;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Bytes belong to a TLS handshake.
    Handshake,
    /// With `allow_non_tls`: the first byte decides between TLS and plain text.
    Undecided,
    /// Must send CONNECT with valid credentials first.
    AwaitingConnect,
    /// A password is being compared; input waits.
    Hashing,
    /// May do everything.
    Open,
    /// Ended for the broker; only the socket is still there.
    Closed,
}

/// Notes of the deadlines that stand in the broker's timers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SessionTimers {
    pub(crate) authentication: Option<u64>,
    pub(crate) ping: Option<u64>,
    pub(crate) write: Option<u64>,
    pub(crate) expiry: Option<u64>,
}

/// PING and PONG of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PingState {
    /// PINGs sent and not answered.
    pub(crate) outstanding: u32,
    /// Monotonic time at which the last PING left; zero for never.
    pub(crate) sent_ns: u64,
    /// Monotonic time at which the round trip was last measured; zero for never.
    pub(crate) measured_ns: u64,
    /// The last round trip.
    pub(crate) round_trip_ns: u64,
    /// Monotonic time of the last PING, message or subscription from the peer; zero for never.
    pub(crate) heard_ns: u64,
}

/// Traffic of one connection, in messages and bytes of headers and payloads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SessionCounters {
    pub(crate) in_msgs: u64,
    pub(crate) in_bytes: u64,
    pub(crate) out_msgs: u64,
    pub(crate) out_bytes: u64,
    pub(crate) stalls: u64,
}

/// A message with a big payload that is not whole yet, in memory of its own.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Initialised and at least as long as the message.
    pub(crate) block: BytesMut,
    pub(crate) filled: usize,
    /// Length of the whole message with its control line and line end.
    pub(crate) wanted: usize,
}

impl Incoming {
    /// Where the bytes that lack belong.
    pub(crate) fn lacking(&mut self) -> &mut [u8] {
        self.block
            .get_mut(self.filled..self.wanted)
            .unwrap_or_default()
    }
}

/// One connection.
pub(crate) struct Session {
    pub(crate) id: ConnectionId,
    pub(crate) facts: ConnectionFacts,
    pub(crate) phase: Phase,
    pub(crate) account: Option<AccountId>,
    /// Whether it already stands in the broker's list of connections with bytes to flush.
    pub(crate) is_dirty: bool,
    /// The socket was full when last written to, and what waited then still does.
    pub(crate) is_blocked: bool,
    pub(crate) outbound: Outbound,
    /// The beginning of an operation whose end has not come yet. Empty between operations.
    pub(crate) partial: BytesMut,
    /// The beginning of a message with a big payload; then `partial` is empty.
    pub(crate) incoming: Option<Box<Incoming>>,
    /// Bytes that `partial` lacks at least, as the parser said.
    pub(crate) needed: usize,
    pub(crate) parser: Parser,
    pub(crate) timers: SessionTimers,
    pub(crate) ping: PingState,
    pub(crate) counters: SessionCounters,
    pub(crate) started: Now,
    pub(crate) last_activity: Now,
    /// Value of `Outbound::written_total` that must be reached by the write deadline.
    pub(crate) write_mark: u64,
    /// Largest header plus payload it may publish.
    pub(crate) max_payload: usize,
    /// Most subscriptions; `usize::MAX` for no limit.
    pub(crate) max_subscriptions: usize,
    pub(crate) tls: Option<Box<TlsFacts>>,
    /// Nonce of INFO; empty when none was sent.
    pub(crate) nonce: Box<[u8]>,
    pub(crate) user: Arc<str>,
    pub(crate) close_reason: Option<CloseReason>,
    pub(crate) client: Client,
}

impl Session {
    pub(crate) fn new(now: Now, id: ConnectionId, facts: ConnectionFacts) -> Self {
        Self {
            id,
            facts,
            phase: Phase::Open,
            account: None,
            is_dirty: false,
            is_blocked: false,
            outbound: Outbound::default(),
            partial: BytesMut::new(),
            incoming: None,
            needed: 0,
            parser: Parser::new(),
            timers: SessionTimers::default(),
            ping: PingState::default(),
            counters: SessionCounters::default(),
            started: now,
            last_activity: now,
            write_mark: 0,
            max_payload: usize::MAX,
            max_subscriptions: usize::MAX,
            tls: None,
            nonce: Box::default(),
            user: Arc::from(""),
            close_reason: None,
            client: Client::default(),
        }
    }

    /// Notes traffic from the peer: it stands for an answer to a PING.
    pub(crate) fn note_input(&mut self, now: Now) {
        self.last_activity = now;
        self.ping.heard_ns = now.monotonic_ns;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }
}

#[cfg(test)]
mod tests {
    use super::Session;
    use crate::subscription::Subscription;

    /// What a connection and a subscription cost at rest, apart from their texts.
    #[test]
    fn idle_connections_and_subscriptions_stay_small() {
        let (session, subscription) = (size_of::<Session>(), size_of::<Subscription>());
        assert!(session <= 720, "{session} bytes per connection");
        assert!(subscription <= 80, "{subscription} bytes per subscription");
    }
}
