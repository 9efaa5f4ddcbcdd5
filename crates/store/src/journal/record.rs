//! The codec of one record head. Payloads and frames are next door; what payloads mean is nobody's
//! business here, but for the two kinds whose payload the journal writes itself.
//!
//! A head is [`RECORD_HEAD_BYTES`] long, little endian: kind u8, version u8, reserved u16, payload
//! length u32, group u64, index u64, term u64, payload checksum u64 (`docs/format.md`).

use super::{GroupId, HardState, JournalPosition, Record, RecordKind};
use crate::seal::FileKey;
use bytes::{BufMut, Bytes, BytesMut};
use twox_hash::XxHash3_64;

/// The length of an encoded record head.
pub const RECORD_HEAD_BYTES: usize = 40;
/// The version written into record heads; a head with another one is not readable by this build.
pub const RECORD_VERSION: u8 = 1;
/// The length of an encoded [`Reference`].
pub const REFERENCE_BYTES: usize = 32;

const KIND_ENTRY: u8 = 1;
const KIND_HARD_STATE: u8 = 2;
const KIND_CHECKPOINT: u8 = 3;
const KIND_GROUP_REMOVED: u8 = 4;
const KIND_ENTRY_BY_REFERENCE: u8 = 5;
const KIND_ERASE: u8 = 6;
/// The payload of a hard state record: the vote.
pub(super) const VOTE_BYTES: u64 = 8;

/// Why a record head cannot be understood. Its frame's checksum was right, so a newer version
/// wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("record kind {0} is not known")]
    UnknownKind(u8),
    #[error("record version {0} is not known")]
    UnknownVersion(u8),
    #[error("record payload has the wrong length")]
    WrongLength,
}

/// A decoded head. The payload is checked apart with [`payload_checksum`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// For a hard state the vote is still 0: it stands in the payload ([`Self::with_payload`]).
    pub kind: RecordKind,
    pub group: GroupId,
    pub payload_length: u32,
    pub payload_checksum: u64,
}

/// Content that stands in another file, synced in the same group commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    pub file: u64,
    pub offset: u64,
    pub length: u64,
    pub checksum: u64,
}

impl Reference {
    /// The payload of an [`RecordKind::EntryByReference`].
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(REFERENCE_BYTES);
        for field in [self.file, self.offset, self.length, self.checksum] {
            out.put_u64_le(field);
        }
        out.freeze()
    }

    /// Reads a reference back; `None` when the length is wrong.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<Self> {
        if payload.len() != REFERENCE_BYTES {
            return None;
        }
        Some(Self {
            file: read_u64(payload, 0)?,
            offset: read_u64(payload, 8)?,
            length: read_u64(payload, 16)?,
            checksum: read_u64(payload, 24)?,
        })
    }
}

/// The seed that binds a checksum to one place of one file.
#[must_use]
pub fn place_seed(epoch: u64, offset: u64) -> u64 {
    epoch ^ offset.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The checksum of a payload that begins at `position` of the file with this epoch.
#[must_use]
pub fn payload_checksum(epoch: u64, position: JournalPosition, payload: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(place_seed(epoch, position.offset), payload)
}

/// The bytes that stand as the payload of a record: its own, or what the kind asks for.
#[must_use]
pub fn stored_payload(record: &Record) -> Bytes {
    match record.kind {
        RecordKind::HardState(state) => Bytes::copy_from_slice(&state.vote.to_le_bytes()),
        RecordKind::GroupRemoved | RecordKind::Erase => Bytes::new(),
        _ => record.payload.clone(),
    }
}

/// A payload as it stands at `place` of a sealed file, or the other way round. Votes say nothing that
/// is worth sealing, and are read before keys are at hand.
#[must_use]
pub fn seal_payload(key: &FileKey, kind: RecordKind, place: u64, payload: &Bytes) -> Bytes {
    match kind {
        RecordKind::Entry { .. } | RecordKind::Checkpoint { .. } => {
            let mut bytes = payload.to_vec();
            key.apply(place, &mut bytes);
            Bytes::from(bytes)
        }
        RecordKind::HardState(_)
        | RecordKind::GroupRemoved
        | RecordKind::Erase
        | RecordKind::EntryByReference { .. } => payload.clone(),
    }
}

/// Appends a record's head.
pub fn encode_head(
    kind: RecordKind,
    group: GroupId,
    length: u32,
    checksum: u64,
    out: &mut BytesMut,
) {
    let (code, index, term) = match kind {
        RecordKind::Entry { index, term } => (KIND_ENTRY, index, term),
        RecordKind::HardState(state) => (KIND_HARD_STATE, state.commit, state.term),
        RecordKind::Checkpoint { index, term } => (KIND_CHECKPOINT, index, term),
        RecordKind::GroupRemoved => (KIND_GROUP_REMOVED, 0, 0),
        RecordKind::EntryByReference { index, term } => (KIND_ENTRY_BY_REFERENCE, index, term),
        RecordKind::Erase => (KIND_ERASE, 0, 0),
    };
    out.put_u8(code);
    out.put_u8(RECORD_VERSION);
    out.put_u16_le(0);
    out.put_u32_le(length);
    out.put_u64_le(group.0);
    out.put_u64_le(index);
    out.put_u64_le(term);
    out.put_u64_le(checksum);
}

impl RecordHead {
    /// Reads a head. `None` when there are too few bytes.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Result<Self, RecordError>> {
        let bytes = bytes.get(..RECORD_HEAD_BYTES)?;
        let code = *bytes.first()?;
        let version = *bytes.get(1)?;
        let payload_length = read_u32(bytes, 4)?;
        let group = GroupId(read_u64(bytes, 8)?);
        let index = read_u64(bytes, 16)?;
        let term = read_u64(bytes, 24)?;
        let payload_checksum = read_u64(bytes, 32)?;
        if version != RECORD_VERSION {
            return Some(Err(RecordError::UnknownVersion(version)));
        }
        let length = payload_length as usize;
        let (kind, fixed_length) = match code {
            KIND_ENTRY => (RecordKind::Entry { index, term }, None),
            KIND_HARD_STATE => {
                let state = HardState {
                    term,
                    vote: 0,
                    commit: index,
                };
                (RecordKind::HardState(state), Some(VOTE_BYTES as usize))
            }
            KIND_CHECKPOINT => (RecordKind::Checkpoint { index, term }, None),
            KIND_GROUP_REMOVED => (RecordKind::GroupRemoved, Some(0)),
            KIND_ENTRY_BY_REFERENCE => (
                RecordKind::EntryByReference { index, term },
                Some(REFERENCE_BYTES),
            ),
            KIND_ERASE => (RecordKind::Erase, Some(0)),
            other => return Some(Err(RecordError::UnknownKind(other))),
        };
        if fixed_length.is_some_and(|fixed| fixed != length) {
            return Some(Err(RecordError::WrongLength));
        }
        Some(Ok(Self {
            kind,
            group,
            payload_length,
            payload_checksum,
        }))
    }

    /// The record, once its payload has been checked.
    #[must_use]
    pub fn with_payload(&self, payload: &[u8]) -> Record {
        let (kind, payload) = match self.kind {
            RecordKind::HardState(state) => {
                let vote = read_u64(payload, 0).unwrap_or(0);
                (
                    RecordKind::HardState(HardState { vote, ..state }),
                    Bytes::new(),
                )
            }
            kind => (kind, Bytes::copy_from_slice(payload)),
        };
        Record {
            group: self.group,
            kind,
            payload,
        }
    }
}

