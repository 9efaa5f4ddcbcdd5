//! A stream backup (the reference's V2 archive), without the S2 frames around it: what the stream
//! was, its consumers, its messages, and a sentinel that says that this was all.
//!
//! ```text
//! archive  "NATSARC1" | entry*
//! entry    name length v | time_ns z | sequence v | headers length v | payload length v |
//!          name | headers | payload
//! v, z     varint, unsigned and zigzag
//! ```
//!
//! The order is `state.json`, `consumers/<name>` as often as the state says, messages with ascending
//! sequences (their subject is the name), an entry of zeros.

use std::collections::BTreeMap;

use bytes::{Buf as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::varint::{self, Number};

const MAGIC: &[u8] = b"NATSARC1";
const STATE_NAME: &[u8] = b"state.json";
const CONSUMER_PREFIX: &[u8] = b"consumers/";
/// Longest name: no subject is longer in any store.
const NAME_BYTES_MAX: u64 = 1 << 16;
/// Longest `state.json`: a few hundred bytes as a rule.
const STATE_BYTES_MAX: u64 = 1 << 20;
/// Longest entry of a consumer: some 70 bytes for each message that waits for its acknowledgement.
const CONSUMER_BYTES_MAX: u64 = 64 << 20;

/// Why an archive is refused. Texts are the reference's, clients show them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    #[error("archive: invalid archive stream")]
    Invalid,
    #[error("EOF")]
    Ended,
    #[error("unexpected EOF")]
    Cut,
    #[error("expected state.json first")]
    StateMissing,
    #[error("error in state.json: {0}")]
    State(String),
    #[error("invalid stream state: {0}")]
    Inconsistent(&'static str),
    #[error("expected consumer, found {0:?}")]
    ConsumerMissing(String),
    #[error("failed to decode consumer {0:?} state: {1}")]
    Consumer(String, String),
    #[error("consumer {0:?} is missing {1}")]
    ConsumerIncomplete(String, &'static str),
    #[error("expected message sequence")]
    NoSequence,
    #[error("message sequence {0} out of order")]
    OutOfOrder(u64),
    #[error("message sequence {0} exceeds maximum payload size")]
    TooLarge(u64),
}

/// What an archive says of its stream at its beginning. The counts are no promise: messages may have
/// gone while the archive was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct StateHead {
    pub messages: u64,
    pub bytes: u64,
    pub first_seq: u64,
    pub last_seq: u64,
    pub consumer_count: i64,
}

/// A place in both countings of a consumer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SequencePair {
    pub consumer_seq: u64,
    pub stream_seq: u64,
}

/// A delivered message without an acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PendingMessage {
    /// Consumer sequence of the first delivery.
    pub sequence: u64,
    /// When it was delivered last, nanoseconds since the epoch.
    pub timestamp: i64,
}

/// What a consumer did so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsumerState {
    pub delivered: SequencePair,
    pub ack_floor: SequencePair,
    /// By stream sequence.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pending: BTreeMap<u64, PendingMessage>,
    /// Deliveries after the first, by stream sequence.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub redelivered: BTreeMap<u64, u64>,
}

/// A consumer of an archive.
#[derive(Clone, Debug)]
pub struct ConsumerEntry {
    /// As the entry names it; the configuration may say otherwise.
    pub name: String,
    /// JSON, not looked at.
    pub config: Box<RawValue>,
    pub state: ConsumerState,
}

/// A message of an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageEntry {
    pub subject: Bytes,
    pub sequence: u64,
    pub time_ns: i64,
    /// The whole header block; empty: none.
    pub headers: Bytes,
    pub payload: Bytes,
}

/// What comes out of an archive, in this order.
#[derive(Clone, Debug)]
pub enum Item {
    State(StateHead),
    Consumer(Box<ConsumerEntry>),
    Message(MessageEntry),
    /// The sentinel. What stands behind it is not read.
    End,
}

