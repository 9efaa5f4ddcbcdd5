//! Peers that are slow, half open, flooding or send garbage, in great numbers: the server goes on
//! serving the others, and its memory stays bounded.

mod common;

use common::{Folder, Server};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Memory that a connection may cost at rest, with its socket's share of tables; measured 2 to 3 KiB.
const CONNECTION_BYTES_MAX: u64 = 12 * 1024;
/// What the server may take besides.
const BASE_BYTES_MAX: u64 = 96 * 1024 * 1024;

fn resident_bytes(server: &Server) -> u64 {
    let path = format!("/proc/{}/statm", server.process.id());
    let text = std::fs::read_to_string(path).expect("the process lives");
    let pages: u64 = text
        .split_whitespace()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .expect("a number");
    pages * rustix::param::page_size() as u64
}

/// A server with a door for WebSockets; the port of that door.
fn start(more: &str) -> (Server, u16) {
    let folder = Folder::new();
    let text = format!("websocket {{ listen: \"127.0.0.1:-1\", no_tls: true }}\n{more}\n");
    let config = folder.write("config", &text);
    let mut server = Server::start_in(folder, &["-c", &config]);
    let line = server.await_log("Listening for websocket clients on ws://");
    let port = line.rsplit(':').next().and_then(|port| port.parse().ok());
    (server, port.expect("a port"))
}

fn open(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).expect("connected")
}

/// Sends a message through the server and back.
fn is_served(server: &Server) {
    let mut client = server.connect();
    client.log_in("");
    client.send("SUB a 1\r\nPUB a 5\r\nhello\r\n");
    client.expect("MSG a 1 5\r\nhello\r\n");
}

#[test]
fn ten_thousand_connections_of_every_bad_kind_cost_little() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let wanted = rustix::process::Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, wanted);
    let possible = limit.maximum.unwrap_or(u64::MAX).saturating_sub(500) as usize;
    let count = possible.min(10_000);
    let (server, websocket) = start("");
    let before = resident_bytes(&server);
    let mut peers = Vec::with_capacity(count);
    for number in 0..count {
        let mut peer = open(match number % 10 {
            8 | 9 => websocket,
            _ => server.port,
        });
        let bytes: &[u8] = match number % 10 {
            // Reads nothing and says nothing.
            0..=3 => b"",
            4 | 5 => b"CONNECT {\"verbose\":false}\r\nSUB quiet 1\r\n",
            // Half an operation, and half a payload.
            6 => b"PUB some.subject 10",
            7 => b"CONNECT {}\r\nPUB some.subject 500000\r\nhalf",
            // Half a request.
            8 => b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websock",
            _ => b"",
        };
        peer.write_all(bytes).expect("sent");
        peers.push(peer);
        if number % 200 == 199 {
            is_served(&server);
        }
    }
    is_served(&server);
    let used = resident_bytes(&server).saturating_sub(before);
    let bound = BASE_BYTES_MAX + count as u64 * CONNECTION_BYTES_MAX;
    assert!(used < bound, "{used} bytes for {count} connections");
    drop(peers);
    is_served(&server);
}

#[test]
fn garbage_at_every_door_ends_that_connection_only() {
    let (server, websocket) = start("");
    let mut byte = 7_u8;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        byte = byte.wrapping_mul(73).wrapping_add(41);
        byte | 0x80
    })
    .take(200_000)
    .collect();
    let lines = b"\r\n\r\n\r\nHELO x\r\n".repeat(100);
    let long = vec![b'A'; 300_000];
    for port in [server.port, websocket] {
        for garbage in [
            noise.as_slice(),
            &lines,
            &long,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        ] {
            let mut peer = open(port);
            peer.set_read_timeout(Some(common::PATIENCE)).expect("set");
            // It may be cut before all is sent.
            let _ = peer.write_all(garbage);
            let _ = peer.shutdown(std::net::Shutdown::Write);
            let mut rest = Vec::new();
            let _ = peer.read_to_end(&mut rest);
            assert!(rest.len() < 4096, "{} bytes of answer", rest.len());
        }
    }
    is_served(&server);
}

#[test]
fn a_flood_of_requests_whose_answers_are_not_read_is_cut_at_max_pending() {
    let (mut server, _) = start("max_pending: 1mb\nmax_payload: 512kb\nwrite_deadline: \"1s\"");
    let before = resident_bytes(&server);
    let mut peer = open(server.port);
    peer.set_write_timeout(Some(Duration::from_secs(1)))
        .expect("set");
    let flood = b"PING\r\n".repeat(20_000);
    let begun = Instant::now();
    while peer.write_all(&flood).is_ok() && begun.elapsed() < common::PATIENCE {}
    server.await_log("Slow Consumer Detected");
    let used = resident_bytes(&server).saturating_sub(before);
    assert!(used < 64 * 1024 * 1024, "{used} bytes");
    is_served(&server);
}

#[test]
fn requests_of_websockets_that_never_end_do_not_keep_others_out() {
    let (server, websocket) = start("max_connections: 10");
    // More than may be on their way to a full server: the rest waits in the listener's queue.
    let mut half: Vec<TcpStream> = (0..120).map(|_| open(websocket)).collect();
    for peer in &mut half {
        peer.write_all(b"GET / HTTP/1.1\r\n").expect("sent");
    }
    is_served(&server);
    drop(half);
    let mut whole = open(websocket);
    whole.set_read_timeout(Some(common::PATIENCE)).expect("set");
    let request = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    // Byte by byte it is the same request.
    for byte in request {
        whole.write_all(&[*byte]).expect("sent");
    }
    let mut start = [0; 12];
    whole.read_exact(&mut start).expect("an answer");
    assert_eq!(&start, b"HTTP/1.1 101");
}
