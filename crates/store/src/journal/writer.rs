//! The group commit policy: takes all that is queued, writes it as one frame, syncs once.

use super::{Durability, GroupId, JournalEvent, JournalPosition, Record, RecordTicket};
use crate::disk::{DiskCompletion, DiskRequest, FileId, Token};
use millrace_clock::Now;

/// The open journal. Made by [`super::Recovery`].
#[derive(Debug)]
pub struct Journal {
    next_ticket: u64,
}

impl Journal {
    /// Queues a record. It becomes durable after [`Self::poll`] and the disk have done their work;
    /// [`JournalEvent::Durable`] tells.
    pub fn append(&mut self, _record: Record, _durability: Durability) -> RecordTicket {
        self.next_ticket += 1;
        RecordTicket(self.next_ticket)
    }

    /// Asks the disk for what is to be done now. Call after a turn's appends, after
    /// [`Self::complete`], and at [`Self::next_deadline`].
    pub fn poll(&mut self, _now: Now, _out: &mut Vec<DiskRequest>) {}

    /// Takes the end of a request of this journal ([`Token::is_journal`]).
    pub fn complete(
        &mut self,
        _now: Now,
        _completion: DiskCompletion,
        _events: &mut Vec<JournalEvent>,
    ) {
    }

    /// When to call [`Self::poll`] next, if nothing else happens. Monotonic nanoseconds.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        None
    }

    /// A read of a payload that lies in the journal. The completion carries the caller's `token`
    /// and belongs to the caller, who then calls [`Self::read_done`]; until then the file stays.
    /// `None` when the file is gone.
    pub fn read(
        &mut self,
        _token: Token,
        _position: JournalPosition,
        _length: u32,
    ) -> Option<DiskRequest> {
        None
    }

    /// Ends a read begun with [`Self::read`].
    pub fn read_done(&mut self, _file: u64) {}

    /// The open file behind a journal file number.
    #[must_use]
    pub fn file_id(&self, _file: u64) -> Option<FileId> {
        None
    }

    /// Which groups keep the oldest file, and its number. Empty with one file.
    #[must_use]
    pub fn pressure(&self) -> (u64, Vec<GroupId>) {
        (0, Vec::new())
    }

    /// Bytes of journal files on disk, the prepared one and the reserve included.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        0
    }
}
