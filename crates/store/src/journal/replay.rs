//! What the frames found in the journal's files mean together: which are proven, which are void,
//! what is damage and what a torn tail, and what every group's log is in the end. Pure; reading the
//! files is `recovery.rs`.
//!
//! A frame is *proven* when a later one says so (`durable_through`). A hole among proven frames is
//! damage; a hole behind them is the torn end of what was never acknowledged. A complete run of
//! copied frames makes void what older files hold behind the run's base (hard-parts 3).

use super::frame::{DecodedFrame, FLAG_COPY, FLAG_COPY_END};
use super::record::seal_payload;
use super::recovered::{Damage, RecoveredCheckpoint, RecoveredEntry, RecoveredGroup};
use super::{GroupId, HardState, JournalPosition, RecordKind};
use crate::seal::FileKey;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Numbers left out between what recovery found and the run it writes, so that a frame which was
/// torn and unseen can never share a number with a new one.
pub(super) const NUMBER_MARGIN: u64 = 16;

/// One record as found in a frame. The payload of an entry is not kept: entries are many, and where
/// they lie is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundRecord {
    pub group: GroupId,
    pub kind: RecordKind,
    /// The payload fits its checksum.
    pub intact: bool,
    /// Empty for entries.
    pub payload: Bytes,
    pub position: JournalPosition,
    pub length: u32,
    pub checksum: u64,
}

/// A frame whose head is right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FoundFrame {
    pub number: u64,
    /// Of its file.
    pub epoch: u64,
    pub key: Option<FileKey>,
    pub records: Vec<FoundRecord>,
    intact: bool,
}

impl FoundFrame {
    /// A payload of this frame as it was given to the journal.
    pub(super) fn opened(&self, found: &FoundRecord, payload: &Bytes) -> Bytes {
        match &self.key {
            Some(key) => seal_payload(key, found.kind, found.position.offset, payload),
            None => payload.clone(),
        }
    }
}

#[derive(Clone, Debug)]
enum Item {
    Frame(FoundFrame),
    /// Frames `from..to` are not there, or not readable, in or before this place of this file.
    Gap {
        from: u64,
        to: u64,
        file: u64,
        offset: u64,
        length: u64,
    },
}

impl Item {
    fn first_number(&self) -> u64 {
        match self {
            Self::Frame(frame) => frame.number,
            Self::Gap { from, .. } => *from,
        }
    }
}

/// A run of copied frames whose end has not been seen yet.
#[derive(Debug)]
struct CopyRun {
    first: u64,
    base: u64,
    next: u64,
    items: Vec<Item>,
}

/// What is left when all files have been fed.
#[derive(Debug)]
pub(super) struct Remainder {
    /// Frames up to this number are proven; later ones in the files are void from now on.
    pub base: u64,
    /// The number for the first frame to be written.
    pub next_number: u64,
    /// Intact frames behind the proven ones, in order: to be written again.
    pub unproven: Vec<FoundFrame>,
}

/// Takes frames in the order of the files and keeps what they say.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pending: VecDeque<Item>,
    /// The number of the last frame in sequence.
    last: Option<u64>,
    highest_seen: u64,
    /// The highest frame that is proven.
    settled: u64,
    run: Option<CopyRun>,
    groups: BTreeMap<GroupId, GroupLog>,
    has_erased: bool,
    /// Groups whose end is written down.
    removed: BTreeSet<GroupId>,
    damage: Vec<Damage>,
}

/// What the journal's files say, all in all.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub groups: BTreeMap<GroupId, GroupLog>,
    pub removed: BTreeSet<GroupId>,
    pub damage: Vec<Damage>,
}

