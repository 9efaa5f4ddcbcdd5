//! The dashboard, clicked through in a real browser, and what it must refuse. The official WebSocket
//! client in the same browser.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use millrace_tests::browser::browser;
use millrace_tests::http::{ask, get, http_address};
use millrace_tests::packages::skip;
use millrace_tests::{RawClient, Server, ServerBuilder};
use serde_json::{Value, json};

const USERS: &str = "authorization { users [\n\
  {user a, password a},\n\
  {user r, password r, permissions { publish [\"s.>\", \"$JS.API.STREAM.MSG.GET.S\"], subscribe \"_INBOX.>\" }}\n\
] }\n";

fn log_in(server: &Server, name: &str) -> RawClient {
    let mut client = server.connect();
    client.read_line();
    let options = json!({"verbose":false,"headers":true,"user":"a","pass":"a","name":name});
    client.send(format!("CONNECT {options}\r\n").as_bytes());
    assert_eq!(client.flush(), b"");
    client
}

/// A consumer that nobody pulls from, and a client with a name that is no good HTML.
fn fill(server: &Server) -> RawClient {
    let mut client = log_in(server, "<img src=x onerror=\"document.title=1\">");
    let mut call = |call: &str, body: Value| {
        let answer = client.request(&format!("$JS.API.{call}"), body.to_string().as_bytes());
        let answer = answer.json();
        assert!(answer.get("error").is_none(), "{call}: {answer}");
    };
    call("STREAM.CREATE.S", json!({"name":"S","subjects":["s.>"]}));
    let config = json!({"durable_name":"C","ack_policy":"explicit"});
    call(
        "CONSUMER.DURABLE.CREATE.S.C",
        json!({"stream_name":"S","config":config}),
    );
    for number in 0..3 {
        let answer = client.request(&format!("s.{number}"), b"hello");
        assert!(answer.json().get("seq").is_some());
    }
    client
}

#[test]
fn the_dashboard_works_in_a_browser() {
    let Some(browser) = browser() else {
        skip("dashboard", "no browser");
        return;
    };
    let config =
        format!("server_name: mill\nmonitoring {{ user: ann, password: secret }}\n{USERS}");
    let server = ServerBuilder::millrace()
        .jetstream()
        .config(&config)
        .start();
    let _client = fill(&server);
    let pictures = millrace_tests::fresh_folder("pictures");
    browser.run(
        "dashboard.mjs",
        &[&server.monitor, pictures.to_str().unwrap()],
    );
    assert!(pictures.join("phone-consumers.png").exists());
    std::fs::remove_dir_all(pictures).unwrap();
}

// proves: WS-01, WS-05, WS-08
#[test]
fn the_official_client_works_in_a_browser() {
    let Some(browser) = browser() else {
        skip("websocket in a browser", "no browser");
        return;
    };
    let config = format!(
        "websocket {{ listen: \"127.0.0.1:-1\", no_tls: true, compression: true }}\n{USERS}"
    );
    let server = ServerBuilder::millrace()
        .jetstream()
        .config(&config)
        .start();
    let varz: Value = serde_json::from_str(&get(&server, "/varz").1).unwrap();
    let socket = format!("ws://127.0.0.1:{}", varz["websocket"]["port"]);
    browser.run("websocket.mjs", &[&server.monitor, &socket]);
}

const BASIC: &str = "Authorization: Basic YW5uOnNlY3JldA==\r\n";
const OURS: &str = "Content-Type: application/json\r\nMillrace-Action: 1\r\n";

/// An action as the page would send it, with these header lines.
fn act(server: &Server, headers: &str, body: &Value) -> (u16, String) {
    let address = http_address(server);
    let body = body.to_string();
    let request = format!(
        "POST /dashboard/act HTTP/1.0\r\nHost: {address}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    ask(&address, &request)
}

#[test]
fn actions_are_refused_to_who_may_not() {
    let config = format!("monitoring {{ user: ann, password: secret }}\n{USERS}");
    let server = ServerBuilder::millrace()
        .jetstream()
        .config(&config)
        .start();
    let _client = fill(&server);
    let good = json!({"action":"publish","user":"r","password":"r","subject":"s.x","payload":"x"});
    let with = |headers: &str| act(&server, headers, &good).0;
    assert_eq!(with(&format!("{BASIC}{OURS}")), 200);
    assert_eq!(with(OURS), 401);
    assert_eq!(with(BASIC), 403);
    assert_eq!(
        with(&format!("{BASIC}Content-Type: application/json\r\n")),
        403
    );
    assert_eq!(
        with(&format!("{BASIC}{OURS}Origin: http://evil.example\r\n")),
        403
    );
    assert_eq!(
        with(&format!("{BASIC}{OURS}Sec-Fetch-Site: cross-site\r\n")),
        403
    );

    let says = |body: Value| act(&server, &format!("{BASIC}{OURS}"), &body);
    for (body, expected) in [
        (
            json!({"action":"publish","subject":"s.x"}),
            "Authorization Violation",
        ),
        (
            json!({"action":"publish","user":"r","password":"r","subject":"a b"}),
            "the subject must be one word",
        ),
        (
            json!({"action":"publish","user":"r","password":"r","subject":"$JS.API.STREAM.DELETE.S"}),
            "Permissions Violation",
        ),
        (
            json!({"action":"peek","user":"r","password":"r","stream":"T"}),
            "Permissions Violation",
        ),
        (
            json!({"action":"drop","user":"a","password":"a"}),
            "is not known",
        ),
    ] {
        let (status, text) = says(body.clone());
        assert_eq!(status, 200);
        let answer: Value = serde_json::from_str(&text).unwrap();
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(error.contains(expected), "{body}: {answer}");
    }
    let (status, _) = act(
        &server,
        &format!("{BASIC}{OURS}"),
        &json!({"action":"publish","payload":"x".repeat(300_000)}),
    );
    assert_eq!(status, 413);
    // Three are of the client in `fill`, one is allowed; nothing else got through.
    let request = format!("GET /jsz HTTP/1.0\r\n{BASIC}\r\n");
    let shown = ask(&http_address(&server), &request).1;
    let jsz: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(jsz["messages"], 4);
}

#[test]
fn without_authentication_there_are_no_actions() {
    let server = ServerBuilder::millrace().config(USERS).start();
    assert_eq!(get(&server, "/dashboard").0, 200);
    let body = json!({"action":"publish","user":"a","password":"a","subject":"s"});
    assert_eq!(act(&server, OURS, &body).0, 404);
    assert!(get(&server, "/").1.contains("dashboard"));
}

#[test]
fn dashboard_and_actions_have_switches() {
    let config = format!("monitoring {{ user: ann, password: secret, actions: off }}\n{USERS}");
    let server = ServerBuilder::millrace().config(&config).start();
    let body = json!({"action":"publish","user":"a","password":"a","subject":"s"});
    assert_eq!(act(&server, &format!("{BASIC}{OURS}"), &body).0, 404);
    let off = "monitoring { dashboard: off }\n";
    let server = ServerBuilder::millrace().config(off).start();
    assert_eq!(get(&server, "/dashboard").0, 404);
    assert!(!get(&server, "/").1.contains("dashboard"));
}
