//! The index block that closes every run of records in a segment: which messages the run holds,
//! with subject, time and length. Blocks of a segment form a chain from the last to the first, and
//! the checksum of each is seeded with the one before: a manifest that names the last block names
//! them all. `docs/format.md` draws it.

use super::bytes::{Cursor, put_bytes, put_signed, put_varint};
use super::record::record_length;
use crate::stream::index::BodyLength;
use bytes::Bytes;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use twox_hash::XxHash3_64;

/// First bytes of an index block.
pub(crate) const BLOCK_MAGIC: &[u8; 4] = b"MIDX";
/// The version that this build writes.
pub(crate) const BLOCK_VERSION: u16 = 1;
/// Bytes before the body.
const HEAD_BYTES: usize = 56;
const CHECKSUM_BYTES: usize = 8;

/// Where an index block is in its segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BlockPlace {
    pub(crate) offset: u32,
    pub(crate) length: u32,
    /// Its checksum, seeded with that of the block before.
    pub(crate) chain: u64,
}

/// One message as an index block tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexedMessage {
    pub(crate) sequence: u64,
    pub(crate) time_ns: i64,
    pub(crate) subject: Bytes,
    pub(crate) length: BodyLength,
    /// Where its record begins in the segment.
    pub(crate) offset: u32,
}

/// Builds a block while its run is written.
#[derive(Debug, Default)]
pub(crate) struct BlockBuilder {
    subjects: HashMap<Bytes, u64, FxBuildHasher>,
    dictionary: Vec<u8>,
    rows: Vec<u8>,
    count: u32,
    first_sequence: u64,
    first_time_ns: i64,
    last_sequence: u64,
    last_time_ns: i64,
}

impl BlockBuilder {
    /// Adds a message; its record follows that of the message added before.
    pub(crate) fn push(
        &mut self,
        sequence: u64,
        time_ns: i64,
        subject: &Bytes,
        length: BodyLength,
    ) {
        if self.count == 0 {
            (self.first_sequence, self.first_time_ns) = (sequence, time_ns);
            (self.last_sequence, self.last_time_ns) = (sequence, time_ns);
        }
        let next = self.subjects.len() as u64;
        let number = *self.subjects.entry(subject.clone()).or_insert_with(|| {
            put_bytes(&mut self.dictionary, subject);
            next
        });
        put_varint(&mut self.rows, sequence - self.last_sequence);
        put_signed(&mut self.rows, time_ns.wrapping_sub(self.last_time_ns));
        put_varint(&mut self.rows, number);
        put_varint(&mut self.rows, u64::from(length.0));
        (self.last_sequence, self.last_time_ns) = (sequence, time_ns);
        self.count += 1;
    }

    /// Appends the block to a run that began at `run_offset` in the segment, and tells where it is.
    pub(crate) fn finish(
        self,
        run: &mut Vec<u8>,
        run_offset: u32,
        before: BlockPlace,
    ) -> BlockPlace {
        let start = run.len();
        let body = self.dictionary.len() + self.rows.len();
        run.extend_from_slice(BLOCK_MAGIC);
        run.extend_from_slice(&BLOCK_VERSION.to_le_bytes());
        run.extend_from_slice(&[0; 2]);
        let length = (HEAD_BYTES + body + CHECKSUM_BYTES) as u32;
        for word in [length, run_offset, before.offset, before.length, self.count] {
            run.extend_from_slice(&word.to_le_bytes());
        }
        run.extend_from_slice(&(self.subjects.len() as u32).to_le_bytes());
        run.extend_from_slice(&before.chain.to_le_bytes());
        run.extend_from_slice(&self.first_sequence.to_le_bytes());
        run.extend_from_slice(&self.first_time_ns.to_le_bytes());
        run.extend_from_slice(&self.dictionary);
        run.extend_from_slice(&self.rows);
        let content = run.get(start..).unwrap_or_default();
        let chain = XxHash3_64::oneshot_with_seed(before.chain, content);
        run.extend_from_slice(&chain.to_le_bytes());
        BlockPlace {
            offset: run_offset + start as u32,
            length,
            chain,
        }
    }
}

