//! The generator: one thread, one epoll, any number of connections. It writes and reads in large
//! blocks; what the bytes mean is up to the role of a connection.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use crate::control::{Client, text};
use crate::interrupt;

/// Bytes read at once: large, but small enough to stay in the processor's cache.
const READ_BYTES: usize = 256 << 10;
/// A run in which nothing moves for this long has failed.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest sleep between two looks at the sources.
const TICK: Duration = Duration::from_millis(50);
/// Bytes of the end of the last block that an error message shows.
const ERROR_TAIL_BYTES: usize = 200;

/// What a connection does.
pub(crate) trait Role {
    /// Called once when the run begins.
    fn start(&mut self, output: &mut Output) {
        let _ = output;
    }

    /// Whether bytes may be thrown away by the kernel, unseen: they are only counted.
    fn only_counts(&self) -> bool {
        false
    }

    /// So many bytes arrived and were thrown away.
    fn counted(&mut self, bytes: usize) {
        let _ = bytes;
    }

    /// Bytes arrived.
    fn received(&mut self, bytes: &[u8], output: &mut Output) -> Result<(), String>;

    /// Called every turn in which nothing is waiting to be written.
    fn refill(&mut self, output: &mut Output) {
        let _ = output;
    }
}

enum Chunk {
    Shared(Rc<[u8]>, Range<usize>),
    Owned(Vec<u8>, usize),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(bytes, range) => bytes.get(range.clone()),
            Self::Owned(bytes, start) => bytes.get(*start..),
        }
        .unwrap_or_default()
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Shared(_, range) => range.start += count,
            Self::Owned(_, start) => *start += count,
        }
    }
}

/// What a connection still has to write.
#[derive(Default)]
pub(crate) struct Output {
    chunks: VecDeque<Chunk>,
    spare: Vec<u8>,
}

impl Output {
    /// A part of a block that others share.
    pub(crate) fn share(&mut self, bytes: &Rc<[u8]>, range: Range<usize>) {
        self.chunks
            .push_back(Chunk::Shared(Rc::clone(bytes), range));
    }

    /// A few bytes.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        if let Some(Chunk::Owned(last, _)) = self.chunks.back_mut() {
            last.extend_from_slice(bytes);
            return;
        }
        let mut chunk = std::mem::take(&mut self.spare);
        chunk.clear();
        chunk.extend_from_slice(bytes);
        self.chunks.push_back(Chunk::Owned(chunk, 0));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    fn written(&mut self, count: usize) {
        let Some(front) = self.chunks.front_mut() else {
            return;
        };
        front.advance(count);
        if front.bytes().is_empty()
            && let Some(Chunk::Owned(bytes, _)) = self.chunks.pop_front()
        {
            self.spare = bytes;
        }
    }
}

struct Connection {
    stream: TcpStream,
    role: Box<dyn Role>,
    output: Output,
    readable: bool,
    writable: bool,
}

/// Connections that are driven together.
pub(crate) struct Engine {
    epoll: std::os::fd::OwnedFd,
    connections: Vec<Connection>,
    block: Vec<u8>,
    tick: Duration,
}

