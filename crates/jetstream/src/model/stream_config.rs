//! A stream's configuration as clients write and read it: fields in the reference's order, with
//! its rules for what is printed. Checks are in `stream_rules`, defaults in `stream_defaults`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::enums::{Compression, DiscardPolicy, PersistMode, RetentionPolicy, StorageKind};
use super::json::is_zero;
use super::timestamp::Timestamp;

/// A stream's configuration. Durations in nanoseconds, sizes in bytes, -1 = no limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename = "StreamConfigRequest")]
pub struct StreamConfig {
    /// The name; unique in the account.
    pub name: String,
    /// Free text, at most 4096 bytes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What is captured; wildcards allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// What makes messages leave besides the limits.
    pub retention: RetentionPolicy,
    /// Most consumers.
    pub max_consumers: i64,
    /// Most messages.
    pub max_msgs: i64,
    /// Most accounted bytes; reserved in the account when set.
    pub max_bytes: i64,
    /// Oldest message kept; 0 = no limit.
    #[serde(rename = "max_age")]
    pub max_age_ns: i64,
    /// Most messages per subject.
    pub max_msgs_per_subject: i64,
    /// Largest headers plus payload.
    pub max_msg_size: i32,
    /// What gives way at a limit.
    pub discard: DiscardPolicy,
    /// Where messages are kept.
    pub storage: StorageKind,
    /// Replicas, 1 to 5.
    pub num_replicas: i64,
    /// Never answer publishes.
    #[serde(skip_serializing_if = "is_zero")]
    pub no_ack: bool,
    /// How long message ids are remembered.
    #[serde(rename = "duplicate_window", skip_serializing_if = "is_zero")]
    pub duplicate_window_ns: i64,
    /// Where replicas should stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// The stream this one copies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<StreamSource>,
    /// Streams whose messages are added to this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<StreamSource>,
    /// Compression of stored blocks.
    pub compression: Compression,
    /// Sequence of the first message; 0 = 1.
    #[serde(skip_serializing_if = "is_zero")]
    pub first_seq: u64,
    /// Applied to the subject before storing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_transform: Option<SubjectTransformConfig>,
    /// Stored messages are published again under another subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub republish: Option<Republish>,
    /// Direct get is served.
    pub allow_direct: bool,
    /// Direct get is served for the origin of a mirror.
    pub mirror_direct: bool,
    /// `discard: new` holds per subject too.
    #[serde(skip_serializing_if = "is_zero")]
    pub discard_new_per_subject: bool,
    /// Nothing can be added or removed any more.
    pub sealed: bool,
    /// Messages cannot be deleted through the API.
    pub deny_delete: bool,
    /// The stream cannot be purged.
    pub deny_purge: bool,
    /// `Nats-Rollup` is honoured.
    pub allow_rollup_hdrs: bool,
    /// Defaults and upper bounds for consumers.
    pub consumer_limits: ConsumerLimits,
    /// `Nats-TTL` is honoured.
    pub allow_msg_ttl: bool,
    /// Age-expired subjects leave a marker that lives so long.
    #[serde(rename = "subject_delete_marker_ttl", skip_serializing_if = "is_zero")]
    pub subject_delete_marker_ttl_ns: i64,
    /// Messages are counters (`Nats-Incr`).
    #[serde(skip_serializing_if = "is_zero")]
    pub allow_msg_counter: bool,
    /// Atomic batches are accepted.
    #[serde(skip_serializing_if = "is_zero")]
    pub allow_atomic: bool,
    /// Message schedules are honoured.
    #[serde(skip_serializing_if = "is_zero")]
    pub allow_msg_schedules: bool,
    /// When a publish counts as persisted.
    #[serde(skip_serializing_if = "PersistMode::is_default")]
    pub persist_mode: PersistMode,
    /// Fast ingest batches are accepted.
    #[serde(skip_serializing_if = "is_zero")]
    pub allow_batched: bool,
    /// Free key/value pairs; the server adds its own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Request only: refuse instead of silently correcting.
    #[serde(skip_serializing)]
    pub pedantic: bool,
}

impl StreamConfig {
    /// Bytes that `max_bytes` keeps for all copies of the stream.
    #[must_use]
    pub fn reserved_bytes(&self) -> u64 {
        let copies = u64::try_from(self.num_replicas).unwrap_or(1);
        u64::try_from(self.max_bytes)
            .unwrap_or(0)
            .saturating_mul(copies)
    }

    /// The subject filters as bytes.
    pub fn subject_filters(&self) -> impl Iterator<Item = &[u8]> {
        self.subjects.iter().map(String::as_bytes)
    }
}

/// Where replicas should stand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Placement {
    /// Name of a cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Tags a server must have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Preferred leader; only for step-down requests.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub preferred: String,
}

/// A stream that is mirrored or sourced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamSource {
    /// Its name.
    pub name: String,
    /// First sequence wanted; 0 = all.
    #[serde(skip_serializing_if = "is_zero")]
    pub opt_start_seq: u64,
    /// First time wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opt_start_time: Option<Timestamp>,
    /// Only messages with these subjects.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filter_subject: String,
    /// Filters with transforms.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject_transforms: Vec<SubjectTransformConfig>,
    /// How to reach it in another account or domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalStream>,
    /// A consumer made by the user to read through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<SourceConsumer>,
}

/// Prefixes under which another account or domain is reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExternalStream {
    /// Prefix of its API.
    pub api: String,
    /// Prefix of delivery subjects.
    pub deliver: String,
}

/// A durable consumer that a mirror or source reads through.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceConsumer {
    /// Its name.
    pub name: String,
    /// Where it delivers.
    pub deliver_subject: String,
}

/// A mapping from one subject pattern to another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubjectTransformConfig {
    /// Pattern.
    pub src: String,
    /// Result.
    pub dest: String,
}

/// Publishing stored messages again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Republish {
    /// Which messages; empty = all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub src: String,
    /// Under which subject.
    pub dest: String,
    /// Without the payload.
    #[serde(skip_serializing_if = "is_zero")]
    pub headers_only: bool,
}

/// Defaults and upper bounds for a stream's consumers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename = "StreamConsumerLimits")]
pub struct ConsumerLimits {
    /// For `inactive_threshold`, in nanoseconds.
    #[serde(rename = "inactive_threshold", skip_serializing_if = "is_zero")]
    pub inactive_threshold_ns: i64,
    /// For `max_ack_pending`.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_ack_pending: i64,
}
