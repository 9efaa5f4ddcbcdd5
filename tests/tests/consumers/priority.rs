//! Priority groups.

use std::time::Duration;

use serde_json::json;

use super::client::compare;

// proves: JS-CON-26
#[test]
fn overflow_requests_wait_alike() {
    compare("overflow", |client| {
        client.stream(json!({}));
        client.consumer(
            "C",
            json!({"priority_policy": "overflow", "priority_groups": ["g"]}),
        );
        for body in [
            r#"{"batch":2}"#,
            r#"{"batch":2,"group":"h"}"#,
            r#"{"batch":2,"group":"g","id":"x"}"#,
            r#"{"batch":2,"group":"g","priority":10}"#,
            r#"{"batch":2,"group":"g","min_pending":3,"expires":3000000000}"#,
            r#"{"batch":2,"group":"g","min_ack_pending":2,"expires":3000000000}"#,
        ] {
            client.pull("C", body);
        }
        client.publish("a.1", "1");
        client.publish("a.1", "2");
        client.counts("C");
        client.publish("a.1", "3");
        client.counts("C");
        client.pull("C", "2");
        client.counts("C");
    });
}

// proves: JS-CON-27
#[test]
fn a_pinned_client_is_served_and_unpinned_alike() {
    compare("pinned", |client| {
        client.stream(json!({}));
        client.consumer(
            "C",
            json!({"priority_policy": "pinned_client", "priority_groups": ["g"], "priority_timeout": 1_000_000_000}),
        );
        client.pull("C", r#"{"batch":1,"group":"g","id":"stale"}"#);
        client.publish("a.1", "1");
        client.pull("C", r#"{"batch":1,"group":"g"}"#);
        client.pull("C", r#"{"batch":1,"group":"g","id":"other"}"#);
        client.pull("C", r#"{"batch":1,"group":"g","expires":3000000000}"#);
        client.publish("a.1", "2");
        client.counts("C");
        client.wait(Duration::from_millis(1300));
        client.counts("C");
        client.ask("CONSUMER.UNPIN.S.C", &json!({"group": "g"}));
        client.ask("CONSUMER.UNPIN.S.C", &json!({"group": "h"}));
        client.ask("CONSUMER.UNPIN.S.C", &json!({}));
        client.drain();
    });
}

// proves: JS-CON-28
#[test]
fn prioritized_requests_are_ordered_alike() {
    compare("prioritized", |client| {
        client.stream(json!({}));
        client.consumer(
            "C",
            json!({"priority_policy": "prioritized", "priority_groups": ["g"]}),
        );
        for (batch, priority) in [(1, 5), (2, 1), (1, 0), (1, 1)] {
            client.pull(
                "C",
                &format!(
                    r#"{{"batch":{batch},"group":"g","priority":{priority},"max_bytes":{}}}"#,
                    1000 + batch * 10 + priority
                ),
            );
        }
        for payload in ["1", "2", "3", "4"] {
            client.publish("a.1", payload);
        }
        client.counts("C");
    });
}
