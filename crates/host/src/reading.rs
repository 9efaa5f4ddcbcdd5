//! From sockets to the broker: accepting, reading, decrypting, and the timers of sockets.

use crate::connection::{Connection, Phase};
use crate::event_loop::{EventLoop, FIRST_CONNECTION, Stage};
use crate::limits::{
    ACCEPT_PAUSE_MAX_NS, ACCEPT_PAUSE_MIN_NS, CONNECTION_READ_BYTES, READ_BUFFER_MAX,
    READ_SHARE_OF_PENDING, STRANGERS_MAX, STRANGERS_MIN, STRANGERS_PAUSE_NS, TURN_ACCEPTS,
    TURN_READ_BYTES,
};
use crate::logger::Level;
use crate::tls::Session;
use bytes::BytesMut;
use millrace_clock::Now;
use millrace_config::options::HandshakeMode;
use millrace_core::{CloseReason, ConnectionFacts, ConnectionId, ConnectionKind};
use mio::net::TcpStream;
use mio::{Interest, Token};
use std::cmp::Reverse;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;

/// Sent instead of a handshake beyond `connection_rate_limit`.
const THROTTLED: &[u8] = b"-ERR 'Connection throttling is active. Please try again later.'\r\n";
/// First byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

impl EventLoop {
    /// Takes waiting connections, unless accepting failed a moment ago.
    pub(crate) fn accept(&mut self, now: Now) {
        if self.stage == Stage::Serving {
            self.accept_at(now, false);
            self.accept_at(now, true);
        }
    }

    /// How many connections may be on their way to the broker: as many as it would take, and a few
    /// that it will refuse.
    fn strangers_max(&mut self) -> usize {
        let limit = self.node.options().client.max_connections;
        let Ok(limit) = usize::try_from(limit) else {
            return STRANGERS_MAX;
        };
        let open = self.node.broker().connection_count();
        limit
            .saturating_sub(open)
            .clamp(STRANGERS_MIN, STRANGERS_MAX)
    }

    fn accept_at(&mut self, now: Now, is_websocket: bool) {
        let strangers_max = if is_websocket {
            self.strangers_max()
        } else {
            usize::MAX
        };
        for _ in 0..TURN_ACCEPTS {
            let listener = if is_websocket {
                self.websocket
                    .as_mut()
                    .and_then(|door| door.listener.as_mut())
            } else {
                self.listener.as_mut()
            };
            let Some(listener) = listener else {
                return;
            };
            if !listener.pending || now.monotonic_ns < listener.paused_until {
                return;
            }
            if is_websocket && self.strangers >= strangers_max {
                listener.paused_until = now.after_ns(STRANGERS_PAUSE_NS);
                return;
            }
            match listener.socket.accept() {
                Ok((socket, peer)) => {
                    listener.pause_ns = 0;
                    self.admit(now, socket, peer, is_websocket);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => listener.pending = false,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => {
                        listener.pause_ns =
                            (listener.pause_ns * 2).clamp(ACCEPT_PAUSE_MIN_NS, ACCEPT_PAUSE_MAX_NS);
                        listener.paused_until = now.after_ns(listener.pause_ns);
                        let text = format!("Error accepting connection: {error}");
                        self.logger.line(Level::Error, &text);
                        return;
                    }
                },
            }
        }
        self.again = true;
    }

    /// Takes in a client that this process itself is: it logs in as any other, but for TLS.
    pub(crate) fn admit_local(&mut self, now: Now, socket: std::net::TcpStream, peer: SocketAddr) {
        if self.stage == Stage::Serving
            && socket.set_nonblocking(true).is_ok()
            && let Some((key, _)) = self.register(TcpStream::from_std(socket), peer)
        {
            self.introduce_as(now, key, ConnectionKind::InProcess, false);
        }
    }

    /// Has the system watch a new socket; gives its slot and serial.
    fn register(&mut self, socket: TcpStream, peer: SocketAddr) -> Option<(usize, u64)> {
        // Small messages must not wait for earlier ones to be acknowledged.
        let _ = socket.set_nodelay(true);
        let serial = self.next_serial;
        self.next_serial += 1;
        let key = self
            .connections
            .insert(Connection::new(socket, peer, serial));
        let connection = self.connections.get_mut(key)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(key + FIRST_CONNECTION);
        let registry = self.poll.registry();
        if registry
            .register(&mut connection.socket, token, interest)
            .is_err()
        {
            self.connections.remove(key);
            return None;
        }
        self.strangers += 1;
        Some((key, serial))
    }

