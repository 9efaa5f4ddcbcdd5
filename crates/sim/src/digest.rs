//! A running hash of a run's inputs and outputs: two runs of one seed must end with the same value.

/// Order-sensitive 64-bit hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    /// Mixes in one number.
    pub fn add(&mut self, value: u64) {
        let mut mixed = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^= mixed >> 32;
        self.0 = mixed.wrapping_mul(0xd6e8_feb8_6659_fd93).rotate_left(17);
    }

    /// Mixes in bytes.
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        self.add(twox_hash::XxHash3_64::oneshot(bytes));
        self.add(bytes.len() as u64);
    }

    /// The hash so far.
    #[must_use]
    pub const fn value(&self) -> u64 {
        self.0
    }
}
