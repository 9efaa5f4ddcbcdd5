//! TLS on the client port, with real handshakes.

mod common;

use common::{Folder, Server};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CipherSuite, ClientConfig, ClientConnection, NamedGroup, RootCertStore, StreamOwned};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// An authority, a server's and a client's certificate, as files in the folder.
fn certificates(folder: &Folder) {
    let mail = "derek@nats.io".try_into().expect("ASCII");
    certificates_for(folder, &["server", "client"], |leaf| {
        leaf.subject_alt_names
            .push(SanType::Rfc822Name(Clone::clone(&mail)));
    });
}

/// As [`certificates`], with certificates of these names that `shape` has changed.
fn certificates_for(folder: &Folder, names: &[&str], shape: impl Fn(&mut CertificateParams)) {
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&authority_key).expect("signed");
    folder.write("ca.pem", &certificate.pem());
    let issuer = Issuer::new(authority, authority_key);
    for name in names {
        let key = KeyPair::generate().expect("a key");
        let mut leaf = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        shape(&mut leaf);
        let certificate = leaf.signed_by(&key, &issuer).expect("signed");
        folder.write(&format!("{name}.pem"), &certificate.pem());
        folder.write(&format!("{name}.key"), &key.serialize_pem());
    }
}

/// A server with these lines in its `tls` block and at the top of its configuration.
fn server(tls: &str, top: &str) -> Server {
    let folder = Folder::new();
    certificates(&folder);
    server_in(folder, tls, top)
}

fn server_in(folder: Folder, tls: &str, top: &str) -> Server {
    let at = folder.0.display();
    let config = format!(
        "tls {{ cert_file: \"{at}/server.pem\", key_file: \"{at}/server.key\", \
         ca_file: \"{at}/ca.pem\", timeout: 1\n{tls}\n}}\n{top}\n"
    );
    let config = folder.write("config", &config);
    Server::start_in(folder, &["-c", &config])
}

fn client_config(folder: &Path, with_certificate: bool) -> Arc<ClientConfig> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    client_config_of(folder, with_certificate, provider)
}

/// As [`client_config`], with the suites and groups of `provider`.
fn client_config_of(
    folder: &Path,
    with_certificate: bool,
    provider: rustls::crypto::CryptoProvider,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(folder.join("ca.pem")).expect("read"))
        .expect("usable");
    let provider = Arc::new(provider);
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
    let of_another_kind = "authorization { users: [ { user: \"derek@nats.io\", \
                           allowed_connection_types: [WEBSOCKET] } ] }";
    assert!(!gets_in(
        &server("verify_and_map: true", of_another_kind),
        true
    ));
}

/// Names a certificate has besides, and the user that it is then.
const NAMES: &[(&str, bool)] = &[
    ("localhost", true),
    ("spiffe://nats.io/derek", true),
    ("CN=Derek,OU=Engineering,O=NATS\\, Inc.", true),
    // The same attributes with blanks, and in another order.
    ("CN=Derek, OU=Engineering, O=NATS\\, Inc.", true),
    ("O=NATS\\, Inc.,OU=Engineering,CN=Derek", true),
    ("CN=Derek,OU=Engineering", false),
    ("nats.io", false),
];

// proves: TLS-04
#[test]
fn host_names_uris_and_subjects_say_which_user_it_is() {
    for (user, is_known) in NAMES {
        let folder = Folder::new();
        certificates_for(&folder, &["server", "client"], |leaf| {
            let uri = "spiffe://nats.io/derek".try_into().expect("ASCII");
            leaf.subject_alt_names.push(SanType::URI(uri));
            let mut name = DistinguishedName::new();
            name.push(DnType::OrganizationName, "NATS, Inc.");
            name.push(DnType::OrganizationalUnitName, "Engineering");
            name.push(DnType::CommonName, "Derek");
            leaf.distinguished_name = name;
        });
        let quoted = user.replace('\\', "\\\\");
        let users = format!("authorization {{ users: [ {{ user: \"{quoted}\" }} ] }}");
        let server = server_in(folder, "verify_and_map: true", &users);
        assert_eq!(gets_in(&server, true), *is_known, "{user}");
    }
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
    // INFO comes when the time for a handshake is over, not before.
    let later = server("handshake_first: \"400ms\"", "");
    let begun = std::time::Instant::now();
    log_in(&mut connect(&later, false, true));
    let client = connect(&later, false, false);
    assert!(begun.elapsed() >= std::time::Duration::from_millis(400));
    drop(client);
}

/// Whether a client with these suites, groups and versions gets through its handshake, and what
/// was agreed.
fn agreed(
    server: &Server,
    suites: Option<CipherSuite>,
    group: Option<NamedGroup>,
    version: &'static rustls::SupportedProtocolVersion,
) -> Option<CipherSuite> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    if let Some(suite) = suites {
        provider
            .cipher_suites
            .retain(|known| known.suite() == suite);
    }
    if let Some(group) = group {
        provider.kx_groups = rustls::crypto::aws_lc_rs::ALL_KX_GROUPS.to_vec();
        provider.kx_groups.retain(|known| known.name() == group);
    }
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(server.path("ca.pem")).expect("read");
    roots.add(authority).expect("usable");
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut client = server.connect();
    client.expect("\r\n");
    client
        .socket
        .set_read_timeout(Some(common::PATIENCE))
        .expect("set");
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a session");
    let mut stream = StreamOwned::new(connection, client.socket);
    stream.conn.complete_io(&mut stream.sock).ok()?;
    stream
        .conn
        .negotiated_cipher_suite()
        .map(|suite| suite.suite())
}

