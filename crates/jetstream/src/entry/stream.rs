//! Entries of a stream's group.
//!
//! ```text
//! 1 publish    message
//! 3 purge      sequence u64 | keep u64 | filter block
//! 4 delete     sequence u64 | erase u8
//! 5 configure  config block (JSON)
//! 6 expire     now_ns i64                             (what is due at that time goes)
//! 7 consumer   name block | record block              (what a consumer logged, see `consumer`)
//! 8 batch      count u32 | message*                   (an atomic batch that fits one entry)
//! 9 part       batch u64 | index u32 | count u32 | message*
//! 10 commit    batch u64 | parts u32 | count u32 | first_sequence u64 | bytes u64 | checksum u64
//! 11 consumer create  created_ns i64 | name block | config block (JSON; also an update)
//! 12 consumer delete  name block
//! 13 consumer pause   until_ns i64 | name block
//! 14 consumer reset   sequence u64 | name block
//! 15 at         sequence u64                          (the messages that follow begin there)
//! 20 mirrored  sequence u64 | message                 (a mirror's: it has its origin's sequence and time)
//! 21 sourced   message                                (its `Nats-Stream-Source` says how far the source was read)
//! 22 skip      through u64                            (sequences that a mirror does not have)
//! 23 source position  sequence u64 | index name block | identity block
//! message      time_ns i64 | deadline_ns i64 | flags u8 | subject length u16 | headers length u32 |
//!              payload length u32 | subject | headers | payload
//! flags        bits 0-1 roll-up: 0 none, 1 subject, 2 all; bit 2: uses a sequence, is not stored
//! ```
//!
//! `deadline_ns` is 0 for a message without a TTL of its own and `i64::MAX` for one that never
//! expires. A part or commit is alone in its entry. `checksum` covers the bytes of all part
//! entries behind their heads, in order ([`part_checksum`]).
//!
//! Before its first message an entry says `at`: in a whole log that is the next sequence; behind
//! entries that were lost to damage it keeps every message at its own.

use bytes::{Buf as _, Bytes};
use twox_hash::XxHash3_64;

use super::reader::{Cursor, DecodeError, Reader, put_block, put_i64, put_u32, put_u64};
use super::{FORMAT_VERSION, HEAD_LENGTH};

/// Who proposed an entry, and as which of its proposals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryHead {
    pub origin: u64,
    pub number: u64,
}

/// Which older messages a message replaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rollup {
    #[default]
    None,
    /// Those of its subject.
    Subject,
    /// All of the stream.
    All,
}

/// When a message goes by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deadline {
    /// By the stream's `max_age` only.
    #[default]
    Stream,
    /// At this time, nanoseconds since the epoch (or earlier by `max_age`).
    At(i64),
    /// Not even by `max_age`.
    Never,
}

impl Deadline {
    fn to_ns(self) -> i64 {
        match self {
            Self::Stream => 0,
            Self::At(time_ns) => time_ns,
            Self::Never => i64::MAX,
        }
    }

    fn from_ns(time_ns: i64) -> Self {
        match time_ns {
            0 => Self::Stream,
            i64::MAX => Self::Never,
            at => Self::At(at),
        }
    }
}

/// What the leader decided about a message besides its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub time_ns: i64,
    pub deadline: Deadline,
    pub rollup: Rollup,
    /// Nobody is interested: the sequence is used and the id remembered, nothing is stored. The
    /// payload is not written.
    pub unwanted: bool,
}

/// The bytes of a message, wherever they lie. The subject is that after the stream's transform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageParts<'a> {
    pub subject: &'a [u8],
    pub headers: &'a [u8],
    pub payload: &'a [u8],
}

/// A message of an entry: what was decided, and where in the entry its bytes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessagePlace {
    pub decision: Decision,
    /// Where its subject begins; headers and payload follow.
    pub begin: usize,
    pub subject_length: u16,
    pub headers_length: u32,
    pub payload_length: u32,
}

