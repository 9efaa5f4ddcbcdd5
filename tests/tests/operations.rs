//! What only ours has at the monitoring port, by real programs of others: metrics read by
//! Prometheus' own parser, health for orchestrators, authentication; and what the reference has and
//! `monitoring.rs` cannot compare there: HTTPS, the base path, the index.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use millrace_tests::http::{get, get_with, http_address};
use millrace_tests::packages::{python, reference_binary, skip};
use millrace_tests::{RawClient, Server, ServerBuilder};
use serde_json::{Value, json};

/// Reads the text format as strictly as Prometheus' client does, and prints samples as JSON.
const PARSER: &str = r#"
import json, sys
from prometheus_client.parser import text_string_to_metric_families as parse
out = []
for family in parse(sys.stdin.read()):
    assert family.documentation, family.name
    assert family.type in ("counter", "gauge", "histogram"), (family.name, family.type)
    for sample in family.samples:
        out.append([family.name, family.type, sample.name, sample.labels, sample.value])
json.dump(out, sys.stdout)
"#;

/// One sample: family, its type, name, labels, value.
type Sample = (String, String, String, BTreeMap<String, String>, f64);

fn parsed(text: &str) -> Option<Vec<Sample>> {
    let python = python()?;
    let mut child = Command::new(python)
        .args(["-c", PARSER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the parser refuses:\n{text}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let fits = |sample: &&Sample| {
        sample.2 == name
            && labels
                .iter()
                .all(|(name, value)| sample.3.get(*name).map(String::as_str) == Some(value))
    };
    samples.iter().find(fits).map(|sample| sample.4)
}

/// A stream with five messages and a consumer that has taken two and acknowledged one.
fn fill(server: &Server) -> RawClient {
    let mut client = server.connect();
    client.read_line();
    client.send(b"CONNECT {\"verbose\":false,\"headers\":true}\r\n");
    assert_eq!(client.flush(), b"");
    let mut ask = |call: &str, body: Value| {
        let answer = client.request(&format!("$JS.API.{call}"), body.to_string().as_bytes());
        let answer = answer.json();
        assert!(answer.get("error").is_none(), "{call}: {answer}");
    };
    ask("STREAM.CREATE.S", json!({"name":"S","subjects":["s.>"]}));
    let consumer = json!({"durable_name":"C","ack_policy":"explicit","ack_wait":60_000_000_000u64});
    let body = json!({"stream_name":"S","config":consumer});
    ask("CONSUMER.DURABLE.CREATE.S.C", body);
    for number in 0..5 {
        let answer = client.request(&format!("s.{number}"), b"hello");
        assert!(answer.json().get("seq").is_some());
    }
    for number in 0..2 {
        let message = client.request("$JS.API.CONSUMER.MSG.NEXT.S.C", b"{\"batch\":1}");
        assert_eq!(message.text(), "hello");
        if number == 0 {
            assert_eq!(client.request(&message.reply, b"+ACK").text(), "");
        }
    }
    client
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let server = Server::jetstream();
    let _client = fill(&server);
    let (status, text) = get(&server, "/metrics");
    assert_eq!(status, 200);
    let Some(samples) = parsed(&text) else {
        skip("metrics", "no Python with Prometheus' parser");
        return;
    };
    let stream = [("account", "$G"), ("stream", "S")];
    let consumer = [("account", "$G"), ("stream", "S"), ("consumer", "C")];
    for (name, labels, expected) in [
        ("millrace_ready", &[][..], 1.0),
        ("millrace_connections", &[], 1.0),
        ("millrace_jetstream_up", &[], 1.0),
        ("millrace_jetstream_streams", &[], 1.0),
        ("millrace_jetstream_consumers", &[], 1.0),
        ("millrace_jetstream_messages", &[], 5.0),
        ("millrace_stream_messages", &stream, 5.0),
        ("millrace_stream_subjects", &stream, 5.0),
        ("millrace_stream_last_sequence", &stream, 5.0),
        ("millrace_stream_consumers", &stream, 1.0),
        ("millrace_consumer_pending_messages", &consumer, 3.0),
        ("millrace_consumer_ack_pending_messages", &consumer, 1.0),
        ("millrace_consumer_ack_floor_sequence", &consumer, 1.0),
        ("millrace_consumer_paused", &consumer, 0.0),
        ("millrace_streams_without_samples", &[], 0.0),
        ("millrace_account_connections", &[("account", "$G")], 1.0),
    ] {
        assert_eq!(
            value(&samples, name, labels),
            Some(expected),
            "{name}\n{text}"
        );
    }
    for name in [
        "millrace_received_messages_total",
        "millrace_sent_bytes_total",
        "millrace_jetstream_api_requests_total",
        "millrace_journal_sync_seconds_count",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "millrace_jetstream_journal_bytes",
    ] {
        let found = value(&samples, name, &[]);
        assert!(
            found.is_some_and(|value| value > 0.0),
            "{name}: {found:?}\n{text}"
        );
    }
}

/// Names carry their unit, or are counts of things; counters end as they should.
#[test]
fn metrics_are_named_as_they_should_be() {
    let server = Server::jetstream();
    let _client = fill(&server);
    let text = get(&server, "/metrics").1;
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(
            name.starts_with("millrace_") || name.starts_with("process_"),
            "{name}"
        );
        assert_eq!(
            kind == "counter",
            name.ends_with("_total"),
            "{name}: {kind}"
        );
    }
}

/// The dashboard for Grafana asks for nothing that is not there. What a mirror alone has is named.
#[test]
fn the_grafana_dashboard_uses_metrics_that_exist() {
    const OF_MIRRORS: &str = "millrace_stream_origin_lag_messages";
    let server = Server::jetstream();
    let _client = fill(&server);
    let text = get(&server, "/metrics").1;
    let has_samples = |name: &str| {
        text.lines().any(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']))
        })
    };
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../deploy/grafana-dashboard.json"
    );
    let board: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut asked = 0;
    for panel in board["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap();
            let words = query.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
            let names =
                words.filter(|word| word.starts_with("millrace_") || word.starts_with("process_"));
            for name in names {
                asked += 1;
                let exists = has_samples(name) || name == OF_MIRRORS && text.contains(name);
                assert!(exists, "{name} in {}", panel["title"]);
            }
        }
    }
    assert!(asked > 30, "{asked}");
}

