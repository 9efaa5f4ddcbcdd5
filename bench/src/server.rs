//! A server under test: started on free loopback ports with a data folder of its own, and ended by
//! its process id.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take to get ready.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Clock ticks per second of the kernel's process statistics (`USER_HZ`, fixed on Linux).
const TICKS_PER_SECOND: f64 = 100.0;

static STARTED: AtomicU32 = AtomicU32::new(0);

/// A running server; stopped and its data removed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    folder: PathBuf,
}

impl Server {
    pub(crate) fn start(binary: &Path, data: &Path) -> Result<Self, String> {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = data.join(format!("{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let folder = folder.canonicalize().map_err(|error| error.to_string())?;
        let log = fs::File::create(folder.join("log")).map_err(|error| error.to_string())?;
        let child = Command::new(binary)
            .args(["-a", "127.0.0.1", "-p", "-1", "-js", "-sd"])
            .arg(folder.join("store"))
            .arg("--ports_file_dir")
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", binary.display()))?;
        let mut server = Self {
            child,
            address: String::new(),
            folder,
        };
        server.address = server.wait_for_address()?;
        Ok(server)
    }

    fn wait_for_address(&mut self) -> Result<String, String> {
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(address) = self.ports_file().as_deref().and_then(client_address) {
                return Ok(address);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the server ended at start: {status}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err("the server wrote no ports file".to_owned())
    }

    fn ports_file(&self) -> Option<String> {
        let suffix = format!("_{}.ports", self.child.id());
        fs::read_dir(&self.folder)
            .ok()?
            .flatten()
            .find_map(|entry| {
                let is_ours = entry.file_name().to_string_lossy().ends_with(&suffix);
                is_ours
                    .then(|| fs::read_to_string(entry.path()).ok())
                    .flatten()
            })
    }

    /// Processor time that the server has used so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let text =
            fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let after_name = text.rsplit(')').next().unwrap_or_default();
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let ticks = |index: usize| {
            fields
                .get(index)
                .and_then(|field| field.parse::<f64>().ok())
                .unwrap_or(0.0)
        };
        (ticks(11) + ticks(12)) / TICKS_PER_SECOND
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    pub(crate) fn peak_memory_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|kib| kib.parse::<u64>().ok())
            .map_or(0, |kib| kib * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ending and cleaning up: there is nobody left to tell about a failure.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The first client address in a ports file.
fn client_address(ports: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(ports).ok()?;
    let url = value.get("nats")?.get(0)?.as_str()?;
    url.strip_prefix("nats://").map(str::to_owned)
}
