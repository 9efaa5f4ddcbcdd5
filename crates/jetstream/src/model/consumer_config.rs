//! A consumer's configuration and the request that creates it, in the reference's field order.
//! Checks are in `consumer_rules`.

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::enums::{AckPolicy, DeliverPolicy, PriorityPolicy, ReplayPolicy};
use super::json::is_zero;
use super::timestamp::Timestamp;

/// A consumer's configuration. Durations in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsumerConfig {
    /// Name of a durable consumer; empty = ephemeral.
    #[serde(rename = "durable_name", skip_serializing_if = "String::is_empty")]
    pub durable: String,
    /// The name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Free text, at most 4096 bytes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Where it begins.
    pub deliver_policy: DeliverPolicy,
    /// First sequence, with `by_start_sequence`.
    #[serde(skip_serializing_if = "is_zero")]
    pub opt_start_seq: u64,
    /// First time, with `by_start_time`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opt_start_time: Option<Timestamp>,
    /// How deliveries are acknowledged.
    pub ack_policy: AckPolicy,
    /// When an unacknowledged message is sent again.
    #[serde(rename = "ack_wait", skip_serializing_if = "is_zero")]
    pub ack_wait_ns: i64,
    /// Most deliveries of one message; -1 = no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_deliver: i64,
    /// Waits between redeliveries.
    #[serde(rename = "backoff", skip_serializing_if = "Vec::is_empty")]
    pub backoff_ns: Vec<i64>,
    /// Only these subjects.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filter_subject: String,
    /// Only these subjects (instead of `filter_subject`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filter_subjects: Vec<String>,
    /// How fast stored messages come.
    pub replay_policy: ReplayPolicy,
    /// Bits per second of a push consumer; 0 = no limit.
    #[serde(rename = "rate_limit_bps", skip_serializing_if = "is_zero")]
    pub rate_limit_bits_per_second: u64,
    /// Share of acknowledgements that are measured, `"10%"`.
    #[serde(rename = "sample_freq", skip_serializing_if = "String::is_empty")]
    pub sample_frequency: String,
    /// Most waiting pull requests.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_waiting: i64,
    /// Most unacknowledged messages; -1 = no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_ack_pending: i64,
    /// Push deliveries are paced by flow control.
    #[serde(skip_serializing_if = "is_zero")]
    pub flow_control: bool,
    /// Deliver without payloads.
    #[serde(skip_serializing_if = "is_zero")]
    pub headers_only: bool,
    /// Most messages of one pull request.
    #[serde(rename = "max_batch", skip_serializing_if = "is_zero")]
    pub max_request_batch: i64,
    /// Longest pull request.
    #[serde(rename = "max_expires", skip_serializing_if = "is_zero")]
    pub max_request_expires_ns: i64,
    /// Most bytes of one pull request.
    #[serde(rename = "max_bytes", skip_serializing_if = "is_zero")]
    pub max_request_max_bytes: i64,
    /// Where a push consumer delivers; empty = pull.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deliver_subject: String,
    /// Queue group of the receivers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deliver_group: String,
    /// Quiet interval after which a heartbeat goes out.
    #[serde(rename = "idle_heartbeat", skip_serializing_if = "is_zero")]
    pub idle_heartbeat_ns: i64,
    /// Deleted when unused for so long.
    #[serde(rename = "inactive_threshold", skip_serializing_if = "is_zero")]
    pub inactive_threshold_ns: i64,
    /// Replicas; 0 = as the stream.
    pub num_replicas: i64,
    /// State in memory only.
    #[serde(rename = "mem_storage", skip_serializing_if = "is_zero")]
    pub memory_storage: bool,
    /// Internal: of a mirror or source.
    #[serde(skip_serializing_if = "is_zero")]
    pub direct: bool,
    /// Internal: of a source.
    #[serde(skip_serializing_if = "is_zero")]
    pub sourcing: bool,
    /// Free key/value pairs; the server adds its own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// No deliveries before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_until: Option<Timestamp>,
    /// Names of priority groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub priority_groups: Vec<String>,
    /// How requests of a group compete.
    #[serde(skip_serializing_if = "PriorityPolicy::is_default")]
    pub priority_policy: PriorityPolicy,
    /// How long a pinned client may be silent.
    #[serde(rename = "priority_timeout", skip_serializing_if = "is_zero")]
    pub priority_timeout_ns: i64,
}

impl ConsumerConfig {
    /// Whether it pushes to a subject (else clients pull).
    #[must_use]
    pub fn is_push(&self) -> bool {
        !self.deliver_subject.is_empty()
    }

    /// Whether it survives without being used.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        !self.durable.is_empty()
    }

    /// All its subject filters, however they were given. Empty = everything.
    pub fn filters(&self) -> impl Iterator<Item = &str> {
        let single = Some(self.filter_subject.as_str()).filter(|filter| !filter.is_empty());
        single
            .into_iter()
            .chain(self.filter_subjects.iter().map(String::as_str))
    }
}

/// What a create request asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConsumerAction {
    /// Create or update.
    #[default]
    CreateOrUpdate,
    /// Only create.
    Create,
    /// Only update.
    Update,
}

impl<'de> Deserialize<'de> for ConsumerAction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        match word.as_str() {
            "" => Ok(Self::CreateOrUpdate),
            "create" => Ok(Self::Create),
            "update" => Ok(Self::Update),
            _ => Err(D::Error::custom(format!(
                "unknown consumer action: \"{word}\""
            ))),
        }
    }
}

/// The body of a consumer create request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename = "CreateConsumerRequest")]
pub struct ConsumerCreateRequest {
    /// The stream; must equal the subject's.
    pub stream_name: String,
    /// The consumer.
    pub config: ConsumerConfig,
    /// Create, update, or either.
    pub action: ConsumerAction,
    /// Refuse instead of silently correcting.
    pub pedantic: bool,
}
