//! The checks of a publish, one function each. In which order they run is data (`order.rs`).
//!
//! A check looks at staged state: the store, what is in flight, and (in a batch) the batch's own
//! diff. It passes, refuses, or rewrites the message it is asked about; it never changes state.

use bytes::Bytes;
use millrace_clock::go_duration;
use millrace_store::stream::{Filter, Lookup, StreamStore};
use num_bigint::BigInt;

use super::headers::PublishHeaders;
use super::refusal::Refusal;
use crate::entry::{Deadline, Decision, MessageParts, Rollup};
use crate::model::{DiscardPolicy, RetentionPolicy, StorageKind, StreamConfig};
use crate::schedule::Schedules;
use crate::stream::dedup::{Dedup, IdHash};
use crate::stream::flight::Flight;

/// Largest record of a file stream, bytes (spec jetstream/02 §3.1).
const MAX_RECORD_BYTES: u64 = 32 * 1024 * 1024;
/// Largest header block, bytes.
const MAX_HEADER_BYTES: usize = 65_535;
/// How many of the oldest messages are looked at before a message counts as possibly evicted.
const EVICTION_STEPS: usize = 64;
const SECOND_NS: i64 = 1_000_000_000;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Refuse(Refusal),
    /// The id is known: the sequence it was stored with.
    Duplicate(u64),
    /// Nobody is interested: acknowledge with the next sequence, store nothing.
    Unwanted,
    /// Cannot be told before what is in flight is applied.
    WaitForFlight,
    /// Cannot be told before a read from disk is done.
    WaitForDisk,
}

/// What the surroundings of the stream allow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowance {
    /// The server's storage of this kind is used up.
    pub server_exceeded: bool,
    /// Bytes the account may still use; `None`: no limit.
    pub account_available: Option<u64>,
    /// Largest payload of a client, bytes.
    pub max_payload: u64,
}

/// A publish and all that it is checked against.
pub struct Check<'a> {
    pub config: &'a StreamConfig,
    pub store: &'a mut StreamStore,
    pub dedup: &'a Dedup,
    /// In flight, of all publishers.
    pub flight: &'a Flight,
    /// What the batch staged so far; `None` outside of batches.
    pub diff: Option<&'a Flight>,
    pub allowance: Allowance,
    /// Last sequence of staged state, without the batch.
    pub last_sequence: u64,
    /// Id of the last message of staged state; empty: it had none.
    pub last_message_id: &'a [u8],
    /// Some consumer wants this subject (interest retention).
    pub wanted: bool,
    pub now_ns: i64,
    pub headers: &'a PublishHeaders<'a>,
    /// Place in the batch, from 0.
    pub index: u64,
    /// The message as it came, under its transformed subject.
    pub message: MessageParts<'a>,
    /// Its time; checks fill in deadline and roll-up.
    pub decision: Decision,
    /// Headers in place of those it came with.
    pub new_headers: Option<Bytes>,
    /// A payload in place of the one it came with.
    pub new_payload: Option<Bytes>,
    /// A counter's new value.
    pub counter: Option<BigInt>,
    /// The stream's timetable.
    pub schedules: &'a Schedules,
    /// What else is decided, as it is logged; empty: nothing.
    pub note: Vec<u8>,
}

