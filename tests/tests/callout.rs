//! Clients that a service decides about (auth callout): the same questions and answers with the
//! reference and with ours.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use crypto_box::aead::Aead;
use crypto_box::{Nonce, PublicKey, SalsaBox, SecretKey};
use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use millrace_tests::raw::{Message, RawClient};
use millrace_tests::tokens::Key;
use millrace_tests::{Server, ServerBuilder};
use serde_json::{Value, json};

/// Sends CONNECT and PING; what comes of it is read later.
fn begin(server: &Server, credentials: &Value) -> RawClient {
    let mut client = RawClient::connect(&server.address);
    client.read_line();
    let mut options = json!({"verbose": false, "pedantic": false, "headers": true});
    for (name, value) in credentials.as_object().unwrap() {
        options[name] = value.clone();
    }
    client.send(format!("CONNECT {options}\r\nPING\r\n").as_bytes());
    client
}

fn named(name: &str) -> Value {
    json!({"user": name, "pass": "p"})
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap()).unwrap()
}

/// The service: signs with `key`, and with a curve secret opens and seals.
struct Service {
    client: RawClient,
    key: Key,
    curve: Option<SecretKey>,
}

impl Service {
    fn new(server: &Server, credentials: &Value, key: Key, curve: Option<SecretKey>) -> Self {
        let mut client = begin(server, credentials);
        client.read_until(b"PONG\r\n");
        client.send(b"SUB $SYS.REQ.USER.AUTH 1\r\n");
        client.flush();
        Self { client, key, curve }
    }

    fn door(&self, request: &Message) -> Option<SalsaBox> {
        let secret = self.curve.as_ref()?;
        let headers = String::from_utf8_lossy(&request.headers).into_owned();
        let text = headers.split("Nats-Server-Xkey: ").nth(1).unwrap();
        let text = text.split('\r').next().unwrap();
        let bytes = BASE32_NOPAD.decode(text.as_bytes()).unwrap();
        let public: [u8; 32] = bytes[1..33].try_into().unwrap();
        Some(SalsaBox::new(&PublicKey::from(public), secret))
    }

    /// The next question: its claims and where the answer goes.
    fn question(&mut self) -> (Message, Value) {
        let request = self.client.read_message();
        let token = match self.door(&request) {
            None => request.text(),
            Some(door) => {
                let sealed = request.payload.strip_prefix(b"xkv1").unwrap();
                let (nonce, sealed) = sealed.split_at(24);
                let nonce: [u8; 24] = nonce.try_into().unwrap();
                let opened = door.decrypt(&Nonce::from(nonce), sealed).unwrap();
                String::from_utf8(opened).unwrap()
            }
        };
        (request, claims(&token))
    }

    /// Answers that the client is a user of `account`, with these further claims.
    fn place(&mut self, question: &(Message, Value), account: &str, user: &Value, nats: &Value) {
        let user_key = question.1["nats"]["user_nkey"].as_str().unwrap();
        let mut fields = user.clone();
        fields["aud"] = json!(account);
        let mut claims = json!({"type": "user", "subs": -1, "data": -1, "payload": -1});
        for (name, value) in nats.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let token = self.key.token(user_key, &fields, claims);
        self.answer(question, json!({"jwt": token}));
    }

    fn answer(&mut self, question: &(Message, Value), mut response: Value) {
        let user_key = question.1["nats"]["user_nkey"].as_str().unwrap();
        let server = question.1["nats"]["server_id"]["id"].clone();
        response["type"] = json!("authorization_response");
        let token = self.key.token(user_key, &json!({"aud": server}), response);
        let payload = match self.door(&question.0) {
            None => token.into_bytes(),
            Some(door) => {
                let sealed = door
                    .encrypt(&Nonce::from([7; 24]), token.as_bytes())
                    .unwrap();
                [&b"xkv1"[..], &[7; 24], &sealed].concat()
            }
        };
        let reply = question.0.reply.clone();
        self.client.publish(&reply, "", b"", &payload);
        self.client.flush();
    }
}

fn config(issuer: &Key, more: &str) -> String {
    format!(
        "accounts {{
           AUTH {{ users [{{user: auth, password: p}}] }}
           APP {{ users [{{user: listed, password: p}}] }}
           FREE {{ users [{{user: free, password: p}}] }}
         }}
         authorization {{
           timeout: 2
           auth_callout {{ issuer: {}, account: AUTH, auth_users: [auth]{more} }}
         }}",
        issuer.public
    )
}

const REFUSED: &str = "-ERR 'Authorization Violation'";

fn rest(client: &mut RawClient) -> String {
    String::from_utf8_lossy(&client.read_to_end()).into_owned()
}

/// What a question says, without what differs from run to run.
fn shown(question: &Value) -> Value {
    let mut question = question.clone();
    assert_eq!(question["iss"], question["nats"]["server_id"]["id"]);
    assert!(question["exp"].is_i64());
    for name in ["iss", "exp", "iat", "jti"] {
        question.as_object_mut().unwrap().remove(name);
    }
    let nats = &mut question["nats"];
    for name in ["id", "name", "host", "version", "xkey"] {
        nats["server_id"].as_object_mut().unwrap().remove(name);
    }
    nats["client_info"].as_object_mut().unwrap().remove("id");
    nats["user_nkey"] = json!(nats["user_nkey"].as_str().unwrap().len());
    question
}

