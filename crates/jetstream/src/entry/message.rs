//! A message inside an entry: what was decided about it, and its bytes.
//!
//! ```text
//! message      time_ns i64 | deadline_ns i64 | flags u8 | subject length u16 | headers length u32 |
//!              payload length u32 | subject | headers | payload [| note length u16 | note]
//! flags        bits 0-1 roll-up: 0 none, 1 subject, 2 all; bit 2: uses a sequence, is not stored;
//!              bit 3: a note follows (`note.rs`)
//! ```
//!
//! `deadline_ns` is 0 for a message without a TTL of its own and `i64::MAX` for one that never
//! expires.

use super::reader::{Cursor, DecodeError};

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
    /// What else was decided ([`super::Note`]); empty: nothing.
    pub note: &'a [u8],
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
    /// Of the note behind it; 0: none.
    pub note_length: u16,
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

    /// Its note in `data`; empty: none.
    #[must_use]
    pub fn note<'a>(&self, data: &'a [u8]) -> &'a [u8] {
        let begin = self.end() + NOTE_LENGTH_BYTES;
        let end = begin + usize::from(self.note_length);
        data.get(begin..end).unwrap_or_default()
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
            note: self.note(data),
        }
    }
}

const UNWANTED: u8 = 4;
const NOTED: u8 = 8;

/// Bytes of the length of a note.
const NOTE_LENGTH_BYTES: usize = 2;

/// Bytes of what was decided about a message: time, deadline, flags.
const DECISION_LENGTH: usize = 17;
/// Bytes of a message besides its subject, headers and payload.
pub const MESSAGE_HEAD_LENGTH: usize = DECISION_LENGTH + 10;
/// A message as it stands in an entry, up to its subject.
#[must_use]
pub fn message_head(decision: Decision, parts: MessageParts<'_>) -> [u8; MESSAGE_HEAD_LENGTH] {
    let mut head = [0; MESSAGE_HEAD_LENGTH];
    let (decided, lengths) = head.split_at_mut(DECISION_LENGTH);
    decided.copy_from_slice(&decision_bytes(decision));
    if !parts.note.is_empty() {
        decided[DECISION_LENGTH - 1] |= NOTED;
    }
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
    if !parts.note.is_empty() {
        let length = u16::try_from(parts.note.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(parts.note.get(..usize::from(length)).unwrap_or_default());
    }
}

/// Changes what was decided about the message that stands at the front of `message`. It must not
/// become unwanted or wanted by that: its payload would be there or not. It must have no note.
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

pub(super) fn take_message(cursor: &mut Cursor<'_>) -> Result<MessagePlace, DecodeError> {
    // One look at whether all of it is there.
    let head = cursor.array::<MESSAGE_HEAD_LENGTH>()?;
    let mut fields = Cursor::new(&head);
    let time_ns = fields.i64()?;
    let deadline = Deadline::from_ns(fields.i64()?);
    let flags = fields.u8()?;
    let rollup = match flags & !(UNWANTED | NOTED) {
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
    let mut place = MessagePlace {
        decision,
        begin: cursor.position(),
        subject_length: fields.u16()?,
        headers_length: fields.u32()?,
        payload_length: fields.u32()?,
        note_length: 0,
    };
    cursor.skip(place.end() - place.begin)?;
    if flags & NOTED != 0 {
        place.note_length = cursor.u16()?;
        cursor.skip(usize::from(place.note_length))?;
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{DECISION, parts};
    use super::*;

    #[test]
    fn what_was_decided_can_be_changed_in_place() {
        let mut message = Vec::new();
        put_message(&mut message, Decision::default(), parts("a", "b"));
        put_decision(&mut message, DECISION);
        let place = decode_message(&message).expect("just written");
        assert_eq!(place.decision, DECISION);
        assert_eq!(place.end(), message.len());
        assert_eq!(place.parts(&message), parts("a", "b"));
        let cut = decode_message(&message[..message.len() - 1]);
        assert_eq!(cut, Err(DecodeError::Truncated));
    }

    #[test]
    fn an_unwanted_message_leaves_its_payload_behind() {
        let unwanted = Decision {
            unwanted: true,
            ..DECISION
        };
        let mut message = Vec::new();
        put_message(&mut message, unwanted, parts("a", "payload"));
        let place = decode_message(&message).expect("just written");
        assert_eq!(place.decision, unwanted);
        assert_eq!(place.parts(&message), parts("a", ""));
    }

    #[test]
    fn a_note_follows_its_message() {
        for unwanted in [false, true] {
            let decision = Decision {
                unwanted,
                ..DECISION
            };
            let noted = MessageParts {
                note: b"note",
                ..parts("a", "")
            };
            let mut messages = Vec::new();
            put_message(&mut messages, decision, noted);
            put_message(&mut messages, DECISION, parts("b", "2"));
            let mut cursor = Cursor::new(&messages);
            let first = take_message(&mut cursor).expect("just written");
            let second = take_message(&mut cursor).expect("just written");
            assert_eq!(first.parts(&messages), noted);
            assert_eq!(second.parts(&messages), parts("b", "2"));
            assert_eq!(cursor.position(), messages.len());
        }
    }
}
