//! Every error of the JetStream API that a client can provoke is provoked by one of the tables that are
//! played against both servers; for all others `tests/tables/errors_not_provoked.txt` says why not.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const FIRST_CODE: u16 = 10_002;
const NOT_PROVOKED: &str = "tables/errors_not_provoked.txt";
const REASONS: [&str; 4] = ["unused", "shadowed", "cluster", "inside"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The codes in a line of a table that holds an answer: `"err_code":10059` or `< 404 10059 text`.
fn codes_of(line: &str) -> impl Iterator<Item = u16> {
    let plain = line.strip_prefix("< ").and_then(|rest| rest.get(4..9));
    line.split("err_code")
        .skip(1)
        .map(|rest| rest.trim_start_matches(['\\', '"', ':', ' ']))
        .filter_map(|rest| rest.get(..5))
        .chain(plain)
        .filter_map(|digits| digits.parse().ok())
        .filter(|code| *code >= FIRST_CODE)
        .collect::<Vec<u16>>()
        .into_iter()
}

fn provoked() -> BTreeSet<u16> {
    let folders = [root().join("tables"), root().join("jetstream")];
    let files = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path());
    let mut found = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        found.extend(text.lines().flat_map(codes_of));
    }
    found
}

/// The whole table, as the server has it.
fn all() -> BTreeSet<u16> {
    let path = root().join("../crates/jetstream/src/error/table.rs");
    let text = std::fs::read_to_string(path).unwrap();
    let codes = text
        .lines()
        .filter_map(|line| line.trim().strip_suffix(',')?.rsplit_once(" = "))
        .filter_map(|(_, digits)| digits.parse().ok());
    codes.collect()
}

fn explained() -> BTreeSet<u16> {
    let text = std::fs::read_to_string(root().join(NOT_PROVOKED)).unwrap();
    let mut codes = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (code, reason) = line.split_once(' ').unwrap();
        let (kind, detail) = reason.split_once(' ').unwrap_or((reason, ""));
        assert!(REASONS.contains(&kind), "{line}: no such reason");
        if let Some((_, test)) = detail.split_once("by ") {
            assert!(Path::new(&root().join("..").join(test)).exists(), "{line}");
        }
        assert!(codes.insert(code.parse().unwrap()), "{line}: stands twice");
    }
    codes
}

#[test]
fn every_error_is_provoked_or_explained() {
    let (all, provoked, explained) = (all(), provoked(), explained());
    assert!(all.len() > 200, "the table was not read: {}", all.len());
    let missing: Vec<_> = all
        .iter()
        .filter(|code| !provoked.contains(code) && !explained.contains(code))
        .collect();
    assert!(
        missing.is_empty(),
        "neither provoked nor explained: {missing:?}"
    );
    let both: Vec<_> = explained.intersection(&provoked).collect();
    assert!(both.is_empty(), "provoked, and said not to be: {both:?}");
    let unknown: Vec<_> = explained.difference(&all).collect();
    assert!(unknown.is_empty(), "not in the table: {unknown:?}");
}