impl Engine {
    pub(crate) fn new() -> Result<Self, String> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).map_err(text)?,
            connections: Vec::new(),
            block: vec![0; READ_BYTES],
            tick: TICK,
        })
    }

    /// Looks at sources this often even if nothing arrives.
    pub(crate) fn with_tick(mut self, tick: Duration) -> Self {
        self.tick = tick;
        self
    }

    /// Takes a connection over.
    pub(crate) fn add(&mut self, client: Client, role: impl Role + 'static) -> Result<(), String> {
        let stream = client.stream;
        stream.set_nonblocking(true).map_err(text)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        let data = epoll::EventData::new_u64(self.connections.len() as u64);
        epoll::add(&self.epoll, &stream, data, flags).map_err(text)?;
        self.connections.push(Connection {
            stream,
            role: Box::new(role),
            output: Output::default(),
            readable: false,
            writable: true,
        });
        Ok(())
    }

    /// Drives everything until `finished` says so.
    pub(crate) fn run(&mut self, finished: impl Fn() -> bool) -> Result<(), String> {
        for connection in &mut self.connections {
            connection.role.start(&mut connection.output);
        }
        let mut events = Vec::with_capacity(256);
        let mut last_progress = Instant::now();
        loop {
            let mut moved = 0;
            for connection in &mut self.connections {
                if connection.readable {
                    moved += connection.read(&mut self.block)?;
                }
                if connection.output.is_empty() {
                    connection.role.refill(&mut connection.output);
                }
                if connection.writable && !connection.output.is_empty() {
                    moved += connection.write()?;
                    if connection.output.is_empty() {
                        // What there is to send next keeps the loop from going to sleep.
                        connection.role.refill(&mut connection.output);
                    }
                }
            }
            if finished() {
                return Ok(());
            }
            let is_busy = self.connections.iter().any(|connection| {
                connection.readable || (connection.writable && !connection.output.is_empty())
            });
            if moved > 0 {
                last_progress = Instant::now();
            } else if last_progress.elapsed() > STALL_TIMEOUT {
                return Err(format!("nothing moved for {STALL_TIMEOUT:?}"));
            }
            let timeout = if is_busy { Duration::ZERO } else { self.tick };
            self.wait(&mut events, timeout)?;
        }
    }

    fn wait(&mut self, events: &mut Vec<epoll::Event>, timeout: Duration) -> Result<(), String> {
        if interrupt::requested().load(Ordering::Relaxed) {
            return Err("interrupted".to_owned());
        }
        let timeout = Timespec::try_from(timeout).map_err(text)?;
        events.clear();
        let buffer = rustix::buffer::spare_capacity(events);
        match epoll::wait(&self.epoll, buffer, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(text(error)),
        }
        for event in events.iter() {
            let (index, flags) = (event.data.u64(), event.flags);
            if let Some(connection) = self.connections.get_mut(index as usize) {
                connection.writable |= flags.contains(epoll::EventFlags::OUT);
                connection.readable |= flags.intersects(
                    epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR,
                );
            }
        }
        Ok(())
    }
}

impl Connection {
    /// Reads once; a short read means that nothing is left until the next event.
    fn read(&mut self, block: &mut [u8]) -> Result<usize, String> {
        if self.role.only_counts() {
            return self.count(block);
        }
        match self.stream.read(block) {
            Ok(0) => Err("the server closed a connection".to_owned()),
            Ok(count) => {
                self.readable = count == block.len();
                let bytes = block.get(..count).unwrap_or_default();
                self.role
                    .received(bytes, &mut self.output)
                    .map_err(|error| {
                        let start = bytes.len().saturating_sub(ERROR_TAIL_BYTES);
                        let tail = bytes.get(start..).unwrap_or_default();
                        format!("{error}; last received: {}", String::from_utf8_lossy(tail))
                    })?;
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(0)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(format!("reading: {error}")),
        }
    }

    /// Takes bytes off the socket without a copy: TCP drops what is received with `MSG_TRUNC`.
    fn count(&mut self, block: &mut [u8]) -> Result<usize, String> {
        match rustix::net::recv(&self.stream, &mut *block, rustix::net::RecvFlags::TRUNC) {
            Ok((_, 0)) => Err("the server closed a subscriber".to_owned()),
            Ok((_, count)) => {
                self.readable = count == block.len();
                self.role.counted(count);
                Ok(count)
            }
            Err(rustix::io::Errno::AGAIN) => {
                self.readable = false;
                Ok(0)
            }
            Err(rustix::io::Errno::INTR) => Ok(0),
            Err(error) => Err(format!("reading: {error}")),
        }
    }

    fn write(&mut self) -> Result<usize, String> {
        let mut total = 0;
        while let Some(chunk) = self.output.chunks.front() {
            match self.stream.write(chunk.bytes()) {
                Ok(count) => {
                    total += count;
                    self.output.written(count);
                    if total >= READ_BYTES {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.writable = false;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("writing: {error}")),
            }
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::{Chunk, Output};

    #[test]
    fn output_keeps_the_order_of_shared_and_own_bytes() {
        let block: std::rc::Rc<[u8]> = b"0123456789".as_slice().into();
        let mut output = Output::default();
        output.append(b"ab");
        output.append(b"cd");
        output.share(&block, 2..5);
        output.append(b"ef");
        let mut written = Vec::new();
        while let Some(chunk) = output.chunks.front() {
            // Two bytes at a time, as a socket that is nearly full takes them.
            let bytes = chunk.bytes();
            let count = bytes.len().min(2);
            written.extend_from_slice(bytes.get(..count).unwrap());
            output.written(count);
        }
        assert_eq!(written, b"abcd234ef");
        assert!(output.is_empty());
        output.append(b"x");
        assert!(matches!(output.chunks.front(), Some(Chunk::Owned(bytes, 0)) if bytes == b"x"));
    }
}
