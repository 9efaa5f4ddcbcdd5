//! A raw protocol connection: bytes as written, nothing hidden.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::server::PATIENCE;

/// A connection to a server, with what it has received and not yet handed out.
pub struct RawClient {
    stream: TcpStream,
    received: Vec<u8>,
}

impl RawClient {
    /// Connects and reads nothing yet.
    #[must_use]
    pub fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// Connects, reads INFO, says CONNECT with headers and no_responders, and waits for PONG.
    #[must_use]
    pub fn ready(address: &str) -> Self {
        let mut client = Self::connect(address);
        client.read_line();
        client.send(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n");
        client.flush();
        client
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// PING, then waits for PONG; returns what came before it.
    pub fn flush(&mut self) -> Vec<u8> {
        self.send(b"PING\r\n");
        let mut before = self.read_until(b"PONG\r\n");
        before.truncate(before.len() - b"PONG\r\n".len());
        before
    }

    /// PING, then waits for PONG; what came before it is still there to be read.
    pub fn sync(&mut self) {
        let mut before = self.flush();
        before.append(&mut self.received);
        self.received = before;
    }

    /// What was received and not read.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        &self.received
    }

    /// Reads through the next LF.
    pub fn read_line(&mut self) -> Vec<u8> {
        self.read_until(b"\n")
    }

    /// Reads through the next LF, or what is left before the server closes.
    pub fn read_line_or_end(&mut self) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.received.iter().position(|byte| *byte == b'\n') {
                return self.received.drain(..=at).collect();
            }
            if !self.fill() {
                return std::mem::take(&mut self.received);
            }
            assert!(Instant::now() < deadline, "no line came");
        }
    }

    /// Reads through `end` and returns all up to and with it.
    pub fn read_until(&mut self, end: &[u8]) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self
                .received
                .windows(end.len())
                .position(|window| window == end)
            {
                return self.received.drain(..at + end.len()).collect();
            }
            let open = self.fill();
            let so_far = String::from_utf8_lossy(&self.received);
            assert!(
                open,
                "closed while waiting for {:?}: {so_far}",
                String::from_utf8_lossy(end)
            );
            assert!(
                Instant::now() < deadline,
                "nothing like {:?} came: {so_far}",
                String::from_utf8_lossy(end)
            );
        }
    }

    /// Reads exactly `count` bytes.
    pub fn read_exact(&mut self, count: usize) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        while self.received.len() < count {
            assert!(self.fill(), "closed");
            assert!(
                Instant::now() < deadline,
                "only {} bytes came",
                self.received.len()
            );
        }
        self.received.drain(..count).collect()
    }

    /// Reads until the server closes; returns all that came.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        while self.fill() {
            assert!(Instant::now() < deadline, "the server did not close");
        }
        std::mem::take(&mut self.received)
    }

    /// One request through the mux inbox of this connection; returns headers and payload.
    pub fn request(&mut self, subject: &str, payload: &[u8]) -> Message {
        self.request_with_headers(subject, b"", payload)
    }

    /// As [`Self::request`], with a whole header block.
    pub fn request_with_headers(
        &mut self,
        subject: &str,
        headers: &[u8],
        payload: &[u8],
    ) -> Message {
        self.send(b"SUB _INBOX.raw 9999\r\n");
        self.publish(subject, "_INBOX.raw", headers, payload);
        let message = self.read_message();
        self.send(b"UNSUB 9999\r\n");
        message
    }

    pub fn publish(&mut self, subject: &str, reply: &str, headers: &[u8], payload: &[u8]) {
        let reply = if reply.is_empty() {
            String::new()
        } else {
            format!("{reply} ")
        };
        let mut bytes = if headers.is_empty() {
            format!("PUB {subject} {reply}{}\r\n", payload.len())
        } else {
            format!(
                "HPUB {subject} {reply}{} {}\r\n",
                headers.len(),
                headers.len() + payload.len()
            )
        }
        .into_bytes();
        bytes.extend_from_slice(headers);
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(b"\r\n");
        self.send(&bytes);
    }

    /// The next MSG or HMSG; answers PINGs and skips INFO and +OK on the way.
    pub fn read_message(&mut self) -> Message {
        loop {
            let line = self.read_line();
            let text = String::from_utf8_lossy(&line).into_owned();
            let words: Vec<&str> = text.split_whitespace().collect();
            match words.as_slice() {
                ["MSG", subject, _sid, rest @ ..] => {
                    let size: usize = rest.last().unwrap().parse().unwrap();
                    let reply = if rest.len() == 2 { rest[0] } else { "" };
                    let payload = self.read_body(size);
                    return Message::new(subject, reply, Vec::new(), payload);
                }
                ["HMSG", subject, _sid, rest @ ..] => {
                    let total: usize = rest[rest.len() - 1].parse().unwrap();
                    let head: usize = rest[rest.len() - 2].parse().unwrap();
                    let reply = if rest.len() == 3 { rest[0] } else { "" };
                    let mut headers = self.read_body(total);
                    let payload = headers.split_off(head);
                    return Message::new(subject, reply, headers, payload);
                }
                ["PING"] => self.send(b"PONG\r\n"),
                ["INFO", ..] | ["+OK"] | ["PONG"] => {}
                _ => panic!("unexpected: {text}"),
            }
        }
    }

    fn read_body(&mut self, size: usize) -> Vec<u8> {
        let mut body = self.read_exact(size + 2);
        body.truncate(size);
        body
    }

    /// Reads what is there; false when the server has closed.
    fn fill(&mut self) -> bool {
        let mut block = [0; 16 * 1024];
        match self.stream.read(&mut block) {
            Ok(0) => false,
            Ok(count) => {
                self.received.extend_from_slice(&block[..count]);
                true
            }
            Err(error) => {
                matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                )
            }
        }
    }
}

/// A message as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub subject: String,
    pub reply: String,
    pub headers: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Message {
    fn new(subject: &str, reply: &str, headers: Vec<u8>, payload: Vec<u8>) -> Self {
        Self {
            subject: subject.to_owned(),
            reply: reply.to_owned(),
            headers,
            payload,
        }
    }

    /// The payload as JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.payload)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.payload)))
    }

    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}
