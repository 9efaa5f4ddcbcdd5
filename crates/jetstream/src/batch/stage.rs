//! What becomes of a batch's message at its arrival: the rows of spec jetstream/03 §2 in order.

use bytes::Bytes;
use millrace_clock::rfc3339;
use millrace_store::staging::StagedId;

use super::commit::CommitJob;
use super::group::{Abandoned, MAX_BATCH_ID_BYTES};
use super::staged::staged_head;
use crate::entry::MessageParts;
use crate::io::{Effect, Message};
use crate::model::API_LEVEL;
use crate::publish::{
    PublishAnswer, PublishHeaders, Refusal, Verdict, order, parse_number, put_json_string,
    without_header,
};
use crate::shared::{Shared, Turn};
use crate::stream::{Admission, Question, Stream};

pub(crate) const REQUIRED_API_LEVEL: &[u8] = b"Nats-Required-Api-Level";

/// How a message relates to the commit of its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Commit {
    No,
    /// Store this message and commit.
    Store,
    /// Commit without this message.
    EndOfBatch,
    Invalid,
}

impl Commit {
    fn of(headers: &PublishHeaders<'_>) -> Self {
        match headers.batch_commit {
            None => Self::No,
            Some(b"1") => Self::Store,
            Some(b"eob") => Self::EndOfBatch,
            Some(_) => Self::Invalid,
        }
    }
}

impl Stream {
    /// A message with a batch id. `block`: its headers, cleaned up.
    pub(crate) fn admit_batch_message(
        &mut self,
        turn: &mut Turn<'_>,
        message: &Message,
        block: &[u8],
        headers: &PublishHeaders<'_>,
    ) -> Admission {
        let Some(id) = headers.batch_id else {
            return Admission::Done;
        };
        // A timer that is over has fired, also if nobody ticked yet.
        self.expire_batches(turn);
        match self.stage_message(turn, message, block, headers, id) {
            Ok(Commit::No) => {
                self.send_answer(turn, &message.reply, &PublishAnswer::Empty);
            }
            Ok(commit) => self.begin_commit(turn, message, id, commit),
            Err((refusal, dropped)) => {
                self.refuse(turn, message, refusal);
                if let Some(reason) = dropped {
                    self.drop_batch(turn, id, reason);
                }
            }
        }
        Admission::Done
    }

    /// Rows 2 to 18. An error tells the refusal, and with what advisory the batch is dropped:
    /// `None` keeps it, `Some(None)` drops it silently.
    fn stage_message(
        &mut self,
        turn: &mut Turn<'_>,
        message: &Message,
        block: &[u8],
        headers: &PublishHeaders<'_>,
        id: &[u8],
    ) -> Result<Commit, (Refusal, Option<Option<Abandoned>>)> {
        let keep = |refusal| (refusal, None);
        self.check_arrival(turn, message, block, headers)
            .map_err(keep)?;
        if !self.config.allow_atomic {
            return Err(keep(Refusal::AtomicDisabled));
        }
        if id.len() > MAX_BATCH_ID_BYTES {
            return Err(keep(Refusal::BatchIdInvalid));
        }
        let sequence = headers.batch_sequence.and_then(parse_number);
        let sequence = sequence.ok_or_else(|| keep(Refusal::BatchMissingSequence))?;
        let commit = Commit::of(headers);
        let max_messages = turn.shared.batch_limits.max_messages;
        let size = sequence.saturating_sub(u64::from(commit == Commit::EndOfBatch));
        if !self.lead.batches.contains(id) {
            self.open_batch(turn, id, sequence, size).map_err(keep)?;
        }
        let dropped = |refusal, reason| (refusal, Some(reason));
        if commit == Commit::Invalid {
            return Err(dropped(Refusal::BatchCommitInvalid, None));
        }
        if !level_is_met(headers) {
            return Err(dropped(
                Refusal::RequiredApiLevel,
                Some(Abandoned::Unsupported),
            ));
        }
        let timeout_ns = turn.shared.batch_limits.timeout_ns;
        let in_order = self
            .lead
            .batches
            .advance(turn.now, id, sequence, timeout_ns)
            .filter(|_| sequence > 1 || commit != Commit::EndOfBatch);
        let Some(staged) = in_order else {
            return Err(dropped(
                Refusal::BatchIncomplete,
                Some(Abandoned::Incomplete),
            ));
        };
        if size > max_messages {
            return Err(dropped(
                Refusal::BatchTooLarge(max_messages),
                Some(Abandoned::Large),
            ));
        }
        if headers
            .expected_last_message_id
            .is_some_and(|id| !id.is_empty())
        {
            self.lead.batches.note_expected_message_id(id);
        }
        if commit != Commit::EndOfBatch {
            push_staged(turn, staged, message, block, headers);
        }
        Ok(commit)
    }

    /// Rows 9 to 13: a batch that is not there begins with its first message.
    fn open_batch(
        &mut self,
        turn: &mut Turn<'_>,
        id: &[u8],
        sequence: u64,
        size: u64,
    ) -> Result<(), Refusal> {
        let max_messages = turn.shared.batch_limits.max_messages;
        if sequence != 1 && size > max_messages {
            return Err(Refusal::BatchTooLarge(max_messages));
        }
        if sequence != 1 {
            return Err(Refusal::BatchIncomplete);
        }
        let directory = self.batch_directory();
        self.lead
            .batches
            .open(turn.now, id, &directory, turn.shared)
    }

