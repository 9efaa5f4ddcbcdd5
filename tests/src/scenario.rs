//! Scenarios in the language of an official client, unmodified, against a server: a runner
//! (`tests/python/run.py`, `tests/node/run.mjs`) calls one function of a scenario file.

use std::path::Path;
use std::process::Command;

use crate::Server;
use crate::packages::{node, python, skip};

/// Runs `function` of `tests/python/<file>` against the server at `url`; says so where it cannot.
pub fn run_python(server: &Server, url: &str, file: &str, function: &str) {
    let Some(python) = python() else {
        skip(function, "no Python with the client library");
        return;
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    let mut command = Command::new(python);
    command
        .arg(folder.join("run.py"))
        .args([url.as_ref(), folder.join(file).as_os_str()])
        .arg(function);
    finish(server, command, file, function);
}

/// Runs `function` of `tests/node/<file>` against the server; says so where it cannot.
pub fn run_node(server: &Server, file: &str, function: &str) {
    let Some(packages) = node() else {
        skip(function, "no Node with the client library");
        return;
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
    let mut command = Command::new("node");
    command
        .arg(folder.join("run.mjs"))
        .args([server.url().as_ref(), folder.join(file).as_os_str()])
        .arg(function)
        // Modules are looked for beside the file that asks; ours asks with `require` from there.
        .env("CLIENT_PACKAGES", packages);
    finish(server, command, file, function);
}

fn finish(server: &Server, mut command: Command, file: &str, function: &str) {
    let output = command.output().expect("the scenario's language runs");
    assert!(
        output.status.success(),
        "{file} {function}\n{}{}\nserver log:\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        server.log()
    );
}
