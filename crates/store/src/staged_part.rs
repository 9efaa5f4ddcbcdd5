//! A part of a staged batch as its reader holds it.

/// The messages of a part, lent to the caller: free bytes at the front, then one message behind
/// the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StagedPart {
    /// The caller may write into it and take it, but not change its length before giving it back.
    pub bytes: Vec<u8>,
    /// Where each message ends.
    pub ends: Vec<u32>,
    /// Length of the free bytes.
    pub front: usize,
}

impl StagedPart {
    /// Begin and end of a message.
    #[must_use]
    pub fn range(&self, message: usize) -> Option<(usize, usize)> {
        let end = *self.ends.get(message)? as usize;
        let begin = match message.checked_sub(1) {
            Some(before) => *self.ends.get(before)? as usize,
            None => self.front,
        };
        Some((begin, end))
    }

    /// The bytes of a message.
    #[must_use]
    pub fn message(&self, message: usize) -> Option<&[u8]> {
        let (begin, end) = self.range(message)?;
        self.bytes.get(begin..end)
    }
}
