//! Changes of a stream's retention: what is allowed, and what becomes of the messages that are there,
//! on both servers.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use millrace_tests::server::wait_for;
use millrace_tests::{RawClient, ServerBuilder};
use serde_json::Value;

fn api(client: &mut RawClient, subject: &str, body: &str) -> Value {
    client
        .request(&format!("$JS.API.{subject}"), body.as_bytes())
        .json()
}

/// Creates or updates a stream that listens to its own name; gives the retention or the error.
fn configure(client: &mut RawClient, verb: &str, name: &str, retention: &str) -> String {
    let body = format!(r#"{{"name":"{name}","subjects":["{name}"],"retention":"{retention}"}}"#);
    let answer = api(client, &format!("STREAM.{verb}.{name}"), &body);
    match answer["error"]["description"].as_str() {
        Some(error) => format!("{} {error}", answer["error"]["err_code"]),
        None => answer["config"]["retention"].as_str().unwrap().to_owned(),
    }
}

fn publish(client: &mut RawClient, name: &str, count: u64) {
    for _ in 0..count {
        let answer = client.request(name, b"x").json();
        assert!(answer["seq"].is_u64(), "{answer}");
    }
}

/// Messages and first sequence.
fn state(client: &mut RawClient, name: &str) -> (u64, u64) {
    let state = &api(client, &format!("STREAM.INFO.{name}"), "")["state"];
    (
        state["messages"].as_u64().unwrap(),
        state["first_seq"].as_u64().unwrap(),
    )
}

fn create_consumer(client: &mut RawClient, stream: &str, name: &str) {
    let body = format!(
        r#"{{"stream_name":"{stream}","config":{{"durable_name":"{name}","ack_policy":"explicit","ack_wait":60000000000}}}}"#
    );
    let created = api(
        client,
        &format!("CONSUMER.DURABLE.CREATE.{stream}.{name}"),
        &body,
    );
    assert!(created.get("error").is_none(), "{created}");
}

/// Takes so many messages and acknowledges each.
fn take(client: &mut RawClient, stream: &str, consumer: &str, count: u64) {
    for _ in 0..count {
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}");
        let message = client.request(&subject, br#"{"batch":1,"expires":5000000000}"#);
        client.request(&message.reply, b"+ACK");
    }
}

// proves: JS-STR-31
#[test]
fn retention_changes_between_limits_and_interest_and_never_to_or_from_work_queues() {
    let refused =
        "10052 stream configuration update can not change retention policy to/from workqueue";
    let table = [
        ("limits", "interest", "interest"),
        ("limits", "workqueue", refused),
        ("interest", "limits", "limits"),
        ("interest", "workqueue", refused),
        ("workqueue", "limits", refused),
        ("workqueue", "interest", refused),
    ];
    for builder in ServerBuilder::both() {
        let server = builder.jetstream().start();
        let mut client = RawClient::ready(&server.address);
        for (from, to, expected) in table {
            let name = format!("{from}-{to}");
            assert_eq!(configure(&mut client, "CREATE", &name, from), from);
            assert_eq!(
                configure(&mut client, "UPDATE", &name, to),
                expected,
                "{name}"
            );
        }
    }
}

// proves: JS-STR-31
#[test]
fn what_all_consumers_have_had_goes_when_limits_become_interest_and_stays_the_other_way() {
    for builder in ServerBuilder::both() {
        let server = builder.jetstream().start();
        let mut client = RawClient::ready(&server.address);
        configure(&mut client, "CREATE", "A", "limits");
        publish(&mut client, "A", 6);
        create_consumer(&mut client, "A", "quick");
        create_consumer(&mut client, "A", "slow");
        take(&mut client, "A", "quick", 3);
        take(&mut client, "A", "slow", 1);
        assert_eq!(state(&mut client, "A"), (6, 1));
        assert_eq!(
            configure(&mut client, "UPDATE", "A", "interest"),
            "interest"
        );
        wait_for("what both have had to go", || {
            (state(&mut client, "A") == (5, 2)).then_some(())
        });
        // Interest rules from now on.
        take(&mut client, "A", "slow", 1);
        wait_for("the next to go", || {
            (state(&mut client, "A") == (4, 3)).then_some(())
        });
        assert_eq!(configure(&mut client, "UPDATE", "A", "limits"), "limits");
        take(&mut client, "A", "slow", 1);
        take(&mut client, "A", "quick", 1);
        assert_eq!(state(&mut client, "A"), (4, 3));

        // Without a consumer nobody is interested.
        configure(&mut client, "CREATE", "B", "limits");
        publish(&mut client, "B", 3);
        configure(&mut client, "UPDATE", "B", "interest");
        wait_for("all to go", || {
            (state(&mut client, "B") == (0, 4)).then_some(())
        });
        publish(&mut client, "B", 1);
        assert_eq!(state(&mut client, "B"), (0, 5));
        configure(&mut client, "UPDATE", "B", "limits");
        publish(&mut client, "B", 1);
        assert_eq!(state(&mut client, "B"), (1, 5));
    }
}
