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
//! message      time_ns i64 | deadline_ns i64 | flags u8 | subject length u16 | headers length u32 |
//!              payload length u32 | subject | headers | payload
//! flags        bits 0-1 roll-up: 0 none, 1 subject, 2 all; bit 2: uses a sequence, is not stored
//! ```
//!
//! `deadline_ns` is 0 for a message without a TTL of its own and `i64::MAX` for one that never
//! expires. A part or commit is alone in its entry. `checksum` covers the bytes of all part
//! entries behind their heads, in order ([`part_checksum`]).

use bytes::Bytes;
use twox_hash::XxHash3_64;

use super::reader::{DecodeError, Reader, put_block, put_i64, put_u16, put_u32, put_u64};
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

/// A message as the leader decided to store it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishRecord {
    pub time_ns: i64,
    pub deadline: Deadline,
    pub rollup: Rollup,
    /// Nobody is interested: the sequence is used and the id remembered, nothing is stored. The
    /// payload is not written.
    pub unwanted: bool,
    /// After the stream's transform.
    pub subject: Bytes,
    pub headers: Bytes,
    pub payload: Bytes,
    /// Where `subject` begins in the entry; headers and payload follow. Not written.
    pub offset: usize,
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
    Publish(PublishRecord),
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
    Batch {
        messages: Vec<PublishRecord>,
    },
    Part {
        batch: u64,
        index: u32,
        messages: Vec<PublishRecord>,
    },
    Commit(CommitRecord),
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

const UNWANTED: u8 = 4;

/// Bytes of a message besides its subject, headers and payload.
const MESSAGE_HEAD_LENGTH: usize = 27;

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

