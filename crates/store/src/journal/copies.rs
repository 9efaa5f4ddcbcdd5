//! Writes again what recovery read and could not prove: a run of frames at the head of a new file.
//! One frame at a time, its payloads read back from where they were found, so that a long unproven
//! end (lazy syncing) costs no memory.

use super::file::FIRST_FRAME_OFFSET;
use super::frame::{self, FLAG_COPY, FLAG_COPY_END, FrameHead};
use super::record::payload_checksum;
use super::replay::{FoundFrame, FoundRecord};
use super::{JournalPosition, Record, RecordKind};
use crate::seal::FileKey;
use bytes::Bytes;
use std::collections::VecDeque;

/// The frames that repeat what is not proven, laid out one behind the other.
#[derive(Debug)]
pub(super) struct CopyRun {
    file: u64,
    epoch: u64,
    key: Option<FileKey>,
    base: u64,
    number: u64,
    run_place: u32,
    /// Where the next frame goes.
    pub offset: u64,
    left: VecDeque<FoundFrame>,
    ended: bool,
    /// What was copied, where it is now.
    pub copied: Vec<FoundRecord>,
}

/// The payloads of one frame, as they lie in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CopySource {
    pub file: u64,
    pub offset: u64,
    pub length: u32,
}

impl CopyRun {
    pub(super) fn new(
        (file, epoch, key): (u64, u64, Option<FileKey>),
        base: u64,
        number: u64,
        unproven: Vec<FoundFrame>,
    ) -> Self {
        // Frames that only proved others have nothing to repeat.
        let left = unproven
            .into_iter()
            .filter(|frame| !frame.records.is_empty());
        Self {
            file,
            epoch,
            key,
            base,
            number,
            run_place: 0,
            offset: FIRST_FRAME_OFFSET,
            left: left.collect(),
            ended: false,
            copied: Vec::new(),
        }
    }

    /// Where the run ends.
    pub(super) fn end_offset(&self) -> u64 {
        let lengths = self.left.iter().map(|frame| {
            let bytes = frame.records.iter().map(|found| u64::from(found.length));
            frame::frame_length(frame.records.len(), bytes.sum())
        });
        // At least one frame, even with nothing to repeat: it makes the torn tail void for ever.
        self.offset + lengths.sum::<u64>().max(frame::frame_length(0, 0))
    }

    /// The number of the first frame behind the run.
    pub(super) fn next_number(&self) -> u64 {
        self.number + (self.left.len() as u64).max(u64::from(!self.ended))
    }

    /// The whole run has been encoded.
    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// What has to be read for the next frame; `None`: nothing.
    pub(super) fn source(&self) -> Option<CopySource> {
        let records = &self.left.front()?.records;
        let (first, last) = (records.first()?.position, records.last()?);
        let end = last.position.offset + u64::from(last.length);
        let length = u32::try_from(end - first.offset).unwrap_or(u32::MAX);
        (length > 0).then_some(CopySource {
            file: first.file,
            offset: first.offset,
            length,
        })
    }

    /// The chunks of the next frame. `None`: the payloads are not what was found there before.
    pub(super) fn encode_next(&mut self, payloads: &Bytes) -> Option<Vec<Bytes>> {
        let none = FoundFrame::default();
        let source = self.left.front().unwrap_or(&none);
        let start = source.records.first().map_or(0, |it| it.position.offset);
        let mut records = Vec::with_capacity(source.records.len());
        for found in &source.records {
            let from = usize::try_from(found.position.offset - start).ok()?;
            let to = from + found.length as usize;
            let payload = payloads.get(from..to)?;
            if payload_checksum(source.epoch, found.position, payload) != found.checksum {
                return None;
            }
            // What the kind itself writes down is not given as a payload.
            let own = matches!(
                found.kind,
                RecordKind::HardState(_) | RecordKind::GroupRemoved | RecordKind::Erase
            );
            records.push(Record {
                group: found.group,
                kind: found.kind,
                payload: if own {
                    Bytes::new()
                } else {
                    source.opened(found, &payloads.slice(from..to))
                },
            });
        }
        let end = self.left.len() <= 1;
        let head = FrameHead {
            flags: FLAG_COPY | if end { FLAG_COPY_END } else { 0 },
            epoch: self.epoch,
            number: self.number,
            durable_through: self.base,
            run_place: self.run_place,
        };
        let encoded = frame::encode_sealed(head, self.offset, &records, self.key.as_ref());
        let source = self.left.pop_front().unwrap_or_default();
        let places = source.records.into_iter().zip(encoded.payload_offsets);
        for ((mut found, offset), checksum) in places.zip(encoded.payload_checksums) {
            let file = self.file;
            found.position = JournalPosition { file, offset };
            found.checksum = checksum;
            self.copied.push(found);
        }
        self.offset += encoded.length;
        self.number += 1;
        self.run_place += 1;
        self.ended = end;
        Some(encoded.chunks)
    }
}
