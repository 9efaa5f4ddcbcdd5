//! JSON as the reference's library reads and writes it.
//!
//! Reading ([`from_slice`]) accepts what Go's decoder accepts of a valid document: field names in
//! any case, duplicate keys (the last wins), null for "leave the default", invalid UTF-8 and lone
//! surrogates as U+FFFD. Structs must have `#[serde(default)]` and must not use `flatten`, which
//! hides the field list. Writing ([`to_vec`]) escapes what Go escapes for HTML.

mod decode;
mod encode;
mod value;

pub use decode::{Strictness, from_slice};
pub use encode::{to_vec, to_vec_pretty};
pub use value::{JsonError, MAX_DEPTH};
