//! Staged messages of batches that are not committed yet: in memory within a budget of the whole
//! server, beyond it in scratch files, read back in parts when the batch commits.
//!
//! A part is one buffer, written to its file, read back and handed out as it is: a message is
//! copied once, on its way in. Nothing here lasts: scratch files are not synced and are removed
//! after a restart. What a staged message says, and when a batch expires, belongs to the stream;
//! that publishers are held back while [`Staging::is_congested`], to whoever can do that.

use crate::disk::{
    DiskCompletion, DiskError, DiskOperation, DiskReply, DiskRequest, FileId, Lane, Token,
};
use crate::ids::IdSpace;
use crate::seal::{FileKey, Keys};
use crate::stream::Lookup;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use twox_hash::XxHash3_64;

pub use crate::staged_part::StagedPart;

/// A part holds at most so many bytes of messages, unless a single message is larger.
pub const DEFAULT_PART_BYTES: u64 = 1 << 20;
/// Default budget of one server for staged bytes in memory.
pub const DEFAULT_STAGING_BYTES: u64 = 64 << 20;
/// Room of a part at first; it doubles.
const PART_BYTES_MIN: usize = 1 << 10;
/// Scratch writes that are asked of the disk at once: reads of others must not queue behind all
/// that waits to be written.
const WRITES_MAX: usize = 4;

/// A staged batch. Unique per server run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StagedId(pub u64);

/// Why staged messages cannot be had. The batch must be rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StagingError {
    #[error("no such staged batch or part")]
    Unknown,
    #[error("staging file: {0}")]
    Disk(String),
    #[error("staging file is damaged")]
    Damaged,
}

/// All staged batches of a server.
#[derive(Debug)]
pub struct Staging {
    budget_bytes: u64,
    part_bytes: u64,
    next: u64,
    batches: BTreeMap<StagedId, Batch>,
    ids: IdSpace,
    out: Vec<DiskRequest>,
    pending: BTreeMap<Token, Purpose>,
    /// Directories whose old files are being removed: nothing is created there yet.
    cleaning: BTreeSet<String>,
    memory_bytes: u64,
    /// Of `memory_bytes`, those that are being written, or wait for it.
    leaving_bytes: u64,
    /// Parts that wait for their write to be asked for.
    to_write: VecDeque<(StagedId, usize)>,
    writing: usize,
    keys: Keys,
}

#[derive(Debug)]
struct Batch {
    directory: String,
    path: String,
    /// Free bytes at the front of every part.
    front: usize,
    file: Option<FileId>,
    file_length: u64,
    /// What its scratch file is sealed with.
    key: Option<FileKey>,
    /// A write failed: what is in memory stays there.
    keep_in_memory: bool,
    messages: u64,
    bytes: u64,
    parts: Vec<Part>,
}

/// Where the bytes of a part are, besides its file.
#[derive(Debug)]
enum Held {
    Nowhere,
    Here(Vec<u8>),
    /// Shared with the write that is under way.
    Leaving(Bytes),
    /// The caller has them.
    Lent,
}

#[derive(Debug)]
struct Part {
    /// Of its messages and the front.
    length: u64,
    /// What it takes of the budget while it is in memory.
    memory_bytes: u64,
    ends: Vec<u32>,
    /// No message is added any more.
    closed: bool,
    held: Held,
    spilled: Option<Spilled>,
    reading: bool,
    error: Option<StagingError>,
}

#[derive(Clone, Copy, Debug)]
struct Spilled {
    offset: u64,
    length: u32,
    checksum: u64,
}

#[derive(Debug)]
enum Purpose {
    Nothing,
    Clean(String),
    Write(StagedId, usize),
    Read(StagedId, usize),
}

impl Staging {
    /// Nothing staged yet. `ids` gives tokens: completions of its space come to [`Self::complete`].
    #[must_use]
    pub fn new(ids: IdSpace, budget_bytes: u64) -> Self {
        Self {
            budget_bytes,
            part_bytes: DEFAULT_PART_BYTES,
            next: 0,
            batches: BTreeMap::new(),
            ids,
            out: Vec::new(),
            pending: BTreeMap::new(),
            cleaning: BTreeSet::new(),
            memory_bytes: 0,
            leaving_bytes: 0,
            to_write: VecDeque::new(),
            writing: 0,
            keys: Keys::default(),
        }
    }

