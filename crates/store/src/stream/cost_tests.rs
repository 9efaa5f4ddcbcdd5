//! What a question costs must not grow with the stream: the items looked at are counted, in a
//! small stream and in one many times as long.

use super::*;
use bytes::Bytes;

const SMALL: u64 = 6_000;
const LARGE: u64 = 16 * SMALL;
/// One message of so many is on one of the few rare subjects.
const RARE: u64 = 1_000;

fn store_of(messages: u64) -> StreamStore {
    let mut store = StreamStore::new(StoreSettings::memory());
    for sequence in 1..=messages {
        let subject = if sequence.is_multiple_of(RARE) {
            Bytes::from(format!("rare.{}", sequence / RARE % 4))
        } else {
            Bytes::from(format!("common.{}", sequence % 50))
        };
        let message = StoredMessage {
            sequence,
            time_ns: sequence as i64 * 10,
            subject,
            ..StoredMessage::default()
        };
        store.append(message, None);
    }
    store
}

fn touched(store: &StreamStore) -> u64 {
    store.index.rows.touched() + store.index.subjects.touched()
}

/// The most items that one call of `ask` looks at, over places all through the stream.
fn most_touched(store: &mut StreamStore, ask: &dyn Fn(&mut StreamStore, u64)) -> u64 {
    let last = store.state().last_sequence;
    let places = (1..last).step_by(last as usize / 23);
    let costs = places.map(|place| {
        let before = touched(store);
        ask(store, place);
        touched(store) - before
    });
    costs.max().unwrap_or(0)
}

type Question = (&'static str, &'static dyn Fn(&mut StreamStore, u64));

const QUESTIONS: [Question; 13] = [
    ("next of a literal", &|store, from| {
        let _ = store.next_match(&Filter::one(b"rare.1"), from);
    }),
    ("next of a sparse wildcard", &|store, from| {
        let next = store.next_match(&Filter::one(b"rare.*"), from);
        assert!(next.is_none_or(|next| next == from.next_multiple_of(RARE)));
    }),
    ("next of several filters", &|store, from| {
        let filter = Filter::many([b"rare.1".as_slice(), b"rare.2", b"none.>"]);
        let _ = store.next_match(&filter, from);
    }),
    ("last of a sparse wildcard", &|store, up_to| {
        let last = store.last_match(&Filter::one(b"rare.>"), up_to);
        assert_eq!(last, Some(up_to / RARE * RARE).filter(|last| *last > 0));
    }),
    ("next of nothing", &|store, from| {
        assert_eq!(store.next_match(&Filter::one(b"none.*"), from), None);
    }),
    ("pending of all", &|store, from| {
        let last = store.state().last_sequence;
        assert_eq!(store.count_from(&Filter::all(), from), last - from + 1);
    }),
    ("pending of a literal", &|store, from| {
        let _ = store.count_from(&Filter::one(b"common.7"), from);
    }),
    ("pending of a wildcard", &|store, from| {
        let last = store.state().last_sequence;
        let rare = store.count_from(&Filter::one(b"rare.*"), from);
        assert_eq!(rare, last / RARE - (from - 1) / RARE);
    }),
    ("last of a subject", &|store, _| {
        assert!(store.last_of(b"rare.1").is_some());
    }),
    ("last of many subjects", &|store, up_to| {
        let _ = store.last_per_subject(&Filter::one(b"rare.*"), up_to, 100);
    }),
    ("first at a time", &|store, at| {
        assert_eq!(store.first_at_or_after(at as i64 * 10 - 9), Some(at));
    }),
    ("where a purge that keeps many begins", &|store, keep| {
        let _ = store.index.keep_from(&Filter::all(), u64::MAX, keep);
    }),
    ("a delete in the interior", &|store, at| {
        assert!(store.remove(at + 1).is_some());
    }),
];

#[test]
fn no_question_costs_more_in_a_longer_stream() {
    let (mut small, mut large) = (store_of(SMALL), store_of(LARGE));
    for (question, ask) in QUESTIONS {
        let cost = most_touched(&mut small, ask);
        let later = most_touched(&mut large, ask);
        // A chunk of 1,024 messages may be looked through, the whole stream never.
        assert!(cost <= 25_000, "{question}: {cost} items");
        assert!(
            later <= cost + cost / 4 + 1_100,
            "{question}: {cost} items, then {later} in a stream 16 times as long"
        );
    }
}

#[test]
fn a_consumer_of_one_message_in_a_thousand_skips_the_others() {
    let store = store_of(LARGE);
    let filter = Filter::one(b"rare.*");
    let before = touched(&store);
    let (mut from, mut found) = (1, 0);
    while let Some(sequence) = store.next_match(&filter, from) {
        found += 1;
        from = sequence + 1;
    }
    assert_eq!(found, LARGE / RARE);
    let each = (touched(&store) - before) / found;
    assert!(each < RARE / 4, "{each} items per message found");
}

#[test]
fn a_purge_goes_in_steps_and_emptying_a_stream_is_one() {
    let mut store = store_of(LARGE);
    let filter = Filter::one(b"common.*");
    let mut cursor = store.begin_purge(Purge {
        filter: Some(&filter),
        ..Purge::default()
    });
    let mut steps = 0;
    loop {
        let (before, messages) = (touched(&store), store.state().messages);
        let done = store.step_purge(&mut cursor, 1000, |_| {});
        steps += 1;
        assert!(touched(&store) - before < 40_000, "step {steps}");
        assert!(messages - store.state().messages <= 1000);
        if done {
            break;
        }
    }
    assert!(steps > LARGE / 1000 - 10, "{steps} steps");
    assert_eq!(store.state().messages, LARGE / RARE);
    assert_eq!(cursor.purged().messages, LARGE - LARGE / RARE);

    let mut store = store_of(LARGE);
    let before = touched(&store);
    let mut cursor = store.begin_purge(Purge::default());
    assert!(store.step_purge(&mut cursor, 1, |_| {}));
    assert_eq!(touched(&store), before);
    let state = store.state();
    assert_eq!((state.messages, state.bytes, state.subjects), (0, 0, 0));
    assert_eq!(state.first_sequence, LARGE + 1);
    assert_eq!(cursor.purged().messages, LARGE);
    let mut freed = 0;
    while store.free_purged(1000) {
        freed += 1;
    }
    assert!(freed >= LARGE / 1000, "{freed} steps to free it");
}