    pub(crate) fn check_arrival(
        &mut self,
        turn: &Turn<'_>,
        message: &Message,
        block: &[u8],
        headers: &PublishHeaders<'_>,
    ) -> Result<(), Refusal> {
        let checked = self.check(Question {
            table: order::BATCH_ARRIVAL,
            allowance: turn.shared.allowance(self.account, self.config.storage),
            now_ns: turn.now.wall_ns,
            diff: None,
            index: 0,
            headers,
            message: MessageParts {
                subject: &message.subject,
                headers: block,
                payload: &message.payload,
                note: b"",
            },
        });
        match checked.verdict {
            Verdict::Refuse(refusal) => Err(refusal),
            _ => Ok(()),
        }
    }

    /// Rows 20 and 21, then the checks.
    fn begin_commit(&mut self, turn: &mut Turn<'_>, message: &Message, id: &[u8], commit: Commit) {
        let Some(staged) = self.lead.batches.ready_for_commit(turn.now, id) else {
            self.refuse(turn, message, Refusal::BatchIncomplete);
            self.drop_batch(turn, id, Some(Abandoned::Timeout));
            return;
        };
        if self.lead.batches.expects_message_id(id) {
            self.drop_batch(turn, id, None);
            let refusal = Refusal::BatchUnsupportedHeader("Nats-Expected-Last-Msg-Id");
            self.refuse(turn, message, refusal);
            return;
        }
        let now_ns = turn.now.wall_ns;
        let job = CommitJob::new(
            Bytes::copy_from_slice(id),
            (staged, &turn.shared.staging),
            message.reply.clone(),
            commit == Commit::EndOfBatch,
            (now_ns, now_ns.max(self.lead.last_time_ns)),
        );
        self.lead.commit = Some(job);
        self.advance_commit(turn);
    }

    /// Forgets a batch; the first to do so also tells.
    pub(super) fn drop_batch(&mut self, turn: &mut Turn<'_>, id: &[u8], reason: Option<Abandoned>) {
        let first = self.lead.batches.cleanup(id, turn.shared);
        poll_staging(turn);
        if let Some(reason) = reason.filter(|_| first) {
            self.advise_abandoned(turn, id, reason);
        }
    }

    fn advise_abandoned(&self, turn: &mut Turn<'_>, id: &[u8], reason: Abandoned) {
        let subject = format!("$JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.{}", self.name);
        if !turn.out.has_interest(self.account, subject.as_bytes()) {
            return;
        }
        let mut text =
            b"{\"type\":\"io.nats.jetstream.advisory.v1.stream_batch_abandoned\",\"id\":".to_vec();
        put_json_string(&mut text, turn.shared.random.base62(22).as_bytes());
        text.extend_from_slice(b",\"timestamp\":");
        put_json_string(&mut text, rfc3339::format(turn.now.wall_ns).as_bytes());
        text.extend_from_slice(b",\"stream\":");
        put_json_string(&mut text, self.name.as_bytes());
        if !turn.shared.domain.is_empty() {
            text.extend_from_slice(b",\"domain\":");
            put_json_string(&mut text, turn.shared.domain.as_bytes());
        }
        text.extend_from_slice(b",\"batch\":");
        put_json_string(&mut text, id);
        text.extend_from_slice(b",\"reason\":");
        put_json_string(&mut text, reason.as_str().as_bytes());
        text.push(b'}');
        turn.out
            .send(self.account, subject.as_bytes(), &[], &[], &text);
    }

    /// The idle timers: batches without a message for too long go, and nobody is answered.
    pub(crate) fn expire_batches(&mut self, turn: &mut Turn<'_>) {
        let over = self.lead.batches.expire(turn.now, turn.shared);
        for id in over {
            self.advise_abandoned(turn, &id, Abandoned::Timeout);
        }
        poll_staging(turn);
    }

    /// All staged batches go, silently: the stream or the lead ends, or batches are switched off.
    pub(crate) fn stop_batches(&mut self, shared: &mut Shared) {
        self.lead.batches.stop(shared);
        self.lead.commit = None;
    }
}

/// Keeps a message until its batch commits. While staged messages take more memory than they may,
/// its publisher is held back.
fn push_staged(
    turn: &mut Turn<'_>,
    staged: StagedId,
    message: &Message,
    block: &[u8],
    headers: &PublishHeaders<'_>,
) {
    let cleaned = headers
        .required_api_level
        .map(|_| without_header(block, REQUIRED_API_LEVEL));
    let parts = MessageParts {
        subject: &message.subject,
        headers: cleaned.as_deref().unwrap_or(block),
        payload: &message.payload,
        note: b"",
    };
    let head = staged_head(parts, headers.checked);
    let pieces = [&head, parts.subject, parts.headers, parts.payload];
    turn.shared.staging.push(staged, &pieces);
    if turn.shared.staging.is_congested()
        && let Some(client) = message.client
    {
        turn.shared.holding = true;
        turn.effects.push(Effect::HoldPublisher { client });
    }
    poll_staging(turn);
}

/// Passes on what the staging store asks of the disk.
pub(super) fn poll_staging(turn: &mut Turn<'_>) {
    if turn.shared.staging.is_quiet() {
        return;
    }
    let mut requests = Vec::new();
    turn.shared.staging.poll(&mut requests);
    turn.effects.extend(requests.into_iter().map(Effect::Disk));
}

pub(crate) fn level_is_met(headers: &PublishHeaders<'_>) -> bool {
    let Some(level) = headers.required_api_level else {
        return true;
    };
    parse_number(level).is_some_and(|level| level <= API_LEVEL.unsigned_abs())
}