    /// Parts of another size, for batches opened from now on.
    #[must_use]
    pub fn with_part_bytes(mut self, part_bytes: u64) -> Self {
        self.part_bytes = part_bytes;
        self
    }

    /// Scratch files are sealed, each with a key that only this run can make.
    #[must_use]
    pub fn with_keys(mut self, keys: Keys) -> Self {
        self.keys = keys;
        self
    }

    /// Bytes of a part: a batch that has no more needs no chain.
    #[must_use]
    pub const fn part_bytes(&self) -> u64 {
        self.part_bytes
    }

    /// Removes scratch files that an earlier run left in `directory` (for example
    /// `streams/17/batches`). Once per stream at start.
    pub fn clean(&mut self, directory: &str) {
        if self.cleaning.insert(directory.to_owned()) {
            let path = directory.to_owned();
            self.ask(
                DiskOperation::RemoveTree { path },
                Purpose::Clean(directory.to_owned()),
            );
        }
    }

    /// Opens a batch. `directory` is where its scratch file would go, `batch_id` names it (hashed).
    /// Every part has `front` free bytes before its messages.
    pub fn open(&mut self, directory: &str, batch_id: &[u8], front: usize) -> StagedId {
        self.next += 1;
        let id = StagedId(self.next);
        // The number keeps a batch that begins again apart from the one before it.
        let hash = XxHash3_64::oneshot(batch_id);
        let path = format!("{directory}/{hash:016x}.{:x}", self.next);
        let batch = Batch {
            directory: directory.to_owned(),
            path,
            front,
            file: None,
            file_length: 0,
            key: self.keys.scratch(),
            keep_in_memory: false,
            messages: 0,
            bytes: 0,
            parts: Vec::new(),
        };
        self.batches.insert(id, batch);
        id
    }

    /// Adds a message that consists of `pieces` (any encoding; given back as it is).
    pub fn push(&mut self, id: StagedId, pieces: &[&[u8]]) {
        let Some(batch) = self.batches.get_mut(&id) else {
            return;
        };
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        batch.messages += 1;
        batch.bytes += length as u64;
        let front = batch.front as u64;
        let takes = |part: &Part| {
            let fits = part.length - front + length as u64 <= self.part_bytes;
            fits && !part.closed && matches!(part.held, Held::Here(_))
        };
        if !batch.parts.last().is_some_and(takes) {
            if let Some(full) = batch.parts.last_mut() {
                full.closed = true;
            }
            batch.parts.push(Part::new(batch.front, length));
        }
        if let Some(part) = batch.parts.last_mut() {
            let before = part.memory_bytes;
            part.push(pieces, length);
            self.memory_bytes = self.memory_bytes - before + part.memory_bytes;
        }
        self.spill(id);
    }

    /// Messages and bytes staged in a batch.
    #[must_use]
    pub fn size(&self, id: StagedId) -> (u64, u64) {
        self.batches
            .get(&id)
            .map_or((0, 0), |batch| (batch.messages, batch.bytes))
    }

    /// How many parts a batch has. Parts keep their numbers; only the last one grows.
    #[must_use]
    pub fn part_count(&self, id: StagedId) -> usize {
        self.batches.get(&id).map_or(0, |batch| batch.parts.len())
    }

    /// Lends one part, to be given back with [`Self::give_back`]. At commit ask for 0, 1, 2 … and be
    /// done with each before asking for the next: only one part of a scratch file is kept in memory.
    pub fn lend(&mut self, id: StagedId, part: usize) -> Lookup<Result<StagedPart, StagingError>> {
        self.forget_others(id, part);
        let Some(batch) = self.batches.get_mut(&id) else {
            return Lookup::Ready(Err(StagingError::Unknown));
        };
        let (file, front) = (batch.file, batch.front);
        let Some(wanted) = batch.parts.get_mut(part) else {
            return Lookup::Ready(Err(StagingError::Unknown));
        };
        wanted.closed = true;
        match std::mem::replace(&mut wanted.held, Held::Lent) {
            Held::Here(bytes) => return Lookup::Ready(Ok(wanted.lent(bytes, front))),
            Held::Leaving(shared) => {
                // The write goes on with bytes of its own.
                wanted.held = Held::Leaving(shared.clone());
                let bytes = shared.to_vec();
                return Lookup::Ready(Ok(wanted.lent(bytes, front)));
            }
            other => wanted.held = other,
        }
        if let Some(error) = &wanted.error {
            return Lookup::Ready(Err(error.clone()));
        }
        let (Some(spilled), Some(file)) = (wanted.spilled, file) else {
            return Lookup::Ready(Err(StagingError::Unknown));
        };
        if !wanted.reading {
            wanted.reading = true;
            let (offset, length) = (spilled.offset, spilled.length);
            let read = DiskOperation::Read {
                file,
                offset,
                length,
            };
            self.ask(read, Purpose::Read(id, part));
        }
        Lookup::Loading
    }

