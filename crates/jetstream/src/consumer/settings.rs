//! The effective configuration of a consumer: what the state machine runs by after defaults,
//! checks and parsing, which belong to `model`.

use millrace_store::stream::Filter;

/// Where a consumer starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeliverPolicy {
    /// First message of the stream.
    #[default]
    All,
    /// Last matching message.
    Last,
    /// Messages stored after creation.
    New,
    /// From this sequence.
    ByStartSequence(u64),
    /// From this time, nanoseconds since the epoch.
    ByStartTime(i64),
    /// Newest message of each matching subject, then new ones.
    LastPerSubject,
}

/// How deliveries are acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AckPolicy {
    /// Not at all: delivered is done.
    #[default]
    None,
    /// An ack covers all before it.
    All,
    /// Each by itself.
    Explicit,
    /// By the replies to flow control messages.
    FlowControl,
}

/// Who of the waiting pull requests of a priority group is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PriorityPolicy {
    /// No groups.
    #[default]
    None,
    /// Requests with minimums are served only above them.
    Overflow,
    /// One client at a time.
    PinnedClient,
    /// Lower number first.
    Prioritized,
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
    pub deliver_policy: DeliverPolicy,
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

impl Settings {
    /// How long after its `deliveries`-th delivery a message is due again, in nanoseconds.
    #[must_use]
    pub fn redelivery_wait_ns(&self, deliveries: u64) -> i64 {
        let index = usize::try_from(deliveries.saturating_sub(1)).unwrap_or(usize::MAX);
        let wait_ns = self
            .backoff_ns
            .get(index)
            .or_else(|| self.backoff_ns.last())
            .unwrap_or(&self.ack_wait_ns);
        i64::try_from(*wait_ns).unwrap_or(i64::MAX)
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
