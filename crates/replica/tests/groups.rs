//! Groups as their owner drives them: the single-voter path, three members in one thread, and the
//! handle by which other threads stop a group (issue "first walk", spec cluster/07 §1).

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::collections::VecDeque;

use bytes::Bytes;
use millrace_clock::Now;
use millrace_replica::{
    GroupError, GroupId, GroupSpec, GroupState, Groups, LogAppend, NodeId, PeerMessage,
    ReplicaOutput, RestoredLog, RoleChange,
};

const GROUP: GroupId = GroupId(7);

fn spec(node: u64, voters: &[u64], volatile: bool) -> GroupSpec {
    GroupSpec {
        node: NodeId(node),
        voters: voters.iter().map(|voter| NodeId(*voter)).collect(),
        volatile,
        seed: node,
    }
}

/// One server of a simulated group: its groups, what it journaled and what it applied.
struct Server {
    groups: Groups,
    journal: Vec<LogAppend>,
    applied: Vec<(u64, Bytes)>,
    leader: bool,
}

impl Server {
    fn new(node: u64, voters: &[u64], volatile: bool) -> Self {
        let mut groups = Groups::new(None);
        groups
            .open(GROUP, &spec(node, voters, volatile), RestoredLog::default())
            .unwrap();
        groups.start(GROUP).unwrap();
        Self {
            groups,
            journal: Vec::new(),
            applied: Vec::new(),
            leader: false,
        }
    }

    /// Takes turns until nothing is left to do, syncing at once.
    fn settle(&mut self) -> Vec<PeerMessage> {
        let mut sent = Vec::new();
        while self.groups.is_dirty() {
            let mut out = ReplicaOutput::default();
            self.groups.poll(&mut out);
            sent.append(&mut out.messages);
            for append in out.appends {
                self.groups.persisted(append.persist);
                self.journal.push(append);
            }
            for (group, entries) in out.committed {
                for entry in entries {
                    self.groups.applied(group, entry.index);
                    if !entry.data.is_empty() {
                        self.applied.push((entry.index, entry.data));
                    }
                }
            }
            for role in out.roles {
                self.leader = matches!(role, RoleChange::LeaderReady { .. });
            }
        }
        sent
    }
}

#[test]
fn single_voter_becomes_leader_without_a_message_and_commits_after_persist() {
    let mut server = Server::new(1, &[1], false);
    assert!(server.settle().is_empty());
    assert!(server.leader);
    let (term, index) = server
        .groups
        .propose(GROUP, Bytes::from_static(b"one"))
        .unwrap();
    let mut out = ReplicaOutput::default();
    server.groups.poll(&mut out);
    assert!(
        out.committed.is_empty(),
        "nothing is committed before it is durable"
    );
    assert_eq!(out.appends.len(), 1);
    assert_eq!(out.appends[0].entries[0].index, index);
    assert_eq!(out.appends[0].entries[0].term, term);
    server.groups.persisted(out.appends[0].persist);
    server.settle();
    assert_eq!(server.applied, [(index, Bytes::from_static(b"one"))]);
}

#[test]
fn proposals_are_taken_while_earlier_ones_wait_for_the_disk() {
    let mut server = Server::new(1, &[1], false);
    server.settle();
    let mut tickets = Vec::new();
    for name in [b"a", b"b", b"c"] {
        server
            .groups
            .propose(GROUP, Bytes::from_static(name))
            .unwrap();
        let mut out = ReplicaOutput::default();
        server.groups.poll(&mut out);
        assert!(out.committed.is_empty());
        tickets.extend(out.appends.into_iter().map(|append| append.persist));
    }
    assert_eq!(tickets.len(), 3);
    server.groups.persisted(tickets[1]);
    server.settle();
    assert_eq!(
        server.applied.len(),
        2,
        "a later ticket covers the earlier one"
    );
    server.groups.persisted(tickets[2]);
    server.settle();
    assert_eq!(server.applied.len(), 3);
}

