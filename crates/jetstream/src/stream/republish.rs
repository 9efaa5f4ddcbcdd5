//! Publishing what was stored once more, under another subject (spec jetstream/01 §5). The leader
//! does it when an entry is applied whole, so that nobody hears of a part of a batch. It is fire and
//! forget: what a crash cuts off is not made up for.

use std::collections::VecDeque;

use bytes::Bytes;
use millrace_clock::rfc3339;
use millrace_store::stream::Lookup;
use millrace_subject::Transform;

use super::Stream;
use crate::model::Republish;
use crate::shared::Turn;

/// Messages that may wait for a read from disk; those beyond are not published again.
const WAITING_MAX: usize = 65_536;

/// How a stream publishes again.
#[derive(Debug)]
pub(super) struct Republisher {
    transform: Transform,
    headers_only: bool,
    waiting: VecDeque<Republication>,
}

/// A stored message that is to be published again.
#[derive(Debug)]
pub(super) struct Republication {
    pub(super) sequence: u64,
    pub(super) time_ns: i64,
    pub(super) subject: Bytes,
    /// The message before it on its subject; 0: none.
    pub(super) last_sequence: u64,
    /// Headers and payload joined, and the length of the headers; `None`: to be read from the store.
    pub(super) body: Option<(Bytes, usize)>,
}

impl Republisher {
    pub(super) fn new(config: &Republish) -> Option<Self> {
        let transform = Transform::new(config.src.as_bytes(), config.dest.as_bytes()).ok()?;
        Some(Self {
            transform,
            headers_only: config.headers_only,
            waiting: VecDeque::new(),
        })
    }

    /// Whether messages on this subject are published again and there is room to remember one.
    pub(super) fn wants(&self, subject: &[u8]) -> bool {
        self.waiting.len() < WAITING_MAX
            && millrace_subject::matches(self.transform.source(), subject)
    }

    pub(super) fn push(&mut self, republication: Republication) {
        self.waiting.push_back(republication);
    }

    /// Forgets what waits: the lead was lost.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

impl Stream {
    /// Publishes what the applied entries stored, as far as it is in memory.
    pub(super) fn publish_again(&mut self, turn: &mut Turn<'_>) {
        let Some(mut republisher) = self.republisher.take() else {
            return;
        };
        let mut headers = Vec::new();
        while let Some(next) = republisher.waiting.pop_front() {
            let (block, payload) = match &next.body {
                Some((body, length)) => (body.slice(..*length), body.slice(*length..)),
                None => match self.store.get(next.sequence) {
                    Lookup::Loading => {
                        republisher.waiting.push_front(next);
                        break;
                    }
                    Lookup::Ready(Ok(message)) => (message.headers, message.payload),
                    // Limits took it away before it could be read.
                    Lookup::Ready(Err(_)) => continue,
                },
            };
            let subject = republisher
                .transform
                .apply(&next.subject, &mut turn.shared.random);
            let Some(subject) = subject else {
                continue;
            };
            let size = republisher.headers_only.then_some(payload.len());
            put_headers(&mut headers, &block, &self.name, &next, size);
            let payload = if republisher.headers_only {
                Bytes::new()
            } else {
                payload
            };
            turn.out
                .deliver(self.account, &subject, &subject, b"", &headers, &payload);
        }
        self.republisher = Some(republisher);
    }
}

/// The headers of the original, then what tells where it is stored; with `size` that of the payload
/// that is left out.
fn put_headers(
    out: &mut Vec<u8>,
    block: &[u8],
    stream: &str,
    message: &Republication,
    size: Option<usize>,
) {
    out.clear();
    match block.strip_suffix(b"\r\n") {
        Some(open) => out.extend_from_slice(open),
        None => out.extend_from_slice(b"NATS/1.0\r\n"),
    }
    let mut put = |key: &str, value: &[u8]| {
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    };
    let number = |number: u64| itoa::Buffer::new().format(number).to_owned();
    put("Nats-Stream", stream.as_bytes());
    put("Nats-Subject", &message.subject);
    put("Nats-Sequence", number(message.sequence).as_bytes());
    put(
        "Nats-Time-Stamp",
        rfc3339::format(message.time_ns).as_bytes(),
    );
    put(
        "Nats-Last-Sequence",
        number(message.last_sequence).as_bytes(),
    );
    if let Some(size) = size {
        put("Nats-Msg-Size", number(size as u64).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}
