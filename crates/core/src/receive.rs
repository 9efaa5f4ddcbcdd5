//! From received bytes to operations: keeps what is incomplete, never copies a payload twice,
//! and holds a connection back that fills slow receivers. What operations do is in `verbs.rs`.

use bytes::{Buf, Bytes, BytesMut};
use millrace_clock::Now;
use millrace_wire::client::{Operation, ParseError, ParserLimits, Step};

use crate::broker::Broker;
use crate::effects::{BrokerEffect, CloseReason, LogLevel};
use crate::ids::ConnectionId;
use crate::limits::{DIRECT_READ_MIN, DRAIN_WAIT_NS, SHARED_PAYLOAD_MIN, STALL_MAX_NS};
use crate::publish::{Message, Source};
use crate::session::{Incoming, Phase, Session};

/// Bytes of the line end behind a payload; when only they lack, the parser must see what is there.
const LINE_END: usize = 2;
/// First byte of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

impl Broker {
    /// Handles bytes from a connection; returns how many were taken. What is not taken belongs to
    /// a TLS handshake that was just asked for; in every other case all of `data` is taken.
    pub fn receive(&mut self, now: Now, id: ConnectionId, data: &[u8]) -> usize {
        self.receive_from(now, id, data, Source::Borrowed)
    }

    /// As [`Self::receive`] for the first `length` bytes of `block`. Payloads of some size are not
    /// copied: slices of the block stay with those they are on their way to.
    pub fn receive_block(
        &mut self,
        now: Now,
        id: ConnectionId,
        block: &Bytes,
        length: usize,
    ) -> usize {
        let data = block.get(..length).unwrap_or(block);
        self.receive_from(now, id, data, Source::Block(block))
    }

