//! What a turn of the groups asks of its owner. Plain data: printable and comparable.

use bytes::Bytes;

use crate::{GroupId, NodeId};

/// Everything that [`crate::Groups::poll`] found to do. Reused between turns.
#[derive(Debug, Default)]
pub struct ReplicaOutput {
    /// To be journaled, in this order.
    pub appends: Vec<LogAppend>,
    /// To be sent to other servers.
    pub messages: Vec<PeerMessage>,
    /// To be applied, in this order within each group.
    pub committed: Vec<(GroupId, Vec<CommittedEntry>)>,
    /// Leadership gained or lost.
    pub roles: Vec<RoleChange>,
    /// Groups whose stop is complete: log released, nothing more will be reported for them.
    pub stopped: Vec<GroupId>,
}

impl ReplicaOutput {
    /// True when the turn found nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.appends.is_empty()
            && self.messages.is_empty()
            && self.committed.is_empty()
            && self.roles.is_empty()
            && self.stopped.is_empty()
    }
}

/// Log entries and vote state of one group that must be durable before `persist` is reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogAppend {
    pub group: GroupId,
    pub entries: Vec<LogEntry>,
    /// Present when term or vote changed; the commit index alone is never worth a record.
    pub hard_state: Option<HardState>,
    pub persist: PersistTicket,
}

/// Goes back through [`crate::Groups::persisted`] once the append it came with is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PersistTicket {
    pub group: GroupId,
    pub(crate) incarnation: u64,
    pub(crate) number: u64,
}

/// One entry of a group's log. `data` is empty for the entry with which a leader opens its term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub index: u64,
    pub term: u64,
    pub data: Bytes,
}

/// Term, vote and commit index of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub term: u64,
    pub vote: u64,
    pub commit: u64,
}

/// A committed entry to apply. Entries without data (the opening of a term) are handed
/// out too, because they close an open chain of batch parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedEntry {
    pub index: u64,
    pub term: u64,
    pub data: Bytes,
}

/// A Raft message for another server.
#[derive(Clone, Debug)]
pub struct PeerMessage {
    pub group: GroupId,
    pub to: NodeId,
    pub message: raft::eraftpb::Message,
}

/// A change of what this server may do in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleChange {
    /// Leader, and every entry of earlier terms is applied: proposals are welcome.
    LeaderReady { group: GroupId, term: u64 },
    /// No longer leader. What was proposed and is not yet applied may be lost.
    LeaderLost { group: GroupId },
}