impl MessagePlace {
    /// Where its headers begin.
    #[must_use]
    pub fn body(&self) -> usize {
        self.begin + usize::from(self.subject_length)
    }

    /// Where its payload ends.
    #[must_use]
    pub fn end(&self) -> usize {
        self.body() + self.headers_length as usize + self.payload_length as usize
    }

    /// Its bytes in `data`, which it was decoded from.
    #[must_use]
    pub fn parts<'a>(&self, data: &'a [u8]) -> MessageParts<'a> {
        let bytes = data.get(self.begin..self.end()).unwrap_or_default();
        let (subject, body) = bytes
            .split_at_checked(usize::from(self.subject_length))
            .unwrap_or_default();
        let (headers, payload) = body
            .split_at_checked(self.headers_length as usize)
            .unwrap_or_default();
        MessageParts {
            subject,
            headers,
            payload,
        }
    }
}

/// The end of a chain of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitRecord {
    pub batch: u64,
    pub parts: u32,
    pub count: u32,
    pub first_sequence: u64,
    /// Bytes of all part entries behind their heads.
    pub bytes: u64,
    pub checksum: u64,
}

/// One decided change of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Publish(MessagePlace),
    Purge {
        sequence: u64,
        keep: u64,
        filter: Bytes,
    },
    Delete {
        sequence: u64,
        erase: bool,
    },
    Configure {
        config: Bytes,
    },
    Expire {
        now_ns: i64,
    },
    Consumer {
        name: Bytes,
        record: Bytes,
    },
    ConsumerCreate {
        created_ns: i64,
        name: Bytes,
        config: Bytes,
    },
    ConsumerDelete {
        name: Bytes,
    },
    ConsumerPause {
        until_ns: i64,
        name: Bytes,
    },
    ConsumerReset {
        sequence: u64,
        name: Bytes,
    },
    /// The next message has this sequence.
    At {
        sequence: u64,
    },
    Batch {
        messages: Vec<MessagePlace>,
    },
    Part {
        batch: u64,
        index: u32,
        messages: Vec<MessagePlace>,
    },
    Commit(CommitRecord),
    Mirrored {
        sequence: u64,
        message: MessagePlace,
    },
    Sourced(MessagePlace),
    Skip {
        through: u64,
    },
    SourcePosition {
        sequence: u64,
        name: Bytes,
        identity: Bytes,
    },
}

const PUBLISH: u8 = 1;
const PURGE: u8 = 3;
const DELETE: u8 = 4;
const CONFIGURE: u8 = 5;
const EXPIRE: u8 = 6;
const CONSUMER: u8 = 7;
const BATCH: u8 = 8;
const PART: u8 = 9;
const COMMIT: u8 = 10;
const CONSUMER_CREATE: u8 = 11;
const CONSUMER_DELETE: u8 = 12;
const CONSUMER_PAUSE: u8 = 13;
const CONSUMER_RESET: u8 = 14;
const AT: u8 = 15;
const MIRRORED: u8 = 20;
const SOURCED: u8 = 21;
const SKIP: u8 = 22;
const SOURCE_POSITION: u8 = 23;

const UNWANTED: u8 = 4;

/// Bytes of what was decided about a message: time, deadline, flags.
const DECISION_LENGTH: usize = 17;
/// Bytes of a message besides its subject, headers and payload.
pub const MESSAGE_HEAD_LENGTH: usize = DECISION_LENGTH + 10;
/// Bytes that say at which sequence messages begin.
const AT_LENGTH: usize = 9;
/// Bytes of an entry of one batch before its first message.
const BATCH_FRONT_LENGTH: usize = HEAD_LENGTH + AT_LENGTH + 5;
/// Bytes of a part entry before its first message.
pub const PART_FRONT_LENGTH: usize = HEAD_LENGTH + 17;

pub(super) fn put_head(out: &mut Vec<u8>, head: EntryHead) {
    out.push(FORMAT_VERSION);
    put_u64(out, head.origin);
    put_u64(out, head.number);
}

