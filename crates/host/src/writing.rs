//! From the broker to sockets: flushing, encrypting, closing.

use crate::connection::Phase;
use crate::event_loop::EventLoop;
use crate::limits::{
    CONNECTION_WRITE_BYTES, FLUSH_CLOSE_NS, LINGER_NS, LINGERING_MAX, TLS_WRITE_BYTES,
    WRITE_SLICES, WRITE_SLICES_FEW,
};
use millrace_clock::Now;
use millrace_core::{Broker, CloseReason, ConnectionId, Outbound};
use mio::net::TcpStream;
use std::cmp::Reverse;
use std::io::{self, ErrorKind, IoSlice, Write as _};
use std::net::Shutdown;

use crate::tls::Session;

/// How far a flush came.
pub(crate) enum Flushed {
    /// Nothing waits any more.
    All,
    /// The socket takes no more now.
    Blocked,
    /// Others must have their turn.
    Share,
}

impl EventLoop {
    /// Writes what waits for a socket, as far as it takes it.
    pub(crate) fn flush(&mut self, now: Now, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.write_blocked || connection.phase == Phase::Lingering {
            return;
        }
        let broker = self.node.broker();
        let id = connection.id;
        let result = match (id, &mut connection.tls) {
            _ if connection.websocket.is_some() => {
                let is_closing = connection.phase == Phase::Closing;
                connection.flush_websocket(broker, is_closing)
            }
            (None, _) => return,
            (Some(id), None) => flush_plain(&mut connection.socket, broker, id),
            (Some(id), Some(session)) => flush_tls(&mut connection.socket, session, broker, id),
        };
        match result {
            Ok(Flushed::All) => {
                let was_full = std::mem::take(&mut connection.was_full);
                if connection.phase == Phase::Closing {
                    self.finish(now, key);
                }
                if was_full {
                    self.release_held_back();
                }
            }
            Ok(Flushed::Blocked) => {
                connection.write_blocked = true;
                connection.was_full = true;
                if let Some(id) = id {
                    self.node.broker().write_blocked(now, id);
                }
            }
            Ok(Flushed::Share) => self.unflushed.push(key),
            Err(_) => self.end(now, key, CloseReason::WriteError),
        }
    }

    /// A socket that was full is written out: those that fill sockets may be read again.
    fn release_held_back(&mut self) {
        let mut held_back = std::mem::take(&mut self.held_back);
        for (key, serial, pause) in held_back.drain(..) {
            if let Some(connection) = self.connections.get_mut(key)
                && connection.serial == serial
                && connection.paused_until == pause
            {
                connection.paused_until = 0;
                self.mark_ready(key);
            }
        }
        self.held_back = held_back;
    }

    /// Closes a connection on the broker's behalf.
    pub(crate) fn close(
        &mut self,
        now: Now,
        id: ConnectionId,
        after_flush: bool,
        reason: CloseReason,
    ) {
        let Some(key) = self.by_id.get(&id).copied() else {
            return;
        };
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        // Without a handshake there is no one to decrypt a last error.
        if !after_flush || connection.is_handshaking() {
            self.end(now, key, reason);
            return;
        }
        connection.phase = Phase::Closing;
        if let Some(websocket) = &mut connection.websocket {
            websocket.close_reason = Some(reason);
        }
        self.timers.push(Reverse((
            now.after_ns(FLUSH_CLOSE_NS),
            key,
            connection.serial,
        )));
        self.unflushed.push(key);
    }

    /// Everything is written to a closing connection: it ends for the broker, and the socket
    /// lingers for a moment, because closing it with unread bytes would reset it and could take
    /// the last error away from the peer.
    fn finish(&mut self, now: Now, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if let Some(session) = &mut connection.tls {
            session.send_close();
            let _ = session.write_to(&mut connection.socket);
        }
        let _ = connection.socket.shutdown(Shutdown::Write);
        if self.lingering >= LINGERING_MAX {
            self.end(now, key, CloseReason::ClientClosed);
            return;
        }
        self.lingering += 1;
        connection.phase = Phase::Lingering;
        connection.paused_until = 0;
        connection.hashing = false;
        self.timers
            .push(Reverse((now.after_ns(LINGER_NS), key, connection.serial)));
        if let Some(id) = connection.id.take() {
            self.by_id.remove(&id);
            self.node
                .broker()
                .closed_by_peer(now, id, CloseReason::ClientClosed);
        }
        self.mark_ready(key);
        self.again = true;
    }
}

fn flush_plain(
    socket: &mut TcpStream,
    broker: &mut Broker,
    id: ConnectionId,
) -> io::Result<Flushed> {
    let mut share = CONNECTION_WRITE_BYTES;
    loop {
        let outbound = broker.outbound(id);
        if outbound.is_empty() {
            return Ok(Flushed::All);
        }
        if share == 0 {
            return Ok(Flushed::Share);
        }
        let written = if outbound.chunk_count() <= WRITE_SLICES_FEW {
            write_once::<WRITE_SLICES_FEW>(socket, outbound)
        } else {
            write_once::<WRITE_SLICES>(socket, outbound)
        };
        match written {
            Ok((0, _)) => return Err(ErrorKind::WriteZero.into()),
            Ok((count, wanted)) => {
                broker.written(id, count);
                share = share.saturating_sub(count);
                if count < wanted {
                    // The socket is full: asking again would only say so.
                    return Ok(Flushed::Blocked);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Flushed::Blocked),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// One `writev` of up to `N` slices: how many bytes the socket took, of how many.
fn write_once<const N: usize>(
    socket: &mut TcpStream,
    outbound: &Outbound,
) -> io::Result<(usize, usize)> {
    let mut slices = [IoSlice::new(&[]); N];
    let filled = outbound.io_slices(&mut slices);
    let slices = slices.get(..filled).unwrap_or_default();
    let wanted = slices.iter().map(|slice| slice.len()).sum();
    Ok((socket.write_vectored(slices)?, wanted))
}

fn flush_tls(
    socket: &mut TcpStream,
    session: &mut Session,
    broker: &mut Broker,
    id: ConnectionId,
) -> io::Result<Flushed> {
    let mut share = CONNECTION_WRITE_BYTES;
    loop {
        while session.wants_write() {
            match session.write_to(socket) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => share = share.saturating_sub(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Flushed::Blocked),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // Before the handshake is done nothing of ours may be written: it waits in the broker.
        let outbound = broker.outbound(id);
        if outbound.is_empty() || !session.is_established() {
            return Ok(Flushed::All);
        }
        if share == 0 {
            return Ok(Flushed::Share);
        }
        let mut slices = [IoSlice::new(&[]); 1];
        if outbound.io_slices(&mut slices) == 0 {
            return Ok(Flushed::All);
        }
        let length = slices[0].len().min(TLS_WRITE_BYTES);
        let count = session.send(&slices[0][..length])?;
        broker.written(id, count);
    }
}
