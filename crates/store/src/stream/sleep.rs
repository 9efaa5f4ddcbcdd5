//! Giving the index back: what is in segments and named by a durable manifest can be read again.

use super::io::Purpose;
use super::purge::Leftovers;
use super::segment::manifest::ManifestContent;
use super::{Storage, StreamStore};
use bytes::Bytes;
use std::mem;

impl StreamStore {
    /// Lets the index go, if every message is in a segment and nothing is under way: the store is as
    /// after [`Self::from_manifest`] then. Call it only while the last manifest is durable and
    /// nothing was applied since it began. False: nothing changed.
    pub fn give_up_index(&mut self) -> bool {
        if !self.can_give_up_index() {
            return false;
        }
        let Some(deletes) = self.deletes.clone() else {
            return false;
        };
        let content = ManifestContent {
            number: self.manifests,
            state: self.index.state(),
            next_segment: self.next_segment,
            segments: self.segments.clone(),
            deletes,
        };
        let manifest = Bytes::from(content.encode());
        let Ok(fresh) = Self::from_manifest(self.settings.clone(), &manifest) else {
            return false;
        };
        let old = mem::replace(self, fresh);
        // What belongs to this run of the server, and what is on its way.
        self.io = old.io;
        self.io.close_all();
        self.appendable = old.appendable;
        self.prepared = old.prepared;
        self.kept = old.kept;
        self.wiping = old.wiping;
        self.blocks = old.blocks;
        self.leftovers = old.leftovers;
        self.leftovers.push(Leftovers {
            index: old.index,
            bodies: old.tail.into_bodies(),
        });
        true
    }

    fn can_give_up_index(&self) -> bool {
        let at_rest = self.flush.is_none()
            && self.load.is_none()
            && self.events.is_empty()
            && self.retired.is_empty()
            && self.leftovers.is_empty()
            && !self.io.any(|purpose| *purpose != Purpose::Nothing);
        // What was found damaged or missing stands nowhere else.
        let sound = !self.is_incomplete && self.damaged.is_empty() && self.suspects.is_empty();
        let in_segments = self.flushed_through >= self.index.state().last_sequence;
        self.settings.storage != Storage::Memory && at_rest && sound && in_segments
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk_tests::World;
    use super::super::{Lookup, MemoryShare};

    #[test]
    fn an_index_that_was_given_up_costs_nothing_and_is_read_again_when_it_is_needed() {
        let mut world = World::new(MemoryShare::default());
        for number in 0..5000 {
            world.append(["a.x", "b.y", "c"][number % 3], 10);
        }
        assert!(!world.store.give_up_index(), "the tail is nowhere else");
        world.flush_and_settle();
        let before = world.store.state();
        assert!(world.store.give_up_index());
        world.settle();
        let resident = world.store.resident();
        assert!(!world.store.is_loaded());
        assert_eq!(world.store.state(), before);
        let index = resident.rows + resident.subjects + resident.deleted;
        assert!(index < 1000, "{resident:?}");
        while world.store.ensure_loaded() == Lookup::Loading {
            world.settle();
        }
        world.check();
        // And goes on as if nothing had been.
        world.append("a.x", 10);
        world.check();
        world.crash();
        world.check();
    }
}
