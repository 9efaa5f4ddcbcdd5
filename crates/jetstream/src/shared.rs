//! What all streams of a server share: budgets, counters, staging, chance; and the [`Turn`] that is
//! handed down with every input.

use std::collections::{BTreeMap, VecDeque};

use jiff::tz::TimeZone;
use millrace_clock::{Now, Random};
use millrace_store::ids::IdSpace;
use millrace_store::seal::Keys;
use millrace_store::staging::Staging;
use millrace_store::stream::MemoryBudget;

use crate::consumer::ConsumerEvent;
use crate::ids::{AccountRef, OriginId, StreamId};
use crate::io::Effect;
use crate::model::StorageKind;
use crate::outbound::Outbound;
use crate::publish::Allowance;
use crate::request::{Outcome, PendingRequest};
use crate::settings::{AccountLimits, BatchLimits, Settings};

/// Id spaces below this number belong to others (the journal).
const FIRST_ID_SPACE: u32 = 16;
/// Findings of damage that are told in one turn; more are only counted and logged.
const DAMAGE_EVENTS_MAX: usize = 100;

/// Accounted bytes of streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub memory_bytes: u64,
    pub file_bytes: u64,
}

impl Usage {
    const fn used(&self, storage: StorageKind) -> u64 {
        match storage {
            StorageKind::Memory => self.memory_bytes,
            StorageKind::File => self.file_bytes,
        }
    }

    fn of(&mut self, storage: StorageKind) -> &mut u64 {
        match storage {
            StorageKind::Memory => &mut self.memory_bytes,
            StorageKind::File => &mut self.file_bytes,
        }
    }
}

/// State that belongs to the server, not to a stream.
pub struct Shared {
    pub server_name: String,
    pub domain: String,
    pub batch_limits: BatchLimits,
    pub max_buffered_messages: usize,
    pub max_buffered_bytes: u64,
    pub max_payload: u64,
    max_memory_bytes: u64,
    max_file_bytes: u64,
    /// Where an answer is written before it is sent: one allocation for all.
    pub(crate) answer_payload: Vec<u8>,
    /// Staged batches, their messages and scratch files.
    pub staging: Staging,
    /// The id space of `staging`: completions of it go there.
    pub staging_space: u32,
    /// What stores seal their segments with.
    pub keys: Keys,
    /// Items of committed entries in one step.
    pub items_per_step: usize,
    /// What all streams keep in memory.
    pub memory: MemoryBudget,
    /// Publishers are held back until there is room for staged messages.
    pub holding: bool,
    /// Batches in flight on this server; every batch is counted once and uncounted once.
    pub batches_in_flight: usize,
    /// Open fast ingest batches of this server; counted like those.
    pub fast_in_flight: usize,
    pub usage: Usage,
    pub account_usage: BTreeMap<AccountRef, Usage>,
    pub account_limits: BTreeMap<AccountRef, AccountLimits>,
    /// The disk is full: what needs room is refused.
    pub disk_full: bool,
    /// The server writes its last checkpoints: nothing happens by time any more.
    pub stopping: bool,
    pub random: Random,
    /// What schedules call `Local`.
    pub local_time_zone: TimeZone,
    /// Names this server run in entries.
    pub origin: u64,
    /// Requests that came to an end; the engine answers them.
    pub finished: Vec<(PendingRequest, Outcome)>,
    /// What consumers did that others may want to know; `api` makes advisories of it.
    pub consumer_events: Vec<(StreamId, String, ConsumerEvent)>,
    /// Times that a consumer's state had to be put right.
    pub consumers_repaired: u64,
    /// Damage that was found and is to be told: stream, message if known, place.
    pub damage_events: Vec<(StreamId, Option<u64>, String)>,
    /// How often damage was found in messages or segments.
    pub damage_found: u64,
    /// Consumers that were deleted for inactivity.
    pub consumers_expired: Vec<(StreamId, String)>,
    /// Streams whose index something needs, in the order in which they will be read.
    pub indexes_wanted: VecDeque<StreamId>,
    /// Streams whose start is over: what is parked before them goes on.
    pub started: Vec<StreamId>,
    /// Names of the accounts, for what is told to other servers.
    pub account_names: BTreeMap<AccountRef, String>,
    /// Which stream an attempt to read an origin belongs to.
    origins: BTreeMap<OriginId, StreamId>,
    next_origin: u64,
    next_space: u32,
}

