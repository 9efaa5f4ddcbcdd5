//! Frames to the peer: binary messages, compressed where that was agreed, and the close frame.

use super::deflate::deflate;
use super::{
    CONTROL_BYTES_MAX, FINAL, OPCODE_BINARY, OPCODE_CLOSE, OPCODE_CONTINUATION, RESERVED_1,
};

/// Browsers take frames of this many bytes at most.
const BROWSER_FRAME_BYTES: usize = 4096;
/// Up to this many bytes are sent as they are: compressing would not pay.
const UNCOMPRESSED_BYTES_MAX: usize = 64;
/// Ends a close text that was cut.
const ELLIPSIS: &str = "...";

/// Writes the frames of one connection.
#[derive(Debug, Default)]
pub struct Writer {
    /// `permessage-deflate` was agreed.
    pub is_compressing: bool,
    /// The peer is a browser.
    pub is_browser: bool,
    /// The peer is Safari, which does not take compressed messages in fragments.
    pub is_safari: bool,
    scratch: Vec<u8>,
}

impl Writer {
    /// A writer for a peer with these abilities.
    #[must_use]
    pub const fn new(is_compressing: bool, is_browser: bool, is_safari: bool) -> Self {
        Self {
            is_compressing,
            is_browser,
            is_safari,
            scratch: Vec::new(),
        }
    }

    /// Appends `message` to `out` as one message, in as many frames as the peer needs.
    pub fn push_message(&mut self, message: &[u8], out: &mut Vec<u8>) {
        if !self.is_compressing || message.len() <= UNCOMPRESSED_BYTES_MAX {
            let limit = if self.is_browser {
                BROWSER_FRAME_BYTES
            } else {
                usize::MAX
            };
            push_fragments(out, message, limit, 0);
            return;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        deflate(message, &mut scratch);
        let is_split = self.is_browser && !self.is_safari;
        let limit = if is_split {
            BROWSER_FRAME_BYTES
        } else {
            usize::MAX
        };
        push_fragments(out, &scratch, limit, RESERVED_1);
        self.scratch = scratch;
    }

    /// Appends a close frame; a long text is cut.
    pub fn push_close(&self, status: u16, text: &str, out: &mut Vec<u8>) {
        let mut body = status.to_be_bytes().to_vec();
        if text.len() + 2 > CONTROL_BYTES_MAX {
            let mut end = CONTROL_BYTES_MAX - 2 - ELLIPSIS.len();
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            body.extend_from_slice(text.get(..end).unwrap_or_default().as_bytes());
            body.extend_from_slice(ELLIPSIS.as_bytes());
        } else {
            body.extend_from_slice(text.as_bytes());
        }
        push_frame(out, OPCODE_CLOSE, &body);
    }
}

/// Frames of at most `limit` bytes; `first_bits` stand in the first one only.
fn push_fragments(out: &mut Vec<u8>, message: &[u8], limit: usize, first_bits: u8) {
    let mut first = OPCODE_BINARY | first_bits;
    let mut rest = message;
    while rest.len() > limit {
        let (part, behind) = rest.split_at(limit);
        push_header(out, first, part.len());
        out.extend_from_slice(part);
        first = OPCODE_CONTINUATION;
        rest = behind;
    }
    push_header(out, first | FINAL, rest.len());
    out.extend_from_slice(rest);
}

/// One whole frame, not masked.
pub(super) fn push_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    push_header(out, opcode | FINAL, payload.len());
    out.extend_from_slice(payload);
}

fn push_header(out: &mut Vec<u8>, first: u8, length: usize) {
    out.push(first);
    if let Ok(short) = u8::try_from(length)
        && usize::from(short) <= CONTROL_BYTES_MAX
    {
        out.push(short);
    } else if let Ok(middle) = u16::try_from(length) {
        out.push(126);
        out.extend_from_slice(&middle.to_be_bytes());
    } else {
        out.push(127);
        out.extend_from_slice(&(length as u64).to_be_bytes());
    }
}
