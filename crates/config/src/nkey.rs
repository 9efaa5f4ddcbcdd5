//! Public nkeys: a kind, 32 bytes of Ed25519 key and a checksum, written in base32.
//!
//! Verifying signatures is left to `auth`; of seeds it is only told whether they are some.

use data_encoding::BASE32_NOPAD;

/// Bytes of a decoded public nkey: kind, key, checksum.
const DECODED_BYTES: usize = 35;
/// Bytes of a decoded seed: two of kind, key, checksum.
const SEED_BYTES: usize = 36;
/// The first five bits of a seed: the letter `S`.
const SEED_PREFIX: u8 = 0x90;
/// The polynomial of the checksum (CRC-16 as XMODEM has it).
const POLYNOMIAL: u16 = 0x1021;

/// What an nkey stands for: its first letter in text form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyKind {
    /// `O...`: signs accounts.
    Operator,
    /// `A...`: signs users.
    Account,
    /// `U...`: logs in.
    User,
    /// `N...`: a server.
    Server,
    /// `X...`: an X25519 key, for encryption.
    Curve,
}

impl KeyKind {
    const fn prefix(self) -> u8 {
        match self {
            Self::Operator => 0x70,
            Self::Account => 0x00,
            Self::User => 0xa0,
            Self::Server => 0x68,
            Self::Curve => 0xb8,
        }
    }

    const fn of(prefix: u8) -> Option<Self> {
        match prefix {
            0x70 => Some(Self::Operator),
            0x00 => Some(Self::Account),
            0xa0 => Some(Self::User),
            0x68 => Some(Self::Server),
            0xb8 => Some(Self::Curve),
            _ => None,
        }
    }
}

/// A public key that was decoded and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// What it stands for.
    pub kind: KeyKind,
    /// The Ed25519 key.
    pub key: [u8; 32],
}

impl PublicKey {
    /// The text form.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut bytes = vec![self.kind.prefix()];
        bytes.extend_from_slice(&self.key);
        bytes.extend_from_slice(&checksum(&bytes).to_le_bytes());
        BASE32_NOPAD.encode(&bytes)
    }

    /// Reads the text form; `None` if it is no public nkey or its checksum is wrong.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let bytes = BASE32_NOPAD.decode(text.as_bytes()).ok()?;
        let bytes: [u8; DECODED_BYTES] = bytes.try_into().ok()?;
        let [prefix, key @ .., low, high] = bytes;
        let (body, _) = bytes.split_at(DECODED_BYTES - 2);
        if checksum(body) != u16::from_le_bytes([low, high]) {
            return None;
        }
        Some(Self {
            kind: KeyKind::of(prefix)?,
            key,
        })
    }

    /// Whether `text` is a public nkey of this kind.
    #[must_use]
    pub fn is_kind(text: &str, kind: KeyKind) -> bool {
        Self::decode(text).is_some_and(|key| key.kind == kind)
    }

    /// Whether `text` is a secret key of any kind.
    #[must_use]
    pub fn is_seed(text: &str) -> bool {
        let Ok(bytes) = BASE32_NOPAD.decode(text.as_bytes()) else {
            return false;
        };
        let [first, .., low, high] = bytes.as_slice() else {
            return false;
        };
        let (body, _) = bytes.split_at(bytes.len() - 2);
        bytes.len() == SEED_BYTES
            && first & 0xf8 == SEED_PREFIX
            && checksum(body) == u16::from_le_bytes([*low, *high])
    }
}

fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ (u16::from(*byte) << 8), |sum: u16, _| {
            let shifted = sum << 1;
            if sum & 0x8000 == 0 {
                shifted
            } else {
                shifted ^ POLYNOMIAL
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_by_kind_and_checksum() {
        let text = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
        let key = PublicKey::decode(text).expect("a user key");
        assert_eq!(key.kind, KeyKind::User);
        assert_eq!(key.encode(), text);
        for broken in [
            "",
            "U",
            "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF5",
            "UEXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4",
            "not base32 at all, but as long as a key has to be, really",
        ] {
            assert!(PublicKey::decode(broken).is_none(), "{broken}");
        }
    }
}