#[test]
fn health_for_orchestrators_goes_with_the_life_of_the_server() {
    let server = Server::jetstream();
    let status = |path: &str| get(&server, path).0;
    for path in [
        "/healthz",
        "/healthz/startup",
        "/healthz/ready",
        "/healthz/live",
    ] {
        assert_eq!(status(path), 200, "{path}");
    }
    // A client that is connected stays so, while no new ones are sent here.
    let mut client = server.connect();
    client.read_line();
    client.send(b"CONNECT {\"verbose\":false}\r\nSUB a 1\r\n");
    assert_eq!(client.flush(), b"");
    server.signal("USR2");
    millrace_tests::server::wait_for("not ready", || {
        (status("/healthz/ready") == 503).then_some(())
    });
    assert_eq!(status("/healthz/live"), 200);
    assert_eq!(status("/healthz/startup"), 200);
    client.send(b"PUB a 2\r\nhi\r\n");
    let seen = String::from_utf8_lossy(&client.flush()).into_owned();
    assert!(seen.contains("MSG a 1 2\r\nhi"), "{seen}");
}

#[test]
fn the_port_asks_who_is_there() {
    let config = "monitoring { user: ann, password: secret, token: t0ken }\n";
    let server = ServerBuilder::millrace().config(config).start();
    let basic = "Authorization: Basic YW5uOnNlY3JldA==\r\n";
    for (path, headers, expected) in [
        ("/varz", "", 401),
        ("/", "", 401),
        ("/metrics", "Authorization: Basic YW5uOndyb25n\r\n", 401),
        ("/nothing", "", 401),
        ("/varz", basic, 200),
        ("/metrics", basic, 200),
        ("/stacksz", "Authorization: Bearer t0ken\r\n", 200),
        ("/nothing", basic, 404),
    ] {
        let (status, text) = get_with(&http_address(&server), path, headers);
        assert_eq!(status, expected, "{path} {headers:?}: {text}");
    }
    // Two at the same time, one of them wrong, do not mix.
    let server = &server;
    let (wrong, right) = std::thread::scope(|scope| {
        let ask = |headers| get_with(&http_address(server), "/varz", headers).0;
        let wrong = scope.spawn(move || ask("Authorization: Bearer no\r\n"));
        let right = ask(basic);
        (wrong.join().unwrap(), right)
    });
    assert_eq!((wrong, right), (401, 200));
}

