//! What a restored stream is made of: messages that keep their sequences, and consumers that keep
//! what they did.
//!
//! ```text
//! 40 restored  kind u8 | body
//!    1 message   sequence u64 | message (`stream.rs`)
//!    2 end       last_sequence u64                    (sequences up to it are used)
//!    3 consumer  created_ns i64 | name block | config block (JSON) | snapshot block (`consumer`)
//! ```

use bytes::Bytes;

use super::message::{Decision, MessageParts, MessagePlace, put_message};
use super::reader::{DecodeError, put_block, put_i64, put_u64};
use super::stream::{StreamEntryWriter, StreamOperations};

const RESTORED: u8 = 40;

const MESSAGE: u8 = 1;
const END: u8 = 2;
const CONSUMER: u8 = 3;

/// One piece of a restored stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restored {
    /// Sequences before it that are not used yet are gaps.
    Message { sequence: u64, place: MessagePlace },
    /// The stream used its sequences up to this one.
    End { last_sequence: u64 },
    Consumer {
        created_ns: i64,
        name: Bytes,
        config: Bytes,
        snapshot: Bytes,
    },
}

impl StreamEntryWriter {
    /// Adds a message that keeps its sequence.
    pub fn restore_message(&mut self, sequence: u64, decision: Decision, parts: MessageParts<'_>) {
        let out = self.begin(RESTORED);
        out.push(MESSAGE);
        put_u64(out, sequence);
        put_message(out, decision, parts);
    }

    /// Adds what is not a message; those have a method of their own.
    pub(super) fn restore(&mut self, restored: &Restored) {
        match restored {
            Restored::Message { .. } => {}
            Restored::End { last_sequence } => {
                let out = self.begin(RESTORED);
                out.push(END);
                put_u64(out, *last_sequence);
            }
            Restored::Consumer {
                created_ns,
                name,
                config,
                snapshot,
            } => {
                let out = self.begin(RESTORED);
                out.push(CONSUMER);
                put_i64(out, *created_ns);
                put_block(out, name);
                put_block(out, config);
                put_block(out, snapshot);
            }
        }
    }
}

impl StreamOperations {
    /// Reads what stands behind `kind`, which must be ours.
    pub(super) fn restored(&mut self, kind: u8) -> Result<Restored, DecodeError> {
        if kind != RESTORED {
            return Err(DecodeError::Kind(kind));
        }
        Ok(match self.reader.u8()? {
            MESSAGE => Restored::Message {
                sequence: self.reader.u64()?,
                place: self.message()?,
            },
            END => Restored::End {
                last_sequence: self.reader.u64()?,
            },
            CONSUMER => Restored::Consumer {
                created_ns: self.reader.i64()?,
                name: self.reader.block()?,
                config: self.reader.block()?,
                snapshot: self.reader.block()?,
            },
            kind => return Err(DecodeError::Kind(kind)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EntryHead, Operation, decode_head};
    use super::*;

    #[test]
    fn pieces_of_a_restored_stream_survive_encoding() {
        let parts = MessageParts {
            subject: b"a",
            headers: b"",
            payload: b"body",
            note: b"",
        };
        let rest = [
            Restored::End { last_sequence: 9 },
            Restored::Consumer {
                created_ns: -1,
                name: Bytes::from_static(b"c"),
                config: Bytes::from_static(b"{}"),
                snapshot: Bytes::from_static(b"s"),
            },
        ];
        let mut writer = StreamEntryWriter::default();
        writer.restore_message(7, Decision::default(), parts);
        for one in &rest {
            writer.push(&Operation::Restore(one.clone()));
        }
        let data = writer.finish(EntryHead::default());
        let (_, operations) = decode_head(&data).expect("just written");
        let operations: Vec<_> = operations.map(|one| one.expect("just written")).collect();
        let [
            Operation::Restore(Restored::Message { sequence: 7, place }),
            others @ ..,
        ] = &operations[..]
        else {
            panic!("{operations:?}");
        };
        assert_eq!(place.parts(&data), parts);
        assert_eq!(others, rest.map(Operation::Restore));
    }
}
