//! Strings: raw, with escapes, bare, and blocks; bare ones may turn out to be something else.

use super::cursor::{Cursor, is_blank, is_newline};
use super::tree::SyntaxError;

/// What a bare word stands for.
#[derive(Debug, PartialEq)]
pub(super) enum Bare {
    Text(String),
    Bool(bool),
    /// A reference to the variable of this name.
    Variable(String),
}

/// A bcrypt hash starts like a variable and is none.
const BCRYPT_PREFIX: &str = "$2a$";

/// Reads up to the closing single quote; the opening one is consumed already.
pub(super) fn raw(cursor: &mut Cursor<'_>) -> Result<String, SyntaxError> {
    let text = cursor.take_while(|c| c != '\'');
    if cursor.eat('\'') {
        Ok(text.to_owned())
    } else {
        Err(cursor.error("Unexpected EOF."))
    }
}

/// Reads up to the closing double quote; the opening one is consumed already.
pub(super) fn escaped(cursor: &mut Cursor<'_>) -> Result<String, SyntaxError> {
    let mut bytes = Vec::new();
    loop {
        bytes.extend_from_slice(cursor.take_while(|c| c != '"' && c != '\\').as_bytes());
        match cursor.next() {
            Some('"') => return Ok(lossy(bytes)),
            Some(_) => bytes.push(escape(cursor)?),
            None => return Err(cursor.error("Unexpected EOF.")),
        }
    }
}

/// Reads a key in double quotes, where a backslash is a character like any other.
pub(super) fn quoted_key(cursor: &mut Cursor<'_>, quote: char) -> Result<String, SyntaxError> {
    let text = cursor.take_while(|c| c != quote);
    let text = text.to_owned();
    if cursor.eat(quote) {
        Ok(text)
    } else {
        Err(cursor.error("Unexpected EOF."))
    }
}

/// Reads the rest of a bare word; `head` is what of it was consumed already.
pub(super) fn bare(cursor: &mut Cursor<'_>, head: &str) -> Result<Bare, SyntaxError> {
    let mut bytes = head.as_bytes().to_vec();
    let mut has_escapes = false;
    loop {
        let part = cursor.take_while(|c| !ends_bare(c) && c != '\\' && c != '\'');
        bytes.extend_from_slice(part.as_bytes());
        match cursor.peek() {
            Some('\\') => {
                cursor.next();
                has_escapes = true;
                bytes.push(escape(cursor)?);
            }
            Some('\'') => {
                cursor.next();
                return Ok(Bare::Text(lossy(bytes)));
            }
            _ => break,
        }
    }
    let text = lossy(bytes);
    if has_escapes || !head.is_empty() {
        return Ok(Bare::Text(text));
    }
    if let Some(value) = boolean(&text) {
        return Ok(Bare::Bool(value));
    }
    match text.strip_prefix('$') {
        Some(name) if !text.starts_with(BCRYPT_PREFIX) => Ok(Bare::Variable(name.to_owned())),
        _ => Ok(Bare::Text(text)),
    }
}

fn ends_bare(c: char) -> bool {
    is_newline(c) || is_blank(c) || matches!(c, ',' | ';' | ']' | '}')
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Reads a block: up to a line that is only a closing bracket. The opening one is consumed.
pub(super) fn block(cursor: &mut Cursor<'_>) -> Result<String, SyntaxError> {
    let start = cursor.offset();
    let mut at_line_start = false;
    while let Some(c) = cursor.peek() {
        if c == ')' && at_line_start && matches!(cursor.peek_second(), Some('\n') | None) {
            let text = cursor.since(start).to_owned();
            cursor.next();
            return Ok(text);
        }
        at_line_start = c == '\n';
        cursor.next();
    }
    Err(cursor.error("Unexpected EOF processing block."))
}

/// Reads what follows a backslash.
fn escape(cursor: &mut Cursor<'_>) -> Result<u8, SyntaxError> {
    let byte = match cursor.peek() {
        Some('x') => {
            cursor.next();
            return hex_escape(cursor);
        }
        Some('t') => b'\t',
        Some('n') => b'\n',
        Some('r') => b'\r',
        Some('"') => b'"',
        Some('\\') => b'\\',
        _ => {
            let tail = ". Only the following escape characters are allowed: \\xXX, \\t, \\n, \\r, \\\", \\\\.";
            return Err(cursor.unexpected("Invalid escape character", tail));
        }
    };
    cursor.next();
    Ok(byte)
}

fn hex_escape(cursor: &mut Cursor<'_>) -> Result<u8, SyntaxError> {
    let mut value = 0;
    for _ in 0..2 {
        match cursor.peek() {
            None => {
                return Err(cursor
                    .error("Expected two hexadecimal digits after '\\x', but hit end of line"));
            }
            Some(c) if is_newline(c) => {
                cursor.next();
                return Err(cursor
                    .error("Expected two hexadecimal digits after '\\x', but hit end of line"));
            }
            Some(c) => {
                let digit = c.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                let Some(digit) = digit else {
                    return Err(cursor.error(format!(
                        "Expected two hexadecimal digits after '\\x', but got '{c}'"
                    )));
                };
                value = value * 16 + digit;
                cursor.next();
            }
        }
    }
    Ok(value)
}

/// Escapes can make bytes that are not UTF-8; those are shown as the replacement character.
fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
