//! What a node is told once, and how the configuration's view of JetStream becomes the engine's.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_config::Options;
use millrace_config::options::{AccountJetStream, SyncInterval};
use millrace_core::{Broker, BrokerSettings};
use millrace_jetstream::AccountRef;
use millrace_jetstream::settings::{
    AccountLimits, AccountSettings, BatchLimits, DEFAULT_MAX_CONSUMERS, ITEMS_PER_STEP, Settings,
};
use millrace_store::journal::{DEFAULT_BUDGET_BYTES, JournalSettings, SyncMode};
use millrace_store::seal::Keys;
use millrace_store::staging::DEFAULT_PART_BYTES;
use millrace_store::stream::{DEFAULT_MEMORY_BYTES, INDEX_IDLE_NS};

/// Share of `max_file` that the journal may take (hard-parts 4), as a divisor.
const JOURNAL_SHARE: u64 = 20;
/// The journal's budget is never below this, or small stores would checkpoint without end.
const JOURNAL_BUDGET_BYTES_MIN: u64 = 128 << 20;
/// Memory for batches that wait for their commit; beyond it they go to scratch files.
const BATCH_MEMORY_BYTES: u64 = 64 << 20;

/// Everything a node needs to start.
#[derive(Clone)]
pub struct NodeSettings {
    /// Options, identity and seed of the broker.
    pub broker: BrokerSettings,
    /// JetStream's share of the machine; `None` turns it off.
    pub jetstream: Option<JetStreamHostSettings>,
    /// Wakes the owner's loop when another thread asks a Raft group to stop.
    pub wake: Option<Arc<dyn Fn() + Send + Sync>>,
}

/// Sizes inside the store. The defaults are a server's; the simulator draws small ones, so that all
/// that happens in a large store happens in a small one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreSizes {
    pub journal: JournalSettings,
    /// Memory for batches that wait for their commit.
    pub batch_memory_bytes: Option<u64>,
    /// A batch with more bytes becomes a chain of parts.
    pub batch_part_bytes: Option<u64>,
    /// What all streams together keep in memory of messages that are also on disk.
    pub memory_bytes: Option<u64>,
    /// How long nothing needs an index before it may be given back.
    pub index_idle_ns: Option<u64>,
    /// Between the beginnings of two scrubs of what streams have on disk; 0: never.
    pub scrub_interval_ns: Option<u64>,
}

/// What only the host can know about JetStream's surroundings.
#[derive(Clone, Debug)]
pub struct JetStreamHostSettings {
    /// Folder of the store as shown to users.
    pub store_dir: String,
    /// Bytes that memory streams may take.
    pub max_memory_bytes: u64,
    /// Bytes that file streams may take.
    pub max_file_bytes: u64,
    /// IANA name of the machine's time zone; empty: not known.
    pub local_time_zone: String,
    /// What everything on the disk is sealed with; none: it is plain.
    pub keys: Keys,
}

/// How the journal is to behave under these options.
pub(crate) fn journal_settings(options: &Options, host: &JetStreamHostSettings) -> JournalSettings {
    JournalSettings {
        sync: match options.jetstream.sync_interval {
            SyncInterval::Unset | SyncInterval::Always => SyncMode::Always,
            SyncInterval::Interval { interval_ns } => SyncMode::Interval(interval_ns),
        },
        budget_bytes: (host.max_file_bytes / JOURNAL_SHARE)
            .clamp(JOURNAL_BUDGET_BYTES_MIN, DEFAULT_BUDGET_BYTES),
        ..JournalSettings::default()
    }
}