/// A block that passed its checksum.
#[derive(Clone, Debug)]
pub(crate) struct IndexBlock {
    pub(crate) before: BlockPlace,
    pub(crate) chain: u64,
    run_offset: u32,
    count: u32,
    subject_count: u32,
    first_sequence: u64,
    first_time_ns: i64,
    body: Bytes,
}

/// The length that an index block claims, if these bytes could begin one.
pub(crate) fn claimed_length(bytes: &[u8]) -> Option<u64> {
    let mut cursor = Cursor::new(bytes);
    if cursor.take(4)? != BLOCK_MAGIC {
        return None;
    }
    cursor.u32()?;
    let length = u64::from(cursor.u32()?);
    (length >= (HEAD_BYTES + CHECKSUM_BYTES) as u64).then_some(length)
}

impl IndexBlock {
    /// Checks and opens a block; `None` if anything about it is wrong.
    pub(crate) fn read(block: &Bytes) -> Option<Self> {
        if claimed_length(block)? != block.len() as u64 {
            return None;
        }
        let content = block.len() - CHECKSUM_BYTES;
        let mut cursor = Cursor::new(block.get(4..content)?);
        if cursor.u16()? != BLOCK_VERSION {
            return None;
        }
        cursor.take(6)?;
        let run_offset = cursor.u32()?;
        let (before_offset, before_length) = (cursor.u32()?, cursor.u32()?);
        let (count, subject_count) = (cursor.u32()?, cursor.u32()?);
        let before_chain = cursor.u64()?;
        let (first_sequence, first_time_ns) = (cursor.u64()?, cursor.i64()?);
        let chain = u64::from_le_bytes(block.get(content..)?.try_into().ok()?);
        let before = BlockPlace {
            offset: before_offset,
            length: before_length,
            chain: before_chain,
        };
        let good = XxHash3_64::oneshot_with_seed(before_chain, block.get(..content)?) == chain;
        let body = block.slice(HEAD_BYTES..content);
        let fields = (run_offset, count, subject_count);
        let (run_offset, count, subject_count) = fields;
        good.then_some(Self {
            before,
            chain,
            run_offset,
            count,
            subject_count,
            first_sequence,
            first_time_ns,
            body,
        })
    }

    /// Reads the block row by row.
    pub(crate) fn rows(self) -> BlockRows {
        let mut cursor = Cursor::new(&self.body);
        let mut subjects = Vec::new();
        for _ in 0..self.subject_count {
            let Some(name) = cursor.bytes() else {
                break;
            };
            subjects.push(self.body.slice_ref(name));
        }
        let broken = subjects.len() != self.subject_count as usize;
        BlockRows {
            left: if broken { 0 } else { self.count },
            at: self.body.len() - cursor.remaining(),
            sequence: self.first_sequence,
            time_ns: self.first_time_ns,
            offset: u64::from(self.run_offset),
            is_first: true,
            subjects,
            body: self.body,
        }
    }

    /// The messages of the run, ascending. `None` if the body contradicts itself.
    pub(crate) fn messages(&self) -> Option<Vec<IndexedMessage>> {
        let mut rows = self.clone().rows();
        let mut messages = Vec::new();
        while let Some(row) = rows.next() {
            messages.push(IndexedMessage {
                sequence: row.sequence,
                time_ns: row.time_ns,
                subject: rows.subject(row.subject)?.clone(),
                length: row.length,
                offset: row.offset,
            });
        }
        let whole = messages.len() == self.count as usize && rows.at == rows.body.len();
        whole.then_some(messages)
    }
}

/// One row of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockRow {
    pub(crate) sequence: u64,
    pub(crate) time_ns: i64,
    /// Its number among the subjects of the block.
    pub(crate) subject: usize,
    pub(crate) length: BodyLength,
    /// Where its record begins in the segment.
    pub(crate) offset: u32,
}

