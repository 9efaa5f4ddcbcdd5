//! A segment whose index blocks are damaged is read whole: every record, and every index block, that
//! checks is used.

use super::index::BodyLength;
use super::segment::Segment;
use super::segment::index_block::{self, IndexBlock, IndexedMessage};
use super::segment::pack::{self, Content};
use super::segment::record::{self, FILE_HEADER_BYTES, read_record};
use crate::seal::Keys;
use bytes::Bytes;
use std::collections::BTreeMap;

/// What was found in a segment.
#[derive(Debug, Default)]
pub(super) struct Salvaged {
    /// Ascending.
    pub(super) messages: Vec<IndexedMessage>,
    /// Where packs begin, and how long they are.
    pub(super) packs: Vec<(u32, u32)>,
}

/// Looks at all bytes of a segment that count.
pub(super) fn salvage(data: &Bytes, segment: &Segment, keys: &Keys) -> Salvaged {
    let data = data.slice(..data.len().min(segment.length as usize));
    let mut found = Found::default();
    let mut at = FILE_HEADER_BYTES as usize;
    while let Some(rest) = data.get(at..).filter(|rest| !rest.is_empty()) {
        let here = |length: u64| {
            let end = at.checked_add(usize::try_from(length).ok()?)?;
            (end <= data.len()).then(|| data.slice(at..end))
        };
        let taken = if segment.packed {
            let pack = pack::claimed_length(rest).and_then(here);
            pack.and_then(|pack| found.take_pack(at, &pack, segment.seed, keys))
        } else {
            let record = record::claimed_length(rest).and_then(here);
            let record = record.and_then(|record| found.take_record(at, &record, segment.seed));
            record.or_else(|| {
                let block = index_block::claimed_length(rest).and_then(here)?;
                found.take_block(&block)
            })
        };
        at += taken.unwrap_or(1);
    }
    Salvaged {
        messages: found.messages.into_values().collect(),
        packs: found.packs.into_iter().collect(),
    }
}

#[derive(Default)]
struct Found {
    messages: BTreeMap<u64, IndexedMessage>,
    packs: BTreeMap<u32, u32>,
}

impl Found {
    /// Each gives the length of what it took.
    fn take_record(&mut self, at: usize, record: &Bytes, seed: u64) -> Option<usize> {
        let message = read_record(record, seed)?;
        let indexed = IndexedMessage {
            sequence: message.sequence,
            time_ns: message.time_ns,
            subject: Bytes::copy_from_slice(&message.subject),
            length: BodyLength::new(message.headers.len(), message.payload.len()),
            offset: at as u32,
        };
        self.messages.insert(message.sequence, indexed);
        Some(record.len())
    }

    fn take_block(&mut self, block: &Bytes) -> Option<usize> {
        let read = IndexBlock::read(block)?;
        for message in read.messages().unwrap_or_default() {
            self.messages.entry(message.sequence).or_insert(message);
        }
        for (offset, length) in read.packs() {
            self.packs.entry(offset).or_insert(length);
        }
        Some(block.len())
    }

    fn take_pack(&mut self, at: usize, pack: &Bytes, seed: u64, keys: &Keys) -> Option<usize> {
        let (content, plain) = pack::unpack(pack, seed, keys)?;
        if content == Content::Index {
            self.take_block(&plain);
        } else {
            self.packs.insert(at as u32, pack.len() as u32);
            for record in pack::records(&plain) {
                self.take_record(at, &record, seed);
            }
        }
        Some(pack.len())
    }
}
