//! Points in time as RFC 3339 text, as JSON answers and requests carry them.
//!
//! A time is signed nanoseconds since the Unix epoch (years 1677 to 2262). The reference's zero
//! time, year 1, does not fit and is `None` here. Always printed in UTC.

use std::fmt;

/// How the reference prints a time that was never set.
pub const ZERO_TEXT: &str = "0001-01-01T00:00:00Z";

/// `2026-01-02T03:04:05.123456789Z`.
const TEXT_BYTES_MAX: usize = 30;
const SECOND_NS: i128 = 1_000_000_000;
const DAY_S: i64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01 in the proleptic Gregorian calendar.
const EPOCH_DAY: i64 = 719_468;
const DAYS_PER_ERA: i64 = 146_097;

/// The text is not an RFC 3339 time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rfc3339Error;

impl fmt::Display for Rfc3339Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an RFC 3339 time")
    }
}

impl std::error::Error for Rfc3339Error {}

/// A calendar date and time of day in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// Year, 1677 to 2262 for times that fit nanoseconds.
    pub year: i64,
    /// Month, 1 to 12.
    pub month: u32,
    /// Day of the month, 1 to 31.
    pub day: u32,
    /// Hour, 0 to 23.
    pub hour: u32,
    /// Minute, 0 to 59.
    pub minute: u32,
    /// Second, 0 to 59.
    pub second: u32,
    /// Nanosecond within the second.
    pub nanosecond: u32,
}

impl Calendar {
    /// Splits nanoseconds since the epoch into UTC calendar fields.
    #[must_use]
    pub fn from_wall_ns(wall_ns: i64) -> Self {
        let seconds = wall_ns.div_euclid(1_000_000_000);
        let nanosecond = small(wall_ns.rem_euclid(1_000_000_000));
        let (days, of_day) = (seconds.div_euclid(DAY_S), seconds.rem_euclid(DAY_S));
        let (year, month, day) = civil_from_days(days);
        Self {
            year,
            month,
            day,
            hour: small(of_day / 3600),
            minute: small(of_day % 3600 / 60),
            second: small(of_day % 60),
            nanosecond,
        }
    }
}

/// Prints a time with up to nine decimals, trailing zeros cut: `2026-01-02T03:04:05.6Z`.
#[must_use]
pub fn format(wall_ns: i64) -> String {
    let c = Calendar::from_wall_ns(wall_ns);
    let mut out = String::with_capacity(TEXT_BYTES_MAX);
    // By hand: every direct get carries a time, and the formatting machinery costs as much as the rest.
    put(&mut out, small(c.year), 4);
    for (before, value) in [
        ('-', c.month),
        ('-', c.day),
        ('T', c.hour),
        (':', c.minute),
        (':', c.second),
    ] {
        out.push(before);
        put(&mut out, value, 2);
    }
    if c.nanosecond > 0 {
        out.push('.');
        put(&mut out, c.nanosecond, 9);
        out.truncate(out.trim_end_matches('0').len());
    }
    out.push('Z');
    out
}

/// Appends a number with leading zeros.
fn put(out: &mut String, value: u32, digits: u32) {
    let mut unit = 10u32.pow(digits - 1);
    while unit > 0 {
        out.push(char::from(b'0' + (value / unit % 10) as u8));
        unit /= 10;
    }
}

/// Like [`format()`], with the reference's zero time for `None`.
#[must_use]
pub fn format_or_zero(wall_ns: Option<i64>) -> String {
    wall_ns.map_or_else(|| ZERO_TEXT.to_owned(), format)
}

