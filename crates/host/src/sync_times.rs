//! How long syncs of the journal take: counted by its disk thread, read by monitoring. Atomic counters
//! and no lock, because the disk thread must not wait for anybody who looks.

use millrace_node::{LatencyHistogram, SYNC_BOUNDS_NS};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts by duration, in the buckets of [`SYNC_BOUNDS_NS`] and one for all that is longer.
#[derive(Debug, Default)]
pub(crate) struct SyncTimes {
    counts: [AtomicU64; SYNC_BOUNDS_NS.len() + 1],
    sum_ns: AtomicU64,
}

impl SyncTimes {
    pub(crate) fn note(&self, took: Duration) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = SYNC_BOUNDS_NS.partition_point(|bound| *bound < took_ns);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_ns.fetch_add(took_ns, Ordering::Relaxed);
    }

    /// The counts as of now; a sync that ends meanwhile may be in only some of them.
    pub(crate) fn read(&self) -> LatencyHistogram {
        LatencyHistogram {
            counts: self
                .counts
                .each_ref()
                .map(|one| one.load(Ordering::Relaxed)),
            sum_ns: self.sum_ns.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_first_bucket_that_holds_it() {
        let times = SyncTimes::default();
        times.note(Duration::from_nanos(SYNC_BOUNDS_NS[0]));
        times.note(Duration::from_nanos(SYNC_BOUNDS_NS[0] + 1));
        times.note(Duration::from_secs(3600));
        let read = times.read();
        assert_eq!(read.counts[..2], [1, 1]);
        assert_eq!(read.counts.last(), Some(&1));
        assert_eq!(read.sum_ns, 2 * SYNC_BOUNDS_NS[0] + 1 + 3_600_000_000_000);
    }
}
