//! A client that costs as little as possible: blocking sockets, large blocks, no parsing beyond
//! what a scenario counts.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Bytes read at once.
pub(crate) const READ_BYTES: usize = 1 << 20;
/// A scenario that makes no progress for this long has failed.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection that has said CONNECT and seen PONG.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

impl Client {
    pub(crate) fn connect(address: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(address).map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        stream.set_read_timeout(Some(STALL_TIMEOUT)).map_err(text)?;
        stream
            .set_write_timeout(Some(STALL_TIMEOUT))
            .map_err(text)?;
        let mut client = Self { stream };
        client.send(
            b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"protocol\":0}\r\n",
        )?;
        client.flush()?;
        Ok(client)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(text)
    }

    /// PING, then reads until PONG; returns what came before it.
    pub(crate) fn flush(&mut self) -> Result<Vec<u8>, String> {
        self.send(b"PING\r\n")?;
        self.read_until(b"PONG\r\n")
    }

    pub(crate) fn read_until(&mut self, end: &[u8]) -> Result<Vec<u8>, String> {
        let mut received = Vec::new();
        let mut block = vec![0; 64 << 10];
        while memchr::memmem::find(&received, end).is_none() {
            let count = self.stream.read(&mut block).map_err(text)?;
            if count == 0 {
                return Err(format!("closed: {}", String::from_utf8_lossy(&received)));
            }
            received.extend_from_slice(&block[..count]);
        }
        Ok(received)
    }

    /// A request with a JSON answer; fails if the answer holds an error.
    pub(crate) fn request(&mut self, subject: &str, body: &str) -> Result<String, String> {
        let lines = format!(
            "SUB _INBOX.request 99\r\nPUB {subject} _INBOX.request {}\r\n{body}\r\n",
            body.len()
        );
        self.send(lines.as_bytes())?;
        let mut answer = self.read_until(b"MSG _INBOX.request 99")?;
        let deadline_block = self.flush()?;
        answer.extend_from_slice(&deadline_block);
        self.send(b"UNSUB 99\r\n")?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        if answer.contains("\"error\"") {
            Err(answer)
        } else {
            Ok(answer)
        }
    }
}

/// `count` PUB lines in one block.
pub(crate) fn publish_block(subject: &str, reply: &str, payload: usize, count: usize) -> Vec<u8> {
    let space = if reply.is_empty() { "" } else { " " };
    let head = format!("PUB {subject}{space}{reply} {payload}\r\n");
    let mut block = Vec::with_capacity(count * (head.len() + payload + 2));
    for _ in 0..count {
        block.extend_from_slice(head.as_bytes());
        block.resize(block.len() + payload, b'x');
        block.extend_from_slice(b"\r\n");
    }
    block
}

pub(crate) fn text(error: std::io::Error) -> String {
    error.to_string()
}
