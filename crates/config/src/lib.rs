//! The configuration: language, typed options and command-line flags.
//!
//! Reading files and the environment is left to the caller, who passes functions for both.

mod decode;
mod flags;
pub mod language;
pub mod nkey;
pub mod options;
mod problem;
mod reload;
pub mod sharing;
mod size;
mod suggest;
mod validate;

pub use decode::parse;
pub use flags::{FlagError, Flags};
pub use options::Options;
pub use problem::{ConfigErrors, Issue, Warning};
pub use size::size_text;

/// The version of the reference whose behaviour this server has.
pub const COMPATIBLE_VERSION: &str = "2.15.1";
