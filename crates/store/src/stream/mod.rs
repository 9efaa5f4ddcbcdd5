//! The message store of one stream, for file and memory storage.
//!
//! It applies what the stream's state machine decided (append, skip, remove, purge: in memory, at
//! once, cannot fail) and answers reads. It knows sequences, subjects, times and sizes; limits,
//! retention, deduplication and what an entry of the log looks like belong to the stream.
//!
//! **Loading.** After [`StreamStore::from_manifest`] only [`StreamStore::state`] is known. Call
//! [`StreamStore::ensure_loaded`] until it is ready before anything else is applied or asked; a
//! new store is loaded from the start.
//!
//! **Disk.** After every call that may need the disk (get, begin_flush, erase, ensure_loaded,
//! checkpoint_durable, complete) call [`StreamStore::poll`] once and pass the requests on. Their
//! completions come back through [`StreamStore::complete`]; when it returns true, everything that
//! was told [`Lookup::Loading`] should ask again.

mod filter;
mod types;

pub use filter::Filter;
pub use types::{
    Erased, JournalRead, Lookup, Manifest, MemoryShare, Purge, Purged, ReadError, Removed, Storage,
    StoreEvent, StoreRequests, StoreSettings, StoredMessage, StreamState, SubjectState,
    accounting_size,
};

use crate::disk::DiskCompletion;
use crate::journal::JournalPosition;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// The messages of one stream.
#[derive(Debug)]
pub struct StreamStore {
    settings: StoreSettings,
    messages: BTreeMap<u64, StoredMessage>,
    state: StreamState,
}

/// A manifest that this build cannot read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("the manifest has format {found}, this version reads up to {supported}")]
    NewerFormat { found: u16, supported: u16 },
    #[error("the manifest is damaged: {0}")]
    Damaged(&'static str),
}

/// Making and loading.
impl StreamStore {
    /// An empty, loaded store.
    #[must_use]
    pub fn new(settings: StoreSettings) -> Self {
        Self {
            settings,
            messages: BTreeMap::new(),
            state: StreamState::default(),
        }
    }

    /// The store as a checkpoint record describes it. Costs nothing that grows with the data; the
    /// index is read by [`Self::ensure_loaded`].
    pub fn from_manifest(settings: StoreSettings, manifest: &Bytes) -> Result<Self, ManifestError> {
        let _ = manifest;
        Ok(Self::new(settings))
    }

    /// Reads the index if it is not in memory yet.
    pub fn ensure_loaded(&mut self) -> Lookup<()> {
        Lookup::Ready(())
    }

    /// Whether the index is in memory.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        true
    }

    /// Changes the store's share of the memory.
    pub fn set_share(&mut self, share: MemoryShare) {
        self.settings.share = share;
    }
}

/// Questions about the index. None of them needs the disk.
impl StreamStore {
    /// The numbers of the stream.
    #[must_use]
    pub fn state(&self) -> StreamState {
        self.state
    }

