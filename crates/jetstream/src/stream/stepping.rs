//! Applying in steps: one call does a bounded share, so that a large batch does not hold up other
//! streams. What an entry does is in `apply.rs`, removing many messages in `sweep.rs`.
//!
//! Until an entry is applied whole, the stream stands between two states: [`Stream::is_applying`].
//! Whoever reads it waits then (`engine.rs`), so that all of a batch becomes visible at once. Entries
//! behind it wait in the backlog; what publishers are told meanwhile comes from staged state.

use std::vec::IntoIter;

use super::Stream;
use super::apply::{Committed, Incoming};
use crate::batch::AssembledPart;
use crate::entry::{MessagePlace, Operation, decode_head};
use crate::io::{Effect, LogLevel};
use crate::shared::Turn;

/// An entry that is applied in part.
#[derive(Debug)]
pub(crate) struct Applying {
    pub(super) entry: Committed,
    /// Its number, if it was proposed here.
    pub(super) own: Option<u64>,
    operations: IntoIter<Operation>,
    /// What is left of the batch under way.
    pub(super) messages: Option<Messages>,
}

/// Messages that are stored one after the other.
#[derive(Debug)]
pub(super) enum Messages {
    /// Of the entry.
    Entry(IntoIter<MessagePlace>),
    /// Of a chain: its parts, and the next message's part and place.
    Chain(Vec<AssembledPart>, usize, usize),
}

impl Messages {
    fn next<'a>(&'a mut self, entry: &'a Committed) -> Option<Incoming<'a>> {
        match self {
            Self::Entry(places) => places
                .next()
                .map(|place| Incoming::of_entry(&entry.data, place, entry.position)),
            Self::Chain(parts, part, place) => {
                while *place >= parts.get(*part)?.messages.len() {
                    (*part, *place) = (*part + 1, 0);
                }
                *place += 1;
                Incoming::of_part(parts.get(*part)?, *place - 1)
            }
        }
    }
}

impl Stream {
    /// An entry is applied in part.
    #[must_use]
    pub fn is_applying(&self) -> bool {
        self.applying.is_some()
    }

    /// There is more to apply: [`Stream::advance_apply`] goes on.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.applying.is_some() || !self.backlog.is_empty()
    }

    /// Takes one entry and applies as much as one step may. Entries come in order of their index;
    /// one that is applied already is ignored.
    pub fn apply(&mut self, turn: &mut Turn<'_>, entry: &Committed) {
        if self.hold(turn, entry) {
            return;
        }
        let idle = !self.is_behind();
        // As many as the log has on its way to us.
        self.backlog.push_back(entry.clone());
        if idle {
            self.advance_apply(turn);
        }
    }

    /// One step. It ends at the latest with the entry that it found begun.
    pub fn advance_apply(&mut self, turn: &mut Turn<'_>) {
        self.apply_items = 0;
        self.step_items = turn.shared.items_per_step;
        let begun = self.applying.is_some();
        while self.items_left() > 0 {
            let Some(mut applying) = self.applying.take().or_else(|| self.next_entry(turn)) else {
                break;
            };
            if self.apply_share(turn, &mut applying) {
                self.entry_applied(turn, &applying);
                if begun {
                    // Who waited for it has a look before the next one begins.
                    break;
                }
            } else {
                self.applying = Some(applying);
            }
        }
        self.lead.held = !self.sweeps.are_done();
        if !self.is_behind() && std::mem::take(&mut self.lead_when_level) {
            self.start_leading(turn);
        }
    }

    /// Begins the next entry that is not applied yet.
    fn next_entry(&mut self, turn: &mut Turn<'_>) -> Option<Applying> {
        loop {
            let entry = self.backlog.pop_front()?;
            if self.quarantined || entry.index <= self.applied_index {
                continue;
            }
            match self.begin_entry(turn, entry.clone()) {
                Ok(applying) => return Some(applying),
                Err(error) => {
                    self.quarantined = true;
                    let text = format!(
                        "JetStream stream '{}': entry {} cannot be read: {error}; the stream takes no more writes",
                        self.name, entry.index
                    );
                    turn.effects.push(Effect::Log {
                        level: LogLevel::Error,
                        text,
                    });
                }
            }
        }
    }

    fn begin_entry(
        &mut self,
        turn: &Turn<'_>,
        entry: Committed,
    ) -> Result<Applying, crate::entry::DecodeError> {
        let open = self.assembly.as_ref();
        if entry.data.is_empty() || open.is_some_and(|open| open.term() != entry.term) {
            self.assembly = None;
        }
        let mut applying = Applying {
            entry,
            own: None,
            operations: Vec::new().into_iter(),
            messages: None,
        };
        if applying.entry.data.is_empty() {
            return Ok(applying);
        }
        let (head, operations) = decode_head(&applying.entry.data)?;
        // Read whole before anything is done: an entry applies as one.
        applying.operations = operations.collect::<Result<Vec<_>, _>>()?.into_iter();
        let own = self.lead.is_leader && head.origin == turn.shared.origin;
        applying.own = own.then_some(head.number);
        Ok(applying)
    }

    /// Does what the step still may; true when the entry is applied.
    fn apply_share(&mut self, turn: &mut Turn<'_>, applying: &mut Applying) -> bool {
        let own = applying.own.is_some();
        loop {
            // What is to be removed goes before what comes after it.
            if !self.advance_sweeps() {
                return false;
            }
            if self.items_left() == 0 && !applying.is_done() {
                return false;
            }
            if let Some(messages) = &mut applying.messages {
                match messages.next(&applying.entry) {
                    Some(incoming) => self.store_message(&incoming, own),
                    None => applying.messages = None,
                }
                continue;
            }
            let Some(operation) = applying.operations.next() else {
                return true;
            };
            if !matches!(operation, Operation::Part { .. } | Operation::Commit(_)) {
                self.assembly = None;
            }
            self.apply_operation(turn, applying, operation);
        }
    }

    fn entry_applied(&mut self, turn: &mut Turn<'_>, applying: &Applying) {
        if let Some(number) = applying.own {
            self.lead.applied = self.lead.applied.max(number);
        }
        self.applied_index = applying.entry.index;
        self.applied_term = applying.entry.term;
        if !applying.entry.data.is_empty() {
            self.note_changed();
            self.ahead.changed(turn.now.monotonic_ns);
        }
        self.account(turn.shared);
        turn.shared.finished.append(&mut self.sweeps.finished);
        self.lead.held = false;
        self.resume_checkpoint(turn);
        if self.lead.is_leader {
            self.publish_again(turn);
            self.replace_expired(turn);
            self.release_answers(turn);
            self.advance_commit(turn);
            self.drain_inbox(turn);
        }
        self.end_start(turn);
    }
}

impl Applying {
    fn is_done(&self) -> bool {
        self.messages.is_none() && self.operations.len() == 0
    }
}
