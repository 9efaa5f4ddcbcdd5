//! The codec of frames: what one group commit writes. One head, the heads of all records, then the
//! payloads, padded to [`FRAME_ALIGNMENT`].
//!
//! The frame's checksum covers its head and the record heads; each payload has its own, so that
//! damage to one payload costs one record and says whose. All are seeded with the file's epoch and
//! the place in the file: bytes of another file or another place never pass.

use super::record::{
    RECORD_HEAD_BYTES, RecordError, RecordHead, encode_head, payload_checksum, place_seed,
    read_u16, read_u32, read_u64, seal_payload, stored_payload,
};
use super::{FORMAT_VERSION, FRAME_ALIGNMENT, JournalPosition, Record};
use crate::seal::FileKey;
use bytes::{BufMut, Bytes, BytesMut};
use twox_hash::XxHash3_64;

/// The length of a frame head; record heads follow.
pub const FRAME_HEAD_BYTES: usize = 56;
/// "MRJF" in the order of the bytes.
pub const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"MRJF");
/// An empty frame that only proves the one before it.
pub const FLAG_IDLE: u16 = 1;
/// The frame repeats what recovery read in older files; `durable_through` of all frames of the run
/// is the number up to which older files count, their later frames are void.
pub const FLAG_COPY: u16 = 2;
/// The last frame of a run of [`FLAG_COPY`] frames: only with it the run counts.
pub const FLAG_COPY_END: u16 = 4;

/// Payloads up to this size are copied together; larger ones stay chunks of their own.
const COPY_PAYLOAD_BYTES: usize = 16 << 10;
static PADDING: [u8; FRAME_ALIGNMENT as usize] = [0; FRAME_ALIGNMENT as usize];

/// Rounds up to where the next frame may begin.
#[must_use]
pub const fn aligned(offset: u64) -> u64 {
    offset.div_ceil(FRAME_ALIGNMENT) * FRAME_ALIGNMENT
}

/// The space a frame takes with so many records and payload bytes.
#[must_use]
pub const fn frame_length(records: usize, payload_bytes: u64) -> u64 {
    aligned(FRAME_HEAD_BYTES as u64 + (records * RECORD_HEAD_BYTES) as u64 + payload_bytes)
}

/// The fields of a frame head that its writer chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    pub flags: u16,
    pub epoch: u64,
    /// Grows by one from frame to frame, over all files. Recovery may leave numbers out.
    pub number: u64,
    /// The highest frame that was known to be synced when this one was written.
    pub durable_through: u64,
    /// The place of a [`FLAG_COPY`] frame in its run, from 0; 0 in all others.
    pub run_place: u32,
}

/// A frame ready to be written at the offset it was made for.
#[derive(Clone, Debug)]
pub struct EncodedFrame {
    pub chunks: Vec<Bytes>,
    /// With padding: a multiple of [`FRAME_ALIGNMENT`].
    pub length: u64,
    /// Where each record's payload begins in the file.
    pub payload_offsets: Vec<u64>,
    /// The checksum of each, as it stands there.
    pub payload_checksums: Vec<u64>,
}

/// Encodes a frame for one place of a plain file.
#[must_use]
pub fn encode(head: FrameHead, offset: u64, records: &[Record]) -> EncodedFrame {
    encode_sealed(head, offset, records, None)
}

/// Encodes a frame for one place of a file with this key.
#[must_use]
pub fn encode_sealed(
    head: FrameHead,
    offset: u64,
    records: &[Record],
    key: Option<&FileKey>,
) -> EncodedFrame {
    let head_length = FRAME_HEAD_BYTES + records.len() * RECORD_HEAD_BYTES;
    let mut payloads: Vec<Bytes> = records.iter().map(stored_payload).collect();
    let payload_bytes: u64 = payloads.iter().map(|payload| payload.len() as u64).sum();
    let mut front = BytesMut::with_capacity(head_length);
    front.put_u64_le(0);
    front.put_u32_le(FRAME_MAGIC);
    front.put_u16_le(FORMAT_VERSION);
    front.put_u16_le(head.flags);
    front.put_u64_le(head.epoch);
    front.put_u64_le(head.number);
    front.put_u64_le(head.durable_through);
    front.put_u32_le(records.len() as u32);
    front.put_u32_le(head.run_place);
    front.put_u64_le(payload_bytes);
    let mut payload_offsets = Vec::with_capacity(records.len());
    let mut payload_checksums = Vec::with_capacity(records.len());
    let mut at = offset + head_length as u64;
    for (record, payload) in records.iter().zip(&mut payloads) {
        if let Some(key) = key {
            *payload = seal_payload(key, record.kind, at, payload);
        }
        let position = JournalPosition {
            file: 0,
            offset: at,
        };
        let checksum = payload_checksum(head.epoch, position, payload);
        encode_head(
            record.kind,
            record.group,
            payload.len() as u32,
            checksum,
            &mut front,
        );
        payload_offsets.push(at);
        payload_checksums.push(checksum);
        at += payload.len() as u64;
    }
    let checksum = head_checksum(head.epoch, offset, &front);
    front[..8].copy_from_slice(&checksum.to_le_bytes());
    let length = frame_length(records.len(), payload_bytes);
    let padding = (length - head_length as u64 - payload_bytes) as usize;
    EncodedFrame {
        chunks: gather(front, payloads, padding),
        length,
        payload_offsets,
        payload_checksums,
    }
}

