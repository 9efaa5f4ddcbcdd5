//! Frames from the peer: bytes in pieces of any size become the bytes that were sent inside, and
//! the control frames that must be answered.

use super::deflate::{InflateError, inflate};
use super::writer::push_frame;
use super::{
    CONTROL_BYTES_MAX, FINAL, HEADER_BYTES_MAX, MASKED, OPCODE_BINARY, OPCODE_CLOSE,
    OPCODE_CONTINUATION, OPCODE_PING, OPCODE_PONG, OPCODE_TEXT, RESERVED_1, RESERVED_2_3,
    STATUS_INVALID_TEXT, STATUS_PROTOCOL_ERROR,
};

/// A compressed message may have this many times the largest payload before it is decompressed.
const COMPRESSED_FACTOR: usize = 8;
/// A compressed message at most, in bytes.
const COMPRESSED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why the connection must end, as its close frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The peer broke the framing: status 1002 with this text.
    Protocol(String),
    /// A message above the largest payload.
    TooLarge,
}

/// What came of received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// The connection goes on.
    Open,
    /// The peer said that it closes; the answer stands among the replies.
    Closed,
}

/// The frame that is being read.
#[derive(Clone, Copy, Debug, Default)]
struct Frame {
    opcode: u8,
    is_final: bool,
    /// Payload bytes still to come.
    left: u64,
    mask: [u8; 4],
    /// Payload bytes seen, modulo four: where in the mask the next one stands.
    phase: usize,
}

/// Reads the frames of one connection.
#[derive(Debug)]
pub struct Reader {
    /// `permessage-deflate` was agreed.
    is_compressing: bool,
    /// The peer may leave its frames unmasked.
    is_unmasked: bool,
    max_payload: usize,
    header: [u8; HEADER_BYTES_MAX],
    header_length: usize,
    frame: Option<Frame>,
    /// Payload of a control frame.
    control: Vec<u8>,
    /// Between the first and the last frame of a message.
    is_in_message: bool,
    /// The message is compressed; its bytes wait here until it is whole.
    is_compressed_message: bool,
    compressed: Vec<u8>,
}

impl Reader {
    /// `max_payload` bounds what one compressed message may become, in bytes.
    #[must_use]
    pub const fn new(is_compressing: bool, is_unmasked: bool, max_payload: usize) -> Self {
        Self {
            is_compressing,
            is_unmasked,
            max_payload,
            header: [0; HEADER_BYTES_MAX],
            header_length: 0,
            frame: None,
            control: Vec::new(),
            is_in_message: false,
            is_compressed_message: false,
            compressed: Vec::new(),
        }
    }

    /// Takes bytes from the peer. What they carry is appended to `plain`, frames that answer them
    /// to `replies`.
    ///
    /// # Errors
    /// The peer broke the protocol; nothing more may be read from it.
    pub fn receive(
        &mut self,
        mut bytes: &[u8],
        plain: &mut Vec<u8>,
        replies: &mut Vec<u8>,
    ) -> Result<Received, Violation> {
        while !bytes.is_empty() || self.frame.is_some_and(|frame| frame.left == 0) {
            let Some(mut frame) = self.frame else {
                bytes = self.read_header(bytes)?;
                continue;
            };
            let length = usize::try_from(frame.left).unwrap_or(usize::MAX);
            let (payload, rest) = bytes.split_at(length.min(bytes.len()));
            bytes = rest;
            frame.left -= payload.len() as u64;
            self.take_payload(&mut frame, payload, plain)?;
            if frame.left > 0 {
                self.frame = Some(frame);
                continue;
            }
            self.frame = None;
            if self.end_of_frame(frame, plain, replies)? == Received::Closed {
                return Ok(Received::Closed);
            }
        }
        Ok(Received::Open)
    }

    /// Collects a header; returns the bytes behind what it took.
    fn read_header<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Violation> {
        let wanted = self.header_wanted();
        let count = (wanted - self.header_length).min(bytes.len());
        let (taken, rest) = bytes.split_at(count);
        let place = self.header_length..self.header_length + count;
        if let Some(place) = self.header.get_mut(place) {
            place.copy_from_slice(taken);
        }
        self.header_length += count;
        if self.header_length < 2 {
            return Ok(rest);
        }
        if self.header_length == 2 && count > 0 {
            self.check_start()?;
        }
        if self.header_length == self.header_wanted() {
            let frame = self.parse_header()?;
            self.frame = Some(frame);
            self.header_length = 0;
        }
        Ok(rest)
    }

    /// Length of the header, as far as its first bytes tell.
    fn header_wanted(&self) -> usize {
        if self.header_length < 2 {
            return 2;
        }
        let extended = match self.header[1] & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.header[1] & MASKED != 0 { 4 } else { 0 };
        2 + extended + mask
    }

