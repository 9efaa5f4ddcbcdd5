//! What the rules need to know about the world around a configuration: the account's limits, its
//! other streams, and what the server allows. Filled in by the engine, so that the rules stay pure.

use std::collections::BTreeMap;

use super::enums::StorageKind;
use super::info::AccountLimits;
use super::stream_config::StreamConfig;

/// The account and server around a stream configuration.
#[derive(Clone, Copy)]
pub struct StreamContext<'a> {
    /// No cluster: replicas above one are refused.
    pub standalone: bool,
    /// Limits of the account.
    pub limits: AccountLimits,
    /// The server's upper bound of `duplicate_window`; 0 = none.
    pub max_duplicate_window_ns: i64,
    /// Bytes that may still be reserved by `max_bytes` on this server, in memory.
    pub free_memory: i64,
    /// The same on disk.
    pub free_storage: i64,
    /// The account's streams.
    pub streams: &'a dyn StreamDirectory,
}

/// The streams of one account.
pub trait StreamDirectory {
    /// Calls `visit` for each configuration, in name order.
    fn for_each(&self, visit: &mut dyn FnMut(&StreamConfig));
    /// The configuration of one stream.
    fn find(&self, name: &str) -> Option<&StreamConfig>;
}

impl StreamDirectory for BTreeMap<String, StreamConfig> {
    fn for_each(&self, visit: &mut dyn FnMut(&StreamConfig)) {
        self.values().for_each(visit);
    }
    fn find(&self, name: &str) -> Option<&StreamConfig> {
        self.get(name)
    }
}

impl StreamContext<'_> {
    /// How many streams the account has.
    pub(super) fn stream_count(&self) -> i64 {
        let mut count = 0;
        self.streams.for_each(&mut |_| count += 1);
        count
    }

    /// Bytes the account's streams of this storage reserve, without `except`.
    pub(super) fn reserved(&self, storage: StorageKind, except: &str) -> i64 {
        let mut sum = 0_i64;
        self.streams.for_each(&mut |config| {
            if config.storage == storage && config.max_bytes > 0 && config.name != except {
                sum = sum.saturating_add(config.max_bytes);
            }
        });
        sum
    }
}
