//! Per-message compression without context takeover: every message stands alone (RFC 7692 §7.2).

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// What a flushed block ends with; the extension leaves it out on the wire.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// The tail and an empty last block: the stream has an end.
const TAIL_AND_END: [u8; 9] = [0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff];
/// Output grows by so many bytes at least.
const STEP_BYTES: usize = 4096;

/// Why a message does not decompress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InflateError {
    /// More than the limit.
    TooLarge,
    /// Not compressed data.
    Invalid,
}

/// Compresses one message, appending to `out`.
pub(super) fn deflate(message: &[u8], out: &mut Vec<u8>) {
    let mut state = Compress::new(Compression::fast(), false);
    let begin = out.len();
    loop {
        let taken = usize::try_from(state.total_in()).unwrap_or(usize::MAX);
        let rest = message.get(taken..).unwrap_or_default();
        out.reserve(rest.len() / 2 + STEP_BYTES);
        // Nothing but a lack of room stops it, and room is made.
        let _ = state.compress_vec(rest, out, FlushCompress::Sync);
        let is_all_in = state.total_in() >= message.len() as u64;
        if is_all_in && out.len() < out.capacity() {
            break;
        }
    }
    if out.get(begin..).is_some_and(|bytes| bytes.ends_with(&TAIL)) {
        out.truncate(out.len() - TAIL.len());
    }
}

/// Decompresses one message, appending at most `limit` bytes to `out`.
pub(super) fn inflate(message: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), InflateError> {
    let mut state = Decompress::new(false);
    let begin = out.len();
    for part in [message, &TAIL_AND_END] {
        let mut rest = part;
        loop {
            let room = (limit + 1).saturating_sub(out.len() - begin);
            if room == 0 {
                return Err(InflateError::TooLarge);
            }
            // The vector's spare capacity is what one step may fill.
            out.reserve_exact(room.min(STEP_BYTES.max(rest.len() * 2)));
            let before = (state.total_in(), out.len());
            let status = state
                .decompress_vec(rest, out, FlushDecompress::Sync)
                .map_err(|_| InflateError::Invalid)?;
            let taken = usize::try_from(state.total_in() - before.0).unwrap_or(usize::MAX);
            rest = rest.get(taken..).unwrap_or_default();
            if out.len() - begin > limit {
                return Err(InflateError::TooLarge);
            }
            if status == Status::StreamEnd {
                return Ok(());
            }
            let is_full = out.len() == out.capacity();
            if rest.is_empty() && !is_full {
                break;
            }
            if taken == 0 && out.len() == before.1 && !is_full {
                return Err(InflateError::Invalid);
            }
        }
    }
    Ok(())
}
