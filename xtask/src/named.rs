//! Keeps true what ARCHITECTURE.md names: every path in backticks exists, and every function named
//! behind a file (`crates/x/src/y.rs::function`) is defined there.

use std::fs;
use std::path::Path;

use crate::source::SOURCE_FOLDERS;

const DOCUMENT: &str = "ARCHITECTURE.md";

pub(crate) fn check(root: &Path, problems: &mut Vec<String>) -> Result<(), String> {
    let text =
        fs::read_to_string(root.join(DOCUMENT)).map_err(|error| format!("{DOCUMENT}: {error}"))?;
    for (line, name) in names(&text) {
        if let Some(problem) = problem(root, name) {
            problems.push(format!("{DOCUMENT}:{line}: `{name}`: {problem}"));
        }
    }
    Ok(())
}

/// All that stands in backticks and begins with a folder of ours, with its line number.
fn names(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let quoted = line.split('`').skip(1).step_by(2);
        let ours = quoted.filter(|name| {
            let mut parts = name.split('/');
            let folder = parts.next().unwrap_or_default();
            parts.next().is_some() && (SOURCE_FOLDERS.contains(&folder) || folder == "docs")
        });
        found.extend(ours.map(|name| (number + 1, name)));
    }
    found
}

fn problem(root: &Path, name: &str) -> Option<String> {
    let (path, function) = match name.split_once("::") {
        Some((path, function)) => (path, Some(function)),
        None => (name, None),
    };
    if !root.join(path).exists() {
        return Some("does not exist".to_owned());
    }
    let function = function?;
    let text = fs::read_to_string(root.join(path)).unwrap_or_default();
    (!defines(&text, function)).then(|| format!("{path} has no function {function}"))
}

fn defines(text: &str, function: &str) -> bool {
    text.split("fn ").skip(1).any(|rest| {
        rest.strip_prefix(function)
            .is_some_and(|rest| rest.starts_with(['(', '<']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_functions_are_found_and_missing_ones_reported() {
        let text =
            "see `xtask/src/named.rs::problem`, `cargo x`, `raft` and `crates/no/src/a.rs`\n";
        let found = names(text);
        assert_eq!(
            found,
            [
                (1, "xtask/src/named.rs::problem"),
                (1, "crates/no/src/a.rs")
            ]
        );
        let root = crate::project_root();
        assert_eq!(problem(&root, found[0].1), None);
        assert!(problem(&root, found[1].1).is_some());
        assert!(problem(&root, "xtask/src/named.rs::proble").is_some());
    }
}
