//! What becomes of a fast ingest message: the order of checks of spec jetstream/03 §7, and what the
//! client is told. Texts leave when what they tell of is applied, in the order of their messages.

use bytes::Bytes;

use super::address::{FastAddress, FastOperation};
use super::group::ID_BYTES_MAX;
use crate::entry::MessageParts;
use crate::io::Message;
use crate::publish::{
    PublishAnswer, PublishHeaders, Refusal, Verdict, order, put_json_string, without_header,
};
use crate::shared::Turn;
use crate::stream::{Admission, Checked, Question, Stream};

/// What is done for a batch once all before it is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FastStep {
    /// A gap or an error, as JSON.
    Tell(Vec<u8>),
    /// All up to this batch sequence is dealt with, nothing was stored for it.
    Passed(u64),
    /// The message of this batch sequence was stored with this stream sequence. The last one of a
    /// batch is answered by the end of it.
    Stored {
        sequence: u64,
        stored: u64,
        last: bool,
    },
    /// Say again where the batch stands, with all up to this batch sequence known to be lost.
    Ping(u64),
    /// The batch ends with so many messages. A duplicate of this stream sequence is all it was.
    End { count: u64, duplicate: Option<u64> },
}

/// How a message stands to the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Next,
    /// Messages from this batch sequence on are missing.
    Gap(u64),
    /// It came before; this one was expected.
    Past(u64),
}

impl Stream {
    /// A message whose reply subject asks for fast ingest. `block`: its headers, cleaned up.
    pub(crate) fn admit_fast(
        &mut self,
        turn: &mut Turn<'_>,
        message: &Message,
        block: &[u8],
        headers: &PublishHeaders<'_>,
    ) -> Admission {
        self.lead.fast.expire(turn.now, turn.shared);
        let address = match self.fast_address(turn, message, block, headers) {
            Ok(address) => address,
            Err(refusal) => {
                self.refuse(turn, message, refusal);
                return Admission::Done;
            }
        };
        let (place, is_ending) = match self.lead.fast.get(address.id) {
            Some(batch) => (place_of(batch.received, &address), batch.ending),
            None => (Place::Next, false),
        };
        if is_ending {
            // Its last answer waits for a sync. Where the reference does not wait, it knows the batch
            // no more.
            if self.config.num_replicas <= 1 {
                self.refuse(turn, message, Refusal::FastUnknown);
            }
            return Admission::Done;
        }
        if !crate::batch::level_is_met(headers) {
            self.lead.fast.close(address.id, turn.shared);
            self.refuse(turn, message, Refusal::RequiredApiLevel);
            return Admission::Done;
        }
        if address.operation == FastOperation::Ping {
            self.ping(turn, message, &address);
            return Admission::Done;
        }
        let ends = self.must_end(&address, place);
        let stores = !ends && address.operation != FastOperation::End;
        let subject = self.mapped(turn.shared, &message.subject);
        let cleaned = headers
            .required_api_level
            .map(|_| without_header(block, crate::batch::REQUIRED_API_LEVEL));
        let parts = MessageParts {
            subject: subject.as_deref().unwrap_or(&message.subject),
            headers: cleaned.as_deref().unwrap_or(block),
            payload: &message.payload,
            note: b"",
        };
        let checked = stores.then(|| self.check_fast(turn, headers, parts));
        if let Some(Verdict::WaitForFlight | Verdict::WaitForDisk) =
            checked.as_ref().map(|checked| &checked.verdict)
        {
            // Nothing has changed yet: all of this is done again.
            return Admission::Wait;
        }
        self.arrive(turn, message, &address, place, ends);
        if let Some(checked) = checked {
            self.take_fast(turn, (message, headers), &address, parts, checked);
        } else if !ends {
            let count = address.sequence - 1;
            self.end_fast(turn, &message.reply, address.id, count, None);
        }
        Admission::Done
    }

    /// Whether the batch ends because a message is not in its place.
    fn must_end(&self, address: &FastAddress<'_>, place: Place) -> bool {
        let batch = self.lead.fast.get(address.id);
        let gaps_pass = batch.map_or(address.gaps_pass, |batch| batch.gaps_pass);
        match place {
            Place::Next => false,
            Place::Gap(_) => !gaps_pass,
            Place::Past(_) => true,
        }
    }

