//! The interest trie: which subscriptions, plain and in queue groups, match a subject.
//!
//! One trie per account holds everything that can receive a message. Who of a queue group gets
//! it, and all delivery rules, are the broker's. A match result may be cached and is checked by
//! [`InterestTrie::generation_for`].

use crate::members::Members;
use crate::token::{FULL, STAR, tokens};
use hashbrown::HashMap;
use rustc_hash::{FxBuildHasher, FxHasher};
use smallvec::SmallVec;
use std::hash::{Hash, Hasher as _};

/// Buckets of the generation table; a change in one leaves cached results of the others valid.
const GENERATION_BUCKETS: usize = 1024;
/// Tokens of a subject that need no allocation while matching.
const INLINE_TOKENS: usize = 16;

type NodeIndex = u32;
/// The root node; as a child index it means "no child".
const ROOT: NodeIndex = 0;

/// Children by literal token.
type Literals = HashMap<Box<[u8]>, NodeIndex, FxBuildHasher>;

/// A place in the trie. Most hold one child or one subscription, so what is seldom there is boxed.
#[derive(Debug)]
struct Node<T> {
    literals: Option<Box<Literals>>,
    star: NodeIndex,
    full: NodeIndex,
    plain: Members<T>,
    queues: Option<Box<Queues<T>>>,
}

type Queues<T> = Vec<(Box<[u8]>, Members<T>)>;

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self {
            literals: None,
            star: ROOT,
            full: ROOT,
            plain: Members::None,
            queues: None,
        }
    }
}

impl<T> Node<T> {
    const fn is_unused(&self) -> bool {
        matches!(self.plain, Members::None)
            && self.queues.is_none()
            && self.literals.is_none()
            && self.star == ROOT
            && self.full == ROOT
    }

    fn literal(&self, token: &[u8]) -> Option<NodeIndex> {
        self.literals.as_ref()?.get(token).copied()
    }

    fn queues(&self) -> &[(Box<[u8]>, Members<T>)] {
        self.queues.as_ref().map_or(&[], |queues| queues)
    }
}

/// Subscriptions by subject filter. `T` identifies a subscription, such as a slab key.
#[derive(Debug)]
pub struct InterestTrie<T> {
    nodes: Vec<Node<T>>,
    free: Vec<NodeIndex>,
    len: usize,
    generation: u64,
    wildcard_generation: u64,
    bucket_generations: Box<[u64]>,
}

impl<T: Copy + Eq + Hash> Default for InterestTrie<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Copy + Eq + Hash> InterestTrie<T> {
    /// An empty trie.
    #[must_use]
    pub fn new() -> Self {
        Self {
            nodes: vec![Node::default()],
            free: Vec::new(),
            len: 0,
            generation: 0,
            wildcard_generation: 0,
            bucket_generations: vec![0; GENERATION_BUCKETS].into_boxed_slice(),
        }
    }

    /// Adds `subscription` under `filter`, in the queue group `queue` if one is given.
    ///
    /// `filter` must be valid ([`crate::is_valid_filter`]); an invalid one matches nothing but
    /// can still be removed. The same triple may be added twice and then counts twice.
    pub fn insert(&mut self, filter: &[u8], queue: Option<&[u8]>, subscription: T) {
        let mut index = ROOT;
        for token in tokens(filter) {
            index = self.child_or_new(index, token);
        }
        let node = &mut self.nodes[index as usize];
        match queue {
            None => node.plain.push(subscription),
            Some(name) => {
                let queues = node.queues.get_or_insert_default();
                if let Some((_, members)) =
                    queues.iter_mut().find(|(group, _)| group.as_ref() == name)
                {
                    members.push(subscription);
                } else {
                    queues.push((name.into(), Members::One(subscription)));
                }
            }
        }
        self.len += 1;
        self.changed(filter);
    }

    /// Removes one subscription added with exactly these arguments; false if there is none.
    pub fn remove(&mut self, filter: &[u8], queue: Option<&[u8]>, subscription: T) -> bool {
        let mut path: SmallVec<[NodeIndex; INLINE_TOKENS]> = SmallVec::new();
        let mut index = ROOT;
        for token in tokens(filter) {
            path.push(index);
            index = self.child(index, token);
            if index == ROOT {
                return false;
            }
        }
        if !remove_from(&mut self.nodes[index as usize], queue, subscription) {
            return false;
        }
        self.prune(filter, &path, index);
        self.len -= 1;
        self.changed(filter);
        true
    }