    /// What the first two bytes of a frame may not say.
    fn check_start(&mut self) -> Result<(), Violation> {
        let [first, second, ..] = self.header;
        let (opcode, is_final) = (first & 0x0f, first & FINAL != 0);
        let is_compressed = first & RESERVED_1 != 0;
        if first & RESERVED_2_3 != 0 {
            return violation("RSV2 and RSV3 must be clear");
        }
        if is_compressed && !self.is_compressing {
            return violation("compressed frame received without negotiated permessage-deflate");
        }
        if second & MASKED == 0 && !self.is_unmasked {
            return violation("mask bit missing");
        }
        match opcode {
            OPCODE_CLOSE | OPCODE_PING | OPCODE_PONG => {
                if usize::from(second & !MASKED) > CONTROL_BYTES_MAX {
                    return violation(
                        "control frame length bigger than maximum allowed of 125 bytes",
                    );
                }
                if !is_final {
                    return violation("control frame does not have final bit set");
                }
                if is_compressed {
                    return violation("control frame must not be compressed");
                }
            }
            OPCODE_TEXT | OPCODE_BINARY => {
                if self.is_in_message {
                    return violation(
                        "new message started before final frame for previous message was received",
                    );
                }
                self.is_in_message = true;
                self.is_compressed_message = is_compressed;
            }
            OPCODE_CONTINUATION => {
                if !self.is_in_message || is_compressed {
                    return violation("invalid continuation frame");
                }
            }
            other => return Err(Violation::Protocol(format!("unknown opcode {other}"))),
        }
        Ok(())
    }

    fn parse_header(&self) -> Result<Frame, Violation> {
        let [first, second, extended @ ..] = self.header;
        let (left, mask_at) = match second & !MASKED {
            126 => (u64::from(u16::from_be_bytes([extended[0], extended[1]])), 2),
            127 => {
                let [a, b, c, d, e, f, g, h, ..] = extended;
                (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 8)
            }
            short => (u64::from(short), 0),
        };
        if left > i64::MAX as u64 {
            return Err(Violation::Protocol(
                "invalid 64-bit payload length".to_owned(),
            ));
        }
        let mut mask = [0; 4];
        if second & MASKED != 0
            && let Some(bytes) = extended.get(mask_at..mask_at + 4)
        {
            mask.copy_from_slice(bytes);
        }
        Ok(Frame {
            opcode: first & 0x0f,
            is_final: first & FINAL != 0,
            left,
            mask,
            phase: 0,
        })
    }

    fn take_payload(
        &mut self,
        frame: &mut Frame,
        payload: &[u8],
        plain: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        let target = if frame.opcode >= OPCODE_CLOSE {
            &mut self.control
        } else if self.is_compressed_message {
            let limit = self.max_payload.saturating_mul(COMPRESSED_FACTOR);
            let length = self.compressed.len().saturating_add(payload.len());
            if length > limit.min(COMPRESSED_BYTES_MAX) {
                return Err(Violation::TooLarge);
            }
            &mut self.compressed
        } else {
            plain
        };
        let begin = target.len();
        target.extend_from_slice(payload);
        if frame.mask != [0; 4] {
            let mut mask = frame.mask;
            mask.rotate_left(frame.phase);
            unmask(target.get_mut(begin..).unwrap_or_default(), mask);
        }
        frame.phase = (frame.phase + payload.len()) % 4;
        Ok(())
    }

    fn end_of_frame(
        &mut self,
        frame: Frame,
        plain: &mut Vec<u8>,
        replies: &mut Vec<u8>,
    ) -> Result<Received, Violation> {
        match frame.opcode {
            OPCODE_PING => {
                push_frame(replies, OPCODE_PONG, &self.control);
                self.control.clear();
            }
            OPCODE_PONG => self.control.clear(),
            OPCODE_CLOSE => {
                let body = std::mem::take(&mut self.control);
                answer_close(&body, replies)?;
                return Ok(Received::Closed);
            }
            _ if frame.is_final => {
                self.is_in_message = false;
                if std::mem::take(&mut self.is_compressed_message) {
                    let message = std::mem::take(&mut self.compressed);
                    inflate(&message, self.max_payload, plain).map_err(|error| match error {
                        InflateError::TooLarge => Violation::TooLarge,
                        InflateError::Invalid => {
                            Violation::Protocol("corrupt compressed message".to_owned())
                        }
                    })?;
                }
            }
            _ => {}
        }
        Ok(Received::Open)
    }
}

fn violation<T>(text: &str) -> Result<T, Violation> {
    Err(Violation::Protocol(text.to_owned()))
}

/// Takes the mask off; eight bytes at a time, because everything a client sends is masked.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_le_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        if let Ok(eight) = <[u8; 8]>::try_from(&*chunk) {
            chunk.copy_from_slice(&(u64::from_le_bytes(eight) ^ wide).to_le_bytes());
        }
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// Answers a close frame with the same status and text.
fn answer_close(body: &[u8], replies: &mut Vec<u8>) -> Result<(), Violation> {
    let (status, text) = match body {
        [] => {
            push_frame(replies, OPCODE_CLOSE, &[]);
            return Ok(());
        }
        [high, low, text @ ..] => (u16::from_be_bytes([*high, *low]), text),
        [_] => return violation("close frame payload cannot be 1 byte"),
    };
    if !is_valid_status(status) {
        return Err(Violation::Protocol(format!(
            "invalid close status code {status}"
        )));
    }
    if std::str::from_utf8(text).is_ok() {
        push_frame(replies, OPCODE_CLOSE, body);
    } else {
        let mut answer = STATUS_INVALID_TEXT.to_be_bytes().to_vec();
        answer.extend_from_slice(b"invalid utf8 body in close frame");
        push_frame(replies, OPCODE_CLOSE, &answer);
    }
    Ok(())
}

/// Statuses that may stand in a close frame (RFC 6455 §7.4).
const fn is_valid_status(status: u16) -> bool {
    matches!(status, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

impl Violation {
    /// Status of the close frame that answers it, and its text.
    #[must_use]
    pub fn close(&self) -> (u16, &str) {
        match self {
            Self::Protocol(text) => (STATUS_PROTOCOL_ERROR, text),
            Self::TooLarge => (1009, "Maximum Message Payload Exceeded"),
        }
    }
}
