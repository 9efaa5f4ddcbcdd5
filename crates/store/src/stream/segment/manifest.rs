//! The manifest: what a checkpoint record says about a stream's messages. `docs/format.md` draws
//! it. Segment bytes beyond the lengths in it do not exist, even if they check.

use super::Segment;
use super::bytes::{Cursor, put_bytes, put_signed, put_varint};
use super::index_block::BlockPlace;
use crate::stream::ManifestError;
use crate::stream::index::Deleted;
use crate::stream::types::StreamState;
use std::collections::BTreeMap;
use twox_hash::XxHash3_64;

/// First bytes of a manifest.
const MAGIC: &[u8; 4] = b"MMAN";
/// The version of a manifest without packed segments.
const VERSION_PLAIN: u16 = 1;
/// The newest version that this build reads and writes.
const VERSION: u16 = 2;
/// Bits of a segment's flags.
const SEALED: u8 = 1;
const PACKED: u8 = 2;
const WIPE: u8 = 4;
const KEYED: u8 = 8;
/// Deleted ranges up to this size stand in the manifest, beyond it in a file.
pub(crate) const INLINE_DELETES_BYTES: usize = 16 << 10;

/// Where the deleted ranges are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deletes {
    Inline(Vec<u8>),
    /// In `deletes_name(number)`.
    File {
        number: u64,
        length: u32,
        checksum: u64,
    },
}

/// The content of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ManifestContent {
    pub(crate) number: u64,
    pub(crate) state: StreamState,
    pub(crate) next_segment: u64,
    pub(crate) segments: BTreeMap<u64, Segment>,
    pub(crate) deletes: Deletes,
}

/// The file name of a file of deleted ranges.
pub(crate) fn deletes_name(number: u64) -> String {
    format!("{number:016x}.del")
}

/// The number in such a file name.
pub(crate) fn deletes_of_name(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_suffix(".del")?, 16).ok()
}

/// Deleted ranges on their way to bytes, in steps.
#[derive(Debug)]
pub(crate) struct DeletesWriter {
    deleted: Deleted,
    /// Where to look for the next range; `None` behind the last.
    from: Option<u64>,
    /// End of the range before.
    at: u64,
    out: Vec<u8>,
}

impl DeletesWriter {
    pub(crate) const fn new(deleted: Deleted) -> Self {
        Self {
            deleted,
            from: Some(0),
            at: 0,
            out: Vec::new(),
        }
    }

    /// Writes up to so many ranges; true after the last.
    pub(crate) fn step(&mut self, ranges: usize) -> bool {
        for _ in 0..ranges {
            let next = self.from.and_then(|from| self.deleted.range_from(from));
            let Some((start, end)) = next else {
                return true;
            };
            put_varint(&mut self.out, start - self.at);
            put_varint(&mut self.out, end - start);
            self.at = end;
            self.from = end.checked_add(1);
        }
        false
    }

