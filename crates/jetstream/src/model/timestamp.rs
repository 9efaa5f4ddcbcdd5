//! Moments in JSON: RFC 3339 in UTC with nanoseconds, and the year 1 for "never".

use millrace_clock::rfc3339;
use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};

/// Nanoseconds since the Unix epoch, or [`Timestamp::ZERO`], which prints as the year 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// "Never": the zero time of the reference.
    pub const ZERO: Self = Self(i64::MIN);

    /// Whether it is the zero time.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// The text of RFC 3339 with as many digits as needed.
    #[must_use]
    pub fn to_text(self) -> String {
        rfc3339::format_or_zero((!self.is_zero()).then_some(self.0))
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        Self::ZERO
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let moment = rfc3339::parse(&text).map_err(D::Error::custom)?;
        Ok(moment.map_or(Self::ZERO, |ns| Self(ns.max(i64::MIN + 1))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zero_time_prints_as_the_year_one_and_comes_back() {
        assert_eq!(Timestamp::ZERO.to_text(), "0001-01-01T00:00:00Z");
        let zero: Timestamp = serde_json::from_str("\"0001-01-01T00:00:00Z\"").expect("a time");
        assert_eq!(zero, Timestamp::ZERO);
        let later: Timestamp =
            serde_json::from_str("\"2024-01-01T02:00:00.5+02:00\"").expect("a time");
        assert_eq!(later.to_text(), "2024-01-01T00:00:00.5Z");
    }
}