    fn admit(&mut self, now: Now, socket: TcpStream, peer: SocketAddr, is_websocket: bool) {
        let Some((key, serial)) = self.register(socket, peer) else {
            return;
        };
        if is_websocket {
            self.begin_websocket(now, key);
            return;
        }
        let has_proxy = self.node.options().client.proxy_protocol;
        if has_proxy {
            self.expect_proxy_header(now, key);
        }
        match self.node.options().tls.as_ref().map(|tls| tls.handshake) {
            // The handshake stands behind the proxy's header.
            Some(HandshakeMode::HandshakeFirst) if has_proxy => {}
            Some(HandshakeMode::HandshakeFirst) => self.introduce(now, key, true),
            Some(HandshakeMode::Fallback { delay_ns }) => {
                self.timers
                    .push(Reverse((now.after_ns(delay_ns), key, serial)));
            }
            _ => self.introduce(now, key, false),
        }
    }

    /// Tells the broker of a connection; with `tls_first` its bytes run inside TLS from the start.
    pub(crate) fn introduce(&mut self, now: Now, key: usize, tls_first: bool) {
        self.introduce_as(now, key, ConnectionKind::Client, tls_first);
    }

    fn introduce_as(&mut self, now: Now, key: usize, kind: ConnectionKind, tls_first: bool) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let mut tls_first = tls_first;
        if tls_first {
            match self.tls.clone().map(Session::new) {
                Some(Ok(session)) => {
                    connection.tls = Some(Box::new(session));
                    let limit_ns = self
                        .node
                        .options()
                        .tls
                        .as_ref()
                        .map_or(0, |tls| tls.timeout_ns);
                    connection.handshake_until = now.after_ns(limit_ns);
                    self.timers.push(Reverse((
                        connection.handshake_until,
                        key,
                        connection.serial,
                    )));
                }
                _ => tls_first = false,
            }
        }
        let facts = ConnectionFacts {
            peer_ip: Some(connection.peer.ip()),
            peer_port: connection.peer.port(),
            kind,
            tls: tls_first,
            websocket: None,
        };
        connection.phase = Phase::Open;
        self.strangers -= 1;
        let id = self.node.broker().accept(now, facts);
        if let Some(connection) = self.connections.get_mut(key) {
            connection.id = Some(id);
        }
        self.by_id.insert(id, key);
        self.apply_effects(now);
        self.mark_ready(key);
    }

    /// Begins the handshake that the broker asked for, behind what it has sent so far.
    pub(crate) fn upgrade(&mut self, now: Now, id: ConnectionId) {
        let Some(key) = self.by_id.get(&id).copied() else {
            return;
        };
        self.flush(now, key);
        if self.handshakes_exhausted(now) {
            if let Some(connection) = self.connections.get_mut(key) {
                let _ = connection.socket.write(THROTTLED);
            }
            self.end(now, key, CloseReason::TlsHandshakeError);
            return;
        }
        // INFO always fits into an empty socket; if it did not, the peer is no client.
        let sent = self.node.broker().outbound(id).is_empty();
        let session = self.tls.clone().map(Session::new);
        match (sent, session) {
            (true, Some(Ok(session))) => {
                if let Some(connection) = self.connections.get_mut(key) {
                    connection.tls = Some(Box::new(session));
                }
            }
            _ => self.end(now, key, CloseReason::TlsHandshakeError),
        }
    }

    /// Counts a handshake; true if there were too many within this second.
    fn handshakes_exhausted(&mut self, now: Now) -> bool {
        let limit = self
            .node
            .options()
            .tls
            .as_ref()
            .map_or(0, |tls| tls.connection_rate_limit);
        let second = now.monotonic_ns / Now::SECOND_NS;
        if self.handshakes.0 != second {
            self.handshakes = (second, 0);
        }
        self.handshakes.1 += 1;
        limit > 0 && self.handshakes.1 > limit
    }

    /// Reads from sockets that have something, each a share, until the turn's budget is used.
    /// Returns the bytes read.
    pub(crate) fn read_ready(&mut self, now: Now) -> usize {
        let mut read_bytes = 0;
        for _ in 0..self.ready.len() {
            let Some(key) = self.ready.pop_front() else {
                break;
            };
            if let Some(connection) = self.connections.get_mut(key) {
                connection.queued = false;
            }
            let mut block = std::mem::take(&mut self.read_block);
            let taken = self.read(now, key, &mut block);
            self.read_block = block;
            read_bytes += taken;
            if read_bytes >= TURN_READ_BYTES {
                break;
            }
        }
        read_bytes
    }

    /// Reads one socket until it has no more or had its share; returns the bytes taken.
    fn read(&mut self, now: Now, key: usize, block: &mut BytesMut) -> usize {
        let mut taken = 0;
        loop {
            let Some(connection) = self.connections.get_mut(key) else {
                return taken;
            };
            let has_front = connection.phase == Phase::Undecided || connection.proxy.is_some();
            if has_front && !self.pass_front(now, key) {
                return taken;
            }
            let Some(connection) = self.connections.get_mut(key) else {
                return taken;
            };
            if !connection.may_read() {
                return taken;
            }
            let lingering = connection.phase == Phase::Lingering;
            let id = connection.id.filter(|_| connection.is_plain());
            let incoming = id.and_then(|id| self.node.broker().incoming(id));
            let (is_direct, place) = match incoming {
                Some(place) => (true, place),
                None => (false, &mut block[..]),
            };
            let length = place.len();
            match connection.socket.read(place) {
                Ok(0) => {
                    let mut reason = CloseReason::ClientClosed;
                    if connection.is_handshaking() {
                        let text = format!("{} - TLS handshake error: EOF", connection.log_name());
                        self.logger.line(Level::Error, &text);
                        reason = CloseReason::TlsHandshakeError;
                    }
                    self.end(now, key, reason);
                    return taken;
                }
                Ok(count) => {
                    taken += count;
                    let filled = count == length;
                    let more = filled || connection.peer_closing;
                    match id {
                        Some(id) if is_direct => {
                            self.node.broker().incoming_filled(now, id, count);
                            self.apply_effects(now);
                        }
                        _ if lingering => {}
                        _ => self.feed_block(now, key, block, count),
                    }
                    if filled && !is_direct && block.len() < self.read_bytes_max() {
                        *block = self.read_blocks.take(block.len() * 2);
                    }
                    if !more {
                        return taken;
                    }
                    if taken >= CONNECTION_READ_BYTES {
                        self.mark_ready(key);
                        return taken;
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return taken,
                    ErrorKind::Interrupted => {}
                    _ => {
                        self.end(now, key, CloseReason::ReadError);
                        return taken;
                    }
                },
            }
        }
    }

    /// Takes what stands before the client's own bytes: a proxy's header, the choice of TLS. False if
    /// it is not wholly there.
    fn pass_front(&mut self, now: Now, key: usize) -> bool {
        loop {
            let Some(connection) = self.connections.get(key) else {
                return false;
            };
            let is_new = matches!(connection.phase, Phase::Undecided | Phase::Open);
            if !is_new || connection.proxy.is_none() {
                return connection.phase != Phase::Undecided || self.decide(now, key);
            }
            if !self.read_proxy_header(now, key) {
                return false;
            }
        }
    }

    /// Hands the first `count` bytes of `block` on; if slices of it stay with somebody, another
    /// block takes its place.
    fn feed_block(&mut self, now: Now, key: usize, block: &mut BytesMut, count: usize) {
        let plain_id = self
            .connections
            .get(key)
            .and_then(|connection| connection.id.filter(|_| connection.is_plain()));
        let Some(id) = plain_id.filter(|_| self.read_blocks.has_room(block.len())) else {
            self.feed(now, key, block.get(..count).unwrap_or_default());
            return;
        };
        let size = block.len();
        let whole = std::mem::take(block).freeze();
        let consumed = self.node.broker().receive_block(now, id, &whole, count);
        self.apply_effects(now);
        if consumed < count {
            // Left over only when a handshake begins with these bytes.
            let rest = whole.get(consumed..count).unwrap_or_default();
            self.feed_tls(now, key, id, rest);
        }
        *block = whole.try_into_mut().unwrap_or_else(|lent| {
            self.read_blocks.give(lent);
            self.read_blocks.take(size)
        });
    }

    /// How far the read buffer may grow: large reads are cheap, but what one brings must be little
    /// beside what a receiver may have pending.
    fn read_bytes_max(&self) -> usize {
        let share = self.node.options().client.max_pending / READ_SHARE_OF_PENDING;
        usize::try_from(share)
            .unwrap_or(READ_BUFFER_MAX)
            .min(READ_BUFFER_MAX)
    }

    /// Looks at the first byte of a connection that may begin with TLS; false if none is there.
    fn decide(&mut self, now: Now, key: usize) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        let mut first = [0];
        match connection.socket.peek(&mut first) {
            Ok(0) => {
                self.end(now, key, CloseReason::ClientClosed);
                false
            }
            Ok(_) => {
                self.introduce(now, key, first[0] == TLS_HANDSHAKE);
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(_) => {
                self.end(now, key, CloseReason::ReadError);
                false
            }
        }
    }

    /// Hands received bytes to the broker, through TLS if that runs.
    pub(crate) fn feed(&mut self, now: Now, key: usize, bytes: &[u8]) {
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        if connection.websocket.is_some() {
            self.feed_websocket(now, key, bytes);
            return;
        }
        let Some(id) = connection.id else {
            return;
        };
        if connection.tls.is_some() {
            self.feed_tls(now, key, id, bytes);
            return;
        }
        let consumed = self.node.broker().receive(now, id, bytes);
        self.apply_effects(now);
        let rest = bytes.get(consumed..).unwrap_or_default();
        if !rest.is_empty() {
            // Left over only when a handshake begins with these bytes.
            self.feed_tls(now, key, id, rest);
        }
    }

    fn feed_tls(&mut self, now: Now, key: usize, id: ConnectionId, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let name = connection.log_name();
        let Some(session) = &mut connection.tls else {
            return;
        };
        let mut plain = std::mem::take(&mut self.plain_buffer);
        plain.clear();
        let received = session
            .receive(bytes, &mut plain)
            .map_err(|error| error.to_string());
        let established = match &self.node.options().tls {
            Some(options) => session.newly_established(options),
            None => Ok(None),
        };
        let was_established = session.is_established();
        self.unflushed.push(key);
        let (facts, pinned) = match established {
            Ok(facts) => (facts, Ok(())),
            Err(reason) => (None, Err(reason)),
        };
        if let Some(facts) = facts {
            self.node.broker().tls_established(now, id, facts);
        }
        if was_established && !plain.is_empty() {
            self.node.broker().receive(now, id, &plain);
        }
        self.plain_buffer = plain;
        self.apply_effects(now);
        let ended = received.and(pinned);
        if ended.is_ok() && self.answer_tls_close(key) {
            self.end(now, key, CloseReason::ClientClosed);
            return;
        }
        if let Err(error) = ended {
            let text = format!("{name} - TLS handshake error: {error}");
            let (level, reason) = if was_established {
                (Level::Debug, CloseReason::ReadError)
            } else {
                (Level::Error, CloseReason::TlsHandshakeError)
            };
            self.logger.line(level, &text);
            // The alert tells the peer why.
            self.flush(now, key);
            self.end(now, key, reason);
        }
    }

    /// Answers a peer that has closed its side of TLS; false if it has not.
    pub(crate) fn answer_tls_close(&mut self, key: usize) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        let Some(session) = &mut connection.tls else {
            return false;
        };
        if session.peer_has_closed() {
            session.send_close();
            let _ = session.write_to(&mut connection.socket);
        }
        session.peer_has_closed()
    }

    /// Does what is due on sockets.
    pub(crate) fn fire_timers(&mut self, now: Now) {
        while let Some(Reverse((deadline, key, serial))) = self.timers.peek().copied() {
            if deadline > now.monotonic_ns {
                return;
            }
            self.timers.pop();
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            if connection.serial != serial {
                continue;
            }
            let header = connection.proxy.as_ref();
            if header.is_some_and(|header| header.is_late(now)) {
                self.fail_proxy(now, key, "i/o timeout");
                continue;
            }
            match connection.phase {
                Phase::Undecided => self.introduce(now, key, false),
                Phase::Upgrading => self.end(now, key, CloseReason::ReadError),
                Phase::Open => {
                    let late = connection.handshake_until;
                    if late != 0 && late <= now.monotonic_ns && connection.is_handshaking() {
                        self.end(now, key, CloseReason::TlsHandshakeError);
                        continue;
                    }
                    if connection.paused_until != 0 && connection.paused_until <= now.monotonic_ns {
                        connection.paused_until = 0;
                        self.mark_ready(key);
                    }
                }
                Phase::Closing | Phase::Lingering => {
                    self.end(now, key, CloseReason::ClientClosed);
                }
            }
        }
    }
}