    /// Collects into `out` (cleared first) all that matches the published subject `literal`.
    ///
    /// Wildcard characters in `literal` are plain tokens; an empty token matches nothing.
    /// Members of one queue group that subscribed with different filters form one group.
    pub fn matches(&self, literal: &[u8], out: &mut Matched<T>) {
        out.clear();
        self.walk(literal, |node| {
            out.plain.extend_from_slice(node.plain.as_slice());
            // Names are unique within a node, so only groups of earlier nodes can be the same.
            let known = out.queues.len();
            for (name, members) in node.queues() {
                let members = members.as_slice();
                match out.queues[..known]
                    .iter_mut()
                    .find(|group| group.name == name.as_ref())
                {
                    Some(group) => group.members.extend_from_slice(members),
                    None => out.push_group(name, members),
                }
            }
            true
        });
    }

    /// Whether anything at all matches the published subject `literal`.
    #[must_use]
    pub fn has_interest(&self, literal: &[u8]) -> bool {
        let mut found = false;
        self.walk(literal, |node| {
            found |= !node.plain.as_slice().is_empty() || node.queues.is_some();
            !found
        });
        found
    }

    /// Whether the queue group `queue` has a member that matches `literal`.
    #[must_use]
    pub fn has_queue_interest(&self, literal: &[u8], queue: &[u8]) -> bool {
        let mut found = false;
        self.walk(literal, |node| {
            found |= node.queues().iter().any(|(name, _)| name.as_ref() == queue);
            !found
        });
        found
    }

    /// A number that changes whenever any subscription is added or removed.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// A number that changes at least whenever the match result of `literal` does, and seldom
    /// otherwise: an inbox that comes and goes leaves other subjects' numbers alone.
    #[must_use]
    pub fn generation_for(&self, literal: &[u8]) -> u64 {
        let mut parts = tokens(literal);
        let first = parts.next().unwrap_or_default();
        let mut sum = self
            .wildcard_generation
            .wrapping_add(self.bucket_generations[bucket(first, None)]);
        if let Some(second) = parts.next() {
            sum = sum.wrapping_add(self.bucket_generations[bucket(first, Some(second))]);
        }
        sum
    }

    /// How many subscriptions there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no subscription.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Calls `visit(filter, queue, subscription)` for all, in the byte order of their tokens.
    pub fn for_each(&self, mut visit: impl FnMut(&[u8], Option<&[u8]>, T)) {
        let mut pending = vec![(ROOT, Vec::new())];
        while let Some((index, filter)) = pending.pop() {
            let node = &self.nodes[index as usize];
            for subscription in node.plain.as_slice() {
                visit(&filter, None, *subscription);
            }
            for (queue, members) in node.queues() {
                for subscription in members.as_slice() {
                    visit(&filter, Some(queue), *subscription);
                }
            }
            let mut children: Vec<(&[u8], NodeIndex)> = node
                .literals
                .iter()
                .flat_map(|literals| literals.iter())
                .map(|(token, child)| (token.as_ref(), *child))
                .collect();
            children.extend(
                [(STAR, node.star), (FULL, node.full)]
                    .iter()
                    .filter(|c| c.1 != ROOT),
            );
            children.sort_unstable();
            for (token, child) in children.into_iter().rev() {
                let mut longer = filter.clone();
                if index != ROOT {
                    longer.push(crate::token::SEPARATOR);
                }
                longer.extend_from_slice(token);
                pending.push((child, longer));
            }
        }
    }

    /// Visits every node whose filter matches `literal`, until `visit` answers false.
    /// Iterative, so that no subject can exhaust the stack.
    fn walk(&self, literal: &[u8], mut visit: impl FnMut(&Node<T>) -> bool) {
        let parts: SmallVec<[&[u8]; INLINE_TOKENS]> = tokens(literal).collect();
        if parts.iter().any(|token| token.is_empty()) {
            return;
        }
        let mut pending: SmallVec<[(NodeIndex, usize); INLINE_TOKENS]> = SmallVec::new();
        pending.push((ROOT, 0));
        while let Some((start, start_depth)) = pending.pop() {
            let (mut index, mut depth) = (start, start_depth);
            loop {
                let node = &self.nodes[index as usize];
                let Some(token) = parts.get(depth) else {
                    if !visit(node) {
                        return;
                    }
                    break;
                };
                if node.full != ROOT && !visit(&self.nodes[node.full as usize]) {
                    return;
                }
                if node.star != ROOT {
                    pending.push((node.star, depth + 1));
                }
                match node.literal(token) {
                    Some(child) => (index, depth) = (child, depth + 1),
                    None => break,
                }
            }
        }
    }

    fn child(&self, index: NodeIndex, token: &[u8]) -> NodeIndex {
        let node = &self.nodes[index as usize];
        match token {
            STAR => node.star,
            FULL => node.full,
            literal => node.literal(literal).unwrap_or(ROOT),
        }
    }

