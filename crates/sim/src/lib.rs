//! The simulator: a virtual clock, a disk that forgets what real disks forget, workloads and
//! oracles, all from one seed. What is simulated is the server as it is; nothing here stands in for
//! a part of it but the disk and the clock.

mod answers;
pub mod client;
pub mod consumer_track;
mod consumer_work;
mod content;
pub mod damage;
mod damaged;
pub mod digest;
pub mod disk;
mod erasing;
pub mod extras;
mod journal_model;
pub mod journal_run;
mod losses;
pub mod model;
pub mod node_run;
pub mod resolve;
pub mod retention;
pub mod track;
mod workload;
pub mod world;
