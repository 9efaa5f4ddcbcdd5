//! A map from literal subjects to values, ordered by the byte order of their tokens, with
//! wildcard iteration. For subject indexes that may hold millions of entries: one boxed key per
//! subject in a B-tree, and wildcard walks that jump over what cannot match.

use crate::token::{FULL, SEPARATOR, STAR, is_literal, tokens};
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

/// Byte order in which the separator comes before every other byte: the order of tokens.
#[must_use]
pub fn token_order(left: &[u8], right: &[u8]) -> Ordering {
    let at = common_prefix(left, right);
    match (left.get(at), right.get(at)) {
        (Some(&SEPARATOR), Some(_)) => Ordering::Less,
        (Some(_), Some(&SEPARATOR)) => Ordering::Greater,
        (Some(one), Some(other)) => one.cmp(other),
        _ => left.len().cmp(&right.len()),
    }
}

/// How many bytes both begin with, found eight at a time: subjects of one stream share long
/// beginnings, and a lookup in a large tree compares twenty of them.
fn common_prefix(left: &[u8], right: &[u8]) -> usize {
    let common = left.len().min(right.len());
    let (left_words, left_rest) = left[..common].as_chunks::<8>();
    let (right_words, right_rest) = right[..common].as_chunks::<8>();
    let mut at = 0;
    for (one, other) in left_words.iter().zip(right_words) {
        let difference = u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other);
        if difference != 0 {
            return at + difference.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = left_rest.iter().zip(right_rest);
    at + rest.take_while(|(one, other)| one == other).count()
}

/// Owned keys and borrowed queries behind one comparison, so that a lookup allocates nothing.
trait Subject {
    fn bytes(&self) -> &[u8];
}

struct Query<'a>(&'a [u8]);

impl Subject for Query<'_> {
    fn bytes(&self) -> &[u8] {
        self.0
    }
}

#[derive(Clone, Debug)]
struct Key(Box<[u8]>);

impl Subject for Key {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<'a> Borrow<dyn Subject + 'a> for Key {
    fn borrow(&self) -> &(dyn Subject + 'a) {
        self
    }
}

impl PartialEq for dyn Subject + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}
impl Eq for dyn Subject + '_ {}
impl PartialOrd for dyn Subject + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for dyn Subject + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        token_order(self.bytes(), other.bytes())
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl Eq for Key {}
impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        token_order(&self.0, &other.0)
    }
}

/// Literal subject -> `V`, iterated in the byte order of tokens.
#[derive(Clone, Debug)]
pub struct SubjectTree<V> {
    map: BTreeMap<Key, V>,
}

