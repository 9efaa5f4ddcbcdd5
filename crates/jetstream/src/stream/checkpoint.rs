//! A stream's checkpoint: what a restart begins with instead of the log before it.
//!
//! ```text
//! version u8 | applied index u64 | applied term u64 | created_ns i64 | account block |
//! config block (JSON) | store manifest block | last message id block | age cursor u64 |
//! deadlines: count u64, (sequence u64, deadline_ns i64)* |
//! consumers: count u64, (created_ns i64, config block (JSON), snapshot block)* | duplicate table |
//! sections: (kind u8, block)*
//! ```
//!
//! In version 1 there was no account. A stream's first checkpoint is written when it is made and has
//! an empty manifest: from then on its group alone says whose it is and what it is like, should the
//! list of streams be damaged.

use std::collections::VecDeque;

use bytes::Bytes;
use millrace_clock::Now;
use millrace_store::stream::{Manifest, StoreEvent, StreamStore};

use super::Stream;
use crate::entry::{DecodeError, Reader, put_block, put_i64, put_u64};
use crate::io::{Effect, LogLevel};
use crate::origin::SourcePositions;
use crate::shared::{Shared, Turn};

/// So long erased messages may stand in a packed segment: what is erased together costs one rewriting.
const WIPE_DELAY_NS: u64 = 500_000_000;
/// Version of the bytes above.
const CHECKPOINT_VERSION: u8 = 2;
/// The oldest version that is read.
const CHECKPOINT_VERSION_MIN: u8 = 1;
/// Section: how far sources were read.
const SOURCE_POSITIONS: u8 = 1;
/// Section: the timetable of schedules.
const SCHEDULES: u8 = 2;
/// Section: messages that are due and wait for what replaces them.
const LINGERING: u8 = 3;

/// Checkpoints under way.
#[derive(Debug, Default)]
pub(crate) struct CheckpointState {
    /// State as of the flush that is under way: index, term, bytes before and behind the manifest.
    pending: Option<Pending>,
    /// Asked for while a flush was under way or a batch was open.
    wanted: bool,
    /// The newest entry applied that changed something, and the newest that a durable checkpoint
    /// covers.
    changed_index: u64,
    durable_index: u64,
    /// When segments that hold erased messages are rewritten.
    wipe_ns: Option<u64>,
    /// Checkpoints sent: log index and manifest number.
    sent: VecDeque<(u64, u64)>,
}

#[derive(Debug)]
struct Pending {
    index: u64,
    term: u64,
    head: Vec<u8>,
    tail: Vec<u8>,
}

/// Why a checkpoint cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    #[error("checkpoint: {0}")]
    Decode(#[from] DecodeError),
    #[error("checkpoint: configuration is unreadable")]
    Config,
    #[error("checkpoint: {0}")]
    Manifest(#[from] millrace_store::stream::ManifestError),
    #[error("checkpoint: consumer '{0}' is unreadable")]
    Consumer(String),
}

/// What a checkpoint says of its stream before it comes to messages and consumers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) applied_index: u64,
    pub(crate) applied_term: u64,
    pub(crate) created_ns: i64,
    /// Empty in version 1.
    pub(crate) account: Bytes,
    pub(crate) config: Bytes,
}

impl Identity {
    fn take(reader: &mut Reader) -> Result<Self, DecodeError> {
        let version = reader.u8()?;
        if !(CHECKPOINT_VERSION_MIN..=CHECKPOINT_VERSION).contains(&version) {
            return Err(DecodeError::Version(version));
        }
        let (applied_index, applied_term) = (reader.u64()?, reader.u64()?);
        let created_ns = reader.i64()?;
        let account = if version > 1 {
            reader.block()?
        } else {
            Bytes::new()
        };
        Ok(Self {
            applied_index,
            applied_term,
            created_ns,
            account,
            config: reader.block()?,
        })
    }

    /// Whose checkpoint this is; the rest of it is not looked at.
    pub(crate) fn read(checkpoint: &Bytes) -> Result<Self, DecodeError> {
        Self::take(&mut Reader::new(checkpoint.clone()))
    }
}

impl Stream {
    /// The checkpoint of a stream that nothing has happened to yet.
    pub(crate) fn first_checkpoint(&self) -> Bytes {
        let (mut state, tail) = self.encode_state();
        put_block(&mut state, &[]);
        state.extend_from_slice(&tail);
        Bytes::from(state)
    }

    /// Moves messages to segments and then asks for a checkpoint record.
    pub fn want_checkpoint(&mut self, turn: &mut Turn<'_>) {
        // What could not be read must not be replaced by what was made of it.
        if self.quarantined {
            return;
        }
        // A checkpoint stays before the first part of an open chain (hard-parts 6).
        let open = self.assembly.is_some() && !self.has_ended(turn.shared);
        let busy = self.checkpoint.pending.is_some() || open || self.is_applying();
        if !busy && self.checkpoint_unread(turn) {
            return;
        }
        if busy || self.is_starting() {
            self.checkpoint.wanted = true;
            self.want_index(turn.shared);
            return;
        }
        self.checkpoint.wanted = false;
        if !self.store.begin_flush() {
            return;
        }
        let (head, tail) = self.encode_state();
        self.checkpoint.pending = Some(Pending {
            index: self.applied_index,
            term: self.applied_term,
            head,
            tail,
        });
        self.poll_store(turn);
    }

