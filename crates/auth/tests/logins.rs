//! Logins against whole configurations: who gets in, as whom, and who does not.

#[path = "../../../tests/tables/logins.rs"]
mod table;

use millrace_auth::{Authenticator, Credentials, Decision, Facts};
use millrace_config::nkey::{KeyKind, PublicKey};
use millrace_config::options::ConnectionType;
use table::Login;

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
        Decision::Ask(callout) => Err(format!("asked in {:?}", callout.account)),
    }
}

fn log_in(rules: &Authenticator, login: &Login) -> Result<String, String> {
    let credentials = Credentials {
        user: login.user.as_deref(),
        password: login.password.as_deref(),
        token: login.token.as_deref(),
        ..Credentials::default()
    };
    outcome(rules.start(&credentials, &facts()))
}

#[test]
fn every_login_of_the_table_ends_as_it_says() {
    for case in table::cases("AUT-") {
        let rules = rules(&case.configuration);
        for (place, login) in case.logins.iter().enumerate() {
            let found = log_in(&rules, login).ok();
            assert_eq!(found, login.accepted_as, "{}: login {place}", case.name);
        }
    }
}

#[test]
fn without_rules_everybody_belongs_to_the_global_account() {
    let rules = rules("port 4222");
    assert!(!rules.is_required());
    for name in [None, Some("x".to_owned())] {
        let login = Login {
            password: name.clone(),
            user: name,
            token: None,
            accepted_as: None,
        };
        assert_eq!(log_in(&rules, &login), Ok("$G/".to_owned()));
    }
}

#[test]
fn a_refused_login_is_named_without_its_secret() {
    let refused = |text: &str, credentials: Credentials<'_>| {
        outcome(rules(text).start(&credentials, &facts())).expect_err("refused")
    };
    let user = Credentials {
        user: Some("bob"),
        password: Some("x"),
        ..Credentials::default()
    };
    let text = "authorization { user: ann, password: secret }";
    assert_eq!(refused(text, user), "User \"bob\"");
    let token = Credentials {
        token: Some("t2"),
        ..Credentials::default()
    };
    let text = "authorization { token: t1 }";
    assert_eq!(refused(text, token), "Token \"[REDACTED]\"");
    assert_eq!(refused(text, Credentials::default()), "");
}

#[test]
fn a_hash_is_not_its_own_password() {
    let hash = bcrypt::hash("t1", 4).expect("hash");
    let hashed = rules(&format!("authorization {{ token: \"{hash}\" }}"));
    let credentials = Credentials {
        token: Some(&hash),
        ..Credentials::default()
    };
    assert!(outcome(hashed.start(&credentials, &facts())).is_err());
}

#[test]
fn what_is_announced_follows_from_the_rules() {
    // Configuration; a login is needed; INFO says so; it holds plain passwords.
    let rows = [
        (
            "authorization { user: ann, password: secret }",
            true,
            true,
            true,
        ),
        ("authorization { token: t1 }", true, true, true),
        (
            "accounts { A { users [{user a, pass pa}] } }\nno_auth_user a",
            true,
            false,
            true,
        ),
        (
            "accounts { $SYS { users [{user s, pass ps}] } }",
            true,
            true,
            true,
        ),
    ];
    for (text, required, announced, plain) in rows {
        let rules = rules(text);
        let found = (
            rules.is_required(),
            rules.announces_required(),
            rules.has_plain_passwords(),
        );
        assert_eq!(found, (required, announced, plain), "{text}");
    }
    let hash = bcrypt::hash("t1", 4).expect("hash");
    assert!(!rules(&format!("authorization {{ token: \"{hash}\" }}")).has_plain_passwords());
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
    let signing = SigningKey::from_bytes(&[7; 32]);
    let nkey = PublicKey {
        kind: KeyKind::User,
        key: *signing.verifying_key().as_bytes(),
    }
    .encode();
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
