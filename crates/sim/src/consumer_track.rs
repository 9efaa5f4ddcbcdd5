//! What the client knows of one consumer: what it may still be given, and what never again.

use std::collections::{BTreeMap, BTreeSet};

/// How messages are acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AckPolicy {
    #[default]
    Explicit,
    All,
    None,
}

impl AckPolicy {
    /// As a configuration names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Explicit => "explicit",
            Self::All => "all",
            Self::None => "none",
        }
    }
}

/// One consumer.
#[derive(Clone, Debug, Default)]
pub struct ConsumerTrack {
    pub policy: AckPolicy,
    pub push: bool,
    /// `>`: all.
    pub filter: String,
    /// Its creation was answered.
    pub confirmed: bool,
    /// Acknowledged, and the acknowledgement answered: never to be seen again.
    pub done: BTreeSet<u64>,
    /// For `all`: everything up to here is done.
    pub done_through: u64,
    /// Acknowledged in any way, or finished by the client: need not come again.
    pub finished: BTreeSet<u64>,
    /// Delivered in this life and neither acknowledged nor given back, with the reply subject.
    pub open: BTreeMap<u64, String>,
    /// Messages that are back because their removal may be lost to damage. An acknowledgement that
    /// came when they were gone was answered, and there was nothing to remember.
    pub returned: BTreeSet<u64>,
    /// A record of what it did may be lost.
    pub is_forgiven: bool,
    /// Ever delivered.
    pub delivered: BTreeSet<u64>,
}

/// The reply subject of a delivered message:
/// `$JS.ACK.<stream>.<consumer>.<count>.<sequence>.<consumer sequence>.<time>.<pending>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub stream: String,
    pub consumer: String,
    pub count: u64,
    pub sequence: u64,
    pub pending: u64,
}

impl Delivery {
    /// Takes a reply subject apart; `None`: it is another one.
    #[must_use]
    pub fn parse(reply: &str) -> Option<Self> {
        let mut words = reply.strip_prefix("$JS.ACK.")?.split('.');
        let stream = words.next()?.to_owned();
        let consumer = words.next()?.to_owned();
        let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
        let [count, sequence, _, _, pending] = numbers.as_slice() else {
            return None;
        };
        Some(Self {
            stream,
            consumer,
            count: *count,
            sequence: *sequence,
            pending: *pending,
        })
    }
}

impl ConsumerTrack {
    /// Whether an answered acknowledgement covers this message.
    #[must_use]
    pub fn is_done(&self, sequence: u64) -> bool {
        let is_done = sequence <= self.done_through || self.done.contains(&sequence);
        is_done && !self.returned.contains(&sequence)
    }

    /// The client got a message.
    ///
    /// # Errors
    /// It was done with it.
    pub fn deliver(&mut self, delivery: &Delivery, reply: &str) -> Result<(), String> {
        let sequence = delivery.sequence;
        if self.is_done(sequence) {
            return Err(format!(
                "{}/{}: sequence {sequence} came again after its acknowledgement was answered",
                delivery.stream, delivery.consumer
            ));
        }
        self.delivered.insert(sequence);
        if self.policy == AckPolicy::None {
            self.finished.insert(sequence);
        } else {
            self.open.insert(sequence, reply.to_owned());
        }
        Ok(())
    }

    /// The messages that an acknowledgement of this one covers.
    #[must_use]
    pub fn covered(&self, sequence: u64) -> std::ops::RangeInclusive<u64> {
        match self.policy {
            AckPolicy::All => 1..=sequence,
            _ => sequence..=sequence,
        }
    }

    /// The client acknowledges: it need not come again, but may.
    pub fn acknowledge(&mut self, sequence: u64) {
        self.open.remove(&sequence);
        self.finished.insert(sequence);
        if self.policy == AckPolicy::All {
            self.finished.extend(1..=sequence);
            self.open = self.open.split_off(&(sequence + 1));
        }
    }

    /// The server answered the acknowledgement.
    pub fn confirm(&mut self, sequence: u64) {
        if self.policy == AckPolicy::All {
            self.done_through = self.done_through.max(sequence);
            self.returned = self.returned.split_off(&(sequence + 1));
        } else {
            self.returned.remove(&sequence);
            self.done.insert(sequence);
        }
    }

    /// Damage took what it knew: everything may come again.
    pub fn forgive(&mut self) {
        self.is_forgiven = true;
        self.done.clear();
        self.done_through = 0;
    }

    /// Messages behind this one that are done with although their delivery may be lost.
    #[must_use]
    pub fn settled_ahead(&self, sequence: u64) -> u64 {
        let ahead = self.finished.range(sequence + 1..).count() as u64;
        if self.is_forgiven { ahead } else { 0 }
    }

    /// The server died: what was open may come again. Without acknowledgements, what was on its
    /// way to the client counts as delivered.
    pub fn restarted(&mut self, last: u64) {
        self.open.clear();
        if self.policy == AckPolicy::None {
            self.finished.extend(1..=last);
        }
    }
}
