//! A configuration read again by a running server: what is taken over, what is refused and in which
//! words. Texts are the reference's (2.15.1), kept as data, but where a comment says otherwise.

mod common;

use common::{Folder, Server};

/// Starts on this configuration; `STORE` in it is a folder of the test's.
fn start(config: &str) -> Server {
    let folder = Folder::new();
    let path = write(&folder, config);
    Server::start_in(folder, &["-c", &path])
}

fn write(folder: &Folder, config: &str) -> String {
    let store = folder.0.join("store").display().to_string();
    folder.write("config", &config.replace("STORE", &store))
}

/// Reads the configuration again and returns the log's lines about it.
fn reload(server: &mut Server, config: &str) -> Vec<String> {
    write(&server.folder, config);
    let before = server.log().len();
    server.signal("HUP");
    let begun = std::time::Instant::now();
    loop {
        let log = server.log();
        let new = log.get(before..).unwrap_or_default();
        if new.contains("Reloaded server configuration") || new.contains("Failed to reload") {
            return new.lines().filter_map(text_of).collect();
        }
        assert!(begun.elapsed() < common::PATIENCE, "{log}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// A line without its time; nothing of the signal.
fn text_of(line: &str) -> Option<String> {
    let at = line.find("[INF] ").or_else(|| line.find("[ERR] "))?;
    let text = line.get(at + 6..)?;
    (!text.starts_with("Trapped")).then(|| text.to_owned())
}

const BASE: &str = "server_name: a
max_payload: 1000
max_subs: 5
max_sub_tokens: 5
max_pending: 2mb
max_closed_clients: 5
write_timeout: retry
no_header_support: true
disable_sublist_cache: true
lame_duck_duration: \"60s\"
feature_flags { x: true }
system_account: A
accounts { A {}, B { users: [ { user: a, password: b } ] } }
no_auth_user: a
jetstream { store_dir: \"STORE\", domain: d, max_mem: 2g, max_file: 2g, sync_interval: \"1m\" }
websocket { listen: \"127.0.0.1:-1\", no_tls: true }
";

/// A line of `BASE`, what it becomes, and what is said.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "server_name: a",
        "server_name: b",
        "ServerName: old=a, new=b",
    ),
    ("server_name: a", "", "ServerName: old=a, new="),
    ("max_subs: 5", "max_subs: 6", "MaxSubs: old=5, new=6"),
    (
        "max_sub_tokens: 5",
        "max_sub_tokens: 6",
        "MaxSubTokens: old=5, new=6",
    ),
    (
        "max_pending: 2mb",
        "max_pending: 3mb",
        "MaxPending: old=2097152, new=3145728",
    ),
    (
        "max_closed_clients: 5",
        "max_closed_clients: 6",
        "MaxClosedClients: old=5, new=6",
    ),
    (
        "write_timeout: retry",
        "write_timeout: close",
        "WriteTimeout: old=retry, new=close",
    ),
    ("write_timeout: retry", "", "WriteTimeout: old=retry, new="),
    (
        "no_header_support: true",
        "",
        "NoHeaderSupport: old=true, new=false",
    ),
    (
        "disable_sublist_cache: true",
        "",
        "NoSublistCache: old=true, new=false",
    ),
    (
        "lame_duck_duration: \"60s\"",
        "lame_duck_duration: \"61s\"",
        "LameDuckDuration: old=1m0s, new=1m1s",
    ),
    (
        "feature_flags { x: true }",
        "feature_flags { x: false }",
        "FeatureFlags: old=map[x:true], new=map[x:false]",
    ),
    (
        "system_account: A",
        "system_account: B",
        "SystemAccount: old=A, new=B",
    ),
    (
        "no_auth_user: a",
        "no_system_account: true\nno_auth_user: a",
        "NoSystemAccount: old=false, new=true",
    ),
    ("domain: d", "domain: e", "JetStreamDomain: old=d, new=e"),
    ("STORE", "STORE2", "jetstream storage directory"),
    (
        "max_mem: 2g",
        "max_mem: 1g",
        "decreasing jetstream max memory and store",
    ),
    (
        "max_file: 2g",
        "max_file: 1g",
        "decreasing jetstream max memory and store",
    ),
    (
        "max_mem: 2g, max_file: 2g, ",
        "",
        "jetstream max memory and max store",
    ),
    (
        "sync_interval: \"1m\"",
        "sync_interval: \"2m\"",
        "SyncInterval: old=1m0s, new=2m0s",
    ),
    (
        "max_subs: 5",
        "max_subs: 5\nhttp_base_path: \"/x\"",
        "HTTPBasePath: old=, new=/x",
    ),
    (
        "max_subs: 5",
        "max_subs: 5\nlame_duck_grace_period: \"5s\"",
        "LameDuckGracePeriod: old=10s, new=5s",
    ),
    (
        "max_subs: 5",
        "max_subs: 5\nlog_size_limit: 5000",
        "LogSizeLimit: old=0, new=5000",
    ),
    (
        "max_subs: 5",
        "max_subs: 5\nallow_non_tls: true",
        "AllowNonTLS: old=false, new=true",
    ),
    (
        "max_subs: 5",
        "max_subs: 5\nprof_port: -1",
        "ProfPort: old=0, new=-1",
    ),
    // The reference shows both blocks whole.
    (
        "no_tls: true }",
        "no_tls: true, compression: true }",
        "Websocket: field \"Compression\": old=false, new=true",
    ),
    // JetStream is turned on and off by a reload there, by a restart here.
    (
        "jetstream {",
        "jetstream { enabled: false, ",
        "JetStream: old=true, new=false",
    ),
];

// proves: REL-01, REL-11, REL-13
#[test]
fn a_file_with_one_change_that_cannot_be_made_changes_nothing_and_says_which() {
    let mut server = start(BASE);
    let mut wrong = Vec::new();
    for (line, changed, reason) in REFUSED {
        assert!(BASE.contains(line), "{line}");
        // Beside it stands a change that could be made.
        let config = BASE
            .replace(line, changed)
            .replace("max_payload: 1000", "max_payload: 2000");
        let expected = format!(
            "Failed to reload server configuration: config reload not supported for {reason}"
        );
        let lines = reload(&mut server, &config);
        if lines != [expected.as_str()] {
            wrong.push(format!("{line} -> {changed}\n  {expected}\n  {lines:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let bad = [
        ("nonsense: 1", "unknown field \"nonsense\""),
        ("port: {", "Parse error on line"),
        (
            "max_payload: 70mb\nmax_pending: 64mb",
            "max_payload (73400320) cannot be higher than max_pending (67108864)",
        ),
    ];
    for (text, reason) in bad {
        let lines = reload(&mut server, text);
        let [line] = lines.as_slice() else {
            panic!("{lines:?}")
        };
        assert!(
            line.starts_with("Failed to reload") && line.contains(reason),
            "{line}"
        );
    }
    let info = server.connect().expect("\r\n");
    assert!(info.contains("\"max_payload\":1000,"), "{info}");
}

/// What is added to an empty file, and the lines about it.
const ACCEPTED: &[(&str, &[&str])] = &[
    (
        "debug: true, trace: true, logtime_utc: true, max_traced_msg_len: 10",
        &[
            "trace = true",
            "debug = true",
            "logtime_utc = true",
            "authorization users",
            "accounts",
            "max_traced_msg_len = 10",
        ],
    ),
    (
        "client_advertise: \"b:2\"",
        &["client_advertise = b:2", "authorization users", "accounts"],
    ),
    (
        "max_control_line: 5000, max_connections: 10, write_deadline: \"5s\", ping_max: 3",
        &[
            "max_connections = 10",
            "authorization users",
            "accounts",
            "ping_max = 3",
            "max_control_line = 5000",
            "write_deadline = 5s",
        ],
    ),
    (
        "server_tags: [a], server_metadata { a: b }, no_fast_producer_stall: true, \
         connect_error_reports: 5, reconnect_error_reports: 5",
        &[
            "authorization users",
            "accounts",
            "fast producers will not be stalled",
            "connect_error_reports = 5",
            "reconnect_error_reports = 5",
            "tags",
            "metadata",
        ],
    ),
    (
        "authorization { token: x, timeout: 3 }",
        &[
            "authorization users",
            "accounts",
            "authorization token",
            "authorization timeout = 3",
        ],
    ),
    ("mappings { a: b }", &["authorization users", "accounts"]),
    (
        "authorization { users: [ { user: a, password: b } ] }",
        &["authorization users", "accounts"],
    ),
];

// proves: REL-02
#[test]
fn what_a_reload_changed_is_said_line_by_line() {
    for (text, expected) in ACCEPTED {
        let mut server = start("debug: false\n");
        let lines = reload(&mut server, text);
        let mut lines = lines.iter().map(String::as_str);
        let last = lines.next_back().expect("a line");
        assert!(
            last.starts_with("Reloaded server configuration (sha256:"),
            "{last}"
        );
        let told: Vec<&str> = lines
            .map(|line| {
                let line = line.strip_prefix("Reloaded: ");
                line.unwrap_or("client_advertise = b:2")
            })
            .collect();
        assert_eq!(told, *expected, "{text}");
    }
}

// proves: REL-02
#[test]
fn levels_and_targets_of_the_log_change_on_live_connections() {
    let mut server = start("logtime: true\n");
    let mut client = server.connect();
    client.log_in("");
    client.send("SUB quiet 1\r\nPING\r\n");
    client.expect("PONG\r\n");
    assert!(!server.log().contains("[TRC]"));
    reload(&mut server, "trace: true\nlogtime: false\n");
    client.send("SUB loud 2\r\nPING\r\n");
    client.expect("PONG\r\n");
    let log = server.log();
    let line = log.lines().find(|line| line.contains("<<- [SUB loud"));
    let line = line.expect("a traced line");
    assert!(!line.contains('/'), "without the time: {line}");

    let elsewhere = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    elsewhere
        .set_read_timeout(Some(common::PATIENCE))
        .expect("set");
    let place = elsewhere.local_addr().expect("bound");
    // A log file goes before the system log, as in the reference.
    let lines = reload(&mut server, &format!("remote_syslog: \"udp://{place}\"\n"));
    assert!(
        lines
            .iter()
            .any(|line| line.contains("remote_syslog = udp://127.0.0.1:"))
    );
}

// proves: REL-11
#[test]
fn limits_of_jetstream_grow_and_accounts_get_it_without_a_restart() {
    let base = "jetstream { store_dir: \"STORE\", max_mem: 1g, max_file: 1g }\n\
                accounts { A { jetstream: true, users: [ { user: a, password: p } ] }, \
                B { users: [ { user: b, password: p } ] } }\n";
    let mut server = start(base);
    let info = |server: &Server, user: &str| {
        let mut client = server.connect();
        client.log_in(&format!(",\"user\":\"{user}\",\"pass\":\"p\""));
        client.send("SUB in 1\r\nPUB $JS.API.INFO in 0\r\n\r\n");
        let head = client.expect("\r\n");
        let length: usize = head
            .trim_end()
            .rsplit(' ')
            .next()
            .and_then(|text| text.parse().ok())
            .expect("a length");
        let text = client.expect("\r\n");
        assert_eq!(text.len(), length + 2);
        text
    };
    assert!(info(&server, "b").contains("10039"), "not enabled");
    let grown = base
        .replace("max_file: 1g", "max_file: 2g")
        .replace("A { jetstream: true", "A { jetstream: { max_file: 5M }")
        .replace("B {", "B { jetstream: true,");
    let lines = reload(&mut server, &grown);
    let expected = "Reloaded: JetStream max_file_store = 1.86 GB";
    assert!(lines.iter().any(|line| line == expected), "{lines:?}");
    assert!(info(&server, "b").contains("account_info_response"));
    assert!(!info(&server, "b").contains("10039"));
    assert!(info(&server, "a").contains("\"max_storage\":5000000"));
}
