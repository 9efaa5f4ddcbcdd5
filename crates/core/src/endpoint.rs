//! What receivers inside the server (JetStream, monitoring) ask of the broker: subscribing, and
//! knowing who would hear a message. Delivery to them is part of `publish.rs`.

use millrace_clock::Now;

use crate::broker::Broker;
use crate::effects::BrokerEffect;
use crate::ids::{AccountId, ConnectionId, EndpointId};
use crate::reserved::SYSTEM_QUEUE;
use crate::subscription::{Owner, Subscription};

impl Broker {
    /// Subscribes a receiver inside the server. The same triple twice counts once.
    pub fn bind(&mut self, account: AccountId, filter: &[u8], endpoint: EndpointId) {
        self.bind_in(account, filter, None, endpoint);
    }

    /// As [`Self::bind`], as a member of the queue group that servers use among themselves: of several
    /// receivers one gets each message.
    pub fn bind_shared(&mut self, account: AccountId, filter: &[u8], endpoint: EndpointId) {
        self.bind_in(account, filter, Some(SYSTEM_QUEUE), endpoint);
    }

    fn bind_in(
        &mut self,
        account: AccountId,
        filter: &[u8],
        queue: Option<&[u8]>,
        endpoint: EndpointId,
    ) {
        let triple = (account, Box::from(filter), endpoint);
        if self.bindings.contains_key(&triple) || self.accounts.get(account).is_none() {
            return;
        }
        let record = Subscription::new(Owner::Endpoint(endpoint), account, filter, queue, b"");
        let key = self.add_subscription(record);
        self.bindings.insert(triple, key);
    }

    /// Takes one binding back.
    pub fn unbind(&mut self, account: AccountId, filter: &[u8], endpoint: EndpointId) {
        if let Some(key) = self
            .bindings
            .remove(&(account, Box::from(filter), endpoint))
        {
            self.remove_subscription(key);
        }
    }

    /// Reads no more from a connection until [`Self::release_reads`]: what it sends takes more room
    /// than there is.
    pub fn hold_reads(&mut self, id: ConnectionId) {
        if self.held.insert(id) {
            let until_ns = u64::MAX;
            self.effects.push(BrokerEffect::PauseRead {
                id,
                until_ns,
                until_drained: false,
            });
        }
    }

    /// Reads again from all connections that were held.
    pub fn release_reads(&mut self, now: Now) {
        for id in std::mem::take(&mut self.held) {
            let until_ns = now.monotonic_ns;
            self.effects.push(BrokerEffect::PauseRead {
                id,
                until_ns,
                until_drained: false,
            });
        }
    }

    /// Whether a message on this literal subject would find a subscription.
    #[must_use]
    pub fn has_interest(&self, account: AccountId, subject: &[u8]) -> bool {
        if let Some(is_awaited) = self.is_response_awaited(account, subject) {
            return is_awaited;
        }
        self.accounts
            .get(account)
            .is_some_and(|account| account.interest.has_interest(subject))
    }

    /// Whether a member of this queue group would match a message on this literal subject.
    #[must_use]
    pub fn has_queue_interest(&self, account: AccountId, subject: &[u8], queue: &[u8]) -> bool {
        let account = self.accounts.get(account);
        account.is_some_and(|account| account.interest.has_queue_interest(subject, queue))
    }

    /// Reports changes of interest in a literal subject from now on; counted per call.
    pub fn watch_interest(&mut self, account: AccountId, subject: &[u8]) {
        if let Some(account) = self.accounts.get_mut(account) {
            *account.watched.get_or_insert_with(subject, || 0) += 1;
        }
    }

    /// Takes one [`Self::watch_interest`] back.
    pub fn unwatch_interest(&mut self, account: AccountId, subject: &[u8]) {
        let Some(account) = self.accounts.get_mut(account) else {
            return;
        };
        let Some(followers) = account.watched.get_mut(subject) else {
            return;
        };
        *followers = followers.saturating_sub(1);
        if *followers == 0 {
            account.watched.remove(subject);
        }
    }
}
