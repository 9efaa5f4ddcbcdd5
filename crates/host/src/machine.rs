//! Facts about the machine: memory, free disk space, use of the processor.

use std::fs;
use std::path::Path;

/// Share of memory and of free disk space that JetStream may take unless told, in quarters.
const JETSTREAM_QUARTERS: u64 = 3;
/// Where free disk space cannot be asked for.
const DISK_BYTES_FALLBACK: u64 = 1 << 40;
/// Where the machine's memory cannot be asked for.
const MEMORY_BYTES_FALLBACK: u64 = 256 << 20;

/// Bytes that memory streams may take unless configured.
pub(crate) fn default_max_memory() -> u64 {
    total_memory().unwrap_or(MEMORY_BYTES_FALLBACK) / 4 * JETSTREAM_QUARTERS
}

/// Bytes that file streams in `folder` may take unless configured.
pub(crate) fn default_max_file(folder: &Path) -> u64 {
    rustix::fs::statvfs(folder).map_or(DISK_BYTES_FALLBACK, |facts| {
        facts.f_bavail.saturating_mul(facts.f_frsize) / 4 * JETSTREAM_QUARTERS
    })
}

fn total_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Resident memory of this process in bytes; 0 if it cannot be told.
pub(crate) fn resident_bytes() -> u64 {
    let pages = || -> Option<u64> {
        let text = fs::read_to_string("/proc/self/statm").ok()?;
        text.split_whitespace().nth(1)?.parse().ok()
    };
    pages().unwrap_or(0) * rustix::param::page_size() as u64
}

/// Processor time this process has used, in nanoseconds; 0 if it cannot be told.
pub(crate) fn processor_ns() -> u64 {
    let ticks = || -> Option<u64> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        // The name in parentheses may hold blanks: count the fields behind it.
        let rest = text.rsplit_once(')')?.1;
        let mut fields = rest.split_whitespace().skip(11);
        let user: u64 = fields.next()?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        Some(user + system)
    };
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    ticks()
        .unwrap_or(0)
        .saturating_mul(1_000_000_000 / per_second)
}

/// Lets this process open as many files as it may: every connection is one.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where the system refuses, the old limit stays and accepting pauses when it is reached.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

/// Cores of the machine.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// IANA name of the machine's time zone; empty where it has none.
pub(crate) fn time_zone_name() -> String {
    let zone = jiff::tz::TimeZone::try_system();
    let zone = zone.ok();
    zone.as_ref()
        .and_then(|zone| zone.iana_name())
        .unwrap_or_default()
        .to_owned()
}
