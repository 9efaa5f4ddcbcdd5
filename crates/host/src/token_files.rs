//! The full resolver's directory: one file per account, named after its public key, which holds
//! the account's token.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use millrace_config::nkey::{KeyKind, PublicKey};
use millrace_node::StoreTokens;

use crate::event_loop::{Input, Inputs};
use crate::store_folder::sync_folder;

const ENDING: &str = "jwt";
/// Behind the name of an account's file that was deleted and not removed.
const DELETED: &str = ".deleted";
/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads all tokens of a directory, which is made if it is missing. Files that are none of ours are
/// left alone.
///
/// # Errors
/// The directory cannot be made or read.
pub fn read(directory: &str) -> Result<BTreeMap<String, String>, String> {
    let wrong = |error: std::io::Error| format!("resolver directory {directory:?}: {error}");
    fs::create_dir_all(directory).map_err(wrong)?;
    let mut tokens = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        let path = entry.path();
        let key = path.file_stem().and_then(|stem| stem.to_str());
        let Some(key) = key.filter(|key| PublicKey::is_kind(key, KeyKind::Account)) else {
            continue;
        };
        let is_small = entry.metadata().map_err(wrong)?.len() <= FILE_BYTES_MAX;
        if is_small && path.extension().is_some_and(|ending| ending == ENDING) {
            let token = fs::read_to_string(&path).map_err(wrong)?;
            tokens.insert(key.to_owned(), token.trim().to_owned());
        }
    }
    Ok(tokens)
}

/// Stores tokens on a thread of its own, because that waits for the disk, and tells the loop. It is
/// seldom, and one at a time.
pub(crate) fn store_aside(task: StoreTokens, inputs: Inputs) {
    let work = {
        let (task, inputs) = (task.clone(), inputs.clone());
        move || {
            let result = store(&task);
            inputs.send(Input::TokensStored(Box::new(task), result));
        }
    };
    let thread = std::thread::Builder::new().name("tokens".to_owned());
    if let Err(error) = thread.spawn(work) {
        let result = Err(error.to_string());
        inputs.send(Input::TokensStored(Box::new(task), result));
    }
}

/// Writes and removes files so that they stay so after a power cut.
fn store(task: &StoreTokens) -> Result<(), String> {
    let folder = Path::new(&task.directory);
    change(folder, task).map_err(|error| format!("resolver directory {folder:?}: {error}"))
}

fn change(folder: &Path, task: &StoreTokens) -> std::io::Result<()> {
    for (key, token) in &task.written {
        let path = folder.join(format!("{key}.{ENDING}"));
        let new = folder.join(format!("{key}.new"));
        let mut file = File::create(&new)?;
        file.write_all(token.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
    }
    for key in &task.removed {
        let path = folder.join(format!("{key}.{ENDING}"));
        let gone = if task.hard_delete {
            fs::remove_file(&path)
        } else {
            fs::rename(&path, folder.join(format!("{key}.{ENDING}{DELETED}")))
        };
        // A token of the configuration has no file yet.
        gone.or_else(|error| match error.kind() {
            ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
    }
    sync_folder(folder)
}
