//! Runs the simulator's seeds; the simulator itself is `crates/sim`.

use std::path::Path;
use std::process::Command;

/// Passes the words after `sim` on to the simulator.
pub(crate) fn run(root: &Path, words: &[&str]) -> Result<(), String> {
    let status = Command::new("cargo")
        .args([
            "run",
            "--quiet",
            "--package",
            "millrace-sim",
            "--bin",
            "sim",
            "--",
        ])
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
