//! The official Python client, unmodified, against the real binary: one test per scenario of
//! `tests/python`. The scenarios pass against the reference server too.

use millrace_tests::Server;
use millrace_tests::scenario::run_python;

/// Runs one scenario against a server of its own.
fn scenario(file: &str, function: &str) {
    let server = Server::jetstream();
    run_python(&server, &server.url(), file, function);
}

// proves: PRO-09, PRO-10, SUB-03, SUB-04
#[test]
fn python_publish_subscribe() {
    scenario("core.py", "publish_subscribe");
}

// proves: SUB-05
#[test]
fn python_queue_groups() {
    scenario("core.py", "queue_groups");
}

// proves: PRO-19
#[test]
fn python_request_reply() {
    scenario("core.py", "request_reply");
}

// proves: PRO-13, SUB-10
#[test]
fn python_auto_unsubscribe() {
    scenario("core.py", "auto_unsubscribe");
}

// proves: PRO-18
#[test]
fn python_no_echo() {
    scenario("core.py", "no_echo");
}

#[test]
fn python_large_payloads() {
    scenario("core.py", "large_payloads");
}

// proves: JS-STR-01, JS-STR-02, JS-STR-04, JS-STR-09, JS-STR-18
#[test]
fn python_stream_life() {
    scenario("jetstream.py", "stream_life");
}

// proves: JS-PUB-03, JS-PUB-04
#[test]
fn python_publish_checks() {
    scenario("jetstream.py", "publish_checks");
}

// proves: JS-STR-13, JS-STR-14, JS-STR-15
#[test]
fn python_limits_and_discard() {
    scenario("jetstream.py", "limits_and_discard");
}

// proves: JS-STR-10, JS-STR-11, JS-STR-12
#[test]
fn python_get_delete_purge() {
    scenario("jetstream.py", "get_delete_purge");
}

// proves: JS-CON-14
#[test]
fn python_pull_consumer() {
    scenario("jetstream.py", "pull_consumer");
}

// proves: JS-CON-18, JS-CON-19, JS-CON-20
#[test]
fn python_ack_verbs() {
    scenario("jetstream.py", "ack_verbs");
}

// proves: JS-CON-17, JS-CON-21
#[test]
fn python_ack_all_and_max_ack_pending() {
    scenario("jetstream.py", "ack_all_and_max_ack_pending");
}

// proves: JS-CON-05, JS-CON-06
#[test]
fn python_deliver_policies_and_filters() {
    scenario("jetstream.py", "deliver_policies_and_filters");
}

// proves: JS-CON-08, JS-CON-10
#[test]
fn python_push_consumer() {
    scenario("jetstream.py", "push_consumer");
}

#[test]
fn python_push_queue_group() {
    scenario("jetstream.py", "push_queue_group");
}

// proves: JS-CON-33, JS-CON-09
#[test]
fn python_ordered_consumer() {
    scenario("jetstream.py", "ordered_consumer");
}

// proves: JS-CON-04
#[test]
fn python_ephemeral_consumer_goes_away() {
    scenario("jetstream.py", "ephemeral_consumer_goes_away");
}

// proves: JS-API-01
#[test]
fn python_account_info() {
    scenario("jetstream.py", "account_info");
}

// proves: JS-KV-01, JS-KV-02
#[test]
fn python_key_value() {
    scenario("kv_object.py", "key_value");
}

// proves: JS-KV-03
#[test]
fn python_key_value_watch() {
    scenario("kv_object.py", "key_value_watch");
}

#[test]
fn python_key_value_many_keys() {
    scenario("kv_object.py", "key_value_many_keys");
}

// proves: JS-OBJ-01
#[test]
fn python_object_store() {
    scenario("kv_object.py", "object_store");
}
