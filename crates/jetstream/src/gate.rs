//! Streams that apply an entry in several steps: the rest is done turn by turn, and who would read
//! such a stream in between waits, so that nobody sees a part of a batch (hard-parts 6).

use std::collections::{BTreeSet, VecDeque};

use millrace_clock::Now;

use crate::api;
use crate::engine::JetStream;
use crate::ids::{AccountRef, Endpoint, StreamId};
use crate::io::{Effect, Input};
use crate::outbound::Outbound;
use crate::stream::Stream;

/// Inputs that may wait; beyond it they are dropped, as if the network had lost them.
const WAITING_MAX: usize = 65_536;

/// What is to be gone on with, and what waits for it.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    behind: BTreeSet<StreamId>,
    waiting: VecDeque<Input>,
}

impl Gate {
    /// A stream has entries to apply.
    pub(crate) fn behind(&mut self, id: StreamId) {
        self.behind.insert(id);
    }
}

impl JetStream {
    /// Some stream has entries to apply: another turn is wanted at once.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        !self.gate.behind.is_empty()
    }

    /// An entry of the stream is applied in part.
    pub(crate) fn is_applying(&self, id: StreamId) -> bool {
        self.streams.get(&id).is_some_and(Stream::is_applying)
    }

    fn is_account_applying(&self, account: AccountRef) -> bool {
        self.gate.behind.iter().any(|id| {
            let stream = self.streams.get(id);
            stream.is_some_and(|stream| stream.account == account && stream.is_applying())
        })
    }

    /// Keeps an input until it may be handled.
    pub(crate) fn keep_waiting(&mut self, input: Input) {
        if self.gate.waiting.len() < WAITING_MAX {
            self.gate.waiting.push_back(input);
        }
    }

    /// Whether an input would see a stream that is applied in part.
    pub(crate) fn must_wait(&self, input: &Input) -> bool {
        match input {
            Input::Deliver {
                endpoint: Endpoint::Api,
                account,
                ..
            }
            | Input::InterestChanged { account, .. } => self.is_account_applying(*account),
            Input::Deliver { endpoint, .. } => match endpoint {
                Endpoint::DirectGet(id)
                | Endpoint::Ack(id)
                | Endpoint::NextRequest(id)
                | Endpoint::FlowControl(id) => self.is_applying(*id),
                Endpoint::Ingest(_)
                | Endpoint::Api
                | Endpoint::Backup(_)
                | Endpoint::Origin(_)
                | Endpoint::OriginAnswer(_) => false,
            },
            _ => false,
        }
    }

    /// One more step of every stream that has entries to apply.
    pub(crate) fn advance_behind(
        &mut self,
        now: Now,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        let ids: Vec<StreamId> = self.gate.behind.iter().copied().collect();
        for id in ids {
            let was_applying = self.is_applying(id);
            self.with_stream(now, id, out, effects, |stream, turn| {
                stream.advance_apply(turn);
                stream.poll_store(turn);
            });
            if !self.streams.get(&id).is_some_and(Stream::is_behind) {
                self.gate.behind.remove(&id);
            }
            if was_applying && !self.is_applying(id) {
                api::store_read(self, now, id, out, effects);
                for input in std::mem::take(&mut self.gate.waiting) {
                    self.handle(now, input, out, effects);
                }
            }
        }
    }
}
