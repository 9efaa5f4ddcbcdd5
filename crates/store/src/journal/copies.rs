//! Writes again what recovery read and could not prove: a run of frames at the head of a new file.

use super::file::FIRST_FRAME_OFFSET;
use super::frame::{self, FLAG_COPY, FLAG_COPY_END, FrameHead};
use super::{JournalPosition, Record};
use bytes::Bytes;

/// The frames that repeat what is not proven, laid out one behind the other.
pub(super) struct CopyRun {
    file: u64,
    epoch: u64,
    base: u64,
    pub next_number: u64,
    pub offset: u64,
    pub chunks: Vec<Bytes>,
    pub places: Vec<JournalPosition>,
}

impl CopyRun {
    pub(super) fn new(file: u64, epoch: u64, base: u64, next_number: u64) -> Self {
        let offset = FIRST_FRAME_OFFSET;
        Self {
            file,
            epoch,
            base,
            next_number,
            offset,
            chunks: Vec::new(),
            places: Vec::new(),
        }
    }

    /// At least one frame, even with nothing to repeat: it makes the torn tail void for ever.
    pub(super) fn encode(&mut self, records: &[Record], frame_bytes: u64) {
        let mut rest = records;
        let mut run_place = 0;
        loop {
            let (mut count, mut bytes) = (0, 0);
            for record in rest {
                bytes += record.payload.len() as u64;
                if count > 0 && bytes > frame_bytes {
                    break;
                }
                count += 1;
            }
            let (now, later) = rest.split_at(count);
            let end = if later.is_empty() { FLAG_COPY_END } else { 0 };
            let head = FrameHead {
                flags: FLAG_COPY | end,
                epoch: self.epoch,
                number: self.next_number,
                durable_through: self.base,
                run_place,
            };
            let encoded = frame::encode(head, self.offset, now);
            self.chunks.extend(encoded.chunks);
            let file = self.file;
            let places = encoded.payload_offsets.into_iter();
            self.places
                .extend(places.map(|offset| JournalPosition { file, offset }));
            self.offset += encoded.length;
            self.next_number += 1;
            run_place += 1;
            rest = later;
            if rest.is_empty() {
                return;
            }
        }
    }
}
