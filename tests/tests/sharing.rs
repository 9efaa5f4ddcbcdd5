//! Accounts that share: what raw protocol scripts (`services.txt`, `streams.txt`) cannot show, told
//! to the reference and to ours alike.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use millrace_tests::raw::RawClient;
use millrace_tests::server::wait_for;
use millrace_tests::tokens::Key;
use millrace_tests::{Server, ServerBuilder};
use serde_json::{Value, json};

fn log_in(server: &Server, credentials: &Value) -> RawClient {
    let mut client = RawClient::connect(&server.address);
    client.read_line();
    let mut options =
        json!({"verbose": false, "pedantic": false, "headers": true, "no_responders": true});
    for (name, value) in credentials.as_object().unwrap() {
        options[name] = value.clone();
    }
    client.send(format!("CONNECT {options}\r\n").as_bytes());
    client.flush();
    client
}

fn user(server: &Server, name: &str) -> RawClient {
    log_in(server, &json!({"user": name, "pass": name}))
}

fn subscribe(client: &mut RawClient, subject: &str) {
    client.send(format!("SUB {subject} 1\r\n").as_bytes());
    client.flush();
}

const MEASURED: &str = r#"
accounts {
  A { users [{user: a, password: a}]
      exports [{service: all, latency: measured, threshold: "100ms"}
               {service: asked, latency: {subject: measured, sampling: headers}}] }
  B { users [{user: b, password: b}]
      imports [{service: {account: A, subject: all}}
               {service: {account: A, subject: asked}, share: true}] }
}
"#;

/// A measurement without what differs from run to run.
fn measurement(client: &mut RawClient) -> Value {
    let mut event = client.read_message().json();
    assert_eq!(event["type"], "io.nats.server.metric.v1.service_latency");
    for name in ["id", "timestamp", "start", "service", "system", "total"] {
        let value = event.as_object_mut().unwrap().remove(name);
        assert!(value.is_some(), "{name} is missing in {event}");
    }
    for side in ["requestor", "responder"] {
        if let Some(fields) = event.get_mut(side).and_then(Value::as_object_mut) {
            for name in ["rtt", "start", "id", "server", "host"] {
                fields.remove(name);
            }
        }
    }
    event
}

/// Everything that can become of a measured request.
fn measurements(server: &Server) -> Vec<Value> {
    let mut watcher = user(server, "a");
    subscribe(&mut watcher, "measured");
    let mut asker = user(server, "b");
    let mut seen = Vec::new();

    asker.publish("all", "_INBOX.none", b"", b"nobody answers");
    seen.push(measurement(&mut watcher));
    let mut responder = user(server, "a");
    subscribe(&mut responder, "all");
    responder.send(b"SUB asked 2\r\n");
    responder.flush();
    asker.publish("all", "", b"", b"no reply");
    seen.push(measurement(&mut watcher));
    responder.read_message();

    asker.send(b"SUB _INBOX.x 7\r\n");
    asker.publish("all", "_INBOX.x", b"", b"answered");
    let request = responder.read_message();
    assert!(request.reply.ends_with(".T"), "{}", request.reply);
    responder.publish(&request.reply, "", b"", b"yes");
    assert_eq!(asker.read_message().text(), "yes");
    seen.push(measurement(&mut watcher));

    asker.publish("all", "_INBOX.x", b"", b"not in time");
    responder.read_message();
    seen.push(measurement(&mut watcher));

    let trace = b"NATS/1.0\r\nB3: 80f198ee56343ba8-e457b5a2e4d86bd1-1\r\n\r\n";
    asker.publish("asked", "_INBOX.x", trace, b"asked for");
    let request = responder.read_message();
    responder.publish(&request.reply, "", b"", b"yes");
    assert_eq!(asker.read_message().text(), "yes");
    seen.push(measurement(&mut watcher));

    asker.publish("asked", "_INBOX.x", trace, b"nobody listens");
    responder.read_message();
    asker.send(b"UNSUB 7\r\n");
    asker.flush();
    seen.push(measurement(&mut watcher));
    seen
}

// proves: ACC-12 ACC-13
#[test]
fn service_times_are_measured_as_in_the_reference() {
    let all: Vec<_> = ServerBuilder::both()
        .into_iter()
        .map(|builder| measurements(&builder.config(MEASURED).start()))
        .collect();
    let ours = all.last().unwrap();
    let statuses: Vec<_> = ours.iter().map(|event| event["status"].clone()).collect();
    assert_eq!(statuses, [503, 400, 200, 504, 200, 408]);
    for reference in &all {
        assert_eq!(reference, ours);
    }
}