pub(super) fn take_head(reader: &mut Reader) -> Result<EntryHead, DecodeError> {
    let version = reader.u8()?;
    if version != FORMAT_VERSION {
        return Err(DecodeError::Version(version));
    }
    Ok(EntryHead {
        origin: reader.u64()?,
        number: reader.u64()?,
    })
}

/// A message as it stands in an entry, up to its subject.
#[must_use]
pub fn message_head(decision: Decision, parts: MessageParts<'_>) -> [u8; MESSAGE_HEAD_LENGTH] {
    let mut head = [0; MESSAGE_HEAD_LENGTH];
    let (decided, lengths) = head.split_at_mut(DECISION_LENGTH);
    decided.copy_from_slice(&decision_bytes(decision));
    let payload = if decision.unwanted {
        0
    } else {
        parts.payload.len()
    };
    let subject = u16::try_from(parts.subject.len()).unwrap_or(u16::MAX);
    let headers = u32::try_from(parts.headers.len()).unwrap_or(u32::MAX);
    let payload = u32::try_from(payload).unwrap_or(u32::MAX);
    lengths[..2].copy_from_slice(&subject.to_le_bytes());
    lengths[2..6].copy_from_slice(&headers.to_le_bytes());
    lengths[6..].copy_from_slice(&payload.to_le_bytes());
    head
}

fn decision_bytes(decision: Decision) -> [u8; DECISION_LENGTH] {
    let mut bytes = [0; DECISION_LENGTH];
    bytes[..8].copy_from_slice(&decision.time_ns.to_le_bytes());
    bytes[8..16].copy_from_slice(&decision.deadline.to_ns().to_le_bytes());
    let rollup = match decision.rollup {
        Rollup::None => 0,
        Rollup::Subject => 1,
        Rollup::All => 2,
    };
    let unwanted = if decision.unwanted { UNWANTED } else { 0 };
    bytes[16] = rollup | unwanted;
    bytes
}

/// Appends a message as it stands in an entry.
pub fn put_message(out: &mut Vec<u8>, decision: Decision, parts: MessageParts<'_>) {
    out.extend_from_slice(&message_head(decision, parts));
    out.extend_from_slice(parts.subject);
    out.extend_from_slice(parts.headers);
    if !decision.unwanted {
        out.extend_from_slice(parts.payload);
    }
}

/// Changes what was decided about the message that stands at the front of `message`. It must not
/// become unwanted or wanted by that: its payload would be there or not.
pub fn put_decision(message: &mut [u8], decision: Decision) {
    if let Some(space) = message.get_mut(..DECISION_LENGTH) {
        space.copy_from_slice(&decision_bytes(decision));
    }
}

/// Reads a message that was written by itself. Its place counts from the start of `message`.
///
/// # Errors
/// [`DecodeError`] if it is not one.
pub fn decode_message(message: &[u8]) -> Result<MessagePlace, DecodeError> {
    take_message(&mut Cursor::new(message))
}

fn take_message(cursor: &mut Cursor<'_>) -> Result<MessagePlace, DecodeError> {
    let time_ns = cursor.i64()?;
    let deadline = Deadline::from_ns(cursor.i64()?);
    let flags = cursor.u8()?;
    let rollup = match flags & !UNWANTED {
        0 => Rollup::None,
        1 => Rollup::Subject,
        2 => Rollup::All,
        _ => return Err(DecodeError::Range),
    };
    let decision = Decision {
        time_ns,
        deadline,
        rollup,
        unwanted: flags & UNWANTED != 0,
    };
    let (subject_length, headers_length) = (cursor.u16()?, cursor.u32()?);
    let payload_length = cursor.u32()?;
    let place = MessagePlace {
        decision,
        begin: cursor.position(),
        subject_length,
        headers_length,
        payload_length,
    };
    cursor.skip(usize::from(subject_length))?;
    cursor.skip(headers_length as usize)?;
    cursor.skip(payload_length as usize)?;
    Ok(place)
}

