//! Formats in which streams leave and enter the house, all of them the reference's: S2 frames
//! ([`s2`]) and the stream backup inside them ([`backup`]). Every reader takes bytes as they come,
//! trusts none of them and keeps no more of them than its limits say.

pub mod backup;
pub mod s2;
mod varint;
