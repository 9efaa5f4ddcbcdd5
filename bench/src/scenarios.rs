//! The list of what is measured. Each module holds the scenarios of one part of the server.

mod batches;
mod cold;
mod consumers;
mod core;
mod jetstream;
mod large;
mod memory;
mod mixed;
mod publish;
mod startup;

use crate::scenario::Scenario;

pub(crate) fn all() -> Vec<Scenario> {
    [
        memory::scenarios(),
        core::scenarios(),
        publish::scenarios(),
        batches::scenarios(),
        consumers::scenarios(),
        large::scenarios(),
        mixed::scenarios(),
        startup::scenarios(),
        cold::scenarios(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