/// One check.
pub type CheckFunction = fn(&mut Check<'_>) -> Verdict;

use Verdict::{Pass, Refuse};

impl Check<'_> {
    pub(super) fn refuse_if(condition: bool, refusal: Refusal) -> Verdict {
        if condition { Refuse(refusal) } else { Pass }
    }

    /// The header block as it would be stored.
    #[must_use]
    pub fn block(&self) -> &[u8] {
        self.new_headers.as_deref().unwrap_or(self.message.headers)
    }

    /// The payload as it would be stored.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.new_payload.as_deref().unwrap_or(self.message.payload)
    }

    /// What it would count for.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.store.accounting_size(
            self.message.subject.len(),
            self.block().len(),
            self.payload().len(),
        )
    }

    /// The id's hash, if it counts here.
    #[must_use]
    pub fn id(&self) -> Option<IdHash> {
        let id = self
            .headers
            .dedup_id()
            .filter(|_| self.dedup.is_enabled())?;
        Some(self.dedup.hash(id))
    }

    /// Last stored message on the subjects that match `filter`; 0: none.
    fn last_stored(&self, filter: &[u8]) -> u64 {
        if millrace_subject::is_literal(filter) {
            self.store.last_of(filter).unwrap_or(0)
        } else {
            self.store
                .last_match(&Filter::one(filter), u64::MAX)
                .unwrap_or(0)
        }
    }

    /// True if limits may take this message away when what is in flight is applied.
    fn may_be_evicted(&self, sequence: u64) -> bool {
        if sequence == 0 || self.flight.messages == 0 {
            return false;
        }
        let later = self.last_sequence.saturating_sub(sequence);
        if self.config.max_msgs > 0 && later >= self.config.max_msgs.unsigned_abs() {
            return true;
        }
        let state = self.store.state();
        let limit = self.config.max_bytes.unsigned_abs();
        let after = state.bytes + self.flight.bytes;
        if self.config.max_bytes <= 0 || after <= limit {
            return false;
        }
        let mut to_go = after - limit;
        let mut next = self.store.oldest();
        for _ in 0..EVICTION_STEPS {
            let Some(oldest) = next.filter(|oldest| *oldest < sequence) else {
                return true;
            };
            let size = self.store.size_of(oldest).unwrap_or(0);
            if size >= to_go {
                return false;
            }
            to_go -= size;
            next = self.store.next_match(&Filter::all(), oldest + 1);
        }
        true
    }

    fn ttl_text(&self) -> Option<&[u8]> {
        self.headers.ttl.filter(|ttl| !ttl.is_empty())
    }

    /// An empty header counts as none, here and for the others.
    fn increment(&self) -> Option<&[u8]> {
        self.headers.increment.filter(|text| !text.is_empty())
    }

    fn rollup_word(&self) -> String {
        let value = self.headers.rollup.unwrap_or_default();
        String::from_utf8_lossy(value).to_lowercase()
    }
}

/// A record above 32 MiB on file storage.
pub fn record_size(check: &mut Check<'_>) -> Verdict {
    let too_large = check.config.storage == StorageKind::File && check.size() > MAX_RECORD_BYTES;
    Check::refuse_if(too_large, Refusal::StoreFailed("message too large"))
}

pub fn sealed(check: &mut Check<'_>) -> Verdict {
    Check::refuse_if(check.config.sealed, Refusal::Sealed)
}

pub fn header_size(check: &mut Check<'_>) -> Verdict {
    Check::refuse_if(
        check.block().len() > MAX_HEADER_BYTES,
        Refusal::HeaderTooLarge,
    )
}

/// Headers and payload against `max_msg_size`.
pub fn message_size(check: &mut Check<'_>) -> Verdict {
    let size = check.block().len() + check.payload().len();
    let limit = i64::from(check.config.max_msg_size);
    let too_large = limit >= 0 && size as u64 > limit.unsigned_abs();
    Check::refuse_if(too_large, Refusal::MessageTooLarge)
}

pub fn server_limits(check: &mut Check<'_>) -> Verdict {
    Check::refuse_if(
        check.allowance.server_exceeded,
        Refusal::InsufficientResources,
    )
}

pub fn account_limits(check: &mut Check<'_>) -> Verdict {
    let under_way = check.flight.bytes + check.diff.map_or(0, |diff| diff.bytes);
    let exceeded = check
        .allowance
        .account_available
        .is_some_and(|available| under_way + check.size() > available);
    Check::refuse_if(exceeded, Refusal::AccountResources)
}

