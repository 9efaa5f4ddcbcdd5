//! The two ciphers, and how keys come from keys. Libraries do the work; here is only which of their
//! forms is used: an AEAD for what is read whole, its stream cipher alone for what is read in parts.

use aes_gcm::Aes256Gcm;
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit as _, StreamCipher as _, StreamCipherSeek as _};
use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, KeyInit as _, Payload};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// AES-256 in counter mode, its whole block a counter.
type AesStream = ctr::Ctr128BE<aes::Aes256>;

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 32;
/// Bytes that sealing adds.
pub const TAG_BYTES: usize = 16;
/// A one-time key needs no nonce.
const NONCE: [u8; 12] = [0; 12];
/// What a text costs whoever guesses it: some 20 ms of one core.
const STRETCH_ROUNDS: u32 = 100_000;

/// What data is encrypted with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cipher {
    #[default]
    ChaCha,
    Aes,
}

impl Cipher {
    /// Its name in a key file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::ChaCha => "chacha",
            Self::Aes => "aes",
        }
    }

    /// The cipher with this name in a key file.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::ChaCha, Self::Aes]
            .into_iter()
            .find(|cipher| cipher.word() == word)
    }

    /// What the reference's banner calls it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::ChaCha => "ChaCha20-Poly1305",
            Self::Aes => "AES-GCM",
        }
    }
}

/// A key that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; KEY_BYTES]);

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Key")
    }
}

impl Key {
    /// A key from bytes that nobody can guess.
    #[must_use]
    pub const fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// A key from what somebody wrote into a configuration.
    #[must_use]
    pub fn of_text(text: &str, salt: &[u8]) -> Self {
        Self(pbkdf2::pbkdf2_hmac_array::<Sha256, KEY_BYTES>(
            text.as_bytes(),
            salt,
            STRETCH_ROUNDS,
        ))
    }

    /// Its bytes, to be sealed under another key.
    pub(super) const fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The key for one purpose: HMAC-SHA-256 of its parts under this one. Parts of one purpose have
    /// the same lengths.
    #[must_use]
    pub(super) fn derive(&self, purpose: &str, parts: &[&[u8]]) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("takes any length");
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        for part in parts {
            mac.update(part);
        }
        Self(mac.finalize().into_bytes().into())
    }

    /// Seals under a key that is used this once.
    pub(super) fn seal_once(&self, cipher: Cipher, plain: &[u8], context: &[u8]) -> Vec<u8> {
        let payload = Payload {
            msg: plain,
            aad: context,
        };
        let sealed = match cipher {
            Cipher::ChaCha => ChaCha20Poly1305::new(&self.0.into()).encrypt(&NONCE.into(), payload),
            Cipher::Aes => Aes256Gcm::new(&self.0.into()).encrypt(&NONCE.into(), payload),
        };
        sealed.expect("only longer than 64 GiB would be refused")
    }

    /// Opens what [`Self::seal_once`] sealed in the same context; `None`: it was not.
    pub(super) fn open_once(
        &self,
        cipher: Cipher,
        sealed: &[u8],
        context: &[u8],
    ) -> Option<Vec<u8>> {
        let payload = Payload {
            msg: sealed,
            aad: context,
        };
        let plain = match cipher {
            Cipher::ChaCha => ChaCha20Poly1305::new(&self.0.into()).decrypt(&NONCE.into(), payload),
            Cipher::Aes => Aes256Gcm::new(&self.0.into()).decrypt(&NONCE.into(), payload),
        };
        plain.ok()
    }

    /// Encrypts or decrypts bytes that stand at `place` of what this key is for. No place may be
    /// written twice.
    pub(super) fn apply_stream(&self, cipher: Cipher, place: u64, bytes: &mut [u8]) {
        match cipher {
            Cipher::ChaCha => {
                let mut stream = ChaCha20::new(&self.0.into(), &NONCE.into());
                // Journal and scratch files are far below the 256 GiB that a stream has.
                if stream.try_seek(place).is_ok() {
                    stream.apply_keystream(bytes);
                }
            }
            Cipher::Aes => {
                let mut stream = AesStream::new(&self.0.into(), &[0; 16].into());
                if stream.try_seek(place).is_ok() {
                    stream.apply_keystream(bytes);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: Key = Key::new([7; KEY_BYTES]);

    // RFC 8439, 2.4.2 begins its stream at block 1.
    #[test]
    fn the_stream_is_that_of_rfc_8439() {
        let key: [u8; 32] = std::array::from_fn(|at| at as u8);
        let mut stream =
            ChaCha20::new(&key.into(), &[0, 0, 0, 0, 0, 0, 0, 0x4a, 0, 0, 0, 0].into());
        let mut text = *b"Ladies and Gentl";
        stream.try_seek(64_u64).expect("in reach");
        stream.apply_keystream(&mut text);
        assert_eq!(text[..8], [0x6e, 0x2e, 0x35, 0x9a, 0x25, 0x68, 0xf9, 0x80]);
    }

    #[test]
    fn keys_for_different_purposes_differ() {
        let keys = [
            KEY.derive("a", &[b"x"]),
            KEY.derive("b", &[b"x"]),
            KEY.derive("a", &[b"y"]),
            Key::new([8; KEY_BYTES]).derive("a", &[b"x"]),
        ];
        for (at, key) in keys.iter().enumerate() {
            assert!(keys.iter().skip(at + 1).all(|other| other != key));
        }
        assert_eq!(format!("{KEY:?}"), "Key");
    }

    proptest! {
        #[test]
        fn what_is_sealed_comes_back_and_no_flipped_bit_does(
            plain: Vec<u8>, context: Vec<u8>, aes: bool, flip: usize,
        ) {
            let cipher = if aes { Cipher::Aes } else { Cipher::ChaCha };
            let mut sealed = KEY.seal_once(cipher, &plain, &context);
            prop_assert_eq!(sealed.len(), plain.len() + TAG_BYTES);
            prop_assert_eq!(KEY.open_once(cipher, &sealed, &context), Some(plain));
            let other = Key::new([8; KEY_BYTES]);
            prop_assert_eq!(other.open_once(cipher, &sealed, &context), None);
            prop_assert_eq!(KEY.open_once(cipher, &sealed, b"another context"), None);
            let bit = flip % (sealed.len() * 8);
            sealed[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(KEY.open_once(cipher, &sealed, &context), None);
        }

        #[test]
        fn a_stream_is_read_from_any_place(
            plain in proptest::collection::vec(any::<u8>(), 1..500), place in 0_u64..(1 << 30), aes: bool, from: usize,
        ) {
            let cipher = if aes { Cipher::Aes } else { Cipher::ChaCha };
            let mut bytes = plain.clone();
            KEY.apply_stream(cipher, place, &mut bytes);
            if plain.len() > 8 {
                prop_assert_ne!(&bytes, &plain);
            }
            let from = from % plain.len();
            let mut part = bytes[from..].to_vec();
            KEY.apply_stream(cipher, place + from as u64, &mut part);
            prop_assert_eq!(&part[..], &plain[from..]);
        }
    }
}