#[test]
fn volatile_group_commits_in_the_same_turn_and_journals_nothing() {
    let mut server = Server::new(1, &[1], true);
    server.settle();
    server
        .groups
        .propose(GROUP, Bytes::from_static(b"x"))
        .unwrap();
    server.settle();
    assert_eq!(server.applied.len(), 1);
    assert!(server.journal.is_empty());
}

/// A server alone that has applied `a`, `b` and `c`.
fn three_applied() -> Server {
    let mut server = Server::new(1, &[1], false);
    server.settle();
    for name in [b"a", b"b", b"c"] {
        server
            .groups
            .propose(GROUP, Bytes::from_static(name))
            .unwrap();
    }
    server.settle();
    server
}

/// What a restart finds of it, with a checkpoint that covers `a` only.
fn found_of(server: &Server) -> RestoredLog {
    let entries: Vec<_> = server
        .journal
        .iter()
        .flat_map(|append| append.entries.clone())
        .collect();
    let hard_state = server
        .journal
        .iter()
        .rev()
        .find_map(|append| append.hard_state)
        .unwrap();
    let checkpoint = server.applied[0].0;
    RestoredLog {
        applied_index: checkpoint,
        applied_term: 1,
        hard_state,
        entries: entries
            .into_iter()
            .filter(|entry| entry.index > checkpoint)
            .collect(),
    }
}

#[test]
fn restart_applies_again_what_the_checkpoint_does_not_cover() {
    let server = three_applied();
    let mut groups = Groups::new(None);
    groups
        .open(GROUP, &spec(1, &[1], false), found_of(&server))
        .unwrap();
    groups.start(GROUP).unwrap();
    let mut again = Server {
        groups,
        journal: Vec::new(),
        applied: Vec::new(),
        leader: false,
    };
    again.settle();
    assert_eq!(again.applied, server.applied[1..]);
    assert!(again.leader);
    let (_, index) = again
        .groups
        .propose(GROUP, Bytes::from_static(b"d"))
        .unwrap();
    assert!(index > server.applied[2].0);
}

// proves: RFT-05
#[test]
fn a_leader_is_reported_only_when_all_of_earlier_terms_is_applied() {
    let server = three_applied();
    let mut groups = Groups::new(None);
    groups
        .open(GROUP, &spec(1, &[1], false), found_of(&server))
        .unwrap();
    groups.start(GROUP).unwrap();
    let mut out = ReplicaOutput::default();
    for _ in 0..10 {
        groups.poll(&mut out);
        for append in out.appends.drain(..) {
            groups.persisted(append.persist);
        }
    }
    let committed: Vec<_> = out.committed.drain(..).flat_map(|(_, all)| all).collect();
    let data: Vec<&[u8]> = committed.iter().map(|entry| &entry.data[..]).collect();
    assert_eq!(data, [&b"b"[..], b"c", b""]);
    for entry in &committed {
        assert!(out.roles.is_empty(), "reported before {}", entry.index);
        assert!(!groups.can_propose(GROUP));
        groups.applied(GROUP, entry.index);
        groups.poll(&mut out);
    }
    assert!(matches!(out.roles[..], [RoleChange::LeaderReady { .. }]));
    assert!(groups.can_propose(GROUP));
}

/// Delivers messages and moves time until `done`, dropping what goes to stopped members.
fn run(
    servers: &mut [Option<Server>],
    now: &mut Now,
    mut done: impl FnMut(&[Option<Server>]) -> bool,
) {
    for _ in 0..2_000 {
        let mut queue: VecDeque<PeerMessage> = VecDeque::new();
        now.monotonic_ns += 100 * Now::MILLISECOND_NS;
        for server in servers.iter_mut().flatten() {
            server.groups.tick(*now);
            queue.extend(server.settle());
        }
        while let Some(sent) = queue.pop_front() {
            if let Some(Some(target)) = servers.get_mut(sent.to.0 as usize - 1) {
                // A member may refuse a message from an earlier term; the sender learns by itself.
                let _ = target.groups.step(sent.group, sent.message);
                queue.extend(target.settle());
            }
        }
        if done(servers) {
            return;
        }
    }
    panic!("the group did not get there");
}