/// Little-endian u64 at `at`, if it is there.
pub(super) fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    let part = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(part.try_into().ok()?))
}

/// Little-endian u32 at `at`, if it is there.
pub(super) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let part = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(part.try_into().ok()?))
}

/// Little-endian u16 at `at`, if it is there.
pub(super) fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    let part = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(part.try_into().ok()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Any record that the journal accepts.
    pub(crate) fn any_record() -> impl Strategy<Value = Record> {
        let kind = prop_oneof![
            (any::<u64>(), any::<u64>())
                .prop_map(|(index, term)| RecordKind::Entry { index, term }),
            (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(term, vote, commit)| {
                RecordKind::HardState(HardState { term, vote, commit })
            }),
            (any::<u64>(), any::<u64>())
                .prop_map(|(index, term)| RecordKind::Checkpoint { index, term }),
            Just(RecordKind::GroupRemoved),
            Just(RecordKind::Erase),
        ];
        (
            any::<u64>(),
            kind,
            proptest::collection::vec(any::<u8>(), 0..200),
        )
            .prop_map(|(group, kind, payload)| {
                let payload = match kind {
                    RecordKind::Entry { .. } | RecordKind::Checkpoint { .. } => payload.into(),
                    _ => Bytes::new(),
                };
                Record {
                    group: GroupId(group),
                    kind,
                    payload,
                }
            })
    }

    proptest! {
        #[test]
        fn a_record_comes_back_as_it_was(record in any_record(), checksum in any::<u64>()) {
            let payload = stored_payload(&record);
            let mut out = BytesMut::new();
            encode_head(record.kind, record.group, payload.len() as u32, checksum, &mut out);
            prop_assert_eq!(out.len(), RECORD_HEAD_BYTES);
            let head = RecordHead::decode(&out).expect("long enough").expect("known kind");
            prop_assert_eq!(head.payload_checksum, checksum);
            prop_assert_eq!(head.payload_length as usize, payload.len());
            prop_assert_eq!(head.with_payload(&payload), record);
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(Ok(head)) = RecordHead::decode(&bytes) {
                let _ = head.with_payload(&bytes);
            }
            let _ = Reference::decode(&bytes);
        }

        #[test]
        fn a_reference_comes_back(file: u64, offset: u64, length: u64, checksum: u64) {
            let reference = Reference { file, offset, length, checksum };
            let payload = reference.encode();
            prop_assert_eq!(Reference::decode(&payload), Some(reference));
            let mut out = BytesMut::new();
            let kind = RecordKind::EntryByReference { index: file, term: offset };
            encode_head(kind, GroupId(1), payload.len() as u32, 0, &mut out);
            let head = RecordHead::decode(&out).expect("long enough").expect("known kind");
            prop_assert_eq!(head.with_payload(&payload).payload, payload);
        }
    }

    #[test]
    fn a_record_of_a_newer_version_says_so() {
        let mut out = BytesMut::new();
        encode_head(RecordKind::GroupRemoved, GroupId(1), 0, 0, &mut out);
        out[1] = RECORD_VERSION + 1;
        assert_eq!(
            RecordHead::decode(&out),
            Some(Err(RecordError::UnknownVersion(RECORD_VERSION + 1)))
        );
        out[1] = RECORD_VERSION;
        out[0] = 200;
        assert_eq!(
            RecordHead::decode(&out),
            Some(Err(RecordError::UnknownKind(200)))
        );
    }
}
