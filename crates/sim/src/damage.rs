//! Bits that flip in cold data, and what they hit. The files are taken apart here as `docs/format.md`
//! draws them, not with the store's own code, so that the oracle does not believe what it judges.
//!
//! Cold is what was proven: a flip in the last frames of a journal, which no later one has proven yet,
//! looks like a torn tail, and no log can tell the difference.

use crate::disk::SimDisk;
use bytes::Bytes;
use millrace_clock::Random;
use millrace_jetstream::entry::{MetaOperation, decode_meta};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use twox_hash::XxHash3_64;

const BLOCK_BYTES: usize = 4096;
const FRAME_HEAD_BYTES: usize = 56;
const RECORD_HEAD_BYTES: usize = 40;
const FLAG_COPY: u16 = 2;
const FLAG_COPY_END: u16 = 4;
const ENTRY: u8 = 1;
const CHECKPOINT: u8 = 3;
const GROUP_REMOVED: u8 = 4;
const SEGMENT_HEAD_BYTES: usize = 40;
/// Places looked at for one flip before there is none.
const TRIES: u32 = 20;

/// A record of the journal.
#[derive(Clone, Debug)]
pub struct Record {
    pub path: String,
    frame: u64,
    /// Of the frame's heads, and of the payload.
    heads: Range<usize>,
    payload: Range<usize>,
    kind: u8,
    pub group: u64,
    pub index: u64,
    pub bytes: Bytes,
}

impl Record {
    /// The number of its frame.
    #[must_use]
    pub const fn frame(&self) -> u64 {
        self.frame
    }

    const fn place(&self) -> (u64, u64, u64) {
        (self.group, self.index, self.frame)
    }

    const fn is_meta_entry(&self) -> bool {
        self.kind == ENTRY && self.group == 0
    }
}

/// What stands in the journal's files and counts.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    records: Vec<Record>,
    /// Frames up to this one are proven.
    proven: u64,
}

#[derive(Clone, Debug)]
struct Frame {
    number: u64,
    flags: u16,
    durable_through: u64,
    first_of_run: u64,
    records: Vec<Record>,
}

/// What a flip hit.
#[derive(Clone, Debug, Default)]
pub struct Hits {
    /// Entries of the journal.
    pub entries: Vec<Record>,
    /// Group and sequence of a message in a segment.
    pub message: Option<(u64, u64)>,
}

/// All flips of a run.
#[derive(Clone, Debug, Default)]
pub struct Damage {
    /// The list of streams was hit: once in a run, since it is mended from what else there is.
    meta_hit: bool,
    /// A group's end was hit: not together with the list of streams, which knows it too.
    removal_hit: bool,
    /// Frame and index of checkpoints that were hit, by group.
    spoiled_checkpoints: BTreeSet<(u64, u64, u64)>,
    /// Group, index and frame of what was hit.
    hit: BTreeSet<(u64, u64, u64)>,
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let mut value = [0; 8];
    value[..length].copy_from_slice(bytes.get(at..at + length)?);
    Some(u64::from_le_bytes(value))
}

