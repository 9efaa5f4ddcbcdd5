//! Log lines about connections; the expected ones were taken from the reference's log.

mod support;

use millrace_config::Options;
use millrace_core::BrokerEffect;
use support::Bench;

fn lines(bench: &Bench) -> Vec<String> {
    let texts = bench.effects.iter().filter_map(|effect| match effect {
        BrokerEffect::Log { text, .. } => Some(text.replace("127.0.0.1:50000 - cid:1", "*")),
        _ => None,
    });
    texts.collect()
}

#[test]
fn protocol_lines_are_those_of_the_reference() {
    let mut options = Options::default();
    options.log.trace = true;
    options.log.debug = true;
    let mut bench = Bench::new(options);
    bench.open("a");
    bench.send("a", b"CONNECT {\"verbose\":false,\"headers\":true,\"lang\":\"py\",\"version\":\"1.2\",\"name\":\"nm\",\"user\":\"uu\",\"pass\":\"pp\"}\r\nPING\r\n");
    bench.send("a", b"SUB foo 1\r\nSUB foo q 2\r\nUNSUB 2\r\nPUB foo bar 2\r\nhi\r\nHPUB foo 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
    bench.send("a", b"UNSUB 1 5\r\nPONG\r\nSUB a..b 3\r\n");
    bench.close("a");
    let who = "* - \"v1.2:py:nm\" - \"$G/user:uu\" -";
    let expected = [
        "* - Client connection created".to_owned(),
        "* - <<- [CONNECT {\"verbose\":false,\"headers\":true,\"lang\":\"py\",\"version\":\"1.2\",\"name\":\"nm\",\"user\":\"uu\",\"pass\":\"[REDACTED]\"}]".to_owned(),
        format!("{who} <<- [PING]"),
        format!("{who} ->> [PONG]"),
        format!("{who} <<- [SUB foo 1]"),
        format!("{who} <<- [SUB foo q 2]"),
        format!("{who} <<- [UNSUB 2]"),
        format!("{who} <-> [DELSUB 2]"),
        format!("{who} <<- [PUB foo bar 2]"),
        format!("{who} <<- MSG_PAYLOAD: [\"hi\"]"),
        format!("{who} ->> [MSG foo 1 bar 2]"),
        format!("{who} ->> MSG_PAYLOAD: [\"hi\"]"),
        format!("{who} <<- [HPUB foo 12 14]"),
        format!("{who} <<- MSG_PAYLOAD: [\"NATS/1.0\\r\\n\\r\\nhi\"]"),
        format!("{who} ->> [HMSG foo 1 12 14]"),
        format!("{who} ->> MSG_PAYLOAD: [\"NATS/1.0\\r\\n\\r\\nhi\"]"),
        format!("{who} <<- [UNSUB 1 5]"),
        format!("{who} <<- [PONG]"),
        format!("{who} <<- [SUB a..b 3]"),
        format!("{who} ->> [-ERR Invalid Subject]"),
        format!("{who} Client connection closed: Client Closed"),
        format!("{who} <-> [DELSUB 1]"),
    ];
    assert_eq!(lines(&bench), expected);
}

#[test]
fn without_trace_and_debug_only_errors_are_logged() {
    let mut options = Options::default();
    options.authorization.user = Some("a".into());
    options.authorization.password = Some("b".into());
    let mut bench = Bench::new(options);
    bench.open("a");
    bench.send("a", b"CONNECT {\"user\":\"a\",\"pass\":\"x\"}\r\n");
    assert_eq!(lines(&bench), ["* - authentication error - User \"a\""]);
}