/// All that can come of a question; gives back the questions.
fn decide(server: &Server, issuer: u8, curve: Option<SecretKey>) -> Vec<Value> {
    let mut service = Service::new(server, &named("auth"), Key::account(issuer), curve);
    let mut seen = Vec::new();

    let mut client = begin(
        server,
        &json!({"user": "alice", "pass": "x", "name": "n", "lang": "l", "version": "v"}),
    );
    client.send(b"SUB ok 1\r\nPUB ok 1\r\n1\r\nPUB no 1\r\n2\r\n");
    let question = service.question();
    seen.push(shown(&question.1));
    let rules = json!({"pub": {"allow": ["ok"]}, "sub": {}});
    service.place(&question, "APP", &json!({"name": "ally"}), &rules);
    client.read_until(b"PONG\r\n");
    assert_eq!(client.read_message().subject, "ok");
    let refused = String::from_utf8_lossy(&client.read_line()).into_owned();
    assert!(refused.contains("Publish to \"no\""), "{refused}");

    let mut client = begin(server, &named("listed"));
    let question = service.question();
    seen.push(shown(&question.1));
    service.answer(&question, json!({"error": "not today"}));
    assert!(rest(&mut client).contains(REFUSED));

    let mut client = begin(server, &named("inside"));
    let question = service.question();
    service.place(&question, "AUTH", &json!({}), &json!({}));
    client.read_until(b"PONG\r\n");
    client.send(b"PUB $SYS.REQ.USER.AUTH 1\r\n1\r\n");
    let refused = String::from_utf8_lossy(&client.read_line()).into_owned();
    assert!(
        refused.contains("Permissions Violation for Publish"),
        "{refused}"
    );

    for (account, fields) in [("NONE", json!({})), ("APP", json!({"exp": 1_700_000_001}))] {
        let mut client = begin(server, &named("late"));
        let question = service.question();
        service.place(&question, account, &fields, &json!({}));
        assert!(rest(&mut client).contains(REFUSED), "{account} {fields}");
    }
    let right = std::mem::replace(&mut service.key, Key::account(issuer + 1));
    let mut client = begin(server, &named("forged"));
    let question = service.question();
    service.place(&question, "APP", &json!({}), &json!({}));
    assert!(rest(&mut client).contains(REFUSED));
    service.key = right;

    service.client.send(b"UNSUB 1\r\n");
    service.client.flush();
    let mut client = begin(server, &named("alone"));
    assert!(rest(&mut client).contains(REFUSED));
    seen
}

// proves: JWT-20 KEY-02
#[test]
fn a_service_decides_who_clients_are() {
    let mut all = Vec::new();
    for builder in ServerBuilder::both() {
        let server = builder.config(&config(&Key::account(41), "")).start();
        all.push(decide(&server, 41, None));
    }
    for seen in &all {
        assert_eq!(seen, all.last().unwrap());
    }
}

// proves: JWT-22
#[test]
fn questions_and_answers_can_be_sealed() {
    let secret = || SecretKey::from([9; 32]);
    let public = Key::curve(secret().public_key().as_bytes());
    for builder in ServerBuilder::both() {
        let more = format!(", xkey: {public}");
        let server = builder.config(&config(&Key::account(41), &more)).start();
        decide(&server, 41, Some(secret()));
    }
}

// proves: JWT-20
#[test]
fn users_of_other_accounts_can_be_spared() {
    for builder in ServerBuilder::both() {
        let more = ", allowed_accounts: [APP]";
        let server = builder.config(&config(&Key::account(41), more)).start();
        let mut service = Service::new(&server, &named("auth"), Key::account(41), None);
        begin(&server, &named("free")).read_until(b"PONG\r\n");
        let mut client = begin(&server, &named("listed"));
        let question = service.question();
        service.place(&question, "APP", &json!({}), &json!({}));
        client.read_until(b"PONG\r\n");
    }
}

// proves: JWT-21
#[test]
fn the_service_of_an_account_token_decides() {
    let (operator, account, other) = (Key::operator(51), Key::account(52), Key::account(53));
    // The reference's callouts need one.
    let system = Key::account(57);
    let service_user = Key::user(54);
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
        "wildcards": true, "conn": -1, "leaf": -1,
    });
    let signed = |key: &Key, mut claims: Value| {
        claims["type"] = json!("account");
        claims["limits"] = limits.clone();
        operator.token(&key.public, &json!({}), claims)
    };
    let authorization = json!({
        "auth_users": [service_user.public], "allowed_accounts": [other.public],
    });
    let config = format!(
        "operator: {}\nresolver: MEMORY\nresolver_preload: {{\n{}: {}\n{}: {}\n{}: {}\n}}\n",
        operator.token(
            &operator.public,
            &json!({}),
            json!({"type": "operator", "system_account": system.public}),
        ),
        account.public,
        signed(&account, json!({"authorization": authorization})),
        other.public,
        signed(&other, json!({})),
        system.public,
        signed(&system, json!({})),
    );
    let bearer = |key: &Key| {
        let claims = json!({
            "type": "user", "bearer_token": true, "subs": -1, "data": -1, "payload": -1,
        });
        json!({"jwt": account.token(&key.public, &json!({}), claims)})
    };
    for builder in ServerBuilder::both() {
        let server = builder.config(&config).start();
        let key = Key::account(52);
        let mut service = Service::new(&server, &bearer(&service_user), key, None);
        let mut client = begin(&server, &bearer(&Key::user(55)));
        let question = service.question();
        assert!(question.1["nats"]["connect_opts"]["jwt"].is_string());
        let rules = json!({"pub": {"allow": ["ok"]}, "sub": {}});
        service.place(&question, "", &json!({}), &rules);
        client.read_until(b"PONG\r\n");
        client.send(b"PUB no 1\r\n1\r\n");
        let refused = String::from_utf8_lossy(&client.read_line()).into_owned();
        assert!(refused.contains("Publish to \"no\""), "{refused}");

        let mut client = begin(&server, &bearer(&Key::user(56)));
        let question = service.question();
        service.answer(&question, json!({"error": "no"}));
        assert!(rest(&mut client).contains(REFUSED));
    }
}
