//! The bytes of a run: what one step of a flush writes and syncs. In a plain segment records and an
//! index block, in a packed one packs of records and the index block as a pack of its own.

use super::flush::Candidate;
use super::segment::Segment;
use super::segment::index_block::{BlockBuilder, PackRow};
use super::segment::pack::{Content, PACK_BYTES, Packing, put_pack};
use super::segment::record::{FILE_HEADER_BYTES, RecordParts, put_record};
use bytes::Bytes;

/// A run on its way, and the segment as it will be when it is synced.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) segment: Segment,
    /// Sequence, offset (of the record or of its pack) and record length.
    pub(super) rows: Vec<(u64, u32, u64)>,
    /// Where packs of records begin, and how long they are.
    pub(super) packs: Vec<(u32, u32)>,
    pub(super) is_new: bool,
}

/// Puts the bytes of a run together.
#[derive(Debug)]
pub(super) struct RunWriter {
    segment: Segment,
    is_new: bool,
    packing: Packing,
    bytes: Vec<u8>,
    /// Records of the pack that is being collected.
    pack: Vec<u8>,
    pack_messages: u32,
    packs: Vec<PackRow>,
    rows: Vec<(u64, u32, u64)>,
    block: BlockBuilder,
    /// Where the run begins in the segment.
    start: u32,
}

impl RunWriter {
    pub(super) fn new(segment: Segment, is_new: bool, packing: &Packing) -> Self {
        let start = if segment.length == 0 {
            FILE_HEADER_BYTES as u32
        } else {
            segment.length
        };
        Self {
            segment,
            is_new,
            packing: packing.clone(),
            bytes: Vec::new(),
            pack: Vec::new(),
            pack_messages: 0,
            packs: Vec::new(),
            rows: Vec::new(),
            block: BlockBuilder::default(),
            start,
        }
    }

    /// Where in its file the run is written, with the file's header if it is the first one.
    pub(super) fn offset(&self) -> u64 {
        u64::from(self.segment.length)
    }

    /// Adds a message; without a body its record will fail the check.
    pub(super) fn push(&mut self, candidate: &Candidate, body: Option<(Bytes, Bytes)>) {
        let poison = body.is_none();
        let (headers, payload) = body.unwrap_or_else(|| {
            (
                Bytes::new(),
                Bytes::from(vec![0; candidate.length.bytes() as usize]),
            )
        });
        let parts = RecordParts {
            sequence: candidate.sequence,
            time_ns: candidate.time_ns,
            subject: &candidate.subject,
            headers: &headers,
            payload: &payload,
        };
        let offset = self.start + self.bytes.len() as u32;
        let into = if self.segment.packed {
            &mut self.pack
        } else {
            &mut self.bytes
        };
        let before = into.len();
        put_record(into, &parts, self.segment.seed, poison);
        let length = (into.len() - before) as u64;
        self.rows.push((candidate.sequence, offset, length));
        let (sequence, time_ns) = (candidate.sequence, candidate.time_ns);
        self.block
            .push(sequence, time_ns, &candidate.subject, candidate.length);
        if self.segment.packed {
            self.segment.unpacked_bytes += length;
            self.pack_messages += 1;
            if self.pack.len() >= PACK_BYTES {
                self.close_pack();
            }
        }
    }

    fn close_pack(&mut self) {
        if self.pack_messages == 0 {
            return;
        }
        let before = self.bytes.len();
        let (packing, seed) = (&self.packing, self.segment.seed);
        put_pack(&mut self.bytes, &self.pack, Content::Records, packing, seed);
        self.packs.push(PackRow {
            messages: std::mem::take(&mut self.pack_messages),
            length: (self.bytes.len() - before) as u32,
        });
        self.pack.clear();
    }

    pub(super) fn finish(mut self) -> (Run, Vec<u8>) {
        self.close_pack();
        let before = self.segment.last_block;
        let place = if self.segment.packed {
            let form = (&self.packing, self.segment.seed);
            self.block
                .finish_packed(&mut self.bytes, self.start, before, &self.packs, form)
        } else {
            self.block.finish(&mut self.bytes, self.start, before)
        };
        self.segment.last_block = place;
        self.segment.length = place.offset + place.length;
        if let Some((sequence, _, _)) = self.rows.last() {
            self.segment.last_sequence = *sequence;
        }
        let mut at = self.start;
        let mut packs = Vec::with_capacity(self.packs.len());
        for pack in &self.packs {
            packs.push((at, pack.length));
            at += pack.length;
        }
        let run = Run {
            segment: self.segment,
            rows: self.rows,
            packs,
            is_new: self.is_new,
        };
        (run, self.bytes)
    }
}
