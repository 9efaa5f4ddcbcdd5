//! Connections through a proxy that says whom it speaks for. What is told, logged and shown is the
//! reference's, read off version 2.15.1.

mod common;

use common::{Folder, Server};

const SIGNATURE: &[u8] = b"\r\n\r\n\x00\r\nQUIT\n";

/// Starts behind a proxy; `more` is added to the configuration.
fn start(more: &str) -> (Server, u16) {
    let folder = Folder::new();
    let text = format!("proxy_protocol: true\nhttp: \"127.0.0.1:-1\"\ndebug: true\n{more}\n");
    let config = folder.write("config", &text);
    let mut server = Server::start_in(folder, &["-c", &config]);
    let line = server.await_log("Starting http monitor on ");
    let port = line.rsplit(':').next().and_then(|port| port.parse().ok());
    (server, port.expect("a port"))
}

fn binary(version: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("short").to_be_bytes();
    [SIGNATURE, &[version, family], &length, body].concat()
}

// proves: TLS-19, TLS-20
#[test]
fn a_client_is_shown_under_the_address_that_its_proxy_names() {
    let (server, monitor) = start("");
    let ipv4 = [1, 2, 3, 5, 5, 6, 7, 8, 0, 9, 0, 8];
    let with_more = [ipv4.as_slice(), &[1; 3000]].concat();
    let cases: [(Vec<u8>, &str); 6] = [
        (Vec::new(), "\"ip\": \"127.0.0.1\""),
        (
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222\r\n".to_vec(),
            "\"ip\": \"1.2.3.4\",\n      \"port\": 1111",
        ),
        (
            b"PROXY TCP6 ::1 ::2 1112 2222\r\n".to_vec(),
            "\"ip\": \"::1\",\n      \"port\": 1112",
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), "\"ip\": \"127.0.0.1\""),
        (binary(0x20, 0, &[]), "\"ip\": \"127.0.0.1\""),
        (
            binary(0x21, 0x11, &with_more),
            "\"ip\": \"1.2.3.5\",\n      \"port\": 9",
        ),
    ];
    for (header, shown) in cases {
        for piece in [usize::MAX, 1] {
            let mut client = server.connect();
            let info = client.expect("\r\n");
            assert!(!info.contains("client_ip"), "{info}");
            for bytes in header.chunks(piece.min(header.len().max(1))) {
                client.send(bytes);
            }
            client.log_in("");
            let (_, body) = common::get(monitor, "/connz?sort=start&limit=1000");
            assert!(body.contains(shown), "{}: {body}", header.escape_ascii());
            drop(client);
        }
    }
}

// proves: TLS-19, TLS-20
#[test]
fn a_header_that_is_wrong_ends_the_connection_without_a_word() {
    let (mut server, _) = start("");
    let cases: [(Vec<u8>, &str); 8] = [
        (
            b"PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n".to_vec(),
            "invalid PROXY protocol header: invalid address",
        ),
        (
            b"PROXY TCP4 ::1 ::2 1 2\r\n".to_vec(),
            "invalid PROXY protocol header: TCP4 with IPv6 address",
        ),
        (
            [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat(),
            "invalid PROXY protocol header: v1 line too long",
        ),
        (
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n".to_vec(),
            "invalid PROXY protocol header: invalid v1 format",
        ),
        (
            binary(0x21, 0x12, &[0; 12]),
            "unsupported PROXY protocol feature: only STREAM protocol supported",
        ),
        (
            binary(0x21, 0x31, &[0; 216]),
            "unsupported PROXY protocol feature: unsupported address family 0x30",
        ),
        (
            binary(0x21, 0x11, &[0; 4]),
            "IPv4 address data too short: 4 bytes",
        ),
        (
            binary(0x22, 0x11, &[0; 12]),
            "unknown PROXY protocol command: 0x02",
        ),
    ];
    for (header, reason) in cases {
        let mut client = server.connect();
        client.expect("\r\n");
        client.send(&header);
        assert_eq!(client.expect_end(), "", "{reason}");
        let line = server.await_log(reason);
        assert!(
            line.contains("[WRN] Error reading PROXY protocol header from 127.0.0.1:"),
            "{line}"
        );
    }
    let end = "Client connection closed: Protocol Violation";
    let begun = std::time::Instant::now();
    // The socket is closed before the line is written.
    while server.log().matches(end).count() < 8 {
        assert!(begun.elapsed() < common::PATIENCE, "{}", server.log());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // Who sends nothing at all is cut in time.
    let mut silent = server.connect();
    let mut half = server.connect();
    half.send("PROXY TCP4 1.2.3.4 ");
    silent.expect("\r\n");
    assert_eq!(silent.expect_end(), "");
    half.expect("\r\n");
    assert_eq!(half.expect_end(), "");
    server.connect().log_in("");
}
