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
const FIRST_SCAN: usize = 32;
/// A rest of so few messages is counted one by one.
const COUNTED_SINGLY: u64 = 128;
/// A subject costs about as much as this many messages.
const SUBJECT_COST: usize = 4;
/// So few messages that a purge keeps are found one by one.
const KEPT_SINGLY: u64 = 64;

impl Index {
    /// The first matching message at or after `from`.
    pub(crate) fn next_match(&self, filter: &Filter, from: u64) -> Option<u64> {
        if filter.is_all() {
            return self.rows.next(from).map(|(sequence, _)| sequence);
        }
        filter
            .members()
            .iter()
            .filter_map(|one| self.nearest(one, from, Direction::Up))
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
            .filter_map(|one| self.nearest(one, up_to, Direction::Down))
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
        if rest <= COUNTED_SINGLY {
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

    /// The oldest of the newest `keep` matching messages below `below`; `None` when there are not
    /// more than `keep`.
    pub(crate) fn keep_from(&self, filter: &Filter, below: u64, keep: u64) -> Option<u64> {
        let end = below.checked_sub(1)?.min(self.last_sequence);
        let later = self.count_from(filter, end.saturating_add(1));
        if self.count_from(filter, 0) - later <= keep {
            return None;
        }
        if keep <= KEPT_SINGLY {
            let mut kept = self.last_match(filter, end)?;
            for _ in 1..keep {
                kept = self.last_match(filter, kept.checked_sub(1)?)?;
            }
            return Some(kept);
        }
        // The highest sequence that `keep` of them are not before.
        let (mut low, mut high) = (self.first_sequence, end);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.count_from(filter, middle) - later >= keep {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        Some(low)
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
            let walked = self.subjects.walk(member, None, |entry| {
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
                .walk(&one.subject, None, |entry| -> ControlFlow<()> {
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

    fn nearest(&self, one: &One, from: u64, direction: Direction) -> Option<u64> {
        if one.literal {
            let entry = self.subjects.by_name(&one.subject)?;
            return direction.of_entry(entry, from);
        }
        let mut from = from;
        let mut budget = FIRST_SCAN;
        loop {
            match self.scan_for(one, from, direction, budget) {
                Scanned::Found(sequence) => return Some(sequence),
                Scanned::End => return None,
                Scanned::Until(next) => from = next,
            }
            if let Some(best) = self.best_of(one, from, direction, budget) {
                return best;
            }
            budget *= 2;
        }
    }

    /// Looks at so many messages one after the other.
    fn scan_for(&self, one: &One, from: u64, direction: Direction, budget: usize) -> Scanned {
        let mut left = budget;
        let visit = |sequence: u64, subject| {
            if self.subject_matches(subject, |name| one.matches(name)) {
                return ControlFlow::Break(Scanned::Found(sequence));
            }
            left -= 1;
            match direction.behind(sequence) {
                None => ControlFlow::Break(Scanned::End),
                Some(next) if left == 0 => ControlFlow::Break(Scanned::Until(next)),
                Some(_) => ControlFlow::Continue(()),
            }
        };
        let scanned = match direction {
            Direction::Up => self.rows.scan(from, visit),
            Direction::Down => self.rows.scan_back(from, visit),
        };
        scanned.break_value().unwrap_or(Scanned::End)
    }

    /// The best answer over all matching subjects, or `None` when there are too many to look at
    /// for this budget.
    fn best_of(
        &self,
        one: &One,
        from: u64,
        direction: Direction,
        budget: usize,
    ) -> Option<Option<u64>> {
        let mut left = budget / SUBJECT_COST;
        let mut best: Option<u64> = None;
        let walked = self.subjects.walk(&one.subject, None, |entry| {
            if let Some(answer) = direction.of_entry(entry, from) {
                best = Some(best.map_or(answer, |so_far| direction.nearer(so_far, answer)));
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

/// Which way a search goes through the stream.
#[derive(Clone, Copy, Debug)]
enum Direction {
    Up,
    Down,
}

/// How a scan ended.
enum Scanned {
    Found(u64),
    /// There is nothing more.
    End,
    /// Nothing before this one.
    Until(u64),
}

impl Direction {
    fn of_entry(self, entry: &Entry, from: u64) -> Option<u64> {
        match self {
            Self::Up => entry.next(from),
            Self::Down => entry.previous(from),
        }
    }

    fn nearer(self, one: u64, other: u64) -> u64 {
        match self {
            Self::Up => one.min(other),
            Self::Down => one.max(other),
        }
    }

    const fn behind(self, sequence: u64) -> Option<u64> {
        match self {
            Self::Up => sequence.checked_add(1),
            Self::Down => sequence.checked_sub(1),
        }
    }
}

fn any(members: &[One], subject: &[u8]) -> bool {
    members.iter().any(|one| one.matches(subject))
}