/// `Nats-Incr`: its form, whether counters are on, and what it does not go with.
pub fn counter_headers(check: &mut Check<'_>) -> Verdict {
    let Some(increment) = check.increment() else {
        return Pass;
    };
    if parse_integer(increment).is_none() {
        return Refuse(Refusal::CounterInvalid);
    }
    if !check.config.allow_msg_counter {
        return Refuse(Refusal::CounterDisabled);
    }
    if !check.message.payload.is_empty() {
        return Refuse(Refusal::CounterPayload);
    }
    let headers = check.headers;
    let incompatible = headers.rollup.is_some()
        || headers.expected_stream.is_some()
        || headers.expected_subject.is_some()
        || headers.is_conditional();
    Check::refuse_if(incompatible, Refusal::CounterInvalid)
}

/// A counter stream takes nothing but increments.
pub fn counter_missing(check: &mut Check<'_>) -> Verdict {
    let missing = check.config.allow_msg_counter && check.increment().is_none();
    Check::refuse_if(missing, Refusal::CounterMissing)
}

/// Adds the increment to the subject's value and puts the result in place of the payload.
pub fn counter_value(check: &mut Check<'_>) -> Verdict {
    let Some(increment) = check.increment().and_then(parse_integer) else {
        return Pass;
    };
    let subject = check.message.subject;
    let staged = [check.diff, Some(check.flight)]
        .into_iter()
        .flatten()
        .find_map(|flight| flight.subjects.get(subject)?.counter.clone());
    let before = match staged {
        Some(value) => value,
        None => match stored_counter(check.store, subject) {
            Lookup::Loading => return Verdict::WaitForDisk,
            Lookup::Ready(Err(refusal)) => return Refuse(refusal),
            Lookup::Ready(Ok(value)) => value,
        },
    };
    let value = before + increment;
    check.new_payload = Some(Bytes::from(format!("{{\"val\":\"{value}\"}}")));
    check.counter = Some(value);
    let mut limit = check.allowance.max_payload;
    if check.config.max_msg_size >= 0 {
        limit = limit.min(u64::from(check.config.max_msg_size.unsigned_abs()));
    }
    let size = check.block().len() + check.payload().len();
    Check::refuse_if(size as u64 > limit, Refusal::MessageTooLarge)
}

fn stored_counter(store: &mut StreamStore, subject: &[u8]) -> Lookup<Result<BigInt, Refusal>> {
    let Some(last) = store.last_of(subject) else {
        return Lookup::Ready(Ok(BigInt::default()));
    };
    match store.get(last) {
        Lookup::Loading => Lookup::Loading,
        Lookup::Ready(message) => {
            let value = message
                .ok()
                .and_then(|message| counter_of(&message.payload));
            Lookup::Ready(value.ok_or(Refusal::CounterBroken))
        }
    }
}

/// The value in a counter message: `{"val":"<decimal>"}`.
fn counter_of(payload: &[u8]) -> Option<BigInt> {
    let value: serde_json::Value = serde_json::from_slice(payload).ok()?;
    parse_integer(value.get("val")?.as_str()?.as_bytes())
}

/// An optional sign and decimal digits.
fn parse_integer(text: &[u8]) -> Option<BigInt> {
    let digits = text
        .strip_prefix(b"+")
        .or_else(|| text.strip_prefix(b"-"))
        .unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let magnitude = BigInt::parse_bytes(digits, 10)?;
    Some(if text.first() == Some(&b'-') {
        -magnitude
    } else {
        magnitude
    })
}

pub fn expected_stream(check: &mut Check<'_>) -> Verdict {
    let expected = check
        .headers
        .expected_stream
        .filter(|name| !name.is_empty());
    let differs = expected.is_some_and(|name| name != check.config.name.as_bytes());
    Check::refuse_if(differs, Refusal::StreamNotMatch)
}

/// R1: only a valid TTL is refused here; an invalid one later by [`ttl_value`].
pub fn ttl_disabled_if_valid(check: &mut Check<'_>) -> Verdict {
    let valid = check.ttl_text().is_some_and(|ttl| parse_ttl(ttl).is_some());
    Check::refuse_if(valid && !check.config.allow_msg_ttl, Refusal::TtlDisabled)
}