/// Joins small pieces, leaves large payloads as they are.
fn gather(front: BytesMut, payloads: Vec<Bytes>, padding: usize) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    let mut run = front;
    for payload in payloads {
        if payload.len() <= COPY_PAYLOAD_BYTES {
            run.extend_from_slice(&payload);
        } else {
            if !run.is_empty() {
                chunks.push(run.split().freeze());
            }
            chunks.push(payload);
        }
    }
    if !run.is_empty() {
        chunks.push(run.freeze());
    }
    if padding > 0 {
        chunks.push(Bytes::from_static(
            PADDING.get(..padding).unwrap_or(&PADDING),
        ));
    }
    chunks
}

fn head_checksum(epoch: u64, offset: u64, front: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(place_seed(epoch, offset), front.get(8..).unwrap_or(&[]))
}

/// One record of a decoded frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedRecord {
    pub head: Result<RecordHead, RecordError>,
    /// Where the payload begins in the file, and its length.
    pub offset: u64,
    pub length: u32,
    /// The payload's checksum is right.
    pub intact: bool,
}

/// A frame whose head is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedFrame {
    pub head: FrameHead,
    pub offset: u64,
    pub length: u64,
    pub records: Vec<DecodedRecord>,
}

impl DecodedFrame {
    /// Every payload is intact too.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.records.iter().all(|record| record.intact)
    }
}

/// Reads the frame at `offset` of a file's content. `None` when there is no valid head of this
/// epoch. Payloads that are cut off or damaged are marked, not refused.
#[must_use]
pub fn decode(epoch: u64, content: &[u8], offset: u64) -> Option<DecodedFrame> {
    let start = usize::try_from(offset).ok()?;
    decode_at(epoch, content.get(start..)?, offset)
}

/// The length that a frame claims which begins at the start of `frame`; `None` when nothing there
/// looks like a head of this epoch. Not checked: only good for knowing how much to read.
#[must_use]
pub fn claimed_length(epoch: u64, frame: &[u8]) -> Option<u64> {
    if read_u32(frame, 8)? != FRAME_MAGIC || read_u64(frame, 16)? != epoch {
        return None;
    }
    let head_bytes = u64::from(read_u32(frame, 40)?) * RECORD_HEAD_BYTES as u64;
    (FRAME_HEAD_BYTES as u64 + head_bytes).checked_add(read_u64(frame, 48)?)
}

