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
//! 16 remove    sequence u64                           (it is due, and leaves nothing behind)
//! 20 mirrored  sequence u64 | message                 (a mirror's: it has its origin's sequence and time)
//! 21 sourced   message                                (its `Nats-Stream-Source` says how far the source was read)
//! 22 skip      through u64                            (sequences that a mirror does not have)
//! 23 source position  sequence u64 | index name block | identity block
//! ```
//!
//! How a message is written stands in `message.rs`. A part or commit is alone in its entry. `checksum` covers the bytes of all part
//! entries behind their heads, in order ([`part_checksum`]).
//!
//! Before its first message an entry says `at`: in a whole log that is the next sequence; behind
//! entries that were lost to damage it keeps every message at its own.

use bytes::{Buf as _, Bytes};
use twox_hash::XxHash3_64;

use super::message::{
    Decision, MESSAGE_HEAD_LENGTH, MessageParts, MessagePlace, put_message, take_message,
};
use super::reader::{DecodeError, Reader, put_block, put_i64, put_u32, put_u64};
use super::restore::Restored;
use super::{FORMAT_VERSION, HEAD_LENGTH};

/// Who proposed an entry, and as which of its proposals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryHead {
    pub origin: u64,
    pub number: u64,
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
    Remove {
        sequence: u64,
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
    Restore(Restored),
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
const REMOVE: u8 = 16;
const MIRRORED: u8 = 20;
const SOURCED: u8 = 21;
const SKIP: u8 = 22;
const SOURCE_POSITION: u8 = 23;

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

/// What the smallest entries take: head, place and the head of a message.
const ENTRY_BYTES_LEAST: usize = 128;

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

    pub(super) fn begin(&mut self, kind: u8) -> &mut Vec<u8> {
        if self.out.is_empty() {
            self.out.reserve(ENTRY_BYTES_LEAST);
            put_head(&mut self.out, EntryHead::default());
        }
        self.operations += 1;
        self.out.push(kind);
        &mut self.out
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
        let length = parts.subject.len() + parts.headers.len() + parts.payload.len();
        // An entry often holds one message: growing by doubling would copy it several times.
        self.out.reserve(length + ENTRY_BYTES_LEAST);
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
            None => {
                self.begin(SOURCED);
            }
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
            Operation::Remove { sequence } => {
                self.begin(REMOVE);
                put_u64(&mut self.out, *sequence);
            }
            Operation::Consumer { .. }
            | Operation::ConsumerCreate { .. }
            | Operation::ConsumerDelete { .. }
            | Operation::ConsumerPause { .. }
            | Operation::ConsumerReset { .. } => self.push_consumer(operation),
            Operation::Restore(restored) => self.restore(restored),
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
    pub(super) reader: Reader,
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
    pub(super) fn message(&mut self) -> Result<MessagePlace, DecodeError> {
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
            REMOVE => Operation::Remove {
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
            kind => Operation::Restore(self.restored(kind)?),
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
