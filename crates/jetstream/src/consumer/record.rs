//! The bytes of consumer state: what one turn changed (log records) and everything (checkpoints).
//!
//! ```text
//! record    version u8 = 1 | epoch v | time_ms v | flags u8 | section*   (sections in flag order)
//! flag 1    delivered    consumer v | stream v
//! flag 2    floor        consumer v | stream v
//! flag 4    acked        runs
//! flag 8    redelivered  count v | (sequence delta z | consumer sequence delta z | deliveries v)*
//! flag 16   postponed    count v | (sequence delta v | due_ms v)*
//! flag 32   exhausted    runs
//! runs      count v | (gap to the end of the run before v | length - 1 v)*
//! snapshot  version u8 = 1 | created_ns v | epoch v | delivered, floor (v v each) |
//!           last_delivered_ns v | last_ack_ns v | new_from v | num_pending + 1 v (0 = unknown) |
//!           start list runs | acked ahead runs | redelivered: count v | (delta v | deliveries v)* |
//!           pending: count v | (delta v | consumer sequence v | at_ns v | kind u8 | due_ns v if kind = 1)*
//! v, z      LEB128 varint, unsigned and zigzag
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;

use super::pending::{Pending, Slot};
use super::state::{Position, State};

/// Version of both formats. Raise it with every change of a byte.
const FORMAT_VERSION: u8 = 1;
const MILLISECOND_NS: i64 = 1_000_000;

const HAS_DELIVERED: u8 = 1;
const HAS_FLOOR: u8 = 2;
const HAS_ACKED: u8 = 4;
const HAS_REDELIVERED: u8 = 8;
const HAS_POSTPONED: u8 = 16;
const HAS_EXHAUSTED: u8 = 32;

/// Most sequences that the runs of one record may stand for: a damaged one must not fill memory.
/// Tests with random bytes get by with less.
const SEQUENCES_MAX: u64 = if cfg!(test) { 1 << 16 } else { 1 << 24 };

/// One redelivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Again {
    pub(super) sequence: u64,
    pub(super) consumer_sequence: u64,
    pub(super) deliveries: u64,
}

/// What changed since the last record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) epoch: u64,
    /// Wall time of the turn, whole milliseconds when read back.
    pub(super) time_ns: i64,
    pub(super) delivered: Option<Position>,
    pub(super) floor: Option<Position>,
    /// Settled sequences; ascending when encoded.
    pub(super) acked: Vec<u64>,
    pub(super) redelivered: Vec<Again>,
    /// Due times on the leader's axis.
    pub(super) postponed: BTreeMap<u64, i64>,
    pub(super) exhausted: Vec<u64>,
}

/// Bytes that this version cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("consumer state is unreadable")]
pub struct SnapshotError;

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_delta(out: &mut Vec<u8>, before: u64, value: u64) {
    let delta = value.wrapping_sub(before) as i64;
    put(out, ((delta << 1) ^ (delta >> 63)) as u64);
}

fn put_time(out: &mut Vec<u8>, time_ns: i64) {
    put(out, time_ns.max(0) as u64);
}

fn put_position(out: &mut Vec<u8>, position: Position) {
    put(out, position.consumer);
    put(out, position.stream);
}

/// Writes ascending sequences as runs.
fn put_runs(out: &mut Vec<u8>, sequences: impl Iterator<Item = u64>) {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for sequence in sequences {
        match runs.last_mut() {
            Some((_, last)) if sequence <= *last => {}
            Some((_, last)) if last.checked_add(1) == Some(sequence) => *last = sequence,
            _ => runs.push((sequence, sequence)),
        }
    }
    put(out, runs.len() as u64);
    let mut end = 0;
    for (first, last) in runs {
        put(out, first - end);
        put(out, last - first);
        end = last;
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, SnapshotError> {
        let (first, rest) = self.0.split_first().ok_or(SnapshotError)?;
        self.0 = rest;
        Ok(*first)
    }

    fn number(&mut self) -> Result<u64, SnapshotError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(SnapshotError)
    }

    fn delta(&mut self, before: u64) -> Result<u64, SnapshotError> {
        let coded = self.number()?;
        let delta = ((coded >> 1) as i64) ^ -((coded & 1) as i64);
        Ok(before.wrapping_add(delta as u64))
    }

    fn ascending(&mut self, before: u64) -> Result<u64, SnapshotError> {
        before.checked_add(self.number()?).ok_or(SnapshotError)
    }

    fn time(&mut self) -> Result<i64, SnapshotError> {
        i64::try_from(self.number()?).map_err(|_| SnapshotError)
    }

    fn milliseconds(&mut self) -> Result<i64, SnapshotError> {
        self.time()?
            .checked_mul(MILLISECOND_NS)
            .ok_or(SnapshotError)
    }

    fn position(&mut self) -> Result<Position, SnapshotError> {
        Ok(Position {
            consumer: self.number()?,
            stream: self.number()?,
        })
    }

    fn runs(&mut self, out: &mut impl Extend<u64>) -> Result<(), SnapshotError> {
        let count = self.number()?;
        let (mut end, mut total) = (0u64, 0u64);
        for _ in 0..count {
            let first = self.ascending(end)?;
            let last = self.ascending(first)?;
            total = total.saturating_add(last - first).saturating_add(1);
            if total > SEQUENCES_MAX {
                return Err(SnapshotError);
            }
            out.extend(first..=last);
            end = last;
        }
        Ok(())
    }

    fn version(&mut self) -> Result<(), SnapshotError> {
        (self.byte()? == FORMAT_VERSION)
            .then_some(())
            .ok_or(SnapshotError)
    }
}