/// What stands before the messages of a part entry.
#[must_use]
pub fn part_front(head: EntryHead, batch: u64, index: u32, count: u32) -> [u8; PART_FRONT_LENGTH] {
    let mut front = Vec::with_capacity(PART_FRONT_LENGTH);
    put_head(&mut front, head);
    front.push(PART);
    put_u64(&mut front, batch);
    put_u32(&mut front, index);
    put_u32(&mut front, count);
    front.try_into().unwrap_or([0; PART_FRONT_LENGTH])
}

/// Makes an entry of one batch that begins at `sequence`. `messages` stand behind
/// [`PART_FRONT_LENGTH`] free bytes, and are not copied.
#[must_use]
pub fn batch_entry(head: EntryHead, sequence: u64, count: u32, mut messages: Vec<u8>) -> Bytes {
    let mut front = Vec::with_capacity(BATCH_FRONT_LENGTH);
    put_head(&mut front, head);
    front.push(AT);
    put_u64(&mut front, sequence);
    front.push(BATCH);
    put_u32(&mut front, count);
    let begin = PART_FRONT_LENGTH - BATCH_FRONT_LENGTH;
    if let Some(space) = messages.get_mut(begin..PART_FRONT_LENGTH) {
        space.copy_from_slice(&front);
    }
    let mut entry = Bytes::from(messages);
    entry.advance(begin.min(entry.len()));
    entry
}

/// The checksum of a chain after one more part: `data` is the part's whole entry. Begin with 0.
#[must_use]
pub fn part_checksum(before: u64, data: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(before, data.get(HEAD_LENGTH..).unwrap_or_default())
}

/// Collects the operations of one entry. The head is filled in by [`StreamEntryWriter::finish`].
#[derive(Debug, Default)]
pub struct StreamEntryWriter {
    out: Vec<u8>,
    operations: usize,
    /// It says where its messages begin.
    placed: bool,
}

impl StreamEntryWriter {
    /// Operations added since the last [`StreamEntryWriter::finish`].
    #[must_use]
    pub fn operations(&self) -> usize {
        self.operations
    }

    /// Bytes collected.
    #[must_use]
    pub fn length(&self) -> usize {
        self.out.len()
    }

    fn begin(&mut self, kind: u8) {
        if self.out.is_empty() {
            put_head(&mut self.out, EntryHead::default());
        }
        self.operations += 1;
        self.out.push(kind);
    }

    /// Says which sequence the message that is added next has, if it is the entry's first.
    pub fn place(&mut self, sequence: u64) {
        if self.placed {
            return;
        }
        self.placed = true;
        self.push(&Operation::At { sequence });
        self.operations -= 1;
    }

    /// Adds one message.
    pub fn publish(&mut self, decision: Decision, parts: MessageParts<'_>) {
        self.begin(PUBLISH);
        put_message(&mut self.out, decision, parts);
    }

    /// Adds a message from an origin: a mirror's with its sequence, a source's without.
    pub fn copy(&mut self, sequence: Option<u64>, decision: Decision, parts: MessageParts<'_>) {
        match sequence {
            Some(sequence) => {
                self.begin(MIRRORED);
                put_u64(&mut self.out, sequence);
            }
            None => self.begin(SOURCED),
        }
        put_message(&mut self.out, decision, parts);
    }

    /// Adds a batch: `count` messages as [`put_message`] writes them.
    pub fn batch(&mut self, count: u32, messages: &[u8]) {
        self.begin(BATCH);
        put_u32(&mut self.out, count);
        self.out.extend_from_slice(messages);
    }

