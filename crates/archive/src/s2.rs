//! S2 frames: a stream of compressed blocks with checksums (docs/format.md). The blocks themselves
//! are the business of the `minlz` library; here are the frames around them, written and read as
//! bytes come.

use bytes::{Buf as _, Bytes, BytesMut};

/// What a stream begins with; `snappy` streams have the other one.
const HEAD: &[u8] = b"\xff\x06\x00\x00S2sTwO";
const MAGIC: &[u8] = b"S2sTwO";
const MAGIC_SNAPPY: &[u8] = b"sNaPpY";

const KIND_COMPRESSED: u8 = 0x00;
const KIND_PLAIN: u8 = 0x01;
/// Frames from here on may be passed over.
const KIND_SKIPPABLE: u8 = 0x80;
const KIND_HEAD: u8 = 0xff;

const FRAME_HEAD_LENGTH: usize = 4;
const CHECKSUM_LENGTH: usize = 4;

/// Bytes that are compressed together.
const BLOCK_BYTES: usize = 256 << 10;
/// The same in the older format, whose readers take no more.
const SNAPPY_BLOCK_BYTES: usize = 64 << 10;
/// Most bytes that a block of others may stand for.
const BLOCK_BYTES_MAX: usize = 4 << 20;
/// Most bytes of a frame with such a block: incompressible bytes grow a little.
const FRAME_BYTES_MAX: usize = BLOCK_BYTES_MAX + (BLOCK_BYTES_MAX >> 6) + 64;

/// Why bytes are not an S2 stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum S2Error {
    #[error("s2: corrupt input")]
    Corrupt,
    #[error("s2: unsupported input")]
    Unsupported,
}

/// The checksum of a block: CRC-32C, turned so that checksums of checksums say something.
fn checksum(block: &[u8]) -> u32 {
    crc32c::crc32c(block)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// A whole stream in the older format, which every reader of S2 and of snappy takes.
#[must_use]
pub fn snappy_stream(data: &[u8]) -> Vec<u8> {
    let mut out = vec![KIND_HEAD, MAGIC_SNAPPY.len() as u8, 0, 0];
    out.extend_from_slice(MAGIC_SNAPPY);
    for block in data.chunks(SNAPPY_BLOCK_BYTES) {
        let compressed = minlz::encode_snappy(block);
        let (kind, content) = if compressed.len() < block.len() {
            (KIND_COMPRESSED, compressed.as_slice())
        } else {
            (KIND_PLAIN, block)
        };
        let length = (content.len() + CHECKSUM_LENGTH) as u32;
        out.push(kind);
        out.extend_from_slice(&length.to_le_bytes()[..3]);
        out.extend_from_slice(&checksum(block).to_le_bytes());
        out.extend_from_slice(content);
    }
    out
}

/// Compresses a stream.
#[derive(Debug, Default)]
pub struct Encoder {
    pending: Vec<u8>,
    begun: bool,
}

impl Encoder {
    /// Takes bytes; whole blocks go to `out`.
    pub fn write(&mut self, mut data: &[u8], out: &mut Vec<u8>) {
        while !data.is_empty() {
            let room = BLOCK_BYTES - self.pending.len();
            let (now, later) = data.split_at(room.min(data.len()));
            self.pending.extend_from_slice(now);
            data = later;
            if self.pending.len() == BLOCK_BYTES {
                self.flush(out);
            }
        }
    }

    /// Ends the block that is being collected.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        if self.pending.is_empty() {
            return;
        }
        if !std::mem::replace(&mut self.begun, true) {
            out.extend_from_slice(HEAD);
        }
        let block = std::mem::take(&mut self.pending);
        let packed = minlz::encode(&block);
        let (kind, body) = if packed.len() < block.len() - block.len() / 16 {
            (KIND_COMPRESSED, &packed)
        } else {
            (KIND_PLAIN, &block)
        };
        let length = (CHECKSUM_LENGTH + body.len()) as u32;
        out.push(kind);
        out.extend_from_slice(&length.to_le_bytes()[..3]);
        out.extend_from_slice(&checksum(&block).to_le_bytes());
        out.extend_from_slice(body);
        self.pending = block;
        self.pending.clear();
    }
}

/// Reads a stream, frame by frame.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    /// Bytes of a frame that is passed over.
    skip: usize,
    begun: bool,
}

impl Decoder {
    /// Takes bytes. Call [`Decoder::next_block`] until it has none before the next ones.
    pub fn push(&mut self, mut data: &[u8]) {
        let skipped = self.skip.min(data.len());
        data.advance(skipped);
        self.skip -= skipped;
        self.buffer.extend_from_slice(data);
    }

    /// The next block, if it is there whole.
    ///
    /// # Errors
    /// [`S2Error`]: nothing behind it can be read.
    pub fn next_block(&mut self) -> Result<Option<Bytes>, S2Error> {
        while let Some((kind, length)) = self.frame_head()? {
            if kind >= KIND_SKIPPABLE && kind != KIND_HEAD {
                self.buffer.advance(FRAME_HEAD_LENGTH);
                let now = length.min(self.buffer.len());
                self.buffer.advance(now);
                self.skip = length - now;
                continue;
            }
            if self.buffer.len() < FRAME_HEAD_LENGTH + length {
                return Ok(None);
            }
            self.buffer.advance(FRAME_HEAD_LENGTH);
            let body = self.buffer.split_to(length).freeze();
            if kind == KIND_HEAD {
                if body != MAGIC && body != MAGIC_SNAPPY {
                    return Err(S2Error::Corrupt);
                }
                self.begun = true;
                continue;
            }
            return block(kind, body).map(Some);
        }
        Ok(None)
    }

