//! A server under test: started on free loopback ports with a data folder of its own and ended by
//! its process id; or one that runs already and is only spoken to.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::control::{Endpoint, text};
use crate::pin::{Pinning, Processors};

/// How long a server may take to get ready with an empty store, and to end when asked to.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// Clock ticks per second of the kernel's process statistics (`USER_HZ`, fixed on Linux).
const TICKS_PER_SECOND: f64 = 100.0;

static STARTED: AtomicU32 = AtomicU32::new(0);

/// Whose server it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Ours,
    Reference,
    /// The physical limit: see `relay`.
    Relay,
    /// A server that was there before, given by its URL.
    Remote,
}

/// When JetStream syncs what it writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Syncing {
    /// As each server does it by default: ours before every acknowledgement, the reference later.
    Shipped,
    /// Both before every acknowledgement.
    Always,
    /// Both later.
    Lazy,
}

impl Syncing {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Shipped => "shipped",
            Self::Always => "always",
            Self::Lazy => "lazy",
        }
    }

    fn line(self) -> &'static str {
        match self {
            Self::Shipped => "",
            Self::Always => "  sync_interval: always\n",
            // What the reference does when nothing is said.
            Self::Lazy => "  sync_interval: \"2m\"\n",
        }
    }
}

/// How to start a server.
#[derive(Clone)]
pub(crate) struct Launch<'a> {
    pub(crate) side: Side,
    pub(crate) binary: &'a Path,
    pub(crate) data: &'a Path,
    pub(crate) processors: &'a Processors,
    pub(crate) pinning: Pinning,
    pub(crate) syncing: Syncing,
}

/// A running server; stopped and its data removed when dropped.
pub(crate) struct Server {
    child: Option<Child>,
    binary: PathBuf,
    folder: Option<PathBuf>,
    pub(crate) side: Side,
    pub(crate) endpoint: Endpoint,
    /// `host:port` of the monitoring listener.
    pub(crate) monitoring: Option<String>,
    keeps_log: bool,
}

impl Server {
    pub(crate) fn start(launch: &Launch<'_>) -> Result<Self, String> {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = launch.data.join(format!("server-{number}"));
        fs::create_dir_all(&folder).map_err(text)?;
        let folder = folder.canonicalize().map_err(text)?;
        let mut server = Self {
            child: None,
            binary: launch.binary.to_path_buf(),
            folder: Some(folder),
            side: launch.side,
            endpoint: Endpoint::new(String::new()),
            monitoring: None,
            keeps_log: false,
        };
        server.launch(launch)?;
        server.wait_for_ports()?;
        Ok(server)
    }

    /// A server that is not ours to start or stop.
    pub(crate) fn remote(url: &str) -> Self {
        Self {
            child: None,
            binary: PathBuf::new(),
            folder: None,
            side: Side::Remote,
            endpoint: Endpoint::from_url(url),
            monitoring: None,
            keeps_log: false,
        }
    }

    /// This program again, as a bare relay of bytes.
    pub(crate) fn relay(launch: &Launch<'_>) -> Result<Self, String> {
        let binary = std::env::current_exe().map_err(text)?;
        launch.processors.place_server(launch.pinning)?;
        let child = Command::new(&binary)
            .arg("relay")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start the relay: {error}"));
        launch.processors.place_generator(launch.pinning)?;
        let mut server = Self::remote("");
        server.child = Some(child?);
        server.side = Side::Relay;
        let output = server.child.as_mut().and_then(|child| child.stdout.take());
        let mut line = String::new();
        BufReader::new(output.ok_or("the relay has no output")?)
            .read_line(&mut line)
            .map_err(text)?;
        server.endpoint = Endpoint::new(line.trim().to_owned());
        Ok(server)
    }

