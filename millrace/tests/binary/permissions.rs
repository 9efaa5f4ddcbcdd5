//! What a user may do, over the wire: the table of the specification, one user per row.

use crate::client::Client;
use crate::server::{Name, Server, TempFolder};

const USER: &str = r#"{"verbose":false,"user":"u","pass":"p"}"#;
const ADMIN: &str = r#"{"verbose":false,"user":"admin","pass":"p"}"#;

/// A server with an unrestricted admin and a user with these permissions; both are connected.
fn start(folder: &TempFolder, permissions: &str) -> (Server, Client, Client) {
    let text = format!(
        "listen: 127.0.0.1:-1\n\
         authorization {{ users [{{user admin, pass p}}, \
         {{user u, pass p, permissions {{ {permissions} }}}}] }}"
    );
    folder.write("server.conf", &text);
    let mut server = Server::start(folder, Name::NatsServer, "-c server.conf");
    server.wait_for("Server is ready");
    let connect = |options| {
        let mut client = server.connect(options);
        assert!(client.ping().is_empty());
        client
    };
    let (admin, user) = (connect(ADMIN), connect(USER));
    (server, admin, user)
}

fn publish(client: &mut Client, subject: &str) -> bool {
    let answer = client.exchange(&format!("PUB {subject} 0\r\n\r\n"));
    if !answer.is_empty() {
        let error = format!("-ERR 'Permissions Violation for Publish to \"{subject}\"'");
        assert_eq!(answer, [error]);
    }
    answer.is_empty()
}

fn subscribe(client: &mut Client, subject: &str, queue: &str) -> bool {
    let answer = client.exchange(&format!("SUB {subject} {queue} 99\r\nUNSUB 99\r\n"));
    if !answer.is_empty() {
        let queue_text = if queue.is_empty() {
            String::new()
        } else {
            format!(" using queue \"{queue}\"")
        };
        let error =
            format!("-ERR 'Permissions Violation for Subscription to \"{subject}\"{queue_text}'");
        assert_eq!(answer, [error]);
    }
    answer.is_empty()
}

// proves: AUT-09
#[test]
fn publish_lists() {
    let cases: [(&str, &[&str], &[&str]); 6] = [
        ("publish: a", &["a"], &["b"]),
        ("publish: [\"a.*\", b]", &["a.x", "b"], &["a", "a.x.y"]),
        ("publish { deny: \"a.>\" }", &["b"], &["a.x"]),
        (
            "publish { allow: \"a.>\", deny: \"a.b\" }",
            &["a.c"],
            &["a.b", "c"],
        ),
        ("publish: []", &["anything"], &[]),
        ("subscribe: a", &["anything"], &[]),
    ];
    for (permissions, good, bad) in cases {
        let folder = TempFolder::new();
        let (_server, _admin, mut user) = start(&folder, permissions);
        for subject in good {
            assert!(publish(&mut user, subject), "{permissions}: {subject}");
        }
        for subject in bad {
            assert!(!publish(&mut user, subject), "{permissions}: {subject}");
        }
    }
}

// proves: AUT-10, AUT-12
#[test]
fn subscribe_lists_with_and_without_queues() {
    type Pairs = &'static [(&'static str, &'static str)];
    let cases: [(&str, Pairs, Pairs); 5] = [
        (
            "subscribe: svc",
            &[("svc", ""), ("svc", "q")],
            &[(">", ""), ("other", "")],
        ),
        (
            "subscribe: \"_INBOX.>\"",
            &[("_INBOX.*.x", ""), ("_INBOX.>", "")],
            &[("*", "")],
        ),
        (
            "subscribe: [\"q.>\", \"q.> g1\"]",
            &[("q.x", ""), ("q.x", "g1")],
            &[("q.x", "g2"), ("q", "")],
        ),
        (
            "subscribe: \"q.> g1\"",
            &[("q.x", "g1")],
            &[("q.x", ""), ("q.x", "g2")],
        ),
        (
            "subscribe { deny: [\"a.b\", \"q.* g.*\"] }",
            &[("a.*", ""), ("q.x", ""), ("q.x", "g")],
            &[("a.b", ""), ("q.x", "g.1")],
        ),
    ];
    for (permissions, good, bad) in cases {
        let folder = TempFolder::new();
        let (_server, _admin, mut user) = start(&folder, permissions);
        for (subject, queue) in good {
            assert!(
                subscribe(&mut user, subject, queue),
                "{permissions}: {subject} {queue}"
            );
        }
        for (subject, queue) in bad {
            assert!(
                !subscribe(&mut user, subject, queue),
                "{permissions}: {subject} {queue}"
            );
        }
    }
}

// proves: AUT-11
#[test]
fn denied_subjects_are_filtered_out_of_wider_subscriptions() {
    let folder = TempFolder::new();
    let (_server, mut admin, mut user) = start(&folder, "subscribe { deny: \"a.secret\" }");
    assert!(user.exchange("SUB a.* 1\r\n").is_empty());
    assert!(
        admin
            .exchange("PUB a.secret 1\r\nx\r\nPUB a.open 1\r\ny\r\n")
            .is_empty()
    );
    assert_eq!(user.ping(), ["MSG a.open 1 1", "y"]);
}

// proves: AUT-13
#[test]
fn replies_are_allowed_as_often_as_granted() {
    let folder = TempFolder::new();
    let permissions = "subscribe: svc, allow_responses: { max: 2, expires: \"1m\" }";
    let (_server, mut admin, mut user) = start(&folder, permissions);
    assert!(!publish(&mut user, "reply.1"), "nothing was asked yet");
    assert!(user.exchange("SUB svc 1\r\n").is_empty());
    assert!(admin.exchange("PUB svc reply.1 0\r\n\r\n").is_empty());
    assert_eq!(user.ping(), ["MSG svc 1 reply.1 0", ""]);
    assert!(publish(&mut user, "reply.1"));
    assert!(publish(&mut user, "reply.1"));
    assert!(!publish(&mut user, "reply.1"), "both are used up");
    assert!(!publish(&mut user, "reply.2"), "another subject");
}

// proves: AUT-14
#[test]
fn default_permissions_are_for_users_without_their_own() {
    let folder = TempFolder::new();
    let text = "listen: 127.0.0.1:-1\n\
         authorization { default_permissions { publish: common }\n\
         users [{user u, pass p}, {user admin, pass p, permissions { publish: own }}] }";
    folder.write("server.conf", text);
    let mut server = Server::start(&folder, Name::NatsServer, "-c server.conf");
    server.wait_for("Server is ready");
    let mut user = server.connect(USER);
    assert!(publish(&mut user, "common") && !publish(&mut user, "own"));
    let mut admin = server.connect(ADMIN);
    assert!(publish(&mut admin, "own") && !publish(&mut admin, "common"));
}
