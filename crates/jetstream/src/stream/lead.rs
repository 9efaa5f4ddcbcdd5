//! What a leader stages on top of applied state, and how publishers are answered.
//!
//! Every answer carries the number of the newest proposal it was derived from and leaves only when
//! that one is applied (hard-parts 5). Proposals of one lead are numbered; an entry names its
//! proposer and number, so that it is known again when it comes back committed.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::Stream;
use super::binding::without_domain;
use super::copying::Copied;
use super::firing::is_schedule;
use super::flight::{Departure, Flight};
use crate::batch::{BatchGroup, CommitJob};
use crate::entry::{Decision, EntryHead, MessageParts, Operation, StreamEntryWriter};
use crate::fast::{FastGroup, FastStep, is_fast};
use crate::io::{Durability, Effect, Message};
use crate::publish::{
    Allowance, Check, CheckFunction, PublishAnswer, PublishHeaders, Refusal, Verdict, order,
    without_header, without_status,
};
use crate::request::{Outcome, PendingRequest};
use crate::shared::{Shared, Turn};

/// The header block of the answer to a publish that found the queue full.
const TOO_MANY_REQUESTS: &[u8] = b"NATS/1.0 429 Too Many Requests\r\n\r\n";

/// Something that waits its turn before a stream that is busy.
#[derive(Debug)]
pub(crate) enum Inbound {
    Publish(Message),
    Change(Operation, PendingRequest),
    /// From an origin of the stream.
    Copied(Box<Copied>),
}

/// An answer that waits for what it was derived from.
#[derive(Debug)]
struct Answer {
    after: u64,
    reply: Bytes,
    told: Told,
}

/// What is told.
#[derive(Debug)]
enum Told {
    Publish(PublishAnswer),
    /// A step of a fast batch, by its id.
    Fast(Bytes, FastStep),
}

/// What a read has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unheard {
    /// This proposal.
    Proposed(u64),
    /// What is staged when the turn ends.
    Unstaged,
}

/// Staged state.
#[derive(Debug, Default)]
pub(crate) struct Lead {
    pub(crate) is_leader: bool,
    /// Number of the newest proposal sent, and of the newest applied.
    pub(crate) proposed: u64,
    pub(crate) applied: u64,
    pub(crate) writer: StreamEntryWriter,
    urgent: bool,
    pub(crate) last_sequence: u64,
    pub(crate) last_time_ns: i64,
    pub(crate) last_message_id: Bytes,
    pub(crate) flight: Flight,
    /// Publishes wait until this proposal is applied: it changes what they are checked against.
    barrier: u64,
    /// Every change on its way deletes one message.
    deletes_only: bool,
    /// The newest proposal with something that nobody is told of: a message without a reply subject,
    /// acknowledgements that remove messages.
    unheard: u64,
    /// Acknowledgements of this turn remove messages; they are staged when it ends.
    pub(super) unstaged: bool,
    /// An entry removes messages in steps: what is checked now could be wrong by then.
    pub(crate) held: bool,
    pub(crate) inbox: VecDeque<Inbound>,
    inbox_bytes: u64,
    /// How many of them are changes.
    inbox_changes: usize,
    answers: VecDeque<Answer>,
    requests: VecDeque<(u64, PendingRequest)>,
    /// Replies and headers of empty messages.
    acknowledgements: VecDeque<(u64, Bytes, Bytes)>,
    /// Acknowledgements of this turn that are to be confirmed.
    pub(crate) turn_acknowledgements: Vec<Bytes>,
    pub(crate) batches: BatchGroup,
    pub(crate) fast: FastGroup,
    /// A batch that is being checked or proposed: all else waits.
    pub(crate) commit: Option<CommitJob>,
    pub(crate) expire_pending: bool,
    pub(crate) next_expire_ns: u64,
    /// Schedules that fired or were cancelled, and expired messages whose markers are on their way:
    /// until that is applied.
    pub(crate) leaving: BTreeSet<u64>,
    /// Schedules and markers are not looked at before.
    pub(crate) next_firing_ns: u64,
    pub(crate) next_marking_ns: u64,
}

