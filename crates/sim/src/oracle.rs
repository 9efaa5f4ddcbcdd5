//! What must be true of a stream after any crash: every acknowledged message is there, intact, at
//! its sequence; what was not acknowledged is there in the order sent or not at all; a batch is
//! there whole or not at all; nothing else is there, and nothing comes back.

use std::collections::{BTreeMap, BTreeSet};

/// A publish or a batch that has been sent and whose answer is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The messages: one for a publish, all of them for a batch.
    pub payloads: Vec<Vec<u8>>,
    /// When it was sent as a whole, as a number that rises. A batch not committed yet has none, and
    /// none of its messages may ever be seen.
    pub order: Option<u64>,
}

/// What is known of one stream.
#[derive(Clone, Debug, Default)]
pub struct StreamOracle {
    /// Messages that must be there, by sequence.
    must: BTreeMap<u64, Vec<u8>>,
    /// Sequences whose message was deleted, with an acknowledgement.
    deleted: BTreeSet<u64>,
    /// Deletes without an answer: the message may be there or not.
    deleting: BTreeSet<u64>,
    /// In the order sent; the number is the sender's.
    attempts: BTreeMap<u64, Attempt>,
    /// Acknowledged messages in total.
    acknowledged: u64,
}

impl StreamOracle {
    /// Something is about to be sent.
    pub fn sent(&mut self, number: u64, attempt: Attempt) {
        self.attempts.insert(number, attempt);
    }

    /// One more message of a batch is about to be sent.
    pub fn batch_message(&mut self, number: u64, payload: Vec<u8>) {
        if let Some(attempt) = self.attempts.get_mut(&number) {
            attempt.payloads.push(payload);
        }
    }

    /// The batch of this number is about to be committed.
    pub fn committing(&mut self, number: u64, order: u64) {
        if let Some(attempt) = self.attempts.get_mut(&number) {
            attempt.order = Some(order);
        }
    }

    /// The server refused: none of it may be seen.
    pub fn refused(&mut self, number: u64) {
        self.attempts.remove(&number);
    }

    /// The server acknowledged, with the sequence of the last message.
    ///
    /// # Errors
    /// The sequence is taken, or the attempt was never sent.
    pub fn acknowledged(&mut self, number: u64, last_sequence: u64) -> Result<(), String> {
        let Some(attempt) = self.attempts.remove(&number) else {
            return Err(format!("attempt {number} was acknowledged and not open"));
        };
        let count = attempt.payloads.len() as u64;
        if last_sequence < count {
            return Err(format!("sequence {last_sequence} for a batch of {count}"));
        }
        for (sequence, payload) in (last_sequence + 1 - count..).zip(attempt.payloads) {
            if let Some(other) = self.must.insert(sequence, payload.clone())
                && other != payload
            {
                return Err(format!("sequence {sequence} was given twice"));
            }
        }
        self.acknowledged += count;
        Ok(())
    }

    /// A delete is about to be asked for.
    pub fn deleting(&mut self, sequence: u64) {
        self.deleting.insert(sequence);
    }

    /// The delete was acknowledged: the message must never be seen again.
    pub fn deleted(&mut self, sequence: u64) {
        self.deleting.remove(&sequence);
        self.must.remove(&sequence);
        self.deleted.insert(sequence);
    }

    /// A sequence that is there and may be deleted.
    #[must_use]
    pub fn some_sequence(&self, pick: u64) -> Option<u64> {
        let free: Vec<u64> = self
            .must
            .keys()
            .copied()
            .filter(|at| !self.deleting.contains(at))
            .collect();
        free.get(usize::try_from(pick).ok()? % free.len().max(1))
            .copied()
    }

    /// Acknowledged messages in total.
    #[must_use]
    pub const fn acknowledged_count(&self) -> u64 {
        self.acknowledged
    }

