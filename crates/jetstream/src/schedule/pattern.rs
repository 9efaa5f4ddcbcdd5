//! When a scheduled message is due: `@at`, `@every`, and cron expressions in a time zone (spec
//! jetstream/02 §6).

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use millrace_clock::{go_duration, rfc3339};

use super::cron::Cron;

const SECOND_NS: i64 = 1_000_000_000;
/// Longest pattern that is looked at, bytes.
const PATTERN_BYTES_MAX: usize = 1_024;
/// Name of the zone of the machine.
const LOCAL: &str = "Local";

/// Expressions with names.
const PREDEFINED: [(&str, &str); 7] = [
    ("@yearly", "0 0 0 1 1 *"),
    ("@annually", "0 0 0 1 1 *"),
    ("@monthly", "0 0 0 1 * *"),
    ("@weekly", "0 0 0 * * 0"),
    ("@daily", "0 0 0 * * *"),
    ("@midnight", "0 0 0 * * *"),
    ("@hourly", "0 0 * * * *"),
];

/// What is wrong with a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternError {
    TimeZone,
    Pattern,
}

/// A pattern that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern(Kind);

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// Once.
    At(i64),
    Every(i64),
    Cron(Cron, TimeZone),
}

/// A time at which a message is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub time_ns: i64,
    /// As the produced message says it.
    pub text: String,
}

impl Pattern {
    /// Reads a pattern. `zone`: the header that names one; `local`: the zone of the machine.
    ///
    /// # Errors
    /// What of the two is wrong; the zone is looked at first.
    pub fn parse(text: &str, zone: Option<&str>, local: &TimeZone) -> Result<Self, PatternError> {
        let named = zone.map(|name| zone_of(name, local)).transpose()?;
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::Pattern);
        }
        if let Some(time) = text.strip_prefix("@at ") {
            let time = rfc3339::parse(time).map_err(|_| PatternError::Pattern)?;
            let once = time.filter(|_| named.is_none()).map(Kind::At);
            return once.map(Self).ok_or(PatternError::Pattern);
        }
        if let Some(interval) = text.strip_prefix("@every ") {
            let interval_ns = go_duration::parse(interval).map_err(|_| PatternError::Pattern)?;
            let fits = interval_ns >= SECOND_NS && named.is_none();
            return fits
                .then_some(Self(Kind::Every(interval_ns)))
                .ok_or(PatternError::Pattern);
        }
        let predefined = PREDEFINED.iter().find(|(name, _)| *name == text);
        let expression = predefined.map_or(text, |(_, expression)| *expression);
        let cron = Cron::parse(expression).ok_or(PatternError::Pattern)?;
        Ok(Self(Kind::Cron(cron, named.unwrap_or(TimeZone::UTC))))
    }

    /// When a message stored at `time_ns` is due for the first time. `None`: never.
    #[must_use]
    pub fn first(&self, time_ns: i64, now_ns: i64) -> Option<i64> {
        match self.0 {
            Kind::At(at_ns) => Some(at_ns),
            _ => self.after(time_ns, now_ns).map(|due| due.time_ns),
        }
    }

    /// When it is due next, after it was due at `due_ns`. What was missed meanwhile is not made up
    /// for. `None`: not again.
    #[must_use]
    pub fn after(&self, due_ns: i64, now_ns: i64) -> Option<Due> {
        match &self.0 {
            Kind::At(_) => None,
            Kind::Every(interval_ns) => {
                let next = |from_ns: i64| to_second(from_ns).saturating_add(*interval_ns);
                let mut time_ns = next(due_ns);
                if time_ns < now_ns {
                    time_ns = next(now_ns);
                }
                let text = rfc3339::format(time_ns);
                Some(Due { time_ns, text })
            }
            Kind::Cron(cron, zone) => {
                let from = Timestamp::from_nanosecond(i128::from(due_ns.max(now_ns))).ok()?;
                let next = cron.next(from, zone)?;
                let time_ns = i64::try_from(next.timestamp().as_nanosecond()).ok()?;
                let offset = next.offset().seconds();
                let text = with_offset(time_ns, offset);
                Some(Due { time_ns, text })
            }
        }
    }
}

/// The nearest whole second; half a second goes up.
fn to_second(time_ns: i64) -> i64 {
    let half = time_ns.saturating_add(SECOND_NS / 2);
    half - half.rem_euclid(SECOND_NS)
}

/// A time as a clock with this offset to UTC shows it.
fn with_offset(time_ns: i64, offset_seconds: i32) -> String {
    let shown_ns = time_ns.saturating_add(i64::from(offset_seconds) * SECOND_NS);
    let mut text = rfc3339::format(shown_ns);
    if offset_seconds != 0 {
        text.pop();
        let sign = if offset_seconds < 0 { '-' } else { '+' };
        let minutes = offset_seconds.unsigned_abs() / 60;
        text.push_str(&format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60));
    }
    text
}

