//! One message in a segment file, and the header of the file. `docs/format.md` draws both.

use super::bytes::Cursor;
use crate::stream::types::StoredMessage;
use bytes::Bytes;
use twox_hash::XxHash3_64;

/// First bytes of a segment file.
const FILE_MAGIC: &[u8; 8] = b"MLRSEG\r\n";
/// The version of segment files that this build writes.
pub(crate) const SEGMENT_VERSION: u16 = 1;
/// Length of the file header in bytes.
pub(crate) const FILE_HEADER_BYTES: u64 = 40;
/// Bytes of a record before its subject.
pub(crate) const RECORD_HEAD_BYTES: u64 = 32;
/// Bytes of a record's checksum.
const CHECKSUM_BYTES: u64 = 8;
/// First two bytes of a record.
pub(crate) const RECORD_MAGIC: u16 = 0x52b5;
/// A message whose body stands in the record.
const KIND_INLINE: u8 = 1;
/// A message whose body stands in another file: file number, offset, length and checksum in place
/// of the body. Reserved; not written by this version.
const KIND_REFERENCE: u8 = 2;

/// The file name of a segment in its stream's directory.
pub(crate) fn segment_name(id: u64) -> String {
    format!("{id:016x}.seg")
}

/// The id in a segment's file name.
pub(crate) fn segment_of_name(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_suffix(".seg")?, 16).ok()
}

/// The first bytes of a segment file.
pub(crate) fn file_header(id: u64, seed: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(FILE_HEADER_BYTES as usize);
    out.extend_from_slice(FILE_MAGIC);
    out.extend_from_slice(&SEGMENT_VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 6]);
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&seed.to_le_bytes());
    let checksum = XxHash3_64::oneshot(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

/// How long the record of a message is.
pub(crate) const fn record_length(subject: usize, body: u32) -> u64 {
    RECORD_HEAD_BYTES + subject as u64 + body as u64 + CHECKSUM_BYTES
}

/// The parts of a message that go into a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordParts<'a> {
    pub(crate) sequence: u64,
    pub(crate) time_ns: i64,
    pub(crate) subject: &'a [u8],
    pub(crate) headers: &'a [u8],
    pub(crate) payload: &'a [u8],
}

/// Appends a record. With `poison` its checksum is wrong on purpose: the place of a message whose
/// body was lost before it got here.
pub(crate) fn put_record(out: &mut Vec<u8>, parts: &RecordParts<'_>, seed: u64, poison: bool) {
    let start = out.len();
    let body = (parts.headers.len() + parts.payload.len()) as u32;
    let length = record_length(parts.subject.len(), body) as u32;
    out.extend_from_slice(&RECORD_MAGIC.to_le_bytes());
    out.push(KIND_INLINE);
    out.push(0);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&(parts.subject.len() as u32).to_le_bytes());
    out.extend_from_slice(&(parts.headers.len() as u32).to_le_bytes());
    out.extend_from_slice(&parts.sequence.to_le_bytes());
    out.extend_from_slice(&parts.time_ns.to_le_bytes());
    out.extend_from_slice(parts.subject);
    out.extend_from_slice(parts.headers);
    out.extend_from_slice(parts.payload);
    let checksum = XxHash3_64::oneshot_with_seed(seed, out.get(start..).unwrap_or_default());
    let checksum = if poison { !checksum } else { checksum };
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// The length that a record claims, if these bytes could begin one.
pub(crate) fn claimed_length(bytes: &[u8]) -> Option<u64> {
    let mut cursor = Cursor::new(bytes);
    if cursor.u16()? != RECORD_MAGIC || !matches!(cursor.u8()?, KIND_INLINE | KIND_REFERENCE) {
        return None;
    }
    cursor.u8()?;
    let length = u64::from(cursor.u32()?);
    (length >= RECORD_HEAD_BYTES + CHECKSUM_BYTES).then_some(length)
}

