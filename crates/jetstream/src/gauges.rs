//! Numbers of streams and consumers for metrics: borrowed, few, and cheap to come by, because they
//! are asked for every few seconds. What is shown to people in full is `report.rs`.

use millrace_clock::Now;

use crate::engine::JetStream;
use crate::model::StorageKind;
use crate::stream::Stream;

/// How much of JetStream is looked at one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GaugeLimits {
    /// Streams with numbers of their own; the others are summed.
    pub streams_max: usize,
    /// Likewise consumers.
    pub consumers_max: usize,
    /// Subjects that counting what is pending may look at, all consumers together. Counts that are
    /// known cost nothing; a consumer beyond the limit has none.
    pub counted_subjects_max: u64,
}

/// A stream's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamGauges<'a> {
    pub account: &'a str,
    pub name: &'a str,
    pub in_memory: bool,
    pub messages: u64,
    pub bytes: u64,
    pub subjects: u64,
    pub deleted: u64,
    pub first_sequence: u64,
    pub last_sequence: u64,
    pub consumers: u64,
    /// Messages that its origins have and it has not; `None` if it copies from nowhere.
    pub origin_lag: Option<u64>,
}

/// A consumer's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerGauges<'a> {
    pub account: &'a str,
    pub stream: &'a str,
    pub name: &'a str,
    /// Not delivered yet; `None` where counting would have cost too much.
    pub pending: Option<u64>,
    pub ack_pending: u64,
    pub redelivered: u64,
    pub waiting: u64,
    /// Stream sequence up to which all is acknowledged.
    pub ack_floor: u64,
    /// Stream sequence delivered last.
    pub delivered: u64,
    pub is_paused: bool,
}

/// Sums over what has no numbers of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OtherGauges {
    pub streams: u64,
    pub stream_messages: u64,
    pub stream_bytes: u64,
    pub consumers: u64,
    pub ack_pending: u64,
    pub redelivered: u64,
    pub waiting: u64,
}

/// All of it, by account and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauges<'a> {
    pub streams: Vec<StreamGauges<'a>>,
    pub consumers: Vec<ConsumerGauges<'a>>,
    pub others: OtherGauges,
}

impl JetStream {
    /// The numbers as of now.
    #[must_use]
    pub fn gauges(&self, now: Now, limits: GaugeLimits) -> Gauges<'_> {
        let mut gauges = Gauges::default();
        let mut countable = limits.counted_subjects_max;
        for account in self.accounts.values() {
            let streams = account.streams.values();
            for stream in streams.filter_map(|id| self.streams.get(id)) {
                add_stream(&mut gauges, now, &account.name, stream, limits);
                add_consumers(
                    &mut gauges,
                    now,
                    &account.name,
                    stream,
                    limits,
                    &mut countable,
                );
            }
        }
        gauges
    }
}

fn add_stream<'a>(
    gauges: &mut Gauges<'a>,
    now: Now,
    account: &'a str,
    stream: &'a Stream,
    limits: GaugeLimits,
) {
    let state = stream.store.state();
    if gauges.streams.len() >= limits.streams_max {
        let others = &mut gauges.others;
        others.streams += 1;
        others.stream_messages += state.messages;
        others.stream_bytes += state.bytes;
        return;
    }
    let copies = stream.config.mirror.is_some() || !stream.config.sources.is_empty();
    let origin_lag = copies.then(|| stream.source_infos(now).iter().map(|one| one.lag).sum());
    gauges.streams.push(StreamGauges {
        account,
        name: &stream.name,
        in_memory: stream.config.storage == StorageKind::Memory,
        messages: state.messages,
        bytes: state.bytes,
        subjects: state.subjects,
        deleted: state.deleted,
        first_sequence: state.first_sequence,
        last_sequence: state.last_sequence,
        consumers: stream.consumers.len() as u64,
        origin_lag,
    });
}

fn add_consumers<'a>(
    gauges: &mut Gauges<'a>,
    now: Now,
    account: &'a str,
    stream: &'a Stream,
    limits: GaugeLimits,
    countable: &mut u64,
) {
    let subjects = stream.store.state().subjects;
    for (name, slot) in &stream.consumers {
        let consumer = &slot.consumer;
        let (ack_pending, redelivered, waiting) = consumer.loads();
        if gauges.consumers.len() >= limits.consumers_max {
            let others = &mut gauges.others;
            others.consumers += 1;
            others.ack_pending += ack_pending;
            others.redelivered += redelivered;
            others.waiting += waiting;
            continue;
        }
        let mut is_counted = true;
        let pending = consumer.num_pending(|filter, from| {
            // A filter without wildcards, or for all, is a look at one list.
            let cost = if filter.is_cheap() {
                1
            } else {
                subjects.max(1)
            };
            is_counted = cost <= *countable;
            if is_counted {
                *countable -= cost;
                stream.store.count_from(filter, from)
            } else {
                0
            }
        });
        gauges.consumers.push(ConsumerGauges {
            account,
            stream: &stream.name,
            name,
            pending: is_counted.then_some(pending),
            ack_pending,
            redelivered,
            waiting,
            ack_floor: consumer.ack_floor(),
            delivered: consumer.last_delivered(),
            is_paused: consumer.is_paused(now),
        });
    }
}
