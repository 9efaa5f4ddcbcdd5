//! All Raft groups of one server: creation, the turn that drains them, and their end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use millrace_clock::Now;

use crate::group::Group;
use crate::handle::{GroupHandle, StopQueue};
use crate::log::RestoredLog;
use crate::output::{PeerMessage, PersistTicket, ReplicaOutput, RoleChange};
use crate::{GroupId, NodeId};

/// Length of a Raft tick. Groups with one voter are never ticked.
const TICK_NS: u64 = 100 * Now::MILLISECOND_NS;

/// What a group is made of.
#[derive(Clone, Debug)]
pub struct GroupSpec {
    /// This server.
    pub node: NodeId,
    /// All voting members, this server included.
    pub voters: Vec<NodeId>,
    /// True for memory groups: nothing is journaled, everything is gone after a restart.
    pub volatile: bool,
    /// Spreads election timeouts; the same seed gives the same timeouts.
    pub seed: u64,
}

/// Why a group could not be made.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    #[error("group {0:?} is still open")]
    StillOpen(GroupId),
    #[error("group {0:?} does not list this server as a voter")]
    NotAMember(GroupId),
    #[error("raft: {0}")]
    Raft(#[from] raft::Error),
}

/// Why a proposal was not taken. Nothing is queued in either case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error("not the leader")]
    NotLeader,
    #[error("refused: {0}")]
    Refused(String),
}

/// The multi-raft: owns every group of the server.
pub struct Groups {
    groups: BTreeMap<GroupId, Group>,
    /// Groups with something to drain.
    dirty: BTreeSet<GroupId>,
    /// Groups with more than one voter: the only ones that need ticks.
    ticking: BTreeSet<GroupId>,
    next_tick_ns: u64,
    incarnations: u64,
    stops: StopQueue,
    wake: Option<Arc<dyn Fn() + Send + Sync>>,
    released_messages: Vec<PeerMessage>,
    released_roles: Vec<RoleChange>,
    logger: slog::Logger,
}

impl Groups {
    /// No groups yet. `wake` is called when another thread asks a group to stop, so that the
    /// owner takes a turn.
    #[must_use]
    pub fn new(wake: Option<Arc<dyn Fn() + Send + Sync>>) -> Self {
        Self {
            groups: BTreeMap::new(),
            dirty: BTreeSet::new(),
            ticking: BTreeSet::new(),
            next_tick_ns: 0,
            incarnations: 0,
            stops: StopQueue::default(),
            wake,
            released_messages: Vec::new(),
            released_roles: Vec::new(),
            logger: slog::Logger::root(slog::Discard, slog::o!()),
        }
    }

    /// Opens a group from what recovery found (or from nothing). It takes part only after
    /// [`Self::start`].
    ///
    /// # Errors
    /// [`GroupError::StillOpen`] while an earlier group of this id has not released its log.
    pub fn open(
        &mut self,
        id: GroupId,
        spec: &GroupSpec,
        restored: RestoredLog,
    ) -> Result<GroupHandle, GroupError> {
        if self.groups.contains_key(&id) {
            return Err(GroupError::StillOpen(id));
        }
        if !spec.voters.contains(&spec.node) {
            return Err(GroupError::NotAMember(id));
        }
        self.incarnations += 1;
        let handle = GroupHandle::new(
            id,
            spec.voters.clone(),
            self.stops.clone(),
            self.wake.clone(),
        );
        let group = Group::new(
            id,
            self.incarnations,
            spec,
            restored,
            handle.clone(),
            &self.logger,
        )?;
        self.groups.insert(id, group);
        Ok(handle)
    }

    /// Lets an opened group take part. A group with one voter becomes leader with its next turn,
    /// without a message.
    ///
    /// # Errors
    /// Passes on what the `raft` crate refuses.
    pub fn start(&mut self, id: GroupId) -> Result<(), GroupError> {
        if let Some(group) = self.groups.get_mut(&id) {
            group.start()?;
            if !group.is_alone() {
                self.ticking.insert(id);
            }
            self.dirty.insert(id);
        }
        Ok(())
    }

