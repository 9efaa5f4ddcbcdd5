//! Reading the index back: from the last index block of every segment to the first, then the
//! deleted ranges on top. A segment whose blocks are damaged is read whole, and what checks in it
//! is kept. The index is built in steps, segment by segment, while later ones are still read.

use super::index::{Deleted, Index, Row};
use super::io::{Purpose, Source};
use super::salvage::{Salvaged, salvage};
use super::segment::Segment;
use super::segment::index_block::{BlockPlace, BlockRows, IndexBlock, IndexedMessage};
use super::segment::manifest::{Deletes, ManifestContent, deletes_name, read_deletes};
use super::segment::pack::{self, Content};
use super::segment::record::{self, segment_name};
use super::{Lookup, Manifest, ManifestError, StoreEvent, StoreSettings, StreamStore};
use crate::disk::{DiskError, DiskOperation, DiskReply};
use crate::seal::Keys;
use bytes::Bytes;
use std::collections::BTreeMap;
use twox_hash::XxHash3_64;

/// Index blocks are read from the end in windows of this size.
const WINDOW_BYTES: u64 = 256 << 10;
/// A read that fails while loading is tried so often before what it would show counts as lost.
const MAX_ATTEMPTS: u8 = 3;
/// Segments that are read or wait to be taken into the index at the same time.
const MAX_CHAINS: usize = 8;
/// Messages taken into the index in one step.
const BUILD_STEP: usize = 2048;

/// An index that is not in memory yet.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) content: ManifestContent,
    started: bool,
    /// `None` while the file is read; the inner one when it is damaged.
    deleted: Option<Option<Deleted>>,
    /// Segments to begin with, by first sequence.
    waiting: Vec<u64>,
    /// Failed reads of the file of deleted ranges.
    attempts: u8,
    /// By first sequence; all before the first of them are in the index.
    chains: BTreeMap<u64, Chain>,
    index: Index,
    /// The segment that is being taken in.
    current: Option<Current>,
    /// The last message taken in.
    at: u64,
}

/// A segment on its way into the index.
#[derive(Debug)]
struct Current {
    segment: u64,
    messages: Messages,
}

#[derive(Debug)]
enum Messages {
    Blocks {
        /// Last first.
        left: Vec<IndexBlock>,
        rows: Option<BlockRows>,
        /// Numbers in the index of the subjects of the block.
        subjects: Vec<Option<u32>>,
    },
    Salvaged(std::vec::IntoIter<IndexedMessage>),
}

impl Messages {
    /// The next message, and the length of its subject. `wanted` is asked before a subject is made.
    fn next(
        &mut self,
        index: &mut Index,
        wanted: impl Fn(u64) -> bool,
    ) -> Option<Option<(u64, Row, usize)>> {
        match self {
            Self::Salvaged(messages) => {
                let message = messages.next()?;
                if !wanted(message.sequence) {
                    return Some(None);
                }
                let row = Row {
                    subject: index.subjects.number(&message.subject),
                    time_ns: message.time_ns,
                    length: message.length,
                    location: message.offset,
                };
                Some(Some((message.sequence, row, message.subject.len())))
            }
            Self::Blocks {
                left,
                rows,
                subjects,
            } => loop {
                let Some(block) = rows else {
                    let next = left.pop()?.rows();
                    subjects.clear();
                    subjects.resize(next.subjects(), None);
                    *rows = Some(next);
                    continue;
                };
                let Some(message) = block.next() else {
                    *rows = None;
                    continue;
                };
                if !wanted(message.sequence) {
                    return Some(None);
                }
                let name = block.subject(message.subject)?;
                let known = subjects.get_mut(message.subject)?;
                let subject = *known.get_or_insert_with(|| index.subjects.number(name));
                let row = Row {
                    subject,
                    time_ns: message.time_ns,
                    length: message.length,
                    location: message.offset,
                };
                return Some(Some((message.sequence, row, name.len())));
            },
        }
    }
}

