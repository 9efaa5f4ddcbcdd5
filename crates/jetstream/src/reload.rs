//! A running JetStream takes over changed settings: limits, and accounts that came.
//!
//! What the log says never depends on these; they judge requests and publishes from now on. An account
//! that lost JetStream keeps it until the next start: its streams hold messages.

use std::collections::BTreeMap;

use crate::engine::{Account, JetStream};
use crate::io::Effect;
use crate::settings::Settings;

impl JetStream {
    /// Goes on with `new`. Only what [`Self::start`] has no part in is taken over: limits of the
    /// server and of accounts. Accounts that are new to JetStream may use it at once.
    pub fn apply_settings(&mut self, new: &Settings, effects: &mut Vec<Effect>) {
        let settings = &mut self.settings;
        settings.max_memory_bytes = new.max_memory_bytes;
        settings.max_file_bytes = new.max_file_bytes;
        settings.max_payload = new.max_payload;
        settings.max_duplicate_window_ns = new.max_duplicate_window_ns;
        settings.max_ack_pending = new.max_ack_pending;
        settings.max_request_batch = new.max_request_batch;
        settings.default_max_consumers = new.default_max_consumers;
        settings.batch = new.batch;
        self.shared.apply_limits(new);
        for account in &new.accounts {
            let limits = account.limits;
            if let Some(known) = self.accounts.get_mut(&account.account) {
                known.limits = limits;
                known.tiers.clone_from(&account.tiers);
                continue;
            }
            let state = Account {
                name: account.name.clone(),
                limits,
                tiers: account.tiers.clone(),
                streams: BTreeMap::new(),
                api_total: 0,
                api_errors: 0,
            };
            self.accounts.insert(account.account, state);
            self.settings.accounts.push(account.clone());
            self.bind_api(account.account, effects);
        }
        for account in &new.bare_accounts {
            let is_known = self.accounts.contains_key(account)
                || self.settings.bare_accounts.contains(account);
            if !is_known {
                self.settings.bare_accounts.push(*account);
                self.bind_api(*account, effects);
            }
        }
    }
}
