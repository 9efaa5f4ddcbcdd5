//! A seeded life of a whole server: clients do what `workload.rs` and `consumer_work.rs` draw; the
//! disk is simulated; the power goes at any operation; the server starts again, and all that can be
//! read of it must be explained by what was acknowledged.

use crate::client::{Received, publish};
use crate::damaged::Damaged;
use crate::disk::{Counters, Knobs};
use crate::extras::{AGAIN, Extra, ExtraRequest, Extras};
use crate::model::Limits;
use crate::resolve::Seen;
use crate::track::{Existence, Track};
use crate::world::{PATIENCE_NS, World, draw_sizes};
use bytes::Bytes;
use millrace_clock::Random;
use millrace_node::LogSeverity;
use std::collections::BTreeMap;

/// Steps that a quiet server may take before it is called stuck.
const STEPS_MAX: u32 = 200_000;
/// Publishes that fill the smallest disk of the tests for certain.
const FILL_PUBLISHES: u32 = 5_000;
/// The smallest disk holds a journal's active file and little else; the largest is filled by some runs.
const CAPACITY_BYTES_MIN: u64 = 256 << 10;
const CAPACITY_BYTES_MORE: u64 = 512 << 10;
/// What is given back when a start finds nothing left.
const ROOM_BYTES: u64 = 128 << 10;
/// Of the seed's randomness, what the capacity is drawn from.
const CAPACITY_STREAM: u64 = 4;
/// And whether its store is sealed.
const KEY_STREAM: u64 = 6;
/// Between two scrubs of a server that is scrubbed.
const SCRUB_INTERVAL_NS: u64 = 20_000_000;
pub(crate) const INBOX: &str = "_INBOX.sim";

/// How a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePlan {
    pub knobs: Knobs,
    /// Lives: each ends with a power cut, a kill or a stop in order, and a start.
    pub lives: u32,
    /// Turns of a life, at most.
    pub turns: u64,
    pub streams: u64,
    /// The wall clock is set now and then.
    pub clock_jumps: bool,
    /// Bits flip in cold data, while the server runs and while it does not.
    pub flips: bool,
    /// All that is on disk is scrubbed again and again.
    pub scrubs: bool,
    /// What happens by itself.
    pub extra: Extra,
}

impl NodePlan {
    /// Power cuts on a healthy disk.
    pub const POWER: Self = Self {
        knobs: Knobs::POWER,
        lives: 3,
        turns: 60,
        streams: 3,
        clock_jumps: false,
        flips: false,
        scrubs: false,
        extra: Extra::None,
    };

    /// The faults that belong to a seed: power cuts always, and one other kind in turn.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        let mut plan = Self {
            clock_jumps: seed % 3 == 1,
            extra: Extra::of_seed(seed),
            ..Self::POWER
        };
        match seed % 6 {
            1 => plan.knobs.fail_sync_permille = 5,
            2 => plan.knobs.fail_write_permille = 5,
            3 => plan.knobs.fail_read_permille = 20,
            4 => {
                let mut random = Random::new(seed).stream(CAPACITY_STREAM);
                plan.knobs.capacity_bytes = CAPACITY_BYTES_MIN + random.below(CAPACITY_BYTES_MORE);
                // On a full disk nothing has to happen by itself.
                plan.extra = Extra::None;
            }
            _ => {}
        }
        plan
    }

    /// Power cuts, and bits that flip in cold data.
    #[must_use]
    pub const fn flips() -> Self {
        Self {
            flips: true,
            ..Self::POWER
        }
    }
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeOutcome {
    pub counters: Counters,
    pub digest: u64,
    pub acknowledged: u64,
    pub batches: u64,
    pub duplicates: u64,
    pub deletes: u64,
    pub purges: u64,
    pub updates: u64,
    pub removed_streams: u64,
    pub reads: u64,
    pub deliveries: u64,
    pub redeliveries: u64,
    pub confirmed_acks: u64,
    /// Messages that went because all who wanted them have acknowledged them.
    pub settled: u64,
    /// Messages that nobody wanted and that were not stored.
    pub unwanted: u64,
    /// Messages that a mirror and a source have, schedules that were due, delete markers, messages
    /// published again.
    pub copied: u64,
    pub scheduled: u64,
    pub markers: u64,
    pub republished: u64,
    pub refused: u64,
    pub starts: u64,
    /// Servers that wrote their last checkpoints and ended.
    pub stops: u64,
    /// Damaged messages that were not served, and checks at which damaged operations were missing.
    pub unreadable: u64,
    pub losses: u64,
    /// Indexes of idle streams that were given back.
    pub indexes_given_up: u64,
    /// Bytes that were scrubbed.
    pub scrubbed_bytes: u64,
    /// Starts on a full disk with nothing left to use: somebody else had to make room.
    pub rooms_made: u64,
}