/// The engine's settings; accounts are numbered as the broker numbers them.
pub(crate) fn engine_settings(
    options: &Options,
    host: &JetStreamHostSettings,
    broker: &Broker,
    sizes: &StoreSizes,
    seed: u64,
) -> Settings {
    let jetstream = &options.jetstream;
    let limits = &jetstream.limits;
    Settings {
        id_space_offset: 0,
        server_name: broker.identity().server_name.clone(),
        domain: jetstream.domain.clone().unwrap_or_default(),
        local_time_zone: host.local_time_zone.clone(),
        strict: jetstream.strict,
        max_memory_bytes: host.max_memory_bytes,
        max_file_bytes: host.max_file_bytes,
        max_payload: options.client.max_payload as u64,
        max_buffered_messages: usize::try_from(jetstream.max_buffered_messages)
            .unwrap_or(usize::MAX),
        max_buffered_bytes: jetstream.max_buffered_size,
        max_duplicate_window_ns: limits.duplicate_window_ns.unwrap_or(0),
        max_ack_pending: limits.max_ack_pending.map_or(0, saturating_i64),
        max_request_batch: limits.max_request_batch.map_or(0, saturating_i64),
        default_max_consumers: limits
            .default_max_consumers
            .unwrap_or(DEFAULT_MAX_CONSUMERS),
        batch: BatchLimits {
            max_inflight_per_stream: usize::try_from(limits.batch.max_inflight_per_stream)
                .unwrap_or(usize::MAX),
            max_inflight_total: usize::try_from(limits.batch.max_inflight_total)
                .unwrap_or(usize::MAX),
            max_messages: limits.batch.max_messages,
            timeout_ns: limits.batch.timeout_ns,
            fast_inflight_per_stream: usize::try_from(limits.batch.fast_inflight_per_stream)
                .unwrap_or(usize::MAX),
            fast_inflight_total: usize::try_from(limits.batch.fast_inflight_total)
                .unwrap_or(usize::MAX),
        },
        items_per_step: ITEMS_PER_STEP,
        scrub_interval_ns: sizes
            .scrub_interval_ns
            .unwrap_or(jetstream.scrub_interval_ns),
        index_idle_ns: sizes.index_idle_ns.unwrap_or(INDEX_IDLE_NS),
        store_memory_bytes: sizes
            .memory_bytes
            .or(jetstream.max_cache)
            .unwrap_or(DEFAULT_MEMORY_BYTES),
        batch_memory_bytes: sizes.batch_memory_bytes.unwrap_or(BATCH_MEMORY_BYTES),
        batch_part_bytes: sizes.batch_part_bytes.unwrap_or(DEFAULT_PART_BYTES),
        accounts: accounts(options, broker),
        bare_accounts: bare_accounts(options, broker),
        seed,
        keys: host.keys.clone(),
    }
}

/// Accounts with JetStream. Without any `jetstream` in an account, the global account has it, as
/// in the reference.
fn accounts(options: &Options, broker: &Broker) -> Vec<AccountSettings> {
    let configured: Vec<AccountSettings> = options
        .accounts
        .iter()
        .filter_map(|account| {
            let limits = account.jetstream.as_ref()?;
            let id = broker.account(&account.name)?;
            Some(AccountSettings {
                account: AccountRef(id.0),
                name: account.name.clone(),
                limits: account_limits(limits),
                tiers: tiers(limits),
            })
        })
        .collect();
    if !configured.is_empty() || !options.accounts.is_empty() {
        return configured;
    }
    vec![AccountSettings {
        account: AccountRef(millrace_core::AccountId::GLOBAL.0),
        name: "$G".to_owned(),
        limits: AccountLimits::default(),
        tiers: BTreeMap::new(),
    }]
}

fn tiers(limits: &AccountJetStream) -> BTreeMap<String, AccountLimits> {
    let tiers = limits.tiers.iter();
    tiers
        .map(|(name, limits)| (name.clone(), account_limits(limits)))
        .collect()
}

/// Accounts of the configuration that have no JetStream while others have.
fn bare_accounts(options: &Options, broker: &Broker) -> Vec<AccountRef> {
    let accounts = options.accounts.iter();
    accounts
        .filter(|account| account.jetstream.is_none())
        .filter_map(|account| broker.account(&account.name))
        .map(|id| AccountRef(id.0))
        .collect()
}

fn account_limits(limits: &AccountJetStream) -> AccountLimits {
    AccountLimits {
        max_memory: limits.max_memory,
        max_storage: limits.max_file,
        max_streams: limits.max_streams,
        max_consumers: limits.max_consumers,
        max_ack_pending: limits.max_ack_pending,
        memory_max_stream_bytes: limits.memory_max_stream_bytes,
        storage_max_stream_bytes: limits.disk_max_stream_bytes,
        max_bytes_required: limits.max_bytes_required,
    }
}

fn saturating_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