fn checksum(epoch: u64, place: usize, bytes: &[u8]) -> u64 {
    let seed = epoch ^ (place as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    XxHash3_64::oneshot_with_seed(seed, bytes)
}

/// The frame at this place, if it is whole. Gives its end too.
fn frame_at(path: &str, content: &[u8], epoch: u64, at: usize) -> Option<(Frame, usize)> {
    if content.get(at + 8..at + 12)? != b"MRJF" || number(content, at + 16, 8)? != epoch {
        return None;
    }
    let count = number(content, at + 40, 4)? as usize;
    let heads_end = at + FRAME_HEAD_BYTES + count * RECORD_HEAD_BYTES;
    let heads = content.get(at + 8..heads_end)?;
    if checksum(epoch, at, heads) != number(content, at, 8)? {
        return None;
    }
    let frame_number = number(content, at + 24, 8)?;
    let mut records = Vec::new();
    let mut payload_at = heads_end;
    for place in 0..count {
        let head = at + FRAME_HEAD_BYTES + place * RECORD_HEAD_BYTES;
        let length = number(content, head + 4, 4)? as usize;
        let payload = payload_at..payload_at + length;
        payload_at += length;
        let bytes = content.get(payload.clone())?;
        if checksum(epoch, payload.start, bytes) != number(content, head + 32, 8)? {
            return None;
        }
        records.push(Record {
            path: path.to_owned(),
            frame: frame_number,
            heads: at..heads_end,
            payload,
            kind: content[head],
            group: number(content, head + 8, 8)?,
            index: number(content, head + 16, 8)?,
            bytes: Bytes::copy_from_slice(bytes),
        });
    }
    let frame = Frame {
        number: frame_number,
        flags: number(content, at + 14, 2)? as u16,
        durable_through: number(content, at + 32, 8)?,
        first_of_run: frame_number.saturating_sub(number(content, at + 44, 4)?),
        records,
    };
    Some((frame, payload_at.div_ceil(BLOCK_BYTES) * BLOCK_BYTES))
}

fn frames_of(path: &str, content: &[u8]) -> Vec<Frame> {
    let Some(epoch) = number(content, 16, 8) else {
        return Vec::new();
    };
    let (mut frames, mut at) = (Vec::new(), BLOCK_BYTES);
    while at < content.len() {
        match frame_at(path, content, epoch, at) {
            Some((frame, end)) => {
                frames.push(frame);
                at = end;
            }
            None => at += BLOCK_BYTES,
        }
    }
    frames
}

impl Scan {
    fn new(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let journals = files.iter().filter(|(path, _)| path.ends_with(".journal"));
        let frames: Vec<Frame> = journals
            .flat_map(|(path, content)| frames_of(path, content))
            .collect();
        let ended = |run: &Frame| {
            frames.iter().any(|frame| {
                let same = frame.first_of_run == run.first_of_run;
                (same && frame.flags & FLAG_COPY_END != 0)
                    || (frame.flags & FLAG_COPY == 0 && frame.number > run.number)
            })
        };
        // A whole run of copies makes void what stands between its base and itself.
        let runs: Vec<(u64, u64)> = frames
            .iter()
            .filter(|frame| frame.flags & FLAG_COPY != 0 && ended(frame))
            .map(|frame| (frame.durable_through, frame.first_of_run))
            .collect();
        let is_void = |number: u64| {
            runs.iter()
                .any(|(base, first)| *base < number && number < *first)
        };
        let counting = frames.iter().filter(|frame| !is_void(frame.number));
        let proven = counting.clone().map(|frame| frame.durable_through).max();
        Self {
            proven: proven.unwrap_or(0),
            records: counting
                .flat_map(|frame| frame.records.iter().cloned())
                .collect(),
        }
    }

    /// All records, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let lines = self.records.iter().map(|record| {
            format!(
                "{} frame {} kind {} group {} index {} ({} bytes)\n",
                record.path,
                record.frame,
                record.kind,
                record.group,
                record.index,
                record.bytes.len()
            )
        });
        lines.collect()
    }

    /// Up to where a group's log is in a checkpoint for certain.
    #[must_use]
    pub fn checkpointed(&self, group: u64) -> u64 {
        let of_group = |record: &&Record| {
            record.group == group && record.kind == CHECKPOINT && record.frame <= self.proven
        };
        let indexes = self.records.iter().filter(of_group);
        indexes.map(|record| record.index).max().unwrap_or(0)
    }

    /// The entries of a group's log, in the order written.
    #[must_use]
    pub fn log(&self, group: u64) -> Vec<Record> {
        let of_group = |record: &&Record| record.group == group && record.kind == ENTRY;
        let mut log: Vec<Record> = self.records.iter().filter(of_group).cloned().collect();
        log.sort_by_key(|record| (record.frame, record.index));
        log
    }

    /// The groups of the streams, by the name that stands in their checkpoints.
    #[must_use]
    pub fn names(&self) -> BTreeMap<u64, String> {
        let checkpoints = self
            .records
            .iter()
            .filter(|record| record.kind == CHECKPOINT && record.group > 0);
        checkpoints
            .filter_map(|record| Some((record.group, name_in(&record.bytes)?)))
            .collect()
    }

    /// A deletion whose group is still in the journal may be undone, with what is left of its stream:
    /// nothing is said about that case.
    fn undoes_deletion(&self, hit: &Record) -> bool {
        let operations = decode_meta(&hit.bytes).map_or_else(|_| Vec::new(), |(_, all)| all);
        operations.iter().any(|operation| {
            let MetaOperation::Delete { group } = operation else {
                return false;
            };
            let removed = |record: &Record| {
                record.kind == GROUP_REMOVED
                    && record.group == *group
                    && record.frame != hit.frame
                    && record.frame <= self.proven
            };
            !self.records.iter().any(removed)
        })
    }
}

/// The stream's name in a checkpoint of its group.
fn name_in(checkpoint: &[u8]) -> Option<String> {
    let account = number(checkpoint, 25, 4)? as usize;
    let length = number(checkpoint, 29 + account, 4)? as usize;
    let config = checkpoint.get(33 + account..33 + account + length)?;
    let config: serde_json::Value = serde_json::from_slice(config).ok()?;
    Some(config["name"].as_str()?.to_owned())
}

/// Messages of a segment: where their records are, and their sequences. Index blocks have none.
fn segment_parts(content: &[u8]) -> Vec<(Range<usize>, Option<u64>)> {
    let (mut parts, mut at) = (Vec::new(), SEGMENT_HEAD_BYTES);
    loop {
        let (length, sequence) = if content.get(at..at + 2) == Some(&[0xB5, 0x52]) {
            (number(content, at + 4, 4), number(content, at + 16, 8))
        } else if content.get(at..at + 4) == Some(b"MIDX") {
            (number(content, at + 8, 4), None)
        } else {
            return parts;
        };
        let Some(length) = length.filter(|length| *length > 0) else {
            return parts;
        };
        parts.push((at..at + length as usize, sequence));
        at += length as usize;
    }
}