/// The sequence that a record claims.
pub(crate) fn claimed_sequence(record: &[u8]) -> Option<u64> {
    Cursor::new(record.get(16..)?).u64()
}

/// A whole record that was overwritten because its message was erased.
pub(crate) fn is_erased(record: &[u8]) -> bool {
    let content = record.get(RECORD_HEAD_BYTES as usize..).unwrap_or_default();
    content.iter().all(|byte| *byte == 0)
}

/// A whole record that was written for a message whose body was lost.
pub(crate) fn is_poisoned(record: &[u8], seed: u64) -> bool {
    let Some((content, stored)) = record.split_last_chunk::<{ CHECKSUM_BYTES as usize }>() else {
        return false;
    };
    !XxHash3_64::oneshot_with_seed(seed, content) == u64::from_le_bytes(*stored)
}

/// The message in a whole record; `None` if anything about it is wrong.
pub(crate) fn read_record(record: &Bytes, seed: u64) -> Option<StoredMessage> {
    let length = claimed_length(record)?;
    if record.len() as u64 != length {
        return None;
    }
    let content = record.len() - CHECKSUM_BYTES as usize;
    let stored = u64::from_le_bytes(record.get(content..)?.try_into().ok()?);
    if XxHash3_64::oneshot_with_seed(seed, record.get(..content)?) != stored {
        return None;
    }
    let mut cursor = Cursor::new(record.get(2..content)?);
    if cursor.u8()? != KIND_INLINE {
        return None;
    }
    cursor.u8()?;
    cursor.u32()?;
    let subject = cursor.u32()? as usize;
    let headers = cursor.u32()? as usize;
    let sequence = cursor.u64()?;
    let time_ns = cursor.i64()?;
    let subject_end = (RECORD_HEAD_BYTES as usize).checked_add(subject)?;
    let headers_end = subject_end.checked_add(headers)?;
    if headers_end > content {
        return None;
    }
    Some(StoredMessage {
        sequence,
        time_ns,
        subject: record.slice(RECORD_HEAD_BYTES as usize..subject_end),
        headers: record.slice(subject_end..headers_end),
        payload: record.slice(headers_end..content),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_come_back_and_no_flipped_bit_passes(
            sequence: u64, time_ns: i64, seed: u64, flip: usize,
            subject in proptest::collection::vec(any::<u8>(), 0..20),
            headers in proptest::collection::vec(any::<u8>(), 0..20),
            payload in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let parts = RecordParts { sequence, time_ns, subject: &subject, headers: &headers, payload: &payload };
            let mut out = Vec::new();
            put_record(&mut out, &parts, seed, false);
            prop_assert_eq!(out.len() as u64, record_length(subject.len(), (headers.len() + payload.len()) as u32));
            let message = read_record(&Bytes::from(out.clone()), seed).unwrap();
            prop_assert_eq!((message.sequence, message.time_ns), (sequence, time_ns));
            prop_assert_eq!((&message.subject[..], &message.headers[..], &message.payload[..]), (&subject[..], &headers[..], &payload[..]));
            prop_assert_eq!(read_record(&Bytes::from(out.clone()), seed.wrapping_add(1)), None);
            let bit = flip % (out.len() * 8);
            out[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(read_record(&Bytes::from(out.clone()), seed), None);
            let mut poisoned = Vec::new();
            put_record(&mut poisoned, &parts, seed, true);
            prop_assert_eq!(read_record(&Bytes::from(poisoned), seed), None);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, seed: u64) {
            prop_assert_eq!(read_record(&Bytes::from(bytes), seed), None);
        }
    }

    #[test]
    fn names_come_back() {
        assert_eq!(segment_of_name(&segment_name(0x1f)), Some(0x1f));
        assert_eq!(segment_of_name("x.seg"), None);
        assert_eq!(file_header(1, 2).len() as u64, FILE_HEADER_BYTES);
    }
}
