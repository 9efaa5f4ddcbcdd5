//! Subject names to numbers: a hash table that grows a small shard at a time (linear hashing), so
//! that no publish on a fresh subject pays for all the others.

use super::subjects::SubjectId;
use hashbrown::HashTable;
use twox_hash::XxHash3_64;

/// A shard is divided when there are more names than this for each.
const SHARD_NAMES: usize = 512;

/// The table. Order never leaves it.
#[derive(Debug)]
pub(super) struct Names {
    /// Those before `divided` and those behind `whole` were divided in this round already.
    shards: Vec<HashTable<SubjectId>>,
    /// Shards at the beginning of the round: a power of two.
    whole: usize,
    divided: usize,
    len: usize,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            shards: vec![HashTable::new()],
            whole: 1,
            divided: 0,
            len: 0,
        }
    }
}

fn hash(name: &[u8]) -> u64 {
    XxHash3_64::oneshot(name)
}

impl Names {
    /// How many names there are.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The number of a name; `name_of` gives the name behind a number.
    pub(super) fn find<'a>(
        &self,
        name: &[u8],
        name_of: impl Fn(SubjectId) -> &'a [u8],
    ) -> Option<SubjectId> {
        let hash = hash(name);
        let shard = self.shards.get(self.shard_of(hash))?;
        shard.find(hash, |id| name_of(*id) == name).copied()
    }

    /// Adds a name that is not in here.
    pub(super) fn insert<'a>(
        &mut self,
        name: &[u8],
        id: SubjectId,
        name_of: impl Fn(SubjectId) -> &'a [u8],
    ) {
        let hash_of = |id: &SubjectId| hash(name_of(*id));
        if self.len >= self.shards.len() * SHARD_NAMES {
            self.divide(hash_of);
        }
        let hash = hash(name);
        let shard = self.shard_of(hash);
        if let Some(shard) = self.shards.get_mut(shard) {
            shard.insert_unique(hash, id, hash_of);
            self.len += 1;
        }
    }

    /// Takes a name out by its number.
    pub(super) fn remove(&mut self, name: &[u8], id: SubjectId) {
        let hash = hash(name);
        let shard = self.shard_of(hash);
        let Some(shard) = self.shards.get_mut(shard) else {
            return;
        };
        if let Ok(found) = shard.find_entry(hash, |other| *other == id) {
            found.remove();
            self.len -= 1;
        }
    }

    /// Heap bytes: a number and a byte of hash for each place, and what a shard is.
    pub(super) fn memory(&self) -> usize {
        // The places of a shard are a power of two above its names, seven eighths filled at most.
        self.shards.capacity() * size_of::<HashTable<SubjectId>>() + self.len * 9
    }

    fn shard_of(&self, hash: u64) -> usize {
        // The table uses the upper bits itself, and the lowest to find a place.
        let bits = (hash >> 20) as usize;
        let shard = bits & (self.whole - 1);
        if shard < self.divided {
            bits & (2 * self.whole - 1)
        } else {
            shard
        }
    }

    /// Divides the next shard in two.
    fn divide(&mut self, hash_of: impl Fn(&SubjectId) -> u64) {
        let at = self.divided;
        self.divided += 1;
        self.shards.push(HashTable::new());
        let shard = self.shards.get_mut(at).map(std::mem::take);
        for id in shard.into_iter().flatten() {
            let hash = hash_of(&id);
            let shard = self.shard_of(hash);
            if let Some(shard) = self.shards.get_mut(shard) {
                shard.insert_unique(hash, id, &hash_of);
            }
        }
        if self.divided == self.whole {
            self.whole *= 2;
            self.divided = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_while_shards_divide_one_at_a_time() {
        const NAMES: u32 = 40_000;
        let names: Vec<Vec<u8>> = (0..NAMES)
            .map(|id| format!("n.{id}").into_bytes())
            .collect();
        let name_of = |id: SubjectId| names[id as usize].as_slice();
        let mut table = Names::default();
        for id in 0..NAMES {
            let shards = table.shards.len();
            table.insert(name_of(id), id, name_of);
            assert!(table.shards.len() <= shards + 1);
        }
        let fullest = table.shards.iter().map(HashTable::len).max();
        assert!(
            fullest.is_some_and(|len| len < 4 * SHARD_NAMES),
            "{fullest:?}"
        );
        assert_eq!(table.len(), NAMES as usize);
        for id in (0..NAMES).step_by(2) {
            table.remove(name_of(id), id);
        }
        for id in 0..NAMES {
            let expected = (id % 2 == 1).then_some(id);
            assert_eq!(table.find(name_of(id), name_of), expected);
        }
        assert_eq!(table.find(b"none", name_of), None);
    }
}
