//! Counts of a row of buckets with sums from the front in a logarithm: how many messages lie
//! before a chunk of the index, or before a block of a subject's list.

/// Buckets that left the front before the tree is built anew without them.
const SLACK_BUCKETS: usize = 64;

/// A Fenwick tree over a queue of buckets.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranks {
    /// Buckets that left the front keep their place, with nothing in it.
    tree: Vec<u64>,
    start: usize,
}

const fn low_bit(number: usize) -> usize {
    number & number.wrapping_neg()
}

impl Ranks {
    /// A row of buckets with these counts.
    pub(super) fn new(counts: impl Iterator<Item = u64>) -> Self {
        let mut ranks = Self {
            tree: counts.collect(),
            start: 0,
        };
        ranks.build();
        ranks
    }

    /// How many buckets there are.
    pub(super) fn len(&self) -> usize {
        self.tree.len() - self.start
    }

    /// Adds a bucket at the end.
    pub(super) fn push_back(&mut self, count: u64) {
        let number = self.tree.len() + 1;
        let mut sum = count;
        let mut child = number - 1;
        while child > number - low_bit(number) {
            sum += self.tree.get(child - 1).copied().unwrap_or(0);
            child -= low_bit(child);
        }
        self.tree.push(sum);
    }

    /// The bucket at `position` counts `less` less.
    pub(super) fn subtract(&mut self, position: usize, less: u64) {
        let mut number = self.start + position + 1;
        while let Some(sum) = self.tree.get_mut(number - 1) {
            *sum = sum.saturating_sub(less);
            number += low_bit(number);
        }
    }

    /// The bucket at `position` counts `more` more.
    pub(super) fn add(&mut self, position: usize, more: u64) {
        let mut number = self.start + position + 1;
        while let Some(sum) = self.tree.get_mut(number - 1) {
            *sum += more;
            number += low_bit(number);
        }
    }

    /// The sum of all buckets before `position`.
    pub(super) fn before(&self, position: usize) -> u64 {
        let mut number = self.start + position.min(self.len());
        let mut sum = 0;
        while number > 0 {
            sum += self.tree.get(number - 1).copied().unwrap_or(0);
            number -= low_bit(number);
        }
        sum
    }

    /// Takes a bucket out. Cheap at the front, linear elsewhere.
    pub(super) fn remove(&mut self, position: usize) {
        if position >= self.len() {
            return;
        }
        if position == 0 {
            let count = self.before(1);
            self.subtract(0, count);
            self.start += 1;
            if self.start < SLACK_BUCKETS || self.start * 2 < self.tree.len() {
                return;
            }
            self.dismantle();
        } else {
            self.dismantle();
            self.tree.remove(self.start + position);
        }
        self.tree.drain(..self.start);
        self.start = 0;
        self.build();
    }

    /// Heap bytes.
    pub(super) fn memory(&self) -> usize {
        self.tree.capacity() * size_of::<u64>()
    }

    /// From counts to partial sums.
    fn build(&mut self) {
        for number in 1..=self.tree.len() {
            let sum = self.tree.get(number - 1).copied().unwrap_or(0);
            if let Some(parent) = self.tree.get_mut(number + low_bit(number) - 1) {
                *parent += sum;
            }
        }
    }

    /// From partial sums to counts.
    fn dismantle(&mut self) {
        for number in (1..=self.tree.len()).rev() {
            let sum = self.tree.get(number - 1).copied().unwrap_or(0);
            if let Some(parent) = self.tree.get_mut(number + low_bit(number) - 1) {
                *parent -= sum;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_agree_with_a_plain_list(steps in proptest::collection::vec((0u8..4, 0usize..200, 1u64..50), 1..600)) {
            let mut ranks = Ranks::default();
            let mut model: Vec<u64> = Vec::new();
            for (kind, which, count) in steps {
                let position = which % model.len().max(1);
                match kind {
                    1 if which % 2 == 0 && !model.is_empty() => {
                        ranks.add(position, count);
                        model[position] += count;
                    }
                    0 | 1 => {
                        ranks.push_back(count);
                        model.push(count);
                    }
                    2 if !model.is_empty() => {
                        let less = count.min(model[position]);
                        ranks.subtract(position, less);
                        model[position] -= less;
                    }
                    _ if !model.is_empty() => {
                        let position = if which % 3 > 0 { 0 } else { position };
                        ranks.remove(position);
                        model.remove(position);
                    }
                    _ => {}
                }
                prop_assert_eq!(ranks.len(), model.len());
                for position in (0..=model.len()).step_by(7).chain([model.len()]) {
                    prop_assert_eq!(ranks.before(position), model[..position].iter().sum::<u64>());
                }
            }
            prop_assert_eq!(Ranks::new(model.iter().copied()).before(model.len()), model.iter().sum::<u64>());
        }
    }
}
