//! Every chore of the project behind one command: `cargo xtask <chore>`.

mod bench_guard;
mod ci;
mod compat;
mod config_doc;
mod errors_gen;
mod named;
mod sim;
mod source;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask <chore>

  ci       everything CI runs: fmt, clippy, tidy, tests, compatibility table
  tidy     the rules of the house: dependency arrows, purity, sizes
  compat   write docs/compatibility.md from docs/features.tsv, and docs/configuration.md
           --check [--log FILE]   fail if it is stale, or if a `yes` has no test that ran
  config-doc   write docs/configuration.md from the tables of keys in crates/config
  bench-guard [--bless]   count the instructions of the hot paths and compare with the figures in
           xtask/bench-guard.tsv; --bless writes them anew
  sim [journal|node|flips] [--seed N] [--count M] [--seconds S]   run seeds of the simulator
  sim fresh   run seeds that nobody has seen yet, for about a minute
  errors-gen LIST   write the table of JetStream API errors from a tab-separated list
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = project_root();
    let result = match words.as_slice() {
        ["ci"] => ci::run(&root),
        ["tidy"] => tidy::run(&root),
        ["compat"] => compat::write(&root).and_then(|()| config_doc::write(&root)),
        ["config-doc"] => config_doc::write(&root),
        ["compat", "--check"] => compat::check(&root, None),
        ["compat", "--check", "--log", log] => compat::check(&root, Some(Path::new(log))),
        ["bench-guard"] => bench_guard::run(&root),
        ["bench-guard", "--bless"] => bench_guard::bless(&root),
        ["sim", "fresh"] => sim::fresh(&root),
        ["sim", words @ ..] => sim::run(&root, words),
        ["errors-gen", list] => errors_gen::run(&root, Path::new(list)),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn project_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(PathBuf::new, Path::to_path_buf)
}