/// A message that is to be checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) table: &'a [CheckFunction],
    pub(crate) allowance: Allowance,
    pub(crate) now_ns: i64,
    /// What its batch staged so far.
    pub(crate) diff: Option<&'a Flight>,
    /// Place in its batch, from 0.
    pub(crate) index: u64,
    pub(crate) headers: &'a PublishHeaders<'a>,
    /// Under its transformed subject.
    pub(crate) message: MessageParts<'a>,
}

/// What the checks made of a message.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) verdict: Verdict,
    pub(crate) decision: Decision,
    /// Headers and payload where the checks rewrote them.
    pub(crate) headers: Option<Bytes>,
    pub(crate) payload: Option<Bytes>,
    pub(crate) counter: Option<num_bigint::BigInt>,
    /// What else was decided, as it is logged; empty: nothing.
    pub(crate) note: Vec<u8>,
    /// What it counts for.
    pub(crate) bytes: u64,
}

impl Checked {
    /// The message as it is stored.
    pub(crate) fn parts<'a>(&'a self, message: MessageParts<'a>) -> MessageParts<'a> {
        MessageParts {
            subject: message.subject,
            headers: self.headers.as_deref().unwrap_or(message.headers),
            payload: self.payload.as_deref().unwrap_or(message.payload),
            note: &self.note,
        }
    }
}

/// What became of a message that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Done,
    /// Try again when something was applied or read.
    Wait,
}

impl Lead {
    pub(crate) fn begin(&mut self, last_sequence: u64, last_time_ns: i64, last_id: Bytes) {
        self.is_leader = true;
        self.applied = self.proposed;
        self.last_sequence = last_sequence;
        self.last_time_ns = last_time_ns;
        self.last_message_id = last_id;
    }

    /// The lead is held and nothing is staged, on its way or waiting.
    pub(crate) fn is_idle(&self) -> bool {
        let busy = self.applied != self.proposed
            || !self.flight.is_empty()
            || !self.inbox.is_empty()
            || !self.answers.is_empty()
            || !self.requests.is_empty()
            || !self.acknowledgements.is_empty()
            || !self.turn_acknowledgements.is_empty()
            || !self.batches.is_empty()
            || self.fast.next_deadline().is_some()
            || self.commit.is_some()
            || self.expire_pending
            || self.held;
        self.is_leader && !busy
    }

    /// Forgets everything staged. Nobody is answered: who takes over may decide otherwise.
    pub(crate) fn abandon(&mut self, shared: &mut Shared) {
        let proposed = self.proposed;
        let waiting = std::mem::take(&mut self.requests)
            .into_iter()
            .map(|(_, request)| request);
        let parked = std::mem::take(&mut self.inbox)
            .into_iter()
            .filter_map(|one| match one {
                Inbound::Change(_, request) => Some(request),
                Inbound::Publish(_) | Inbound::Copied(_) => None,
            });
        let all = waiting
            .chain(parked)
            .map(|request| (request, Outcome::Abandoned));
        shared.finished.extend(all);
        *self = Self {
            proposed,
            applied: proposed,
            ..Self::default()
        };
    }

    /// Number of the newest proposal that a new answer rests on.
    pub(crate) fn current(&self) -> u64 {
        self.proposed + u64::from(self.writer.operations() > 0)
    }

    pub(crate) fn is_barred(&self) -> bool {
        self.held || self.commit.is_some() || self.barrier > self.applied
    }

    /// Whether an input must wait. A deletion is not checked against others that are on their way: they
    /// go together, so that one sync covers them.
    fn bars(&self, inbound: &Inbound) -> bool {
        if self.deletes_only && inbound.is_delete() {
            return self.held || self.commit.is_some();
        }
        self.is_barred()
    }

    /// The next input that waits, if it need not any more.
    fn next_inbound(&mut self) -> Option<Inbound> {
        let front = self.inbox.front()?;
        if self.bars(front) {
            return None;
        }
        self.inbox.pop_front()
    }

    /// Stages a change that a request asked for.
    fn stage_change(&mut self, operation: &Operation, request: &PendingRequest) {
        let alone = self.barrier <= self.applied;
        let deletes = matches!(operation, Operation::Delete { .. });
        self.deletes_only = deletes && (alone || self.deletes_only);
        self.stage(operation, Durability::Now);
        self.barrier = self.current();
        self.requests.push_back((self.barrier, request.clone()));
    }

