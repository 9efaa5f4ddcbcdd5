//! One budget for what all stores of a server keep in memory.
//!
//! What can be read again (bodies of the tail that the journal has, blocks read from segments) is
//! one pool: whoever is active takes from it, and when it is used up the stores that had nothing
//! to do for longest give theirs back, oldest first. Indexes count, so that the pool is smaller
//! the larger they are; when they take more than their part, idle stores give theirs back too. All work is a logarithm per store touched,
//! and a bounded step per store that gives back.

use super::{MemoryShare, Resident};
use std::collections::BTreeMap;

/// What all stores of a server may keep in memory unless the owner says otherwise, in bytes.
pub const DEFAULT_MEMORY_BYTES: u64 = 256 << 20;
/// However large the indexes are, this part of the budget is left for the pool.
const LEAST_POOL_DIVISOR: u64 = 4;
/// The stores used last keep at least so much each: they could not serve a reader otherwise.
const FLOOR_BYTES: u64 = 320 << 10;
const FLOOR_STORES: usize = 8;
/// Indexes may take what the pool does not need; beyond it, one that nothing needed for so long is
/// given back. A store whose index comes and goes with every use would be worse than a full budget.
pub const INDEX_IDLE_NS: u64 = 5_000_000_000;
/// The order of use is as coarse as this: a store in steady use is not sorted anew each time.
const RECENT_NS: u64 = 50_000_000;
/// An index below this part of the budget is not worth reading it again.
const INDEX_LEAST_DIVISOR: u64 = 1 << 14;

/// Who holds what, and who must give back.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    total_bytes: u64,
    holders: BTreeMap<u64, Holder>,
    /// Stores that can give back, by the number of their last use.
    by_use: BTreeMap<u64, u64>,
    /// Stores whose index may be given back, likewise.
    indexes: BTreeMap<u64, u64>,
    indexes_given_up: u64,
    index_idle_ns: u64,
    uses: u64,
    cache_bytes: u64,
    fixed_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    used: u64,
    used_ns: u64,
    index_bytes: u64,
    cache_bytes: u64,
    fixed_bytes: u64,
    /// It was asked for all it can give: the next use puts it back on the lists.
    is_unlisted: bool,
}

/// A store that must give something back ([`super::StreamStore::release`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Debtor {
    pub store: u64,
    /// What it may keep.
    pub keep_bytes: u64,
}

impl MemoryBudget {
    /// A budget of so many bytes for all stores.
    #[must_use]
    pub const fn new(total_bytes: u64) -> Self {
        Self {
            total_bytes,
            holders: BTreeMap::new(),
            by_use: BTreeMap::new(),
            indexes: BTreeMap::new(),
            indexes_given_up: 0,
            index_idle_ns: INDEX_IDLE_NS,
            uses: 0,
            cache_bytes: 0,
            fixed_bytes: 0,
        }
    }

    /// Indexes are given back after another time of idleness; short ones are for tests.
    #[must_use]
    pub const fn with_index_idle_ns(mut self, index_idle_ns: u64) -> Self {
        self.index_idle_ns = index_idle_ns;
        self
    }

    /// What a single store may keep at most: half of the budget for its tail, and no more blocks
    /// than a reader that goes through cold data needs, so that it does not drive out all others.
    #[must_use]
    pub fn share(&self) -> MemoryShare {
        MemoryShare {
            tail_bytes: (self.total_bytes / 2).max(FLOOR_BYTES),
            block_bytes: (self.total_bytes / 8).clamp(FLOOR_BYTES, 8 << 20),
        }
    }

    /// A store was used at this monotonic time, and holds this now.
    pub fn used(&mut self, store: u64, resident: &Resident, now_ns: u64) {
        if self.used_again(store, resident, now_ns) {
            return;
        }
        self.forget(store);
        self.uses += 1;
        let holder = Holder {
            used: self.uses,
            used_ns: now_ns,
            index_bytes: resident.rows + resident.subjects + resident.deleted,
            cache_bytes: resident.cache,
            fixed_bytes: resident.total().saturating_sub(resident.cache),
            is_unlisted: false,
        };
        self.add(store, holder);
    }

    /// A store that was used a moment ago keeps its place: what it holds is counted anew, and nothing
    /// is sorted. False if there is more to it.
    fn used_again(&mut self, store: u64, resident: &Resident, now_ns: u64) -> bool {
        let least_index = self.least_index_bytes();
        let index_bytes = resident.rows + resident.subjects + resident.deleted;
        let Some(holder) = self.holders.get_mut(&store) else {
            return false;
        };
        let same_lists = (holder.cache_bytes > 0) == (resident.cache > 0)
            && (holder.index_bytes > least_index) == (index_bytes > least_index);
        let recent = now_ns.saturating_sub(holder.used_ns) < RECENT_NS.min(self.index_idle_ns / 8);
        if !(same_lists && recent) || holder.is_unlisted {
            return false;
        }
        let fixed_bytes = resident.total().saturating_sub(resident.cache);
        self.cache_bytes = self.cache_bytes - holder.cache_bytes + resident.cache;
        self.fixed_bytes = self.fixed_bytes - holder.fixed_bytes + fixed_bytes;
        holder.index_bytes = index_bytes;
        holder.cache_bytes = resident.cache;
        holder.fixed_bytes = fixed_bytes;
        true
    }