    /// Whether the stream may end here: no frame was cut.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.buffer.is_empty() && self.skip == 0
    }

    /// Kind and length of the next frame, if its head is there.
    fn frame_head(&self) -> Result<Option<(u8, usize)>, S2Error> {
        let Some(&[kind, a, b, c]) = self.buffer.first_chunk::<FRAME_HEAD_LENGTH>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes([a, b, c, 0]) as usize;
        match kind {
            KIND_HEAD if length != MAGIC.len() => Err(S2Error::Corrupt),
            _ if !self.begun && kind != KIND_HEAD => Err(S2Error::Corrupt),
            KIND_COMPRESSED | KIND_PLAIN if !is_data_length(length) => Err(S2Error::Corrupt),
            KIND_COMPRESSED | KIND_PLAIN | KIND_SKIPPABLE.. => Ok(Some((kind, length))),
            _ => Err(S2Error::Unsupported),
        }
    }
}

const fn is_data_length(length: usize) -> bool {
    length >= CHECKSUM_LENGTH && length <= FRAME_BYTES_MAX
}

fn block(kind: u8, mut body: Bytes) -> Result<Bytes, S2Error> {
    let expected = body.try_get_u32_le().map_err(|_| S2Error::Corrupt)?;
    let block = if kind == KIND_PLAIN {
        body
    } else {
        Bytes::from(decode_block(&body)?)
    };
    if block.len() > BLOCK_BYTES_MAX || checksum(&block) != expected {
        return Err(S2Error::Corrupt);
    }
    Ok(block)
}

/// One block without a frame.
///
/// # Errors
/// [`S2Error::Corrupt`], also if it says that it stands for more than 4 MiB.
pub fn decode_block(block: &[u8]) -> Result<Vec<u8>, S2Error> {
    let (length, _) = minlz::decode_len(block).map_err(|_| S2Error::Corrupt)?;
    if length > BLOCK_BYTES_MAX {
        return Err(S2Error::Corrupt);
    }
    minlz::decode(block).map_err(|_| S2Error::Corrupt)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(stream: &[u8], step: usize) -> Result<Vec<u8>, S2Error> {
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        for piece in stream.chunks(step.max(1)) {
            decoder.push(piece);
            while let Some(block) = decoder.next_block()? {
                out.extend_from_slice(&block);
            }
        }
        if decoder.is_at_end() {
            Ok(out)
        } else {
            Err(S2Error::Corrupt)
        }
    }

    fn encode(data: &[u8]) -> Vec<u8> {
        let (mut encoder, mut out) = (Encoder::default(), Vec::new());
        encoder.write(data, &mut out);
        encoder.flush(&mut out);
        out
    }

    fn words(length: usize) -> Vec<u8> {
        (0..length).map(|at| b"abcdefgh"[at % 7 % 8]).collect()
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(data: Vec<u8>, step in 1usize..500) {
            prop_assert_eq!(decode(&encode(&data), step), Ok(data));
        }

        #[test]
        fn a_changed_bit_is_noticed(at: prop::sample::Index, bit in 0u8..8) {
            let data = words(5_000);
            let mut stream = encode(&data);
            let at = at.index(stream.len());
            stream[at] ^= 1 << bit;
            prop_assert_ne!(decode(&stream, 100), Ok(data));
        }
    }

    #[test]
    fn several_blocks_are_one_stream_and_smaller() {
        let data = words(3 * BLOCK_BYTES + 17);
        let stream = encode(&data);
        assert!(stream.len() < data.len() / 10);
        assert_eq!(decode(&stream, 4096), Ok(data));
    }

    #[test]
    fn frames_of_no_use_are_passed_over_and_unknown_ones_refused() {
        let mut stream = encode(b"one");
        stream.extend_from_slice(b"\xfe\x03\x00\x00xyz\x99\x00\x00\x00");
        let more = encode(b"two");
        stream.extend_from_slice(&more);
        for step in [1, 7, 1000] {
            assert_eq!(decode(&stream, step), Ok(b"onetwo".to_vec()));
        }
        stream.extend_from_slice(b"\x02\x00\x00\x00");
        assert_eq!(decode(&stream, 8), Err(S2Error::Unsupported));
        assert_eq!(decode(b"hello this is not s2", 8), Err(S2Error::Corrupt));
    }

    #[test]
    fn a_block_that_would_fill_memory_is_refused() {
        // A block that claims a gigabyte, in a frame of a few bytes.
        let mut stream = HEAD.to_vec();
        stream.extend_from_slice(b"\x00\x0a\x00\x00\0\0\0\0\x80\x80\x80\x80\x04\x00");
        assert_eq!(decode(&stream, 100), Err(S2Error::Corrupt));
    }
}