    fn receive_from(
        &mut self,
        now: Now,
        id: ConnectionId,
        data: &[u8],
        source: Source<'_>,
    ) -> usize {
        let Some(slot) = self.slot_of(id) else {
            return data.len();
        };
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return data.len();
        };
        if session.phase == Phase::Undecided {
            if data.first() == Some(&TLS_HANDSHAKE) {
                self.begin_handshake(now, slot);
                return 0;
            }
            if !data.is_empty() {
                // Only the client port leaves this open.
                session.phase = session.phase_before_login(self.authenticator.is_required());
            }
        }
        if session.phase == Phase::Handshake {
            return 0;
        }
        self.batch_stall_ns = 0;
        self.batch_stalls = 0;
        self.consume(now, slot, data, source);
        self.hold_back(now, slot);
        self.drop_lost_replies(now);
        data.len()
    }

    /// Where the next bytes of a connection belong if it is sending a big payload: the caller may
    /// read straight into this instead of handing bytes to [`Self::receive`], and says with
    /// [`Self::incoming_filled`] how many came.
    pub fn incoming(&mut self, id: ConnectionId) -> Option<&mut [u8]> {
        let slot = self.slot_of(id)?;
        let session = self.sessions.get_mut(slot as usize)?;
        if matches!(session.phase, Phase::Closed | Phase::Hashing) {
            return None;
        }
        let lacking = session.incoming.as_mut()?.lacking();
        (lacking.len() >= DIRECT_READ_MIN).then_some(lacking)
    }

    /// The first `count` bytes of what [`Self::incoming`] returned are there.
    pub fn incoming_filled(&mut self, now: Now, id: ConnectionId, count: usize) {
        let Some(slot) = self.slot_of(id) else {
            return;
        };
        self.batch_stall_ns = 0;
        self.batch_stalls = 0;
        if let Some(session) = self.sessions.get_mut(slot as usize)
            && let Some(incoming) = &mut session.incoming
        {
            incoming.filled = (incoming.filled + count).min(incoming.wanted);
        }
        self.incoming_grew(now, slot);
        self.hold_back(now, slot);
        self.drop_lost_replies(now);
    }

    /// Parses and handles `data` behind what the session has kept.
    pub(crate) fn consume(&mut self, now: Now, slot: u32, data: &[u8], source: Source<'_>) {
        let mut rest = data;
        while !rest.is_empty() {
            let Some(session) = self.sessions.get_mut(slot as usize) else {
                return;
            };
            match session.phase {
                Phase::Closed => return,
                Phase::Hashing => {
                    session.partial.extend_from_slice(rest);
                    return;
                }
                _ => {}
            }
            rest = if session.incoming.is_some() {
                self.fill_incoming(now, slot, rest)
            } else if session.partial.is_empty() {
                self.parse_in_place(now, slot, rest, source)
            } else {
                self.parse_kept(now, slot, rest)
            };
        }
    }

    /// Handles operations as they lie in the input; keeps an incomplete last one.
    fn parse_in_place<'a>(
        &mut self,
        now: Now,
        slot: u32,
        input: &'a [u8],
        source: Source<'_>,
    ) -> &'a [u8] {
        let mut rest = input;
        let mut limits = self.parser_limits(slot);
        while !rest.is_empty() {
            let Some(session) = self.sessions.get(slot as usize) else {
                return &[];
            };
            let phase = session.phase;
            match phase {
                Phase::Open => {}
                Phase::Closed | Phase::Hashing => return rest,
                _ if !self.may_begin_operation(now, slot, rest) => return &[],
                _ => limits = self.parser_limits(slot),
            }
            let Some(session) = self.sessions.get_mut(slot as usize) else {
                return &[];
            };
            match session.parser.next(rest, &limits) {
                Ok(Step::Operation {
                    operation,
                    consumed,
                }) => {
                    let (whole, behind) = rest.split_at(consumed);
                    rest = behind;
                    let may_change_limits = !matches!(operation, Operation::Publish { .. });
                    self.operation(now, slot, operation, whole, source);
                    if may_change_limits {
                        limits = self.parser_limits(slot);
                    }
                }
                Ok(Step::NeedMore { consumed, hint }) => {
                    let kept = rest.get(consumed..).unwrap_or_default();
                    session.needed = hint;
                    if hint > SHARED_PAYLOAD_MIN {
                        self.begin_incoming(slot, kept, hint);
                    } else if !kept.is_empty() {
                        session.partial = BytesMut::with_capacity(kept.len() + hint);
                        session.partial.extend_from_slice(kept);
                    }
                    return &[];
                }
                Err(error) => {
                    self.parse_failed(now, slot, error);
                    return &[];
                }
            }
        }
        rest
    }

    /// Adds as much of `input` to what is kept as one operation needs, and handles it if whole.
    fn parse_kept<'a>(&mut self, now: Now, slot: u32, input: &'a [u8]) -> &'a [u8] {
        let limits = self.parser_limits(slot);
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return &[];
        };
        let is_payload = session.needed > 1;
        let wanted = if is_payload {
            session.needed.min(input.len())
        } else {
            memchr::memchr(b'\n', input).map_or(input.len(), |place| place + 1)
        };
        let (taken, rest) = input.split_at(wanted);
        session.partial.extend_from_slice(taken);
        let lacking = session.needed.saturating_sub(taken.len());
        if is_payload && lacking > LINE_END {
            session.needed = lacking;
            return rest;
        }
        let mut kept = std::mem::take(&mut session.partial);
        if let Some(left) = self.parse_one(now, slot, &kept, Source::Borrowed, &limits) {
            kept.advance(left.min(kept.len()));
            self.keep(slot, kept);
        }
        rest
    }

    /// The rest of a big payload is awaited: it gets memory of its own, which is shared later.
    fn begin_incoming(&mut self, slot: u32, kept: &[u8], lacking: usize) {
        let wanted = kept.len() + lacking;
        let mut block = self.blocks.take(wanted);
        if let (Some(start), Some(session)) = (
            block.get_mut(..kept.len()),
            self.sessions.get_mut(slot as usize),
        ) {
            start.copy_from_slice(kept);
            session.incoming = Some(Box::new(Incoming {
                block,
                filled: kept.len(),
                wanted,
            }));
        }
    }

    /// Adds `input` to a big payload; returns what is behind it.
    fn fill_incoming<'a>(&mut self, now: Now, slot: u32, input: &'a [u8]) -> &'a [u8] {
        let session = self.sessions.get_mut(slot as usize);
        let Some(incoming) = session.and_then(|session| session.incoming.as_mut()) else {
            return input;
        };
        let lacking = incoming.lacking();
        let (taken, rest) = input.split_at(lacking.len().min(input.len()));
        if let Some(place) = lacking.get_mut(..taken.len()) {
            place.copy_from_slice(taken);
        }
        incoming.filled += taken.len();
        self.incoming_grew(now, slot);
        rest
    }

    /// Handles a big payload's message once it is whole, or its line end is seen to be wrong.
    fn incoming_grew(&mut self, now: Now, slot: u32) {
        let limits = self.parser_limits(slot);
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        let is_near = |incoming: &mut Box<Incoming>| incoming.wanted - incoming.filled <= LINE_END;
        let Some(incoming) = session.incoming.take_if(is_near) else {
            return;
        };
        let Incoming {
            block,
            filled,
            wanted,
        } = *incoming;
        let whole = block.freeze();
        let message = whole.get(..filled).unwrap_or_default();
        if filled == wanted {
            self.parse_one(now, slot, message, Source::Own(&whole), &limits);
            self.blocks.give(whole);
            return;
        }
        let is_waiting = self
            .parse_one(now, slot, message, Source::Borrowed, &limits)
            .is_some();
        if let (true, Ok(block), Some(session)) = (
            is_waiting,
            whole.try_into_mut(),
            self.sessions.get_mut(slot as usize),
        ) {
            session.incoming = Some(Box::new(Incoming {
                block,
                filled,
                wanted,
            }));
        }
    }

    /// Handles the operation at the start of `kept`. Some(n): all but the first n bytes stay kept.
    fn parse_one(
        &mut self,
        now: Now,
        slot: u32,
        kept: &[u8],
        source: Source<'_>,
        limits: &ParserLimits,
    ) -> Option<usize> {
        let session = self.sessions.get_mut(slot as usize)?;
        match session.parser.next(kept, limits) {
            Ok(Step::Operation {
                operation,
                consumed,
            }) => {
                let whole = kept.get(..consumed).unwrap_or_default();
                self.operation(now, slot, operation, whole, source);
                (consumed < kept.len()).then_some(consumed)
            }
            Ok(Step::NeedMore { consumed, hint }) => {
                session.needed = hint;
                Some(consumed)
            }
            Err(error) => {
                self.parse_failed(now, slot, error);
                None
            }
        }
    }

    fn keep(&mut self, slot: u32, mut kept: BytesMut) {
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        if session.is_closed() || kept.is_empty() {
            return;
        }
        if session.needed > SHARED_PAYLOAD_MIN {
            let lacking = session.needed;
            self.begin_incoming(slot, &kept, lacking);
            return;
        }
        kept.reserve(session.needed);
        session.partial = kept;
    }

    fn parser_limits(&self, slot: u32) -> ParserLimits {
        let session = self.sessions.get(slot as usize);
        ParserLimits {
            max_control_line: self.options.client.max_control_line,
            max_payload: session.map_or(0, |session| session.max_payload),
            headers_allowed: session.is_some_and(|session| session.client.headers),
        }
    }

    /// Before login only CONNECT may come, judged by its first byte; without credentials an
    /// anonymous login may stand in. False if the connection was closed.
    fn may_begin_operation(&mut self, now: Now, slot: u32, rest: &[u8]) -> bool {
        let Some(session) = self.sessions.get(slot as usize) else {
            return false;
        };
        if session.phase != Phase::AwaitingConnect
            || !session.parser.is_idle()
            || matches!(rest.first(), Some(b'C' | b'c'))
        {
            return true;
        }
        self.login_without_connect(now, slot)
    }

    /// `whole` are the operation's bytes through their line end, which lie in `source`.
    fn operation(
        &mut self,
        now: Now,
        slot: u32,
        operation: Operation<'_>,
        whole: &[u8],
        source: Source<'_>,
    ) {
        if self.is_tracing {
            self.trace_operation(slot, &operation);
        }
        match operation {
            Operation::Publish {
                subject,
                reply,
                headers,
                payload,
                tail,
            } => {
                let message = Message {
                    subject,
                    reply: reply.unwrap_or_default(),
                    headers,
                    payload,
                    body: whole
                        .get(whole.len().saturating_sub(payload.len() + LINE_END)..)
                        .unwrap_or_default(),
                    tail,
                    source,
                };
                self.publish_from_client(now, slot, &message);
            }
            Operation::Subscribe {
                subject,
                queue,
                sid,
            } => {
                self.note_input(now, slot);
                self.subscribe(slot, subject, queue, sid);
            }
            Operation::Unsubscribe { sid, max } => {
                self.note_input(now, slot);
                self.unsubscribe(slot, sid, max);
            }
            Operation::Ping => self.ping_received(now, slot),
            Operation::Pong => self.pong_received(now, slot),
            Operation::Connect(json) => self.connect(now, slot, json),
            Operation::Info(json) => self.info_received(now, slot, json),
            Operation::Ok => {}
            Operation::Error(text) => {
                let text = format!("Client Error {}", String::from_utf8_lossy(text));
                self.log_for(slot, LogLevel::Error, &text);
                self.close_session(now, slot, CloseReason::ParseError, true);
            }
        }
    }

    fn note_input(&mut self, now: Now, slot: u32) {
        if let Some(session) = self.sessions.get_mut(slot as usize) {
            session.note_input(now);
        }
    }

    fn parse_failed(&mut self, now: Now, slot: u32, error: ParseError) {
        let reason = match error {
            ParseError::ControlLineTooLong => {
                self.log_for(slot, LogLevel::Error, &error.to_string());
                CloseReason::MaxControlLineExceeded
            }
            ParseError::PayloadTooLarge { declared } => {
                let limit = self
                    .sessions
                    .get(slot as usize)
                    .map_or(0, |s| s.max_payload);
                let text = format!("maximum payload exceeded: {declared} vs {limit}");
                self.log_for(slot, LogLevel::Error, &text);
                CloseReason::MaxPayloadExceeded
            }
            _ => {
                self.log_for(slot, LogLevel::Error, &error.to_string());
                CloseReason::ProtocolViolation
            }
        };
        if let Some(text) = error.client_text() {
            self.send_error(slot, text.as_bytes());
        }
        self.close_session(now, slot, reason, true);
    }

    /// Holds the connection back for as long as its messages met slow receivers.
    fn hold_back(&mut self, now: Now, slot: u32) {
        let awaits_drain = std::mem::take(&mut self.batch_awaits_drain);
        if self.batch_stall_ns == 0 && !awaits_drain {
            return;
        }
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        session.counters.stalls += self.batch_stalls;
        self.counters.stalled_clients += self.batch_stalls;
        let until_drained = self.batch_stall_ns == 0;
        let wait_ns = if until_drained {
            DRAIN_WAIT_NS
        } else {
            self.batch_stall_ns.min(STALL_MAX_NS)
        };
        if !session.is_closed() {
            self.effects.push(BrokerEffect::PauseRead {
                id: session.id,
                until_ns: now.after_ns(wait_ns),
                until_drained,
            });
        }
    }
}

impl Session {
    /// The phase of a connection whose transport is settled.
    pub(crate) const fn phase_before_login(&self, must_authenticate: bool) -> Phase {
        if must_authenticate && !self.client.connected {
            Phase::AwaitingConnect
        } else {
            Phase::Open
        }
    }
}
