//! The tolerant syntax tree of a JSON document, and the error texts of its parser, which users
//! see in API answers. Typed reading is in `decode`.

use std::borrow::Cow;

/// Deepest nesting of arrays and objects that is read. The reference allows 10,000; no request of
/// its API nests more than a few levels, and a bound this low keeps recursion safe everywhere.
pub const MAX_DEPTH: usize = 200;

/// Why a document could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON; the text is the reference's.
    #[error("{0}")]
    Syntax(String),
    /// A value of the wrong kind or out of range.
    #[error("{}", mismatch_text(.found, .expected, .structure, .path))]
    Mismatch {
        /// `string`, `number 1.5`, `object`, `array` or `bool`.
        found: String,
        /// The type wanted, in the reference's language.
        expected: String,
        /// The innermost struct around it; empty outside of any.
        structure: &'static str,
        /// Field names from the outermost struct in, last first.
        path: Vec<String>,
    },
    /// Strict reading met a field that the struct does not have.
    #[error("json: unknown field {}", crate::quote::quoted(.0.as_bytes()))]
    UnknownField(String),
    /// A text from a type's own reading of a value, passed on as it is.
    #[error("{0}")]
    Custom(String),
}

fn mismatch_text(found: &str, expected: &str, structure: &str, path: &[String]) -> String {
    if structure.is_empty() {
        return format!("json: cannot unmarshal {found} into Go value of type {expected}");
    }
    let path: Vec<&str> = path.iter().rev().map(String::as_str).collect();
    format!(
        "json: cannot unmarshal {found} into Go struct field {structure}.{} of type {expected}",
        path.join(".")
    )
}

/// A parsed value, borrowing from the document where nothing had to be replaced.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    /// The literal as written.
    Number(&'a str),
    String(Cow<'a, str>),
    Array(Vec<Self>),
    Object(Vec<(Cow<'a, str>, Self)>),
}

/// Parses a whole document.
pub(crate) fn parse(document: &[u8]) -> Result<Value<'_>, JsonError> {
    let mut parser = Parser { document, at: 0 };
    let value = parser.value(0)?;
    parser.blanks();
    match parser.peek() {
        None => Ok(value),
        Some(_) => Err(parser.unexpected("after top-level value")),
    }
}

struct Parser<'a> {
    document: &'a [u8],
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.document.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The error about the byte at the cursor, or about the document's end.
    fn unexpected(&self, context: &str) -> JsonError {
        JsonError::Syntax(match self.peek() {
            None => "unexpected end of JSON input".to_owned(),
            Some(byte) => format!("invalid character {} {context}", character_text(byte)),
        })
    }

    fn value(&mut self, depth: usize) -> Result<Value<'a>, JsonError> {
        self.blanks();
        if depth > MAX_DEPTH {
            return Err(JsonError::Syntax("exceeded max depth".to_owned()));
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number().map(Value::Number),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            _ => Err(self.unexpected("looking for beginning of value")),
        }
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, JsonError> {
        for expected in word.bytes() {
            if self.peek() != Some(expected) {
                let wanted = char::from(expected);
                let context = format!("in literal {word} (expecting '{wanted}')");
                return Err(self.unexpected(&context));
            }
            self.at += 1;
        }
        Ok(value)
    }

    fn array(&mut self, depth: usize) -> Result<Value<'a>, JsonError> {
        self.at += 1;
        let mut elements = Vec::new();
        self.blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(elements));
        }
        loop {
            elements.push(self.value(depth + 1)?);
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::Array(elements));
                }
                _ => return Err(self.unexpected("after array element")),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value<'a>, JsonError> {
        self.at += 1;
        let mut members = Vec::new();
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(members));
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("looking for beginning of object key string"));
            }
            let key = self.string()?;
            self.blanks();
            if self.peek() != Some(b':') {
                return Err(self.unexpected("after object key"));
            }
            self.at += 1;
            members.push((key, self.value(depth + 1)?));
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Value::Object(members));
                }
                _ => return Err(self.unexpected("after object key:value pair")),
            }
        }
    }

    fn number(&mut self) -> Result<&'a str, JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.unexpected("in numeric literal")),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits("in exponent of numeric literal")?;
        }
        Ok(std::str::from_utf8(&self.document[start..self.at]).unwrap_or("0"))
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self, context: &str) -> Result<(), JsonError> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.unexpected(context));
        }
        self.digits();
        Ok(())
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let raw = &self.document[start..self.at];
                    self.at += 1;
                    return Ok(lossy(raw));
                }
                Some(b'\\') => return self.escaped_string(start),
                Some(0..=0x1f) | None => return Err(self.unexpected("in string literal")),
                Some(_) => self.at += 1,
            }
        }
    }

    /// Goes on with a string that holds an escape; the cursor stands on the first one.
    fn escaped_string(&mut self, start: usize) -> Result<Cow<'a, str>, JsonError> {
        let mut text = String::new();
        let mut run = start;
        loop {
            match self.peek() {
                Some(b'"') => {
                    push_lossy(&mut text, &self.document[run..self.at]);
                    self.at += 1;
                    return Ok(Cow::Owned(text));
                }
                Some(b'\\') => {
                    push_lossy(&mut text, &self.document[run..self.at]);
                    self.at += 1;
                    text.push(self.escape()?);
                    run = self.at;
                }
                Some(0..=0x1f) | None => return Err(self.unexpected("in string literal")),
                Some(_) => self.at += 1,
            }
        }
    }

    /// One escape; the cursor stands behind the backslash.
    fn escape(&mut self) -> Result<char, JsonError> {
        let simple = match self.peek() {
            Some(b'u') => {
                self.at += 1;
                return self.unicode_escape();
            }
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{08}',
            Some(b'f') => '\u{0c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            _ => return Err(self.unexpected("in string escape code")),
        };
        self.at += 1;
        Ok(simple)
    }

    fn unicode_escape(&mut self) -> Result<char, JsonError> {
        let first = self.four_digits()?;
        if !(0xd800..0xe000).contains(&first) {
            return Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        // A surrogate: only a high one with a low one right behind makes a character. Otherwise
        // it is replaced, and what follows is read for itself.
        let behind = self.at;
        if first < 0xdc00 && self.document[behind..].starts_with(b"\\u") {
            self.at += 2;
            let second = self.four_digits()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = behind;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn four_digits(&mut self) -> Result<u32, JsonError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.unexpected("in \\u hexadecimal character escape"));
            };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }
}

