//! A disk in memory that executes the store's requests under a seed and forgets, on a power cut,
//! what a real one may forget. Knobs say which faults may happen; counters say which did.
//!
//! Two images are kept. *Live* is what reads see: the page cache. *Durable* is what is left after a
//! power cut: content that was synced, names whose directory was synced, and of the rest whatever
//! the seed keeps, sector by sector and in no order. Killing the process loses nothing but the
//! requests that were not carried out.

use crate::content::{Change, Content};
use crate::digest::Digest;
use bytes::Bytes;
use millrace_clock::Random;
use millrace_store::disk::{
    DiskCompletion, DiskError, DiskOperation, DiskReply, DiskRequest, FileId, Lane, Token,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The unit in which unsynced writes are torn.
pub const SECTOR_BYTES: usize = 512;
/// A file is not held back for more requests of others than this.
const HELD_MAX: u64 = 30;

/// Which faults may happen, and how often (out of 1,000 operations of the kind).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Knobs {
    /// A power cut may lose whole unsynced writes, also ones older than those it keeps.
    pub lose_writes: bool,
    /// A power cut may keep some sectors of an unsynced write and lose others.
    pub tear_writes: bool,
    /// A power cut may lose creations, renames and removals whose directory was not synced.
    pub lose_names: bool,
    /// Requests of different files may be carried out in any order.
    pub reorder: bool,
    pub fail_sync_permille: u64,
    pub fail_write_permille: u64,
    pub fail_read_permille: u64,
    /// A file's requests may be held back while others go on.
    pub hold_permille: u64,
    /// Bytes that all files may take together; 0: no limit.
    pub capacity_bytes: u64,
}

impl Knobs {
    /// All that a power cut may do, on an otherwise healthy disk.
    pub const POWER: Self = Self {
        lose_writes: true,
        tear_writes: true,
        lose_names: true,
        reorder: true,
        fail_sync_permille: 0,
        fail_write_permille: 0,
        fail_read_permille: 0,
        hold_permille: 20,
        capacity_bytes: 0,
    };
}

impl Knobs {
    /// What is on in one of the two.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self {
            lose_writes: self.lose_writes || other.lose_writes,
            tear_writes: self.tear_writes || other.tear_writes,
            lose_names: self.lose_names || other.lose_names,
            reorder: self.reorder || other.reorder,
            fail_sync_permille: self.fail_sync_permille.max(other.fail_sync_permille),
            fail_write_permille: self.fail_write_permille.max(other.fail_write_permille),
            fail_read_permille: self.fail_read_permille.max(other.fail_read_permille),
            hold_permille: self.hold_permille.max(other.hold_permille),
            capacity_bytes: self.capacity_bytes.max(other.capacity_bytes),
        }
    }
}

/// How often each fault happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub power_cuts: u64,
    pub lost_writes: u64,
    pub torn_writes: u64,
    pub lost_names: u64,
    pub reordered: u64,
    pub failed_syncs: u64,
    pub failed_writes: u64,
    pub failed_reads: u64,
    pub no_space: u64,
    pub flipped_bits: u64,
    pub held: u64,
    /// Failed writes and syncs after which the journal had to be begun again.
    pub journal_failures: u64,
    pub clock_jumps: u64,
}

impl Counters {
    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        self.power_cuts += other.power_cuts;
        self.lost_writes += other.lost_writes;
        self.torn_writes += other.torn_writes;
        self.lost_names += other.lost_names;
        self.reordered += other.reordered;
        self.failed_syncs += other.failed_syncs;
        self.failed_writes += other.failed_writes;
        self.failed_reads += other.failed_reads;
        self.no_space += other.no_space;
        self.flipped_bits += other.flipped_bits;
        self.held += other.held;
        self.journal_failures += other.journal_failures;
        self.clock_jumps += other.clock_jumps;
    }

    /// The knobs that were turned on and never did anything: such a run proves nothing.
    #[must_use]
    pub fn idle_knobs(&self, knobs: &Knobs) -> Vec<&'static str> {
        let table = [
            ("lose_writes", knobs.lose_writes, self.lost_writes),
            ("tear_writes", knobs.tear_writes, self.torn_writes),
            ("lose_names", knobs.lose_names, self.lost_names),
            ("reorder", knobs.reorder, self.reordered),
            ("fail_sync", knobs.fail_sync_permille > 0, self.failed_syncs),
            (
                "fail_write",
                knobs.fail_write_permille > 0,
                self.failed_writes,
            ),
            ("fail_read", knobs.fail_read_permille > 0, self.failed_reads),
            ("hold", knobs.hold_permille > 0, self.held),
            ("capacity", knobs.capacity_bytes > 0, self.no_space),
        ];
        table
            .iter()
            .filter(|(_, on, fired)| *on && *fired == 0)
            .map(|(name, ..)| *name)
            .collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Inode(u64);