/// Replicated and batch: any TTL is refused where it is disabled.
pub fn ttl_disabled(check: &mut Check<'_>) -> Verdict {
    let disabled = check.ttl_text().is_some() && !check.config.allow_msg_ttl;
    Check::refuse_if(disabled, Refusal::TtlDisabled)
}

/// Reads the TTL and fills in the deadline.
pub fn ttl_value(check: &mut Check<'_>) -> Verdict {
    let Some(text) = check.ttl_text() else {
        return Pass;
    };
    let Some(ttl) = parse_ttl(text) else {
        return Refuse(Refusal::TtlInvalid);
    };
    let Ttl::Seconds(mut seconds) = ttl else {
        check.decision.deadline = Deadline::Never;
        return Pass;
    };
    let marker_seconds = check.config.subject_delete_marker_ttl_ns / SECOND_NS;
    if marker_seconds > seconds && check.config.max_msgs_per_subject != 1 {
        seconds = marker_seconds;
        let headers = super::headers::without_header(check.block(), b"Nats-TTL");
        let seconds = seconds.to_string();
        check.new_headers = Some(super::headers::with_header(
            &headers,
            b"Nats-TTL",
            seconds.as_bytes(),
        ));
    }
    let deadline_ns = check
        .decision
        .time_ns
        .saturating_add(seconds.saturating_mul(SECOND_NS));
    check.decision.deadline = Deadline::At(deadline_ns.min(i64::MAX - 1));
    Pass
}

/// A `Nats-TTL` value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    Never,
    Seconds(i64),
}

/// Reads a TTL: `never`, a Go duration of at least a second, or whole seconds.
#[must_use]
pub fn parse_ttl(text: &[u8]) -> Option<Ttl> {
    let text = std::str::from_utf8(text).ok()?;
    if text.eq_ignore_ascii_case("never") {
        return Some(Ttl::Never);
    }
    if let Ok(duration_ns) = go_duration::parse(text) {
        return (duration_ns >= SECOND_NS).then_some(Ttl::Seconds(duration_ns / SECOND_NS));
    }
    let seconds: i64 = text.parse().ok()?;
    (seconds > 0).then_some(Ttl::Seconds(seconds))
}

/// R1: the value that the subject will have when all in flight is applied counts.
pub fn expected_subject_sequence(check: &mut Check<'_>) -> Verdict {
    let Some(expected) = check.headers.expected_subject_sequence else {
        return Pass;
    };
    let subject = check
        .headers
        .expected_subject
        .unwrap_or(check.message.subject);
    let actual = check
        .flight
        .last_of(subject)
        .max(check.last_stored(subject));
    if check.may_be_evicted(actual) {
        return Verdict::WaitForFlight;
    }
    Check::refuse_if(actual != expected, Refusal::WrongLastSequence(actual))
}

/// Replicated and batch: a subject that is being written, by this batch or by others, conflicts.
pub fn expected_subject_sequence_exclusive(check: &mut Check<'_>) -> Verdict {
    let Some(expected) = check.headers.expected_subject_sequence else {
        return Pass;
    };
    let subject = check
        .headers
        .expected_subject
        .unwrap_or(check.message.subject);
    let in_batch = check.diff.is_some_and(|diff| diff.last_of(subject) != 0);
    if in_batch || check.flight.last_of(subject) != 0 {
        return Refuse(Refusal::WrongLastSequenceInFlight);
    }
    let actual = check.last_stored(subject);
    if check.may_be_evicted(actual) {
        return Verdict::WaitForFlight;
    }
    Check::refuse_if(actual != expected, Refusal::WrongLastSequence(actual))
}

/// A subject to look at, but no sequence to expect.
pub fn subject_without_sequence(check: &mut Check<'_>) -> Verdict {
    let alone = check.headers.expected_subject.is_some()
        && check.headers.expected_subject_sequence.is_none();
    Check::refuse_if(alone, Refusal::MissingSubjectSequence)
}

pub fn expected_last_sequence(check: &mut Check<'_>) -> Verdict {
    // Messages before it in the batch count as proposed.
    let last = check.last_sequence + check.index;
    let expected = check.headers.expected_last_sequence;
    let differs = expected.is_some_and(|expected| expected != last);
    Check::refuse_if(differs, Refusal::WrongLastSequence(last))
}

