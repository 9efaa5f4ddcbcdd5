//! A message block: records one behind the other, packed as a whole once it is full.
//!
//! ```text
//! record   length u32 (bit 31: with headers) | sequence u64 | time_ns i64 | subject length u16 |
//!          subject | [headers length u32 | headers] | payload | checksum u64
//! packed   "cmp" | algorithm u8 = 1 | length v | S2 stream of all but the last 8 bytes | these 8 bytes
//! ```
//!
//! Bit 63 of the sequence: erased in place. Bit 62: a tombstone, which says that the message of that
//! sequence is gone. The checksum covers sequence to subject length, and all behind it.

use bytes::{Buf as _, Bytes};

use super::sum::Sum;
use crate::s2::{Decoder, S2Error};
use crate::varint::{self, Number};

const PACKED: &[u8] = b"cmp";
const ALGORITHM_S2: u8 = 1;
const HEAD_LENGTH: usize = 22;
const CHECKSUM_LENGTH: usize = 8;
/// Shorter than head and checksum is no record.
const RECORD_LENGTH_MIN: usize = HEAD_LENGTH + CHECKSUM_LENGTH;
const HAS_HEADERS: u32 = 1 << 31;
const ERASED: u64 = 1 << 63;
const TOMBSTONE: u64 = 1 << 62;
/// Largest block that is unpacked: blocks of the reference have 8 MiB, and one message more.
const BLOCK_BYTES_MAX: u64 = 256 << 20;

/// Why a packed block cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    #[error("the block is packed by an unknown method ({0})")]
    Algorithm(u8),
    #[error("the block says that it stands for {0} bytes")]
    TooLarge(u64),
    #[error("the block is cut")]
    Cut,
    #[error(transparent)]
    S2(#[from] S2Error),
}

/// The plain size of a packed block; `None`: it is not packed.
#[must_use]
pub fn compressed_size(block: &[u8]) -> Option<u64> {
    let rest = block.strip_prefix(PACKED)?.get(1..)?;
    match varint::read(rest) {
        Number::Read(size, _) => Some(size),
        _ => None,
    }
}

/// The records of a block, unpacked if it is packed.
///
/// # Errors
/// [`BlockError`]: nothing of it can be read.
pub fn unpack_block(block: Bytes) -> Result<Bytes, BlockError> {
    let Some(mut rest) = block.strip_prefix(PACKED) else {
        return Ok(block);
    };
    let algorithm = rest.try_get_u8().map_err(|_| BlockError::Cut)?;
    if algorithm != ALGORITHM_S2 {
        return Err(BlockError::Algorithm(algorithm));
    }
    let Number::Read(size, length) = varint::read(rest) else {
        return Err(BlockError::Cut);
    };
    if size > BLOCK_BYTES_MAX {
        return Err(BlockError::TooLarge(size));
    }
    rest.advance(length);
    let (body, checksum) = rest
        .split_last_chunk::<CHECKSUM_LENGTH>()
        .ok_or(BlockError::Cut)?;
    let mut plain = Vec::new();
    let mut decoder = Decoder::default();
    decoder.push(body);
    while let Some(piece) = decoder.next_block()? {
        if (plain.len() + piece.len()) as u64 > size {
            return Err(BlockError::TooLarge(size));
        }
        plain.extend_from_slice(&piece);
    }
    if !decoder.is_at_end() {
        return Err(BlockError::Cut);
    }
    plain.extend_from_slice(checksum);
    Ok(Bytes::from(plain))
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Message {
        sequence: u64,
        time_ns: i64,
        subject: Bytes,
        headers: Bytes,
        payload: Bytes,
    },
    /// A message whose bytes were overwritten.
    Erased { sequence: u64, time_ns: i64 },
    /// The message of this sequence, in this block or another, is gone.
    Tombstone { sequence: u64, time_ns: i64 },
    /// A record at this place that does not check; the next one is looked for behind it.
    Damaged { offset: usize },
    /// What follows here cannot be told apart any more: the block was cut, or its lengths are damaged.
    Cut { offset: usize },
}

/// A block and how its records are checked.
pub struct Block {
    data: Bytes,
    sum: Sum,
}

impl Block {
    /// The unpacked block of this number of a stream.
    #[must_use]
    pub fn new(stream: &str, number: u64, data: Bytes) -> Self {
        Self {
            data,
            sum: Sum::new(&format!("{stream}-{number}")),
        }
    }

    /// Its records in order.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records {
            block: self,
            offset: 0,
        }
    }

    /// The checksum of the last record, which is the last thing in a block.
    #[must_use]
    pub fn last_checksum(&self) -> Option<[u8; CHECKSUM_LENGTH]> {
        self.data.last_chunk().copied()
    }

    /// The record at `offset`, whose length is known to lie within the block.
    fn record(&self, offset: usize, length: usize, has_headers: bool) -> Option<Record> {
        let whole = self.data.slice(offset..offset.checked_add(length)?);
        let checked = whole.len().checked_sub(CHECKSUM_LENGTH)?;
        let expected = whole.get(checked..)?;
        let mut body = whole.slice(HEAD_LENGTH..checked);
        let mut head = whole.get(4..HEAD_LENGTH)?;
        let signed = whole.get(4..20)?;
        let number = head.try_get_u64_le().ok()?;
        let time_ns = head.try_get_i64_le().ok()?;
        let subject_length = usize::from(head.try_get_u16_le().ok()?);
        let sequence = number & !(ERASED | TOMBSTONE);
        if number & ERASED != 0 {
            return Some(Record::Erased { sequence, time_ns });
        }
        if subject_length > body.len() {
            return None;
        }
        let subject = body.split_to(subject_length);
        let mut headers = Bytes::new();
        let mut pieces = vec![signed, &subject];
        let behind = body.clone();
        if has_headers {
            let length = body.try_get_u32_le().ok()? as usize;
            if length > body.len() {
                return None;
            }
            headers = body.split_to(length);
            pieces.push(&headers);
            pieces.push(&body);
        } else {
            pieces.push(&behind);
        }
        if self.sum.of(&pieces) != expected {
            return None;
        }
        if number & TOMBSTONE != 0 {
            return Some(Record::Tombstone { sequence, time_ns });
        }
        Some(Record::Message {
            sequence,
            time_ns,
            subject: Bytes::copy_from_slice(&subject),
            headers,
            payload: body,
        })
    }
}

/// An iterator over a block's records. Damage ends it only where no next record can be found.
pub struct Records<'a> {
    block: &'a Block,
    offset: usize,
}

impl Iterator for Records<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let data = &self.block.data;
        let offset = self.offset;
        let mut rest = data.get(offset..).filter(|rest| !rest.is_empty())?;
        let word = rest.try_get_u32_le().unwrap_or_default();
        let length = (word & !HAS_HEADERS) as usize;
        if length < RECORD_LENGTH_MIN || length > data.len() - offset {
            self.offset = data.len();
            return Some(Record::Cut { offset });
        }
        self.offset += length;
        let record = self.block.record(offset, length, word & HAS_HEADERS != 0);
        Some(record.unwrap_or(Record::Damaged { offset }))
    }
}
