//! Rules for the names of streams and consumers.

/// The longest name of a stream or consumer, in bytes.
pub const MAX_NAME_LENGTH: usize = 255;
/// The longest description, in bytes.
pub const MAX_DESCRIPTION_LENGTH: usize = 4096;
/// The most bytes all keys and values of a metadata map may have together.
pub const MAX_METADATA_LENGTH: usize = 131_072;

/// Whether `name` may name a stream or consumer (its length aside).
#[must_use]
pub fn is_valid_name(name: &str) -> bool {
    !name.is_empty()
        && !name
            .bytes()
            .any(|byte| b" \t\r\n\x0c.*>\\/".contains(&byte))
}

/// Whether `name` holds a path separator, which has errors of its own.
#[must_use]
pub fn has_path_separator(name: &str) -> bool {
    name.contains(['\\', '/'])
}
