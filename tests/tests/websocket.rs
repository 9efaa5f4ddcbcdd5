//! The WebSocket listener: requests and frames made by hand, compared with the reference where
//! the answer is the same byte for byte, and the official Python client through it.

#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use millrace_tests::packages::{reference_binary, skip};
use millrace_tests::scenario::run_python;
use millrace_tests::server::{PATIENCE, ServerBuilder, wait_for};
use millrace_tests::{Server, http};
use serde_json::Value;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];
const PLAIN: &str = "websocket { listen: \"127.0.0.1:-1\", no_tls: true, compression: true";

/// A server with the lines behind the usual ones in its `websocket` block, and `top` beside it.
fn start(builder: ServerBuilder, block: &str, top: &str) -> Server {
    builder
        .config(&format!("{PLAIN}\n{block}\n}}\n{top}\n"))
        .start()
}

fn millrace(block: &str, top: &str) -> Server {
    start(ServerBuilder::millrace(), block, top)
}

/// `host:port` of the listener, as the log says it.
fn address(server: &Server) -> String {
    let log = server.log();
    let (_, rest) = log
        .split_once("Listening for websocket clients on ws://")
        .unwrap_or_else(|| panic!("no listener in the log:\n{log}"));
    rest.lines().next().unwrap().to_owned()
}

struct Peer {
    socket: TcpStream,
    unread: Vec<u8>,
}

impl Peer {
    fn connect(server: &Server) -> Self {
        let socket = TcpStream::connect(address(server)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            socket,
            unread: Vec::new(),
        }
    }

    /// Sends a request with these lines beside the usual ones and reads the answer's head.
    fn ask(&mut self, lines: &[&str]) -> String {
        let mut text = format!(
            "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
        );
        for line in lines {
            text.push_str(line);
            text.push_str("\r\n");
        }
        self.send(format!("{text}\r\n").as_bytes());
        self.read_head()
    }

    fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    fn read_head(&mut self) -> String {
        loop {
            let end = self.unread.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let head: Vec<u8> = self.unread.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            assert!(self.read_more(), "the connection ended");
        }
    }

    fn read_more(&mut self) -> bool {
        let mut block = [0; 4096];
        loop {
            match self.socket.read(&mut block) {
                Ok(0) => return false,
                Ok(count) => {
                    self.unread.extend_from_slice(&block[..count]);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// First byte and payload of the next frame; `None` at the end.
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let [first, short, rest @ ..] = &*self.unread {
                let (header, length) = match (*short, rest) {
                    (126, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
                    (127, [a, b, c, d, e, f, g, h, ..]) => {
                        let length = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
                        (10, usize::try_from(length).unwrap())
                    }
                    (126 | 127, _) => (2, usize::MAX),
                    (short, _) => (2, usize::from(short)),
                };
                let first = *first;
                if length != usize::MAX && self.unread.len() >= header + length {
                    let frame: Vec<u8> = self.unread.drain(..header + length).collect();
                    return Some((first, frame[header..].to_vec()));
                }
            }
            if !self.read_more() {
                return None;
            }
        }
    }

    /// Text of binary frames until it holds `wanted`.
    fn read_until(&mut self, wanted: &str) -> String {
        let mut text = String::new();
        while !text.contains(wanted) {
            let (_, payload) = self
                .frame()
                .unwrap_or_else(|| panic!("ended behind {text:?}"));
            text.push_str(&String::from_utf8(payload).unwrap());
        }
        text
    }

    fn send_frame(&mut self, first: u8, payload: &[u8]) {
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..=125 => frame.push(0x80 | short as u8),
            middle => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(middle as u16).to_be_bytes());
            }
        }
        frame.extend_from_slice(&MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(b, m)| b ^ m));
        self.send(&frame);
    }

    /// Status and text of the close frame that ends the connection.
    fn read_close(&mut self) -> (u16, String) {
        loop {
            let (first, payload) = self.frame().expect("a close frame");
            if first == 0x88 {
                let status = u16::from_be_bytes([payload[0], payload[1]]);
                assert_eq!(self.frame(), None);
                return (status, String::from_utf8(payload[2..].to_vec()).unwrap());
            }
        }
    }
}

/// A peer that is through the request.
fn open(server: &Server, lines: &[&str]) -> (Peer, Value) {
    let mut peer = Peer::connect(server);
    assert!(peer.ask(lines).starts_with("HTTP/1.1 101"));
    let (first, info) = peer.frame().unwrap();
    assert_eq!(first, 0x82);
    let text = String::from_utf8(info).unwrap();
    let info = text.strip_prefix("INFO ").unwrap().trim();
    (peer, serde_json::from_str(info).unwrap())
}

