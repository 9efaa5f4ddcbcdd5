//! Match results remembered by one publishing connection, checked against the interest trie's
//! generation before use. Matching itself is the trie's business.

use std::hash::{BuildHasher, Hasher};

use hashbrown::HashTable;
use millrace_subject::{InterestTrie, Matched};
use rustc_hash::FxBuildHasher;

use crate::account::SubscriptionKey;
use crate::limits::{
    MATCH_CACHE_BYPASS, MATCH_CACHE_ENTRIES, MATCH_CACHE_SUBJECT_MAX, MATCH_CACHE_TARGETS,
};

/// What is remembered about one subject.
#[derive(Debug, Default)]
pub(crate) struct MatchEntry {
    generation: u64,
    subject_generation: u64,
    /// Whether the connection may publish to the subject.
    pub(crate) allowed: bool,
    pub(crate) plain: Vec<SubscriptionKey>,
    pub(crate) queues: Vec<Vec<SubscriptionKey>>,
}

impl MatchEntry {
    fn load(&mut self, matched: &Matched<SubscriptionKey>) {
        self.plain.clear();
        self.plain.extend_from_slice(&matched.plain);
        self.queues.clear();
        self.queues
            .extend(matched.queues.iter().map(|group| group.members.clone()));
    }

    fn targets(&self) -> usize {
        self.plain.len() + self.queues.iter().map(Vec::len).sum::<usize>()
    }
}

#[derive(Debug)]
struct Remembered {
    subject: Box<[u8]>,
    entry: MatchEntry,
}

/// The cache of one connection, bounded in entries and in remembered receivers.
///
/// A publisher that hardly ever comes back to a subject would fill it for nothing: then results
/// pass through for a while without being remembered.
#[derive(Debug, Default)]
pub(crate) struct MatchCache {
    entries: Vec<Remembered>,
    /// Places in `entries` by subject.
    index: HashTable<u32>,
    /// The place that was used last: many publishers stay with a subject.
    last: usize,
    targets: usize,
    /// Lookups since the cache was empty that found their subject.
    hits: usize,
    /// Lookups that are still not to be remembered.
    bypass: usize,
    /// Holds the result for subjects that are not worth remembering.
    passing: MatchEntry,
    scratch: Matched<SubscriptionKey>,
}

impl MatchCache {
    /// The receivers of `subject`; `may_publish` is asked once per remembered subject.
    pub(crate) fn lookup(
        &mut self,
        interest: &InterestTrie<SubscriptionKey>,
        subject: &[u8],
        is_enabled: bool,
        may_publish: impl FnOnce() -> bool,
    ) -> &MatchEntry {
        let is_last = is_enabled
            && self
                .entries
                .get(self.last)
                .is_some_and(|remembered| *remembered.subject == *subject);
        if !is_last && !self.find_or_remember(subject, is_enabled, may_publish, interest) {
            return &self.passing;
        }
        let Some(Remembered { entry, .. }) = self.entries.get_mut(self.last) else {
            return &self.passing;
        };
        let generation = interest.generation();
        if entry.generation != generation {
            let subject_generation = interest.generation_for(subject);
            if entry.subject_generation != subject_generation {
                let before = entry.targets();
                interest.matches(subject, &mut self.scratch);
                entry.load(&self.scratch);
                self.targets = (self.targets + entry.targets()).saturating_sub(before);
                entry.subject_generation = subject_generation;
            }
            entry.generation = generation;
        }
        entry
    }

