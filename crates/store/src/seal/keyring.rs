//! The file `keys` of a store: its data keys, each sealed under the key of the configuration. What
//! the configuration says can change without a byte of data being written again, and no data is ever
//! encrypted with what somebody typed. `docs/format.md` draws it.

use super::cipher::{Cipher, KEY_BYTES, Key, TAG_BYTES};
use twox_hash::XxHash3_64;

/// The file in the store's folder, and its name while it is being written.
pub const KEYS_PATH: &str = "keys";
pub const KEYS_NEW_PATH: &str = "keys.new";
/// The version that this build writes.
const KEYS_VERSION: u64 = 1;
const FIRST_WORDS: &str = "millrace store keys ";
const SALT_BYTES: usize = 16;
/// A store has a key more for each change of the cipher.
const KEYS_MAX: usize = 1000;
/// Bytes that nobody can guess, for a new key and a new salt.
pub const ENTROPY_BYTES: usize = KEY_BYTES + SALT_BYTES;

/// What the configuration says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Secrets<'a> {
    pub key: Option<&'a str>,
    pub previous: Option<&'a str>,
    pub cipher: Cipher,
}

/// Why a store cannot be opened with these secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("the store is encrypted and no key is configured: encryption not enabled")]
    NotEnabled,
    #[error(
        "neither the configured key nor the previous one opens the store: unable to recover keys"
    )]
    Wrong,
    #[error("the file of the store's keys is damaged: {0}")]
    Damaged(&'static str),
    #[error(
        "the file of the store's keys has format {0}, and this version reads format {KEYS_VERSION}"
    )]
    Newer(u64),
}

/// What opening did to the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChange {
    None,
    /// The store had none.
    Made,
    /// They were sealed under the previous key.
    Rotated,
    /// What is written from now on uses another cipher.
    Cipher,
}

/// A key for data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DataKey {
    pub(super) number: u16,
    pub(super) cipher: Cipher,
    pub(super) key: Key,
}

/// The keys of an encrypted store, ascending; the last one is for what is written now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyring {
    pub(super) keys: Vec<DataKey>,
}

/// An opened keyring.
#[derive(Clone, Debug)]
pub struct OpenedKeys {
    /// `None`: the store is not encrypted.
    pub keyring: Option<Keyring>,
    /// The new content of the file, to be durable before anything is written with these keys.
    pub write: Option<String>,
    pub change: KeyChange,
}

impl Keyring {
    /// Keys of a store that nobody configured: for tests and tools that make their own.
    #[must_use]
    pub fn of_key(cipher: Cipher, key: [u8; KEY_BYTES]) -> Self {
        let key = Key::new(key);
        Self {
            keys: vec![DataKey {
                number: 1,
                cipher,
                key,
            }],
        }
    }

    /// Opens the keys of a store, or makes them. `entropy` is used once.
    ///
    /// # Errors
    /// [`KeyError`]: nothing may be written to this store.
    pub fn open(
        file: Option<&[u8]>,
        secrets: Secrets<'_>,
        entropy: &[u8; ENTROPY_BYTES],
    ) -> Result<OpenedKeys, KeyError> {
        let secret = secrets.key.filter(|key| !key.is_empty());
        let Some(file) = file else {
            return Ok(Self::make(secret, secrets.cipher, entropy));
        };
        let sealed = SealedKeys::parse(file)?;
        let secret = secret.ok_or(KeyError::NotEnabled)?;
        let mut change = KeyChange::None;
        let mut keyring = sealed.open(secret);
        if keyring.is_none() {
            let previous = secrets.previous.filter(|key| !key.is_empty());
            keyring = previous.and_then(|previous| sealed.open(previous));
            change = KeyChange::Rotated;
        }
        let mut keyring = keyring.ok_or(KeyError::Wrong)?;
        let newest = keyring.keys.last().ok_or(KeyError::Damaged("no key"))?;
        if newest.cipher != secrets.cipher {
            if change == KeyChange::None {
                change = KeyChange::Cipher;
            }
            let number = newest
                .number
                .checked_add(1)
                .ok_or(KeyError::Damaged("too many keys"))?;
            keyring.add(number, secrets.cipher, entropy);
        }
        let write = (change != KeyChange::None).then(|| keyring.seal(secret, entropy));
        Ok(OpenedKeys {
            keyring: Some(keyring),
            write,
            change,
        })
    }

