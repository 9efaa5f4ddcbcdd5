//! The `jetstream` block and the limits of streams, consumers and batches.

use std::collections::BTreeMap;

const MAX_BUFFERED_SIZE: u64 = 128 * 1024 * 1024;
const MAX_BUFFERED_MESSAGES: u64 = 100_000;
const REQUEST_QUEUE_LIMIT: u64 = 10_000;
const SCRUB_INTERVAL_NS: u64 = 24 * 3_600 * 1_000_000_000;
const BATCH_TIMEOUT_NS: u64 = 10_000_000_000;
const BATCH_MAX_MESSAGES: u64 = 1000;
const BATCH_MAX_PER_STREAM: u64 = 50;
const BATCH_MAX_TOTAL: u64 = 1000;
const FAST_MAX_PER_STREAM: u64 = 1000;
const FAST_MAX_TOTAL: u64 = 50_000;

/// When written data is synced to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncInterval {
    /// Not said: before every acknowledgement, which is this server's default.
    #[default]
    Unset,
    /// Before every acknowledgement.
    Always,
    /// At the latest this many nanoseconds after the write.
    Interval {
        /// The longest time data stays unsynced.
        interval_ns: u64,
    },
}

impl SyncInterval {
    /// As people write it; empty if it is not said.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Unset => String::new(),
            Self::Always => "always".to_owned(),
            Self::Interval { interval_ns } => {
                millrace_clock::go_duration::format(i64::try_from(interval_ns).unwrap_or(i64::MAX))
            }
        }
    }
}

/// How data is encrypted at rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreCipher {
    #[default]
    ChaCha,
    Aes,
}

/// The `jetstream` block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JetStreamOptions {
    /// Whether JetStream runs.
    pub enabled: bool,
    /// Folder for data; `None` lets the host choose (the reference: a temporary folder).
    pub store_dir: Option<String>,
    /// Refuse API requests with unknown fields.
    pub strict: bool,
    /// When data is synced.
    pub sync_interval: SyncInterval,
    /// Bytes for memory streams; `None` lets the host choose from the machine's memory.
    pub max_memory: Option<u64>,
    /// Bytes for file streams; `None` lets the host choose from the free disk space.
    pub max_file: Option<u64>,
    /// JetStream domain.
    pub domain: Option<String>,
    /// Key for encryption at rest.
    pub encryption_key: Option<String>,
    /// Key that older data may be encrypted with.
    pub previous_encryption_key: Option<String>,
    /// What new data is encrypted with.
    pub cipher: StoreCipher,
    /// Text that streams' leaf names may be extended with.
    pub extension_hint: Option<String>,
    /// Tag prefix whose values must differ between replicas.
    pub unique_tag: Option<String>,
    /// Most bytes in flight while a replica catches up; 0 means the default.
    pub max_outstanding_catchup: u64,
    /// What streams keep in memory of messages that are on disk too, and of indexes, in bytes;
    /// `None` is the default. Not a key of the reference.
    pub max_cache: Option<u64>,
    /// Nanoseconds between the beginnings of two scrubs of what streams have on disk; 0: never. Not a
    /// key of the reference.
    pub scrub_interval_ns: u64,
    /// Most bytes waiting in front of one stream.
    pub max_buffered_size: u64,
    /// Most messages waiting in front of one stream.
    pub max_buffered_messages: u64,
    /// Most API requests waiting.
    pub request_queue_limit: u64,
    /// Most info requests waiting.
    pub info_queue_limit: u64,
    /// Most disk operations at once; 0 means the default.
    pub max_concurrent_io: u64,
    /// Limits of streams and consumers.
    pub limits: JetStreamLimits,
    /// Legacy map of account to domain.
    pub default_domain: BTreeMap<String, String>,
}

impl Default for JetStreamOptions {
    fn default() -> Self {
        Self {
            enabled: false,
            store_dir: None,
            strict: true,
            sync_interval: SyncInterval::Unset,
            max_memory: None,
            max_file: None,
            domain: None,
            encryption_key: None,
            previous_encryption_key: None,
            cipher: StoreCipher::default(),
            extension_hint: None,
            unique_tag: None,
            max_outstanding_catchup: 0,
            max_cache: None,
            scrub_interval_ns: SCRUB_INTERVAL_NS,
            max_buffered_size: MAX_BUFFERED_SIZE,
            max_buffered_messages: MAX_BUFFERED_MESSAGES,
            request_queue_limit: REQUEST_QUEUE_LIMIT,
            info_queue_limit: REQUEST_QUEUE_LIMIT,
            max_concurrent_io: 0,
            limits: JetStreamLimits::default(),
            default_domain: BTreeMap::new(),
        }
    }
}

/// Limits that hold for all accounts; `None` means no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JetStreamLimits {
    /// Unacknowledged messages of a consumer.
    pub max_ack_pending: Option<u64>,
    /// Replicated assets on this server.
    pub max_ha_assets: Option<u64>,
    /// Messages one pull request may ask for.
    pub max_request_batch: Option<u64>,
    /// Longest duplicates window of a stream.
    pub duplicate_window_ns: Option<u64>,
    /// Consumers of a stream that does not say how many; `None` means the default of 1,000.
    pub default_max_consumers: Option<i64>,
    /// Atomic batches.
    pub batch: BatchLimits,
}

/// Limits of atomic batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Batches open on one stream.
    pub max_inflight_per_stream: u64,
    /// Batches open on the server.
    pub max_inflight_total: u64,
    /// Messages in one batch.
    pub max_messages: u64,
    /// Time without a message after which a batch is given up.
    pub timeout_ns: u64,
    /// Fast ingest batches open on one stream: the same key, with a default of its own.
    pub fast_inflight_per_stream: u64,
    /// Fast ingest batches open on the server, likewise.
    pub fast_inflight_total: u64,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            max_inflight_per_stream: BATCH_MAX_PER_STREAM,
            max_inflight_total: BATCH_MAX_TOTAL,
            max_messages: BATCH_MAX_MESSAGES,
            timeout_ns: BATCH_TIMEOUT_NS,
            fast_inflight_per_stream: FAST_MAX_PER_STREAM,
            fast_inflight_total: FAST_MAX_TOTAL,
        }
    }
}