    const fn least_index_bytes(&self) -> u64 {
        self.total_bytes / INDEX_LEAST_DIVISOR
    }

    /// A store gave back what it could in one step. One that could not give anything is not asked
    /// again before it is used.
    pub fn released(&mut self, store: u64, resident: &Resident, gave: bool) {
        let Some(before) = self.holders.get(&store).copied() else {
            return;
        };
        self.forget(store);
        let holder = Holder {
            cache_bytes: resident.cache,
            ..before
        };
        self.add(store, holder);
        if !gave {
            self.by_use.remove(&holder.used);
            if let Some(holder) = self.holders.get_mut(&store) {
                holder.is_unlisted = true;
            }
        }
    }

    /// Whose index should be given back by now: of those idle long enough the one that nothing needed
    /// for longest; `None` when the indexes fit.
    #[must_use]
    pub fn idle_index(&self, now_ns: u64) -> Option<u64> {
        let due = self.index_deadline()?;
        let (_, store) = self.indexes.first_key_value()?;
        (due <= now_ns).then_some(*store)
    }

    /// Monotonic time at which [`Self::idle_index`] has somebody to name.
    #[must_use]
    pub fn index_deadline(&self) -> Option<u64> {
        if self.fixed_bytes <= self.total_bytes - self.total_bytes / LEAST_POOL_DIVISOR {
            return None;
        }
        let (_, store) = self.indexes.first_key_value()?;
        let used_ns = self.holders.get(store)?.used_ns;
        Some(used_ns.saturating_add(self.index_idle_ns))
    }

    /// A store was asked for its index. One that needs it is not asked again before it is used.
    pub fn index_given_up(&mut self, store: u64, resident: &Resident, gave: bool) {
        let Some(before) = self.holders.get(&store).copied() else {
            return;
        };
        self.indexes.remove(&before.used);
        if let Some(holder) = self.holders.get_mut(&store) {
            holder.is_unlisted = true;
        }
        if gave {
            self.indexes_given_up += 1;
            self.used(store, resident, before.used_ns);
        }
    }

    /// How many indexes were given back so far.
    #[must_use]
    pub const fn indexes_given_up(&self) -> u64 {
        self.indexes_given_up
    }

    /// Bytes of messages and blocks that could be given back, and of indexes that stay.
    #[must_use]
    pub const fn resident_bytes(&self) -> (u64, u64) {
        (self.cache_bytes, self.fixed_bytes)
    }

    /// A store is gone.
    pub fn forget(&mut self, store: u64) {
        if let Some(holder) = self.holders.remove(&store) {
            self.by_use.remove(&holder.used);
            self.indexes.remove(&holder.used);
            self.cache_bytes -= holder.cache_bytes;
            self.fixed_bytes -= holder.fixed_bytes;
        }
    }

    /// Who must give back next; `None` when the budget holds, or nobody can.
    #[must_use]
    pub fn debtor(&self) -> Option<Debtor> {
        let over = self.cache_bytes.saturating_sub(self.pool_bytes());
        if over == 0 {
            return None;
        }
        let idle = self.by_use.len().saturating_sub(FLOOR_STORES);
        // Beyond the idle ones only the few used last are looked at.
        let candidates = self.by_use.values().take(idle.min(1) + FLOOR_STORES);
        candidates.enumerate().find_map(|(place, store)| {
            let held = self.holders.get(store)?.cache_bytes;
            let floor = if place < idle { 0 } else { FLOOR_BYTES };
            let keep_bytes = held.saturating_sub(over).max(floor);
            (keep_bytes < held).then_some(Debtor {
                store: *store,
                keep_bytes,
            })
        })
    }

    /// Bytes that all stores hold: what can be given back, and the rest.
    #[must_use]
    pub const fn held(&self) -> (u64, u64) {
        (self.cache_bytes, self.fixed_bytes)
    }

    fn pool_bytes(&self) -> u64 {
        let left = self.total_bytes.saturating_sub(self.fixed_bytes);
        left.max(self.total_bytes / LEAST_POOL_DIVISOR)
    }

