//! A consumer's state in the words of a backup, and back. Both ways go over the bytes of a
//! checkpoint, so that what stands still (an export) and what lives are told the same.

use bytes::Bytes;
use millrace_archive::backup::{ConsumerState, PendingMessage, SequencePair};

use super::pending::Slot;
use super::record::{SnapshotError, decode_snapshot, encode_snapshot};
use super::state::{Position, State};

/// What a backup says of a consumer whose stream ends at `last_sequence`. `snapshot`:
/// [`super::Consumer::snapshot`].
///
/// # Errors
/// [`SnapshotError`] for bytes that this version cannot read.
pub fn exported_state(snapshot: &[u8], last_sequence: u64) -> Result<ConsumerState, SnapshotError> {
    let (_, state) = decode_snapshot(snapshot)?;
    let pair = |position: Position| SequencePair {
        consumer_seq: position.consumer,
        stream_seq: position.stream.min(last_sequence),
    };
    let pending = state.pending.iter();
    let pending = pending.filter(|slot| slot.sequence <= last_sequence);
    let again = state.redelivered.iter();
    let again = again.filter(|(sequence, _)| **sequence <= last_sequence);
    Ok(ConsumerState {
        delivered: pair(state.delivered),
        ack_floor: pair(state.floor),
        pending: pending
            .map(|slot| {
                let message = PendingMessage {
                    sequence: slot.consumer_sequence,
                    timestamp: slot.at_ns,
                };
                (slot.sequence, message)
            })
            .collect(),
        // A backup counts the deliveries after the first.
        redelivered: again
            .map(|(sequence, deliveries)| (*sequence, deliveries.saturating_sub(1)))
            .collect(),
    })
}

/// The checkpoint of a consumer that a backup tells of. Whatever it says, what a consumer relies on
/// holds: floor ≤ delivered ≤ last sequence of the stream, and what is pending lies between.
#[must_use]
pub fn imported_snapshot(
    told: &ConsumerState,
    created_ns: i64,
    last_sequence: u64,
    ack_wait_ns: i64,
) -> Bytes {
    let delivered = Position {
        consumer: told.delivered.consumer_seq,
        stream: told.delivered.stream_seq.min(last_sequence),
    };
    let mut state = State {
        delivered,
        floor: Position {
            consumer: told.ack_floor.consumer_seq.min(delivered.consumer),
            stream: told.ack_floor.stream_seq.min(delivered.stream),
        },
        ..State::default()
    };
    let between = state.floor.stream.saturating_add(1)..=delivered.stream;
    for (sequence, message) in &told.pending {
        // Each was delivered, so each was counted.
        let counted = (1..=delivered.consumer).contains(&message.sequence);
        if !between.contains(sequence) || !counted {
            continue;
        }
        let at_ns = message.timestamp.max(0);
        state
            .pending
            .insert(Slot::new(*sequence, message.sequence, at_ns));
        // Not all were delivered in the order of their sequences.
        state
            .pending
            .set_due_at(*sequence, at_ns.saturating_add(ack_wait_ns));
    }
    for (sequence, again) in &told.redelivered {
        if between.contains(sequence) && *again > 0 {
            state.redelivered.insert(*sequence, again.saturating_add(1));
        }
    }
    encode_snapshot(created_ns, &state, std::iter::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(consumer_seq: u64, stream_seq: u64) -> SequencePair {
        SequencePair {
            consumer_seq,
            stream_seq,
        }
    }

    fn told() -> ConsumerState {
        let pending = |sequence, timestamp| PendingMessage {
            sequence,
            timestamp,
        };
        ConsumerState {
            delivered: pair(8, 8),
            ack_floor: pair(1, 2),
            pending: [(3, pending(2, 50)), (5, pending(4, 70))].into(),
            redelivered: [(3, 1)].into(),
        }
    }

    #[test]
    fn a_consumer_is_told_as_it_was_read() {
        let snapshot = imported_snapshot(&told(), 9, 20, 1_000);
        assert_eq!(exported_state(&snapshot, 20), Ok(told()));
    }

    #[test]
    fn what_a_backup_cannot_know_is_left_out() {
        let mut wild = told();
        wild.delivered = pair(4, 99);
        wild.ack_floor = pair(7, 100);
        wild.pending.insert(77, wild.pending[&3]);
        wild.redelivered.insert(u64::MAX, 3);
        let snapshot = imported_snapshot(&wild, 9, 6, i64::MAX);
        let read = exported_state(&snapshot, 6).expect("just written");
        assert_eq!((read.delivered, read.ack_floor), (pair(4, 6), pair(4, 6)));
        assert!(read.pending.is_empty() && read.redelivered.is_empty());
    }

    #[test]
    fn an_export_ends_where_its_stream_does() {
        let snapshot = imported_snapshot(&told(), 9, 20, 1_000);
        let read = exported_state(&snapshot, 4).expect("just written");
        assert_eq!((read.delivered, read.ack_floor), (pair(8, 4), pair(1, 2)));
        assert_eq!(read.pending.len(), 1);
    }
}
