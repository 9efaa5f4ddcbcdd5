//! A seeded life of a whole server: clients publish, send atomic batches and delete through the
//! broker; the disk is simulated; the power goes at any operation; the server starts again and the
//! oracle reads every stream back through the API.

use crate::client::{Received, SimClient, publish};
use crate::digest::Digest;
use crate::disk::{Counters, Knobs, SimDisk};
use crate::oracle::{Attempt, StreamOracle};
use millrace_clock::{Now, Random};
use millrace_config::Options;
use millrace_core::{BrokerSettings, ServerIdentity};
use millrace_node::{JetStreamHostSettings, LogSeverity, Node, NodeSettings};
use millrace_store::journal::JournalSettings;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Steps that a quiet server may take before it is called stuck.
const STEPS_MAX: u32 = 200_000;
/// Virtual time a request may wait for its answer once the server is quiet.
const PATIENCE_NS: u64 = 5_000_000_000;
/// Publishes that fill the smallest disk of the tests for certain.
const FILL_PUBLISHES: u32 = 5_000;
const INBOX: &str = "_INBOX.sim";

/// How a run goes.
#[derive(Clone, Copy, Debug)]
pub struct NodePlan {
    pub knobs: Knobs,
    /// Lives: each ends with a power cut or a kill, and a start.
    pub lives: u32,
    /// Turns of a life, at most.
    pub turns: u64,
    pub streams: u64,
}

impl NodePlan {
    /// Power cuts on a healthy disk.
    pub const POWER: Self = Self {
        knobs: Knobs::POWER,
        lives: 3,
        turns: 60,
        streams: 2,
    };
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeOutcome {
    pub counters: Counters,
    pub digest: u64,
    pub acknowledged: u64,
    pub batches: u64,
    pub deletes: u64,
    pub refused: u64,
    pub starts: u64,
    pub journal_failures: u64,
}

/// What an open request was.
#[derive(Clone, Copy, Debug)]
enum Request {
    CreateStream {
        stream: usize,
    },
    /// A publish, or the commit of a batch.
    Publish {
        stream: usize,
        attempt: u64,
        batch: bool,
    },
    /// A message of a batch before its commit.
    Staged {
        stream: usize,
        attempt: u64,
    },
    Delete {
        stream: usize,
        sequence: u64,
    },
    /// Asked by the oracle, which waits for it.
    Question,
}

/// A batch that is being sent.
#[derive(Clone, Debug)]
struct OpenBatch {
    stream: usize,
    attempt: u64,
    sent: u64,
    total: u64,
}

/// One server's world.
pub struct NodeRun {
    plan: NodePlan,
    disk: SimDisk,
    random: Random,
    now: Now,
    node: Option<Node>,
    client: Option<SimClient>,
    oracles: Vec<StreamOracle>,
    created: BTreeSet<usize>,
    /// Streams whose creation may or may not have happened.
    creating: BTreeSet<usize>,
    requests: BTreeMap<u64, Request>,
    answers: BTreeMap<u64, Received>,
    batches: Vec<OpenBatch>,
    next_number: u64,
    outcome: NodeOutcome,
    digest: Digest,
}

impl NodeRun {
    /// An empty disk and no server yet.
    #[must_use]
    pub fn new(seed: u64, plan: NodePlan) -> Self {
        let random = Random::new(seed);
        let streams = plan.streams as usize;
        Self {
            plan,
            disk: SimDisk::new(random.stream(1).next_u64(), plan.knobs),
            random: random.stream(2),
            now: Now {
                monotonic_ns: 1,
                wall_ns: 1_700_000_000_000_000_000,
            },
            node: None,
            client: None,
            oracles: vec![StreamOracle::default(); streams],
            created: BTreeSet::new(),
            creating: BTreeSet::new(),
            requests: BTreeMap::new(),
            answers: BTreeMap::new(),
            batches: Vec::new(),
            next_number: 1,
            outcome: NodeOutcome::default(),
            digest: Digest::default(),
        }
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
        self.outcome.acknowledged = self
            .oracles
            .iter()
            .map(StreamOracle::acknowledged_count)
            .sum();
        self.outcome.counters = self.disk.counters();
        self.digest.add(self.disk.digest());
        self.outcome.digest = self.digest.value();
        Ok(self.outcome)
    }

