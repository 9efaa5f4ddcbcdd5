//! Reads that fail while messages are moved: a fault that passes costs nothing, one that stays costs
//! what could not be read and is told.

use super::disk_tests::World;
use super::model::Operation;
use super::*;

/// A stream whose only segment is more than half dead, known from its manifest alone.
fn worn() -> World {
    let mut world = World::new(MemoryShare::default());
    for _ in 0..200 {
        world.append("a", 4096);
    }
    world.flush_and_settle();
    for sequence in (1..=200).filter(|sequence| sequence % 4 != 0) {
        world.apply(Operation::Remove(sequence));
    }
    world.crash();
    world
}

fn was_given_up(world: &World) -> bool {
    let mut events = world.events.iter();
    events.any(|event| matches!(event, StoreEvent::FlushFailed { .. }))
}

fn told_damage(world: &World) -> bool {
    let mut events = world.events.iter();
    events.any(|event| matches!(event, StoreEvent::Damaged { .. }))
}

#[test]
fn a_read_that_fails_while_a_segment_is_rewritten_costs_nothing() {
    let mut world = worn();
    world.disk.fail_reads = 1;
    world.flush_and_settle();
    assert!(was_given_up(&world));
    world.flush_and_settle();
    world.crash();
    world.check();
    assert!(!told_damage(&world));
}

#[test]
fn a_segment_that_stays_unreadable_does_not_hold_the_stream_up() {
    let mut world = worn();
    for _ in 0..3 {
        world.disk.fail_reads = 1;
        world.flush_and_settle();
        assert_eq!(world.disk.fail_reads, 0);
        assert!(!told_damage(&world));
    }
    world.disk.fail_reads = u32::MAX;
    world.flush_and_settle();
    world.disk.fail_reads = 0;
    assert!(told_damage(&world));
}

#[test]
fn a_message_is_read_until_a_fault_has_had_time_to_pass() {
    let mut world = World::new(MemoryShare::default());
    for _ in 0..3 {
        world.append("a", 10);
    }
    world.flush_and_settle();
    world.crash();
    world.check();
    world.store.set_share(MemoryShare {
        tail_bytes: 0,
        block_bytes: 0,
    });
    world.disk.fail_reads = 4;
    assert!(world.get(1).is_ok());
    assert_eq!(world.disk.fail_reads, 0);
    assert!(!told_damage(&world));
    world.disk.fail_reads = u32::MAX;
    assert!(world.get(2).is_err());
    world.disk.fail_reads = 0;
    assert!(told_damage(&world));
    assert!(world.get(3).is_ok());
}