// proves: TLS-09, TLS-15
#[test]
fn suites_of_tls_1_2_are_those_of_the_configuration() {
    let narrow = server(
        "cipher_suites: [ \"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\" ]",
        "",
    );
    let wanted = CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384;
    let other = CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
    assert_eq!(
        agreed(&narrow, None, None, &rustls::version::TLS12),
        Some(wanted)
    );
    assert_eq!(
        agreed(&narrow, Some(other), None, &rustls::version::TLS12),
        None
    );
    assert!(agreed(&narrow, None, None, &rustls::version::TLS13).is_some());
    for (line, reason) in [
        ("cipher_suites: [ \"foo\" ]", "unrecognized cipher foo"),
        (
            "cipher_suites: [ \"TLS_RSA_WITH_AES_128_CBC_SHA\" ]",
            "TLS_RSA_WITH_AES_128_CBC_SHA is insecure and not to be had",
        ),
        (
            "cipher_suites: [ \"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA\" ]",
            "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA is not to be had with this server",
        ),
        ("cipher_suites: []", "'cipher_suites' cannot be empty"),
        (
            "curve_preferences: [ \"foo\" ]",
            "unrecognized curve preference foo",
        ),
        (
            "curve_preferences: [ CurveP521 ]",
            "CurveP521 is not to be had",
        ),
        ("min_version: \"1.1\"", "unsupported TLS version: TLS 1.1"),
        (
            "cert_store: WindowsCurrentUser",
            "cert_store not compatible with current operating system",
        ),
        ("ocsp_peer: true", "\"ocsp_peer\" is not supported"),
    ] {
        assert!(refusal(line).contains(reason), "{line}: {}", refusal(line));
    }
}

