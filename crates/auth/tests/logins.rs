//! Logins against whole configurations: who gets in, as whom, and who does not.

use millrace_auth::{Authenticator, Credentials, Decision, Facts};
use millrace_config::options::ConnectionType;

fn rules(text: &str) -> Authenticator {
    let no_files = |_: &str| Err("no files here".to_owned());
    let (options, _) = millrace_config::parse(text, "test.conf", &no_files, &|_| None)
        .unwrap_or_else(|errors| panic!("{errors}"));
    Authenticator::new(&options)
}

fn facts() -> Facts<'static> {
    Facts {
        connection_type: ConnectionType::Standard,
        nonce: b"",
        tls_identities: &[],
        peer_ip: None,
        now_wall_ns: 0,
    }
}

/// `account/user` of an accepted login, or how the log names the refused one.
fn outcome(decision: Decision) -> Result<String, String> {
    match decision {
        Decision::Accept(who) => Ok(format!("{}/{}", who.account, who.user)),
        Decision::Reject(rejection) => Err(rejection.who),
        Decision::NeedHash(check) if check.verify() => Ok(format!(
            "{}/{}",
            check.identity.account, check.identity.user
        )),
        Decision::NeedHash(check) => Err(format!("User {:?}", &*check.identity.user)),
    }
}

fn log_in(
    rules: &Authenticator,
    user: &str,
    password: &str,
    token: &str,
) -> Result<String, String> {
    let credentials = Credentials {
        user: Some(user),
        password: Some(password),
        token: Some(token),
        ..Credentials::default()
    };
    outcome(rules.start(&credentials, &facts()))
}

#[test]
fn without_rules_everybody_belongs_to_the_global_account() {
    let rules = rules("port 4222");
    assert!(!rules.is_required());
    assert_eq!(log_in(&rules, "", "", ""), Ok("$G/".to_owned()));
    assert_eq!(log_in(&rules, "x", "y", "z"), Ok("$G/".to_owned()));
}

#[test]
fn a_single_user_needs_name_and_password() {
    let rules = rules("authorization { user: ann, password: secret }");
    assert!(rules.announces_required() && rules.has_plain_passwords());
    assert_eq!(log_in(&rules, "ann", "secret", ""), Ok("$G/ann".to_owned()));
    for (user, password) in [
        ("ann", "Secret"),
        ("ann", ""),
        ("", "secret"),
        ("bob", "secret"),
    ] {
        assert!(
            log_in(&rules, user, password, "").is_err(),
            "{user} {password}"
        );
    }
    assert_eq!(
        log_in(&rules, "bob", "x", ""),
        Err("User \"bob\"".to_owned())
    );
}

#[test]
fn tokens_are_compared_plain_and_as_bcrypt() {
    let plain = rules("authorization { token: t1 }");
    assert_eq!(log_in(&plain, "", "", "t1"), Ok("$G/".to_owned()));
    assert_eq!(
        log_in(&plain, "", "", "t2"),
        Err("Token \"[REDACTED]\"".to_owned())
    );
    assert_eq!(log_in(&plain, "", "", ""), Err(String::new()));
    let hash = bcrypt::hash("t1", 4).expect("hash");
    let hashed = rules(&format!("authorization {{ token: \"{hash}\" }}"));
    assert!(!hashed.has_plain_passwords());
    assert_eq!(log_in(&hashed, "", "", "t1"), Ok("$G/".to_owned()));
    assert!(log_in(&hashed, "", "", &hash).is_err());
}

#[test]
fn every_bcrypt_prefix_is_understood() {
    let hash = bcrypt::hash("pw", 4).expect("hash");
    let tail = hash.split_at(3).1;
    for prefix in ["$2a", "$2b", "$2x", "$2y"] {
        let rules = rules(&format!(
            "authorization {{ users [{{user u, pass \"{prefix}{tail}\"}}] }}"
        ));
        assert_eq!(
            log_in(&rules, "u", "pw", ""),
            Ok("$G/u".to_owned()),
            "{prefix}"
        );
        assert!(log_in(&rules, "u", "no", "").is_err(), "{prefix}");
    }
}

