//! What the system account may ask and hears: the same actions on the reference and on ours, the
//! JSON compared by structure, and by value where it is the same every time.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::collections::BTreeSet;

use millrace_tests::raw::RawClient;
use millrace_tests::shape::shape_of;
use millrace_tests::{Server, ServerBuilder};
use serde_json::{Value, json};

const CONFIG: &str = "accounts {\n  A { users [{user a, password a}] }\n  SYS { users [{user s, password s}] }\n}\nsystem_account: SYS\n";

fn log_in(server: &Server, user: &str) -> RawClient {
    let mut client = server.connect();
    client.read_line();
    let options = json!({
        "verbose": false, "user": user, "pass": user, "headers": true, "no_responders": true,
        "name": "tester", "lang": "raw", "version": "1",
    });
    client.send(format!("CONNECT {options}\r\n").as_bytes());
    assert_eq!(client.flush(), b"");
    client
}

fn server_id(server: &Server) -> String {
    let info = String::from_utf8(server.connect().read_line()).unwrap();
    let info: Value = serde_json::from_str(info.trim_start_matches("INFO ")).unwrap();
    info["server_id"].as_str().unwrap().to_owned()
}

/// A request as the user; `<id>` in the subject becomes the server's id.
fn ask(server: &Server, user: &str, subject: &str, options: &str) -> Option<Value> {
    let mut client = log_in(server, user);
    let subject = subject.replace("<id>", &server_id(server));
    let answer = client.request(&subject, options.as_bytes());
    (!answer.payload.is_empty()).then(|| answer.json())
}

fn compare(servers: &[Server; 2], user: &str, subject: &str, options: &str) -> Option<Value> {
    let [expected, found] = [0, 1].map(|place| ask(&servers[place], user, subject, options));
    let shapes = [&expected, &found].map(|value| value.as_ref().map(shape_of));
    let [expected_shape, found_shape] = shapes;
    assert_eq!(
        found_shape.is_some(),
        expected_shape.is_some(),
        "{user} {subject} {options}"
    );
    let (found_shape, expected_shape) = (
        found_shape.unwrap_or_default(),
        expected_shape.unwrap_or_default(),
    );
    let differing: Vec<_> = found_shape.symmetric_difference(&expected_shape).collect();
    assert!(
        differing.is_empty(),
        "{user} {subject} {options}: {differing:?}"
    );
    for place in ["code", "description"] {
        let of = |value: &Option<Value>| value.as_ref().map(|value| value["error"][place].clone());
        if place == "code" || !options.starts_with("{bad") {
            assert_eq!(of(&found), of(&expected), "{subject} {options}");
        }
    }
    found
}

