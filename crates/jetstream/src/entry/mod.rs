//! Log entries of the meta group and of streams, byte by byte.
