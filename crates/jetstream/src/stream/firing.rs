//! What schedules do when their time has come: the leader makes the message that is due and logs it
//! together with when the schedule is due next, so that a restart neither repeats nor forgets one
//! (hard-parts 7). The timetable is `crate::schedule`.

use bytes::Bytes;
use millrace_clock::Now;
use millrace_store::stream::{Lookup, StoredMessage};

use super::lead::Question;
use super::{Admission, Stream};
use crate::entry::{MessageParts, Note};
use crate::publish::{PublishHeaders, Verdict, for_each_line, header_value, order};
use crate::schedule::{Due, Pattern, Schedule};
use crate::shared::Turn;

/// The timetable is looked at no more often, as in the reference.
const FIRING_INTERVAL_NS: u64 = 250 * Now::MILLISECOND_NS;
/// Schedules that fire in one turn.
const FIRINGS_PER_TURN: usize = 256;
/// Headers of a schedule that its messages do not have.
const DROPPED: [&[u8]; 5] = [
    b"Nats-Schedule",
    b"Nats-Expected-",
    b"Nats-Msg-Id",
    b"Nats-TTL",
    b"Nats-Rollup",
];

/// Whether a note says that its message is a schedule.
pub(crate) fn is_schedule(note: &[u8]) -> bool {
    matches!(Note::decode(note), Ok(Note::Scheduled { .. }))
}

impl Stream {
    /// Monotonic time at which the leader must look at the timetable.
    pub(super) fn firing_deadline(&self, now: Now) -> Option<u64> {
        if self.lead.commit.is_some() || self.is_waiting_for_index() {
            return None;
        }
        let leaving = &self.lead.leaving;
        let (due_ns, _) = self
            .schedules
            .due()
            .find(|(_, sequence)| !leaving.contains(sequence))?;
        let wait_ns = due_ns.saturating_sub(now.wall_ns).max(0).unsigned_abs();
        Some(now.after_ns(wait_ns).max(self.lead.next_firing_ns))
    }

    /// A schedule is due, or as good as: it needs the index, and the message that is read for it.
    pub(super) fn fires_soon(&self, now: Now) -> bool {
        let soon_ns = now.after_ns(FIRING_INTERVAL_NS);
        self.firing_deadline(now)
            .is_some_and(|at_ns| at_ns <= soon_ns)
    }

    /// Fires what is due.
    pub(super) fn fire_schedules(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        if self
            .firing_deadline(now)
            .is_none_or(|at_ns| at_ns > now.monotonic_ns)
        {
            return;
        }
        if !self.store.is_loaded() {
            self.want_index(turn.shared);
            return;
        }
        // What waits before the stream may change what is due.
        if self.lead.is_barred() || !self.lead.inbox.is_empty() {
            self.lead.next_firing_ns = now.after_ns(FIRING_INTERVAL_NS);
            return;
        }
        let due = self.schedules.due();
        let due = due.take_while(|(due_ns, _)| *due_ns <= now.wall_ns);
        let due = due.filter(|(_, sequence)| !self.lead.leaving.contains(sequence));
        let due: Vec<(i64, u64)> = due.take(FIRINGS_PER_TURN).collect();
        for (next_ns, sequence) in due {
            let schedule = Schedule { sequence, next_ns };
            if self.fire(turn, schedule) == Admission::Wait {
                break;
            }
        }
        self.lead.next_firing_ns = now.after_ns(FIRING_INTERVAL_NS);
    }

    /// Makes the message of one schedule. It waits for a read, or for what is under way on its
    /// subject.
    fn fire(&mut self, turn: &mut Turn<'_>, schedule: Schedule) -> Admission {
        let Some(subject) = self.schedules.subject_of(schedule.sequence).cloned() else {
            return Admission::Done;
        };
        if self.lead.flight.messages_of(&subject) > 0 {
            return Admission::Done;
        }
        let message = match self.store.get(schedule.sequence) {
            Lookup::Loading => return Admission::Wait,
            // What cannot be read says nothing of when it is due again: it is left alone.
            Lookup::Ready(Err(_)) => {
                self.lead.leaving.insert(schedule.sequence);
                return Admission::Done;
            }
            Lookup::Ready(Ok(message)) => message,
        };
        let source = header_value(&message.headers, b"Nats-Schedule-Source");
        let source = source.and_then(|source| self.store.last_of(source));
        let content = match source.map(|sequence| self.store.get(sequence)) {
            Some(Lookup::Loading) => return Admission::Wait,
            Some(Lookup::Ready(Ok(content))) => content,
            Some(Lookup::Ready(Err(_))) | None => message.clone(),
        };
        let next = self.next_due(&message, schedule, turn.now);
        let block = produced_headers(&message, &content, next.as_ref());
        let target = header_value(&message.headers, b"Nats-Schedule-Target").unwrap_or_default();
        let note = Note::Fired {
            sequence: schedule.sequence,
            next_ns: next.map(|due| due.time_ns),
            subject: &subject,
        };
        let parts = MessageParts {
            subject: target,
            headers: &block,
            payload: &content.payload,
            note: b"",
        };
        if self.store_own(turn, parts, note.encode()) {
            self.lead.leaving.insert(schedule.sequence);
        }
        Admission::Done
    }

