//! Keys of the configuration as a running server shows them.

#![allow(clippy::unwrap_used)]

use millrace_tests::server::ServerBuilder;

/// A file with every block of a feature that this version does not have.
const INACTIVE: &str = "
server_name: here
cluster { name: c, listen: '127.0.0.1:-1', routes: ['nats://127.0.0.1:1'], compression: s2_auto }
gateway { name: c, listen: '127.0.0.1:-1' }
leafnodes { listen: '127.0.0.1:-1', remotes: [{ url: 'nats://127.0.0.1:1' }] }
mqtt { listen: '127.0.0.1:-1' }
prof_port: -1
ocsp: true
";

// proves: KEY-04 KEY-05 KEY-06 KEY-09 CLI-07 CLI-08
#[test]
fn features_that_are_not_there_are_said_once_and_not_claimed() {
    let server = ServerBuilder::millrace()
        .jetstream()
        .config(INACTIVE)
        .argument("-cluster_name=c")
        .start();
    let log = server.log();
    for feature in [
        "cluster",
        "gateway",
        "leafnodes",
        "mqtt",
        "prof_port",
        "ocsp",
    ] {
        let line = format!("[WRN] {feature} is configured but not active");
        assert_eq!(log.matches(&line).count(), 1, "{feature}\n{log}");
    }
    let info = String::from_utf8(server.connect().read_line()).unwrap();
    for claim in ["\"cluster\"", "connect_urls", "gateway", "leafnode"] {
        assert!(!info.contains(claim), "{claim}: {info}");
    }
}

// proves: KEY-12 KEY-13
#[test]
fn tags_metadata_and_flags_are_shown() {
    let text = "server_tags: [ 'A:1', b ]\nserver_metadata { k: v }\n\
                feature_flags { js_ack_fc_v2: true, nobody_knows: true }\n";
    let server = ServerBuilder::millrace().config(text).start();
    let (_, body) = millrace_tests::http::get(&server, "/varz");
    let varz: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(varz["tags"], serde_json::json!(["a:1", "b"]));
    assert_eq!(varz["metadata"], serde_json::json!({"k": "v"}));
    let names: Vec<&String> = varz["feature_flags"].as_object().unwrap().keys().collect();
    // Those of version 2.15.1.
    let known = [
        "js_ack_fc_v2",
        "js_api_reply_v2",
        "js_raft_delete_range",
        "js_snapshot_sources",
    ];
    assert_eq!(names, known);
    let log = server.log();
    for line in [
        "[WRN] feature flag \"js_ack_fc_v2\" is set but not active",
        "[WRN] feature flag \"nobody_knows\" is not known",
    ] {
        assert!(log.contains(line), "{line}\n{log}");
    }
}