    /// A stream whose index nobody has read yet holds what its checkpoint says: the same manifest goes
    /// into a new one. False if it is not such a stream.
    fn checkpoint_unread(&mut self, turn: &mut Turn<'_>) -> bool {
        let manifest = self.store.unread_manifest().filter(|_| self.is_untouched());
        let Some(manifest) = manifest else {
            return false;
        };
        self.checkpoint.wanted = false;
        let (head, tail) = self.encode_state();
        self.checkpoint.pending = Some(Pending {
            index: self.applied_index,
            term: self.applied_term,
            head,
            tail,
        });
        self.flushed(turn, &manifest);
        true
    }

    /// Entries are applied that no durable checkpoint covers, and one can be made.
    pub(crate) fn lacks_checkpoint(&self) -> bool {
        let state = &self.checkpoint;
        !self.quarantined && !self.id.is_volatile() && state.changed_index > state.durable_index
    }

    /// The server stops and nothing is on its way: no commit can come for an open chain.
    fn has_ended(&self, shared: &Shared) -> bool {
        let lead = &self.lead;
        shared.stopping && lead.commit.is_none() && lead.is_leader && lead.applied == lead.proposed
    }

    /// A checkpoint is on its way.
    pub(crate) fn is_checkpointing(&self) -> bool {
        self.checkpoint.pending.is_some() || !self.checkpoint.sent.is_empty()
    }

    /// An entry with something in it is applied.
    pub(super) const fn note_changed(&mut self) {
        self.checkpoint.changed_index = self.applied_index;
    }

    /// All of the state but the messages, in the two pieces around the manifest.
    fn encode_state(&self) -> (Vec<u8>, Vec<u8>) {
        let mut head = vec![CHECKPOINT_VERSION];
        put_u64(&mut head, self.applied_index);
        put_u64(&mut head, self.applied_term);
        put_i64(&mut head, self.created_ns);
        put_block(&mut head, self.account_name.as_bytes());
        put_block(
            &mut head,
            &serde_json::to_vec(&self.config).unwrap_or_default(),
        );
        let mut tail = Vec::new();
        put_block(&mut tail, &self.last_message_id);
        put_u64(&mut tail, self.age_cursor);
        put_u64(&mut tail, self.deadline_of.len() as u64);
        for (sequence, deadline_ns) in &self.deadline_of {
            put_u64(&mut tail, *sequence);
            put_i64(&mut tail, *deadline_ns);
        }
        self.encode_consumers(&mut tail);
        self.dedup.encode(&mut tail);
        if !self.source_positions.is_empty() {
            tail.push(SOURCE_POSITIONS);
            let mut positions = Vec::new();
            self.source_positions.encode(&mut positions);
            put_block(&mut tail, &positions);
        }
        if !self.schedules.is_empty() {
            tail.push(SCHEDULES);
            let mut schedules = Vec::new();
            self.schedules.encode(&mut schedules);
            put_block(&mut tail, &schedules);
        }
        if !self.lingering.is_empty() {
            tail.push(LINGERING);
            let mut lingering = Vec::new();
            for sequence in &self.lingering {
                put_u64(&mut lingering, *sequence);
            }
            put_block(&mut tail, &lingering);
        }
        (head, tail)
    }

