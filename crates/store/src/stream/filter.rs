//! A set of subject filters, compiled once and asked often. Matching one subject is here; finding
//! messages that match is the index's work.

use bytes::Bytes;
use millrace_subject::{is_literal, is_subset, matches};

/// Which messages of a stream are wanted: all, or those that match one of some subject filters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Empty: all. No member is a subset of another.
    subjects: Vec<One>,
}

/// One member of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct One {
    pub(super) subject: Bytes,
    pub(super) literal: bool,
}

impl Filter {
    /// Every message.
    #[must_use]
    pub const fn all() -> Self {
        Self {
            subjects: Vec::new(),
        }
    }

    /// One subject filter; `>` and the empty one mean all.
    #[must_use]
    pub fn one(subject: &[u8]) -> Self {
        Self::many([subject])
    }

    /// Several; none at all, or `>` or an empty one among them, mean all. Filters that others
    /// cover are dropped.
    pub fn many<'a>(subjects: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut kept: Vec<One> = Vec::new();
        for subject in subjects {
            if subject.is_empty() || subject == b">" {
                return Self::all();
            }
            if kept.iter().any(|other| is_subset(subject, &other.subject)) {
                continue;
            }
            kept.retain(|other| !is_subset(&other.subject, subject));
            kept.push(One {
                subject: Bytes::copy_from_slice(subject),
                literal: is_literal(subject),
            });
        }
        Self { subjects: kept }
    }

    /// Whether every message is wanted.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.subjects.is_empty()
    }

    /// Whether counting what it matches is a look at few lists: there is no wildcard in it but the one
    /// for all.
    #[must_use]
    pub fn is_cheap(&self) -> bool {
        self.subjects.iter().all(|one| one.literal)
    }

    /// Whether a message with this subject is wanted.
    #[must_use]
    pub fn matches(&self, subject: &[u8]) -> bool {
        self.is_all() || self.subjects.iter().any(|one| one.matches(subject))
    }

    /// The filters; empty for all.
    pub fn subjects(&self) -> impl Iterator<Item = &[u8]> {
        self.subjects.iter().map(|one| one.subject.as_ref())
    }

    pub(super) fn members(&self) -> &[One] {
        &self.subjects
    }
}

impl One {
    pub(super) fn matches(&self, subject: &[u8]) -> bool {
        if self.literal {
            self.subject == subject
        } else {
            matches(&self.subject, subject)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covered_filters_are_dropped_and_full_means_all() {
        let filter = Filter::many([b"a.b".as_slice(), b"a.*", b"c"]);
        assert_eq!(
            filter.subjects().collect::<Vec<_>>(),
            [b"a.*".as_slice(), b"c"]
        );
        assert!(filter.matches(b"a.x") && filter.matches(b"c") && !filter.matches(b"c.d"));
        assert!(Filter::many([b"a".as_slice(), b">"]).is_all() && Filter::one(b"").is_all());
    }
}
