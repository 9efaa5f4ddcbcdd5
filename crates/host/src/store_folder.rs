//! The folder that holds a server's data: where it is, who may use it, and that no newer server
//! wrote it (hard-parts 3). What is in the files, the one that names the format too, is the store's.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use millrace_store::journal::STORE_VERSION;
use millrace_store::journal::file::{FORMAT_PATH, FormatFile};

/// Our folder inside `store_dir`; the reference's files beside it are never written.
const FOLDER: &str = "millrace";
/// Empty; locked while a server runs.
const LOCK_FILE: &str = "lock";

/// An opened, exclusively locked store folder.
#[derive(Debug)]
pub(crate) struct StoreFolder {
    pub(crate) path: PathBuf,
    /// Holds the lock until it is dropped.
    _lock: File,
}

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreFolderError {
    #[error("could not create storage directory {path:?}: {source}")]
    Create {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("store directory {0:?} is in use by another server")]
    Locked(PathBuf),
    #[error("store directory {path:?} cannot be locked: {source}")]
    Lock {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "store directory {path:?} has format {found}, and this server reads format {STORE_VERSION}: \
         start it with the newer server that wrote it"
    )]
    Newer { path: PathBuf, found: u64 },
    #[error(
        "store directory {0:?} holds streams of nats-server and none of Millrace: they are not read \
         or changed. Copy them with `millrace import {directory}` while no nats-server runs on them, choose \
         another store directory, or create the empty folder {FOLDER:?} in it to start without them",
        directory = .0.display()
    )]
    Foreign(PathBuf),
    #[error("store directory {0:?} holds no store of Millrace")]
    Missing(PathBuf),
}

/// The folder used when none is configured: the user's data folder, which outlives a reboot.
pub(crate) fn default_directory() -> PathBuf {
    let data = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share"));
    data.or_else(home)
        .unwrap_or_else(|| PathBuf::from("/var/lib"))
        .join(FOLDER)
}

impl StoreFolder {
    /// Makes, locks and checks `<store_dir>/millrace`.
    ///
    /// # Errors
    /// [`StoreFolderError`]; its text is for the log.
    pub(crate) fn open(store_dir: &Path) -> Result<Self, StoreFolderError> {
        if !store_dir.join(FOLDER).exists() && has_foreign_streams(store_dir) {
            return Err(StoreFolderError::Foreign(store_dir.to_owned()));
        }
        Self::open_beside_others(store_dir)
    }

    /// The same without asking what else is there.
    pub(crate) fn open_beside_others(store_dir: &Path) -> Result<Self, StoreFolderError> {
        let path = store_dir.join(FOLDER);
        let create = |source| StoreFolderError::Create {
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(&path).map_err(create)?;
        let lock_error = |source| StoreFolderError::Lock {
            path: path.clone(),
            source,
        };
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK_FILE))
            .map_err(lock_error)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreFolderError::Locked(path)),
            Err(TryLockError::Error(source)) => return Err(lock_error(source)),
        }
        sync_folder(&path)
            .and_then(|()| sync_folder(store_dir))
            .map_err(lock_error)?;
        // Anything else about the file is for recovery to say.
        let format = std::fs::read(path.join(FORMAT_PATH)).ok();
        let format = format.and_then(|bytes| FormatFile::decode(&bytes).ok());
        if let Some(FormatFile { version: found, .. }) = format
            && found > STORE_VERSION
        {
            return Err(StoreFolderError::Newer { path, found });
        }
        Ok(Self { path, _lock: lock })
    }
}

/// For those who only read.
impl StoreFolder {
    /// Locks and checks a store that is there.
    ///
    /// # Errors
    /// [`StoreFolderError`]; its text is for the user.
    pub(crate) fn open_existing(store_dir: &Path) -> Result<Self, StoreFolderError> {
        if !store_dir.join(FOLDER).join(FORMAT_PATH).exists() {
            return Err(StoreFolderError::Missing(store_dir.to_owned()));
        }
        Self::open_beside_others(store_dir)
    }
}

/// Makes creations in `folder` durable.
pub(crate) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Whether the reference keeps streams under `store_dir`: `jetstream/<account>/streams/<name>`.
fn has_foreign_streams(store_dir: &Path) -> bool {
    let children = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder)
            .map(|entries| {
                entries
                    .filter_map(|entry| Some(entry.ok()?.path()))
                    .collect()
            })
            .unwrap_or_default()
    };
    children(&store_dir.join("jetstream"))
        .iter()
        .any(|account| !children(&account.join("streams")).is_empty())
}
