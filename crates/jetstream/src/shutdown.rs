//! The orderly end of JetStream: who waits is told, time stands still, and every stream that changed
//! since its last checkpoint gets one more, so that the next start replays nothing. Whatever does
//! not come to its end is replayed by the next start, as after a crash.

use std::collections::BTreeMap;

use millrace_clock::Now;

use crate::engine::JetStream;
use crate::ids::StreamId;
use crate::io::Effect;
use crate::outbound::Outbound;
use crate::stream::Stream;

/// Streams that write their tails at the same time: each holds a run of messages in memory.
const ACTIVE_MAX: usize = 8;

/// Last checkpoints under way.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    /// Those to come, the smallest tail last: a time that runs out costs few streams.
    waiting: Vec<StreamId>,
    active: Vec<StreamId>,
    /// The log index that each was tried at: one that fails is not tried for ever.
    tried: BTreeMap<StreamId, u64>,
    meta_tried: u64,
}

impl JetStream {
    /// The server goes down: waiting pulls are told. Groups and journal are stopped by others.
    pub fn shut_down(&mut self, now: Now, out: &mut dyn Outbound, effects: &mut Vec<Effect>) {
        let ids: Vec<StreamId> = self.streams.keys().copied().collect();
        for id in ids {
            self.with_stream(now, id, out, effects, |stream, turn| {
                stream.shut_down(turn);
                stream.stop_batches(turn.shared);
            });
        }
    }

    /// Nobody is connected any more: begins the last checkpoints and goes on with them. Nothing
    /// happens by time from here on. True when there is nothing left to be written.
    pub fn finish(&mut self, now: Now, out: &mut dyn Outbound, effects: &mut Vec<Effect>) -> bool {
        self.shared.stopping = true;
        if !self.meta_is_finished(effects) {
            return false;
        }
        let streams = &self.streams;
        let is_active = |id: &StreamId| streams.get(id).is_some_and(Stream::is_checkpointing);
        self.ending.active.retain(is_active);
        if self.ending.waiting.is_empty() && self.ending.active.is_empty() {
            self.queue_last_checkpoints();
        }
        while self.ending.active.len() < ACTIVE_MAX
            && let Some(id) = self.ending.waiting.pop()
        {
            self.with_stream(now, id, out, effects, Stream::want_checkpoint);
            self.ending.active.push(id);
        }
        self.ending.active.is_empty() && !self.is_behind()
    }

    fn meta_is_finished(&mut self, effects: &mut Vec<Effect>) -> bool {
        if self.meta.lacks_checkpoint() && self.ending.meta_tried < self.meta.applied_index {
            self.ending.meta_tried = self.meta.applied_index;
            self.checkpoint_meta(effects);
        }
        !self.meta.lacks_checkpoint()
    }

    fn queue_last_checkpoints(&mut self) {
        let ending = &mut self.ending;
        let mut found = Vec::new();
        for (id, stream) in &self.streams {
            if stream.is_checkpointing() {
                // An earlier one is under way; what came since is for the next.
                ending.active.push(*id);
                continue;
            }
            let is_new = ending.tried.get(id) != Some(&stream.applied_index);
            if is_new && stream.lacks_checkpoint() && !stream.is_behind() {
                ending.tried.insert(*id, stream.applied_index);
                found.push((stream.store.tail_bytes(), *id));
            }
        }
        found.sort_unstable_by(|left, right| right.cmp(left));
        ending.waiting = found.into_iter().map(|(_, id)| id).collect();
    }
}
