//! Operator mode over the wire: the same tokens shown to the reference and to ours, the answers
//! compared.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

#[path = "operator/versions.rs"]
mod versions;

use std::time::{SystemTime, UNIX_EPOCH};

use millrace_tests::packages::{reference_binary, skip};
use millrace_tests::raw::RawClient;
use millrace_tests::tokens::Key;
use millrace_tests::{Server, ServerBuilder};
use serde_json::{Value, json};

/// The cast: one operator with a signing key, accounts, and a user.
struct Cast {
    operator: Key,
    operator_signing: Key,
    account: Key,
    account_signing: Key,
    scoped: Key,
    system: Key,
    stranger: Key,
    user: Key,
}

impl Cast {
    fn new() -> Self {
        Self {
            operator: Key::operator(1),
            operator_signing: Key::operator(2),
            account: Key::account(3),
            account_signing: Key::account(4),
            scoped: Key::account(5),
            system: Key::account(6),
            stranger: Key::account(7),
            user: Key::user(8),
        }
    }

    /// A configuration whose account has these claims laid over the usual ones.
    fn config(&self, strict: bool, account: &Value) -> String {
        let operator = self.operator.token(
            &self.operator.public,
            &json!({}),
            json!({
                "type": "operator",
                "signing_keys": [self.operator_signing.public],
                "system_account": self.system.public,
                "strict_signing_key_usage": strict,
            }),
        );
        let mut claims = json!({
            "type": "account",
            "limits": unlimited(),
            "signing_keys": [
                self.account_signing.public,
                {
                    "kind": "user_scope",
                    "key": self.scoped.public,
                    "role": "r",
                    "template": {
                        "pub": {"allow": ["only.{{name()}}"]},
                        "sub": {"allow": ["only.{{tag(dept)}}", "_INBOX.>"]},
                        "subs": -1, "data": -1, "payload": -1,
                    },
                },
            ],
            "default_permissions": {"pub": {"deny": ["forbidden"]}, "sub": {}},
        });
        for (name, value) in account.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        let signed = |key: &Key, claims: Value| {
            self.operator_signing
                .token(&key.public, &json!({"name": "acme"}), claims)
        };
        let system = json!({"type": "account", "limits": unlimited()});
        format!(
            "operator: {operator}\nresolver: MEMORY\nresolver_preload: {{\n{}: {}\n{}: {}\n}}\n",
            self.account.public,
            signed(&self.account, claims),
            self.system.public,
            signed(&self.system, system),
        )
    }

    /// A configuration with a full resolver in which `account` may log in with the system account's
    /// user as well.
    fn full_config(&self, directory: &str, options: &str, account: &Value) -> String {
        let config = self.config(false, account);
        config.replace(
            "resolver: MEMORY",
            &format!("resolver: {{type: full, dir: \"{directory}\"{options}}}"),
        )
    }

    /// The token of an account with these claims laid over plain ones.
    fn account_token(&self, key: &Key, fields: &Value, claims: &Value) -> String {
        let mut all = json!({
            "type": "account", "limits": unlimited(), "signing_keys": [self.account_signing.public],
        });
        for (name, value) in claims.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        self.operator_signing.token(&key.public, fields, all)
    }

    /// A client of the system account.
    fn administrator(&self, server: &Server) -> RawClient {
        let claims = json!({"issuer_account": self.system.public, "bearer_token": true});
        let token = self.user(&self.system, &json!({}), &claims);
        let mut client = connect(server, &token, None);
        assert_eq!(client.flush(), b"");
        client
    }

    /// A user token with these claims, signed by `issuer`.
    fn user(&self, issuer: &Key, fields: &Value, nats: &Value) -> String {
        let mut claims = json!({
            "type": "user",
            "issuer_account": self.account.public,
            "subs": -1, "data": -1, "payload": -1,
        });
        for (name, value) in nats.as_object().into_iter().flatten() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        issuer.token(&self.user.public, fields, claims)
    }
}

