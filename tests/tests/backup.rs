//! Stream backups: what one server sends, another takes, the reference on either side; and what a
//! server does with archives that lie.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

#[path = "backup/harness.rs"]
mod harness;
#[path = "backup/hostile.rs"]
mod hostile;
#[path = "backup/life.rs"]
mod life;
#[path = "backup/protocol.rs"]
mod protocol;
#[path = "backup/round_trip.rs"]
mod round_trip;
