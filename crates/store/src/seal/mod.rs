//! Encryption at rest: what the journal, segments and scratch files ask to have sealed and opened.
//! Where the keys come from is `keyring.rs`, what a cipher is `cipher.rs`; `docs/format.md` says why no
//! key meets the same nonce twice.

mod cipher;
mod keyring;

pub use cipher::{Cipher, Key, TAG_BYTES};
pub use keyring::{
    ENTROPY_BYTES, KEYS_NEW_PATH, KEYS_PATH, KeyChange, KeyError, Keyring, OpenedKeys, Secrets,
};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What makes the key of one sealed piece its own: the server run and a number in it.
pub const SALT_BYTES: usize = 24;
/// Bytes drawn for each run of a server.
pub const RUN_BYTES: usize = 16;

/// The keys of a store for all who write and read there. Without any, everything is plain.
#[derive(Clone, Debug, Default)]
pub struct Keys(Option<Arc<Shared>>);

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        let parts = |keys: &Self| {
            let shared = keys.0.as_ref()?;
            Some((shared.ring.clone(), shared.run))
        };
        parts(self) == parts(other)
    }
}

impl Eq for Keys {}

#[derive(Debug)]
struct Shared {
    ring: Keyring,
    run: [u8; RUN_BYTES],
    /// Pieces and scratch files sealed in this run. Shared by all rooms of one node: a count, not a lock, and its order
    /// reaches no decision.
    count: AtomicU64,
}

/// The key of one file that is read in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileKey {
    cipher: Cipher,
    key: Key,
}

impl FileKey {
    /// Encrypts or decrypts bytes that stand at `place` of the file.
    pub fn apply(&self, place: u64, bytes: &mut [u8]) {
        self.key.apply_stream(self.cipher, place, bytes);
    }
}

/// A piece that was sealed.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// The number of the data key.
    pub key: u16,
    pub salt: [u8; SALT_BYTES],
    pub bytes: Vec<u8>,
}

impl Keys {
    /// The keys of a store for one run of a server; `run` was drawn for this run alone.
    #[must_use]
    pub fn new(ring: Option<Keyring>, run: [u8; RUN_BYTES]) -> Self {
        Self(ring.map(|ring| {
            Arc::new(Shared {
                ring,
                run,
                count: AtomicU64::new(0),
            })
        }))
    }

    /// Whether what is written is encrypted.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The cipher of what is written.
    #[must_use]
    pub fn cipher(&self) -> Option<Cipher> {
        Some(self.0.as_ref()?.ring.keys.last()?.cipher)
    }

    /// The number of the key of what is written; 0: nothing is encrypted.
    #[must_use]
    pub fn current(&self) -> u16 {
        let newest = self.0.as_ref().and_then(|shared| shared.ring.keys.last());
        newest.map_or(0, |key| key.number)
    }

    /// Seals a piece that is read whole. `None`: nothing is encrypted.
    #[must_use]
    pub fn seal(&self, plain: &[u8], context: &[u8]) -> Option<Sealed> {
        let shared = self.0.as_ref()?;
        let data = shared.ring.keys.last()?;
        let mut salt = [0; SALT_BYTES];
        let count = shared.count.fetch_add(1, Ordering::Relaxed);
        let drawn = shared
            .run
            .iter()
            .chain(&count.to_le_bytes())
            .copied()
            .collect::<Vec<u8>>();
        salt.copy_from_slice(&drawn);
        let key = data.key.derive("millrace piece", &[&salt]);
        Some(Sealed {
            key: data.number,
            salt,
            bytes: key.seal_once(data.cipher, plain, context),
        })
    }

    /// Opens it; `None`: the key is not there, or it is not what was sealed.
    #[must_use]
    pub fn open(&self, key: u16, salt: &[u8], sealed: &[u8], context: &[u8]) -> Option<Vec<u8>> {
        let shared = self.0.as_ref()?;
        let data = shared.ring.keys.iter().find(|data| data.number == key)?;
        let key = data.key.derive("millrace piece", &[salt]);
        key.open_once(data.cipher, sealed, context)
    }

    /// The key of a journal file by what its header says; `None`: it is plain, or the key is not there.
    #[must_use]
    pub fn journal(&self, key: u16, number: u64, epoch: u64) -> Option<FileKey> {
        let parts = [number.to_le_bytes(), epoch.to_le_bytes()];
        let [number, epoch] = &parts;
        self.file(key, "millrace journal", &[number, epoch])
    }

    /// A key for one scratch file, never made again. `None`: nothing is encrypted.
    #[must_use]
    pub fn scratch(&self) -> Option<FileKey> {
        let shared = self.0.as_ref()?;
        let count = shared.count.fetch_add(1, Ordering::Relaxed);
        let parts: [&[u8]; 2] = [&shared.run, &count.to_le_bytes()];
        self.file(self.current(), "millrace scratch", &parts)
    }

    fn file(&self, key: u16, purpose: &str, parts: &[&[u8]]) -> Option<FileKey> {
        let shared = self.0.as_ref()?;
        let data = shared.ring.keys.iter().find(|data| data.number == key)?;
        Some(FileKey {
            cipher: data.cipher,
            key: data.key.derive(purpose, parts),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Keys as a test needs them.
    pub(crate) fn some_keys(cipher: Cipher, run: u8) -> Keys {
        Keys::new(Some(Keyring::of_key(cipher, [9; 32])), [run; RUN_BYTES])
    }

    #[test]
    fn no_two_pieces_have_the_same_salt_and_each_opens_with_its_own() {
        let (first, second) = (some_keys(Cipher::Aes, 1), some_keys(Cipher::Aes, 2));
        let pieces = [&first, &first, &second].map(|keys| keys.seal(b"text", b"here").expect("on"));
        assert_ne!(pieces[0].salt, pieces[1].salt);
        assert_ne!(pieces[0].salt, pieces[2].salt);
        assert_ne!(pieces[0].bytes, pieces[1].bytes);
        for piece in &pieces {
            let opened = second.open(piece.key, &piece.salt, &piece.bytes, b"here");
            assert_eq!(opened.as_deref(), Some(&b"text"[..]));
            assert_eq!(
                second.open(piece.key, &piece.salt, &piece.bytes, b"there"),
                None
            );
            assert_eq!(second.open(2, &piece.salt, &piece.bytes, b"here"), None);
        }
        assert!(Keys::default().seal(b"text", b"").is_none());
    }

    #[test]
    fn every_file_has_a_key_of_its_own() {
        let keys = some_keys(Cipher::ChaCha, 1);
        let seen = |key: Option<FileKey>| {
            let mut bytes = [0; 32];
            key.expect("a key").apply(0, &mut bytes);
            bytes
        };
        let streams = [
            seen(keys.journal(1, 1, 1)),
            seen(keys.journal(1, 1, 2)),
            seen(keys.journal(1, 2, 1)),
            seen(keys.scratch()),
            seen(keys.scratch()),
            seen(some_keys(Cipher::ChaCha, 2).scratch()),
        ];
        for (at, stream) in streams.iter().enumerate() {
            assert!(streams.iter().skip(at + 1).all(|other| other != stream));
        }
        assert!(keys.journal(0, 1, 1).is_none() && keys.journal(2, 1, 1).is_none());
    }
}
