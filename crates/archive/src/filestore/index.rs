//! `index.db`: what the reference knew of a stream's messages when it wrote it, at a clean stop at the
//! latest. It counts only if it is newer than every block: it names the last block and its last
//! checksum.
//!
//! ```text
//! magic u8 = 11 | version u8 | messages v | bytes v | first v | first time z | last v | last time z |
//! subjects: count v, (length v | name | messages v | first block v | last block v if messages > 1)* |
//! blocks: count v, (number v | bytes v | first v | first time z | last v | last time z | deleted v |
//!   deadlines v (from version 2) | schedules v (from version 3) | [set of the deleted])* |
//! last block v | its last checksum u64 | checksum u64 (key: the stream's name)
//! set    magic u8 = 22 | version u8 | nodes u32 | size u32 | (base u64 | 32 words u64 | height u16)*
//! ```

use bytes::Buf as _;

use super::sum::Sum;
use crate::varint::{self, Number};

const MAGIC: u8 = 11;
const VERSIONS: std::ops::RangeInclusive<u8> = 1..=4;
const SET_MAGIC: u8 = 22;
const SET_VERSIONS: std::ops::RangeInclusive<u8> = 1..=2;
const SET_WORDS: usize = 32;

/// Why it is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    #[error("index.db does not check")]
    Checksum,
    #[error("index.db has an unknown form")]
    Form,
}

/// What it says of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexBlock {
    pub number: u64,
    pub first_sequence: u64,
    pub last_sequence: u64,
    /// Ascending.
    pub deleted: Vec<u64>,
}

/// What it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    pub messages: u64,
    pub bytes: u64,
    pub first_sequence: u64,
    pub last_sequence: u64,
    pub blocks: Vec<IndexBlock>,
    pub last_block: u64,
    pub last_checksum: [u8; 8],
}

/// Reads it.
///
/// # Errors
/// [`IndexError`]: then the blocks alone count.
pub fn read_index(stream: &str, data: &[u8]) -> Result<Index, IndexError> {
    let (body, sum) = data.split_last_chunk::<8>().ok_or(IndexError::Checksum)?;
    if Sum::new(stream).of(&[body]) != *sum {
        return Err(IndexError::Checksum);
    }
    Reader(body).index().ok_or(IndexError::Form)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<u64> {
        let Number::Read(value, length) = varint::read(self.0) else {
            return None;
        };
        self.0.advance(length);
        Some(value)
    }

    fn skip(&mut self, length: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(length).ok()?..)?;
        Some(())
    }

    fn index(mut self) -> Option<Index> {
        let magic = self.0.try_get_u8().ok()?;
        let version = self.0.try_get_u8().ok()?;
        if magic != MAGIC || !VERSIONS.contains(&version) {
            return None;
        }
        let mut index = Index {
            messages: self.number()?,
            bytes: self.number()?,
            first_sequence: self.number()?,
            ..Index::default()
        };
        self.number()?;
        index.last_sequence = self.number()?;
        self.number()?;
        for _ in 0..self.number()? {
            let length = self.number()?;
            self.skip(length)?;
            let messages = self.number()?;
            self.number()?;
            if messages > 1 {
                self.number()?;
            }
        }
        for _ in 0..self.number()? {
            let block = self.block(version)?;
            index.blocks.push(block);
        }
        index.last_block = self.number()?;
        index.last_checksum = *self.0.first_chunk()?;
        Some(index)
    }

    fn block(&mut self, version: u8) -> Option<IndexBlock> {
        let number = self.number()?;
        self.number()?;
        let first_sequence = self.number()?;
        self.number()?;
        let last_sequence = self.number()?;
        self.number()?;
        let deleted = self.number()?;
        for since in [2, 3] {
            if version >= since {
                self.number()?;
            }
        }
        let mut block = IndexBlock {
            number,
            first_sequence,
            last_sequence,
            deleted: Vec::new(),
        };
        if deleted > 0 {
            block.deleted = self.set()?;
        }
        Some(block)
    }

    fn set(&mut self) -> Option<Vec<u64>> {
        let magic = self.0.try_get_u8().ok()?;
        let version = self.0.try_get_u8().ok()?;
        if magic != SET_MAGIC || !SET_VERSIONS.contains(&version) {
            return None;
        }
        let nodes = self.0.try_get_u32_le().ok()?;
        let size = self.0.try_get_u32_le().ok()?;
        let mut found = Vec::new();
        for _ in 0..nodes {
            let base = self.0.try_get_u64_le().ok()?;
            let words = if version == 1 {
                2 * SET_WORDS
            } else {
                SET_WORDS
            };
            for word in 0..words as u64 {
                let mut bits = self.0.try_get_u64_le().ok()?;
                while bits != 0 {
                    let bit = u64::from(bits.trailing_zeros());
                    found.push(base.checked_add(word * 64 + bit)?);
                    bits &= bits - 1;
                }
            }
            self.0.try_get_u16_le().ok()?;
        }
        found.sort_unstable();
        (found.len() == size as usize).then_some(found)
    }
}