impl Changes {
    /// Whether there is nothing to log.
    pub(super) fn is_empty(&self) -> bool {
        self.delivered.is_none()
            && self.acked.is_empty()
            && self.redelivered.is_empty()
            && self.postponed.is_empty()
            && self.exhausted.is_empty()
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(32);
        out.push(FORMAT_VERSION);
        put(&mut out, self.epoch);
        put_time(&mut out, self.time_ns / MILLISECOND_NS);
        let flag = |flag: u8, on: bool| if on { flag } else { 0 };
        out.push(
            flag(HAS_DELIVERED, self.delivered.is_some())
                | flag(HAS_FLOOR, self.floor.is_some())
                | flag(HAS_ACKED, !self.acked.is_empty())
                | flag(HAS_REDELIVERED, !self.redelivered.is_empty())
                | flag(HAS_POSTPONED, !self.postponed.is_empty())
                | flag(HAS_EXHAUSTED, !self.exhausted.is_empty()),
        );
        for position in [self.delivered, self.floor].into_iter().flatten() {
            put_position(&mut out, position);
        }
        if !self.acked.is_empty() {
            put_runs(&mut out, self.acked.iter().copied());
        }
        if !self.redelivered.is_empty() {
            put(&mut out, self.redelivered.len() as u64);
            let (mut sequence, mut consumer) = (0, 0);
            for again in &self.redelivered {
                put_delta(&mut out, sequence, again.sequence);
                put_delta(&mut out, consumer, again.consumer_sequence);
                put(&mut out, again.deliveries);
                (sequence, consumer) = (again.sequence, again.consumer_sequence);
            }
        }
        if !self.postponed.is_empty() {
            put(&mut out, self.postponed.len() as u64);
            let mut before = 0;
            for (sequence, due_ns) in &self.postponed {
                put(&mut out, sequence - before);
                put_time(&mut out, due_ns / MILLISECOND_NS);
                before = *sequence;
            }
        }
        if !self.exhausted.is_empty() {
            put_runs(&mut out, self.exhausted.iter().copied());
        }
        Bytes::from(out)
    }

    pub(super) fn decode(data: &[u8]) -> Result<Self, SnapshotError> {
        let mut reader = Reader(data);
        reader.version()?;
        let mut changes = Self {
            epoch: reader.number()?,
            time_ns: reader.milliseconds()?,
            ..Self::default()
        };
        let flags = reader.byte()?;
        if flags & HAS_DELIVERED != 0 {
            changes.delivered = Some(reader.position()?);
        }
        if flags & HAS_FLOOR != 0 {
            changes.floor = Some(reader.position()?);
        }
        if flags & HAS_ACKED != 0 {
            reader.runs(&mut changes.acked)?;
        }
        if flags & HAS_REDELIVERED != 0 {
            let (mut sequence, mut consumer_sequence) = (0, 0);
            for _ in 0..reader.number()? {
                sequence = reader.delta(sequence)?;
                consumer_sequence = reader.delta(consumer_sequence)?;
                let deliveries = reader.number()?;
                changes.redelivered.push(Again {
                    sequence,
                    consumer_sequence,
                    deliveries,
                });
            }
        }
        if flags & HAS_POSTPONED != 0 {
            let mut sequence = 0;
            for _ in 0..reader.number()? {
                sequence = reader.ascending(sequence)?;
                changes.postponed.insert(sequence, reader.milliseconds()?);
            }
        }
        if flags & HAS_EXHAUSTED != 0 {
            reader.runs(&mut changes.exhausted)?;
        }
        Ok(changes)
    }
}

