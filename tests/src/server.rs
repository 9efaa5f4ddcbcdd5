//! Servers under test: the real binary on free loopback ports with a folder of its own, ended by
//! its process id and never by name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::packages::{reference_binary, skip};
use crate::raw::RawClient;

/// How long a server may take to get ready, or to end after it was asked to.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The project's target folder.
#[must_use]
pub fn target_folder() -> PathBuf {
    // target/<profile>/deps/<test binary>
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(3).unwrap().to_path_buf()
}

/// The `millrace` binary of this build, brought up to date first.
#[must_use]
pub fn millrace_binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY
        .get_or_init(|| {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let built = Command::new(cargo)
                .args(["build", "--quiet", "--package", "millrace"])
                .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
                .env("CARGO_TARGET_DIR", target_folder())
                .status()
                .unwrap();
            assert!(built.success(), "millrace does not build");
            target_folder().join("debug/millrace")
        })
        .clone()
}

/// A fresh folder below the target folder; removed by whoever made it.
#[must_use]
pub fn fresh_folder(name: &str) -> PathBuf {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = target_folder()
        .join("test-data")
        .join(format!("{name}-{}-{number}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Looks at a condition until it holds; panics with `what` after [`PATIENCE`].
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "gave up waiting: {what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// How a server is to be started.
pub struct ServerBuilder {
    binary: PathBuf,
    arguments: Vec<String>,
    config: Option<String>,
    folder: Option<PathBuf>,
    jetstream: bool,
    http: bool,
}

impl ServerBuilder {
    #[must_use]
    pub fn millrace() -> Self {
        Self::binary(millrace_binary())
    }

    /// The reference, if it is there, and ours.
    #[must_use]
    pub fn both() -> Vec<Self> {
        let reference = reference_binary().map(Self::binary);
        reference.into_iter().chain([Self::millrace()]).collect()
    }

    #[must_use]
    pub fn binary(binary: PathBuf) -> Self {
        Self {
            binary,
            arguments: Vec::new(),
            config: None,
            folder: None,
            jetstream: false,
            http: true,
        }
    }

    /// Runs with JetStream, its data in the server's folder.
    #[must_use]
    pub fn jetstream(mut self) -> Self {
        self.jetstream = true;
        self
    }

    /// Without monitoring over plain HTTP: the configuration says how it is to be had.
    #[must_use]
    pub const fn no_http(mut self) -> Self {
        self.http = false;
        self
    }

    /// The text of a configuration file; the listener comes from flags.
    #[must_use]
    pub fn config(mut self, text: &str) -> Self {
        self.config = Some(text.to_owned());
        self
    }

    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Uses (and keeps) the folder of an earlier server, with the data in it.
    #[must_use]
    pub fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_path_buf());
        self
    }

    /// Starts the server and waits until its listeners are up.
    #[must_use]
    pub fn start(self) -> Server {
        let keeps_folder = self.folder.is_some();
        let folder = self.folder.unwrap_or_else(|| fresh_folder("server"));
        let mut command = Command::new(&self.binary);
        command
            .args(["-a", "127.0.0.1", "-p", "-1", "--ports_file_dir"])
            .arg(&folder);
        if self.http {
            command.args(["-m", "-1"]);
        }
        if let Some(text) = &self.config {
            let path = folder.join("server.conf");
            fs::write(&path, text).unwrap();
            command.arg("-c").arg(path);
        }
        if self.jetstream {
            command.args(["-js", "-sd"]).arg(folder.join("store"));
        }
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(folder.join("log"))
            .unwrap();
        let child = command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Server {
            child,
            folder,
            keeps_folder,
            address: String::new(),
            monitor: String::new(),
        };
        server.read_ports();
        server
    }
}

/// A running server. Dropping it kills the process and removes its folder.
pub struct Server {
    child: Child,
    folder: PathBuf,
    keeps_folder: bool,
    /// `host:port` of the client listener.
    pub address: String,
    /// `http://host:port` of monitoring.
    pub monitor: String,
}

impl Server {
    /// Millrace with JetStream and otherwise defaults.
    #[must_use]
    pub fn jetstream() -> Self {
        ServerBuilder::millrace().jetstream().start()
    }

    /// The reference and ours with the same configuration; `None`, and `test` is said to be skipped,
    /// without the reference.
    #[must_use]
    pub fn pair(test: &str, config: &str) -> Option<[Self; 2]> {
        let Some(reference) = reference_binary() else {
            skip(test, "the reference binary is not to be had");
            return None;
        };
        let builders = [ServerBuilder::binary(reference), ServerBuilder::millrace()];
        Some(builders.map(|builder| builder.config(config).start()))
    }

    fn read_ports(&mut self) {
        let suffix = format!("_{}.ports", self.child.id());
        let folder = self.folder.clone();
        let child = &mut self.child;
        let ports = wait_for("ports file", || {
            if let Some(status) = child.try_wait().unwrap() {
                let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
                panic!("the server ended at start: {status}\n{log}");
            }
            let entry = fs::read_dir(&folder)
                .unwrap()
                .flatten()
                .find(|entry| entry.file_name().to_string_lossy().ends_with(&suffix))?;
            let text = fs::read_to_string(entry.path()).ok()?;
            serde_json::from_str::<serde_json::Value>(&text).ok()
        });
        let first = |kind: &str| ports[kind][0].as_str().unwrap_or_default().to_owned();
        self.address = first("nats")
            .split("://")
            .nth(1)
            .unwrap_or_default()
            .to_owned();
        self.monitor = first("monitoring");
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// All files below its folder.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        all_files(self.folder(), &mut files);
        files
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// A raw connection that has read INFO and nothing else.
    #[must_use]
    pub fn connect(&self) -> RawClient {
        RawClient::connect(&self.address)
    }

    /// Ends the process at once, as a power cut of the process would.
    pub fn kill(&mut self) {
        // It may have been ended before.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Ends the process at once and lets this time pass without it.
    pub fn kill_and_stay(&mut self, away: Duration) {
        self.kill();
        std::thread::sleep(away);
    }

    /// Sends a signal by name (`TERM`, `INT`, `HUP`, `USR1`, `USR2`).
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status();
        assert!(status.unwrap().success(), "kill -{name}");
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the server to end", || self.child.try_wait().unwrap())
    }

    /// Kills the server and starts it again on the same data with `builder`'s settings.
    #[must_use]
    pub fn restart(mut self, builder: ServerBuilder) -> Self {
        self.kill();
        let kept = std::mem::replace(&mut self.keeps_folder, true);
        let mut next = builder.folder(&self.folder).start();
        next.keeps_folder = kept;
        next
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !self.keeps_folder && !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn all_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all_files(&path, files);
        } else {
            files.push(path);
        }
    }
}
