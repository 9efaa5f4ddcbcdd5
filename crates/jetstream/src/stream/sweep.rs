//! Removing many messages for one entry: a purge, a limit that was lowered, messages that are due.
//! What does not fit the step under way (`stepping.rs`) goes on in the next ones, before anything
//! else of the entry: what it leaves does not depend on how the steps fell.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use millrace_store::stream::{Filter, Purge, PurgeCursor};

use super::Stream;
use crate::request::{Outcome, PendingRequest};

/// Deadlines of purged messages that are freed in one step.
const FREED_PER_STEP: usize = 4_096;

/// What the entry under way is still to remove.
#[derive(Debug, Default)]
pub(crate) struct Sweeps {
    waiting: VecDeque<Sweep>,
    /// Requests that end with the entry under way.
    pub(super) finished: Vec<(PendingRequest, Outcome)>,
    /// Deadlines of messages that were purged, to be freed.
    gone: Vec<Deadlines>,
}

type Deadlines = (BTreeSet<(i64, u64)>, BTreeMap<u64, i64>);

/// Messages to be removed.
#[derive(Debug)]
pub(super) enum Sweep {
    Purge {
        cursor: PurgeCursor,
        filter: Option<Filter>,
        /// The proposal whose request ends with it.
        own: Option<u64>,
    },
    /// The oldest ones, until the stream is within its limits.
    Limits,
    /// The oldest of a subject, until it is within its limit.
    SubjectLimit(Bytes),
    /// The same for all subjects after this one.
    SubjectLimits(Option<Bytes>),
    /// All that is due at this time.
    Expire { now_ns: i64 },
    /// What nobody needs any more, from this sequence on.
    Unneeded(u64),
}

impl Sweeps {
    /// Nothing is left to remove.
    pub(super) fn are_done(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Something that was purged is still to be freed.
    pub(super) fn has_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    /// Frees some of it.
    pub(super) fn free(&mut self) {
        let mut left = FREED_PER_STEP;
        while let Some((by_time, by_sequence)) = self.gone.last_mut() {
            while by_time.pop_last().is_some() || by_sequence.pop_last().is_some() {
                left -= 1;
                if left == 0 {
                    return;
                }
            }
            self.gone.pop();
        }
    }
}

impl Stream {
    /// Items that the step under way may still look at.
    pub(super) fn items_left(&self) -> usize {
        self.step_items.saturating_sub(self.apply_items)
    }

    /// Goes on with what is to be removed; false when the step ends before all is.
    pub(super) fn advance_sweeps(&mut self) -> bool {
        while let Some(sweep) = self.sweeps.waiting.pop_front() {
            if self.items_left() == 0 {
                self.sweeps.waiting.push_front(sweep);
                return false;
            }
            self.step(sweep);
        }
        true
    }

    /// Removes now what fits the step, and the rest later.
    pub(super) fn sweep(&mut self, sweep: Sweep) {
        if self.sweeps.are_done() && self.items_left() > 0 {
            self.step(sweep);
        } else {
            self.sweeps.waiting.push_back(sweep);
        }
    }

    /// Begins a purge. `own`: the proposal whose request ends with it.
    pub(super) fn sweep_purge(
        &mut self,
        filter: Option<&Filter>,
        below: Option<u64>,
        keep: u64,
        own: Option<u64>,
    ) {
        let purge = Purge {
            filter,
            below,
            keep,
        };
        let cursor = self.store.begin_purge(purge);
        let filter = filter.cloned();
        self.sweep(Sweep::Purge {
            cursor,
            filter,
            own,
        });
    }

    /// Does as much of a sweep as the step may, and puts what is left of it in front.
    fn step(&mut self, sweep: Sweep) {
        let rest = match sweep {
            Sweep::Purge {
                cursor,
                filter,
                own,
            } => self.step_purge(cursor, filter, own),
            Sweep::Limits => self.step_limits(),
            Sweep::SubjectLimit(subject) => self.step_subject_limit(subject),
            Sweep::SubjectLimits(after) => return self.step_subject_limits(after),
            Sweep::Expire { now_ns } => self.step_expiry(now_ns),
            Sweep::Unneeded(from) => self.step_unneeded(from),
        };
        if let Some(rest) = rest {
            self.sweeps.waiting.push_front(rest);
        }
    }

