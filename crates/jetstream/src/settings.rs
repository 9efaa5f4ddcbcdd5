//! What the server's configuration says about JetStream (spec jetstream/07 §1).

use std::collections::BTreeMap;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use millrace_store::seal::Keys;
use millrace_store::staging::DEFAULT_PART_BYTES;
use millrace_store::stream::{DEFAULT_MEMORY_BYTES, INDEX_IDLE_NS};

use crate::ids::AccountRef;
pub use crate::model::AccountLimits;

/// The default of [`Settings::default_max_consumers`], as in the reference.
pub const DEFAULT_MAX_CONSUMERS: i64 = 1_000;

/// The default of [`Settings::items_per_step`].
pub const ITEMS_PER_STEP: usize = 1_000;

/// Limits of atomic batches: `jetstream { limits { batch { … } } }` (spec jetstream/03 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Staged batches of one stream.
    pub max_inflight_per_stream: usize,
    /// Staged batches of the server, over all accounts.
    pub max_inflight_total: usize,
    /// Messages in a batch, an `eob` message not counted.
    pub max_messages: u64,
    /// A batch without a message for this long is dropped.
    pub timeout_ns: u64,
    /// Open fast ingest batches of one stream.
    pub fast_inflight_per_stream: usize,
    /// Open fast ingest batches of the server.
    pub fast_inflight_total: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            max_inflight_per_stream: 50,
            max_inflight_total: 1000,
            max_messages: 1000,
            timeout_ns: 10_000_000_000,
            fast_inflight_per_stream: 1_000,
            fast_inflight_total: 50_000,
        }
    }
}

/// An account with JetStream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountSettings {
    pub account: AccountRef,
    pub name: String,
    pub limits: AccountLimits,
    /// Limits by number of replicas, as its token has them; those of `R1` are `limits`.
    pub tiers: BTreeMap<String, AccountLimits>,
}

/// Settings of the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Added to the numbers of all token spaces: a JetStream that starts again in the same server run
    /// must not share tokens and file ids with disk work of the one before it.
    pub id_space_offset: u32,
    pub server_name: String,
    pub domain: String,
    /// IANA name of the machine's time zone; empty or unknown: UTC.
    pub local_time_zone: String,
    /// Unknown JSON fields in requests are errors (`strict`, default true).
    pub strict: bool,
    /// Bytes of memory streams on this server.
    pub max_memory_bytes: u64,
    /// Bytes of file streams on this server.
    pub max_file_bytes: u64,
    /// Largest payload a client may send, bytes (counter results must stay below it too).
    pub max_payload: u64,
    /// Waiting publishes of a stream (`max_buffered_msgs`).
    pub max_buffered_messages: usize,
    /// Their bytes (`max_buffered_size`).
    pub max_buffered_bytes: u64,
    /// Upper bound of `duplicate_window`; 0: none.
    pub max_duplicate_window_ns: u64,
    /// Cap of consumers' `max_ack_pending`; 0: none.
    pub max_ack_pending: i64,
    /// Cap of a pull request's batch; 0: none.
    pub max_request_batch: i64,
    /// Consumers of a stream where neither it nor its account says how many; 0 or less: any number.
    pub default_max_consumers: i64,
    pub batch: BatchLimits,
    /// Messages stored, removed or looked at for committed entries in one step (hard-parts 1).
    pub items_per_step: usize,
    /// What all streams together keep in memory of messages that are also on disk, and of indexes.
    pub store_memory_bytes: u64,
    /// Between the beginnings of two scrubs of all segments; 0: never.
    pub scrub_interval_ns: u64,
    /// How long nothing needs an index before it is given back for want of memory.
    pub index_idle_ns: u64,
    /// Memory for messages of batches that wait for their commit; beyond it they go to scratch files.
    pub batch_memory_bytes: u64,
    /// A batch with more bytes becomes a chain of parts of at most so many.
    pub batch_part_bytes: u64,
    pub accounts: Vec<AccountSettings>,
    /// Accounts without JetStream: who asks there is told so.
    pub bare_accounts: Vec<AccountRef>,
    /// Seed of names and hash keys; a new one for every server run.
    pub seed: u64,
    /// What everything on the disk is sealed with; none: it is plain.
    pub keys: Keys,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            id_space_offset: 0,
            server_name: String::new(),
            domain: String::new(),
            local_time_zone: String::new(),
            strict: true,
            max_memory_bytes: u64::MAX,
            max_file_bytes: u64::MAX,
            max_payload: 1024 * 1024,
            max_buffered_messages: 100_000,
            max_buffered_bytes: 128 * 1024 * 1024,
            max_duplicate_window_ns: 0,
            max_ack_pending: 0,
            max_request_batch: 0,
            default_max_consumers: DEFAULT_MAX_CONSUMERS,
            batch: BatchLimits::default(),
            items_per_step: ITEMS_PER_STEP,
            store_memory_bytes: DEFAULT_MEMORY_BYTES,
            scrub_interval_ns: 0,
            index_idle_ns: INDEX_IDLE_NS,
            batch_memory_bytes: 64 * 1024 * 1024,
            batch_part_bytes: DEFAULT_PART_BYTES,
            accounts: Vec::new(),
            bare_accounts: Vec::new(),
            seed: 0,
            keys: Keys::default(),
        }
    }
}

impl Settings {
    /// The machine's time zone, from the zone data that all servers of a version share.
    #[must_use]
    pub fn time_zone(&self) -> TimeZone {
        TimeZoneDatabase::bundled()
            .get(&self.local_time_zone)
            .unwrap_or(TimeZone::UTC)
    }
}
