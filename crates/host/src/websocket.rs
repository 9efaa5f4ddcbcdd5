//! Connections over WebSocket: TLS from the first byte, then the HTTP request, and only then does
//! the broker hear of them. Frames are taken off and put on here; what they carry is the client
//! protocol.

use crate::connection::{Connection, Phase};
use crate::event_loop::{EventLoop, Listener};
use crate::limits::{
    CONNECTION_WRITE_BYTES, FLUSH_CLOSE_NS, TLS_WRITE_BYTES, WEBSOCKET_HANDSHAKE_NS,
    WEBSOCKET_MESSAGE_BYTES, WEBSOCKET_OUTPUT_BYTES, WRITE_SLICES_FEW,
};
use crate::logger::Level;
use crate::tls::{self, Session};
use crate::writing::Flushed;
use millrace_clock::Now;
use millrace_config::Options;
use millrace_core::{
    Broker, CloseReason, ConnectionFacts, ConnectionId, ConnectionKind, TlsFacts, WebsocketFacts,
};
use millrace_wire::websocket::{
    Accepted, Progress, Reader, Received, UpgradeReader, UpgradeRules, Violation, Writer,
    allowed_origin,
};
use mio::net::TcpStream;
use rustls::ServerConfig;
use std::cmp::Reverse;
use std::io::{self, ErrorKind, IoSlice, Write as _};
use std::sync::Arc;

/// The listener and what it asks of those who come.
pub(crate) struct Door {
    pub(crate) listener: Option<Listener>,
    pub(crate) terms: Terms,
    /// Shown in the log when clients are let in.
    pub(crate) listening_text: String,
}

/// What the `websocket` block asks for, ready for use.
#[derive(Clone)]
pub(crate) struct Terms {
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) rules: Arc<UpgradeRules>,
}

impl Terms {
    /// Reads certificates and origins; `None` without such a block.
    ///
    /// # Errors
    /// A text for the operator.
    pub(crate) fn new(options: &Options) -> Result<Option<Self>, String> {
        let websocket = &options.websocket;
        if !websocket.is_on() {
            return Ok(None);
        }
        let origins = websocket.allowed_origins.iter();
        let tls = websocket.tls.as_ref();
        let headers = websocket.headers.iter();
        let rules = UpgradeRules {
            same_origin: websocket.same_origin,
            allowed_origins: origins
                .map(|url| allowed_origin(url))
                .collect::<Result<_, _>>()?,
            compression: websocket.compression,
            is_tls: tls.is_some(),
            headers: headers
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            jwt_cookie: websocket.jwt_cookie.clone(),
            user_cookie: websocket.user_cookie.clone(),
            pass_cookie: websocket.pass_cookie.clone(),
            token_cookie: websocket.token_cookie.clone(),
        };
        Ok(Some(Self {
            tls: tls.map(tls::server_config).transpose()?,
            rules: Arc::new(rules),
        }))
    }
}

/// How far a connection has come.
#[derive(Debug)]
enum Stage {
    /// The HTTP request, as far as it has come.
    Request(UpgradeReader),
    Open {
        reader: Reader,
        writer: Writer,
    },
}

/// One connection's frames.
#[derive(Debug)]
pub(crate) struct Websocket {
    stage: Stage,
    /// Frames that are not written yet, and how much of them is.
    output: Vec<u8>,
    written: usize,
    /// The TLS session, until the broker hears of it.
    tls_facts: Option<TlsFacts>,
    /// The close frame stands in the output, or stood there.
    is_close_sent: bool,
    /// Why the broker ended the connection.
    pub(crate) close_reason: Option<CloseReason>,
}

impl Websocket {
    pub(crate) fn new() -> Self {
        Self {
            stage: Stage::Request(UpgradeReader::default()),
            output: Vec::new(),
            written: 0,
            tls_facts: None,
            is_close_sent: false,
            close_reason: None,
        }
    }

    fn push_close(&mut self, status: u16, text: &str) {
        if self.is_close_sent {
            return;
        }
        self.is_close_sent = true;
        if let Stage::Open { writer, .. } = &self.stage {
            writer.push_close(status, text, &mut self.output);
        }
    }

    /// Puts what waits for a client into one message, as far as a message may go; false if
    /// nothing waits.
    fn frame(&mut self, broker: &mut Broker, id: ConnectionId) -> bool {
        self.output.clear();
        self.written = 0;
        let Stage::Open { writer, .. } = &mut self.stage else {
            return false;
        };
        let outbound = broker.outbound(id);
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES_FEW];
        let count = outbound.io_slices(&mut slices);
        let mut message = Vec::new();
        for slice in slices.get(..count).unwrap_or_default() {
            let room = WEBSOCKET_MESSAGE_BYTES - message.len();
            message.extend_from_slice(slice.get(..room.min(slice.len())).unwrap_or_default());
        }
        if message.is_empty() {
            return false;
        }
        writer.push_message(&message, &mut self.output);
        broker.written(id, message.len());
        true
    }
}

/// What the bytes of a request led to.
enum Asked {
    More,
    Accepted(Box<Accepted>),
    Refused(String),
}

