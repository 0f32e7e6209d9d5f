//! Durations as people write them: `90s`, `2m`, `1h 30m`, `7d`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time, longer than zero; a day has 24 hours and a week seven days.
///
/// Written in jiff's friendly format (`90s`, `1h 30m`, `2 weeks`) or as ISO 8601 (`PT90S`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(Duration);

impl Period {
    /// For constants; `seconds` must not be zero.
    pub const fn from_secs(seconds: u64) -> Period {
        assert!(seconds > 0, "a period is longer than zero");
        Period(Duration::from_secs(seconds))
    }

    pub fn get(self) -> Duration {
        self.0
    }

    /// For arithmetic with [`jiff::Timestamp`].
    pub fn signed(self) -> SignedDuration {
        SignedDuration::try_from(self.0).unwrap_or(SignedDuration::MAX)
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Duration {
        period.0
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.signed())
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Period, String> {
        let duration =
            Duration::try_from(parse(text)?).map_err(|_| format!("`{text}` is less than zero"))?;
        if duration.is_zero() {
            return Err(format!("`{text}` is zero; a duration is longer than that"));
        }
        Ok(Period(duration))
    }
}

/// A duration that may also be zero or negative: the distance of two times.
pub fn parse(text: &str) -> Result<SignedDuration, String> {
    text.trim()
        .parse::<Span>()
        .and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()))
        .map_err(|_| format!("`{text}` is no duration; write one as 90s, 2m, 1h 30m or 7d"))
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_durations_in_many_ways() {
        for (text, seconds) in [
            ("90s", 90),
            ("2m", 120),
            ("1h 30m", 5400),
            ("7d", 604_800),
            ("2 weeks", 1_209_600),
            ("PT90S", 90),
        ] {
            let period: Period = text.parse().unwrap();
            assert_eq!(period.get().as_secs(), seconds, "{text}");
            assert_eq!(period.to_string().parse(), Ok(period), "{text}");
        }
        for text in ["", "5", "0s", "-2m", "1 month", "soon", "10e9y"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }
}
