//! The journal and its commit policy, segments, indexes, the memory store and recovery.
//! All disk work leaves as [`disk::DiskRequest`] and comes back as [`disk::DiskCompletion`].
//!
//! # What we assume of a disk, and what we do not
//!
//! The simulator's disk does all of the following; the store must survive it.
//!
//! | The disk or the system may | So |
//! |---|---|
//! | lose any write that was not synced, and keep later ones | nothing is acknowledged before its sync has ended; a frame counts as proven only by a later one that says so |
//! | tear an unsynced write at 512-byte sectors, in any pattern | checksums over everything, seeded with epoch and place |
//! | damage, while writing, other bytes of the same 4096-byte block | frames begin at multiples of 4096; nothing synced is written again |
//! | forget a creation, rename or removal until the folder is synced | a name is used, and a removal relied on, only after that |
//! | keep a renamed file's name and lose its content | content is synced before the rename |
//! | fail a sync and show the data as clean afterwards | that file is never synced again; what is not proven is written anew elsewhere |
//! | carry out requests of different files in any order | order is made by waiting for completions |
//! | be full | space for frames is reserved ahead of need |
//! | flip bits in data that was synced long ago, or fail to read it | checksums are verified on every start and read; damage is told from a torn tail, reported, and never cut |
//! | die between any two operations, recovery's own included | every step of recovery leaves a store that recovers to the same state |
//!
//! We do assume: a sync that reports success has reached the device; a rename is atomic; blocks that
//! are not being written keep their content; two copies of a checksum do not collide by chance.
//! What one flipped bit in the last 100 ms before a power cut hits looks like a torn tail: no later
//! frame had proven it yet.

pub mod disk;
pub mod ids;
pub mod journal;
pub mod seal;
mod staged_part;
pub mod staging;
pub mod stream;
