//! Subscription records: all that a delivery decides about one subscription. Who matches a
//! subject is the account's trie's business, bytes are the session's.

use std::sync::Arc;

use millrace_auth::DenyFilter;
use slab::Slab;

use crate::account::SubscriptionKey;
use crate::ids::{AccountId, EndpointId};

/// Who receives what a subscription matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The session at this place in the broker's table.
    Session(u32),
    /// A receiver inside the server.
    Endpoint(EndpointId),
    /// The imported service at this place: requests go on into another account.
    Service(u32),
    /// The answers to requests from other accounts.
    Responses,
    /// The shadow at this place: messages go to a subscription of another account.
    Shadow(u32),
    /// The answers of services that decide about clients.
    Callouts,
}

/// One subscription. Filter, queue and sid share one allocation; the sid stands between blanks, as
/// in the line of a message.
#[derive(Debug)]
pub(crate) struct Subscription {
    text: Box<[u8]>,
    filter_end: u32,
    queue_end: u32,
    pub(crate) owner: Owner,
    pub(crate) account: AccountId,
    pub(crate) has_queue: bool,
    /// Messages delivered since the subscription was made.
    pub(crate) delivered: u64,
    /// Deliveries after which it ends; zero for none.
    pub(crate) max: u64,
    /// Denied subjects within the filter, looked at on each delivery.
    pub(crate) deny: Option<Arc<DenyFilter>>,
}

impl Subscription {
    pub(crate) fn new(
        owner: Owner,
        account: AccountId,
        filter: &[u8],
        queue: Option<&[u8]>,
        sid: &[u8],
    ) -> Self {
        let name = queue.unwrap_or_default();
        let text = [filter, name, b" ", sid, b" "].concat();
        Self {
            // A control line is far below 4 GiB, and so are its parts.
            filter_end: filter.len() as u32,
            queue_end: (filter.len() + name.len()) as u32,
            text: text.into_boxed_slice(),
            owner,
            account,
            has_queue: queue.is_some(),
            delivered: 0,
            max: 0,
            deny: None,
        }
    }

    pub(crate) fn filter(&self) -> &[u8] {
        self.text
            .get(..self.filter_end as usize)
            .unwrap_or_default()
    }

    pub(crate) fn queue(&self) -> Option<&[u8]> {
        let name = self
            .text
            .get(self.filter_end as usize..self.queue_end as usize);
        name.filter(|_| self.has_queue)
    }

    pub(crate) fn sid(&self) -> &[u8] {
        let spaced = self.spaced_sid();
        spaced
            .get(1..spaced.len().saturating_sub(1))
            .unwrap_or_default()
    }

    /// The sid with a blank before and behind it.
    pub(crate) fn spaced_sid(&self) -> &[u8] {
        self.text.get(self.queue_end as usize..).unwrap_or_default()
    }

    /// Whether it ended with the last message it took.
    pub(crate) const fn is_used_up(&self) -> bool {
        self.max > 0 && self.delivered >= self.max
    }
}

/// All subscription records of the server.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    table: Slab<Subscription>,
}

impl Subscriptions {
    pub(crate) fn add(&mut self, subscription: Subscription) -> SubscriptionKey {
        // 2^32 records of 80 bytes do not fit in memory, so the key cannot be cut.
        SubscriptionKey(self.table.insert(subscription) as u32)
    }

    pub(crate) fn get(&self, key: SubscriptionKey) -> Option<&Subscription> {
        self.table.get(key.0 as usize)
    }

    pub(crate) fn get_mut(&mut self, key: SubscriptionKey) -> Option<&mut Subscription> {
        self.table.get_mut(key.0 as usize)
    }

    pub(crate) fn remove(&mut self, key: SubscriptionKey) -> Option<Subscription> {
        self.table.try_remove(key.0 as usize)
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SubscriptionKey, &Subscription)> {
        self.table
            .iter()
            .map(|(place, record)| (SubscriptionKey(place as u32), record))
    }
}
