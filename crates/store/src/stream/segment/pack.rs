//! Packs: what a packed segment consists of. A pack holds records, or one index block, compressed
//! and sealed together; it is written, read and thrown away whole. `docs/format.md` draws it.

use super::bytes::Cursor;
use super::record;
use crate::seal::{Keys, SALT_BYTES, TAG_BYTES};
use bytes::Bytes;
use twox_hash::XxHash3_64;

/// Records are put together until they have so many bytes.
pub(crate) const PACK_BYTES: usize = 64 << 10;
/// First two bytes of a pack.
pub(crate) const PACK_MAGIC: u16 = 0x52b6;
/// The version that this build writes.
pub(crate) const PACK_VERSION: u8 = 1;
/// Bytes before the content.
pub(crate) const PACK_HEAD_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 8;
/// The content is an S2 block.
const FLAG_S2: u8 = 1;
/// The content is sealed; a salt stands before it.
const FLAG_SEALED: u8 = 2;
/// The content is an index block, not records.
const FLAG_INDEX: u8 = 4;
/// Most bytes that a pack may stand for: the largest message, and room.
const PLAIN_BYTES_MAX: u32 = 128 << 20;

/// How new segments are written.
#[derive(Clone, Debug, Default)]
pub struct Packing {
    /// Compress records and index blocks with S2.
    pub compress: bool,
    /// Seal them with the newest of these, and open what is sealed.
    pub keys: Keys,
}

impl Packing {
    /// Records are not written as they are.
    pub(crate) const fn is_packed(&self) -> bool {
        self.compress || self.keys.is_on()
    }
}

/// What a pack holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Records,
    Index,
}

/// Appends a pack of these bytes; `seed` is the segment's.
pub(crate) fn put_pack(
    out: &mut Vec<u8>,
    plain: &[u8],
    content: Content,
    packing: &Packing,
    seed: u64,
) {
    let start = out.len();
    let compressed = packing.compress.then(|| minlz::encode(plain));
    let compressed = compressed.filter(|packed| packed.len() < plain.len());
    let mut flags = 0;
    if compressed.is_some() {
        flags |= FLAG_S2;
    }
    if content == Content::Index {
        flags |= FLAG_INDEX;
    }
    let body = compressed.as_deref().unwrap_or(plain);
    let key = packing.keys.current();
    let mut length = PACK_HEAD_BYTES + body.len() + CHECKSUM_BYTES;
    if key != 0 {
        flags |= FLAG_SEALED;
        length += SALT_BYTES + TAG_BYTES;
    }
    out.extend_from_slice(&PACK_MAGIC.to_le_bytes());
    out.extend_from_slice(&[PACK_VERSION, flags]);
    out.extend_from_slice(&(length as u32).to_le_bytes());
    out.extend_from_slice(&(plain.len() as u32).to_le_bytes());
    out.extend_from_slice(&u32::from(key).to_le_bytes());
    let context = context(out.get(start..).unwrap_or_default(), seed);
    match packing.keys.seal(body, &context) {
        Some(sealed) => {
            out.extend_from_slice(&sealed.salt);
            out.extend_from_slice(&sealed.bytes);
        }
        None => out.extend_from_slice(body),
    }
    let checksum = XxHash3_64::oneshot_with_seed(seed, out.get(start..).unwrap_or_default());
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// What the content is sealed together with: the head, and which segment it is in.
fn context(head: &[u8], seed: u64) -> Vec<u8> {
    [head, &seed.to_le_bytes()].concat()
}

/// The length that a pack claims, if these bytes could begin one.
pub(crate) fn claimed_length(bytes: &[u8]) -> Option<u64> {
    let mut cursor = Cursor::new(bytes);
    if cursor.u16()? != PACK_MAGIC {
        return None;
    }
    cursor.u16()?;
    let length = u64::from(cursor.u32()?);
    (length >= (PACK_HEAD_BYTES + CHECKSUM_BYTES) as u64).then_some(length)
}

/// The checksum of a whole pack is right; what it holds is not looked at.
pub(crate) fn is_intact(pack: &[u8], seed: u64) -> bool {
    let Some((content, stored)) = pack.split_last_chunk::<CHECKSUM_BYTES>() else {
        return false;
    };
    XxHash3_64::oneshot_with_seed(seed, content) == u64::from_le_bytes(*stored)
}

/// What a whole pack holds; `None` if anything about it is wrong.
pub(crate) fn unpack(pack: &Bytes, seed: u64, keys: &Keys) -> Option<(Content, Bytes)> {
    if claimed_length(pack)? != pack.len() as u64 {
        return None;
    }
    if !is_intact(pack, seed) {
        return None;
    }
    let end = pack.len() - CHECKSUM_BYTES;
    let mut cursor = Cursor::new(pack.get(2..end)?);
    let (version, flags) = (cursor.u8()?, cursor.u8()?);
    if version != PACK_VERSION || flags & !(FLAG_S2 | FLAG_SEALED | FLAG_INDEX) != 0 {
        return None;
    }
    cursor.u32()?;
    let plain_bytes = cursor.u32()?;
    if plain_bytes > PLAIN_BYTES_MAX {
        return None;
    }
    let content = if flags & FLAG_INDEX == 0 {
        Content::Records
    } else {
        Content::Index
    };
    let mut body = pack.slice(PACK_HEAD_BYTES..end);
    if flags & FLAG_SEALED != 0 {
        let key = u16::try_from(cursor.u32()?).ok()?;
        let (salt, sealed) = body.split_at_checked(SALT_BYTES)?;
        let context = context(pack.get(..PACK_HEAD_BYTES)?, seed);
        body = keys.open(key, salt, sealed, &context)?.into();
    }
    let plain = if flags & FLAG_S2 == 0 {
        body
    } else {
        let (length, _) = minlz::decode_len(&body).ok()?;
        if length != plain_bytes as usize {
            return None;
        }
        Bytes::from(minlz::decode(&body).ok()?)
    };
    (plain.len() == plain_bytes as usize).then_some((content, plain))
}

/// The records of a pack, one after the other; ends where something is no record.
pub(crate) fn records(plain: &Bytes) -> impl Iterator<Item = Bytes> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = plain.get(at..)?;
        let length = usize::try_from(record::claimed_length(rest)?).ok()?;
        let end = at.checked_add(length).filter(|end| *end <= plain.len())?;
        let record = plain.slice(at..end);
        at = end;
        Some(record)
    })
}

