//! The handle by which other threads see and stop a group: the one door across threads here.
//!
//! The mutex guards a few words and is never held over work; it exists because a stop may come
//! from a signal thread while the group's owner is in the middle of a turn.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::{GroupId, NodeId};

/// What a group is doing. `Closed` is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    Follower,
    Candidate,
    Leader,
    Closed,
}

/// Stop requests of all groups of one owner, drained by its next turn.
#[derive(Clone, Default)]
pub(crate) struct StopQueue(Arc<Mutex<Vec<GroupId>>>);

impl StopQueue {
    fn push(&self, group: GroupId) {
        lock(&self.0).push(group);
    }

    pub(crate) fn take(&self) -> Vec<GroupId> {
        std::mem::take(&mut *lock(&self.0))
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }
}

struct Status {
    state: GroupState,
    released: bool,
    peers: Vec<NodeId>,
}

struct Shared {
    group: GroupId,
    status: Mutex<Status>,
    released: Condvar,
    stops: StopQueue,
    wake: Option<Arc<dyn Fn() + Send + Sync>>,
}

/// A cheap, thread-safe reference to one running group.
#[derive(Clone)]
pub struct GroupHandle(Arc<Shared>);

impl GroupHandle {
    pub(crate) fn new(
        group: GroupId,
        peers: Vec<NodeId>,
        stops: StopQueue,
        wake: Option<Arc<dyn Fn() + Send + Sync>>,
    ) -> Self {
        Self(Arc::new(Shared {
            group,
            status: Mutex::new(Status {
                state: GroupState::Follower,
                released: false,
                peers,
            }),
            released: Condvar::new(),
            stops,
            wake,
        }))
    }

    /// The group this handle is for.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.0.group
    }

    /// Asks the group to stop. Idempotent, non-blocking, callable from any thread and before the
    /// group was started. Only the first call enqueues the stop and makes the state `Closed`.
    /// Returns whether this call was the first.
    pub fn stop(&self) -> bool {
        {
            let mut status = lock(&self.0.status);
            if status.state == GroupState::Closed {
                return false;
            }
            status.state = GroupState::Closed;
        }
        self.0.stops.push(self.0.group);
        if let Some(wake) = &self.0.wake {
            wake();
        }
        true
    }

    /// What the group is doing now.
    #[must_use]
    pub fn state(&self) -> GroupState {
        lock(&self.0.status).state
    }

    /// The voting members, this server included.
    #[must_use]
    pub fn peers(&self) -> Vec<NodeId> {
        lock(&self.0.status).peers.clone()
    }

    /// How many votes an election or a commit needs.
    #[must_use]
    pub fn votes_needed(&self) -> usize {
        lock(&self.0.status).peers.len() / 2 + 1
    }

    /// Whether this server alone is a quorum, or, as leader, is known to have one: a leader that
    /// loses its quorum steps down within an election timeout.
    #[must_use]
    pub fn has_quorum(&self) -> bool {
        let status = lock(&self.0.status);
        status.peers.len() == 1 || status.state == GroupState::Leader
    }

    /// Blocks until the stop is complete and the log released. Returns at once when no stop was
    /// asked for. Must not be called by the thread that owns the groups.
    pub fn wait_stopped(&self) {
        let mut status = lock(&self.0.status);
        while status.state == GroupState::Closed && !status.released {
            status = self
                .0
                .released
                .wait(status)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether the stop is complete and the log released.
    #[must_use]
    pub fn is_released(&self) -> bool {
        lock(&self.0.status).released
    }

    /// Reports a new role; `Closed` is never left.
    pub(crate) fn report_state(&self, state: GroupState) {
        let mut status = lock(&self.0.status);
        if status.state != GroupState::Closed {
            status.state = state;
        }
    }

    /// The last act of a group: its log is free to be opened again.
    pub(crate) fn report_released(&self) {
        {
            let mut status = lock(&self.0.status);
            status.state = GroupState::Closed;
            status.released = true;
        }
        self.0.released.notify_all();
    }
}

/// A panic while holding one of these mutexes cannot leave the few words behind it inconsistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
