//! The background scrub: every so often all segments of all streams are read and their checksums
//! looked at, so that damage is known while there is a backup, not when somebody asks for the
//! message. One piece at a time, at a bounded rate, only when its stream's store has nothing else to do;
//! it wakes no stream and reads no index.

use millrace_clock::Now;
use millrace_store::stream::ScrubStep;

use crate::engine::JetStream;
use crate::ids::StreamId;
use crate::io::Effect;

/// Bytes read in a second.
const BYTES_PER_SECOND: u64 = 4 << 20;
/// The first pass of a server begins at the latest this long after its start.
const FIRST_PASS_NS: u64 = 600_000_000_000;
/// A store that is busy is asked again after this long, so many times, then passed over.
const BUSY_PAUSE_NS: u64 = 250_000_000;
const BUSY_MAX: u32 = 240;

/// What the scrub has done since the server started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubCounts {
    /// Passes that came to their end.
    pub passes: u64,
    /// Bytes of segments looked at.
    pub bytes: u64,
    /// When the last pass ended: nanoseconds since the Unix epoch; 0: none has.
    pub last_pass_ns: i64,
}

/// Where the scrub is.
#[derive(Debug, Default)]
pub(crate) struct Scrubbing {
    /// Between the beginnings of two passes; 0: there is none.
    interval_ns: u64,
    /// When something is to be done; `None`: before the first turn.
    due_ns: Option<u64>,
    pass_began_ns: u64,
    /// The stream that is looked at; `None` between passes.
    at: Option<StreamId>,
    busy: u32,
    pub(crate) counts: ScrubCounts,
}

impl Scrubbing {
    pub(crate) fn new(interval_ns: u64) -> Self {
        Self {
            interval_ns,
            ..Self::default()
        }
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        (self.interval_ns > 0).then_some(self.due_ns.unwrap_or(0))
    }
}

impl JetStream {
    /// What the scrub has done.
    #[must_use]
    pub fn scrub_counts(&self) -> ScrubCounts {
        self.scrubbing.counts
    }

    /// Looks at the next piece, if it is time.
    pub(crate) fn advance_scrub(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let scrubbing = &mut self.scrubbing;
        if scrubbing.interval_ns == 0 || self.shared.stopping {
            return;
        }
        let Some(due_ns) = scrubbing.due_ns else {
            let first_ns = scrubbing.interval_ns.min(FIRST_PASS_NS);
            scrubbing.due_ns = Some(now.after_ns(first_ns));
            return;
        };
        if now.monotonic_ns < due_ns {
            return;
        }
        if scrubbing.at.is_none() {
            scrubbing.pass_began_ns = now.monotonic_ns;
        }
        let from = scrubbing.at.unwrap_or_default();
        let next = self.streams.range_mut(from..);
        let Some((id, stream)) = next.into_iter().find(|(id, _)| !id.is_volatile()) else {
            self.end_pass(now);
            return;
        };
        let is_next = scrubbing.at != Some(*id);
        scrubbing.at = Some(*id);
        if is_next {
            scrubbing.busy = 0;
        }
        let pause_ns = match stream.scrub(effects) {
            ScrubStep::Reading { bytes } => {
                scrubbing.counts.bytes += u64::from(bytes);
                scrubbing.busy = 0;
                u64::from(bytes).max(1) * 1_000_000_000 / BYTES_PER_SECOND
            }
            ScrubStep::Busy if scrubbing.busy < BUSY_MAX => {
                scrubbing.busy += 1;
                BUSY_PAUSE_NS
            }
            ScrubStep::Busy | ScrubStep::Ended => {
                scrubbing.at = Some(StreamId(id.0 + 1));
                0
            }
        };
        self.scrubbing.due_ns = Some(now.after_ns(pause_ns));
    }

    fn end_pass(&mut self, now: Now) {
        let scrubbing = &mut self.scrubbing;
        scrubbing.at = None;
        scrubbing.counts.passes += 1;
        scrubbing.counts.last_pass_ns = now.wall_ns;
        let next_ns = scrubbing.pass_began_ns + scrubbing.interval_ns;
        scrubbing.due_ns = Some(next_ns.max(now.monotonic_ns));
    }
}
