//! Keys of the reference that this version knows by name only.
//!
//! They are errors, so that nothing a user relies on is silently ignored. A value that switches
//! the feature off is fine.

use super::{Decoder, Field, field};
use crate::language::{Entry, Value};

/// Whether a value asks for nothing: false, zero, empty, or a word for off.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Bool(value) => !value,
        Value::Integer(value) => *value == 0,
        Value::Float(value) => *value == 0.0,
        Value::Text(text) => {
            text.is_empty()
                || ["disabled", "disable"]
                    .iter()
                    .any(|word| text.eq_ignore_ascii_case(word))
        }
        Value::Time(_) => false,
        Value::Array(elements) => elements.is_empty(),
        Value::Map(map) => map.is_empty(),
    }
}

/// Refuses a known key of a feature that is not built yet.
pub(super) fn refuse<T>(decoder: &mut Decoder<'_>, _: &mut T, entry: &Entry) {
    if !is_off(&entry.value) {
        decoder.error(
            entry,
            format!("field {:?} is not supported yet by this version", entry.key),
        );
    }
}

/// A field that [`refuse`] answers.
pub(super) const fn unsupported<T>(names: &'static [&'static str]) -> Field<T> {
    field(names, refuse::<T>)
}

/// Accepts a key that tunes machinery this server does not have; it changes no behaviour.
pub(super) fn accept<T>(_: &mut Decoder<'_>, _: &mut T, _: &Entry) {}
