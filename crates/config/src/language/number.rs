//! Values that start with a digit or a minus: numbers, sizes, dates, addresses and plain words.

use millrace_clock::rfc3339;

use super::cursor::{Cursor, is_blank, is_newline};
use super::strings::{self, Bare};
use super::tree::{SyntaxError, Value};

/// Reads a value that starts with a digit.
pub(super) fn unsigned(cursor: &mut Cursor<'_>) -> Result<Value, SyntaxError> {
    let start = cursor.offset();
    let digits = cursor.take_while(|c| c.is_ascii_digit());
    match cursor.peek() {
        Some('-') => date(cursor, start),
        Some('.') => float_or_address(cursor, start),
        Some(c) if is_suffix(c) => sized(cursor, start, digits),
        Some(c) if !ends_number(c) => {
            // Whatever follows the digits, even a closing bracket, belongs to the word.
            cursor.next();
            word(cursor, start)
        }
        _ => integer(digits, 1),
    }
}

/// Reads a value that starts with a minus, which is not consumed yet.
pub(super) fn negative(cursor: &mut Cursor<'_>) -> Result<Value, SyntaxError> {
    let start = cursor.offset();
    cursor.next();
    if !cursor.peek().is_some_and(|c| c.is_ascii_digit()) {
        return Err(cursor.unexpected("Expected a digit but got", "."));
    }
    cursor.take_while(|c| c.is_ascii_digit());
    let number = cursor.since(start);
    match cursor.peek() {
        Some('.') => float_or_address(cursor, start),
        Some(c) if is_suffix(c) => sized(cursor, start, number),
        _ => integer(number, 1),
    }
}

fn ends_number(c: char) -> bool {
    is_newline(c) || is_blank(c) || matches!(c, ',' | ';' | '}')
}

fn is_suffix(c: char) -> bool {
    matches!(c.to_ascii_lowercase(), 'k' | 'm' | 'g' | 't' | 'p' | 'e')
}

fn integer(text: &str, factor: i64) -> Result<Value, SyntaxError> {
    match text.parse::<i64>() {
        // The reference lets too large sizes wrap around; what reads them checks their range.
        Ok(number) => Ok(Value::Integer(number.wrapping_mul(factor))),
        Err(_) => Err(SyntaxError::OutOfRange {
            kind: "integer",
            text: text.to_owned(),
        }),
    }
}

/// Reads the rest of a plain word that began at `start`.
fn word(cursor: &mut Cursor<'_>, start: usize) -> Result<Value, SyntaxError> {
    let head = cursor.since(start).to_owned();
    match strings::bare(cursor, &head)? {
        Bare::Text(text) | Bare::Variable(text) => Ok(Value::Text(text)),
        Bare::Bool(value) => Ok(Value::Bool(value)),
    }
}

/// Reads a unit: k, m, g, t, p, e for powers of 1000, with b, i or ib for powers of 1024.
fn sized(cursor: &mut Cursor<'_>, start: usize, number: &str) -> Result<Value, SyntaxError> {
    let power = match cursor.next().map(|c| c.to_ascii_lowercase()) {
        Some('k') => 1,
        Some('m') => 2,
        Some('g') => 3,
        Some('t') => 4,
        Some('p') => 5,
        _ => 6,
    };
    let tail = cursor
        .take_while(|c| matches!(c, 'b' | 'B' | 'i' | 'I'))
        .to_ascii_lowercase();
    let base: i64 = match tail.as_str() {
        "" => 1000,
        "b" | "i" | "ib" => 1024,
        _ => return word(cursor, start),
    };
    match cursor.peek() {
        Some(c) if !ends_number(c) => word(cursor, start),
        _ => integer(number, base.pow(power)),
    }
}

/// Reads digits after a point; a second point makes it an address.
fn float_or_address(cursor: &mut Cursor<'_>, start: usize) -> Result<Value, SyntaxError> {
    cursor.next();
    if !cursor.peek().is_some_and(|c| c.is_ascii_digit()) {
        return Err(cursor.unexpected(
            "Floats must have a digit after the '.', but got",
            " instead.",
        ));
    }
    cursor.take_while(|c| c.is_ascii_digit());
    if cursor.peek() == Some('.') {
        cursor.take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':' | '-'));
        return Ok(Value::Text(cursor.since(start).to_owned()));
    }
    let text = cursor.since(start);
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Value::Float(number)),
        _ => Err(SyntaxError::OutOfRange {
            kind: "float",
            text: text.to_owned(),
        }),
    }
}

/// Reads the rest of `YYYY-MM-DDTHH:MM:SSZ` behind the year.
fn date(cursor: &mut Cursor<'_>, start: usize) -> Result<Value, SyntaxError> {
    const YEAR_DIGITS: usize = 4;
    if cursor.since(start).len() != YEAR_DIGITS {
        return Err(cursor.error("All ISO8601 dates must be in full Zulu form."));
    }
    for expected in "-00-00T00:00:00Z".chars() {
        let found = cursor.peek();
        if expected == '0' {
            if !found.is_some_and(|c| c.is_ascii_digit()) {
                let text = "Expected digit in ISO8601 datetime, but found";
                return Err(cursor.unexpected(text, " instead."));
            }
        } else if found != Some(expected) {
            let text = format!("Expected '{expected}' in ISO8601 datetime, but found");
            return Err(cursor.unexpected(&text, " instead."));
        }
        cursor.next();
    }
    let text = cursor.since(start).to_owned();
    match rfc3339::parse(&text) {
        Ok(_) => Ok(Value::Time(text)),
        Err(_) => Err(SyntaxError::NoSuchTime { text }),
    }
}