    /// What the disk did so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.disk.counters()
    }

    /// Publishes until the disk is full, purges, publishes again, starts again.
    ///
    /// # Errors
    /// Publishes are never refused, or not taken again, or something acknowledged is lost.
    pub fn fill_and_purge(&mut self) -> Result<(), String> {
        self.start()?;
        while self.created.is_empty() {
            self.send_something();
            self.settle()?;
        }
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
        self.oracles[0] = StreamOracle::default();
        let purged = self.ask("$JS.API.STREAM.PURGE.S0", "")?;
        if !String::from_utf8_lossy(&purged.payload).contains("\"success\":true") {
            return Err(format!("no purge on a full disk: {purged:?}"));
        }
        for _ in 0..20 {
            self.sleep()?;
            self.settle()?;
        }
        if fill(self, 10)? > 0 {
            return Err("there is room and publishes are refused".to_owned());
        }
        self.die()?;
        self.start()
    }

    fn turn(&mut self) -> Result<(), String> {
        for _ in 0..self.random.below(5) {
            self.send_something();
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
        Ok(())
    }

    // ---- the server's surroundings ----

    fn boot(&mut self) {
        let mut options = Options::default();
        options.jetstream.enabled = true;
        let identity = ServerIdentity {
            server_id: "NSIM".to_owned(),
            server_name: "sim".to_owned(),
            jetstream: true,
            ..ServerIdentity::default()
        };
        let settings = NodeSettings {
            broker: BrokerSettings {
                options: Arc::new(options),
                identity,
                random_seed: self.random.next_u64(),
            },
            jetstream: Some(JetStreamHostSettings {
                store_dir: "sim".to_owned(),
                max_memory_bytes: 64 << 20,
                max_file_bytes: 1 << 30,
            }),
            wake: None,
        };
        let journal = JournalSettings {
            file_bytes: 64 << 10,
            reserve_bytes: 64 << 10,
            budget_bytes: 512 << 10,
            frame_bytes: 16 << 10,
            pipeline_bytes: 8 << 10,
            ..JournalSettings::default()
        };
        let mut node = Node::with_journal(self.now, settings, journal);
        self.client = Some(SimClient::connect(&mut node, self.now, INBOX));
        self.node = Some(node);
    }

    fn end_of_turn(&mut self) -> Result<(), String> {
        let Some(node) = &mut self.node else {
            return Ok(());
        };
        node.tick(self.now);
        node.end_of_turn(self.now);
        let mut requests = Vec::new();
        node.take_disk_requests(&mut requests);
        let mut log = Vec::new();
        node.take_log(&mut log);
        let mut dirty = Vec::new();
        node.broker().take_dirty(&mut dirty);
        let mut effects = Vec::new();
        node.broker().take_effects(&mut effects);
        let received = self
            .client
            .as_mut()
            .map(|client| client.receive(node))
            .unwrap_or_default();
        self.disk.submit(requests);
        for line in log {
            self.digest.add_bytes(line.text.as_bytes());
            if line.severity == LogSeverity::Error {
                if line.text.contains("the journal failed") {
                    self.outcome.journal_failures += 1;
                } else if self.plan.knobs.fail_sync_permille == 0
                    && self.plan.knobs.capacity_bytes == 0
                {
                    return Err(format!("the server logs an error: {}", line.text));
                }
            }
        }
        for message in received {
            self.digest.add_bytes(message.subject.as_bytes());
            self.digest.add_bytes(&message.payload);
            self.take_answer(message)?;
        }
        Ok(())
    }

    fn disk_step(&mut self) -> Result<bool, String> {
        let Some(completion) = self.disk.step() else {
            return Ok(false);
        };
        let pause_ns = self.random.below(100_000);
        self.pass(pause_ns);
        if let Some(node) = &mut self.node {
            node.handle_disk(self.now, completion);
        }
        // Several completions may reach the server before it ends its turn.
        if self.random.below(3) > 0 || self.disk.pending() == 0 {
            self.end_of_turn()?;
        }
        Ok(true)
    }

    fn pass(&mut self, duration_ns: u64) {
        self.now.monotonic_ns += duration_ns;
        self.now.wall_ns += duration_ns as i64;
    }

    /// Time goes on to the server's next deadline.
    fn sleep(&mut self) -> Result<(), String> {
        let deadline = self
            .node
            .as_ref()
            .and_then(Node::next_deadline)
            .unwrap_or(0);
        let least = self.now.monotonic_ns + 1_000_000;
        self.pass(deadline.clamp(least, least + PATIENCE_NS) - self.now.monotonic_ns);
        self.end_of_turn()
    }

    /// Everything that the disk and the server have to do at this time is done.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..STEPS_MAX {
            self.end_of_turn()?;
            let due = self.node.as_ref().and_then(Node::next_deadline);
            let busy = due.is_some_and(|due| due <= self.now.monotonic_ns);
            if !self.disk_step()? {
                if !busy {
                    return Ok(());
                }
                self.pass(1_000);
            }
        }
        Err("the server never comes to rest".to_owned())
    }

    fn die(&mut self) -> Result<(), String> {
        // Most deaths come in the middle of work, of which the client may still hear or not.
        for _ in 0..self.random.below(6) {
            self.send_something();
            if self.random.below(2) == 0 {
                self.end_of_turn()?;
            }
        }
        self.node = None;
        self.client = None;
        self.requests.clear();
        self.batches.clear();
        if self.random.below(4) == 0 {
            self.disk.kill();
        } else {
            self.disk.power_cut();
        }
        self.digest.add(3);
        Ok(())
    }

    // ---- the workload ----

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn send(&mut self, subject: &str, headers: &[(&str, String)], payload: &[u8], what: Request) {
        let number = self.number();
        self.requests.insert(number, what);
        let bytes = publish(subject, &format!("{INBOX}.{number}"), headers, payload);
        if let (Some(node), Some(client)) = (&mut self.node, &self.client) {
            client.send(node, self.now, &bytes);
        }
    }

    fn send_something(&mut self) {
        let stream = self.random.below(self.plan.streams) as usize;
        if !self.created.contains(&stream) {
            if self.creating.insert(stream) {
                self.create_stream(stream);
            }
            return;
        }
        match self.random.below(12) {
            0..=6 => self.publish_one(stream),
            7 => self.open_batch(stream),
            8..=10 => self.continue_batch(),
            _ => self.delete_one(stream),
        }
    }

    fn create_stream(&mut self, stream: usize) {
        let config = format!(
            r#"{{"name":"S{stream}","subjects":["s{stream}.>"],"storage":"file","allow_atomic":true}}"#
        );
        let subject = format!("$JS.API.STREAM.CREATE.S{stream}");
        self.send(
            &subject,
            &[],
            config.as_bytes(),
            Request::CreateStream { stream },
        );
    }

    /// Unlike any other payload of the run.
    fn payload(&mut self) -> Vec<u8> {
        let length = match self.random.below(20) {
            0 => self.random.below(20_000),
            1..=4 => self.random.below(2_000),
            _ => self.random.below(100),
        };
        let mut payload = format!("m{}-", self.number()).into_bytes();
        let start = self.random.next_u64();
        let filler = (0..length).map(|at| (start.wrapping_mul(at | 1) >> 40) as u8);
        payload.extend(filler);
        payload
    }

    fn publish_one(&mut self, stream: usize) {
        let payload = self.payload();
        let attempt = self.number();
        let sent = Attempt {
            payloads: vec![payload.clone()],
            order: Some(attempt),
        };
        self.oracles[stream].sent(attempt, sent);
        let subject = format!("s{stream}.{}", self.random.below(5));
        let what = Request::Publish {
            stream,
            attempt,
            batch: false,
        };
        self.send(&subject, &[], &payload, what);
    }

    fn open_batch(&mut self, stream: usize) {
        let attempt = self.number();
        let total = 1 + self.random.below(12);
        self.batches.push(OpenBatch {
            stream,
            attempt,
            sent: 0,
            total,
        });
        self.oracles[stream].sent(
            attempt,
            Attempt {
                payloads: Vec::new(),
                order: None,
            },
        );
        self.continue_batch();
    }

    /// Sends the next message of some open batch; the last commits it.
    fn continue_batch(&mut self) {
        if self.batches.is_empty() {
            return;
        }
        let at = self.random.below(self.batches.len() as u64) as usize;
        self.batches[at].sent += 1;
        let OpenBatch {
            stream,
            attempt,
            sent,
            total,
        } = self.batches[at].clone();
        let payload = self.payload();
        self.oracles[stream].batch_message(attempt, payload.clone());
        let mut headers = vec![
            ("Nats-Batch-Id", format!("b{attempt}")),
            ("Nats-Batch-Sequence", sent.to_string()),
        ];
        let subject = format!("s{stream}.{}", self.random.below(5));
        let mut what = Request::Staged { stream, attempt };
        if sent == total {
            headers.push(("Nats-Batch-Commit", "1".to_owned()));
            let order = self.number();
            self.oracles[stream].committing(attempt, order);
            self.batches.swap_remove(at);
            what = Request::Publish {
                stream,
                attempt,
                batch: true,
            };
        }
        self.send(&subject, &headers, &payload, what);
    }

    fn delete_one(&mut self, stream: usize) {
        let pick = self.random.next_u64() >> 8;
        let Some(sequence) = self.oracles[stream].some_sequence(pick) else {
            return;
        };
        self.oracles[stream].deleting(sequence);
        let subject = format!("$JS.API.STREAM.MSG.DELETE.S{stream}");
        let body = format!(r#"{{"seq":{sequence}}}"#);
        self.send(
            &subject,
            &[],
            body.as_bytes(),
            Request::Delete { stream, sequence },
        );
    }

    fn take_answer(&mut self, message: Received) -> Result<(), String> {
        let number = message
            .subject
            .rsplit('.')
            .next()
            .and_then(|last| last.parse::<u64>().ok());
        let Some(number) = number else { return Ok(()) };
        let Some(request) = self.requests.remove(&number) else {
            return Err(format!("a second answer on {}", message.subject));
        };
        let text = || String::from_utf8_lossy(&message.payload).into_owned();
        let json: serde_json::Value =
            serde_json::from_slice(&message.payload).unwrap_or(serde_json::Value::Null);
        let failed = message.is_no_responders() || json.get("error").is_some();
        match request {
            Request::Question => {
                self.answers.insert(number, message);
            }
            Request::CreateStream { stream } => {
                if message.is_no_responders() {
                    // The server was not there yet: nobody heard of it.
                    self.creating.remove(&stream);
                    return Ok(());
                }
                if failed {
                    return Err(format!("stream S{stream} was not made: {}", text()));
                }
                self.created.insert(stream);
            }
            Request::Publish {
                stream, attempt, ..
            } if failed => {
                self.outcome.refused += 1;
                self.oracles[stream].refused(attempt);
            }
            Request::Publish {
                stream,
                attempt,
                batch,
            } => {
                let Some(sequence) = json.get("seq").and_then(serde_json::Value::as_u64) else {
                    return Err(format!("no acknowledgement: {}", text()));
                };
                self.outcome.batches += u64::from(batch);
                self.oracles[stream].acknowledged(attempt, sequence)?;
            }
            Request::Staged { stream, attempt } if failed => {
                self.oracles[stream].refused(attempt);
                self.batches.retain(|batch| batch.attempt != attempt);
            }
            Request::Staged { .. } => {}
            Request::Delete { stream, sequence } => {
                if !failed {
                    self.outcome.deletes += 1;
                    self.oracles[stream].deleted(sequence);
                }
            }
        }
        Ok(())
    }

    // ---- the start and the oracle ----

    /// Starts the server, possibly killed a few times on the way, and compares.
    fn start(&mut self) -> Result<(), String> {
        for _ in 0..self.random.below(3) {
            self.boot();
            let limit = self.random.below(60);
            for _ in 0..limit {
                self.end_of_turn()?;
                self.disk_step()?;
            }
            self.die()?;
        }
        // Whether JetStream comes up on a failing disk is not the question here.
        self.disk.set_knobs(Knobs {
            fail_sync_permille: 0,
            ..self.plan.knobs
        });
        self.boot();
        self.outcome.starts += 1;
        self.settle()?;
        self.check()?;
        self.disk.set_knobs(self.plan.knobs);
        Ok(())
    }

    fn ask(&mut self, subject: &str, body: &str) -> Result<Received, String> {
        self.send(subject, &[], body.as_bytes(), Request::Question);
        let number = self.next_number;
        let patience = self.now.monotonic_ns + PATIENCE_NS;
        loop {
            self.settle()?;
            if let Some(answer) = self.answers.remove(&number) {
                return Ok(answer);
            }
            if self.now.monotonic_ns > patience {
                return Err(format!("no answer to {subject} {body}"));
            }
            self.sleep()?;
        }
    }

    fn check(&mut self) -> Result<(), String> {
        let candidates: BTreeSet<usize> = self.created.union(&self.creating).copied().collect();
        for stream in candidates {
            let info = self.ask(&format!("$JS.API.STREAM.INFO.S{stream}"), "")?;
            let info: serde_json::Value = serde_json::from_slice(&info.payload)
                .map_err(|_| format!("no stream info: {:?}", info.headers))?;
            if info.get("error").is_some() {
                if self.created.contains(&stream) {
                    return Err(format!("stream S{stream} is lost: {info}"));
                }
                self.creating.remove(&stream);
                continue;
            }
            self.created.insert(stream);
            let state = |name: &str| info["state"][name].as_u64().unwrap_or(0);
            let (first, last) = (state("first_seq"), state("last_seq"));
            let (messages, mut found) = (state("messages"), BTreeMap::new());
            for sequence in first.max(1)..=last {
                if let Some(payload) = self.message(stream, sequence)? {
                    found.insert(sequence, payload);
                }
            }
            if messages != found.len() as u64 {
                return Err(format!(
                    "S{stream} says {messages} messages and has {}",
                    found.len()
                ));
            }
            self.oracles[stream]
                .check(&found, last)
                .map_err(|wrong| format!("S{stream} ({first} to {last}): {wrong}"))?;
        }
        Ok(())
    }

    fn message(&mut self, stream: usize, sequence: u64) -> Result<Option<Vec<u8>>, String> {
        let subject = format!("$JS.API.STREAM.MSG.GET.S{stream}");
        let answer = self.ask(&subject, &format!(r#"{{"seq":{sequence}}}"#))?;
        let json: serde_json::Value = serde_json::from_slice(&answer.payload)
            .map_err(|_| format!("no answer for sequence {sequence}"))?;
        if let Some(error) = json.get("error") {
            return if error["err_code"] == 10037 {
                Ok(None)
            } else {
                Err(format!("sequence {sequence}: {error}"))
            };
        }
        let data = json["message"]["data"].as_str().unwrap_or("");
        let bytes = data_encoding::BASE64.decode(data.as_bytes());
        bytes
            .map(Some)
            .map_err(|_| format!("sequence {sequence}: no base64"))
    }
}
