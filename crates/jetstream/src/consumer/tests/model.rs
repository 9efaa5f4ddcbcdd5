//! Random histories against a naive model, and against a follower that only sees the log and a
//! consumer restored from a checkpoint.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::support::{Bench, MILLISECOND_NS, SECOND_NS, explicit};
use crate::consumer::{
    Consumer, ConsumerEvent, Settings, StreamFacts, VisibleStore, parse_ack_subject,
};
use crate::model::{ConsumerConfig, DeliverPolicy};

const MAX_DELIVER: u64 = 3;

#[derive(Clone, Debug)]
enum Op {
    Publish(u8),
    Pull(u8),
    /// Verb and which of the deliveries so far it is for.
    Ack(&'static str, usize),
    Sleep(u64),
    Remove(usize),
    EndTurn,
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0u8..3).prop_map(Op::Publish),
        3 => (1u8..4).prop_map(Op::Pull),
        5 => (
            prop::sample::select(vec!["", "+ACK", "-NAK", "-NAK 300ms", "+WPI", "+TERM"]),
            any::<usize>()
        )
            .prop_map(|(verb, index)| Op::Ack(verb, index)),
        2 => (1u64..2500).prop_map(Op::Sleep),
        1 => any::<usize>().prop_map(Op::Remove),
        2 => Just(Op::EndTurn),
        1 => Just(Op::Restart),
    ]
}

/// What must be true, kept the simple way.
#[derive(Default)]
struct Model {
    undelivered: BTreeSet<u64>,
    /// Deliveries of unacknowledged messages.
    pending: BTreeMap<u64, u64>,
    delivered: u64,
    last: u64,
}

impl Model {
    fn observe(&mut self, sequence: u64, deliveries: u64) {
        self.delivered += 1;
        if deliveries == 1 {
            assert_eq!(
                self.undelivered.pop_first(),
                Some(sequence),
                "new messages in order"
            );
            self.pending.insert(sequence, 1);
            self.last = self.last.max(sequence);
        } else {
            let before = self
                .pending
                .get_mut(&sequence)
                .expect("only pending comes again");
            assert_eq!(deliveries, *before + 1);
            assert!(deliveries <= MAX_DELIVER);
            *before = deliveries;
        }
    }
}

/// A leader on the bench, its follower, and the model.
struct Trial {
    bench: Bench,
    follower: Consumer,
    model: Model,
    deliveries: Vec<String>,
}

impl Trial {
    fn new(deliver_policy: DeliverPolicy) -> Self {
        let config = ConsumerConfig {
            ack_wait_ns: SECOND_NS as i64,
            max_deliver: MAX_DELIVER as i64,
            max_ack_pending: 5,
            filter_subject: "a.*".to_owned(),
            deliver_policy,
            ..explicit()
        };
        let messages = [("a.0", "m"), ("b", "m"), ("a.1", "m"), ("a.0", "m")];
        let mut bench = Bench::with_messages(config.clone(), &messages);
        let settings = Settings::from_config(&config.name, &config, StreamFacts::default());
        let last = bench.store.state().last_sequence;
        let store = VisibleStore::new(&mut bench.store, last);
        let follower = Consumer::create(settings, bench.now.wall_ns, &store);
        let undelivered = match deliver_policy {
            DeliverPolicy::LastPerSubject => [3, 4].into(),
            _ => [1, 3, 4].into(),
        };
        let model = Model {
            undelivered,
            ..Model::default()
        };
        Self {
            bench,
            follower,
            model,
            deliveries: Vec::new(),
        }
    }

    fn observe(&mut self) {
        let events = std::mem::take(&mut self.bench.events);
        for sent in self.bench.sent() {
            if let Some(ack) = parse_ack_subject(sent.reply.as_bytes()) {
                self.model.observe(ack.stream_sequence, ack.deliveries);
                self.deliveries.push(sent.reply);
            }
        }
        for event in events {
            if let ConsumerEvent::MaxDeliveries {
                sequence,
                deliveries,
            } = event
            {
                assert_eq!(deliveries, MAX_DELIVER);
                assert_eq!(self.model.pending.remove(&sequence), Some(MAX_DELIVER));
            }
        }
    }

    fn end_turn(&mut self) {
        let before = self.bench.log.len();
        self.bench.end_turn();
        let last = self.bench.store.state().last_sequence;
        for data in &self.bench.log[before..] {
            let store = VisibleStore::new(&mut self.bench.store, last);
            self.follower.apply(data, false, &store).expect("readable");
        }
    }

