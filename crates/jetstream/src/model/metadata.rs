//! The metadata keys the server manages and the API level an asset needs.

use std::collections::BTreeMap;

use super::consumer_config::ConsumerConfig;
use super::enums::{AckPolicy, PersistMode, PriorityPolicy};
use super::stream_config::StreamConfig;

/// The API level this server speaks (2.15).
pub const API_LEVEL: i64 = 5;

/// The reference version whose behaviour clients see.
pub const REFERENCE_VERSION: &str = "2.15.1";

const REQUIRED_LEVEL_KEY: &str = "_nats.req.level";
const SERVER_VERSION_KEY: &str = "_nats.ver";
const SERVER_LEVEL_KEY: &str = "_nats.level";

/// The API level a stream needs. Ask before defaults are filled in.
#[must_use]
pub fn stream_api_level(config: &StreamConfig) -> i64 {
    if config.allow_batched {
        return 4;
    }
    let level_two = config.allow_msg_counter
        || config.allow_atomic
        || config.allow_msg_schedules
        || config.persist_mode == PersistMode::Async;
    if level_two {
        return 2;
    }
    i64::from(config.allow_msg_ttl || config.subject_delete_marker_ttl_ns > 0)
}

/// The API level a consumer needs.
#[must_use]
pub fn consumer_api_level(config: &ConsumerConfig) -> i64 {
    if config.ack_policy == AckPolicy::FlowControl {
        return 4;
    }
    let paused = config.pause_until.is_some_and(|until| !until.is_zero());
    let grouped = config.priority_policy != PriorityPolicy::None
        || config.priority_timeout_ns != 0
        || !config.priority_groups.is_empty();
    i64::from(paused || grouped)
}

/// Removes what a user wrote under the server's keys and stores the level the asset needs.
pub fn set_required_level(metadata: &mut BTreeMap<String, String>, level: i64) {
    remove_dynamic_metadata(metadata);
    metadata.insert(REQUIRED_LEVEL_KEY.to_owned(), level.to_string());
}

/// Removes the keys that only answers carry.
pub fn remove_dynamic_metadata(metadata: &mut BTreeMap<String, String>) {
    metadata.remove(SERVER_VERSION_KEY);
    metadata.remove(SERVER_LEVEL_KEY);
}

/// Adds the keys that create, update and info answers carry (lists do not).
pub fn with_dynamic_metadata(metadata: &mut BTreeMap<String, String>) {
    metadata.insert(SERVER_VERSION_KEY.to_owned(), REFERENCE_VERSION.to_owned());
    metadata.insert(SERVER_LEVEL_KEY.to_owned(), API_LEVEL.to_string());
}
