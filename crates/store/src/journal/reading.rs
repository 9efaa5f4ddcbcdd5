//! What was read from a payload: whether it is what stands there, and what was given to the journal.

use super::files::OpenFile;
use super::record::payload_checksum;
use super::{Journal, JournalPosition, RecoveredEntry};

impl Journal {
    /// Whether these bytes are the payload of an entry that recovery found.
    #[must_use]
    pub fn is_intact(&self, entry: &RecoveredEntry, payload: &[u8]) -> bool {
        let file = self.file(entry.position.file);
        file.is_some_and(|file| {
            payload.len() == entry.length as usize
                && payload_checksum(file.epoch, entry.position, payload) == entry.checksum
        })
    }

    /// What was read from a payload at `position`, as it was given to the journal.
    #[must_use]
    pub fn open_payload(&self, position: JournalPosition, read: bytes::Bytes) -> bytes::Bytes {
        let file = self.file(position.file);
        let Some(key) = file.and_then(|file| file.key.as_ref()) else {
            return read;
        };
        let mut bytes = read.to_vec();
        key.apply(position.offset, &mut bytes);
        bytes.into()
    }

    fn file(&self, number: u64) -> Option<&OpenFile> {
        let active = &self.files.active;
        let mut files = self.files.sealed.iter().chain([active]);
        files.find(|file| file.number == number)
    }
}