    fn child_or_new(&mut self, index: NodeIndex, token: &[u8]) -> NodeIndex {
        let existing = self.child(index, token);
        if existing != ROOT {
            return existing;
        }
        let fresh = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            NodeIndex::try_from(self.nodes.len() - 1).expect("fewer than 2^32 nodes fit in memory")
        });
        let node = &mut self.nodes[index as usize];
        match token {
            STAR => node.star = fresh,
            FULL => node.full = fresh,
            literal => {
                let literals = node.literals.get_or_insert_default();
                literals.insert(literal.into(), fresh);
            }
        }
        fresh
    }

    /// Frees the nodes of `filter` that hold nothing any more, from the leaf `last` up.
    fn prune(&mut self, filter: &[u8], path: &[NodeIndex], last: NodeIndex) {
        let mut child = last;
        for (parent, token) in path.iter().rev().zip(tokens(filter).rev()) {
            if !self.nodes[child as usize].is_unused() {
                return;
            }
            self.nodes[child as usize] = Node::default();
            self.free.push(child);
            let node = &mut self.nodes[*parent as usize];
            match token {
                STAR => node.star = ROOT,
                FULL => node.full = ROOT,
                literal => {
                    if let Some(literals) = &mut node.literals {
                        literals.remove(literal);
                        node.literals.take_if(|literals| literals.is_empty());
                    }
                }
            }
            child = *parent;
        }
    }

    fn changed(&mut self, filter: &[u8]) {
        self.generation += 1;
        let wildcard = |token: &&[u8]| *token == STAR || *token == FULL;
        let mut parts = tokens(filter);
        match parts.next() {
            Some(first) if !wildcard(&first) => {
                let second = parts.next().filter(|token| !wildcard(token));
                self.bucket_generations[bucket(first, second)] += 1;
            }
            _ => self.wildcard_generation += 1,
        }
    }
}

/// The generation bucket of filters that begin with these literal tokens.
fn bucket(first: &[u8], second: Option<&[u8]>) -> usize {
    let mut hasher = FxHasher::default();
    hasher.write(first);
    if let Some(second) = second {
        hasher.write_u8(1);
        hasher.write(second);
    }
    (hasher.finish() % GENERATION_BUCKETS as u64) as usize
}

fn remove_from<T: Copy + Eq + Hash>(
    node: &mut Node<T>,
    queue: Option<&[u8]>,
    subscription: T,
) -> bool {
    let Some(name) = queue else {
        return node.plain.remove(subscription);
    };
    let Some(queues) = &mut node.queues else {
        return false;
    };
    let Some(position) = queues.iter().position(|(group, _)| group.as_ref() == name) else {
        return false;
    };
    let members = &mut queues[position].1;
    let removed = members.remove(subscription);
    if members.as_slice().is_empty() {
        queues.swap_remove(position);
    }
    node.queues.take_if(|queues| queues.is_empty());
    removed
}

/// What matches one subject. Keep it and use it again: clearing keeps the memory.
#[derive(Clone, Debug)]
pub struct Matched<T> {
    /// Subscriptions without a queue group: each gets the message.
    pub plain: Vec<T>,
    /// Queue groups: one member of each gets the message.
    pub queues: Vec<QueueGroup<T>>,
    spare: Vec<QueueGroup<T>>,
}

/// All matching members of one queue group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueGroup<T> {
    /// The group's name.
    pub name: Vec<u8>,
    /// Its members, whatever filter they subscribed with. Never empty.
    pub members: Vec<T>,
}

impl<T> Default for Matched<T> {
    fn default() -> Self {
        Self {
            plain: Vec::new(),
            queues: Vec::new(),
            spare: Vec::new(),
        }
    }
}

impl<T: Copy> Matched<T> {
    /// An empty result.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the result but keeps its memory for the next one.
    pub fn clear(&mut self) {
        self.plain.clear();
        self.spare.append(&mut self.queues);
    }

