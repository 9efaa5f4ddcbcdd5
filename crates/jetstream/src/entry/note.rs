//! What the leader decided about a message beyond its time and what it replaces: a note behind the
//! message. Few messages have one.
//!
//! ```text
//! 1 scheduled  next_ns i64                            (the message is a schedule, due then)
//! 2 cancels    subject                                (the schedule on that subject ends)
//! 3 fired      sequence u64 | next_ns i64 | subject   (the message was made by that schedule, which is
//!                                                      due again then; 0: it ends)
//! ```

use super::reader::{Cursor, DecodeError, put_i64, put_u64};

const SCHEDULED: u8 = 1;
const CANCELS: u8 = 2;
const FIRED: u8 = 3;

/// A note, as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note<'a> {
    /// The message is a schedule.
    Scheduled { next_ns: i64 },
    /// It ends the schedule on a subject.
    Cancels { subject: &'a [u8] },
    /// It was made by a schedule.
    Fired {
        sequence: u64,
        /// `None`: the schedule ends.
        next_ns: Option<i64>,
        subject: &'a [u8],
    },
}

impl<'a> Note<'a> {
    /// The note as it stands behind a message.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Scheduled { next_ns } => {
                out.push(SCHEDULED);
                put_i64(&mut out, next_ns);
            }
            Self::Cancels { subject } => {
                out.push(CANCELS);
                out.extend_from_slice(subject);
            }
            Self::Fired {
                sequence,
                next_ns,
                subject,
            } => {
                out.push(FIRED);
                put_u64(&mut out, sequence);
                put_i64(&mut out, next_ns.unwrap_or(0));
                out.extend_from_slice(subject);
            }
        }
        out
    }

    /// Reads a note.
    ///
    /// # Errors
    /// [`DecodeError`] if it is not one that this version writes.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(bytes);
        let rest = |cursor: &Cursor<'_>| bytes.get(cursor.position()..).unwrap_or_default();
        Ok(match cursor.u8()? {
            SCHEDULED => Self::Scheduled {
                next_ns: cursor.i64()?,
            },
            CANCELS => Self::Cancels {
                subject: rest(&cursor),
            },
            FIRED => {
                let sequence = cursor.u64()?;
                let next_ns = Some(cursor.i64()?).filter(|next_ns| *next_ns != 0);
                Self::Fired {
                    sequence,
                    next_ns,
                    subject: rest(&cursor),
                }
            }
            kind => return Err(DecodeError::Kind(kind)),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn notes_survive_encoding() {
        for note in [
            Note::Scheduled { next_ns: -5 },
            Note::Cancels { subject: b"a.b" },
            Note::Fired {
                sequence: 7,
                next_ns: Some(9),
                subject: b"a",
            },
            Note::Fired {
                sequence: 7,
                next_ns: None,
                subject: b"a",
            },
        ] {
            assert_eq!(Note::decode(&note.encode()), Ok(note));
        }
    }

    proptest! {
        #[test]
        fn hostile_notes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Note::decode(&bytes);
        }
    }
}