    /// Takes back what [`Self::lend`] gave, as it was but for its front.
    pub fn give_back(&mut self, id: StagedId, part: usize, lent: StagedPart) {
        let found = self.batches.get_mut(&id);
        if let Some(part) = found.and_then(|batch| batch.parts.get_mut(part)) {
            part.ends = lent.ends;
            if matches!(part.held, Held::Lent) {
                part.held = Held::Here(lent.bytes);
            }
        }
    }

    /// Tells that a lent part is the caller's for good: the batch is done with it.
    pub fn give_up(&mut self, id: StagedId, part: usize) {
        let found = self.batches.get_mut(&id);
        if let Some(part) = found.and_then(|batch| batch.parts.get_mut(part))
            && matches!(part.held, Held::Lent)
        {
            part.held = Held::Nowhere;
            self.memory_bytes -= std::mem::take(&mut part.memory_bytes);
        }
    }

    /// Forgets a batch and removes its scratch file. An unknown id is ignored.
    pub fn remove(&mut self, id: StagedId) {
        let Some(batch) = self.batches.remove(&id) else {
            return;
        };
        for part in &batch.parts {
            self.memory_bytes -= part.memory_bytes;
            if matches!(part.held, Held::Leaving(_)) {
                self.leaving_bytes -= part.memory_bytes;
            }
        }
        if let Some(file) = batch.file {
            self.to_write.retain(|(waiting, _)| *waiting != id);
            self.ask(DiskOperation::Close { file }, Purpose::Nothing);
            self.ask(DiskOperation::Remove { path: batch.path }, Purpose::Nothing);
        }
    }

    /// Bytes held in memory, of all batches.
    #[must_use]
    pub const fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// More is in memory than the budget allows: whoever adds more should wait until
    /// [`Self::is_relieved`].
    #[must_use]
    pub const fn is_congested(&self) -> bool {
        self.memory_bytes > self.budget_bytes
    }

    /// There is room in the budget again.
    #[must_use]
    pub const fn is_relieved(&self) -> bool {
        self.memory_bytes <= self.budget_bytes - self.budget_bytes / 8
    }