/// As [`decode`], of a slice that begins where the frame does: at `offset` of its file.
#[must_use]
pub fn decode_at(epoch: u64, frame: &[u8], offset: u64) -> Option<DecodedFrame> {
    if read_u32(frame, 8)? != FRAME_MAGIC
        || read_u16(frame, 12)? != FORMAT_VERSION
        || read_u64(frame, 16)? != epoch
    {
        return None;
    }
    let count = read_u32(frame, 40)? as usize;
    let payload_bytes = read_u64(frame, 48)?;
    let head_length = count
        .checked_mul(RECORD_HEAD_BYTES)?
        .checked_add(FRAME_HEAD_BYTES)?;
    let front = frame.get(..head_length)?;
    if read_u64(front, 0)? != head_checksum(epoch, offset, front) {
        return None;
    }
    let head = FrameHead {
        flags: read_u16(front, 14)?,
        epoch,
        number: read_u64(front, 24)?,
        durable_through: read_u64(front, 32)?,
        run_place: read_u32(front, 44)?,
    };
    let mut records = Vec::with_capacity(count);
    let mut at = head_length;
    for position in 0..count {
        let raw = front.get(FRAME_HEAD_BYTES + position * RECORD_HEAD_BYTES..)?;
        let length = read_u32(raw, 4)?;
        let end = at.checked_add(length as usize)?;
        let place = JournalPosition {
            file: 0,
            offset: offset + at as u64,
        };
        let intact = frame.get(at..end).is_some_and(|payload| {
            read_u64(raw, 32) == Some(payload_checksum(epoch, place, payload))
        });
        let head = RecordHead::decode(raw)?;
        records.push(DecodedRecord {
            head,
            offset: place.offset,
            length,
            intact,
        });
        at = end;
    }
    let length = frame_length(count, payload_bytes);
    Some(DecodedFrame {
        head,
        offset,
        length,
        records,
    })
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::any_record;
    use super::*;
    use proptest::prelude::*;

    fn flat(frame: &EncodedFrame, offset: u64) -> Vec<u8> {
        let mut content = vec![0; offset as usize];
        frame
            .chunks
            .iter()
            .for_each(|chunk| content.extend_from_slice(chunk));
        content
    }

    const HEAD: FrameHead = FrameHead {
        flags: 0,
        epoch: 77,
        number: 5,
        durable_through: 4,
        run_place: 0,
    };

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_frame_comes_back_as_it_was(
            records in proptest::collection::vec(any_record(), 0..20), place in 0_u64..4,
        ) {
            let offset = place * FRAME_ALIGNMENT;
            let frame = encode(HEAD, offset, &records);
            let content = flat(&frame, offset);
            prop_assert_eq!(frame.length % FRAME_ALIGNMENT, 0);
            prop_assert_eq!(content.len() as u64, offset + frame.length);
            let decoded = decode(77, &content, offset).expect("a valid frame");
            prop_assert!(decoded.is_intact());
            prop_assert_eq!(decoded.head, HEAD);
            prop_assert_eq!(decoded.length, frame.length);
            for (position, record) in records.iter().enumerate() {
                let found = &decoded.records[position];
                prop_assert_eq!(found.offset, frame.payload_offsets[position]);
                let start = found.offset as usize;
                let payload = &content[start..start + found.length as usize];
                prop_assert_eq!(&found.head.expect("known").with_payload(payload), record);
            }
            // The same bytes elsewhere, or under another epoch, are no frame.
            prop_assert_eq!(decode(78, &content, offset), None);
            let mut moved = vec![0; FRAME_ALIGNMENT as usize];
            moved.extend_from_slice(&content);
            prop_assert_eq!(decode(77, &moved, offset + FRAME_ALIGNMENT), None);
        }

        #[test]
        fn a_flipped_bit_is_never_missed(
            records in proptest::collection::vec(any_record(), 1..6), at: u64, bit in 0_u32..8,
        ) {
            let frame = encode(HEAD, 0, &records);
            let mut content = flat(&frame, 0);
            let payload_bytes: usize = records.iter().map(|r| stored_payload(r).len()).sum();
            let used = FRAME_HEAD_BYTES + records.len() * RECORD_HEAD_BYTES + payload_bytes;
            content[(at % used as u64) as usize] ^= 1 << bit;
            let seen = decode(77, &content, 0);
            prop_assert!(seen.is_none_or(|frame| !frame.is_intact()));
        }

        #[test]
        fn any_bytes_decode_without_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..300), offset in 0_u64..200,
        ) {
            let _ = decode(1, &bytes, offset);
            if bytes.len() > 64 {
                bytes[8..12].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
                bytes[12..14].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
                bytes[16..24].copy_from_slice(&1_u64.to_le_bytes());
                let _ = decode(1, &bytes, 0);
            }
        }
    }

    #[test]
    fn a_large_payload_is_not_copied() {
        let payload = Bytes::from(vec![7; COPY_PAYLOAD_BYTES + 1]);
        let record = Record {
            group: super::super::GroupId(1),
            kind: super::super::RecordKind::Entry { index: 1, term: 1 },
            payload: payload.clone(),
        };
        let frame = encode(HEAD, 0, &[record]);
        assert!(
            frame
                .chunks
                .iter()
                .any(|chunk| chunk.as_ptr() == payload.as_ptr())
        );
    }
}