    /// Missing sequences between the first and the last, as ascending inclusive ranges.
    pub fn deleted_ranges(&self) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
        let first = self.state.first_sequence;
        let mut next = first;
        let last = self.state.last_sequence;
        self.messages
            .keys()
            .copied()
            .chain(std::iter::once(last + 1))
            .filter_map(move |sequence| {
                let gap = (sequence > next).then(|| next..=sequence - 1);
                next = sequence + 1;
                gap
            })
    }

    /// Whether the message is there.
    #[must_use]
    pub fn contains(&self, sequence: u64) -> bool {
        self.messages.contains_key(&sequence)
    }

    /// The subject of a stored message.
    #[must_use]
    pub fn subject_of(&self, sequence: u64) -> Option<&Bytes> {
        self.messages.get(&sequence).map(|message| &message.subject)
    }

    /// The time of a stored message, nanoseconds since the Unix epoch.
    #[must_use]
    pub fn time_of(&self, sequence: u64) -> Option<i64> {
        self.messages.get(&sequence).map(|message| message.time_ns)
    }

    /// The accounting size of a stored message in bytes.
    #[must_use]
    pub fn size_of(&self, sequence: u64) -> Option<u64> {
        self.messages
            .get(&sequence)
            .map(|message| self.accounted(message))
    }

    /// The accounting size that a message would have in this store.
    #[must_use]
    pub fn accounting_size(&self, subject: usize, headers: usize, payload: usize) -> u64 {
        accounting_size(
            self.settings.storage != Storage::Memory,
            subject,
            headers,
            payload,
        )
    }

    /// The oldest message.
    #[must_use]
    pub fn oldest(&self) -> Option<u64> {
        self.messages.keys().next().copied()
    }

    /// The first matching message at or after `from`.
    ///
    /// Literal filters cost a logarithm. After `None`, a reader should go on from
    /// `state().last_sequence + 1`: asking again from further back repeats the search.
    #[must_use]
    pub fn next_match(&self, filter: &Filter, from: u64) -> Option<u64> {
        self.messages
            .range(from..)
            .find(|(_, message)| filter.matches(&message.subject))
            .map(|(sequence, _)| *sequence)
    }

    /// The last matching message at or before `up_to`.
    #[must_use]
    pub fn last_match(&self, filter: &Filter, up_to: u64) -> Option<u64> {
        self.messages
            .range(..=up_to)
            .rev()
            .find(|(_, message)| filter.matches(&message.subject))
            .map(|(sequence, _)| *sequence)
    }

    /// How many matching messages there are at or after `from`.
    #[must_use]
    pub fn count_from(&self, filter: &Filter, from: u64) -> u64 {
        self.messages
            .range(from..)
            .filter(|(_, message)| filter.matches(&message.subject))
            .count() as u64
    }

    /// The first message stored at or after `time_ns`.
    #[must_use]
    pub fn first_at_or_after(&self, time_ns: i64) -> Option<u64> {
        self.messages
            .values()
            .find(|message| message.time_ns >= time_ns)
            .map(|m| m.sequence)
    }

    /// The newest message of a literal subject.
    #[must_use]
    pub fn last_of(&self, subject: &[u8]) -> Option<u64> {
        self.last_match(&Filter::one(subject), u64::MAX)
    }

    /// The oldest message of a literal subject.
    #[must_use]
    pub fn first_of(&self, subject: &[u8]) -> Option<u64> {
        self.next_match(&Filter::one(subject), 0)
    }

    /// Count, first and last of a literal subject; `None` when it has no message.
    #[must_use]
    pub fn subject_state(&self, subject: &[u8]) -> Option<SubjectState> {
        let count = self.count_from(&Filter::one(subject), 0);
        Some(SubjectState {
            count,
            first: self.first_of(subject)?,
            last: self.last_of(subject)?,
        })
    }

    /// Visits all subjects that match, in byte order of their tokens.
    pub fn for_each_subject(&self, filter: &Filter, mut visit: impl FnMut(&[u8], SubjectState)) {
        let mut subjects: Vec<&Bytes> = self.messages.values().map(|m| &m.subject).collect();
        subjects.sort();
        subjects.dedup();
        for subject in subjects {
            if filter.matches(subject)
                && let Some(state) = self.subject_state(subject)
            {
                visit(subject, state);
            }
        }
    }
}

/// Applying. In memory, at once, cannot fail. The store must be loaded.
impl StreamStore {
    /// Stores a message. Its sequence must be above `last_sequence`; what lies between becomes a
    /// gap. A sequence that is not above is ignored (an entry that was applied before).
    ///
    /// `position` is where its headers, directly followed by its payload, lie in the journal;
    /// `None` if they do not (memory groups): then the bytes stay in memory until flushed.
    pub fn append(&mut self, message: StoredMessage, position: Option<JournalPosition>) {
        let _ = position;
        if message.sequence <= self.state.last_sequence {
            return;
        }
        self.skip(message.sequence, message.time_ns);
        self.state.messages += 1;
        self.state.bytes += self.accounted(&message);
        self.messages.insert(message.sequence, message);
        self.refresh();
    }

    /// Uses up all sequences up to and with `to_sequence` without storing anything: gaps of a
    /// mirror, `first_seq` (skip to `first_seq - 1`), a publish nobody is interested in. `time_ns`
    /// becomes the time of the last message; 0 leaves it.
    pub fn skip(&mut self, to_sequence: u64, time_ns: i64) {
        if to_sequence <= self.state.last_sequence {
            return;
        }
        self.state.last_sequence = to_sequence;
        if time_ns != 0 {
            self.state.last_time_ns = time_ns;
        }
        self.refresh();
    }