/// Only the first message of a batch may expect a stream sequence.
pub fn expected_last_sequence_first_only(check: &mut Check<'_>) -> Verdict {
    let late = check.headers.expected_last_sequence.is_some() && check.index > 0;
    Check::refuse_if(late, Refusal::WrongLastSequenceInFlight)
}

pub fn source_header(check: &mut Check<'_>) -> Verdict {
    Check::refuse_if(check.headers.stream_source.is_some(), Refusal::SourceHeader)
}

impl Check<'_> {
    /// The sequence stored with the message's id. Hashes that are equal are not enough: the id
    /// itself is compared, as long as its message is there.
    fn known_id(&mut self, id: IdHash) -> Lookup<Option<u64>> {
        let Some(sequence) = self.dedup.find(id, self.now_ns) else {
            return Lookup::Ready(None);
        };
        let stored = match self.store.get(sequence) {
            Lookup::Loading => return Lookup::Loading,
            Lookup::Ready(stored) => stored,
        };
        let same = stored.map_or(true, |message| {
            super::headers::header_value(&message.headers, b"Nats-Msg-Id")
                == self.headers.dedup_id()
        });
        Lookup::Ready(same.then_some(sequence))
    }

    fn duplicate_of(&mut self, id: IdHash) -> Verdict {
        match self.known_id(id) {
            Lookup::Loading => Verdict::WaitForDisk,
            Lookup::Ready(known) => known.map_or(Pass, Verdict::Duplicate),
        }
    }
}

/// R1: a duplicate of an id in flight gets its sequence too (the answer waits for it).
pub fn duplicate(check: &mut Check<'_>) -> Verdict {
    let Some(id) = check.id() else {
        return Pass;
    };
    if let Some(sequence) = check.flight.ids.get(&id) {
        return Verdict::Duplicate(*sequence);
    }
    check.duplicate_of(id)
}

/// Replicated: an id in flight conflicts.
pub fn duplicate_exclusive(check: &mut Check<'_>) -> Verdict {
    let Some(id) = check.id() else {
        return Pass;
    };
    if check.flight.ids.contains_key(&id) {
        return Refuse(Refusal::DuplicateInProcess);
    }
    check.duplicate_of(id)
}

/// Batch: a known id, or one twice in the batch, refuses all of it.
pub fn duplicate_in_batch(check: &mut Check<'_>) -> Verdict {
    let Some(id) = check.id() else {
        return Pass;
    };
    if check.diff.is_some_and(|diff| diff.ids.contains_key(&id)) {
        return Refuse(Refusal::BatchDuplicate);
    }
    if check.flight.ids.contains_key(&id) {
        return Refuse(Refusal::DuplicateInProcess);
    }
    match check.duplicate_of(id) {
        Verdict::Duplicate(_) => Refuse(Refusal::BatchDuplicate),
        other => other,
    }
}

pub fn expected_last_message_id(check: &mut Check<'_>) -> Verdict {
    let expected = check
        .headers
        .expected_last_message_id
        .filter(|id| !id.is_empty());
    if expected.is_none_or(|id| id == check.last_message_id) {
        return Pass;
    }
    let actual = String::from_utf8_lossy(check.last_message_id).into_owned();
    Refuse(Refusal::WrongLastMessageId(actual))
}

/// Whether roll-ups are permitted, and which one it is.
pub fn rollup(check: &mut Check<'_>) -> Verdict {
    if check.headers.rollup.is_none() {
        return Pass;
    }
    let word = check.rollup_word();
    if word.is_empty() {
        return Pass;
    }
    if !check.config.allow_rollup_hdrs || check.config.deny_purge {
        return Refuse(Refusal::Rollup("rollup not permitted".to_owned()));
    }
    check.decision.rollup = match word.as_str() {
        "sub" => Rollup::Subject,
        "all" => Rollup::All,
        _ => return Refuse(Refusal::Rollup(format!("rollup value invalid: {word:?}"))),
    };
    Pass
}

