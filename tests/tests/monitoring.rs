//! Monitoring over HTTP: the same questions to the reference and to ours, status and JSON compared.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use millrace_tests::http::get;
use millrace_tests::packages::{reference_binary, skip};
use millrace_tests::raw::RawClient;
use millrace_tests::shape::shape_of;
use millrace_tests::{Server, ServerBuilder};
use serde_json::Value;

const CONFIG: &str = "accounts {\n  A { users [{user a, password a}] }\n  SYS { users [{user s, password s}] }\n}\nsystem_account: SYS\n";

const SHOWN: &[&str] = &[
    "/varz",
    "/routez",
    "/gatewayz",
    "/leafz",
    "/accountz",
    "/accountz?acc=A",
    "/accstatz",
    "/accstatz?unused=1",
    "/healthz",
    "/connz",
    "/connz?subs=1",
    "/connz?subs=detail",
    "/connz?auth=1",
    "/connz?limit=1&offset=1",
    "/connz?acc=A",
    "/connz?user=s&auth=1",
    "/connz?cid=99",
    "/connz?limit=2",
    "/connz?offset=9",
    "/connz?state=closed",
    "/connz?state=any",
    "/connz?sort=subs",
    "/connz?sort=msgs_to",
    "/connz?sort=stop&state=closed",
    "/subsz",
    "/ipqueuesz",
    "/subsz?subs=1&test=a.x",
    "/subsz?subs=1&test=b&acc=A",
    "/subsz?subs=1&test=nobody.here.at.all",
    "/subsz?acc=nope&subs=1",
    "/healthz?details=1",
    "/healthz?js-server-only=1",
    "/healthz?js-meta-only=1",
];
const REFUSED: &[&str] = &[
    "/connz?sort=zzz",
    "/connz?limit=x",
    "/connz?subs=maybe",
    "/connz?state=zzz",
    "/connz?cid=x",
    "/connz?sort=stop",
    "/subsz?limit=x",
    "/accountz?acc=nope",
    "/subsz?test=a.*",
    "/subsz?test=a.*&subs=1",
    "/accstatz?unused=x",
    "/healthz?js-enabled-only=x",
    "/healthz?js-enabled-only=1",
    "/healthz?account=A",
    "/healthz?stream=S",
    "/healthz?account=A&consumer=C",
    "/healthz?account=A&consumer=C&details=1",
    "/healthz?stream=S&details=1",
    "/healthz?details=x",
    "/ipqueuesz?all=x",
    "/raftz",
    "/raftz?acc=A",
    "/raftz?group=G",
    "/nothing",
];

/// The JSON in a body, which may be sent in chunks.
fn json(body: &str) -> Option<Value> {
    let start = body.find(['{', '['])?;
    let mut values = serde_json::Deserializer::from_str(&body[start..]).into_iter();
    values.next()?.ok()
}

fn log_in(server: &Server, user: &str) -> RawClient {
    let mut client = server.connect();
    client.read_line();
    let options = format!(
        "CONNECT {{\"verbose\":false,\"user\":\"{user}\",\"pass\":\"{user}\",\"name\":\"n\",\
         \"lang\":\"l\",\"version\":\"v\"}}\r\nSUB a.* 1\r\nSUB b q 2\r\n"
    );
    client.send(options.as_bytes());
    assert_eq!(client.flush(), b"");
    client
}

fn compare(servers: &[Server; 2], path: &str) -> Option<Value> {
    let [expected, found] = [0, 1].map(|place| get(&servers[place], path));
    assert_eq!(
        found.0, expected.0,
        "{path}: {} and {}",
        found.1, expected.1
    );
    match (json(&expected.1), json(&found.1)) {
        (Some(expected), Some(found)) => {
            let (wanted, shapes) = (shape_of(&expected), shape_of(&found));
            let differing: Vec<_> = shapes.symmetric_difference(&wanted).collect();
            assert!(differing.is_empty(), "{path}: {differing:?}");
            for name in ["total", "num_connections", "offset", "limit", "leafnodes"] {
                assert_eq!(found.get(name), expected.get(name), "{path}: {name}");
            }
            Some(found)
        }
        (None, None) => {
            assert_eq!(found.1.trim(), expected.1.trim(), "{path}");
            None
        }
        (expected, found) => panic!("{path}: {found:?} instead of {expected:?}"),
    }
}

