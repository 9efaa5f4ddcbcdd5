//! What the reference keeps of a stream on the disk, for reading only: configuration files with their
//! sums, message blocks, the state file, consumers' state. Opening files is for others; here are their
//! bytes. The layout is drawn in docs/format.md.

mod block;
mod consumer;
mod index;
mod sum;

pub use block::{Block, BlockError, Record, Records, compressed_size, unpack_block};
pub use consumer::{ConsumerStateError, read_consumer_state};
pub use index::{Index, IndexBlock, IndexError, read_index};
pub use sum::{Sum, meta_sum_matches};