fn accounts(exports: &str, imports: &str, mappings: &str) -> String {
    format!(
        "accounts {{
           A {{ users [{{user: a, password: a}}], exports [{exports}], mappings {{{mappings}}} }}
           B {{ users [{{user: b, password: b}}], imports [{imports}] }}
         }}\n"
    )
}

/// Reloads that ended, well or not: the lines before those tell of single options while they change.
fn reloads(server: &Server) -> usize {
    let log = server.log();
    let ends = ["Reloaded server configuration", "Failed to reload"];
    ends.iter().map(|text| log.matches(text).count()).sum()
}

fn reload(server: &Server, text: &str) {
    let before = reloads(server);
    std::fs::write(server.folder().join("server.conf"), text).unwrap();
    server.signal("HUP");
    wait_for("the reload to end", || {
        (reloads(server) > before).then_some(())
    });
}

// proves: REL-05 KEY-03
#[test]
fn sharing_changes_with_the_configuration_or_not_at_all() {
    let alone = accounts("", "", "");
    let shared = accounts(
        "{stream: news}, {service: svc}",
        "{stream: {account: A, subject: news}}, {service: {account: A, subject: svc}}",
        "from: to",
    );
    let wrong = shared.replace("subject: svc}", "subject: other}");
    for builder in ServerBuilder::both() {
        let server = builder.config(&alone).start();
        let (mut a, mut b) = (user(&server, "a"), user(&server, "b"));
        a.send(b"SUB svc 1\r\nSUB to 2\r\n");
        b.send(b"SUB news 1\r\nSUB _INBOX.b 2\r\n");
        a.flush();
        b.flush();
        let mut exchange = || {
            a.send(b"PUB from 1\r\nm\r\nPUB news 1\r\nn\r\n");
            let mut heard = a.flush();
            b.send(b"PUB svc 1\r\ns\r\n");
            let news = b.flush();
            heard.extend(a.flush());
            let heard = String::from_utf8_lossy(&heard);
            (
                heard.contains("MSG to"),
                heard.contains("MSG svc"),
                String::from_utf8_lossy(&news).contains("MSG news"),
            )
        };
        assert_eq!(exchange(), (false, false, false));
        reload(&server, &shared);
        assert_eq!(exchange(), (true, true, true));
        reload(&server, &wrong);
        assert!(server.log().contains("service import not authorized"));
        assert_eq!(exchange(), (true, true, true));
        reload(&server, &alone);
        assert_eq!(exchange(), (false, false, false));
    }
}

const JETSTREAM: &str = r#"
accounts {
  A { jetstream: enabled, users [{user: a, password: a}]
      exports [{service: "$JS.API.>", response_type: stream}, {service: "orders.*"}
               {service: "$JS.ACK.>"}, {stream: "deliver.>"}] }
  B { users [{user: b, password: b}]
      imports [{service: {account: A, subject: "$JS.API.>"}, to: "JS.A.API.>"}
               {service: {account: A, subject: "orders.*"}, to: "place.*"}
               {service: {account: A, subject: "$JS.ACK.>"}}
               {stream: {account: A, subject: "deliver.>"}, prefix: from}] }
}
"#;

