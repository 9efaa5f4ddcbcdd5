//! JetStream limits by number of replicas, which only tokens of accounts can say: what the account
//! is told of them and what it may create, as the reference has it.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use millrace_tests::tokens::Key;
use millrace_tests::{RawClient, Server, ServerBuilder};
use serde_json::{Value, json};

/// A configuration with one account whose JetStream limits are these.
fn config(account: &Key, tiers: &Value) -> String {
    let (operator, system) = (Key::operator(1), Key::account(6));
    let of_operator = json!({"type": "operator", "system_account": system.public});
    let unlimited = json!({"subs": -1, "data": -1, "payload": -1, "conn": -1, "leaf": -1,
        "imports": -1, "exports": -1, "wildcards": true});
    let mut limits = unlimited.clone();
    limits["tiered_limits"] = tiers.clone();
    let signed = |key: &Key, limits: &Value| {
        let claims = json!({"type": "account", "limits": limits});
        operator.token(&key.public, &json!({}), claims)
    };
    format!(
        "operator: {}\nresolver: MEMORY\nresolver_preload: {{\n{}: {}\n{}: {}\n}}\n",
        operator.token(&operator.public, &json!({}), of_operator),
        account.public,
        signed(account, &limits),
        system.public,
        signed(&system, &unlimited),
    )
}

fn log_in(server: &Server, account: &Key) -> RawClient {
    let claims = json!({"type": "user", "subs": -1, "data": -1, "payload": -1,
        "bearer_token": true});
    let token = account.token(&Key::user(8).public, &json!({}), claims);
    let mut client = RawClient::connect(&server.address);
    client.read_line();
    client.send(format!("CONNECT {{\"verbose\":false,\"jwt\":\"{token}\"}}\r\n").as_bytes());
    client.flush();
    client
}

fn ask(client: &mut RawClient, call: &str, body: &str) -> Value {
    let answer = client.request(&format!("$JS.API.{call}"), body.as_bytes());
    let mut answer = answer.json();
    // How often it was asked is not the question.
    answer.as_object_mut().unwrap().remove("api");
    answer
}

fn error_of(answer: &Value) -> String {
    answer["error"].to_string()
}

// proves: JS-LIM-03
#[test]
fn the_tier_of_one_replica_limits_and_is_told() {
    let account = Key::account(3);
    let tiers = json!({
        "R1": {"disk_storage": 1_048_576, "mem_storage": 65_536, "streams": 2, "consumer": -1},
        "R3": {"disk_storage": 4096, "streams": -1, "consumer": 5},
    });
    let mut told = Vec::new();
    for builder in ServerBuilder::both() {
        let server = builder
            .jetstream()
            .config(&config(&account, &tiers))
            .start();
        let mut client = log_in(&server, &account);
        let mut answers = vec![ask(&mut client, "INFO", "").to_string()];
        let body = r#"{"name":"S","subjects":["s"],"max_bytes":1000}"#;
        ask(&mut client, "STREAM.CREATE.S", body);
        client.request("s", b"hello");
        let body = r#"{"stream_name":"S","config":{"durable_name":"c"}}"#;
        ask(&mut client, "CONSUMER.CREATE.S.c", body);
        answers.push(ask(&mut client, "INFO", "").to_string());
        for (name, more) in [
            ("R", r#","num_replicas":3"#),
            ("T", r#","max_bytes":1048000"#),
            ("T", ""),
            ("U", ""),
        ] {
            let body = format!(r#"{{"name":"{name}"{more}}}"#);
            answers.push(error_of(&ask(
                &mut client,
                &format!("STREAM.CREATE.{name}"),
                &body,
            )));
        }
        told.push(answers);
    }
    for (reference, ours) in told[0].iter().zip(told.last().unwrap()) {
        assert_eq!(reference, ours);
    }
    let ours = told.last().unwrap();
    let info: Value = serde_json::from_str(&ours[1]).unwrap();
    assert_eq!(info["tiers"]["R1"]["limits"]["max_streams"], 2);
    assert_eq!(info["tiers"]["R1"]["streams"], 1);
    assert_eq!(info["tiers"]["R1"]["reserved_storage"], 1000);
    assert_eq!(info["limits"]["max_streams"], 0);
}

// proves: JS-LIM-03
#[test]
fn without_a_tier_for_one_replica_nothing_can_be_created() {
    let account = Key::account(3);
    let tiers = json!({"R3": {"disk_storage": 4096, "streams": -1, "consumer": 5}});
    let mut told = Vec::new();
    for builder in ServerBuilder::both() {
        let server = builder
            .jetstream()
            .config(&config(&account, &tiers))
            .start();
        let mut client = log_in(&server, &account);
        let created = ask(&mut client, "STREAM.CREATE.S", r#"{"name":"S"}"#);
        told.push((ask(&mut client, "INFO", "").to_string(), error_of(&created)));
    }
    assert_eq!(told.first(), told.last());
    assert!(told.last().unwrap().1.contains("10120"), "{told:?}");
}