impl EventLoop {
    /// Begins with a connection that was accepted at this door.
    pub(crate) fn begin_websocket(&mut self, now: Now, key: usize) {
        let Some(door) = &self.websocket else { return };
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.websocket = Some(Box::new(Websocket::new()));
        connection.phase = Phase::Upgrading;
        if let Some(config) = &door.terms.tls {
            match Session::new(Arc::clone(config)) {
                Ok(session) => connection.tls = Some(Box::new(session)),
                Err(_) => return self.end(now, key, CloseReason::TlsHandshakeError),
            }
        }
        // Half-open peers do not stay, also where no time is configured.
        let limit_ns = match self.node.options().websocket.handshake_timeout_ns {
            0 => WEBSOCKET_HANDSHAKE_NS,
            limit_ns => limit_ns,
        };
        let serial = connection.serial;
        connection.handshake_until = now.after_ns(limit_ns);
        self.timers
            .push(Reverse((connection.handshake_until, key, serial)));
        self.mark_ready(key);
    }

    /// Takes bytes from the socket.
    pub(crate) fn feed_websocket(&mut self, now: Now, key: usize, bytes: &[u8]) {
        let mut plain = std::mem::take(&mut self.plain_buffer);
        plain.clear();
        if let Some(bytes) = self.decrypt_websocket(now, key, bytes, &mut plain) {
            self.feed_websocket_plain(now, key, bytes);
        }
        if self.answer_tls_close(key) {
            self.end(now, key, CloseReason::ClientClosed);
        }
        self.plain_buffer = plain;
    }

    /// The bytes inside TLS if that runs; `None` if there are none or the connection ended.
    fn decrypt_websocket<'a>(
        &mut self,
        now: Now,
        key: usize,
        bytes: &'a [u8],
        plain: &'a mut Vec<u8>,
    ) -> Option<&'a [u8]> {
        let connection = self.connections.get_mut(key)?;
        let name = connection.log_name();
        let Some(session) = &mut connection.tls else {
            return Some(bytes);
        };
        let received = session
            .receive(bytes, plain)
            .map_err(|error| error.to_string());
        let established = match &self.node.options().websocket.tls {
            Some(options) => session.newly_established(options),
            None => Ok(None),
        };
        // What the handshake answers.
        let _ = write_encrypted(&mut connection.socket, session);
        let outcome = received.and(established);
        match outcome {
            Ok(facts) => {
                if let (Some(facts), Some(websocket)) = (facts, &mut connection.websocket) {
                    websocket.tls_facts = Some(facts);
                }
                (!plain.is_empty()).then_some(plain)
            }
            Err(error) => {
                let text = format!("{name} - TLS handshake error: {error}");
                self.logger.line(Level::Error, &text);
                self.end(now, key, CloseReason::TlsHandshakeError);
                None
            }
        }
    }

    fn feed_websocket_plain(&mut self, now: Now, key: usize, bytes: &[u8]) {
        let Some(door) = &self.websocket else { return };
        let rules = Arc::clone(&door.terms.rules);
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Some(websocket) = &mut connection.websocket else {
            return;
        };
        let asked = match &mut websocket.stage {
            Stage::Open { .. } => return self.feed_frames(now, key, bytes),
            Stage::Request(request) => match request.push(bytes, &rules) {
                Progress::Incomplete => Asked::More,
                Progress::Accepted(accepted) => {
                    websocket.output.extend_from_slice(&accepted.answer);
                    Asked::Accepted(accepted)
                }
                Progress::Refused { answer, reason } => {
                    websocket.output.extend_from_slice(&answer);
                    Asked::Refused(reason)
                }
            },
        };
        match asked {
            Asked::More => {}
            Asked::Accepted(accepted) => self.introduce_websocket(now, key, *accepted),
            Asked::Refused(reason) => {
                let text = format!("{} - websocket handshake error: {reason}", connection.peer);
                self.logger.line(Level::Error, &text);
                self.refuse_websocket(now, key);
            }
        }
    }

    /// Tells the broker of a connection whose request was taken.
    fn introduce_websocket(&mut self, now: Now, key: usize, accepted: Accepted) {
        let max_payload = self.node.options().client.max_payload;
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Some(websocket) = &mut connection.websocket else {
            return;
        };
        let Accepted {
            is_compressing,
            is_unmasked,
            is_browser,
            is_safari,
            ..
        } = accepted;
        websocket.stage = Stage::Open {
            reader: Reader::new(is_compressing, is_unmasked, max_payload),
            writer: Writer::new(is_compressing, is_browser, is_safari),
        };
        let tls_facts = websocket.tls_facts.take();
        connection.phase = Phase::Open;
        self.strangers -= 1;
        connection.handshake_until = 0;
        let facts = ConnectionFacts {
            peer_ip: Some(connection.peer.ip()),
            peer_port: connection.peer.port(),
            kind: ConnectionKind::Websocket,
            tls: tls_facts.is_some(),
            websocket: Some(Box::new(WebsocketFacts {
                forwarded_for: accepted.forwarded_for,
                jwt: accepted.jwt,
                user: accepted.user,
                password: accepted.password,
                token: accepted.token,
            })),
        };
        // The answer goes first: the broker's INFO is framed behind it.
        let id = self.node.broker().accept(now, facts);
        if let Some(connection) = self.connections.get_mut(key) {
            connection.id = Some(id);
        }
        self.by_id.insert(id, key);
        if let Some(facts) = tls_facts {
            self.node.broker().tls_established(now, id, facts);
        }
        self.apply_effects(now);
        self.unflushed.push(key);
    }

    /// The answer stands in the output: write it and close.
    fn refuse_websocket(&mut self, now: Now, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.phase = Phase::Closing;
        self.strangers -= 1;
        let deadline = now.after_ns(FLUSH_CLOSE_NS);
        self.timers
            .push(Reverse((deadline, key, connection.serial)));
        self.unflushed.push(key);
    }

    fn feed_frames(&mut self, now: Now, key: usize, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let (Some(id), Some(websocket)) = (connection.id, &mut connection.websocket) else {
            return;
        };
        let Stage::Open { reader, .. } = &mut websocket.stage else {
            return;
        };
        let (mut payload, mut replies) = (Vec::new(), Vec::new());
        let received = reader.receive(bytes, &mut payload, &mut replies);
        if !payload.is_empty() {
            self.node.broker().receive(now, id, &payload);
            self.apply_effects(now);
        }
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Some(websocket) = &mut connection.websocket else {
            return;
        };
        match received {
            Ok(Received::Open) => {
                if replies.is_empty() {
                    return;
                }
                websocket.output.extend_from_slice(&replies);
                let waiting = websocket.output.len() - websocket.written;
                if connection.write_blocked && waiting > WEBSOCKET_OUTPUT_BYTES {
                    self.end(now, key, CloseReason::SlowConsumerPendingBytes);
                } else {
                    self.unflushed.push(key);
                }
            }
            Ok(Received::Closed) => {
                self.flush(now, key);
                self.end_websocket(now, key, CloseReason::ClientClosed, |websocket| {
                    websocket.is_close_sent = true;
                    websocket.output.extend_from_slice(&replies);
                });
            }
            Err(violation) => {
                let reason = match violation {
                    Violation::Protocol(_) => CloseReason::ProtocolViolation,
                    Violation::TooLarge => CloseReason::MaxPayloadExceeded,
                };
                self.flush(now, key);
                self.end_websocket(now, key, reason, |websocket| {
                    let (status, text) = violation.close();
                    websocket.push_close(status, text);
                });
            }
        }
    }

    /// Writes a last frame, as far as the socket takes it, and ends the connection.
    fn end_websocket(
        &mut self,
        now: Now,
        key: usize,
        reason: CloseReason,
        last: impl FnOnce(&mut Websocket),
    ) {
        if let Some(connection) = self.connections.get_mut(key)
            && let Some(websocket) = &mut connection.websocket
        {
            last(websocket);
            let _ = write_output(&mut connection.socket, &mut connection.tls, websocket);
        }
        self.end(now, key, reason);
    }
}

