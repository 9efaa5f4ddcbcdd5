//! Adding and removing subscriptions: the record, the account's trie, the owner's table and those
//! who watch a subject's interest change together, here and nowhere else.

use crate::account::SubscriptionKey;
use crate::broker::Broker;
use crate::ids::AccountId;
use crate::subscription::{Owner, Subscription};

impl Broker {
    pub(crate) fn add_subscription(&mut self, record: Subscription) -> SubscriptionKey {
        let (account, owner) = (record.account, record.owner);
        let key = self.subscriptions.add(record);
        if let (Some(record), Some(account)) =
            (self.subscriptions.get(key), self.accounts.get_mut(account))
        {
            account
                .interest
                .insert(record.filter(), record.queue(), key);
        }
        if let Owner::Session(slot) = owner
            && let Some(session) = self.sessions.get_mut(slot as usize)
        {
            session.client.subscriptions.add(&self.subscriptions, key);
        }
        self.report_interest(account, key);
        self.add_shadows(key);
        key
    }

    pub(crate) fn remove_subscription(&mut self, key: SubscriptionKey) {
        let Some(record) = self.subscriptions.get(key) else {
            return;
        };
        if let Some(account) = self.accounts.get_mut(record.account) {
            account
                .interest
                .remove(record.filter(), record.queue(), key);
        }
        if let Owner::Session(slot) = record.owner
            && let Some(session) = self.sessions.get_mut(slot as usize)
        {
            session.client.subscriptions.remove(key, record.sid());
        }
        self.report_interest(record.account, key);
        self.drop_shadows(key);
        let record = self.subscriptions.remove(key);
        if let Some(record) = &record {
            self.note_removed(record);
        }
        if let Some(record) = record
            && self.is_tracing
            && let Owner::Session(slot) = record.owner
        {
            let sid = String::from_utf8_lossy(record.sid());
            self.trace(slot, &format!("<-> [DELSUB {sid}]"));
        }
    }

    /// Removes everything a session is subscribed to.
    pub(crate) fn drop_subscriptions(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        for key in std::mem::take(&mut session.client.subscriptions).keys() {
            self.remove_subscription(key);
        }
    }

    /// Notes the watched subjects that the subscription `key` matches.
    fn report_interest(&mut self, account_id: AccountId, key: SubscriptionKey) {
        let Some(account) = self.accounts.get(account_id) else {
            return;
        };
        if account.watched.is_empty() {
            return;
        }
        let Some(record) = self.subscriptions.get(key) else {
            return;
        };
        let changes = &mut self.interest_changes;
        account
            .watched
            .for_each_match(record.filter(), |subject, _| {
                changes.push((account_id, subject.to_vec()));
            });
    }
}