/// `streams/<group>/…`.
fn group_of(path: &str) -> Option<u64> {
    path.strip_prefix("streams/")?
        .split('/')
        .next()?
        .parse()
        .ok()
}

impl Damage {
    /// The files that bits flip in, as they were without that.
    fn pristine(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
        let wanted = |path: &str| path.ends_with(".journal") || path.ends_with(".seg");
        let files = disk.pristine().filter(|(path, _)| wanted(path));
        files
            .map(|(path, content)| (path.to_owned(), content))
            .collect()
    }

    /// The journal as it was without any flip.
    #[must_use]
    pub fn scan(disk: &SimDisk) -> Scan {
        Scan::new(&Self::pristine(disk))
    }

    /// Flips one bit somewhere in cold data. `None`: there is no place where it may be.
    pub fn flip(&mut self, disk: &mut SimDisk, random: &mut Random) -> Option<Hits> {
        let files = Self::pristine(disk);
        let scan = Scan::new(&files);
        let paths: Vec<&String> = files.keys().collect();
        for _ in 0..TRIES {
            let path = *paths.get(random.below(paths.len() as u64) as usize)?;
            let content = &files[path];
            let found = if path.ends_with(".seg") {
                segment_target(path, content, random)
            } else {
                self.journal_target(path, &scan, random)
            };
            let Some((range, hits)) = found else {
                continue;
            };
            let offset = range.start + random.below(range.len() as u64) as usize;
            let bit = random.below(8) as u32;
            // A second flip of one bit would mend it.
            let place = offset as u64;
            if disk.is_flipped(path, place) || !disk.flip_bit(path, place, bit) {
                continue;
            }
            return Some(hits);
        }
        None
    }

    fn journal_target(
        &mut self,
        path: &str,
        scan: &Scan,
        random: &mut Random,
    ) -> Option<(Range<usize>, Hits)> {
        let cold = |record: &&Record| record.path == path && record.frame <= scan.proven;
        let records: Vec<&Record> = scan.records.iter().filter(cold).collect();
        let chosen = *records.get(random.below(records.len() as u64) as usize)?;
        let in_payload = !chosen.payload.is_empty() && random.below(4) > 0;
        let (range, hit): (_, Vec<&Record>) = if in_payload {
            (chosen.payload.clone(), vec![chosen])
        } else {
            let same = |record: &&&Record| record.frame == chosen.frame;
            let all = records.iter().filter(same).copied().collect();
            (chosen.heads.clone(), all)
        };
        // A frame that cannot be read any more may bring back what it is a copy of, an entry that was
        // lost before included: not done.
        if !in_payload && hit.iter().any(|record| self.hit.contains(&record.place())) {
            return None;
        }
        // Everything before a checkpoint is gone: it stands twice, and one copy is left alone.
        let checkpoints = hit.iter().filter(|record| record.kind == CHECKPOINT);
        for record in checkpoints.clone() {
            let is_other = |other: &&Record| {
                let same = (other.kind, other.group, other.index)
                    == (record.kind, record.group, record.index);
                let place = (other.group, other.index, other.frame);
                let whole = !self.spoiled_checkpoints.contains(&place);
                same && other.frame != record.frame && other.frame <= scan.proven && whole
            };
            scan.records.iter().find(is_other)?;
        }
        let meta: Vec<&&Record> = hit.iter().filter(|it| it.is_meta_entry()).collect();
        let undone = meta.iter().any(|record| scan.undoes_deletion(record));
        let removal = hit.iter().any(|record| record.kind == GROUP_REMOVED);
        let again = self.meta_hit || self.removal_hit;
        if undone || (again && !meta.is_empty()) || (self.meta_hit && removal) {
            return None;
        }
        self.meta_hit |= !meta.is_empty();
        self.removal_hit |= removal;
        let spoiled = checkpoints.map(|record| (record.group, record.index, record.frame));
        self.spoiled_checkpoints.extend(spoiled);
        self.hit.extend(hit.iter().map(|record| record.place()));
        let entries = hit.into_iter().filter(|record| record.kind == ENTRY);
        let entries = entries.filter(|record| record.group > 0);
        let hits = Hits {
            entries: entries.cloned().collect(),
            message: None,
        };
        Some((range, hits))
    }
}

fn segment_target(path: &str, content: &[u8], random: &mut Random) -> Option<(Range<usize>, Hits)> {
    let mut parts = segment_parts(content);
    parts.push((0..SEGMENT_HEAD_BYTES.min(content.len()), None));
    let (range, sequence) = parts
        .get(random.below(parts.len() as u64) as usize)?
        .clone();
    if range.is_empty() {
        return None;
    }
    let hits = Hits {
        entries: Vec::new(),
        message: sequence.zip(group_of(path)).map(|(at, group)| (group, at)),
    };
    Some((range, hits))
}
