//! Who wants a subject: the interest trie with many subscriptions.

use std::hint::black_box;

use millrace_subject::{InterestTrie, Matched};

/// Devices that are subscribed to, each by its own filters.
const DEVICES: u64 = 1_000;

fn subjects() -> Vec<Vec<u8>> {
    (0..DEVICES)
        .map(|device| format!("factory.line{}.device{device}.state", device % 10).into_bytes())
        .collect()
}

/// One literal subscription matches.
pub(crate) fn literal(count: u64) {
    let mut trie = InterestTrie::new();
    for (key, subject) in subjects().iter().enumerate() {
        trie.insert(subject, None, key as u32);
    }
    matches(count, &trie);
}

/// A wildcard of each kind, a queue group and a literal match.
pub(crate) fn wildcard(count: u64) {
    let mut trie = InterestTrie::new();
    for device in 0..DEVICES {
        let line = device % 10;
        let filters = [
            format!("factory.line{line}.device{device}.>"),
            format!("factory.*.device{device}.state"),
            format!("*.line{line}.device{device}.*"),
        ];
        for (place, filter) in filters.iter().enumerate() {
            trie.insert(filter.as_bytes(), None, (device * 4) as u32 + place as u32);
        }
        let queue = format!("factory.line{line}.device{device}.state");
        trie.insert(queue.as_bytes(), Some(b"workers"), (device * 4) as u32 + 3);
    }
    matches(count, &trie);
}

fn matches(count: u64, trie: &InterestTrie<u32>) {
    let subjects = subjects();
    let mut matched = Matched::new();
    for (_, subject) in (0..count).zip(subjects.iter().cycle()) {
        trie.matches(black_box(subject), &mut matched);
        assert!(!matched.is_empty());
        black_box(&matched);
    }
}
