//! The configuration: language, typed options and command-line flags.
//!
//! Reading files and the environment is left to the caller, who passes functions for both.

pub mod options;

pub use options::Options;
