//! What the simulated client does with consumers, and what it may be given by them.

use crate::client::{Received, publish};
use crate::consumer_track::{AckPolicy, ConsumerTrack, Delivery};
use crate::model::{Change, matches};
use crate::node_run::{INBOX, NodeRun, Request};
use crate::retention::{Interest, Retention};
use crate::track::{Existence, Read, count_after};
use serde_json::Value;

/// Consumers of a stream at a time.
const CONSUMERS_MAX: usize = 3;
const ACK_WAIT_NS: u64 = 3_000_000_000;
/// Rounds in which a consumer must give all that it has.
const DRAIN_ROUNDS: u32 = 400;
const DRAIN_PAUSE_NS: u64 = 500_000_000;

impl NodeRun {
    pub(crate) fn use_consumer(&mut self, stream: usize) {
        let count = self.streams[stream].consumers.len();
        if count == 0 || (count < CONSUMERS_MAX && self.random.below(25) == 0) {
            return self.create_consumer(stream);
        }
        let pick = self.random.below(count as u64) as usize;
        let mut names = self.streams[stream].consumers.keys();
        let Some(name) = names.nth(pick).cloned() else {
            return;
        };
        let consumer = &self.streams[stream].consumers[&name];
        if !consumer.confirmed {
            return;
        }
        let push = consumer.push;
        match self.random.below(40) {
            0 => self.delete_consumer(stream, &name),
            1..=3 => {
                let subject = format!("$JS.API.CONSUMER.INFO.S{stream}.{name}");
                let what = Request::ConsumerNumbers {
                    stream,
                    consumer: name,
                };
                self.send(&subject, &[], b"", what);
            }
            4..=18 if !push => self.pull(stream, &name),
            _ => self.answer_delivery(stream, &name),
        }
    }

    fn create_consumer(&mut self, stream: usize) {
        if self.streams[stream].is_changing() {
            return;
        }
        let name = format!("C{}", self.number());
        let queue = self.streams[stream].model.limits.retention == Retention::WorkQueue;
        let policy = match self.random.below(5) {
            // A work queue takes no other.
            _ if queue => AckPolicy::Explicit,
            0 => AckPolicy::None,
            1 => AckPolicy::All,
            _ => AckPolicy::Explicit,
        };
        let push = self.random.below(3) == 0;
        let filter = if self.random.below(3) == 0 {
            self.draw_subject(stream)
        } else {
            ">".to_owned()
        };
        let mut others = self.streams[stream].consumers.values();
        if queue && others.any(|other| overlap(&other.filter, &filter)) {
            return;
        }
        let mut config = serde_json::json!({
            "durable_name": name,
            "ack_policy": policy.name(),
            "deliver_policy": "all",
            "ack_wait": ACK_WAIT_NS,
        });
        if push {
            config["deliver_subject"] = format!("{INBOX}.push.{name}").into();
        }
        if filter != ">" {
            config["filter_subject"] = filter.clone().into();
        }
        let body = serde_json::json!({ "stream_name": format!("S{stream}"), "config": config });
        let subject = format!("$JS.API.CONSUMER.DURABLE.CREATE.S{stream}.{name}");
        let interest = Interest {
            filter: filter.clone(),
            acknowledges: policy != AckPolicy::None,
        };
        let track = ConsumerTrack {
            policy,
            push,
            filter,
            ..ConsumerTrack::default()
        };
        self.streams[stream].consumers.insert(name.clone(), track);
        let change = Change::CreateConsumer { name, interest };
        self.operate(stream, change, (&subject, &body.to_string()));
    }

    fn delete_consumer(&mut self, stream: usize, name: &str) {
        if self.streams[stream].is_changing() {
            return;
        }
        if let Some(consumer) = self.streams[stream].consumers.get_mut(name) {
            consumer.confirmed = false;
        }
        let subject = format!("$JS.API.CONSUMER.DELETE.S{stream}.{name}");
        let change = Change::DeleteConsumer(name.to_owned());
        self.operate(stream, change, (&subject, ""));
    }

    /// A consumer's creation or removal was answered.
    pub(crate) fn consumer_answered(&mut self, stream: usize, change: &Change) {
        match change {
            Change::CreateConsumer { name, .. } => {
                if let Some(consumer) = self.streams[stream].consumers.get_mut(name) {
                    consumer.confirmed = true;
                }
            }
            Change::DeleteConsumer(name) => {
                self.streams[stream].consumers.remove(name);
            }
            _ => {}
        }
    }

