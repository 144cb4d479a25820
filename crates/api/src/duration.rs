//! Lengths of time as people write them: `250ms`, `30s`, `5m`, `12h`, `30d`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A length of time in configuration and documents.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "30s")]
pub struct HumanDuration(pub Duration);

/// A text that is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotADuration {
    /// It does not read as one.
    #[error("`{0}` is not a length of time; write e.g. `250ms`, `30s`, `5m`, `12h` or `30d`")]
    Unreadable(String),
    /// A number alone.
    #[error("`{0}` has no unit; write e.g. `{0}s` or `{0}m`")]
    WithoutUnit(String),
    /// It is longer than [`HumanDuration::MAX`].
    #[error("`{0}` is longer than {max}, the longest length of time", max = HumanDuration::MAX)]
    TooLong(String),
}

impl HumanDuration {
    /// Ten years: a longer one is more likely a mistake than intended, and clocks overflow. A field may have a lower bound.
    pub const MAX: Self = Self::from_secs(3_650 * 24 * 60 * 60);

    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// As people write it: its largest unit and the next smaller one, rounded down, e.g. `40d` of 40 days and a second.
    #[must_use]
    pub fn in_two_units(self) -> Self {
        let seconds = self.0.as_secs();
        let kept = smaller_unit(seconds);
        Self(Duration::from_secs(seconds / kept * kept))
    }

    /// As [`HumanDuration::in_two_units`], rounded to the nearest: what is left of 30 days a moment after their beginning is `30d`.
    #[must_use]
    pub fn nearest_two_units(self) -> Self {
        let seconds = self.0.as_secs();
        let kept = smaller_unit(seconds);
        Self(Duration::from_secs(seconds.saturating_add(kept / 2) / kept * kept))
    }

    /// Whether it is no time at all.
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The unit below the largest one of so many seconds, in seconds.
fn smaller_unit(seconds: u64) -> u64 {
    let units = || UNITS.iter().map(|(_, factor)| (factor / 1000).max(1));
    let largest = units().position(|unit| seconds >= unit).unwrap_or_default();
    units().nth(largest + 1).unwrap_or(1)
}

impl FromStr for HumanDuration {
    type Err = NotADuration;

    fn from_str(text: &str) -> Result<Self, NotADuration> {
        // The quotation is bounded, because the text may come from a caller.
        let quoted = || text.chars().take(32).collect();
        let bad = || NotADuration::Unreadable(quoted());
        let too_long = || NotADuration::TooLong(quoted());
        let (mut rest, mut milliseconds) = (text.trim(), 0_u64);
        if rest.is_empty() {
            return Err(bad());
        }
        if rest.bytes().all(|b| b.is_ascii_digit()) {
            // No time at all needs no unit.
            let is_zero = rest.bytes().all(|b| b == b'0');
            return if is_zero { Ok(Self::from_secs(0)) } else { Err(NotADuration::WithoutUnit(quoted())) };
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
            let (number, tail) = rest.split_at(digits);
            let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, next) = tail.split_at(letters);
            let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
            if number.is_empty() {
                return Err(bad());
            }
            // Digits alone fail to parse when they are too many.
            let number: u64 = number.parse().map_err(|_| too_long())?;
            let part = number.checked_mul(*factor).ok_or_else(too_long)?;
            milliseconds = milliseconds.checked_add(part).ok_or_else(too_long)?;
            rest = next;
        }
        let duration = Self(Duration::from_millis(milliseconds));
        if duration > Self::MAX { Err(too_long()) } else { Ok(duration) }
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in UNITS {
            let count = rest / factor;
            rest %= factor;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for HumanDuration {
    type Error = NotADuration;

    fn try_from(text: String) -> Result<Self, NotADuration> {
        text.parse()
    }
}

impl From<HumanDuration> for String {
    fn from(duration: HumanDuration) -> Self {
        duration.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_add_up() {
        let parsed: HumanDuration = "1h30m".parse().unwrap();
        assert_eq!(parsed, HumanDuration::from_secs(5400));
        assert_eq!("250ms".parse::<HumanDuration>().unwrap().0, Duration::from_millis(250));
    }

    #[test]
    fn numbers_without_a_unit_and_overflows_are_refused() {
        for bad in ["", "5", "s", "5 m", "-1s", "1y", "99999999999999999999d", "1.5s"] {
            assert!(bad.parse::<HumanDuration>().is_err(), "{bad}");
        }
        let error = "90".parse::<HumanDuration>().unwrap_err();
        assert_eq!(error.to_string(), "`90` has no unit; write e.g. `90s` or `90m`");
        assert_eq!("0".parse::<HumanDuration>(), Ok(HumanDuration::from_secs(0)));
    }

    #[test]
    fn lengths_beyond_ten_years_are_refused() {
        assert_eq!("3650d".parse::<HumanDuration>(), Ok(HumanDuration::MAX));
        for text in ["3650d1ms", "200000000000s", "99999999999999999999d", "9000000000000000000ms"] {
            let error = text.parse::<HumanDuration>().unwrap_err();
            assert_eq!(error, NotADuration::TooLong(text.to_owned()));
            assert!(
                error.to_string().ends_with("is longer than 3650d, the longest length of time"),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(milliseconds in 0..u64::from(u32::MAX)) {
            let duration = HumanDuration(Duration::from_millis(milliseconds));
            prop_assert_eq!(duration.to_string().parse::<HumanDuration>().unwrap(), duration);
        }
    }
}
