//! A seeded life of the journal alone: appends for several groups, checkpoints, power cuts, kills,
//! failed syncs, recoveries cut short; after each recovery an oracle compares.
//!
//! The oracle: what recovery gives back is the state after some prefix of all that was appended, and
//! that prefix reaches at least to the last record that was reported durable.

use crate::digest::Digest;
use crate::disk::{Counters, Knobs, SimDisk};
use crate::erasing::Erasing;
use crate::journal_model::{Model, Payloads, apply, difference, model_of};
use bytes::Bytes;
use millrace_clock::{Now, Random};
use millrace_store::disk::{DiskOperation, DiskReply, Lane, Token};
use millrace_store::journal::{
    Damage, Durability, GroupId, HardState, Journal, JournalEvent, JournalPosition,
    JournalSettings, Progress, Record, RecordKind, RecordTicket, Recovered, Recovery,
    RecoveryError, RecoverySettings, SyncMode,
};
use std::collections::BTreeMap;

/// Checkpoints of all groups after which an erase must have ended.
const ERASE_STEPS_MAX: u32 = 60;

/// How a run goes.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub knobs: Knobs,
    pub sync: SyncMode,
    /// Lives: each ends with a power cut, a kill or a failure, and a recovery.
    pub lives: u32,
    /// Turns of a life, at most.
    pub turns: u64,
    /// Entries may replace entries, and groups may be removed.
    pub rewrites: bool,
    /// Every life ends with a kill, never with a power cut.
    pub kill_only: bool,
    /// Journal bytes above which groups are asked to checkpoint.
    pub budget_bytes: u64,
    /// Released files that may get another life.
    pub spare_files: usize,
    /// Journal bytes of a life from which on files are filled with zeros ahead of use.
    pub fill_after_bytes: u64,
    /// Now and then all that was written is erased.
    pub erases: bool,
}

impl Plan {
    /// Power cuts on a healthy disk.
    pub const POWER: Self = Self {
        knobs: Knobs::POWER,
        sync: SyncMode::Always,
        lives: 4,
        turns: 60,
        rewrites: true,
        kill_only: false,
        budget_bytes: 400 << 10,
        spare_files: 3,
        fill_after_bytes: 32 << 10,
        erases: false,
    };

    /// Power cuts, and erases: what is gone stays gone, and nothing else goes.
    pub const ERASE: Self = Self {
        erases: true,
        lives: 6,
        ..Self::POWER
    };
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub counters: Counters,
    pub digest: u64,
    pub appended: u64,
    pub durable: u64,
    pub recoveries: u64,
    pub recoveries_cut: u64,
    pub failures: u64,
    pub files_released: u64,
    /// Released files that began another life.
    pub files_reused: u64,
    /// Pieces of files that were filled with zeros ahead of use.
    pub pieces_filled: u64,
    pub filled: u64,
    /// Starts that had to wait until somebody else made room.
    pub starts_without_room: u64,
    pub resumed: u64,
    /// Payloads that had to be gone from the disk, and were.
    pub erased: u64,
}

/// One journal's world.
pub struct JournalRun {
    plan: Plan,
    settings: JournalSettings,
    pub disk: SimDisk,
    random: Random,
    now: Now,
    attempt: u16,
    journal: Option<Journal>,
    /// What recovery gave back last.
    base: Model,
    /// Appended since, in order, with tickets.
    appended: Vec<(RecordTicket, Record)>,
    /// How many of `appended` were reported durable.
    durable: usize,
    /// `base` with all of `appended`.
    current: Model,
    next_group: u64,
    located: Vec<(RecordTicket, JournalPosition)>,
    full: bool,
    erasing: Erasing,
    outcome: Outcome,
    digest: Digest,
}

