//! Accounts: isolated subject spaces, each with its interest trie, watchers and counters.

use std::sync::Arc;

use millrace_subject::{InterestTrie, Mapping, SubjectTree};

use crate::ids::AccountId;
use crate::imports::StreamImport;
use crate::match_cache::MatchCache;

/// Names a subscription record by its place in the broker's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SubscriptionKey(pub(crate) u32);

/// Counters of one account.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AccountCounters {
    pub(crate) connections: usize,
    pub(crate) total_connections: u64,
    pub(crate) sent_msgs: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) received_msgs: u64,
    pub(crate) received_bytes: u64,
    pub(crate) slow_consumers: u64,
}

/// One isolated subject space.
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) interest: InterestTrie<SubscriptionKey>,
    /// Literal subjects whose interest somebody follows, with the number of followers.
    pub(crate) watched: SubjectTree<u32>,
    pub(crate) counters: AccountCounters,
    /// Subjects that its clients' messages are mapped by; usually none.
    pub(crate) mappings: Vec<Mapping>,
    /// What its subscribers hear of other accounts.
    pub(crate) stream_imports: Vec<Arc<StreamImport>>,
    /// How reply subjects for requests from other accounts begin; empty until there was one.
    pub(crate) reply_prefix: Box<[u8]>,
    /// Match results of messages that came from other accounts.
    pub(crate) imported_cache: MatchCache,
}

impl Account {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            interest: InterestTrie::default(),
            watched: SubjectTree::default(),
            counters: AccountCounters::default(),
            mappings: Vec::new(),
            stream_imports: Vec::new(),
            reply_prefix: Box::default(),
            imported_cache: MatchCache::default(),
        }
    }
}

/// All accounts; ids are places in this table and never move.
pub(crate) struct Accounts {
    table: Vec<Account>,
}

impl Accounts {
    /// `$G` and the system account, in that order, then the configured ones.
    pub(crate) fn new(options: &millrace_config::Options) -> Self {
        let system = options.system_account.as_deref().unwrap_or("$SYS");
        let mut accounts = Self {
            table: vec![Account::new("$G"), Account::new(system)],
        };
        for configured in &options.accounts {
            accounts.find_or_add(&configured.name);
        }
        accounts
    }

    pub(crate) fn find(&self, name: &str) -> Option<AccountId> {
        let place = self.table.iter().position(|account| account.name == name)?;
        u32::try_from(place).ok().map(AccountId)
    }

    pub(crate) fn find_or_add(&mut self, name: &str) -> AccountId {
        if let Some(id) = self.find(name) {
            return id;
        }
        self.table.push(Account::new(name));
        AccountId(self.table.len() as u32 - 1)
    }

    pub(crate) fn get(&self, id: AccountId) -> Option<&Account> {
        self.table.get(id.0 as usize)
    }

    pub(crate) fn get_mut(&mut self, id: AccountId) -> Option<&mut Account> {
        self.table.get_mut(id.0 as usize)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (AccountId, &Account)> {
        self.table
            .iter()
            .enumerate()
            .map(|(place, account)| (AccountId(place as u32), account))
    }
}