    fn add(&mut self, store: u64, holder: Holder) {
        self.cache_bytes += holder.cache_bytes;
        self.fixed_bytes += holder.fixed_bytes;
        if holder.cache_bytes > 0 {
            self.by_use.insert(holder.used, store);
        }
        if holder.index_bytes > self.least_index_bytes() {
            self.indexes.insert(holder.used, store);
        }
        self.holders.insert(store, holder);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{StoreSettings, StoredMessage, StreamStore};
    use super::*;
    use crate::ids::IdSpace;
    use crate::journal::JournalPosition;
    use bytes::Bytes;

    const KIB: u64 = 1 << 10;

    fn store(number: u64, budget: &MemoryBudget) -> StreamStore {
        let ids = IdSpace::new(number as u32 + 1);
        let mut settings = StoreSettings::file(&format!("streams/{number}"), ids, number);
        settings.share = budget.share();
        StreamStore::new(settings)
    }

    fn publish(store: &mut StreamStore, payload_bytes: u64) {
        let sequence = store.state().last_sequence + 1;
        let message = StoredMessage {
            sequence,
            time_ns: sequence as i64,
            subject: Bytes::from_static(b"a.b"),
            headers: Bytes::new(),
            payload: Bytes::from(vec![7; payload_bytes as usize]),
        };
        let position = JournalPosition {
            file: 1,
            offset: sequence * payload_bytes,
        };
        store.append(message, Some(position));
    }

    /// Until nobody owes anything; gives the number of steps.
    fn settle(stores: &mut [StreamStore], budget: &mut MemoryBudget) -> usize {
        let mut steps = 0;
        while let Some(debtor) = budget.debtor() {
            let store = &mut stores[debtor.store as usize];
            let gave = store.release(debtor.keep_bytes);
            budget.released(debtor.store, &store.resident(), gave);
            steps += 1;
        }
        steps
    }

    #[test]
    fn indexes_that_do_not_fit_are_given_back_when_nothing_needed_them_for_a_while() {
        let mut budget = MemoryBudget::new(400 * KIB);
        let holds = |index: u64| Resident {
            rows: index,
            ..Resident::default()
        };
        let second = 1_000_000_000;
        for store in 0..4 {
            budget.used(store, &holds(90 * KIB), store * second);
        }
        // The last quarter belongs to the pool.
        assert_eq!(budget.index_deadline(), Some(INDEX_IDLE_NS));
        assert_eq!(budget.idle_index(INDEX_IDLE_NS - 1), None);
        assert_eq!(budget.idle_index(INDEX_IDLE_NS), Some(0));
        // One that is needed is asked again only after its next use.
        budget.index_given_up(0, &holds(90 * KIB), false);
        assert_eq!(budget.idle_index(10 * second), Some(1));
        budget.index_given_up(1, &holds(0), true);
        assert_eq!(
            (budget.index_deadline(), budget.indexes_given_up()),
            (None, 1)
        );
        budget.used(1, &holds(90 * KIB), 9 * second);
        assert_eq!(budget.idle_index(10 * second), Some(2));
    }

    #[test]
    fn many_streams_stay_within_a_small_budget_and_the_active_one_has_most_of_it() {
        const TOTAL: u64 = 8 << 20;
        let mut budget = MemoryBudget::new(TOTAL);
        let mut stores: Vec<_> = (0..500).map(|number| store(number, &budget)).collect();
        for round in 0..4 {
            for number in 0..stores.len() {
                for _ in 0..10 {
                    publish(&mut stores[number], 4 * KIB);
                }
                budget.used(number as u64, &stores[number].resident(), 0);
                let steps = settle(&mut stores, &mut budget);
                assert!(steps <= 8, "{steps} stores gave back for one that was used");
                let held: u64 = stores.iter().map(|store| store.resident().cache).sum();
                let floor = FLOOR_STORES as u64 * FLOOR_BYTES;
                assert!(held <= TOTAL + floor, "round {round}: {held} bytes");
                assert_eq!(held, budget.held().0);
            }
        }
        // One stream alone goes on: the others give way to it.
        let pool = budget.pool_bytes();
        for _ in 0..3000 {
            publish(&mut stores[3], 4 * KIB);
            budget.used(3, &stores[3].resident(), 0);
            settle(&mut stores, &mut budget);
        }
        let held = stores[3].resident().cache;
        assert!(held >= budget.share().tail_bytes * 9 / 10, "{held} bytes");
        let others: u64 = stores.iter().map(|store| store.resident().cache).sum();
        assert!(others - held <= pool, "{others}");
        assert!(
            stores
                .iter()
                .take(3)
                .all(|store| store.resident().cache <= FLOOR_BYTES)
        );
        // What was let go is still there: the journal has it.
        let total: u64 = stores.iter().map(|store| store.state().messages).sum();
        assert_eq!(total, 500 * 40 + 3000);
    }

    #[test]
    fn a_store_that_cannot_give_back_is_asked_once_and_a_removed_one_never() {
        let mut budget = MemoryBudget::new(1 << 20);
        let mut stores: Vec<_> = (0..20).map(|number| store(number, &budget)).collect();
        for (number, store) in stores.iter_mut().enumerate() {
            for sequence in 1..=100u64 {
                // Not in the journal: must stay in memory.
                let payload = Bytes::from(vec![1; 4096]);
                let subject = Bytes::from_static(b"a");
                let message = StoredMessage {
                    sequence,
                    subject,
                    payload,
                    ..StoredMessage::default()
                };
                store.append(message, None);
            }
            budget.used(number as u64, &store.resident(), 0);
        }
        let steps = settle(&mut stores, &mut budget);
        assert!(steps <= 20, "{steps}");
        assert_eq!(budget.debtor(), None);
        for number in 0..20 {
            budget.forget(number);
        }
        assert_eq!(budget.held(), (0, 0));
    }
}
