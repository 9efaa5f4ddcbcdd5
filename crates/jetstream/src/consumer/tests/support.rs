//! A consumer over a memory store with a recording way out.

use std::collections::BTreeSet;

use bytes::Bytes;
use millrace_clock::{Now, Random};
use millrace_store::stream::{StoreSettings, StoredMessage, StreamStore};

use crate::consumer::{
    AckAnswer, Consumer, ConsumerContext, ConsumerEvent, Place, Settings, StreamFacts,
    VisibleStore, Wake, parse_ack_subject,
};
use crate::ids::AccountRef;
use crate::model::{AckPolicy, ConsumerConfig, ConsumerInfo};
use crate::outbound::Outbound;

pub(super) const MILLISECOND_NS: u64 = 1_000_000;
pub(super) const SECOND_NS: u64 = 1_000_000_000;

/// One message that went out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) to: String,
    pub(super) subject: String,
    pub(super) reply: String,
    pub(super) headers: String,
    pub(super) payload: String,
}

/// Records what is sent to subjects with interest.
#[derive(Default)]
pub(super) struct FakeOutbound {
    pub(super) interest: BTreeSet<String>,
    pub(super) sent: Vec<Sent>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Outbound for FakeOutbound {
    fn send(
        &mut self,
        account: AccountRef,
        subject: &[u8],
        reply: &[u8],
        headers: &[u8],
        payload: &[u8],
    ) -> bool {
        let payload = Bytes::copy_from_slice(payload);
        self.deliver(account, subject, subject, reply, headers, &payload)
    }

    fn deliver(
        &mut self,
        account: AccountRef,
        destination: &[u8],
        subject: &[u8],
        reply: &[u8],
        headers: &[u8],
        payload: &Bytes,
    ) -> bool {
        let received = self.has_interest(account, destination);
        if received {
            self.sent.push(Sent {
                to: text(destination),
                subject: text(subject),
                reply: text(reply),
                headers: text(headers),
                payload: text(payload),
            });
        }
        received
    }

    fn has_interest(&self, _account: AccountRef, subject: &[u8]) -> bool {
        self.interest.contains(&text(subject))
    }

    fn has_queue_interest(&self, account: AccountRef, subject: &[u8], queue: &[u8]) -> bool {
        self.has_interest(account, [subject, b" ", queue].concat().as_slice())
    }
}

/// A stream with one consumer and a clock.
pub(super) struct Bench {
    pub(super) now: Now,
    pub(super) store: StreamStore,
    pub(super) outbound: FakeOutbound,
    pub(super) events: Vec<ConsumerEvent>,
    pub(super) random: Random,
    pub(super) place: Place,
    pub(super) config: ConsumerConfig,
    pub(super) consumer: Consumer,
    /// Records taken so far.
    pub(super) log: Vec<Bytes>,
}

pub(super) fn explicit() -> ConsumerConfig {
    ConsumerConfig {
        name: "C".to_owned(),
        durable: "C".to_owned(),
        ack_policy: AckPolicy::Explicit,
        ack_wait_ns: 30 * SECOND_NS as i64,
        max_deliver: -1,
        max_ack_pending: 1000,
        max_waiting: 512,
        ..ConsumerConfig::default()
    }
}

impl Bench {
    /// A consumer on an empty stream.
    pub(super) fn new(config: ConsumerConfig) -> Self {
        Self::with_messages(config, &[])
    }

    /// A consumer created behind these messages.
    pub(super) fn with_messages(config: ConsumerConfig, messages: &[(&str, &str)]) -> Self {
        Self::with_facts(config, messages, StreamFacts::default())
    }

    pub(super) fn with_facts(
        config: ConsumerConfig,
        messages: &[(&str, &str)],
        facts: StreamFacts,
    ) -> Self {
        let mut store = StreamStore::new(StoreSettings::memory());
        let now = Now {
            monotonic_ns: SECOND_NS,
            wall_ns: 1_700_000_000 * SECOND_NS as i64,
        };
        for (subject, payload) in messages {
            append(&mut store, now, subject, payload);
        }
        let settings = Settings::from_config(&config.name, &config, facts);
        let last = store.state().last_sequence;
        let consumer =
            Consumer::create(settings, now.wall_ns, &VisibleStore::new(&mut store, last));
        let mut bench = Self {
            now,
            store,
            outbound: FakeOutbound::default(),
            events: Vec::new(),
            random: Random::new(7),
            place: Place {
                account: AccountRef(1),
                stream: "S".to_owned(),
                domain: String::new(),
            },
            config,
            consumer,
            log: Vec::new(),
        };
        bench.with(|consumer, context| consumer.lead(context, false));
        bench
    }