    /// Takes one message out. `None` if it is not there.
    pub fn remove(&mut self, sequence: u64) -> Option<Removed> {
        let message = self.messages.remove(&sequence)?;
        let size = self.accounted(&message);
        self.state.messages -= 1;
        self.state.bytes -= size;
        self.refresh();
        Some(Removed {
            sequence,
            time_ns: message.time_ns,
            subject_gone: self.first_of(&message.subject).is_none(),
            subject: message.subject,
            size,
        })
    }

    /// Takes out what `purge` says and tells of every message, ascending. Without filter and
    /// `keep`, a `below` beyond the end also moves `last_sequence` to `below - 1`.
    pub fn purge(&mut self, purge: Purge<'_>, mut visit: impl FnMut(&Removed)) -> Purged {
        let all = Filter::all();
        let filter = purge.filter.unwrap_or(&all);
        let below = purge.below.unwrap_or(u64::MAX);
        let mut matching: Vec<u64> = self
            .messages
            .range(..below)
            .filter(|(_, message)| filter.matches(&message.subject))
            .map(|(sequence, _)| *sequence)
            .collect();
        matching.truncate(matching.len().saturating_sub(purge.keep as usize));
        let mut purged = Purged::default();
        for sequence in matching {
            if let Some(removed) = self.remove(sequence) {
                purged.messages += 1;
                purged.bytes += removed.size;
                visit(&removed);
            }
        }
        if filter.is_all() && purge.keep == 0 && purge.below.is_some() {
            self.skip(below - 1, 0);
        }
        purged
    }

    /// Takes one message out and overwrites its bytes: at once in its segment (reported as
    /// [`StoreEvent::Erased`]); journal files that hold a copy are named for retirement.
    pub fn erase(&mut self, sequence: u64) -> Option<Erased> {
        let removed = self.remove(sequence)?;
        Some(Erased {
            removed,
            journal_files: Vec::new(),
        })
    }
}

/// Reading, flushing, and the disk.
impl StreamStore {
    /// A message with its bytes.
    pub fn get(&mut self, sequence: u64) -> Lookup<Result<StoredMessage, ReadError>> {
        Lookup::Ready(
            self.messages
                .get(&sequence)
                .cloned()
                .ok_or(ReadError::NotFound),
        )
    }

    /// Bytes of messages that are not in segments: what the next flush would write.
    #[must_use]
    pub fn tail_bytes(&self) -> u64 {
        self.state.bytes
    }

    /// Starts moving the tail into segments. The result comes as [`StoreEvent::Flushed`] with the
    /// manifest of the state **now**: note the applied log index when calling. False when one is
    /// under way, the store is not loaded, or it is a memory store.
    pub fn begin_flush(&mut self) -> bool {
        false
    }

    /// The checkpoint record with this manifest is durable: files it does not name may go.
    pub fn checkpoint_durable(&mut self, number: u64) {
        let _ = number;
    }

    /// A journal file is gone: positions in it are void.
    pub fn journal_released(&mut self, file: u64) {
        let _ = file;
    }

    /// Collects what is to be asked of the disk and the journal.
    pub fn poll(&mut self, out: &mut StoreRequests) {
        let _ = out;
    }

    /// Takes the end of a request of this store. True: ask again whatever was loading.
    pub fn complete(&mut self, completion: DiskCompletion) -> bool {
        let _ = completion;
        false
    }

    /// What happened since the last call.
    pub fn take_events(&mut self, out: &mut Vec<StoreEvent>) {
        let _ = out;
    }

    fn accounted(&self, message: &StoredMessage) -> u64 {
        self.accounting_size(
            message.subject.len(),
            message.headers.len(),
            message.payload.len(),
        )
    }

    fn refresh(&mut self) {
        let first = self.messages.values().next();
        self.state.first_sequence = first.map_or(self.state.last_sequence + 1, |m| m.sequence);
        self.state.first_time_ns = first.map_or(0, |message| message.time_ns);
        let span = self.state.last_sequence + 1 - self.state.first_sequence;
        self.state.deleted = span - self.state.messages;
    }
}