/// The blocks of one segment.
#[derive(Debug)]
struct Chain {
    segment: Segment,
    next: BlockPlace,
    /// Last first.
    blocks: Vec<IndexBlock>,
    salvaged: Option<Salvaged>,
    /// Failed reads of the whole segment.
    attempts: u8,
    done: bool,
}

impl Chain {
    /// Takes blocks out of a window; tells where to read next. `Err`: the chain is broken.
    fn follow(
        &mut self,
        start: u64,
        window: &Bytes,
        keys: &Keys,
    ) -> Result<Option<(u64, u64)>, ()> {
        let mut progress = false;
        loop {
            if self.next.length == 0 {
                self.done = true;
                return Ok(None);
            }
            let (offset, length) = (u64::from(self.next.offset), u64::from(self.next.length));
            let end = offset + length;
            if offset < start || end > start + window.len() as u64 {
                if !progress {
                    return Err(());
                }
                return Ok(Some(window_before(end, length, start - offset.min(start))));
            }
            let from = (offset - start) as usize;
            // A copy: the window around a block is many times as large.
            let block = Bytes::copy_from_slice(&window.slice(from..from + length as usize));
            let block = open_block(&self.segment, &block, keys).ok_or(())?;
            let before = block.before;
            let ascending = before.length == 0 || before.offset < self.next.offset;
            if block.chain != self.next.chain || !ascending {
                return Err(());
            }
            self.next = before;
            self.blocks.push(block);
            progress = true;
        }
    }

    /// Where its packs are, and how long.
    fn packs(&self) -> Vec<(u32, u32)> {
        match &self.salvaged {
            Some(salvaged) => salvaged.packs.clone(),
            None => self.blocks.iter().flat_map(IndexBlock::packs).collect(),
        }
    }

    /// All messages of the segment, ascending.
    fn messages(self) -> Messages {
        match self.salvaged {
            Some(salvaged) => Messages::Salvaged(salvaged.messages.into_iter()),
            None => Messages::Blocks {
                left: self.blocks,
                rows: None,
                subjects: Vec::new(),
            },
        }
    }
}

/// What to read to see the block that ends at `end`: with it those before, unless the distance
/// to the block behind it says that only records lie there.
fn window_before(end: u64, length: u64, distance: u64) -> (u64, u64) {
    let wanted = if distance > WINDOW_BYTES {
        length
    } else {
        WINDOW_BYTES.max(length)
    };
    let start = end.saturating_sub(wanted);
    (start, end - start)
}

impl StreamStore {
    /// The store as a checkpoint record describes it. Costs nothing that grows with the data; the
    /// index is read by [`Self::ensure_loaded`].
    pub fn from_manifest(settings: StoreSettings, manifest: &Bytes) -> Result<Self, ManifestError> {
        let content = ManifestContent::decode(manifest)?;
        let mut store = Self::new(settings);
        store.manifests = content.number;
        store.next_segment = content.next_segment;
        store.segments = content.segments.clone();
        store.take_marks();
        store.deletes = Some(content.deletes.clone());
        store.flushed_through = content.state.last_sequence;
        let deleted = match &content.deletes {
            Deletes::Inline(bytes) => Some(read_deletes(bytes)),
            Deletes::File { .. } => None,
        };
        let waiting = content.segments.keys().rev().copied().collect();
        let (attempts, chains) = (0, BTreeMap::new());
        store.load = Some(Box::new(Load {
            content,
            started: false,
            deleted,
            waiting,
            attempts,
            chains,
            index: Index::new(true),
            current: None,
            at: 0,
        }));
        Ok(store)
    }

    /// Reads the index if it is not in memory yet. While [`Self::is_building`], every call takes a
    /// step.
    pub fn ensure_loaded(&mut self) -> Lookup<()> {
        let Some(load) = &mut self.load else {
            return Lookup::Ready(());
        };
        if !load.started {
            load.started = true;
            self.ask_for_deletes();
        }
        self.advance_load();
        if self.load.is_none() {
            Lookup::Ready(())
        } else {
            Lookup::Loading
        }
    }