    /// Compares with all messages that the stream holds after a restart, and its last sequence.
    /// What was found is what must be there from now on.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&mut self, found: &BTreeMap<u64, Vec<u8>>, last: u64) -> Result<(), String> {
        for (sequence, payload) in &self.must {
            match found.get(sequence) {
                Some(there) if there == payload => {}
                Some(there) => {
                    return Err(format!("sequence {sequence} holds {}", short(there)));
                }
                None if self.deleting.contains(sequence) => {}
                None => {
                    return Err(format!("{} at sequence {sequence} is lost", short(payload)));
                }
            }
        }
        if let Some(sequence) = found
            .keys()
            .find(|sequence| self.deleted.contains(sequence))
        {
            return Err(format!("deleted sequence {sequence} came back"));
        }
        let highest = self
            .must
            .last_key_value()
            .map_or(0, |(sequence, _)| *sequence);
        if last < highest {
            return Err(format!(
                "last sequence {last} is below the acknowledged {highest}"
            ));
        }
        self.check_unanswered(found)?;
        self.attempts.clear();
        for sequence in std::mem::take(&mut self.deleting) {
            if !found.contains_key(&sequence) {
                self.deleted.insert(sequence);
            }
        }
        self.must.clone_from(found);
        Ok(())
    }

    /// Messages beyond those that must be there: whole attempts, in the order sent.
    fn check_unanswered(&self, found: &BTreeMap<u64, Vec<u8>>) -> Result<(), String> {
        let mut extra: BTreeMap<&[u8], u64> = BTreeMap::new();
        for (sequence, payload) in found {
            if !self.must.contains_key(sequence)
                && extra.insert(payload.as_slice(), *sequence).is_some()
            {
                return Err(format!("{} is there twice", short(payload)));
            }
        }
        let mut previous_last = 0;
        let mut attempts: Vec<&Attempt> = self.attempts.values().collect();
        attempts.sort_by_key(|attempt| attempt.order);
        for attempt in attempts {
            let places: Vec<Option<u64>> = attempt
                .payloads
                .iter()
                .map(|payload| extra.remove(payload.as_slice()))
                .collect();
            if places.iter().all(Option::is_none) {
                continue;
            }
            if attempt.order.is_none() {
                return Err(format!(
                    "{} of a batch never committed is there",
                    short(&attempt.payloads[0])
                ));
            }
            let mut expected = places.first().copied().flatten();
            for place in &places {
                if place.is_none() || *place != expected {
                    return Err(format!(
                        "a batch of {} is there in part: {places:?}",
                        attempt.payloads.len()
                    ));
                }
                expected = expected.map(|sequence| sequence + 1);
            }
            let first = places.first().copied().flatten().unwrap_or(0);
            if first <= previous_last {
                return Err(format!("sequence {first} is out of the order sent"));
            }
            previous_last = first + places.len() as u64 - 1;
        }
        match extra.first_key_value() {
            Some((payload, sequence)) => Err(format!(
                "{} at sequence {sequence} was never sent, or refused",
                short(payload)
            )),
            None => Ok(()),
        }
    }
}

fn short(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(&payload[..payload.len().min(24)]).into_owned();
    format!("{text:?} ({} bytes)", payload.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Attempt {
        Attempt {
            payloads: vec![text.as_bytes().to_vec()],
            order: Some(2),
        }
    }

    fn found(messages: &[(u64, &str)]) -> BTreeMap<u64, Vec<u8>> {
        messages
            .iter()
            .map(|(at, text)| (*at, text.as_bytes().to_vec()))
            .collect()
    }

    /// One acknowledged message, one unanswered publish, one unanswered batch of two.
    fn oracle(committed: bool) -> StreamOracle {
        let mut oracle = StreamOracle::default();
        oracle.sent(1, one("a"));
        oracle.acknowledged(1, 1).expect("the first");
        oracle.sent(2, one("b"));
        let payloads = vec![b"x".to_vec(), b"y".to_vec()];
        oracle.sent(
            3,
            Attempt {
                payloads,
                order: committed.then_some(3),
            },
        );
        oracle
    }

    #[test]
    fn every_allowed_outcome_passes() {
        let allowed: [&[(u64, &str)]; 4] = [
            &[(1, "a")],
            &[(1, "a"), (2, "b")],
            &[(1, "a"), (2, "x"), (3, "y")],
            &[(1, "a"), (2, "b"), (3, "x"), (4, "y")],
        ];
        for messages in allowed {
            let last = messages.len() as u64;
            assert_eq!(
                oracle(true).check(&found(messages), last),
                Ok(()),
                "{messages:?}"
            );
        }
    }

    #[test]
    fn every_forbidden_outcome_is_noticed() {
        let forbidden: [&[(u64, &str)]; 6] = [
            &[],
            &[(1, "b")],
            &[(1, "a"), (2, "x")],
            &[(1, "a"), (2, "y"), (3, "x")],
            &[(1, "a"), (2, "b"), (3, "b")],
            &[(1, "a"), (2, "never sent")],
        ];
        for messages in forbidden {
            let last = messages.len() as u64;
            assert!(
                oracle(true).check(&found(messages), last).is_err(),
                "{messages:?}"
            );
        }
        let parts = found(&[(1, "a"), (2, "x"), (3, "y")]);
        assert!(
            oracle(false).check(&parts, 3).is_err(),
            "a batch that was never committed"
        );
        let mut deleted = oracle(true);
        deleted.deleted(1);
        assert!(
            deleted.check(&found(&[(1, "a")]), 1).is_err(),
            "a deleted message"
        );
    }
}
