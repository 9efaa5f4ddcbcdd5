//! One stream: its configuration, messages, consumers, and what is on its way into its log.
//!
//! Applied state changes only in `apply.rs`, from entries, in the steps of `stepping.rs`. `lead.rs` holds what a leader stages on
//! top of it; it is thrown away whole when the lead is lost. Consumers are driven in
//! `consumers.rs`, time in `expiry.rs`, checkpoints in `checkpoint.rs` and `ahead.rs`, what a restart begins with in
//! `start.rs`, what comes from other streams in `copying.rs`; batches in `crate::batch`.

mod ahead;
pub mod apply;
mod binding;
mod checkpoint;
mod consumer_index;
mod consumers;
mod copying;
pub mod dedup;
mod expiry;
pub(crate) mod firing;
pub mod flight;
mod lead;
mod markers;
mod republish;
mod restored;
pub(crate) mod start;
mod stepping;
mod sweep;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use apply::Committed;
use bytes::Bytes;
use millrace_store::disk::{DiskOperation, DiskRequest, Lane};
use millrace_store::stream::{ScrubStep, Storage, StoreRequests, StoreSettings, StreamStore};
use millrace_subject::Transform;

use crate::batch::Assembly;
use crate::ids::{AccountRef, StreamId};
use crate::io::Effect;
use crate::model::{Compression, StorageKind, StreamConfig};
use crate::origin::SourcePositions;
use crate::publish::AckPrefix;
use crate::schedule::Schedules;
use crate::shared::{Shared, Turn};

pub(crate) use checkpoint::Identity;
use consumer_index::ConsumerIndex;
pub use consumers::ConsumerSlot;
use dedup::Dedup;
pub(crate) use lead::{Admission, Checked, Lead, Question, Unheard};

/// Salt of the seeds of a stream's duplicate table.
const DEDUP_SALT: u64 = 0x6d69_6c6c_7261_6365;

/// A stream of this server.
#[derive(Debug)]
pub struct Stream {
    pub id: StreamId,
    pub account: AccountRef,
    /// Its name: it outlives a restart, the reference does not.
    pub(crate) account_name: Box<str>,
    pub name: String,
    /// The effective configuration.
    pub config: StreamConfig,
    pub created_ns: i64,
    pub store: StreamStore,
    pub consumers: BTreeMap<String, ConsumerSlot>,
    /// Log index and term up to which entries are applied.
    pub applied_index: u64,
    pub applied_term: u64,
    pub(crate) transform: Option<Transform>,
    republisher: Option<Box<republish::Republisher>>,
    pub(crate) ack_prefix: AckPrefix,
    pub(crate) dedup: Dedup,
    /// Id of the last message; empty: it had none.
    pub(crate) last_message_id: Bytes,
    /// Messages with a TTL of their own, by deadline.
    pub(crate) deadlines: BTreeSet<(i64, u64)>,
    /// Deadline of each of them; messages that never expire have `i64::MAX` and no place above.
    pub(crate) deadline_of: BTreeMap<u64, i64>,
    /// Messages before this one are gone or never expire by age.
    pub(crate) age_cursor: u64,
    /// Messages that are due and wait for what replaces them: they are the last of their subjects.
    pub(crate) lingering: BTreeSet<u64>,
    /// Messages to be published again.
    pub(crate) schedules: Schedules,
    /// Parts of a batch that wait for their commit entry.
    pub(crate) assembly: Option<Assembly>,
    /// The entry that is applied in part, and those behind it.
    applying: Option<stepping::Applying>,
    backlog: VecDeque<Committed>,
    /// Messages stored or removed in this step, and how many a step may.
    apply_items: usize,
    step_items: usize,
    /// What the entry under way is still to remove.
    sweeps: sweep::Sweeps,
    /// The lead was won while entries were waiting.
    lead_when_level: bool,
    pub(crate) lead: Lead,
    pub(crate) store_space: u32,
    /// Accounted bytes as the shared usage knows them.
    pub(crate) accounted_bytes: u64,
    pub(crate) checkpoint: checkpoint::CheckpointState,
    ahead: ahead::Ahead,
    /// Which of them something concerns.
    pub(crate) consumer_index: ConsumerIndex,
    /// What removals did to consumers; handed on at the next wake.
    pub(crate) consumer_losses: Vec<(String, crate::consumer::ConsumerEvent)>,
    /// Subjects of push consumers to watch (true) or to leave, until the effects are made.
    watch_changes: Vec<(Option<Vec<u8>>, bool)>,
    /// An entry could not be read: the stream takes no more of them and serves what it has.
    pub(crate) quarantined: bool,
    /// The stream listens to its subjects.
    pub(crate) bound: bool,
    /// How far sources were read.
    pub(crate) source_positions: SourcePositions,
    /// Its origins, while it leads; none if it copies from nowhere.
    copying: Option<Box<copying::Copying>>,
    /// It is being restored: nobody but the restore sees it.
    pub(crate) restoring: bool,
    /// After a restart, until the stream is whole and its index in memory.
    start: Option<start::Start>,
    /// What waits for that.
    pub(crate) parking: start::Parking,
}

