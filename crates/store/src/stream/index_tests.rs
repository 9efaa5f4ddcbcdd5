//! The index of the store against a sorted map: random appends, skips, removals and purges, and
//! every question asked of both.

use super::model::Model;
use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Append {
        subject: usize,
        gap: u64,
        headers: usize,
        payload: usize,
        delay: i64,
    },
    Skip(u64),
    Remove(usize),
    RemoveFirst(usize),
    Purge {
        filter: usize,
        below: Option<u64>,
        keep: u64,
    },
}

const SUBJECTS: [&str; 8] = ["a", "a.b", "a.c", "b.c", "b.c.d", "a.b.c", "x-y.z", "x.y"];
const FILTERS: [&[&str]; 9] = [
    &[],
    &["a"],
    &["a.*"],
    &["*.c"],
    &["a.>", "b.c"],
    &["x.*", "*.y"],
    &["*"],
    &["none.*"],
    &["b.>"],
];

fn filter(number: usize) -> Filter {
    Filter::many(
        FILTERS[number % FILTERS.len()]
            .iter()
            .map(|text| text.as_bytes()),
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0usize..64, 0u64..40, 0usize..3, 0usize..5, 0i64..1000).prop_map(
            |(subject, gap, headers, payload, delay)| Step::Append {
                // The first subjects are common, the last ones rare.
                subject: (subject * subject) / 512,
                gap: if gap > 36 { gap } else { 1 },
                headers,
                payload,
                delay,
            }
        ),
        1 => (0u64..5).prop_map(Step::Skip),
        6 => any::<usize>().prop_map(Step::Remove),
        3 => (0usize..4).prop_map(Step::RemoveFirst),
        1 => (0usize..9, proptest::option::of(0u64..700), 0u64..6)
            .prop_map(|(filter, below, keep)| Step::Purge { filter, below, keep }),
    ]
}

fn message(
    model: &Model,
    subject: usize,
    gap: u64,
    sizes: (usize, usize),
    delay: i64,
) -> StoredMessage {
    StoredMessage {
        sequence: model.last_sequence + gap,
        time_ns: model.last_time_ns + delay,
        subject: Bytes::from_static(SUBJECTS[subject % SUBJECTS.len()].as_bytes()),
        headers: Bytes::from(vec![b'h'; sizes.0]),
        payload: Bytes::from(vec![b'p'; sizes.1]),
    }
}

fn step(store: &mut StreamStore, model: &mut Model, step: Step) {
    match step {
        Step::Append {
            subject,
            gap,
            headers,
            payload,
            delay,
        } => {
            let message = message(model, subject, gap, (headers, payload), delay);
            store.append(message.clone(), None);
            model.append(message);
        }
        Step::Skip(gap) => {
            store.skip(model.last_sequence + gap, 0);
            model.skip(model.last_sequence + gap, 0);
        }
        Step::Remove(which) if !model.messages.is_empty() => {
            let sequence = *model
                .messages
                .keys()
                .nth(which % model.messages.len())
                .unwrap();
            remove(store, model, sequence);
        }
        Step::RemoveFirst(count) => {
            for _ in 0..count {
                if let Some(first) = store.oldest() {
                    remove(store, model, first);
                }
            }
        }
        Step::Purge {
            filter: number,
            below,
            keep,
        } => {
            let filter = filter(number);
            let purge = Purge {
                filter: Some(&filter),
                below,
                keep,
            };
            let mut removed = Vec::new();
            let purged = store.purge(purge, |one| removed.push(one.sequence));
            assert_eq!(removed, model.purge(purge));
            assert_eq!(purged.messages, removed.len() as u64);
        }
        Step::Remove(_) => {}
    }
}

fn remove(store: &mut StreamStore, model: &mut Model, sequence: u64) {
    let expected = model.messages.remove(&sequence).unwrap();
    let removed = store.remove(sequence).unwrap();
    assert_eq!(removed.size, model.size(&expected));
    assert_eq!(removed.subject, expected.subject);
    let others = model
        .messages
        .values()
        .any(|other| other.subject == expected.subject);
    assert_eq!(removed.subject_gone, !others);
    assert!(store.remove(sequence).is_none());
}

pub(super) fn check_index(store: &StreamStore, model: &Model) {
    assert_eq!(store.state(), model.state());
    let state = model.state();
    let holes = (state.first_sequence..=state.last_sequence)
        .filter(|sequence| state.last_sequence > 0 && !model.messages.contains_key(sequence));
    assert_eq!(
        store.deleted_ranges().flatten().collect::<Vec<_>>(),
        holes.collect::<Vec<_>>()
    );
    for number in 0..FILTERS.len() {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_answer_agrees_with_a_sorted_map(steps in proptest::collection::vec(any_step(), 1..700), memory: bool) {
        let settings = if memory { StoreSettings::memory() } else { StoreSettings::file("s", crate::ids::IdSpace::new(1), 1) };
        let mut store = StreamStore::new(settings);
        let mut model = Model { file: !memory, ..Model::default() };
        for (number, one) in steps.into_iter().enumerate() {
            step(&mut store, &mut model, one);
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

// proves: STR first/last rules of spec jetstream/01 §4.
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
    store.append(
        StoredMessage {
            sequence: 100,
            time_ns: 5,
            subject: "a".into(),
            ..StoredMessage::default()
        },
        None,
    );
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
        let message = StoredMessage {
            sequence,
            time_ns: 1,
            subject: subject.into(),
            ..StoredMessage::default()
        };
        store.append(message, None);
    }
    assert_eq!(store.next_match(&Filter::one(b"rare.*"), 8), Some(49_000));
    assert_eq!(store.last_match(&Filter::one(b"rare.>"), 48_999), Some(7));
    assert_eq!(store.next_match(&Filter::one(b"rare.*"), 49_001), None);
}