    /// Whether a change that an API request asked for is not applied yet.
    pub(crate) fn has_changes(&self) -> bool {
        self.barrier > self.applied || self.inbox_changes > 0
    }

    /// What a read waits for, so that it sees what was published and acknowledged before it: who is
    /// answered knows by that when it is done.
    pub(crate) fn unheard(&self) -> Option<Unheard> {
        if self.unstaged {
            return Some(Unheard::Unstaged);
        }
        (self.unheard > self.applied).then_some(Unheard::Proposed(self.unheard))
    }

    /// What was staged last is something that nobody is told of.
    pub(super) fn note_unheard(&mut self) {
        self.unheard = self.current();
    }

    /// Whether a proposal is applied, or will not be.
    pub(crate) const fn is_settled(&self, proposal: u64) -> bool {
        !self.is_leader || self.applied >= proposal
    }

    /// The head of the next entry: it is proposed with it.
    fn next_head(&mut self, turn: &Turn<'_>) -> EntryHead {
        self.proposed += 1;
        EntryHead {
            origin: turn.shared.origin,
            number: self.proposed,
        }
    }

    /// Ends the entry being collected and proposes it.
    pub(crate) fn propose(&mut self, id: crate::ids::StreamId, turn: &mut Turn<'_>) {
        if self.writer.operations() == 0 {
            return;
        }
        let head = self.next_head(turn);
        let data = self.writer.finish(head);
        let durability = if self.urgent {
            Durability::Now
        } else {
            Durability::Lazy
        };
        self.urgent = false;
        turn.effects.push(Effect::Propose {
            group: id.group(),
            data,
            durability,
        });
    }

    /// Proposes an entry of its own, behind the one being collected. `make` is given its head.
    pub(crate) fn propose_whole(
        &mut self,
        id: crate::ids::StreamId,
        turn: &mut Turn<'_>,
        make: impl FnOnce(EntryHead) -> Bytes,
    ) {
        self.propose(id, turn);
        let data = make(self.next_head(turn));
        turn.effects.push(Effect::Propose {
            group: id.group(),
            data,
            durability: Durability::Now,
        });
    }

    /// Adds an operation to the entry being collected.
    pub(crate) fn stage(&mut self, operation: &Operation, durability: Durability) {
        self.writer.push(operation);
        self.urgent |= durability == Durability::Now;
    }

    pub(crate) fn mark_urgent(&mut self) {
        self.urgent = true;
    }

    /// Whether the next request that waits for proposal `number` was made on a subject with this
    /// end.
    pub(crate) fn is_asked(&self, number: u64, subject_end: &str) -> bool {
        self.requests.front().is_some_and(|(at, request)| {
            *at == number && request.message.subject.ends_with(subject_end.as_bytes())
        })
    }

    /// Takes the next request that waits for proposal `number`.
    pub(crate) fn take_request(&mut self, number: u64) -> Option<PendingRequest> {
        if self.requests.front().is_none_or(|(at, _)| *at != number) {
            return None;
        }
        self.requests.pop_front().map(|(_, request)| request)
    }

    /// An empty message to `reply` once everything staged so far is applied.
    pub(crate) fn acknowledge_later(&mut self, reply: Bytes) {
        self.answer_flow_later(reply, Bytes::new());
    }

    /// The same with headers.
    pub(crate) fn answer_flow_later(&mut self, reply: Bytes, headers: Bytes) {
        let after = self.current();
        self.acknowledgements.push_back((after, reply, headers));
    }

    pub(crate) fn is_full(&self, size: u64, shared: &Shared) -> bool {
        let waiting = self.inbox.len() as u64 + self.flight.messages;
        waiting >= shared.max_buffered_messages as u64
            || self.inbox_bytes + self.flight.bytes + size > shared.max_buffered_bytes
    }
}

impl Inbound {
    const fn is_change(&self) -> bool {
        matches!(self, Self::Change(..))
    }

    const fn is_delete(&self) -> bool {
        matches!(self, Self::Change(Operation::Delete { .. }, _))
    }
}

