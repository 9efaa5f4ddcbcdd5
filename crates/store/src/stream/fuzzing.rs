//! The door through which fuzz targets and property tests reach the readers of segment files.
//!
//! Checksums would turn nearly all made-up bytes away at once, so each reader gets the bytes as
//! they are and once more dressed up: with magic, length and checksum made right around them.

use crate::seal::{Cipher, Keyring, Keys, RUN_BYTES};
use bytes::Bytes;
use twox_hash::XxHash3_64;

use super::segment::index_block::{self, IndexBlock};
use super::segment::manifest::{self, ManifestContent};
use super::segment::pack;
use super::segment::record;

const SEED: u64 = 7;
const CHECKSUM_BYTES: usize = 8;

/// Lets every reader of segment bytes look at `bytes`. None may panic or allocate by a length that
/// the bytes only claim.
pub fn read_anything(bytes: &[u8]) {
    let whole = Bytes::copy_from_slice(bytes);
    let _ = record::claimed_length(bytes);
    let _ = record::read_record(&whole, SEED);
    let _ = record::read_record(&dressed_record(bytes), SEED);
    let _ = index_block::claimed_length(bytes);
    let _ = IndexBlock::read(&whole).and_then(|block| block.messages());
    let _ = IndexBlock::read(&dressed_block(bytes)).and_then(|block| block.messages());
    let _ = pack::unpack(&whole, SEED, &Keys::default());
    let _ = pack::unpack(&dressed_pack(bytes), SEED, &keys());
    let _ = pack::find_record(&whole, SEED);
    let _ = ManifestContent::decode(bytes);
    let _ = ManifestContent::decode(&with_checksum(bytes, 0));
    let _ = manifest::read_deletes(bytes);
    let _ = manifest::read_deletes(&with_checksum(bytes, 0));
}

/// Keys, so that packs which say that they are sealed are tried too.
fn keys() -> Keys {
    Keys::new(
        Some(Keyring::of_key(Cipher::ChaCha, [1; 32])),
        [1; RUN_BYTES],
    )
}

fn with_checksum(bytes: &[u8], seed: u64) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out.extend_from_slice(&XxHash3_64::oneshot_with_seed(seed, bytes).to_le_bytes());
    out
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn dressed_record(bytes: &[u8]) -> Bytes {
    let mut out = bytes.to_vec();
    let length = (out.len() + CHECKSUM_BYTES) as u32;
    put(&mut out, 0, &record::RECORD_MAGIC.to_le_bytes());
    put(&mut out, 4, &length.to_le_bytes());
    with_checksum(&out, SEED).into()
}

fn dressed_pack(bytes: &[u8]) -> Bytes {
    let mut out = bytes.to_vec();
    let length = (out.len() + CHECKSUM_BYTES) as u32;
    put(&mut out, 0, &pack::PACK_MAGIC.to_le_bytes());
    put(&mut out, 2, &[pack::PACK_VERSION]);
    put(&mut out, 4, &length.to_le_bytes());
    with_checksum(&out, SEED).into()
}

fn dressed_block(bytes: &[u8]) -> Bytes {
    let mut out = bytes.to_vec();
    let length = (out.len() + CHECKSUM_BYTES) as u32;
    put(&mut out, 0, index_block::BLOCK_MAGIC);
    put(&mut out, 4, &index_block::BLOCK_VERSION.to_le_bytes());
    put(&mut out, 8, &length.to_le_bytes());
    let before_chain = out.get(32..40).and_then(|chain| chain.try_into().ok());
    let seed = before_chain.map_or(0, u64::from_le_bytes);
    with_checksum(&out, seed).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_of_segments_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300)
        ) {
            super::read_anything(&bytes);
        }
    }
}
