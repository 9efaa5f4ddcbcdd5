//! One Raft group: the `raft` crate's node and the bookkeeping around its asynchronous ready.

use std::collections::VecDeque;

use raft::eraftpb::{Entry, Message, MessageType};
use raft::{RawNode, StateRole};

use crate::groups::{GroupSpec, ProposeError};
use crate::handle::{GroupHandle, GroupState};
use crate::log::{GroupLog, RestoredLog};
use crate::output::{
    CommittedEntry, HardState, LogAppend, LogEntry, PeerMessage, PersistTicket, ReplicaOutput,
    RoleChange,
};
use crate::{GroupId, NodeId};

/// Ticks between a leader's heartbeats.
const HEARTBEAT_TICKS: usize = 2;
/// Shortest election timeout in ticks. Each member gets its own value above it.
const ELECTION_TICKS_MIN: usize = 10;
/// Distance between the election timeouts of two members, so that their votes do not split.
const ELECTION_TICKS_STEP: usize = 3;
/// Largest append message in bytes.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// Append messages in flight to one member.
const MESSAGES_IN_FLIGHT_MAX: usize = 256;

/// Messages that may leave only once an append is durable (votes, acknowledgements).
struct AwaitingPersist {
    number: u64,
    messages: Vec<Message>,
}

pub(crate) struct Group {
    id: GroupId,
    incarnation: u64,
    node: RawNode<GroupLog>,
    handle: GroupHandle,
    volatile: bool,
    started: bool,
    awaiting: VecDeque<AwaitingPersist>,
    /// Highest ready that had nothing to persist while earlier ones were still waiting.
    trailing_number: u64,
    /// As leader: index of the entry that opened this term.
    term_opened_at: Option<u64>,
    leader_reported: bool,
    saved: HardState,
}

impl Group {
    pub(crate) fn new(
        id: GroupId,
        incarnation: u64,
        spec: &GroupSpec,
        restored: RestoredLog,
        handle: GroupHandle,
        logger: &slog::Logger,
    ) -> raft::Result<Self> {
        let rank = spec
            .voters
            .iter()
            .filter(|voter| **voter < spec.node)
            .count();
        // The crate draws its timeout from the operating system's entropy; a range of one value
        // takes that choice away from it.
        let election = ELECTION_TICKS_MIN
            + rank * ELECTION_TICKS_STEP
            + (spec.seed % ELECTION_TICKS_STEP as u64) as usize;
        let config = raft::Config {
            id: spec.node.0,
            election_tick: election,
            heartbeat_tick: HEARTBEAT_TICKS,
            min_election_tick: election,
            max_election_tick: election + 1,
            applied: restored.applied_index,
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_inflight_msgs: MESSAGES_IN_FLIGHT_MAX,
            check_quorum: true,
            pre_vote: true,
            // Byte limits are the stream's business: a staged proposal must not be dropped here.
            max_uncommitted_size: raft::NO_LIMIT,
            ..raft::Config::default()
        };
        let saved = restored.hard_state;
        let log = GroupLog::new(&spec.voters, restored);
        Ok(Self {
            id,
            incarnation,
            node: RawNode::new(&config, log, logger)?,
            handle,
            volatile: spec.volatile,
            started: false,
            awaiting: VecDeque::new(),
            trailing_number: 0,
            term_opened_at: None,
            leader_reported: false,
            saved,
        })
    }

    pub(crate) fn handle(&self) -> &GroupHandle {
        &self.handle
    }

    pub(crate) fn is_alone(&self) -> bool {
        let voters = self.node.store().voters();
        voters.len() == 1 && voters[0].0 == self.node.raft.id
    }

    pub(crate) fn is_started(&self) -> bool {
        self.started
    }

    pub(crate) fn start(&mut self) -> raft::Result<()> {
        if self.started {
            return Ok(());
        }
        self.started = true;
        if self.is_alone() {
            self.node.campaign()?;
        }
        Ok(())
    }

    pub(crate) fn tick(&mut self) -> bool {
        self.started && self.node.tick()
    }

    pub(crate) fn step(&mut self, message: Message) -> raft::Result<()> {
        if !self.started {
            return Ok(());
        }
        self.node.step(message)
    }

    pub(crate) fn transfer_leader(&mut self, to: NodeId) {
        self.node.transfer_leader(to.0);
    }

    pub(crate) fn can_propose(&self) -> bool {
        self.leader_reported && self.node.raft.lead_transferee.is_none()
    }

    pub(crate) fn propose(&mut self, data: bytes::Bytes) -> Result<(u64, u64), ProposeError> {
        if !self.can_propose() {
            return Err(ProposeError::NotLeader);
        }
        let entry = Entry {
            data,
            ..Entry::default()
        };
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.node.raft.id;
        message.set_entries(vec![entry].into());
        self.node
            .raft
            .step(message)
            .map_err(|error| ProposeError::Refused(error.to_string()))?;
        Ok((self.node.raft.term, self.node.raft.raft_log.last_index()))
    }