    fn sleep(&mut self, duration_ns: u64) {
        self.end_turn();
        let before = self.bench.log.len();
        self.bench.sleep(duration_ns);
        let last = self.bench.store.state().last_sequence;
        for data in &self.bench.log[before..] {
            let store = VisibleStore::new(&mut self.bench.store, last);
            self.follower.apply(data, false, &store).expect("readable");
        }
    }

    fn acknowledge(&mut self, verb: &str, index: usize) {
        if self.deliveries.is_empty() {
            return;
        }
        let subject = self.deliveries[index % self.deliveries.len()].clone();
        let sequence = parse_ack_subject(subject.as_bytes())
            .expect("ack")
            .stream_sequence;
        if matches!(verb, "" | "+ACK" | "+TERM") {
            self.model.pending.remove(&sequence);
        }
        self.bench.ack(&subject, verb);
    }

    fn remove(&mut self, index: usize) {
        self.end_turn();
        let sequence = 1 + index as u64 % self.bench.store.state().last_sequence;
        let Some(subject) = self.bench.store.subject_of(sequence).cloned() else {
            return;
        };
        self.bench.remove(sequence);
        self.follower
            .message_removed(sequence, &subject, &mut Vec::new());
        self.model.undelivered.remove(&sequence);
        self.model.pending.remove(&sequence);
        self.bench.wake();
    }

    /// The leader goes down; the follower's state or a checkpoint takes over.
    fn restart(&mut self) {
        self.end_turn();
        let settings = self.bench.consumer.settings().clone();
        let snapshot = self.bench.consumer.snapshot();
        let restored = Consumer::restore(settings.clone(), &snapshot).expect("readable");
        assert_eq!(restored.snapshot(), snapshot);
        let copy = Consumer::restore(settings, &self.follower.snapshot()).expect("readable");
        self.bench.consumer = std::mem::replace(&mut self.follower, restored);
        self.follower = copy;
        self.bench
            .with(|consumer, context| consumer.lead(context, true));
        self.bench.with(|consumer, context| consumer.tick(context));
        self.bench.wake();
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Publish(subject) => {
                let subject = if *subject == 2 {
                    "b".to_owned()
                } else {
                    format!("a.{subject}")
                };
                let next = self.bench.store.state().last_sequence + 1;
                if subject != "b" {
                    self.model.undelivered.insert(next);
                }
                self.bench.publish(&subject, "m");
                self.follower.message_appended(next, subject.as_bytes());
            }
            Op::Pull(batch) => self.bench.pull("in", &batch.to_string()),
            Op::Ack(verb, index) => self.acknowledge(verb, *index),
            Op::Sleep(milliseconds) => self.sleep(milliseconds * MILLISECOND_NS),
            Op::Remove(index) => self.remove(*index),
            Op::EndTurn => self.end_turn(),
            Op::Restart => self.restart(),
        }
        self.observe();
        self.check();
    }

    fn check(&mut self) {
        let info = self.bench.info();
        assert_eq!(
            info.num_pending,
            self.model.undelivered.len() as u64,
            "num_pending"
        );
        assert_eq!(
            info.num_ack_pending,
            self.model.pending.len() as u64,
            "num_ack_pending"
        );
        assert_eq!(info.delivered.consumer, self.model.delivered, "delivered");
        let first = self.model.pending.keys().next();
        assert!(
            first.is_none_or(|first| info.ack_floor.stream < *first),
            "floor"
        );
        assert!(info.delivered.stream >= self.model.last);
    }

    /// The follower knows what the leader knows, apart from times.
    fn compare(&mut self) {
        self.end_turn();
        let (leader, follower) = (&self.bench.consumer.state, &self.follower.state);
        let pending = |consumer: &Consumer| -> Vec<(u64, u64)> {
            let slots = consumer.state.pending.iter();
            slots
                .map(|slot| (slot.sequence, slot.consumer_sequence))
                .collect()
        };
        assert_eq!(leader.delivered, follower.delivered);
        assert_eq!(leader.floor, follower.floor);
        assert_eq!(leader.redelivered, follower.redelivered);
        assert_eq!(leader.num_pending, follower.num_pending);
        assert_eq!(leader.start_list, follower.start_list);
        assert_eq!(pending(&self.bench.consumer), pending(&self.follower));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_history_agrees_with_the_model_and_its_log_gives_the_same_state(
        ops in prop::collection::vec(op(), 1..80),
        last_per_subject in any::<bool>(),
    ) {
        let policy =
            if last_per_subject { DeliverPolicy::LastPerSubject } else { DeliverPolicy::All };
        let mut trial = Trial::new(policy);
        for op in &ops {
            trial.step(op);
        }
        trial.compare();
    }
}
