//! A client of the simulated server: writes protocol lines, reads what comes back. Knows as much of
//! the protocol as the workloads need.

use millrace_clock::Now;
use millrace_core::{CloseReason, ConnectionFacts, ConnectionId, ConnectionKind};
use millrace_node::Node;

/// A message that the server delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    pub subject: String,
    /// Number of the subscription, from 1, in the order subscribed.
    pub subscription: u64,
    /// Empty without one.
    pub reply: String,
    /// The header block, status line included; empty without headers.
    pub headers: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Received {
    /// The code of a status message, such as 404.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        let line = self.headers.strip_prefix(b"NATS/1.0 ")?;
        std::str::from_utf8(line.get(..3)?).ok()?.parse().ok()
    }

    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let text = std::str::from_utf8(&self.headers).ok()?;
        text.split("\r\n")
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// Nobody listens on the subject of the request.
    #[must_use]
    pub fn is_no_responders(&self) -> bool {
        self.headers.starts_with(b"NATS/1.0 503")
    }
}

/// One connection.
#[derive(Debug)]
pub struct SimClient {
    id: ConnectionId,
    unparsed: Vec<u8>,
}

impl SimClient {
    /// Connects and subscribes to all of these.
    pub fn connect(node: &mut Node, now: Now, subscriptions: &[String]) -> Self {
        let facts = ConnectionFacts {
            peer_ip: None,
            peer_port: 1,
            kind: ConnectionKind::Client,
            tls: false,
            websocket: None,
        };
        let id = node.broker().accept(now, facts);
        let client = Self {
            id,
            unparsed: Vec::new(),
        };
        let connect = r#"CONNECT {"verbose":false,"headers":true,"no_responders":true}"#;
        let mut lines = format!("{connect}\r\n");
        for (subject, number) in subscriptions.iter().zip(1..) {
            lines.push_str(&format!("SUB {subject} {number}\r\n"));
        }
        client.send(node, now, lines.as_bytes());
        client
    }

    /// Hands bytes to the server.
    pub fn send(&self, node: &mut Node, now: Now, bytes: &[u8]) {
        node.broker().receive(now, self.id, bytes);
    }

    /// Hangs up.
    pub fn disconnect(self, node: &mut Node, now: Now) {
        let reason = CloseReason::ServerShutdown;
        node.broker().closed_by_peer(now, self.id, reason);
    }

    /// Takes what the server has for this connection.
    pub fn receive(&mut self, node: &mut Node) -> Vec<Received> {
        node.broker()
            .outbound(self.id)
            .take_into(&mut self.unparsed);
        let mut received = Vec::new();
        while let Some(message) = self.next_message() {
            received.push(message);
        }
        received
    }

    /// Parses up to the next message; other operations are passed over.
    fn next_message(&mut self) -> Option<Received> {
        loop {
            let end = self.unparsed.windows(2).position(|pair| pair == b"\r\n")?;
            let line = String::from_utf8_lossy(&self.unparsed[..end]).into_owned();
            let words: Vec<&str> = line.split(' ').collect();
            let number = |back: usize| -> usize {
                words
                    .len()
                    .checked_sub(back)
                    .and_then(|at| words[at].parse().ok())
                    .unwrap_or(0)
            };
            let (head, total, sizes) = match words[0] {
                "MSG" => (0, number(1), 1),
                "HMSG" => (number(2), number(1), 2),
                _ => {
                    self.unparsed.drain(..end + 2);
                    continue;
                }
            };
            let start = end + 2;
            if self.unparsed.len() < start + total + 2 {
                return None;
            }
            let subject = words.get(1).copied().unwrap_or("").to_owned();
            let subscription = words.get(2).and_then(|word| word.parse().ok());
            let reply = words
                .get(3)
                .filter(|_| words.len() == 4 + sizes)
                .map_or_else(String::new, |word| (*word).to_owned());
            let headers = self.unparsed[start..start + head].to_vec();
            let payload = self.unparsed[start + head..start + total].to_vec();
            self.unparsed.drain(..start + total + 2);
            return Some(Received {
                subject,
                subscription: subscription.unwrap_or(0),
                reply,
                headers,
                payload,
            });
        }
    }
}

/// A publish with a reply subject and, if there are any, headers.
#[must_use]
pub fn publish(subject: &str, reply: &str, headers: &[(&str, String)], payload: &[u8]) -> Vec<u8> {
    let block = header_block(headers);
    let mut out = if headers.is_empty() {
        format!("PUB {subject} {reply} {}\r\n", payload.len())
    } else {
        let (head, total) = (block.len(), block.len() + payload.len());
        format!("HPUB {subject} {reply} {head} {total}\r\n{block}")
    }
    .into_bytes();
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
    out
}

/// The header block as it goes over the wire; empty without headers.
#[must_use]
pub fn header_block(headers: &[(&str, String)]) -> String {
    if headers.is_empty() {
        return String::new();
    }
    let mut block = "NATS/1.0\r\n".to_owned();
    for (name, value) in headers {
        block.push_str(&format!("{name}: {value}\r\n"));
    }
    block.push_str("\r\n");
    block
}
