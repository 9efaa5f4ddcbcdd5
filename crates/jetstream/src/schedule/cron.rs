//! Cron expressions with six fields: second, minute, hour, day of month, month, day of week (spec
//! jetstream/02 §6).
//!
//! Written here and not taken from a crate: the crates that are well kept read another grammar (`L`,
//! `W`, `#`, a seventh day of the week, seconds that may be left out), and what a server accepts that
//! the other one refuses is a difference that clients see.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _, ZonedDateTime};

/// How many years ahead a match is looked for.
const YEARS_MAX: i16 = 5;
/// Seconds of an hour.
const HOUR_SECONDS: i32 = 3_600;

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// What one field lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    /// One bit for each value.
    values: u64,
    /// A `*` or `?` (with a step of 1) is part of it: for a day field, it does not restrict.
    star: bool,
}

impl Field {
    const fn has(self, value: i8) -> bool {
        value >= 0 && self.values & (1 << value) != 0
    }

    /// The first value that it lets through, from one on.
    fn next(self, from: i8) -> Option<i8> {
        (from..=59).find(|value| self.has(*value))
    }
}

/// A cron expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cron {
    second: Field,
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
}

impl Cron {
    /// Reads an expression. `None`: it is not one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split_whitespace();
        let mut next = |low, high, names: &[&str], first| {
            fields
                .next()
                .and_then(|text| parse_field(text, low, high, names, first))
        };
        let cron = Self {
            second: next(0, 59, &[], 0)?,
            minute: next(0, 59, &[], 0)?,
            hour: next(0, 23, &[], 0)?,
            day: next(1, 31, &[], 0)?,
            month: next(1, 12, &MONTHS, 1)?,
            weekday: next(0, 6, &DAYS, 0)?,
        };
        fields.next().is_none().then_some(cron)
    }

    /// The first match after a time. `None`: there is none within five years.
    pub(super) fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<ZonedDateTime> {
        let start = Timestamp::from_second(after.as_second().checked_add(1)?).ok()?;
        let start = start.to_zoned_datetime(zone.clone());
        let last_year = start.year().checked_add(YEARS_MAX)?;
        let mut date = start.date();
        while date.year() <= last_year {
            if !self.month.has(date.month()) {
                date = date.first_of_month().checked_add(1.month()).ok()?;
                continue;
            }
            if self.has_day(date) {
                let midnight = date.to_zoned_datetime(zone.clone()).ok()?;
                if let Some(found) = self.on_day(date, midnight.max(start.clone())) {
                    return Some(found);
                }
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// If both fields restrict, one of them is enough.
    fn has_day(&self, date: Date) -> bool {
        let day = self.day.has(date.day());
        let weekday = self.weekday.has(date.weekday().to_sunday_zero_offset());
        if self.day.star || self.weekday.star {
            day && weekday
        } else {
            day || weekday
        }
    }

    /// The first match of a day, from a moment on. It goes by hours that pass, not by hours of the
    /// clock: one that the clock leaves out has no match, and one that comes twice has two.
    fn on_day(&self, date: Date, from: ZonedDateTime) -> Option<ZonedDateTime> {
        let mut moment = from;
        while moment.date() == date {
            if self.hour.has(moment.hour())
                && let Some(found) = self.in_hour(&moment)
            {
                return Some(found);
            }
            let passed = i32::from(moment.minute()) * 60 + i32::from(moment.second());
            moment = moment.checked_add((HOUR_SECONDS - passed).seconds()).ok()?;
        }
        None
    }

    fn in_hour(&self, from: &ZonedDateTime) -> Option<ZonedDateTime> {
        let mut second = self.second.next(from.second());
        let mut minute = Some(from.minute()).filter(|minute| self.minute.has(*minute));
        if second.is_none() || minute.is_none() {
            second = self.second.next(0);
            minute = self.minute.next(from.minute() + 1);
        }
        let passed = i32::from(from.minute()) * 60 + i32::from(from.second());
        let wanted = i32::from(minute?) * 60 + i32::from(second?);
        from.checked_add((wanted - passed).seconds()).ok()
    }
}

/// A field: ranges between commas.
fn parse_field(text: &str, low: u32, high: u32, names: &[&str], first: u32) -> Option<Field> {
    let mut field = Field {
        values: 0,
        star: false,
    };
    for range in text.split(',').filter(|range| !range.is_empty()) {
        let (values, star) = parse_range(range, low, high, names, first)?;
        field.values |= values;
        field.star |= star;
    }
    Some(field)
}

/// `*`, `?`, `N`, `N-M`, each with a `/STEP` behind it.
fn parse_range(text: &str, low: u32, high: u32, names: &[&str], first: u32) -> Option<(u64, bool)> {
    let value = |text: &str| {
        let named = names
            .iter()
            .position(|name| text.eq_ignore_ascii_case(name));
        match named {
            Some(place) => Some(first + u32::try_from(place).ok()?),
            None => parse_value(text),
        }
    };
    let mut parts = text.split('/');
    let range = parts.next()?;
    let step = parts.next();
    if parts.next().is_some() {
        return None;
    }
    let mut ends = range.split('-');
    let begin = ends.next()?;
    let end = ends.next();
    let starred = begin == "*" || begin == "?";
    let (from, mut to) = if starred {
        (low, high)
    } else {
        let from = value(begin)?;
        let to = match end {
            Some(end) => value(end)?,
            None => from,
        };
        if ends.next().is_some() {
            return None;
        }
        (from, to)
    };
    let mut by = 1;
    if let Some(step) = step {
        by = parse_value(step)?;
        if !starred && end.is_none() {
            to = high;
        }
    }
    if from < low || to > high || from > to || by == 0 {
        return None;
    }
    let by = usize::try_from(by).ok()?;
    let values = (from..=to)
        .step_by(by)
        .fold(0, |bits, value| bits | (1 << value));
    Some((values, starred && by == 1))
}

/// A number as the reference reads one: a plus sign may stand before it.
fn parse_value(text: &str) -> Option<u32> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(expression: &str, after: &str, zone: &str) -> Option<String> {
        let zone = jiff::tz::TimeZoneDatabase::bundled()
            .get(zone)
            .expect("a zone");
        let cron = Cron::parse(expression).expect("an expression");
        let after: Timestamp = after.parse().expect("a time");
        let found = cron.next(after, &zone)?;
        Some(found.timestamp().to_string())
    }

    // proves: JS-SCH-01
    #[test]
    fn the_grammar_is_the_references() {
        for good in [
            "0 0 0 1 1 *",
            "0 0 0 ? * ?",
            "*/5 0 0 1 1 *",
            "5/10 0 0 1 1 *",
            "1-50/7 0 0 1 1 *",
            "1,,3 0 0 1 1 *",
            "*/61 0 0 1 1 *",
            "0 0 0 1 JAN MON",
            "0 0 0 1 jan-mar mon-fri",
            "+1 0 0 1 1 *",
            "  0\t0  0 1 1 *  ",
            "*-5 0 0 1 1 *",
            "* * * * * *,1",
        ] {
            assert!(Cron::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "0 0 0 1 1",
            "0 0 0 1 1 * 2030",
            "60 * * * * *",
            "0 0 0 * * 7",
            "0 0 24 * * *",
            "0 0 0 0 * *",
            "0 0 0 * 13 *",
            "5-1 0 0 1 1 *",
            "*/0 0 0 1 1 *",
            "0 0 0 1 january *",
            "0 0 0 1 mar-jan *",
            "-1 0 0 1 1 *",
            "1- 0 0 1 1 *",
            "1-2-3 0 0 1 1 *",
            "1/2/3 0 0 1 1 *",
            "0x1 0 0 1 1 *",
            "0 0 0 L * *",
            "0 0 0 1W * *",
            "0 0 0 * * 1#2",
            "99999999999 0 0 1 1 *",
        ] {
            assert!(Cron::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_next_match_is_found_across_all_fields() {
        let after = "2026-01-31T23:59:59.5Z";
        for (expression, expected) in [
            ("* * * * * *", Some("2026-02-01T00:00:00Z")),
            ("30 15 10 * * *", Some("2026-02-01T10:15:30Z")),
            ("0 0 0 29 2 *", Some("2028-02-29T00:00:00Z")),
            ("0 0 0 30 2 *", None),
            ("0 0 0 * * mon", Some("2026-02-02T00:00:00Z")),
            // Both day fields restrict: one of them is enough.
            ("0 0 0 13 * mon", Some("2026-02-02T00:00:00Z")),
            // A step makes a star restrict, as in the reference.
            ("0 0 0 */10 * mon", Some("2026-02-01T00:00:00Z")),
            ("0 0 0 * * *", Some("2026-02-01T00:00:00Z")),
            ("0 0 0 1 1 *", Some("2027-01-01T00:00:00Z")),
        ] {
            assert_eq!(
                next(expression, after, "UTC").as_deref(),
                expected,
                "{expression}"
            );
        }
        let late = next("10 59 * * * *", "2026-01-01T05:59:10Z", "UTC");
        assert_eq!(late.as_deref(), Some("2026-01-01T06:59:10Z"));
    }

    // proves: JS-SCH-02
    #[test]
    fn an_hour_that_the_clock_leaves_out_or_repeats_is_missed_or_comes_twice() {
        let zone = "Europe/Berlin";
        let spring = next("0 30 2 * * *", "2026-03-28T12:00:00Z", zone);
        assert_eq!(spring.as_deref(), Some("2026-03-30T00:30:00Z"));
        let first = next("0 30 2 * * *", "2026-10-24T12:00:00Z", zone);
        assert_eq!(first.as_deref(), Some("2026-10-25T00:30:00Z"));
        let second = next("0 30 2 * * *", "2026-10-25T00:30:00Z", zone);
        assert_eq!(second.as_deref(), Some("2026-10-25T01:30:00Z"));
        let third = next("0 30 2 * * *", "2026-10-25T01:30:00Z", zone);
        assert_eq!(third.as_deref(), Some("2026-10-26T01:30:00Z"));
    }
}