impl<V> Default for SubjectTree<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> SubjectTree<V> {
    /// An empty tree.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            map: BTreeMap::new(),
        }
    }

    /// How many subjects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is no subject.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The value of exactly `subject`.
    #[must_use]
    pub fn get(&self, subject: &[u8]) -> Option<&V> {
        self.map.get(&Query(subject) as &dyn Subject)
    }

    /// The value of exactly `subject`, to change it.
    pub fn get_mut(&mut self, subject: &[u8]) -> Option<&mut V> {
        self.map.get_mut(&Query(subject) as &dyn Subject)
    }

    /// Sets the value of `subject` and returns the old one.
    pub fn insert(&mut self, subject: &[u8], value: V) -> Option<V> {
        match self.get_mut(subject) {
            Some(held) => Some(std::mem::replace(held, value)),
            None => self.map.insert(Key(subject.into()), value),
        }
    }

    /// The value of `subject`, made by `make` if there is none.
    pub fn get_or_insert_with(&mut self, subject: &[u8], make: impl FnOnce() -> V) -> &mut V {
        // Looking up first allocates a key only for a new subject; the second lookup is the
        // price for that in safe code.
        if self.get(subject).is_none() {
            self.map.insert(Key(subject.into()), make());
        }
        self.get_mut(subject)
            .expect("inserted above if it was absent")
    }

    /// Removes `subject` and returns its value.
    pub fn remove(&mut self, subject: &[u8]) -> Option<V> {
        self.map.remove(&Query(subject) as &dyn Subject)
    }

    /// Removes every subject.
    pub fn clear(&mut self) {
        self.map.clear();
    }

    /// All subjects and values in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], &V)> {
        self.map.iter().map(|(key, value)| (key.bytes(), value))
    }

    /// Calls `visit` for every subject in order.
    pub fn for_each(&self, mut visit: impl FnMut(&[u8], &V)) {
        for (subject, value) in self.iter() {
            visit(subject, value);
        }
    }

    /// Calls `visit` for every subject that `filter` matches, in order.
    pub fn for_each_match(&self, filter: &[u8], mut visit: impl FnMut(&[u8], &V)) {
        let _ = self.walk(filter, None, |subject, value| -> ControlFlow<()> {
            visit(subject, value);
            ControlFlow::Continue(())
        });
    }

    /// Visits the matches of `filter` that come after `after` (all of them for `None`), in order,
    /// until `visit` breaks. A long listing keeps its last subject as the cursor and goes on later.
    pub fn walk<B>(
        &self,
        filter: &[u8],
        after: Option<&[u8]>,
        mut visit: impl FnMut(&[u8], &V) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if is_literal(filter) {
            let wanted = after.is_none_or(|after| token_order(after, filter) == Ordering::Less);
            return match self.get(filter).filter(|_| wanted) {
                Some(value) => visit(filter, value),
                None => ControlFlow::Continue(()),
            };
        }
        let mut walk = FilterWalk::new(filter);
        let mut entries = self.from(walk.start(after));
        while let Some((key, value)) = entries.next() {
            match walk.step(key.bytes()) {
                WalkStep::Match => visit(key.bytes(), value)?,
                WalkStep::Next => {}
                WalkStep::Jump => entries = self.from(Bound::Included(walk.target())),
                WalkStep::End => break,
            }
        }
        ControlFlow::Continue(())
    }

    /// Whether `filter` matches any subject.
    #[must_use]
    pub fn any_match(&self, filter: &[u8]) -> bool {
        self.walk(filter, None, |_, _| ControlFlow::Break(()))
            .is_break()
    }

    /// The first match of `filter` after `after`, in order.
    #[must_use]
    pub fn next_match(&self, filter: &[u8], after: Option<&[u8]>) -> Option<(Vec<u8>, &V)> {
        let mut subject = Vec::new();
        let found = self.walk(filter, after, |matched, _| {
            subject.extend_from_slice(matched);
            ControlFlow::Break(())
        });
        if found.is_continue() {
            return None;
        }
        let value = self.get(&subject)?;
        Some((subject, value))
    }

    fn from(&self, lower: Bound<&[u8]>) -> std::collections::btree_map::Range<'_, Key, V> {
        let query;
        let bound: Bound<&dyn Subject> = match lower {
            Bound::Included(bytes) => {
                query = Query(bytes);
                Bound::Included(&query)
            }
            Bound::Excluded(bytes) => {
                query = Query(bytes);
                Bound::Excluded(&query)
            }
            Bound::Unbounded => Bound::Unbounded,
        };
        self.map.range::<dyn Subject, _>((bound, Bound::Unbounded))
    }
}

/// Going through subjects in token order for the matches of a filter with wildcards, jumping over
/// what cannot match. Who keeps the subjects looks them up; this says where.
#[derive(Debug)]
pub struct FilterWalk<'a> {
    filter: &'a [u8],
    jump: Vec<u8>,
}

impl<'a> FilterWalk<'a> {
    /// A walk for `filter`. A literal works too, but a lookup is better.
    #[must_use]
    pub fn new(filter: &'a [u8]) -> Self {
        Self {
            filter,
            jump: literal_prefix(filter),
        }
    }

    /// Where to begin, to see only what comes after `after`.
    #[must_use]
    pub fn start<'b>(&'b self, after: Option<&'b [u8]>) -> Bound<&'b [u8]> {
        match after.filter(|after| token_order(after, &self.jump) != Ordering::Less) {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(&self.jump),
        }
    }

    /// Looks at one subject.
    pub fn step(&mut self, subject: &[u8]) -> WalkStep {
        compare(self.filter, subject, &mut self.jump)
    }

    /// Where to go on after [`WalkStep::Jump`]: the first subject at or after this.
    #[must_use]
    pub fn target(&self) -> &[u8] {
        &self.jump
    }
}

/// What to do after looking at one subject of a [`FilterWalk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkStep {
    /// The filter matches it.
    Match,
    /// It does not; the next one may.
    Next,
    /// It does not; the next that may is at or after the jump key.
    Jump,
    /// Neither it nor any later one matches.
    End,
}

/// The tokens of `filter` before its first wildcard: no smaller subject can match.
fn literal_prefix(filter: &[u8]) -> Vec<u8> {
    let mut prefix = Vec::with_capacity(filter.len() + 1);
    for (at, token) in tokens(filter).enumerate() {
        if token == STAR || token == FULL {
            break;
        }
        if at > 0 {
            prefix.push(SEPARATOR);
        }
        prefix.extend_from_slice(token);
    }
    prefix
}