    /// Spawns the process; its data folder may hold data already.
    fn launch(&mut self, launch: &Launch<'_>) -> Result<(), String> {
        let folder = self.folder.clone().ok_or("this server is not ours")?;
        let config = folder.join("server.conf");
        let lines = format!(
            "jetstream {{\n  store_dir: {:?}\n{}}}\n",
            folder.join("store"),
            launch.syncing.line()
        );
        fs::write(&config, lines).map_err(text)?;
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(folder.join("log"))
            .map_err(text)?;
        launch.processors.place_server(launch.pinning)?;
        let child = Command::new(&self.binary)
            .args(["-a", "127.0.0.1", "-p", "-1", "-m", "-1", "-c"])
            .arg(config)
            .arg("--ports_file_dir")
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.binary.display()));
        launch.processors.place_generator(launch.pinning)?;
        self.child = Some(child?);
        Ok(())
    }

    /// Ends the process in order and starts it again on the same data; returns when it was spawned.
    pub(crate) fn restart(&mut self, launch: &Launch<'_>) -> Result<Instant, String> {
        self.stop()?;
        let start = Instant::now();
        self.launch(launch)?;
        self.wait_for_ports()?;
        Ok(start)
    }

    fn stop(&mut self) -> Result<(), String> {
        let mut child = self.child.take().ok_or("this server is not ours")?;
        if let Some(pid) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(text)?;
        }
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if child.try_wait().map_err(text)?.is_some() {
                return Ok(());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        self.child = Some(child);
        Err("the server does not end".to_owned())
    }

    fn wait_for_ports(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some((address, monitoring)) = self.ports_file().as_deref().and_then(addresses) {
                self.endpoint = Endpoint::new(address);
                self.monitoring = Some(monitoring);
                return Ok(());
            }
            if let Some(ended) = self.ended() {
                return Err(ended);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Err("the server wrote no ports file".to_owned())
    }

    fn ports_file(&self) -> Option<String> {
        let suffix = format!("_{}.ports", self.child.as_ref()?.id());
        let entries = fs::read_dir(self.folder.as_ref()?).ok()?;
        entries.flatten().find_map(|entry| {
            let is_ours = entry.file_name().to_string_lossy().ends_with(&suffix);
            is_ours.then(|| fs::read_to_string(entry.path()).ok())?
        })
    }

    /// How the process ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        Some(format!("the server ended: {status}"))
    }

    /// Leaves the log behind when the data goes; returns its path.
    pub(crate) fn keep_log(&mut self) -> Option<PathBuf> {
        self.keeps_log = true;
        self.folder.as_ref().map(|folder| folder.join("log"))
    }

    /// Processor time that the server has used so far; resolution 10 ms.
    pub(crate) fn cpu_seconds(&self) -> Option<f64> {
        let pid = self.child.as_ref()?.id();
        ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
            .map(|ticks| ticks / TICKS_PER_SECOND)
    }

    pub(crate) fn memory_bytes(&self) -> Option<u64> {
        self.status_bytes("VmRSS:")
    }

    pub(crate) fn peak_memory_bytes(&self) -> Option<u64> {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, name: &str) -> Option<u64> {
        let pid = self.child.as_ref()?.id();
        status_field(
            &fs::read_to_string(format!("/proc/{pid}/status")).ok()?,
            name,
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ending and cleaning up: there is nobody left to tell about a failure.
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(folder) = &self.folder {
            if self.keeps_log {
                let _ = fs::remove_dir_all(folder.join("store"));
            } else {
                let _ = fs::remove_dir_all(folder);
            }
        }
    }
}

/// User and system time of a `/proc/PID/stat` line.
fn ticks(stat: &str) -> Option<f64> {
    // The name in parentheses may hold anything.
    let after_name = stat.rsplit(')').next()?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn status_field(status: &str, name: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = rest.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// The client and the monitoring address in a ports file.
fn addresses(ports: &str) -> Option<(String, String)> {
    let value: serde_json::Value = serde_json::from_str(ports).ok()?;
    let first = |name: &str, scheme: &str| {
        let url = value.get(name)?.get(0)?.as_str()?;
        url.strip_prefix(scheme).map(str::to_owned)
    };
    Some((first("nats", "nats://")?, first("monitoring", "http://")?))
}

#[cfg(test)]
mod tests {
    use super::{addresses, status_field, ticks};

    #[test]
    fn processor_time_is_read_behind_a_name_with_spaces() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20";
        assert_eq!(ticks(stat), Some(300.0));
        assert_eq!(ticks("7 (a) S 1"), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(status_field(status, "VmHWM:"), Some(2 << 20));
        assert_eq!(status_field(status, "VmSwap:"), None);
    }

    #[test]
    fn a_ports_file_names_both_listeners() {
        let ports = r#"{"nats":["nats://127.0.0.1:1"],"monitoring":["http://127.0.0.1:2"]}"#;
        assert_eq!(
            addresses(ports),
            Some(("127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()))
        );
        assert_eq!(addresses(r#"{"nats":["nats://127.0.0.1:1"]}"#), None);
    }
}