    /// Nothing is to be asked of the disk: [`Self::poll`] would collect nothing.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.out.is_empty() && self.to_write.is_empty()
    }

    /// Collects what is to be asked of the disk. Call after every other call.
    pub fn poll(&mut self, out: &mut Vec<DiskRequest>) {
        while self.writing < WRITES_MAX
            && let Some((id, part)) = self.to_write.pop_front()
        {
            self.write(id, part);
        }
        out.append(&mut self.out);
    }

    /// Takes the end of a request of this space. True: ask again whatever was loading.
    pub fn complete(&mut self, completion: DiskCompletion) -> bool {
        match self.pending.remove(&completion.token) {
            Some(Purpose::Clean(directory)) => {
                self.cleaning.remove(&directory);
                false
            }
            Some(Purpose::Write(id, part)) => {
                self.writing -= 1;
                self.written(id, part, &completion.result);
                false
            }
            Some(Purpose::Read(id, part)) => {
                self.read(id, part, completion.result);
                true
            }
            Some(Purpose::Nothing) | None => false,
        }
    }

    fn written(&mut self, id: StagedId, part: usize, result: &Result<DiskReply, DiskError>) {
        let Some(batch) = self.batches.get_mut(&id) else {
            return;
        };
        let Some(written) = batch.parts.get_mut(part) else {
            return;
        };
        let Held::Leaving(shared) = std::mem::replace(&mut written.held, Held::Nowhere) else {
            return;
        };
        self.leaving_bytes -= written.memory_bytes;
        if result.is_ok() {
            self.memory_bytes -= std::mem::take(&mut written.memory_bytes);
        } else {
            written.held = Held::Here(Vec::from(shared));
            written.spilled = None;
            batch.keep_in_memory = true;
        }
    }

    fn read(&mut self, id: StagedId, part: usize, result: Result<DiskReply, DiskError>) {
        let Some(batch) = self.batches.get_mut(&id) else {
            return;
        };
        let key = batch.key.clone();
        let Some(wanted) = batch.parts.get_mut(part) else {
            return;
        };
        wanted.reading = false;
        let Some(spilled) = wanted.spilled else {
            return;
        };
        let intact = |data: &[u8]| {
            data.len() == spilled.length as usize && XxHash3_64::oneshot(data) == spilled.checksum
        };
        let opened = result.map(|reply| match reply {
            DiskReply::Data(data) => {
                let mut bytes = Vec::from(data);
                if let Some(key) = key {
                    key.apply(spilled.offset, &mut bytes);
                }
                Some(bytes).filter(|bytes| intact(bytes))
            }
            _ => None,
        });
        match opened {
            Ok(Some(bytes)) => {
                wanted.memory_bytes = bytes.capacity() as u64;
                self.memory_bytes += wanted.memory_bytes;
                wanted.held = Held::Here(bytes);
            }
            Ok(None) => wanted.error = Some(StagingError::Damaged),
            Err(error) => wanted.error = Some(StagingError::Disk(error.to_string())),
        }
    }

    /// Parts that were read back and are not asked for any more leave the memory.
    fn forget_others(&mut self, id: StagedId, part: usize) {
        let Some(batch) = self.batches.get_mut(&id) else {
            return;
        };
        for (number, other) in batch.parts.iter_mut().enumerate() {
            let read_back = other.spilled.is_some() && matches!(other.held, Held::Here(_));
            if number != part && read_back {
                other.held = Held::Nowhere;
                self.memory_bytes -= std::mem::take(&mut other.memory_bytes);
            }
        }
    }

    /// Sends parts to the disk until what stays in memory is well within the budget: of the batch
    /// that grew, or of the one that holds most. The rest of the budget is for what is on its way.
    fn spill(&mut self, grown: StagedId) {
        while self.memory_bytes - self.leaving_bytes > self.budget_bytes - self.budget_bytes / 4 {
            let held = |batch: &Batch| batch.parts.iter().map(Part::can_spill).sum::<u64>();
            let free =
                |batch: &&Batch| !batch.keep_in_memory && !self.cleaning.contains(&batch.directory);
            let own = self.batches.get(&grown).filter(free);
            let own = own
                .filter(|batch| held(batch) >= self.part_bytes / 16)
                .map(|_| grown);
            let most = || {
                let others = self.batches.iter().filter(|(_, batch)| free(batch));
                let (id, batch) = others.max_by_key(|(_, batch)| held(batch))?;
                (held(batch) > 0).then_some(*id)
            };
            let Some(id) = own.or_else(most) else {
                return;
            };
            self.spill_batch(id);
        }
    }

    fn spill_batch(&mut self, id: StagedId) {
        let Some(batch) = self.batches.get_mut(&id) else {
            return;
        };
        let created = batch.file.is_none().then(|| {
            let file = self.ids.file();
            batch.file = Some(file);
            (file, batch.directory.clone(), batch.path.clone())
        });
        for (number, part) in batch.parts.iter_mut().enumerate() {
            if part.can_spill() == 0 {
                continue;
            }
            let Held::Here(bytes) = std::mem::replace(&mut part.held, Held::Nowhere) else {
                continue;
            };
            let bytes = Bytes::from(bytes);
            part.spilled = Some(Spilled {
                offset: batch.file_length,
                length: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
                checksum: XxHash3_64::oneshot(&bytes),
            });
            batch.file_length += bytes.len() as u64;
            part.closed = true;
            part.held = Held::Leaving(bytes);
            self.leaving_bytes += part.memory_bytes;
            self.to_write.push_back((id, number));
        }
        if let Some((file, directory, path)) = created {
            self.ask(
                DiskOperation::CreateDirectory { path: directory },
                Purpose::Nothing,
            );
            let create = DiskOperation::Create {
                file,
                path,
                preallocate: 0,
            };
            self.ask(create, Purpose::Nothing);
        }
    }

    fn write(&mut self, id: StagedId, part: usize) {
        let Some(batch) = self.batches.get(&id) else {
            return;
        };
        let found = batch.parts.get(part);
        let Some((file, spilled, bytes)) = found.and_then(|part| match &part.held {
            Held::Leaving(bytes) => {
                let spilled = part.spilled?;
                Some((batch.file?, spilled, batch.sealed(spilled.offset, bytes)))
            }
            _ => None,
        }) else {
            return;
        };
        let write = DiskOperation::Write {
            file,
            offset: spilled.offset,
            chunks: vec![bytes],
        };
        self.writing += 1;
        self.ask(write, Purpose::Write(id, part));
    }

    fn ask(&mut self, operation: DiskOperation, purpose: Purpose) {
        let token = self.ids.token();
        self.pending.insert(token, purpose);
        self.out.push(DiskRequest {
            token,
            lane: Lane::Data,
            operation,
        });
    }
}

