//! Double-quoted text as the reference prints it in `-ERR` texts and errors: its language's `%q`.

use std::fmt::Write as _;

/// `bytes` in double quotes, with backslash escapes for quotes, control characters and what is not
/// UTF-8.
#[must_use]
pub fn quoted(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            escape(character, &mut out);
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

fn escape(character: char, out: &mut String) {
    match character {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{07}' => out.push_str("\\a"),
        '\u{08}' => out.push_str("\\b"),
        '\u{0c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{0b}' => out.push_str("\\v"),
        ' '..='~' => out.push(character),
        '\0'..='\u{1f}' | '\u{7f}' => {
            let _ = write!(out, "\\x{:02x}", u32::from(character));
        }
        _ if is_printable(character) => out.push(character),
        '\u{80}'..='\u{ffff}' => {
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        }
        _ => {
            let _ = write!(out, "\\U{:08x}", u32::from(character));
        }
    }
}

/// Close to what the reference takes for printable: letters, marks, numbers, punctuation, symbols,
/// but no blanks other than the space, no format characters and nothing private.
fn is_printable(character: char) -> bool {
    !character.is_control()
        && !character.is_whitespace()
        && !matches!(character,
            '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}'
            | '\u{fffe}'..='\u{ffff}' | '\u{e000}'..='\u{f8ff}'
            | '\u{e0000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_as_the_reference_does() {
        assert_eq!(quoted(b"foo.bar"), r#""foo.bar""#);
        assert_eq!(quoted(b"a\"b\\c\x01\x7f\t"), r#""a\"b\\c\x01\x7f\t""#);
        assert_eq!(quoted("ä\u{a0}\u{200b}".as_bytes()), "\"ä\\u00a0\\u200b\"");
        assert_eq!(quoted(b"\xff\xc3"), r#""\xff\xc3""#);
    }
}
