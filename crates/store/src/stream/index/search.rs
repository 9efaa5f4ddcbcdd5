//! Finding messages by filter without reading what does not match.
//!
//! A literal costs a logarithm. A wildcard is answered in two ways that take turns, each with a
//! budget that doubles: looking at the messages that follow, and looking at the subjects that
//! match. The cost is within a factor of the cheaper one: dense filters find the next message at
//! once, sparse ones never walk the stream.

use super::{Entry, Index};
use crate::stream::filter::{Filter, One};
use crate::stream::types::SubjectState;
use std::ops::ControlFlow;

/// Messages looked at before subjects are tried for the first time.
const FIRST_SCAN: usize = 128;
/// A subject costs about as much as this many messages.
const SUBJECT_COST: usize = 4;

impl Index {
    /// The first matching message at or after `from`.
    pub(crate) fn next_match(&self, filter: &Filter, from: u64) -> Option<u64> {
        if filter.is_all() {
            return self.rows.next(from).map(|(sequence, _)| sequence);
        }
        filter
            .members()
            .iter()
            .filter_map(|one| self.next_of(one, from))
            .min()
    }

    /// The last matching message at or before `up_to`.
    pub(crate) fn last_match(&self, filter: &Filter, up_to: u64) -> Option<u64> {
        if filter.is_all() {
            return self
                .rows
                .scan_back(up_to, |sequence, _| ControlFlow::Break(sequence))
                .break_value();
        }
        filter
            .members()
            .iter()
            .filter_map(|one| self.previous_of(one, up_to))
            .max()
    }

    /// How many matching messages at or after `from`.
    pub(crate) fn count_from(&self, filter: &Filter, from: u64) -> u64 {
        let rest = if from <= self.first_sequence {
            self.messages
        } else if from > self.last_sequence {
            0
        } else {
            self.rows.count_from(from)
        };
        if filter.is_all() || rest == 0 {
            return rest;
        }
        if rest <= FIRST_SCAN as u64 {
            let mut count = 0;
            let _ = self.rows.scan(from, |_, subject| -> ControlFlow<()> {
                count += u64::from(self.subject_matches(subject, |name| filter.matches(name)));
                ControlFlow::Continue(())
            });
            return count;
        }
        let mut count = 0;
        self.for_each_entry(filter, |entry| count += entry.count_from(from));
        count
    }

    /// Visits every matching subject once, in token order.
    pub(crate) fn for_each_subject(
        &self,
        filter: &Filter,
        mut visit: impl FnMut(&[u8], SubjectState),
    ) {
        if filter.members().len() <= 1 {
            self.for_each_entry(filter, |entry| visit(entry.name(), entry.state()));
            return;
        }
        let mut found = Vec::new();
        self.for_each_entry(filter, |entry| found.push((entry.name(), entry.state())));
        found.sort_by(|(left, _), (right, _)| {
            millrace_subject::tokens(left).cmp(millrace_subject::tokens(right))
        });
        for (name, state) in found {
            visit(name, state);
        }
    }