// proves: JS-API-13
#[test]
fn streams_of_another_account_are_used_through_imports() {
    for builder in ServerBuilder::both() {
        let server = builder.config(JETSTREAM).jetstream().start();
        let mut b = user(&server, "b");
        let stream = br#"{"name":"ORDERS","subjects":["orders.*"],"num_replicas":1}"#;
        let created = b.request("JS.A.API.STREAM.CREATE.ORDERS", stream).json();
        assert_eq!(created["config"]["name"], "ORDERS", "{created}");
        let header = b"NATS/1.0\r\nKind: new\r\n\r\n";
        let stored = b.request_with_headers("place.one", header, b"1").json();
        assert_eq!(
            (&stored["stream"], &stored["seq"]),
            (&json!("ORDERS"), &json!(1))
        );

        let direct = b
            .request("JS.A.API.STREAM.MSG.GET.ORDERS", br#"{"seq":1}"#)
            .json();
        assert_eq!(direct["message"]["subject"], "orders.one");
        // The header says nothing of who asked: base64 of the block as it was published.
        assert_eq!(
            direct["message"]["hdrs"],
            "TkFUUy8xLjANCktpbmQ6IG5ldw0KDQo="
        );

        let consumer =
            br#"{"stream_name":"ORDERS","config":{"durable_name":"C","ack_policy":"explicit"}}"#;
        let made = b
            .request("JS.A.API.CONSUMER.DURABLE.CREATE.ORDERS.C", consumer)
            .json();
        assert_eq!(made["name"], "C", "{made}");
        let next = b.request("JS.A.API.CONSUMER.MSG.NEXT.ORDERS.C", b"");
        assert_eq!(
            (next.subject.as_str(), next.text().as_str()),
            ("orders.one", "1")
        );
        assert!(next.reply.starts_with("$JS.ACK."), "{}", next.reply);
        let acknowledged = b.request(&next.reply, b"");
        assert_eq!(acknowledged.text(), "");
        let info = b.request("JS.A.API.CONSUMER.INFO.ORDERS.C", b"").json();
        assert_eq!(
            (&info["num_ack_pending"], &info["num_pending"]),
            (&json!(0), &json!(0))
        );

        let push = br#"{"stream_name":"ORDERS","config":{"durable_name":"P","ack_policy":"none","deliver_subject":"deliver.p"}}"#;
        // The message may come before the answer, which a request of its own would then not wait for.
        b.send(b"SUB from.deliver.p 5\r\nSUB made 6\r\n");
        b.publish(
            "JS.A.API.CONSUMER.DURABLE.CREATE.ORDERS.P",
            "made",
            b"",
            push,
        );
        let (first, second) = (b.read_message(), b.read_message());
        let pushed = if first.text() == "1" { first } else { second };
        assert_eq!(
            (pushed.subject.as_str(), pushed.text().as_str()),
            ("orders.one", "1")
        );
    }
}

/// Two accounts of an operator: what A exports and B imports is said by their tokens.
struct Tokens {
    operator: Key,
    a: Key,
    b: Key,
    user_a: Key,
    user_b: Key,
}

impl Tokens {
    fn new() -> Self {
        Self {
            operator: Key::operator(21),
            a: Key::account(22),
            b: Key::account(23),
            user_a: Key::user(24),
            user_b: Key::user(25),
        }
    }

    fn config(&self, a: Value, b: Value) -> String {
        let operator = self.operator.token(
            &self.operator.public,
            &json!({}),
            json!({"type": "operator"}),
        );
        let account = |key: &Key, mut claims: Value| {
            claims["type"] = json!("account");
            claims["limits"] = json!({
                "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
                "wildcards": true, "conn": -1, "leaf": -1,
            });
            let token = self.operator.token(&key.public, &json!({}), claims);
            format!("{}: {token}\n", key.public)
        };
        format!(
            "operator: {operator}\nresolver: MEMORY\nresolver_preload: {{\n{}{}}}\n",
            account(&self.a, a),
            account(&self.b, b),
        )
    }

    fn user(&self, server: &Server, account: &Key, key: &Key) -> RawClient {
        let claims = json!({
            "type": "user", "bearer_token": true, "subs": -1, "data": -1, "payload": -1,
        });
        let token = account.token(&key.public, &json!({}), claims);
        log_in(server, &json!({"jwt": token}))
    }

    fn activation(&self, fields: &Value, subject: &str, kind: &str) -> String {
        let claims = json!({"type": "activation", "subject": subject, "kind": kind});
        self.a.token(&self.b.public, fields, claims)
    }
}

// proves: ACC-06 JWT-02
#[test]
fn tokens_say_what_accounts_share() {
    let keys = Tokens::new();
    let a = json!({
        "exports": [
            {"name": "svc", "subject": "svc", "type": "service"},
            {"name": "news", "subject": "news.*", "type": "stream"},
            {"name": "p", "subject": "private.>", "type": "service", "token_req": true,
             "revocations": {keys.b.public.clone(): 1_699_999_999}},
        ],
        "mappings": {"from": [{"subject": "to"}]},
    });
    let import = |subject: &str, token: &str| {
        let mut import = json!({"name": subject, "subject": subject, "local_subject": subject,
               "account": keys.a.public, "type": "service"});
        if !token.is_empty() {
            import["token"] = json!(token);
        }
        import
    };
    let valid = keys.activation(&json!({}), "private.>", "service");
    let revoked = keys.activation(&json!({"iat": 1_600_000_000}), "private.old", "service");
    let expired = keys.activation(&json!({"exp": 1_700_000_001}), "private.late", "service");
    let b = json!({"imports": [
        {"name": "s", "subject": "svc", "local_subject": "my.svc", "account": keys.a.public, "type": "service"},
        {"name": "n", "subject": "news.*", "local_subject": "from.a.$1", "account": keys.a.public, "type": "stream"},
        import("private.one", &valid),
        import("private.old", &revoked),
        import("private.late", &expired),
        import("private.none", ""),
    ]});
    for builder in ServerBuilder::both() {
        let server = builder.config(&keys.config(a.clone(), b.clone())).start();
        let mut from_a = keys.user(&server, &keys.a, &keys.user_a);
        let mut from_b = keys.user(&server, &keys.b, &keys.user_b);
        from_a.send(b"SUB svc 1\r\nSUB private.> 2\r\nSUB to 3\r\n");
        from_a.flush();
        subscribe(&mut from_b, "from.>");
        from_a.send(b"PUB from 1\r\nm\r\nPUB news.x 1\r\nn\r\n");
        assert_eq!(from_a.read_message().subject, "to");
        assert_eq!(from_b.read_message().subject, "from.a.x");
        for subject in [
            "my.svc",
            "private.one",
            "private.old",
            "private.late",
            "private.none",
        ] {
            from_b.publish(subject, "", b"", b"x");
        }
        from_b.flush();
        assert_eq!(from_a.read_message().subject, "svc");
        assert_eq!(from_a.read_message().subject, "private.one");
        assert_eq!(from_a.flush(), b"", "nothing else is let through");
    }
}

const TRACED: &str = r#"
accounts {
  A { jetstream: enabled
      users [{user: a, password: a}, {user: d, password: d, permissions: {publish: {deny: "trace.>"}}}]
      mappings { m: mapped }
      exports [{service: svc, allow_trace: true}, {service: quiet}, {stream: "news.>"}, {stream: "mute.>"}]
      msg_trace: {dest: "acct.trace"} }
  B { users [{user: b, password: b}]
      imports [{service: {account: A, subject: svc}}, {service: {account: A, subject: quiet}}
               {stream: {account: A, subject: "news.>"}, prefix: p, allow_trace: true}
               {stream: {account: A, subject: "mute.>"}}] }
}
"#;

/// Subject, whether the service's account asks, and headers of the message.
const TRACED_MESSAGES: &[(&str, bool, &str)] = &[
    ("foo", false, "Nats-Trace-Dest: trace.x\r\nX: y\r\n"),
    (
        "foo",
        false,
        "Nats-Trace-Dest: trace.x\r\nNats-Trace-Only: true\r\n",
    ),
    (
        "nobody",
        false,
        "Nats-Trace-Dest: trace.x\r\nNats-Trace-Only: on\r\n",
    ),
    ("m", false, "Nats-Trace-Dest: trace.x\r\n"),
    ("foo", false, "Nats-Trace-Dest: trace.*\r\n"),
    ("news.x", false, "Nats-Trace-Dest: trace.x\r\n"),
    ("mute.x", false, "Nats-Trace-Dest: trace.x\r\n"),
    (
        "mute.x",
        false,
        "Nats-Trace-Dest: trace.x\r\nNats-Trace-Only: 1\r\n",
    ),
    ("svc", true, "Nats-Trace-Dest: trace.x\r\n"),
    (
        "svc",
        true,
        "Nats-Trace-Dest: trace.x\r\nNats-Trace-Only: 1\r\n",
    ),
    ("quiet", true, "Nats-Trace-Dest: trace.x\r\n"),
    (
        "quiet",
        true,
        "Nats-Trace-Dest: trace.x\r\nNats-Trace-Only: 1\r\n",
    ),
    (
        "foo",
        false,
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n",
    ),
    (
        "foo",
        false,
        "TraceParent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00\r\n",
    ),
    (
        "foo",
        false,
        "Nats-Trace-Dest: trace.x\r\nNats-Trace-Origin-Account: A\r\n",
    ),
    ("st.1", false, "Nats-Trace-Dest: trace.x\r\n"),
    (
        "st.1",
        false,
        "Nats-Trace-Dest: trace.x\r\nNats-Trace-Only: 1\r\n",
    ),
];

/// What differs from run to run, taken out of an event or of what a listener received.
fn without_what_varies(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for line in text.lines() {
        let Ok(mut event) = serde_json::from_str::<Value>(line) else {
            let line = line.split("_R_.").next().unwrap().to_owned();
            let is_info = line.starts_with("Nats-Request-Info");
            let line = if is_info {
                "Nats-Request-Info".to_owned()
            } else {
                line
            };
            // Sizes vary with the rest.
            words.push(line.split(' ').take(3).collect::<Vec<_>>().join(" "));
            continue;
        };
        event["server"] = json!(event["server"].is_object());
        for step in event["events"].as_array_mut().into_iter().flatten() {
            step["ts"] = json!(step["ts"].is_string());
            if step["cid"].is_u64() {
                step["cid"] = json!("cid");
            }
        }
        words.push(event.to_string());
    }
    words.join("\n")
}

fn traces(server: &Server) -> Vec<String> {
    let (mut a, mut b) = (user(server, "a"), user(server, "b"));
    let mut listener = log_in(
        server,
        &json!({"user": "a", "pass": "a", "name": "listener"}),
    );
    let stream = br#"{"name":"S","subjects":["st.*"],"num_replicas":1}"#;
    assert!(a.request("$JS.API.STREAM.CREATE.S", stream).json()["config"].is_object());
    listener.send(b"SUB foo 1\r\nSUB foo q 2\r\nSUB mapped 3\r\nSUB svc 4\r\nSUB quiet 5\r\n");
    listener.flush();
    b.send(b"SUB p.news.x 1\r\nSUB mute.x 2\r\nSUB trace.x 9\r\nSUB acct.trace 8\r\n");
    a.send(b"SUB trace.x 9\r\nSUB acct.trace 8\r\n");
    a.flush();
    b.flush();
    let mut seen = Vec::new();
    for (subject, is_request, lines) in TRACED_MESSAGES {
        let block = format!("NATS/1.0\r\n{lines}\r\n");
        let asker = if *is_request { &mut b } else { &mut a };
        asker.publish(subject, "", block.as_bytes(), b"x");
        let is_told = !["trace.*", "Origin", "-00\r\n"]
            .iter()
            .any(|part| lines.contains(part));
        let mut received: [Vec<u8>; 3] = Default::default();
        wait_for("the trace", || {
            for (all, client) in received.iter_mut().zip([&mut a, &mut b, &mut listener]) {
                all.extend(client.flush());
            }
            let text = String::from_utf8_lossy(&received.concat()).into_owned();
            (!is_told || text.contains("\"events\"")).then_some(())
        });
        received[2].extend(listener.flush());
        let text = String::from_utf8_lossy(&received.concat()).into_owned();
        seen.push(format!(
            "{subject} {lines}:\n{}",
            without_what_varies(&text)
        ));
    }
    let mut denied = user(server, "d");
    denied.publish(
        "foo",
        "",
        b"NATS/1.0\r\nNats-Trace-Dest: trace.x\r\n\r\n",
        b"x",
    );
    seen.push(String::from_utf8_lossy(&denied.flush()).into_owned());
    let mut alone = log_in(server, &json!({"user": "a", "pass": "a", "echo": false}));
    alone.send(b"SUB ec 1\r\n");
    alone.publish(
        "ec",
        "",
        b"NATS/1.0\r\nNats-Trace-Dest: trace.x\r\n\r\n",
        b"x",
    );
    alone.flush();
    seen.push(without_what_varies(&a.read_message().text()));
    seen
}

// proves: TRC-01 TRC-02 TRC-04 TRC-05 TRC-06
#[test]
fn messages_are_traced_as_in_the_reference() {
    let all: Vec<_> = ServerBuilder::both()
        .into_iter()
        .map(|builder| traces(&builder.config(TRACED).jetstream().start()))
        .collect();
    let ours = all.last().unwrap();
    assert!(ours[0].contains(r#""type":"eg""#), "{}", ours[0]);
    for reference in &all {
        for (theirs, ours) in reference.iter().zip(ours) {
            assert_eq!(theirs, ours);
        }
    }
}
