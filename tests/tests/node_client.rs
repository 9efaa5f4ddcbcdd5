//! The official Node client, unmodified, against the real binary: one test per scenario of
//! `tests/node`. The scenarios pass against the reference server too.

use millrace_tests::Server;
use millrace_tests::scenario::run_node;

/// Runs one scenario against a server of its own.
fn scenario(file: &str, function: &str) {
    run_node(&Server::jetstream(), file, function);
}

// proves: PRO-09, SUB-05, SUB-10
#[test]
fn node_publish_and_subscribe() {
    scenario("core.mjs", "publish_and_subscribe");
}

// proves: PRO-19
#[test]
fn node_request_and_reply() {
    scenario("core.mjs", "request_and_reply");
}

// proves: JS-STR-01, JS-STR-02, JS-STR-09, JS-STR-10
#[test]
fn node_streams() {
    scenario("jetstream.mjs", "streams");
}

// proves: JS-PUB-03, JS-PUB-04
#[test]
fn node_publishing() {
    scenario("jetstream.mjs", "publishing");
}

// proves: JS-BAT-01
#[test]
fn node_atomic_batch() {
    scenario("jetstream.mjs", "atomic_batch");
}

// proves: JS-FI-01
#[test]
fn node_fast_ingest() {
    scenario("jetstream.mjs", "fast_ingest");
}

// proves: JS-CON-14
#[test]
fn node_pull_consumers() {
    scenario("jetstream.mjs", "pull_consumers");
}

// proves: JS-CON-18, JS-CON-19
#[test]
fn node_acknowledgements() {
    scenario("jetstream.mjs", "acknowledgements");
}

// proves: JS-CON-08, JS-CON-09
#[test]
fn node_push_consumers() {
    scenario("jetstream.mjs", "push_consumers");
}

// proves: JS-CON-33
#[test]
fn node_ordered_consumers() {
    scenario("jetstream.mjs", "ordered_consumers");
}

#[test]
fn node_consumer_administration() {
    scenario("jetstream.mjs", "consumer_administration");
}

#[test]
fn node_priority_groups() {
    scenario("jetstream.mjs", "priority_groups");
}

// proves: JS-SCH-01
#[test]
fn node_schedules() {
    scenario("jetstream.mjs", "schedules");
}

#[test]
fn node_direct_reads() {
    scenario("jetstream.mjs", "direct_reads");
}

// proves: JS-KV-01, JS-KV-02
#[test]
fn node_key_value() {
    scenario("stores.mjs", "key_value");
}

// proves: JS-KV-03
#[test]
fn node_key_value_watch() {
    scenario("stores.mjs", "key_value_watch");
}

// proves: JS-KV-04
#[test]
fn node_key_value_limit_markers() {
    scenario("stores.mjs", "key_value_limit_markers");
}

// proves: JS-OBJ-01
#[test]
fn node_object_store() {
    scenario("stores.mjs", "object_store");
}
