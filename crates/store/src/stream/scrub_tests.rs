//! The scrub finds what a reader would find, tells it once, and takes nothing for damage that is none.

use super::disk_tests::World;
use super::model::Operation;
use super::*;
use proptest::prelude::*;

fn world(compress: bool) -> World {
    let packing = Packing {
        compress,
        ..Packing::default()
    };
    World::with_packing(MemoryShare::default(), packing)
}

/// Looks at all segments once; gives the bytes.
fn scrub(world: &mut World) -> u64 {
    let mut bytes = 0;
    for _ in 0..10_000 {
        match world.store.scrub() {
            ScrubStep::Reading { bytes: more } => bytes += u64::from(more),
            ScrubStep::Busy => {}
            ScrubStep::Ended => {
                world.settle();
                return bytes;
            }
        }
        world.settle();
    }
    panic!("never done");
}

fn is_damage(event: &StoreEvent) -> bool {
    matches!(
        event,
        StoreEvent::Damaged { .. } | StoreEvent::SegmentDamaged { .. }
    )
}

/// Messages that were told as damaged.
fn told(world: &World) -> Vec<u64> {
    let sequence = |event: &StoreEvent| match event {
        StoreEvent::Damaged { sequence, .. } => Some(*sequence),
        _ => None,
    };
    world.events.iter().filter_map(sequence).collect()
}

#[test]
fn a_healthy_store_has_no_damage_whatever_was_removed_erased_and_rewritten() {
    for compress in [false, true] {
        let mut world = world(compress);
        for round in 0..6 {
            for number in 0..40 {
                // Some are longer than a piece.
                let payload = if number == 35 { 300_000 } else { number * 50 };
                world.append(if number % 3 == 0 { "a" } else { "b.c" }, payload);
            }
            world.flush_and_settle();
            let first = round * 40 + 1;
            for sequence in first..first + 30 {
                world.apply(match sequence % 3 {
                    0 => Operation::Erase(sequence),
                    _ => Operation::Remove(sequence),
                });
            }
            world.settle();
            assert!(scrub(&mut world) > 0);
        }
        world.flush_and_settle();
        let bytes = scrub(&mut world);
        assert!(compress || bytes > 300_000, "all of it is read: {bytes}");
        world.disk.fail_reads = 1;
        scrub(&mut world);
        world.crash();
        scrub(&mut world);
        world.sleep();
        assert!(world.store.give_up_index());
        assert!(scrub(&mut world) > 0, "an index is not needed");
        while world.store.ensure_loaded() == Lookup::Loading {
            world.settle();
        }
        let found: Vec<&StoreEvent> = world.events.iter().filter(|it| is_damage(it)).collect();
        assert_eq!(found, Vec::<&StoreEvent>::new(), "compressed: {compress}");
        world.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_a_reader_would_find_damaged_the_scrub_has_told_before(
        flip: u64, compress: bool, is_cold: bool, seed in 0_u64..1000,
    ) {
        let mut world = world(compress);
        for number in 0..60_u64 {
            world.append(if number % 3 == 0 { "a" } else { "b.c" }, ((seed + number) % 90) as usize);
            if number % 25 == 24 {
                world.flush_and_settle();
            }
        }
        world.sleep();
        let path = world.disk.files.keys().next().expect("a segment").clone();
        let file = world.disk.files.get_mut(&path).expect("there");
        let bit = flip % (file.content.len() as u64 * 8);
        file.content[(bit / 8) as usize] ^= 1 << (bit % 8);
        file.synced = file.content.clone();
        if is_cold {
            prop_assert!(world.store.give_up_index());
        }
        scrub(&mut world);
        prop_assert!(world.events.iter().any(is_damage), "every byte counts for something");
        let before = told(&world);
        while world.store.ensure_loaded() == Lookup::Loading {
            world.settle();
        }
        let mut lost = Vec::new();
        for message in world.model.messages.clone().into_values() {
            match world.get(message.sequence) {
                Ok(found) => prop_assert_eq!(found, message),
                Err(_) => lost.push(message.sequence),
            }
        }
        world.settle();
        if is_cold {
            prop_assert_eq!(before, Vec::<u64>::new(), "whose it is, only the index knows");
        } else {
            prop_assert_eq!(&lost, &before, "all that is lost was told, and nothing else");
        }
        let events = world.events.len();
        scrub(&mut world);
        prop_assert_eq!(told(&world), lost, "once each");
        prop_assert_eq!(world.events.len(), events);
    }
}
