//! Secure erase in packed segments. A message cannot be overwritten in a pack without its neighbours,
//! and nothing may happen to those in a power cut. So its segment is rewritten by the next flush; once
//! no manifest names the old file any more, that is overwritten with zeros, synced and removed. Until
//! then the manifest carries a mark, so that a restart goes on with it. Segments that are not sealed with
//! the newest key go the same way.

use super::io::{Purpose, Source};
use super::{StoreEvent, StreamStore};
use crate::disk::{DiskError, DiskOperation, zeros};
use std::collections::{BTreeMap, BTreeSet};

/// Segments that hold erased messages.
#[derive(Debug, Default)]
pub(super) struct Wiping {
    /// Segments with the mark.
    marked: BTreeSet<u64>,
    /// Sequences whose end is to be told, by segment.
    erased: BTreeMap<u64, BTreeSet<u64>>,
    /// Segments that are not named any more, and their lengths: to be overwritten when they go.
    retired: BTreeMap<u64, u32>,
}

impl StreamStore {
    /// A message was erased and lies in a packed segment: marks it. False: the segment is plain.
    pub(super) fn note_wipe(&mut self, sequence: u64, segment: u64) -> bool {
        let mut segments = self.segments.values_mut();
        let Some(found) = segments.find(|one| one.id == segment && one.packed) else {
            return false;
        };
        self.wiping.marked.insert(segment);
        found.wipe = true;
        found.sealed = true;
        self.blocks.forget(Source::Segment(segment));
        self.wiping
            .erased
            .entry(segment)
            .or_default()
            .insert(sequence);
        true
    }

    /// Whether a flush, and the checkpoint behind it, would make erased messages go.
    #[must_use]
    pub fn wants_wipe(&self) -> bool {
        self.flush.is_none() && !self.wiping.marked.is_empty()
    }

    /// Takes the marks of segments that a manifest names, and marks what is not sealed as it is to be
    /// now: a key is new to the store, or the cipher was changed.
    pub(super) fn take_marks(&mut self) {
        let key = self.settings.packing.keys.current();
        for segment in self.segments.values_mut() {
            if segment.key != key && key != 0 {
                segment.wipe = true;
                segment.sealed = true;
            }
        }
        let segments = self.segments.values();
        let marked = segments.filter(|segment| segment.wipe);
        self.wiping.marked = marked.map(|segment| segment.id).collect();
    }

    /// Remembers how long packs are.
    pub(super) fn note_packs(&mut self, segment: u64, packs: &[(u32, u32)]) {
        let places = packs.iter();
        self.packs
            .extend(places.map(|(offset, length)| ((segment, *offset), *length)));
    }

    /// A segment is not in the next manifest any more.
    pub(super) fn note_retired(&mut self, id: u64, length: u32, wipe: bool) {
        let packs = self.packs.range((id, 0)..=(id, u32::MAX));
        let places: Vec<_> = packs.map(|(place, _)| *place).collect();
        for place in places {
            self.packs.remove(&place);
        }
        self.wiping.marked.remove(&id);
        if wipe {
            self.wiping.retired.insert(id, length);
        }
    }

    /// A segment goes: its files are closed, and what was erased in it is overwritten first.
    pub(super) fn let_segment_go(&mut self, id: u64) {
        self.io.close_segment(id);
        self.blocks.forget(Source::Segment(id));
        let Some(length) = self.wiping.retired.remove(&id) else {
            return;
        };
        let file = self.io.segment_file(id);
        let write = DiskOperation::Write {
            file,
            offset: 0,
            chunks: zeros(u64::from(length)),
        };
        self.io.ask(write, Purpose::Nothing);
        let wipe = Purpose::Wipe { segment: id };
        self.io.ask(DiskOperation::Sync { file }, wipe);
        self.io.close_segment(id);
    }

    /// Takes the end of it.
    pub(super) fn wiped(&mut self, segment: u64, error: Option<&DiskError>) {
        for sequence in self.wiping.erased.remove(&segment).unwrap_or_default() {
            self.events.push(match error {
                None => StoreEvent::Erased { sequence },
                Some(error) => StoreEvent::EraseFailed {
                    sequence,
                    reason: error.to_string(),
                },
            });
        }
    }
}
