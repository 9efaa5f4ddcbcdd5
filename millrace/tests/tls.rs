//! TLS on the client port, with real handshakes.

mod common;

use common::{Folder, Server};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// An authority, a server's and a client's certificate, as files in the folder.
fn certificates(folder: &Folder) {
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&authority_key).expect("signed");
    folder.write("ca.pem", &certificate.pem());
    let issuer = Issuer::new(authority, authority_key);
    for name in ["server", "client"] {
        let key = KeyPair::generate().expect("a key");
        let mut leaf = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        let mail = "derek@nats.io".try_into().expect("ASCII");
        leaf.subject_alt_names.push(SanType::Rfc822Name(mail));
        let certificate = leaf.signed_by(&key, &issuer).expect("signed");
        folder.write(&format!("{name}.pem"), &certificate.pem());
        folder.write(&format!("{name}.key"), &key.serialize_pem());
    }
}

/// A server with these lines in its `tls` block and at the top of its configuration.
fn server(tls: &str, top: &str) -> Server {
    let folder = Folder::new();
    certificates(&folder);
    let at = folder.0.display();
    let config = format!(
        "tls {{ cert_file: \"{at}/server.pem\", key_file: \"{at}/server.key\", \
         ca_file: \"{at}/ca.pem\", timeout: 1\n{tls}\n}}\n{top}\n"
    );
    let config = folder.write("config", &config);
    Server::start_in(folder, &["-c", &config])
}

fn client_config(folder: &Path, with_certificate: bool) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(folder.join("ca.pem")).expect("read"))
        .expect("usable");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    Arc::new(if with_certificate {
        let chain = vec![CertificateDer::from_pem_file(folder.join("client.pem")).expect("read")];
        let key = PrivateKeyDer::from_pem_file(folder.join("client.key")).expect("read");
        builder.with_client_auth_cert(chain, key).expect("usable")
    } else {
        builder.with_no_client_auth()
    })
}

/// A TLS client; INFO is read from the plain socket first unless TLS comes first.
fn connect(server: &Server, with_certificate: bool, tls_first: bool) -> Stream {
    let mut client = server.connect();
    if !tls_first {
        client.expect("\r\n");
    }
    client
        .socket
        .set_read_timeout(Some(common::PATIENCE))
        .expect("set");
    let name = ServerName::try_from("localhost").expect("a name");
    let config = client_config(&server.folder.0, with_certificate);
    let connection = ClientConnection::new(config, name).expect("a session");
    StreamOwned::new(connection, client.socket)
}

fn expect(stream: &mut Stream, text: &str) {
    let mut received = Vec::new();
    let mut buffer = vec![0; 65536];
    while !received
        .windows(text.len())
        .any(|window| window == text.as_bytes())
    {
        let count = stream.read(&mut buffer).expect("bytes");
        assert!(count > 0, "ended after {}", received.escape_ascii());
        received.extend_from_slice(&buffer[..count]);
    }
}

fn log_in(stream: &mut Stream) {
    stream
        .write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n")
        .expect("sent");
    expect(stream, "PONG\r\n");
}

/// Whether a client gets through CONNECT and PING.
fn gets_in(server: &Server, with_certificate: bool) -> bool {
    let mut stream = connect(server, with_certificate, false);
    let sent = stream.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n");
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    while sent.is_ok() {
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => received.extend_from_slice(&buffer[..count]),
            _ => break,
        }
        if received.windows(4).any(|window| window == b"PONG") {
            return true;
        }
    }
    false
}

// proves: TLS-01
#[test]
fn messages_pass_through_a_connection_that_was_upgraded_after_info() {
    let server = server("", "");
    let mut stream = connect(&server, false, false);
    log_in(&mut stream);
    stream
        .write_all(b"SUB big 1\r\nPUB big 1000000\r\n")
        .expect("sent");
    stream.write_all(&vec![b'x'; 1_000_000]).expect("sent");
    stream.write_all(b"\r\nPUB big 3\r\nend\r\n").expect("sent");
    expect(&mut stream, "MSG big 1 3\r\nend\r\n");
}

// proves: TLS-02
#[test]
fn info_says_what_kind_of_tls_there_is() {
    for (top, wanted) in [
        ("", "\"tls_required\":true"),
        ("allow_non_tls: true", "\"tls_available\":true"),
    ] {
        let info = server("", top).connect().expect("\r\n");
        assert!(info.contains(wanted), "{info}");
    }
    let info = server("verify: true", "").connect().expect("\r\n");
    assert!(info.contains("\"tls_verify\":true"), "{info}");
}

// proves: TLS-05
#[test]
fn a_client_that_stays_plain_is_served_only_where_that_is_allowed() {
    let server_of_both = server("", "allow_non_tls: true");
    server_of_both.connect().log_in("");
    log_in(&mut connect(&server_of_both, false, false));
    let strict = server("", "");
    let mut client = strict.connect();
    client.send("CONNECT {}\r\nPING\r\n");
    assert!(!client.expect_end().contains("PONG"));
}

