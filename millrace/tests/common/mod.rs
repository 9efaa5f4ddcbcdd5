//! Starts the real binary for a test and talks to it in raw bytes.
#![allow(dead_code)] // every test file uses its own part

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest wait for anything in a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

static NEXT_FOLDER: AtomicU32 = AtomicU32::new(0);

/// A folder of a test's own, removed at its end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let number = NEXT_FOLDER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("millrace-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The binary under the reference's name: so called it has the reference's defaults.
pub(crate) fn command(folder: &Folder) -> Command {
    let path = folder.0.join("nats-server");
    if !path.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_millrace"), &path).expect("linked");
    }
    Command::new(path)
}

/// A running server, killed at the end of the test.
pub(crate) struct Server {
    pub(crate) folder: Folder,
    pub(crate) process: Child,
    pub(crate) port: u16,
}

impl Server {
    /// Starts on a free port of the loopback address, with these flags besides.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::start_in(Folder::new(), flags)
    }

    /// As [`Self::start`], with JetStream on a store in the test's folder.
    pub(crate) fn start_with_store(flags: &[&str]) -> Self {
        let folder = Folder::new();
        let store = folder.0.join("store").display().to_string();
        let mut all = vec!["-js", "-sd", &store];
        all.extend_from_slice(flags);
        Self::start_in(folder, &all)
    }

    /// As [`Self::start`], with files of the test's own in `folder`.
    pub(crate) fn start_in(folder: Folder, flags: &[&str]) -> Self {
        let log = folder.0.join("log");
        let _ = std::fs::remove_file(&log);
        let process = command(&folder)
            .args(["-a", "127.0.0.1", "-p", "-1", "-l"])
            .arg(&log)
            .arg("-P")
            .arg(folder.0.join("pid"))
            .arg("-ports_file_dir")
            .arg(&folder.0)
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the binary starts");
        let mut server = Self {
            folder,
            process,
            port: 0,
        };
        server.await_log("Server is ready");
        let line = server.await_log("Listening for client connections on ");
        let port = line.rsplit(':').next().and_then(|port| port.parse().ok());
        server.port = port.expect("a port in the line");
        server
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.0.join("log")).unwrap_or_default()
    }

    /// The first log line that contains `text`, once there is one.
    pub(crate) fn await_log(&mut self, text: &str) -> String {
        let begun = Instant::now();
        loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            let ended = self.process.try_wait().expect("a status");
            assert!(
                begun.elapsed() < PATIENCE,
                "{text:?} is not in the log:\n{log}"
            );
            assert!(
                ended.is_none() || self.log().contains(text),
                "ended: {ended:?}\n{log}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.process.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(status.success());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("a status") {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "still running:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::new(self.port)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A raw protocol connection.
pub(crate) struct Client {
    pub(crate) socket: TcpStream,
    pub(crate) received: Vec<u8>,
}

impl Client {
    /// Connects without reading anything.
    pub(crate) fn new(port: u16) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("connected");
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("set");
        Self {
            socket,
            received: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).expect("sent");
    }

    /// Reads until `text` was received, and returns everything up to its end.
    pub(crate) fn expect(&mut self, text: &str) -> String {
        let begun = Instant::now();
        loop {
            let found = self
                .received
                .windows(text.len())
                .position(|w| w == text.as_bytes());
            if let Some(at) = found {
                let head: Vec<u8> = self.received.drain(..at + text.len()).collect();
                return String::from_utf8_lossy(&head).into_owned();
            }
            let alive = self.read_some();
            let so_far = String::from_utf8_lossy(&self.received);
            assert!(alive, "closed before {text:?}, after: {so_far}");
            assert!(begun.elapsed() < PATIENCE, "no {text:?} in: {so_far}");
        }
    }

    /// Reads to the end of the connection.
    pub(crate) fn expect_end(&mut self) -> String {
        let begun = Instant::now();
        while self.read_some() {
            assert!(begun.elapsed() < PATIENCE, "still open");
        }
        String::from_utf8_lossy(&std::mem::take(&mut self.received)).into_owned()
    }

    /// False at the end of the connection.
    fn read_some(&mut self) -> bool {
        let mut buffer = [0; 65536];
        match self.socket.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// CONNECT with these members of the JSON, then PING; returns at the PONG.
    pub(crate) fn log_in(&mut self, members: &str) {
        self.send(format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false{members}}}\r\nPING\r\n"
        ));
        self.expect("PONG\r\n");
    }
}

/// `GET` over plain HTTP: status line and body.
pub(crate) fn get(port: u16, path: &str) -> (String, String) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("sent");
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a blank line");
    (
        head.lines().next().unwrap_or_default().to_owned(),
        body.to_owned(),
    )
}

/// The only file in `folder` whose name ends so.
pub(crate) fn file_ending(folder: &Path, end: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.to_string_lossy().ends_with(end))
}
