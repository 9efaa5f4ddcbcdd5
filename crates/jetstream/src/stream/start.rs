//! A stream after a restart. From its checkpoint alone it knows its configuration, its numbers and
//! its consumers: enough for info, lists and names. It is *cold* until something needs the index of
//! its messages; it is *replaying* until the entries of the journal behind the checkpoint are
//! applied. What reaches it meanwhile is parked, in order and within limits, and looked at once the
//! stream has expired what is due and leads: nothing is answered from half a state.

use std::collections::VecDeque;

use millrace_store::stream::Lookup;

use super::Stream;
use super::apply::Committed;
use crate::ids::Endpoint;
use crate::io::{Effect, Message};
use crate::origin::is_control;
use crate::publish::{PublishAnswer, Refusal};
use crate::request::PendingRequest;
use crate::shared::{Shared, Turn};

/// The answer to a pull or a read when too much waits already: as if nobody were there yet.
const NOT_YET: &[u8] = b"NATS/1.0 503\r\n\r\n";

/// How far the start of a stream is; gone when it is over.
#[derive(Debug, Default)]
pub(crate) struct Start {
    /// Entries of the journal are still to be applied.
    replaying: bool,
    /// The index was asked for.
    wanted: bool,
    /// Consumers must be counted anew before anything is known of them.
    uncounted: bool,
    /// Entries are lost to damage.
    damaged: bool,
    /// Entries that were committed before the index was there.
    held: Vec<Committed>,
}

/// What waits for the start to be over.
#[derive(Debug)]
pub(crate) enum Parked {
    /// A message for one of the stream's endpoints.
    Message(Endpoint, Message),
    /// An API request.
    Request(PendingRequest),
}

impl Parked {
    fn bytes(&self) -> u64 {
        let (Self::Message(_, message) | Self::Request(PendingRequest { message, .. })) = self;
        (message.headers.len() + message.payload.len()) as u64
    }
}

/// Inputs in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Parking {
    waiting: VecDeque<Parked>,
    bytes: u64,
}

impl Parking {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn take(&mut self) -> VecDeque<Parked> {
        self.bytes = 0;
        std::mem::take(&mut self.waiting)
    }

    /// Gives it back when too much waits.
    pub(crate) fn push(&mut self, one: Parked, shared: &Shared) -> Option<Parked> {
        let bytes = self.bytes + one.bytes();
        if self.waiting.len() >= shared.max_buffered_messages || bytes > shared.max_buffered_bytes {
            return Some(one);
        }
        self.bytes = bytes;
        self.waiting.push_back(one);
        None
    }
}

impl Stream {
    /// The stream comes from a checkpoint, or has entries to replay.
    pub(crate) fn begin_start(&mut self, replaying: bool) {
        let uncounted = self
            .consumers
            .values()
            .any(|slot| !slot.consumer.is_counted());
        let start = self.start.get_or_insert_default();
        start.replaying |= replaying;
        start.uncounted = uncounted;
    }

    /// Entries of the journal are lost.
    pub(crate) fn note_damage(&mut self) {
        self.start.get_or_insert_default().damaged = true;
    }

    pub(super) fn recount_consumers(&mut self) {
        for slot in self.consumers.values_mut() {
            slot.consumer.recount();
        }
    }

    /// The index is not needed by anybody yet, or not there yet, or entries are being replayed.
    pub(crate) const fn is_starting(&self) -> bool {
        self.start.is_some()
    }

    /// What the stream says of itself is as its log has it, and what is due has been removed.
    pub(crate) fn is_whole(&self, wall_ns: i64) -> bool {
        self.start.as_ref().is_none_or(|start| {
            let known = !start.replaying && !start.uncounted && start.held.is_empty();
            known && self.next_due_ns().is_none_or(|due_ns| due_ns > wall_ns)
        })
    }

