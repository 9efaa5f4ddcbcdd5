//! Parts of the day in which a user may be connected.

use jiff::civil::Time;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan, ZonedDateTime};

use super::claims::{TimeRange, UserLimitClaims};

/// When the connection must end (nanoseconds since 1970), if it may begin at all now. `None` means
/// that the time of day does not matter.
///
/// Ranges without a place are in UTC. (The reference takes the zone of its machine, which would
/// make a token mean something else on each server.)
///
/// # Errors
/// The user may not be connected now, or a range cannot be read.
pub(super) fn end_of_stay(
    limits: &UserLimitClaims,
    now_wall_ns: i64,
) -> Result<Option<i64>, String> {
    if limits.times.is_empty() {
        return Ok(None);
    }
    let zone = match limits.times_location.as_str() {
        "" => TimeZone::UTC,
        name => TimeZoneDatabase::bundled()
            .get(name)
            .map_err(|_| format!("time zone {name:?} is not known"))?,
    };
    let now = Timestamp::from_nanosecond(i128::from(now_wall_ns))
        .map_err(|_| "the clock is out of range".to_owned())?
        .to_zoned_datetime(zone);
    for range in &limits.times {
        if let Some(end) = end_of(range, &now)? {
            return Ok(i64::try_from(end.timestamp().as_nanosecond()).ok());
        }
    }
    Err("the user may not be connected at this time of day".to_owned())
}

/// The end of the range that `now` lies in; a range may cross midnight.
fn end_of(range: &TimeRange, now: &ZonedDateTime) -> Result<Option<ZonedDateTime>, String> {
    let read = |text: &str| {
        Time::strptime("%H:%M:%S", text).map_err(|_| format!("{text:?} is no time of day"))
    };
    let (start, end) = (read(&range.start)?, read(&range.end)?);
    let at = now.time();
    let crosses = start > end;
    let days = match (crosses, at >= start, at < end) {
        (false, true, true) | (true, false, true) => 0,
        (true, true, _) => 1,
        _ => return Ok(None),
    };
    let date = now.date().checked_add(days.days());
    let end = date.and_then(|date| {
        date.to_datetime(end)
            .to_zoned_datetime(now.time_zone().clone())
    });
    end.map(Some)
        .map_err(|_| "the end of the range is out of range".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Ok(end)` of the stay at 1970-01-01 plus `now_s` seconds.
    fn stay(start: &str, end: &str, zone: &str, now_s: i64) -> Result<Option<i64>, String> {
        let limits = UserLimitClaims {
            times: vec![TimeRange {
                start: start.to_owned(),
                end: end.to_owned(),
            }],
            times_location: zone.to_owned(),
            ..UserLimitClaims::default()
        };
        let end = end_of_stay(&limits, now_s * 1_000_000_000)?;
        Ok(end.map(|end_ns| end_ns / 1_000_000_000))
    }

    #[test]
    fn the_stay_ends_with_the_range_also_past_midnight() {
        const HOUR: i64 = 3600;
        let (eight, ten) = ("08:00:00", "10:00:00");
        assert_eq!(stay(eight, ten, "", 9 * HOUR), Ok(Some(10 * HOUR)));
        assert!(stay(eight, ten, "", 10 * HOUR).is_err());
        assert!(stay(eight, ten, "", 7 * HOUR).is_err());
        assert_eq!(stay(ten, eight, "", 23 * HOUR), Ok(Some(32 * HOUR)));
        assert_eq!(stay(ten, eight, "", HOUR), Ok(Some(8 * HOUR)));
        assert!(stay(ten, eight, "", 9 * HOUR).is_err());
        // In New York it is five hours earlier.
        let zone = "America/New_York";
        assert_eq!(stay(eight, ten, zone, 14 * HOUR), Ok(Some(15 * HOUR)));
        assert!(stay(eight, ten, zone, 9 * HOUR).is_err());
        assert!(stay(eight, ten, "Nowhere/Never", 9 * HOUR).is_err());
        assert!(stay("8", ten, "", 9 * HOUR).is_err());
    }

    #[test]
    fn without_ranges_any_time_is_fine() {
        assert_eq!(end_of_stay(&UserLimitClaims::default(), 0), Ok(None));
    }
}
