//! Committing a batch: all its messages are checked in order against one staged diff; then they
//! are proposed as one entry, or above 1 MiB as a chain of parts closed by a commit entry; or
//! nothing happens at all.
//!
//! While a batch is being checked or proposed the stream takes nothing else: what comes waits, so
//! that the checks stay true and the chain stays whole.

use std::collections::BTreeMap;

use bytes::Bytes;
use millrace_store::staging::{StagedId, StagedPart, Staging, StagingError};
use millrace_store::stream::Lookup;

use super::group::Abandoned;
use super::stage::poll_staging;
use super::staged::{Decided, StagedMessage, decide};
use crate::entry::{
    CommitRecord, Decision, HEAD_LENGTH, MessageParts, Operation, PART_FRONT_LENGTH, batch_entry,
    part_checksum, part_front,
};
use crate::publish::{
    Allowance, PublishAnswer, PublishHeaders, Refusal, Verdict, order, with_header,
};
use crate::shared::Turn;
use crate::stream::firing::is_schedule;
use crate::stream::flight::{Departure, Flight};
use crate::stream::{Question, Stream};

/// Smaller batches share an entry with what else came in the turn; larger ones are not copied.
const SHARED_ENTRY_BYTES: usize = 32 * 1024;

/// Part entries that may be on their way at once: bounds the memory of a large batch.
const PARTS_IN_FLIGHT_MAX: u64 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Checking; the next message is this one of this part.
    Checking { part: usize, offset: usize },
    /// Proposing; this part is next.
    Proposing { part: usize },
}

/// A batch between its commit message and its last proposal.
#[derive(Debug)]
pub(crate) struct CommitJob {
    id: Bytes,
    staged: StagedId,
    reply: Bytes,
    end_of_batch: bool,
    now_ns: i64,
    /// Of all its messages.
    time_ns: i64,
    count: u64,
    parts: usize,
    /// Small enough for one entry.
    single: bool,
    phase: Phase,
    diff: Flight,
    /// Messages checked so far.
    checked: u64,
    /// What was decided about messages that are not stored as they came, by their place.
    decided: BTreeMap<u64, Decided>,
    last_id: Bytes,
    chain: u64,
    /// Messages in the parts proposed so far.
    proposed_messages: u64,
    bytes: u64,
    checksum: u64,
}

enum Step {
    Wait,
    Reject(Refusal, Option<Abandoned>),
    Continue,
    Done,
}

impl CommitJob {
    /// The commit of a batch at `now_ns`; its messages get the time `time_ns`.
    pub(super) fn new(
        id: Bytes,
        (staged, staging): (StagedId, &Staging),
        reply: Bytes,
        end_of_batch: bool,
        (now_ns, time_ns): (i64, i64),
    ) -> Self {
        let (count, bytes) = staging.size(staged);
        let parts = staging.part_count(staged);
        Self {
            id,
            staged,
            reply,
            end_of_batch,
            now_ns,
            time_ns,
            count,
            parts,
            single: parts <= 1 && bytes <= staging.part_bytes(),
            phase: Phase::Checking { part: 0, offset: 0 },
            diff: Flight::default(),
            checked: 0,
            decided: BTreeMap::new(),
            last_id: Bytes::new(),
            chain: 0,
            proposed_messages: 0,
            bytes: 0,
            checksum: 0,
        }
    }

    /// Makes of a staged part what stands in the entry: `first` is the place of its first message.
    fn decide(&self, part: StagedPart, first: u64) -> Result<Vec<u8>, Refusal> {
        let decided = |place: usize| self.decided.get(&(first + place as u64));
        decide(part, self.time_ns, decided).map_err(|_| Refusal::BatchIncomplete)
    }
}

impl Stream {
    /// Goes on with the commit that is under way, as far as it can.
    pub(crate) fn advance_commit(&mut self, turn: &mut Turn<'_>) {
        let Some(mut job) = self.lead.commit.take() else {
            return;
        };
        loop {
            let step = match job.phase {
                Phase::Checking { part, offset } => self.check_part(turn, &mut job, part, offset),
                Phase::Proposing { part } => self.propose_part(turn, &mut job, part),
            };
            match step {
                Step::Continue => {}
                Step::Wait => {
                    poll_staging(turn);
                    self.poll_store(turn);
                    self.lead.commit = Some(job);
                    // What was staged before the batch may be what it waits for.
                    self.lead.propose(self.id, turn);
                    return;
                }
                Step::Reject(refusal, reason) => {
                    let answer = PublishAnswer::Refused(refusal);
                    self.answer_refused(turn, &job.reply, answer);
                    self.drop_batch(turn, &job.id, reason);
                    return;
                }
                Step::Done => {
                    self.drop_batch(turn, &job.id, None);
                    return;
                }
            }
        }
    }

