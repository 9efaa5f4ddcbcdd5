//! The client peer: what a connection that speaks the client protocol remembers. Its verbs are in
//! `verbs.rs` and `login.rs`, publishing in `publish.rs`.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use hashbrown::HashTable;
use millrace_auth::{Expiry, Identity, Permissions, ReplyPermits};
use millrace_wire::info::ConnectOptions;
use rustc_hash::FxBuildHasher;

use crate::account::SubscriptionKey;
use crate::callout::Asking;
use crate::match_cache::MatchCache;
use crate::subscription::Subscriptions;

/// A password that is being compared outside.
#[derive(Debug)]
pub(crate) struct Hashing {
    /// Who the client is if it matches.
    pub(crate) identity: Identity,
    /// The client is logged in and only judged again.
    pub(crate) is_reload: bool,
}

/// State of a client.
pub(crate) struct Client {
    /// `+OK` after each operation; on until CONNECT says otherwise.
    pub(crate) verbose: bool,
    /// Check publish subjects; on until CONNECT says otherwise.
    pub(crate) pedantic: bool,
    /// Deliver own messages too.
    pub(crate) echo: bool,
    /// Speaks HPUB and HMSG.
    pub(crate) headers: bool,
    /// Wants a 503 when nobody hears a request.
    pub(crate) no_responders: bool,
    /// `protocol` of CONNECT.
    pub(crate) protocol: i64,
    /// CONNECT was accepted.
    pub(crate) connected: bool,
    /// The first PING after CONNECT was answered, so INFO may be sent at any time.
    pub(crate) first_ping_answered: bool,
    /// All that its CONNECTs asked for; `None` before the first.
    pub(crate) options: Option<Box<ConnectOptions>>,
    /// Who it is if the password that is being compared matches.
    pub(crate) hashing: Option<Box<Hashing>>,
    /// Who it is, if a service says so that was asked.
    pub(crate) asking: Option<Box<Asking>>,
    /// It is who a service said.
    pub(crate) is_placed: bool,
    pub(crate) permissions: Option<Arc<Permissions>>,
    /// When it must leave; boxed because few clients have one.
    pub(crate) expires: Option<Box<Expiry>>,
    pub(crate) permits: Option<Box<ReplyPermits>>,
    pub(crate) cache: Option<Box<MatchCache>>,
    pub(crate) subscriptions: SidTable,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            verbose: true,
            pedantic: true,
            echo: true,
            headers: false,
            no_responders: false,
            protocol: 0,
            connected: false,
            first_ping_answered: false,
            options: None,
            hashing: None,
            asking: None,
            is_placed: false,
            permissions: None,
            expires: None,
            permits: None,
            cache: None,
            subscriptions: SidTable::default(),
        }
    }
}

/// Subscriptions of one connection by the id that the client chose. The ids themselves stand in
/// the records, so an entry costs a few bytes.
#[derive(Default)]
pub(crate) struct SidTable {
    table: HashTable<SubscriptionKey>,
}

impl SidTable {
    pub(crate) fn find(&self, records: &Subscriptions, sid: &[u8]) -> Option<SubscriptionKey> {
        let is_it = |key: &SubscriptionKey| records.get(*key).is_some_and(|r| r.sid() == sid);
        self.table.find(hash_sid(sid), is_it).copied()
    }

    /// Adds a record whose sid is not in the table yet.
    pub(crate) fn add(&mut self, records: &Subscriptions, key: SubscriptionKey) {
        let hash_of = |key: &SubscriptionKey| hash_sid(records.get(*key).map_or(&[], |r| r.sid()));
        self.table.insert_unique(hash_of(&key), key, hash_of);
    }

    pub(crate) fn remove(&mut self, key: SubscriptionKey, sid: &[u8]) {
        if let Ok(entry) = self.table.find_entry(hash_sid(sid), |other| *other == key) {
            entry.remove();
        }
        if self.table.is_empty() {
            self.table = HashTable::new();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// The keys in ascending order, so that hash order reaches nobody.
    pub(crate) fn keys(&self) -> Vec<SubscriptionKey> {
        let mut keys: Vec<SubscriptionKey> = self.table.iter().copied().collect();
        keys.sort_unstable();
        keys
    }
}

fn hash_sid(sid: &[u8]) -> u64 {
    let mut hasher = FxBuildHasher.build_hasher();
    sid.hash(&mut hasher);
    std::hash::Hasher::finish(&hasher)
}
