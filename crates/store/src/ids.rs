//! Tokens and file ids that are unique per server run without a shared counter: every room that
//! asks for disk work owns an [`IdSpace`], and a completion is routed by the space of its token.

use crate::disk::{FileId, Token};

/// Bits of a token or file id that count within one space.
const COUNTER_BITS: u32 = 36;
/// Bits that number the spaces: together below the top byte, which marks the journal's own.
const SPACE_BITS: u32 = 20;

/// A range of tokens and file ids that belongs to one owner (a stream store, a staging store, the
/// journal). The owner of all owners hands out `space` numbers, each once per run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdSpace {
    space: u32,
    next: u64,
}

impl IdSpace {
    /// Largest usable space number: 20 bits.
    pub const MAX_SPACE: u32 = (1 << SPACE_BITS) - 1;

    /// The space with this number (taken modulo 2^20).
    #[must_use]
    pub const fn new(space: u32) -> Self {
        Self {
            space: space & Self::MAX_SPACE,
            next: 0,
        }
    }

    /// The number this space was made with.
    #[must_use]
    pub const fn space(&self) -> u32 {
        self.space
    }

    /// A token not used before in this run.
    pub fn token(&mut self) -> Token {
        Token(self.draw())
    }

    /// A file id not used before in this run.
    pub fn file(&mut self) -> FileId {
        FileId(self.draw())
    }

    /// The space a token was drawn from: where its completion goes.
    #[must_use]
    pub const fn space_of(token: Token) -> u32 {
        (token.0 >> COUNTER_BITS) as u32
    }

    /// Whether this token was drawn here.
    #[must_use]
    pub const fn owns(&self, token: Token) -> bool {
        Self::space_of(token) == self.space
    }

    fn draw(&mut self) -> u64 {
        self.next = (self.next + 1) & ((1 << COUNTER_BITS) - 1);
        (u64::from(self.space) << COUNTER_BITS) | self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_unique_and_name_their_space() {
        let (mut first, mut second) = (IdSpace::new(1), IdSpace::new(2));
        let token = first.token();
        assert_ne!(token, first.token());
        assert_ne!(token, second.token());
        assert_eq!(IdSpace::space_of(token), 1);
        assert!(first.owns(token) && !second.owns(token));
    }
}
