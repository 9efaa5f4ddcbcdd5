//! Atomic batches: staging before the commit, and putting parts together when they are applied.
