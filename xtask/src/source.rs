//! The project's own files: which there are, and what is test code in them.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold Rust sources of ours.
pub(crate) const SOURCE_FOLDERS: [&str; 7] = [
    "crates", "millrace", "bench", "guard", "tests", "fuzz", "xtask",
];
/// Folders inside them that are not ours to judge.
const SKIPPED: [&str; 2] = ["target", "corpus"];

/// A Rust file: path relative to the root, and text.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// The line number (from 1) at which the file's own test module begins, if it has one.
    pub(crate) fn tests_begin(&self) -> usize {
        self.text
            .lines()
            .position(|line| line.trim() == "#[cfg(test)]")
            .map_or(usize::MAX, |position| position + 1)
    }
}

/// All Rust files, sorted by path.
pub(crate) fn rust_files(root: &Path) -> Result<Vec<Source>, String> {
    let mut paths = Vec::new();
    for folder in SOURCE_FOLDERS {
        collect(&root.join(folder), "rs", &mut paths)?;
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            let relative = path.strip_prefix(root).unwrap_or(&path);
            Ok(Source {
                path: relative.to_string_lossy().replace('\\', "/"),
                text,
            })
        })
        .collect()
}

/// All files with an extension below a folder; a missing folder has none.
pub(crate) fn collect(
    folder: &Path,
    extension: &str,
    into: &mut Vec<PathBuf>,
) -> Result<(), String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if path.is_dir() {
            if !SKIPPED.contains(&name.as_str()) || extension == "txt" {
                collect(&path, extension, into)?;
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            into.push(path);
        }
    }
    Ok(())
}
