//! Which message ids a stream saw within its duplicate window (spec jetstream/02 §4).
//!
//! An id costs 60 to 125 bytes here, depending on when the tables last grew: a 16-byte hash, its
//! sequence and time, and its place in the order of time. Ids are forgotten by the time of newer messages, never by a clock, so that every replica
//! has the same table after the same entries.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use twox_hash::XxHash3_64;

use crate::entry::{DecodeError, Reader, put_i64, put_u64};

/// A hashed message id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdHash {
    // Two words instead of one of twice the size, which would be aligned to 16 bytes.
    high: u64,
    low: u64,
}

/// The ids of one stream.
#[derive(Debug)]
pub struct Dedup {
    seed: u64,
    window_ns: i64,
    ids: FxHashMap<IdHash, (u64, i64)>,
    /// Oldest first. An id that was stored again stands here twice; its newest time counts.
    order: VecDeque<(i64, IdHash)>,
}

impl Dedup {
    /// An empty table; a window of 0 remembers nothing. `seed` must be the same on all replicas.
    #[must_use]
    pub fn new(seed: u64, window_ns: i64) -> Self {
        Self {
            seed,
            window_ns,
            ids: FxHashMap::default(),
            order: VecDeque::new(),
        }
    }

    /// Changes the window; a smaller one takes effect with the next message.
    pub fn set_window(&mut self, window_ns: i64) {
        self.window_ns = window_ns;
    }

    /// Whether ids mean anything here.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.window_ns > 0
    }

    /// Number of ids remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// What the tables take, in bytes: a byte of control for each place of the hash table.
    #[must_use]
    pub fn memory(&self) -> usize {
        let places = (self.ids.capacity() * 8 / 7).next_power_of_two();
        let order = self.order.capacity() * size_of::<(i64, IdHash)>();
        places * (size_of::<(IdHash, (u64, i64))>() + 1) + order
    }

    /// The hash under which an id is remembered.
    #[must_use]
    pub fn hash(&self, id: &[u8]) -> IdHash {
        let high = XxHash3_64::oneshot_with_seed(self.seed, id);
        let low = XxHash3_64::oneshot_with_seed(!self.seed, id);
        IdHash { high, low }
    }

    /// The sequence stored with an id, if it is within the window at `now_ns`.
    #[must_use]
    pub fn find(&self, id: IdHash, now_ns: i64) -> Option<u64> {
        let (sequence, time_ns) = self.ids.get(&id)?;
        (now_ns.saturating_sub(*time_ns) < self.window_ns).then_some(*sequence)
    }

    /// Remembers an id stored at `time_ns`, and forgets what is out of the window then.
    pub fn insert(&mut self, id: IdHash, sequence: u64, time_ns: i64) {
        if !self.is_enabled() {
            return;
        }
        self.forget(time_ns);
        self.ids.insert(id, (sequence, time_ns));
        self.order.push_back((time_ns, id));
    }

    /// Forgets what is out of the window at `now_ns`.
    pub fn forget(&mut self, now_ns: i64) {
        let horizon = now_ns.saturating_sub(self.window_ns);
        while let Some((time_ns, id)) = self.order.front().copied() {
            if time_ns > horizon {
                return;
            }
            self.order.pop_front();
            if self
                .ids
                .get(&id)
                .is_some_and(|(_, newest)| *newest == time_ns)
            {
                self.ids.remove(&id);
            }
        }
    }

    /// Appends the table to a checkpoint.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.order.len() as u64);
        for (time_ns, id) in &self.order {
            let sequence = match self.ids.get(id) {
                Some((sequence, newest)) if newest == time_ns => *sequence,
                _ => 0,
            };
            put_i64(out, *time_ns);
            put_u64(out, sequence);
            put_u64(out, id.low);
            put_u64(out, id.high);
        }
    }

    /// Reads a table back.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes end too early.
    pub fn decode(&mut self, reader: &mut Reader) -> Result<(), DecodeError> {
        let count = reader.u64()?;
        for _ in 0..count {
            let time_ns = reader.i64()?;
            let sequence = reader.u64()?;
            let (low, high) = (reader.u64()?, reader.u64()?);
            let id = IdHash { high, low };
            if sequence > 0 {
                self.ids.insert(id, (sequence, time_ns));
            }
            self.order.push_back((time_ns, id));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn an_id_is_known_within_its_window_only() {
        let mut dedup = Dedup::new(1, 100);
        let id = dedup.hash(b"a");
        dedup.insert(id, 7, 1000);
        assert_eq!(dedup.find(id, 1099), Some(7));
        assert_eq!(dedup.find(id, 1100), None);
        dedup.insert(dedup.hash(b"b"), 8, 1100);
        assert_eq!(dedup.len(), 1);
    }

    #[test]
    fn an_id_stored_again_lives_from_its_newest_time() {
        let mut dedup = Dedup::new(1, 100);
        let id = dedup.hash(b"a");
        dedup.insert(id, 7, 1000);
        dedup.insert(id, 9, 1100);
        dedup.forget(1150);
        assert_eq!(dedup.find(id, 1150), Some(9));
    }

    #[test]
    fn a_table_survives_its_checkpoint() {
        let mut dedup = Dedup::new(3, 100);
        dedup.insert(dedup.hash(b"a"), 1, 10);
        dedup.insert(dedup.hash(b"b"), 2, 20);
        let mut out = Vec::new();
        dedup.encode(&mut out);
        let mut restored = Dedup::new(3, 100);
        restored
            .decode(&mut Reader::new(Bytes::from(out)))
            .expect("just written");
        assert_eq!(restored.find(restored.hash(b"b"), 20), Some(2));
        assert_eq!(restored.len(), 2);
    }

    /// The figure that ARCHITECTURE.md states.
    #[test]
    fn an_id_costs_no_more_than_the_documents_say() {
        let mut dedup = Dedup::new(3, i64::MAX);
        for number in 0..120_000u64 {
            dedup.insert(dedup.hash(&number.to_le_bytes()), number, 10);
            if number >= 1_000 {
                let each = dedup.memory() as f64 / dedup.len() as f64;
                assert!(each <= 125.0, "{each} bytes for each of {number} ids");
            }
        }
    }

    #[test]
    fn a_window_of_zero_remembers_nothing() {
        let mut dedup = Dedup::new(3, 0);
        dedup.insert(dedup.hash(b"a"), 1, 10);
        assert!(dedup.is_empty());
    }
}
