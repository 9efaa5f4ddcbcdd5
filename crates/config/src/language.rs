//! The configuration language (spec core/06): text to a tree of located values.
//!
//! A permissive superset of JSON with comments, variables, includes and unit suffixes. What keys
//! mean is left to the `decode` module; files and the environment come in as functions.

mod cursor;
mod digest;
mod number;
mod parser;
mod strings;
mod tree;

pub use digest::digest;
pub use parser::{Sources, parse_tree};
pub use tree::{Entry, Map, Position, SyntaxError, Tree, Value};