fn inbound_size(inbound: &Inbound) -> u64 {
    match inbound {
        Inbound::Publish(message) => (message.headers.len() + message.payload.len()) as u64,
        Inbound::Change(..) => 0,
        Inbound::Copied(copied) => copied.size(),
    }
}

/// Publishes and changes on the leader.
impl Stream {
    /// A message on one of the stream's subjects.
    pub fn publish(&mut self, turn: &mut Turn<'_>, mut message: Message) {
        if !self.lead.is_leader || self.quarantined {
            return;
        }
        if let Some(subject) = without_domain(&message.subject, &turn.shared.domain) {
            message.subject = subject;
        }
        let size = (message.headers.len() + message.payload.len()) as u64;
        if self.lead.is_full(size, turn.shared) {
            let refused = PublishAnswer::Refused(Refusal::TooManyRequests);
            self.send_answer(turn, &message.reply, &refused);
            return;
        }
        self.enqueue(turn, Inbound::Publish(message));
    }

    /// A change that an API request asks for. The request ends with the outcome of its entry.
    pub fn change(&mut self, turn: &mut Turn<'_>, operation: Operation, request: PendingRequest) {
        if !self.lead.is_leader || self.quarantined {
            turn.shared.finished.push((request, Outcome::Abandoned));
            return;
        }
        self.enqueue(turn, Inbound::Change(operation, request));
    }

    pub(super) fn enqueue(&mut self, turn: &mut Turn<'_>, inbound: Inbound) {
        let busy = !self.lead.inbox.is_empty() || self.lead.bars(&inbound);
        if busy || self.admit(turn, &inbound) == Admission::Wait {
            self.lead.inbox_bytes += inbound_size(&inbound);
            self.lead.inbox_changes += usize::from(inbound.is_change());
            self.lead.inbox.push_back(inbound);
        }
    }

    /// Looks again at what waits: something was applied, or read.
    pub(crate) fn drain_inbox(&mut self, turn: &mut Turn<'_>) {
        while let Some(inbound) = self.lead.next_inbound() {
            if self.admit(turn, &inbound) == Admission::Wait {
                self.lead.inbox.push_front(inbound);
                return;
            }
            self.lead.inbox_bytes -= inbound_size(&inbound);
            self.lead.inbox_changes -= usize::from(inbound.is_change());
        }
    }

    fn admit(&mut self, turn: &mut Turn<'_>, inbound: &Inbound) -> Admission {
        match inbound {
            Inbound::Publish(message) => self.admit_publish(turn, message),
            Inbound::Copied(copied) => self.admit_copied(turn, copied),
            Inbound::Change(operation, request) => {
                if let Operation::ConsumerDelete { name } = operation {
                    self.stage_last_record(turn.now, name);
                }
                self.lead.stage_change(operation, request);
                Admission::Done
            }
        }
    }

    fn admit_publish(&mut self, turn: &mut Turn<'_>, message: &Message) -> Admission {
        if message.headers.is_empty() {
            return self.admit_clean(turn, message, &[], &PublishHeaders::default());
        }
        let block = without_status(&message.headers);
        let headers = PublishHeaders::parse(&block);
        if headers.request_info {
            let block = without_header(&block, b"Nats-Request-Info");
            return self.admit_clean(turn, message, &block, &PublishHeaders::parse(&block));
        }
        self.admit_clean(turn, message, &block, &headers)
    }

