//! The configuration: language, typed options and command-line flags.
//!
//! Reading files and the environment is left to the caller, who passes functions for both.

mod decode;
pub mod language;
pub mod options;
mod problem;
mod suggest;

pub use decode::parse;
pub use options::Options;
pub use problem::{ConfigErrors, Issue, Warning};
