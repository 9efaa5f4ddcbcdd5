//! `o.dat`: what a consumer did.
//!
//! ```text
//! magic u8 = 22 | version u8 | floor: consumer v, stream v | delivered: consumer v, stream v |
//! pending: count v, [base_s z, (sequence - floor v | consumer sequence - floor v | base - seconds z)*] |
//! redelivered: count v, (sequence - floor v | count v)*
//! ```
//!
//! Version 1 has no consumer sequences in pending, and delivered counts from the floor.

use crate::backup::{ConsumerState, PendingMessage, SequencePair};
use crate::varint::{self, Number};

const MAGIC: u8 = 22;
const SECOND_NS: i64 = 1_000_000_000;

/// The bytes are not a consumer's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("o.dat has an unknown form")]
pub struct ConsumerStateError;

/// Reads it.
///
/// # Errors
/// [`ConsumerStateError`].
pub fn read_consumer_state(data: &[u8]) -> Result<ConsumerState, ConsumerStateError> {
    state(data).ok_or(ConsumerStateError)
}

fn state(data: &[u8]) -> Option<ConsumerState> {
    let [MAGIC, version, rest @ ..] = data else {
        return None;
    };
    if !(1..=2).contains(version) {
        return None;
    }
    let mut rest = rest;
    let mut number = || {
        let Number::Read(value, length) = varint::read(rest) else {
            return None;
        };
        rest = rest.get(length..)?;
        Some(value)
    };
    let pair = |number: &mut dyn FnMut() -> Option<u64>| {
        Some(SequencePair {
            consumer_seq: number()?,
            stream_seq: number()?,
        })
    };
    let ack_floor = pair(&mut number)?;
    let mut delivered = pair(&mut number)?;
    if *version == 1 {
        delivered.consumer_seq = delivered.consumer_seq.checked_add(ack_floor.consumer_seq)?;
        delivered.stream_seq = delivered.stream_seq.checked_add(ack_floor.stream_seq)?;
    }
    let mut told = ConsumerState {
        delivered,
        ack_floor,
        ..ConsumerState::default()
    };
    let count = number()?;
    if count > 0 {
        let base_s = varint::signed(number()?);
        for _ in 0..count {
            let stream_seq = ack_floor.stream_seq.checked_add(number()?)?;
            let sequence = match version {
                1 => 0,
                _ => ack_floor.consumer_seq.checked_add(number()?)?,
            };
            let seconds = base_s.checked_sub(varint::signed(number()?))?;
            let timestamp = seconds.checked_mul(SECOND_NS)?;
            let message = PendingMessage {
                sequence,
                timestamp,
            };
            told.pending.insert(stream_seq, message);
        }
    }
    for _ in 0..number()? {
        let stream_seq = ack_floor.stream_seq.checked_add(number()?)?;
        told.redelivered.insert(stream_seq, number()?);
    }
    Some(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_the_reference_wrote_is_read() {
        let data = data_encoding::HEXLOWER
            .decode(
                b"16020102080804 9eb4f0b00d 010104 030304 040406 060504 02 0301 0101"
                    .as_ref()
                    .iter()
                    .copied()
                    .filter(|byte| *byte != b' ')
                    .collect::<Vec<_>>()
                    .as_slice(),
            )
            .expect("hex");
        let told = read_consumer_state(&data).expect("a good state");
        let pair = |consumer_seq, stream_seq| SequencePair {
            consumer_seq,
            stream_seq,
        };
        assert_eq!((told.delivered, told.ack_floor), (pair(8, 8), pair(1, 2)));
        let pending: Vec<(u64, u64)> = told
            .pending
            .iter()
            .map(|(stream, message)| (*stream, message.sequence))
            .collect();
        assert_eq!(pending, [(3, 2), (5, 4), (6, 5), (8, 6)]);
        assert_eq!(told.pending[&3].timestamp / SECOND_NS, 1_796_082_957);
        assert_eq!(told.redelivered, [(3, 1), (5, 1)].into());
        for length in 0..data.len() {
            assert!(read_consumer_state(&data[..length]).is_err(), "{length}");
        }
    }
}
