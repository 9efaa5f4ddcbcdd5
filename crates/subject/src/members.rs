//! The subscriptions of one filter: usually one, sometimes very many. Removing one is cheap either
//! way. Which filter they belong to is known by `interest.rs`.

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use std::hash::Hash;

/// Lists longer than this know the place of each entry.
const INDEXED_ABOVE: usize = 32;

/// Subscriptions in no particular order. The same one may be in it twice.
#[derive(Debug)]
pub(crate) enum Members<T> {
    None,
    One(T),
    Many(Box<Many<T>>),
}

#[derive(Debug)]
pub(crate) struct Many<T> {
    list: Vec<T>,
    /// Places in `list`, while it is long and holds nothing twice.
    places: Option<HashMap<T, u32, FxBuildHasher>>,
}

impl<T> Members<T> {
    pub(crate) fn as_slice(&self) -> &[T] {
        match self {
            Self::None => &[],
            Self::One(only) => std::slice::from_ref(only),
            Self::Many(many) => &many.list,
        }
    }
}

impl<T: Copy + Eq + Hash> Members<T> {
    pub(crate) fn push(&mut self, subscription: T) {
        match self {
            Self::None => *self = Self::One(subscription),
            Self::One(first) => {
                *self = Self::Many(Box::new(Many {
                    list: vec![*first, subscription],
                    places: None,
                }));
            }
            Self::Many(many) => many.push(subscription),
        }
    }

    /// Removes it once; false if it is not there.
    pub(crate) fn remove(&mut self, subscription: T) -> bool {
        match self {
            Self::None => false,
            Self::One(only) => {
                let found = *only == subscription;
                if found {
                    *self = Self::None;
                }
                found
            }
            Self::Many(many) => {
                let removed = many.remove(subscription);
                if let [only] = many.list[..] {
                    *self = Self::One(only);
                }
                removed
            }
        }
    }
}

impl<T: Copy + Eq + Hash> Many<T> {
    fn push(&mut self, subscription: T) {
        // Fewer than 2^32 subscriptions fit in memory.
        let place = self.list.len() as u32;
        self.list.push(subscription);
        let is_double = match &mut self.places {
            Some(places) => places.insert(subscription, place).is_some(),
            None if self.list.len() > INDEXED_ABOVE && self.list.len().is_power_of_two() => {
                self.index();
                false
            }
            None => false,
        };
        if is_double {
            self.places = None;
        }
    }

    fn index(&mut self) {
        let numbered = self.list.iter().copied().zip(0..);
        let places: HashMap<T, u32, FxBuildHasher> = numbered.collect();
        if places.len() == self.list.len() {
            self.places = Some(places);
        }
    }

    fn remove(&mut self, subscription: T) -> bool {
        let place = match &mut self.places {
            Some(places) => places.remove(&subscription).map(|place| place as usize),
            None => self.list.iter().position(|other| *other == subscription),
        };
        let Some(place) = place else {
            return false;
        };
        self.list.swap_remove(place);
        if let (Some(places), Some(moved)) = (&mut self.places, self.list.get(place)) {
            places.insert(*moved, place as u32);
        }
        if self.list.len() <= INDEXED_ABOVE {
            self.places = None;
        }
        if self.list.len() <= self.list.capacity() / 4 {
            self.list.shrink_to(self.list.len() * 2);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_list(steps in proptest::collection::vec((0..3u8, 0u32..90), 1..400)) {
            let mut members = Members::None;
            let mut model: Vec<u32> = Vec::new();
            for (step, value) in steps {
                if step > 0 {
                    members.push(value);
                    model.push(value);
                } else {
                    let place = model.iter().position(|other| *other == value);
                    prop_assert_eq!(members.remove(value), place.is_some());
                    if let Some(place) = place { model.swap_remove(place); }
                }
                let mut listed = members.as_slice().to_vec();
                listed.sort_unstable();
                model.sort_unstable();
                prop_assert_eq!(&listed, &model);
            }
        }
    }

    #[test]
    fn a_long_list_knows_its_places_and_forgets_them_when_it_is_short() {
        let mut members = Members::None;
        for value in 0..100_000u32 {
            members.push(value);
        }
        assert!(matches!(&members, Members::Many(many) if many.places.is_some()));
        for value in (1..100_000).rev().filter(|value| value % 5000 != 0) {
            assert!(members.remove(value));
        }
        assert_eq!(members.as_slice().len(), 20);
        assert!(
            matches!(&members, Members::Many(many) if many.places.is_none() && many.list.capacity() < 100)
        );
        assert!(!members.remove(7));
    }
}
