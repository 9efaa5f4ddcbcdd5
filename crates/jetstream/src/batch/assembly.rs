//! The parts of a large batch on their way to one another: the apply side of a chain.
//!
//! Parts hold no sequence and are seen by no reader. Anything but the next part drops the chain:
//! another entry, another batch, a part out of order, a new term. Only a commit entry that fits
//! count, bytes and checksum of all parts makes them messages, all in one step (hard-parts 6).

use bytes::Bytes;
use millrace_store::stream::body_checksum;

use crate::entry::{CommitRecord, HEAD_LENGTH, MessagePlace, Operation, part_checksum};
use crate::ids::JournalPosition;
use crate::publish::header_value;
use crate::stream::apply::Committed;

/// Bytes of an open chain that are kept in memory; what comes beyond stays in the journal.
const CHAIN_MEMORY_BYTES: u64 = 8 * 1024 * 1024;

/// What is kept of a message whose headers and payload stay in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub subject: Bytes,
    /// Empty: none.
    pub message_id: Bytes,
    /// Of headers and payload, see `millrace_store`.
    pub checksum: u64,
    /// Its note; empty: none.
    pub note: Bytes,
}

impl Reference {
    fn new(place: &MessagePlace, data: &[u8]) -> Self {
        let parts = place.parts(data);
        let message_id = header_value(parts.headers, b"Nats-Msg-Id").unwrap_or_default();
        let body = data.get(place.body()..place.end()).unwrap_or_default();
        Self {
            subject: Bytes::copy_from_slice(parts.subject),
            message_id: Bytes::copy_from_slice(message_id),
            checksum: body_checksum(body),
            note: Bytes::copy_from_slice(parts.note),
        }
    }
}

