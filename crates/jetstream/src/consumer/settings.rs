//! The effective configuration of a consumer: what the state machine runs by after defaults,
//! checks and parsing, which belong to `model`.

use millrace_store::stream::Filter;

use crate::model::{
    AckPolicy, ConsumerConfig, DeliverPolicy, PriorityPolicy, ReplayPolicy, Timestamp,
};

/// Most waiting pull requests unless the configuration says otherwise.
pub const MAX_WAITING_DEFAULT: usize = 512;

/// Where a consumer starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// First message of the stream.
    #[default]
    All,
    /// Last matching message.
    Last,
    /// Messages stored after creation.
    New,
    /// From this sequence.
    Sequence(u64),
    /// From this time, nanoseconds since the epoch.
    Time(i64),
    /// Newest message of each matching subject, then new ones.
    LastPerSubject,
}

/// Push mode settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushSettings {
    /// Where messages go.
    pub deliver_subject: Vec<u8>,
    /// Queue group that must listen; empty = none.
    pub deliver_group: Vec<u8>,
    /// Heartbeat interval, 0 = none.
    pub idle_heartbeat_ns: u64,
    /// Whether the flow control window applies.
    pub flow_control: bool,
    /// Bits per second, 0 = unlimited.
    pub rate_limit_bps: u64,
}

/// Pull mode settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullSettings {
    /// Most waiting requests.
    pub max_waiting: usize,
    /// Cap of `batch`, 0 = none.
    pub max_batch: u64,
    /// Cap of `expires`, 0 = none.
    pub max_expires_ns: u64,
    /// Cap of `max_bytes`, 0 = none.
    pub max_bytes: u64,
}

/// Push or pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The server sends to a subject.
    Push(PushSettings),
    /// Clients ask.
    Pull(PullSettings),
}

/// The effective configuration. Durations in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Consumer name.
    pub name: String,
    /// Named by the client to last.
    pub durable: bool,
    /// Start.
    pub start: Start,
    /// Acknowledgement.
    pub ack_policy: AckPolicy,
    /// Time until redelivery (already replaced by `backoff[0]`).
    pub ack_wait_ns: u64,
    /// Redelivery waits.
    pub backoff_ns: Vec<u64>,
    /// Most deliveries of one message; 0 = unlimited.
    pub max_deliver: u64,
    /// Most unacknowledged messages; 0 = unlimited.
    pub max_ack_pending: usize,
    /// Subject filters.
    pub filter: Filter,
    /// Keep the original gaps between messages.
    pub replay_original: bool,
    /// Send headers only.
    pub headers_only: bool,
    /// Share of acks sampled, percent, 0..=100.
    pub sample_percent: u8,
    /// Deleted after this long without interest or requests; 0 = never.
    pub inactive_threshold_ns: u64,
    /// Push or pull.
    pub mode: Mode,
    /// Priority groups (pull only).
    pub priority_policy: PriorityPolicy,
    /// The groups.
    pub priority_groups: Vec<String>,
    /// How long a pinned client may stay silent.
    pub priority_timeout_ns: u64,
    /// Paused until, wall nanoseconds; 0 = not paused.
    pub pause_until_ns: i64,
    /// Keep the state in memory only (memory or direct consumers on R1 streams).
    pub volatile: bool,
    /// Whether acks remove messages (interest or work queue retention): then they are logged
    /// even for volatile consumers.
    pub removes_on_ack: bool,
}

/// What the stream decides about a consumer's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamFacts {
    /// See [`Settings::volatile`].
    pub volatile: bool,
    /// See [`Settings::removes_on_ack`].
    pub removes_on_ack: bool,
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