impl NodeOutcome {
    /// Adds what another run did.
    pub fn add(&mut self, other: &Self) {
        self.counters.add(&other.counters);
        self.acknowledged += other.acknowledged;
        self.batches += other.batches;
        self.duplicates += other.duplicates;
        self.deletes += other.deletes;
        self.purges += other.purges;
        self.updates += other.updates;
        self.removed_streams += other.removed_streams;
        self.reads += other.reads;
        self.deliveries += other.deliveries;
        self.redeliveries += other.redeliveries;
        self.confirmed_acks += other.confirmed_acks;
        self.settled += other.settled;
        self.unwanted += other.unwanted;
        self.copied += other.copied;
        self.scheduled += other.scheduled;
        self.markers += other.markers;
        self.republished += other.republished;
        self.refused += other.refused;
        self.starts += other.starts;
        self.stops += other.stops;
        self.unreadable += other.unreadable;
        self.losses += other.losses;
        self.indexes_given_up += other.indexes_given_up;
        self.scrubbed_bytes += other.scrubbed_bytes;
        self.rooms_made += other.rooms_made;
    }

    /// Kinds of work that were never done: such runs prove less than they say.
    #[must_use]
    pub fn idle_work(&self) -> Vec<&'static str> {
        let table = [
            ("acknowledged", self.acknowledged),
            ("batches", self.batches),
            ("duplicates", self.duplicates),
            ("deletes", self.deletes),
            ("purges", self.purges),
            ("updates", self.updates),
            ("removed streams", self.removed_streams),
            ("reads", self.reads),
            ("deliveries", self.deliveries),
            ("redeliveries", self.redeliveries),
            ("confirmed acknowledgements", self.confirmed_acks),
            ("messages settled", self.settled),
            ("messages unwanted", self.unwanted),
            ("messages copied", self.copied),
            ("schedules", self.scheduled),
            ("delete markers", self.markers),
            ("messages published again", self.republished),
            ("refused", self.refused),
            ("stops in order", self.stops),
            ("indexes given back", self.indexes_given_up),
        ];
        let idle = table.iter().filter(|(_, count)| *count == 0);
        idle.map(|(name, _)| *name).collect()
    }
}

/// What an open request was.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    CreateStream {
        stream: usize,
        limits: Limits,
    },
    RemoveStream {
        stream: usize,
    },
    /// Anything that changes the stream as one.
    Operation {
        stream: usize,
        number: u64,
    },
    /// A message of a batch before its commit.
    Staged {
        stream: usize,
        number: u64,
    },
    Get {
        stream: usize,
        sequence: u64,
    },
    LastOf {
        stream: usize,
        subject: String,
        /// What it was when this was asked; 0: nothing.
        known: u64,
    },
    Row {
        stream: usize,
        start: u64,
        most: usize,
        filter: String,
        got: Vec<u64>,
        /// The model's version when this was asked.
        version: u64,
    },
    Numbers {
        stream: usize,
    },
    ConsumerNumbers {
        stream: usize,
        consumer: String,
    },
    Acknowledge {
        stream: usize,
        consumer: String,
        sequence: u64,
    },
    Extra(ExtraRequest),
    /// Asked for by the oracle, which waits for it.
    Question,
}

/// One server's world and all that is known of it.
pub struct NodeRun {
    pub(crate) plan: NodePlan,
    pub(crate) world: World,
    pub(crate) random: Random,
    pub(crate) streams: Vec<Track>,
    pub(crate) requests: BTreeMap<u64, Request>,
    answers: BTreeMap<u64, Received>,
    pub(crate) next_number: u64,
    /// Requests up to this number are not waited for any more.
    pub(crate) forgotten_through: u64,
    /// The highest wall time ever.
    pub(crate) wall_max_ns: i64,
    /// The journal failed: what was on its way may or may not have happened.
    journal_failed: bool,
    /// JetStream gave up until the next start.
    off: bool,
    /// The last server ended in order: nothing is left to be replayed.
    stopped_in_order: bool,
    pub(crate) damaged: Damaged,
    pub(crate) extras: Extras,
    /// The server was started and has not come to rest since.
    pub(crate) is_starting: bool,
    /// The server's start looks for room again before long.
    waits_for_room: bool,
    pub(crate) outcome: NodeOutcome,
}