/// What a roll-up may replace within its batch.
pub fn rollup_in_batch(check: &mut Check<'_>) -> Verdict {
    let Some(diff) = check.diff else { return Pass };
    match check.decision.rollup {
        Rollup::Subject if diff.messages_of(check.message.subject) > 0 => {
            Refuse(Refusal::Rollup("batch rollup sub invalid".to_owned()))
        }
        Rollup::All if check.index > 0 => {
            Refuse(Refusal::Rollup("batch rollup all invalid".to_owned()))
        }
        _ => Pass,
    }
}

/// Interest retention: nobody wants it.
pub fn interest(check: &mut Check<'_>) -> Verdict {
    if check.config.retention == RetentionPolicy::Interest && !check.wanted {
        return Verdict::Unwanted;
    }
    Pass
}

/// `discard: new` and the per-subject limit, with what is in flight counted in.
pub fn discard_new(check: &mut Check<'_>) -> Verdict {
    let config = check.config;
    if config.discard != DiscardPolicy::New {
        return Pass;
    }
    let state = check.store.state();
    let layers = [check.diff, Some(check.flight)];
    let under_way: u64 = layers.iter().flatten().map(|flight| flight.messages).sum();
    let bytes_under_way: u64 = layers.iter().flatten().map(|flight| flight.bytes).sum();
    let subject = check.message.subject;
    let stored = check.store.subject_state(subject);
    let on_subject = stored.map_or(0, |state| state.count)
        + layers
            .iter()
            .flatten()
            .map(|flight| flight.messages_of(subject))
            .sum::<u64>();
    let per_subject = config.max_msgs_per_subject;
    let subject_full = per_subject > 0 && on_subject >= per_subject.unsigned_abs();
    let refusal = if subject_full
        && config.discard_new_per_subject
        && check.decision.rollup == Rollup::None
    {
        "maximum messages per subject exceeded"
    } else {
        // A message that the per-subject limit takes away for this one makes room.
        let evicted_bytes = stored
            .filter(|_| subject_full && !config.discard_new_per_subject)
            .and_then(|state| check.store.size_of(state.first));
        let full = config.max_msgs > 0
            && state.messages + under_way >= config.max_msgs.unsigned_abs()
            && evicted_bytes.is_none();
        let size = check.size();
        let too_big = config.max_bytes > 0
            && state.bytes + bytes_under_way + size > config.max_bytes.unsigned_abs()
            && evicted_bytes.is_none_or(|bytes| bytes < size);
        match (full, too_big) {
            (true, _) => "maximum messages exceeded",
            (false, true) => "maximum bytes exceeded",
            (false, false) => return Pass,
        }
    };
    if check.flight.messages > 0 && (per_subject > 0 || config.allow_rollup_hdrs) {
        // What is in flight may also take messages away: only applied state can tell.
        return Verdict::WaitForFlight;
    }
    Refuse(Refusal::StoreFailed(refusal))
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: JS-TTL-01
    #[test]
    fn ttl_values_are_read_as_the_reference_reads_them() {
        for (text, expected) in [
            ("never", Some(Ttl::Never)),
            ("NEVER", Some(Ttl::Never)),
            ("1h", Some(Ttl::Seconds(3600))),
            ("1.5s", Some(Ttl::Seconds(1))),
            ("900ms", None),
            ("60", Some(Ttl::Seconds(60))),
            ("0", None),
            ("-1", None),
            ("-1s", None),
            ("x", None),
        ] {
            assert_eq!(parse_ttl(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn increments_are_integers_of_any_size() {
        assert_eq!(parse_integer(b"+5"), Some(BigInt::from(5)));
        assert_eq!(parse_integer(b"-5"), Some(BigInt::from(-5)));
        assert!(parse_integer(b"123456789012345678901234567890").is_some());
        for bad in ["", "+", "1.5", "x", "1e3", "+-1", " 1"] {
            assert_eq!(parse_integer(bad.as_bytes()), None, "{bad}");
        }
    }
}