    /// The bytes.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// Deleted ranges from bytes.
pub(crate) fn read_deletes(bytes: &[u8]) -> Option<Deleted> {
    let mut cursor = Cursor::new(bytes);
    let mut deleted = Deleted::default();
    let mut at = 0u64;
    while cursor.remaining() > 0 {
        let start = at.checked_add(cursor.varint()?)?;
        let end = start.checked_add(cursor.varint()?)?;
        deleted.insert_range(start..=end);
        at = end;
    }
    Some(deleted)
}

impl ManifestContent {
    /// The bytes of the manifest.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        let is_packed = self.segments.values().any(|segment| segment.packed);
        let version = if is_packed { VERSION } else { VERSION_PLAIN };
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        let state = &self.state;
        for value in [self.number, self.next_segment, state.messages, state.bytes] {
            put_varint(&mut out, value);
        }
        for value in [
            state.first_sequence,
            state.last_sequence,
            state.subjects,
            state.deleted,
        ] {
            put_varint(&mut out, value);
        }
        put_signed(&mut out, state.first_time_ns);
        put_signed(&mut out, state.last_time_ns);
        put_varint(&mut out, self.segments.len() as u64);
        for segment in self.segments.values() {
            put_segment(&mut out, segment);
        }
        match &self.deletes {
            Deletes::Inline(bytes) => {
                out.push(0);
                put_bytes(&mut out, bytes);
            }
            Deletes::File {
                number,
                length,
                checksum,
            } => {
                out.push(1);
                put_varint(&mut out, *number);
                put_varint(&mut out, u64::from(*length));
                out.extend_from_slice(&checksum.to_le_bytes());
            }
        }
        let checksum = XxHash3_64::oneshot(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// The manifest in these bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        const TOO_SHORT: ManifestError = ManifestError::Damaged("too short");
        let content = bytes.len().checked_sub(8).ok_or(TOO_SHORT)?;
        let (content, checksum) = bytes.split_at(content);
        if XxHash3_64::oneshot(content).to_le_bytes() != checksum {
            return Err(ManifestError::Damaged("its checksum fails"));
        }
        let mut cursor = Cursor::new(content);
        if cursor.take(4) != Some(MAGIC) {
            return Err(ManifestError::Damaged("it is not a manifest"));
        }
        let version = cursor.u16().ok_or(TOO_SHORT)?;
        if version > VERSION {
            return Err(ManifestError::NewerFormat {
                found: version,
                supported: VERSION,
            });
        }
        Self::decode_fields(&mut cursor)
            .ok_or(ManifestError::Damaged("a field is missing or impossible"))
    }

