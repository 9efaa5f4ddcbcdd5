//! Staged messages of batches that are not committed yet: in memory within a budget of the whole
//! server, beyond it in scratch files, read back in parts when the batch commits.
//!
//! Nothing here lasts: scratch files are not synced and are removed after a restart. What a staged
//! message says, and when a batch expires, belongs to the stream.

use crate::disk::{
    DiskCompletion, DiskError, DiskOperation, DiskReply, DiskRequest, FileId, Lane, Token,
};
use crate::ids::IdSpace;
use crate::stream::Lookup;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use twox_hash::XxHash3_64;

/// A part read back holds at most so many bytes, unless a single message is larger.
pub const PART_BYTES: u64 = 1 << 20;
/// Default budget of one server for staged bytes in memory.
pub const DEFAULT_STAGING_BYTES: u64 = 64 << 20;

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
    next: u64,
    batches: BTreeMap<StagedId, Batch>,
    ids: IdSpace,
    out: Vec<DiskRequest>,
    pending: BTreeMap<Token, Purpose>,
    /// Directories whose old files are being removed: nothing is created there yet.
    cleaning: BTreeSet<String>,
    memory_bytes: u64,
    /// Of `memory_bytes`, those whose write is on its way.
    leaving_bytes: u64,
}

#[derive(Debug)]
struct Batch {
    directory: String,
    path: String,
    file: Option<FileId>,
    file_length: u64,
    /// A write failed: what is in memory stays there.
    keep_in_memory: bool,
    messages: u64,
    bytes: u64,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    bytes: u64,
    /// No message is added any more.
    closed: bool,
    /// In memory: not spilled, being written, or read back.
    messages: Option<Vec<Bytes>>,
    spilled: Option<Spilled>,
    writing: bool,
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
    pub const fn new(ids: IdSpace, budget_bytes: u64) -> Self {
        Self {
            budget_bytes,
            next: 0,
            batches: BTreeMap::new(),
            ids,
            out: Vec::new(),
            pending: BTreeMap::new(),
            cleaning: BTreeSet::new(),
            memory_bytes: 0,
            leaving_bytes: 0,
        }
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
    pub fn open(&mut self, directory: &str, batch_id: &[u8]) -> StagedId {
        self.next += 1;
        let id = StagedId(self.next);
        // The number keeps a batch that begins again apart from the one before it.
        let hash = XxHash3_64::oneshot(batch_id);
        let path = format!("{directory}/{hash:016x}.{:x}", self.next);
        let batch = Batch {
            directory: directory.to_owned(),
            path,
            file: None,
            file_length: 0,
            keep_in_memory: false,
            messages: 0,
            bytes: 0,
            parts: Vec::new(),
        };
        self.batches.insert(id, batch);
        id
    }

    /// Adds a message (any encoding; given back as it is).
    pub fn push(&mut self, id: StagedId, message: Bytes) {
        let Some(batch) = self.batches.get_mut(&id) else {
            return;
        };
        let length = message.len() as u64;
        batch.messages += 1;
        batch.bytes += length;
        self.memory_bytes += length;
        if batch
            .parts
            .last()
            .is_none_or(|part| part.closed || part.bytes + length > PART_BYTES)
        {
            if let Some(full) = batch.parts.last_mut() {
                full.closed = true;
            }
            batch.parts.push(Part::new());
        }
        if let Some(part) = batch.parts.last_mut() {
            part.bytes += length;
            part.messages.get_or_insert_default().push(message);
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

    /// The messages of one part, in order. At commit ask for 0, 1, 2 … and propose each before
    /// asking for the next: only one part of a scratch file is kept in memory.
    pub fn part(&mut self, id: StagedId, part: usize) -> Lookup<Result<Vec<Bytes>, StagingError>> {
        self.forget_others(id, part);
        let Some(batch) = self.batches.get_mut(&id) else {
            return Lookup::Ready(Err(StagingError::Unknown));
        };
        let file = batch.file;
        let Some(wanted) = batch.parts.get_mut(part) else {
            return Lookup::Ready(Err(StagingError::Unknown));
        };
        if let Some(messages) = &wanted.messages {
            return Lookup::Ready(Ok(messages.clone()));
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
            self.ask(
                DiskOperation::Read {
                    file,
                    offset,
                    length,
                },
                Purpose::Read(id, part),
            );
        }
        Lookup::Loading
    }

    /// Forgets a batch and removes its scratch file. An unknown id is ignored.
    pub fn remove(&mut self, id: StagedId) {
        let Some(batch) = self.batches.remove(&id) else {
            return;
        };
        for part in &batch.parts {
            if part.messages.is_some() {
                self.memory_bytes -= part.bytes;
            }
            if part.writing {
                self.leaving_bytes -= part.bytes;
            }
        }
        if let Some(file) = batch.file {
            self.ask(DiskOperation::Close { file }, Purpose::Nothing);
            self.ask(DiskOperation::Remove { path: batch.path }, Purpose::Nothing);
        }
    }

    /// Bytes held in memory, of all batches.
    #[must_use]
    pub const fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Collects what is to be asked of the disk. Call after every other call.
    pub fn poll(&mut self, out: &mut Vec<DiskRequest>) {
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
        written.writing = false;
        self.leaving_bytes -= written.bytes;
        if result.is_ok() {
            written.messages = None;
            self.memory_bytes -= written.bytes;
        } else {
            written.spilled = None;
            batch.keep_in_memory = true;
        }
    }

    fn read(&mut self, id: StagedId, part: usize, result: Result<DiskReply, DiskError>) {
        let found = self
            .batches
            .get_mut(&id)
            .and_then(|batch| batch.parts.get_mut(part));
        let Some(wanted) = found else {
            return;
        };
        wanted.reading = false;
        let Some(spilled) = wanted.spilled else {
            return;
        };
        let messages = match result {
            Ok(DiskReply::Data(data)) => unpack(&data, &spilled).ok_or(StagingError::Damaged),
            Ok(_) => Err(StagingError::Damaged),
            Err(error) => Err(StagingError::Disk(error.to_string())),
        };
        match messages {
            Ok(messages) => {
                wanted.messages = Some(messages);
                self.memory_bytes += wanted.bytes;
            }
            Err(error) => wanted.error = Some(error),
        }
    }

    /// Parts that were read back and are not asked for any more leave the memory.
    fn forget_others(&mut self, id: StagedId, part: usize) {
        let Some(batch) = self.batches.get_mut(&id) else {
            return;
        };
        for (number, other) in batch.parts.iter_mut().enumerate() {
            if number != part && other.spilled.is_some() && !other.writing {
                self.memory_bytes -= other.messages.take().map_or(0, |_| other.bytes);
            }
        }
    }

    /// Writes parts until what stays in memory is within the budget: of the batch that grew, or
    /// of the one that holds most.
    fn spill(&mut self, grown: StagedId) {
        while self.memory_bytes - self.leaving_bytes > self.budget_bytes {
            let held = |batch: &Batch| batch.parts.iter().map(Part::can_spill).sum::<u64>();
            let free =
                |batch: &&Batch| !batch.keep_in_memory && !self.cleaning.contains(&batch.directory);
            let own = self.batches.get(&grown).filter(free);
            let own = own
                .filter(|batch| held(batch) >= PART_BYTES / 16)
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
        let (file, created) = match batch.file {
            Some(file) => (file, None),
            None => {
                let file = self.ids.file();
                batch.file = Some(file);
                (file, Some((batch.directory.clone(), batch.path.clone())))
            }
        };
        let mut writes = Vec::new();
        for (number, part) in batch.parts.iter_mut().enumerate() {
            if part.can_spill() == 0 {
                continue;
            }
            let packed = pack(part.messages.as_deref().unwrap_or_default());
            let offset = batch.file_length;
            let length = u32::try_from(packed.len()).unwrap_or(u32::MAX);
            let checksum = XxHash3_64::oneshot(&packed);
            batch.file_length += packed.len() as u64;
            part.spilled = Some(Spilled {
                offset,
                length,
                checksum,
            });
            (part.closed, part.writing) = (true, true);
            self.leaving_bytes += part.bytes;
            writes.push((number, offset, Bytes::from(packed)));
        }
        if let Some((directory, path)) = created {
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
        for (number, offset, packed) in writes {
            let write = DiskOperation::Write {
                file,
                offset,
                chunks: vec![packed],
            };
            self.ask(write, Purpose::Write(id, number));
        }
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

impl Part {
    const fn new() -> Self {
        Self {
            bytes: 0,
            closed: false,
            messages: None,
            spilled: None,
            writing: false,
            reading: false,
            error: None,
        }
    }

    /// Bytes that a write would take out of memory.
    const fn can_spill(&self) -> u64 {
        if self.messages.is_some() && self.spilled.is_none() {
            self.bytes
        } else {
            0
        }
    }
}

/// A part as it stands in the file: each message after its length.
fn pack(messages: &[Bytes]) -> Vec<u8> {
    let mut out = Vec::new();
    for message in messages {
        out.extend_from_slice(&(message.len() as u32).to_le_bytes());
        out.extend_from_slice(message);
    }
    out
}

fn unpack(data: &Bytes, spilled: &Spilled) -> Option<Vec<Bytes>> {
    if data.len() != spilled.length as usize || XxHash3_64::oneshot(data) != spilled.checksum {
        return None;
    }
    let mut messages = Vec::new();
    let mut at = 0;
    while at < data.len() {
        let length = u32::from_le_bytes(data.get(at..at + 4)?.try_into().ok()?) as usize;
        let end = (at + 4)
            .checked_add(length)
            .filter(|end| *end <= data.len())?;
        messages.push(data.slice(at + 4..end));
        at = end;
    }
    Some(messages)
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
            let mut requests = Vec::new();
            staging.poll(&mut requests);
            for request in requests {
                let result = self.operate(request.operation);
                staging.complete(DiskCompletion {
                    token: request.token,
                    result,
                });
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

    fn read_all(
        staging: &mut Staging,
        disk: &mut Disk,
        id: StagedId,
    ) -> Result<Vec<Bytes>, StagingError> {
        let mut all = Vec::new();
        for part in 0..staging.part_count(id) {
            let messages = loop {
                match staging.part(id, part) {
                    Lookup::Ready(messages) => break messages?,
                    Lookup::Loading => disk.run(staging),
                }
            };
            let bytes: usize = messages.iter().map(Bytes::len).sum();
            assert!(messages.len() == 1 || bytes as u64 <= PART_BYTES);
            all.extend(messages);
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
            let ids: Vec<_> = (0u64..4).map(|n| staging.open("streams/1/batches", &n.to_le_bytes())).collect();
            let mut expected = vec![Vec::new(); 4];
            for (number, (batch, size)) in pushes.into_iter().enumerate() {
                let message = Bytes::from(vec![number as u8; size]);
                staging.push(ids[batch as usize], message.clone());
                expected[batch as usize].push(message);
                if !slow {
                    disk.run(&mut staging);
                    prop_assert!(full || staging.memory_bytes() <= budget);
                }
            }
            for (id, expected) in ids.iter().zip(&expected) {
                prop_assert_eq!(&read_all(&mut staging, &mut disk, *id).unwrap(), expected);
                let bytes: usize = expected.iter().map(Bytes::len).sum();
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
        let id = staging.open("b", b"id");
        staging.push(id, Bytes::from_static(b"message"));
        disk.run(&mut staging);
        disk.files.values_mut().next().unwrap()[5] ^= 1;
        assert_eq!(
            read_all(&mut staging, &mut disk, id),
            Err(StagingError::Damaged)
        );
        assert_eq!(
            staging.part(StagedId(99), 0),
            Lookup::Ready(Err(StagingError::Unknown))
        );
    }

    #[test]
    fn files_of_an_earlier_run_go_before_new_ones_come() {
        let mut staging = Staging::new(IdSpace::new(3), 0);
        let mut disk = Disk::default();
        disk.files.insert("b/old".into(), Vec::new());
        staging.clean("b");
        let id = staging.open("b", b"id");
        staging.push(id, Bytes::from_static(b"one"));
        disk.run(&mut staging);
        assert!(disk.files.is_empty());
        staging.push(id, Bytes::from_static(b"two"));
        disk.run(&mut staging);
        assert_eq!(disk.files.len(), 1);
        assert_eq!(staging.memory_bytes(), 0);
        assert_eq!(
            read_all(&mut staging, &mut disk, id).unwrap(),
            ["one", "two"]
        );
    }
}
