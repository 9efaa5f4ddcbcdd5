//! Who gets in and who does not, over the wire.

use crate::server::{Name, Server, TempFolder, run};

/// A server with this text behind its listener.
fn server(folder: &TempFolder, text: &str) -> Server {
    folder.write("server.conf", &format!("listen: 127.0.0.1:-1\n{text}"));
    let mut server = Server::start(folder, Name::NatsServer, "-c server.conf");
    server.wait_for("Server is ready");
    server
}

/// Whether a CONNECT with these options is let in; a refusal has its exact form.
fn lets_in(server: &Server, options: &str) -> bool {
    let mut client = server.connect(&format!("{{\"verbose\":false,{options}}}"));
    match client.ping().as_slice() {
        [] => true,
        [error] => {
            assert_eq!(error, "-ERR 'Authorization Violation'");
            assert_eq!(client.line(), None);
            false
        }
        other => panic!("{other:?}"),
    }
}

fn check(text: &str, good: &[&str], bad: &[&str]) {
    let folder = TempFolder::new();
    let server = server(&folder, text);
    for options in good {
        assert!(lets_in(&server, options), "{text}: {options}");
    }
    for options in bad {
        assert!(!lets_in(&server, options), "{text}: {options}");
    }
}

const NOBODY: &str = "\"name\":\"nobody\"";

// proves: AUT-01
#[test]
fn a_single_user() {
    check(
        "authorization { user: ann, password: s3cret }",
        &[r#""user":"ann","pass":"s3cret""#],
        &[
            r#""user":"ann","pass":"S3cret""#,
            r#""user":"bob","pass":"s3cret""#,
            NOBODY,
        ],
    );
}

// proves: AUT-02
#[test]
fn users_in_a_list_and_in_accounts() {
    check(
        "authorization { users [{user a, pass pa}, {user b, pass pb}] }\n\
         accounts { X { users [{user x, pass px}] } }",
        &[
            r#""user":"a","pass":"pa""#,
            r#""user":"b","pass":"pb""#,
            r#""user":"x","pass":"px""#,
        ],
        &[
            r#""user":"a","pass":"pb""#,
            r#""user":"x","pass":"""#,
            NOBODY,
        ],
    );
}

// proves: AUT-03
#[test]
fn bcrypt_passwords_of_every_prefix() {
    let hash = bcrypt::hash("password", 4).expect("hash");
    let tail = hash.split_at(3).1;
    for prefix in ["$2a", "$2b", "$2x", "$2y"] {
        check(
            &format!("authorization {{ users [{{user u, pass \"{prefix}{tail}\"}}] }}"),
            &[r#""user":"u","pass":"password""#],
            &[r#""user":"u","pass":"passwort""#, r#""user":"u""#],
        );
    }
}

// proves: AUT-04
#[test]
fn tokens_plain_and_hashed() {
    let hash = bcrypt::hash("t1", 4).expect("hash");
    for token in ["t1", hash.as_str()] {
        check(
            &format!("authorization {{ token: \"{token}\" }}"),
            &[r#""auth_token":"t1""#],
            &[r#""auth_token":"t2""#, NOBODY],
        );
    }
}

// proves: AUT-05
#[test]
fn nkey_users_sign_the_nonce_of_their_connection() {
    use data_encoding::BASE64URL_NOPAD;
    use ed25519_dalek::{Signer, SigningKey};
    let signing = SigningKey::from_bytes(&[7; 32]);
    let nkey = public_nkey(signing.verifying_key().as_bytes());
    let folder = TempFolder::new();
    let server = server(
        &folder,
        &format!("authorization {{ users [{{nkey: {nkey}}}] }}"),
    );
    let log_in = |forge: bool| {
        let mut client = server.dial();
        let nonce = client
            .info
            .split("\"nonce\":\"")
            .nth(1)
            .expect("a nonce in INFO");
        let nonce = nonce.split('"').next().expect("its end").to_owned();
        let text = if forge { "another nonce" } else { &nonce };
        let signature = BASE64URL_NOPAD.encode(&signing.sign(text.as_bytes()).to_bytes());
        client.send(&format!(
            "CONNECT {{\"verbose\":false,\"nkey\":\"{nkey}\",\"sig\":\"{signature}\"}}\r\n"
        ));
        client.ping()
    };
    assert!(log_in(false).is_empty());
    assert_eq!(log_in(true), ["-ERR 'Authorization Violation'"]);
    assert!(!lets_in(&server, NOBODY));
}

fn public_nkey(public: &[u8]) -> String {
    const USER_PREFIX: u8 = 20 << 3;
    let mut bytes = vec![USER_PREFIX];
    bytes.extend_from_slice(public);
    let crc = bytes.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            }
        })
    });
    bytes.extend_from_slice(&crc.to_le_bytes());
    data_encoding::BASE32_NOPAD.encode(&bytes)
}

// proves: AUT-06
#[test]
fn nameless_clients_become_the_no_auth_user() {
    let folder = TempFolder::new();
    let text = "accounts { A { users [{user a, pass pa, permissions { publish: mine }}] } }\n\
                no_auth_user: a";
    let server = server(&folder, text);
    let mut client = server.dial();
    assert!(!client.info.contains("auth_required"), "{}", client.info);
    client.send("CONNECT {\"verbose\":false}\r\n");
    let denied = "-ERR 'Permissions Violation for Publish to \"other\"'";
    assert_eq!(
        client.exchange("PUB mine 0\r\n\r\nPUB other 0\r\n\r\n"),
        [denied]
    );
    assert!(lets_in(&server, r#""user":"a","pass":"pa""#));
    assert!(!lets_in(&server, r#""user":"a","pass":"no""#));
}

// proves: AUT-07
#[test]
fn with_system_users_only_others_stay_nameless() {
    let folder = TempFolder::new();
    let server = server(&folder, "accounts { $SYS { users [{user s, pass ps}] } }");
    assert!(server.dial().info.contains("\"auth_required\":true"));
    assert!(lets_in(&server, NOBODY));
    assert!(lets_in(&server, r#""user":"s","pass":"ps""#));
    assert!(!lets_in(&server, r#""user":"s","pass":"no""#));
}

// proves: AUT-08
#[test]
fn connection_types_restrict_users() {
    check(
        "authorization { users [{user w, pass p, allowed_connection_types: [WEBSOCKET]}, \
         {user s, pass p, allowed_connection_types: [standard, mqtt]}] }",
        &[r#""user":"s","pass":"p""#],
        &[r#""user":"w","pass":"p""#],
    );
}

#[test]
fn a_reload_changes_who_gets_in_and_sends_away_who_no_longer_does() {
    let folder = TempFolder::new();
    let mut server = server(
        &folder,
        "authorization { users [{user: ann, password: one}] }",
    );
    let mut client = server.connect(r#"{"verbose":false,"user":"ann","pass":"one"}"#);
    assert!(client.ping().is_empty());
    folder.write(
        "server.conf",
        "listen: 127.0.0.1:-1\nauthorization { users [{user: ann, password: two}] }",
    );
    let pid = server.pid();
    assert_eq!(
        run(&folder, Name::NatsServer, &format!("-sl reload={pid}")).code,
        0
    );
    server.wait_for("Reloaded server configuration");
    assert_eq!(
        client.line().as_deref(),
        Some("-ERR 'Authorization Violation'")
    );
    assert_eq!(client.line(), None);
    assert!(lets_in(&server, r#""user":"ann","pass":"two""#));
    assert!(!lets_in(&server, r#""user":"ann","pass":"one""#));
}
