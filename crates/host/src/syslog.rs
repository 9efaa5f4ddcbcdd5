//! Log lines to a system log, the machine's own or one elsewhere (RFC 3164 as Go's package writes
//! it). A thread of its own writes, because a log that does not take lines must not hold up the server.

use crate::clock::wall_ns;
use crate::logger::Level;
use std::io::{self, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Lines that wait for the system log; what is beyond is dropped.
const WAITING_LINES_MAX: usize = 4096;
/// Longest time for one write or connect.
const WAIT: Duration = Duration::from_secs(1);
/// Pause after a lost connection before the next attempt; lines in between are dropped.
const RECONNECT_PAUSE: Duration = Duration::from_secs(2);
/// Where the machine's own log listens.
const LOCAL_PATHS: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

/// Writes to a system log.
#[derive(Debug)]
pub(crate) struct Syslog {
    lines: Option<SyncSender<(Level, String)>>,
    thread: Option<JoinHandle<()>>,
}

impl Syslog {
    /// Connects to the machine's log, or to `NETWORK://HOST:PORT`.
    ///
    /// # Errors
    /// A text for the operator: the address is none, or nobody listens there.
    pub(crate) fn open(remote: &str, zone: jiff::tz::TimeZone) -> Result<Self, String> {
        let target = Target::read(remote)?;
        let socket = target
            .connect()
            .map_err(|error| format!("error connecting to syslog: \"{error}\""))?;
        let (lines, waiting) = sync_channel(WAITING_LINES_MAX);
        let writer = Writer {
            target,
            socket: Some(socket),
            lost_at: None,
            zone,
            head: head(),
        };
        let thread = std::thread::Builder::new()
            .name("syslog".to_owned())
            .spawn(move || writer.run(&waiting))
            .map_err(|error| format!("no thread for the system log: {error}"))?;
        Ok(Self {
            lines: Some(lines),
            thread: Some(thread),
        })
    }

    pub(crate) fn line(&self, level: Level, text: &str) {
        if let Some(lines) = &self.lines {
            // Full: the line is lost, as with a datagram.
            let _ = lines.try_send((level, text.to_owned()));
        }
    }
}

impl Drop for Syslog {
    /// The last lines are written first.
    fn drop(&mut self) {
        self.lines = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whom lines come from: `TAG[PID]`, with the host in front where the log is another's.
struct Head {
    host: String,
    tag: String,
}

fn head() -> Head {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let program = std::env::args_os().next().unwrap_or_default();
    let name = std::path::Path::new(&program)
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    Head {
        host: host.trim().to_owned(),
        tag: format!("{}[{}]", name.unwrap_or_default(), std::process::id()),
    }
}

enum Target {
    Local,
    Udp(String),
    Tcp(String),
    /// A socket of the file system.
    Unix(String),
}

impl Target {
    fn read(remote: &str) -> Result<Self, String> {
        if remote.is_empty() {
            return Ok(Self::Local);
        }
        let (network, rest) = remote.split_once("://").unwrap_or(("", remote));
        match network {
            "udp" => Ok(Self::Udp(rest.to_owned())),
            "tcp" => Ok(Self::Tcp(rest.to_owned())),
            "unix" | "unixgram" => Ok(Self::Unix(rest.to_owned())),
            _ => Err(format!("invalid network type: {network:?}")),
        }
    }

    fn connect(&self) -> io::Result<Socket> {
        match self {
            Self::Local => {
                let mut paths = LOCAL_PATHS.iter();
                let found = paths.find_map(|path| connect_unix(path).ok());
                found.ok_or_else(|| io::Error::other("Unix syslog delivery error"))
            }
            Self::Unix(path) => connect_unix(path),
            Self::Udp(place) => {
                let address = address(place)?;
                let any = if address.is_ipv4() {
                    "0.0.0.0:0"
                } else {
                    "[::]:0"
                };
                let socket = UdpSocket::bind(any)?;
                socket.connect(address)?;
                Ok(Socket::Udp(socket))
            }
            Self::Tcp(place) => {
                let socket = TcpStream::connect_timeout(&address(place)?, WAIT)?;
                socket.set_write_timeout(Some(WAIT))?;
                Ok(Socket::Tcp(socket))
            }
        }
    }

    const fn is_remote(&self) -> bool {
        matches!(self, Self::Udp(_) | Self::Tcp(_))
    }
}

fn address(place: &str) -> io::Result<std::net::SocketAddr> {
    let mut found = place.to_socket_addrs()?;
    found
        .next()
        .ok_or_else(|| io::Error::other(format!("{place} has no address")))
}

fn connect_unix(path: &str) -> io::Result<Socket> {
    let datagram = UnixDatagram::unbound()?;
    if datagram.connect(path).is_ok() {
        datagram.set_write_timeout(Some(WAIT))?;
        return Ok(Socket::Datagram(datagram));
    }
    let stream = UnixStream::connect(path)?;
    stream.set_write_timeout(Some(WAIT))?;
    Ok(Socket::Stream(stream))
}

enum Socket {
    Datagram(UnixDatagram),
    Stream(UnixStream),
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Socket {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Datagram(socket) => socket.send(line).map(|_| ()),
            Self::Udp(socket) => socket.send(line).map(|_| ()),
            Self::Stream(socket) => socket.write_all(line),
            Self::Tcp(socket) => socket.write_all(line),
        }
    }
}

struct Writer {
    target: Target,
    socket: Option<Socket>,
    lost_at: Option<Instant>,
    zone: jiff::tz::TimeZone,
    head: Head,
}

impl Writer {
    fn run(mut self, waiting: &Receiver<(Level, String)>) {
        while let Ok((level, text)) = waiting.recv() {
            let line = self.format(level, &text);
            self.write(line.as_bytes());
        }
    }

    fn write(&mut self, line: &[u8]) {
        if self.socket.is_none() {
            if self
                .lost_at
                .is_some_and(|at| at.elapsed() < RECONNECT_PAUSE)
            {
                return;
            }
            self.socket = self.target.connect().ok();
        }
        let written = self.socket.as_mut().map(|socket| socket.write(line));
        match written {
            Some(Ok(())) => self.lost_at = None,
            // Nobody listens to datagrams at this moment; the next may be heard.
            Some(Err(_)) if matches!(self.target, Target::Udp(_)) => {}
            _ => {
                self.socket = None;
                self.lost_at = Some(Instant::now());
            }
        }
    }

    fn format(&self, level: Level, text: &str) -> String {
        let priority = priority(level);
        let tag = &self.head.tag;
        let moment = jiff::Timestamp::from_nanosecond(i128::from(wall_ns()))
            .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
            .to_zoned_datetime(self.zone.clone());
        if self.target.is_remote() {
            let time = moment.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
            let time = time.replace("+00:00", "Z");
            format!("<{priority}>{time} {} {tag}: {text}\n", self.head.host)
        } else {
            let time = moment.strftime("%b %e %H:%M:%S");
            format!("<{priority}>{time} {tag}: {text}\n")
        }
    }
}

/// The severity of the protocol; what informs is a notice, as in the reference.
const fn priority(level: Level) -> u8 {
    match level {
        Level::Fatal => 2,
        Level::Error => 3,
        Level::Warning => 4,
        Level::Info | Level::Trace => 5,
        Level::Debug => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: TRC-12
    #[test]
    fn lines_reach_a_log_elsewhere_and_one_of_this_machine() {
        let elsewhere = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        elsewhere.set_read_timeout(Some(WAIT * 10)).expect("set");
        let place = format!("udp://{}", elsewhere.local_addr().expect("bound"));
        let log = Syslog::open(&place, jiff::tz::TimeZone::UTC).expect("open");
        log.line(Level::Error, "it broke");
        let mut bytes = [0; 512];
        let count = elsewhere.recv(&mut bytes).expect("a line");
        let line = String::from_utf8_lossy(&bytes[..count]).into_owned();
        assert!(line.starts_with("<3>2"), "{line}");
        let end = format!("[{}]: it broke\n", std::process::id());
        assert!(line.ends_with(&end), "{line}");
        assert!(line.contains("Z "), "{line}");

        let folder = std::env::temp_dir().join(format!("millrace-syslog-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("log");
        let own = UnixDatagram::bind(&path).expect("a socket");
        own.set_read_timeout(Some(WAIT * 10)).expect("set");
        let place = format!("unix://{}", path.display());
        let log = Syslog::open(&place, jiff::tz::TimeZone::UTC).expect("open");
        log.line(Level::Info, "hello");
        let count = own.recv(&mut bytes).expect("a line");
        let line = String::from_utf8_lossy(&bytes[..count]).into_owned();
        assert!(
            line.starts_with("<5>") && line.ends_with("]: hello\n"),
            "{line}"
        );
        drop(log);
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn places_that_are_none_are_refused_in_the_words_of_the_reference() {
        let refusal = |place: &str| Syslog::open(place, jiff::tz::TimeZone::UTC).err();
        assert_eq!(
            refusal("foo"),
            Some("invalid network type: \"\"".to_owned())
        );
        assert_eq!(
            refusal("xyz://h:5"),
            Some("invalid network type: \"xyz\"".to_owned())
        );
        let text = refusal("tcp://127.0.0.1:1").unwrap_or_default();
        assert!(text.starts_with("error connecting to syslog: "), "{text}");
    }
}
