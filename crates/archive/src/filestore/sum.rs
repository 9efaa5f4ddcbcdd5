//! HighwayHash-64 under a key that is the SHA-256 of a name: the reference's checksum of everything
//! it keeps.

use highway::{HighwayHash as _, HighwayHasher, Key};
use sha2::{Digest as _, Sha256};

/// A checksum in the making.
#[derive(Clone)]
pub struct Sum(HighwayHasher);

impl Sum {
    /// Begins one under the key that belongs to `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let digest: [u8; 32] = Sha256::digest(name.as_bytes()).into();
        let mut key = [0u64; 4];
        for (word, bytes) in key.iter_mut().zip(digest.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Self(HighwayHasher::new(Key(key)))
    }

    /// The checksum of these pieces, one behind the other.
    #[must_use]
    pub fn of(&self, pieces: &[&[u8]]) -> [u8; 8] {
        let mut hasher = self.0.clone();
        for piece in pieces {
            hasher.append(piece);
        }
        hasher.finalize64().to_le_bytes()
    }
}

/// Whether a configuration file is as it was written; `sum` is the content of the file beside it.
#[must_use]
pub fn meta_sum_matches(name: &str, meta: &[u8], sum: &[u8]) -> bool {
    let expected = data_encoding::HEXLOWER.encode(&Sum::new(name).of(&[meta]));
    sum.trim_ascii() == expected.as_bytes()
}
