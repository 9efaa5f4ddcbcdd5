//! The seeds of the fuzz targets, as a test of this workspace: `fuzz/` is one of its own because of
//! the fuzzer's runtime, and its tests would not run with all others.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "the targets call what only they need"
)]

#[path = "../../../fuzz/src/lib.rs"]
mod targets;
