//! What the API reports about accounts, streams and consumers, in the reference's field order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::consumer_config::ConsumerConfig;
use super::json::is_zero;
use super::stream_config::{ExternalStream, StreamConfig, StreamSource, SubjectTransformConfig};
use super::timestamp::Timestamp;

/// A stream's counters.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StreamState {
    /// Messages held.
    pub messages: u64,
    /// Accounted bytes held.
    pub bytes: u64,
    /// Sequence of the first message; one above `last_seq` when empty.
    pub first_seq: u64,
    /// Time of the first message; zero when empty.
    pub first_ts: Timestamp,
    /// Highest sequence ever given.
    pub last_seq: u64,
    /// Its time.
    pub last_ts: Timestamp,
    /// Distinct subjects.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_subjects: u64,
    /// Messages per subject, only when asked for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub subjects: BTreeMap<String, u64>,
    /// Sequences missing between first and last.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_deleted: u64,
    /// Those sequences, only when asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deleted: Vec<u64>,
    /// What damage took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<LostData>,
    /// Consumers of the stream.
    pub consumer_count: u64,
}

/// Messages that damage took.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LostData {
    /// Their sequences.
    pub msgs: Vec<u64>,
    /// Their bytes.
    pub bytes: u64,
}

/// A stream as reported.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StreamInfo {
    /// Its configuration.
    pub config: StreamConfig,
    /// When it was created.
    pub created: Timestamp,
    /// Its counters.
    pub state: StreamState,
    /// JetStream domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Its group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterInfo>,
    /// Its mirror.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<SourceInfo>,
    /// Its sources.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceInfo>,
    /// Mirrors that can be read instead.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alternates: Vec<StreamAlternate>,
    /// When this was reported.
    pub ts: Timestamp,
}

/// Progress of a mirror or source.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SourceInfo {
    /// The origin.
    pub name: String,
    /// How it is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalStream>,
    /// Messages behind.
    pub lag: u64,
    /// Last sequence of the origin that a source took.
    #[serde(rename = "seq", skip_serializing_if = "is_zero")]
    pub sequence: u64,
    /// Nanoseconds since something was heard; -1 = never.
    #[serde(rename = "active")]
    pub active_ns: i64,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ReportedError>,
    /// Its filter.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filter_subject: String,
    /// Its transforms.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject_transforms: Vec<SubjectTransformConfig>,
}

impl SourceInfo {
    /// An origin of which nothing was heard yet.
    #[must_use]
    pub fn of(source: &StreamSource) -> Self {
        Self {
            name: source.name.clone(),
            external: source.external.clone(),
            active_ns: -1,
            filter_subject: source.filter_subject.clone(),
            subject_transforms: source.subject_transforms.clone(),
            ..Self::default()
        }
    }
}

/// An error as another server reported it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReportedError {
    /// As in HTTP.
    pub code: u16,
    /// Which error.
    pub err_code: u16,
    /// Its text.
    pub description: String,
}

/// A mirror that can be read instead of the stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StreamAlternate {
    /// The mirror.
    pub name: String,
    /// Its domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Its cluster.
    pub cluster: String,
}

/// The servers behind a stream or consumer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ClusterInfo {
    /// Name of the cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Name of the group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub raft_group: String,
    /// Name of the leading server.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub leader: String,
    /// Since when it leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader_since: Option<Timestamp>,
    /// Replication travels in the system account.
    #[serde(skip_serializing_if = "is_zero")]
    pub system_account: bool,
    /// Account replication travels in.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub traffic_account: String,
    /// The other servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<PeerInfo>,
}

/// One follower.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PeerInfo {
    /// Server name.
    pub name: String,
    /// Has everything.
    pub current: bool,
    /// Not connected.
    #[serde(skip_serializing_if = "is_zero")]
    pub offline: bool,
    /// Nanoseconds since it was heard.
    #[serde(rename = "active")]
    pub active_ns: i64,
    /// Entries behind.
    #[serde(skip_serializing_if = "is_zero")]
    pub lag: u64,
    /// Its short id.
    pub peer: String,
}

/// A position in both countings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SequenceInfo {
    /// Deliveries.
    #[serde(rename = "consumer_seq")]
    pub consumer: u64,
    /// Sequence in the stream.
    #[serde(rename = "stream_seq")]
    pub stream: u64,
    /// When it last moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_active: Option<Timestamp>,
}