// proves: SYS-01, SYS-02, SYS-04, SYS-05
#[test]
fn requests_about_the_server_are_answered_as_by_the_reference() {
    let Some(servers) = Server::pair("system requests", CONFIG) else {
        return;
    };
    let _others = [log_in(&servers[0], "a"), log_in(&servers[1], "a")];
    for what in [
        "PING",
        "PING.STATSZ",
        "PING.IDZ",
        "PING.VARZ",
        "PING.HEALTHZ",
    ] {
        let subject = format!("$SYS.REQ.SERVER.{what}");
        assert!(compare(&servers, "s", &subject, "").is_some(), "{what}");
    }
    for what in [
        "STATSZ", "IDZ", "VARZ", "CONNZ", "SUBSZ", "ROUTEZ", "GATEWAYZ", "LEAFZ", "ACCOUNTZ",
        "HEALTHZ",
    ] {
        let subject = format!("$SYS.REQ.SERVER.<id>.{what}");
        let found = compare(&servers, "s", &subject, "");
        assert!(found.is_some(), "{what}");
    }
    let connz = "$SYS.REQ.SERVER.<id>.CONNZ";
    for options in [
        r#"{"acc":"A","auth":true}"#,
        r#"{"sort":"zzz"}"#,
        r#"{"limit":1,"offset":1}"#,
        r#"{"state":1}"#,
        "{bad",
    ] {
        compare(&servers, "s", connz, options);
    }
    let only_a = ask(&servers[1], "s", connz, r#"{"acc":"A","auth":true}"#).unwrap();
    assert_eq!(only_a["data"]["connections"][0]["account"], "A");
    compare(
        &servers,
        "s",
        "$SYS.REQ.SERVER.<id>.ACCOUNTZ",
        r#"{"account":"A"}"#,
    );
}

// proves: SYS-04
#[test]
fn a_filter_that_means_another_server_is_not_answered() {
    let server = ServerBuilder::millrace()
        .config(&format!("server_name: one\nserver_tags: [x, y]\n{CONFIG}"))
        .start();
    let silent = [
        r#"{"server_name":"two"}"#,
        r#"{"server_name":"on","exact_match":true}"#,
        r#"{"tags":["x","z"]}"#,
        r#"{"domain":"d"}"#,
        r#"{"cluster":"c"}"#,
    ];
    let answered = [
        r#"{"server_name":"on"}"#,
        r#"{"server_name":"one","exact_match":true}"#,
        r#"{"tags":["y"]}"#,
        "",
    ];
    let mut client = log_in(&server, "s");
    client.send(b"SUB answers 1\r\n");
    for options in silent.iter().chain(&answered) {
        let subject = "$SYS.REQ.SERVER.PING.IDZ";
        client.publish(subject, "answers", b"", options.as_bytes());
    }
    for _ in answered {
        assert_eq!(client.read_message().json()["name"], "one");
    }
    assert_eq!(client.flush(), b"");
}

// proves: SYS-03
#[test]
fn requests_about_accounts_are_answered_as_by_the_reference() {
    let Some(servers) = Server::pair("account requests", CONFIG) else {
        return;
    };
    let _others = [log_in(&servers[0], "a"), log_in(&servers[1], "a")];
    for what in ["CONNZ", "SUBSZ", "LEAFZ", "JSZ", "INFO", "STATZ", "CONNS"] {
        let found = compare(&servers, "s", &format!("$SYS.REQ.ACCOUNT.A.{what}"), "");
        assert!(found.is_some(), "{what}");
    }
    compare(&servers, "s", "$SYS.REQ.ACCOUNT.NOPE.INFO", "");
    for options in ["", r#"{"accounts":["A"]}"#] {
        compare(&servers, "s", "$SYS.REQ.ACCOUNT.PING.STATZ", options);
    }
}

// proves: SYS-07, SYS-08
#[test]
fn every_account_may_ask_about_itself_only() {
    let Some(servers) = Server::pair("own account", CONFIG) else {
        return;
    };
    let _others = [log_in(&servers[0], "s"), log_in(&servers[1], "s")];
    for subject in [
        "$SYS.REQ.USER.INFO",
        "$SYS.REQ.ACCOUNT.PING.CONNZ",
        "$SYS.REQ.SERVER.PING.CONNZ",
        "$SYS.REQ.ACCOUNT.PING.STATZ",
    ] {
        let found = compare(&servers, "a", subject, "").unwrap();
        assert!(!found.to_string().contains("SYS"), "{found}");
    }
    let answer = ask(&servers[1], "a", "$SYS.REQ.USER.INFO", "").unwrap();
    let expected = json!({"user": "a", "account": "A", "account_name": "A"});
    assert_eq!(answer["data"], expected);
    // Nobody answers in another account.
    for subject in ["$SYS.REQ.SERVER.<id>.VARZ", "$SYS.REQ.ACCOUNT.A.INFO"] {
        assert_eq!(compare(&servers, "a", subject, ""), None, "{subject}");
    }
}

// proves: SYS-08
#[test]
fn an_account_that_is_called_like_the_question_learns_no_more_than_others() {
    let named = CONFIG.replace("  A {", "  PING { users [{user p, password p}] }\n  A {");
    let server = ServerBuilder::millrace().config(&named).start();
    let _other = log_in(&server, "a");
    for what in ["STATZ", "CONNZ"] {
        let subject = format!("$SYS.REQ.ACCOUNT.PING.{what}");
        let found = ask(&server, "p", &subject, "").unwrap().to_string();
        assert!(!found.contains("\"A\""), "{found}");
    }
    let found = ask(&server, "p", "$SYS.REQ.ACCOUNT.PING.CONNZ", "").unwrap();
    assert_eq!(found["data"]["num_connections"], 1, "{found}");
}

// proves: SYS-10, REL-14, LIM-13, PRO-04
#[test]
fn an_operator_can_kick_a_client_and_reload() {
    let Some(servers) = Server::pair("kick", CONFIG) else {
        return;
    };
    for server in &servers {
        let mut victim = server.connect();
        let info = String::from_utf8(victim.read_line()).unwrap();
        let info: Value = serde_json::from_str(info.trim_start_matches("INFO ")).unwrap();
        victim.send(b"CONNECT {\"verbose\":false,\"user\":\"a\",\"pass\":\"a\"}\r\n");
        assert_eq!(victim.flush(), b"");
        let subject = "$SYS.REQ.SERVER.<id>.KICK";
        let options = json!({"cid": info["client_id"]}).to_string();
        let answer = ask(server, "s", subject, &options).unwrap();
        assert_eq!(answer.get("error"), None);
        victim.read_to_end();
    }
    compare(
        &servers,
        "s",
        "$SYS.REQ.SERVER.<id>.KICK",
        r#"{"cid":9999}"#,
    );
    compare(&servers, "s", "$SYS.REQ.SERVER.<id>.LDM", r#"{"cid":9999}"#);
    for server in &servers {
        let mut warned = server.connect();
        let info = String::from_utf8(warned.read_line()).unwrap();
        let info: Value = serde_json::from_str(info.trim_start_matches("INFO ")).unwrap();
        warned
            .send(b"CONNECT {\"verbose\":false,\"user\":\"a\",\"pass\":\"a\",\"protocol\":1}\r\n");
        warned.flush();
        let options = json!({"cid": info["client_id"]}).to_string();
        let answer = ask(server, "s", "$SYS.REQ.SERVER.<id>.LDM", &options).unwrap();
        assert_eq!(answer.get("error"), None);
        warned.read_until(b"\"ldm\":true");
    }
    compare(&servers, "s", "$SYS.REQ.SERVER.<id>.RELOAD", "");
    std::fs::write(servers[1].folder().join("server.conf"), "nonsense: 1\n").unwrap();
    let answer = ask(&servers[1], "s", "$SYS.REQ.SERVER.<id>.RELOAD", "").unwrap();
    assert_eq!(answer["error"]["code"], 500);
    let text = answer["error"]["description"].as_str().unwrap();
    assert!(text.contains("nonsense"), "{text}");
}

/// What the system account hears while a client comes, fails and goes: subjects and shapes.
fn events(server: &Server) -> Vec<(String, BTreeSet<String>)> {
    let mut listener = log_in(server, "s");
    listener.send(b"SUB $SYS.ACCOUNT.> 1\r\nSUB $SYS.SERVER.*.CLIENT.AUTH.ERR 2\r\nSUB $SYS.SERVER.ACCOUNT.> 3\r\n");
    assert_eq!(listener.flush(), b"");
    let client = log_in(server, "a");
    let mut heard = Vec::new();
    let mut hear = |listener: &mut RawClient, count: usize| {
        // The listener's own arrival may be told as well.
        while heard.len() < count {
            let message = listener.read_message();
            let value = message.json();
            if !message.subject.contains("SYS.SERVER.CONNS")
                && !message.subject.contains("ACCOUNT.SYS.")
            {
                let subject = message.subject.replace(&server_id_of(&value), "<id>");
                heard.push((subject, shape_of(&value)));
            }
        }
    };
    hear(&mut listener, 3);
    drop(client);
    hear(&mut listener, 6);
    let mut refused = server.connect();
    refused.read_line();
    refused.send(b"CONNECT {\"verbose\":false,\"user\":\"a\",\"pass\":\"x\"}\r\n");
    refused.read_to_end();
    hear(&mut listener, 8);
    heard
}

fn server_id_of(value: &Value) -> String {
    value["server"]["id"].as_str().unwrap().to_owned()
}

// proves: SYS-11, SYS-12, SYS-13
#[test]
fn the_system_account_hears_who_comes_goes_and_is_refused() {
    let Some([reference, ours]) = Server::pair("system events", CONFIG) else {
        return;
    };
    let mut expected = events(&reference);
    let mut found = events(&ours);
    // Events of one moment have no order among them.
    for list in [&mut expected, &mut found] {
        list[..3].sort();
        list[3..6].sort();
        list[6..].sort();
    }
    assert_eq!(found, expected);
}

/// What a request's header asks for, on both servers: the same headers, and answers that can be read.
// proves: SYS-06
#[test]
fn answers_are_compressed_as_asked_for() {
    use std::io::Read as _;
    for builder in ServerBuilder::both() {
        let server = builder.config(CONFIG).start();
        let id = server_id(&server);
        let mut client = log_in(&server, "s");
        for (asked, what, expected) in [
            ("gzip", "VARZ", Some("gzip")),
            ("snappy", "VARZ", Some("snappy")),
            ("S2", "CONNZ", Some("snappy")),
            ("gzip, s2", "VARZ", Some("snappy")),
            ("zstd", "VARZ", Some("identity")),
            ("gzip", "IDZ", None),
            ("gzip", "STATSZ", None),
        ] {
            let headers = format!("NATS/1.0\r\nAccept-Encoding: {asked}\r\n\r\n");
            let subject = format!("$SYS.REQ.SERVER.{id}.{what}");
            let answer = client.request_with_headers(&subject, headers.as_bytes(), b"");
            let shown = String::from_utf8_lossy(&answer.headers).into_owned();
            let named = shown.split("Content-Encoding: ").nth(1).map(str::trim);
            assert_eq!(named, expected, "{asked} {what}: {shown}");
            let mut read = Vec::new();
            match expected {
                Some("gzip") => {
                    let mut decoder = flate2::read::GzDecoder::new(answer.payload.as_slice());
                    decoder.read_to_end(&mut read).unwrap();
                }
                Some("snappy") => {
                    assert!(answer.payload.starts_with(b"\xff\x06\x00\x00sNaPpY"));
                    let mut decoder = millrace_archive::s2::Decoder::default();
                    decoder.push(&answer.payload);
                    while let Some(block) = decoder.next_block().unwrap() {
                        read.extend_from_slice(&block);
                    }
                }
                _ => read.clone_from(&answer.payload),
            }
            let value: Value = serde_json::from_slice(&read).unwrap();
            assert!(value.to_string().contains(&id), "{asked} {what}: {value}");
        }
    }
}

/// How many would get a message, on both servers.
// proves: SYS-09
#[test]
fn subscribers_are_counted() {
    for builder in ServerBuilder::both() {
        let server = builder.config(CONFIG).start();
        let mut client = log_in(&server, "s");
        client.send(b"SUB foo 1\r\nSUB foo q 2\r\nSUB foo q 3\r\nSUB foo.* 4\r\n");
        assert_eq!(client.flush(), b"");
        let mut other = log_in(&server, "a");
        other.send(b"SUB foo 1\r\n");
        assert_eq!(other.flush(), b"");
        for (asked, expected) in [
            ("foo", "3"),
            ("foo q", "2"),
            ("foo nobody", "0"),
            ("foo.x", "1"),
            ("foo.*", "1"),
            ("nobody", "0"),
            ("", "0"),
            ("a b c", "0"),
        ] {
            let answer = client.request("$SYS.DEBUG.SUBSCRIBERS", asked.as_bytes());
            assert_eq!(answer.text(), expected, "{asked:?}");
        }
        // Other accounts cannot ask.
        let answer = other.request("$SYS.DEBUG.SUBSCRIBERS", b"foo");
        assert!(answer.headers.starts_with(b"NATS/1.0 503"));
    }
}

/// Looks inside, over the system account: what both have.
// proves: SYS-17
#[test]
fn insides_are_shown_over_the_system_account() {
    for builder in ServerBuilder::both() {
        let server = builder.config(CONFIG).start();
        let about = |what: &str, options: &str| {
            let subject = format!("$SYS.REQ.SERVER.<id>.{what}");
            ask(&server, "s", &subject, options).unwrap()["data"].clone()
        };
        assert_eq!(about("RAFTZ", ""), json!({}));
        assert!(about("IPQUEUESZ", r#"{"all":true}"#).is_object());
        let memory = about("EXPVARZ", "")["memstats"]["Alloc"].clone();
        assert!(memory.as_u64().unwrap() > 0);
        let unnamed = json!({"profile": null, "error": "Profile name not specified"});
        assert_eq!(about("PROFILEZ", ""), unnamed);
        let unknown = json!({"profile": null, "error": "Profile \"zzz\" not found"});
        assert_eq!(about("PROFILEZ", r#"{"name":"zzz"}"#), unknown);
    }
}
