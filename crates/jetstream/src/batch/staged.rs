//! How a message waits for its commit: as it will stand in the entry, but that nothing is decided
//! about it yet. It never leaves the server run that wrote it.

use bytes::Bytes;
use millrace_store::staging::StagedPart;

use crate::entry::{
    Decision, DecodeError, MESSAGE_HEAD_LENGTH, MessageParts, decode_message, message_head,
    put_decision, put_message,
};

/// In place of its time: none of its headers needs to be looked at.
const PLAIN: i64 = 0;
/// In place of its time: it has headers that are to be checked.
const CHECKED: i64 = 1;

/// The head of a staged message; its parts follow.
pub(super) fn staged_head(parts: MessageParts<'_>, checked: bool) -> [u8; MESSAGE_HEAD_LENGTH] {
    let decision = Decision {
        time_ns: if checked { CHECKED } else { PLAIN },
        ..Decision::default()
    };
    message_head(decision, parts)
}

/// A staged message: after the header clean-up, before checks and transform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StagedMessage<'a> {
    pub(super) parts: MessageParts<'a>,
    pub(super) checked: bool,
}

impl<'a> StagedMessage<'a> {
    pub(super) fn decode(message: &'a [u8]) -> Result<Self, DecodeError> {
        let place = decode_message(message)?;
        Ok(Self {
            parts: place.parts(message),
            checked: place.decision.time_ns != PLAIN,
        })
    }
}

/// What the checks decided about a message where it is not the ordinary: that it is stored as it
/// came, with the batch's time.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) decision: Decision,
    pub(super) subject: Option<Bytes>,
    pub(super) headers: Option<Bytes>,
    pub(super) payload: Option<Bytes>,
    pub(super) note: Vec<u8>,
}

impl Decided {
    /// Nothing was decided but the time.
    pub(super) fn is_ordinary(&self) -> bool {
        let ordinary = Decision {
            time_ns: self.decision.time_ns,
            ..Decision::default()
        };
        self.decision == ordinary && !self.rewrites()
    }

    /// The message's bytes change, not only what stands before them.
    fn rewrites(&self) -> bool {
        self.decision.unwanted
            || self.subject.is_some()
            || self.headers.is_some()
            || self.payload.is_some()
            || !self.note.is_empty()
    }
}

/// Makes of staged messages what stands in the entry, behind the part's front. `decided` gives
/// what was decided about the message at a place in the part.
pub(super) fn decide<'d>(
    part: StagedPart,
    time_ns: i64,
    decided: impl Fn(usize) -> Option<&'d Decided>,
) -> Result<Vec<u8>, DecodeError> {
    let ordinary = Decision {
        time_ns,
        ..Decision::default()
    };
    let count = part.ends.len();
    let rewrites = |place| decided(place).is_some_and(Decided::rewrites);
    if !(0..count).any(rewrites) {
        let mut bytes = part.bytes;
        let mut begin = part.front;
        for (place, end) in part.ends.iter().enumerate() {
            let decision = decided(place).map_or(ordinary, |decided| decided.decision);
            let message = bytes.get_mut(begin..).ok_or(DecodeError::Truncated)?;
            put_decision(message, decision);
            begin = *end as usize;
        }
        return Ok(bytes);
    }
    let mut out = Vec::with_capacity(part.bytes.len());
    out.extend_from_slice(part.bytes.get(..part.front).unwrap_or_default());
    for place in 0..count {
        let staged = StagedMessage::decode(part.message(place).unwrap_or_default())?;
        let Some(decided) = decided(place) else {
            put_message(&mut out, ordinary, staged.parts);
            continue;
        };
        let parts = MessageParts {
            subject: decided.subject.as_deref().unwrap_or(staged.parts.subject),
            headers: decided.headers.as_deref().unwrap_or(staged.parts.headers),
            payload: decided.payload.as_deref().unwrap_or(staged.parts.payload),
            note: &decided.note,
        };
        put_message(&mut out, decided.decision, parts);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: MessageParts<'static> = MessageParts {
        subject: b"a.b",
        headers: b"NATS/1.0\r\nA: 1\r\n\r\n",
        payload: b"hello",
        note: b"",
    };

    fn part() -> StagedPart {
        let mut part = StagedPart {
            bytes: vec![0; 4],
            ends: Vec::new(),
            front: 4,
        };
        for checked in [true, false] {
            part.bytes.extend_from_slice(&staged_head(PARTS, checked));
            for piece in [PARTS.subject, PARTS.headers, PARTS.payload] {
                part.bytes.extend_from_slice(piece);
            }
            part.ends.push(part.bytes.len() as u32);
        }
        part
    }

    #[test]
    fn a_staged_message_survives_its_encoding() {
        let part = part();
        for (place, checked) in [(0, true), (1, false)] {
            let message = part.message(place).expect("staged");
            let parts = PARTS;
            assert_eq!(
                StagedMessage::decode(message),
                Ok(StagedMessage { parts, checked })
            );
        }
        assert!(StagedMessage::decode(&[0; 5]).is_err());
    }

    #[test]
    fn what_was_decided_is_in_the_messages_that_are_made() {
        let decision = Decision {
            time_ns: 7,
            rollup: crate::entry::Rollup::All,
            ..Decision::default()
        };
        for payload in [None, Some(Bytes::from_static(b"other"))] {
            let decided = Decided {
                decision,
                subject: None,
                headers: None,
                payload: payload.clone(),
                note: Vec::new(),
            };
            let made = decide(part(), 7, |place| (place == 1).then_some(&decided));
            let made = made.expect("staged");
            let (_, messages) = made.split_at(4);
            let first = decode_message(messages).expect("a message");
            assert_eq!((first.decision.time_ns, first.parts(messages)), (7, PARTS));
            let rest = &messages[first.end()..];
            let second = decode_message(rest).expect("a message");
            assert_eq!(second.decision, decision);
            let expected = payload.as_deref().unwrap_or(PARTS.payload);
            assert_eq!(second.parts(rest).payload, expected);
            assert_eq!(second.end(), rest.len());
        }
    }
}
