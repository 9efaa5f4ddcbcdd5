//! Writing JSON with Go's escapes: `<`, `>`, `&`, U+2028 and U+2029 become `\u` escapes, so that
//! answers are byte for byte the reference's.

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};
use std::io;

/// `value` as compact JSON.
///
/// # Panics
/// If `value` cannot be JSON (a map whose keys are no strings, an error from its own
/// serialisation): a mistake in our types, never due to input.
#[must_use]
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    write(value, CompactFormatter)
}

/// `value` as JSON indented by two blanks, as the monitoring pages show it.
///
/// # Panics
/// As [`to_vec`].
#[must_use]
pub fn to_vec_pretty<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    write(value, PrettyFormatter::with_indent(b"  "))
}

fn write<T: Serialize + ?Sized, F: Formatter>(value: &T, layout: F) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    let mut serializer = Serializer::with_formatter(&mut out, Escaping(layout));
    value
        .serialize(&mut serializer)
        .expect("our own types are JSON");
    out
}

/// A formatter that escapes like Go and leaves the layout to another.
struct Escaping<F>(F);

/// Forwards layout methods that take nothing but a writer.
macro_rules! forward {
    ($($method:ident)*) => {$(
        fn $method<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
            self.0.$method(writer)
        }
    )*};
}

impl<F: Formatter> Formatter for Escaping<F> {
    forward! {
        begin_array end_array end_array_value begin_object end_object end_object_key
        begin_object_value end_object_value
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut written = 0;
        let special = |c| matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
        for (at, found) in fragment.match_indices(special) {
            writer.write_all(&fragment.as_bytes()[written..at])?;
            let code = found.chars().next().map_or(0, u32::from);
            write!(writer, "\\u{code:04x}")?;
            written = at + found.len();
        }
        writer.write_all(&fragment.as_bytes()[written..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_and_line_separators_are_escaped() {
        let escaped = to_vec(&"a<b>&\u{2028}\"\\\u{1}\n");
        assert_eq!(escaped, br#""a\u003cb\u003e\u0026\u2028\"\\\u0001\n""#);
    }

    #[test]
    fn pretty_output_is_laid_out_like_the_reference() {
        let value = serde_json::json!({"a": [1, "<"], "b": {}, "c": []});
        let expected = "{\n  \"a\": [\n    1,\n    \"\\u003c\"\n  ],\n  \"b\": {},\n  \"c\": []\n}";
        assert_eq!(String::from_utf8_lossy(&to_vec_pretty(&value)), expected);
    }
}