/// The record of one message among those of a pack.
pub(crate) fn find_record(plain: &Bytes, sequence: u64) -> Option<Bytes> {
    records(plain).find(|record| record::claimed_sequence(record) == Some(sequence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Cipher;
    use crate::seal::tests::some_keys;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packs_come_back_and_no_flipped_bit_passes(
            plain in proptest::collection::vec(0_u8..4, 0..2000), compress: bool, seal: bool, is_index: bool, seed: u64, flip: usize,
        ) {
            let content = if is_index { Content::Index } else { Content::Records };
            let mut out = Vec::new();
            let keys = if seal { some_keys(Cipher::ChaCha, 1) } else { Keys::default() };
            put_pack(&mut out, &plain, content, &Packing { compress, keys: keys.clone() }, seed);
            prop_assert_eq!(claimed_length(&out), Some(out.len() as u64));
            prop_assert_eq!(unpack(&Bytes::from(out.clone()), seed, &keys), Some((content, Bytes::from(plain))));
            prop_assert_eq!(unpack(&Bytes::from(out.clone()), !seed, &keys), None);
            let bit = flip % (out.len() * 8);
            out[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(unpack(&Bytes::from(out), seed, &keys), None);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, sequence: u64) {
            let bytes = Bytes::from(bytes);
            prop_assert_eq!(unpack(&bytes, 1, &Keys::default()), None);
            prop_assert!(find_record(&bytes, sequence).is_none());
        }
    }

    #[test]
    fn a_sealed_pack_opens_only_in_its_segment_with_its_key() {
        let keys = some_keys(Cipher::Aes, 1);
        let packing = Packing {
            compress: false,
            keys: keys.clone(),
        };
        let mut out = Vec::new();
        put_pack(&mut out, b"a message", Content::Records, &packing, 3);
        assert!(!out.windows(9).any(|window| window == b"a message"));
        let pack = Bytes::from(out.clone());
        assert!(unpack(&pack, 3, &keys).is_some());
        assert!(unpack(&pack, 3, &Keys::default()).is_none());
        // Moved to another segment, with a checksum that fits there.
        let end = out.len() - CHECKSUM_BYTES;
        let checksum = XxHash3_64::oneshot_with_seed(4, &out[..end]);
        out[end..].copy_from_slice(&checksum.to_le_bytes());
        assert!(unpack(&Bytes::from(out), 4, &keys).is_none());
    }

    #[test]
    fn what_does_not_become_smaller_is_kept_as_it_is() {
        let mut random = millrace_clock::Random::new(5);
        let plain: Vec<u8> = (0..4000).map(|_| random.next_u64() as u8).collect();
        let mut out = Vec::new();
        put_pack(
            &mut out,
            &plain,
            Content::Records,
            &Packing {
                compress: true,
                keys: Keys::default(),
            },
            3,
        );
        assert_eq!(out.len(), PACK_HEAD_BYTES + plain.len() + CHECKSUM_BYTES);
        let (_, found) = unpack(&Bytes::from(out), 3, &Keys::default()).expect("a pack");
        assert_eq!(found, plain);
    }
}
