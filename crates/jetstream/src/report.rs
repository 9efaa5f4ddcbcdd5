//! Streams and consumers as they are shown: to API clients (`api`) and to monitoring, which looks
//! without touching anything.

use millrace_clock::Now;
use millrace_store::stream::StreamStore;

use crate::consumer::Explanation;
use crate::engine::{Account, JetStream};
use crate::model::{
    ConsumerInfo, StreamConfig, StreamState, Timestamp, consumer_api_level, set_required_level,
};
use crate::stream::Stream;

/// A stream for monitoring.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamReport {
    pub name: String,
    pub created: Timestamp,
    /// As stored.
    pub config: StreamConfig,
    pub state: StreamState,
    /// In the order of their names.
    pub consumers: Vec<ConsumerInfo>,
}

impl JetStream {
    /// The streams of an account as of now, by name.
    #[must_use]
    pub fn reports(&self, now: Now, account: &Account) -> Vec<StreamReport> {
        let streams = account.streams.values();
        let streams = streams.filter_map(|id| self.streams.get(id));
        streams.map(|stream| report(now, stream)).collect()
    }
}

impl JetStream {
    /// Why a consumer does not deliver, for who only looks; `None` if there is no such consumer.
    #[must_use]
    pub fn explanation(
        &self,
        now: Now,
        account: &str,
        stream: &str,
        consumer: &str,
    ) -> Option<Explanation> {
        let mut accounts = self.accounts.values();
        let account = accounts.find(|found| found.name == account)?;
        let stream = self.streams.get(account.streams.get(stream)?)?;
        let consumer = &stream.consumers.get(consumer)?.consumer;
        let pending = consumer.num_pending(|filter, from| stream.store.count_from(filter, from));
        Some(consumer.explain(now, &stream.name, pending))
    }
}

fn report(now: Now, stream: &Stream) -> StreamReport {
    let mut state = state_of(&stream.store, &stream.config);
    state.consumer_count = stream.consumers.len() as u64;
    let consumers = stream.consumers.values().map(|slot| {
        let consumer = &slot.consumer;
        let pending = consumer.num_pending(|filter, from| stream.store.count_from(filter, from));
        as_shown(consumer.describe(now, &stream.name, &slot.config, pending))
    });
    StreamReport {
        name: stream.name.clone(),
        created: Timestamp(stream.created_ns),
        config: stream.config.clone(),
        state,
        consumers: consumers.collect(),
    }
}

/// The counters of a stream, but for its consumers, which the store does not know.
pub(crate) fn state_of(store: &StreamStore, config: &StreamConfig) -> StreamState {
    let state = store.state();
    // Asked to begin with 1, a stream shows so before its first message.
    let first_sequence = state.first_sequence.max(config.first_seq.min(1));
    let moment = |time_ns: i64| {
        if time_ns == 0 {
            Timestamp::ZERO
        } else {
            Timestamp(time_ns)
        }
    };
    StreamState {
        messages: state.messages,
        bytes: state.bytes,
        first_seq: first_sequence,
        first_ts: moment(state.first_time_ns),
        last_seq: state.last_sequence,
        last_ts: moment(state.last_time_ns),
        num_subjects: state.subjects,
        num_deleted: state.deleted,
        ..StreamState::default()
    }
}

/// What the consumer says of itself, as the reference would show it.
pub(crate) fn as_shown(mut info: ConsumerInfo) -> ConsumerInfo {
    // Several groups are accepted, the first is reported.
    info.priority_groups.truncate(1);
    // A pause that was asked for later counts too.
    let level = consumer_api_level(&info.config);
    set_required_level(&mut info.config.metadata, level);
    info
}