#[test]
fn users_belong_to_their_accounts() {
    let rules = rules(
        "accounts { A { users [{user a, pass pa}] }, B { users [{user b, pass pb}] } }\n\
         authorization { users [{user g, pass pg}] }",
    );
    assert_eq!(log_in(&rules, "a", "pa", ""), Ok("A/a".to_owned()));
    assert_eq!(log_in(&rules, "b", "pb", ""), Ok("B/b".to_owned()));
    assert_eq!(log_in(&rules, "g", "pg", ""), Ok("$G/g".to_owned()));
    assert!(log_in(&rules, "a", "pb", "").is_err());
    assert!(log_in(&rules, "", "", "").is_err());
}

#[test]
fn clients_without_credentials_become_the_no_auth_user() {
    let rules = rules("accounts { A { users [{user a, pass pa}] } }\nno_auth_user a");
    assert!(rules.is_required() && !rules.announces_required());
    assert_eq!(log_in(&rules, "", "", ""), Ok("A/a".to_owned()));
    assert!(log_in(&rules, "a", "wrong", "").is_err());
    assert!(log_in(&rules, "", "", "token").is_err());
}

#[test]
fn with_system_users_only_others_stay_nameless() {
    let system_only = rules("accounts { $SYS { users [{user s, pass ps}] } }");
    assert!(system_only.announces_required());
    assert_eq!(log_in(&system_only, "", "", ""), Ok("$G/".to_owned()));
    assert_eq!(log_in(&system_only, "s", "ps", ""), Ok("$SYS/s".to_owned()));
    assert!(log_in(&system_only, "s", "no", "").is_err());
    let more = rules("accounts { $SYS { users [{user s, pass ps}] }, A {} }");
    assert!(log_in(&more, "", "", "").is_err());
}

#[test]
fn connection_types_limit_where_a_user_may_come_from() {
    let rules = rules(
        "authorization { users [{user w, pass p, allowed_connection_types: [WEBSOCKET]}, \
         {user s, pass p, allowed_connection_types: [standard]}] }",
    );
    assert!(log_in(&rules, "w", "p", "").is_err());
    assert_eq!(log_in(&rules, "s", "p", ""), Ok("$G/s".to_owned()));
}

#[test]
fn certificates_name_the_user_when_they_are_mapped() {
    let rules = rules("tls { verify_and_map true }\nauthorization { users [{user \"a@b.c\"}] }");
    let identities = ["dns.name".to_owned(), "a@b.c".to_owned()];
    let known = Facts {
        tls_identities: &identities,
        ..facts()
    };
    let outcome_of = |facts: &Facts<'_>| outcome(rules.start(&Credentials::default(), facts));
    assert_eq!(outcome_of(&known), Ok("$G/a@b.c".to_owned()));
    assert!(outcome_of(&facts()).is_err());
}

#[test]
fn nkey_users_sign_the_nonce() {
    use data_encoding::BASE64URL_NOPAD;
    use ed25519_dalek::{Signer, SigningKey};
    // Seed of 32 equal bytes; its public key as nkey text is made here as the tools make it.
    let signing = SigningKey::from_bytes(&[7; 32]);
    let nkey = nkey_text(signing.verifying_key().as_bytes());
    let rules = rules(&format!("authorization {{ users [{{nkey {nkey}}}] }}"));
    assert!(rules.needs_nonce());
    let sign = |text: &[u8]| BASE64URL_NOPAD.encode(&signing.sign(text).to_bytes());
    let log_in = |signature: Option<&str>| {
        let credentials = Credentials {
            nkey: Some(&nkey),
            signature,
            ..Credentials::default()
        };
        outcome(rules.start(
            &credentials,
            &Facts {
                nonce: b"the-nonce",
                ..facts()
            },
        ))
    };
    assert_eq!(log_in(Some(&sign(b"the-nonce"))), Ok(format!("$G/{nkey}")));
    assert_eq!(
        log_in(Some(&sign(b"another"))),
        Err(format!("Nkey {nkey:?}"))
    );
    assert!(log_in(Some("garbage")).is_err());
    assert!(log_in(None).is_err());
}

fn nkey_text(public: &[u8]) -> String {
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