/// A consumer as reported.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ConsumerInfo {
    /// Its stream.
    pub stream_name: String,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// Its configuration.
    pub config: ConsumerConfig,
    /// Last delivery.
    pub delivered: SequenceInfo,
    /// Highest position below which all is acknowledged.
    pub ack_floor: SequenceInfo,
    /// Unacknowledged messages.
    pub num_ack_pending: u64,
    /// Messages delivered more than once.
    pub num_redelivered: u64,
    /// Waiting pull requests.
    pub num_waiting: u64,
    /// Messages not yet delivered.
    pub num_pending: u64,
    /// Its group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterInfo>,
    /// Somebody listens to a push consumer.
    #[serde(skip_serializing_if = "is_zero")]
    pub push_bound: bool,
    /// Paused now.
    #[serde(skip_serializing_if = "is_zero")]
    pub paused: bool,
    /// Nanoseconds until the pause ends.
    #[serde(rename = "pause_remaining", skip_serializing_if = "is_zero")]
    pub pause_remaining_ns: i64,
    /// When this was reported.
    pub ts: Timestamp,
    /// State of priority groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub priority_groups: Vec<PriorityGroupState>,
}

/// State of one priority group.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PriorityGroupState {
    /// Its name.
    pub group: String,
    /// Id of the pinned client.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pinned_client_id: String,
    /// When it was pinned.
    pub pinned_ts: Timestamp,
}

/// An account's limits; -1 = none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AccountLimits {
    /// Bytes in memory.
    pub max_memory: i64,
    /// Bytes on disk.
    pub max_storage: i64,
    /// Streams.
    pub max_streams: i64,
    /// Consumers per stream.
    pub max_consumers: i64,
    /// Unacknowledged messages per consumer.
    pub max_ack_pending: i64,
    /// Bytes of one memory stream.
    pub memory_max_stream_bytes: i64,
    /// Bytes of one file stream.
    pub storage_max_stream_bytes: i64,
    /// Streams must say `max_bytes`.
    pub max_bytes_required: bool,
}

impl AccountLimits {
    /// What stands beside tiers: each has limits of its own.
    pub const NONE_HERE: Self = Self {
        max_memory: 0,
        max_storage: 0,
        max_streams: 0,
        max_consumers: 0,
        max_ack_pending: 0,
        memory_max_stream_bytes: 0,
        storage_max_stream_bytes: 0,
        max_bytes_required: false,
    };
}

impl Default for AccountLimits {
    fn default() -> Self {
        Self {
            max_memory: -1,
            max_storage: -1,
            max_streams: -1,
            max_consumers: -1,
            max_ack_pending: -1,
            memory_max_stream_bytes: -1,
            storage_max_stream_bytes: -1,
            max_bytes_required: false,
        }
    }
}

/// Counters of an account's API calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AccountApiStats {
    /// The server's API level.
    pub level: i64,
    /// Calls.
    pub total: u64,
    /// Calls answered with an error.
    pub errors: u64,
    /// Calls under way.
    #[serde(skip_serializing_if = "is_zero")]
    pub inflight: u64,
}

/// An account as reported.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AccountInfo {
    /// Bytes used in memory.
    pub memory: u64,
    /// Bytes used on disk.
    pub storage: u64,
    /// Bytes reserved in memory by `max_bytes`.
    pub reserved_memory: u64,
    /// Bytes reserved on disk by `max_bytes`.
    pub reserved_storage: u64,
    /// Streams.
    pub streams: u64,
    /// Consumers.
    pub consumers: u64,
    /// Limits.
    pub limits: AccountLimits,
    /// JetStream domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// API counters.
    pub api: AccountApiStats,
    /// What is used and allowed by number of replicas, where limits are given so.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tiers: BTreeMap<String, AccountTier>,
}

/// One tier of an account: streams with so many replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AccountTier {
    /// Bytes used in memory.
    pub memory: u64,
    /// Bytes used on disk.
    pub storage: u64,
    /// Bytes reserved in memory by `max_bytes`.
    pub reserved_memory: u64,
    /// Bytes reserved on disk by `max_bytes`.
    pub reserved_storage: u64,
    /// Streams.
    pub streams: u64,
    /// Consumers.
    pub consumers: u64,
    /// Limits.
    pub limits: AccountLimits,
}
