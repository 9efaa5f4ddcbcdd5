//! New options for a running broker.

mod support;

use std::sync::Arc;

use millrace_config::Options;
use millrace_core::CloseReason;
use support::Bench;

fn options(text: &str) -> Options {
    let load = |name: &str| Err(format!("no file {name}"));
    millrace_config::parse(text, "x.conf", &load, &|_| None)
        .expect("a configuration")
        .0
}

fn login(bench: &mut Bench, name: &str) {
    bench.open(name);
    bench.take(name);
    let connect = format!(
        "CONNECT {{\"verbose\":false,\"pedantic\":false,\"user\":\"{name}\",\"pass\":\"p\"}}\r\nPING\r\n"
    );
    assert_eq!(bench.exchange(name, &connect), "PONG\r\n");
}

fn apply(bench: &mut Bench, text: &str) {
    bench
        .broker
        .apply_options(bench.now, Arc::new(options(text)));
    bench.settle();
}

// proves: REL-03
#[test]
fn users_that_are_gone_or_moved_are_disconnected() {
    let before = "accounts: {A: {users: [{user: a, password: p}, {user: b, password: p}, {user: c, password: p}, {user: d, password: p}]}}";
    let mut bench = Bench::new(options(before));
    ["a", "b", "c", "d"]
        .iter()
        .for_each(|name| login(&mut bench, name));
    bench.exchange("a", "SUB foo 1\r\n");
    apply(
        &mut bench,
        "accounts: {A: {users: [{user: a, password: p}, {user: d, password: other}]}, B: {users: [{user: c, password: p}]}}",
    );
    assert_eq!(
        bench.exchange("a", "PUB foo 1\r\nx\r\n"),
        "MSG foo 1 1\r\nx\r\n"
    );
    assert_eq!(bench.take("d"), "-ERR 'Authorization Violation'\r\n<EOF>");
    assert_eq!(bench.take("b"), "<EOF>");
    assert_eq!(bench.take("c"), "<EOF>");
    assert_eq!(bench.closed[&bench.id("c")], CloseReason::ClientClosed);
}

// proves: REL-04, PRO-21
#[test]
fn subscriptions_that_are_no_longer_allowed_are_removed() {
    let with = |permissions: &str| {
        format!("authorization: {{users: [{{user: a, password: p, permissions: {permissions}}}]}}")
    };
    let mut bench = Bench::new(options(&with("{subscribe: \">\"}")));
    login(&mut bench, "a");
    bench.exchange(
        "a",
        "SUB foo 1\r\nSUB bar q 2\r\nSUB baz.* 3\r\nSUB ok 4\r\n",
    );
    apply(
        &mut bench,
        &with("{subscribe: {deny: [foo, bar, baz.x]}, publish: {deny: nope}}"),
    );
    let told = bench.take("a");
    assert!(
        told.contains("-ERR 'Permissions Violation for Subscription to \"foo\" (sid \"1\")'\r\n")
    );
    let queue = "-ERR 'Permissions Violation for Subscription to \"bar\" using queue \"q\" (sid \"2\")'\r\n";
    assert!(told.contains(queue), "{told}");
    let publishes = "PUB ok 1\r\na\r\nPUB foo 1\r\nb\r\nPUB baz.x 1\r\nc\r\nPUB baz.y 1\r\nd\r\nPUB nope 1\r\ne\r\n";
    assert_eq!(
        bench.exchange("a", publishes),
        "MSG ok 4 1\r\na\r\nMSG baz.y 3 1\r\nd\r\n-ERR 'Permissions Violation for Publish to \"nope\"'\r\n"
    );
}

// proves: REL-06, REL-07
#[test]
fn limits_reach_live_clients() {
    let mut bench = Bench::new(Options::default());
    ["a", "b", "c"]
        .iter()
        .for_each(|name| login(&mut bench, name));
    apply(&mut bench, "max_payload: 10\nmax_connections: 2");
    assert_eq!(bench.broker.connection_count(), 2);
    let names = ["a", "b", "c"];
    let open = names
        .iter()
        .find(|name| !bench.closed.contains_key(&bench.id(name)));
    let closed = names
        .iter()
        .find(|name| bench.closed.contains_key(&bench.id(name)));
    let text = "-ERR 'maximum connections exceeded'\r\n<EOF>";
    assert_eq!(bench.take(closed.expect("one is closed")), text);
    let answer = bench.exchange(open.expect("two are open"), "PUB foo 11\r\n");
    assert_eq!(answer, "-ERR 'Maximum Payload Violation'\r\n<EOF>");
}

// proves: REL-03
#[test]
fn bcrypt_users_are_judged_again_and_keep_their_input() {
    let hash = "$2b$04$abcdefghijklmnopqrstuu3T5MJoKA6MoiaLqE2RyTROPKNmzjMf.";
    let text = format!("authorization: {{users: [{{user: b, password: \"{hash}\"}}]}}");
    let mut bench = Bench::new(options(&text));
    bench.open("b");
    bench.take("b");
    let connect =
        "CONNECT {\"verbose\":false,\"user\":\"b\",\"pass\":\"bb\"}\r\nSUB foo 1\r\nPING\r\n";
    assert_eq!(bench.exchange("b", connect), "PONG\r\n");
    apply(&mut bench, &text);
    assert_eq!(
        bench.exchange("b", "PUB foo 1\r\nx\r\n"),
        "MSG foo 1 1\r\nx\r\n"
    );
}