fn without_date(head: &str) -> String {
    head.lines()
        .filter(|line| !line.starts_with("Date:") && !line.starts_with("Connection: close"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Requests, most with something wrong: the usual one, each time with one line in place of another.
fn requests() -> Vec<String> {
    let usual = format!(
        "GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    let host = "Host: a.test\r\n";
    let changes = [
        ("", ""),
        ("GET / ", "GET /any/path?query "),
        ("GET", "POST"),
        ("GET / ", "GET /mqtt "),
        (host, ""),
        ("Upgrade: websocket\r\n", ""),
        ("Upgrade: websocket", "Upgrade: other, WebSocket"),
        ("Connection: Upgrade", "Connection: keep-alive, upgrade"),
        ("Connection: Upgrade", "Connection: keep-alive"),
        (KEY, "abc"),
        ("Version: 13", "Version: 12"),
        (host, "Host: a.test\r\nOrigin: http://a.test:80\r\n"),
        (host, "Host: a.test\r\nOrigin: http://b.test\r\n"),
        (host, "Host: a.test\r\nNats-No-Masking: true\r\n"),
        (
            host,
            "Host: a.test\r\nSec-WebSocket-Extensions: permessage-deflate\r\n",
        ),
    ];
    let changed = changes.map(|(from, to)| usual.replacen(from, to, 1));
    let garbage = "garbage\r\n\r\n".to_owned();
    changed.into_iter().chain([garbage]).collect()
}

// proves: WS-02 WS-03 WS-04 WS-12 WS-13 WS-18 KEY-08
#[test]
fn requests_are_answered_as_by_the_reference() {
    let Some(reference) = reference_binary() else {
        skip("requests_are_answered_as_by_the_reference", "no reference");
        return;
    };
    let block = "allowed_origins: [\"http://a.test\"]\nheaders { X-One: \"1\" }";
    let ours = millrace(block, "");
    let theirs = start(ServerBuilder::binary(reference), block, "");
    for request in requests() {
        let answer = |server: &Server| {
            let mut peer = Peer::connect(server);
            peer.send(request.as_bytes());
            without_date(&peer.read_head())
        };
        assert_eq!(answer(&ours), answer(&theirs), "{request}");
    }
}

// proves: WS-05
#[test]
fn the_client_protocol_runs_inside_frames_of_any_cut() {
    let server = millrace("", "");
    let (mut peer, info) = open(&server, &[]);
    let port: Value = address(&server)
        .rsplit(':')
        .next()
        .unwrap()
        .parse::<u16>()
        .unwrap()
        .into();
    assert_eq!(info["port"], port);
    assert_eq!(info.get("tls_required"), None);
    peer.send_frame(0x81, b"CONNECT {\"verbose\":false}\r\nSUB a 1\r\nPI");
    peer.send_frame(0x02, b"NG\r\nPUB a 1");
    peer.send_frame(0x89, b"between");
    peer.send_frame(0x00, b"1\r\nhello");
    peer.send_frame(0x80, b" there\r\n");
    let (mut text, mut pongs) = (String::new(), 0);
    while !text.contains("there\r\n") || pongs == 0 {
        match peer.frame().unwrap() {
            (0x82, payload) => text.push_str(&String::from_utf8(payload).unwrap()),
            (0x8a, payload) => {
                assert_eq!(payload, b"between");
                pongs += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(text.contains("PONG\r\n"), "{text:?}");
    assert!(text.contains("MSG a 1 11\r\nhello there\r\n"), "{text:?}");
    let (status, body) = http::get(&server, "/connz");
    assert_eq!(status, 200);
    let connections: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(connections["connections"][0]["type"], "websocket");
    let (_, body) = http::get(&server, "/varz");
    let varz: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(varz["websocket"]["port"], port);
    assert_eq!(varz["websocket"]["no_tls"], true);
}

// proves: WS-06 WS-07 WS-11
#[test]
fn a_connection_ends_with_a_close_frame_that_says_why() {
    let server = millrace("", "authorization { user: a, password: b }");
    let (mut peer, _) = open(&server, &[]);
    peer.send(&[0x82, 0x01, b'x']);
    assert_eq!(peer.read_close(), (1002, "mask bit missing".to_owned()));
    let (mut peer, _) = open(&server, &[]);
    peer.send_frame(0x82, b"CONNECT {\"user\":\"a\",\"pass\":\"wrong\"}\r\n");
    assert_eq!(
        peer.read_close(),
        (1008, "Authentication Failure".to_owned())
    );
    let (mut peer, _) = open(&server, &[]);
    peer.send_frame(0x88, b"\x03\xe8bye");
    assert_eq!(peer.read_close(), (1000, "bye".to_owned()));
    let (mut peer, _) = open(&server, &[]);
    peer.send_frame(
        0x82,
        b"CONNECT {\"user\":\"a\",\"pass\":\"b\"}\r\nbogus\r\n",
    );
    assert_eq!(peer.read_close(), (1002, "Protocol Violation".to_owned()));
}

// proves: WS-14 WS-15 WS-16 WS-21
#[test]
fn cookies_forwarding_and_rules_of_their_own() {
    let users = "authorization { users: [ { user: web, password: w, allowed_connection_types: [WEBSOCKET] },
        { user: std, password: s, allowed_connection_types: [STANDARD] } ] }";
    let server = millrace("user_cookie: u\npass_cookie: p", users);
    let enters = |lines: &[&str], connect: &[u8]| {
        let (mut peer, _) = open(&server, lines);
        peer.send_frame(0x82, connect);
        let text = peer.read_until("\r\n");
        text.contains("PONG")
    };
    assert!(enters(
        &["Cookie: u=web; p=w"],
        b"CONNECT {\"verbose\":false}\r\nPING\r\n"
    ));
    assert!(!enters(
        &["Cookie: u=std; p=s"],
        b"CONNECT {\"verbose\":false}\r\nPING\r\n"
    ));
    assert!(!enters(&[], b"CONNECT {\"verbose\":false}\r\nPING\r\n"));
    let (_, info) = open(&server, &["X-Forwarded-For: 1.2.3.4"]);
    assert_eq!(info["client_ip"], "1.2.3.4");
    let (_, info) = open(&server, &["X-Forwarded-For: nobody"]);
    assert_eq!(info["client_ip"], "127.0.0.1");

    let own = millrace(
        "authorization { token: secret }",
        "authorization { user: a, password: b }",
    );
    let (mut peer, info) = open(&own, &[]);
    assert_eq!(info["auth_required"], true);
    peer.send_frame(
        0x82,
        b"CONNECT {\"verbose\":false,\"auth_token\":\"secret\"}\r\nPING\r\n",
    );
    peer.read_until("PONG");
    let (mut peer, _) = open(&own, &[]);
    peer.send_frame(0x82, b"CONNECT {\"user\":\"a\",\"pass\":\"b\"}\r\nPING\r\n");
    assert_eq!(peer.read_close().0, 1008);
}

#[test]
fn a_peer_that_sends_pings_and_reads_nothing_is_cut() {
    let server = millrace("", "");
    let (mut peer, _) = open(&server, &[]);
    peer.socket.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut pings = Vec::new();
    for _ in 0..1000 {
        pings.extend_from_slice(&[0x89, 0x80 | 125, 0, 0, 0, 0]);
        pings.extend_from_slice(&[b'x'; 125]);
    }
    // Far more than two sockets hold.
    let cut = (0..1000).find_map(|_| peer.socket.write_all(&pings).err());
    let kind = cut.expect("an end of the connection").kind();
    assert!(
        matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
        "{kind:?}"
    );
}

// proves: WS-20
#[test]
fn a_request_that_never_comes_is_given_up() {
    let server = millrace("handshake_timeout: \"50ms\"", "");
    let mut peer = Peer::connect(&server);
    peer.send(b"GET / HTTP/1.1\r\n");
    assert!(!peer.read_more());
}

// proves: WS-24
#[test]
fn lame_duck_closes_the_listener() {
    let server = millrace("", "");
    let (mut peer, _) = open(&server, &[]);
    peer.send_frame(
        0x82,
        b"CONNECT {\"verbose\":false,\"protocol\":1}\r\nPING\r\n",
    );
    peer.read_until("PONG");
    server.signal("USR2");
    assert!(peer.read_until("\"ldm\":true").contains("INFO"));
    let place = address(&server);
    wait_for("the listener to close", || {
        let socket = place.parse().unwrap();
        TcpStream::connect_timeout(&socket, Duration::from_secs(1)).err()
    });
}

// proves: WS-08 WS-10
#[test]
fn browsers_get_small_frames_and_compressed_messages() {
    let server = millrace("", "");
    let (mut peer, _) = open(&server, &["User-Agent: Mozilla/5.0"]);
    peer.send_frame(0x82, b"CONNECT {\"verbose\":false}\r\nSUB a 1\r\nPING\r\n");
    peer.read_until("PONG");
    let mut publisher = server.connect();
    publisher.sync();
    publisher.publish("a", "", b"", &[b'x'; 20_000]);
    let mut frames = Vec::new();
    loop {
        let (first, payload) = peer.frame().unwrap();
        assert!(payload.len() <= 4096);
        frames.push(first);
        if first & 0x80 != 0 {
            break;
        }
    }
    assert_eq!(frames, [0x02, 0x00, 0x00, 0x00, 0x80]);
    let mut peer = Peer::connect(&server);
    let head = peer.ask(&["Sec-WebSocket-Extensions: permessage-deflate"]);
    assert!(head.contains("permessage-deflate; server_no_context_takeover"));
    let (first, _) = peer.frame().unwrap();
    assert_eq!(first, 0xc2);
}

/// Runs one scenario of the official client through the listener.
fn scenario(file: &str, function: &str) {
    let server = start(ServerBuilder::millrace().jetstream(), "", "");
    let url = format!("ws://{}", address(&server));
    run_python(&server, &url, file, function);
}

#[test]
fn the_python_client_publishes_and_asks() {
    scenario("core.py", "publish_subscribe");
    scenario("core.py", "request_reply");
}