// proves: MON-01, MON-02, MON-03, MON-04, MON-05, MON-06, MON-07, MON-08, MON-09, MON-11, MON-20
#[test]
fn endpoints_answer_as_those_of_the_reference() {
    let Some(reference) = reference_binary() else {
        skip("monitoring", "the reference binary is not to be had");
        return;
    };
    let servers = [
        ServerBuilder::binary(reference).config(CONFIG).start(),
        ServerBuilder::millrace().config(CONFIG).start(),
    ];
    let _clients = servers.each_ref().map(|server| {
        drop(log_in(server, "a"));
        [
            log_in(server, "a"),
            log_in(server, "a"),
            log_in(server, "s"),
        ]
    });
    // The client that left is among the closed ones once the server has seen it go.
    for server in &servers {
        millrace_tests::server::wait_for("a closed connection", || {
            let closed = json(&get(server, "/connz?state=closed").1)?;
            (closed["total"] == 1).then_some(())
        });
    }
    for path in SHOWN {
        assert!(compare(&servers, path).is_some(), "{path}");
    }
    for path in REFUSED {
        compare(&servers, path);
    }
}

const SHARED: &str = "accounts {
  A { users [{user a, password a}], exports [
    {stream: \"pub.>\"}, {stream: \"priv.*\", accounts: [B]}, {service: \"svc.*\", accounts: [B]},
    {service: st, response_type: stream}, {service: ch, response_type: chunked},
    {service: lat, latency: {sampling: 50, subject: lat.out}} ] }
  B { users [{user b, password b}], imports [
    {stream: {account: A, subject: \"pub.>\"}, prefix: x}, {stream: {account: A, subject: \"priv.*\"}, to: \"mine.*\"},
    {service: {account: A, subject: svc.1}, to: q, share: true}, {service: {account: A, subject: st}} ],
    mappings: { foo: bar } }
}
";

/// What accounts share, value for value. The reference lists it in no order, and among the imports also
/// the services that every account has of the system account.
// proves: MON-08
#[test]
fn what_accounts_share_is_shown_as_by_the_reference() {
    let Some(reference) = reference_binary() else {
        skip("accountz", "the reference binary is not to be had");
        return;
    };
    let servers = [
        ServerBuilder::binary(reference).config(SHARED).start(),
        ServerBuilder::millrace().config(SHARED).start(),
    ];
    for account in ["A", "B"] {
        let [expected, found] = servers.each_ref().map(|server| {
            let shown = json(&get(server, &format!("/accountz?acc={account}")).1).unwrap();
            let detail = &shown["account_detail"];
            let list = |name: &str| {
                let all = detail[name].as_array().cloned().unwrap_or_default();
                let own = |one: &Value| !one["subject"].as_str().unwrap().starts_with('$');
                let mut texts: Vec<String> = all
                    .iter()
                    .filter(|one| own(one))
                    .map(ToString::to_string)
                    .collect();
                texts.sort();
                texts
            };
            (list("exports"), list("imports"), detail["mappings"].clone())
        });
        assert_eq!(found, expected, "{account}");
    }
}

/// A message's receivers are counted alike, whatever else the servers subscribe to.
// proves: MON-07
#[test]
fn a_test_subject_finds_those_it_reaches() {
    for builder in ServerBuilder::both() {
        let server = builder.config(CONFIG).start();
        let _clients = [log_in(&server, "a"), log_in(&server, "s")];
        let found = |query: &str| {
            let shown = json(&get(&server, &format!("/subsz?subs=1&{query}")).1).unwrap();
            let list = shown["subscriptions_list"].as_array().cloned();
            let mut subjects: Vec<String> = list
                .unwrap_or_default()
                .iter()
                .map(|one| format!("{} {}", one["account"], one["subject"]))
                .collect();
            subjects.sort();
            (shown["total"].clone(), subjects)
        };
        let both = ["\"A\" \"a.*\"", "\"SYS\" \"a.*\""].map(str::to_owned);
        assert_eq!(found("test=a.x"), (2.into(), both.to_vec()));
        assert_eq!(found("test=a.x&acc=A"), (1.into(), vec![both[0].clone()]));
        assert_eq!(found("test=b&acc=SYS").0, 1);
        assert_eq!(found("test=a").0, 0);
    }
}