    fn ask_for_deletes(&mut self) {
        let Some(load) = &self.load else {
            return;
        };
        if let Deletes::File { number, length, .. } = load.content.deletes {
            let file = self.io.new_file();
            let path = self.io.path(&deletes_name(number));
            self.io
                .ask(DiskOperation::Open { file, path }, Purpose::Nothing);
            let offset = 0;
            self.io.ask(
                DiskOperation::Read {
                    file,
                    offset,
                    length,
                },
                Purpose::LoadDeletes,
            );
            self.io.ask(DiskOperation::Close { file }, Purpose::Nothing);
        }
    }

    /// Whether something that was read waits to be taken into the index.
    #[must_use]
    pub fn is_building(&self) -> bool {
        self.load.as_ref().is_some_and(|load| load.is_building())
    }

    /// The manifest that the store was made from, while its index is not in memory.
    #[must_use]
    pub fn unread_manifest(&self) -> Option<Manifest> {
        let content = &self.load.as_ref()?.content;
        Some(Manifest {
            number: content.number,
            bytes: Bytes::from(content.encode()),
        })
    }

    /// Whether the index is in memory.
    #[must_use]
    pub const fn is_loaded(&self) -> bool {
        self.load.is_none()
    }

    /// Takes the file of deleted ranges.
    pub(super) fn deletes_read(&mut self, result: Result<DiskReply, DiskError>) {
        let Some(load) = &mut self.load else {
            return;
        };
        let Deletes::File {
            number,
            length,
            checksum,
        } = load.content.deletes
        else {
            return;
        };
        if result.is_err() && load.attempts < MAX_ATTEMPTS {
            load.attempts += 1;
            self.ask_for_deletes();
            return;
        }
        let good = match result {
            Ok(DiskReply::Data(data)) => Some(data).filter(|data| {
                data.len() == length as usize && XxHash3_64::oneshot(data) == checksum
            }),
            Ok(_) | Err(_) => None,
        };
        let deleted = good.and_then(|data| read_deletes(&data));
        if deleted.is_none() {
            let place = self.io.path(&deletes_name(number));
            self.events.push(StoreEvent::DeletesDamaged { place });
        }
        load.deleted = Some(deleted);
        self.advance_load();
    }

    /// Takes the end of a chain, or of the next part of it.
    pub(super) fn chain_read(
        &mut self,
        key: u64,
        start: u64,
        result: Result<DiskReply, DiskError>,
    ) {
        let Some(chain) = self
            .load
            .as_mut()
            .and_then(|load| load.chains.get_mut(&key))
        else {
            return;
        };
        let window = match result {
            Ok(DiskReply::Data(data)) => data,
            Ok(_) | Err(_) => Bytes::new(),
        };
        let source = Source::Segment(chain.segment.id);
        match chain.follow(start, &window, &self.settings.packing.keys) {
            Ok(None) => self.advance_load(),
            Ok(Some((start, length))) => {
                let purpose = Purpose::LoadChain {
                    segment: key,
                    start,
                };
                self.io.read(source, start, length as u32, purpose);
            }
            Err(()) => {
                let length = chain.segment.length;
                self.io
                    .read(source, 0, length, Purpose::LoadWhole { segment: key });
            }
        }
    }

    /// Takes a whole segment whose blocks are damaged.
    pub(super) fn whole_read(&mut self, key: u64, result: Result<DiskReply, DiskError>) {
        let Some(chain) = self
            .load
            .as_mut()
            .and_then(|load| load.chains.get_mut(&key))
        else {
            return;
        };
        let segment = chain.segment.id;
        if result.is_err() && chain.attempts < MAX_ATTEMPTS {
            chain.attempts += 1;
            let length = chain.segment.length;
            self.io.close_segment(segment);
            let purpose = Purpose::LoadWhole { segment: key };
            self.io.read(Source::Segment(segment), 0, length, purpose);
            return;
        }
        self.kept.insert(segment_name(segment));
        let data = match result {
            Ok(DiskReply::Data(data)) => data,
            Ok(_) | Err(_) => Bytes::new(),
        };
        chain.salvaged = Some(salvage(&data, &chain.segment, &self.settings.packing.keys));
        chain.done = true;
        self.advance_load();
    }