    fn answer_refused(&mut self, turn: &mut Turn<'_>, reply: &Bytes, answer: PublishAnswer) {
        match &answer {
            PublishAnswer::Refused(refusal) if refusal.promises_nothing() => {
                self.send_answer(turn, reply, &answer);
            }
            _ => self.answer(turn, reply, answer),
        }
    }

    fn check_part(
        &mut self,
        turn: &mut Turn<'_>,
        job: &mut CommitJob,
        part: usize,
        offset: usize,
    ) -> Step {
        if part >= job.parts {
            return self.checks_passed(turn, job);
        }
        let lent = match turn.shared.staging.lend(job.staged, part) {
            Lookup::Loading => return Step::Wait,
            Lookup::Ready(Err(error)) => return staging_failed(&error),
            Lookup::Ready(Ok(lent)) => lent,
        };
        job.phase = Phase::Checking {
            part: part + 1,
            offset: 0,
        };
        let mut step = Step::Continue;
        // Nothing is applied in between.
        let allowance = turn.shared.allowance(self.account, self.config.storage);
        for place in offset..lent.ends.len() {
            let message = lent.message(place).unwrap_or_default();
            step = self.check_message(turn, job, (message, allowance));
            if !matches!(step, Step::Continue) {
                job.phase = Phase::Checking {
                    part,
                    offset: place,
                };
                break;
            }
        }
        turn.shared.staging.give_back(job.staged, part, lent);
        step
    }

    fn check_message(
        &mut self,
        turn: &mut Turn<'_>,
        job: &mut CommitJob,
        (message, allowance): (&[u8], Allowance),
    ) -> Step {
        let Ok(staged) = StagedMessage::decode(message) else {
            return Step::Reject(Refusal::BatchIncomplete, Some(Abandoned::Incomplete));
        };
        let index = job.checked;
        let closes = job.end_of_batch && index + 1 == job.count;
        let closing = closes.then(|| with_header(staged.parts.headers, b"Nats-Batch-Commit", b"1"));
        let mapped = self.mapped(turn.shared, staged.parts.subject);
        let subject = mapped.map(Bytes::from);
        let parts = MessageParts {
            subject: subject.as_deref().unwrap_or(staged.parts.subject),
            headers: closing.as_deref().unwrap_or(staged.parts.headers),
            payload: staged.parts.payload,
            note: b"",
        };
        let (table, headers) = if staged.checked {
            (order::BATCH_COMMIT, PublishHeaders::parse(parts.headers))
        } else {
            (order::BATCH_COMMIT_PLAIN, PublishHeaders::default())
        };
        let mut checked = self.check(Question {
            table,
            allowance,
            now_ns: job.now_ns,
            diff: Some(&job.diff),
            index,
            headers: &headers,
            message: parts,
        });
        match checked.verdict {
            Verdict::WaitForFlight | Verdict::WaitForDisk => return Step::Wait,
            Verdict::Refuse(refusal) => return Step::Reject(refusal, None),
            Verdict::Duplicate(_) => return Step::Reject(Refusal::BatchDuplicate, None),
            Verdict::Unwanted => checked.decision.unwanted = true,
            Verdict::Pass => {}
        }
        let id = headers.dedup_id();
        job.last_id = id.map(Bytes::copy_from_slice).unwrap_or_default();
        job.diff.add(Departure {
            subject: parts.subject,
            bytes: checked.bytes,
            sequence: self.lead.last_sequence + 1 + index,
            id: id
                .filter(|_| self.dedup.is_enabled())
                .map(|id| self.dedup.hash(id)),
            counter: checked.counter,
            schedule: is_schedule(&checked.note),
            stored: !checked.decision.unwanted,
        });
        let decided = Decided {
            decision: Decision {
                time_ns: job.time_ns,
                ..checked.decision
            },
            subject,
            headers: checked.headers.or(closing),
            payload: checked.payload,
            note: checked.note,
        };
        if !decided.is_ordinary() {
            job.decided.insert(index, decided);
        }
        job.checked += 1;
        Step::Continue
    }