/// Parses an RFC 3339 time with `Z` or a numeric offset.
///
/// The reference's zero time is `None`. Times beyond what nanoseconds in 64 bits can hold are
/// moved to the nearest end; decimals beyond the ninth are cut.
///
/// # Errors
/// The text has another form or names a day that does not exist.
pub fn parse(text: &str) -> Result<Option<i64>, Rfc3339Error> {
    let mut reader = Reader {
        rest: text.as_bytes(),
    };
    let year = i64::from(reader.digits(4)?);
    reader.byte(b'-')?;
    let month = reader.digits(2)?;
    reader.byte(b'-')?;
    let day = reader.digits(2)?;
    reader.byte(b'T')?;
    let (hour, minute, second) = reader.time_of_day()?;
    let nanosecond = reader.fraction()?;
    let offset_s = reader.offset()?;
    let valid = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !valid || !reader.rest.is_empty() {
        return Err(Rfc3339Error);
    }
    let seconds = days_from_civil(year, month, day) * DAY_S
        + i64::from(hour * 3600 + minute * 60 + second)
        - offset_s;
    if seconds == days_from_civil(1, 1, 1) * DAY_S && nanosecond == 0 {
        return Ok(None);
    }
    let wall_ns = i128::from(seconds) * SECOND_NS + i128::from(nanosecond);
    let clamped = wall_ns.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
    Ok(i64::try_from(clamped).ok())
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn byte(&mut self, expected: u8) -> Result<(), Rfc3339Error> {
        match self.rest.split_first() {
            Some((first, rest)) if *first == expected => {
                self.rest = rest;
                Ok(())
            }
            _ => Err(Rfc3339Error),
        }
    }

    fn digits(&mut self, count: usize) -> Result<u32, Rfc3339Error> {
        let (digits, rest) = self.rest.split_at_checked(count).ok_or(Rfc3339Error)?;
        let mut value = 0;
        for digit in digits {
            if !digit.is_ascii_digit() {
                return Err(Rfc3339Error);
            }
            value = value * 10 + u32::from(digit - b'0');
        }
        self.rest = rest;
        Ok(value)
    }

    fn time_of_day(&mut self) -> Result<(u32, u32, u32), Rfc3339Error> {
        let hour = self.digits(2)?;
        self.byte(b':')?;
        let minute = self.digits(2)?;
        self.byte(b':')?;
        Ok((hour, minute, self.digits(2)?))
    }

    fn fraction(&mut self) -> Result<u32, Rfc3339Error> {
        if self.byte(b'.').is_err() {
            return Ok(0);
        }
        let count = self.rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if count == 0 {
            return Err(Rfc3339Error);
        }
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest;
        let padded = digits
            .iter()
            .copied()
            .chain(std::iter::repeat(b'0'))
            .take(9);
        Ok(padded.fold(0, |value, digit| value * 10 + u32::from(digit - b'0')))
    }

    /// Seconds east of UTC.
    fn offset(&mut self) -> Result<i64, Rfc3339Error> {
        if self.byte(b'Z').is_ok() {
            return Ok(0);
        }
        let sign = if self.byte(b'+').is_ok() {
            1
        } else {
            self.byte(b'-')?;
            -1
        };
        let hours = self.digits(2)?;
        self.byte(b':')?;
        let minutes = self.digits(2)?;
        if hours > 23 || minutes > 59 {
            return Err(Rfc3339Error);
        }
        Ok(sign * i64::from(hours * 3600 + minutes * 60))
    }
}

fn small(value: i64) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since the Unix epoch of a Gregorian date; years are counted from March so that the leap
/// day is the last of its year.
fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = i64::from((month + 9) % 12);
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_PER_ERA + day_of_era - EPOCH_DAY
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let shifted = days + EPOCH_DAY;
    let era = shifted.div_euclid(DAYS_PER_ERA);
    let day_of_era = shifted.rem_euclid(DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524
        - day_of_era / (DAYS_PER_ERA - 1))
        / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = small(day_of_year - (153 * month_from_march + 2) / 5 + 1);
    let month = small(if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    });
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_print_and_parse_back() {
        let cases: &[(i64, &str)] = &[
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (1_000_000_000, "1970-01-01T00:00:01Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00Z"),
            (1_700_000_000_123_400_000, "2023-11-14T22:13:20.1234Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
        ];
        for (wall_ns, text) in cases {
            assert_eq!(format(*wall_ns), *text);
            assert_eq!(parse(text), Ok(Some(*wall_ns)), "{text}");
        }
    }

    #[test]
    fn every_day_of_eight_centuries_survives_the_round_trip() {
        for days in -106_000..106_000 {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
    }

    #[test]
    fn offsets_and_long_fractions_are_understood() {
        assert_eq!(parse("1970-01-01T01:00:00+01:00"), Ok(Some(0)));
        assert_eq!(parse("1969-12-31T23:30:00-00:30"), Ok(Some(0)));
        assert_eq!(parse("1970-01-01T00:00:00.0000000019Z"), Ok(Some(1)));
    }

    #[test]
    fn the_zero_time_is_none_and_far_times_are_clamped() {
        assert_eq!(parse(ZERO_TEXT), Ok(None));
        assert_eq!(format_or_zero(None), ZERO_TEXT);
        assert_eq!(parse("9999-12-31T23:59:59Z"), Ok(Some(i64::MAX)));
        assert_eq!(parse("0001-01-01T00:00:01Z"), Ok(Some(i64::MIN)));
    }

    #[test]
    fn other_forms_are_refused() {
        for text in [
            "",
            "1970-01-01",
            "1970-01-01t00:00:00Z",
            "1970-01-01T00:00:00",
            "1970-01-01T00:00:00z",
            "1970-13-01T00:00:00Z",
            "1970-02-29T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:60Z",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00,5Z",
            "1970-01-01T00:00:00+24:00",
            "1970-01-01T00:00:00Z ",
        ] {
            assert_eq!(parse(text), Err(Rfc3339Error), "{text}");
        }
    }
}
