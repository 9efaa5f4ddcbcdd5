//! Leave to answer (`allow_responses`): a client that got a request may publish to its reply
//! subject for a while. The counting is `millrace_auth`'s.

use millrace_clock::Now;

use crate::broker::Broker;
use crate::ids::AccountId;
use crate::reserved;

impl Broker {
    /// Notes that a message with this reply reached the client at `slot`.
    pub(crate) fn grant_permit(&mut self, now: Now, slot: u32, reply: &[u8]) {
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        let client = &mut session.client;
        let Some(rules) = client.permissions.as_deref() else {
            return;
        };
        if let Some(responses) = rules.responses()
            && !rules.can_publish(reply)
        {
            client
                .permits
                .get_or_insert_default()
                .grant(now, reply, responses);
        }
    }

    /// Whether a permit allows what the lists do not; uses it up by one.
    pub(crate) fn use_permit(
        &mut self,
        now: Now,
        slot: u32,
        account: AccountId,
        subject: &[u8],
    ) -> bool {
        if reserved::is_refused_subject(subject, account) {
            return false;
        }
        let session = self.sessions.get_mut(slot as usize);
        let permits = session.and_then(|session| session.client.permits.as_deref_mut());
        permits.is_some_and(|permits| permits.take(now, subject))
    }
}
