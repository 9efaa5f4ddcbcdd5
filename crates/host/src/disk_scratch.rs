//! A store that is only read: names that are made, moved or removed live in a scratch folder, and what
//! is in the store is opened for reading. So a store can be recovered and looked at as it is.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use millrace_store::disk::FileId;

/// The scratch folder of one opened store; removed with it.
#[derive(Debug)]
pub(crate) struct Scratch {
    root: PathBuf,
    folder: PathBuf,
    /// What of the store counts as gone. Shared by the lanes, as the disk is.
    gone: Mutex<HashSet<PathBuf>>,
    /// Open files of the store.
    kept: Mutex<HashSet<FileId>>,
}

impl Scratch {
    /// # Errors
    /// The folder cannot be made.
    pub(crate) fn new(root: &Path) -> io::Result<Self> {
        let id = crate::identity::entropy::<8>().map_err(io::Error::other)?;
        let name = format!("millrace-{:016x}", u64::from_le_bytes(id));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder)?;
        Ok(Self {
            root: fs::canonicalize(root)?,
            folder,
            gone: Mutex::default(),
            kept: Mutex::default(),
        })
    }

    fn gone(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the file of this name is, and whether it may be written to.
    fn find(&self, relative: &str) -> io::Result<(PathBuf, bool)> {
        let own = self.folder.join(relative);
        if let Ok(metadata) = fs::symlink_metadata(&own) {
            return Ok((own, !metadata.is_symlink()));
        }
        let gone = self.gone();
        if Path::new(relative)
            .ancestors()
            .any(|one| gone.contains(one))
        {
            return Err(ErrorKind::NotFound.into());
        }
        Ok((self.root.join(relative), false))
    }

    fn own(&self, relative: &str) -> io::Result<PathBuf> {
        let own = self.folder.join(relative);
        if let Some(parent) = own.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(own)
    }

    /// Opens a file; tells whether it may be written to.
    pub(crate) fn open(&self, relative: &str) -> io::Result<(File, bool)> {
        let (path, writes) = self.find(relative)?;
        let file = OpenOptions::new().read(true).write(writes).open(path)?;
        Ok((file, writes))
    }

    /// What is written to this file, or cut off it, counts as done: recovery cuts a torn tail, and
    /// overwrites what was erased, and does not look at either again.
    pub(crate) fn keep_as_it_is(&self, file: FileId) {
        self.kept().insert(file);
    }

    pub(crate) fn is_kept(&self, file: FileId) -> bool {
        self.kept().contains(&file)
    }

    fn kept(&self) -> MutexGuard<'_, HashSet<FileId>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn create(&self, relative: &str) -> io::Result<File> {
        if self.find(relative).is_ok_and(|(path, _)| path.exists()) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.own(relative)?)
    }

    pub(crate) fn create_directory(&self, relative: &str) -> io::Result<()> {
        fs::create_dir_all(self.folder.join(relative))
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (path, _) = self.find(from)?;
        let target = self.own(to)?;
        if path.starts_with(&self.folder) {
            return fs::rename(path, target);
        }
        symlink(path, target)?;
        self.gone().insert(PathBuf::from(from));
        Ok(())
    }

    pub(crate) fn remove(&self, relative: &str) {
        let own = self.folder.join(relative);
        // What is not there needs no removing.
        let _ = fs::remove_file(&own);
        let _ = fs::remove_dir_all(&own);
        self.gone().insert(PathBuf::from(relative));
    }

    /// Names in a folder, those of folders with a slash at their end.
    pub(crate) fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let mut names = BTreeSet::new();
        for root in [&self.root, &self.folder] {
            let entries = match fs::read_dir(root.join(directory)) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                let relative = Path::new(directory).join(&name);
                if root == &self.root && self.gone().contains(&relative) {
                    continue;
                }
                let is_folder = entry.file_type()?.is_dir();
                names.insert(if is_folder { name + "/" } else { name });
            }
        }
        Ok(names.into_iter().collect())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind, it is in nobody's way.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_store_that_is_read_stays_as_it_is() {
        let root = std::env::temp_dir().join(format!("millrace-scratch-{}", std::process::id()));
        fs::create_dir_all(root.join("journal")).expect("a folder");
        fs::write(root.join("journal/1"), "one").expect("a file");
        fs::write(root.join("journal/2"), "two").expect("a file");
        let scratch = Scratch::new(&root).expect("a scratch folder");
        let mut file = scratch.create("journal/3").expect("made");
        file.write_all(b"three").expect("written");
        assert!(scratch.create("journal/1").is_err());
        let (mut first, writes) = scratch.open("journal/1").expect("opened");
        assert!(!writes && first.write_all(b"x").is_err());
        scratch
            .rename("journal/1", "journal/1.damaged")
            .expect("moved");
        assert!(scratch.open("journal/1").is_err());
        let (_, writes) = scratch.open("journal/1.damaged").expect("opened");
        assert!(!writes);
        scratch.remove("journal/2");
        assert_eq!(scratch.list("journal").expect("listed"), ["1.damaged", "3"]);
        scratch.remove("journal/3");
        assert_eq!(scratch.list("journal").expect("listed"), ["1.damaged"]);
        let folder = scratch.folder.clone();
        drop(scratch);
        assert!(!folder.exists());
        assert_eq!(fs::read(root.join("journal/1")).expect("there"), b"one");
        assert_eq!(fs::read(root.join("journal/2")).expect("there"), b"two");
        fs::remove_dir_all(root).expect("removed");
    }
}