impl Batch {
    /// Bytes as they stand at `place` of the scratch file. No place is written twice: a part that
    /// could not be written stays in memory.
    fn sealed(&self, place: u64, bytes: &Bytes) -> Bytes {
        let Some(key) = &self.key else {
            return bytes.clone();
        };
        let mut sealed = bytes.to_vec();
        key.apply(place, &mut sealed);
        sealed.into()
    }
}

impl Part {
    /// An empty part that a message of this length goes into.
    fn new(front: usize, length: usize) -> Self {
        let mut bytes = Vec::with_capacity(front + length.max(PART_BYTES_MIN));
        bytes.resize(front, 0);
        Self {
            length: front as u64,
            memory_bytes: 0,
            ends: Vec::new(),
            closed: false,
            held: Held::Here(bytes),
            spilled: None,
            reading: false,
            error: None,
        }
    }

    fn push(&mut self, pieces: &[&[u8]], length: usize) {
        let Held::Here(bytes) = &mut self.held else {
            return;
        };
        let needed = bytes.len() + length;
        if needed > bytes.capacity() {
            let room = (bytes.capacity() * 2)
                .min(DEFAULT_PART_BYTES as usize)
                .max(needed);
            bytes.reserve_exact(room - bytes.len());
        }
        for piece in pieces {
            bytes.extend_from_slice(piece);
        }
        self.ends.push(bytes.len() as u32);
        self.length = bytes.len() as u64;
        self.memory_bytes = bytes.capacity() as u64;
    }

    fn lent(&mut self, bytes: Vec<u8>, front: usize) -> StagedPart {
        StagedPart {
            bytes,
            ends: std::mem::take(&mut self.ends),
            front,
        }
    }