impl Connection {
    /// Writes what waits, frames around it. Without an id it is a refused request.
    pub(crate) fn flush_websocket(
        &mut self,
        broker: &mut Broker,
        is_closing: bool,
    ) -> io::Result<Flushed> {
        let Some(websocket) = &mut self.websocket else {
            return Ok(Flushed::All);
        };
        let mut share = CONNECTION_WRITE_BYTES;
        loop {
            match write_output(&mut self.socket, &mut self.tls, websocket)? {
                None => return Ok(Flushed::Blocked),
                Some(count) => share = share.saturating_sub(count),
            }
            if share == 0 {
                return Ok(Flushed::Share);
            }
            if self.id.is_some_and(|id| websocket.frame(broker, id)) {
                continue;
            }
            if is_closing && self.id.is_some() && !websocket.is_close_sent {
                let reason = websocket.close_reason.unwrap_or(CloseReason::ClientClosed);
                websocket.push_close(reason.websocket_status(), reason.text());
                continue;
            }
            // An idle connection holds no memory.
            websocket.output = Vec::new();
            websocket.written = 0;
            return Ok(Flushed::All);
        }
    }
}

/// Writes the frames that are ready: how many bytes, or `None` if the socket is full.
fn write_output(
    socket: &mut TcpStream,
    session: &mut Option<Box<Session>>,
    websocket: &mut Websocket,
) -> io::Result<Option<usize>> {
    let mut total = 0;
    loop {
        if let Some(session) = session
            && !write_encrypted(socket, session)?
        {
            return Ok(None);
        }
        let rest = websocket
            .output
            .get(websocket.written..)
            .unwrap_or_default();
        if rest.is_empty() {
            return Ok(Some(total));
        }
        let written = match session {
            Some(session) => session.send(rest.get(..TLS_WRITE_BYTES).unwrap_or(rest)),
            None => socket.write(rest),
        };
        match written {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                websocket.written += count;
                total += count;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes what TLS has ready; false if the socket is full.
fn write_encrypted(socket: &mut TcpStream, session: &mut Session) -> io::Result<bool> {
    while session.wants_write() {
        match session.write_to(socket) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
