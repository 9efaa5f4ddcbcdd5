//! What clients are told and asked at the doors: addresses, times, proxies; and a server that runs out
//! of sockets.

mod common;

use common::{Client, Folder, Server};
use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signer as _, SigningKey};
use millrace_config::nkey::{KeyKind, PublicKey};
use std::time::{Duration, Instant};

fn start(config: &str) -> Server {
    let folder = Folder::new();
    let config = folder.write("config", config);
    Server::start_in(folder, &["-c", &config])
}

fn reload(server: &mut Server, config: &str) {
    server.folder.write("config", config);
    server.signal("HUP");
    server.await_log("Reloaded server configuration");
}

// proves: LIM-15, LIM-14, LIM-17
#[test]
fn info_names_the_advertised_place_also_after_a_reload() {
    let mut server = start("client_advertise: \"one.test:1\"\n");
    let info = server.connect().expect("\r\n");
    assert!(info.contains("\"host\":\"one.test\",\"port\":1,"), "{info}");
    assert!(
        !info.contains("connect_urls"),
        "one server has no others to name: {info}"
    );
    reload(&mut server, "client_advertise: \"two.test\"\n");
    let port = server.port;
    let info = server.connect().expect("\r\n");
    let expected = format!("\"host\":\"two.test\",\"port\":{port},");
    assert!(info.contains(&expected), "{info}");
}

/// A WebSocket whose frames carry the protocol unmasked.
fn websocket(server: &mut Server) -> Client {
    let line = server.await_log("Listening for websocket clients on ws://");
    let port = line.rsplit(':').next().and_then(|port| port.parse().ok());
    let mut client = Client::new(port.expect("a port"));
    client.send(
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Nats-No-Masking: true\r\n\r\n",
    );
    client.expect("INFO {");
    client
}

fn frame(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("short");
    assert!(length < 126);
    [&[0x82, length], text.as_bytes()].concat()
}

// proves: WS-19
#[test]
fn websockets_are_pinged_at_their_own_interval() {
    let mut server = start(
        "ping_interval: \"1h\"\nwebsocket { listen: \"127.0.0.1:-1\", no_tls: true, \
         ping_interval: \"200ms\" }\n",
    );
    let mut client = websocket(&mut server);
    client.send(frame("CONNECT {\"verbose\":false}\r\nPING\r\n"));
    client.expect("PONG\r\n");
    for _ in 0..3 {
        client.expect("PING\r\n");
        client.send(frame("PONG\r\n"));
    }
}

// proves: WS-16
#[test]
fn websockets_have_their_own_users_and_time_for_connect() {
    let mut server = start(
        "authorization { user: a, password: b, timeout: 60 }\n\
         websocket { listen: \"127.0.0.1:-1\", no_tls: true, \
         authorization { user: w, password: x, timeout: 0.3 } }\n",
    );
    let mut late = websocket(&mut server);
    let begun = Instant::now();
    late.expect("-ERR 'Authentication Timeout'\r\n");
    assert!(begun.elapsed() < Duration::from_secs(15));
    let mut client = websocket(&mut server);
    client.send(frame(
        "CONNECT {\"verbose\":false,\"user\":\"w\",\"pass\":\"x\"}\r\nPING\r\n",
    ));
    client.expect("PONG\r\n");
    let mut other = websocket(&mut server);
    other.send(frame(
        "CONNECT {\"verbose\":false,\"user\":\"a\",\"pass\":\"b\"}\r\nPING\r\n",
    ));
    other.expect("-ERR 'Authorization Violation'\r\n");
}

/// The proxy's key, and its public form.
fn proxy_key() -> (SigningKey, String) {
    let key = SigningKey::from_bytes(&[9; 32]);
    let public = PublicKey {
        kind: KeyKind::User,
        key: key.verifying_key().to_bytes(),
    };
    (key, public.encode())
}

/// What a client gets that a proxy vouches for, or does not.
fn answer(server: &Server, user: &str, signer: Option<&SigningKey>) -> String {
    let mut client = server.connect();
    let info = client.expect("\r\n");
    let nonce = info.split("\"nonce\":\"").nth(1).expect("a nonce");
    let nonce = nonce.split('"').next().expect("an end");
    let signature = signer.map_or(String::new(), |key| {
        let signature = BASE64URL_NOPAD.encode(&key.sign(nonce.as_bytes()).to_bytes());
        format!(",\"proxy_sig\":\"{signature}\"")
    });
    client.send(format!(
        "CONNECT {{\"verbose\":false,\"user\":\"{user}\",\"pass\":\"p\"{signature}}}\r\nPING\r\n"
    ));
    client.expect("\r\n")
}

