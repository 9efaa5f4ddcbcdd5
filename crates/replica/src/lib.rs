//! Raft groups on the `raft` crate, driven without I/O: one owner ticks and drains all groups of
//! the server. Payloads are opaque here; what an entry means is `jetstream`'s business, how it
//! becomes durable is the journal's.
//!
//! The cycle of one turn: [`Groups::propose`] and [`Groups::step`] take input, [`Groups::poll`]
//! hands out what must be journaled, sent and applied, [`Groups::persisted`] and
//! [`Groups::applied`] report back. A group with one voter takes the same path as one with many.

mod group;
mod groups;
mod handle;
mod log;
mod output;

pub use groups::{GroupError, GroupSpec, Groups, ProposeError};
pub use handle::{GroupHandle, GroupState};
pub use log::RestoredLog;
pub use output::{
    CommittedEntry, HardState, LogAppend, LogEntry, PeerMessage, PersistTicket, ReplicaOutput,
    RoleChange,
};

/// Names a Raft group. 0 is the meta group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u64);

/// Names a member of a group: a server. Never 0, which the `raft` crate reads as "nobody".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);
