//! The surroundings of one simulated server: the disk, the clock, a client, and the turns in which
//! they meet. Knows nothing of what the client asks for.

use crate::client::{Received, SimClient};
use crate::digest::Digest;
use crate::disk::{Knobs, SimDisk};
use millrace_clock::{Now, Random};
use millrace_config::Options;
use millrace_core::{BrokerSettings, ServerIdentity};
use millrace_node::{JetStreamHostSettings, LogLine, Node, NodeSettings, StoreSizes};
use millrace_store::disk::DiskCompletion;
use millrace_store::journal::JournalSettings;
use millrace_store::seal::{Cipher, Keyring, Keys, RUN_BYTES};
use std::sync::Arc;

/// Virtual time that the server may take for anything once it has nothing else to do.
pub const PATIENCE_NS: u64 = 5_000_000_000;
/// Bytes shown of anything.
const TRACE_BYTES: usize = 300;
/// A jump of the wall clock is not longer.
const CLOCK_JUMP_NS: u64 = 30_000_000_000;

/// Sizes of a store, drawn from the seed: small enough that everything that happens in a large store
/// happens here.
#[must_use]
pub fn draw_sizes(random: &mut Random) -> StoreSizes {
    let file_bytes = (32 << 10) << random.below(3);
    StoreSizes {
        journal: JournalSettings {
            file_bytes,
            reserve_bytes: 64 << 10,
            budget_bytes: file_bytes * (2 + random.below(6)),
            frame_bytes: 16 << 10,
            pipeline_bytes: 8 << 10,
            spare_files: random.below(4) as usize,
            fill_after_bytes: random.below(256 << 10),
            fill_bytes: 4096 << random.below(4),
            ..JournalSettings::default()
        },
        batch_memory_bytes: Some(1 << (10 + random.below(8))),
        batch_part_bytes: Some(1 << (12 + random.below(3))),
        memory_bytes: Some(1 << (10 + random.below(10))),
        // Never 0: whoever cannot give its index back on a full disk would try without a pause.
        index_idle_ns: Some((1 + random.below(200)) * 1_000_000),
        scrub_interval_ns: Some(0),
    }
}

/// One server and what is around it.
pub struct World {
    pub disk: SimDisk,
    pub now: Now,
    pub node: Option<Node>,
    /// Messages that the client got and nobody looked at yet.
    pub received: Vec<Received>,
    pub log: Vec<LogLine>,
    pub clock_jumps: u64,
    /// Indexes that servers gave back, of those that ended.
    pub indexes_given_up: u64,
    /// Bytes that servers scrubbed, of those that ended.
    pub scrubbed_bytes: u64,
    /// A write or sync of the journal failed and the server has not said so yet.
    pub unheard_failure: bool,
    /// Everything that goes in and out is printed.
    pub trace: bool,
    client: Option<SimClient>,
    digest: Digest,
    random: Random,
    sizes: StoreSizes,
    subscriptions: Vec<String>,
    /// What the store is sealed with, from the first start on.
    ring: Option<Keyring>,
}

/// Every third seed has its store sealed.
fn draw_ring(random: &mut Random) -> Option<Keyring> {
    let cipher = match random.below(6) {
        0 => Cipher::ChaCha,
        1 => Cipher::Aes,
        _ => return None,
    };
    let key = std::array::from_fn(|_| random.next_u64() as u8);
    Some(Keyring::of_key(cipher, key))
}

impl World {
    /// An empty disk and no server. The client subscribes to each of `subscriptions`.
    #[must_use]
    pub fn new(seed: u64, knobs: Knobs, sizes: StoreSizes, subscriptions: Vec<String>) -> Self {
        let random = Random::new(seed);
        Self {
            disk: SimDisk::new(random.stream(1).next_u64(), knobs),
            now: Now {
                monotonic_ns: 1,
                wall_ns: 1_700_000_000_000_000_000,
            },
            node: None,
            received: Vec::new(),
            log: Vec::new(),
            clock_jumps: 0,
            indexes_given_up: 0,
            scrubbed_bytes: 0,
            unheard_failure: false,
            trace: false,
            client: None,
            digest: Digest::default(),
            random: random.stream(2),
            sizes,
            subscriptions,
            ring: None,
        }
    }

    /// The store is sealed, if chance wants it so.
    #[must_use]
    pub fn sealed(mut self, random: &mut Random) -> Self {
        self.ring = draw_ring(random);
        self
    }

    /// The keys of this life: the same ring, and a run that no other life has.
    fn keys(&mut self) -> Keys {
        let ring = self.ring.clone();
        let mut run = [0; RUN_BYTES];
        if ring.is_some() {
            run[..8].copy_from_slice(&self.random.next_u64().to_le_bytes());
            run[8..].copy_from_slice(&self.random.next_u64().to_le_bytes());
        }
        Keys::new(ring, run)
    }

