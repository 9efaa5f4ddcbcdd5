//! Applying: what the stream's log decided happens here, in memory, at once, and cannot fail.

use super::flush::Candidate;
use super::index::{BodyLength, TakenRow};
use super::segment::record::record_length;
use super::tail::Body;
use super::{JournaledMessage, Removed, Storage, StoredMessage, StreamStore};
use crate::journal::JournalPosition;
use bytes::Bytes;
use std::ops::ControlFlow;

/// A memory store takes its own copy of bodies up to this size, so that a small message does not
/// keep the large buffer alive that it arrived in.
const OWN_BYTES: usize = 16 << 10;

/// All of these need a loaded store ([`Self::ensure_loaded`]).
impl StreamStore {
    /// Stores a message. Its sequence must be above `last_sequence`; what lies between becomes a
    /// gap. A sequence that is not above is ignored (an entry that was applied before).
    ///
    /// `position` is where its headers, directly followed by its payload, lie in the journal;
    /// `None` if they do not (memory groups): then the bytes stay in memory until flushed.
    pub fn append(&mut self, message: StoredMessage, position: Option<JournalPosition>) {
        if message.sequence <= self.index.state().last_sequence {
            return;
        }
        let (headers, payload) = (message.headers, message.payload);
        let length = BodyLength::new(headers.len(), payload.len());
        let memory = self.settings.storage == Storage::Memory;
        let own = memory && headers.len() + payload.len() <= OWN_BYTES;
        let slot = self.tail.insert(Body::new(headers, payload, own), position);
        self.index.push(
            message.sequence,
            &message.subject,
            message.time_ns,
            length,
            slot,
        );
        self.enforce_share();
    }

    /// As [`Self::append`], with headers and payload in one piece, as they lie in the entry: a file
    /// store shares it, a memory store takes a copy of small ones.
    pub fn append_joined(
        &mut self,
        (sequence, time_ns): (u64, i64),
        subject: &[u8],
        (body, headers_length): (Bytes, u32),
        position: Option<JournalPosition>,
    ) {
        if sequence <= self.index.state().last_sequence {
            return;
        }
        let length = BodyLength::new(
            headers_length as usize,
            body.len().saturating_sub(headers_length as usize),
        );
        let memory = self.settings.storage == Storage::Memory;
        let bytes = if memory && body.len() <= OWN_BYTES {
            Bytes::copy_from_slice(&body)
        } else {
            body
        };
        let joined = Body::Joined {
            bytes,
            header_length: headers_length,
        };
        let slot = self.tail.insert(joined, position);
        self.index.push(sequence, subject, time_ns, length, slot);
        self.enforce_share();
    }

    /// Stores a message whose bytes stay in the journal, where `position` says. As
    /// [`Self::append`] otherwise.
    pub fn append_journaled(&mut self, message: &JournaledMessage, position: JournalPosition) {
        if message.sequence <= self.index.state().last_sequence {
            return;
        }
        let (headers, payload) = (message.headers_length, message.payload_length);
        let body = Body::Journal {
            position,
            header_length: headers,
            length: headers.saturating_add(payload),
            checksum: message.checksum,
        };
        let slot = self.tail.insert(body, Some(position));
        let length = BodyLength::new(headers as usize, payload as usize);
        let (sequence, time_ns) = (message.sequence, message.time_ns);
        self.index
            .push(sequence, &message.subject, time_ns, length, slot);
    }

    /// Uses up all sequences up to and with `to_sequence` without storing anything: gaps of a
    /// mirror, `first_seq` (skip to `first_seq - 1`), a publish nobody is interested in. `time_ns`
    /// becomes the time of the last message; 0 leaves it.
    pub fn skip(&mut self, to_sequence: u64, time_ns: i64) {
        self.index.skip(to_sequence, time_ns);
    }

    /// Takes one message out. `None` if it is not there.
    pub fn remove(&mut self, sequence: u64) -> Option<Removed> {
        let taken = self.index.remove(sequence)?;
        self.release_body(sequence, &taken);
        self.damaged.remove(sequence);
        self.suspects.remove(&sequence);
        Some(Removed {
            sequence,
            time_ns: taken.row.time_ns,
            subject: taken.subject,
            size: taken.size,
            subject_gone: taken.subject_gone,
        })
    }

    /// Lets bodies go to the journal, oldest first, until the tail is within its share.
    pub(super) fn enforce_share(&mut self) {
        let memory = self.settings.storage == Storage::Memory;
        let limit = self.settings.share.tail_bytes;
        if !memory && self.tail.memory_bytes() > limit {
            self.evict_tail(limit, usize::MAX, u64::MAX);
        }
    }

    /// Lets bodies go to the journal, oldest first, until `limit` bytes are left in memory, so many
    /// are looked at, or so many bytes are let go.
    pub(super) fn evict_tail(&mut self, limit: u64, bodies: usize, bytes: u64) {
        let tail = &mut self.tail;
        let least = tail.memory_bytes().saturating_sub(bytes).max(limit);
        let mut left = bodies;
        let mut next = self.evicted_below.max(self.flushed_through + 1);
        let _ = self.index.rows.scan_rows(next, |sequence, row| {
            if tail.memory_bytes() <= least || left == 0 {
                return ControlFlow::Break(());
            }
            left -= 1;
            tail.evict(row.location);
            next = sequence + 1;
            ControlFlow::Continue(())
        });
        self.evicted_below = next;
    }

    /// The body of a removed message: out of the tail, or one less alive in its segment.
    fn release_body(&mut self, sequence: u64, taken: &TakenRow) {
        let row = &taken.row;
        if sequence <= self.flushed_through {
            let length = record_length(taken.subject.len(), row.length.bytes());
            if let Some((_, segment)) = self.segments.range_mut(..=sequence).next_back() {
                segment.live_messages = segment.live_messages.saturating_sub(1);
                segment.live_bytes = segment.live_bytes.saturating_sub(length);
            }
            let rewrite = self.flush.as_mut().and_then(|flush| flush.rewrite.as_mut());
            if let Some(rewrite) = rewrite.filter(|rewrite| rewrite.covers(sequence)) {
                let (subject, time_ns, length) = (taken.subject.clone(), row.time_ns, row.length);
                let body = Body::none();
                let candidate = Candidate {
                    sequence,
                    time_ns,
                    subject,
                    length,
                    body,
                };
                rewrite.removed.insert(sequence, candidate);
            }
            return;
        }
        let body = self.tail.remove(row.location);
        let (Some(flush), Some((body, _))) = (&mut self.flush, body) else {
            return;
        };
        let written = flush
            .run
            .as_ref()
            .map_or(flush.next, |run| run.segment.last_sequence + 1);
        if sequence >= written && sequence <= flush.end {
            let (subject, time_ns, length) = (taken.subject.clone(), row.time_ns, row.length);
            let candidate = Candidate {
                sequence,
                time_ns,
                subject,
                length,
                body,
            };
            flush.retained.insert(sequence, candidate);
        }
    }
}