    fn step_purge(
        &mut self,
        mut cursor: PurgeCursor,
        filter: Option<Filter>,
        own: Option<u64>,
    ) -> Option<Sweep> {
        let mut gone = Vec::new();
        let items = self.items_left();
        let done = self.store.step_purge(&mut cursor, items, |removed| {
            gone.push(removed.sequence);
        });
        for sequence in &gone {
            self.forget_deadline(*sequence);
        }
        if !done {
            self.apply_items = self.step_items;
            return Some(Sweep::Purge {
                cursor,
                filter,
                own,
            });
        }
        self.apply_items += gone.len();
        let purged = cursor.purged().messages;
        if purged > 0 {
            if self.store.state().messages == 0 {
                self.forget_all_deadlines();
            }
            self.consumers_purged(filter.as_ref());
        }
        // A purge below a sequence that does not exist yet moves the next one there.
        let last = self.store.state().last_sequence;
        self.lead.last_sequence = self.lead.last_sequence.max(last);
        self.finish(own, |stream| Outcome::StreamPurged { stream, purged });
        None
    }

    /// The stream is empty: its deadlines are freed later.
    fn forget_all_deadlines(&mut self) {
        self.schedules.clear();
        self.lingering.clear();
        self.lead.leaving.clear();
        if !self.deadline_of.is_empty() {
            let by_time = std::mem::take(&mut self.deadlines);
            let by_sequence = std::mem::take(&mut self.deadline_of);
            self.sweeps.gone.push((by_time, by_sequence));
        }
    }

    fn step_limits(&mut self) -> Option<Sweep> {
        while let Some(oldest) = self.over_limits() {
            if self.items_left() == 0 {
                return Some(Sweep::Limits);
            }
            // Removing counts as an item.
            self.remove(oldest)?;
        }
        None
    }

    fn step_subject_limit(&mut self, subject: Bytes) -> Option<Sweep> {
        while let Some(oldest) = self.over_subject_limit(&subject) {
            if self.items_left() == 0 {
                return Some(Sweep::SubjectLimit(subject));
            }
            // Removing counts as an item.
            self.remove(oldest)?;
        }
        None
    }

    fn step_subject_limits(&mut self, after: Option<Bytes>) {
        let limit = self.config.max_msgs_per_subject;
        let mut full = Vec::new();
        let steps = self.items_left();
        let next = self
            .store
            .walk_subjects(b">", after.as_deref(), steps, |subject, state| {
                if limit > 0 && state.count > limit.unsigned_abs() {
                    full.push(Sweep::SubjectLimit(subject.clone()));
                }
            });
        if next.is_some() {
            self.apply_items = self.step_items;
        }
        full.extend(next.map(|after| Sweep::SubjectLimits(Some(after))));
        for sweep in full.into_iter().rev() {
            self.sweeps.waiting.push_front(sweep);
        }
    }

    fn step_expiry(&mut self, now_ns: i64) -> Option<Sweep> {
        loop {
            let Some(due) = self.next_expired(now_ns) else {
                self.lead.expire_pending = false;
                return None;
            };
            if self.items_left() == 0 {
                return Some(Sweep::Expire { now_ns });
            }
            self.apply_items += 1;
            self.remove_expired(due);
        }
    }

    fn step_unneeded(&mut self, from: u64) -> Option<Sweep> {
        let all = Filter::all();
        let mut from = from;
        while let Some(sequence) = self.store.next_match(&all, from) {
            if self.items_left() == 0 {
                return Some(Sweep::Unneeded(sequence));
            }
            self.apply_items += 1;
            self.remove_if_unneeded(sequence);
            from = sequence + 1;
        }
        None
    }
}