fn put_entry(out: &mut Vec<u8>, name: &[u8], time_ns: i64, sequence: u64, parts: [&[u8]; 2]) {
    varint::put(out, name.len() as u64);
    varint::put_signed(out, time_ns);
    varint::put(out, sequence);
    for part in parts {
        varint::put(out, part.len() as u64);
    }
    out.extend_from_slice(name);
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Appends what an archive begins with. `state`: the stream's state as JSON.
pub fn put_state(out: &mut Vec<u8>, time_ns: i64, state: &[u8]) {
    out.extend_from_slice(MAGIC);
    put_entry(out, STATE_NAME, time_ns, 0, [b"", state]);
}

/// Appends a consumer; `config` as JSON.
pub fn put_consumer(
    out: &mut Vec<u8>,
    time_ns: i64,
    name: &str,
    config: &[u8],
    state: &ConsumerState,
) {
    let mut name_bytes = CONSUMER_PREFIX.to_vec();
    name_bytes.extend_from_slice(name.as_bytes());
    let mut json = b"{\"config\":".to_vec();
    json.extend_from_slice(config);
    json.extend_from_slice(b",\"state\":");
    // Numbers and maps of them: nothing that could fail.
    json.extend_from_slice(&serde_json::to_vec(state).unwrap_or_default());
    json.push(b'}');
    put_entry(out, &name_bytes, time_ns, 0, [b"", &json]);
}

/// Appends a message, without its payload: that comes right behind.
pub fn put_message_head(
    out: &mut Vec<u8>,
    subject: &[u8],
    sequence: u64,
    time_ns: i64,
    headers: &[u8],
    payload_length: usize,
) {
    varint::put(out, subject.len() as u64);
    varint::put_signed(out, time_ns);
    varint::put(out, sequence);
    varint::put(out, headers.len() as u64);
    varint::put(out, payload_length as u64);
    out.extend_from_slice(subject);
    out.extend_from_slice(headers);
}

/// Appends the sentinel.
pub fn put_end(out: &mut Vec<u8>) {
    put_entry(out, b"", 0, 0, [b"", b""]);
}

/// The numbers before the bytes of an entry.
#[derive(Clone, Copy, Debug)]
struct EntryHead {
    name: u64,
    time_ns: i64,
    sequence: u64,
    headers: u64,
    payload: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Magic,
    State,
    /// So many consumers, then messages.
    Consumers(i64),
    Messages,
    Done,
}

/// Reads an archive.
#[derive(Debug)]
pub struct Reader {
    buffer: BytesMut,
    phase: Phase,
    /// Most bytes of a message's headers and payload.
    message_bytes_max: u64,
    last_sequence: u64,
}

impl Reader {
    /// A reader of an archive whose messages have at most so many bytes of headers and payload.
    #[must_use]
    pub fn new(message_bytes_max: u64) -> Self {
        Self {
            buffer: BytesMut::new(),
            phase: Phase::Magic,
            message_bytes_max,
            last_sequence: 0,
        }
    }

    /// Takes bytes. Call [`Reader::next_item`] until it has none before the next ones.
    pub fn push(&mut self, data: &[u8]) {
        if self.phase != Phase::Done {
            self.buffer.extend_from_slice(data);
        }
    }

    /// The next item, if it is there whole. Behind [`Item::End`] there is none.
    ///
    /// # Errors
    /// [`ArchiveError`]: nothing behind it can be read.
    pub fn next_item(&mut self) -> Result<Option<Item>, ArchiveError> {
        if self.phase == Phase::Magic {
            let known = self.buffer.len().min(MAGIC.len());
            if self.buffer.get(..known) != MAGIC.get(..known) {
                return Err(ArchiveError::Invalid);
            }
            if known < MAGIC.len() {
                return Ok(None);
            }
            self.buffer.advance(known);
            self.phase = Phase::State;
        }
        if self.phase == Phase::Done {
            return Ok(None);
        }
        let Some((head, length)) = self.head()? else {
            return Ok(None);
        };
        self.check_sizes(&head)?;
        // Checked: none of them is longer than its limit.
        let body = (head.name + head.headers + head.payload) as usize;
        if self.buffer.len() < length + body {
            return Ok(None);
        }
        self.buffer.advance(length);
        let mut body = self.buffer.split_to(body).freeze();
        let name = body.split_to(head.name as usize);
        self.item(&head, name, body).map(Some)
    }

    /// The archive ends here.
    ///
    /// # Errors
    /// It must not: the sentinel is missing.
    pub fn finish(&self) -> Result<(), ArchiveError> {
        match self.phase {
            Phase::Done => Ok(()),
            _ if self.buffer.is_empty() => Err(ArchiveError::Ended),
            _ => Err(ArchiveError::Cut),
        }
    }

    fn head(&self) -> Result<Option<(EntryHead, usize)>, ArchiveError> {
        let mut rest = &self.buffer[..];
        let mut numbers = [0u64; 5];
        for number in &mut numbers {
            match varint::read(rest) {
                Number::Read(value, length) => {
                    *number = value;
                    rest.advance(length);
                }
                Number::Cut => return Ok(None),
                Number::Bad => return Err(ArchiveError::Invalid),
            }
        }
        let [name, time, sequence, headers, payload] = numbers;
        let head = EntryHead {
            name,
            time_ns: varint::signed(time),
            sequence,
            headers,
            payload,
        };
        Ok(Some((head, self.buffer.len() - rest.len())))
    }

    fn check_sizes(&self, head: &EntryHead) -> Result<(), ArchiveError> {
        let (max, error) = match self.phase {
            Phase::Messages => (
                self.message_bytes_max,
                ArchiveError::TooLarge(head.sequence),
            ),
            Phase::Consumers(_) => (CONSUMER_BYTES_MAX, ArchiveError::Invalid),
            _ => (STATE_BYTES_MAX, ArchiveError::Invalid),
        };
        if head.name > NAME_BYTES_MAX {
            return Err(ArchiveError::Invalid);
        }
        match head.headers.checked_add(head.payload) {
            Some(bytes) if bytes <= max => Ok(()),
            _ => Err(error),
        }
    }

    fn item(&mut self, head: &EntryHead, name: Bytes, body: Bytes) -> Result<Item, ArchiveError> {
        match self.phase {
            Phase::State => self.state(&name, &body),
            Phase::Consumers(left) => {
                self.phase = match left {
                    ..=1 => Phase::Messages,
                    _ => Phase::Consumers(left - 1),
                };
                consumer(&name, &body)
            }
            _ => self.message(head, name, body),
        }
    }

    fn state(&mut self, name: &[u8], body: &[u8]) -> Result<Item, ArchiveError> {
        if name != STATE_NAME {
            return Err(ArchiveError::StateMissing);
        }
        let state: StateHead =
            serde_json::from_slice(body).map_err(|error| ArchiveError::State(json_text(&error)))?;
        if state.consumer_count < 0 {
            return Err(ArchiveError::Inconsistent("negative consumer count"));
        }
        let (first, last) = (state.first_seq, state.last_seq);
        if first > last.saturating_add(1) || last == u64::MAX {
            let text = "inconsistent message count or sequence range";
            return Err(ArchiveError::Inconsistent(text));
        }
        if state.messages > (last + 1).saturating_sub(first.max(1)) {
            let text = "message count exceeds sequence range";
            return Err(ArchiveError::Inconsistent(text));
        }
        self.last_sequence = first.saturating_sub(1);
        self.phase = match state.consumer_count {
            0 => Phase::Messages,
            count => Phase::Consumers(count),
        };
        Ok(Item::State(state))
    }

    fn message(
        &mut self,
        head: &EntryHead,
        subject: Bytes,
        mut body: Bytes,
    ) -> Result<Item, ArchiveError> {
        if head.sequence == 0 {
            if subject.is_empty() && body.is_empty() && head.time_ns == 0 {
                self.phase = Phase::Done;
                self.buffer = BytesMut::new();
                return Ok(Item::End);
            }
            return Err(ArchiveError::NoSequence);
        }
        if head.sequence <= self.last_sequence || head.sequence == u64::MAX {
            return Err(ArchiveError::OutOfOrder(head.sequence));
        }
        self.last_sequence = head.sequence;
        let headers = body.split_to(head.headers as usize);
        Ok(Item::Message(MessageEntry {
            subject,
            sequence: head.sequence,
            time_ns: head.time_ns,
            headers,
            payload: body,
        }))
    }
}

/// A parser's text in the words of the reference's, where they are known.
fn json_text(error: &serde_json::Error) -> String {
    if error.is_eof() {
        "unexpected EOF".to_owned()
    } else {
        error.to_string()
    }
}

fn consumer(name: &[u8], body: &[u8]) -> Result<Item, ArchiveError> {
    #[derive(Deserialize)]
    struct Content<'a> {
        #[serde(borrow, default)]
        config: Option<&'a RawValue>,
        #[serde(default)]
        state: Option<ConsumerState>,
    }
    let text = String::from_utf8_lossy(name).into_owned();
    let Some(name) = text.as_bytes().strip_prefix(CONSUMER_PREFIX) else {
        return Err(ArchiveError::ConsumerMissing(text));
    };
    let name = String::from_utf8_lossy(name).into_owned();
    let content: Content<'_> = serde_json::from_slice(body)
        .map_err(|error| ArchiveError::Consumer(name.clone(), json_text(&error)))?;
    let Some(config) = content.config else {
        return Err(ArchiveError::ConsumerIncomplete(name, "config"));
    };
    let Some(state) = content.state else {
        return Err(ArchiveError::ConsumerIncomplete(name, "state"));
    };
    Ok(Item::Consumer(Box::new(ConsumerEntry {
        name,
        config: config.to_owned(),
        state,
    })))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STATE: &[u8] = br#"{"messages":2,"bytes":60,"first_seq":3,"last_seq":9,"consumer_count":1,"first_ts":"2026-01-01T00:00:00Z"}"#;

    fn archive() -> Vec<u8> {
        let mut out = Vec::new();
        put_state(&mut out, 5, STATE);
        let state = ConsumerState {
            delivered: SequencePair {
                consumer_seq: 4,
                stream_seq: 7,
            },
            pending: [(
                4,
                PendingMessage {
                    sequence: 2,
                    timestamp: 99,
                },
            )]
            .into(),
            redelivered: [(4, 1)].into(),
            ..ConsumerState::default()
        };
        put_consumer(&mut out, 5, "c", br#"{"name":"c"}"#, &state);
        for (sequence, headers) in [(4, &b""[..]), (7, b"NATS/1.0\r\nA: b\r\n\r\n")] {
            put_message_head(&mut out, b"a.b", sequence, -7, headers, 4);
            out.extend_from_slice(b"body");
        }
        put_end(&mut out);
        out
    }

    fn read(data: &[u8], step: usize) -> Result<Vec<Item>, ArchiveError> {
        let mut reader = Reader::new(1000);
        let mut items = Vec::new();
        for piece in data.chunks(step) {
            reader.push(piece);
            while let Some(item) = reader.next_item()? {
                items.push(item);
            }
        }
        reader.finish()?;
        Ok(items)
    }

    #[test]
    fn an_archive_is_read_back_however_it_is_cut() {
        for step in [1, 7, 1000] {
            let items = read(&archive(), step).expect("a good archive");
            let [
                Item::State(state),
                Item::Consumer(consumer),
                Item::Message(first),
                Item::Message(second),
                Item::End,
            ] = &items[..]
            else {
                panic!("{items:?}");
            };
            assert_eq!((state.first_seq, state.last_seq), (3, 9));
            assert_eq!(
                (consumer.name.as_str(), consumer.config.get()),
                ("c", r#"{"name":"c"}"#)
            );
            assert_eq!(consumer.state.pending[&4].sequence, 2);
            assert_eq!(
                (first.sequence, &first.headers[..], &first.payload[..]),
                (4, &b""[..], &b"body"[..])
            );
            assert_eq!((second.time_ns, second.headers.len()), (-7, 18));
        }
    }

    #[test]
    fn an_archive_without_its_end_is_refused() {
        let whole = archive();
        for length in 0..whole.len() {
            let result = read(&whole[..length], 64).map(|items| items.len());
            assert!(result.is_err(), "{length}: {result:?}");
        }
        assert_eq!(read(b"", 1).map(|_| ()), Err(ArchiveError::Ended));
    }

    #[test]
    fn what_the_reference_refuses_is_refused_with_its_words() {
        let state = |json: &str| {
            let mut out = Vec::new();
            put_state(&mut out, 0, json.as_bytes());
            out
        };
        let message = |mut out: Vec<u8>, sequence: u64, length: usize| {
            put_message_head(&mut out, b"a", sequence, 1, b"", length);
            out.resize(out.len() + length, b'x');
            out
        };
        let range = r#"{"first_seq":1,"last_seq":2}"#;
        for (data, text) in [
            (b"NATSARC2".to_vec(), "archive: invalid archive stream"),
            (message(MAGIC.to_vec(), 1, 0), "expected state.json first"),
            (state("{"), "error in state.json: unexpected EOF"),
            (
                state(r#"{"consumer_count":-1}"#),
                "invalid stream state: negative consumer count",
            ),
            (
                state(r#"{"first_seq":9,"last_seq":3}"#),
                "invalid stream state: inconsistent message count or sequence range",
            ),
            (
                state(r#"{"messages":50,"first_seq":1,"last_seq":3}"#),
                "invalid stream state: message count exceeds sequence range",
            ),
            (
                message(state(r#"{"consumer_count":1}"#), 1, 0),
                "expected consumer, found \"a\"",
            ),
            (
                message(message(state(range), 1, 0), 1, 0),
                "message sequence 1 out of order",
            ),
            (message(state(range), 0, 0), "expected message sequence"),
            (
                message(state(range), 1, 1001),
                "message sequence 1 exceeds maximum payload size",
            ),
        ] {
            let error = read(&data, 4096).expect_err(text);
            assert_eq!(error.to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(data: Vec<u8>, step in 1usize..50) {
            let mut whole = MAGIC.to_vec();
            whole.extend_from_slice(&data);
            let _ = read(&data, step);
            let _ = read(&whole, step);
        }
    }
}