    /// Bytes that a write would take out of memory.
    const fn can_spill(&self) -> u64 {
        if matches!(self.held, Held::Here(_)) && self.spilled.is_none() {
            self.memory_bytes
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Files by path, and what was removed.
    #[derive(Default)]
    struct Disk {
        files: BTreeMap<String, Vec<u8>>,
        open: BTreeMap<FileId, String>,
        removed: Vec<String>,
        full: bool,
        max_read: u32,
    }

    impl Disk {
        fn run(&mut self, staging: &mut Staging) {
            loop {
                let mut requests = Vec::new();
                staging.poll(&mut requests);
                let writes = |request: &&DiskRequest| {
                    matches!(request.operation, DiskOperation::Write { .. })
                };
                assert!(requests.iter().filter(writes).count() <= WRITES_MAX);
                if requests.is_empty() {
                    return;
                }
                for request in requests {
                    let result = self.operate(request.operation);
                    staging.complete(DiskCompletion {
                        token: request.token,
                        result,
                    });
                }
            }
        }

        fn operate(&mut self, operation: DiskOperation) -> Result<DiskReply, DiskError> {
            match operation {
                DiskOperation::Create { file, path, .. } => {
                    self.files.insert(path.clone(), Vec::new());
                    self.open.insert(file, path);
                }
                DiskOperation::Write { .. } if self.full => return Err(DiskError::NoSpace),
                DiskOperation::Write {
                    file,
                    offset,
                    chunks,
                } => {
                    let content = self.files.get_mut(&self.open[&file]).unwrap();
                    content.resize(content.len().max(offset as usize), 0);
                    content.truncate(offset as usize);
                    chunks
                        .iter()
                        .for_each(|chunk| content.extend_from_slice(chunk));
                }
                DiskOperation::Read {
                    file,
                    offset,
                    length,
                } => {
                    self.max_read = self.max_read.max(length);
                    let content = &self.files[&self.open[&file]];
                    let range = offset as usize..offset as usize + length as usize;
                    return Ok(DiskReply::Data(Bytes::copy_from_slice(&content[range])));
                }
                DiskOperation::Remove { path } => {
                    self.files.remove(&path);
                    self.removed.push(path);
                }
                DiskOperation::RemoveTree { path } => {
                    self.files.retain(|name, _| !name.starts_with(&path));
                }
                _ => {}
            }
            Ok(DiskReply::Done)
        }
    }

    const FRONT: usize = 5;

    fn read_all(
        staging: &mut Staging,
        disk: &mut Disk,
        id: StagedId,
    ) -> Result<Vec<Vec<u8>>, StagingError> {
        let mut all = Vec::new();
        for number in 0..staging.part_count(id) {
            let part = loop {
                match staging.lend(id, number) {
                    Lookup::Ready(part) => break part?,
                    Lookup::Loading => disk.run(staging),
                }
            };
            let count = part.ends.len();
            assert!(count == 1 || (part.bytes.len() - FRONT) as u64 <= DEFAULT_PART_BYTES);
            let messages = (0..count).map(|message| part.message(message).unwrap().to_vec());
            all.extend(messages);
            staging.give_back(id, number, part);
        }
        Ok(all)
    }

    proptest! {
        #[test]
        fn batches_come_back_whole_and_in_order_whatever_the_budget(
            pushes in proptest::collection::vec((0u64..4, 0usize..300_000), 1..60),
            budget in 0u64..3_000_000, full: bool, slow: bool,
        ) {
            let mut staging = Staging::new(IdSpace::new(3), budget);
            let mut disk = Disk { full, ..Disk::default() };
            let ids: Vec<_> = (0u64..4).map(|n| staging.open("streams/1/batches", &n.to_le_bytes(), FRONT)).collect();
            let mut expected = vec![Vec::new(); 4];
            for (number, (batch, size)) in pushes.into_iter().enumerate() {
                let message = vec![number as u8; size];
                let (one, other) = message.split_at(size / 3);
                staging.push(ids[batch as usize], &[one, other]);
                expected[batch as usize].push(message);
                if !slow {
                    disk.run(&mut staging);
                    prop_assert!(full || staging.memory_bytes() <= budget);
                }
                prop_assert!(full || staging.leaving_bytes > 0 || !staging.is_congested());
            }
            for (id, expected) in ids.iter().zip(&expected) {
                prop_assert_eq!(&read_all(&mut staging, &mut disk, *id).unwrap(), expected);
                let bytes: usize = expected.iter().map(Vec::len).sum();
                prop_assert_eq!(staging.size(*id), (expected.len() as u64, bytes as u64));
            }
            for id in ids {
                staging.remove(id);
                staging.remove(id);
            }
            disk.run(&mut staging);
            prop_assert_eq!(staging.memory_bytes(), 0);
            prop_assert_eq!(staging.leaving_bytes, 0);
            prop_assert!(disk.files.is_empty());
            let mut removed = disk.removed.clone();
            removed.dedup();
            prop_assert_eq!(removed.len(), disk.removed.len(), "each file is removed once");
        }
    }

    #[test]
    fn a_damaged_scratch_file_is_noticed() {
        let mut staging = Staging::new(IdSpace::new(3), 0);
        let mut disk = Disk::default();
        let id = staging.open("b", b"id", FRONT);
        staging.push(id, &[b"message"]);
        disk.run(&mut staging);
        disk.files.values_mut().next().unwrap()[FRONT + 1] ^= 1;
        assert_eq!(
            read_all(&mut staging, &mut disk, id),
            Err(StagingError::Damaged)
        );
        assert_eq!(
            staging.lend(StagedId(99), 0),
            Lookup::Ready(Err(StagingError::Unknown))
        );
    }

    #[test]
    fn files_of_an_earlier_run_go_before_new_ones_come() {
        let mut staging = Staging::new(IdSpace::new(3), 0);
        let mut disk = Disk::default();
        disk.files.insert("b/old".into(), Vec::new());
        staging.clean("b");
        let id = staging.open("b", b"id", FRONT);
        staging.push(id, &[b"one"]);
        disk.run(&mut staging);
        assert!(disk.files.is_empty());
        staging.push(id, &[b"two"]);
        disk.run(&mut staging);
        assert_eq!(disk.files.len(), 1);
        assert_eq!(staging.memory_bytes(), 0);
        assert_eq!(
            read_all(&mut staging, &mut disk, id).unwrap(),
            [b"one", b"two"]
        );
    }
}
