//! After a start indexes are read when they are needed, a few at a time: one that is read makes
//! room for the next, however many are asked for at once.

mod support;

use millrace_sim::client::publish;
use millrace_sim::world::World;
use std::collections::BTreeSet;
use support::{ask, settle, started, stop};

/// More than are read at a time.
const STREAMS: usize = 12;

/// A server that was stopped in order and started again, with so many messages in each stream.
fn restarted(messages: usize) -> World {
    let mut world = started();
    for stream in 0..STREAMS {
        let call = format!("$JS.API.STREAM.CREATE.S{stream}");
        let config = format!(r#"{{"name":"S{stream}","subjects":["s{stream}.>"]}}"#);
        ask(&mut world, &call, "answers.create", &config);
        for number in 0..messages {
            let subject = format!("s{stream}.{}", number % 7);
            world.send(&publish(&subject, "answers.publish", &[], b"x"));
        }
        settle(&mut world);
    }
    stop(&mut world);
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