    fn next_due(&self, message: &StoredMessage, schedule: Schedule, now: Now) -> Option<Due> {
        let text = |key: &[u8]| {
            let value = header_value(&message.headers, key)?;
            std::str::from_utf8(value).ok()
        };
        let zone = text(b"Nats-Schedule-Time-Zone");
        let pattern = text(b"Nats-Schedule").unwrap_or_default();
        let pattern = Pattern::parse(pattern, zone, self.schedules.local()).ok()?;
        pattern.after(schedule.next_ns, now.wall_ns)
    }

    /// Puts a message of the stream's own making on its way. False: there is no room for it.
    pub(super) fn store_own(
        &mut self,
        turn: &mut Turn<'_>,
        parts: MessageParts<'_>,
        note: Vec<u8>,
    ) -> bool {
        let headers = PublishHeaders::parse(parts.headers);
        let mut checked = self.check(Question {
            table: order::OWN,
            allowance: turn.shared.allowance(self.account, self.config.storage),
            now_ns: turn.now.wall_ns,
            diff: None,
            index: 0,
            headers: &headers,
            message: parts,
        });
        match checked.verdict {
            Verdict::Pass => {}
            Verdict::Unwanted => checked.decision.unwanted = true,
            _ => return false,
        }
        checked.note = note;
        self.depart_publish(&headers, parts, checked);
        true
    }

    /// A message that ends a schedule is on its way: the schedule does not fire any more.
    pub(super) fn note_cancel(&mut self, note: &[u8]) {
        if note.is_empty() {
            return;
        }
        if let Ok(Note::Cancels { subject }) = Note::decode(note)
            && let Some(schedule) = self.schedules.on(subject)
        {
            self.lead.leaving.insert(schedule.sequence);
        }
    }

    /// A message was stored with (or without) a note.
    pub(super) fn apply_note(&mut self, sequence: u64, subject: &[u8], note: &[u8], stored: bool) {
        let note = match Note::decode(note) {
            Ok(Note::Scheduled { next_ns }) if stored => {
                self.schedules.put(subject, Schedule { sequence, next_ns });
                return;
            }
            Ok(note) => Some(note),
            Err(_) => None,
        };
        if stored && !self.schedules.is_empty() {
            self.schedules.forget_subject(subject);
        }
        match note {
            Some(Note::Cancels { subject }) => {
                if let Some(schedule) = self.schedules.on(subject) {
                    self.remove(schedule.sequence);
                }
            }
            Some(Note::Fired {
                sequence,
                next_ns,
                subject,
            }) => self.schedule_fired(sequence, next_ns, subject),
            Some(Note::Scheduled { .. }) | None => {}
        }
    }

    fn schedule_fired(&mut self, sequence: u64, next_ns: Option<i64>, subject: &[u8]) {
        self.lead.leaving.remove(&sequence);
        match next_ns {
            Some(next_ns) => {
                self.schedules
                    .move_on(subject, Schedule { sequence, next_ns });
            }
            None if self.schedules.subject_of(sequence).is_some() => {
                self.remove(sequence);
            }
            None => {}
        }
    }
}

/// The headers of the message that a schedule makes: those of the content that are its own, then what
/// tells of the schedule.
fn produced_headers(
    schedule: &StoredMessage,
    content: &StoredMessage,
    next: Option<&Due>,
) -> Bytes {
    let mut block = b"NATS/1.0\r\n".to_vec();
    let mut put = |key: &[u8], value: &[u8]| {
        block.extend_from_slice(key);
        block.extend_from_slice(b": ");
        block.extend_from_slice(value);
        block.extend_from_slice(b"\r\n");
    };
    for_each_line(&content.headers, |key, value| {
        if !key.is_empty() && !DROPPED.iter().any(|dropped| key.starts_with(dropped)) {
            put(key, value);
        }
    });
    put(b"Nats-Scheduler", &schedule.subject);
    let next = next.map_or("purge", |due| due.text.as_str());
    put(b"Nats-Schedule-Next", next.as_bytes());
    for (from, to) in [
        (&b"Nats-Schedule-TTL"[..], &b"Nats-TTL"[..]),
        (b"Nats-Schedule-Rollup", b"Nats-Rollup"),
    ] {
        let value = header_value(&schedule.headers, from).filter(|value| !value.is_empty());
        if let Some(value) = value {
            put(to, value);
        }
    }
    block.extend_from_slice(b"\r\n");
    Bytes::from(block)
}