    /// The checks that come before the batch is known, and whether it may begin.
    fn fast_address<'a>(
        &mut self,
        turn: &mut Turn<'_>,
        message: &'a Message,
        block: &[u8],
        headers: &PublishHeaders<'_>,
    ) -> Result<FastAddress<'a>, Refusal> {
        self.check_arrival(turn, message, block, headers)?;
        if !self.config.allow_batched {
            return Err(Refusal::FastDisabled);
        }
        let address = FastAddress::parse(&message.reply).ok_or(Refusal::FastPattern)?;
        if address.id.len() > ID_BYTES_MAX {
            return Err(Refusal::FastIdInvalid);
        }
        if self.lead.fast.get(address.id).is_none() {
            let begins = address.sequence == 1
                && matches!(
                    address.operation,
                    FastOperation::Start | FastOperation::Commit
                );
            if !begins {
                return Err(Refusal::FastUnknown);
            }
            self.lead.fast.check_room(turn.shared)?;
        }
        Ok(address)
    }

    fn check_fast(
        &mut self,
        turn: &Turn<'_>,
        headers: &PublishHeaders<'_>,
        message: MessageParts<'_>,
    ) -> Checked {
        let table = if self.config.num_replicas > 1 {
            order::FAST_REPLICATED
        } else {
            order::FAST
        };
        self.check(Question {
            table,
            allowance: turn.shared.allowance(self.account, self.config.storage),
            now_ns: turn.now.wall_ns,
            diff: None,
            index: 0,
            headers,
            message,
        })
    }

    /// The batch takes note of a message: it begins, goes on, or ends here.
    fn arrive(
        &mut self,
        turn: &mut Turn<'_>,
        message: &Message,
        address: &FastAddress<'_>,
        place: Place,
        ends: bool,
    ) {
        if self.lead.fast.get(address.id).is_none() {
            self.lead.fast.open(turn.now, address, turn.shared);
            if address.operation == FastOperation::Start
                && let Some(batch) = self.lead.fast.get(address.id)
            {
                let (sequence, messages) = batch.standing();
                self.send_flow(turn, &message.reply, sequence, messages);
            }
        }
        self.lead.fast.touch(turn.now, address.id, turn.shared);
        let received = self
            .lead
            .fast
            .get(address.id)
            .map_or(0, |batch| batch.received);
        if let Place::Gap(expected) | Place::Past(expected) = place {
            let text = gap(expected, address.sequence);
            self.fast_later(turn, &message.reply, address.id, FastStep::Tell(text));
        }
        if ends {
            self.end_fast(turn, &message.reply, address.id, received, None);
        } else if let Some(batch) = self.lead.fast.get_mut(address.id) {
            batch.received = address.sequence;
        }
    }

    /// What the checks made of a message that is in its place.
    fn take_fast(
        &mut self,
        turn: &mut Turn<'_>,
        (message, headers): (&Message, &PublishHeaders<'_>),
        address: &FastAddress<'_>,
        parts: MessageParts<'_>,
        mut checked: Checked,
    ) {
        let reply = &message.reply;
        let (id, sequence) = (address.id, address.sequence);
        let commits = address.operation == FastOperation::Commit;
        match std::mem::replace(&mut checked.verdict, Verdict::Pass) {
            Verdict::Refuse(refusal) => return self.fast_refused(turn, message, address, refusal),
            Verdict::Duplicate(stored) => {
                self.fast_later(turn, reply, id, FastStep::Passed(sequence));
                let gaps_pass = self.lead.fast.get(id).is_none_or(|batch| batch.gaps_pass);
                if commits {
                    let alone = (sequence == 1 && !gaps_pass).then_some(stored);
                    self.end_fast(turn, reply, id, sequence, alone);
                }
                return;
            }
            verdict => checked.decision.unwanted = verdict == Verdict::Unwanted,
        }
        let stored = self.depart_publish(headers, parts, checked);
        let step = FastStep::Stored {
            sequence,
            stored,
            last: commits,
        };
        self.fast_later(turn, reply, id, step);
        if commits {
            self.end_fast(turn, reply, id, sequence, None);
        }
    }

    fn fast_refused(
        &mut self,
        turn: &mut Turn<'_>,
        message: &Message,
        address: &FastAddress<'_>,
        refusal: Refusal,
    ) {
        let (id, sequence) = (address.id, address.sequence);
        let gaps_pass = self.lead.fast.get(id).is_none_or(|batch| batch.gaps_pass);
        if !gaps_pass && sequence == 1 {
            self.lead.fast.close(id, turn.shared);
            self.refuse(turn, message, refusal);
            return;
        }
        let text = error(sequence, &refusal);
        self.fast_later(turn, &message.reply, id, FastStep::Tell(text));
        if !gaps_pass || address.operation == FastOperation::Commit {
            self.end_fast(turn, &message.reply, id, sequence - 1, None);
        }
    }

    fn ping(&mut self, turn: &mut Turn<'_>, message: &Message, address: &FastAddress<'_>) {
        self.lead.fast.touch(turn.now, address.id, turn.shared);
        let Some(batch) = self.lead.fast.get_mut(address.id) else {
            return;
        };
        let received = batch.received;
        let reply = &message.reply;
        if address.sequence <= received {
            self.fast_later(turn, reply, address.id, FastStep::Ping(0));
            return;
        }
        if batch.gaps_pass {
            batch.received = address.sequence;
        }
        let gaps_pass = batch.gaps_pass;
        let text = gap(received + 1, address.sequence.saturating_add(1));
        self.fast_later(turn, reply, address.id, FastStep::Tell(text));
        if gaps_pass {
            self.fast_later(turn, reply, address.id, FastStep::Ping(address.sequence));
        } else {
            self.end_fast(turn, reply, address.id, received, None);
        }
    }

    fn end_fast(
        &mut self,
        turn: &mut Turn<'_>,
        reply: &Bytes,
        id: &[u8],
        count: u64,
        duplicate: Option<u64>,
    ) {
        if let Some(batch) = self.lead.fast.get_mut(id) {
            batch.ending = true;
        }
        self.fast_later(turn, reply, id, FastStep::End { count, duplicate });
    }

    /// Does a step whose time has come.
    pub(crate) fn fast_step(
        &mut self,
        turn: &mut Turn<'_>,
        reply: &Bytes,
        id: &[u8],
        step: &FastStep,
    ) {
        if self.lead.fast.get(id).is_none() {
            return;
        }
        match step {
            FastStep::Tell(text) => self.send_text(turn, reply, text),
            FastStep::Passed(sequence) => self.fast_advanced(turn, reply, id, *sequence),
            FastStep::Stored {
                sequence,
                stored,
                last,
            } => {
                if let Some(batch) = self.lead.fast.get_mut(id) {
                    batch.last_stored = *stored;
                }
                if !last {
                    self.fast_advanced(turn, reply, id, *sequence);
                }
            }
            FastStep::Ping(lost) => {
                self.lead.fast.advance(id, *lost);
                if let Some(batch) = self.lead.fast.get(id) {
                    let (sequence, messages) = batch.standing();
                    self.send_flow(turn, reply, sequence, messages);
                }
            }
            FastStep::End { count, duplicate } => {
                let last = self.lead.fast.get(id).map_or(0, |batch| batch.last_stored);
                self.lead.fast.close(id, turn.shared);
                let answer = PublishAnswer::Batch {
                    sequence: duplicate.unwrap_or(last),
                    id: Bytes::copy_from_slice(id),
                    count: *count,
                    duplicate: duplicate.is_some(),
                };
                let mut payload = Vec::new();
                self.ack_prefix.encode(&answer, &mut payload);
                // Told even where publishes are not answered: the client waits for the end.
                turn.out.send(self.account, reply, &[], &[], &payload);
            }
        }
    }

    fn fast_advanced(&mut self, turn: &mut Turn<'_>, reply: &Bytes, id: &[u8], sequence: u64) {
        if let Some((sequence, messages)) = self.lead.fast.advance(id, sequence) {
            self.send_flow(turn, reply, sequence, messages);
        }
    }

    fn send_flow(&self, turn: &mut Turn<'_>, reply: &[u8], sequence: u64, messages: u64) {
        let text = format!("{{\"type\":\"ack\",\"seq\":{sequence},\"msgs\":{messages}}}");
        self.send_text(turn, reply, text.as_bytes());
    }

    fn send_text(&self, turn: &mut Turn<'_>, reply: &[u8], text: &[u8]) {
        if !self.config.no_ack {
            turn.out.send(self.account, reply, &[], &[], text);
        }
    }
}

fn place_of(received: u64, address: &FastAddress<'_>) -> Place {
    let expected = received + 1;
    match address.sequence.cmp(&expected) {
        std::cmp::Ordering::Equal => Place::Next,
        std::cmp::Ordering::Greater => Place::Gap(expected),
        std::cmp::Ordering::Less => Place::Past(expected),
    }
}

/// From `expected` up to before `sequence` messages are lost.
fn gap(expected: u64, sequence: u64) -> Vec<u8> {
    format!("{{\"type\":\"gap\",\"last_seq\":{expected},\"seq\":{sequence}}}").into_bytes()
}

/// The message of this batch sequence is refused.
fn error(sequence: u64, refusal: &Refusal) -> Vec<u8> {
    let (error_code, code) = refusal.codes();
    let mut text = format!(
        "{{\"type\":\"err\",\"seq\":{sequence},\"error\":{{\"code\":{code},\"err_code\":{error_code},\"description\":"
    )
    .into_bytes();
    put_json_string(&mut text, refusal.to_string().as_bytes());
    text.extend_from_slice(b"}}");
    text
}
