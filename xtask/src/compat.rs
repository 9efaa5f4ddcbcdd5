//! `docs/compatibility.md` from `docs/features.tsv`, and the proof behind every `yes`: a test that
//! carries the feature's id in a `proves:` comment and ran, not ignored, in the same test run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::source::{collect, rust_files};

/// One row of the data file: id, importance, answer, description, note.
struct Feature {
    id: String,
    importance: String,
    answer: String,
    description: String,
    note: String,
}

pub(crate) fn write(root: &Path) -> Result<(), String> {
    let text = render(&features(root)?);
    fs::write(root.join("docs/compatibility.md"), text).map_err(|error| error.to_string())
}

/// Fails when the document is stale or a `yes` is not proven. Without a log of the test run only
/// the presence of a test is checked.
pub(crate) fn check(root: &Path, log: Option<&Path>) -> Result<(), String> {
    let features = features(root)?;
    let written = fs::read_to_string(root.join("docs/compatibility.md")).unwrap_or_default();
    let mut problems = Vec::new();
    if written != render(&features) {
        problems.push("docs/compatibility.md is stale: cargo xtask compat".to_owned());
    }
    let proofs = proofs(root)?;
    let known: BTreeSet<&str> = features.iter().map(|feature| feature.id.as_str()).collect();
    for id in proofs.keys().filter(|id| !known.contains(id.as_str())) {
        problems.push(format!("a test claims to prove {id}, which is no feature"));
    }
    let passed = match log {
        Some(log) => Some(passed_tests(
            &fs::read_to_string(log).map_err(|error| error.to_string())?,
        )),
        None => None,
    };
    for feature in features.iter().filter(|feature| feature.answer == "yes") {
        let tests = proofs
            .get(&feature.id)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let proven = tests
            .iter()
            .any(|test| passed.as_ref().is_none_or(|passed| passed.contains(test)));
        if !proven {
            problems.push(format!(
                "{}: says yes, but none of its tests {tests:?} ran and passed",
                feature.id
            ));
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join("\n"))
    }
}

fn features(root: &Path) -> Result<Vec<Feature>, String> {
    let text = fs::read_to_string(root.join("docs/features.tsv"))
        .map_err(|error| format!("docs/features.tsv: {error}"))?;
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [id, importance, answer, description, rest @ ..] = fields.as_slice() else {
                return Err(format!("docs/features.tsv: {line}"));
            };
            if !["yes", "partly", "no"].contains(answer) {
                return Err(format!("docs/features.tsv: {id}: answer {answer:?}"));
            }
            Ok(Feature {
                id: (*id).to_owned(),
                importance: (*importance).to_owned(),
                answer: (*answer).to_owned(),
                description: (*description).to_owned(),
                note: rest.first().copied().unwrap_or_default().to_owned(),
            })
        })
        .collect()
}

fn render(features: &[Feature]) -> String {
    let mut text = String::from(
        "# Compatibility with nats-server 2.15\n\n\
         Generated from `docs/features.tsv` by `cargo xtask compat`; do not edit. A `yes` is proven by a test\n\
         that names the feature and ran in CI. Deliberate differences stand in the notes.\n\n",
    );
    let count = |answer: &str| {
        features
            .iter()
            .filter(|feature| feature.answer == answer)
            .count()
    };
    let _ = writeln!(
        text,
        "{} features: {} yes, {} partly, {} no.\n",
        features.len(),
        count("yes"),
        count("partly"),
        count("no")
    );
    text.push_str("| id | feature | importance | works | note |\n|---|---|---|---|---|\n");
    for feature in features {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            feature.id,
            feature.description.replace('|', "\\|"),
            feature.importance,
            feature.answer,
            feature.note.replace('|', "\\|")
        );
    }
    text
}

/// Feature id -> names of the tests that claim to prove it.
fn proofs(root: &Path) -> Result<BTreeMap<String, Vec<String>>, String> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in rust_files(root)? {
        let mut ids: Vec<String> = Vec::new();
        for line in file.text.lines().map(str::trim) {
            if let Some(list) = line.strip_prefix("// proves:") {
                ids.extend(ids_of(list));
            } else if !ids.is_empty()
                && let Some(name) = function_name(line)
            {
                for id in ids.drain(..) {
                    found.entry(id).or_default().push(name.to_owned());
                }
            }
        }
    }
    // Corpus scripts are run one by one under their file names.
    let mut scripts = Vec::new();
    collect(&root.join("tests/corpus"), "txt", &mut scripts)?;
    for path in scripts {
        let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
        let name = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        for list in text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("# proves:"))
        {
            for id in ids_of(list) {
                found.entry(id).or_default().push(name.clone());
            }
        }
    }
    Ok(found)
}

fn ids_of(list: &str) -> impl Iterator<Item = String> + '_ {
    list.split([',', ' '])
        .map(str::trim)
        .filter(|id| !id.is_empty())
        .map(str::to_owned)
}

fn function_name(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("pub ").unwrap_or(line);
    let rest = rest.strip_prefix("async ").unwrap_or(rest);
    let name = rest.strip_prefix("fn ")?;
    name.split(['(', '<']).next()
}

/// Last path segments of all tests that the log reports as passed.
fn passed_tests(log: &str) -> BTreeSet<String> {
    log.lines()
        .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... ok"))
        .map(|name| name.rsplit("::").next().unwrap_or(name).trim().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tests_that_ran_and_passed_count() {
        let log = "test a::b::good ... ok\ntest bad ... FAILED\ntest skipped ... ignored\n";
        assert_eq!(passed_tests(log), BTreeSet::from(["good".to_owned()]));
    }

    #[test]
    fn names_are_found_behind_attributes() {
        assert_eq!(function_name("fn it_works() {"), Some("it_works"));
        assert_eq!(function_name("#[test]"), None);
    }
}
