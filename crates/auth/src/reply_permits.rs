//! Reply subjects that one connection may publish to for a while (`allow_responses`).

use std::collections::{BTreeMap, VecDeque};

use millrace_clock::Now;
use millrace_config::options::ResponseOptions;

/// Most permits of one connection; the oldest make room.
const MAX_PERMITS: usize = 65_536;

/// The permits of one connection. Expired ones are forgotten as new ones come in.
#[derive(Clone, Debug, Default)]
pub struct ReplyPermits {
    permits: BTreeMap<Box<[u8]>, Permit>,
    /// Subjects in the order they were granted, with the number of that grant.
    order: VecDeque<(u64, Box<[u8]>)>,
    next_grant: u64,
}

#[derive(Clone, Debug)]
struct Permit {
    grant: u64,
    /// `None` means any number of messages.
    remaining: Option<u64>,
    /// `None` means for ever.
    expires_ns: Option<u64>,
}

impl Permit {
    fn is_over(&self, now: Now) -> bool {
        self.remaining == Some(0)
            || self
                .expires_ns
                .is_some_and(|expires_ns| expires_ns <= now.monotonic_ns)
    }
}

impl ReplyPermits {
    /// Notes that a message with this reply subject was delivered to the connection.
    ///
    /// A subject that is granted again starts anew.
    pub fn grant(&mut self, now: Now, reply: &[u8], rule: ResponseOptions) {
        self.forget_finished(now);
        let permit = Permit {
            grant: self.next_grant,
            remaining: u64::try_from(rule.max_messages).ok(),
            expires_ns: u64::try_from(rule.expires_ns)
                .ok()
                .map(|ns| now.after_ns(ns)),
        };
        self.order.push_back((self.next_grant, reply.into()));
        self.next_grant += 1;
        self.permits.insert(reply.into(), permit);
    }

    /// Drops permits from the old end that are over, and one more when there are too many.
    fn forget_finished(&mut self, now: Now) {
        while let Some((grant, subject)) = self.order.front() {
            let current = self
                .permits
                .get(subject)
                .filter(|permit| permit.grant == *grant);
            match current {
                Some(permit) if !permit.is_over(now) && self.order.len() < MAX_PERMITS => break,
                Some(_) => {
                    self.permits.remove(subject);
                }
                None => {}
            }
            self.order.pop_front();
        }
    }

    /// Takes one use of the permit for `subject`; false if there is none left.
    pub fn take(&mut self, now: Now, subject: &[u8]) -> bool {
        let Some(permit) = self.permits.get_mut(subject) else {
            return false;
        };
        if permit.is_over(now) {
            self.permits.remove(subject);
            return false;
        }
        if let Some(remaining) = &mut permit.remaining {
            *remaining -= 1;
            if *remaining == 0 {
                self.permits.remove(subject);
            }
        }
        true
    }

    /// Permits held, finished ones included until they are forgotten.
    #[must_use]
    pub fn len(&self) -> usize {
        self.permits.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.permits.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now {
            monotonic_ns: seconds * Now::SECOND_NS,
            wall_ns: 0,
        }
    }

    const TWO_FOR_TEN_SECONDS: ResponseOptions = ResponseOptions {
        max_messages: 2,
        expires_ns: 10_000_000_000,
    };

    #[test]
    fn a_permit_is_used_up_by_count_and_by_time() {
        let mut permits = ReplyPermits::default();
        assert!(!permits.take(at(0), b"r"));
        permits.grant(at(0), b"r", TWO_FOR_TEN_SECONDS);
        permits.grant(at(0), b"s", TWO_FOR_TEN_SECONDS);
        assert!(permits.take(at(1), b"r"));
        assert!(permits.take(at(1), b"r"));
        assert!(!permits.take(at(1), b"r"));
        assert!(permits.take(at(9), b"s"));
        assert!(!permits.take(at(10), b"s"));
    }

    #[test]
    fn a_new_delivery_renews_the_permit() {
        let mut permits = ReplyPermits::default();
        permits.grant(at(0), b"r", TWO_FOR_TEN_SECONDS);
        assert!(permits.take(at(0), b"r"));
        permits.grant(at(8), b"r", TWO_FOR_TEN_SECONDS);
        assert!(permits.take(at(15), b"r"));
        assert!(permits.take(at(15), b"r"));
    }

    #[test]
    fn negative_values_mean_no_limit() {
        let mut permits = ReplyPermits::default();
        let rule = ResponseOptions {
            max_messages: -1,
            expires_ns: -1,
        };
        permits.grant(at(0), b"r", rule);
        assert!((0..100).all(|i| permits.take(at(i * 1000), b"r")));
    }

    #[test]
    fn the_number_of_permits_is_bounded_and_old_ones_go_first() {
        let mut permits = ReplyPermits::default();
        let rule = ResponseOptions {
            max_messages: -1,
            expires_ns: -1,
        };
        for i in 0..MAX_PERMITS + 10 {
            permits.grant(at(0), i.to_string().as_bytes(), rule);
        }
        assert!(permits.len() <= MAX_PERMITS);
        assert!(!permits.take(at(0), b"0"));
        assert!(permits.take(at(0), (MAX_PERMITS + 9).to_string().as_bytes()));
    }
}