// proves: MON-18, MON-19
#[test]
fn everything_is_below_the_base_path() {
    for (place, builder) in ServerBuilder::both().into_iter().enumerate() {
        let server = builder.config("http_base_path: \"/base\"\n").start();
        for (path, expected) in [
            ("/", 404),
            ("/base", 200),
            ("/base/", 404),
            ("/varz", 404),
            ("/base/varz", 200),
            ("/base/healthz", 200),
            ("/base/nothing", 404),
        ] {
            assert_eq!(get(&server, path).0, expected, "{path} of server {place}");
        }
        // Every link of the index leads somewhere.
        let index = get(&server, "/base").1;
        for link in index.split("<a href=").skip(1) {
            let link = link.trim_start_matches('"');
            let link = link.split(['"', '>', ' ']).next().unwrap();
            let Some(path) = link.strip_prefix('.') else {
                continue;
            };
            let status = get(&server, path).0;
            // A server of its own has no Raft groups; what it says then is a 404.
            let expected = if path.ends_with("raftz") { 404 } else { 200 };
            assert_eq!(status, expected, "{path} of server {place}");
        }
        for name in [
            "varz", "jsz", "connz", "accountz", "subsz", "routez", "leafz", "gatewayz",
        ] {
            assert!(
                index.contains(&format!("base/{name}")),
                "{name} of server {place}"
            );
        }
    }
}

/// A certificate for localhost, signed by itself, and a configuration that uses it.
fn tls_config(folder: &std::path::Path) -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    format!(
        "https_port: -1\ntls {{ cert_file: {:?}, key_file: {:?}, verify: false }}\n",
        cert.display().to_string(),
        key.display().to_string()
    )
}

/// Asks over HTTPS, trusting nothing but the one certificate.
const HTTPS: &str = r#"
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile=sys.argv[2])
context.check_hostname = False
with urllib.request.urlopen(sys.argv[1], context=context, timeout=20) as answer:
    sys.stdout.write(answer.read().decode())
"#;

// proves: MON-17
#[test]
fn monitoring_speaks_https() {
    let Some(python) = python() else {
        skip("https", "no Python");
        return;
    };
    for (place, builder) in ServerBuilder::both().into_iter().enumerate() {
        let folder = millrace_tests::fresh_folder("https");
        let config = tls_config(&folder);
        let server = builder.no_http().config(&config).start();
        assert!(server.monitor.starts_with("https://"), "{}", server.monitor);
        let output = Command::new(&python)
            .args(["-c", HTTPS])
            .arg(format!("{}/varz", server.monitor))
            .arg(folder.join("cert.pem"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        let shown: Value = serde_json::from_str(&text).expect(&error);
        // The reference shows what was configured, ours where it listens.
        assert_ne!(shown["https_port"], 0, "server {place}");
        assert_eq!(shown["http_port"], 0, "server {place}");
        // Plain HTTP is not understood, and does not stop the port.
        let plain = http_address(&server);
        assert_ne!(get_with(&plain, "/varz", "").0, 200, "server {place}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}

/// Both ports at once, or one without a certificate: the same refusal as the reference's.
// proves: MON-17
#[test]
fn https_needs_a_certificate_and_a_port_of_its_own() {
    let mut texts = Vec::new();
    let binaries = [
        reference_binary(),
        Some(millrace_tests::server::millrace_binary()),
    ];
    for binary in binaries.into_iter().flatten() {
        let run = |arguments: &[&str]| {
            let output = Command::new(&binary).args(arguments).output().unwrap();
            assert!(!output.status.success());
            String::from_utf8_lossy(&output.stderr).into_owned()
        };
        texts.push([
            run(&["-a", "127.0.0.1", "-p", "-1", "-ms", "18999"]),
            run(&["-a", "127.0.0.1", "-p", "-1", "-m", "18998", "-ms", "18999"]),
        ]);
    }
    for [no_certificate, two_ports] in texts {
        assert!(
            no_certificate.contains("TLS cert and key required for HTTPS"),
            "{no_certificate}"
        );
        let expected = "can't specify both HTTP (18998) and HTTPs (18999) ports";
        assert!(two_ports.contains(expected), "{two_ports}");
    }
}

// proves: MON-14, MON-15
#[test]
fn threads_and_variables_are_shown() {
    for builder in ServerBuilder::both() {
        let server = builder.start();
        let (status, text) = get(&server, "/stacksz");
        assert_eq!(status, 200);
        assert!(text.len() > 100, "{text}");
        let (status, text) = get(&server, "/debug/vars");
        assert_eq!(status, 200);
        let begin = text.find('{').unwrap();
        let mut values = serde_json::Deserializer::from_str(&text[begin..]).into_iter();
        let shown: Value = values.next().unwrap().unwrap();
        assert!(shown["cmdline"].as_array().unwrap().len() > 3, "{shown}");
        assert!(shown["memstats"]["Alloc"].as_u64().unwrap() > 0, "{shown}");
    }
}
