//! Deadlines of connections, ordered by time. What happens at a deadline is decided by the broker.

use std::collections::BTreeSet;

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimerKind {
    /// CONNECT must have come.
    Authentication,
    /// The next PING is due, or the peer is stale.
    Ping,
    /// The marked bytes must have been written.
    Write,
    /// What let the client in has expired.
    Expiry,
}

/// Timers keyed by deadline; `slot` is the place of the connection in the broker's table.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    entries: BTreeSet<(u64, u32, TimerKind)>,
}

impl Timers {
    /// Sets a timer. `current` is the owner's note of its deadline and is kept in step.
    pub(crate) fn set(
        &mut self,
        slot: u32,
        kind: TimerKind,
        current: &mut Option<u64>,
        deadline_ns: u64,
    ) {
        self.cancel(slot, kind, current);
        self.entries.insert((deadline_ns, slot, kind));
        *current = Some(deadline_ns);
    }

    /// Takes a timer back.
    pub(crate) fn cancel(&mut self, slot: u32, kind: TimerKind, current: &mut Option<u64>) {
        if let Some(deadline_ns) = current.take() {
            self.entries.remove(&(deadline_ns, slot, kind));
        }
    }

    /// The earliest deadline.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.entries.first().map(|entry| entry.0)
    }

    /// Removes and returns one timer that is due.
    pub(crate) fn pop_due(&mut self, now_ns: u64) -> Option<(u32, TimerKind)> {
        let first = *self.entries.first()?;
        if first.0 > now_ns {
            return None;
        }
        self.entries.remove(&first);
        Some((first.1, first.2))
    }
}