/// A zone by its exact name.
fn zone_of(name: &str, local: &TimeZone) -> Result<TimeZone, PatternError> {
    match name {
        LOCAL => Ok(local.clone()),
        "UTC" => Ok(TimeZone::UTC),
        _ => TimeZoneDatabase::bundled()
            .get(name)
            .ok()
            .filter(|zone| zone.iana_name() == Some(name))
            .ok_or(PatternError::TimeZone),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str, zone: Option<&str>) -> Result<Pattern, PatternError> {
        Pattern::parse(text, zone, &TimeZone::UTC)
    }

    // proves: JS-SCH-01, JS-SCH-02
    #[test]
    fn patterns_and_zones_are_read_as_the_reference_reads_them() {
        for good in [
            ("@at 2030-01-01T00:00:00Z", None),
            ("@at 2030-01-01T00:00:00.5+02:00", None),
            ("@every 1s1ns", None),
            ("@daily", Some("Europe/Berlin")),
            ("@midnight", Some("Local")),
            ("0 0 0 1 1 *", Some("EST")),
        ] {
            assert!(read(good.0, good.1).is_ok(), "{good:?}");
        }
        for (text, zone, error) in [
            ("@at 2030-01-01T00:00:00", None, PatternError::Pattern),
            ("@at  2030-01-01T00:00:00Z", None, PatternError::Pattern),
            ("@AT 2030-01-01T00:00:00Z", None, PatternError::Pattern),
            (
                "@at 2030-01-01T00:00:00Z",
                Some("UTC"),
                PatternError::Pattern,
            ),
            ("@every 999ms", None, PatternError::Pattern),
            ("@every 1h", Some("Europe/Berlin"), PatternError::Pattern),
            ("@reboot", None, PatternError::Pattern),
            ("0 0 0 31 4", None, PatternError::Pattern),
            ("@daily", Some(""), PatternError::TimeZone),
            ("x", Some("zz"), PatternError::TimeZone),
            ("@daily", Some("europe/berlin"), PatternError::TimeZone),
            ("@daily", Some("../etc"), PatternError::TimeZone),
        ] {
            assert_eq!(read(text, zone), Err(error), "{text} {zone:?}");
        }
        assert_eq!(
            read("0 0 0 31 2 *", None).map(|it| it.first(0, 0)),
            Ok(None)
        );
    }

    #[test]
    fn an_interval_counts_from_whole_seconds_and_skips_what_was_missed() {
        let every = read("@every 1500ms", None).expect("a pattern");
        assert_eq!(every.first(12_778_000_000, 0), Some(14_500_000_000));
        let next = every.after(14_500_000_000, 14_500_500_000).expect("again");
        assert_eq!(next.time_ns, 16_500_000_000);
        assert_eq!(next.text, "1970-01-01T00:00:16.5Z");
        let late = every.after(14_500_000_000, 100_200_000_000).expect("again");
        assert_eq!(late.time_ns, 101_500_000_000);
        let once = read("@at 1970-01-01T00:00:05Z", None).expect("a pattern");
        assert_eq!(once.first(9, 9), Some(5_000_000_000));
        assert_eq!(once.after(5_000_000_000, 9), None);
    }

    #[test]
    fn the_next_time_is_told_in_its_zone() {
        let daily = read("@daily", Some("Asia/Kolkata")).expect("a pattern");
        let next = daily.after(0, 0).expect("again");
        assert_eq!(next.text, "1970-01-02T00:00:00+05:30");
        assert_eq!(next.time_ns, (18 * 3600 + 1800) * SECOND_NS);
        let utc = read("@hourly", None).expect("a pattern");
        assert_eq!(utc.after(0, 0).expect("again").text, "1970-01-01T01:00:00Z");
    }

    proptest! {
        #[test]
        fn hostile_patterns_never_panic(text in ".{0,40}", zone in proptest::option::of(".{0,12}"), now in any::<i64>()) {
            if let Ok(pattern) = read(&text, zone.as_deref()) {
                let _ = pattern.first(now, now);
            }
        }

        #[test]
        fn a_match_is_always_later(fields in "[0-9*/,?-]{1,4} [0-9*/,?-]{1,4} [0-9*/,?-]{1,4} [0-9*/,?-]{1,4} [0-9*/,?-]{1,4} [0-6*?]", now in 0_i64..4_000_000_000) {
            if let Ok(pattern) = read(&fields, Some("America/New_York")) {
                let now_ns = now * SECOND_NS;
                if let Some(due) = pattern.after(now_ns, now_ns) {
                    prop_assert!(due.time_ns > now_ns);
                }
            }
        }
    }
}