fn unlimited() -> Value {
    json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1,
    })
}

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A client that has sent CONNECT with this token, and the signature if `signer` is given.
fn connect(server: &Server, token: &str, signer: Option<&Key>) -> RawClient {
    let mut client = server.connect();
    let info = String::from_utf8(client.read_line()).unwrap();
    let info: Value = serde_json::from_str(info.trim_start_matches("INFO ")).unwrap();
    assert_eq!(info["auth_required"], true);
    let nonce = info["nonce"].as_str().unwrap();
    let mut options = json!({
        "verbose": false, "pedantic": false, "headers": true, "no_responders": true,
    });
    if !token.is_empty() {
        options["jwt"] = json!(token);
    }
    if let Some(signer) = signer {
        options["sig"] = json!(signer.sign(nonce));
    }
    client.send(format!("CONNECT {options}\r\n").as_bytes());
    client
}

/// What a server answers to a login and to some verbs behind it.
fn transcript(server: &Server, token: &str, signer: Option<&Key>, verbs: &str) -> String {
    let mut client = connect(server, token, signer);
    client.send(format!("PING\r\n{verbs}PING\r\n").as_bytes());
    let mut text = String::new();
    let mut pongs = 0;
    while pongs < 2 {
        let line = String::from_utf8(client.read_line_or_end()).unwrap();
        if line.is_empty() {
            text.push_str("closed\n");
            break;
        }
        pongs += usize::from(line == "PONG\r\n");
        if !line.starts_with("INFO ") {
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text
}

/// One login: its name, the token, whether it is signed by the user, verbs to try.
struct Login {
    name: &'static str,
    token: String,
    is_signed: bool,
    verbs: &'static str,
}

fn login(name: &'static str, token: String, verbs: &'static str) -> Login {
    Login {
        name,
        token,
        is_signed: true,
        verbs,
    }
}

fn logins(cast: &Cast) -> Vec<Login> {
    let mut logins = who_signed(cast);
    logins.extend(when_and_where(cast));
    logins.extend(what_is_allowed(cast));
    logins.extend(scoped(cast));
    logins
}

fn who_signed(cast: &Cast) -> Vec<Login> {
    let plain = |issuer: &Key, nats: Value| cast.user(issuer, &json!({}), &nats);
    let (account, signing) = (&cast.account, &cast.account_signing);
    let unnamed = json!({"issuer_account": null});
    let other = json!({"issuer_account": cast.stranger.public});
    let mut forged = plain(account, json!({}));
    let place = forged.len() - 40;
    let wrong = if forged.as_bytes()[place] == b'A' {
        "B"
    } else {
        "A"
    };
    forged.replace_range(place..=place, wrong);
    let unsigned = |name, token| Login {
        is_signed: false,
        ..login(name, token, "")
    };
    vec![
        login("by the account", plain(account, json!({})), ""),
        login("by a signing key", plain(signing, json!({})), ""),
        login(
            "account key, no issuer_account",
            plain(account, unnamed.clone()),
            "",
        ),
        login(
            "signing key, no issuer_account",
            plain(signing, unnamed),
            "",
        ),
        login("no token", String::new(), ""),
        unsigned("no signature", plain(account, json!({}))),
        unsigned("bearer", plain(account, json!({"bearer_token": true}))),
        login("not a token", "eyJhbGciOiJ4In0.e30.AA".to_owned(), ""),
        login("by a stranger", plain(&cast.stranger, json!({})), ""),
        login("unknown account", plain(&cast.stranger, other), ""),
        login("forged", forged, ""),
    ]
}

fn when_and_where(cast: &Cast) -> Vec<Login> {
    let now = now_s();
    let timed = |fields: Value| cast.user(&cast.account, &fields, &json!({}));
    let limited = |nats: Value| cast.user(&cast.account, &json!({}), &nats);
    let from = |networks: Value| limited(json!({"src": networks}));
    let types = |types: Value| limited(json!({"allowed_connection_types": types}));
    let all_day = json!([{"start": "00:00:00", "end": "23:59:59"}]);
    let at = |place: &str| limited(json!({"times": all_day, "times_location": place}));
    vec![
        login("expired", timed(json!({"exp": now - 10})), ""),
        login("expires later", timed(json!({"exp": now + 1000})), ""),
        login("not yet valid", timed(json!({"nbf": now + 1000})), ""),
        login("valid since long", timed(json!({"nbf": now - 1000})), ""),
        login("from here", from(json!(["127.0.0.0/8"])), ""),
        login(
            "from two networks",
            from(json!(["10.0.0.0/8", "127.0.0.1/32"])),
            "",
        ),
        login("from elsewhere", from(json!(["10.0.0.0/8"])), ""),
        login("type fits", types(json!(["STANDARD"])), ""),
        login("one type fits", types(json!(["MQTT", "standard"])), ""),
        login("type does not fit", types(json!(["WEBSOCKET"])), ""),
        login("any time of the day", at("UTC"), ""),
        login("a place that is none", at("No/Where"), ""),
    ]
}

fn what_is_allowed(cast: &Cast) -> Vec<Login> {
    let with = |nats: Value| cast.user(&cast.account, &json!({}), &nats);
    let rules = json!({"pub": {"allow": ["a"]}, "sub": {"deny": ["b"]}});
    vec![
        login(
            "permissions",
            with(rules),
            "PUB a 1\r\nx\r\nPUB c 1\r\nx\r\nSUB b 1\r\nSUB c 2\r\n",
        ),
        login(
            "default permissions",
            with(json!({})),
            "PUB forbidden 1\r\nx\r\nPUB c 1\r\nx\r\n",
        ),
        login(
            "subscriptions",
            with(json!({"subs": 2})),
            "SUB a 1\r\nSUB b 2\r\nSUB c 3\r\n",
        ),
        login(
            "payload",
            with(json!({"payload": 4})),
            "PUB a 4\r\nabcd\r\nPUB a 5\r\nabcde\r\n",
        ),
    ]
}

fn scoped(cast: &Cast) -> Vec<Login> {
    const VERBS: &str = "PUB only.bob 1\r\nx\r\nPUB only.al 1\r\nx\r\nSUB only.x 1\r\nSUB only.y 2\r\n\
                         SUB only.z 3\r\nSUB only.bob 4\r\n";
    let bob = |more: Value| {
        let mut nats = json!({"subs": null, "data": null, "payload": null});
        for (name, value) in more.as_object().into_iter().flatten() {
            nats[name] = value.clone();
        }
        cast.user(&cast.scoped, &json!({"name": "bob"}), &nats)
    };
    let tags = json!(["dept:x", "dept:y"]);
    vec![
        login("scoped", bob(json!({"tags": tags})), VERBS),
        login("scoped without the tag", bob(json!({})), VERBS),
        login(
            "scoped with own limits",
            bob(json!({"tags": tags, "subs": -1})),
            "",
        ),
        login(
            "scoped with own rules",
            bob(json!({"pub": {"allow": ["z"]}})),
            "",
        ),
    ]
}

// proves: JWT-01, JWT-02, JWT-03, JWT-04, JWT-05, JWT-06, JWT-09, JWT-12
#[test]
fn logins_are_judged_as_the_reference_does() {
    let cast = Cast::new();
    let config = cast.config(false, &json!({}));
    let Some([reference, ours]) = Server::pair("operator logins", &config) else {
        return;
    };
    let mut accepted = 0;
    for login in logins(&cast) {
        let signer = login.is_signed.then_some(&cast.user);
        let expected = transcript(&reference, &login.token, signer, login.verbs);
        let found = transcript(&ours, &login.token, signer, login.verbs);
        assert_eq!(found, expected, "{}", login.name);
        accepted += usize::from(expected.starts_with("PONG"));
    }
    assert!(accepted >= 15, "{accepted} of the logins are accepted");
}

// proves: JWT-06, JWT-08, JWT-11
#[test]
fn accounts_forbid_bearers_revoke_users_and_limit_connections() {
    let cast = Cast::new();
    let signing = &cast.account_signing;
    let plain = cast.user(signing, &json!({}), &json!({}));
    let bearer = cast.user(signing, &json!({}), &json!({"bearer_token": true}));
    let newer = cast.user(signing, &json!({"iat": 1_760_000_000}), &json!({}));
    let by_identity = cast.user(&cast.account, &json!({}), &json!({}));
    let tokens = [
        ("plain", &plain),
        ("bearer", &bearer),
        ("newer", &newer),
        ("by the identity key", &by_identity),
    ];
    let mut no_bearer = unlimited();
    no_bearer["disallow_bearer"] = json!(true);
    let mut one_client = unlimited();
    one_client["conn"] = json!(0);
    let claims = [
        json!({"limits": no_bearer}),
        json!({"revocations": {&cast.user.public: 1_700_000_000}}),
        json!({"revocations": {"*": 1_750_000_000}}),
        json!({"revocations": {&cast.stranger.public: 1_750_000_000}}),
        json!({"limits": one_client}),
    ];
    for claims in claims {
        let config = cast.config(true, &claims);
        let Some([reference, ours]) = Server::pair("operator accounts", &config) else {
            return;
        };
        for (name, token) in tokens {
            let expected = transcript(&reference, token, Some(&cast.user), "");
            let found = transcript(&ours, token, Some(&cast.user), "");
            assert_eq!(found, expected, "{name} {claims}");
        }
    }
}

// proves: JWT-01, JWT-10, JWT-17
#[test]
fn trusted_keys_pinned_accounts_and_a_sentinel_decide_who_gets_in() {
    let cast = Cast::new();
    let plain = cast.config(false, &json!({}));
    let (_, accounts) = plain.split_once('\n').unwrap();
    let sentinel = cast.user(&cast.account, &json!({}), &json!({"bearer_token": true}));
    let configs = [
        format!(
            "trusted_keys: [{}]\n{accounts}",
            cast.operator_signing.public
        ),
        format!(
            "{plain}resolver_pinned_accounts: [{}]\n",
            cast.stranger.public
        ),
        format!(
            "{plain}resolver_pinned_accounts: [{}]\n",
            cast.account.public
        ),
        format!("{plain}default_sentinel: {sentinel}\n"),
    ];
    let signed = cast.user(&cast.account, &json!({}), &json!({}));
    for config in configs {
        let Some([reference, ours]) = Server::pair("operator settings", &config) else {
            return;
        };
        for token in ["", &signed] {
            let expected = transcript(&reference, token, Some(&cast.user), "");
            let found = transcript(&ours, token, Some(&cast.user), "");
            assert_eq!(found, expected, "{config} {token}");
        }
    }
}

// proves: JWT-07
#[test]
fn a_connection_ends_when_its_token_expires() {
    let cast = Cast::new();
    let config = cast.config(false, &json!({}));
    let Some(servers) = Server::pair("operator expiry", &config) else {
        return;
    };
    let token = cast.user(
        &cast.account,
        &json!({"exp": now_s() + 3}),
        &json!({"bearer_token": true}),
    );
    let clients = servers.map(|server| {
        let mut client = connect(&server, &token, None);
        assert_eq!(client.flush(), b"");
        (server, client)
    });
    for (_server, mut client) in clients {
        let end = String::from_utf8(client.read_to_end()).unwrap();
        let end = end.replace("PING\r\n", "");
        assert_eq!(end, "-ERR 'User Authentication Expired'\r\n");
    }
}

// proves: JWT-07
#[test]
fn connections_end_when_the_token_of_their_account_expires() {
    let cast = Cast::new();
    let config = cast.config(false, &json!({}));
    let claims = json!({"type": "account", "limits": unlimited()});
    // Built before the time begins to run.
    let _ = millrace_tests::millrace_binary();
    let fields = json!({"exp": now_s() + 4});
    let account = cast
        .operator_signing
        .token(&cast.account.public, &fields, claims);
    let lines: Vec<String> = config
        .lines()
        .map(|line| match line.starts_with(&cast.account.public) {
            true => format!("{}: {account}", cast.account.public),
            false => line.to_owned(),
        })
        .collect();
    let Some(servers) = Server::pair("account expiry", &lines.join("\n")) else {
        return;
    };
    let token = cast.user(&cast.account, &json!({}), &json!({"bearer_token": true}));
    let clients = servers.map(|server| {
        let mut client = connect(&server, &token, None);
        assert_eq!(client.flush(), b"");
        (server, client)
    });
    for (_server, mut client) in clients {
        let end = String::from_utf8(client.read_to_end()).unwrap();
        let end = end.replace("PING\r\n", "");
        assert_eq!(end, "-ERR 'Account Authentication Expired'\r\n");
    }
}

/// Whether a server starts with a configuration, and what it says if not.
fn refusal(binary: &std::path::Path, config: &str) -> Option<String> {
    let folder = millrace_tests::fresh_folder("refusal");
    let path = folder.join("server.conf");
    std::fs::write(&path, config).unwrap();
    let output = std::process::Command::new(binary)
        .args(["-a", "127.0.0.1", "-p", "-1", "-t", "-c"])
        .arg(&path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    std::fs::remove_dir_all(&folder).unwrap();
    (!output.status.success()).then_some(text)
}

// proves: JWT-01, JWT-02
#[test]
fn forged_operators_and_accounts_are_refused_at_start() {
    let cast = Cast::new();
    let good = cast.config(false, &json!({}));
    let ours = millrace_tests::millrace_binary();
    assert_eq!(refusal(&ours, &good), None);
    let place = good.find('\n').unwrap() - 30;
    let mut forged = good.clone();
    let other = if forged.as_bytes()[place] == b'A' {
        "B"
    } else {
        "A"
    };
    forged.replace_range(place..=place, other);
    let text = refusal(&ours, &forged).expect("a forged operator");
    assert!(text.contains("error parsing operator JWT"), "{text}");
    let importing =
        json!({"imports": [{"name": "i", "subject": "x", "type": "stream", "account": "A"}]});
    let server = ServerBuilder::millrace()
        .config(&cast.config(false, &importing))
        .start();
    let log = server.log();
    assert!(
        log.contains("account not defined for stream import"),
        "{log}"
    );
    let users = format!("{good}\nauthorization {{ users: [{{user a, password b}}] }}\n");
    let text = refusal(&ours, &users).expect("users beside an operator");
    assert!(text.contains("'Users'"), "{text}");
    let alien = Cast {
        operator: Key::operator(20),
        operator_signing: Key::operator(21),
        ..Cast::new()
    };
    let (_, accounts) = alien
        .config(false, &json!({}))
        .split_once('\n')
        .map_or_else(
            || panic!("two lines"),
            |(first, rest)| (first.to_owned(), rest.to_owned()),
        );
    let (first, _) = good.split_once('\n').unwrap();
    let text = refusal(&ours, &format!("{first}\n{accounts}")).expect("alien accounts");
    assert!(text.contains("resolver_preload"), "{text}");
}

/// What both servers answer, without who answers and when.
fn answer(client: &mut RawClient, subject: &str, payload: &str) -> Value {
    let message = client.request(subject, payload.as_bytes());
    match serde_json::from_slice::<Value>(&message.payload) {
        Ok(mut value) => {
            assert!(value["server"]["id"].is_string(), "{value}");
            value["server"] = json!("server");
            if let Some(list) = value["data"].as_array_mut() {
                list.sort_by_key(ToString::to_string);
            }
            value
        }
        Err(_) => json!(message.text()),
    }
}

/// Requests about tokens in turn, and the one among them that nobody trusted has signed.
fn token_requests(cast: &Cast) -> (Vec<(String, String)>, String) {
    let (fresh, unknown) = (Key::account(30), Key::account(31));
    let stranger = Key::operator(32);
    let text =
        |iat: i64| cast.account_token(&fresh, &json!({"iat": iat, "name": "fresh"}), &json!({}));
    let plain = json!({"type": "account", "limits": unlimited()});
    let forged = stranger.token(&fresh.public, &json!({}), plain);
    let delete = |issuer: &Key, accounts: Value| {
        let claims = json!({"type": "generic", "accounts": accounts});
        issuer.token(&issuer.public, &json!({}), claims)
    };
    let named = |key: &Key, what: &str| format!("$SYS.REQ.ACCOUNT.{}.CLAIMS.{what}", key.public);
    let claims = |what: &str| format!("$SYS.REQ.CLAIMS.{what}");
    let old_name = format!("$SYS.ACCOUNT.{}.CLAIMS.UPDATE", fresh.public);
    let nothing = String::new;
    let steps = vec![
        (claims("LIST"), nothing()),
        (claims("UPDATE"), text(1_750_000_000)),
        (claims("LIST"), nothing()),
        (named(&fresh, "LOOKUP"), nothing()),
        (named(&unknown, "LOOKUP"), nothing()),
        (named(&fresh, "UPDATE"), text(1_750_000_001)),
        (named(&fresh, "LOOKUP"), nothing()),
        (named(&unknown, "UPDATE"), text(1_750_000_002)),
        (old_name, text(1_750_000_003)),
        (claims("UPDATE"), forged.clone()),
        (claims("UPDATE"), nothing()),
        (claims("DELETE"), delete(&stranger, json!([fresh.public]))),
        (
            claims("DELETE"),
            delete(&cast.operator, json!([cast.system.public])),
        ),
        (
            claims("DELETE"),
            delete(&cast.operator, json!([fresh.public])),
        ),
        (claims("LIST"), nothing()),
        (named(&fresh, "LOOKUP"), nothing()),
    ];
    (steps, forged)
}

// proves: JWT-14, JWT-16, JWT-19
#[test]
fn accounts_come_and_go_over_the_wire() {
    let Some(reference) = reference_binary() else {
        skip(
            "accounts over the wire",
            "the reference binary is not to be had",
        );
        return;
    };
    let cast = Cast::new();
    let (steps, forged) = token_requests(&cast);
    let answers = |builder: ServerBuilder| {
        let folder = millrace_tests::fresh_folder("resolver");
        let options = ", allow_delete: true";
        let config = cast.full_config(&folder.display().to_string(), options, &json!({}));
        let server = builder.config(&config).start();
        let mut client = cast.administrator(&server);
        let mut ask = |(subject, payload): &(String, String)| answer(&mut client, subject, payload);
        let answers: Vec<Value> = steps.iter().map(&mut ask).collect();
        drop(server);
        std::fs::remove_dir_all(folder).unwrap();
        answers
    };
    let expected = answers(ServerBuilder::binary(reference));
    let found = answers(ServerBuilder::millrace());
    for (place, (subject, payload)) in steps.iter().enumerate() {
        if *payload == forged {
            // The reference stores what nobody whom it trusts has signed; its users get in nowhere.
            let text = found[place]["error"]["description"].as_str().unwrap();
            assert!(text.ends_with("jwt validation failed"), "{text}");
        } else {
            assert_eq!(found[place], expected[place], "step {place}: {subject}");
        }
    }
}

/// How a client ends after its account's token has changed: all it is sent, without PINGs.
fn ending(client: &mut RawClient) -> String {
    let text = String::from_utf8(client.read_to_end()).unwrap();
    let lines = text
        .lines()
        .filter(|line| *line != "PING" && !line.starts_with("INFO "));
    lines.collect::<Vec<_>>().join(" ")
}

// proves: JWT-18
#[test]
fn live_connections_feel_what_changes_in_their_account() {
    let cast = Cast::new();
    let mut one_client = unlimited();
    one_client["conn"] = json!(1);
    let mut no_bearer = unlimited();
    no_bearer["disallow_bearer"] = json!(true);
    let changes = [
        json!({"revocations": {"*": 1_750_000_000}}),
        json!({"limits": one_client}),
        json!({"limits": no_bearer}),
        json!({"signing_keys": []}),
    ];
    for claims in changes {
        let mut endings = Vec::new();
        let Some(reference) = reference_binary() else {
            skip("live accounts", "the reference binary is not to be had");
            return;
        };
        for builder in [ServerBuilder::binary(reference), ServerBuilder::millrace()] {
            let folder = millrace_tests::fresh_folder("resolver");
            let config = cast.full_config(&folder.display().to_string(), "", &json!({}));
            let server = builder.config(&config).start();
            let bearer = json!({"bearer_token": true});
            let token = cast.user(&cast.account_signing, &json!({}), &bearer);
            let mut clients = [
                connect(&server, &token, None),
                connect(&server, &token, None),
            ];
            for client in &mut clients {
                assert_eq!(client.flush(), b"");
            }
            let mut administrator = cast.administrator(&server);
            let changed = cast.account_token(&cast.account, &json!({}), &claims);
            let done = answer(&mut administrator, "$SYS.REQ.CLAIMS.UPDATE", &changed);
            assert_eq!(done["data"]["code"], 200, "{done}");
            // The newest is gone in every case; with one connection allowed the first may stay.
            let [first, newest] = &mut clients;
            let mut end = vec![ending(newest)];
            if claims["limits"]["conn"] == 1 {
                assert_eq!(first.flush(), b"");
            } else {
                end.push(ending(first));
            }
            endings.push(end);
            std::fs::remove_dir_all(folder).unwrap();
        }
        if claims.get("signing_keys").is_some() {
            // The reference closes without a word.
            assert_eq!(endings[1], ["-ERR 'Authorization Violation'"; 2]);
        } else {
            assert_eq!(endings[1], endings[0], "{claims}");
        }
    }
}

// proves: JWT-14
#[test]
fn an_account_that_came_over_the_wire_is_there_after_a_crash() {
    let cast = Cast::new();
    let folder = millrace_tests::fresh_folder("resolver");
    let config = cast.full_config(&folder.display().to_string(), "", &json!({}));
    let fresh = Key::account(30);
    let user = fresh.token(
        &cast.user.public,
        &json!({}),
        json!({"type": "user", "bearer_token": true, "subs": -1, "payload": -1}),
    );
    {
        let mut server = ServerBuilder::millrace().config(&config).start();
        assert!(!transcript(&server, &user, None, "").starts_with("PONG"));
        let mut administrator = cast.administrator(&server);
        let token = cast.account_token(&fresh, &json!({}), &json!({}));
        let done = answer(&mut administrator, "$SYS.REQ.CLAIMS.UPDATE", &token);
        assert_eq!(done["data"]["code"], 200, "{done}");
        assert_eq!(transcript(&server, &user, None, ""), "PONG\nPONG\n");
        server.kill();
    }
    let server = ServerBuilder::millrace().config(&config).start();
    assert_eq!(transcript(&server, &user, None, ""), "PONG\nPONG\n");
    std::fs::remove_dir_all(folder).unwrap();
}

// proves: JWT-14, JWT-16
#[test]
fn an_update_older_than_the_preloaded_token_is_in_force() {
    let cast = Cast::new();
    let Some(reference) = reference_binary() else {
        skip("older updates", "the reference binary is not to be had");
        return;
    };
    let mut heard = Vec::new();
    for builder in [ServerBuilder::binary(reference), ServerBuilder::millrace()] {
        let folder = millrace_tests::fresh_folder("resolver");
        let config = cast.full_config(&folder.display().to_string(), "", &json!({}));
        let server = builder.config(&config).start();
        let bearer = json!({"bearer_token": true});
        let user = cast.user(&cast.account_signing, &json!({}), &bearer);
        assert_eq!(transcript(&server, &user, None, ""), "PONG\nPONG\n");
        let mut limits = unlimited();
        limits["disallow_bearer"] = json!(true);
        let older = json!({"iat": 1_600_000_000});
        let token = cast.account_token(&cast.account, &older, &json!({"limits": limits}));
        let mut administrator = cast.administrator(&server);
        let done = answer(&mut administrator, "$SYS.REQ.CLAIMS.UPDATE", &token);
        let lookup = format!("$SYS.REQ.ACCOUNT.{}.CLAIMS.LOOKUP", cast.account.public);
        let kept = answer(&mut administrator, &lookup, "");
        let gets_in = transcript(&server, &user, None, "").starts_with("PONG");
        heard.push((
            done["data"]["message"].clone(),
            kept == json!(token),
            gets_in,
        ));
        std::fs::remove_dir_all(folder).unwrap();
    }
    assert_eq!(heard[1], heard[0]);
    assert_eq!(heard[1], (json!("jwt updated"), true, false));
}
