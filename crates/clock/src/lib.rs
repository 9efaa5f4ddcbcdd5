//! Time and chance as pure code sees them: values that come in from outside.
//!
//! No crate below `host` reads a clock or draws entropy of its own. `host` (or the simulator)
//! makes a [`Now`] for every input and seeds every [`Random`].

pub mod go_duration;
mod random;
pub mod rfc3339;

pub use random::Random;

/// The moment at which an input is handled.
///
/// `wall_ns` is what users see (message times); `monotonic_ns` is what timers are measured with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Monotonic nanoseconds since the server started. Never goes back.
    pub monotonic_ns: u64,
    /// Nanoseconds since the Unix epoch. May jump when the system clock is set.
    pub wall_ns: i64,
}

impl Now {
    /// Nanoseconds in one millisecond.
    pub const MILLISECOND_NS: u64 = 1_000_000;
    /// Nanoseconds in one second.
    pub const SECOND_NS: u64 = 1_000_000_000;

    /// The monotonic deadline `duration_ns` from now, saturating.
    #[must_use]
    pub fn after_ns(self, duration_ns: u64) -> u64 {
        self.monotonic_ns.saturating_add(duration_ns)
    }
}
