//! When a message goes because of consumers: what the client acknowledged and what the server
//! confirmed of it, and what follows for a stream that keeps messages only until then.

use crate::model::{Model, Stored, matches};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How long a stream keeps its messages, limits apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    #[default]
    Limits,
    /// Until somebody has acknowledged them.
    WorkQueue,
    /// Until every consumer that wants them has.
    Interest,
}

impl Retention {
    /// As a configuration names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Limits => "limits",
            Self::WorkQueue => "workqueue",
            Self::Interest => "interest",
        }
    }
}

/// What a consumer wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// `>`: all.
    pub filter: String,
    /// Messages wait for its acknowledgements, and not just for their delivery.
    pub acknowledges: bool,
}

type Names = BTreeMap<u64, BTreeSet<String>>;

/// Consumers by the messages that they acknowledged. Shared, because states of the model are copied
/// far more often than messages are acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// The client acknowledged, and nobody knows whether the server has heard of it.
    sent: Arc<Names>,
    confirmed: Arc<Names>,
}

impl Acknowledged {
    fn was_sent(&self, sequence: u64, consumer: &str) -> bool {
        let names = self.sent.get(&sequence);
        names.is_some_and(|names| names.contains(consumer))
    }

    fn is_confirmed(&self, sequence: u64, consumer: &str) -> bool {
        let names = self.confirmed.get(&sequence);
        names.is_some_and(|names| names.contains(consumer))
    }
}

impl Model {
    /// The client acknowledges these for a consumer: they may go from now on.
    pub fn acknowledge(&mut self, consumer: &str, sequences: impl Iterator<Item = u64>) {
        if self.limits.retention == Retention::Limits {
            return;
        }
        let sent = Arc::make_mut(&mut self.acknowledged.sent);
        for sequence in sequences {
            sent.entry(sequence)
                .or_default()
                .insert(consumer.to_owned());
        }
    }

    /// The server answered: what nobody else waits for is gone.
    pub fn confirm(&mut self, consumer: &str, sequences: impl Iterator<Item = u64>) {
        if self.limits.retention == Retention::Limits {
            return;
        }
        let confirmed = Arc::make_mut(&mut self.acknowledged.confirmed);
        for sequence in sequences {
            let names = confirmed.entry(sequence).or_default();
            names.insert(consumer.to_owned());
        }
    }

    /// Whether the message may be gone at this time, though nobody said so.
    #[must_use]
    pub fn may_be_gone(&self, sequence: u64, message: &Stored, wall_ns: i64) -> bool {
        message.expires_ns <= wall_ns || !self.is_needed(sequence, message)
    }

    /// Somebody waits for it for certain.
    fn is_needed(&self, sequence: u64, message: &Stored) -> bool {
        match self.limits.retention {
            Retention::Limits => true,
            Retention::WorkQueue => !self.acknowledged.sent.contains_key(&sequence),
            Retention::Interest => self.consumers.iter().any(|(name, interest)| {
                interest.acknowledges
                    && matches(&interest.filter, &message.subject)
                    && !self.acknowledged.was_sent(sequence, name)
            }),
        }
    }

    /// Nobody waits for it any more: it must be gone.
    #[must_use]
    pub fn is_unneeded(&self, sequence: u64, message: &Stored) -> bool {
        match self.limits.retention {
            Retention::Limits => false,
            Retention::WorkQueue => self.acknowledged.confirmed.contains_key(&sequence),
            Retention::Interest => self.consumers.iter().all(|(name, interest)| {
                !matches(&interest.filter, &message.subject)
                    || self.acknowledged.is_confirmed(sequence, name)
            }),
        }
    }

    /// One that was just stored. Whether consumers that come and go at the same time want it, is not
    /// known.
    pub(crate) fn remove_if_unneeded(&mut self, sequence: u64) {
        let unneeded = self.messages.get(&sequence).is_some_and(|message| {
            message.expires_ns > UNCERTAIN_NS && self.is_unneeded(sequence, message)
        });
        if unneeded {
            self.remove(sequence);
        }
    }

    pub(crate) fn note_uncertain(&mut self) {
        let unneeded = self.messages.iter();
        let unneeded: Vec<u64> = unneeded
            .filter(|(sequence, message)| !self.is_needed(**sequence, message))
            .map(|(sequence, _)| *sequence)
            .collect();
        for sequence in unneeded {
            if let Some(message) = self.messages.get_mut(&sequence) {
                Arc::make_mut(message).expires_ns = UNCERTAIN_NS;
            }
        }
    }

    /// What nobody waits for any more goes. Gives how many.
    pub fn remove_unneeded(&mut self) -> u64 {
        if self.limits.retention == Retention::Limits {
            return 0;
        }
        let unneeded = self.messages.iter();
        let unneeded: Vec<u64> = unneeded
            .filter(|(sequence, message)| self.is_unneeded(**sequence, message))
            .map(|(sequence, _)| *sequence)
            .collect();
        let count = unneeded.len() as u64;
        unneeded
            .into_iter()
            .for_each(|sequence| self.remove(sequence));
        count
    }
}

/// As the time of expiry: it may be gone at any time. Far enough from the lowest value for clocks to
/// be set back.
pub const UNCERTAIN_NS: i64 = i64::MIN / 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Change, Effect, Limits, Sent};

    fn publish(subject: &str) -> Change {
        let message = Sent {
            subject: subject.to_owned(),
            expires_ns: i64::MAX,
            ..Sent::default()
        };
        Change::Publish {
            messages: vec![message],
            batch: false,
        }
    }

    fn create(name: &str, filter: &str) -> Change {
        let interest = Interest {
            filter: filter.to_owned(),
            acknowledges: true,
        };
        Change::CreateConsumer {
            name: name.to_owned(),
            interest,
        }
    }

    fn stream(retention: Retention) -> Model {
        Model::new(Limits {
            retention,
            ..Limits::default()
        })
    }

    fn sequences(model: &Model) -> Vec<u64> {
        model.messages.keys().copied().collect()
    }

    #[test]
    fn a_work_queue_keeps_a_message_until_its_acknowledgement_is_confirmed() {
        let mut model = stream(Retention::WorkQueue);
        model.apply(&publish("s.a"));
        model.apply(&publish("s.b"));
        model.acknowledge("c", [1].into_iter());
        let first = model.messages[&1].clone();
        assert!(model.may_be_gone(1, &first, 0) && !model.may_be_gone(2, &first, 0));
        assert_eq!(sequences(&model), [1, 2]);
        model.confirm("c", [1].into_iter());
        assert_eq!(model.remove_unneeded(), 1);
        assert_eq!(sequences(&model), [2]);
    }

    #[test]
    fn interest_keeps_what_some_consumer_waits_for_and_stores_nothing_else() {
        let mut model = stream(Retention::Interest);
        assert_eq!(model.apply(&publish("s.a")), Effect::Stored(1));
        assert_eq!(sequences(&model), Vec::<u64>::new(), "nobody wants it");
        model.apply(&create("c", ">"));
        model.apply(&create("d", "s.a"));
        model.apply(&publish("s.a"));
        model.apply(&publish("s.b"));
        model.confirm("c", [2, 3].into_iter());
        assert_eq!(model.remove_unneeded(), 1);
        assert_eq!(sequences(&model), [2], "d has not acknowledged it");
        model.apply(&Change::DeleteConsumer("d".to_owned()));
        assert_eq!(sequences(&model), Vec::<u64>::new());
        assert_eq!(model.last, 3);
    }
}