    /// Adds an operation without messages; those have methods of their own.
    pub fn push(&mut self, operation: &Operation) {
        match operation {
            Operation::Publish(_)
            | Operation::Batch { .. }
            | Operation::Part { .. }
            | Operation::Mirrored { .. }
            | Operation::Sourced(_) => {}
            Operation::Skip { through } => {
                self.begin(SKIP);
                put_u64(&mut self.out, *through);
            }
            Operation::SourcePosition {
                sequence,
                name,
                identity,
            } => {
                self.begin(SOURCE_POSITION);
                put_u64(&mut self.out, *sequence);
                put_block(&mut self.out, name);
                put_block(&mut self.out, identity);
            }
            Operation::Purge {
                sequence,
                keep,
                filter,
            } => {
                self.begin(PURGE);
                put_u64(&mut self.out, *sequence);
                put_u64(&mut self.out, *keep);
                put_block(&mut self.out, filter);
            }
            Operation::Delete { sequence, erase } => {
                self.begin(DELETE);
                put_u64(&mut self.out, *sequence);
                self.out.push(u8::from(*erase));
            }
            Operation::Configure { config } => {
                self.begin(CONFIGURE);
                put_block(&mut self.out, config);
            }
            Operation::Expire { now_ns } => {
                self.begin(EXPIRE);
                put_i64(&mut self.out, *now_ns);
            }
            Operation::At { sequence } => {
                self.begin(AT);
                put_u64(&mut self.out, *sequence);
            }
            Operation::Consumer { .. }
            | Operation::ConsumerCreate { .. }
            | Operation::ConsumerDelete { .. }
            | Operation::ConsumerPause { .. }
            | Operation::ConsumerReset { .. } => self.push_consumer(operation),
            Operation::Commit(commit) => {
                self.begin(COMMIT);
                put_u64(&mut self.out, commit.batch);
                put_u32(&mut self.out, commit.parts);
                put_u32(&mut self.out, commit.count);
                put_u64(&mut self.out, commit.first_sequence);
                put_u64(&mut self.out, commit.bytes);
                put_u64(&mut self.out, commit.checksum);
            }
        }
    }

    fn push_consumer(&mut self, operation: &Operation) {
        match operation {
            Operation::Consumer { name, record } => {
                self.begin(CONSUMER);
                put_block(&mut self.out, name);
                put_block(&mut self.out, record);
            }
            Operation::ConsumerCreate {
                created_ns,
                name,
                config,
            } => {
                self.begin(CONSUMER_CREATE);
                put_i64(&mut self.out, *created_ns);
                put_block(&mut self.out, name);
                put_block(&mut self.out, config);
            }
            Operation::ConsumerDelete { name } => {
                self.begin(CONSUMER_DELETE);
                put_block(&mut self.out, name);
            }
            Operation::ConsumerPause { until_ns, name } => {
                self.begin(CONSUMER_PAUSE);
                put_i64(&mut self.out, *until_ns);
                put_block(&mut self.out, name);
            }
            Operation::ConsumerReset { sequence, name } => {
                self.begin(CONSUMER_RESET);
                put_u64(&mut self.out, *sequence);
                put_block(&mut self.out, name);
            }
            _ => {}
        }
    }

    /// Ends the entry and starts the next one.
    pub fn finish(&mut self, head: EntryHead) -> Bytes {
        let mut out = std::mem::take(&mut self.out);
        (self.operations, self.placed) = (0, false);
        let mut fresh = Vec::with_capacity(HEAD_LENGTH);
        put_head(&mut fresh, head);
        if out.is_empty() {
            return Bytes::from(fresh);
        }
        if let Some(space) = out.get_mut(..HEAD_LENGTH) {
            space.copy_from_slice(&fresh);
        }
        Bytes::from(out)
    }
}

/// The operations of an entry, decoded one after the other.
#[derive(Debug)]
pub struct StreamOperations {
    reader: Reader,
}

/// Reads an entry's head and gives an iterator over its operations.
///
/// # Errors
/// [`DecodeError`] if the head is not one that this version writes.
pub fn decode_head(data: &Bytes) -> Result<(EntryHead, StreamOperations), DecodeError> {
    let mut reader = Reader::new(data.clone());
    let head = take_head(&mut reader)?;
    Ok((head, StreamOperations { reader }))
}

