//! The rules of the house as checks: which room may lean on which, what a pure room may not
//! touch, how long a file or a function may be, and that ARCHITECTURE.md names what there is
//! (`named.rs`). Exceptions stand in `xtask/tidy-exceptions.txt`
//! with their present size; the list only shrinks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::spanned::Spanned;
use syn::visit::Visit;

use crate::named;
use crate::source::{Source, rust_files};

/// Longest file in lines.
const FILE_LINES_MAX: usize = 800;
/// Longest function in lines, from its signature to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// Pure rooms and the rooms each may lean on (DESIGN: the house).
const PURE: [(&str, &[&str]); 11] = [
    ("clock", &[]),
    ("subject", &["clock"]),
    ("wire", &["subject", "clock"]),
    ("archive", &[]),
    ("config", &["subject", "clock"]),
    ("auth", &["subject", "config", "wire", "clock"]),
    ("store", &["subject", "clock"]),
    ("core", &["subject", "wire", "config", "auth", "clock"]),
    (
        "jetstream",
        &["subject", "wire", "store", "archive", "clock"],
    ),
    ("replica", &["clock"]),
    (
        "node",
        &[
            "subject",
            "wire",
            "config",
            "auth",
            "store",
            "core",
            "jetstream",
            "replica",
            "archive",
            "clock",
        ],
    ),
];

/// Libraries that no pure room may depend on.
const IMPURE_LIBRARIES: [&str; 9] = [
    "tokio",
    "mio",
    "rustls",
    "hyper",
    "rand",
    "getrandom",
    "rustix",
    "socket2",
    "signal-hook",
];

/// What pure code may not name, and what to do instead.
const IMPURE_NAMES: [(&str, &str); 12] = [
    ("std::net", "addresses come in as text or numbers"),
    ("std::fs", "ask for a DiskOperation"),
    ("std::thread", "only host starts threads"),
    ("std::process", "only host knows processes"),
    ("std::env", "the environment is an input"),
    ("Instant::now", "time is an input: millrace_clock::Now"),
    ("SystemTime", "time is an input: millrace_clock::Now"),
    ("thread_rng", "chance is an input: millrace_clock::Random"),
    (
        "collections::HashMap",
        "its order leaks: BTreeMap or FxHashMap",
    ),
    (
        "collections::HashSet",
        "its order leaks: BTreeSet or FxHashSet",
    ),
    ("RandomState", "its order leaks"),
    ("thread_local!", "state belongs to its owner"),
];

/// Modules that may hold `unsafe`, each with its proof inside.
const UNSAFE_MODULES: [&str; 0] = [];

pub(crate) fn run(root: &Path) -> Result<(), String> {
    let mut problems = Vec::new();
    arrows(root, &mut problems)?;
    let files = rust_files(root)?;
    for file in &files {
        purity(file, &mut problems);
        manners(file, &mut problems);
    }
    sizes(root, &files, &mut problems)?;
    named::check(root, &mut problems)?;
    if problems.is_empty() {
        println!("tidy: {} files, all in order", files.len());
        return Ok(());
    }
    problems.sort();
    Err(format!(
        "{}\ntidy: {} problems",
        problems.join("\n"),
        problems.len()
    ))
}

/// Reads the `[dependencies]` of every pure room.
fn arrows(root: &Path, problems: &mut Vec<String>) -> Result<(), String> {
    for (room, allowed) in PURE {
        let path = format!("crates/{room}/Cargo.toml");
        let manifest =
            fs::read_to_string(root.join(&path)).map_err(|error| format!("{path}: {error}"))?;
        for dependency in dependencies(&manifest) {
            if let Some(other) = dependency.strip_prefix("millrace-") {
                if !allowed.contains(&other) {
                    problems.push(format!("{path}: {room} must not lean on {other}"));
                }
            } else if IMPURE_LIBRARIES.contains(&dependency.as_str()) {
                problems.push(format!(
                    "{path}: {room} is pure and must not use {dependency}"
                ));
            }
        }
    }
    Ok(())
}

fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            names.push(name.to_owned());
        }
    }
    names
}

fn purity(file: &Source, problems: &mut Vec<String>) {
    let pure = PURE
        .iter()
        .any(|(room, _)| file.path.starts_with(&format!("crates/{room}/src/")));
    if !pure {
        return;
    }
    for (number, line) in file.text.lines().enumerate() {
        if number + 1 >= file.tests_begin() {
            break;
        }
        let code = line.split("//").next().unwrap_or_default();
        for (name, advice) in IMPURE_NAMES {
            if code.contains(name) {
                problems.push(format!(
                    "{}:{}: {name} in a pure room: {advice}",
                    file.path,
                    number + 1
                ));
            }
        }
    }
}