/// A change of names that is atomic in itself.
#[derive(Clone, Debug)]
struct NameChange {
    directories: Vec<String>,
    unlink: Vec<String>,
    link: Vec<(String, Inode)>,
}

/// The simulated disk.
#[derive(Debug)]
pub struct SimDisk {
    knobs: Knobs,
    counters: Counters,
    random: Random,
    contents: BTreeMap<Inode, Content>,
    next_inode: u64,
    live_names: BTreeMap<String, Inode>,
    durable_names: BTreeMap<String, Inode>,
    directories: BTreeSet<String>,
    name_changes: Vec<NameChange>,
    open: BTreeMap<FileId, Inode>,
    pending: VecDeque<DiskRequest>,
    /// Requests carried out since the disk was made.
    operations: u64,
    digest: Digest,
    /// The request carried out last was a write or a sync of a file.
    last_was_write: bool,
    /// A file that makes no progress, and for how many more requests of others.
    held: Option<(FileId, u64)>,
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64, knobs: Knobs) -> Self {
        Self {
            knobs,
            counters: Counters::default(),
            random: Random::new(seed),
            contents: BTreeMap::new(),
            next_inode: 0,
            live_names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            directories: BTreeSet::new(),
            name_changes: Vec::new(),
            open: BTreeMap::new(),
            pending: VecDeque::new(),
            operations: 0,
            digest: Digest::default(),
            last_was_write: false,
            held: None,
        }
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Turns other faults on or off from now on.
    pub fn set_knobs(&mut self, knobs: Knobs) {
        self.knobs = knobs;
    }

    /// The knobs as they stand.
    #[must_use]
    pub fn knobs(&self) -> Knobs {
        self.knobs
    }

    /// Requests carried out so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// A hash of every request carried out and its answer.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest.value()
    }

    /// Whether the request carried out last was a write or a sync of a file.
    #[must_use]
    pub fn last_was_write(&self) -> bool {
        self.last_was_write
    }

    /// Takes requests; they are carried out by [`Self::step`].
    pub fn submit(&mut self, requests: impl IntoIterator<Item = DiskRequest>) {
        self.pending.extend(requests);
    }

    /// Requests not carried out yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Carries out one request that may be next; `None` when there is none.
    pub fn step(&mut self) -> Option<DiskCompletion> {
        let chosen = if self.knobs.reorder {
            let mut ready: Vec<usize> = (0..self.pending.len())
                .filter(|at| self.is_ready(*at))
                .collect();
            self.hold_back(&mut ready);
            let chosen = *ready.get(self.random.below(ready.len() as u64) as usize)?;
            self.counters.reordered += u64::from(chosen > 0);
            chosen
        } else {
            0
        };
        let request = self.pending.remove(chosen)?;
        let token = request.token;
        self.digest_request(&request);
        self.last_was_write = matches!(
            request.operation,
            DiskOperation::Write { .. } | DiskOperation::Sync { .. }
        );
        let result = self.execute(request.operation);
        self.operations += 1;
        self.digest_result(token, &result);
        Some(DiskCompletion { token, result })
    }

    /// One file's requests wait while those of others are carried out, also behind them.
    fn hold_back(&mut self, ready: &mut Vec<usize>) {
        if self.held.is_none()
            && self.fires(self.knobs.hold_permille)
            && let Some(request) = self.pending.front()
            && let (_, Some(file), _) = names(request)
        {
            self.held = Some((file, 1 + self.random.below(HELD_MAX)));
        }
        let Some((file, left)) = self.held else {
            return;
        };
        let others: Vec<usize> = ready
            .iter()
            .copied()
            .filter(|at| names(&self.pending[*at]).1 != Some(file))
            .collect();
        if others.is_empty() || left == 0 {
            self.held = None;
            return;
        }
        self.counters.held += u64::from(others.len() < ready.len());
        self.held = Some((file, left - 1));
        *ready = others;
    }

    /// Nothing before it in its lane names the same file, or a path when it does.
    fn is_ready(&self, at: usize) -> bool {
        let (lane, file, path) = names(&self.pending[at]);
        self.pending.iter().take(at).all(|earlier| {
            let (other_lane, other_file, other_path) = names(earlier);
            lane != other_lane || !((path && other_path) || (file.is_some() && file == other_file))
        })
    }

    fn fires(&mut self, permille: u64) -> bool {
        permille > 0 && self.random.below(1000) < permille
    }

    fn used_bytes(&self) -> u64 {
        let inodes: BTreeSet<Inode> = self.live_names.values().copied().collect();
        inodes
            .iter()
            .filter_map(|inode| self.contents.get(inode))
            .map(|c| c.live.len() as u64)
            .sum()
    }

    fn has_room(&mut self, more: u64) -> bool {
        let room = self.knobs.capacity_bytes == 0
            || more == 0
            || self.used_bytes() + more <= self.knobs.capacity_bytes;
        self.counters.no_space += u64::from(!room);
        room
    }

    fn execute(&mut self, operation: DiskOperation) -> Result<DiskReply, DiskError> {
        match operation {
            DiskOperation::List { directory } => Ok(DiskReply::Names(self.list(&directory))),
            DiskOperation::CreateDirectory { path } => {
                self.make_directory(&path);
                Ok(DiskReply::Done)
            }
            DiskOperation::Create {
                file,
                path,
                preallocate,
            } => self.create(file, path, preallocate),
            DiskOperation::Open { file, path } => {
                let inode = *self
                    .live_names
                    .get(&path)
                    .ok_or(DiskError::NotFound(path))?;
                self.open.insert(file, inode);
                let length = self.content(file)?.live.len() as u64;
                Ok(DiskReply::Opened { length })
            }
            DiskOperation::Write {
                file,
                offset,
                chunks,
            } => self.write(file, offset, &chunks),
            DiskOperation::Sync { file } => self.sync(file),
            DiskOperation::Read {
                file,
                offset,
                length,
            } => self.read(file, offset, length),
            DiskOperation::Truncate { file, length } => {
                let length = length as usize;
                self.content(file)?.change(Change::Length(length));
                Ok(DiskReply::Done)
            }
            DiskOperation::Close { file } => {
                self.open.remove(&file);
                Ok(DiskReply::Done)
            }
            DiskOperation::Rename { from, to } => self.rename(&from, &to),
            DiskOperation::Remove { path } => {
                self.unlink(vec![path]);
                Ok(DiskReply::Done)
            }
            DiskOperation::RemoveTree { path } => {
                let prefix = format!("{path}/");
                let below = self
                    .live_names
                    .keys()
                    .filter(|name| name.starts_with(&prefix));
                let below: Vec<String> = below.cloned().collect();
                below.into_iter().for_each(|name| self.unlink(vec![name]));
                self.directories
                    .retain(|name| *name != path && !name.starts_with(&prefix));
                Ok(DiskReply::Done)
            }
            DiskOperation::SyncDirectory { path } => self.sync_directory(&path),
        }
    }

    fn content(&mut self, file: FileId) -> Result<&mut Content, DiskError> {
        let closed = || DiskError::Other(format!("file {} is not open", file.0));
        let inode = self.open.get(&file).ok_or_else(closed)?;
        self.contents.get_mut(inode).ok_or_else(closed)
    }

    fn list(&self, directory: &str) -> Vec<String> {
        let prefix = if directory.is_empty() {
            String::new()
        } else {
            format!("{directory}/")
        };
        let mut found = BTreeSet::new();
        for path in self.live_names.keys() {
            if let Some(rest) = path.strip_prefix(&prefix) {
                match rest.split_once('/') {
                    Some((folder, _)) => found.insert(format!("{folder}/")),
                    None => found.insert(rest.to_owned()),
                };
            }
        }
        for path in &self.directories {
            let rest = path.strip_prefix(&prefix).unwrap_or("");
            let folder = rest.split('/').next().unwrap_or("");
            if !folder.is_empty() {
                found.insert(format!("{folder}/"));
            }
        }
        found.into_iter().collect()
    }

    /// Directories themselves are not lost: every start makes them again.
    fn make_directory(&mut self, path: &str) {
        let mut whole = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if !whole.is_empty() {
                whole.push('/');
            }
            whole.push_str(part);
            self.directories.insert(whole.clone());
        }
    }

    fn create(
        &mut self,
        file: FileId,
        path: String,
        preallocate: u64,
    ) -> Result<DiskReply, DiskError> {
        if self.live_names.contains_key(&path) {
            return Err(DiskError::AlreadyExists(path));
        }
        let directory = parent(&path);
        if !directory.is_empty() && !self.directories.contains(&directory) {
            return Err(DiskError::NotFound(directory));
        }
        if !self.has_room(preallocate) {
            return Err(DiskError::NoSpace);
        }
        self.next_inode += 1;
        let inode = Inode(self.next_inode);
        let mut content = Content::default();
        content.change(Change::Length(preallocate as usize));
        self.contents.insert(inode, content);
        self.open.insert(file, inode);
        self.live_names.insert(path.clone(), inode);
        self.name_changes.push(NameChange {
            directories: vec![directory],
            unlink: Vec::new(),
            link: vec![(path, inode)],
        });
        Ok(DiskReply::Done)
    }

    fn write(
        &mut self,
        file: FileId,
        offset: u64,
        chunks: &[Bytes],
    ) -> Result<DiskReply, DiskError> {
        let mut bytes = chunks.concat();
        let end = offset + bytes.len() as u64;
        let growth = end.saturating_sub(self.content(file)?.live.len() as u64);
        if !self.has_room(growth) {
            return Err(DiskError::NoSpace);
        }
        let fails = self.fires(self.knobs.fail_write_permille);
        if fails {
            self.counters.failed_writes += 1;
            bytes.truncate(self.random.below(bytes.len() as u64 + 1) as usize);
        }
        let change = Change::Write {
            offset: offset as usize,
            bytes: bytes.into(),
        };
        self.content(file)?.change(change);
        if fails {
            Err(io_error())
        } else {
            Ok(DiskReply::Done)
        }
    }

    fn sync(&mut self, file: FileId) -> Result<DiskReply, DiskError> {
        if self.fires(self.knobs.fail_sync_permille) {
            // The cache keeps showing what the device never got, and calls it clean.
            self.counters.failed_syncs += 1;
            let mut random = self.random.stream(self.operations);
            let content = self.content(file)?;
            for change in std::mem::take(&mut content.unsynced) {
                if random.below(2) == 0 {
                    content.make_durable(&change);
                }
            }
            return Err(io_error());
        }
        self.content(file)?.sync();
        Ok(DiskReply::Done)
    }

    fn read(&mut self, file: FileId, offset: u64, length: u32) -> Result<DiskReply, DiskError> {
        if self.fires(self.knobs.fail_read_permille) {
            self.counters.failed_reads += 1;
            return Err(io_error());
        }
        let live = &self.content(file)?.live;
        let start = (offset as usize).min(live.len());
        let end = start.saturating_add(length as usize).min(live.len());
        Ok(DiskReply::Data(Bytes::copy_from_slice(&live[start..end])))
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<DiskReply, DiskError> {
        let prefix = format!("{from}/");
        let moved: Vec<(String, Inode)> = self
            .live_names
            .iter()
            .filter(|(name, _)| *name == from || name.starts_with(&prefix))
            .map(|(name, inode)| (name.clone(), *inode))
            .collect();
        let folders: Vec<String> = self
            .directories
            .iter()
            .filter(|name| *name == from || name.starts_with(&prefix))
            .cloned()
            .collect();
        if moved.is_empty() && folders.is_empty() {
            return Err(DiskError::NotFound(from.to_owned()));
        }
        for folder in folders {
            self.directories.remove(&folder);
            self.directories
                .insert(format!("{to}{}", &folder[from.len()..]));
        }
        let mut change = NameChange {
            directories: vec![parent(from), parent(to)],
            unlink: Vec::new(),
            link: Vec::new(),
        };
        for (name, inode) in moved {
            let target = format!("{to}{}", &name[from.len()..]);
            self.live_names.remove(&name);
            self.live_names.insert(target.clone(), inode);
            change.unlink.push(name);
            change.link.push((target, inode));
        }
        self.name_changes.push(change);
        Ok(DiskReply::Done)
    }

    fn unlink(&mut self, paths: Vec<String>) {
        for path in paths {
            if self.live_names.remove(&path).is_some() {
                self.name_changes.push(NameChange {
                    directories: vec![parent(&path)],
                    unlink: vec![path],
                    link: Vec::new(),
                });
            }
        }
    }

    fn sync_directory(&mut self, path: &str) -> Result<DiskReply, DiskError> {
        if self.fires(self.knobs.fail_sync_permille) {
            self.counters.failed_syncs += 1;
            return Err(io_error());
        }
        let changes = std::mem::take(&mut self.name_changes);
        for change in changes {
            if change.directories.iter().any(|directory| directory == path) {
                self.make_durable(&change);
            } else {
                self.name_changes.push(change);
            }
        }
        Ok(DiskReply::Done)
    }

    fn make_durable(&mut self, change: &NameChange) {
        for path in &change.unlink {
            self.durable_names.remove(path);
        }
        for (path, inode) in &change.link {
            self.durable_names.insert(path.clone(), *inode);
        }
    }

    /// The process dies: some of what it asked for may still be carried out, unseen, the rest never
    /// is; the cache stays.
    pub fn kill(&mut self) {
        while self.random.below(2) == 0 && self.step().is_some() {}
        self.pending.clear();
        self.open.clear();
        self.held = None;
        self.digest.add(1);
    }

    /// The power goes: the cache goes too, and of what was not synced the seed keeps what it likes.
    pub fn power_cut(&mut self) {
        self.kill();
        self.counters.power_cuts += 1;
        // Half of the cuts are of one kind, so that clean extremes are seen as well as mixtures.
        let mood = self.random.below(6);
        for change in std::mem::take(&mut self.name_changes) {
            if self.keeps(mood, self.knobs.lose_names) {
                self.make_durable(&change);
            } else {
                self.counters.lost_names += 1;
            }
        }
        self.live_names = self.durable_names.clone();
        let kept: BTreeSet<Inode> = self.live_names.values().copied().collect();
        self.contents.retain(|inode, _| kept.contains(inode));
        let inodes: Vec<Inode> = self.contents.keys().copied().collect();
        for inode in inodes {
            self.cut_content(inode, mood);
        }
        self.digest.add(2);
    }

    fn keeps(&mut self, mood: u64, may_lose: bool) -> bool {
        !may_lose
            || match mood {
                0 => false,
                1 => true,
                _ => self.random.below(2) == 0,
            }
    }

    fn cut_content(&mut self, inode: Inode, mood: u64) {
        let Some(mut content) = self.contents.remove(&inode) else {
            return;
        };
        for change in std::mem::take(&mut content.unsynced) {
            if let (Change::Write { offset, bytes }, true, 2..) =
                (&change, self.knobs.tear_writes, mood)
                && bytes.len() > SECTOR_BYTES
                && self.random.below(2) == 0
            {
                self.counters.torn_writes += 1;
                self.keep_some_sectors(&mut content, *offset, bytes);
                continue;
            }
            if self.keeps(mood, self.knobs.lose_writes) {
                content.make_durable(&change);
            } else if matches!(change, Change::Write { .. }) {
                self.counters.lost_writes += 1;
            }
        }
        content.live = content.durable.clone();
        content.live_flips = content.durable_flips.clone();
        self.contents.insert(inode, content);
    }

    fn keep_some_sectors(&mut self, content: &mut Content, offset: usize, bytes: &Bytes) {
        for start in (0..bytes.len()).step_by(SECTOR_BYTES) {
            let end = (start + SECTOR_BYTES).min(bytes.len());
            if self.random.below(2) == 0 {
                let bytes = bytes.slice(start..end);
                content.make_durable(&Change::Write {
                    offset: offset + start,
                    bytes,
                });
            }
        }
    }

    /// Flips one bit of a file, on the device and in the cache; `false` when there is no such byte.
    pub fn flip_bit(&mut self, path: &str, offset: u64, bit: u32) -> bool {
        let inode = self.live_names.get(path);
        let Some(content) = inode.and_then(|inode| self.contents.get_mut(inode)) else {
            return false;
        };
        let (offset, mask) = (offset as usize, 1 << (bit % 8));
        let mut flipped = false;
        for (image, flips) in [
            (&mut content.live, &mut content.live_flips),
            (&mut content.durable, &mut content.durable_flips),
        ] {
            if let Some(byte) = image.get_mut(offset) {
                *byte ^= mask;
                *flips.entry(offset).or_default() ^= mask;
                flipped = true;
            }
        }
        self.counters.flipped_bits += u64::from(flipped);
        flipped
    }

    /// Every file as it was written, without the bits that flipped since, by path.
    pub fn pristine(&self) -> impl Iterator<Item = (&str, Vec<u8>)> {
        self.live_names.iter().filter_map(|(path, inode)| {
            let content = self.contents.get(inode)?;
            let mut bytes = content.live.clone();
            for (offset, mask) in &content.live_flips {
                if let Some(byte) = bytes.get_mut(*offset) {
                    *byte ^= mask;
                }
            }
            Some((path.as_str(), bytes))
        })
    }

    /// Whether some bit of this byte is flipped.
    #[must_use]
    pub fn is_flipped(&self, path: &str, offset: u64) -> bool {
        let content = self
            .live_names
            .get(path)
            .and_then(|it| self.contents.get(it));
        content.is_some_and(|content| content.live_flips.contains_key(&(offset as usize)))
    }

    /// Every file with its live content, by path: for oracles and for tests that look for bytes.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.live_names.iter().filter_map(|(path, inode)| {
            Some((path.as_str(), self.contents.get(inode)?.live.as_slice()))
        })
    }

    fn digest_request(&mut self, request: &DiskRequest) {
        self.digest.add(request.token.0);
        match &request.operation {
            DiskOperation::Write {
                file,
                offset,
                chunks,
            } => {
                self.digest.add(file.0);
                self.digest.add(*offset);
                chunks.iter().for_each(|chunk| self.digest.add_bytes(chunk));
            }
            other => self.digest.add_bytes(format!("{other:?}").as_bytes()),
        }
    }

    fn digest_result(&mut self, token: Token, result: &Result<DiskReply, DiskError>) {
        self.digest.add(token.0);
        match result {
            Ok(DiskReply::Data(bytes)) => self.digest.add_bytes(bytes),
            other => self.digest.add_bytes(format!("{other:?}").as_bytes()),
        }
    }
}

fn io_error() -> DiskError {
    DiskError::Other("simulated input/output error".to_owned())
}

fn parent(path: &str) -> String {
    path.rsplit_once('/')
        .map_or_else(String::new, |(directory, _)| directory.to_owned())
}

/// The lane, the file, and whether a path is named.
fn names(request: &DiskRequest) -> (Lane, Option<FileId>, bool) {
    let (file, path) = match &request.operation {
        DiskOperation::Create { file, .. } | DiskOperation::Open { file, .. } => {
            (Some(*file), true)
        }
        DiskOperation::Write { file, .. }
        | DiskOperation::Sync { file }
        | DiskOperation::Read { file, .. }
        | DiskOperation::Truncate { file, .. }
        | DiskOperation::Close { file } => (Some(*file), false),
        DiskOperation::List { .. }
        | DiskOperation::CreateDirectory { .. }
        | DiskOperation::Rename { .. }
        | DiskOperation::Remove { .. }
        | DiskOperation::RemoveTree { .. }
        | DiskOperation::SyncDirectory { .. } => (None, true),
    };
    (request.lane, file, path)
}
