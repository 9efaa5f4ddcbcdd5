//! Match results remembered by one publishing connection, checked against the interest trie's
//! generation before use. Matching itself is the trie's business.

use hashbrown::HashMap;
use millrace_subject::{InterestTrie, Matched};
use rustc_hash::FxBuildHasher;

use crate::account::SubscriptionKey;
use crate::limits::{MATCH_CACHE_ENTRIES, MATCH_CACHE_SUBJECT_MAX, MATCH_CACHE_TARGETS};

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

/// The cache of one connection, bounded in entries and in remembered receivers.
#[derive(Debug, Default)]
pub(crate) struct MatchCache {
    entries: HashMap<Box<[u8]>, MatchEntry, FxBuildHasher>,
    targets: usize,
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
        if !is_enabled || subject.len() > MATCH_CACHE_SUBJECT_MAX {
            self.passing.allowed = may_publish();
            interest.matches(subject, &mut self.scratch);
            self.passing.load(&self.scratch);
            return &self.passing;
        }
        if self.entries.len() >= MATCH_CACHE_ENTRIES && !self.entries.contains_key(subject)
            || self.targets > MATCH_CACHE_TARGETS
        {
            self.entries.clear();
            self.targets = 0;
        }
        let generation = interest.generation();
        let (entry, is_new) = match self.entries.entry_ref(subject) {
            hashbrown::hash_map::EntryRef::Occupied(entry) => (entry.into_mut(), false),
            hashbrown::hash_map::EntryRef::Vacant(entry) => {
                let fresh = MatchEntry {
                    allowed: may_publish(),
                    ..MatchEntry::default()
                };
                (entry.insert_with_key(Box::from(subject), fresh), true)
            }
        };
        if is_new || entry.generation != generation {
            let subject_generation = interest.generation_for(subject);
            if is_new || entry.subject_generation != subject_generation {
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
}
