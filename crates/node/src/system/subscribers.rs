//! `$SYS.DEBUG.SUBSCRIBERS`: how many subscriptions a message on a subject would reach.

use millrace_clock::Now;
use millrace_core::Delivery;
use millrace_subject::{is_valid_subject, matches};

use crate::node::Node;

impl Node {
    /// Answers `subject [queue]` with a number: members of queue groups count each, and with a group
    /// nothing else does. What cannot be asked has no subscribers.
    pub(super) fn count_subscribers(&mut self, now: Now, delivery: &Delivery) {
        if delivery.reply.is_empty() {
            return;
        }
        let mut words = delivery.payload.split(u8::is_ascii_whitespace);
        let mut words = words.by_ref().filter(|word| !word.is_empty());
        let count = match (words.next(), words.next(), words.next()) {
            (Some(subject), queue, None) if is_valid_subject(subject) => {
                let all = self.broker.subscriptions();
                let reached = all.iter().filter(|one| {
                    one.account == delivery.account
                        && queue.is_none_or(|queue| one.queue == queue)
                        && matches(&one.subject, subject)
                });
                reached.count()
            }
            _ => 0,
        };
        let (account, reply) = (delivery.account, &delivery.reply);
        let payload = count.to_string();
        self.broker
            .publish(now, account, reply, b"", b"", payload.as_bytes());
    }
}