    /// Whether nothing matches.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.queues.is_empty()
    }

    fn push_group(&mut self, name: &[u8], members: &[T]) {
        let mut group = self.spare.pop().unwrap_or_else(|| QueueGroup {
            name: Vec::new(),
            members: Vec::new(),
        });
        group.name.clear();
        group.name.extend_from_slice(name);
        group.members.clear();
        group.members.extend_from_slice(members);
        self.queues.push(group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token;
    use proptest::prelude::*;

    type Entry = (Vec<u8>, Option<Vec<u8>>, u32);
    type Groups = Vec<(Vec<u8>, Vec<u32>)>;

    fn naive(entries: &[Entry], literal: &[u8]) -> (Vec<u32>, Groups) {
        let mut plain = Vec::new();
        let mut queues: Groups = Vec::new();
        for (filter, queue, id) in entries {
            if token::matches(filter, literal) {
                match queue {
                    None => plain.push(*id),
                    Some(name) => match queues.iter_mut().find(|group| group.0 == *name) {
                        Some(group) => group.1.push(*id),
                        None => queues.push((name.clone(), vec![*id])),
                    },
                }
            }
        }
        plain.sort_unstable();
        queues.iter_mut().for_each(|group| group.1.sort_unstable());
        queues.sort_unstable();
        (plain, queues)
    }

    fn any_entry() -> impl Strategy<Value = Entry> {
        (
            "[ab*](\\.[ab*]){0,3}(\\.>)?|>",
            proptest::option::of(prop_oneof![Just(b"q1".to_vec()), Just(b"q2".to_vec())]),
            0u32..4,
        )
            .prop_map(|(filter, queue, id)| (filter.into_bytes(), queue, id))
    }

    proptest! {
        #[test]
        fn agrees_with_a_list_under_inserts_and_removes(
            steps in proptest::collection::vec((any::<bool>(), any_entry()), 1..60),
            subjects in proptest::collection::vec("[ab*>]?(\\.[ab]?){0,4}", 1..10),
        ) {
            let mut trie = InterestTrie::new();
            let mut model: Vec<Entry> = Vec::new();
            let mut matched = Matched::new();
            for (insert, entry) in steps {
                let before: Vec<_> = subjects.iter().map(|s| (naive(&model, s.as_bytes()), trie.generation_for(s.as_bytes()))).collect();
                let (filter, queue, id) = entry.clone();
                if insert {
                    trie.insert(&filter, queue.as_deref(), id);
                    model.push(entry);
                } else {
                    let position = model.iter().position(|other| *other == entry);
                    prop_assert_eq!(trie.remove(&filter, queue.as_deref(), id), position.is_some());
                    if let Some(position) = position { model.remove(position); }
                }
                prop_assert_eq!(trie.len(), model.len());
                for (subject, (old, old_generation)) in subjects.iter().zip(before) {
                    let subject = subject.as_bytes();
                    trie.matches(subject, &mut matched);
                    let expected = naive(&model, subject);
                    let mut plain = matched.plain.clone();
                    plain.sort_unstable();
                    let mut queues: Vec<_> = matched.queues.iter().map(|g| { let mut m = g.members.clone(); m.sort_unstable(); (g.name.clone(), m) }).collect();
                    queues.sort_unstable();
                    prop_assert_eq!((&plain, &queues), (&expected.0, &expected.1));
                    prop_assert_eq!(trie.has_interest(subject), !matched.is_empty());
                    prop_assert_eq!(trie.has_queue_interest(subject, b"q1"), queues.iter().any(|g| g.0 == b"q1"));
                    if expected != old { prop_assert_ne!(trie.generation_for(subject), old_generation); }
                }
            }
            let mut listed: Vec<Entry> = Vec::new();
            trie.for_each(|filter, queue, id| listed.push((filter.to_vec(), queue.map(<[u8]>::to_vec), id)));
            listed.sort_unstable();
            model.sort_unstable();
            prop_assert_eq!(listed, model.clone());
            for (filter, queue, id) in model { prop_assert!(trie.remove(&filter, queue.as_deref(), id)); }
            prop_assert_eq!(trie.free.len() + 1, trie.nodes.len(), "removal prunes every node but the root");
        }
    }

    #[test]
    fn a_very_deep_subject_does_not_exhaust_the_stack() {
        let subject = vec![&b"a"[..]; 200_000].join(&b'.');
        let mut trie = InterestTrie::new();
        trie.insert(&subject, None, 1u32);
        let mut matched = Matched::new();
        trie.matches(&subject, &mut matched);
        assert_eq!(matched.plain, [1]);
        assert!(trie.remove(&subject, None, 1));
    }

    #[test]
    fn an_inbox_that_comes_leaves_other_generations_alone() {
        let mut trie = InterestTrie::new();
        trie.insert(b"orders.new", None, 1u32);
        let before = trie.generation_for(b"orders.new");
        trie.insert(b"_INBOX.x1", None, 2);
        assert_eq!(trie.generation_for(b"orders.new"), before);
    }

    #[test]
    fn what_one_subscription_takes_stays_small() {
        let (node, members) = (size_of::<Node<u32>>(), size_of::<Members<u32>>());
        assert!(node <= 40, "{node} bytes per token of a filter");
        assert!(members <= 16, "{members} bytes");
    }
}