    fn checks_passed(&mut self, turn: &mut Turn<'_>, job: &mut CommitJob) -> Step {
        if !job.single {
            // The chain must not be broken: what was staged before goes first, by itself.
            self.lead.propose(self.id, turn);
            job.chain = turn.shared.random.next_u64();
            job.phase = Phase::Proposing { part: 0 };
            return Step::Continue;
        }
        let lent = match turn.shared.staging.lend(job.staged, 0) {
            Lookup::Loading => return Step::Wait,
            Lookup::Ready(Err(error)) => return staging_failed(&error),
            Lookup::Ready(Ok(lent)) => lent,
        };
        turn.shared.staging.give_up(job.staged, 0);
        let messages = match job.decide(lent, 0) {
            Ok(messages) => messages,
            Err(refusal) => return Step::Reject(refusal, Some(Abandoned::Incomplete)),
        };
        let count = u32::try_from(job.count).unwrap_or(u32::MAX);
        let first = self.lead.last_sequence + 1;
        if messages.len() > SHARED_ENTRY_BYTES {
            self.lead.propose_whole(self.id, turn, |head| {
                batch_entry(head, first, count, messages)
            });
        } else {
            let messages = messages.get(PART_FRONT_LENGTH..).unwrap_or_default();
            self.lead.writer.place(first);
            self.lead.writer.batch(count, messages);
            self.lead.mark_urgent();
        }
        self.merge(turn, job);
        Step::Done
    }

    /// The batch is decided: its diff becomes part of staged state, whole, and its answer waits.
    fn merge(&mut self, turn: &mut Turn<'_>, job: &mut CommitJob) {
        self.lead.flight.merge(std::mem::take(&mut job.diff));
        self.lead.last_sequence += job.count;
        self.lead.last_time_ns = job.time_ns;
        self.lead.last_message_id = std::mem::take(&mut job.last_id);
        let answer = PublishAnswer::Batch {
            sequence: self.lead.last_sequence,
            id: job.id.clone(),
            count: job.count,
            duplicate: false,
        };
        self.answer(turn, &job.reply, answer);
    }

    fn propose_part(&mut self, turn: &mut Turn<'_>, job: &mut CommitJob, part: usize) -> Step {
        if self.lead.proposed - self.lead.applied >= PARTS_IN_FLIGHT_MAX {
            return Step::Wait;
        }
        if part >= job.parts {
            self.propose_commit(turn, job, part);
            return Step::Done;
        }
        let lent = match turn.shared.staging.lend(job.staged, part) {
            Lookup::Loading => return Step::Wait,
            Lookup::Ready(Err(error)) => return staging_failed(&error),
            Lookup::Ready(Ok(lent)) => lent,
        };
        turn.shared.staging.give_up(job.staged, part);
        let count = lent.ends.len();
        let mut data = match job.decide(lent, job.proposed_messages) {
            Ok(data) => data,
            Err(refusal) => return Step::Reject(refusal, Some(Abandoned::Incomplete)),
        };
        job.proposed_messages += count as u64;
        let (index, count) = (u32::try_from(part), u32::try_from(count));
        let (index, count) = (index.unwrap_or(u32::MAX), count.unwrap_or(u32::MAX));
        self.lead.propose_whole(self.id, turn, |head| {
            let front = part_front(head, job.chain, index, count);
            if let Some(space) = data.get_mut(..PART_FRONT_LENGTH) {
                space.copy_from_slice(&front);
            }
            job.checksum = part_checksum(job.checksum, &data);
            job.bytes += (data.len() - HEAD_LENGTH) as u64;
            Bytes::from(data)
        });
        job.phase = Phase::Proposing { part: part + 1 };
        Step::Continue
    }

    fn propose_commit(&mut self, turn: &mut Turn<'_>, job: &mut CommitJob, parts: usize) {
        let commit = CommitRecord {
            batch: job.chain,
            parts: u32::try_from(parts).unwrap_or(u32::MAX),
            count: u32::try_from(job.count).unwrap_or(u32::MAX),
            first_sequence: self.lead.last_sequence + 1,
            bytes: job.bytes,
            checksum: job.checksum,
        };
        self.lead
            .stage(&Operation::Commit(commit), crate::io::Durability::Now);
        self.merge(turn, job);
        // Alone in its entry, like the parts.
        self.lead.propose(self.id, turn);
    }
}

fn staging_failed(_error: &StagingError) -> Step {
    Step::Reject(Refusal::BatchIncomplete, Some(Abandoned::Incomplete))
}
