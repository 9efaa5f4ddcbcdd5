//! The journal and its commit policy, segments, indexes, the memory store and recovery.
//! All disk work leaves as [`disk::DiskRequest`] and comes back as [`disk::DiskCompletion`].

pub mod disk;
pub mod ids;
pub mod journal;
pub mod staging;
pub mod stream;