    pub(super) fn with<R>(
        &mut self,
        run: impl FnOnce(&mut Consumer, &mut ConsumerContext<'_>) -> R,
    ) -> R {
        let last = self.store.state().last_sequence;
        let mut context = ConsumerContext {
            now: self.now,
            store: &mut VisibleStore::new(&mut self.store, last),
            outbound: &mut self.outbound,
            events: &mut self.events,
            random: &mut self.random,
            place: &self.place,
        };
        run(&mut self.consumer, &mut context)
    }

    pub(super) fn wake(&mut self) {
        while self.with(|consumer, context| consumer.wake(context)) == Wake::More {}
    }

    pub(super) fn listen(&mut self, subject: &str) {
        self.outbound.interest.insert(subject.to_owned());
        self.with(|consumer, context| consumer.interest_changed(context));
        self.wake();
    }

    pub(super) fn unlisten(&mut self, subject: &str) {
        self.outbound.interest.remove(subject);
        self.with(|consumer, context| consumer.interest_changed(context));
        self.wake();
    }

    pub(super) fn publish(&mut self, subject: &str, payload: &str) {
        append(&mut self.store, self.now, subject, payload);
        let sequence = self.store.state().last_sequence;
        self.consumer.message_appended(sequence, subject.as_bytes());
        self.wake();
    }

    pub(super) fn remove(&mut self, sequence: u64) {
        if let Some(removed) = self.store.remove(sequence) {
            self.consumer
                .message_removed(sequence, &removed.subject, &mut self.events);
        }
    }

    /// A pull request from an inbox that listens.
    pub(super) fn pull(&mut self, inbox: &str, body: &str) {
        self.outbound.interest.insert(inbox.to_owned());
        self.with(|consumer, context| {
            consumer.pull_request(context, inbox.as_bytes(), body.as_bytes());
        });
        self.wake();
    }

    pub(super) fn ack(&mut self, subject: &str, payload: &str) -> AckAnswer {
        self.ack_with_reply(subject, "", payload)
    }

    pub(super) fn ack_with_reply(
        &mut self,
        subject: &str,
        reply: &str,
        payload: &str,
    ) -> AckAnswer {
        let parsed = parse_ack_subject(subject.as_bytes()).expect("an ack subject");
        let answer = self.with(|consumer, context| {
            consumer.acknowledge(context, &parsed, reply.as_bytes(), payload.as_bytes())
        });
        self.wake();
        answer
    }

    /// Lets time pass, doing on the way what falls due.
    pub(super) fn sleep(&mut self, duration_ns: u64) {
        let end_ns = self.now.monotonic_ns + duration_ns;
        loop {
            let due = self
                .consumer
                .next_deadline()
                .filter(|at_ns| *at_ns <= end_ns);
            let next_ns = due.unwrap_or(end_ns).max(self.now.monotonic_ns);
            self.now.wall_ns += (next_ns - self.now.monotonic_ns) as i64;
            self.now.monotonic_ns = next_ns;
            self.with(|consumer, context| consumer.tick(context));
            self.wake();
            self.end_turn();
            if due.is_none() {
                return;
            }
        }
    }

    /// Ends the turn and applies its record as the leader's own.
    pub(super) fn end_turn(&mut self) -> Vec<u64> {
        let Some(record) = self.consumer.take_record(self.now) else {
            return Vec::new();
        };
        self.log.push(record.data.clone());
        let last = self.store.state().last_sequence;
        let store = VisibleStore::new(&mut self.store, last);
        let applied = self.consumer.apply(&record.data, true, &store);
        applied.expect("its own record").settled
    }

    /// What went out since the last call.
    pub(super) fn sent(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.outbound.sent)
    }

    /// Payloads and statuses that went out since the last call.
    pub(super) fn words(&mut self) -> Vec<String> {
        let word = |sent: Sent| match sent.headers.strip_prefix("NATS/1.0 ") {
            Some(status) => status.trim_end().replace("\r\n", "|"),
            None => sent.payload,
        };
        self.sent().into_iter().map(word).collect()
    }

    pub(super) fn info(&mut self) -> ConsumerInfo {
        let config = self.config.clone();
        self.with(|consumer, context| consumer.info(context, &config))
    }

    /// delivered (consumer, stream), floor (consumer, stream), ack pending, redelivered, pending.
    pub(super) fn counts(&mut self) -> [u64; 7] {
        let info = self.info();
        [
            info.delivered.consumer,
            info.delivered.stream,
            info.ack_floor.consumer,
            info.ack_floor.stream,
            info.num_ack_pending,
            info.num_redelivered,
            info.num_pending,
        ]
    }
}

pub(super) fn append(store: &mut StreamStore, now: Now, subject: &str, payload: &str) {
    let message = StoredMessage {
        sequence: store.state().last_sequence + 1,
        time_ns: now.wall_ns,
        subject: Bytes::copy_from_slice(subject.as_bytes()),
        headers: Bytes::new(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
    };
    store.append(message, None);
}