    fn decode_fields(cursor: &mut Cursor<'_>) -> Option<Self> {
        cursor.u16()?;
        let number = cursor.varint()?;
        let next_segment = cursor.varint()?;
        let state = StreamState {
            messages: cursor.varint()?,
            bytes: cursor.varint()?,
            first_sequence: cursor.varint()?,
            last_sequence: cursor.varint()?,
            subjects: cursor.varint()?,
            deleted: cursor.varint()?,
            first_time_ns: cursor.signed()?,
            last_time_ns: cursor.signed()?,
        };
        let mut segments = BTreeMap::new();
        for _ in 0..cursor.varint()? {
            let segment = read_segment(cursor)?;
            segments.insert(segment.first_sequence, segment);
        }
        let deletes = match cursor.u8()? {
            0 => Deletes::Inline(cursor.bytes()?.to_vec()),
            1 => Deletes::File {
                number: cursor.varint()?,
                length: u32::try_from(cursor.varint()?).ok()?,
                checksum: cursor.u64()?,
            },
            _ => return None,
        };
        (cursor.remaining() == 0).then_some(Self {
            number,
            state,
            next_segment,
            segments,
            deletes,
        })
    }
}

fn put_segment(out: &mut Vec<u8>, segment: &Segment) {
    put_varint(out, segment.id);
    put_varint(out, segment.first_sequence);
    put_varint(out, segment.last_sequence - segment.first_sequence);
    put_varint(out, u64::from(segment.length));
    put_varint(out, u64::from(segment.last_block.offset));
    put_varint(out, u64::from(segment.last_block.length));
    let mut flags = if segment.sealed { SEALED } else { 0 };
    if segment.packed {
        flags |= PACKED | if segment.wipe { WIPE } else { 0 };
        flags |= if segment.key != 0 { KEYED } else { 0 };
    }
    out.push(flags);
    if segment.packed {
        put_varint(out, segment.unpacked_bytes);
        if segment.key != 0 {
            put_varint(out, u64::from(segment.key));
        }
    }
    out.extend_from_slice(&segment.seed.to_le_bytes());
    out.extend_from_slice(&segment.last_block.chain.to_le_bytes());
}

fn read_segment(cursor: &mut Cursor<'_>) -> Option<Segment> {
    let id = cursor.varint()?;
    let first_sequence = cursor.varint()?;
    let last_sequence = first_sequence.checked_add(cursor.varint()?)?;
    let length = u32::try_from(cursor.varint()?).ok()?;
    let offset = u32::try_from(cursor.varint()?).ok()?;
    let block_length = u32::try_from(cursor.varint()?).ok()?;
    let flags = cursor.u8()?;
    if flags & !(SEALED | PACKED | WIPE | KEYED) != 0 {
        return None;
    }
    let packed = flags & PACKED != 0;
    let unpacked_bytes = if packed { cursor.varint()? } else { 0 };
    let key = if flags & KEYED != 0 {
        u16::try_from(cursor.varint()?).ok()?
    } else {
        0
    };
    let seed = cursor.u64()?;
    let chain = cursor.u64()?;
    if offset.checked_add(block_length)? > length {
        return None;
    }
    Some(Segment {
        id,
        seed,
        first_sequence,
        last_sequence,
        length,
        sealed: flags & SEALED != 0,
        packed,
        key,
        unpacked_bytes,
        wipe: flags & WIPE != 0,
        last_block: BlockPlace {
            offset,
            length: block_length,
            chain,
        },
        live_messages: 0,
        live_bytes: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_deletes(members: &[u64]) -> Vec<u8> {
        let mut deleted = Deleted::default();
        members.iter().for_each(|member| deleted.insert(*member));
        let mut writer = DeletesWriter::new(deleted);
        while !writer.step(2) {}
        writer.finish()
    }

    use proptest::prelude::*;

    fn sample(seed: u64) -> ManifestContent {
        let segment = |id: u64| Segment {
            id,
            seed: seed.wrapping_mul(id),
            first_sequence: id * 100,
            last_sequence: id * 100 + seed % 100,
            length: 9000,
            sealed: id == 1,
            packed: id == 2 && seed.is_multiple_of(3),
            key: if id == 2 && seed.is_multiple_of(3) {
                (seed >> 8) as u16
            } else {
                0
            },
            unpacked_bytes: if id == 2 && seed.is_multiple_of(3) {
                seed >> 20
            } else {
                0
            },
            wipe: id == 2 && seed.is_multiple_of(9),
            last_block: BlockPlace {
                offset: 8000,
                length: 1000,
                chain: !seed,
            },
            live_messages: 0,
            live_bytes: 0,
        };
        let state = StreamState {
            messages: seed,
            last_time_ns: -(seed as i64 >> 3),
            ..StreamState::default()
        };
        let deletes = if seed.is_multiple_of(2) {
            Deletes::Inline(put_deletes(&[3, 4, 9, seed]))
        } else {
            Deletes::File {
                number: 7,
                length: 10,
                checksum: seed,
            }
        };
        let segments = (1..4).map(|id| (id * 100, segment(id))).collect();
        ManifestContent {
            number: seed >> 9,
            state,
            next_segment: 4,
            segments,
            deletes,
        }
    }

    proptest! {
        #[test]
        fn manifests_come_back_and_no_flipped_bit_passes(seed: u64, flip: usize) {
            let manifest = sample(seed);
            let mut bytes = manifest.encode();
            prop_assert_eq!(ManifestContent::decode(&bytes), Ok(manifest));
            let bit = flip % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(ManifestContent::decode(&bytes).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes: Vec<u8>) {
            let _ = read_deletes(&bytes);
            prop_assert!(ManifestContent::decode(&bytes).is_err());
            bytes.splice(0..0, *b"MMAN\x01\0\0\0");
            let checksum = XxHash3_64::oneshot(&bytes);
            bytes.extend_from_slice(&checksum.to_le_bytes());
            let _ = ManifestContent::decode(&bytes);
        }

        #[test]
        fn deleted_ranges_come_back(members in proptest::collection::vec(any::<u64>(), 0..20)) {
            let written = put_deletes(&members);
            let read: Vec<u64> = read_deletes(&written).unwrap().ranges().flatten().collect();
            let mut expected = members;
            expected.sort_unstable();
            expected.dedup();
            prop_assert_eq!(read, expected);
        }
    }
}