// proves: TLS-21, KEY-15, KEY-02
#[test]
fn users_may_have_to_come_through_a_proxy_that_proves_itself() {
    let (key, public) = proxy_key();
    let stranger = SigningKey::from_bytes(&[8; 32]);
    let users =
        "users: [ { user: a, password: p, proxy_required: true }, { user: b, password: p } ]";
    let trusted = format!("proxies {{ trusted: [ {{ key: {public} }} ] }}\n");
    let mut server = start(&format!("{trusted}authorization {{ {users} }}\n"));
    let refused = "-ERR 'Authorization Violation'\r\n";
    assert_eq!(answer(&server, "a", Some(&key)), "PONG\r\n");
    assert_eq!(answer(&server, "a", None), refused);
    assert_eq!(answer(&server, "b", None), "PONG\r\n");
    assert_eq!(answer(&server, "b", Some(&key)), "PONG\r\n");
    assert_eq!(answer(&server, "b", Some(&stranger)), refused);
    // Everybody has to.
    reload(
        &mut server,
        &format!("{trusted}authorization {{ proxy_required: true, {users} }}\n"),
    );
    assert_eq!(answer(&server, "b", None), refused);
    assert_eq!(answer(&server, "b", Some(&key)), "PONG\r\n");
}

// proves: KEY-15
#[test]
fn what_is_wrong_in_proxies_is_said_as_the_reference_says_it() {
    let (_, public) = proxy_key();
    for (text, reason) in [
        (
            "proxies: 1",
            "expected proxies to be a map/struct, got int64",
        ),
        ("proxies { foo: 1 }", "unknown field \"foo\""),
        (
            "proxies { trusted: x }",
            "expected proxies' trusted field to be an array, got string",
        ),
        (
            "proxies { trusted: [ { key: UABC } ] }",
            "invalid proxy key \"UABC\"",
        ),
        ("proxy_protocol: 1", "interface {} is int64, not bool"),
    ] {
        let folder = Folder::new();
        let config = folder.write("config", text);
        let output = common::command(&folder)
            .args(["-t", "-c", &config])
            .output()
            .expect("ran");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains(reason),
            "{text}: {said}"
        );
    }
    let folder = Folder::new();
    let text = format!("proxies {{ trusted: [ {{ public_key: {public} }} ] }}\n");
    let config = folder.write("config", &text);
    let status = common::command(&folder)
        .args(["-t", "-c", &config])
        .status();
    assert!(status.expect("ran").success());
}

// proves: SUB-15
#[test]
fn without_the_cache_of_matches_messages_go_the_same_ways() {
    let server = start("disable_sublist_cache: true\n");
    let mut client = server.connect();
    client.log_in("");
    client.send("SUB a.* 1\r\nSUB a.b q 2\r\nPUB a.b 1\r\nx\r\nPUB a.b 1\r\ny\r\nUNSUB 1\r\n");
    for payload in ["x", "y"] {
        let heard = client.expect(&format!("MSG a.b 2 1\r\n{payload}\r\n"));
        assert!(
            heard.contains(&format!("MSG a.b 1 1\r\n{payload}\r\n")),
            "{heard}"
        );
    }
    client.send("PUB a.b 1\r\nz\r\nPING\r\n");
    let heard = client.expect("PONG\r\n");
    assert!(
        heard.contains("MSG a.b 2 1\r\nz\r\n") && !heard.contains("MSG a.b 1 1"),
        "{heard}"
    );
}

// proves: LIM-20
#[test]
fn a_server_without_sockets_pauses_and_takes_clients_again() {
    let mut server = start("debug: false\n");
    let pid = rustix::process::Pid::from_raw(i32::try_from(server.process.id()).expect("fits"));
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.process.id()));
    let open = open.expect("the process lives").count() as u64;
    let limit = rustix::process::Rlimit {
        current: Some(open + 4),
        maximum: Some(open + 4),
    };
    rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit).expect("set");
    let mut clients: Vec<Client> = (0..12).map(|_| server.connect()).collect();
    server.await_log("Error accepting connection");
    let refusals = server.log().matches("Error accepting connection").count();
    assert!(refusals < 100, "with pauses in between");
    clients.truncate(2);
    // Those that waited in the queue come and go; then there is room.
    server.connect().log_in("");
}