impl Replay {
    /// Takes the next valid-looking frame. `bytes` begin where it does; `expected_offset` is where
    /// the frame before it in this file ended.
    pub(super) fn feed(
        &mut self,
        (file, key): (u64, Option<&FileKey>),
        bytes: &[u8],
        frame: &DecodedFrame,
        expected_offset: u64,
    ) {
        let number = frame.head.number;
        self.highest_seen = self.highest_seen.max(number);
        let item = found_item((file, key), bytes, frame);
        let hole = (
            expected_offset,
            frame.offset.saturating_sub(expected_offset),
        );
        if frame.head.flags & FLAG_COPY != 0 {
            self.feed_copy(file, frame, item, hole);
            return;
        }
        self.close_run_before(number, file, hole);
        if self.last.is_some_and(|last| number <= last) {
            return;
        }
        self.note_gap(number, file, hole);
        self.pending.push_back(item);
        self.last = Some(number);
        self.settle(frame.head.durable_through);
    }

    fn feed_copy(&mut self, file: u64, frame: &DecodedFrame, item: Item, hole: (u64, u64)) {
        let number = frame.head.number;
        let first = number.saturating_sub(u64::from(frame.head.run_place));
        if self.last.is_some_and(|last| first <= last) {
            return;
        }
        let fresh = CopyRun {
            first,
            base: frame.head.durable_through,
            next: first,
            items: Vec::new(),
        };
        // An unfinished run before this one is void: nothing was ever written behind it.
        let mut run = self
            .run
            .take()
            .filter(|run| run.first == first)
            .unwrap_or(fresh);
        if number < run.next {
            self.run = Some(run);
            return;
        }
        if number > run.next {
            let (offset, length) = hole;
            run.items.push(Item::Gap {
                from: run.next,
                to: number,
                file,
                offset,
                length,
            });
        }
        run.items.push(item);
        run.next = number + 1;
        let whole = run
            .items
            .iter()
            .all(|item| matches!(item, Item::Frame(frame) if frame.intact));
        if frame.head.flags & FLAG_COPY_END != 0 && whole {
            self.adopt(run);
        } else {
            self.run = Some(run);
        }
    }

    /// A frame behind a run proves that the run was complete, even if its end is damaged.
    fn close_run_before(&mut self, number: u64, file: u64, hole: (u64, u64)) {
        let Some(mut run) = self.run.take() else {
            return;
        };
        if number < run.next {
            self.run = Some(run);
            return;
        }
        if number > run.next {
            let (offset, length) = hole;
            run.items.push(Item::Gap {
                from: run.next,
                to: number,
                file,
                offset,
                length,
            });
            run.next = number;
        }
        self.adopt(run);
    }

    fn adopt(&mut self, run: CopyRun) {
        self.settle(run.base);
        self.pending.clear();
        self.last = Some(run.next - 1);
        self.pending.extend(run.items);
    }

    fn note_gap(&mut self, number: u64, file: u64, (offset, length): (u64, u64)) {
        let from = match self.last {
            Some(last) => last + 1,
            // The oldest file: its first frame's number is not known beforehand.
            None if length > 0 => number.saturating_sub(1),
            None => number,
        };
        if from < number {
            self.pending.push_back(Item::Gap {
                from,
                to: number,
                file,
                offset,
                length,
            });
        }
    }

    /// All frames up to `through` are proven.
    fn settle(&mut self, through: u64) {
        self.settled = self.settled.max(through);
        while self
            .pending
            .front()
            .is_some_and(|item| item.first_number() <= through)
        {
            match self.pending.pop_front() {
                Some(Item::Frame(frame)) => {
                    let records = frame.records.into_iter();
                    records.for_each(|record| self.apply_found(record));
                }
                Some(Item::Gap {
                    from,
                    to,
                    file,
                    offset,
                    length,
                }) => {
                    let last_frame = through.min(to - 1);
                    let first_frame = from;
                    let damage = Damage::Frames {
                        file,
                        offset,
                        length,
                        first_frame,
                        last_frame,
                    };
                    self.damage.push(damage);
                    if last_frame + 1 < to {
                        let from = last_frame + 1;
                        self.pending.push_front(Item::Gap {
                            from,
                            to,
                            file,
                            offset,
                            length,
                        });
                    }
                }
                None => {}
            }
        }
    }

