//! Committing a batch: all its messages are checked in order against one staged diff; then they
//! are proposed as one entry, or above 1 MiB as a chain of parts closed by a commit entry; or
//! nothing happens at all.
//!
//! While a batch is being checked or proposed the stream takes nothing else: what comes waits, so
//! that the checks stay true and the chain stays whole.

use bytes::Bytes;
use millrace_store::staging::{PART_BYTES, StagedId, StagingError};
use millrace_store::stream::Lookup;

use super::group::Abandoned;
use super::stage::poll_staging;
use super::staged::StagedMessage;
use crate::entry::{
    CommitRecord, Deadline, HEAD_LENGTH, Operation, PublishRecord, Rollup, part_checksum,
};
use crate::publish::{PublishAnswer, PublishHeaders, Refusal, Verdict, order, with_header};
use crate::shared::Turn;
use crate::stream::Stream;
use crate::stream::flight::{Departure, Flight};

/// Part entries that may be on their way at once: bounds the memory of a large batch.
const PARTS_IN_FLIGHT_MAX: u64 = 4;

/// What the checks decided about a message, where it differs from what is staged.
#[derive(Debug)]
struct Decided {
    deadline: Deadline,
    rollup: Rollup,
    unwanted: bool,
    subject: Option<Bytes>,
    headers: Option<Bytes>,
    payload: Option<Bytes>,
}