/// What a server says that does not start with this line in its `tls` block.
fn refusal(line: &str) -> String {
    let folder = Folder::new();
    let config = folder.write("config", &format!("tls {{ {line} }}\n"));
    let output = common::command(&folder)
        .args(["-p", "-1", "-c", &config])
        .output()
        .expect("ran");
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

// proves: TLS-10
#[test]
fn curves_are_those_of_the_configuration_also_against_quantum_computers() {
    let narrow = server("curve_preferences: [ SecP256r1MLKEM768, CurveP384 ]", "");
    let passes = |group| agreed(&narrow, None, Some(group), &rustls::version::TLS13).is_some();
    assert!(passes(NamedGroup::secp256r1MLKEM768));
    assert!(passes(NamedGroup::secp384r1));
    assert!(!passes(NamedGroup::X25519));
    assert!(!passes(NamedGroup::X25519MLKEM768));
    let any = server("", "");
    let group = NamedGroup::X25519MLKEM768;
    assert!(agreed(&any, None, Some(group), &rustls::version::TLS13).is_some());
}

// proves: TLS-11
#[test]
fn the_oldest_version_is_that_of_the_configuration() {
    let new_only = server("min_version: \"1.3\"", "");
    assert!(agreed(&new_only, None, None, &rustls::version::TLS13).is_some());
    assert_eq!(agreed(&new_only, None, None, &rustls::version::TLS12), None);
}

/// The names in the certificate that a server shows to who asks for `name`.
fn shown(server: &Server, name: &'static str) -> Vec<u8> {
    let mut client = server.connect();
    client.expect("\r\n");
    shown_on(server, name, client.socket)
}

/// As [`shown`], on a socket on which TLS comes next.
fn shown_on(server: &Server, name: &'static str, socket: TcpStream) -> Vec<u8> {
    let config = client_config(&server.folder.0, false);
    let name = ServerName::try_from(name).expect("a name");
    let connection = ClientConnection::new(config, name).expect("a session");
    socket
        .set_read_timeout(Some(common::PATIENCE))
        .expect("set");
    let mut stream = StreamOwned::new(connection, socket);
    let _ = stream.conn.complete_io(&mut stream.sock);
    let chain = stream.conn.peer_certificates().unwrap_or_default();
    chain.first().map(|leaf| leaf.to_vec()).unwrap_or_default()
}

// proves: TLS-12
#[test]
fn of_several_certificates_the_one_for_the_wanted_name_is_shown() {
    let folder = Folder::new();
    certificates_for(&folder, &["server"], |leaf| {
        leaf.subject_alt_names = vec![SanType::DnsName("one.test".try_into().expect("ASCII"))];
    });
    let first = std::fs::read(folder.0.join("server.pem")).expect("text");
    std::fs::rename(folder.0.join("server.pem"), folder.0.join("one.pem")).expect("renamed");
    std::fs::rename(folder.0.join("server.key"), folder.0.join("one.key")).expect("renamed");
    certificates_for(&folder, &["two"], |leaf| {
        leaf.subject_alt_names = vec![SanType::DnsName("*.two.test".try_into().expect("ASCII"))];
    });
    let at = folder.0.display().to_string();
    let config = format!(
        "tls {{ certs: [ {{ cert_file: \"{at}/one.pem\", key_file: \"{at}/one.key\" }}, \
         {{ cert_file: \"{at}/two.pem\", key_file: \"{at}/two.key\" }} ] }}\n"
    );
    let config = folder.write("config", &config);
    let server = Server::start_in(folder, &["-c", &config]);
    let der = |pem: &[u8]| CertificateDer::from_pem_slice(pem).expect("read").to_vec();
    let second = std::fs::read(server.path("two.pem")).expect("text");
    assert_eq!(shown(&server, "x.two.test"), der(&second));
    // Who asks for none of them gets the first, and may refuse it.
    assert_eq!(
        shown(&server, "one.test"),
        Vec::<u8>::new(),
        "of another authority"
    );
    assert_ne!(first, second);
}

// proves: TLS-22, REL-08
#[test]
fn certificates_that_changed_are_shown_after_a_reload_and_live_connections_stay() {
    let mut server = server("", "");
    let mut before = connect(&server, false, false);
    log_in(&mut before);
    let old = std::fs::read(server.path("server.pem")).expect("text");
    certificates(&server.folder);
    let new = std::fs::read(server.path("server.pem")).expect("text");
    assert_ne!(old, new);
    let der = CertificateDer::from_pem_slice(&new).expect("read").to_vec();
    assert_ne!(shown(&server, "localhost"), der, "not before the reload");
    server.signal("HUP");
    server.await_log("Reloaded server configuration");
    assert_eq!(shown(&server, "localhost"), der);
    log_in(&mut connect(&server, false, false));
    before.write_all(b"PING\r\n").expect("sent");
    expect(&mut before, "PONG\r\n");
    // A certificate that is none changes nothing.
    server.folder.write("server.pem", "nothing");
    server.signal("HUP");
    let line = server.await_log("Failed to reload server configuration");
    assert!(line.contains("certificate"), "{line}");
    assert_eq!(shown(&server, "localhost"), der);
}

// proves: REL-08
#[test]
fn a_key_that_is_no_longer_pinned_is_cut_by_a_reload() {
    let mut server = server("verify: true", "");
    let mut client = connect(&server, true, false);
    log_in(&mut client);
    let config = std::fs::read_to_string(server.path("config")).expect("text");
    let pinned = config.replace(
        "verify: true",
        &format!("verify: true, pinned_certs: [ \"{:064}\" ]", 0),
    );
    server.folder.write("config", &pinned);
    server.signal("HUP");
    server.await_log("Reloaded server configuration");
    server.await_log("certificate not pinned: ");
    let mut rest = Vec::new();
    // The socket is cut, without TLS's own notice.
    let end = client.read_to_end(&mut rest).expect_err("cut");
    assert_eq!(end.kind(), std::io::ErrorKind::UnexpectedEof);
    assert!(!gets_in(&server, true));
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
    // Another certificate, read by a reload.
    certificates(&server.folder);
    let new = std::fs::read(server.path("server.pem")).expect("text");
    let der = CertificateDer::from_pem_slice(&new).expect("read").to_vec();
    let port: u16 = port.parse().expect("a number");
    let socket = || TcpStream::connect(("127.0.0.1", port)).expect("connected");
    assert_ne!(shown_on(&server, "localhost", socket()), der);
    server.signal("HUP");
    server.await_log("Reloaded server configuration");
    assert_eq!(shown_on(&server, "localhost", socket()), der);
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

/// Resident memory of the server.
fn resident_bytes(server: &Server) -> u64 {
    let path = format!("/proc/{}/statm", server.process.id());
    let text = std::fs::read_to_string(path).expect("the process lives");
    let pages = text
        .split_whitespace()
        .nth(1)
        .and_then(|text| text.parse().ok());
    let pages: u64 = pages.expect("a number");
    pages * rustix::param::page_size() as u64
}

#[test]
fn handshakes_that_stop_halfway_cost_little_and_are_given_up() {
    let server = server("", "");
    log_in(&mut connect(&server, false, false));
    let before = resident_bytes(&server);
    let mut half: Vec<_> = (0..500).map(|_| server.connect()).collect();
    for (number, client) in half.iter_mut().enumerate() {
        client.expect("\r\n");
        // A record that claims more than it brings, or what is none.
        let start: &[u8] = if number % 2 == 0 {
            b"\x16\x03\x01\x3f\xff\x01\x00\x3f\xfb\x03\x03"
        } else {
            b"\x16\x03\x01\x00"
        };
        client.send(start);
    }
    log_in(&mut connect(&server, false, false));
    let used = resident_bytes(&server).saturating_sub(before);
    assert!(used < 64 * 1024 * 1024, "{used} bytes for 500 handshakes");
    for client in &mut half {
        client.expect_end();
    }
    log_in(&mut connect(&server, false, false));
}
