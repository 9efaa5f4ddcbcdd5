//! Sums over all accounts and streams, for monitoring.

use crate::engine::JetStream;

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
        for account in self.accounts.values() {
            totals.api_total += account.api_total;
            totals.api_errors += account.api_errors;
        }
        totals
    }
}
