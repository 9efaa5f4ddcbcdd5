//! The index of the store against a sorted map: random appends, skips, removals and purges, and
//! every question asked of both.

use super::model::{Model, Operation, filter, filters};
use super::*;
use bytes::Bytes;
use proptest::prelude::*;

pub(super) fn check_index(store: &StreamStore, model: &Model) {
    assert_eq!(store.state(), model.state());
    let state = model.state();
    let holes = (state.first_sequence..=state.last_sequence)
        .filter(|sequence| state.last_sequence > 0 && !model.messages.contains_key(sequence));
    assert_eq!(
        store.deleted_ranges().flatten().collect::<Vec<_>>(),
        holes.collect::<Vec<_>>()
    );
    for number in 0..filters() {
        check_filter(store, model, &filter(number));
    }
    for message in model.messages.values() {
        assert_eq!(store.subject_of(message.sequence), Some(&message.subject));
        assert_eq!(store.time_of(message.sequence), Some(message.time_ns));
        assert_eq!(store.size_of(message.sequence), Some(model.size(message)));
        let at = store.first_at_or_after(message.time_ns).unwrap();
        let expected = model
            .messages
            .values()
            .find(|other| other.time_ns >= message.time_ns);
        assert_eq!(Some(at), expected.map(|other| other.sequence));
    }
    assert_eq!(store.first_at_or_after(model.last_time_ns + 1), None);
}

fn check_filter(store: &StreamStore, model: &Model, filter: &Filter) {
    let matching = model.matching(filter);
    let last = model.last_sequence;
    for probe in (0..last + 3)
        .step_by(1 + last as usize / 40)
        .chain([u64::MAX])
    {
        let next = matching.iter().copied().find(|sequence| *sequence >= probe);
        assert_eq!(
            store.next_match(filter, probe),
            next,
            "next {filter:?} {probe}"
        );
        let previous = matching
            .iter()
            .rev()
            .copied()
            .find(|sequence| *sequence <= probe);
        assert_eq!(
            store.last_match(filter, probe),
            previous,
            "last {filter:?} {probe}"
        );
        let count = matching
            .iter()
            .filter(|sequence| **sequence >= probe)
            .count() as u64;
        assert_eq!(
            store.count_from(filter, probe),
            count,
            "count {filter:?} {probe}"
        );
    }
    let mut total = 0;
    let mut newest = Vec::new();
    store.for_each_subject(filter, |subject, state| {
        let sequences = model.matching(&Filter::one(subject));
        assert_eq!(state.count, sequences.len() as u64);
        assert_eq!(
            (Some(&state.first), Some(&state.last)),
            (sequences.first(), sequences.last())
        );
        total += state.count;
        newest.push(state.last);
    });
    newest.sort_unstable();
    assert_eq!(total, matching.len() as u64);
    assert_eq!(
        store.last_per_subject(filter, u64::MAX, newest.len()),
        Some(newest.clone())
    );
    if !newest.is_empty() {
        assert_eq!(
            store.last_per_subject(filter, u64::MAX, newest.len() - 1),
            None
        );
    }
}

fn message(sequence: u64, time_ns: i64, subject: &'static str) -> StoredMessage {
    StoredMessage {
        sequence,
        time_ns,
        subject: subject.into(),
        ..StoredMessage::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_answer_agrees_with_a_sorted_map(steps in proptest::collection::vec(Operation::any(), 1..700), memory: bool) {
        let settings = if memory { StoreSettings::memory() } else { StoreSettings::file("s", crate::ids::IdSpace::new(1), 1) };
        let mut store = StreamStore::new(settings);
        let mut model = Model { file: !memory, ..Model::default() };
        for (number, step) in steps.into_iter().enumerate() {
            for operation in step.resolve(&model) {
                operation.apply(&mut store, &model, None);
                operation.apply_to_model(&mut model);
            }
            if number % 150 == 0 {
                check_index(&store, &model);
            }
        }
        check_index(&store, &model);
        let sequences: Vec<u64> = model.messages.keys().copied().collect();
        for sequence in sequences {
            prop_assert_eq!(store.get(sequence), Lookup::Ready(Ok(model.messages[&sequence].clone())));
        }
    }
}

// The first and last rules of spec jetstream/01 §4.
#[test]
fn first_and_last_follow_the_rules_of_the_reference() {
    let mut store = StreamStore::new(StoreSettings::memory());
    assert_eq!(store.state(), StreamState::default());
    store.skip(99, 0);
    let state = store.state();
    assert_eq!(
        (state.first_sequence, state.last_sequence, state.deleted),
        (100, 99, 0)
    );
    store.append(message(100, 5, "a"), None);
    store.remove(100);
    let state = store.state();
    assert_eq!((state.first_sequence, state.first_time_ns), (101, 0));
    assert_eq!((state.last_sequence, state.last_time_ns), (100, 5));
    store.purge(
        Purge {
            below: Some(200),
            ..Purge::default()
        },
        |_| {},
    );
    let state = store.state();
    assert_eq!((state.first_sequence, state.last_sequence), (200, 199));
}

#[test]
fn a_sparse_wildcard_over_a_long_stream_finds_its_last_message() {
    let mut store = StreamStore::new(StoreSettings::memory());
    for sequence in 1..=50_000u64 {
        let subject = if sequence == 7 || sequence == 49_000 {
            "rare.x"
        } else {
            "common.y"
        };
        store.append(message(sequence, 1, subject), None);
    }
    assert_eq!(store.next_match(&Filter::one(b"rare.*"), 8), Some(49_000));
    assert_eq!(store.last_match(&Filter::one(b"rare.>"), 48_999), Some(7));
    assert_eq!(store.next_match(&Filter::one(b"rare.*"), 49_001), None);
}

/// The figures that ARCHITECTURE.md and docs state: what the index keeps resident.
#[test]
fn the_index_keeps_what_the_documents_say_per_message_subject_and_deleted_range() {
    const MESSAGES: u64 = 100_000;
    const SUBJECTS: u64 = 25_000;
    let settings = StoreSettings::file("s", crate::ids::IdSpace::new(1), 1);
    let mut store = StreamStore::new(settings.clone());
    for sequence in 1..=MESSAGES {
        store.append(message(sequence, sequence as i64, "one.subject"), None);
    }
    let dense = store.resident();
    let per_message = (dense.rows + dense.subjects) as f64 / MESSAGES as f64;
    assert!(per_message < 23.0, "{per_message} bytes per message");
    for sequence in (2..MESSAGES).step_by(2) {
        store.remove(sequence);
    }
    let sparse = store.resident();
    let rows = sparse.rows as f64 / (MESSAGES / 2) as f64;
    assert!(rows < 24.0, "{rows} bytes per message between deleted ones");
    let per_range = sparse.deleted as f64 / (MESSAGES / 2) as f64;
    assert!(per_range <= 4.0, "{per_range} bytes per deleted range");

    let mut store = StreamStore::new(settings);
    for sequence in 1..=SUBJECTS {
        let subject = Bytes::from(format!("KV.bucket.key{sequence:08}"));
        let time_ns = sequence as i64;
        store.append(
            StoredMessage {
                sequence,
                time_ns,
                subject,
                ..StoredMessage::default()
            },
            None,
        );
    }
    let per_subject = store.resident().subjects as f64 / SUBJECTS as f64;
    assert!(
        per_subject < 155.0 + 21.0,
        "{per_subject} bytes per subject of 21 bytes"
    );
}