impl Shared {
    /// Damage was found on the disk: counted, and told as an advisory.
    pub(crate) fn note_damage(&mut self, stream: StreamId, sequence: Option<u64>, place: &str) {
        self.damage_found += 1;
        if self.damage_events.len() < DAMAGE_EVENTS_MAX {
            self.damage_events
                .push((stream, sequence, place.to_owned()));
        }
    }

    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let mut random = Random::new(settings.seed);
        let origin = random.next_u64();
        let limits = settings
            .accounts
            .iter()
            .map(|account| (account.account, account.limits));
        let first_space = FIRST_ID_SPACE + settings.id_space_offset;
        Self {
            server_name: settings.server_name.clone(),
            domain: settings.domain.clone(),
            batch_limits: settings.batch,
            max_buffered_messages: settings.max_buffered_messages,
            max_buffered_bytes: settings.max_buffered_bytes,
            max_payload: settings.max_payload,
            max_memory_bytes: settings.max_memory_bytes,
            max_file_bytes: settings.max_file_bytes,
            answer_payload: Vec::new(),
            staging: Staging::new(IdSpace::new(first_space), settings.batch_memory_bytes)
                .with_part_bytes(settings.batch_part_bytes)
                .with_keys(settings.keys.clone()),
            keys: settings.keys.clone(),
            staging_space: first_space,
            items_per_step: settings.items_per_step.max(1),
            memory: MemoryBudget::new(settings.store_memory_bytes)
                .with_index_idle_ns(settings.index_idle_ns),
            holding: false,
            batches_in_flight: 0,
            fast_in_flight: 0,
            usage: Usage::default(),
            account_usage: BTreeMap::new(),
            account_limits: limits.collect(),
            disk_full: false,
            stopping: false,
            random,
            local_time_zone: settings.time_zone(),
            origin,
            finished: Vec::new(),
            consumer_events: Vec::new(),
            consumers_repaired: 0,
            damage_events: Vec::new(),
            damage_found: 0,
            consumers_expired: Vec::new(),
            indexes_wanted: VecDeque::new(),
            started: Vec::new(),
            account_names: settings
                .accounts
                .iter()
                .map(|account| (account.account, account.name.clone()))
                .collect(),
            origins: BTreeMap::new(),
            next_origin: 0,
            next_space: first_space + 1,
        }
    }

    /// Takes over changed limits of the server and of accounts.
    pub(crate) fn apply_limits(&mut self, settings: &Settings) {
        self.batch_limits = settings.batch;
        self.max_payload = settings.max_payload;
        self.max_memory_bytes = settings.max_memory_bytes;
        self.max_file_bytes = settings.max_file_bytes;
        for account in &settings.accounts {
            self.account_limits.insert(account.account, account.limits);
            self.account_names
                .insert(account.account, account.name.clone());
        }
    }

    /// A new attempt of a stream to read an origin.
    pub fn add_origin(&mut self, stream: StreamId) -> OriginId {
        self.next_origin += 1;
        let origin = OriginId(self.next_origin);
        self.origins.insert(origin, stream);
        origin
    }

    pub fn remove_origin(&mut self, origin: OriginId) {
        self.origins.remove(&origin);
    }

    /// The stream that reads it; `None`: the attempt is over.
    #[must_use]
    pub fn reader_of(&self, origin: OriginId) -> Option<StreamId> {
        self.origins.get(&origin).copied()
    }

    /// An id space that nobody else of this run uses.
    pub fn id_space(&mut self) -> IdSpace {
        let space = IdSpace::new(self.next_space);
        self.next_space += 1;
        space
    }

    /// What a publish to a stream of this account and storage may still use.
    #[must_use]
    pub fn allowance(&self, account: AccountRef, storage: StorageKind) -> Allowance {
        let account_used = self.account_usage.get(&account);
        let limits = self.account_limits.get(&account);
        let (server_limit, account_limit) = match storage {
            StorageKind::Memory => (self.max_memory_bytes, limits.map(|one| one.max_memory)),
            StorageKind::File => (self.max_file_bytes, limits.map(|one| one.max_storage)),
        };
        let account_limit = account_limit.unwrap_or_else(|| match storage {
            StorageKind::Memory => AccountLimits::default().max_memory,
            StorageKind::File => AccountLimits::default().max_storage,
        });
        let full = self.disk_full && storage == StorageKind::File;
        Allowance {
            server_exceeded: full || self.usage.used(storage) > server_limit,
            account_available: u64::try_from(account_limit).ok().map(|limit| {
                limit.saturating_sub(account_used.map_or(0, |usage| usage.used(storage)))
            }),
            max_payload: self.max_payload,
        }
    }

    /// A stream's accounted bytes went from `before` to `after`.
    pub fn account_for(
        &mut self,
        account: AccountRef,
        storage: StorageKind,
        before: u64,
        after: u64,
    ) {
        let account_usage = self.account_usage.entry(account).or_default();
        for usage in [&mut self.usage, account_usage] {
            let used = usage.of(storage);
            *used = used.saturating_add(after).saturating_sub(before);
        }
    }
}

/// One input being handled: the time, the ways out, and what is shared.
pub struct Turn<'a> {
    pub now: Now,
    pub out: &'a mut dyn Outbound,
    pub effects: &'a mut Vec<Effect>,
    pub shared: &'a mut Shared,
}