    fn apply_found(&mut self, found: FoundRecord) {
        if found.intact {
            self.apply(found);
            return;
        }
        let index = match found.kind {
            RecordKind::Entry { index, .. }
            | RecordKind::EntryByReference { index, .. }
            | RecordKind::Checkpoint { index, .. } => index,
            RecordKind::HardState(_) | RecordKind::GroupRemoved | RecordKind::Erase => 0,
        };
        self.damage.push(Damage::Record {
            file: found.position.file,
            offset: found.position.offset,
            length: u64::from(found.length),
            group: found.group,
            index,
        });
        self.has_erased |= found.kind == RecordKind::Erase;
        if let RecordKind::Entry { index, term } | RecordKind::EntryByReference { index, term } =
            found.kind
        {
            let log = self.groups.entry(found.group).or_default();
            log.entry(index, term, &found);
        }
    }

    /// Applies one record that is durable where its position says.
    pub(super) fn apply(&mut self, found: FoundRecord) {
        match found.kind {
            RecordKind::GroupRemoved => {
                self.groups.remove(&found.group);
                self.removed.insert(found.group);
                return;
            }
            RecordKind::Erase => {
                self.has_erased = true;
                return;
            }
            _ => {}
        }
        let log = self.groups.entry(found.group).or_default();
        let file = found.position.file;
        match found.kind {
            RecordKind::Entry { index, term } | RecordKind::EntryByReference { index, term } => {
                log.entry(index, term, &found);
            }
            RecordKind::HardState(state) => log.hard_state = Some((state, file)),
            RecordKind::Checkpoint { index, term } => {
                log.checkpoint(index, term, found.payload, file);
            }
            RecordKind::GroupRemoved | RecordKind::Erase => {}
        }
    }

    /// Records a finding of the reader.
    pub(super) fn report(&mut self, damage: Damage) {
        self.damage.push(damage);
    }

    /// Something was erased, and files that may hold it are still there.
    pub(super) fn has_erased(&self) -> bool {
        self.has_erased
    }

    /// Something in this file was found damaged, or could not be read.
    pub(super) fn is_damaged(&self, file: u64) -> bool {
        self.damage.iter().any(|damage| damage.file() == file)
    }

    /// All files have been fed. Cuts the torn tail.
    pub(super) fn end(&mut self) -> Remainder {
        self.run = None;
        // Not the number before the first pending frame: that may be one of a run of copies which
        // is not proven itself, and void with it is what it made void.
        let base = self.settled;
        let mut unproven = Vec::new();
        for item in std::mem::take(&mut self.pending) {
            match item {
                Item::Frame(frame) if frame.intact => unproven.push(frame),
                _ => break,
            }
        }
        let next_number = match self.highest_seen {
            0 => 1,
            highest => highest + NUMBER_MARGIN,
        };
        Remainder {
            base,
            next_number,
            unproven,
        }
    }

    /// The groups as they are, those that ended, and what was damaged.
    pub(super) fn finish(self) -> Found {
        Found {
            groups: self.groups,
            removed: self.removed,
            damage: self.damage,
        }
    }
}

fn found_item((file, key): (u64, Option<&FileKey>), bytes: &[u8], frame: &DecodedFrame) -> Item {
    let mut intact = true;
    let mut records = Vec::with_capacity(frame.records.len());
    for found in &frame.records {
        // A kind or version of the future cannot be: the store's format version forbids it.
        let Ok(head) = found.head else {
            intact = false;
            continue;
        };
        let start = (found.offset - frame.offset) as usize;
        let payload = bytes.get(start..start + found.length as usize);
        let record = payload
            .filter(|_| found.intact)
            .map(|payload| head.with_payload(payload));
        intact &= record.is_some();
        let is_entry = matches!(
            head.kind,
            RecordKind::Entry { .. } | RecordKind::EntryByReference { .. }
        );
        let position = JournalPosition {
            file,
            offset: found.offset,
        };
        records.push(FoundRecord {
            group: head.group,
            kind: record.as_ref().map_or(head.kind, |record| record.kind),
            intact: record.is_some(),
            payload: record
                .filter(|_| !is_entry)
                .map_or_else(Bytes::new, |record| match key {
                    Some(key) => seal_payload(key, record.kind, found.offset, &record.payload),
                    None => record.payload,
                }),
            position,
            length: found.length,
            checksum: head.payload_checksum,
        });
    }
    Item::Frame(FoundFrame {
        number: frame.head.number,
        epoch: frame.head.epoch,
        key: key.cloned(),
        records,
        intact,
    })
}

