//! Secure erase: the bytes of a removed message are overwritten in its segment. The only change
//! that is ever made in place; the record is dead already, so nothing reads it.

use super::io::{Purpose, Source};
use super::segment::record::{RECORD_HEAD_BYTES, record_length};
use super::tail::Body;
use super::{Removed, StoreEvent, StreamStore};
use crate::disk::DiskOperation;
use bytes::Bytes;

impl StreamStore {
    /// Takes one message out and overwrites its bytes in its segment; [`StoreEvent::Erased`] tells
    /// when that is synced. What the journal holds of it is the owner's to let go
    /// ([`crate::journal::Journal::erase`]), what leftovers and retired segments hold goes with the
    /// next checkpoint.
    pub fn erase(&mut self, sequence: u64) -> Option<Removed> {
        let row = self.index.rows.get(sequence)?;
        let removed = self.remove(sequence)?;
        let length = record_length(removed.subject.len(), row.length.bytes());
        if sequence <= self.flushed_through {
            let segment = self
                .segments
                .range(..=sequence)
                .next_back()
                .map(|(_, one)| one.id);
            if let Some(id) = segment {
                self.overwrite(sequence, id, row.location, length);
            }
            let flush = self.flush.as_mut();
            if let Some(flush) = flush
                && flush
                    .rewrite
                    .as_ref()
                    .is_some_and(|rewrite| rewrite.covers(sequence))
            {
                flush.erase.insert(sequence);
            }
        } else if !self.erase_in_flush(sequence) {
            self.events.push(StoreEvent::Erased { sequence });
        }
        Some(removed)
    }

    /// Overwrites a record behind its head; in a pack, the whole segment once it is rewritten.
    pub(super) fn overwrite(&mut self, sequence: u64, segment: u64, offset: u32, length: u64) {
        if self.note_wipe(sequence, segment) {
            return;
        }
        self.blocks.forget(Source::Segment(segment));
        let file = self.io.segment_file(segment);
        let zeros = Bytes::from(vec![0; length.saturating_sub(RECORD_HEAD_BYTES) as usize]);
        let offset = u64::from(offset) + RECORD_HEAD_BYTES;
        self.io.ask(
            DiskOperation::Write {
                file,
                offset,
                chunks: vec![zeros],
            },
            Purpose::Nothing,
        );
        self.io
            .ask(DiskOperation::Sync { file }, Purpose::Erase { sequence });
    }

    /// A journal file is gone: positions in it are void.
    pub fn journal_released(&mut self, file: u64) {
        self.blocks.forget(Source::Journal(file));
    }

    /// A message of the tail that a flush still writes: without its bytes. True if the end is told
    /// later.
    fn erase_in_flush(&mut self, sequence: u64) -> bool {
        let Some(flush) = &mut self.flush else {
            return false;
        };
        flush.fetch.bodies.remove(&sequence);
        flush.erased.insert(sequence);
        if let Some(candidate) = flush.retained.get_mut(&sequence) {
            let bytes = Bytes::from(vec![0; candidate.length.bytes() as usize]);
            candidate.body = Body::Joined {
                bytes,
                header_length: 0,
            };
            return false;
        }
        let in_run = flush
            .run
            .as_ref()
            .is_some_and(|run| sequence >= flush.next && sequence <= run.segment.last_sequence);
        if in_run {
            flush.erase.insert(sequence);
        }
        in_run
    }
}
