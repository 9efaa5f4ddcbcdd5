//! Subjects: tokens, wildcards, matching, the interest trie, the subject tree, sequence sets
//! and subject transforms.
//!
//! Subjects are opaque bytes: tokens separated by dots, where a whole token `*` stands for one
//! token and a last token `>` for one or more (spec core/02). Who may use a subject, and what a
//! match leads to, is decided elsewhere.

mod destination;
mod interest;
mod mapping;
mod members;
mod sequence_set;
mod token;
mod transform;
mod tree;

pub use interest::{InterestTrie, Matched, QueueGroup};
pub use mapping::{Mapping, MappingDestination, MappingError};
pub use sequence_set::SequenceSet;
pub use token::{
    has_wildcard, intersection, is_literal, is_subset, is_valid_filter, is_valid_literal,
    is_valid_subject, matches, overlaps, token_count, tokens,
};
pub use transform::{Transform, TransformError, with_references, without_references};
pub use tree::{FilterWalk, SubjectTree, WalkStep, token_order};