impl Decided {
    /// Puts the decisions into the message read again. The rewritten pieces are used up.
    fn fill(&mut self, record: &mut PublishRecord) {
        record.deadline = self.deadline;
        record.rollup = self.rollup;
        record.unwanted = self.unwanted;
        for (decided, place) in [
            (self.subject.take(), &mut record.subject),
            (self.headers.take(), &mut record.headers),
            (self.payload.take(), &mut record.payload),
        ] {
            if let Some(bytes) = decided {
                *place = bytes;
            }
        }
    }
}

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
    count: u64,
    /// Small enough for one entry.
    single: bool,
    phase: Phase,
    diff: Flight,
    decided: Vec<Decided>,
    /// The messages of a batch that fits one entry.
    records: Vec<PublishRecord>,
    last_id: Bytes,
    chain: u64,
    /// Messages in the parts proposed so far.
    proposed_messages: usize,
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
    pub(super) fn new(
        id: &Bytes,
        staged: StagedId,
        (count, bytes): (u64, u64),
        reply: Bytes,
        end_of_batch: bool,
        now_ns: i64,
    ) -> Self {
        Self {
            id: Bytes::copy_from_slice(id),
            staged,
            reply,
            end_of_batch,
            now_ns,
            count,
            single: bytes <= PART_BYTES,
            phase: Phase::Checking { part: 0, offset: 0 },
            diff: Flight::default(),
            decided: Vec::new(),
            records: Vec::new(),
            last_id: Bytes::new(),
            chain: 0,
            proposed_messages: 0,
            bytes: 0,
            checksum: 0,
        }
    }

    /// A staged message as it would be stored, before the checks.
    fn record(&self, data: &Bytes, index: u64) -> Result<PublishRecord, Refusal> {
        let staged = StagedMessage::decode(data).map_err(|_| Refusal::BatchIncomplete)?;
        let closes = self.end_of_batch && index + 1 == self.count;
        let headers = if closes {
            with_header(&staged.headers, b"Nats-Batch-Commit", b"1")
        } else {
            staged.headers
        };
        let (subject, payload) = (staged.subject, staged.payload);
        Ok(PublishRecord {
            subject,
            headers,
            payload,
            ..PublishRecord::default()
        })
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
        if part >= turn.shared.staging.part_count(job.staged) {
            return self.checks_passed(turn, job);
        }
        let messages = match turn.shared.staging.part(job.staged, part) {
            Lookup::Loading => return Step::Wait,
            Lookup::Ready(Err(error)) => return staging_failed(&error),
            Lookup::Ready(Ok(messages)) => messages,
        };
        for (place, data) in messages.iter().enumerate().skip(offset) {
            job.phase = Phase::Checking {
                part,
                offset: place,
            };
            match self.check_message(turn, job, data) {
                Step::Continue => {}
                other => return other,
            }
        }
        job.phase = Phase::Checking {
            part: part + 1,
            offset: 0,
        };
        Step::Continue
    }

    fn check_message(&mut self, turn: &mut Turn<'_>, job: &mut CommitJob, data: &Bytes) -> Step {
        let index = job.decided.len() as u64;
        let plain = match job.record(data, index) {
            Ok(record) => record,
            Err(refusal) => return Step::Reject(refusal, Some(Abandoned::Incomplete)),
        };
        let mut record = plain.clone();
        record.subject = self.transformed(turn.shared, &plain.subject);
        let headers = PublishHeaders::parse(&record.headers);
        let allowance = turn.shared.allowance(self.account, self.config.storage);
        let (table, now_ns) = (order::BATCH_COMMIT, job.now_ns);
        let diff = Some(&job.diff);
        let (verdict, counter) =
            self.check(table, allowance, now_ns, diff, index, &headers, &mut record);
        match verdict {
            Verdict::WaitForFlight | Verdict::WaitForDisk => return Step::Wait,
            Verdict::Refuse(refusal) => return Step::Reject(refusal, None),
            Verdict::Duplicate(_) => return Step::Reject(Refusal::BatchDuplicate, None),
            Verdict::Unwanted => record.unwanted = true,
            Verdict::Pass => {}
        }
        let id = headers.dedup_id();
        job.last_id = id.map(|id| Bytes::copy_from_slice(id)).unwrap_or_default();
        // The diff lives longer than the part: it must not pin the part's bytes.
        let subject = Bytes::copy_from_slice(&record.subject);
        job.diff.add(Departure {
            subject: &subject,
            bytes: self.accounting_size(&record),
            sequence: self.lead.last_sequence + 1 + index,
            id: id
                .filter(|_| self.dedup.is_enabled())
                .map(|id| self.dedup.hash(id)),
            counter,
            stored: !record.unwanted,
        });
        let changed = |new: &Bytes, old: &Bytes| (new != old).then(|| Bytes::copy_from_slice(new));
        job.decided.push(Decided {
            deadline: record.deadline,
            rollup: record.rollup,
            unwanted: record.unwanted,
            subject: changed(&record.subject, &plain.subject),
            headers: changed(&record.headers, &plain.headers),
            payload: changed(&record.payload, &plain.payload),
        });
        if job.single {
            job.records.push(record);
        }
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
        let messages = std::mem::take(&mut job.records);
        self.lead
            .stage(&Operation::Batch { messages }, crate::io::Durability::Now);
        self.merge(turn, job);
        Step::Done
    }

    /// The batch is decided: its diff becomes part of staged state, whole, and its answer waits.
    fn merge(&mut self, turn: &mut Turn<'_>, job: &mut CommitJob) {
        self.lead.flight.merge(std::mem::take(&mut job.diff));
        self.lead.last_sequence += job.count;
        self.lead.last_time_ns = self.lead.last_time_ns.max(job.now_ns);
        self.lead.last_message_id = std::mem::take(&mut job.last_id);
        let answer = PublishAnswer::Batch {
            sequence: self.lead.last_sequence,
            id: job.id.clone(),
            count: job.count,
        };
        self.answer(turn, &job.reply, answer);
    }

    fn propose_part(&mut self, turn: &mut Turn<'_>, job: &mut CommitJob, part: usize) -> Step {
        if self.lead.proposed - self.lead.applied >= PARTS_IN_FLIGHT_MAX {
            return Step::Wait;
        }
        if part >= turn.shared.staging.part_count(job.staged) {
            self.propose_commit(turn, job, part);
            return Step::Done;
        }
        let staged = match turn.shared.staging.part(job.staged, part) {
            Lookup::Loading => return Step::Wait,
            Lookup::Ready(Err(error)) => return staging_failed(&error),
            Lookup::Ready(Ok(messages)) => messages,
        };
        let first = job.proposed_messages;
        let mut messages = Vec::with_capacity(staged.len());
        for (place, data) in staged.iter().enumerate() {
            let index = first + place;
            let Ok(mut record) = job.record(data, index as u64) else {
                return Step::Reject(Refusal::BatchIncomplete, Some(Abandoned::Incomplete));
            };
            record.time_ns = job.now_ns.max(self.lead.last_time_ns);
            if let Some(decided) = job.decided.get_mut(index) {
                decided.fill(&mut record);
            }
            messages.push(record);
        }
        job.proposed_messages += messages.len();
        let index = u32::try_from(part).unwrap_or(u32::MAX);
        let operation = Operation::Part {
            batch: job.chain,
            index,
            messages,
        };
        self.lead.stage(&operation, crate::io::Durability::Now);
        if let Some(data) = self.lead.propose(self.id, turn) {
            job.checksum = part_checksum(job.checksum, &data);
            job.bytes += (data.len() - HEAD_LENGTH) as u64;
        }
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