fn leader_of(servers: &[Option<Server>]) -> Option<usize> {
    servers
        .iter()
        .position(|server| server.as_ref().is_some_and(|server| server.leader))
}

fn propose(server: &mut Option<Server>, data: &'static [u8]) -> Option<(u64, u64)> {
    let groups = &mut server.as_mut()?.groups;
    groups.propose(GROUP, Bytes::from_static(data)).ok()
}

/// Three members with a leader, whose place is given too.
fn three_members(now: &mut Now) -> (Vec<Option<Server>>, usize) {
    let mut servers: Vec<Option<Server>> = (1..=3)
        .map(|node| Some(Server::new(node, &[1, 2, 3], false)))
        .collect();
    run(&mut servers, now, |servers| leader_of(servers).is_some());
    let leader = leader_of(&servers).unwrap();
    (servers, leader)
}

// proves: RFT-04
#[test]
fn a_proposal_counts_only_on_the_leader_and_in_the_term_that_took_it() {
    let mut now = Now::default();
    let (mut servers, first) = three_members(&mut now);
    assert_eq!(propose(&mut servers[(first + 1) % 3], b"refused"), None);

    let mut cut_off = servers[first].take();
    let (old_term, old_index) = propose(&mut cut_off, b"lost").unwrap();
    cut_off.as_mut().unwrap().settle();
    run(&mut servers, &mut now, |servers| {
        leader_of(servers).is_some()
    });
    let second = leader_of(&servers).unwrap();
    let (term, index) = propose(&mut servers[second], b"kept").unwrap();
    assert!(term > old_term && index > old_index);

    servers[first] = cut_off;
    run(&mut servers, &mut now, |servers| {
        let mut members = servers.iter().flatten();
        members.all(|server| !server.applied.is_empty())
    });
    for server in servers.iter().flatten() {
        assert_eq!(server.applied, [(index, Bytes::from_static(b"kept"))]);
    }
    assert_eq!(propose(&mut servers[first], b"refused"), None);
}

#[test]
fn three_members_go_on_when_one_stops() {
    let mut now = Now::default();
    let (mut servers, first) = three_members(&mut now);
    servers[first]
        .as_mut()
        .unwrap()
        .groups
        .propose(GROUP, Bytes::from_static(b"a"))
        .unwrap();
    run(&mut servers, &mut now, |servers| {
        servers
            .iter()
            .flatten()
            .all(|server| server.applied.len() == 1)
    });

    let handle = servers[first]
        .as_ref()
        .unwrap()
        .groups
        .handle(GROUP)
        .unwrap();
    assert!(handle.stop());
    servers[first].as_mut().unwrap().settle();
    assert!(handle.is_released());
    servers[first] = None;

    run(&mut servers, &mut now, |servers| {
        leader_of(servers).is_some()
    });
    let second = leader_of(&servers).unwrap();
    assert_ne!(first, second);
    servers[second]
        .as_mut()
        .unwrap()
        .groups
        .propose(GROUP, Bytes::from_static(b"b"))
        .unwrap();
    run(&mut servers, &mut now, |servers| {
        servers
            .iter()
            .flatten()
            .all(|server| server.applied.len() == 2)
    });
}