// proves: TLS-03 TLS-08 REL-08
#[test]
fn certificates_are_asked_for_and_compared_with_pins() {
    let verifying = server("verify: true", "");
    assert!(gets_in(&verifying, true));
    assert!(!gets_in(&verifying, false));
    let mut pinning = server(&format!("verify: true, pinned_certs: [\"{:064}\"]", 0), "");
    assert!(!gets_in(&pinning, true));
    let line = pinning.await_log("certificate not pinned: ");
    let hash = line.rsplit(' ').next().expect("a hash").to_owned();
    // The same key, pinned: the certificates of the first server are used again.
    let folder = &pinning.folder;
    let config = std::fs::read_to_string(folder.0.join("config")).expect("text");
    folder.write("config", &config.replace(&format!("{:064}", 0), &hash));
    pinning.signal("HUP");
    pinning.await_log("Reloaded server configuration");
    assert!(gets_in(&pinning, true));
}

// proves: TLS-04
#[test]
fn a_certificate_says_which_user_it_is() {
    let users = "authorization { users: [ { user: \"derek@nats.io\" } ] }";
    assert!(gets_in(&server("verify_and_map: true", users), true));
    let users = "authorization { users: [ { user: \"someone@nats.io\" } ] }";
    assert!(!gets_in(&server("verify_and_map: true", users), true));
}

// proves: TLS-06
#[test]
fn the_handshake_comes_first_where_it_is_configured_so() {
    let strict = server("handshake_first: true", "");
    log_in(&mut connect(&strict, false, true));
    // A client that waits for INFO is cut when the handshake's time is over.
    assert_eq!(strict.connect().expect_end(), "");
    let either = server("handshake_first: auto", "");
    log_in(&mut connect(&either, false, true));
    log_in(&mut connect(&either, false, false));
}

// proves: TLS-07
#[test]
fn a_handshake_that_never_comes_is_given_up_without_a_word() {
    let server = server("", "");
    let mut client = server.connect();
    client.expect("\r\n");
    assert_eq!(client.expect_end(), "");
}

// proves: TLS-13
#[test]
fn handshakes_beyond_the_rate_are_refused_with_a_text() {
    let server = server("connection_rate_limit: 1", "");
    let mut clients: Vec<_> = (0..5).map(|_| server.connect()).collect();
    let texts: String = clients.iter_mut().map(common::Client::expect_end).collect();
    assert!(texts.contains("-ERR 'Connection throttling is active. Please try again later.'"));
}

/// Some clients wait for the answer before they close their socket.
#[test]
fn a_client_that_closes_its_side_of_tls_is_answered_and_let_go() {
    let server = server("", "");
    let mut stream = connect(&server, false, false);
    log_in(&mut stream);
    stream.conn.send_close_notify();
    stream.flush().expect("sent");
    let mut rest = Vec::new();
    // An end without the server's own notice would be an error.
    stream.read_to_end(&mut rest).expect("a clean end");
}

// proves: WS-22
#[test]
fn a_websocket_is_opened_inside_tls_by_a_client_with_a_certificate() {
    let folder = Folder::new();
    certificates(&folder);
    let at = folder.0.display();
    let block = format!(
        "websocket {{ listen: \"127.0.0.1:-1\", tls {{ cert_file: \"{at}/server.pem\", \
         key_file: \"{at}/server.key\", ca_file: \"{at}/ca.pem\", verify_and_map: true }} }}\n\
         authorization {{ users: [ {{ user: \"derek@nats.io\" }} ] }}\n"
    );
    let config = folder.write("config", &block);
    let mut server = Server::start_in(folder, &["-c", &config]);
    let line = server.await_log("Listening for websocket clients on wss://");
    let (_, port) = line.rsplit_once(':').expect("a port");
    let socket = TcpStream::connect(("127.0.0.1", port.parse::<u16>().expect("a number")));
    let socket = socket.expect("connected");
    socket
        .set_read_timeout(Some(common::PATIENCE))
        .expect("set");
    let name = ServerName::try_from("localhost").expect("a name");
    let config = client_config(&server.folder.0, true);
    let connection = ClientConnection::new(config, name).expect("a session");
    let mut stream = StreamOwned::new(connection, socket);
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
                   Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Version: 13\r\nNats-No-Masking: true\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("sent");
    expect(&mut stream, "\"tls_required\":true");
    let connect = b"CONNECT {\"verbose\":false}\r\nPING\r\n";
    stream
        .write_all(&[0x82, connect.len() as u8])
        .and_then(|()| stream.write_all(connect))
        .expect("sent");
    expect(&mut stream, "PONG\r\n");
}

// proves: WS-01
#[test]
fn a_websocket_listener_must_say_that_it_does_without_tls() {
    let folder = Folder::new();
    let config = folder.write("config", "websocket { port: -1 }\n");
    let output = common::command(&folder)
        .args(["-p", "-1", "-c", &config])
        .output()
        .expect("ran");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("websocket requires TLS configuration"),
        "{text}"
    );
}
