//! The fixed numbers of the broker, each with its unit and where it comes from.
//! Numbers that an operator can change live in `millrace_config::Options`.

use millrace_clock::Now;

pub use millrace_config::COMPATIBLE_VERSION;
/// Our own version, beside the compatible one.
pub const MILLRACE_VERSION: &str = env!("CARGO_PKG_VERSION");
/// Our own name and version, shown beside the compatible version.
pub(crate) const IMPLEMENTATION: &str = concat!("millrace ", env!("CARGO_PKG_VERSION"));
/// Stands where the reference names its runtime; clients only show it.
pub const RUNTIME: &str = "rust";
/// Protocol level announced in INFO (spec core/01 §1.3).
pub(crate) const PROTOCOL_LEVEL: i32 = 1;
/// The JetStream API level announced in INFO, with or without JetStream.
pub(crate) const API_LEVEL: u32 = 5;
/// Random bytes of a nonce; 15 characters of base64url (spec core/01 §1.3).
pub(crate) const NONCE_BYTES: usize = 11;

/// Smallest chunk of an outbound buffer, in bytes.
pub(crate) const OUTBOUND_CHUNK_MIN: usize = 1024;
/// Largest chunk of an outbound buffer, in bytes.
pub(crate) const OUTBOUND_CHUNK_MAX: usize = 64 * 1024;
/// Written chunks of the largest size that are kept to be filled again: 4 MiB.
pub(crate) const FREE_CHUNKS_MAX: usize = 64;
/// Payloads above this many bytes are kept once and shared by all recipients (hard-parts 1).
pub(crate) const SHARED_PAYLOAD_MIN: usize = 64 * 1024;

/// Payloads of at least this many bytes leave as slices of the block they were read into. Below it
/// a copy is cheaper than one more piece in a system call.
pub(crate) const SHARED_SLICE_MIN: usize = 4 * 1024;
/// A big payload that lacks at least this many bytes is read straight into its place.
pub(crate) const DIRECT_READ_MIN: usize = 16 * 1024;
/// Memory of big payloads that is kept to be used again, in bytes.
pub(crate) const PAYLOAD_BLOCKS_BYTES: usize = 8 * 1024 * 1024;

/// Cached match results per connection; the cache is emptied when it is full.
pub(crate) const MATCH_CACHE_ENTRIES: usize = 1024;
/// Subjects longer than this many bytes are matched without the cache.
pub(crate) const MATCH_CACHE_SUBJECT_MAX: usize = 512;

/// Lookups that are not remembered after a full cache was hardly ever of use.
pub(crate) const MATCH_CACHE_BYPASS: usize = 16 * 1024;
/// Receivers remembered in all match results of a connection; above it the cache is emptied.
pub(crate) const MATCH_CACHE_TARGETS: usize = 64 * 1024;

/// A receiver whose socket is full and that has this many bytes waiting holds its publishers back
/// for a moment: what waits should stay in the processor's cache.
pub(crate) const DRAIN_ABOVE_BYTES: usize = 512 * 1024;
/// Longest such moment per read batch; it ends as soon as a socket is drained.
pub(crate) const DRAIN_WAIT_NS: u64 = Now::MILLISECOND_NS;
/// Pending share (in quarters of `max_pending`) above which publishers are held back.
pub(crate) const STALL_QUARTERS: usize = 3;
/// Hold-back for a receiver above the stall mark (spec core/03 §3.4).
pub(crate) const STALL_ABOVE_MARK_NS: u64 = 2 * Now::MILLISECOND_NS;
/// Hold-back for a receiver at or above `max_pending`.
pub(crate) const STALL_FULL_NS: u64 = 5 * Now::MILLISECOND_NS;
/// Most time one read batch can be held back.
pub(crate) const STALL_MAX_NS: u64 = 10 * Now::MILLISECOND_NS;

/// The first PING leaves this long after CONNECT (plus up to a fifth), or `ping_interval` if shorter.
pub(crate) const FIRST_PING_NS: u64 = 2 * Now::SECOND_NS;
/// The round trip is measured at least this often, even on busy connections.
pub(crate) const ROUND_TRIP_VALID_NS: u64 = 3600 * Now::SECOND_NS;
/// Longest pause between two closes of lame duck mode.
pub(crate) const LAME_DUCK_STEP_MAX_NS: u64 = Now::SECOND_NS;