/// Bytes that a message takes in an entry.
#[must_use]
pub fn publish_length(record: &PublishRecord) -> usize {
    MESSAGE_HEAD_LENGTH + record.subject.len() + record.headers.len() + record.payload.len()
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

    fn message(&mut self, record: &PublishRecord) {
        let out = &mut self.out;
        put_i64(out, record.time_ns);
        put_i64(out, record.deadline.to_ns());
        let rollup = match record.rollup {
            Rollup::None => 0,
            Rollup::Subject => 1,
            Rollup::All => 2,
        };
        out.push(if record.unwanted {
            rollup | UNWANTED
        } else {
            rollup
        });
        let payload = if record.unwanted {
            &[][..]
        } else {
            &record.payload[..]
        };
        put_u16(out, u16::try_from(record.subject.len()).unwrap_or(u16::MAX));
        put_u32(out, u32::try_from(record.headers.len()).unwrap_or(u32::MAX));
        put_u32(out, u32::try_from(payload.len()).unwrap_or(u32::MAX));
        out.extend_from_slice(&record.subject);
        out.extend_from_slice(&record.headers);
        out.extend_from_slice(payload);
    }

    fn messages(&mut self, records: &[PublishRecord]) {
        put_u32(
            &mut self.out,
            u32::try_from(records.len()).unwrap_or(u32::MAX),
        );
        for record in records {
            self.message(record);
        }
    }

    /// Adds one message.
    pub fn publish(&mut self, record: &PublishRecord) {
        self.begin(PUBLISH);
        self.message(record);
    }

    /// Adds any operation.
    pub fn push(&mut self, operation: &Operation) {
        match operation {
            Operation::Publish(record) => self.publish(record),
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
            Operation::Consumer { .. }
            | Operation::ConsumerCreate { .. }
            | Operation::ConsumerDelete { .. }
            | Operation::ConsumerPause { .. }
            | Operation::ConsumerReset { .. } => self.push_consumer(operation),
            Operation::Batch { messages } => {
                self.begin(BATCH);
                self.messages(messages);
            }
            Operation::Part {
                batch,
                index,
                messages,
            } => {
                self.begin(PART);
                put_u64(&mut self.out, *batch);
                put_u32(&mut self.out, *index);
                self.messages(messages);
            }
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
        self.operations = 0;
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
    fn message(&mut self) -> Result<PublishRecord, DecodeError> {
        let reader = &mut self.reader;
        let time_ns = reader.i64()?;
        let deadline = Deadline::from_ns(reader.i64()?);
        let flags = reader.u8()?;
        let unwanted = flags & UNWANTED != 0;
        let rollup = match flags & !UNWANTED {
            0 => Rollup::None,
            1 => Rollup::Subject,
            2 => Rollup::All,
            _ => return Err(DecodeError::Range),
        };
        let subject_length = usize::from(reader.u16()?);
        let headers_length = reader.u32()? as usize;
        let payload_length = reader.u32()? as usize;
        let offset = reader.position();
        let subject = reader.take(subject_length)?;
        let headers = reader.take(headers_length)?;
        let payload = reader.take(payload_length)?;
        Ok(PublishRecord {
            time_ns,
            deadline,
            rollup,
            unwanted,
            subject,
            headers,
            payload,
            offset,
        })
    }

    fn messages(&mut self) -> Result<Vec<PublishRecord>, DecodeError> {
        let count = self.reader.u32()?;
        // Grown as they come: the count of a damaged entry must not reserve memory.
        let mut messages = Vec::new();
        for _ in 0..count {
            messages.push(self.message()?);
        }
        Ok(messages)
    }

    fn operation(&mut self) -> Result<Operation, DecodeError> {
        Ok(match self.reader.u8()? {
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(subject: &'static str, payload: &'static str) -> PublishRecord {
        PublishRecord {
            time_ns: 5,
            deadline: Deadline::At(77),
            rollup: Rollup::Subject,
            unwanted: false,
            subject: Bytes::from_static(subject.as_bytes()),
            headers: Bytes::from_static(b"NATS/1.0\r\n\r\n"),
            payload: Bytes::from_static(payload.as_bytes()),
            offset: 0,
        }
    }

    fn without_offsets(operation: Operation) -> Operation {
        let clean = |record: PublishRecord| PublishRecord {
            offset: 0,
            ..record
        };
        match operation {
            Operation::Publish(record) => Operation::Publish(clean(record)),
            Operation::Batch { messages } => Operation::Batch {
                messages: messages.into_iter().map(clean).collect(),
            },
            Operation::Part {
                batch,
                index,
                messages,
            } => Operation::Part {
                batch,
                index,
                messages: messages.into_iter().map(clean).collect(),
            },
            other => other,
        }
    }

    fn every_operation() -> Vec<Operation> {
        vec![
            Operation::Publish(record("a.b", "hello")),
            Operation::Purge {
                sequence: 1,
                keep: 2,
                filter: Bytes::from_static(b"a.>"),
            },
            Operation::Delete {
                sequence: 3,
                erase: true,
            },
            Operation::Configure {
                config: Bytes::from_static(b"{}"),
            },
            Operation::Expire { now_ns: -1 },
            Operation::Consumer {
                name: Bytes::from_static(b"n"),
                record: Bytes::from_static(b"c"),
            },
            Operation::ConsumerCreate {
                created_ns: 3,
                name: Bytes::from_static(b"n"),
                config: Bytes::from_static(b"{}"),
            },
            Operation::ConsumerDelete {
                name: Bytes::from_static(b"n"),
            },
            Operation::ConsumerPause {
                until_ns: 5,
                name: Bytes::from_static(b"n"),
            },
            Operation::ConsumerReset {
                sequence: 6,
                name: Bytes::from_static(b"n"),
            },
            Operation::Batch {
                messages: vec![record("x", "1"), record("y", "2")],
            },
            Operation::Part {
                batch: 4,
                index: 1,
                messages: vec![record("z", "3")],
            },
            Operation::Commit(CommitRecord {
                batch: 4,
                parts: 2,
                count: 3,
                first_sequence: 10,
                bytes: 100,
                checksum: 42,
            }),
        ]
    }

    #[test]
    fn every_operation_survives_encoding() {
        let operations = every_operation();
        let mut writer = StreamEntryWriter::default();
        for operation in &operations {
            writer.push(operation);
        }
        let head = EntryHead {
            origin: 1,
            number: 2,
        };
        let data = writer.finish(head);
        let (read_head, read) = decode_head(&data).expect("just written");
        let read: Result<Vec<_>, _> = read.collect();
        let read: Vec<_> = read
            .expect("just written")
            .into_iter()
            .map(without_offsets)
            .collect();
        assert_eq!(read_head, head);
        assert_eq!(read, operations);
    }

    #[test]
    fn a_record_tells_where_its_bytes_are() {
        let mut writer = StreamEntryWriter::default();
        writer.publish(&record("a.b", "hello"));
        let data = writer.finish(EntryHead::default());
        let (_, mut operations) = decode_head(&data).expect("just written");
        let Some(Ok(Operation::Publish(read))) = operations.next() else {
            panic!("a publish")
        };
        assert_eq!(&data[read.offset..read.offset + 3], b"a.b");
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut data = vec![FORMAT_VERSION];
            data.extend_from_slice(&bytes);
            if let Ok((_, operations)) = decode_head(&Bytes::from(data)) {
                prop_assert!(operations.count() <= 200);
            }
        }
    }
}