    /// The newest message at or before `up_to` of every matching subject, ascending; `None` when
    /// there would be more than `limit`.
    pub(crate) fn last_per_subject(
        &self,
        filter: &Filter,
        up_to: u64,
        limit: usize,
    ) -> Option<Vec<u64>> {
        let mut found = Vec::new();
        let all: &[u8] = b">";
        let members = filter.subjects().chain(filter.is_all().then_some(all));
        for (position, member) in members.enumerate() {
            let earlier = filter.members().get(..position).unwrap_or_default();
            let walked = self.subjects.walk(member, |entry| {
                let newest = entry.previous(up_to);
                if let Some(newest) = newest.filter(|_| !any(earlier, entry.name())) {
                    found.push(newest);
                }
                if found.len() > limit {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            if walked.is_break() {
                return None;
            }
        }
        found.sort_unstable();
        Some(found)
    }

    /// Visits every matching subject once, in no promised order between members of the filter.
    fn for_each_entry<'a>(&'a self, filter: &Filter, mut visit: impl FnMut(&'a Entry)) {
        if filter.is_all() {
            self.subjects.for_each(visit);
            return;
        }
        let members = filter.members();
        for (position, one) in members.iter().enumerate() {
            if one.literal {
                let entry = self.subjects.by_name(&one.subject);
                if let Some(entry) = entry.filter(|entry| !any(&members[..position], entry.name()))
                {
                    visit(entry);
                }
                continue;
            }
            let _ = self
                .subjects
                .walk(&one.subject, |entry| -> ControlFlow<()> {
                    if !any(&members[..position], entry.name()) {
                        visit(entry);
                    }
                    ControlFlow::Continue(())
                });
        }
    }

    fn subject_matches(&self, subject: u32, matches: impl Fn(&[u8]) -> bool) -> bool {
        self.subjects
            .entry(subject)
            .is_some_and(|entry| matches(entry.name()))
    }

    fn next_of(&self, one: &One, from: u64) -> Option<u64> {
        if one.literal {
            return self
                .subjects
                .by_name(&one.subject)
                .and_then(|entry| entry.next(from));
        }
        let mut from = from;
        let mut budget = FIRST_SCAN;
        loop {
            let mut left = budget;
            let scanned = self.rows.scan(from, |sequence, subject| {
                if self.subject_matches(subject, |name| one.matches(name)) {
                    return ControlFlow::Break(Some(sequence));
                }
                from = sequence + 1;
                left -= 1;
                if left == 0 {
                    ControlFlow::Break(None)
                } else {
                    ControlFlow::Continue(())
                }
            });
            match scanned {
                ControlFlow::Break(Some(sequence)) => return Some(sequence),
                ControlFlow::Continue(()) => return None,
                ControlFlow::Break(None) => {}
            }
            if let Some(best) = self.best_of(one, budget, u64::min, |entry| entry.next(from)) {
                return best;
            }
            budget *= 2;
        }
    }

    fn previous_of(&self, one: &One, up_to: u64) -> Option<u64> {
        if one.literal {
            return self
                .subjects
                .by_name(&one.subject)
                .and_then(|entry| entry.previous(up_to));
        }
        let mut up_to = up_to;
        let mut budget = FIRST_SCAN;
        loop {
            let mut left = budget;
            let scanned = self.rows.scan_back(up_to, |sequence, subject| {
                if self.subject_matches(subject, |name| one.matches(name)) {
                    return ControlFlow::Break(Some(sequence));
                }
                up_to = sequence.saturating_sub(1);
                left -= 1;
                if left == 0 {
                    ControlFlow::Break(None)
                } else {
                    ControlFlow::Continue(())
                }
            });
            match scanned {
                ControlFlow::Break(Some(sequence)) => return Some(sequence),
                ControlFlow::Continue(()) => return None,
                ControlFlow::Break(None) => {}
            }
            if let Some(best) = self.best_of(one, budget, u64::max, |entry| entry.previous(up_to)) {
                return best;
            }
            budget *= 2;
        }
    }

    /// The best answer over all matching subjects, or `None` when there are too many to look at
    /// for this budget.
    fn best_of(
        &self,
        one: &One,
        budget: usize,
        better: fn(u64, u64) -> u64,
        ask: impl Fn(&Entry) -> Option<u64>,
    ) -> Option<Option<u64>> {
        let mut left = budget / SUBJECT_COST;
        let mut best: Option<u64> = None;
        let walked = self.subjects.walk(&one.subject, |entry| {
            if let Some(answer) = ask(entry) {
                best = Some(best.map_or(answer, |so_far| better(so_far, answer)));
            }
            left = left.saturating_sub(1);
            if left == 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        walked.is_continue().then_some(best)
    }
}

fn any(members: &[One], subject: &[u8]) -> bool {
    members.iter().any(|one| one.matches(subject))
}