/// An entry of a log: where it is, and whether it can be read.
#[derive(Clone, Copy, Debug)]
struct LoggedEntry {
    entry: RecoveredEntry,
    intact: bool,
}

/// One group's log while it is put together.
#[derive(Debug, Default)]
pub(super) struct GroupLog {
    pub checkpoint: Option<(RecoveredCheckpoint, u64)>,
    pub hard_state: Option<(HardState, u64)>,
    /// Ascending indexes.
    entries: VecDeque<LoggedEntry>,
}

impl GroupLog {
    fn entry(&mut self, index: u64, term: u64, found: &FoundRecord) {
        if self
            .checkpoint
            .as_ref()
            .is_some_and(|(checkpoint, _)| index <= checkpoint.index)
        {
            return;
        }
        while self
            .entries
            .back()
            .is_some_and(|logged| logged.entry.index >= index)
        {
            self.entries.pop_back();
        }
        let entry = RecoveredEntry {
            index,
            term,
            position: found.position,
            length: found.length,
            checksum: found.checksum,
        };
        let intact = found.intact;
        self.entries.push_back(LoggedEntry { entry, intact });
    }

    fn checkpoint(&mut self, index: u64, term: u64, payload: Bytes, file: u64) {
        // A late copy of an older one.
        if self
            .checkpoint
            .as_ref()
            .is_some_and(|(known, _)| known.index > index)
        {
            return;
        }
        let diverged = self
            .entries
            .iter()
            .find(|logged| logged.entry.index == index)
            .is_some_and(|logged| logged.entry.term != term);
        if diverged {
            self.entries.clear();
        }
        while self
            .entries
            .front()
            .is_some_and(|logged| logged.entry.index <= index)
        {
            self.entries.pop_front();
        }
        if let Some((known, _)) = &mut self.checkpoint
            && (known.index, known.term) == (index, term)
            && known.payload == payload
        {
            // Another copy: the file of the first stays needed.
            known.copies = known.copies.saturating_add(1);
            return;
        }
        let checkpoint = RecoveredCheckpoint {
            index,
            term,
            payload,
            copies: 1,
        };
        self.checkpoint = Some((checkpoint, file));
    }

    /// Every entry that is there, with its file: what retention has to know.
    pub(super) fn entry_places(&self) -> impl Iterator<Item = (u64, u64)> {
        let places = self.entries.iter().map(|logged| &logged.entry);
        places.map(|entry| (entry.index, entry.position.file))
    }

