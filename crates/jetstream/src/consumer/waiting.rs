//! The waiting pull requests of a consumer: a queue served round robin, bounded by `max_waiting`.

use std::collections::VecDeque;

use bytes::Bytes;

use super::status::Unused;

/// One waiting request. Times are monotonic nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) reply: Bytes,
    /// Messages still wanted.
    pub(super) left: u64,
    /// The request named no number: it gets one message, but its statuses say 0.
    pub(super) unnumbered: bool,
    pub(super) delivered: u64,
    pub(super) expires_ns: Option<u64>,
    pub(super) no_wait: bool,
    /// Bytes left of `max_bytes`; `None` = not limited.
    pub(super) bytes_left: Option<u64>,
    /// 0 = none.
    pub(super) heartbeat_ns: u64,
    pub(super) next_heartbeat_ns: u64,
    /// Index of its priority group; 0 without groups.
    pub(super) group: usize,
    pub(super) id: String,
    pub(super) min_pending: u64,
    pub(super) min_ack_pending: u64,
    pub(super) priority: u8,
}

impl Request {
    pub(super) fn unused(&self) -> Unused {
        Unused {
            messages: if self.unnumbered { 0 } else { self.left },
            bytes: self.bytes_left.unwrap_or(0),
        }
    }

    pub(super) fn is_expired(&self, now_ns: u64) -> bool {
        self.expires_ns
            .is_some_and(|expires_ns| expires_ns <= now_ns)
    }

    fn deadline_ns(&self) -> Option<u64> {
        let heartbeat = (self.heartbeat_ns > 0).then_some(self.next_heartbeat_ns);
        match (heartbeat, self.expires_ns) {
            (Some(heartbeat), Some(expires)) => Some(heartbeat.min(expires)),
            (heartbeat, expires) => heartbeat.or(expires),
        }
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queue: VecDeque<Request>,
    /// Never later than the earliest deadline in the queue; earlier is harmless.
    deadline_ns: Option<u64>,
    /// How many have `no_wait`.
    one_shots: usize,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Messages wanted by all requests together.
    pub(super) fn messages_wanted(&self) -> u64 {
        self.queue
            .iter()
            .map(|request| request.left)
            .fold(0, u64::saturating_add)
    }

    /// Adds a request at the end of its turn: behind all, or (prioritized) behind those of the
    /// same or a lower number.
    pub(super) fn push(&mut self, request: Request, by_priority: bool) {
        let deadline = request.deadline_ns();
        self.one_shots += usize::from(request.no_wait);
        self.deadline_ns = match (self.deadline_ns, deadline) {
            (Some(old), Some(new)) => Some(old.min(new)),
            (old, new) => old.or(new),
        };
        if by_priority {
            let place = self
                .queue
                .partition_point(|other| other.priority <= request.priority);
            self.queue.insert(place, request);
        } else {
            self.queue.push_back(request);
        }
    }

    /// Takes the first request that `eligible` accepts.
    pub(super) fn take(&mut self, eligible: impl FnMut(&Request) -> bool) -> Option<Request> {
        let index = self.queue.iter().position(eligible)?;
        let request = self.queue.remove(index)?;
        self.one_shots -= usize::from(request.no_wait);
        Some(request)
    }

    /// Whether any request has `no_wait`.
    pub(super) const fn has_one_shots(&self) -> bool {
        self.one_shots > 0
    }

    /// Whether any request is eligible.
    pub(super) fn any(&self, eligible: impl FnMut(&Request) -> bool) -> bool {
        self.queue.iter().any(eligible)
    }

    /// Takes all requests out.
    pub(super) fn drain(&mut self) -> VecDeque<Request> {
        self.deadline_ns = None;
        self.one_shots = 0;
        std::mem::take(&mut self.queue)
    }

    /// Keeps the requests for which `keep` says so (it may change them) and looks at deadlines.
    pub(super) fn retain(&mut self, keep: impl FnMut(&mut Request) -> bool) {
        self.queue.retain_mut(keep);
        self.one_shots = self.queue.iter().filter(|request| request.no_wait).count();
        self.deadline_ns = self.queue.iter().filter_map(Request::deadline_ns).min();
    }

    /// When a request expires or wants a heartbeat, at the earliest.
    pub(super) const fn deadline_ns(&self) -> Option<u64> {
        self.deadline_ns
    }
}
