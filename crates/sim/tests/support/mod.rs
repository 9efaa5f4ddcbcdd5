//! What tests share that drive one simulated server by hand.

use millrace_sim::client::publish;
use millrace_sim::disk::Knobs;
use millrace_sim::world::{World, draw_sizes};

/// Steps within which the server must come to rest.
const STEPS_MAX: u32 = 2_000_000;

/// A server on a healthy disk whose client hears `answers.>` and `events.>`.
pub(crate) fn started() -> World {
    let mut sizes = draw_sizes(&mut millrace_clock::Random::new(1));
    // What was read stays in memory.
    sizes.index_idle_ns = None;
    sizes.memory_bytes = None;
    let subscriptions = ["answers.>", "$JS.EVENT.>"].map(str::to_owned).to_vec();
    let mut world = World::new(1, Knobs::default(), sizes, subscriptions);
    world.boot();
    settle(&mut world);
    world
}

/// Everything that the disk and the server have to do now is done.
pub(crate) fn settle(world: &mut World) {
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

/// Sends a request and lets everything that it causes happen.
pub(crate) fn ask(world: &mut World, subject: &str, reply: &str, body: &str) {
    world.send(&publish(subject, reply, &[], body.as_bytes()));
    settle(world);
}

/// The server ends in order: nothing is left to replay.
pub(crate) fn stop(world: &mut World) {
    world.begin_stop();
    for _ in 0..STEPS_MAX {
        if world.finish() {
            world.die(false);
            return;
        }
        world.end_of_turn();
        if world.disk_step().is_none() {
            world.pass(1_000_000);
        }
    }
    panic!("the server never comes to its end");
}
