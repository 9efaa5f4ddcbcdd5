//! Durations as text in the form the reference reads and prints: `1h30m`, `300ms`, `2m0s`.
//!
//! Used by the configuration language, the monitoring answers and JSON fields that hold a duration
//! as text. Values are signed nanoseconds; what they are used for is left to the caller.

use std::fmt;

const NANOSECOND: u64 = 1;
const MICROSECOND: u64 = 1_000 * NANOSECOND;
const MILLISECOND: u64 = 1_000 * MICROSECOND;
const SECOND: u64 = 1_000 * MILLISECOND;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
/// Magnitude of the smallest signed value; one more than the largest.
const MAGNITUDE_LIMIT: u64 = 1 << 63;

/// Why a duration text was refused; displays the reference's sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DurationError {
    /// Not of the form number-unit, or out of range. Carries the text.
    Invalid(String),
    /// A number without a unit. Carries the text.
    MissingUnit(String),
    /// An unknown unit. Carries the unit and the text.
    UnknownUnit(String, String),
}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) => write!(f, "time: invalid duration {text:?}"),
            Self::MissingUnit(text) => write!(f, "time: missing unit in duration {text:?}"),
            Self::UnknownUnit(unit, text) => {
                write!(f, "time: unknown unit {unit:?} in duration {text:?}")
            }
        }
    }
}

impl std::error::Error for DurationError {}

/// Parses a duration like `300ms`, `-1.5h` or `2h45m` into nanoseconds.
///
/// Units are `ns`, `us` (or `µs`), `ms`, `s`, `m`, `h`; a bare `0` needs none.
///
/// # Errors
/// The text is empty, has no or unknown units, or does not fit 63 bits of nanoseconds.
pub fn parse(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (value, after) = one_part(rest, text)?;
        rest = after;
        total = total.checked_add(value).ok_or_else(invalid)?;
        if total > MAGNITUDE_LIMIT {
            return Err(invalid());
        }
    }
    match (negative, i64::try_from(total)) {
        (true, Ok(value)) => Ok(-value),
        (true, Err(_)) => Ok(i64::MIN),
        (false, Ok(value)) => Ok(value),
        (false, Err(_)) => Err(invalid()),
    }
}

/// Reads one number with its unit from the front; returns nanoseconds and what follows.
fn one_part<'a>(rest: &'a str, text: &str) -> Result<(u64, &'a str), DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let whole_end = digits_end(rest);
    let (whole_text, mut after) = rest.split_at(whole_end);
    let mut fraction_text = "";
    if let Some(behind_point) = after.strip_prefix('.') {
        let end = digits_end(behind_point);
        (fraction_text, after) = behind_point.split_at(end);
    }
    if whole_text.is_empty() && fraction_text.is_empty() {
        return Err(invalid());
    }
    let whole: u64 = if whole_text.is_empty() {
        0
    } else {
        whole_text.parse().map_err(|_| invalid())?
    };
    let unit_end = after
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(after.len());
    let (unit_text, after) = after.split_at(unit_end);
    if unit_text.is_empty() {
        return Err(DurationError::MissingUnit(text.to_owned()));
    }
    let unit = unit_ns(unit_text)
        .ok_or_else(|| DurationError::UnknownUnit(unit_text.to_owned(), text.to_owned()))?;
    let value = whole
        .checked_mul(unit)
        .and_then(|value| value.checked_add(fraction_ns(fraction_text, unit)))
        .filter(|value| *value <= MAGNITUDE_LIMIT)
        .ok_or_else(invalid)?;
    Ok((value, after))
}

fn digits_end(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

fn unit_ns(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => NANOSECOND,
        "us" | "\u{b5}s" | "\u{3bc}s" => MICROSECOND,
        "ms" => MILLISECOND,
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        _ => return None,
    })
}

/// The part of `unit` that the decimal digits stand for, cut to whole nanoseconds.
fn fraction_ns(digits: &str, unit: u64) -> u64 {
    // 18 digits of a fraction of an hour are far below a nanosecond.
    let digits = &digits[..digits.len().min(18)];
    let Ok(numerator) = digits.parse::<u128>() else {
        return 0;
    };
    let scale = 10_u128.pow(u32::try_from(digits.len()).unwrap_or(0));
    u64::try_from(numerator * u128::from(unit) / scale).unwrap_or(0)
}

/// Prints nanoseconds in the reference's form: `0s`, `1.5ms`, `2m0s`, `1h0m0.5s`.
#[must_use]
pub fn format(nanoseconds: i64) -> String {
    let magnitude = nanoseconds.unsigned_abs();
    let mut out = String::new();
    if nanoseconds < 0 {
        out.push('-');
    }
    if magnitude == 0 {
        return "0s".to_owned();
    }
    if magnitude < SECOND {
        let (unit, name) = if magnitude < MICROSECOND {
            (NANOSECOND, "ns")
        } else if magnitude < MILLISECOND {
            (MICROSECOND, "\u{b5}s")
        } else {
            (MILLISECOND, "ms")
        };
        push_decimal(&mut out, magnitude, unit);
        out.push_str(name);
        return out;
    }
    let (hours, minutes) = (magnitude / HOUR, magnitude % HOUR / MINUTE);
    if hours > 0 {
        out.push_str(&hours.to_string());
        out.push('h');
    }
    if hours > 0 || minutes > 0 {
        out.push_str(&minutes.to_string());
        out.push('m');
    }
    push_decimal(&mut out, magnitude % MINUTE, SECOND);
    out.push('s');
    out
}

/// Appends `value / unit` with as many decimals as it has and no trailing zeros.
fn push_decimal(out: &mut String, value: u64, unit: u64) {
    out.push_str(&(value / unit).to_string());
    let fraction = value % unit;
    if fraction > 0 {
        let width = unit.ilog10() as usize;
        let digits = format!("{fraction:0width$}");
        out.push('.');
        out.push_str(digits.trim_end_matches('0'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_parse_to_the_nanoseconds_they_name() {
        let cases: &[(&str, i64)] = &[
            ("0", 0),
            ("-0", 0),
            ("5s", 5_000_000_000),
            ("300ms", 300_000_000),
            ("1h30m", 5_400_000_000_000),
            ("-1.5h", -5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("+2m", 120_000_000_000),
            ("10us", 10_000),
            ("10\u{b5}s", 10_000),
            ("10\u{3bc}s", 10_000),
            ("0.3333333333333333333h", 1_200_000_000_000 - 1),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Ok(*expected), "{text}");
        }
    }

    #[test]
    fn wrong_texts_get_the_references_sentences() {
        let cases = [
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            (".", "time: invalid duration \".\""),
            ("s", "time: invalid duration \"s\""),
            ("3", "time: missing unit in duration \"3\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
            ("1 s", "time: unknown unit \" s\" in duration \"1 s\""),
            (
                "9223372036854775808ns",
                "time: invalid duration \"9223372036854775808ns\"",
            ),
            ("3000000h", "time: invalid duration \"3000000h\""),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn formats_match_the_reference() {
        let cases: &[(i64, &str)] = &[
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1\u{b5}s"),
            (2_200_000, "2.2ms"),
            (300_000_000, "300ms"),
            (3_300_000_000, "3.3s"),
            (120_000_000_000, "2m0s"),
            (245_001_000_000, "4m5.001s"),
            (5_400_000_000_000, "1h30m0s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (-1_500_000_000, "-1.5s"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ];
        for (nanoseconds, expected) in cases {
            assert_eq!(format(*nanoseconds), *expected);
            assert_eq!(parse(expected), Ok(*nanoseconds));
        }
    }
}
