//! Runs the simulator's seeds; the simulator itself is `crates/sim`.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// What one workload's fresh seeds may take in CI.
const FRESH_SECONDS: [(&str, u64); 2] = [("journal", 10), ("node", 50)];
/// Fresh seeds begin at a multiple of this, so that two runs rarely share one; the tests' fixed
/// seeds are far below it.
const FRESH_STRIDE: u64 = 1_000_000;
/// More than can be run in the time.
const FRESH_MAX: u64 = FRESH_STRIDE;

/// Passes the words after `sim` on to the simulator, built as `cargo` is told in `build`.
fn simulate(root: &Path, build: &[&str], words: &[&str]) -> Result<(), String> {
    let status = Command::new("cargo")
        .args(["run", "--quiet", "--locked"])
        .args(build)
        .args(["--package", "millrace-sim", "--bin", "sim", "--"])
        .args(words)
        .current_dir(root)
        .status()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err("the simulator found something".to_owned())
    }
}

/// Passes the words after `sim` on to the simulator.
pub(crate) fn run(root: &Path, words: &[&str]) -> Result<(), String> {
    simulate(root, &[], words)
}

/// Seeds that no run has seen yet, for about a minute, beside the fixed ones of the tests. Built in
/// the profile of `bench-guard`, which has compiled the rooms already.
pub(crate) fn fresh(root: &Path) -> Result<(), String> {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = time.map_err(|error| error.to_string())?.as_secs();
    let seed = (seconds * FRESH_STRIDE).to_string();
    for (workload, seconds) in FRESH_SECONDS {
        let (count, seconds) = (FRESH_MAX.to_string(), seconds.to_string());
        let words = [
            workload,
            "--seed",
            &seed,
            "--count",
            &count,
            "--seconds",
            &seconds,
        ];
        simulate(root, &["--profile", "guard"], &words)?;
    }
    Ok(())
}
