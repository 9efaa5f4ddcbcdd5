//! The file of a store's keys: read at start, written when they are made or sealed anew. What is in
//! it is the store's room to say.

use crate::identity;
use crate::store_folder::sync_folder;
use millrace_config::options::{JetStreamOptions, StoreCipher};
use millrace_store::journal::STORE_VERSION;
use millrace_store::journal::file::{FORMAT_NEW_PATH, FORMAT_PATH, FormatFile, RESERVE_PATH};
use millrace_store::seal::{
    Cipher, KEYS_NEW_PATH, KEYS_PATH, KeyChange, Keyring, Keys, OpenedKeys, Secrets,
};
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

/// The folder of the journal in the store's folder.
const JOURNAL_FOLDER: &str = "journal";

/// Opens the keys of the store in `folder` with what the configuration says. With `may_write` they
/// are made, sealed under a new key or added to as it asks for; without, a plain store stays plain.
///
/// # Errors
/// A text for the log: the store must not be opened.
pub(crate) fn open(
    folder: &Path,
    options: &JetStreamOptions,
    may_write: bool,
) -> Result<(Keys, KeyChange), String> {
    let told = |error: &dyn std::fmt::Display| format!("store directory {folder:?}: {error}");
    let file = match fs::read(folder.join(KEYS_PATH)) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(told(&format!("its keys cannot be read: {error}"))),
    };
    let format = fs::read(folder.join(FORMAT_PATH)).ok();
    let format = format.and_then(|bytes| FormatFile::decode(&bytes).ok());
    if file.is_none()
        && format
            .as_ref()
            .is_some_and(|format| format.version == STORE_VERSION)
    {
        return Err(told(&format!(
            "it is encrypted, and the file {KEYS_PATH:?} with its keys is missing: put it back"
        )));
    }
    let secrets = Secrets {
        key: options.encryption_key.as_deref(),
        previous: options.previous_encryption_key.as_deref(),
        cipher: match options.cipher {
            StoreCipher::ChaCha => Cipher::ChaCha,
            StoreCipher::Aes => Cipher::Aes,
        },
    };
    let opened = Keyring::open(file.as_deref(), secrets, &identity::entropy()?);
    let OpenedKeys {
        keyring,
        write,
        change,
    } = opened.map_err(|error| told(&error))?;
    if change == KeyChange::Made && !may_write {
        return Ok((Keys::default(), KeyChange::None));
    }
    let keys = Keys::new(keyring, identity::entropy()?);
    if may_write && keys.is_on() {
        settle(folder, write.as_deref(), format, change)
            .map_err(|error| told(&format!("its keys cannot be written: {error}")))?;
    }
    Ok((keys, change))
}

/// Makes durable what the rest relies on: the keys, then that this is no store for an older server.
fn settle(
    folder: &Path,
    keys: Option<&str>,
    format: Option<FormatFile>,
    change: KeyChange,
) -> std::io::Result<()> {
    if let Some(keys) = keys {
        replace(folder, KEYS_NEW_PATH, KEYS_PATH, keys.as_bytes())?;
    }
    if let Some(mut format) = format.filter(|format| format.version < STORE_VERSION) {
        format.version = STORE_VERSION;
        replace(folder, FORMAT_NEW_PATH, FORMAT_PATH, &format.encode())?;
    }
    if change == KeyChange::Made {
        remove_leftovers(folder)?;
    }
    Ok(())
}

/// Files that wait for another life hold what the journal held in the clear.
fn remove_leftovers(folder: &Path) -> std::io::Result<()> {
    let journal = folder.join(JOURNAL_FOLDER);
    let Ok(entries) = fs::read_dir(&journal) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_reserve = path == folder.join(RESERVE_PATH);
        if is_reserve || path.extension().is_some_and(|ending| ending == "spare") {
            fs::remove_file(path)?;
        }
    }
    sync_folder(&journal)
}

fn replace(folder: &Path, new_name: &str, name: &str, content: &[u8]) -> std::io::Result<()> {
    let new = folder.join(new_name);
    let mut file = File::create(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(new, folder.join(name))?;
    sync_folder(folder)
}