    /// A hash of all that went in and out.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut digest = self.digest;
        digest.add(self.disk.digest());
        digest.add(self.now.monotonic_ns);
        digest.add(self.now.wall_ns.cast_unsigned());
        digest.value()
    }

    /// Starts the server on the disk as it is.
    pub fn boot(&mut self) {
        let mut options = Options::default();
        options.jetstream.enabled = true;
        let identity = ServerIdentity {
            server_id: "NSIM".to_owned(),
            server_name: "sim".to_owned(),
            jetstream: true,
            ..ServerIdentity::default()
        };
        let keys = self.keys();
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
                local_time_zone: String::new(),
                keys,
            }),
            wake: None,
        };
        let mut node = Node::with_sizes(self.now, settings, self.sizes.clone());
        let client = SimClient::connect(&mut node, self.now, &self.subscriptions);
        self.client = Some(client);
        self.node = Some(node);
    }

    /// Ends the server as a whole; a power cut takes the disk's cache too.
    pub fn die(&mut self, power_cut: bool) {
        let node = self.node.take();
        self.scrubbed_bytes += node.as_ref().map_or(0, Node::scrubbed_bytes);
        self.indexes_given_up += node.map_or(0, |node| node.indexes_given_up());
        self.client = None;
        self.received.clear();
        self.unheard_failure = false;
        if power_cut {
            self.disk.power_cut();
        } else {
            self.disk.kill();
        }
        self.digest.add(3);
        let what: &[u8] = if power_cut { b"power" } else { b"killed" };
        self.print("died", what);
    }

    /// The server is told to stop: the client reads what there is and is gone.
    pub fn begin_stop(&mut self) {
        if let Some(node) = &mut self.node {
            node.shut_down(self.now);
        }
        self.end_of_turn();
        if let (Some(node), Some(client)) = (&mut self.node, self.client.take()) {
            client.disconnect(node, self.now);
        }
        self.print("stop", &[]);
    }

    /// A stopping server goes on; true when all that it has to write is on the disk.
    pub fn finish(&mut self) -> bool {
        let finished = match &mut self.node {
            Some(node) => node.finish(self.now),
            None => true,
        };
        finished && self.disk.pending() == 0
    }

    /// Groups that this server's start found with something to replay.
    #[must_use]
    pub fn replayed_groups(&self) -> u64 {
        self.node.as_ref().map_or(0, Node::replayed_groups)
    }

    /// The client writes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.digest.add_bytes(bytes);
        self.print("->", bytes);
        if let (Some(node), Some(client)) = (&mut self.node, &self.client) {
            client.send(node, self.now, bytes);
        }
    }

    /// The server does what it has to do now; the client reads what there is.
    pub fn end_of_turn(&mut self) {
        let Some(node) = &mut self.node else {
            return;
        };
        node.tick(self.now);
        node.end_of_turn(self.now);
        let mut requests = Vec::new();
        node.take_disk_requests(&mut requests);
        let lines = self.log.len();
        node.take_log(&mut self.log);
        let mut dirty = Vec::new();
        node.broker().take_dirty(&mut dirty);
        let mut effects = Vec::new();
        node.broker().take_effects(&mut effects);
        let known = self.received.len();
        if let Some(client) = &mut self.client {
            self.received.extend(client.receive(node));
        }
        self.disk.submit(requests);
        for line in &self.log[lines..] {
            self.print("log", line.text.as_bytes());
            self.digest.add_bytes(line.text.as_bytes());
        }
        for message in &self.received[known..] {
            self.digest.add_bytes(message.subject.as_bytes());
            self.digest.add_bytes(message.reply.as_bytes());
            self.digest.add_bytes(&message.headers);
            self.digest.add_bytes(&message.payload);
            let head = format!("{} {} ", message.subject, message.reply);
            let parts = [head.as_bytes(), &message.headers, &message.payload];
            self.print("<-", &parts.concat());
        }
    }

    fn print(&self, what: &str, bytes: &[u8]) {
        if self.trace {
            let shown = &bytes[..bytes.len().min(TRACE_BYTES)];
            let text = String::from_utf8_lossy(shown).escape_debug().to_string();
            eprintln!("{} {what} {text}", self.now.monotonic_ns);
        }
    }

    /// The disk does one thing and the server hears of it. `None`: there is nothing to do.
    /// Gives whether the server's turn is to end now; several completions may come in one.
    pub fn disk_step(&mut self) -> Option<bool> {
        let completion = self.disk.step()?;
        let pause_ns = self.random.below(100_000);
        self.pass(pause_ns);
        let ready = self.node.as_ref().is_some_and(Node::is_ready);
        if ready && is_failed_journal_write(&completion, &self.disk) {
            self.unheard_failure = true;
        }
        if let Some(node) = &mut self.node {
            node.handle_disk(self.now, completion);
        }
        Some(self.random.below(3) > 0 || self.disk.pending() == 0)
    }

    /// Time goes on.
    pub fn pass(&mut self, duration_ns: u64) {
        self.now.monotonic_ns += duration_ns;
        self.now.wall_ns += duration_ns.cast_signed();
    }

    /// The wall clock is set, by somebody who is not the server. Gives how far back, in ns.
    pub fn jump_clock(&mut self) -> i64 {
        let jump_ns = self.random.below(CLOCK_JUMP_NS).cast_signed();
        let forward = self.random.below(2) == 0;
        self.now.wall_ns += if forward { jump_ns } else { -jump_ns };
        self.clock_jumps += 1;
        if forward { 0 } else { jump_ns }
    }

    /// When the server wants to be woken.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.node.as_ref().and_then(Node::next_deadline)
    }

    /// Time goes on to the server's next deadline, within bounds.
    pub fn sleep(&mut self) {
        let least = self.now.monotonic_ns + 1_000_000;
        let until = self
            .deadline()
            .unwrap_or(0)
            .clamp(least, least + PATIENCE_NS);
        self.pass(until - self.now.monotonic_ns);
    }
}

/// A write or sync of a journal file, after which that file is never trusted again.
fn is_failed_journal_write(completion: &DiskCompletion, disk: &SimDisk) -> bool {
    completion.result.is_err() && completion.token.is_journal() && disk.last_was_write()
}
