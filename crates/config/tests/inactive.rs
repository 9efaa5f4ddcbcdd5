//! Blocks of features that are not active are checked as the reference checks them. The answers are
//! those of its configuration test, kept as data; empty where it takes the file.

use millrace_config::parse;

/// Not here: lists in `ocsp`, on which the reference always fails, and hints at the right spelling,
/// which it does not give.
const CASES: &[(&str, &str)] = &[
    (
        r#"cluster { listen: "127.0.0.1:1", name: a, foo: 1 }"#,
        r#"x.conf:1:42: unknown field "foo""#,
    ),
    (
        r#"cluster { listen: "127.0.0.1:1", name: "a b" }"#,
        r#"x.conf:1:33: cluster name cannot contain spaces"#,
    ),
    (r#"cluster { listen: "127.0.0.1:1", name: "" }"#, r#""#),
    (
        r#"cluster { listen: x }"#,
        r#"x.conf:1:10: could not parse address string "x""#,
    ),
    (r#"cluster { listen: 6222 }"#, r#""#),
    (
        r#"cluster: 5"#,
        r#"x.conf:1:0: Expected map to define cluster, got int64"#,
    ),
    (
        r#"cluster { host: 5 }"#,
        r#"x.conf:1:10: interface conversion: interface {} is int64, not string"#,
    ),
    (
        r#"cluster { port: x }"#,
        r#"x.conf:1:10: interface conversion: interface {} is string, not int64"#,
    ),
    (r#"cluster { routes: ["nats://a:1", "nats://b:2"] }"#, r#""#),
    (
        r#"cluster { routes: "nats://a:1" }"#,
        r#"x.conf:1:10: interface conversion: interface {} is string, not []interface {}"#,
    ),
    (
        r#"cluster { routes: [ 5 ] }"#,
        r#"x.conf:1:20: interface conversion: interface {} is int64, not string"#,
    ),
    (
        r#"cluster { authorization { user: a, password: b, timeout: 2 } }"#,
        r#""#,
    ),
    (
        r#"cluster { authorization { users: [{user: a, password: b}] } }"#,
        r#"x.conf:1:10: Cluster authorization does not allow multiple users"#,
    ),
    (
        r#"cluster { authorization { token: a } }"#,
        r#"x.conf:1:10: Cluster authorization does not support tokens"#,
    ),
    (
        r#"cluster { authorization { user: a, permissions { import: a, export: b } } }"#,
        r#"x.conf:1:10: invalid use of field "authorization": setting "permissions" within cluster authorization block is deprecated"#,
    ),
    (
        r#"cluster { permissions { import: a, export: ["b"] } }"#,
        r#""#,
    ),
    (
        r#"cluster { permissions { publish: a, subscribe: {allow: ["b"], deny: "c"} } }"#,
        r#""#,
    ),
    (
        r#"cluster { permissions { foo: a } }"#,
        r#"x.conf:1:24: Unknown field "foo" parsing permissions"#,
    ),
    (
        r#"cluster { tls { cert_file: "a" } }"#,
        r#"x.conf:1:10: missing 'key_file' in TLS configuration"#,
    ),
    (r#"cluster { tls { timeout: 2 } }"#, r#""#),
    (
        r#"cluster { connect_retries: a }"#,
        r#"x.conf:1:10: interface conversion: interface {} is string, not int64"#,
    ),
    (
        r#"cluster { connect_backoff: 1 }"#,
        r#"x.conf:1:10: interface conversion: interface {} is int64, not bool"#,
    ),
    (r#"cluster { pool_size: -1, accounts: ["A"] }"#, r#""#),
    (r#"cluster { pool_size: 3, accounts: "A" }"#, r#""#),
    (r#"cluster { pool_size: 3, accounts: ["A","A"] }"#, r#""#),
    (r#"cluster { compression: fast }"#, r#""#),
    (r#"cluster { compression: foo }"#, r#""#),
    (r#"cluster { compression: true }"#, r#""#),
    (
        r#"cluster { compression: 1 }"#,
        r#"x.conf:1:10: field "compression" should be a boolean or a structure, got int64"#,
    ),
    (
        r#"cluster { compression { mode: auto, rtt_thresholds: [10ms, "50ms"] } }"#,
        r#""#,
    ),
    (
        r#"cluster { compression { mode: auto, rtt_thresholds: ["50ms", "10ms"] } }"#,
        r#""#,
    ),
    (
        r#"cluster { compression { mode: s2_auto, rtt_thresholds: ["10ms", "20ms", "30ms", "40ms", "50ms"] } }"#,
        r#""#,
    ),
    (
        r#"cluster { compression { foo: x } }"#,
        r#"x.conf:1:24: unknown field "foo""#,
    ),
    (
        r#"cluster { ping_interval: 5 }"#,
        r#"x.conf:1:10: invalid use of field "ping_interval": ping_interval should be converted to a duration"#,
    ),
    (r#"cluster { ping_interval: "5s", ping_max: 2 }"#, r#""#),
    (
        r#"cluster { write_deadline: "5s", write_timeout: retry }"#,
        r#""#,
    ),
    (
        r#"cluster { write_timeout: foo }"#,
        r#"x.conf:1:10: write_timeout must be 'default', 'close' or 'retry'"#,
    ),
    (
        r#"cluster { no_advertise: true, advertise: "a:1", cluster_advertise: "x" }"#,
        r#""#,
    ),
    (
        r#"cluster { gossip_mode: x }"#,
        r#"x.conf:1:10: unknown field "gossip_mode""#,
    ),
    (r#"cluster {}"#, r#""#),
    (r#"gateway { name: a, listen: "a:1" }"#, r#""#),
    (
        r#"gateway { name: "a b" }"#,
        r#"x.conf:1:10: gateway name cannot contain spaces"#,
    ),
    (r#"gateway { name: "" }"#, r#""#),
    (
        r#"gateway: 1"#,
        r#"x.conf:1:0: Expected gateway to be a map, got int64"#,
    ),
    (
        r#"gateway { foo: 1 }"#,
        r#"x.conf:1:10: unknown field "foo""#,
    ),
    (
        r#"gateway { gateways: [{name: b, url: "nats://a:1"}] }"#,
        r#""#,
    ),
    (
        r#"gateway { gateways: [{name: b, urls: ["nats://a:1"], tls {}, foo: 1}] }"#,
        r#"x.conf:1:61: unknown field "foo""#,
    ),
    (r#"gateway { gateways: [{url: "nats://a:1"}] }"#, r#""#),
    (
        r#"gateway { authorization { user: a, password: b, permissions {publish: a} } }"#,
        r#""#,
    ),
    (
        r#"gateway { authorization { users: [] } }"#,
        r#"x.conf:1:10: Gateway authorization does not allow multiple users"#,
    ),
    (
        r#"gateway { reject_unknown: true, reject_unknown_cluster: false, connect_retries: 1, connect_backoff: true, advertise: a, write_deadline: "1s", write_timeout: close }"#,
        r#""#,
    ),
    (r#"gateway {}"#, r#""#),
    (r#"leafnodes { listen: "a:1" }"#, r#""#),
    (
        r#"leafnodes: 1"#,
        r#"x.conf:1:0: Expected map to define a leafnode, got int64"#,
    ),
    (
        r#"leafnodes { foo: 1 }"#,
        r#"x.conf:1:12: unknown field "foo""#,
    ),
    (
        r#"leafnodes { advertise: a, no_advertise: true, host: a, port: 7422, reconnect: 2 }"#,
        r#"x.conf:1:67: invalid use of field "reconnect": reconnect should be converted to a duration"#,
    ),
    (
        r#"leafnodes { reconnect_delay: "2s", dial_timeout: 3, min_version: "2.8.0", compression: s2_auto, isolate_leafnode_interest: true }"#,
        r#"x.conf:1:35: invalid use of field "dial_timeout": dial_timeout should be converted to a duration"#,
    ),
    (
        r#"leafnodes { min_version: "2.7.0" }"#,
        r#"x.conf:1:12: the minimum version should be at least 2.8.0"#,
    ),
    (
        r#"leafnodes { min_version: "x" }"#,
        r#"x.conf:1:12: invalid leafnode's minimum version: invalid semver"#,
    ),
    (
        r#"leafnodes { authorization { user: a, pass: b, account: A } }"#,
        r#""#,
    ),
    (
        r#"leafnodes { authorization { users: [{user: a, pass: b, account: A}] } }"#,
        r#""#,
    ),
    (
        r#"leafnodes { authorization { users: [{user: a, pass: b, account: A, foo: 1}] } }"#,
        r#"x.conf:1:67: unknown field "foo""#,
    ),
    (
        r#"leafnodes { authorization { nkey: UX } }"#,
        r#"x.conf:1:28: Not a valid public nkey for leafnode authorization"#,
    ),
    (
        r#"leafnodes { authorization { proxy_required: true } }"#,
        r#""#,
    ),
    (r#"leafnodes { remotes: [{url: "nats://a:1"}] }"#, r#""#),
    (
        r#"leafnodes { remotes: [{urls: ["nats://a:1", "ws://b:2"]}] }"#,
        r#""#,
    ),
    (
        r#"leafnodes { remotes: [{urls: ["nats://a:1"], account: A, credentials: "x", tls {}, hub: true, deny_imports: a, deny_exports: ["b"], no_randomize: true, ws_compression: true, ws_no_masking: true, jetstream_cluster_migrate: true, isolate: true, request_isolation: true, compression: fast, first_info_timeout: "1s", disabled: true, ignore_discovered_servers: true }] }"#,
        r#""#,
    ),
    (
        r#"leafnodes { remotes: [{url: "nats://a:1", credentials: "x", nkey: "SUx"}] }"#,
        r#"x.conf:1:60: Remote leafnode nkey is not a valid seed: "SUx""#,
    ),
    (
        r#"leafnodes { remotes: [{url: "nats://a:1", jetstream_cluster_migrate: {leader_migrate_delay: "2s"} }] }"#,
        r#""#,
    ),
    (
        r#"leafnodes { remotes: [{url: "nats://a:1", jetstream_cluster_migrate: {foo: "2s"} }] }"#,
        r#""#,
    ),
    (
        r#"leafnodes { remotes: [{url: "nats://a:1", proxy: {url: "http://x:1", username: a, password: b, timeout: "1s"} }] }"#,
        r#""#,
    ),
    (
        r#"leafnodes { remotes: [{url: "nats://a:1", foo: 1 }] }"#,
        r#"x.conf:1:42: unknown field "foo""#,
    ),
    (r#"leafnodes { remotes: [{}] }"#, r#""#),
    (
        r#"leafnodes { remotes: {url: "nats://a:1"} }"#,
        r#"x.conf:1:12: Expected remotes field to be an array, got map[string]interface {}"#,
    ),
    (
        r#"leafnodes { remotes: [{url: "://"}] }"#,
        r#"x.conf:1:23: error parsing leafnode url ["://"]"#,
    ),
    (
        r#"leafnodes { write_deadline: "1s", write_timeout: retry }"#,
        r#""#,
    ),
    (
        r#"leafnodes { remotes: [{url: "nats://a:1", dial_timeout: "2s", deny_imports: "a..b" }] }"#,
        r#"x.conf:1:62: subject "a..b" is not a valid subject"#,
    ),
    (
        r#"leafnodes { remotes: [{url: "nats://a:1", nkey: 5 }] }"#,
        r#"x.conf:1:42: interface conversion: interface {} is int64, not string"#,
    ),
    (
        r#"leafnodes { tls { verify_cert_and_check_known_urls: true } }"#,
        r#"x.conf:1:18: verify_cert_and_check_known_urls not supported in this context"#,
    ),
    (
        r#"cluster { tls { verify_cert_and_check_known_urls: true } }"#,
        r#""#,
    ),
    (r#"leafnodes {}"#, r#""#),
    (r#"mqtt { port: 1883 }"#, r#""#),
    (
        r#"mqtt { listen: "a:1", foo: 1 }"#,
        r#"x.conf:1:22: unknown field "foo""#,
    ),
    (
        r#"mqtt: 1"#,
        r#"x.conf:1:0: Expected mqtt to be a map, got int64"#,
    ),
    (
        r#"mqtt { ack_wait: "10s", max_ack_pending: 10, js_api_timeout: "2s", js_domain: x, stream_replicas: 3, consumer_replicas: 1, consumer_memory_storage: true, consumer_inactive_threshold: "5m", reject_qos2_publish: true, downgrade_qos2_subscribe: true }"#,
        r#"x.conf:1:101: invalid use of field "consumer_replicas": consumer replicas setting ignored in this server version"#,
    ),
    (
        r#"mqtt { max_ack_pending: 70000 }"#,
        r#"x.conf:1:7: invalid value 70000, should in [0..65535] range"#,
    ),
    (
        r#"mqtt { max_ack_pending: -1 }"#,
        r#"x.conf:1:7: invalid value -1, should in [0..65535] range"#,
    ),
    (
        r#"mqtt { ack_wait: 10 }"#,
        r#"x.conf:1:7: invalid use of field "ack_wait": ack_wait should be converted to a duration"#,
    ),
    (r#"mqtt { stream_replicas: 0 }"#, r#""#),
    (
        r#"mqtt { authorization { user: a, password: b, timeout: 1 } }"#,
        r#""#,
    ),
    (r#"mqtt { authorization { token: a, user: b } }"#, r#""#),
    (r#"mqtt { no_auth_user: a, tls { } }"#, r#""#),
    (
        r#"mqtt { host: 1 }"#,
        r#"x.conf:1:7: interface conversion: interface {} is int64, not string"#,
    ),
    (r#"mqtt {}"#, r#""#),
    (r#"prof_port: 5"#, r#""#),
    (
        r#"prof_port: x"#,
        r#"x.conf:1:0: interface conversion: interface {} is string, not int64"#,
    ),
    (r#"ocsp: true"#, r#""#),
    (
        r#"ocsp: 5"#,
        r#"x.conf:1:0: error parsing ocsp config: unsupported type int64"#,
    ),
    (r#"ocsp { mode: auto }"#, r#""#),
    (
        r#"ocsp { mode: foo }"#,
        r#"x.conf:1:7: error parsing ocsp config: unsupported ocsp mode string"#,
    ),
    (
        r#"ocsp { foo: 1 }"#,
        r#"x.conf:1:7: error parsing ocsp config: unsupported field string"#,
    ),
    (r#"ocsp_cache: true"#, r#""#),
    (
        r#"ocsp_cache { type: local, local_store: "_rc_", preserve_revoked: true, save_interval: 300 }"#,
        r#""#,
    ),
    (
        r#"ocsp_cache { type: foo }"#,
        r#"x.conf:1:13: error parsing OCSP peer cache config, unknown type [foo]"#,
    ),
    (
        r#"ocsp_cache { foo: 1 }"#,
        r#"x.conf:1:13: error parsing OCSP peer cache config, unknown field ["foo"]"#,
    ),
    (r#"ocsp_cache { save_interval: "5s" }"#, r#""#),
    (r#"resolver_tls { }"#, r#""#),
    (
        r#"resolver_tls: 1"#,
        r#"x.conf:1:0: interface conversion: interface {} is int64, not map[string]interface {}"#,
    ),
];

fn answer(text: &str) -> String {
    let no_files = |_: &str| Err(String::new());
    match parse(text, "x.conf", &no_files, &|_| None) {
        Ok((_, warnings)) => warnings.iter().map(ToString::to_string).collect(),
        Err(errors) => errors.to_string(),
    }
}

// proves: KEY-04, KEY-05, KEY-06, KEY-09
#[test]
fn blocks_of_features_that_are_not_active_are_checked_as_the_reference_checks_them() {
    let mut differences = Vec::new();
    for (text, expected) in CASES {
        let ours = answer(text);
        if ours != *expected {
            differences.push(format!("{text}\n  theirs {expected}\n  ours   {ours}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn start(text: &str) -> Result<Vec<&'static str>, String> {
    let no_files = |_: &str| Err(String::new());
    let (options, _) = parse(text, "x.conf", &no_files, &|_| None).expect("valid");
    options.validate().map(|()| options.inactive.features)
}

#[test]
fn contradictions_between_blocks_keep_the_server_from_starting() {
    let cases = [
        (
            "cluster { listen: 'a:-1', compression: foo }",
            "unsupported compression mode \"foo\"",
        ),
        (
            "cluster { pool_size: -1, accounts: [A] }",
            "pool_size cannot be negative if pinned accounts are specified",
        ),
        (
            "cluster { name: a }\ngateway { name: b }",
            "cluster name conflicts between cluster and gateway definitions",
        ),
        ("gateway { listen: 'a:-1' }", "gateway has no name"),
        (
            "leafnodes { remotes: [{url: 'nats://h:1', account: X}] }",
            "cannot find local account \"X\" specified in leafnode remote",
        ),
        (
            "mqtt { listen: 'a:-1' }",
            "mqtt requires JetStream to be enabled if running in standalone mode",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(start(text), Err(expected.to_owned()), "{text}");
    }
    let whole = "jetstream: true\nmqtt { port: 1 }\ncluster { name: a, routes: ['nats://h:1'] }\n\
                 gateway { name: a }\nleafnodes { port: 7422 }\nprof_port: 1\nocsp: true";
    let features = [
        "mqtt",
        "cluster",
        "gateway",
        "leafnodes",
        "prof_port",
        "ocsp",
    ];
    assert_eq!(start(whole), Ok(features.to_vec()));
    for off in [
        "cluster {}",
        "mqtt {}",
        "prof_port: 0",
        "ocsp: false",
        "ocsp { mode: never }",
    ] {
        assert_eq!(start(off), Ok(Vec::new()), "{off}");
    }
}
