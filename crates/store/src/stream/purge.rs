//! Purging in steps. What is to go is fixed when the purge begins; a stream that is emptied
//! changes its index for a new one, so that it is empty at once and the old one is freed later.

use super::filter::{Filter, One};
use super::index::{Index, NextSubject};
use super::tail::Bodies;
use super::{Purge, Purged, Removed, StreamStore};
use bytes::Bytes;

/// A purge under way. What it is to remove is fixed; nothing may be appended before it has ended
/// ([`StreamStore::step_purge`] says so), or new messages could fall to it.
#[derive(Clone, Debug)]
pub struct PurgeCursor {
    filter: Filter,
    /// Messages from here on stay.
    below: u64,
    /// Where the last sequence moves at the end.
    skip_to: Option<u64>,
    /// The stream counts as purged at the end, even if it never held a message.
    empties: bool,
    place: Place,
    purged: Purged,
}

#[derive(Clone, Debug)]
enum Place {
    /// Every message, from this sequence on.
    Sequence(u64),
    /// The messages of matching subjects: of this member of the filter, after this subject, or,
    /// once it is found, of it.
    Subject {
        member: usize,
        after: Option<Bytes>,
        within: bool,
    },
    End,
}

/// What was taken out at once and is freed in steps.
#[derive(Debug)]
pub(super) struct Leftovers {
    pub(super) index: Index,
    pub(super) bodies: Bodies,
}

impl PurgeCursor {
    /// What was removed so far.
    #[must_use]
    pub const fn purged(&self) -> Purged {
        self.purged
    }
}

/// All of these need a loaded store ([`Self::ensure_loaded`]).
impl StreamStore {
    /// Begins a purge. Without filter and `keep`, a `below` beyond the end also moves
    /// `last_sequence` to `below - 1`.
    pub fn begin_purge(&mut self, purge: Purge<'_>) -> PurgeCursor {
        let filter = purge.filter.cloned().unwrap_or_default();
        let mut cursor = PurgeCursor {
            below: purge.below.unwrap_or(u64::MAX),
            skip_to: None,
            empties: false,
            place: if filter.is_all() {
                Place::Sequence(0)
            } else {
                Place::Subject {
                    member: 0,
                    after: None,
                    within: false,
                }
            },
            purged: Purged::default(),
            filter,
        };
        if purge.keep > 0 {
            match self
                .index
                .keep_from(&cursor.filter, cursor.below, purge.keep)
            {
                Some(oldest_kept) => cursor.below = oldest_kept,
                None => cursor.place = Place::End,
            }
        } else if cursor.filter.is_all() {
            cursor.skip_to = purge.below.map(|below| below.saturating_sub(1));
            cursor.empties = purge.below.is_none();
            if cursor.below > self.index.state().last_sequence && self.flush.is_none() {
                cursor.purged = self.clear();
                cursor.place = Place::End;
            }
        }
        cursor
    }

    /// Goes on with a purge for about `steps` messages and subjects, and tells of every message
    /// (not of those that went at once). True when it has ended.
    pub fn step_purge(
        &mut self,
        cursor: &mut PurgeCursor,
        steps: usize,
        mut visit: impl FnMut(&Removed),
    ) -> bool {
        let mut left = steps.max(1);
        while left > 0 {
            let Some(next) = self.next_to_purge(cursor, &mut left) else {
                continue;
            };
            let Some(sequence) = next else {
                self.end_purge(cursor);
                return true;
            };
            left = left.saturating_sub(1);
            if let Some(removed) = self.remove(sequence) {
                cursor.purged.messages += 1;
                cursor.purged.bytes += removed.size;
                visit(&removed);
            }
        }
        false
    }

    /// Takes out what `purge` says in one go and tells of every message that did not go at once.
    pub fn purge(&mut self, purge: Purge<'_>, mut visit: impl FnMut(&Removed)) -> Purged {
        let mut cursor = self.begin_purge(purge);
        while !self.step_purge(&mut cursor, usize::MAX, &mut visit) {}
        cursor.purged
    }

    /// Frees some of what was purged at once, about so many messages. True while there is more.
    pub(super) fn free_purged(&mut self, messages: usize) -> bool {
        if let Some(leftovers) = self.leftovers.last_mut()
            && leftovers.bodies.free(messages)
            && leftovers.index.free(messages)
        {
            self.leftovers.pop();
        }
        !self.leftovers.is_empty()
    }

    /// Whether something that was purged at once is still to be freed.
    pub(super) const fn has_purged(&self) -> bool {
        !self.leftovers.is_empty()
    }

    /// The next message that goes: `Some(None)` when there is none, `None` when the steps are used
    /// up or there is more to look at.
    fn next_to_purge(&self, cursor: &mut PurgeCursor, left: &mut usize) -> Option<Option<u64>> {
        match &mut cursor.place {
            Place::End => Some(None),
            Place::Sequence(from) => {
                let next = self.index.rows.next(*from).map(|(sequence, _)| sequence);
                let next = next.filter(|next| *next < cursor.below);
                match next {
                    Some(next) => *from = next + 1,
                    None => cursor.place = Place::End,
                }
                Some(next)
            }
            Place::Subject {
                member,
                after,
                within,
            } => {
                let Some(one) = cursor.filter.members().get(*member) else {
                    cursor.place = Place::End;
                    return Some(None);
                };
                if *within {
                    let entry = after
                        .as_ref()
                        .and_then(|name| self.index.subjects.by_name(name));
                    let first = entry.map(|entry| entry.state().first);
                    let first = first.filter(|first| *first < cursor.below);
                    *within = first.is_some();
                    return first.map(Some);
                }
                match self.next_subject(one, after.as_deref(), left) {
                    NextSubject::Found(entry) => {
                        *within = true;
                        *after = Some(entry.name().clone());
                    }
                    NextSubject::Pause(name) => *after = Some(name.clone()),
                    NextSubject::End => {
                        (*member, *after) = (*member + 1, None);
                    }
                }
                None
            }
        }
    }

    fn next_subject(&self, one: &One, after: Option<&[u8]>, left: &mut usize) -> NextSubject<'_> {
        if !one.literal {
            return self.index.subjects.next_match(&one.subject, after, left);
        }
        *left = left.saturating_sub(1);
        let entry = self.index.subjects.by_name(&one.subject);
        match entry.filter(|_| after.is_none()) {
            Some(entry) => NextSubject::Found(entry),
            None => NextSubject::End,
        }
    }

    fn end_purge(&mut self, cursor: &mut PurgeCursor) {
        if let Some(to_sequence) = cursor.skip_to.take() {
            self.index.skip(to_sequence, 0);
        }
        if std::mem::take(&mut cursor.empties) {
            self.index.note_purged();
        }
    }

    /// Empties the store at once. No flush may be under way: it would miss what it has to write.
    fn clear(&mut self) -> Purged {
        let state = self.index.state();
        if state.messages == 0 {
            return Purged::default();
        }
        let index = self.index.clear();
        let bodies = std::mem::take(&mut self.tail).into_bodies();
        self.leftovers.push(Leftovers { index, bodies });
        for segment in self.segments.values_mut() {
            (segment.live_messages, segment.live_bytes) = (0, 0);
        }
        self.damaged.clear();
        self.suspects.clear();
        Purged {
            messages: state.messages,
            bytes: state.bytes,
        }
    }
}
