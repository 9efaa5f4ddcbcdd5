//! Accounts: isolated subject spaces, each with its interest trie, watchers and counters.

use crate::ids::AccountId;

/// One isolated subject space.
pub(crate) struct Account {
    pub(crate) name: String,
}

impl Account {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
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
}