    /// A digest of the applied state: equal on all replicas that applied the same entries.
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        let (mut bytes, tail) = self.encode_state();
        bytes.extend_from_slice(&tail);
        let state = self.store.state();
        for number in [
            state.messages,
            state.bytes,
            state.first_sequence,
            state.last_sequence,
            state.deleted,
        ] {
            put_u64(&mut bytes, number);
        }
        twox_hash::XxHash3_64::oneshot(&bytes)
    }

    /// Takes a checkpoint of this stream. The stream must be fresh.
    ///
    /// # Errors
    /// [`RestoreError`]: the stream must then be set aside, not served.
    pub fn restore(&mut self, data: &Bytes, domain: &str) -> Result<(), RestoreError> {
        let mut reader = Reader::new(data.clone());
        let identity = Identity::take(&mut reader)?;
        self.applied_index = identity.applied_index;
        self.applied_term = identity.applied_term;
        self.checkpoint.durable_index = self.applied_index;
        self.created_ns = identity.created_ns;
        self.config = serde_json::from_slice(&identity.config).map_err(|_| RestoreError::Config)?;
        self.compile();
        let manifest = reader.block()?;
        if !manifest.is_empty() {
            let ids = millrace_store::ids::IdSpace::new(self.store_space);
            let mut settings = Self::store_settings(self.id, &self.config, ids);
            settings.packing = self.store.packing().clone();
            self.store = StreamStore::from_manifest(settings, &manifest)?;
        }
        self.last_message_id = reader.block()?;
        self.age_cursor = reader.u64()?;
        for _ in 0..reader.u64()? {
            let (sequence, deadline_ns) = (reader.u64()?, reader.i64()?);
            self.deadline_of.insert(sequence, deadline_ns);
            if deadline_ns != i64::MAX {
                self.deadlines.insert((deadline_ns, sequence));
            }
        }
        self.decode_consumers(&mut reader, domain)?;
        self.dedup.decode(&mut reader)?;
        while !reader.is_empty() {
            let (section, data) = (reader.u8()?, reader.block()?);
            self.restore_section(section, &mut Reader::new(data))?;
        }
        Ok(())
    }

    fn restore_section(&mut self, section: u8, reader: &mut Reader) -> Result<(), RestoreError> {
        match section {
            SOURCE_POSITIONS => self.source_positions = SourcePositions::decode(reader)?,
            SCHEDULES => self.schedules.decode(reader)?,
            LINGERING => {
                while !reader.is_empty() {
                    self.lingering.insert(reader.u64()?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Passes the store's requests on and deals with what it tells.
    pub(crate) fn poll_store(&mut self, turn: &mut Turn<'_>) {
        self.ask_store(turn.effects);
        let mut events = Vec::new();
        self.store.take_events(&mut events);
        for event in events {
            self.store_event(turn, event);
        }
    }

    fn store_event(&mut self, turn: &mut Turn<'_>, event: StoreEvent) {
        let text = match event {
            StoreEvent::Flushed(manifest) => return self.flushed(turn, &manifest),
            StoreEvent::Erased { .. } => return,
            StoreEvent::Damaged { sequence, place } => {
                turn.shared.note_damage(self.id, Some(sequence), &place);
                format!("message {sequence} is damaged on disk ({place})")
            }
            StoreEvent::SegmentDamaged { place } => {
                turn.shared.note_damage(self.id, None, &place);
                format!("a segment is damaged on disk ({place})")
            }
            StoreEvent::Lost { first, last } => {
                self.recount_consumers();
                format!("messages {first} to {last} are lost")
            }
            StoreEvent::DeletesDamaged { place } => {
                format!("deleted messages may have come back: {place} is damaged")
            }
            StoreEvent::EraseFailed { sequence, reason } => {
                format!("erasing message {sequence} failed: {reason}")
            }
            StoreEvent::FlushFailed { reason } => {
                self.checkpoint.pending = None;
                self.note_tried(turn.now);
                format!("moving messages to segments failed: {reason}")
            }
        };
        let text = format!("JetStream stream '{}': {text}", self.name);
        turn.effects.push(Effect::Log {
            level: LogLevel::Error,
            text,
        });
    }

    fn flushed(&mut self, turn: &mut Turn<'_>, manifest: &Manifest) {
        let Some(pending) = self.checkpoint.pending.take() else {
            return;
        };
        let mut state = pending.head;
        put_block(&mut state, &manifest.bytes);
        state.extend_from_slice(&pending.tail);
        self.checkpoint
            .sent
            .push_back((pending.index, manifest.number));
        turn.effects.push(Effect::Checkpoint {
            group: self.id.group(),
            index: pending.index,
            term: pending.term,
            state: Bytes::from(state),
        });
    }

    /// The checkpoint record up to `index` is durable.
    pub(crate) fn checkpoint_durable(&mut self, turn: &mut Turn<'_>, index: u64) {
        while let Some((sent, number)) = self.checkpoint.sent.front().copied() {
            if sent > index {
                break;
            }
            self.checkpoint.sent.pop_front();
            self.checkpoint.durable_index = sent;
            self.store.checkpoint_durable(number);
        }
        self.poll_store(turn);
        self.resume_checkpoint(turn);
    }

    /// Notes that the store wants segments rewritten because of what was erased.
    pub(super) fn note_wipe(&mut self, now: Now) {
        if self.store.wants_wipe() && self.checkpoint.wipe_ns.is_none() {
            self.checkpoint.wipe_ns = Some(now.after_ns(WIPE_DELAY_NS));
        }
    }

    /// When [`Self::wipe_when_due`] is.
    pub(super) const fn wipe_deadline(&self) -> Option<u64> {
        self.checkpoint.wipe_ns
    }

    /// Has them rewritten, one with each checkpoint.
    pub(super) fn wipe_when_due(&mut self, turn: &mut Turn<'_>) {
        let due = self.checkpoint.wipe_ns;
        if due.is_none_or(|due| due > turn.now.monotonic_ns) {
            return;
        }
        self.checkpoint.wipe_ns = None;
        if !self.store.wants_wipe() {
            return;
        }
        if self.is_starting() {
            self.want_index(turn.shared);
        } else {
            self.want_checkpoint(turn);
        }
    }

    /// Takes up a checkpoint that had to wait, if it need not any more.
    pub(super) fn resume_checkpoint(&mut self, turn: &mut Turn<'_>) {
        let free =
            self.checkpoint.pending.is_none() && self.assembly.is_none() && !self.is_applying();
        if self.checkpoint.wanted && free {
            self.want_checkpoint(turn);
        }
    }
}