impl NodeRun {
    /// An empty disk and no server yet.
    #[must_use]
    pub fn new(seed: u64, plan: NodePlan) -> Self {
        let random = Random::new(seed);
        let mut sizes = draw_sizes(&mut random.stream(3));
        if plan.scrubs {
            sizes.scrub_interval_ns = Some(SCRUB_INTERVAL_NS);
        }
        let subscriptions = vec![format!("{INBOX}.>"), format!("{AGAIN}>")];
        let names = (0..plan.streams).map(|stream| format!("S{stream}"));
        let seed = random.stream(1).next_u64();
        let mut world = World::new(seed, plan.knobs, sizes, subscriptions);
        // The oracle of flipped bits reads the files by itself.
        if !plan.flips {
            world = world.sealed(&mut random.stream(KEY_STREAM));
        }
        Self {
            plan,
            world,
            random: random.stream(2),
            streams: names.map(Track::new).collect(),
            requests: BTreeMap::new(),
            answers: BTreeMap::new(),
            next_number: 1,
            forgotten_through: 0,
            wall_max_ns: 0,
            journal_failed: false,
            off: false,
            stopped_in_order: false,
            damaged: Damaged::default(),
            extras: Extras::new(plan.extra, random.stream(5)),
            is_starting: false,
            waits_for_room: false,
            outcome: NodeOutcome::default(),
        }
    }

    /// Prints everything that goes in and out, for a look at one seed.
    #[must_use]
    pub fn traced(mut self, trace: bool) -> Self {
        self.world.trace = trace;
        self
    }

    /// Lives all lives of the plan.
    ///
    /// # Errors
    /// What the oracle found wrong.
    pub fn run(mut self) -> Result<NodeOutcome, String> {
        self.start()?;
        for _ in 0..self.plan.lives {
            for _ in 0..self.random.below(self.plan.turns) + 1 {
                self.turn()?;
            }
            self.die()?;
            self.start()?;
        }
        if self.plan.knobs.capacity_bytes > 0 {
            // Somebody else makes room: on a disk with nothing left at all everything waits.
            self.plan.knobs.capacity_bytes = u64::MAX / 2;
        }
        for stream in 0..self.streams.len() {
            if self.streams[stream].existence == Existence::Present {
                (0..3).for_each(|_| self.publish_one(stream));
            }
        }
        self.world.disk.set_knobs(self.quiet_knobs());
        self.drain_consumers()?;
        // Retention at the end: what all have acknowledged is gone, and nothing else.
        self.settle_on_healthy_disk()?;
        self.world.disk.set_knobs(self.quiet_knobs());
        self.check_extras()?;
        let counters = self.counters();
        self.outcome.counters = counters;
        self.outcome.indexes_given_up = self.world.indexes_given_up;
        self.outcome.scrubbed_bytes = self.world.scrubbed_bytes;
        self.outcome.acknowledged = self.streams.iter().map(|track| track.acknowledged).sum();
        self.outcome.digest = self.world.digest();
        Ok(self.outcome)
    }

