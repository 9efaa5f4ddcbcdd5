//! Formats in which streams enter and leave the house, all of them the reference's: S2 frames
//! ([`s2`]), the stream backup inside them ([`backup`]), and the files of its store ([`filestore`]).
//! Every reader takes bytes as they come, trusts none of them and keeps no more of them than its
//! limits say.

pub mod backup;
pub mod filestore;
pub mod s2;
mod varint;