    /// What the owner gets: entries and the ranges that are missing.
    pub(super) fn finish(self) -> RecoveredGroup {
        let mut missing: Vec<(u64, u64)> = Vec::new();
        let mut lose = |first: u64, last: u64| match missing.last_mut() {
            Some(range) if range.1 + 1 == first => range.1 = last,
            _ => missing.push((first, last)),
        };
        let checkpoint = self.checkpoint.map(|(checkpoint, _)| checkpoint);
        let mut expected = checkpoint
            .as_ref()
            .map_or(1, |checkpoint| checkpoint.index + 1);
        let mut entries = Vec::with_capacity(self.entries.len());
        for LoggedEntry { entry, intact } in self.entries {
            let index = entry.index;
            if index > expected {
                lose(expected, index - 1);
            }
            if intact {
                entries.push(entry);
            } else {
                lose(index, index);
            }
            expected = index.saturating_add(1);
        }
        let hard_state = self.hard_state.map(|(state, _)| state);
        RecoveredGroup {
            checkpoint,
            hard_state,
            entries,
            missing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Record;
    use super::super::frame::{FLAG_IDLE, FrameHead, decode, encode};
    use super::*;

    const FILE: u64 = 1;
    const EPOCH: u64 = 9;

    fn entry(index: u64) -> Record {
        let kind = RecordKind::Entry { index, term: 1 };
        let payload = Bytes::from(vec![index as u8; 10]);
        Record {
            group: GroupId(1),
            kind,
            payload,
        }
    }

    /// One file's frames laid out one after the other, some of them spoiled.
    #[derive(Default)]
    struct Tape {
        content: Vec<u8>,
        offsets: Vec<u64>,
    }

    impl Tape {
        fn frame(&mut self, number: u64, proven: u64, flags: u16, records: &[Record]) -> &mut Self {
            let head = FrameHead {
                flags,
                epoch: EPOCH,
                number,
                durable_through: proven,
                run_place: 0,
            };
            let offset = self.content.len() as u64;
            let encoded = encode(head, offset, records);
            encoded
                .chunks
                .iter()
                .for_each(|chunk| self.content.extend_from_slice(chunk));
            self.offsets.push(offset);
            self
        }

        /// Spoils the head of the frame laid down last.
        fn spoil_head(&mut self) -> &mut Self {
            let at = self.offsets.pop().expect("a frame") as usize;
            self.content[at] ^= 1;
            self
        }

        /// Spoils the first payload of the frame laid down last.
        fn spoil_payload(&mut self) -> &mut Self {
            let at = *self.offsets.last().expect("a frame") as usize;
            let records = self.content[at + 40] as usize;
            self.content[at + 56 + 40 * records] ^= 1;
            self
        }

        fn replay(&self) -> (Replay, Remainder) {
            let mut replay = Replay::default();
            let mut expected = 0;
            for offset in &self.offsets {
                let frame = decode(EPOCH, &self.content, *offset).expect("a valid head");
                let bytes = &self.content[*offset as usize..];
                replay.feed((FILE, None), bytes, &frame, expected);
                expected = frame.offset + frame.length;
            }
            let remainder = replay.end();
            (replay, remainder)
        }
    }

    /// Indexes of the entries that are to be written again.
    fn unproven(remainder: &Remainder) -> Vec<u64> {
        let records = remainder.unproven.iter().flat_map(|frame| &frame.records);
        let index = |found: &FoundRecord| match found.kind {
            RecordKind::Entry { index, .. } => index,
            _ => 0,
        };
        records.map(index).collect()
    }

    fn indexes(replay: Replay) -> (Vec<u64>, Vec<(u64, u64)>, usize) {
        let mut found = replay.finish();
        let group = found.groups.remove(&GroupId(1)).unwrap_or_default();
        let group = group.finish();
        let indexes = group.entries.iter().map(|entry| entry.index).collect();
        (indexes, group.missing, found.damage.len())
    }

    #[test]
    fn a_bad_frame_behind_the_proven_ones_is_a_torn_tail() {
        let mut tape = Tape::default();
        tape.frame(1, 0, 0, &[entry(1)]).frame(2, 1, 0, &[entry(2)]);
        tape.frame(3, 1, 0, &[entry(3)]).spoil_head();
        tape.frame(4, 2, 0, &[entry(4)]);
        let (replay, remainder) = tape.replay();
        assert_eq!(remainder.base, 2);
        let again = unproven(&remainder);
        assert_eq!(
            again,
            Vec::<u64>::new(),
            "what stands behind the hole goes too"
        );
        assert_eq!(remainder.next_number, 4 + NUMBER_MARGIN);
        assert_eq!(indexes(replay), (vec![1, 2], vec![], 0));
    }

    #[test]
    fn a_bad_frame_that_a_later_one_proves_is_damage() {
        let mut tape = Tape::default();
        tape.frame(1, 0, 0, &[entry(1)])
            .frame(2, 1, 0, &[entry(2)])
            .spoil_head();
        tape.frame(3, 2, 0, &[entry(3)]).frame(4, 3, FLAG_IDLE, &[]);
        let (replay, remainder) = tape.replay();
        assert_eq!(remainder.base, 3);
        assert_eq!(indexes(replay), (vec![1, 3], vec![(2, 2)], 1));
    }

    #[test]
    fn damage_to_one_payload_costs_one_record() {
        let mut tape = Tape::default();
        tape.frame(1, 0, 0, &[entry(1), entry(2)])
            .spoil_payload()
            .frame(2, 1, FLAG_IDLE, &[]);
        let (replay, _) = tape.replay();
        assert_eq!(indexes(replay), (vec![2], vec![(1, 1)], 1));
    }

    #[test]
    fn a_group_that_ended_is_told_from_one_that_never_was() {
        let end = Record {
            group: GroupId(1),
            kind: RecordKind::GroupRemoved,
            payload: Bytes::new(),
        };
        let mut tape = Tape::default();
        tape.frame(1, 0, 0, &[entry(1), end])
            .frame(2, 1, FLAG_IDLE, &[]);
        let (replay, _) = tape.replay();
        let found = replay.finish();
        assert!(found.groups.is_empty());
        assert_eq!(found.removed.into_iter().collect::<Vec<_>>(), [GroupId(1)]);
    }

    #[test]
    fn frames_that_nothing_proves_are_given_back_to_be_written_again() {
        let mut tape = Tape::default();
        tape.frame(1, 0, 0, &[entry(1)])
            .frame(2, 1, 0, &[entry(2), entry(3)]);
        let (replay, remainder) = tape.replay();
        assert_eq!(unproven(&remainder), vec![2, 3]);
        assert_eq!(indexes(replay).0, vec![1]);
    }

    #[test]
    fn a_whole_run_of_copies_makes_older_frames_void_and_a_torn_one_does_not() {
        let laid = |tape: &mut Tape| {
            tape.frame(1, 0, 0, &[entry(1)])
                .frame(2, 1, 0, &[entry(2), entry(3)]);
            tape.frame(18, 1, FLAG_COPY | FLAG_COPY_END, &[entry(2)]);
        };
        let mut tape = Tape::default();
        laid(&mut tape);
        let (_, remainder) = tape.replay();
        assert_eq!((remainder.base, unproven(&remainder)), (1, vec![2]));
        let mut tape = Tape::default();
        laid(&mut tape);
        tape.spoil_payload();
        let (_, remainder) = tape.replay();
        assert_eq!((remainder.base, unproven(&remainder)), (1, vec![2, 3]));
        // A frame behind the run shows that the run was complete: now it is damage.
        let mut tape = Tape::default();
        laid(&mut tape);
        tape.spoil_payload().frame(19, 18, 0, &[entry(3)]);
        let (replay, remainder) = tape.replay();
        assert_eq!((remainder.base, unproven(&remainder)), (18, vec![3]));
        assert_eq!(indexes(replay), (vec![1], vec![(2, 2)], 1));
    }

    #[test]
    fn a_run_that_was_never_proven_may_vanish_again() {
        let mut tape = Tape::default();
        tape.frame(1, 0, 0, &[entry(1)]).frame(2, 1, 0, &[entry(2)]);
        tape.frame(3, 1, 0, &[entry(3)]).spoil_payload();
        // The run at 19 is gone; the next start had seen it, and copied what it held.
        tape.frame(35, 1, FLAG_COPY | FLAG_COPY_END, &[entry(2)]);
        let (replay, remainder) = tape.replay();
        assert_eq!((remainder.base, unproven(&remainder)), (1, vec![2]));
        assert_eq!(indexes(replay), (vec![1], vec![], 0), "no damage");
    }
}