impl Stream {
    /// A stream as of its creation.
    #[must_use]
    pub fn new(
        id: StreamId,
        account: AccountRef,
        config: StreamConfig,
        created_ns: i64,
        shared: &mut Shared,
    ) -> Self {
        let ids = shared.id_space();
        let store_space = ids.space();
        let mut settings = Self::store_settings(id, &config, ids);
        settings.share = shared.memory.share();
        settings.packing.keys = shared.keys.clone();
        let mut store = StreamStore::new(settings);
        if config.first_seq > 1 {
            store.skip(config.first_seq - 1, 0);
        }
        let seed = DEDUP_SALT ^ created_ns.cast_unsigned();
        let mut stream = Self {
            id,
            account,
            account_name: Box::default(),
            name: config.name.clone(),
            ack_prefix: AckPrefix::new(&config.name, &shared.domain),
            dedup: Dedup::new(seed, config.duplicate_window_ns),
            transform: None,
            republisher: None,
            config,
            created_ns,
            store,
            consumers: BTreeMap::new(),
            applied_index: 0,
            applied_term: 0,
            last_message_id: Bytes::new(),
            deadlines: BTreeSet::new(),
            deadline_of: BTreeMap::new(),
            age_cursor: 0,
            lingering: BTreeSet::new(),
            schedules: Schedules::new(shared.local_time_zone.clone()),
            assembly: None,
            applying: None,
            backlog: VecDeque::new(),
            apply_items: 0,
            step_items: shared.items_per_step,
            sweeps: sweep::Sweeps::default(),
            lead_when_level: false,
            lead: Lead::default(),
            store_space,
            accounted_bytes: 0,
            checkpoint: checkpoint::CheckpointState::default(),
            ahead: ahead::Ahead::default(),
            consumer_index: ConsumerIndex::default(),
            consumer_losses: Vec::new(),
            watch_changes: Vec::new(),
            quarantined: false,
            bound: false,
            source_positions: SourcePositions::default(),
            copying: None,
            restoring: false,
            start: None,
            parking: start::Parking::default(),
        };
        stream.compile();
        stream
    }

    pub(crate) fn store_settings(
        id: StreamId,
        config: &StreamConfig,
        ids: millrace_store::ids::IdSpace,
    ) -> StoreSettings {
        let mut settings = StoreSettings::memory();
        if config.storage == StorageKind::File {
            settings.storage = Storage::File {
                directory: format!("streams/{}", id.0),
            };
        }
        settings.ids = ids;
        settings.seed = id.0;
        settings.packing.compress = config.compression == Compression::S2;
        settings
    }

    /// Recomputes what follows from the configuration.
    pub(crate) fn compile(&mut self) {
        let transform = self.config.subject_transform.as_ref();
        self.transform = transform.and_then(|transform| {
            Transform::new(transform.src.as_bytes(), transform.dest.as_bytes()).ok()
        });
        let republish = self.config.republish.as_ref();
        self.republisher = republish
            .and_then(republish::Republisher::new)
            .map(Box::new);
        self.dedup.set_window(self.config.duplicate_window_ns);
        // What is stored already stays as it is (jetstream/07 §5).
        let mut packing = self.store.packing().clone();
        packing.compress = self.config.compression == Compression::S2;
        self.store.set_packing(packing);
    }

    /// The folder of scratch files of batches, relative to the store directory.
    pub(crate) fn batch_directory(&self) -> String {
        format!("streams/{}/batches", self.id.0)
    }

