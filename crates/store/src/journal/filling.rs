//! Zeros written ahead of the frames, into files that never had a life: the first frame in a block
//! that was only reserved costs its sync twice the time. Paced, in small pieces, beside the work of
//! the journal, and only once a run has written enough to gain from it.

use super::JournalSettings;
use super::files::{Ids, OpenFile};
use super::frame::aligned;
use crate::disk::{DiskOperation, DiskRequest, Lane, Token, zeros};
use millrace_clock::Now;

/// Between frames longer than this the disk has no time to spare: what a frame gains from zeros is less
/// than they cost.
const FRAME_BYTES_MAX: u64 = 512 << 10;

/// Zeros on their way to a part of a file that no frame reaches meanwhile.
#[derive(Debug)]
struct Piece {
    /// The number of the file.
    file: u64,
    from: u64,
    to: u64,
    waiting: Vec<Token>,
}

/// What is filled, and when the next piece may follow.
#[derive(Debug, Default)]
pub(super) struct Filling {
    under_way: Option<Piece>,
    due_ns: u64,
    /// Frames written in this run, and the last of them.
    written_bytes: u64,
    last_frame_bytes: u64,
    /// The disk has no room even for what was reserved: not a disk to be filled.
    off: bool,
}

impl Filling {
    /// Where the next piece goes in this file.
    fn place(&self, file: &OpenFile, settings: &JournalSettings) -> Option<(u64, u64)> {
        // One piece ahead of the frames, which would wait for it otherwise.
        let from = aligned(file.written.max(file.offset + settings.fill_bytes));
        let to = file.bytes.min(from + settings.fill_bytes);
        (from < to).then_some((from, to))
    }

    fn is_wanted(&self, settings: &JournalSettings) -> bool {
        !self.off
            && settings.fill_bytes > 0
            && self.written_bytes >= settings.fill_after_bytes
            && self.last_frame_bytes <= FRAME_BYTES_MAX
    }

    /// A frame is about to be written.
    pub(super) fn note_frame(&mut self, length: u64) {
        self.written_bytes += length;
        self.last_frame_bytes = length;
    }

    /// When the next piece is due, if one of these files is to be filled and nothing is under way.
    pub(super) fn deadline<'a>(
        &self,
        settings: &JournalSettings,
        mut files: impl Iterator<Item = &'a OpenFile>,
    ) -> Option<u64> {
        let wanted = self.under_way.is_none() && self.is_wanted(settings);
        (wanted && files.any(|file| self.place(file, settings).is_some())).then_some(self.due_ns)
    }

    /// Asks for the next piece of the first of these files that wants one.
    pub(super) fn poll<'a>(
        &mut self,
        now: Now,
        settings: &JournalSettings,
        files: impl Iterator<Item = &'a OpenFile>,
        ids: &mut Ids,
        out: &mut Vec<DiskRequest>,
    ) {
        if self.under_way.is_some() || !self.is_wanted(settings) || now.monotonic_ns < self.due_ns {
            return;
        }
        let mut places = files.filter_map(|file| Some((file, self.place(file, settings)?)));
        let Some((file, (from, to))) = places.next() else {
            return;
        };
        let write = DiskOperation::Write {
            file: file.id,
            offset: from,
            chunks: zeros(to - from),
        };
        let waiting = vec![
            ids.ask(Lane::Data, write, out),
            ids.ask(Lane::Data, DiskOperation::Sync { file: file.id }, out),
        ];
        let file = file.number;
        self.under_way = Some(Piece {
            file,
            from,
            to,
            waiting,
        });
    }

    /// A piece is under way to this file: it must not go.
    pub(super) fn holds(&self, file: u64) -> bool {
        self.under_way
            .as_ref()
            .is_some_and(|piece| piece.file == file)
    }

    /// A frame that ends there would be overwritten.
    pub(super) fn is_in_the_way(&self, file: u64, end: u64) -> bool {
        self.under_way
            .as_ref()
            .is_some_and(|piece| piece.file == file && end > piece.from)
    }

    /// Takes the end of a request; `None`: not one of these. Gives the file and up to where it is
    /// written now, once the piece is done.
    pub(super) fn complete(
        &mut self,
        now: Now,
        token: Token,
        has_room: bool,
        settings: &JournalSettings,
    ) -> Option<Option<(u64, u64)>> {
        let piece = self.under_way.as_mut()?;
        let before = piece.waiting.len();
        piece.waiting.retain(|asked| *asked != token);
        if piece.waiting.len() == before {
            return None;
        }
        self.off |= !has_room;
        if !piece.waiting.is_empty() {
            return Some(None);
        }
        let done = (piece.file, piece.to);
        self.under_way = None;
        self.due_ns = now.after_ns(settings.fill_pause_ns);
        Some(Some(done))
    }
}