    /// Drains every ready of the node into `out`.
    pub(crate) fn poll(&mut self, out: &mut ReplicaOutput) {
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            let number = ready.number();
            if let Some(soft_state) = ready.ss() {
                let role = soft_state.raft_state;
                self.role_changed(role, out);
            }
            let committed = ready.take_committed_entries();
            let entries = ready.take_entries();
            let hard_state = ready.hs().cloned();
            self.send(ready.take_messages(), out);
            let after_persist = ready.take_persisted_messages();
            self.persist(number, &entries, hard_state, after_persist, out);
            self.node.advance_append_async(ready);
            self.settle();
            self.hand_out(committed, out);
        }
    }

    /// Reports that everything up to `number` is durable.
    pub(crate) fn persisted(&mut self, ticket: PersistTicket, out_messages: &mut Vec<PeerMessage>) {
        if ticket.incarnation != self.incarnation {
            return;
        }
        while self
            .awaiting
            .front()
            .is_some_and(|waiting| waiting.number <= ticket.number)
        {
            if let Some(waiting) = self.awaiting.pop_front() {
                push_messages(self.id, waiting.messages, out_messages);
            }
        }
        let number = if self.awaiting.is_empty() {
            ticket.number.max(self.trailing_number)
        } else {
            ticket.number
        };
        self.node.on_persist_ready(number);
    }

    /// Reports that entries up to `index` are applied.
    pub(crate) fn applied(&mut self, index: u64, out_roles: &mut Vec<RoleChange>) {
        if index > self.node.raft.raft_log.applied {
            self.node.advance_apply_to(index);
        }
        if self.is_alone() {
            // Nobody will ask for these entries again; recovery reads the journal.
            self.node.mut_store().compact(index);
        }
        self.report_leader(out_roles);
    }

    fn report_leader(&mut self, out_roles: &mut Vec<RoleChange>) {
        let Some(opened_at) = self.term_opened_at else {
            return;
        };
        if !self.leader_reported && self.node.raft.raft_log.applied >= opened_at {
            self.leader_reported = true;
            out_roles.push(RoleChange::LeaderReady {
                group: self.id,
                term: self.node.raft.term,
            });
        }
    }

    fn role_changed(&mut self, role: StateRole, out: &mut ReplicaOutput) {
        let state = match role {
            StateRole::Leader => GroupState::Leader,
            StateRole::Candidate | StateRole::PreCandidate => GroupState::Candidate,
            StateRole::Follower => GroupState::Follower,
        };
        self.handle.report_state(state);
        if role == StateRole::Leader {
            if self.term_opened_at.is_none() {
                self.term_opened_at = Some(self.node.raft.raft_log.last_index());
            }
        } else {
            self.term_opened_at = None;
            if std::mem::take(&mut self.leader_reported) {
                out.roles.push(RoleChange::LeaderLost { group: self.id });
            }
        }
    }

    fn persist(
        &mut self,
        number: u64,
        entries: &[Entry],
        hard_state: Option<raft::eraftpb::HardState>,
        messages: Vec<Message>,
        out: &mut ReplicaOutput,
    ) {
        self.node.mut_store().append(entries);
        let mut changed = None;
        if let Some(hard_state) = hard_state {
            let now = HardState {
                term: hard_state.term,
                vote: hard_state.vote,
                commit: hard_state.commit,
            };
            // A commit index is known again from the leader or from being alone.
            if (now.term, now.vote) != (self.saved.term, self.saved.vote) {
                changed = Some(now);
            }
            self.saved = now;
            self.node.mut_store().set_hard_state(&hard_state);
        }
        let must_persist = !self.volatile && (!entries.is_empty() || changed.is_some());
        if must_persist {
            self.awaiting
                .push_back(AwaitingPersist { number, messages });
            out.appends.push(LogAppend {
                group: self.id,
                entries: entries.iter().map(from_raft).collect(),
                hard_state: changed,
                persist: PersistTicket {
                    group: self.id,
                    incarnation: self.incarnation,
                    number,
                },
            });
        } else {
            self.trailing_number = number;
            match self.awaiting.back_mut() {
                Some(waiting) => waiting.messages.extend(messages),
                None => push_messages(self.id, messages, &mut out.messages),
            }
        }
    }

    /// With nothing waiting for the disk, what was just taken counts as persisted.
    fn settle(&mut self) {
        if self.awaiting.is_empty() && self.trailing_number > 0 {
            self.node.on_persist_ready(self.trailing_number);
        }
    }

    fn hand_out(&mut self, committed: Vec<Entry>, out: &mut ReplicaOutput) {
        if committed.is_empty() {
            return;
        }
        let entries = committed
            .into_iter()
            .map(|entry| CommittedEntry {
                index: entry.index,
                term: entry.term,
                data: entry.data,
            })
            .collect();
        out.committed.push((self.id, entries));
    }

    fn send(&self, messages: Vec<Message>, out: &mut ReplicaOutput) {
        push_messages(self.id, messages, &mut out.messages);
    }
}

fn push_messages(group: GroupId, messages: Vec<Message>, out: &mut Vec<PeerMessage>) {
    out.extend(messages.into_iter().map(|message| PeerMessage {
        group,
        to: NodeId(message.to),
        message,
    }));
}

fn from_raft(entry: &Entry) -> LogEntry {
    LogEntry {
        index: entry.index,
        term: entry.term,
        data: entry.data.clone(),
    }
}