    /// True while this server leads the stream.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.lead.is_leader
    }

    /// Monotonic time at which this stream wants to be woken; a server that stops does only what it
    /// has begun.
    pub(crate) fn next_deadline(
        &self,
        turn_now: millrace_clock::Now,
        stopping: bool,
    ) -> Option<u64> {
        if self.store.wants_turn() || self.sweeps.has_gone() {
            return Some(0);
        }
        let wipe = self.wipe_deadline().filter(|_| !stopping);
        if !self.lead.is_leader || stopping {
            return wipe;
        }
        [
            wipe,
            self.expiry_deadline(turn_now),
            self.firing_deadline(turn_now),
            self.marker_deadline(),
            self.lead.batches.next_deadline(),
            self.lead.fast.next_deadline(),
            self.consumer_deadline(),
            self.copying_deadline(),
            self.ahead_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Passes changes of the stored bytes on to the shared usage.
    pub(crate) fn account(&mut self, shared: &mut Shared) {
        let bytes = self.store.state().bytes;
        if bytes != self.accounted_bytes {
            shared.account_for(
                self.account,
                self.config.storage,
                self.accounted_bytes,
                bytes,
            );
            self.accounted_bytes = bytes;
        }
    }

    /// The time has come for something.
    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) {
        if self.store.wants_turn() {
            let building = self.store.is_building();
            self.store.turn();
            if building {
                self.loaded(turn);
            } else {
                self.poll_store(turn);
            }
        }
        self.sweeps.free();
        self.wipe_when_due(turn);
        if !self.lead.is_leader || self.is_applying() || self.restoring || turn.shared.stopping {
            return;
        }
        self.expire_batches(turn);
        self.lead.fast.expire(turn.now, turn.shared);
        self.expire_messages(turn);
        self.replace_expired(turn);
        self.fire_schedules(turn);
        self.tick_consumers(turn);
        self.tick_copying(turn);
        self.checkpoint_ahead(turn);
    }

    /// The server lost the lead: nothing of the stream stays counted as in flight, and nobody is
    /// answered.
    pub(crate) fn stop_leading(&mut self, turn: &mut Turn<'_>) {
        self.lead_when_level = false;
        if self.bound {
            self.bind_all(turn, false);
        }
        // What a mirror listens to for its origin depends on it: behind the unbinding.
        self.end_copying(turn);
        self.stop_batches(turn.shared);
        self.lead.fast.stop(turn.shared);
        self.lead.abandon(turn.shared);
        if let Some(republisher) = &mut self.republisher {
            republisher.clear();
        }
        self.unlead_consumers();
    }

    /// This server leads from now on: staged state begins as applied state, and the stream's
    /// subjects are listened to.
    pub(crate) fn start_leading(&mut self, turn: &mut Turn<'_>) {
        if self.is_behind() {
            self.lead_when_level = true;
            return;
        }
        if self.lead.is_leader || self.quarantined {
            return;
        }
        let state = self.store.state();
        self.lead.begin(
            state.last_sequence,
            state.last_time_ns,
            self.last_message_id.clone(),
        );
        self.lead_started(turn);
        if !self.bound && !self.restoring {
            self.bind_all(turn, true);
        }
    }

    /// The stream is deleted.
    pub(crate) fn end(&mut self, turn: &mut Turn<'_>) {
        let names: Vec<String> = self.consumers.keys().cloned().collect();
        for name in names {
            self.with_consumer(turn, &name, |consumer, context| consumer.deleted(context));
        }
        self.stop_leading(turn);
        turn.shared.finished.append(&mut self.sweeps.finished);
        let bytes = std::mem::take(&mut self.accounted_bytes);
        turn.shared
            .account_for(self.account, self.config.storage, bytes, 0);
    }

    /// Removes the stream's folder.
    pub(crate) fn remove_files(&mut self, shared: &mut Shared, effects: &mut Vec<Effect>) {
        if self.config.storage != StorageKind::File {
            return;
        }
        // A removed file that is still open keeps its room on the disk.
        self.store.close_files();
        let mut requests = StoreRequests::default();
        self.store.poll(&mut requests);
        effects.extend(requests.disk.into_iter().map(Effect::Disk));
        let path = format!("streams/{}", self.id.0);
        let mut ids = shared.id_space();
        let operation = DiskOperation::RemoveTree { path };
        effects.push(Effect::Disk(DiskRequest {
            token: ids.token(),
            lane: Lane::Data,
            operation,
        }));
    }

    /// Passes on what the store asks for.
    /// Looks at the next piece of its segments. No use of the stream.
    pub(crate) fn scrub(&mut self, effects: &mut Vec<Effect>) -> ScrubStep {
        if self.quarantined {
            return ScrubStep::Ended;
        }
        let step = self.store.scrub();
        self.ask_store(effects);
        step
    }

    fn ask_store(&mut self, effects: &mut Vec<Effect>) {
        let mut requests = StoreRequests::default();
        self.store.poll(&mut requests);
        effects.extend(requests.disk.into_iter().map(Effect::Disk));
        effects.extend(requests.journal.into_iter().map(Effect::JournalRead));
    }

    /// A read has ended: whatever waited for it is looked at again.
    pub(crate) fn loaded(&mut self, turn: &mut Turn<'_>) {
        if self.is_starting() {
            if self.store.is_loaded() {
                self.index_read(turn);
            }
            self.poll_store(turn);
            return;
        }
        self.wake_every_consumer();
        self.publish_again(turn);
        if self.lead.is_leader {
            self.advance_commit(turn);
            self.drain_inbox(turn);
        }
        self.poll_store(turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures that ARCHITECTURE.md states, without names, subjects and what is pending.
    #[test]
    fn a_stream_and_a_consumer_cost_no_more_than_the_documents_say() {
        let stream = size_of::<Stream>();
        assert!(stream <= 5_400, "{stream} bytes per stream");
        let consumer = size_of::<ConsumerSlot>();
        assert!(consumer <= 1_400, "{consumer} bytes per consumer");
    }
}
