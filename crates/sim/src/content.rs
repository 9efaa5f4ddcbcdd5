//! One file of the simulated disk: what reads see, what is left after a power cut, and the bits that
//! flipped in both.

use bytes::Bytes;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub(crate) enum Change {
    Write { offset: usize, bytes: Bytes },
    Length(usize),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    pub(crate) live: Vec<u8>,
    pub(crate) durable: Vec<u8>,
    /// Since the last successful sync, in order.
    pub(crate) unsynced: Vec<Change>,
    /// Bits that were flipped and not written over, by offset.
    pub(crate) live_flips: BTreeMap<usize, u8>,
    pub(crate) durable_flips: BTreeMap<usize, u8>,
}

impl Content {
    fn apply(image: &mut Vec<u8>, change: &Change) {
        match change {
            Change::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if image.len() < end {
                    image.resize(end, 0);
                }
                image[*offset..end].copy_from_slice(bytes);
            }
            Change::Length(length) => image.resize(*length, 0),
        }
    }

    pub(crate) fn change(&mut self, change: Change) {
        Self::apply(&mut self.live, &change);
        mend(&mut self.live_flips, &change);
        self.unsynced.push(change);
    }

    pub(crate) fn make_durable(&mut self, change: &Change) {
        Self::apply(&mut self.durable, change);
        mend(&mut self.durable_flips, change);
    }

    pub(crate) fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            self.make_durable(&change);
        }
    }
}

/// What is written over is not flipped any more.
fn mend(flips: &mut BTreeMap<usize, u8>, change: &Change) {
    match change {
        Change::Write { offset, bytes } => {
            flips.retain(|at, _| !(*offset..offset + bytes.len()).contains(at));
        }
        Change::Length(length) => flips.retain(|at, _| at < length),
    }
}
