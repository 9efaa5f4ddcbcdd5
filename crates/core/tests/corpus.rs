//! The corpus of raw protocol scripts (`tests/corpus`), played against the broker alone. The
//! expected answers were recorded from the reference; `tests/tests/differential.rs` plays the same
//! scripts against real processes.

mod support;

#[path = "../../../tests/src/corpus.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the black-box tests")]
mod corpus;

use std::fmt::Write as _;
use std::path::Path;

use corpus::{Script, Step};
use millrace_config::Options;
use support::Bench;

fn options(script: &Script) -> Options {
    if script.config.is_empty() {
        return Options::default();
    }
    let load = |name: &str| Err(format!("no file {name}"));
    let parsed = millrace_config::parse(&script.config, "script.conf", &load, &|_| None);
    parsed
        .unwrap_or_else(|error| panic!("{}: {error}", script.name))
        .0
}

/// Plays one script; with `piece` the bytes arrive in pieces of so many.
fn play(script: &Script, piece: usize) -> String {
    let mut bench = Bench::new(options(script));
    let mut differences = String::new();
    let mut replies = std::collections::BTreeMap::new();
    for step in &script.steps {
        match step {
            Step::Comment(_) => {}
            Step::Open { name, keeps_info } => {
                bench.open(name);
                if !keeps_info {
                    bench.drop_line(name);
                }
            }
            Step::Send { name, bytes, .. } => {
                let of = |name: &str| replies.get(name).cloned().unwrap_or_default();
                corpus::fill(bytes, of)
                    .chunks(piece)
                    .for_each(|bytes| bench.send(name, bytes));
            }
            Step::Wait { milliseconds } => (0..*milliseconds / 10).for_each(|_| bench.pass_ms(10)),
            Step::Close { name } => bench.close(name),
            Step::Read {
                name,
                expected,
                is_closed,
            } => {
                let (got, closed) = bench.take_bytes(name);
                if let Some(reply) = corpus::last_reply(&got) {
                    replies.insert(name.clone(), reply);
                }
                let got = corpus::normalise(&got);
                if got != *expected || closed != *is_closed {
                    let _ = writeln!(
                        differences,
                        "{} ({name}):\n  expected {} {is_closed}\n  got      {} {closed}",
                        script.name,
                        expected.escape_ascii(),
                        got.escape_ascii(),
                    );
                }
            }
        }
    }
    differences
}

fn play_all(piece: usize) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the corpus")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    let mut differences = String::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a script file");
        for script in corpus::parse(&text).expect("well-formed scripts") {
            differences.push_str(&play(&script, piece));
        }
    }
    differences
}

#[test]
fn the_broker_answers_as_the_reference_does() {
    let differences = play_all(usize::MAX);
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn answers_do_not_depend_on_how_the_bytes_arrive() {
    for piece in [1, 3, 17] {
        let differences = play_all(piece);
        assert!(differences.is_empty(), "pieces of {piece}:\n{differences}");
    }
}
