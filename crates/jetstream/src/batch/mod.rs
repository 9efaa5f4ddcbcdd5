//! Atomic batches (spec jetstream/03 §1-4, cluster/07): their life on the leader before the commit,
//! and putting the parts of a large one together when entries are applied.
//!
//! `group.rs` counts and times staged batches, `stage.rs` decides what becomes of a message at its
//! arrival, `commit.rs` checks a whole batch against one staged diff and proposes it, `assembly.rs`
//! is the replicas' side. Keeping staged bytes belongs to `millrace_store::staging`.

mod assembly;
mod commit;
mod group;
mod stage;
mod staged;

pub use assembly::{Assembled, AssembledPart, Assembly, Reference, assemble};
pub(crate) use commit::CommitJob;
pub use group::{Abandoned, BatchGroup, MAX_BATCH_ID_BYTES};
pub(crate) use stage::{REQUIRED_API_LEVEL, level_is_met};