    fn pull(&mut self, stream: usize, name: &str) {
        let batch = 1 + self.random.below(12);
        let mut body = serde_json::json!({ "batch": batch });
        match self.random.below(3) {
            0 => body["expires"] = (500_000_000 * (1 + self.random.below(8))).into(),
            _ => body["no_wait"] = true.into(),
        }
        self.pull_with(stream, name, &body.to_string());
    }

    fn pull_with(&mut self, stream: usize, name: &str, body: &str) {
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.S{stream}.{name}");
        let reply = format!("{INBOX}.pull.{name}");
        self.world
            .send(&publish(&subject, &reply, &[], body.as_bytes()));
    }

    /// Acknowledges some message that was delivered, in one of the ways there are.
    fn answer_delivery(&mut self, stream: usize, name: &str) {
        let Some(consumer) = self.streams[stream].consumers.get(name) else {
            return;
        };
        let pick = self.random.below(consumer.open.len() as u64) as usize;
        let open = consumer.open.iter().nth(pick);
        let Some((sequence, reply)) = open.map(|(at, reply)| (*at, reply.clone())) else {
            return;
        };
        let word = match self.random.below(12) {
            0 => "-NAK",
            1 => "+WPI",
            2 if consumer.policy == AckPolicy::Explicit => "+TERM",
            _ => "+ACK",
        };
        let confirmed = self.random.below(2) == 0;
        self.acknowledge(stream, name, sequence, (&reply, word), confirmed);
    }

    fn acknowledge(
        &mut self,
        stream: usize,
        name: &str,
        sequence: u64,
        (subject, word): (&str, &str),
        confirmed: bool,
    ) {
        let ends = word == "+ACK" || word == "+TERM";
        let track = &mut self.streams[stream];
        if let Some(consumer) = track.consumers.get_mut(name) {
            if ends {
                consumer.acknowledge(sequence);
                let covered = consumer.covered(sequence);
                track.model.acknowledge(name, covered);
            } else if word == "-NAK" {
                consumer.open.remove(&sequence);
            }
        }
        if ends && confirmed {
            let what = Request::Acknowledge {
                stream,
                consumer: name.to_owned(),
                sequence,
            };
            self.send(subject, &[], word.as_bytes(), what);
        } else {
            let line = format!("PUB {subject} {}\r\n{word}\r\n", word.len());
            self.world.send(line.as_bytes());
        }
    }

    pub(crate) fn acknowledgement_answered(&mut self, stream: usize, name: &str, sequence: u64) {
        let track = &mut self.streams[stream];
        self.outcome.confirmed_acks += u64::from(track.consumers.contains_key(name));
        track.confirmed(name, sequence);
        self.outcome.settled += std::mem::take(&mut track.settled);
    }

    /// A message that a consumer sent.
    pub(crate) fn take_delivery(
        &mut self,
        delivery: &Delivery,
        message: &Received,
    ) -> Result<(), String> {
        let wall_ns = self.wall_max_ns;
        let track = self
            .streams
            .iter_mut()
            .find(|track| track.name == delivery.stream && track.existence == Existence::Present);
        let Some(track) = track else {
            return Ok(());
        };
        let Some(consumer) = track.consumers.get_mut(&delivery.consumer) else {
            return Ok(());
        };
        self.outcome.deliveries += 1;
        self.outcome.redeliveries += u64::from(delivery.count > 1);
        if !matches(&consumer.filter, &message.subject) {
            return Err(format!(
                "{}: {} does not match {}",
                delivery.consumer, message.subject, consumer.filter
            ));
        }
        consumer.deliver(delivery, &message.reply)?;
        let filter = consumer.filter.clone();
        let read = Read {
            sequence: delivery.sequence,
            subject: message.subject.clone(),
            payload: message.payload.clone().into(),
            // What a redelivery says is about another place.
            pending: (delivery.count == 1).then_some((filter, delivery.pending)),
            passed: 0,
            settled: consumer.settled_ahead(delivery.sequence),
        };
        track
            .read(&read, wall_ns)
            .map_err(|wrong| format!("{}: {wrong}", delivery.consumer))
    }