    /// The handle of an open group.
    #[must_use]
    pub fn handle(&self, id: GroupId) -> Option<GroupHandle> {
        self.groups.get(&id).map(|group| group.handle().clone())
    }

    /// Whether [`Self::propose`] would be taken now. To be asked before anything is staged.
    #[must_use]
    pub fn can_propose(&self, id: GroupId) -> bool {
        self.groups.get(&id).is_some_and(Group::can_propose)
    }

    /// Appends one entry to the group's log; returns its term and index.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`] unless this server leads and has applied all earlier terms.
    pub fn propose(&mut self, id: GroupId, data: Bytes) -> Result<(u64, u64), ProposeError> {
        let group = self.groups.get_mut(&id).ok_or(ProposeError::NotLeader)?;
        let proposed = group.propose(data)?;
        self.dirty.insert(id);
        Ok(proposed)
    }

    /// Takes a message from another member.
    ///
    /// # Errors
    /// Passes on what the `raft` crate refuses; the group is unchanged then.
    pub fn step(&mut self, id: GroupId, message: raft::eraftpb::Message) -> Result<(), GroupError> {
        if let Some(group) = self.groups.get_mut(&id) {
            self.dirty.insert(id);
            group.step(message)?;
        }
        Ok(())
    }

    /// Asks the leader to hand over to `to`; a no-op elsewhere.
    pub fn transfer_leader(&mut self, id: GroupId, to: NodeId) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.transfer_leader(to);
            self.dirty.insert(id);
        }
    }

    /// Moves the clocks of groups with several voters. Late calls make up for missed ticks one at
    /// a time, so that a stalled server does not start an election by itself.
    pub fn tick(&mut self, now: Now) {
        if self.ticking.is_empty() || now.monotonic_ns < self.next_tick_ns {
            return;
        }
        self.next_tick_ns = now.after_ns(TICK_NS);
        for id in &self.ticking {
            if let Some(group) = self.groups.get_mut(id)
                && group.tick()
            {
                self.dirty.insert(*id);
            }
        }
    }

    /// When the next [`Self::tick`] is due, if any group needs one.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        (!self.ticking.is_empty()).then_some(self.next_tick_ns)
    }

    /// True when [`Self::poll`] would find something.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
            || !self.released_messages.is_empty()
            || !self.released_roles.is_empty()
            || !self.stops.is_empty()
    }

    /// Drains everything that waits into `out`.
    pub fn poll(&mut self, out: &mut ReplicaOutput) {
        self.take_stops(out);
        out.messages.append(&mut self.released_messages);
        out.roles.append(&mut self.released_roles);
        while let Some(id) = self.dirty.pop_first() {
            if let Some(group) = self.groups.get_mut(&id)
                && group.is_started()
            {
                group.poll(out);
            }
        }
    }

    /// Reports that the append with this ticket, and all before it in its group, are durable.
    pub fn persisted(&mut self, ticket: PersistTicket) {
        if let Some(group) = self.groups.get_mut(&ticket.group) {
            group.persisted(ticket, &mut self.released_messages);
            self.dirty.insert(ticket.group);
        }
    }

    /// Reports that the entries of a group up to `index` are applied.
    pub fn applied(&mut self, id: GroupId, index: u64) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.applied(index, &mut self.released_roles);
            self.dirty.insert(id);
        }
    }

    /// Ids of all open groups, in order.
    pub fn ids(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.groups.keys().copied()
    }

    fn take_stops(&mut self, out: &mut ReplicaOutput) {
        for id in self.stops.take() {
            self.dirty.remove(&id);
            self.ticking.remove(&id);
            if let Some(group) = self.groups.remove(&id) {
                let handle = group.handle().clone();
                // The log goes with the group; only then may anybody waiting go on.
                drop(group);
                handle.report_released();
            }
            out.stopped.push(id);
        }
    }
}
