//! Files that had a life in the journal and wait for another. Their blocks were written before, so
//! that a frame and its sync cost half of what they cost in a file that is only reserved.
//!
//! What a spare holds means nothing: its name is none that recovery reads. It gets a new header
//! under a new epoch, synced, *before* it gets a journal file's name; frames of the earlier life
//! carry another epoch, which their checksums are seeded with, and are never taken for frames.

use super::file::spare_path;
use super::files::OpenFile;
use crate::disk::FileId;
use std::collections::VecDeque;

/// One file that waits. It stays open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spare {
    pub id: FileId,
    pub path: String,
    /// The space it takes on the disk.
    pub bytes: u64,
}

/// All that wait, and the number for the name of the next.
#[derive(Debug, Default)]
pub(super) struct Spares {
    files: VecDeque<Spare>,
    last_number: u64,
}

impl Spares {
    /// Takes a file in whose name is durable.
    pub(super) fn push(&mut self, spare: Spare) {
        self.files.push_back(spare);
    }

    pub(super) fn take(&mut self) -> Option<Spare> {
        self.files.pop_front()
    }

    /// Takes one that has room for so many bytes.
    pub(super) fn take_with(&mut self, bytes: u64) -> Option<Spare> {
        let fits = |spare: &Spare| spare.bytes >= bytes;
        let at = self.files.iter().position(fits)?;
        self.files.remove(at)
    }

    pub(super) fn count(&self) -> usize {
        self.files.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|spare| spare.bytes).sum()
    }

    /// A name of this number is taken.
    pub(super) fn note_number(&mut self, number: u64) {
        self.last_number = self.last_number.max(number);
    }

    /// What a file becomes that nobody needs any more: to be renamed to its path.
    pub(super) fn name(&mut self, file: &OpenFile) -> Spare {
        self.last_number += 1;
        Spare {
            id: file.id,
            path: spare_path(self.last_number),
            bytes: file.bytes,
        }
    }
}