/// Text of raw bytes in which every invalid byte became U+FFFD (one each, as Go does).
fn lossy(raw: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(raw) {
        return Cow::Borrowed(text);
    }
    let mut text = String::new();
    push_lossy(&mut text, raw);
    Cow::Owned(text)
}

fn push_lossy(text: &mut String, raw: &[u8]) {
    for chunk in raw.utf8_chunks() {
        text.push_str(chunk.valid());
        for _ in chunk.invalid() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// A byte as error texts quote it.
fn character_text(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        _ => {
            // Bytes above 0x7f are shown as the character of that number.
            let text = crate::quote::quoted(char::from(byte).to_string().as_bytes());
            format!("'{}'", &text[1..text.len() - 1])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn syntax_errors_have_the_texts_of_the_reference() {
        for (document, expected) in [
            ("", "unexpected end of JSON input"),
            ("{\"a\":1", "unexpected end of JSON input"),
            ("x", "invalid character 'x' looking for beginning of value"),
            (
                "{a",
                "invalid character 'a' looking for beginning of object key string",
            ),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            (
                "{\"a\":1 2}",
                "invalid character '2' after object key:value pair",
            ),
            ("[1 2]", "invalid character '2' after array element"),
            (
                "[1,]",
                "invalid character ']' looking for beginning of value",
            ),
            ("{} {}", "invalid character '{' after top-level value"),
            ("\"a\n\"", "invalid character '\\n' in string literal"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            (
                "\"\\u12g\"",
                "invalid character 'g' in \\u hexadecimal character escape",
            ),
            (
                "1.x",
                "invalid character 'x' after decimal point in numeric literal",
            ),
            (
                "1ex",
                "invalid character 'x' in exponent of numeric literal",
            ),
            ("-x", "invalid character 'x' in numeric literal"),
            ("01", "invalid character '1' after top-level value"),
            (
                "trux",
                "invalid character 'x' in literal true (expecting 'e')",
            ),
            (
                "{'a'}",
                "invalid character '\\'' looking for beginning of object key string",
            ),
        ] {
            let error = parse(document.as_bytes()).expect_err(document);
            assert_eq!(error.to_string(), expected, "{document}");
        }
        let deep = "[".repeat(MAX_DEPTH + 2);
        assert_eq!(
            parse(deep.as_bytes()).expect_err("deep").to_string(),
            "exceeded max depth"
        );
    }

    #[test]
    fn strings_are_repaired_not_refused() {
        for (document, expected) in [
            (&b"\"a\\ud800b\""[..], "a\u{fffd}b"),
            (b"\"\\ud83d\\ude00\"", "\u{1f600}"),
            (b"\"\\ud83d\\u0041\"", "\u{fffd}A"),
            (b"\"\xff\xe4\"", "\u{fffd}\u{fffd}"),
            (b"\"\\u00e4\\/\\n\xc3\xa4\"", "ä/\nä"),
        ] {
            assert_eq!(parse(document), Ok(Value::String(expected.into())));
        }
    }

    proptest! {
        #[test]
        fn what_serde_json_reads_is_read_the_same(text in "[\\[\\]{}:,\"\\\\au0-9.eE+-]{0,20}") {
            let theirs: Result<serde_json::Value, _> = serde_json::from_str(&text);
            match (parse(text.as_bytes()), theirs) {
                (Ok(_), Ok(_)) | (Err(_), Err(_)) => {}
                // Lone surrogates, and numbers beyond what a float holds, are only refused there.
                (Ok(_), Err(_)) => prop_assert!(text.contains("\\u") || text.contains(['e', 'E'])),
                (Err(error), Ok(_)) => prop_assert!(false, "{text}: {error}"),
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(document: Vec<u8>) {
            let _ = parse(&document);
        }
    }
}