    /// What a consumer says of itself.
    pub(crate) fn consumer_numbers(
        &mut self,
        stream: usize,
        name: &str,
        json: &Value,
    ) -> Result<(), String> {
        let track = &self.streams[stream];
        let Some(consumer) = track.consumers.get(name) else {
            return Ok(());
        };
        if json.get("error").is_some() {
            return if consumer.confirmed && !track.doubtful_consumers.contains(name) {
                Err(format!("S{stream}/{name} is lost: {json}"))
            } else {
                Ok(())
            };
        }
        let number = |field: &Value| field.as_u64().unwrap_or(0);
        let delivered = number(&json["delivered"]["stream_seq"]);
        let floor = number(&json["ack_floor"]["stream_seq"]);
        let pending = number(&json["num_pending"]);
        if floor > delivered {
            return Err(format!(
                "S{stream}/{name}: floor {floor} above delivered {delivered}"
            ));
        }
        let wall_ns = self.wall_max_ns;
        let fits = |state: &crate::model::Model| {
            let (least, most) = count_after(state, delivered, &consumer.filter, wall_ns);
            let ahead = consumer.settled_ahead(delivered);
            let least = least.saturating_sub(track.hits() + ahead);
            (least..=most).contains(&pending)
        };
        if track.doubtful || crate::resolve::may_be(&track.model, &track.pending, &fits) {
            return Ok(());
        }
        Err(format!(
            "S{stream}/{name}: {pending} pending behind {delivered}"
        ))
    }

    /// Ends of pull requests and heartbeats say nothing that is checked.
    pub(crate) fn take_consumer_status(&self, message: &Received) -> Result<(), String> {
        match message.status() {
            Some(_) => Ok(()),
            None => Err(format!("an unexpected message on {}", message.subject)),
        }
    }

    /// At the end, on a healthy disk, every consumer must give everything that it still owes.
    pub(crate) fn drain_consumers(&mut self) -> Result<(), String> {
        for stream in 0..self.streams.len() {
            let names: Vec<String> = self.streams[stream].consumers.keys().cloned().collect();
            for name in names {
                self.drain_consumer(stream, &name)?;
            }
        }
        Ok(())
    }

    fn drain_consumer(&mut self, stream: usize, name: &str) -> Result<(), String> {
        for _ in 0..DRAIN_ROUNDS {
            if self.owed(stream, name).is_empty() {
                return Ok(());
            }
            let Some(consumer) = self.streams[stream].consumers.get(name) else {
                return Ok(());
            };
            if !consumer.push {
                self.pull_with(stream, name, r#"{"batch":50,"no_wait":true}"#);
            }
            self.settle()?;
            let consumer = &self.streams[stream].consumers[name];
            let open: Vec<(u64, String)> = consumer
                .open
                .iter()
                .map(|(at, reply)| (*at, reply.clone()))
                .collect();
            for (sequence, reply) in open {
                self.acknowledge(stream, name, sequence, (&reply, "+ACK"), true);
            }
            self.settle()?;
            self.sleep()?;
            // Whatever else the server is woken for: what waits for time must come to its turn.
            self.world.pass(DRAIN_PAUSE_NS);
        }
        let consumer = &self.streams[stream].consumers[name];
        Err(format!(
            "S{stream}/{name} ({:?}, push {}, filter {}) never delivers {:?}",
            consumer.policy,
            consumer.push,
            consumer.filter,
            self.owed(stream, name)
        ))
    }

    /// Messages that the consumer never delivered, or that nobody acknowledged.
    fn owed(&self, stream: usize, name: &str) -> Vec<u64> {
        let track = &self.streams[stream];
        let Some(consumer) = track.consumers.get(name) else {
            return Vec::new();
        };
        let owed = track.model.messages.iter().filter(|(sequence, message)| {
            matches(&consumer.filter, &message.subject)
                && !consumer.finished.contains(sequence)
                && !track.is_hit(**sequence)
                && !track
                    .model
                    .may_be_gone(**sequence, message, self.wall_max_ns)
        });
        owed.map(|(sequence, _)| *sequence).collect()
    }
}

/// Two consumers of a work queue may not want the same message.
fn overlap(one: &str, other: &str) -> bool {
    matches(one, other) || matches(other, one)
}
