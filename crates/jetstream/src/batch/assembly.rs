//! The parts of a large batch on their way to one another: the apply side of a chain.
//!
//! Parts hold no sequence and are seen by no reader. Anything but the next part drops the chain:
//! another entry, another batch, a part out of order, a new term. Only a commit entry that fits
//! count, bytes and checksum of all parts makes them messages, all in one step (hard-parts 6).

use crate::entry::{CommitRecord, HEAD_LENGTH, Operation, PublishRecord, part_checksum};
use crate::ids::JournalPosition;
use crate::stream::apply::Committed;

/// A part: where its entry lies in the journal, and its messages.
pub type AssembledPart = (Option<JournalPosition>, Vec<PublishRecord>);

/// An open chain.
#[derive(Debug)]
pub struct Assembly {
    batch: u64,
    term: u64,
    /// Log index of the first part: checkpoints stay before it.
    first_index: u64,
    parts: Vec<AssembledPart>,
    count: u64,
    bytes: u64,
    checksum: u64,
}

impl Assembly {
    /// The term of its parts.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Log index of the first part.
    #[must_use]
    pub fn first_index(&self) -> u64 {
        self.first_index
    }

    fn add(&mut self, entry: &Committed, messages: Vec<PublishRecord>) {
        self.count += messages.len() as u64;
        self.bytes += entry.data.len().saturating_sub(HEAD_LENGTH) as u64;
        self.checksum = part_checksum(self.checksum, &entry.data);
        self.parts.push((entry.position, messages));
    }

    fn mismatch(&self, commit: &CommitRecord) -> Option<&'static str> {
        if commit.batch != self.batch {
            return Some("another batch is committed");
        }
        if u64::from(commit.parts) != self.parts.len() as u64 {
            return Some("parts are missing");
        }
        if u64::from(commit.count) != self.count || commit.bytes != self.bytes {
            return Some("messages are missing");
        }
        (commit.checksum != self.checksum).then_some("the checksum does not match")
    }
}

/// What an entry made of the chain.
#[derive(Debug, PartialEq, Eq)]
pub enum Assembled {
    /// More parts are to come.
    Waiting,
    /// The part belongs to nothing, or the commit to a chain that was dropped.
    Dropped,
    /// The commit does not fit its parts; all of it is gone.
    Damaged(&'static str),
    /// All messages of the batch, in order.
    Whole(Vec<AssembledPart>),
}

/// Takes a part or a commit.
pub fn assemble(open: &mut Option<Assembly>, entry: &Committed, operation: Operation) -> Assembled {
    match operation {
        Operation::Part {
            batch,
            index: 0,
            messages,
        } => {
            let mut assembly = Assembly {
                batch,
                term: entry.term,
                first_index: entry.index,
                parts: Vec::new(),
                count: 0,
                bytes: 0,
                checksum: 0,
            };
            assembly.add(entry, messages);
            *open = Some(assembly);
            Assembled::Waiting
        }
        Operation::Part {
            batch,
            index,
            messages,
        } => {
            let fits = open.as_ref().is_some_and(|assembly| {
                assembly.batch == batch && assembly.parts.len() as u64 == u64::from(index)
            });
            match open.as_mut().filter(|_| fits) {
                Some(assembly) => {
                    assembly.add(entry, messages);
                    Assembled::Waiting
                }
                None => {
                    *open = None;
                    Assembled::Dropped
                }
            }
        }
        Operation::Commit(commit) => {
            let Some(assembly) = open.take() else {
                return Assembled::Dropped;
            };
            match assembly.mismatch(&commit) {
                Some(reason) => Assembled::Damaged(reason),
                None => Assembled::Whole(assembly.parts),
            }
        }
        _ => {
            *open = None;
            Assembled::Dropped
        }
    }
}
