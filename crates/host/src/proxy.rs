//! Connections that a proxy opens for its clients: the header before their first byte is taken off,
//! and the connection is the client's from then on.

use crate::connection::Phase;
use crate::event_loop::EventLoop;
use crate::limits::{PROXY_HEADER_NS, PROXY_READ_BYTES};
use crate::logger::Level;
use millrace_clock::Now;
use millrace_config::options::HandshakeMode;
use millrace_core::CloseReason;
use millrace_wire::proxy::{self, Progress};
use std::cmp::Reverse;
use std::io::{ErrorKind, Read as _};
use std::net::SocketAddr;

/// First byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// A header that is not wholly read.
#[derive(Debug)]
pub(crate) struct ProxyHeader {
    stage: Stage,
    /// Monotonic time by which it must be there.
    until_ns: u64,
}

#[derive(Debug)]
enum Stage {
    /// What has come of it; few bytes, since nothing waits for a long header to be whole.
    Reading(Vec<u8>),
    /// What says nothing any more, in bytes.
    Skipping(usize),
}

impl ProxyHeader {
    pub(crate) const fn is_late(&self, now: Now) -> bool {
        self.until_ns <= now.monotonic_ns
    }
}

impl EventLoop {
    /// Begins to wait for a header, or for the first byte of a client that comes by itself.
    pub(crate) fn expect_proxy_header(&mut self, now: Now, key: usize) {
        if let Some(connection) = self.connections.get_mut(key) {
            let until_ns = now.after_ns(PROXY_HEADER_NS);
            connection.proxy = Some(Box::new(ProxyHeader {
                stage: Stage::Reading(Vec::new()),
                until_ns,
            }));
            let serial = connection.serial;
            self.timers.push(Reverse((until_ns, key, serial)));
        }
        self.mark_ready(key);
    }

    /// Reads towards the end of the header; false if the socket has no more or is gone.
    pub(crate) fn read_proxy_header(&mut self, now: Now, key: usize) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        let mut block = [0; PROXY_READ_BYTES];
        match connection.socket.read(&mut block) {
            Ok(0) => {
                self.fail_proxy(now, key, "failed to read protocol version: EOF");
                false
            }
            Ok(count) => {
                let bytes = block.get(..count).unwrap_or_default();
                self.take_proxy_bytes(now, key, bytes)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(_) => {
                self.end(now, key, CloseReason::ReadError);
                false
            }
        }
    }

    /// False if the connection ended.
    fn take_proxy_bytes(&mut self, now: Now, key: usize, bytes: &[u8]) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        let Some(header) = &mut connection.proxy else {
            return true;
        };
        let rest = match &mut header.stage {
            Stage::Skipping(left) => {
                let skipped = bytes.len().min(*left);
                *left -= skipped;
                if *left > 0 {
                    return true;
                }
                bytes.get(skipped..).unwrap_or_default().to_vec()
            }
            Stage::Reading(all) => {
                all.extend_from_slice(bytes);
                match proxy::read(all) {
                    Progress::Incomplete => return true,
                    Progress::Absent => std::mem::take(all),
                    Progress::Header { length, source } => {
                        let rest = all.get(length..).unwrap_or_default().to_vec();
                        let left = length.saturating_sub(all.len());
                        header.stage = Stage::Skipping(left);
                        if let Some(source) = source {
                            self.set_peer(key, source);
                        }
                        if left > 0 {
                            return true;
                        }
                        rest
                    }
                    Progress::Invalid(reason) => {
                        self.fail_proxy(now, key, &reason);
                        return false;
                    }
                }
            }
        };
        self.end_proxy_header(now, key, &rest);
        true
    }

    fn set_peer(&mut self, key: usize, source: SocketAddr) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.peer = source;
            if let Some(id) = connection.id {
                self.node.broker().set_peer(id, source);
            }
        }
    }

    /// What follows is the client's own; `rest` of it has come already.
    fn end_proxy_header(&mut self, now: Now, key: usize, rest: &[u8]) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.proxy = None;
        if connection.phase == Phase::Undecided {
            let mode = self.node.options().tls.as_ref().map(|tls| tls.handshake);
            match (mode, rest.first()) {
                (Some(HandshakeMode::HandshakeFirst), _) => self.introduce(now, key, true),
                (_, Some(first)) => self.introduce(now, key, *first == TLS_HANDSHAKE),
                // The next byte, or the time for a handshake, decides.
                (_, None) => return,
            }
        }
        if !rest.is_empty() {
            self.feed(now, key, rest);
        }
    }

    /// Nothing is said to the peer.
    pub(crate) fn fail_proxy(&mut self, now: Now, key: usize, reason: &str) {
        if let Some(connection) = self.connections.get(key) {
            let peer = connection.peer;
            let text = format!("Error reading PROXY protocol header from {peer}: {reason}");
            self.logger.line(Level::Warning, &text);
        }
        self.end(now, key, CloseReason::ProtocolViolation);
    }
}
