//! Sums over all accounts and streams, for monitoring.

use crate::engine::JetStream;
use crate::model::StorageKind;

/// What JetStream holds on this server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub accounts: usize,
    pub streams: usize,
    pub consumers: usize,
    pub messages: u64,
    pub memory_bytes: u64,
    pub file_bytes: u64,
    pub reserved_memory_bytes: u64,
    pub reserved_file_bytes: u64,
    pub api_total: u64,
    pub api_errors: u64,
}

impl JetStream {
    /// Sums as of now; walks all streams.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            accounts: self.accounts.len(),
            streams: self.streams.len(),
            ..Totals::default()
        };
        let usage = self.shared.usage;
        (totals.memory_bytes, totals.file_bytes) = (usage.memory_bytes, usage.file_bytes);
        for stream in self.streams.values() {
            totals.consumers += stream.consumers.len();
            totals.messages += stream.store.state().messages;
            *match stream.config.storage {
                StorageKind::Memory => &mut totals.reserved_memory_bytes,
                StorageKind::File => &mut totals.reserved_file_bytes,
            } += stream.config.reserved_bytes();
        }
        for account in self.accounts.values() {
            totals.api_total += account.api_total;
            totals.api_errors += account.api_errors;
        }
        totals
    }
}
