//! `bench relay`: the physical limit. A bare epoll loop that moves the bytes of one connection to
//! another one and does nothing else; a server can at best come near it.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use rustix::event::epoll;

use crate::control::text;

/// Bytes moved at once: what stays in the processor's cache between the two copies.
const BLOCK_BYTES: usize = 128 << 10;

/// Prints the address, then moves bytes from the second connection to the first one until an end
/// is closed; and again, until the process is ended.
pub(crate) fn run() -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(text)?;
    println!("{}", listener.local_addr().map_err(text)?);
    loop {
        let (sink, _) = listener.accept().map_err(text)?;
        let (source, _) = listener.accept().map_err(text)?;
        // An end that closes is the end of a run.
        let _ = relay(source, sink);
    }
}

fn relay(mut source: TcpStream, mut sink: TcpStream) -> Result<(), String> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(text)?;
    for (number, stream, flag) in [
        (0, &source, epoll::EventFlags::IN),
        (1, &sink, epoll::EventFlags::OUT),
    ] {
        stream.set_nonblocking(true).map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        let data = epoll::EventData::new_u64(number);
        epoll::add(&epoll, stream, data, flag | epoll::EventFlags::ET).map_err(text)?;
    }
    let mut block = vec![0; BLOCK_BYTES];
    let mut events = Vec::with_capacity(8);
    loop {
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None).map_err(text)?;
        loop {
            match source.read(&mut block) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    let bytes = block.get(..count).unwrap_or_default();
                    write_all(&epoll, &mut sink, bytes)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(text(error)),
            }
        }
    }
}

fn write_all(
    epoll: &impl std::os::fd::AsFd,
    sink: &mut TcpStream,
    mut bytes: &[u8],
) -> Result<(), String> {
    let mut events = Vec::with_capacity(8);
    while !bytes.is_empty() {
        match sink.write(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                events.clear();
                let buffer = rustix::buffer::spare_capacity(&mut events);
                epoll::wait(epoll, buffer, None).map_err(text)?;
            }
            Err(error) => return Err(text(error)),
        }
    }
    Ok(())
}
