//! Running the binary under one of its names in a folder of its own.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::client::Client;

/// How long a line of the log may take; only a failing test waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A folder that is removed at the end.
pub(crate) struct TempFolder(PathBuf);

impl TempFolder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("millrace-cli-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a temporary folder");
        for name in [Name::Millrace, Name::NatsServer] {
            symlink(env!("CARGO_BIN_EXE_millrace"), path.join(name.text())).expect("a link");
        }
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file in the temporary folder");
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The name the binary is called under.
#[derive(Clone, Copy)]
pub(crate) enum Name {
    Millrace,
    NatsServer,
}

impl Name {
    fn text(self) -> &'static str {
        match self {
            Self::Millrace => "millrace",
            Self::NatsServer => "nats-server",
        }
    }
}

fn command(folder: &TempFolder, name: Name, arguments: &str) -> Command {
    // A test may put programs of its own into its folder.
    let path = format!("{}:/usr/bin:/bin", folder.0.display());
    let mut command = Command::new(folder.path(name.text()));
    command
        .args(arguments.split_whitespace())
        .current_dir(&folder.0)
        .env("PATH", path)
        .env("XDG_DATA_HOME", folder.path("data"))
        .env("TMPDIR", folder.path("tmp"))
        .stdin(Stdio::null());
    command
}

/// What a process left behind.
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the binary to its end.
pub(crate) fn run(folder: &TempFolder, name: Name, arguments: &str) -> Output {
    let output = command(folder, name, arguments)
        .output()
        .expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Output {
        code: output.status.code().expect("not killed"),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// A running server; killed at the end if it still runs.
pub(crate) struct Server {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Server {
    pub(crate) fn start(folder: &TempFolder, name: Name, arguments: &str) -> Self {
        let mut child = command(folder, name, arguments)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let stderr = child.stderr.take().expect("piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads the log up to the line that contains `text`, and returns that line.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        self.lines_until(text).pop().expect("the line waited for")
    }

    /// Reads the log up to the line that contains `text`, and returns all lines read.
    pub(crate) fn lines_until(&mut self, text: &str) -> Vec<String> {
        let mut read = Vec::new();
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("no line with {text:?} in {:#?}", self.seen);
            };
            self.seen.push(line.clone());
            read.push(line);
            if read.last().is_some_and(|line| line.contains(text)) {
                return read;
            }
        }
    }

    /// Waits until a log file contains `text`.
    pub(crate) fn wait_in_file(&mut self, path: &Path, text: &str) {
        let give_up = Instant::now() + PATIENCE;
        while !fs::read_to_string(path).is_ok_and(|content| content.contains(text)) {
            assert!(
                Instant::now() < give_up,
                "no {text:?} in {}",
                path.display()
            );
            std::thread::yield_now();
        }
    }

    /// The port in the log line about the client listener, which must have been read.
    pub(crate) fn client_port(&self) -> u16 {
        let line = self
            .seen
            .iter()
            .find(|line| line.contains("Listening for client connections"));
        let port = line
            .and_then(|line| line.rsplit(':').next())
            .expect("the line was read");
        port.parse().expect("a port")
    }

    /// A client connection that has sent CONNECT with these options.
    pub(crate) fn connect(&self, options: &str) -> Client {
        let mut client = self.dial();
        client.send(&format!("CONNECT {options}\r\n"));
        client
    }

    /// A client connection that has read INFO and sent nothing.
    pub(crate) fn dial(&self) -> Client {
        Client::new(self.client_port())
    }

    /// Waits for the end; `None` when it was killed.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let status: ExitStatus = self.child.wait().expect("the server was started");
        status.code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