/// Writes the whole state. `unconfirmed` are messages whose acknowledgement is not applied yet:
/// they are written as pending.
pub(super) fn encode_snapshot<'a>(
    created_ns: i64,
    state: &'a State,
    unconfirmed: impl Iterator<Item = &'a Slot>,
) -> Bytes {
    let mut out = Vec::with_capacity(64);
    out.push(FORMAT_VERSION);
    put_time(&mut out, created_ns);
    put(&mut out, state.epoch);
    let mut slots: Vec<Slot> = state.pending.iter().chain(unconfirmed).copied().collect();
    slots.sort_unstable_by_key(|slot| slot.sequence);
    let floor = slots.first().map_or(state.floor, |slot| Position {
        consumer: state.floor.consumer.min(slot.consumer_sequence - 1),
        stream: state.floor.stream.min(slot.sequence - 1),
    });
    put_position(&mut out, state.delivered);
    put_position(&mut out, floor);
    put_time(&mut out, state.last_delivered_ns);
    put_time(&mut out, state.last_ack_ns);
    put(&mut out, state.new_from);
    put(&mut out, state.num_pending.map_or(0, |count| count + 1));
    put_runs(&mut out, state.start_list.iter().copied());
    put_runs(&mut out, state.acked_ahead.iter().copied());
    put(&mut out, state.redelivered.len() as u64);
    let mut before = 0;
    for (sequence, deliveries) in &state.redelivered {
        put(&mut out, sequence - before);
        put(&mut out, *deliveries);
        before = *sequence;
    }
    put(&mut out, slots.len() as u64);
    before = 0;
    for slot in slots {
        put(&mut out, slot.sequence - before);
        put(&mut out, slot.consumer_sequence);
        put_time(&mut out, slot.at_ns);
        out.push(slot.kind());
        if let Some(due_ns) = slot.due_ns() {
            put_time(&mut out, due_ns);
        }
        before = slot.sequence;
    }
    Bytes::from(out)
}

/// Reads a snapshot: creation time and state.
pub(super) fn decode_snapshot(data: &[u8]) -> Result<(i64, State), SnapshotError> {
    let mut reader = Reader(data);
    reader.version()?;
    let created_ns = reader.time()?;
    let mut state = State {
        epoch: reader.number()?,
        delivered: reader.position()?,
        floor: reader.position()?,
        last_delivered_ns: reader.time()?,
        last_ack_ns: reader.time()?,
        new_from: reader.number()?,
        ..State::default()
    };
    state.num_pending = reader.number()?.checked_sub(1);
    reader.runs(&mut state.start_list)?;
    reader.runs(&mut state.acked_ahead)?;
    let mut sequence = 0;
    for _ in 0..reader.number()? {
        sequence = reader.ascending(sequence)?;
        state.redelivered.insert(sequence, reader.number()?);
    }
    state.pending = read_pending(&mut reader)?;
    Ok((created_ns, state))
}

fn read_pending(reader: &mut Reader<'_>) -> Result<Pending, SnapshotError> {
    let mut pending = Pending::default();
    let mut sequence = 0;
    for _ in 0..reader.number()? {
        sequence = reader.ascending(sequence)?;
        let consumer_sequence = reader.number()?;
        let at_ns = reader.time()?;
        if consumer_sequence == 0 || sequence == 0 {
            return Err(SnapshotError);
        }
        pending.insert(Slot::new(sequence, consumer_sequence, at_ns));
        match reader.byte()? {
            Slot::KIND_ACK_WAIT => {}
            Slot::KIND_AT => pending.set_due_at(sequence, reader.time()?),
            Slot::KIND_QUEUED => pending.set_queued(sequence),
            _ => return Err(SnapshotError),
        }
    }
    Ok(pending)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(data in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut versioned = vec![FORMAT_VERSION];
            versioned.extend_from_slice(&data);
            let _ = Changes::decode(&versioned);
            let _ = decode_snapshot(&versioned);
        }

        #[test]
        fn records_are_read_as_they_were_written(
            epoch in 0u64..5,
            delivered in prop::option::of((1u64..1 << 40, 1u64..1 << 40)),
            acked in prop::collection::btree_set(1u64..10_000, 0..50),
            again in prop::collection::vec((1u64..10_000, 1u64..10_000, 2u64..9), 0..5),
            postponed in prop::collection::btree_map(1u64..10_000, 0i64..1 << 40, 0..5),
        ) {
            let changes = Changes {
                epoch,
                time_ns: 1_700_000_000_123 * MILLISECOND_NS,
                delivered: delivered.map(|(consumer, stream)| Position { consumer, stream }),
                floor: delivered.map(|(consumer, stream)| Position { consumer, stream }),
                acked: acked.iter().copied().collect(),
                redelivered: again
                    .iter()
                    .map(|&(sequence, consumer_sequence, deliveries)| Again {
                        sequence,
                        consumer_sequence,
                        deliveries,
                    })
                    .collect(),
                postponed: postponed
                    .iter()
                    .map(|(sequence, due)| (*sequence, due / MILLISECOND_NS * MILLISECOND_NS))
                    .collect(),
                exhausted: acked.iter().copied().take(3).collect(),
            };
            prop_assert_eq!(Changes::decode(&changes.encode()), Ok(changes));
        }
    }

    #[test]
    fn a_delivered_and_acknowledged_message_costs_few_bytes() {
        let changes = Changes {
            time_ns: 1_700_000_000_123 * MILLISECOND_NS,
            delivered: Some(Position {
                consumer: 1_000_256,
                stream: 5_000_256,
            }),
            floor: Some(Position {
                consumer: 1_000_200,
                stream: 5_000_200,
            }),
            acked: (5_000_000..5_000_256).collect(),
            ..Changes::default()
        };
        // 256 messages of one turn (hard-parts 10 allows four bytes each).
        assert!(changes.encode().len() < 64);
    }
}
