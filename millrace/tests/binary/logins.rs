//! Who gets in and who does not, over the wire.

#[path = "../../../tests/tables/logins.rs"]
mod table;

use millrace_config::nkey::{KeyKind, PublicKey};

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

/// Every login of the table's cases of a feature, on a connection of its own.
fn check(feature: &str) {
    for case in table::cases(feature) {
        let folder = TempFolder::new();
        let server = server(&folder, &case.configuration);
        for (place, login) in case.logins.iter().enumerate() {
            let fields = [
                ("user", &login.user),
                ("pass", &login.password),
                ("auth_token", &login.token),
            ];
            let given = fields.iter().filter_map(|(name, value)| {
                let value = value.as_ref()?;
                Some(format!("\"{name}\":\"{value}\""))
            });
            let mut options = vec![NOBODY.to_owned()];
            options.extend(given);
            let found = lets_in(&server, &options.join(","));
            let expected = login.accepted_as.is_some();
            assert_eq!(found, expected, "{}: login {place}", case.name);
        }
    }
}

const NOBODY: &str = "\"name\":\"nobody\"";

// proves: AUT-01
#[test]
fn a_single_user() {
    check("AUT-01");
}

// proves: AUT-02
#[test]
fn users_in_a_list_and_in_accounts() {
    check("AUT-02");
}

// proves: AUT-03
#[test]
fn bcrypt_passwords_of_every_prefix() {
    check("AUT-03");
}

// proves: AUT-04
#[test]
fn tokens_plain_and_hashed() {
    check("AUT-04");
}

// proves: AUT-05
#[test]
fn nkey_users_sign_the_nonce_of_their_connection() {
    use data_encoding::BASE64URL_NOPAD;
    use ed25519_dalek::{Signer, SigningKey};
    let signing = SigningKey::from_bytes(&[7; 32]);
    let nkey = PublicKey {
        kind: KeyKind::User,
        key: *signing.verifying_key().as_bytes(),
    }
    .encode();
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
    check("AUT-06");
}

// proves: AUT-07
#[test]
fn with_system_users_only_others_stay_nameless() {
    let folder = TempFolder::new();
    let server = server(&folder, "accounts { $SYS { users [{user s, pass ps}] } }");
    assert!(server.dial().info.contains("\"auth_required\":true"));
    check("AUT-07");
}

// proves: AUT-08
#[test]
fn connection_types_restrict_users() {
    check("AUT-08");
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
