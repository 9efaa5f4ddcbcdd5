//! A stream that is being restored: what comes from a backup goes through its log like everything
//! else, under the sequences it had. Nobody sees the stream until [`Stream::activate`]; where the
//! backup comes from is the business of `crate::backup`.

use bytes::Bytes;

use super::Stream;
use super::apply::{Committed, Incoming};
use crate::consumer::{Consumer, Settings};
use crate::entry::{Decision, MessageParts, Operation, Restored};
use crate::io::{Durability, Effect, LogLevel};
use crate::model::ConsumerConfig;
use crate::shared::Turn;

/// Entries of about this size: large enough for the disk, small enough for one step.
const ENTRY_BYTES: usize = 256 << 10;

/// On the leader.
impl Stream {
    /// Writes a message to the log, to be stored under its own sequence.
    pub(crate) fn restore_message(
        &mut self,
        turn: &mut Turn<'_>,
        sequence: u64,
        decision: Decision,
        parts: MessageParts<'_>,
    ) {
        let writer = &mut self.lead.writer;
        writer.restore_message(sequence, decision, parts);
        self.lead.mark_urgent();
        if self.lead.writer.length() >= ENTRY_BYTES {
            self.lead.propose(self.id, turn);
        }
    }

    /// Writes what is not a message.
    pub(crate) fn restore_piece(&mut self, piece: Restored) {
        self.lead.stage(&Operation::Restore(piece), Durability::Now);
    }

    /// Proposals that are not applied yet, the one being collected included.
    pub(crate) fn restore_backlog(&self) -> u64 {
        self.lead.current() - self.lead.applied.min(self.lead.current())
    }

    /// All is restored and applied: the stream goes to work.
    pub(crate) fn activate(&mut self, turn: &mut Turn<'_>) {
        self.restoring = false;
        if !self.lead.is_leader {
            return;
        }
        let state = self.store.state();
        self.lead.last_sequence = state.last_sequence;
        self.lead.last_time_ns = state.last_time_ns;
        self.lead.last_message_id = self.last_message_id.clone();
        self.begin_copying(turn);
        self.lead_consumers(turn);
        if !self.bound {
            self.bind_all(turn, true);
        }
    }
}

/// On every replica.
impl Stream {
    pub(super) fn apply_restored(
        &mut self,
        turn: &mut Turn<'_>,
        entry: &Committed,
        restored: Restored,
    ) {
        match restored {
            Restored::Message { sequence, place } => {
                let last = self.store.state().last_sequence;
                if sequence <= last {
                    return;
                }
                if sequence > last + 1 {
                    self.store.skip(sequence - 1, 0);
                }
                self.note_position(place.parts(&entry.data).headers);
                let incoming = Incoming::of_entry(&entry.data, place, entry.position);
                self.store_message(&incoming, false);
            }
            Restored::End { last_sequence } => {
                if last_sequence > self.store.state().last_sequence {
                    self.store.skip(last_sequence, 0);
                }
            }
            Restored::Consumer {
                created_ns,
                name,
                config,
                snapshot,
            } => {
                let name = String::from_utf8_lossy(&name).into_owned();
                if self
                    .restore_consumer(turn, &name, created_ns, &config, &snapshot)
                    .is_none()
                {
                    let text = format!("JetStream consumer '{} > {name}': unreadable", self.name);
                    turn.effects.push(Effect::Log {
                        level: LogLevel::Error,
                        text,
                    });
                }
            }
        }
    }

    fn restore_consumer(
        &mut self,
        turn: &Turn<'_>,
        name: &str,
        created_ns: i64,
        config: &Bytes,
        snapshot: &Bytes,
    ) -> Option<()> {
        let config: ConsumerConfig = serde_json::from_slice(config).ok()?;
        if self.consumers.contains_key(name) {
            return None;
        }
        let settings = Settings::from_config(name, &config, self.facts(&config));
        let consumer = Consumer::restore(settings, snapshot).ok()?;
        let place = self.place(&turn.shared.domain);
        self.insert_consumer(name, config, created_ns, consumer, place);
        Some(())
    }
}
