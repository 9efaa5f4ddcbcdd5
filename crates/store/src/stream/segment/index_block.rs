//! The index block that closes every run of records in a segment: which messages the run holds,
//! with subject, time and length. Blocks of a segment form a chain from the last to the first, and
//! the checksum of each is seeded with the one before: a manifest that names the last block names
//! them all. `docs/format.md` draws it.

use super::bytes::{Cursor, put_bytes, put_signed, put_varint};
use super::pack::{Content, Packing, put_pack};
use super::record::record_length;
use crate::stream::index::BodyLength;
use bytes::Bytes;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use twox_hash::XxHash3_64;

/// First bytes of an index block.
pub(crate) const BLOCK_MAGIC: &[u8; 4] = b"MIDX";
/// The version of a block in a plain segment, and of one in a packed segment.
pub(crate) const BLOCK_VERSION: u16 = 1;
pub(crate) const BLOCK_VERSION_PACKED: u16 = 2;
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
        let chain = self.put(run, run_offset, before, None);
        place_in(run, start, run_offset, chain)
    }

    /// The same for a run of packs: the block is a pack too.
    pub(crate) fn finish_packed(
        self,
        run: &mut Vec<u8>,
        run_offset: u32,
        before: BlockPlace,
        packs: &[PackRow],
        (packing, seed): (&Packing, u64),
    ) -> BlockPlace {
        let start = run.len();
        let mut block = Vec::new();
        let chain = self.put(&mut block, run_offset, before, Some(packs));
        put_pack(run, &block, Content::Index, packing, seed);
        place_in(run, start, run_offset, chain)
    }

    /// Appends the bytes of the block; gives its checksum.
    fn put(
        self,
        out: &mut Vec<u8>,
        run_offset: u32,
        before: BlockPlace,
        packs: Option<&[PackRow]>,
    ) -> u64 {
        let start = out.len();
        let mut places = Vec::new();
        let mut version = BLOCK_VERSION;
        if let Some(packs) = packs {
            version = BLOCK_VERSION_PACKED;
            put_varint(&mut places, packs.len() as u64);
            for pack in packs {
                put_varint(&mut places, u64::from(pack.messages));
                put_varint(&mut places, u64::from(pack.length));
            }
        }
        let body = places.len() + self.dictionary.len() + self.rows.len();
        out.extend_from_slice(BLOCK_MAGIC);
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        let length = (HEAD_BYTES + body + CHECKSUM_BYTES) as u32;
        for word in [length, run_offset, before.offset, before.length, self.count] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&(self.subjects.len() as u32).to_le_bytes());
        out.extend_from_slice(&before.chain.to_le_bytes());
        out.extend_from_slice(&self.first_sequence.to_le_bytes());
        out.extend_from_slice(&self.first_time_ns.to_le_bytes());
        out.extend_from_slice(&places);
        out.extend_from_slice(&self.dictionary);
        out.extend_from_slice(&self.rows);
        let content = out.get(start..).unwrap_or_default();
        let chain = XxHash3_64::oneshot_with_seed(before.chain, content);
        out.extend_from_slice(&chain.to_le_bytes());
        chain
    }
}

/// One pack of records in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackRow {
    pub(crate) messages: u32,
    /// As it is stored.
    pub(crate) length: u32,
}

/// Where what was appended to a run behind `start` is.
fn place_in(run: &[u8], start: usize, run_offset: u32, chain: u64) -> BlockPlace {
    BlockPlace {
        offset: run_offset + start as u32,
        length: (run.len() - start) as u32,
        chain,
    }
}

/// A block that passed its checksum.
#[derive(Clone, Debug)]
pub(crate) struct IndexBlock {
    pub(crate) before: BlockPlace,
    pub(crate) chain: u64,
    /// In a packed segment.
    packed: bool,
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
        let version = cursor.u16()?;
        if !matches!(version, BLOCK_VERSION | BLOCK_VERSION_PACKED) {
            return None;
        }
        let packed = version == BLOCK_VERSION_PACKED;
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
            packed,
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
        let packs = self.packed.then(|| read_packs(&mut cursor));
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
            packs: packs.map(|packs| Packs::new(packs.unwrap_or_default())),
            is_first: true,
            subjects,
            body: self.body,
        }
    }

    /// Where the packs of the run are, and how long; none in a plain segment.
    pub(crate) fn packs(&self) -> Vec<(u32, u32)> {
        let packs = self
            .packed
            .then(|| read_packs(&mut Cursor::new(&self.body)));
        let mut at = self.run_offset;
        let mut places = Vec::new();
        for pack in packs.flatten().unwrap_or_default() {
            places.push((at, pack.length));
            at = at.saturating_add(pack.length);
        }
        places
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

/// The packs of a run, in a block of a packed segment.
fn read_packs(cursor: &mut Cursor<'_>) -> Option<Vec<PackRow>> {
    let count = cursor.varint()?;
    let mut packs = Vec::new();
    for _ in 0..count {
        packs.push(PackRow {
            messages: u32::try_from(cursor.varint()?).ok()?,
            length: u32::try_from(cursor.varint()?).ok()?,
        });
    }
    Some(packs)
}

/// Walks over the packs of a run, message by message.
#[derive(Debug)]
struct Packs {
    left: std::vec::IntoIter<PackRow>,
    current: PackRow,
}

impl Packs {
    fn new(packs: Vec<PackRow>) -> Self {
        Self {
            left: packs.into_iter(),
            current: PackRow {
                messages: 0,
                length: 0,
            },
        }
    }

    /// How much further the pack of the next message begins; `None` behind the last.
    fn advance(&mut self) -> Option<u64> {
        let mut further = 0;
        while self.current.messages == 0 {
            further += u64::from(self.current.length);
            self.current = self.left.next()?;
        }
        self.current.messages -= 1;
        Some(further)
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
    packs: Option<Packs>,
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
        if let Some(packs) = &mut self.packs {
            self.offset += packs.advance()?;
        }
        let offset = u32::try_from(self.offset).ok()?;
        if self.packs.is_none() {
            self.offset += record_length(name.len(), length.bytes());
        }
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
                before: BlockPlace::default(), chain: 0, packed: count % 2 == 1,
                run_offset: u32::MAX, count, subject_count,
                first_sequence: u64::MAX - 3, first_time_ns: i64::MAX, body: Bytes::from(body),
            };
            let _ = block.messages();
        }
    }
}
