//! Segment files: what their bytes mean. When they are written and read is decided elsewhere.

mod bytes;
pub(super) mod index_block;
pub(super) mod manifest;
pub(super) mod pack;
pub(super) mod record;

use index_block::BlockPlace;

/// A segment grows to about this size, then the next one begins. Places in it have 32 bits.
pub(super) const SEGMENT_BYTES: u32 = 64 << 20;

/// One segment file as far as a manifest (or a run synced since) vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) id: u64,
    /// Seeds the checksums of its records.
    pub(super) seed: u64,
    pub(super) first_sequence: u64,
    pub(super) last_sequence: u64,
    /// Bytes that count. What lies beyond does not exist.
    pub(super) length: u32,
    /// Nothing is appended any more.
    pub(super) sealed: bool,
    /// It consists of packs; the place of a message is that of its pack.
    pub(super) packed: bool,
    /// The number of the newest data key its packs are sealed with; 0: none.
    pub(super) key: u16,
    /// Bytes of the records in packs, as they are when unpacked.
    pub(super) unpacked_bytes: u64,
    /// An erased message is in one of its packs: it is to be rewritten and overwritten.
    pub(super) wipe: bool,
    pub(super) last_block: BlockPlace,
    /// Messages in it that are still there, and the bytes of their records. Known once loaded.
    pub(super) live_messages: u64,
    pub(super) live_bytes: u64,
}

impl Segment {
    /// Bytes of its records, unpacked: what `live_bytes` is a part of.
    pub(super) const fn record_bytes(&self) -> u64 {
        if self.packed {
            self.unpacked_bytes
        } else {
            self.length as u64
        }
    }
}
