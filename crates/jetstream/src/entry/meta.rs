//! Entries of the meta group: which streams exist.
//!
//! ```text
//! 1 create  group u64 | created_ns i64 | account block | config block (JSON)
//! 2 delete  group u64
//! 40 begin restore  as create (the stream stays unseen)
//! 41 end restore    group u64
//! block     length u32 | bytes
//! ```

use bytes::Bytes;

use super::reader::{DecodeError, Reader, put_block, put_i64, put_u64};
use super::stream::{EntryHead, put_head, take_head};

/// What the meta group decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaOperation {
    /// A stream begins: its group, owner and first configuration.
    Create {
        group: u64,
        created_ns: i64,
        account: Bytes,
        config: Bytes,
    },
    /// A stream ends.
    Delete { group: u64 },
    /// A stream begins that is filled from a backup. Until it is whole, nobody sees it.
    BeginRestore {
        group: u64,
        created_ns: i64,
        account: Bytes,
        config: Bytes,
    },
    /// It is whole.
    EndRestore { group: u64 },
}

const CREATE: u8 = 1;
const DELETE: u8 = 2;
const BEGIN_RESTORE: u8 = 40;
const END_RESTORE: u8 = 41;

/// One entry with all operations of a turn.
#[must_use]
pub fn encode_meta(head: EntryHead, operations: &[MetaOperation]) -> Bytes {
    let mut out = Vec::new();
    put_head(&mut out, head);
    for operation in operations {
        match operation {
            MetaOperation::Create {
                group,
                created_ns,
                account,
                config,
            }
            | MetaOperation::BeginRestore {
                group,
                created_ns,
                account,
                config,
            } => {
                out.push(match operation {
                    MetaOperation::Create { .. } => CREATE,
                    _ => BEGIN_RESTORE,
                });
                put_u64(&mut out, *group);
                put_i64(&mut out, *created_ns);
                put_block(&mut out, account);
                put_block(&mut out, config);
            }
            MetaOperation::Delete { group } => {
                out.push(DELETE);
                put_u64(&mut out, *group);
            }
            MetaOperation::EndRestore { group } => {
                out.push(END_RESTORE);
                put_u64(&mut out, *group);
            }
        }
    }
    Bytes::from(out)
}

/// Reads an entry of the meta group.
///
/// # Errors
/// [`DecodeError`] if the bytes are not an entry that this version writes.
pub fn decode_meta(data: &Bytes) -> Result<(EntryHead, Vec<MetaOperation>), DecodeError> {
    let mut reader = Reader::new(data.clone());
    let head = take_head(&mut reader)?;
    let mut operations = Vec::new();
    while !reader.is_empty() {
        operations.push(match reader.u8()? {
            CREATE => MetaOperation::Create {
                group: reader.u64()?,
                created_ns: reader.i64()?,
                account: reader.block()?,
                config: reader.block()?,
            },
            DELETE => MetaOperation::Delete {
                group: reader.u64()?,
            },
            BEGIN_RESTORE => MetaOperation::BeginRestore {
                group: reader.u64()?,
                created_ns: reader.i64()?,
                account: reader.block()?,
                config: reader.block()?,
            },
            END_RESTORE => MetaOperation::EndRestore {
                group: reader.u64()?,
            },
            kind => return Err(DecodeError::Kind(kind)),
        });
    }
    Ok((head, operations))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_entries_survive_encoding_and_refuse_cut_bytes() {
        let head = EntryHead {
            origin: 7,
            number: 9,
        };
        let operations = vec![
            MetaOperation::Create {
                group: 3,
                created_ns: -5,
                account: Bytes::from_static(b"$G"),
                config: Bytes::from_static(b"{}"),
            },
            MetaOperation::Delete { group: 3 },
            MetaOperation::BeginRestore {
                group: 4,
                created_ns: 6,
                account: Bytes::from_static(b"$G"),
                config: Bytes::from_static(b"{}"),
            },
            MetaOperation::EndRestore { group: 4 },
        ];
        let data = encode_meta(head, &operations);
        assert_eq!(decode_meta(&data), Ok((head, operations)));
        assert_eq!(
            decode_meta(&data.slice(..data.len() - 1)),
            Err(DecodeError::Truncated)
        );
        assert_eq!(
            decode_meta(&Bytes::from_static(&[9])),
            Err(DecodeError::Version(9))
        );
    }
}