impl JournalRun {
    /// An empty disk and no journal yet.
    #[must_use]
    pub fn new(seed: u64, plan: Plan) -> Self {
        let random = Random::new(seed);
        let settings = JournalSettings {
            sync: plan.sync,
            file_bytes: 64 << 10,
            reserve_bytes: 64 << 10,
            budget_bytes: plan.budget_bytes,
            frame_bytes: 16 << 10,
            pipeline_bytes: 8 << 10,
            spare_files: plan.spare_files,
            fill_after_bytes: plan.fill_after_bytes,
            fill_bytes: 8 << 10,
            ..JournalSettings::default()
        };
        Self {
            plan,
            settings,
            disk: SimDisk::new(random.stream(1).next_u64(), plan.knobs),
            random: random.stream(2),
            now: Now {
                monotonic_ns: 1,
                wall_ns: 1,
            },
            attempt: 0,
            journal: None,
            base: Model::new(),
            appended: Vec::new(),
            durable: 0,
            current: Model::new(),
            next_group: 1,
            located: Vec::new(),
            full: false,
            erasing: Erasing::default(),
            outcome: Outcome::default(),
            digest: Digest::default(),
        }
    }

    /// Lives all lives of the plan.
    ///
    /// # Errors
    /// What the oracle found wrong.
    pub fn run(mut self) -> Result<Outcome, String> {
        self.recover_whole()?;
        for _ in 0..self.plan.lives {
            self.live()?;
            if self.plan.erases && self.random.below(3) == 0 {
                self.end_erasing()?;
            }
            self.die();
            self.recover_whole()?;
            // What a start rests on must survive without any further work.
            if !self.plan.kill_only && self.random.below(4) == 0 {
                self.power_cut();
                self.recover_whole()?;
            }
        }
        self.outcome.erased = self.erasing.erased;
        self.outcome.counters = self.disk.counters();
        self.digest.add(self.disk.digest());
        self.outcome.digest = self.digest.value();
        Ok(self.outcome)
    }

    /// A disk that only forgets must never look damaged.
    fn recover_whole(&mut self) -> Result<(), String> {
        match self.recover()?.first() {
            None => Ok(()),
            Some(damage) => Err(format!("damage is reported: {damage}")),
        }
    }