    fn advance_load(&mut self) {
        let Some(load) = &mut self.load else {
            return;
        };
        while load.chains.len() < MAX_CHAINS
            && let Some(key) = load.waiting.pop()
        {
            let Some(segment) = load.content.segments.get(&key).cloned() else {
                continue;
            };
            let end = u64::from(segment.last_block.offset) + u64::from(segment.last_block.length);
            let (start, length) = window_before(end, u64::from(segment.last_block.length), 0);
            let purpose = Purpose::LoadChain {
                segment: key,
                start,
            };
            self.io
                .read(Source::Segment(segment.id), start, length as u32, purpose);
            let next = segment.last_block;
            let (blocks, salvaged, attempts, done) = (Vec::new(), None, 0, false);
            load.chains.insert(
                key,
                Chain {
                    segment,
                    next,
                    blocks,
                    salvaged,
                    attempts,
                    done,
                },
            );
        }
        if load.deleted.is_some() {
            self.build_index();
        }
    }

    /// Takes a step's messages into the index, and ends the loading after the last.
    fn build_index(&mut self) {
        let Some(load) = &mut self.load else {
            return;
        };
        let state = load.content.state;
        let known = load.deleted.as_ref().and_then(Option::as_ref);
        for _ in 0..BUILD_STEP {
            let Some(current) = &mut load.current else {
                let Some(chain) = load.chains.first_entry() else {
                    break;
                };
                if !chain.get().done {
                    return;
                }
                let (segment, chain) = chain.remove_entry();
                let id = chain.segment.id;
                let packs = chain.packs().into_iter();
                self.packs
                    .extend(packs.map(|(offset, length)| ((id, offset), length)));
                let messages = chain.messages();
                load.current = Some(Current { segment, messages });
                continue;
            };
            let at = load.at;
            let wanted = |sequence: u64| {
                (state.first_sequence..=state.last_sequence).contains(&sequence)
                    && sequence > at
                    && !known.is_some_and(|deleted| deleted.contains(sequence))
            };
            match current.messages.next(&mut load.index, wanted) {
                None => load.current = None,
                Some(None) => {}
                Some(Some((sequence, row, subject_bytes))) => {
                    load.at = sequence;
                    load.index.load(sequence, &row, subject_bytes);
                    if let Some(segment) = self.segments.get_mut(&current.segment) {
                        segment.live_messages += 1;
                        segment.live_bytes +=
                            record::record_length(subject_bytes, row.length.bytes());
                    }
                }
            }
        }
        if load.current.is_none() && load.chains.is_empty() && load.waiting.is_empty() {
            self.end_load();
        }
    }

    fn end_load(&mut self) {
        let Some(load) = self.load.take() else {
            return;
        };
        let mut index = load.index;
        for (first, last) in index.finish_load(&load.content.state, load.deleted.flatten()) {
            self.events.push(StoreEvent::Lost { first, last });
            self.is_incomplete = true;
        }
        self.index = index;
    }
}

impl Load {
    /// Messages in the index so far.
    #[cfg(test)]
    pub(super) fn built(&self) -> u64 {
        self.index.state().messages
    }

    /// Something needs the index.
    pub(super) const fn is_started(&self) -> bool {
        self.started
    }

    fn is_building(&self) -> bool {
        let next = self.chains.first_key_value();
        let ready = self.current.is_some() || next.is_none_or(|(_, chain)| chain.done);
        self.started && ready && self.deleted.is_some()
    }
}

/// An index block as it stands in its segment.
fn open_block(segment: &Segment, block: &Bytes, keys: &Keys) -> Option<IndexBlock> {
    if !segment.packed {
        return IndexBlock::read(block);
    }
    let (content, plain) = pack::unpack(block, segment.seed, keys)?;
    (content == Content::Index)
        .then(|| IndexBlock::read(&plain))
        .flatten()
}
