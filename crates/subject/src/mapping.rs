//! Subject mappings of an account: a source and weighted destinations, some only for servers of a
//! cluster (spec core/10 §10.5). When a message is mapped is decided elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use millrace_clock::Random;

use crate::token::{has_wildcard, is_subset, is_valid_subject};
use crate::transform::{Transform, TransformError, with_references};

/// The whole, in percent.
const WHOLE: u8 = 100;

/// Where a share of the messages goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MappingDestination {
    /// The subject, with references and functions. Empty: the share is dropped.
    pub subject: String,
    /// The share in percent.
    pub weight: u8,
    /// Only servers of this cluster; empty for all that have no destinations of their own.
    pub cluster: String,
}

/// Why a mapping cannot be made. The texts are those of the reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// The source is no subject.
    #[error("invalid subject")]
    BadSource,
    /// Two destinations with the same subject.
    #[error("duplicate entry for {0:?}")]
    Duplicate(String),
    /// A weight above 100.
    #[error("individual weights need to be <= 100")]
    BadWeight,
    /// Weights above 100 in sum.
    #[error("total weight needs to be <= 100")]
    BadTotal,
    /// A destination that is none.
    #[error(transparent)]
    Transform(#[from] TransformError),
}

/// A destination with the weights up to and with its own, as monitoring shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Share {
    /// `None` drops the message.
    transform: Option<Transform>,
    up_to: u8,
}

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    source: Vec<u8>,
    is_literal: bool,
    general: Vec<Share>,
    by_cluster: BTreeMap<String, Vec<Share>>,
}

impl Mapping {
    /// Checks the mapping of `source` to `destinations`.
    ///
    /// # Errors
    /// [`MappingError`] with the reference's texts.
    pub fn new(source: &str, destinations: &[MappingDestination]) -> Result<Self, MappingError> {
        if !is_valid_subject(source.as_bytes()) {
            return Err(MappingError::BadSource);
        }
        let mut seen = BTreeSet::new();
        let mut by_cluster: BTreeMap<String, Vec<Share>> = BTreeMap::new();
        by_cluster.entry(String::new()).or_default();
        for destination in destinations {
            if !seen.insert(destination.subject.as_str()) {
                return Err(MappingError::Duplicate(destination.subject.clone()));
            }
            if destination.weight > WHOLE {
                return Err(MappingError::BadWeight);
            }
            let shares = by_cluster.entry(destination.cluster.clone()).or_default();
            let total: u32 = shares.iter().map(|share| u32::from(share.up_to)).sum();
            if total + u32::from(destination.weight) > u32::from(WHOLE) {
                return Err(MappingError::BadTotal);
            }
            let transform = match destination.subject.as_bytes() {
                b"" => None,
                subject => Some(Transform::new(source.as_bytes(), subject)?),
            };
            shares.push(Share {
                transform,
                up_to: destination.weight,
            });
        }
        // A source among the destinations says that the rest is meant to be lost.
        let keeps_rest = !seen.contains(source);
        for shares in by_cluster.values_mut() {
            complete(source, shares, keeps_rest)?;
        }
        let general = by_cluster.remove("").unwrap_or_default();
        Ok(Self {
            source: source.as_bytes().to_vec(),
            is_literal: !has_wildcard(source.as_bytes()),
            general,
            by_cluster,
        })
    }

    /// The source as given.
    #[must_use]
    pub fn source(&self) -> &[u8] {
        &self.source
    }

    /// Whether a message on `subject` is mapped by this.
    #[must_use]
    pub fn is_about(&self, subject: &[u8]) -> bool {
        if self.is_literal {
            return self.source == subject;
        }
        is_subset(subject, &self.source)
    }

    /// What `subject`, which this is about, becomes on a server of `cluster`. `None`: it is dropped.
    #[must_use]
    pub fn map(&self, subject: &[u8], cluster: &str, random: &mut Random) -> Option<Vec<u8>> {
        let shares = self.by_cluster.get(cluster).unwrap_or(&self.general);
        let share = match shares.as_slice() {
            [only] if only.up_to == WHOLE => only,
            several => {
                let drawn = random.below(u64::from(WHOLE));
                several
                    .iter()
                    .find(|share| drawn < u64::from(share.up_to))?
            }
        };
        share.transform.as_ref()?.apply(subject, random)
    }