/// Compares `filter` with the subject `entry` and writes the key to jump to, if that is best.
fn compare(filter: &[u8], entry: &[u8], jump: &mut Vec<u8>) -> WalkStep {
    let mut wanted = tokens(filter);
    let mut given = tokens(entry);
    // Where in `entry` the token after the one under comparison begins.
    let mut offset = 0;
    // End in `entry` of the last token that a `*` took: the place to advance from.
    let mut last_star_end: Option<usize> = None;
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return WalkStep::Match,
            (Some(want), Some(token)) => {
                if token.is_empty() {
                    return WalkStep::Next;
                }
                let end = offset + token.len();
                if want == FULL {
                    let complete = given.all(|rest| !rest.is_empty());
                    return if complete {
                        WalkStep::Match
                    } else {
                        WalkStep::Next
                    };
                }
                if want == STAR {
                    last_star_end = Some(end);
                } else {
                    match token.cmp(want) {
                        Ordering::Equal => {}
                        Ordering::Less => {
                            jump.clear();
                            jump.extend_from_slice(&entry[..offset]);
                            jump.extend_from_slice(want);
                            return WalkStep::Jump;
                        }
                        Ordering::Greater => return skip_past(entry, last_star_end, jump),
                    }
                }
                offset = end + 1;
            }
            // The entry is a proper prefix of what is wanted: longer entries follow it.
            (Some(_), None) => return WalkStep::Next,
            // The entry, and all that begin with the same tokens, are too long.
            (None, Some(_)) => return skip_past(entry, Some(offset - 1), jump),
        }
    }
}

/// Jumps behind every subject that begins with the tokens of `entry[..end]`.
fn skip_past(entry: &[u8], end: Option<usize>, jump: &mut Vec<u8>) -> WalkStep {
    let Some(end) = end else {
        return WalkStep::End;
    };
    jump.clear();
    jump.extend_from_slice(&entry[..end]);
    // The smallest byte that sorts after the separator.
    jump.push(0);
    WalkStep::Jump
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token;
    use proptest::prelude::*;

    fn any_subject() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            "[ab\u{0}!~-]{1,2}(\\.[ab\u{0}!~-]{1,2}){0,3}".prop_map(String::into_bytes),
            "[ab](\\.[ab]?){0,4}".prop_map(String::into_bytes),
        ]
    }

    fn by_tokens(left: &[u8], right: &[u8]) -> Ordering {
        tokens(left).cmp(tokens(right))
    }

    proptest! {
        #[test]
        fn agrees_with_a_sorted_list(
            steps in proptest::collection::vec((any::<bool>(), any_subject()), 1..60),
            filters in proptest::collection::vec("([ab*]|a!)(\\.([ab*]|a-)){0,3}(\\.>)?|>", 1..8),
            cursor in any_subject(),
        ) {
            let mut tree = SubjectTree::new();
            let mut model: Vec<(Vec<u8>, usize)> = Vec::new();
            for (number, (insert, subject)) in steps.into_iter().enumerate() {
                let position = model.iter().position(|entry| entry.0 == subject);
                if insert {
                    let old = tree.insert(&subject, number);
                    prop_assert_eq!(old, position.map(|at| model[at].1));
                    match position { Some(at) => model[at].1 = number, None => model.push((subject, number)) }
                } else {
                    prop_assert_eq!(tree.remove(&subject), position.map(|at| model.remove(at).1));
                }
            }
            model.sort_by(|a, b| by_tokens(&a.0, &b.0));
            let listed: Vec<_> = tree.iter().map(|(subject, value)| (subject.to_vec(), *value)).collect();
            prop_assert_eq!(&listed, &model);
            for filter in filters {
                let filter = filter.as_bytes();
                let expected: Vec<_> = model.iter().filter(|entry| token::matches(filter, &entry.0)).cloned().collect();
                let mut actual = Vec::new();
                tree.for_each_match(filter, |subject, value| actual.push((subject.to_vec(), *value)));
                prop_assert_eq!(&actual, &expected);
                prop_assert_eq!(tree.any_match(filter), !expected.is_empty());
                let after = expected.iter().find(|entry| by_tokens(&entry.0, &cursor) == Ordering::Greater);
                let next = tree.next_match(filter, Some(&cursor));
                prop_assert_eq!(next.map(|(subject, value)| (subject, *value)), after.cloned());
            }
        }

        #[test]
        fn the_order_is_that_of_tokens(left in any_subject(), right in any_subject()) {
            prop_assert_eq!(token_order(&left, &right), by_tokens(&left, &right));
        }

        #[test]
        fn arbitrary_filters_never_panic(subjects: Vec<Vec<u8>>, filter: Vec<u8>, after: Option<Vec<u8>>) {
            let mut tree = SubjectTree::new();
            for subject in &subjects {
                *tree.get_or_insert_with(subject, || 0) += 1;
            }
            let _ = tree.next_match(&filter, after.as_deref());
            tree.for_each_match(&filter, |_, _| {});
        }
    }
}