// proves: RFT-02
#[test]
fn a_leader_hands_over_while_its_server_shuts_down_and_its_log_stays_open() {
    // Shutting down is a flag of the server that no group ever sees: only its own stop ends it.
    let mut now = Now::default();
    let (mut servers, first) = three_members(&mut now);
    let next = (first + 1) % 3;
    let server = servers[first].as_mut().unwrap();
    server
        .groups
        .transfer_leader(GROUP, NodeId(next as u64 + 1));
    assert!(
        !server.groups.can_propose(GROUP),
        "no proposal may be staged during a transfer"
    );
    assert!(matches!(
        server.groups.open(
            GROUP,
            &spec(first as u64 + 1, &[1, 2, 3], false),
            RestoredLog::default()
        ),
        Err(GroupError::StillOpen(GROUP))
    ));
    run(&mut servers, &mut now, |servers| {
        servers[next].as_ref().is_some_and(|server| server.leader)
    });
    let handle = servers[first]
        .as_ref()
        .unwrap()
        .groups
        .handle(GROUP)
        .unwrap();
    assert_ne!(handle.state(), GroupState::Closed);
}

// proves: RFT-01
#[test]
fn stop_is_idempotent_also_before_start_and_from_ten_threads_at_once() {
    let mut groups = Groups::new(None);
    let handle = groups
        .open(GROUP, &spec(1, &[1], true), RestoredLog::default())
        .unwrap();
    let firsts: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..10)
            .map(|_| scope.spawn(|| usize::from(handle.stop())))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(firsts, 1, "only the first call enqueues the stop");
    assert_eq!(handle.state(), GroupState::Closed);
    let mut out = ReplicaOutput::default();
    groups.poll(&mut out);
    assert_eq!(out.stopped, [GROUP]);
    assert!(!handle.stop());
    assert_eq!(handle.state(), GroupState::Closed, "closed is for good");
}

// proves: RFT-02
#[test]
fn waiting_for_a_stop_returns_after_the_log_is_released() {
    let mut groups = Groups::new(None);
    let spec = spec(1, &[1], true);
    let handle = groups.open(GROUP, &spec, RestoredLog::default()).unwrap();
    groups.start(GROUP).unwrap();
    handle.wait_stopped(); // nobody asked for a stop: returns at once
    handle.stop();
    assert!(!handle.is_released());
    assert!(
        groups.open(GROUP, &spec, RestoredLog::default()).is_err(),
        "the log is still open"
    );
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            handle.wait_stopped();
            assert!(handle.is_released());
        });
        let mut out = ReplicaOutput::default();
        groups.poll(&mut out);
        waiter.join().unwrap();
    });
    assert!(groups.open(GROUP, &spec, RestoredLog::default()).is_ok());
}

// proves: RFT-03
#[test]
fn fresh_single_member_group_knows_itself_before_it_runs() {
    let mut groups = Groups::new(None);
    let handle = groups
        .open(GROUP, &spec(9, &[9], true), RestoredLog::default())
        .unwrap();
    assert_eq!(handle.peers(), [NodeId(9)]);
    assert_eq!(handle.votes_needed(), 1);
    assert!(handle.has_quorum());
    assert_eq!(handle.state(), GroupState::Follower);
    groups.start(GROUP).unwrap();
    let mut out = ReplicaOutput::default();
    groups.poll(&mut out);
    assert!(out.messages.is_empty());
    assert_eq!(handle.state(), GroupState::Leader);
}

#[test]
fn a_ticket_of_a_closed_group_does_not_touch_its_successor() {
    let mut groups = Groups::new(None);
    let spec = spec(1, &[1], false);
    let handle = groups.open(GROUP, &spec, RestoredLog::default()).unwrap();
    groups.start(GROUP).unwrap();
    let mut out = ReplicaOutput::default();
    groups.poll(&mut out);
    let stale = out.appends[0].persist;
    handle.stop();
    groups.poll(&mut out);
    groups.open(GROUP, &spec, RestoredLog::default()).unwrap();
    groups.start(GROUP).unwrap();
    let mut fresh = ReplicaOutput::default();
    groups.poll(&mut fresh);
    groups.persisted(stale);
    let mut after = ReplicaOutput::default();
    groups.poll(&mut after);
    assert!(
        after.committed.is_empty(),
        "a stale ticket persisted the new group's entry"
    );
}
