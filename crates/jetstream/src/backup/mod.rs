//! Snapshots and restores under way (spec jetstream/05 §6): what was begun by a request and goes on
//! over many turns, each a bounded step. The format is the business of `millrace_archive`.

mod advisory;
mod restore;
mod snapshot;
mod window;

use std::collections::BTreeMap;

use bytes::Bytes;
use millrace_clock::Now;

use crate::api::ApiTurn;
use crate::engine::JetStream;
use crate::ids::{AccountRef, Endpoint, StreamId};
use crate::io::{Effect, Message};
use crate::outbound::Outbound;

use restore::Restore;
pub use restore::RestoreAsk;
use snapshot::Snapshot;
pub use snapshot::SnapshotAsk;

/// Most snapshots and restores at a time: each may keep a few megabytes.
const JOBS_MAX: usize = 64;
/// Length of the random part of their subjects.
const ID_LENGTH: usize = 22;

/// Nobody answers for so long: given up.
const PATIENCE_NS: u64 = 5_000_000_000;

/// What a step left undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Done,
    /// Call again in the next turn.
    More,
    /// Call again when something happened, at the latest at this monotonic time.
    Waiting(u64),
}

#[derive(Debug)]
enum Kind {
    Snapshot(Box<Snapshot>),
    Restore(Box<Restore>),
}

#[derive(Debug)]
struct Job {
    account: AccountRef,
    /// What its endpoint listens to.
    filter: Bytes,
    kind: Kind,
    /// Monotonic time of its next step; 0: at once.
    wake_ns: u64,
}

/// All of them, by the number of their endpoints.
#[derive(Debug, Default)]
pub(crate) struct Backups {
    jobs: BTreeMap<u64, Job>,
    next: u64,
}

impl Backups {
    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.jobs.len() >= JOBS_MAX
    }

    /// A message on the endpoint of one of them.
    pub(crate) fn heard(&mut self, now: Now, number: u64, message: Message) {
        let Some(job) = self.jobs.get_mut(&number) else {
            return;
        };
        job.wake_ns = 0;
        match &mut job.kind {
            Kind::Snapshot(snapshot) => snapshot.acknowledged(),
            Kind::Restore(restore) => restore.heard(now, message),
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.jobs.values().map(|job| job.wake_ns).min()
    }

    /// Whether one of them fills this stream.
    fn restores(&self, stream: StreamId) -> bool {
        self.jobs.values().any(
            |job| matches!(&job.kind, Kind::Restore(restore) if restore.stream() == Some(stream)),
        )
    }
}

/// The time, and the ways out of a step.
pub(crate) struct Way<'a> {
    now: Now,
    out: &'a mut dyn Outbound,
    effects: &'a mut Vec<Effect>,
}

impl<'a> Way<'a> {
    pub(crate) fn new(turn: &'a mut ApiTurn<'_>) -> Self {
        Self {
            now: turn.now,
            out: &mut *turn.out,
            effects: &mut *turn.effects,
        }
    }
}

impl JetStream {
    fn add_backup(
        &mut self,
        account: AccountRef,
        filter: Bytes,
        kind: Kind,
        effects: &mut Vec<Effect>,
    ) {
        self.backups.next += 1;
        let number = self.backups.next;
        effects.push(Effect::Bind {
            account,
            filter: filter.clone(),
            endpoint: Endpoint::Backup(number),
        });
        let job = Job {
            account,
            filter,
            kind,
            wake_ns: 0,
        };
        self.backups.jobs.insert(number, job);
    }

    /// One step of each: whatever they wait for (an acknowledgement, a read, an entry) made this turn.
    pub(crate) fn advance_backups(
        &mut self,
        now: Now,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        if self.backups.jobs.is_empty() {
            return;
        }
        let numbers: Vec<u64> = self.backups.jobs.keys().copied().collect();
        for number in numbers {
            let Some(mut job) = self.backups.jobs.remove(&number) else {
                continue;
            };
            let mut way = Way {
                now,
                out: &mut *out,
                effects: &mut *effects,
            };
            let progress = match &mut job.kind {
                Kind::Snapshot(snapshot) => snapshot.step(self, &mut way),
                Kind::Restore(restore) => restore.step(self, &mut way),
            };
            job.wake_ns = match progress {
                Progress::More => 0,
                Progress::Waiting(until_ns) => until_ns,
                Progress::Done => {
                    effects.push(Effect::Unbind {
                        account: job.account,
                        filter: job.filter,
                        endpoint: Endpoint::Backup(number),
                    });
                    continue;
                }
            };
            self.backups.jobs.insert(number, job);
        }
    }

    /// What was left half restored when the server stopped goes: nobody has seen it.
    pub(crate) fn drop_unfinished_restores(&mut self) {
        let unfinished = self.streams.values().filter(|stream| stream.restoring);
        let unfinished: Vec<(StreamId, AccountRef)> = unfinished
            .filter(|stream| !self.backups.restores(stream.id))
            .map(|stream| (stream.id, stream.account))
            .collect();
        for (id, account) in unfinished {
            restore::stage_delete(self, id, account);
        }
    }
}