    /// What the disk and the clock did so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut counters = self.world.disk.counters();
        counters.clock_jumps = self.world.clock_jumps;
        counters.journal_failures += self.outcome.counters.journal_failures;
        counters
    }

    /// Publishes until the disk is full, purges, publishes again, starts again.
    ///
    /// # Errors
    /// Publishes are never refused, or not taken again, or something acknowledged is lost.
    pub fn fill_and_purge(&mut self) -> Result<(), String> {
        self.world.boot();
        self.settle()?;
        self.create_stream(0, Limits::default());
        self.settle()?;
        let fill = |run: &mut Self, count: u32| -> Result<u64, String> {
            let refused = run.outcome.refused;
            for _ in 0..count {
                run.publish_one(0);
                run.settle()?;
                if run.outcome.refused > refused {
                    break;
                }
            }
            Ok(run.outcome.refused - refused)
        };
        if fill(self, FILL_PUBLISHES)? == 0 {
            return Err("the disk is full and publishes are taken".to_owned());
        }
        self.purge(0, None, 0, 0);
        self.settle()?;
        if self.outcome.purges == 0 {
            return Err("no purge on a full disk".to_owned());
        }
        for _ in 0..20 {
            self.sleep()?;
            self.settle()?;
        }
        if fill(self, 10)? > 0 {
            return Err("there is room and publishes are refused".to_owned());
        }
        self.world.die(true);
        self.crashed();
        self.requests.clear();
        self.world.boot();
        self.settle_on_healthy_disk()
    }

    fn turn(&mut self) -> Result<(), String> {
        for _ in 0..self.random.below(5) {
            self.send_something();
        }
        self.use_extras();
        if self.plan.clock_jumps && self.random.below(25) == 0 {
            let back_ns = self.world.jump_clock();
            for track in &mut self.streams {
                track.clock_went_back(back_ns);
            }
        }
        if self.plan.flips && self.random.below(25) == 0 {
            self.flip_bits();
        }
        self.end_of_turn()?;
        match self.random.below(5) {
            0 => self.sleep()?,
            1 => self.settle()?,
            _ => {
                for _ in 0..self.random.below(8) {
                    self.disk_step()?;
                }
            }
        }
        if self.off {
            self.die()?;
            self.start()?;
        } else if self.journal_failed {
            // What was on its way when the journal failed is looked up, as after a restart.
            self.settle_on_healthy_disk()?;
        }
        Ok(())
    }

    // ---- the server's surroundings ----

    /// Some error in the log has a reason.
    pub(crate) fn is_healthy(&self) -> bool {
        let knobs = &self.plan.knobs;
        knobs.fail_sync_permille == 0
            && knobs.fail_write_permille == 0
            && knobs.fail_read_permille == 0
            && knobs.capacity_bytes == 0
            && !self.is_damaged()
    }

    pub(crate) fn end_of_turn(&mut self) -> Result<(), String> {
        self.world.end_of_turn();
        self.wall_max_ns = self.wall_max_ns.max(self.world.now.wall_ns);
        for line in std::mem::take(&mut self.world.log) {
            if line.text.contains("its start waits for room") {
                self.make_room();
            }
            if line.severity != LogSeverity::Error {
                continue;
            }
            self.damaged.heard(&line.text);
            if line.text.contains("the journal failed") {
                self.outcome.counters.journal_failures += 1;
                self.journal_failed = true;
                self.world.unheard_failure = false;
                self.crashed();
            } else if self.is_healthy() {
                return Err(format!("the server logs an error: {}", line.text));
            }
            self.off |= line.text.contains("JetStream is off");
        }
        if self.world.unheard_failure {
            return Err("the journal's write failed and the server did not notice".to_owned());
        }
        for message in std::mem::take(&mut self.world.received) {
            self.take_message(message)?;
        }
        Ok(())
    }

    /// What had to go on has used up the last of a full disk, and somebody else gives some back.
    fn make_room(&mut self) {
        self.outcome.rooms_made += 1;
        self.waits_for_room = true;
        self.plan.knobs.capacity_bytes += ROOM_BYTES;
        let capacity_bytes = self.plan.knobs.capacity_bytes;
        let knobs = self.world.disk.knobs();
        self.world.disk.set_knobs(Knobs {
            capacity_bytes,
            ..knobs
        });
    }

    pub(crate) fn disk_step(&mut self) -> Result<bool, String> {
        let Some(ends) = self.world.disk_step() else {
            return Ok(false);
        };
        if ends {
            self.end_of_turn()?;
        }
        Ok(true)
    }

    pub(crate) fn sleep(&mut self) -> Result<(), String> {
        self.world.sleep();
        self.end_of_turn()
    }

    /// Everything that the disk and the server have to do at this time is done.
    pub(crate) fn settle(&mut self) -> Result<(), String> {
        for _ in 0..STEPS_MAX {
            self.end_of_turn()?;
            let due = self.world.deadline();
            let busy = due.is_some_and(|due| due <= self.world.now.monotonic_ns);
            if !self.disk_step()? {
                if busy {
                    self.world.pass(1_000);
                } else if std::mem::take(&mut self.waits_for_room) {
                    self.sleep()?;
                } else {
                    return Ok(());
                }
            }
        }
        Err("the server never comes to rest".to_owned())
    }

    fn die(&mut self) -> Result<(), String> {
        // Most deaths come in the middle of work, of which the client may still hear or not.
        for _ in 0..self.random.below(8) {
            self.send_something();
            match self.random.below(4) {
                0 | 1 => self.end_of_turn()?,
                2 => {
                    self.disk_step()?;
                }
                _ => {}
            }
        }
        if self.random.below(4) == 0 {
            self.stop_in_order()?;
        }
        let power_cut = self.random.below(4) > 0;
        self.world.die(power_cut);
        if self.world.trace {
            let scan = crate::damage::Damage::scan(&self.world.disk);
            eprint!("{}", scan.describe());
        }
        self.requests.clear();
        self.journal_failed = false;
        self.off = false;
        self.crashed();
        Ok(())
    }

    /// The server ends in order, or is cut off on the way there.
    fn stop_in_order(&mut self) -> Result<(), String> {
        self.world.begin_stop();
        let patience = match self.random.below(3) {
            0 => self.random.below(200) as u32,
            _ => STEPS_MAX,
        };
        for _ in 0..patience {
            self.end_of_turn()?;
            if self.world.finish() {
                self.outcome.stops += 1;
                self.stopped_in_order = self.is_healthy();
                return Ok(());
            }
            if !self.disk_step()? {
                self.world.pass(1_000_000);
            }
        }
        // On a full disk the last checkpoints may wait for room until somebody makes it.
        if patience == STEPS_MAX && self.plan.knobs.capacity_bytes == 0 {
            return Err("the server never comes to its end".to_owned());
        }
        Ok(())
    }

    /// After an end in order there is nothing to replay.
    fn check_replay(&mut self) -> Result<(), String> {
        let replayed = self.world.replayed_groups();
        if std::mem::take(&mut self.stopped_in_order) && replayed > 0 {
            return Err(format!("{replayed} groups replay after an end in order"));
        }
        Ok(())
    }

    /// Memory streams do not outlive the server, nor JetStream's restart within it.
    fn crashed(&mut self) {
        for track in &mut self.streams {
            track.crashed();
            let creating = track.existence == Existence::Creating;
            if track.model.limits.memory && !creating {
                track.removed();
            }
        }
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub(crate) fn send(
        &mut self,
        subject: &str,
        headers: &[(&str, String)],
        payload: &[u8],
        what: Request,
    ) {
        let number = self.number();
        self.requests.insert(number, what);
        let reply = format!("{INBOX}.{number}");
        self.world.send(&publish(subject, &reply, headers, payload));
    }

    // ---- the start and the oracle ----

    /// Starts the server, possibly killed a few times on the way, and compares.
    pub(crate) fn start(&mut self) -> Result<(), String> {
        self.is_starting = true;
        if self.plan.flips && self.random.below(2) == 0 {
            self.flip_bits();
        }
        for _ in 0..self.random.below(3) {
            self.note_risk();
            self.world.boot();
            let limit = self.random.below(60);
            for _ in 0..limit {
                self.end_of_turn()?;
                self.disk_step()?;
            }
            self.check_replay()?;
            self.die()?;
        }
        self.world.disk.set_knobs(self.quiet_knobs());
        self.note_risk();
        self.world.boot();
        self.outcome.starts += 1;
        self.settle_on_healthy_disk()?;
        self.check_replay()
    }

    /// The plan's knobs without faults: whether JetStream comes up on a failing disk is not asked.
    fn quiet_knobs(&self) -> Knobs {
        Knobs {
            fail_sync_permille: 0,
            fail_write_permille: 0,
            fail_read_permille: 0,
            ..self.plan.knobs
        }
    }

    /// Comes to rest without faults, and compares all that can be read.
    fn settle_on_healthy_disk(&mut self) -> Result<(), String> {
        self.world.disk.set_knobs(self.quiet_knobs());
        self.settle()?;
        self.is_starting = false;
        if self.off {
            return Err("JetStream is off on a healthy disk".to_owned());
        }
        self.requests.clear();
        self.forgotten_through = self.next_number;
        self.check()?;
        self.journal_failed = false;
        self.world.disk.set_knobs(self.plan.knobs);
        Ok(())
    }

    pub(crate) fn ask(&mut self, subject: &str, body: &str) -> Result<Received, String> {
        self.send(subject, &[], body.as_bytes(), Request::Question);
        let number = self.next_number;
        let patience = self.world.now.monotonic_ns + PATIENCE_NS;
        loop {
            self.settle()?;
            if let Some(answer) = self.answers.remove(&number) {
                return Ok(answer);
            }
            if self.world.now.monotonic_ns > patience {
                return Err(format!("no answer to {subject} {body}"));
            }
            self.sleep()?;
        }
    }

    pub(crate) fn answer_question(&mut self, number: u64, message: Received) {
        self.answers.insert(number, message);
    }

    fn check(&mut self) -> Result<(), String> {
        for stream in 0..self.streams.len() {
            self.check_stream(stream)?;
        }
        Ok(())
    }

    fn check_stream(&mut self, stream: usize) -> Result<(), String> {
        let name = self.streams[stream].name.clone();
        let details = r#"{"deleted_details":true}"#;
        let info = self.ask(&format!("$JS.API.STREAM.INFO.{name}"), details)?;
        let info: serde_json::Value = serde_json::from_slice(&info.payload)
            .map_err(|_| format!("no stream info: {:?}", info.headers))?;
        let existence = self.streams[stream].existence;
        if info.get("error").is_some() {
            if existence == Existence::Present {
                return Err(format!("{name} is lost: {info}"));
            }
            self.streams[stream].removed();
            return Ok(());
        }
        match existence {
            Existence::Absent => return Err(format!("{name} came back: {info}")),
            Existence::Creating => {
                let limits = self.streams[stream].model.limits.clone();
                if limits.memory {
                    return Err(format!("{name} is in memory and outlived a restart"));
                }
                self.streams[stream].created(limits);
            }
            Existence::Present | Existence::Removing => {
                self.streams[stream].existence = Existence::Present;
            }
        }
        let state = |name: &str| info["state"][name].as_u64().unwrap_or(0);
        let mut seen = Seen {
            first: state("first_seq"),
            last: state("last_seq"),
            count: state("messages"),
            bytes: Some(state("bytes")),
            description: info["config"]["description"]
                .as_str()
                .unwrap_or("")
                .to_owned(),
            ..Seen::default()
        };
        seen.consumers = self.consumer_names(&name)?;
        for sequence in seen.first.max(1)..=seen.last {
            if let Some(message) = self.message(&name, sequence)? {
                seen.messages.insert(sequence, message);
            }
        }
        self.note_unreadable(stream, &info, &mut seen);
        // Messages may expire while they are read; the numbers come first.
        let wall_ns = self.wall_max_ns;
        let expires = self.streams[stream].model.limits.max_age_ns > 0
            || self.streams[stream].model.limits.ttl;
        if expires {
            seen.count = (seen.messages.len() + seen.unreadable.len()) as u64;
            let first = seen.messages.first_key_value().map(|(first, _)| *first);
            let unreadable = seen.unreadable.first().copied();
            let first = first.into_iter().chain(unreadable).min();
            let empty = if seen.last == 0 { 0 } else { seen.last + 1 };
            seen.first = first.unwrap_or(empty);
            seen.bytes = None;
        }
        let hit = self.entries_at_risk(stream);
        let lost = self.streams[stream]
            .resolve(&seen, wall_ns, &hit, self.damaged.told)
            .map_err(|wrong| format!("{wrong} ({} to {})", seen.first, seen.last))?;
        self.damage_is_told(stream, &seen, lost)
    }

    fn consumer_names(&mut self, stream: &str) -> Result<Vec<String>, String> {
        let answer = self.ask(&format!("$JS.API.CONSUMER.NAMES.{stream}"), "")?;
        let json: serde_json::Value = serde_json::from_slice(&answer.payload)
            .map_err(|_| format!("no consumer names of {stream}"))?;
        let names = json["consumers"].as_array().cloned().unwrap_or_default();
        Ok(names
            .iter()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect())
    }

    fn message(&mut self, stream: &str, sequence: u64) -> Result<Option<(String, Bytes)>, String> {
        let subject = format!("$JS.API.STREAM.MSG.GET.{stream}");
        let answer = self.ask(&subject, &format!(r#"{{"seq":{sequence}}}"#))?;
        crate::answers::stored_message(&answer)
            .map(|found| found.map(|read| (read.subject, read.payload)))
            .map_err(|wrong| format!("{stream}, sequence {sequence}: {wrong}"))
    }
}
