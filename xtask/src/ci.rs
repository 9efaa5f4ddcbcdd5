//! What CI runs, in the order in which failures are cheapest to learn of.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{bench_guard, compat, config_doc, sim, tidy};

/// Where the output of the test run is kept for the compatibility check, below the target folder.
const TEST_LOG: &str = "target/ci/tests.log";

pub(crate) fn run(root: &Path) -> Result<(), String> {
    step(root, &["fmt", "--all", "--check"])?;
    println!("==> tidy");
    tidy::run(root)?;
    step(
        root,
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ],
    )?;
    tests(root)?;
    println!("==> compatibility table");
    compat::check(root, Some(&root.join(TEST_LOG)))?;
    println!("==> configuration reference");
    config_doc::check(root)?;
    println!("==> bench-guard");
    bench_guard::run(root)?;
    println!("==> fresh seeds of the simulator");
    // A seed that fails is a find, not a fault of the change at hand: it is printed with the command
    // that repeats it, and is an issue of its own. The fixed seeds are tests, and those must pass.
    if let Err(found) = sim::fresh(root) {
        println!("FRESH SEED FAILED, this run goes on: {found}");
    }
    Ok(())
}

fn step(root: &Path, arguments: &[&str]) -> Result<(), String> {
    println!("==> cargo {}", arguments.join(" "));
    let status = Command::new("cargo")
        .args(arguments)
        .current_dir(root)
        .status()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("cargo {} failed", arguments[0]))
    }
}

/// Runs all tests, passing their output on and keeping a copy.
fn tests(root: &Path) -> Result<(), String> {
    let log_path = root.join(TEST_LOG);
    if let Some(folder) = log_path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    }
    let mut log = File::create(&log_path).map_err(|error| error.to_string())?;
    println!("==> cargo test --workspace --locked --no-fail-fast");
    let mut child = Command::new("cargo")
        .args(["test", "--workspace", "--locked", "--no-fail-fast"])
        .current_dir(root)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    let output = child.stdout.take().ok_or("no output of cargo test")?;
    for line in BufReader::new(output).lines() {
        let line = line.map_err(|error| error.to_string())?;
        println!("{line}");
        writeln!(log, "{line}").map_err(|error| error.to_string())?;
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() {
        Ok(())
    } else {
        Err("tests failed".to_owned())
    }
}