    /// Something waits for the start to be over.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.parking.is_empty()
    }

    /// Nothing happened to the stream since its checkpoint.
    pub(super) fn is_untouched(&self) -> bool {
        let start = self.start.as_ref();
        start.is_some_and(|start| !start.replaying && start.held.is_empty())
    }

    /// The index was asked for and is not there.
    pub(super) fn is_waiting_for_index(&self) -> bool {
        self.start
            .as_ref()
            .is_some_and(|start| start.wanted && !self.store.is_loaded())
    }

    /// What an origin says besides messages needs no index, unless it must stay behind one.
    pub(crate) fn takes_while_starting(&self, endpoint: Endpoint, message: &Message) -> bool {
        let apart = match endpoint {
            Endpoint::OriginAnswer(_) => true,
            Endpoint::Origin(_) => is_control(message),
            _ => false,
        };
        apart && self.parking.is_empty()
    }

    /// Keeps an input until the start is over, and sees to it that it comes to its end. Gives it
    /// back when too much waits.
    pub(crate) fn park(&mut self, turn: &mut Turn<'_>, one: Parked) -> Option<Parked> {
        self.want_index(turn.shared);
        self.parking.push(one, turn.shared)
    }

    /// A message for the stream, before it can take any.
    pub(crate) fn park_message(
        &mut self,
        turn: &mut Turn<'_>,
        endpoint: Endpoint,
        message: Message,
    ) {
        let full = self.park(turn, Parked::Message(endpoint, message));
        let Some(Parked::Message(_, message)) = full else {
            return;
        };
        match endpoint {
            Endpoint::Ingest(_) => {
                let refused = PublishAnswer::Refused(Refusal::TooManyRequests);
                self.send_answer(turn, &message.reply, &refused);
            }
            Endpoint::DirectGet(_) | Endpoint::NextRequest(_) if !message.reply.is_empty() => {
                turn.out
                    .send(self.account, &message.reply, &[], NOT_YET, &[]);
            }
            // An acknowledgement that is not taken is a message that is delivered again.
            _ => {}
        }
    }

    /// Something needs the index. Replaying streams read theirs when it is their turn.
    pub(crate) fn want_index(&mut self, shared: &mut Shared) {
        if let Some(start) = self.start.as_mut().filter(|start| !start.replaying)
            && !std::mem::replace(&mut start.wanted, true)
        {
            shared.indexes_wanted.push_back(self.id);
        }
    }

    /// Asks the disk for the index. True: it is there already.
    pub(crate) fn read_index(&mut self, effects: &mut Vec<Effect>) -> bool {
        if let Some(start) = &mut self.start {
            start.wanted = true;
        }
        let there = self.store.ensure_loaded() == Lookup::Ready(());
        self.ask_store(effects);
        there
    }

    /// Keeps an entry that cannot be applied yet. Gives it back when it can.
    pub(super) fn hold(&mut self, turn: &mut Turn<'_>, entry: &Committed) -> bool {
        if self.store.is_loaded() {
            return false;
        }
        let Some(start) = &mut self.start else {
            return false;
        };
        // The first entry of a term changes nothing.
        if entry.data.is_empty() && start.held.is_empty() {
            return false;
        }
        start.held.push(entry.clone());
        self.want_index(turn.shared);
        true
    }

    /// The index is there: what was committed meanwhile is applied.
    pub(super) fn index_read(&mut self, turn: &mut Turn<'_>) {
        let held = self
            .start
            .as_mut()
            .map(|start| std::mem::take(&mut start.held));
        for entry in held.unwrap_or_default() {
            self.apply(turn, &entry);
        }
        self.account(turn.shared);
        self.end_start(turn);
    }

    /// All entries of the journal are applied.
    pub(crate) fn replayed(&mut self, turn: &mut Turn<'_>) {
        if let Some(start) = &mut self.start {
            start.replaying = false;
            if start.damaged {
                start.uncounted = true;
                self.recount_consumers();
            }
        }
        self.account(turn.shared);
    }

    /// The lead has been taken, with or without the index.
    pub(super) fn lead_started(&mut self, turn: &mut Turn<'_>) {
        self.begin_copying(turn);
        let loaded = self.store.is_loaded();
        let start = self.start.as_mut().filter(|_| !loaded);
        if start.is_some_and(|start| start.uncounted) {
            self.want_index(turn.shared);
        } else {
            self.lead_consumers(turn);
            if let Some(start) = &mut self.start {
                start.uncounted = false;
            }
        }
        if !self.store.is_loaded() {
            // What is due goes before anybody reads.
            self.expire_messages(turn);
        }
        self.end_start(turn);
    }

    /// Ends the start if nothing is missing: expired, then the consumers, then all that waits.
    pub(super) fn end_start(&mut self, turn: &mut Turn<'_>) {
        let behind = self.is_behind();
        let Some(start) = &mut self.start else {
            return;
        };
        if behind || start.replaying || !self.store.is_loaded() || !self.lead.is_leader {
            return;
        }
        if std::mem::take(&mut start.uncounted) {
            self.lead_consumers(turn);
        }
        self.expire_messages(turn);
        if self.lead.expire_pending {
            return;
        }
        self.start = None;
        self.wake_every_consumer();
        turn.shared.started.push(self.id);
        self.resume_checkpoint(turn);
    }

    /// Lets the index go, if nobody needs it and the stream's checkpoint has all of it: the stream is
    /// cold then, as after a restart. What is in the way of that is moved to segments first.
    pub(crate) fn give_up_index(&mut self, turn: &mut Turn<'_>) -> bool {
        let hungry = |slot: &super::ConsumerSlot| {
            slot.wake || !slot.consumer.is_counted() || slot.consumer.is_hungry()
        };
        if self.quarantined
            || self.is_starting()
            || self.is_behind()
            || !self.lead.is_idle()
            || !self.sweeps.are_done()
            || self.fires_soon(turn.now)
            || self.consumers.values().any(hungry)
        {
            return false;
        }
        if self.lacks_checkpoint() {
            self.want_checkpoint_at_leisure(turn);
            return false;
        }
        if self.is_checkpointing() || !self.store.give_up_index() {
            return false;
        }
        self.start = Some(Start::default());
        self.poll_store(turn);
        true
    }

    /// What the journal holds of the stream cannot be read: it serves nothing, and nothing of it is
    /// touched.
    pub(crate) fn set_aside(&mut self, turn: &mut Turn<'_>) {
        self.quarantined = true;
        if self.bound {
            self.bind_all(turn, false);
        }
        self.start = None;
        turn.shared.started.push(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::StreamId;
    use crate::settings::Settings;

    #[test]
    fn what_is_parked_keeps_its_order_and_no_more_is_taken_than_the_limits_say() {
        let shared = Shared::new(&Settings {
            max_buffered_messages: 3,
            max_buffered_bytes: 10,
            ..Settings::default()
        });
        let message = |payload: &'static str| {
            let message = Message {
                payload: payload.into(),
                ..Message::default()
            };
            Parked::Message(Endpoint::Ingest(StreamId(1)), message)
        };
        let mut parking = Parking::default();
        assert!(parking.push(message("1234"), &shared).is_none());
        assert!(parking.push(message("12345678"), &shared).is_some());
        assert!(parking.push(message("56"), &shared).is_none());
        assert!(parking.push(message("78"), &shared).is_none());
        // There is room for its bytes, but three is enough.
        assert!(parking.push(message("9"), &shared).is_some());
        let payloads = |parked: VecDeque<Parked>| -> Vec<Vec<u8>> {
            let each = parked.into_iter().map(|one| match one {
                Parked::Message(_, message) => message.payload.to_vec(),
                Parked::Request(request) => request.message.payload.to_vec(),
            });
            each.collect()
        };
        assert_eq!(payloads(parking.take()), [&b"1234"[..], b"56", b"78"]);
        // What was taken counts no more.
        assert!(parking.push(message("1234567890"), &shared).is_none());
    }
}
