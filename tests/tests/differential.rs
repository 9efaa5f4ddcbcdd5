//! The corpus of raw protocol scripts, played against the reference binary and against ours. The
//! answers that stand in the corpus are the reference's.
//!
//! `MILLRACE_CORPUS_RECORD=1` writes the reference's answers into the corpus instead.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use millrace_tests::corpus::{self, Script, Step};
use millrace_tests::{Server, ServerBuilder};

/// How long an expected answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to listen for answers that must not come.
const QUIET: Duration = Duration::from_millis(20);
/// How long the recorder listens.
const RECORD_QUIET: Duration = Duration::from_millis(250);

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    /// Whole lines leave together, so that the server reads them together.
    unsent: Vec<u8>,
    is_closed: bool,
    last_reply: String,
}

impl Connection {
    fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            received: Vec::new(),
            unsent: Vec::new(),
            is_closed: false,
            last_reply: String::new(),
        }
    }

    fn flush(&mut self) {
        // A server that closes early may refuse the rest; the answers tell.
        let _ = self.stream.write_all(&std::mem::take(&mut self.unsent));
    }

    /// Reads until `is_enough` or nothing came for `patience`.
    fn read_until(&mut self, patience: Duration, is_enough: impl Fn(&[u8], bool) -> bool) {
        let mut deadline = Instant::now() + patience;
        let mut buffer = [0; 65536];
        while !self.is_closed && !is_enough(&self.received, self.is_closed) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            match self.stream.read(&mut buffer) {
                Ok(0) => self.is_closed = true,
                Ok(count) => {
                    self.received.extend_from_slice(&buffer[..count]);
                    if let Some(reply) = corpus::last_reply(&self.received) {
                        self.last_reply = reply;
                    }
                    deadline = Instant::now() + patience;
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return;
                }
                Err(_) => self.is_closed = true,
            }
        }
    }
}

fn shown(bytes: &[u8], is_closed: bool) -> String {
    let end = if is_closed { corpus::END } else { "" };
    format!("{}{end}", bytes.escape_ascii())
}

/// Plays one script; with `record` its answers are replaced. Returns the differences.
fn play(address: &str, script: &mut Script, record: bool) -> String {
    let mut connections: BTreeMap<String, Connection> = BTreeMap::new();
    let mut differences = String::new();
    for step in &mut script.steps {
        if !matches!(step, Step::Send { .. }) {
            connections.values_mut().for_each(Connection::flush);
        }
        match step {
            Step::Comment(_) => {}
            Step::Wait { milliseconds } => {
                std::thread::sleep(Duration::from_millis(*milliseconds));
            }
            Step::Close { name } => {
                connections.remove(name);
            }
            Step::Open { name, keeps_info } => {
                let mut connection = Connection::open(address);
                connection.read_until(PATIENCE, |bytes, _| bytes.ends_with(b"\n"));
                if !*keeps_info {
                    let end = connection.received.iter().position(|byte| *byte == b'\n');
                    connection.received.drain(..end.map_or(0, |end| end + 1));
                }
                connections.insert(name.clone(), connection);
            }
            Step::Send {
                name,
                bytes,
                is_piece,
                ..
            } => {
                let of = |name: &str| connections[name].last_reply.clone();
                let bytes = corpus::fill(bytes, of);
                let connection = connections.get_mut(name).unwrap();
                connection.unsent.extend_from_slice(&bytes);
                if *is_piece {
                    connection.flush();
                }
            }
            Step::Read {
                name,
                expected,
                is_closed,
            } => {
                let connection = connections.get_mut(name).unwrap();
                if record {
                    connection.read_until(RECORD_QUIET, |_, _| false);
                    *expected = corpus::normalise(&std::mem::take(&mut connection.received));
                    *is_closed = connection.is_closed;
                } else if let Some(text) = read_and_compare(connection, expected, *is_closed) {
                    let _ = writeln!(differences, "{} ({name}):\n{text}", script.name);
                }
            }
        }
    }
    for (name, mut connection) in connections {
        if !record {
            connection.read_until(QUIET, |_, _| false);
            if !connection.received.is_empty() {
                let rest = shown(&connection.received, connection.is_closed);
                let _ = writeln!(differences, "{} ({name}): left over: {rest}", script.name);
            }
        }
        let _ = connection.stream.shutdown(Shutdown::Both);
    }
    differences
}