    /// `block`: the headers as they are stored: no status, nothing that the server added on the
    /// way.
    fn admit_clean(
        &mut self,
        turn: &mut Turn<'_>,
        message: &Message,
        block: &[u8],
        headers: &PublishHeaders<'_>,
    ) -> Admission {
        if is_fast(&message.reply) {
            return self.admit_fast(turn, message, block, headers);
        }
        if headers.batch_id.is_some_and(|id| !id.is_empty()) {
            return self.admit_batch_message(turn, message, block, headers);
        }
        let mapped = self.mapped(turn.shared, &message.subject);
        let parts = MessageParts {
            subject: mapped.as_deref().unwrap_or(&message.subject),
            headers: block,
            payload: &message.payload,
            note: b"",
        };
        let table = match (self.config.num_replicas > 1, headers.checked) {
            (true, _) => order::REPLICATED,
            (false, true) => order::R1,
            (false, false) => order::R1_PLAIN,
        };
        let mut checked = self.check(Question {
            table,
            allowance: turn.shared.allowance(self.account, self.config.storage),
            now_ns: turn.now.wall_ns,
            diff: None,
            index: 0,
            headers,
            message: parts,
        });
        match std::mem::replace(&mut checked.verdict, Verdict::Pass) {
            Verdict::WaitForFlight | Verdict::WaitForDisk => return Admission::Wait,
            Verdict::Refuse(refusal) => self.refuse(turn, message, refusal),
            Verdict::Duplicate(sequence) => {
                self.answer(turn, &message.reply, PublishAnswer::Duplicate { sequence });
            }
            verdict @ (Verdict::Pass | Verdict::Unwanted) => {
                checked.decision.unwanted = verdict == Verdict::Unwanted;
                let value = checked.counter.as_ref().map(ToString::to_string);
                let sequence = self.depart_publish(headers, parts, checked);
                if message.reply.is_empty() {
                    self.lead.note_unheard();
                }
                let answer = match value {
                    Some(value) => PublishAnswer::Counter { sequence, value },
                    None => PublishAnswer::Stored { sequence },
                };
                self.answer(turn, &message.reply, answer);
            }
        }
        Admission::Done
    }

    /// A message that passed is written to the entry, and staged state moves on. Gives its sequence.
    pub(crate) fn depart_publish(
        &mut self,
        headers: &PublishHeaders<'_>,
        parts: MessageParts<'_>,
        checked: Checked,
    ) -> u64 {
        self.lead.writer.place(self.lead.last_sequence + 1);
        self.lead
            .writer
            .publish(checked.decision, checked.parts(parts));
        self.lead.mark_urgent();
        self.depart(headers, parts.subject, checked)
    }

    /// Runs the checks of a table. The message gets its time first.
    pub(crate) fn check(&mut self, question: Question<'_>) -> Checked {
        let message = question.message;
        let wanted = self.is_wanted(message.subject);
        let mut check = Check {
            config: &self.config,
            store: &mut self.store,
            dedup: &self.dedup,
            flight: &self.lead.flight,
            diff: question.diff,
            allowance: question.allowance,
            last_sequence: self.lead.last_sequence,
            last_message_id: &self.lead.last_message_id,
            wanted,
            now_ns: question.now_ns,
            headers: question.headers,
            index: question.index,
            message,
            decision: Decision {
                time_ns: question.now_ns.max(self.lead.last_time_ns),
                ..Decision::default()
            },
            new_headers: None,
            new_payload: None,
            counter: None,
            schedules: &self.schedules,
            note: Vec::new(),
        };
        let mut verdicts = question.table.iter().map(|function| function(&mut check));
        let failed = verdicts.find(|verdict| !matches!(verdict, Verdict::Pass));
        let verdict = failed.unwrap_or(Verdict::Pass);
        let bytes = check.size();
        Checked {
            verdict,
            decision: check.decision,
            headers: check.new_headers,
            payload: check.new_payload,
            counter: check.counter,
            note: check.note,
            bytes,
        }
    }

    /// A message that passed is on its way: staged state moves on. Gives its sequence.
    pub(super) fn depart(
        &mut self,
        headers: &PublishHeaders<'_>,
        subject: &[u8],
        checked: Checked,
    ) -> u64 {
        let sequence = self.lead.last_sequence + 1;
        self.depart_as(sequence, headers, subject, checked);
        sequence
    }

    /// The same under a sequence that is given.
    pub(super) fn depart_as(
        &mut self,
        sequence: u64,
        headers: &PublishHeaders<'_>,
        subject: &[u8],
        checked: Checked,
    ) {
        let id = headers.dedup_id();
        self.lead.flight.add(Departure {
            subject,
            bytes: checked.bytes,
            sequence,
            id: id
                .filter(|_| self.dedup.is_enabled())
                .map(|id| self.dedup.hash(id)),
            counter: checked.counter,
            schedule: is_schedule(&checked.note),
            stored: !checked.decision.unwanted,
        });
        self.note_cancel(&checked.note);
        self.lead.last_sequence = sequence;
        self.lead.last_time_ns = checked.decision.time_ns;
        self.lead.last_message_id = id.map(Bytes::copy_from_slice).unwrap_or_default();
    }

