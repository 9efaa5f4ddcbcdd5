//! After a start indexes are read when they are needed, a few at a time: one that is read makes
//! room for the next, however many are asked for at once.

use millrace_sim::client::publish;
use millrace_sim::disk::Knobs;
use millrace_sim::world::{World, draw_sizes};
use std::collections::BTreeSet;

/// More than are read at a time.
const STREAMS: usize = 12;
/// Steps within which the server must come to rest.
const STEPS_MAX: u32 = 2_000_000;

fn settle(world: &mut World) {
    for _ in 0..STEPS_MAX {
        world.end_of_turn();
        let now_ns = world.now.monotonic_ns;
        let busy = world.deadline().is_some_and(|due_ns| due_ns <= now_ns);
        if world.disk_step().is_none() {
            if !busy {
                return;
            }
            world.pass(1_000);
        }
    }
    panic!("the server never comes to rest");
}

/// A server that was stopped in order and started again, with so many messages in each stream.
fn restarted(messages: usize) -> World {
    let mut sizes = draw_sizes(&mut millrace_clock::Random::new(1));
    // Indexes stay once they are read.
    sizes.index_idle_ns = None;
    sizes.memory_bytes = None;
    let mut world = World::new(1, Knobs::default(), sizes, vec!["answers.>".to_owned()]);
    world.boot();
    settle(&mut world);
    for stream in 0..STREAMS {
        let call = format!("$JS.API.STREAM.CREATE.S{stream}");
        let config = format!(r#"{{"name":"S{stream}","subjects":["s{stream}.>"]}}"#);
        world.send(&publish(&call, "answers.create", &[], config.as_bytes()));
        settle(&mut world);
        for number in 0..messages {
            let subject = format!("s{stream}.{}", number % 7);
            world.send(&publish(&subject, "answers.publish", &[], b"x"));
        }
        settle(&mut world);
    }
    assert_eq!(world.received.len(), STREAMS * (1 + messages));
    world.begin_stop();
    while !world.finish() {
        world.end_of_turn();
        if world.disk_step().is_none() {
            world.pass(1_000_000);
        }
    }
    world.die(false);
    world.boot();
    settle(&mut world);
    assert_eq!(world.replayed_groups(), 0);
    world
}

/// Asks every stream for a message at once; all must answer.
fn ask_all(world: &mut World) {
    for stream in 0..STREAMS {
        let call = format!("$JS.API.STREAM.MSG.GET.S{stream}");
        let reply = format!("answers.get.{stream}");
        world.send(&publish(&call, &reply, &[], br#"{"seq":1}"#));
    }
    settle(world);
    let answered: BTreeSet<&str> = world
        .received
        .iter()
        .filter(|answer| String::from_utf8_lossy(&answer.payload).contains(r#""seq":1"#))
        .map(|answer| answer.subject.as_str())
        .collect();
    assert_eq!(answered.len(), STREAMS, "{answered:?}");
}

#[test]
fn every_index_that_is_wanted_is_read_however_many_are() {
    ask_all(&mut restarted(5));
}

/// These are built in steps, over many turns.
#[test]
fn an_index_that_takes_many_turns_makes_room_for_the_next_too() {
    ask_all(&mut restarted(2_500));
}