/// The messages of one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssembledPart {
    /// Where its entry lies in the journal.
    pub position: Option<JournalPosition>,
    /// Its entry, if it is kept in memory; empty otherwise.
    pub data: Bytes,
    pub messages: Vec<MessagePlace>,
    /// One for each message, if the entry is not kept.
    pub references: Vec<Reference>,
}

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

    fn add(&mut self, entry: &Committed, messages: Vec<MessagePlace>) {
        self.count += messages.len() as u64;
        self.bytes += entry.data.len().saturating_sub(HEAD_LENGTH) as u64;
        self.checksum = part_checksum(self.checksum, &entry.data);
        let keep = self.bytes <= CHAIN_MEMORY_BYTES || entry.position.is_none();
        let references = messages.iter().filter(|_| !keep);
        let references = references.map(|place| Reference::new(place, &entry.data));
        self.parts.push(AssembledPart {
            position: entry.position,
            references: references.collect(),
            data: if keep {
                entry.data.clone()
            } else {
                Bytes::new()
            },
            messages,
        });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{
        Decision, EntryHead, MessageParts, StreamEntryWriter, decode_head, part_front, put_message,
    };

    /// A chain as its proposer would log it: part entries and the commit.
    fn chain(batch: u64, parts: &[&[&str]]) -> Vec<Bytes> {
        let mut writer = StreamEntryWriter::default();
        let (mut entries, mut count, mut bytes, mut checksum) = (Vec::new(), 0, 0, 0);
        for (index, payloads) in parts.iter().enumerate() {
            let head = EntryHead {
                origin: 1,
                number: index as u64,
            };
            let part_count = payloads.len() as u32;
            count += part_count;
            let mut data = part_front(head, batch, index as u32, part_count).to_vec();
            for payload in *payloads {
                let parts = MessageParts {
                    subject: b"s",
                    headers: b"",
                    payload: payload.as_bytes(),
                    note: b"",
                };
                put_message(&mut data, Decision::default(), parts);
            }
            let data = Bytes::from(data);
            bytes += (data.len() - HEAD_LENGTH) as u64;
            checksum = part_checksum(checksum, &data);
            entries.push(data);
        }
        writer.push(&Operation::Commit(CommitRecord {
            batch,
            parts: parts.len() as u32,
            count,
            first_sequence: 1,
            bytes,
            checksum,
        }));
        entries.push(writer.finish(EntryHead::default()));
        entries
    }

    /// Hands entries to an assembly, each at the next index, and gives the last outcome.
    fn play(open: &mut Option<Assembly>, entries: &[Bytes]) -> Assembled {
        let mut last = Assembled::Dropped;
        for (place, data) in entries.iter().enumerate() {
            let position = Some(JournalPosition { file: 1, offset: 0 });
            let entry = Committed {
                index: place as u64 + 5,
                term: 1,
                data: data.clone(),
                position,
            };
            let (_, mut operations) = decode_head(data).expect("just written");
            let operation = operations.next().expect("one").expect("just written");
            last = assemble(open, &entry, operation);
        }
        last
    }

    fn payloads(assembled: &Assembled) -> Vec<String> {
        let Assembled::Whole(parts) = assembled else {
            return Vec::new();
        };
        let messages = |part: &AssembledPart| -> Vec<String> {
            let text = |place: &MessagePlace| {
                String::from_utf8_lossy(place.parts(&part.data).payload).into_owned()
            };
            part.messages.iter().map(text).collect()
        };
        parts.iter().flat_map(messages).collect()
    }

    #[test]
    fn parts_become_messages_with_their_commit_only() {
        let entries = chain(7, &[&["a", "b"], &["c"]]);
        let mut open = None;
        assert_eq!(play(&mut open, &entries[..2]), Assembled::Waiting);
        assert_eq!(open.as_ref().map(Assembly::first_index), Some(5));
        assert_eq!(payloads(&play(&mut open, &entries[2..])), ["a", "b", "c"]);
        assert!(open.is_none());
    }

    #[test]
    fn a_chain_without_one_of_its_entries_is_dropped() {
        for missing in 0..3 {
            let mut entries = chain(7, &[&["a"], &["b"], &["c"]]);
            entries.remove(missing);
            let mut open = None;
            let outcome = play(&mut open, &entries);
            let dropped = matches!(outcome, Assembled::Dropped | Assembled::Damaged(_));
            assert!(dropped, "without part {missing}: {outcome:?}");
            assert!(open.is_none());
        }
    }

    #[test]
    fn a_new_chain_replaces_one_that_was_left_open() {
        let abandoned = chain(7, &[&["x"], &["y"]]);
        for whole in [chain(8, &[&["a"]]), chain(7, &[&["a"], &["b"]])] {
            let mut open = None;
            play(&mut open, &abandoned[..1]);
            assert!(payloads(&play(&mut open, &whole)).starts_with(&["a".to_owned()]));
        }
    }

    #[test]
    fn parts_of_another_batch_or_out_of_order_drop_the_chain() {
        let (mine, other) = (chain(7, &[&["a"], &["b"]]), chain(8, &[&["x"], &["y"]]));
        let mut open = None;
        let mixed = [mine[0].clone(), other[1].clone(), mine[2].clone()];
        assert_eq!(play(&mut open, &mixed), Assembled::Dropped);
        let repeated = [
            mine[0].clone(),
            mine[1].clone(),
            mine[1].clone(),
            mine[2].clone(),
        ];
        assert_eq!(play(&mut open, &repeated), Assembled::Dropped);
        let foreign = [mine[0].clone(), mine[1].clone(), other[2].clone()];
        assert!(matches!(play(&mut open, &foreign), Assembled::Damaged(_)));
        assert!(open.is_none());
    }

    #[test]
    fn a_changed_byte_in_any_part_drops_all_of_it() {
        let mut entries = chain(7, &[&["a", "b"], &["c"]]);
        let mut bytes = entries[0].to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        entries[0] = Bytes::from(bytes);
        let mut open = None;
        let damaged = Assembled::Damaged("the checksum does not match");
        assert_eq!(play(&mut open, &entries), damaged);
    }

    #[test]
    fn beyond_its_memory_a_chain_holds_references() {
        let large = "x".repeat(3 << 20);
        let entries = chain(7, &[&[&large], &[&large], &[&large], &[&large]]);
        let mut open = None;
        let Assembled::Whole(parts) = play(&mut open, &entries) else {
            panic!("whole")
        };
        let references: Vec<&Reference> = parts.iter().flat_map(|part| &part.references).collect();
        assert_eq!(references.len(), 2);
        assert_eq!(parts[3].messages[0].payload_length, 3 << 20);
        assert_eq!(references[0].checksum, body_checksum(large.as_bytes()));
        assert_eq!(
            (&parts[3].data[..], &references[1].subject[..]),
            (&b""[..], &b"s"[..])
        );
    }
}