    /// What the stream's transform makes of a subject; `None`: it stays as it is.
    pub(crate) fn mapped(&self, shared: &mut Shared, subject: &[u8]) -> Option<Vec<u8>> {
        let transform = self.transform.as_ref()?;
        transform.apply(subject, &mut shared.random)
    }

    pub(crate) fn refuse(&mut self, turn: &mut Turn<'_>, message: &Message, refusal: Refusal) {
        let at_once = refusal.promises_nothing();
        let answer = PublishAnswer::Refused(refusal);
        if at_once {
            self.send_answer(turn, &message.reply, &answer);
        } else {
            self.answer(turn, &message.reply, answer);
        }
    }

    /// Answers when everything staged so far is applied.
    pub(crate) fn answer(&mut self, turn: &mut Turn<'_>, reply: &Bytes, answer: PublishAnswer) {
        if reply.is_empty() || self.config.no_ack {
            return;
        }
        let after = self.lead.current();
        if after <= self.lead.applied {
            self.send_answer(turn, reply, &answer);
        } else {
            self.lead.answers.push_back(Answer {
                after,
                reply: reply.clone(),
                told: Told::Publish(answer),
            });
        }
    }

    /// Does a step of a fast batch when everything staged so far is applied.
    pub(crate) fn fast_later(
        &mut self,
        turn: &mut Turn<'_>,
        reply: &Bytes,
        id: &[u8],
        step: FastStep,
    ) {
        let after = self.lead.current();
        if after <= self.lead.applied {
            self.fast_step(turn, reply, id, &step);
        } else {
            self.lead.answers.push_back(Answer {
                after,
                reply: reply.clone(),
                told: Told::Fast(Bytes::copy_from_slice(id), step),
            });
        }
    }

    pub(crate) fn send_answer(&self, turn: &mut Turn<'_>, reply: &[u8], answer: &PublishAnswer) {
        if reply.is_empty() || self.config.no_ack {
            return;
        }
        let headers = match answer {
            PublishAnswer::Refused(Refusal::TooManyRequests) => TOO_MANY_REQUESTS,
            _ => &[],
        };
        let mut payload = Vec::with_capacity(64);
        self.ack_prefix.encode(answer, &mut payload);
        turn.out.send(self.account, reply, &[], headers, &payload);
    }

    /// Sends what waited for proposals that are applied now.
    pub(crate) fn release_answers(&mut self, turn: &mut Turn<'_>) {
        let mut payload = std::mem::take(&mut turn.shared.answer_payload);
        while self
            .lead
            .answers
            .front()
            .is_some_and(|answer| answer.after <= self.lead.applied)
        {
            let Some(ready) = self.lead.answers.pop_front() else {
                break;
            };
            match &ready.told {
                Told::Publish(answer) => {
                    payload.clear();
                    self.ack_prefix.encode(answer, &mut payload);
                    turn.out
                        .send(self.account, &ready.reply, &[], &[], &payload);
                }
                Told::Fast(id, step) => self.fast_step(turn, &ready.reply, id, step),
            }
        }
        turn.shared.answer_payload = payload;
        let done = |lead: &Lead| {
            lead.acknowledgements
                .front()
                .is_some_and(|(after, ..)| *after <= lead.applied)
        };
        while done(&self.lead) {
            let Some((_, reply, headers)) = self.lead.acknowledgements.pop_front() else {
                break;
            };
            turn.out.send(self.account, &reply, &[], &headers, &[]);
        }
    }

    /// The end of a turn: what was staged becomes one entry.
    pub(crate) fn end_of_turn(&mut self, turn: &mut Turn<'_>) {
        self.note_wipe(turn.now);
        if !self.lead.is_leader || self.lead.commit.is_some() {
            return;
        }
        self.collect_consumer_records(turn);
        self.lead.propose(self.id, turn);
    }
}
