//! Markers of subjects that expired (spec jetstream/01 §7): when the last message of a subject is due
//! and `subject_delete_marker_ttl` is set, an empty message takes its place, so that who watches the
//! subject learns of it.
//!
//! Applying an expiry leaves such messages *lingering*, which follows from the state alone. The leader
//! then reads them and logs what replaces each: a marker, whose roll-up removes it, or nothing.

use millrace_clock::{Now, go_duration};
use millrace_store::stream::Lookup;

use super::Stream;
use crate::entry::{MessageParts, Operation};
use crate::io::Durability;
use crate::publish::header_value;
use crate::shared::Turn;

/// Markers that are put on their way in one turn.
const MARKERS_PER_TURN: usize = 1_000;
/// How long to wait for what is under way on a subject, or for a read.
const RETRY_NS: u64 = 50 * Now::MILLISECOND_NS;
const SECOND_NS: i64 = 1_000_000_000;

/// What replaces a message that lingers.
enum Replacement {
    Marker,
    Nothing,
    /// To be asked again.
    Unknown,
}

impl Stream {
    /// Whether a message that is due must wait for what replaces it: it is the last of its subject.
    pub(super) fn must_linger(&self, sequence: u64) -> bool {
        if self.config.subject_delete_marker_ttl_ns <= 0 {
            return false;
        }
        let last = self
            .store
            .subject_of(sequence)
            .and_then(|subject| self.store.last_of(subject));
        last == Some(sequence)
    }

    /// Monotonic time at which the leader must look at what lingers.
    pub(super) fn marker_deadline(&self) -> Option<u64> {
        if self.lingering.is_empty() || self.lead.commit.is_some() || self.is_waiting_for_index() {
            return None;
        }
        let leaving = &self.lead.leaving;
        let waiting = self
            .lingering
            .iter()
            .any(|sequence| !leaving.contains(sequence));
        waiting.then_some(self.lead.next_marking_ns)
    }

    /// Logs what replaces messages that linger.
    pub(super) fn replace_expired(&mut self, turn: &mut Turn<'_>) {
        let now_ns = turn.now.monotonic_ns;
        if self.marker_deadline().is_none_or(|at_ns| at_ns > now_ns) {
            return;
        }
        if !self.store.is_loaded() {
            self.want_index(turn.shared);
            return;
        }
        if self.lead.is_barred() {
            self.lead.next_marking_ns = turn.now.after_ns(RETRY_NS);
            return;
        }
        let leaving = &self.lead.leaving;
        let waiting = self.lingering.iter().copied();
        let waiting = waiting.filter(|sequence| !leaving.contains(sequence));
        let waiting: Vec<u64> = waiting.take(MARKERS_PER_TURN).collect();
        for sequence in waiting {
            match self.replacement_of(sequence) {
                Replacement::Unknown => {
                    self.lead.next_marking_ns = turn.now.after_ns(RETRY_NS);
                    continue;
                }
                Replacement::Marker if self.put_marker(turn, sequence) => {}
                Replacement::Marker | Replacement::Nothing => {
                    self.lead
                        .stage(&Operation::Remove { sequence }, Durability::Lazy);
                }
            }
            self.lead.leaving.insert(sequence);
        }
    }

    fn replacement_of(&mut self, sequence: u64) -> Replacement {
        let Some(subject) = self.store.subject_of(sequence) else {
            return Replacement::Nothing;
        };
        if self.lead.flight.messages_of(subject) > 0 {
            return Replacement::Unknown;
        }
        if !self.must_linger(sequence) {
            return Replacement::Nothing;
        }
        let message = match self.store.get(sequence) {
            Lookup::Loading => return Replacement::Unknown,
            Lookup::Ready(Err(_)) => return Replacement::Nothing,
            Lookup::Ready(Ok(message)) => message,
        };
        let is_marker = header_value(&message.headers, b"Nats-Marker-Reason").is_some();
        let is_purge = header_value(&message.headers, b"KV-Operation") == Some(b"PURGE");
        if is_marker || is_purge {
            Replacement::Nothing
        } else {
            Replacement::Marker
        }
    }

    fn put_marker(&mut self, turn: &mut Turn<'_>, sequence: u64) -> bool {
        let Some(subject) = self.store.subject_of(sequence).cloned() else {
            return false;
        };
        let ttl_ns = self.config.subject_delete_marker_ttl_ns;
        // A marker lives whole seconds.
        let ttl = go_duration::format(ttl_ns - ttl_ns % SECOND_NS);
        let headers = format!(
            "NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\nNats-TTL: {ttl}\r\nNats-Rollup: sub\r\n\r\n"
        );
        let parts = MessageParts {
            subject: &subject,
            headers: headers.as_bytes(),
            payload: b"",
            note: b"",
        };
        self.store_own(turn, parts, Vec::new())
    }
}
