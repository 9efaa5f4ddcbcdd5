//! Log entries of the meta group and of streams, byte by byte.
//!
//! An entry is what one turn of a stream (or of the meta group) decided: a head and operations in
//! order. All integers are little endian. The format version is the first byte of every entry; a
//! reader refuses versions it does not know. Meaning belongs to `stream::apply` and `meta`.
//!
//! ```text
//! entry     version u8 | origin u64 | number u64 | operation*
//! operation kind u8 | body (see `stream.rs`, `meta.rs`)
//! ```
//!
//! `origin` names the server run that proposed the entry and `number` counts its proposals in this
//! group: with them a proposer knows its own entries again. They never influence applied state.

mod message;
mod meta;
mod note;
mod reader;
mod restore;
#[cfg(test)]
mod samples;
mod stream;

pub use message::{
    Deadline, Decision, MESSAGE_HEAD_LENGTH, MessageParts, MessagePlace, Rollup, decode_message,
    message_head, put_decision, put_message,
};
pub use meta::{MetaOperation, decode_meta, encode_meta};
pub use note::Note;
pub use reader::{Cursor, DecodeError, Reader, put_block, put_i64, put_u32, put_u64};
pub use restore::Restored;
pub use stream::{
    CommitRecord, EntryHead, Operation, PART_FRONT_LENGTH, StreamEntryWriter, StreamOperations,
    batch_entry, decode_head, part_checksum, part_front,
};

/// Version of everything in this module. Raise it when bytes written before would be read otherwise.
pub const FORMAT_VERSION: u8 = 1;

/// Length of an entry's head in bytes.
pub const HEAD_LENGTH: usize = 17;
