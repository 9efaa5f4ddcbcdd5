//! The messages to deliver again now, first come first served (as the reference does: a NAK of a
//! later message that came first goes first), each at most once.

use std::collections::BTreeMap;

/// The redelivery queue. No longer than the pending messages.
#[derive(Debug, Default)]
pub(super) struct RedeliveryQueue {
    by_ticket: BTreeMap<u64, u64>,
    tickets: BTreeMap<u64, u64>,
    next_ticket: u64,
}

impl RedeliveryQueue {
    pub(super) fn len(&self) -> usize {
        self.tickets.len()
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.by_ticket.values().next().copied()
    }

    pub(super) fn contains(&self, sequence: u64) -> bool {
        self.tickets.contains_key(&sequence)
    }

    /// Adds a message at the end unless it is queued already.
    pub(super) fn push(&mut self, sequence: u64) {
        if self.contains(sequence) {
            return;
        }
        self.tickets.insert(sequence, self.next_ticket);
        self.by_ticket.insert(self.next_ticket, sequence);
        self.next_ticket += 1;
    }

    pub(super) fn remove(&mut self, sequence: u64) {
        if let Some(ticket) = self.tickets.remove(&sequence) {
            self.by_ticket.remove(&ticket);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_leave_in_the_order_they_came_and_once() {
        let mut queue = RedeliveryQueue::default();
        for sequence in [5, 2, 5, 4] {
            queue.push(sequence);
        }
        queue.remove(2);
        assert_eq!(
            (queue.len(), queue.first(), queue.contains(2)),
            (2, Some(5), false)
        );
        queue.remove(5);
        assert_eq!(queue.first(), Some(4));
    }
}