fn manners(file: &Source, problems: &mut Vec<String>) {
    if !file.text.starts_with("//!") && !file.text.starts_with("#!") {
        problems.push(format!(
            "{}:1: says nowhere what it is for (begin with `//!`)",
            file.path
        ));
    }
    let judged = file.path != "xtask/src/tidy.rs";
    for (number, line) in file.text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if judged && code.contains("unsafe ") && !UNSAFE_MODULES.contains(&file.path.as_str()) {
            problems.push(format!(
                "{}:{}: unsafe outside the named modules",
                file.path,
                number + 1
            ));
        }
        if judged && (code.contains("#[ignore") || line.contains("crates.io/api")) {
            problems.push(format!(
                "{}:{}: ignored test or registry address",
                file.path,
                number + 1
            ));
        }
    }
}

/// Compares every file and function with its limit or its exception.
fn sizes(root: &Path, files: &[Source], problems: &mut Vec<String>) -> Result<(), String> {
    let mut exceptions = exceptions(root)?;
    let mut unused: BTreeSet<String> = exceptions.keys().cloned().collect();
    let mut judge = |name: String, lines: usize, limit: usize, problems: &mut Vec<String>| {
        if lines <= limit {
            return;
        }
        unused.remove(&name);
        match exceptions.remove(&name) {
            Some(allowed) if lines <= allowed => {}
            Some(allowed) => problems.push(format!(
                "{name}: {lines} lines, its exception says {allowed}"
            )),
            None => problems.push(format!("{name}: {lines} lines, at most {limit}")),
        }
    };
    for file in files {
        judge(
            file.path.clone(),
            file.text.lines().count(),
            FILE_LINES_MAX,
            problems,
        );
        let parsed =
            syn::parse_file(&file.text).map_err(|error| format!("{}: {error}", file.path))?;
        let mut functions = Functions::default();
        functions.visit_file(&parsed);
        for (name, lines) in functions.found {
            judge(
                format!("{}::{name}", file.path),
                lines,
                FUNCTION_LINES_MAX,
                problems,
            );
        }
    }
    for name in unused {
        problems.push(format!(
            "xtask/tidy-exceptions.txt: {name} needs no exception any more"
        ));
    }
    Ok(())
}

/// Lines `path[::function] lines`.
fn exceptions(root: &Path) -> Result<BTreeMap<String, usize>, String> {
    let text = fs::read_to_string(root.join("xtask/tidy-exceptions.txt")).unwrap_or_default();
    let mut found = BTreeMap::new();
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (name, lines) = line
            .split_once(' ')
            .ok_or_else(|| format!("tidy-exceptions.txt: {line}"))?;
        let lines = lines
            .trim()
            .parse()
            .map_err(|_| format!("tidy-exceptions.txt: {line}"))?;
        found.insert(name.to_owned(), lines);
    }
    Ok(found)
}

/// Longest function of each name in a file.
#[derive(Default)]
struct Functions {
    found: BTreeMap<String, usize>,
}

impl Functions {
    fn note(&mut self, signature: &syn::Signature, whole: proc_macro2::Span) {
        let lines = whole.end().line + 1 - signature.span().start().line;
        let longest = self.found.entry(signature.ident.to_string()).or_default();
        *longest = lines.max(*longest);
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.note(&item.sig, item.block.span());
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.note(&item.sig, item.block.span());
        syn::visit::visit_impl_item_fn(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_in_order() {
        run(&crate::project_root()).unwrap();
    }

    #[test]
    fn a_forbidden_arrow_and_an_impure_library_are_found() {
        let found = dependencies(
            "[dependencies]\nmillrace-core.workspace = true\ntokio = \"1\"\n[lints]\nx = 1\n",
        );
        assert_eq!(found, ["millrace-core", "tokio"]);
    }

    #[test]
    fn a_clock_in_a_pure_room_is_found_but_not_in_its_tests() {
        let mut problems = Vec::new();
        let source = |text: &str| Source {
            path: "crates/core/src/x.rs".to_owned(),
            text: text.to_owned(),
        };
        purity(
            &source("//! X.\nfn f() { std::time::Instant::now(); }\n"),
            &mut problems,
        );
        assert_eq!(problems.len(), 1);
        purity(
            &source("//! X.\n#[cfg(test)]\nmod tests { use std::fs; }\n"),
            &mut problems,
        );
        purity(
            &source("//! X.\n// std::fs is not used here\n"),
            &mut problems,
        );
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn function_lengths_are_counted_from_the_signature() {
        let file =
            syn::parse_file("/// Doc.\nfn long() {\n\n\n}\nimpl X { fn short() {} }\n").unwrap();
        let mut functions = Functions::default();
        functions.visit_file(&file);
        assert_eq!(functions.found["long"], 4);
        assert_eq!(functions.found["short"], 1);
    }
}