    /// Makes `last` the place of `subject`; false if its result is in `passing` instead.
    fn find_or_remember(
        &mut self,
        subject: &[u8],
        is_enabled: bool,
        may_publish: impl FnOnce() -> bool,
        interest: &InterestTrie<SubscriptionKey>,
    ) -> bool {
        let is_enabled = is_enabled && subject.len() <= MATCH_CACHE_SUBJECT_MAX;
        let hash = hash_of(subject);
        if is_enabled {
            let entries = &self.entries;
            let is_it = |place: &u32| {
                let remembered = entries.get(*place as usize);
                remembered.is_some_and(|remembered| *remembered.subject == *subject)
            };
            if let Some(place) = self.index.find(hash, is_it) {
                self.last = *place as usize;
                self.hits += 1;
                return true;
            }
        }
        let allowed = may_publish();
        if !is_enabled || self.bypass > 0 {
            self.bypass = self.bypass.saturating_sub(1);
            self.passing.allowed = allowed;
            interest.matches(subject, &mut self.scratch);
            self.passing.load(&self.scratch);
            return false;
        }
        if self.entries.len() >= MATCH_CACHE_ENTRIES || self.targets > MATCH_CACHE_TARGETS {
            self.empty();
        }
        self.last = self.entries.len();
        let mut entry = MatchEntry {
            allowed,
            subject_generation: interest.generation_for(subject),
            generation: interest.generation(),
            ..MatchEntry::default()
        };
        interest.matches(subject, &mut self.scratch);
        entry.load(&self.scratch);
        self.targets += entry.targets();
        self.entries.push(Remembered {
            subject: subject.into(),
            entry,
        });
        let entries = &self.entries;
        let hash_at = |place: &u32| {
            let remembered = entries.get(*place as usize);
            hash_of(remembered.map_or(&[], |remembered| &remembered.subject))
        };
        // At most MATCH_CACHE_ENTRIES places.
        self.index.insert_unique(hash, self.last as u32, hash_at);
        true
    }

    fn empty(&mut self) {
        if self.hits < self.entries.len() {
            self.bypass = MATCH_CACHE_BYPASS;
        }
        self.entries.clear();
        self.index.clear();
        self.targets = 0;
        self.hits = 0;
    }
}

fn hash_of(subject: &[u8]) -> u64 {
    let mut hasher = FxBuildHasher.build_hasher();
    hasher.write(subject);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receivers(
        cache: &mut MatchCache,
        interest: &InterestTrie<SubscriptionKey>,
        subject: &str,
    ) -> usize {
        let entry = cache.lookup(interest, subject.as_bytes(), true, || true);
        entry.targets()
    }

    #[test]
    fn changes_of_interest_are_seen_by_remembered_subjects() {
        let mut interest = InterestTrie::default();
        let mut cache = MatchCache::default();
        assert_eq!(receivers(&mut cache, &interest, "a.b"), 0);
        interest.insert(b"a.*", None, SubscriptionKey(1));
        assert_eq!(receivers(&mut cache, &interest, "a.b"), 1);
        assert_eq!(receivers(&mut cache, &interest, "a.c"), 1);
        interest.insert(b"a.b", Some(b"q"), SubscriptionKey(2));
        assert_eq!(receivers(&mut cache, &interest, "a.b"), 2);
        assert_eq!(receivers(&mut cache, &interest, "a.c"), 1);
        interest.remove(b"a.*", None, SubscriptionKey(1));
        assert_eq!(receivers(&mut cache, &interest, "a.b"), 1);
        assert_eq!(receivers(&mut cache, &interest, "a.c"), 0);
        assert_eq!(cache.entries.len(), 2);
    }

    #[test]
    fn subjects_that_never_come_back_stop_being_remembered_for_a_while() {
        let mut interest = InterestTrie::default();
        interest.insert(b"x.*", None, SubscriptionKey(1));
        let mut cache = MatchCache::default();
        for number in 0..MATCH_CACHE_ENTRIES + 100 {
            assert_eq!(receivers(&mut cache, &interest, &format!("x.{number}")), 1);
            assert!(cache.entries.len() <= MATCH_CACHE_ENTRIES);
        }
        assert!(cache.bypass > 0 && cache.entries.len() <= 1);
        cache.bypass = 0;
        for _ in 0..3 {
            for number in 0..MATCH_CACHE_ENTRIES / 2 {
                assert_eq!(receivers(&mut cache, &interest, &format!("x.{number}")), 1);
            }
        }
        assert_eq!(cache.bypass, 0, "subjects that come back are remembered");
        assert!(cache.hits > 0);
    }
}