    /// Every destination with its cluster (empty for all) and the weights up to and with its own.
    pub fn shares(&self) -> impl Iterator<Item = (&str, &[u8], u8)> {
        let general = self.general.iter().map(|share| ("", share));
        let scoped = self.by_cluster.iter().flat_map(|(cluster, shares)| {
            let cluster = cluster.as_str();
            shares.iter().map(move |share| (cluster, share))
        });
        general.chain(scoped).map(|(cluster, share)| {
            let subject = share
                .transform
                .as_ref()
                .map_or(&b""[..], Transform::destination);
            (cluster, subject, share.up_to)
        })
    }
}

/// Lets the rest keep its subject, if it should, and sums the weights up from the smallest.
fn complete(source: &str, shares: &mut Vec<Share>, keeps_rest: bool) -> Result<(), MappingError> {
    let total: u8 = shares.iter().map(|share| share.up_to).sum();
    if total != WHOLE && keeps_rest {
        let same = with_references(source.as_bytes());
        shares.push(Share {
            transform: Some(Transform::new(source.as_bytes(), &same)?),
            up_to: WHOLE - total,
        });
    }
    shares.sort_by_key(|share| share.up_to);
    let mut sum = 0;
    for share in shares {
        sum += share.up_to;
        share.up_to = sum;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(source: &str, destinations: &[(&str, u8, &str)]) -> Result<Mapping, MappingError> {
        let destinations: Vec<_> = destinations
            .iter()
            .map(|(subject, weight, cluster)| MappingDestination {
                subject: (*subject).to_owned(),
                weight: *weight,
                cluster: (*cluster).to_owned(),
            })
            .collect();
        Mapping::new(source, &destinations)
    }

    /// How often of 10,000 messages each subject comes out.
    fn counts(mapping: &Mapping, subject: &str, cluster: &str) -> BTreeMap<String, u32> {
        let mut random = Random::new(7);
        let mut counts = BTreeMap::new();
        for _ in 0..10_000 {
            let mapped = mapping.map(subject.as_bytes(), cluster, &mut random);
            let text = mapped.map_or_else(String::new, |bytes| {
                String::from_utf8_lossy(&bytes).into_owned()
            });
            *counts.entry(text).or_insert(0) += 1;
        }
        counts
    }

    fn is_near(count: Option<&u32>, expected: u32) -> bool {
        count.is_some_and(|count| count.abs_diff(expected) < 300)
    }

    // proves: ACC-15 ACC-16
    #[test]
    fn shares_follow_the_weights_and_the_rest_keeps_its_subject_or_is_dropped() {
        let split = mapping("a.*", &[("x.$1", 30, ""), ("y.$1", 20, "")]).expect("valid");
        let found = counts(&split, "a.1", "");
        assert!(is_near(found.get("x.1"), 3000) && is_near(found.get("y.1"), 2000));
        assert!(is_near(found.get("a.1"), 5000));

        let lossy = mapping("a", &[("a", 30, ""), ("b", 20, "")]).expect("valid");
        let found = counts(&lossy, "a", "");
        assert!(is_near(found.get("a"), 3000) && is_near(found.get("b"), 2000));
        assert!(is_near(found.get(""), 5000));

        let scoped = mapping("a", &[("b", 100, ""), ("c", 100, "east")]).expect("valid");
        assert_eq!(counts(&scoped, "a", "west").get("b"), Some(&10_000));
        assert_eq!(counts(&scoped, "a", "east").get("c"), Some(&10_000));

        let nothing = mapping("a", &[("b", 0, "")]).expect("valid");
        assert_eq!(counts(&nothing, "a", "").get("a"), Some(&10_000));
        let shown: Vec<_> = split.shares().map(|(_, _, up_to)| up_to).collect();
        assert_eq!(shown, [20, 50, 100]);
    }

    // proves: ACC-19
    #[test]
    fn wrong_mappings_are_refused_in_the_words_of_the_reference() {
        let text = |source, destinations| mapping(source, destinations).unwrap_err().to_string();
        assert_eq!(
            text("a", &[("b", 1, ""), ("b", 2, "")]),
            "duplicate entry for \"b\""
        );
        assert_eq!(
            text("a", &[("b", 60, "x"), ("c", 60, "x")]),
            "total weight needs to be <= 100"
        );
        assert_eq!(text("a..b", &[]), "invalid subject");
        assert_eq!(
            text("a.*", &[("b.{{nope(1)}}", 100, "")]),
            "invalid mapping destination: unknown function in {{nope(1)}}"
        );
    }
}
