//! Keeping to the memory budget: who must give something back is `store`'s to say, what a stream can
//! spare is its own.

use millrace_clock::Now;

use crate::engine::JetStream;
use crate::ids::StreamId;
use crate::io::Effect;
use crate::outbound::Outbound;
use crate::shared::Turn;

/// Streams that give memory back in one turn.
const RELEASES_PER_TURN: usize = 4;

impl JetStream {
    /// Streams that had nothing to do for longest give back what can be read again, at last their
    /// indexes; a bounded part of it in one turn.
    pub(crate) fn keep_memory_budget(
        &mut self,
        now: Now,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        for _ in 0..RELEASES_PER_TURN {
            let Some(debtor) = self.shared.memory.debtor() else {
                break;
            };
            let Some(stream) = self.streams.get_mut(&StreamId(debtor.store)) else {
                self.shared.memory.forget(debtor.store);
                continue;
            };
            let gave = stream.store.release(debtor.keep_bytes);
            let resident = stream.store.resident();
            self.shared.memory.released(debtor.store, &resident, gave);
        }
        if let Some(store) = self.shared.memory.idle_index(now.monotonic_ns) {
            self.give_up_index(now, StreamId(store), out, effects);
        }
    }

    /// Monotonic time at which some stream may have to give its index back.
    pub(crate) fn memory_deadline(&self) -> Option<u64> {
        let stopping = self.shared.stopping;
        self.shared.memory.index_deadline().filter(|_| !stopping)
    }

    fn give_up_index(
        &mut self,
        now: Now,
        id: StreamId,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        // A backup goes through a stream in many turns, and there are few of them.
        let is_read =
            !self.backups.is_empty() || self.waiting.reads(id) || self.reading_index.contains(&id);
        let Some(stream) = self.streams.get_mut(&id) else {
            self.shared.memory.forget(id.0);
            return;
        };
        // Not by `with_stream`: this is no use of it.
        let mut turn = Turn {
            now,
            out,
            effects,
            shared: &mut self.shared,
        };
        let gave = !is_read && stream.give_up_index(&mut turn);
        let resident = stream.store.resident();
        self.shared.memory.index_given_up(id.0, &resident, gave);
        if gave {
            // The old index is freed in steps.
            self.wake_now(id);
        }
    }
}
