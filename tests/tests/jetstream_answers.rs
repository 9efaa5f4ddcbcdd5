//! Which requests are answered, and what an answer sees of what came before the request.

use millrace_tests::{RawClient, Server, ServerBuilder};

// proves: JS-API-08
#[test]
fn unknown_requests_are_not_answered_and_without_jetstream_nobody_listens() {
    for builder in ServerBuilder::both() {
        let server = builder.jetstream().start();
        let mut client = RawClient::ready(&server.address);
        client.send(b"SUB r.* 1\r\n");
        // The last one is answered: what came before it had its chance.
        for (number, call) in [
            "FOO",
            "STREAM.FOO.S",
            "META.LEADER.STEPDOWN",
            "SERVER.REMOVE",
        ]
        .into_iter()
        .chain(["ACCOUNT.PURGE.X", "STREAM.NAMES"])
        .enumerate()
        {
            client.publish(&format!("$JS.API.{call}"), &format!("r.{number}"), b"", b"");
        }
        assert_eq!(client.read_message().subject, "r.5");
        client.sync();
        assert!(client.unread().is_empty());
    }
    for builder in ServerBuilder::both() {
        let server = builder.config("jetstream: disabled").start();
        let mut client = RawClient::connect(&server.address);
        client.read_line();
        client.send(b"CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n");
        client.flush();
        for call in ["INFO", "STREAM.NAMES", "FOO"] {
            let answer = client.request(&format!("$JS.API.{call}"), b"");
            let headers = String::from_utf8_lossy(&answer.headers).into_owned();
            assert!(headers.starts_with("NATS/1.0 503"), "{call}: {headers}");
        }
    }
}

/// Of a client that publishes without asking for an answer, or acknowledges, and then asks.
#[test]
fn a_question_about_a_stream_sees_what_came_before_it() {
    let server = Server::jetstream();
    let mut client = RawClient::ready(&server.address);
    let ask = |client: &mut RawClient, call: &str, body: &str| {
        client
            .request(&format!("$JS.API.{call}"), body.as_bytes())
            .json()
    };
    let body = r#"{"name":"S","subjects":["s"],"retention":"workqueue"}"#;
    ask(&mut client, "STREAM.CREATE.S", body);
    let body = r#"{"stream_name":"S","config":{"durable_name":"c","ack_policy":"explicit"}}"#;
    ask(&mut client, "CONSUMER.CREATE.S.c", body);
    for round in 1..=20 {
        client.publish("s", "", b"", b"x");
        client.publish("s", "", b"", b"x");
        let info = ask(&mut client, "STREAM.INFO.S", "");
        assert_eq!(info["state"]["messages"], 2, "round {round}");
        let info = ask(&mut client, "CONSUMER.INFO.S.c", "");
        assert_eq!(info["num_pending"], 2, "round {round}");
        for _ in 0..2 {
            let message = client.request("$JS.API.CONSUMER.MSG.NEXT.S.c", b"");
            client.publish(&message.reply, "", b"", b"+ACK");
        }
        let info = ask(&mut client, "STREAM.INFO.S", "");
        assert_eq!(info["state"]["messages"], 0, "round {round}");
    }
}
