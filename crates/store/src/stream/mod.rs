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

mod apply;
mod blocks;
mod budget;
#[cfg(test)]
mod cost_tests;
#[cfg(test)]
mod disk_tests;
mod erase;
#[cfg(test)]
mod fault_tests;
mod filter;
mod flush;
#[doc(hidden)]
pub mod fuzzing;
mod index;
#[cfg(test)]
mod index_tests;
mod io;
mod load;
#[cfg(test)]
mod model;
#[cfg(test)]
mod packed_tests;
mod purge;
mod query;
mod read;
mod rewrite;
mod run;
mod salvage;
mod scrub;
#[cfg(test)]
mod scrub_tests;
mod segment;
mod sleep;
mod tail;
mod types;
mod wipe;

pub use budget::{DEFAULT_MEMORY_BYTES, Debtor, INDEX_IDLE_NS, MemoryBudget};
pub use filter::Filter;
pub use purge::PurgeCursor;
pub use scrub::{SCRUB_PIECE_BYTES, ScrubStep};
pub use types::{
    JournalRead, JournaledMessage, Lookup, Manifest, MemoryShare, Packing, Purge, Purged,
    ReadError, Removed, Resident, Storage, StoreEvent, StoreRequests, StoreSettings, StoredMessage,
    StreamState, SubjectState, accounting_size, body_checksum,
};

use crate::disk::DiskCompletion;
use index::Index;
use io::{Io, Purpose};
use millrace_subject::SequenceSet;
use std::collections::{BTreeMap, BTreeSet};
use tail::Tail;

/// What the place of a pack takes in memory, with its part of the tree.
const PACK_RESIDENT_BYTES: u64 = 32;
/// Messages and subjects of what was purged that are freed in one step.
const FREE_STEP: usize = 4096;
/// Blocks let go in one step.
const RELEASE_BLOCKS: usize = 64;
/// Bodies let go in one step, and their bytes, which are checksummed on the way.
const RELEASE_BODIES: usize = 1000;
const RELEASE_BYTES: u64 = 2 << 20;

/// The messages of one stream.
#[derive(Debug)]
pub struct StreamStore {
    settings: StoreSettings,
    index: Index,
    tail: Tail,
    /// Messages up to here are in segments; later ones are in the tail.
    flushed_through: u64,
    /// Messages of the tail below this were already let go to the journal.
    evicted_below: u64,
    io: Io,
    blocks: blocks::Blocks,
    /// Segments by their first sequence.
    segments: BTreeMap<u64, segment::Segment>,
    /// How long the packs of packed segments are, by segment and place. Known once loaded.
    packs: BTreeMap<(u64, u32), u32>,
    /// What was erased in segments that must be rewritten for it.
    wiping: wipe::Wiping,
    next_segment: u64,
    /// The segment that this run of the server has created or cut to its length.
    appendable: Option<u64>,
    /// The directory exists and holds nothing that is not known.
    prepared: bool,
    /// The number of the last manifest.
    manifests: u64,
    /// Flushes given up one after the other because something could not be read back.
    read_faults: u8,
    deletes: Option<segment::manifest::Deletes>,
    /// Files to remove once the manifest with this number is durable.
    retired: Vec<(u64, String)>,
    /// Segments with damage: set aside under another name instead of removed.
    kept: BTreeSet<String>,
    flush: Option<flush::Flush>,
    load: Option<Box<load::Load>>,
    scrub: Option<scrub::Scrub>,
    /// Segment and place of damage that the scrub has told without a message.
    scrub_told: BTreeSet<(u64, u32)>,
    damaged: SequenceSet,
    /// The index lacks messages that the manifest counts.
    is_incomplete: bool,
    /// What was tried for messages whose bytes could not be shown yet.
    suspects: BTreeMap<u64, read::Suspicion>,
    events: Vec<StoreEvent>,
    /// What was purged at once and is not freed yet.
    leftovers: Vec<purge::Leftovers>,
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
        let directory = match &settings.storage {
            Storage::File { directory } => directory.clone(),
            Storage::Memory => String::new(),
        };
        let io = Io::new(directory, settings.ids.clone());
        Self {
            index: Index::new(settings.storage != Storage::Memory),
            settings,
            tail: Tail::default(),
            flushed_through: 0,
            evicted_below: 0,
            io,
            blocks: blocks::Blocks::default(),
            segments: BTreeMap::new(),
            packs: BTreeMap::new(),
            wiping: wipe::Wiping::default(),
            next_segment: 1,
            appendable: None,
            prepared: false,
            manifests: 0,
            read_faults: 0,
            deletes: None,
            retired: Vec::new(),
            kept: BTreeSet::new(),
            flush: None,
            load: None,
            scrub: None,
            scrub_told: BTreeSet::new(),
            damaged: SequenceSet::new(),
            is_incomplete: false,
            suspects: BTreeMap::new(),
            events: Vec::new(),
            leftovers: Vec::new(),
        }
    }

    /// Changes what the store may keep in memory at most.
    pub fn set_share(&mut self, share: MemoryShare) {
        self.settings.share = share;
        self.enforce_share();
        self.blocks.shrink(share.block_bytes);
    }

    /// How segments are written.
    #[must_use]
    pub const fn packing(&self) -> &Packing {
        &self.settings.packing
    }

    /// Changes how segments are written from now on.
    pub fn set_packing(&mut self, packing: Packing) {
        self.settings.packing = packing;
    }

    /// Lets go of blocks, then of the oldest bodies that the journal has, until only `keep_bytes`
    /// of both are held; a bounded part of it. True if something was let go.
    pub fn release(&mut self, keep_bytes: u64) -> bool {
        let before = self.cache_bytes();
        let tail = self.tail.memory_bytes();
        self.blocks
            .release(keep_bytes.saturating_sub(tail), RELEASE_BLOCKS);
        if self.blocks.bytes() == 0 && self.settings.storage != Storage::Memory {
            self.evict_tail(keep_bytes, RELEASE_BODIES, RELEASE_BYTES);
        }
        self.cache_bytes() < before
    }

    fn cache_bytes(&self) -> u64 {
        match self.settings.storage {
            Storage::Memory => 0,
            Storage::File { .. } => self.tail.memory_bytes() + self.blocks.bytes(),
        }
    }
}

