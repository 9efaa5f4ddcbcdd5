//! Packed segments: what is read, rewritten, erased and salvaged when a message is not a place of its
//! own on the disk.

use super::disk_tests::World;
use super::model::Operation;
use super::*;
use crate::seal::tests::some_keys;
use crate::seal::{Cipher, Keys};
use bytes::Bytes;
use proptest::prelude::*;

pub(super) fn packing(compress: bool, seal: bool) -> Packing {
    let keys = if seal {
        some_keys(Cipher::ChaCha, 1)
    } else {
        Keys::default()
    };
    Packing { compress, keys }
}

fn compressed() -> Packing {
    packing(true, false)
}

fn world() -> World {
    World::with_packing(MemoryShare::default(), compressed())
}

fn disk_bytes(world: &World) -> usize {
    let files = world.disk.files.values();
    files.map(|file| file.content.len()).sum()
}

fn holds(world: &World, text: &[u8]) -> bool {
    let mut files = world.disk.files.values();
    files.any(|file| {
        [&file.content, &file.synced]
            .iter()
            .any(|bytes| bytes.windows(text.len()).any(|window| window == text))
    })
}

fn append_text(world: &mut World, payload: &[u8]) -> u64 {
    let sequence = world.model.last_sequence + 1;
    world.apply(Operation::Append(StoredMessage {
        sequence,
        time_ns: world.model.last_time_ns + 1,
        subject: "a".into(),
        headers: Bytes::new(),
        payload: Bytes::copy_from_slice(payload),
    }));
    sequence
}

/// Lets the store do by itself what it wants to do about erased messages.
fn wipe(world: &mut World) {
    world.settle();
    for _ in 0..10 {
        if !world.store.wants_wipe() {
            return;
        }
        world.flush_and_settle();
    }
    panic!("never done");
}

#[test]
fn compressed_segments_are_small_and_count_what_the_messages_have() {
    let (mut plain, mut packed) = (World::new(MemoryShare::default()), world());
    for world in [&mut plain, &mut packed] {
        for number in 0..4000 {
            let text = format!("the same words again and again, number {number:06}");
            append_text(world, text.as_bytes());
            if number % 900 == 0 {
                world.flush_and_settle();
            }
        }
        world.flush_and_settle();
        world.crash();
        world.check();
    }
    assert_eq!(plain.store.state(), packed.store.state());
    let (plain, packed) = (disk_bytes(&plain), disk_bytes(&packed));
    assert!(packed * 3 < plain, "{packed} of {plain} bytes");
}

#[test]
fn a_reader_in_order_unpacks_each_pack_once_and_finds_the_next_read_already() {
    let share = MemoryShare {
        tail_bytes: 0,
        block_bytes: 4 << 20,
    };
    let mut world = World::with_packing(share, compressed());
    for _ in 0..4000 {
        world.append("a", 400);
    }
    world.flush_and_settle();
    let (mut waits, before) = (0, world.disk.reads);
    for sequence in 1..=4000 {
        while world.store.get(sequence) == Lookup::Loading {
            waits += 1;
            world.settle();
        }
        world.settle();
    }
    assert!(waits <= 2, "waited {waits} times for the disk");
    let reads = world.disk.reads - before;
    assert!(reads <= 12, "{reads} reads");
}

#[test]
fn a_store_goes_from_plain_to_compressed_and_back_and_reads_both() {
    let mut world = World::new(MemoryShare::default());
    for packing in [compressed(), Packing::default(), compressed()] {
        for _ in 0..300 {
            world.append("a", 300);
        }
        world.flush_and_settle();
        world.packing = packing.clone();
        world.store.set_packing(packing);
        world.check();
    }
    let plain_and_packed: BTreeSet<bool> = world
        .store
        .segments
        .values()
        .map(|one| one.packed)
        .collect();
    assert_eq!(plain_and_packed.len(), 2);
    world.crash();
    world.check();
    assert!(world.sleep());
    world.check();
    // Rewriting goes to the form that is asked for now.
    for sequence in (1..=900).filter(|sequence| sequence % 4 != 0) {
        world.apply(Operation::Remove(sequence));
    }
    for _ in 0..4 {
        world.flush_and_settle();
    }
    world.check();
    world.crash();
    world.check();
}

