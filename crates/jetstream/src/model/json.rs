//! JSON in and out of the API: tolerant or strict reading with the reference's error, and writing
//! with its escapes. The codec itself is `millrace_wire::json`.

use millrace_wire::json::{Strictness, from_slice, to_vec};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{ApiError, ErrorCode};

/// Reads a request body. `strict` refuses unknown fields. An empty body is the default value.
///
/// # Errors
/// 10025 with the reason.
pub fn parse<T: DeserializeOwned + Default>(body: &[u8], strict: bool) -> Result<T, ApiError> {
    if body.is_empty() {
        return Ok(T::default());
    }
    let strictness = if strict {
        Strictness::Strict
    } else {
        Strictness::Lenient
    };
    from_slice(body, strictness).map_err(|error| {
        // Go's decoder, which is the strict one, has words of its own for a body that is cut off.
        match error.to_string() {
            text if strict && text == CUT_OFF => ErrorCode::InvalidJSON.with("unexpected EOF"),
            text => ErrorCode::InvalidJSON.with(text),
        }
    })
}

/// What is said of a body that ends too early.
const CUT_OFF: &str = "unexpected end of JSON input";

/// Writes an answer.
#[must_use]
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    to_vec(value)
}

/// Whether a field that is printed only when set is at its zero value.
pub(crate) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
