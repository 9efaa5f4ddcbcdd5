//! Counts what a search looks at, for tests that show what does not grow with the stream; nothing
//! at all in a server.

/// The counter.
#[derive(Debug, Default)]
pub(super) struct Touched {
    #[cfg(test)]
    count: std::cell::Cell<u64>,
}

impl Touched {
    /// So many items were looked at.
    #[cfg(test)]
    pub(super) fn add(&self, items: u64) {
        self.count.set(self.count.get() + items);
    }

    /// So many items were looked at.
    #[cfg(not(test))]
    #[inline]
    pub(super) const fn add(&self, _items: u64) {}

    /// All of them.
    #[cfg(test)]
    pub(super) fn count(&self) -> u64 {
        self.count.get()
    }
}