    fn make(secret: Option<&str>, cipher: Cipher, entropy: &[u8; ENTROPY_BYTES]) -> OpenedKeys {
        let Some(secret) = secret else {
            return OpenedKeys {
                keyring: None,
                write: None,
                change: KeyChange::None,
            };
        };
        let mut keyring = Self { keys: Vec::new() };
        keyring.add(1, cipher, entropy);
        OpenedKeys {
            write: Some(keyring.seal(secret, entropy)),
            keyring: Some(keyring),
            change: KeyChange::Made,
        }
    }

    fn add(&mut self, number: u16, cipher: Cipher, entropy: &[u8; ENTROPY_BYTES]) {
        let mut key = [0; KEY_BYTES];
        key.copy_from_slice(entropy.get(..KEY_BYTES).unwrap_or(&[0; KEY_BYTES]));
        self.keys.push(DataKey {
            number,
            cipher,
            key: Key::new(key),
        });
    }

    /// The text of the file, under a salt of its own.
    fn seal(&self, secret: &str, entropy: &[u8; ENTROPY_BYTES]) -> String {
        let salt = entropy.get(KEY_BYTES..).unwrap_or_default();
        let wrapping = Key::of_text(secret, salt);
        let mut text = format!("{FIRST_WORDS}{KEYS_VERSION}\nsalt {}\n", hex(salt));
        for key in &self.keys {
            let context = context(key.number, key.cipher);
            let sealed = wrapping
                .derive("millrace data key", &[context.as_bytes()])
                .seal_once(Cipher::ChaCha, key.key.bytes(), context.as_bytes());
            text.push_str(&format!("{context} {}\n", hex(&sealed)));
        }
        let checksum = XxHash3_64::oneshot(text.as_bytes());
        text.push_str(&format!("checksum {checksum:016x}\n"));
        text
    }
}

/// The words before a sealed key; they are sealed with it.
fn context(number: u16, cipher: Cipher) -> String {
    format!("key {number} {}", cipher.word())
}

/// The file's content, checked and not opened.
struct SealedKeys {
    salt: Vec<u8>,
    keys: Vec<(u16, Cipher, Vec<u8>)>,
}

impl SealedKeys {
    fn parse(file: &[u8]) -> Result<Self, KeyError> {
        let text = std::str::from_utf8(file).map_err(|_| KeyError::Damaged("it is not text"))?;
        let first = text.lines().next().unwrap_or_default();
        let version = first.strip_prefix(FIRST_WORDS);
        let version = version.ok_or(KeyError::Damaged("its first line is not ours"))?;
        match version.parse() {
            Ok(KEYS_VERSION) => {}
            Ok(newer) => return Err(KeyError::Newer(newer)),
            Err(_) => return Err(KeyError::Damaged("it has no version")),
        }
        let last = text.rfind("checksum ");
        let at = last.ok_or(KeyError::Damaged("it has no checksum"))?;
        let (body, checksum) = text.split_at(at);
        if format!("checksum {:016x}\n", XxHash3_64::oneshot(body.as_bytes())) != checksum {
            return Err(KeyError::Damaged("its checksum fails"));
        }
        let mut lines = body.lines().skip(1);
        let salt = lines.next().and_then(|line| line.strip_prefix("salt "));
        let salt = salt
            .and_then(unhex)
            .ok_or(KeyError::Damaged("it has no salt"))?;
        let mut keys: Vec<(u16, Cipher, Vec<u8>)> = Vec::new();
        for line in lines {
            let key = parse_key(line).ok_or(KeyError::Damaged("a key is unreadable"))?;
            if keys.len() >= KEYS_MAX || keys.last().is_some_and(|(number, ..)| *number >= key.0) {
                return Err(KeyError::Damaged("its keys are not in order"));
            }
            keys.push(key);
        }
        Ok(Self { salt, keys })
    }

    fn open(&self, secret: &str) -> Option<Keyring> {
        let wrapping = Key::of_text(secret, &self.salt);
        let mut keys = Vec::new();
        for (number, cipher, sealed) in &self.keys {
            let context = context(*number, *cipher);
            let opened = wrapping
                .derive("millrace data key", &[context.as_bytes()])
                .open_once(Cipher::ChaCha, sealed, context.as_bytes())?;
            keys.push(DataKey {
                number: *number,
                cipher: *cipher,
                key: Key::new(opened.try_into().ok()?),
            });
        }
        (!keys.is_empty()).then_some(Keyring { keys })
    }
}

