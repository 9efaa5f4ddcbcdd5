//! A real browser for tests: Chromium from the system (or `MILLRACE_CHROMIUM`), driven from Node by
//! puppeteer-core, which is fetched as a package. Where one of them is missing it is said loudly.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::packages::{make_node_folder, skip};
use crate::server::target_folder;

const PACKAGES: [&str; 3] = [
    "puppeteer-core@24.43.1",
    "esbuild@0.25.12",
    "@nats-io/nats-core@3.4.0",
];
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];
/// Names another browser.
const VARIABLE: &str = "MILLRACE_CHROMIUM";

/// What a script of `tests/browser` needs.
pub struct Browser {
    executable: PathBuf,
    packages: PathBuf,
}

/// The browser, or `None` where there is none (said on standard error).
#[must_use]
pub fn browser() -> Option<&'static Browser> {
    static BROWSER: OnceLock<Option<Browser>> = OnceLock::new();
    BROWSER
        .get_or_init(|| match find() {
            Ok(browser) => Some(browser),
            Err(why) => {
                skip("tests in a browser", &why);
                None
            }
        })
        .as_ref()
}

impl Browser {
    /// Runs a script of `tests/browser` to its end; panics with what it wrote if it fails.
    pub fn run(&self, script: &str, arguments: &[&str]) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
        // Modules are looked for beside the script that imports them.
        let copy = self
            .packages
            .join(format!("{}-{script}", std::process::id()));
        std::fs::copy(folder.join(script), &copy).unwrap();
        let output = Command::new("node")
            .arg(&copy)
            .arg(&self.executable)
            .args(arguments)
            .current_dir(&self.packages)
            .output()
            .unwrap();
        std::fs::remove_file(copy).unwrap();
        assert!(
            output.status.success(),
            "{script} {arguments:?}\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

fn find() -> Result<Browser, String> {
    let executable = match std::env::var_os(VARIABLE) {
        Some(path) => PathBuf::from(path),
        None => on_path().ok_or("there is no Chromium (apt-get install chromium)")?,
    };
    let folder = target_folder().join("packages");
    let packages = make_node_folder(&folder, "browser", &PACKAGES)?;
    Ok(Browser {
        executable,
        packages,
    })
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let places = NAMES
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    places.into_iter().find(|place| place.is_file())
}