    /// Turns until the seed ends the life or the journal fails.
    ///
    /// # Errors
    /// What the oracle found wrong.
    pub fn live(&mut self) -> Result<(), String> {
        for _ in 0..self.random.below(self.plan.turns) + 1 {
            self.turn()?;
            if self.journal.is_none() || self.full {
                break;
            }
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), String> {
        if !self.full || self.random.below(4) == 0 {
            for _ in 0..self.random.below(8) {
                self.append_something();
            }
        }
        if self.plan.erases && self.random.below(10) == 0 {
            self.erase();
        }
        self.poll();
        match self.random.below(4) {
            0 => self.sleep(),
            1 => self.drain()?,
            _ => {
                for _ in 0..self.random.below(6) {
                    self.disk_step()?;
                }
            }
        }
        Ok(())
    }

    /// Erases all that was appended so far.
    fn erase(&mut self) {
        let Some(journal) = &mut self.journal else {
            return;
        };
        let ticket = journal.erase(GroupId(1));
        let entries = self.current.values().flat_map(|group| &group.entries);
        let current = entries.map(|(_, (_, payload))| payload.clone());
        let appended = self
            .appended
            .iter()
            .map(|(_, record)| record.payload.clone());
        self.erasing.erase(appended.chain(current), ticket);
    }

    /// Lets an erase come to its end.
    fn end_erasing(&mut self) -> Result<(), String> {
        for _ in 0..ERASE_STEPS_MAX {
            let erasing = self.journal.as_ref().is_some_and(Journal::is_erasing);
            if !erasing || self.full {
                return Ok(());
            }
            self.checkpoint_all();
            self.drain()?;
            self.sleep();
        }
        Err("an erase does not end".to_owned())
    }

    /// Lets everything under way end.
    ///
    /// # Errors
    /// What the oracle found wrong.
    pub fn drain(&mut self) -> Result<(), String> {
        loop {
            self.poll();
            if !self.disk_step()? {
                return Ok(());
            }
        }
    }

    /// Time passes until the journal's next deadline, or a little.
    pub fn sleep(&mut self) {
        let deadline = self.journal.as_ref().and_then(Journal::next_deadline);
        let until = deadline.unwrap_or(self.now.monotonic_ns + 1_000_000);
        self.now.monotonic_ns = self.now.monotonic_ns.max(until);
        self.poll();
    }

    fn poll(&mut self) {
        let mut requests = Vec::new();
        if let Some(journal) = &mut self.journal {
            journal.poll(self.now, &mut requests);
        }
        for request in &requests {
            match &request.operation {
                DiskOperation::Rename { from, .. } => {
                    self.outcome.files_reused += u64::from(from.ends_with(".spare"));
                }
                DiskOperation::Write { offset, .. } if request.lane == Lane::Data => {
                    self.outcome.pieces_filled += u64::from(*offset > 0);
                }
                _ => {}
            }
        }
        self.disk.submit(requests);
    }

    fn disk_step(&mut self) -> Result<bool, String> {
        let Some(completion) = self.disk.step() else {
            return Ok(false);
        };
        self.now.monotonic_ns += self.random.below(100_000);
        let mut events = Vec::new();
        if let Some(journal) = &mut self.journal {
            journal.complete(self.now, completion, &mut events);
        }
        for event in events {
            self.digest.add_bytes(format!("{event:?}").as_bytes());
            self.take_event(event)?;
        }
        if let Some(journal) = &self.journal {
            self.erasing.check(&self.disk, journal.is_erasing())?;
        }
        self.poll();
        Ok(true)
    }

    fn take_event(&mut self, event: JournalEvent) -> Result<(), String> {
        match event {
            JournalEvent::Located { ticket, position } => self.located.push((ticket, position)),
            JournalEvent::Durable { through } => {
                let durable = self
                    .appended
                    .iter()
                    .take_while(|(ticket, _)| *ticket <= through)
                    .count();
                if durable < self.durable {
                    return Err(format!("durable went back at {through:?}"));
                }
                self.durable = durable;
                self.erasing.durable(through);
            }
            JournalEvent::Failed { .. } => {
                self.outcome.failures += 1;
                self.journal = None;
            }
            JournalEvent::SpaceWanted | JournalEvent::Erased => {}
            JournalEvent::Full => {
                self.full = true;
                self.outcome.filled += 1;
            }
            JournalEvent::Resumed => {
                self.full = false;
                self.outcome.resumed += 1;
            }
            JournalEvent::NeedCheckpoint { groups } => {
                for group in groups {
                    self.checkpoint(group);
                }
            }
            JournalEvent::FileReleased { .. } => self.outcome.files_released += 1,
        }
        Ok(())
    }

    fn append(&mut self, group: GroupId, kind: RecordKind, payload: Bytes, durability: Durability) {
        let record = Record {
            group,
            kind,
            payload,
        };
        let Some(journal) = &mut self.journal else {
            return;
        };
        let ticket = journal.append(record.clone(), durability);
        apply(&mut self.current, &record);
        self.appended.push((ticket, record));
        self.outcome.appended += 1;
    }

    fn payload(&mut self) -> Bytes {
        let length = match self.random.below(20) {
            0 => self.random.below(20_000),
            1..=4 => self.random.below(2_000),
            _ => self.random.below(200),
        };
        let start = self.random.next_u64();
        let mark = match self.plan.erases {
            true => [start, self.random.next_u64()]
                .map(u64::to_le_bytes)
                .concat(),
            false => Vec::new(),
        };
        let rest =
            (0..length).map(|at| (start.wrapping_add(at.wrapping_mul(start | 1)) >> 13) as u8);
        mark.into_iter().chain(rest).collect()
    }

    fn append_something(&mut self) {
        let groups: Vec<GroupId> = self.current.keys().copied().collect();
        let durability = if self.random.below(3) == 0 {
            Durability::Lazy
        } else {
            Durability::Now
        };
        if groups.len() < 2 || (groups.len() < 6 && self.random.below(20) == 0) {
            let group = GroupId(self.next_group);
            self.next_group += 1;
            let kind = RecordKind::HardState(HardState {
                term: 1,
                vote: 1,
                commit: 0,
            });
            self.append(group, kind, Bytes::new(), durability);
            return;
        }
        let group = groups[self.random.below(groups.len() as u64) as usize];
        match self.random.below(40) {
            0 if self.plan.rewrites => {
                self.append(group, RecordKind::GroupRemoved, Bytes::new(), durability);
            }
            1 | 2 => self.checkpoint(group),
            3..=6 => {
                let term = 1 + self.random.below(3);
                let state = HardState {
                    term,
                    vote: term,
                    commit: self.random.below(100),
                };
                self.append(
                    group,
                    RecordKind::HardState(state),
                    Bytes::new(),
                    durability,
                );
            }
            7 | 8 if self.plan.rewrites => self.rewrite(group, durability),
            _ => {
                let (_, last) = self.bounds(group);
                let kind = RecordKind::Entry {
                    index: last + 1,
                    term: 1,
                };
                let payload = self.payload();
                self.append(group, kind, payload, durability);
            }
        }
    }

    /// The checkpoint index and the last index of a group.
    fn bounds(&self, group: GroupId) -> (u64, u64) {
        let Some(model) = self.current.get(&group) else {
            return (0, 0);
        };
        let checkpoint = model
            .checkpoint
            .as_ref()
            .map_or(0, |checkpoint| checkpoint.0);
        let last = model
            .entries
            .last_key_value()
            .map_or(checkpoint, |(index, _)| *index);
        (checkpoint, last)
    }

    fn rewrite(&mut self, group: GroupId, durability: Durability) {
        let (checkpoint, last) = self.bounds(group);
        let index = checkpoint + 1 + self.random.below(last - checkpoint + 1);
        let payload = self.payload();
        let term = 2 + self.random.below(3);
        self.append(
            group,
            RecordKind::Entry { index, term },
            payload,
            durability,
        );
    }

    /// A checkpoint somewhere up to the last entry; now and then a snapshot far ahead.
    fn checkpoint(&mut self, group: GroupId) {
        let (checkpoint, last) = self.bounds(group);
        let snapshot = self.plan.rewrites && self.random.below(10) == 0;
        let index = if snapshot {
            last + self.random.below(10)
        } else {
            last - self.random.below(last - checkpoint + 1).min(3)
        };
        let known = self
            .current
            .get(&group)
            .and_then(|model| model.entries.get(&index));
        let term = known.map_or(1, |entry| entry.0) + u64::from(snapshot);
        let payload = self.payload();
        let kind = RecordKind::Checkpoint { index, term };
        self.append(group, kind, payload, Durability::Now);
    }

    /// Checkpoints every group at its last entry.
    pub fn checkpoint_all(&mut self) {
        let groups: Vec<GroupId> = self.current.keys().copied().collect();
        for group in groups {
            let (_, index) = self.bounds(group);
            let kind = RecordKind::Checkpoint { index, term: 1 };
            self.append(group, kind, Bytes::from_static(b"all"), Durability::Now);
        }
    }

    /// Ends the life, mostly in the middle of work.
    pub fn die(&mut self) {
        let failed = self.journal.is_none();
        // Most deaths come in the middle of work.
        for _ in 0..self.random.below(6) {
            self.append_something();
            self.poll();
        }
        self.journal = None;
        if self.plan.kill_only || self.random.below(4) == 0 {
            self.kill();
            return;
        }
        // A failed journal is first recovered in the same run, by the same process.
        if !failed || self.random.below(2) == 0 {
            self.power_cut();
        }
    }

    fn power_cut(&mut self) {
        // In lazy mode "durable" ends with the power.
        if self.plan.sync != SyncMode::Always {
            self.durable = 0;
            self.erasing.power_cut_in_lazy_mode();
        }
        self.disk.power_cut();
        self.attempt = 0;
    }

    /// The process dies, and with it what it had asked for: the next start is a first one.
    fn kill(&mut self) {
        self.disk.kill();
        self.attempt = 0;
    }

    /// Recovers, possibly cut short a few times, and lets the oracle look at the result.
    ///
    /// # Errors
    /// What the oracle found wrong.
    pub fn recover(&mut self) -> Result<Vec<Damage>, String> {
        self.journal = None;
        let mut cuts_left = self.random.below(3);
        loop {
            let limit = if cuts_left > 0 {
                1 + self.random.below(40)
            } else {
                u64::MAX
            };
            match self.recover_once(limit) {
                Ok(Some(recovered)) => {
                    self.outcome.recoveries += 1;
                    return self.check(*recovered);
                }
                Ok(None) => {
                    cuts_left -= 1;
                    self.outcome.recoveries_cut += 1;
                    if self.plan.kill_only || self.random.below(3) == 0 {
                        self.kill();
                    } else {
                        self.power_cut();
                    }
                }
                Err(error) if self.disk.knobs().fail_sync_permille == 0 => {
                    return Err(format!("recovery failed: {error}"));
                }
                Err(_) => self.kill(),
            }
        }
    }

    /// One recovery; `None` when it was cut after `limit` operations.
    fn recover_once(&mut self, limit: u64) -> Result<Option<Box<Recovered>>, RecoveryError> {
        let attempt = self.attempt;
        self.attempt += 1;
        let settings = RecoverySettings {
            journal: self.settings.clone(),
            server_id: "SIMULATED".to_owned(),
            seed: self.random.next_u64(),
            attempt,
            keys: millrace_store::seal::Keys::default(),
        };
        let mut requests = Vec::new();
        let mut recovery = Recovery::start(settings, self.now, &mut requests);
        for _ in 0..limit {
            self.disk.submit(requests.drain(..));
            // Requests of a journal that failed may still be under way.
            let Some(completion) = self.disk.step() else {
                let Some(due) = recovery.next_deadline() else {
                    break;
                };
                // Whoever else had filled the disk makes room.
                let mut knobs = self.disk.knobs();
                knobs.capacity_bytes += 16 << 10;
                self.disk.set_knobs(knobs);
                self.now.monotonic_ns = due;
                recovery.tick(self.now, &mut requests);
                continue;
            };
            match recovery.complete(self.now, completion, &mut requests) {
                Progress::Working => {}
                Progress::NoRoom => self.outcome.starts_without_room += 1,
                Progress::Done(recovered) => return Ok(Some(recovered)),
                Progress::Failed(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Reads the payloads of what was found back from the journal.
    fn payloads(&mut self, recovered: &mut Recovered) -> Result<Payloads, String> {
        let mut payloads = Payloads::new();
        for (id, group) in &recovered.groups {
            for entry in &group.entries {
                let read = recovered
                    .journal
                    .read(Token(1), entry.position, entry.length);
                let Some(request) = read else {
                    return Err(format!("{entry:?} is in a file that is gone"));
                };
                self.disk.submit([request]);
                // Requests of a journal that failed may still be under way.
                let answer = loop {
                    match self.disk.step() {
                        Some(done) if done.token == Token(1) => break done.result,
                        Some(_) => {}
                        None => return Err("a read has no end".to_owned()),
                    }
                };
                recovered.journal.read_done(entry.position.file);
                let Ok(DiskReply::Data(payload)) = answer else {
                    return Err(format!("{entry:?} cannot be read: {answer:?}"));
                };
                if !recovered.journal.is_intact(entry, &payload) {
                    return Err(format!("{entry:?} is not what was found"));
                }
                payloads.insert((*id, entry.index), payload);
            }
        }
        Ok(payloads)
    }

    fn check(&mut self, mut recovered: Recovered) -> Result<Vec<Damage>, String> {
        let payloads = self.payloads(&mut recovered)?;
        let found = model_of(&recovered.groups, &payloads);
        let holes = recovered
            .groups
            .values()
            .any(|group| !group.missing.is_empty());
        if recovered.server_id != "SIMULATED" {
            return Err(format!("server id {:?}", recovered.server_id));
        }
        if recovered.report.is_empty() {
            if holes {
                return Err("entries are missing and no damage is reported".to_owned());
            }
            self.check_prefix(&found)?;
        }
        self.digest.add_bytes(format!("{found:?}").as_bytes());
        self.outcome.durable += self.durable as u64;
        self.base = found.clone();
        self.current = found;
        self.appended.clear();
        self.durable = 0;
        self.located.clear();
        self.full = false;
        let is_erasing = recovered.journal.is_erasing();
        self.erasing.check_start(&self.disk, is_erasing)?;
        self.journal = Some(recovered.journal);
        Ok(recovered.report)
    }

    /// The found state is that of a prefix that holds all that was durable.
    fn check_prefix(&self, found: &Model) -> Result<(), String> {
        let mut model = self.base.clone();
        let records = self.appended.iter().map(|(_, record)| record);
        for record in records.clone().take(self.durable) {
            apply(&mut model, record);
        }
        if model == *found {
            return Ok(());
        }
        for record in records.skip(self.durable) {
            apply(&mut model, record);
            if model == *found {
                return Ok(());
            }
        }
        Err(format!(
            "recovered state is no prefix at or behind the {} durable of {} records: {}",
            self.durable,
            self.appended.len(),
            difference(&self.current, found)
        ))
    }

    /// Every entry appended since the last recovery, also those that a checkpoint made needless.
    #[must_use]
    pub fn history(&self) -> BTreeMap<(GroupId, u64), Bytes> {
        let entry = |record: &Record| match record.kind {
            RecordKind::Entry { index, .. } => {
                Some(((record.group, index), record.payload.clone()))
            }
            _ => None,
        };
        self.appended
            .iter()
            .filter_map(|(_, record)| entry(record))
            .collect()
    }

    /// Every entry of the groups as they are.
    #[must_use]
    pub fn entries(&self) -> BTreeMap<(GroupId, u64), Bytes> {
        let mut all = BTreeMap::new();
        for (id, group) in &self.current {
            for (index, (_, payload)) in &group.entries {
                all.insert((*id, *index), payload.clone());
            }
        }
        all
    }

    /// Reads every located payload back from the journal. Call with nothing under way.
    ///
    /// # Errors
    /// A payload that is not what was written.
    pub fn read_back(&mut self) -> Result<usize, String> {
        let located: Vec<(Bytes, JournalPosition)> = self
            .located()
            .map(|(record, position)| (record.payload.clone(), position))
            .collect();
        let mut read = 0;
        for (payload, position) in located {
            let Some(journal) = &mut self.journal else {
                break;
            };
            let length = payload.len() as u32;
            let Some(request) = journal.read(Token(1), position, length) else {
                continue;
            };
            self.disk.submit([request]);
            let answer = self.disk.step().map(|completion| completion.result);
            if answer != Some(Ok(DiskReply::Data(payload))) {
                return Err(format!("{position:?} holds something else: {answer:?}"));
            }
            journal.read_done(position.file);
            read += 1;
        }
        Ok(read)
    }

    /// Whether the journal said that the disk is full and not yet that it resumed.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Records appended and not yet durable.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.appended.len() - self.durable
    }

    /// Payloads that can be read back, and where.
    pub fn located(&self) -> impl Iterator<Item = (&Record, JournalPosition)> {
        self.located.iter().filter_map(|(ticket, position)| {
            let at = self
                .appended
                .binary_search_by_key(ticket, |(ticket, _)| *ticket)
                .ok()?;
            Some((&self.appended[at].1, *position))
        })
    }

    /// What happened so far.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        Outcome {
            counters: self.disk.counters(),
            ..self.outcome
        }
    }
}
