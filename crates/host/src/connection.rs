//! One socket: what the event loop remembers of it. Reading is in `reading`, writing and closing
//! in `writing`.

use crate::proxy::ProxyHeader;
use crate::tls::Session;
use crate::websocket::Websocket;
use millrace_core::ConnectionId;
use mio::net::TcpStream;
use std::net::SocketAddr;

/// Where a socket is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not told to the broker yet: the first byte, or a short time, decides about TLS.
    Undecided,
    /// A WebSocket's request is being read; the broker does not know of it.
    Upgrading,
    /// In use.
    Open,
    /// The broker ended it; what it holds is still written.
    Closing,
    /// Ended and written; late bytes of the peer are read and dropped for a moment.
    Lingering,
}

/// A socket and its state.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: TcpStream,
    pub(crate) peer: SocketAddr,
    /// Tells this use of a slot from later ones.
    pub(crate) serial: u64,
    /// The broker's name for it, once it is accepted there.
    pub(crate) id: Option<ConnectionId>,
    pub(crate) tls: Option<Box<Session>>,
    /// Frames around what it carries, if it came in by that door.
    pub(crate) websocket: Option<Box<Websocket>>,
    /// A proxy's header is still to come.
    pub(crate) proxy: Option<Box<ProxyHeader>>,
    pub(crate) phase: Phase,
    /// Monotonic time until which it is not read; 0 when it may be.
    pub(crate) paused_until: u64,
    /// Monotonic time by which its TLS handshake must be done; 0 when that is the broker's concern.
    pub(crate) handshake_until: u64,
    /// A password is being compared: not read meanwhile.
    pub(crate) hashing: bool,
    /// Stands in the queue of sockets to read.
    pub(crate) queued: bool,
    /// The system said that the peer sends no more: read on until the end shows.
    pub(crate) peer_closing: bool,
    /// The socket took no more; writing goes on when the system says so.
    pub(crate) write_blocked: bool,
    /// The socket was full at some time since everything was last written.
    pub(crate) was_full: bool,
}

impl Connection {
    pub(crate) const fn new(socket: TcpStream, peer: SocketAddr, serial: u64) -> Self {
        Self {
            socket,
            peer,
            serial,
            id: None,
            tls: None,
            websocket: None,
            proxy: None,
            phase: Phase::Undecided,
            paused_until: 0,
            handshake_until: 0,
            hashing: false,
            queued: false,
            peer_closing: false,
            write_blocked: false,
            was_full: false,
        }
    }

    /// Whether a TLS handshake has begun and is not done.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|session| !session.is_established())
    }

    /// Whether what is read and written is the client protocol itself.
    pub(crate) const fn is_plain(&self) -> bool {
        self.tls.is_none() && self.websocket.is_none()
    }

    /// How log lines name it.
    pub(crate) fn log_name(&self) -> String {
        let number = self.id.map_or(0, |id| id.0);
        format!("{} - cid:{number}", self.peer)
    }

    /// Whether bytes may be read from it now.
    pub(crate) const fn may_read(&self) -> bool {
        matches!(
            self.phase,
            Phase::Open | Phase::Upgrading | Phase::Lingering
        ) && self.paused_until == 0
            && !self.hashing
    }
}