#[test]
fn an_erased_message_leaves_no_copy_in_any_packed_segment() {
    let mut world = world();
    let secret: Vec<u8> = (0..60u8).map(|byte| byte.wrapping_mul(37) ^ 0x55).collect();
    for turns in 0..30 {
        world.append("a", 10);
        let sequence = append_text(&mut world, &secret);
        world.append("a", 10);
        world.flush();
        for _ in 0..turns {
            world.turn(1);
        }
        world.apply(Operation::Erase(sequence));
        wipe(&mut world);
        assert!(!holds(&world, &secret), "erased after {turns} requests");
        assert!(world.events.contains(&StoreEvent::Erased { sequence }));
    }
    world.check();
}

#[test]
fn a_restart_goes_on_with_what_was_erased() {
    let secret: Vec<u8> = (0..60u8).map(|byte| byte.wrapping_mul(37) ^ 0x55).collect();
    for turns in 0..20 {
        let mut world = world();
        world.append("a", 10);
        let sequence = append_text(&mut world, &secret);
        world.append("a", 10);
        world.flush_and_settle();
        world.apply(Operation::Erase(sequence));
        if turns % 2 == 0 {
            world.append("a", 10);
        }
        world.flush();
        for _ in 0..turns / 2 {
            world.turn(1);
        }
        world.crash();
        wipe(&mut world);
        world.flush_and_settle();
        assert!(!holds(&world, &secret), "crash after {turns} requests");
        world.check();
    }
}

#[test]
fn a_sealed_store_holds_no_message_and_no_subject_in_the_clear() {
    let mut world = World::with_packing(MemoryShare::default(), packing(false, true));
    for number in 0..3000 {
        append_text(
            &mut world,
            format!("plaintext number {number:06}").as_bytes(),
        );
    }
    world.flush_and_settle();
    assert!(!holds(&world, b"plaintext") && disk_bytes(&world) > 90_000);
    world.check();
    world.crash();
    world.check();
    for sequence in (1..=3000).filter(|sequence| sequence % 5 != 0) {
        world.apply(Operation::Remove(sequence));
    }
    world.flush_and_settle();
    world.crash();
    world.check();
}

#[test]
fn a_plain_store_is_sealed_segment_by_segment_and_one_of_an_older_key_too() {
    let mut world = World::new(MemoryShare::default());
    for packing in [compressed(), Packing::default()] {
        for _ in 0..300 {
            append_text(&mut world, b"nobody must read this, nobody must read this");
        }
        world.flush_and_settle();
        world.packing = packing.clone();
        world.store.set_packing(packing);
    }
    assert!(holds(&world, b"nobody must read this"));
    world.packing = packing(true, true);
    world.crash();
    world.check();
    wipe(&mut world);
    world.flush_and_settle();
    assert!(!holds(&world, b"nobody must"));
    world.crash();
    world.check();
    assert!(!world.store.wants_wipe());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_flipped_bit_in_a_packed_segment_costs_at_most_its_pack(flip: u64, seed in 0u64..1000) {
        let mut world = world();
        for number in 0..2000_u64 {
            world.append(if number % 3 == 0 { "a" } else { "b.c" }, ((seed + number) % 190) as usize);
            if number % 700 == 14 {
                world.flush_and_settle();
            }
        }
        world.flush_and_settle();
        let path = world.disk.files.keys().next().expect("a segment").clone();
        let file = world.disk.files.get_mut(&path).expect("known");
        let bit = flip % (file.content.len() as u64 * 8);
        file.content[(bit / 8) as usize] ^= 1 << (bit % 8);
        file.synced = file.content.clone();
        world.crash();
        prop_assert_eq!(world.store.state().messages, 2000);
        let mut damaged = 0_u64;
        for message in world.model.messages.clone().into_values() {
            match world.get(message.sequence) {
                Ok(found) => prop_assert_eq!(found, message),
                Err(error) => {
                    prop_assert_eq!(error, ReadError::Damaged);
                    damaged += 1;
                }
            }
        }
        prop_assert!(damaged < 1100, "{} damaged", damaged);
    }
}