impl Settings {
    /// Reads a checked configuration with its defaults filled in. `name` stands beside it: the
    /// configuration of an unnamed ephemeral consumer does not carry the name it was given.
    #[must_use]
    pub fn from_config(name: &str, config: &ConsumerConfig, facts: StreamFacts) -> Self {
        let start_time_ns = config.opt_start_time.map_or(i64::MIN, |time| time.0);
        let sampled = config
            .sample_frequency
            .trim_end_matches('%')
            .parse()
            .unwrap_or(0u64);
        let has_groups = config.priority_policy != PriorityPolicy::None;
        Self {
            name: name.to_owned(),
            durable: config.is_durable(),
            start: match config.deliver_policy {
                DeliverPolicy::All => Start::All,
                DeliverPolicy::Last => Start::Last,
                DeliverPolicy::New => Start::New,
                DeliverPolicy::ByStartSequence => Start::Sequence(config.opt_start_seq),
                DeliverPolicy::ByStartTime => Start::Time(start_time_ns),
                DeliverPolicy::LastPerSubject => Start::LastPerSubject,
            },
            ack_policy: config.ack_policy,
            ack_wait_ns: unsigned(config.ack_wait_ns),
            backoff_ns: config.backoff_ns.iter().copied().map(unsigned).collect(),
            max_deliver: unsigned(config.max_deliver),
            max_ack_pending: usize::try_from(config.max_ack_pending).unwrap_or(0),
            filter: Filter::many(config.filters().map(str::as_bytes)),
            replay_original: config.replay_policy == ReplayPolicy::Original,
            headers_only: config.headers_only,
            sample_percent: u8::try_from(sampled.min(100)).unwrap_or(100),
            inactive_threshold_ns: unsigned(config.inactive_threshold_ns),
            mode: if config.is_push() {
                Self::push_mode(config)
            } else {
                Self::pull_mode(config)
            },
            priority_policy: config.priority_policy,
            priority_groups: if has_groups {
                config.priority_groups.clone()
            } else {
                Vec::new()
            },
            priority_timeout_ns: unsigned(config.priority_timeout_ns),
            pause_until_ns: config
                .pause_until
                .filter(|until| *until != Timestamp::ZERO)
                .map_or(0, |until| until.0),
            volatile: facts.volatile,
            removes_on_ack: facts.removes_on_ack,
        }
    }

    fn push_mode(config: &ConsumerConfig) -> Mode {
        Mode::Push(PushSettings {
            deliver_subject: config.deliver_subject.clone().into_bytes(),
            deliver_group: config.deliver_group.clone().into_bytes(),
            idle_heartbeat_ns: unsigned(config.idle_heartbeat_ns),
            flow_control: config.flow_control,
            rate_limit_bps: config.rate_limit_bits_per_second,
        })
    }

    fn pull_mode(config: &ConsumerConfig) -> Mode {
        let max_waiting = usize::try_from(config.max_waiting).unwrap_or(0);
        Mode::Pull(PullSettings {
            max_waiting: if max_waiting == 0 {
                MAX_WAITING_DEFAULT
            } else {
                max_waiting
            },
            max_batch: unsigned(config.max_request_batch),
            max_expires_ns: unsigned(config.max_request_expires_ns),
            max_bytes: unsigned(config.max_request_max_bytes),
        })
    }

    /// How long after its `deliveries`-th delivery a message is due again, in nanoseconds.
    #[must_use]
    pub fn redelivery_wait_ns(&self, deliveries: u64) -> i64 {
        // Who acknowledges by flow control asks again for what it missed.
        if self.ack_policy == AckPolicy::FlowControl {
            return i64::MAX;
        }
        let index = usize::try_from(deliveries.saturating_sub(1)).unwrap_or(usize::MAX);
        let wait_ns = self
            .backoff_ns
            .get(index)
            .or_else(|| self.backoff_ns.last())
            .unwrap_or(&self.ack_wait_ns);
        i64::try_from(*wait_ns).unwrap_or(i64::MAX)
    }

    /// Whether an acknowledgement covers all messages before it.
    pub(super) const fn acknowledges_through(&self) -> bool {
        matches!(self.ack_policy, AckPolicy::All | AckPolicy::FlowControl)
    }

    /// The wait after a first delivery.
    pub(super) fn first_wait_ns(&self) -> i64 {
        self.redelivery_wait_ns(1)
    }

    /// Whether no more deliveries are allowed after so many.
    pub(super) const fn is_exhausted(&self, deliveries: u64) -> bool {
        self.max_deliver != 0 && deliveries >= self.max_deliver
    }

    /// Whether nothing of this consumer is logged.
    pub(super) const fn is_unlogged(&self) -> bool {
        self.volatile && !self.removes_on_ack
    }
}