/// The disk.
impl StreamStore {
    /// Bytes of messages that are not in segments: what the next flush would write.
    #[must_use]
    pub const fn tail_bytes(&self) -> u64 {
        self.tail.total_bytes()
    }

    /// Messages that are not in segments.
    #[must_use]
    pub fn tail_messages(&self) -> u64 {
        self.tail.messages()
    }

    /// What the store keeps in memory now, in bytes.
    #[must_use]
    pub fn resident(&self) -> Resident {
        let (rows, subjects, deleted) = self.index.memory();
        Resident {
            rows: rows as u64 + self.packs.len() as u64 * PACK_RESIDENT_BYTES,
            subjects: subjects as u64,
            deleted: deleted as u64,
            tail: self.tail.memory_bytes() + self.tail.overhead() as u64,
            blocks: self.blocks.bytes(),
            cache: self.cache_bytes(),
        }
    }

    /// Closes the files that are open: before the stream's folder is removed, or when it was idle
    /// for long. The next read opens them again. Call [`Self::poll`] afterwards.
    pub fn close_files(&mut self) {
        self.io.close_all();
    }

    /// Whether there is work that waits for nothing but a turn ([`Self::turn`]): an index to be
    /// built, deleted ranges to be written, what was purged to be freed.
    #[must_use]
    pub fn wants_turn(&self) -> bool {
        self.is_building() || self.flush_goes_on() || self.has_purged()
    }

    /// Does a step of each. Call [`Self::poll`] afterwards.
    pub fn turn(&mut self) {
        if self.is_building() {
            let _ = self.ensure_loaded();
        }
        if self.flush_goes_on() {
            self.advance_flush();
        }
        self.free_purged(FREE_STEP);
    }

    /// Collects what is to be asked of the disk and the journal.
    pub fn poll(&mut self, out: &mut StoreRequests) {
        self.advance_flush();
        self.io.drain(out);
    }

    /// Takes the end of a request of this store. True: ask again whatever was loading.
    pub fn complete(&mut self, completion: DiskCompletion) -> bool {
        let Some(purpose) = self.io.take(completion.token) else {
            return false;
        };
        let result = completion.result;
        match purpose {
            Purpose::Nothing => return false,
            Purpose::Scrub => {
                self.scrubbed(result);
                return false;
            }
            Purpose::Block {
                source,
                start,
                sequence,
                in_order,
            } => {
                self.block_read((source, start, sequence), in_order, result);
                return true;
            }
            Purpose::FlushStep => self.flush_step(result),
            Purpose::FlushRead { source, start } => self.flush_read(source, start, result),
            Purpose::LoadDeletes => self.deletes_read(result),
            Purpose::LoadChain { segment, start } => self.chain_read(segment, start, result),
            Purpose::LoadWhole { segment } => self.whole_read(segment, result),
            Purpose::Wipe { segment } => self.wiped(segment, result.err().as_ref()),
            Purpose::Erase { sequence } => self.events.push(match result {
                Ok(_) => StoreEvent::Erased { sequence },
                Err(error) => StoreEvent::EraseFailed {
                    sequence,
                    reason: error.to_string(),
                },
            }),
        }
        let was_flushing = self.flush.is_some();
        self.advance_flush();
        // A flush moves messages: a reader that waited for the journal finds them elsewhere.
        was_flushing || self.is_loaded()
    }

    /// What happened since the last call.
    pub fn take_events(&mut self, out: &mut Vec<StoreEvent>) {
        out.append(&mut self.events);
    }
}