/// A block on its way into the index: its rows ascending, each looked at once.
#[derive(Debug)]
pub(crate) struct BlockRows {
    body: Bytes,
    /// Where in the body the next row begins.
    at: usize,
    left: u32,
    sequence: u64,
    time_ns: i64,
    offset: u64,
    is_first: bool,
    subjects: Vec<Bytes>,
}

impl BlockRows {
    /// How many subjects the block names.
    pub(crate) fn subjects(&self) -> usize {
        self.subjects.len()
    }

    /// The name of a subject of the block.
    pub(crate) fn subject(&self, number: usize) -> Option<&Bytes> {
        self.subjects.get(number)
    }

    /// The next row; `None` at the end, or when the body contradicts itself.
    pub(crate) fn next(&mut self) -> Option<BlockRow> {
        self.left = self.left.checked_sub(1)?;
        let row = self.read();
        if row.is_none() {
            self.left = 0;
        }
        row
    }

    fn read(&mut self) -> Option<BlockRow> {
        let rest = self.body.get(self.at..)?;
        let mut cursor = Cursor::new(rest);
        let step = cursor.varint()?;
        if !self.is_first && step == 0 {
            return None;
        }
        self.is_first = false;
        self.sequence = self.sequence.checked_add(step)?;
        self.time_ns = self.time_ns.wrapping_add(cursor.signed()?);
        let subject = usize::try_from(cursor.varint()?).ok()?;
        let name = self.subjects.get(subject)?;
        let length = BodyLength(u32::try_from(cursor.varint()?).ok()?);
        let offset = u32::try_from(self.offset).ok()?;
        self.offset += record_length(name.len(), length.bytes());
        self.at += rest.len() - cursor.remaining();
        Some(BlockRow {
            sequence: self.sequence,
            time_ns: self.time_ns,
            subject,
            length,
            offset,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_come_back_and_no_flipped_bit_passes(
            rows in proptest::collection::vec((1u64..5, -5i64..1000, 0usize..4, 0usize..300), 1..60), flip: usize, chain: u64,
        ) {
            let names = ["a", "b.c", "long.subject.name", ""].map(|name| Bytes::from_static(name.as_bytes()));
            let (mut builder, mut expected) = (BlockBuilder::default(), Vec::new());
            let (mut sequence, mut time_ns, mut offset) = (10, 99, 700u32);
            for (gap, delay, name, size) in rows {
                sequence += gap;
                time_ns += delay;
                let length = BodyLength::new(size / 3, size - size / 3);
                let subject = names[name].clone();
                builder.push(sequence, time_ns, &subject, length);
                let record = record_length(subject.len(), length.bytes()) as u32;
                expected.push(IndexedMessage { sequence, time_ns, subject, length, offset });
                offset += record;
            }
            let mut run = vec![0u8; (offset - 700) as usize];
            let before = BlockPlace { offset: 3, length: 4, chain };
            let place = builder.finish(&mut run, 700, before);
            let block = run[(place.offset - 700) as usize..].to_vec();
            prop_assert_eq!(block.len(), place.length as usize);
            let read = IndexBlock::read(&Bytes::from(block.clone())).unwrap();
            prop_assert_eq!((read.before, read.chain), (before, place.chain));
            prop_assert_eq!(read.messages().unwrap(), expected);
            let mut damaged = block;
            let bit = flip % (damaged.len() * 8);
            damaged[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(IndexBlock::read(&Bytes::from(damaged)).is_none());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, body: Vec<u8>, count: u32, subject_count: u32) {
            prop_assert!(IndexBlock::read(&Bytes::from(bytes)).is_none());
            let block = IndexBlock {
                before: BlockPlace::default(), chain: 0, run_offset: u32::MAX, count, subject_count,
                first_sequence: u64::MAX - 3, first_time_ns: i64::MAX, body: Bytes::from(body),
            };
            let _ = block.messages();
        }
    }
}