impl StreamOperations {
    fn message(&mut self) -> Result<MessagePlace, DecodeError> {
        let mut cursor = self.reader.cursor();
        let place = take_message(&mut cursor)?;
        let end = cursor.position();
        self.reader.move_to(end);
        Ok(place)
    }

    fn messages(&mut self) -> Result<Vec<MessagePlace>, DecodeError> {
        let count = self.reader.u32()? as usize;
        let left = self.reader.left() / MESSAGE_HEAD_LENGTH;
        // The count of a damaged entry must not reserve memory.
        let mut messages = Vec::with_capacity(count.min(left));
        let mut cursor = self.reader.cursor();
        for _ in 0..count {
            messages.push(take_message(&mut cursor)?);
        }
        let end = cursor.position();
        self.reader.move_to(end);
        Ok(messages)
    }

    fn consumer_operation(&mut self, kind: u8) -> Result<Operation, DecodeError> {
        Ok(match kind {
            CONSUMER => Operation::Consumer {
                name: self.reader.block()?,
                record: self.reader.block()?,
            },
            CONSUMER_CREATE => Operation::ConsumerCreate {
                created_ns: self.reader.i64()?,
                name: self.reader.block()?,
                config: self.reader.block()?,
            },
            CONSUMER_DELETE => Operation::ConsumerDelete {
                name: self.reader.block()?,
            },
            CONSUMER_PAUSE => Operation::ConsumerPause {
                until_ns: self.reader.i64()?,
                name: self.reader.block()?,
            },
            CONSUMER_RESET => Operation::ConsumerReset {
                sequence: self.reader.u64()?,
                name: self.reader.block()?,
            },
            _ => return Err(DecodeError::Kind(kind)),
        })
    }

    fn operation(&mut self) -> Result<Operation, DecodeError> {
        let kind = self.reader.u8()?;
        Ok(match kind {
            PUBLISH => Operation::Publish(self.message()?),
            PURGE => Operation::Purge {
                sequence: self.reader.u64()?,
                keep: self.reader.u64()?,
                filter: self.reader.block()?,
            },
            DELETE => Operation::Delete {
                sequence: self.reader.u64()?,
                erase: self.reader.u8()? != 0,
            },
            CONFIGURE => Operation::Configure {
                config: self.reader.block()?,
            },
            EXPIRE => Operation::Expire {
                now_ns: self.reader.i64()?,
            },
            CONSUMER | CONSUMER_CREATE..=CONSUMER_RESET => self.consumer_operation(kind)?,
            MIRRORED => Operation::Mirrored {
                sequence: self.reader.u64()?,
                message: self.message()?,
            },
            SOURCED => Operation::Sourced(self.message()?),
            SKIP => Operation::Skip {
                through: self.reader.u64()?,
            },
            SOURCE_POSITION => Operation::SourcePosition {
                sequence: self.reader.u64()?,
                name: self.reader.block()?,
                identity: self.reader.block()?,
            },
            AT => Operation::At {
                sequence: self.reader.u64()?,
            },
            BATCH => Operation::Batch {
                messages: self.messages()?,
            },
            PART => Operation::Part {
                batch: self.reader.u64()?,
                index: self.reader.u32()?,
                messages: self.messages()?,
            },
            COMMIT => Operation::Commit(CommitRecord {
                batch: self.reader.u64()?,
                parts: self.reader.u32()?,
                count: self.reader.u32()?,
                first_sequence: self.reader.u64()?,
                bytes: self.reader.u64()?,
                checksum: self.reader.u64()?,
            }),
            kind => return Err(DecodeError::Kind(kind)),
        })
    }
}

impl Iterator for StreamOperations {
    type Item = Result<Operation, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let operation = self.operation();
        if operation.is_err() {
            // Nothing behind a bad operation can be trusted.
            self.reader = Reader::new(Bytes::new());
        }
        Some(operation)
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