/// Reads until what came is what was expected; says what is different if that does not happen.
fn read_and_compare(connection: &mut Connection, expected: &[u8], closes: bool) -> Option<String> {
    let patience = if expected.is_empty() && !closes {
        QUIET
    } else {
        PATIENCE
    };
    connection.read_until(patience, |bytes, closed| {
        closed == closes && corpus::normalise(bytes) == expected
    });
    let got = corpus::normalise(&std::mem::take(&mut connection.received));
    (got != expected || connection.is_closed != closes).then(|| {
        format!(
            "  expected {}\n  got      {}",
            shown(expected, closes),
            shown(&got, connection.is_closed)
        )
    })
}

fn corpus_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// Plays one file; scripts with the same configuration share a server.
fn play_file(file: &Path, builder: &impl Fn() -> ServerBuilder, record: bool) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let mut scripts = corpus::parse(&text).unwrap();
    let mut servers: BTreeMap<String, Server> = BTreeMap::new();
    let mut differences = String::new();
    for script in &mut scripts {
        let server = servers.entry(script.config.clone()).or_insert_with(|| {
            let builder = builder();
            match &*script.config {
                "" => builder.start(),
                config => builder.config(config).start(),
            }
        });
        differences.push_str(&play(&server.address, script, record));
    }
    if record {
        let preamble = text.split("===").next().unwrap_or_default();
        std::fs::write(file, format!("{preamble}{}", corpus::format(&scripts))).unwrap();
    }
    differences
}

/// The binary under test, called by the reference's name so that it starts with its defaults.
fn millrace() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let name = || {
        let folder = millrace_tests::server::target_folder().join("corpus");
        std::fs::create_dir_all(&folder).unwrap();
        let binary = folder.join("nats-server");
        let _ = std::fs::remove_file(&binary);
        std::os::unix::fs::symlink(millrace_tests::millrace_binary(), &binary).unwrap();
        binary
    };
    BINARY.get_or_init(name).clone()
}

fn check_millrace(name: &str) {
    let file = corpus_folder().join(name).with_extension("txt");
    let differences = play_file(&file, &|| ServerBuilder::binary(millrace()), false);
    assert!(differences.is_empty(), "{differences}");
}

fn check_reference(name: &str) {
    let Some(binary) = millrace_tests::packages::reference_binary() else {
        return;
    };
    let file = corpus_folder().join(name).with_extension("txt");
    let record = std::env::var_os("MILLRACE_CORPUS_RECORD").is_some();
    let differences = play_file(&file, &|| ServerBuilder::binary(binary.clone()), record);
    assert!(differences.is_empty(), "{differences}");
}

/// One test per file and server, named like the file.
macro_rules! corpus_tests {
    ($($name:ident),*) => {
        mod millrace {
            $(#[test] fn $name() { super::check_millrace(stringify!($name)); })*
        }
        mod reference {
            $(#[test] fn $name() { super::check_reference(stringify!($name)); })*
        }
        #[test]
        fn every_file_is_played() {
            let mut known = vec![$(concat!(stringify!($name), ".txt")),*];
            known.sort_unstable();
            let entries = std::fs::read_dir(corpus_folder()).unwrap();
            let mut present: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
                .collect();
            present.sort_unstable();
            assert_eq!(known, present);
        }
    };
}

corpus_tests!(
    authentication,
    connect,
    connections,
    headers,
    lexing,
    limits,
    mappings,
    no_responders,
    permissions,
    queues,
    services,
    streams,
    subjects,
    timers,
    verbs
);