fn parse_key(line: &str) -> Option<(u16, Cipher, Vec<u8>)> {
    let mut words = line.split(' ');
    if words.next()? != "key" {
        return None;
    }
    let number = words.next()?.parse().ok().filter(|number| *number > 0)?;
    let cipher = Cipher::of_word(words.next()?)?;
    let sealed = unhex(words.next()?)?;
    let fits = sealed.len() == KEY_BYTES + TAG_BYTES && words.next().is_none();
    fits.then_some((number, cipher, sealed))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    let digit = |digit: u8| char::from(digit).to_digit(16);
    pairs
        .map(|pair| match *pair {
            [high, low] => Some((digit(high)? * 16 + digit(low)?) as u8),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secrets<'a>(key: &'a str, previous: &'a str, cipher: Cipher) -> Secrets<'a> {
        Secrets {
            key: Some(key),
            previous: Some(previous),
            cipher,
        }
    }

    fn open(file: Option<&str>, secrets: Secrets<'_>, fill: u8) -> Result<OpenedKeys, KeyError> {
        Keyring::open(file.map(str::as_bytes), secrets, &[fill; ENTROPY_BYTES])
    }

    #[test]
    fn keys_are_made_opened_rotated_and_a_wrong_one_changes_nothing() {
        let chacha = Cipher::ChaCha;
        let none = Secrets::default();
        assert_eq!(open(None, none, 1).expect("plain").keyring, None);
        let made = open(None, secrets("one", "", chacha), 1).expect("made");
        let (keyring, file) = (made.keyring, made.write.expect("to be written"));
        assert_eq!(made.change, KeyChange::Made);
        assert!(!file.contains("one"));
        let same = open(Some(&file), secrets("one", "", chacha), 2).expect("opened");
        assert_eq!(
            (same.keyring, same.write, same.change),
            (keyring.clone(), None, KeyChange::None)
        );
        assert_eq!(open(Some(&file), none, 3).err(), Some(KeyError::NotEnabled));
        assert_eq!(
            open(Some(&file), secrets("", "one", chacha), 3).err(),
            Some(KeyError::NotEnabled)
        );
        assert_eq!(
            open(Some(&file), secrets("two", "three", chacha), 3).err(),
            Some(KeyError::Wrong)
        );
        let rotated = open(Some(&file), secrets("two", "one", chacha), 4).expect("rotated");
        assert_eq!(
            (rotated.keyring, rotated.change),
            (keyring.clone(), KeyChange::Rotated)
        );
        let rotated = rotated.write.expect("to be written");
        assert_eq!(
            open(Some(&rotated), secrets("one", "", chacha), 5).err(),
            Some(KeyError::Wrong)
        );
        let opened = open(Some(&rotated), secrets("two", "", chacha), 5).expect("opened");
        assert_eq!(opened.keyring, keyring);
        let changed = open(Some(&rotated), secrets("two", "", Cipher::Aes), 6).expect("changed");
        assert_eq!(changed.change, KeyChange::Cipher);
        let keys = changed.keyring.expect("keys").keys;
        let numbers: Vec<_> = keys.iter().map(|key| (key.number, key.cipher)).collect();
        assert_eq!(numbers, [(1, Cipher::ChaCha), (2, Cipher::Aes)]);
        assert_ne!(keys[0].key, keys[1].key);
    }

    #[test]
    fn damage_to_the_file_is_told_and_a_newer_one_is_refused() {
        let made = open(None, secrets("one", "", Cipher::Aes), 1).expect("made");
        let file = made.write.expect("to be written").into_bytes();
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 2;
            let opened = Keyring::open(
                Some(&damaged),
                secrets("one", "", Cipher::Aes),
                &[1; ENTROPY_BYTES],
            );
            let told = matches!(opened, Err(KeyError::Damaged(_) | KeyError::Newer(_)));
            assert!(told, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,200}") {
            let _ = SealedKeys::parse(text.as_bytes());
            let body = format!("{FIRST_WORDS}1\n{text}\n");
            let dressed = format!("{body}checksum {:016x}\n", XxHash3_64::oneshot(body.as_bytes()));
            let _ = SealedKeys::parse(dressed.as_bytes());
            let _ = unhex(&text);
        }
    }
}
