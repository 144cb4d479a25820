//! Amounts of money as people write them, `50` or `0.075`, kept in whole nano-dollars: no sum is ever rounded by a float.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use utoipa::ToSchema;

/// An amount in US dollars, in steps of 10⁻⁹ dollars.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(value_type = f64, example = 2.5)]
pub struct Usd(u64);

/// A text or number that is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount; write e.g. `50` or `0.075`, with at most nine decimals and at most {max}", max = Usd::MAX)]
pub struct NotAnAmount(String);

impl Usd {
    /// No money.
    pub const ZERO: Self = Self(0);
    /// The highest amount: up to 2²² a float distinguishes numbers of nine decimals, and JSON readers take them for floats.
    pub const MAX: Self = Self(4_000_000 * Self::PER_DOLLAR);
    const PER_DOLLAR: u64 = 1_000_000_000;
    const DECIMALS: usize = 9;

    /// So many nano-dollars.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// In nano-dollars.
    pub const fn nanos(self) -> u64 {
        self.0
    }
}

impl FromStr for Usd {
    type Err = NotAnAmount;

    fn from_str(text: &str) -> Result<Self, NotAnAmount> {
        // The quotation is bounded, because the text may come from a caller.
        let bad = || NotAnAmount(text.chars().take(32).collect());
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(decimals) || decimals.len() > Self::DECIMALS {
            return Err(bad());
        }
        let dollars: u64 = whole.parse().map_err(|_| bad())?;
        let fraction: u64 =
            format!("{decimals:0<width$}", width = Self::DECIMALS).parse().map_err(|_| bad())?;
        let nanos = dollars.checked_mul(Self::PER_DOLLAR).and_then(|nanos| nanos.checked_add(fraction));
        nanos.map(Self::from_nanos).filter(|amount| *amount <= Self::MAX).ok_or_else(bad)
    }
}

/// The shortest decimal number, e.g. `2.5`.
impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dollars, fraction) = (self.0 / Self::PER_DOLLAR, self.0 % Self::PER_DOLLAR);
        if fraction == 0 {
            return write!(f, "{dollars}");
        }
        let decimals = format!("{fraction:09}");
        write!(f, "{dollars}.{}", decimals.trim_end_matches('0'))
    }
}

impl fmt::Debug for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${self}")
    }
}

/// A number, so that documents read as people write them.
impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(Self::PER_DOLLAR) {
            return serializer.serialize_u64(self.0 / Self::PER_DOLLAR);
        }
        serializer.serialize_f64(self.to_string().parse().map_err(serde::ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = Usd;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount such as 50 or 0.075")
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Usd, E> {
                number.to_string().parse().map_err(E::custom)
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Usd, E> {
                number.to_string().parse().map_err(E::custom)
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Usd, E> {
                // The shortest text that reads back as this number: what was written, as long as it fits.
                number.to_string().parse().map_err(E::custom)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Usd, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_read_as_written() {
        for (text, nanos) in [
            ("50", 50_000_000_000),
            ("0.075", 75_000_000),
            ("0.000000001", 1),
            ("2.50", 2_500_000_000),
            ("\"0.1\"", 100_000_000),
            ("0", 0),
        ] {
            let read: Usd = serde_json::from_str(text).unwrap();
            assert_eq!(read.nanos(), nanos, "{text}");
        }
        for bad in ["-1", "1e30", "4000001", "0.0000000001", "\"1.\"", "\".5\"", "\"\"", "\"1,5\"", "null"] {
            assert!(serde_json::from_str::<Usd>(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn amounts_are_written_and_read_without_loss(nanos in 0..=Usd::MAX.nanos()) {
            let amount = Usd::from_nanos(nanos);
            prop_assert_eq!(amount.to_string().parse::<Usd>().unwrap(), amount);
            let json = serde_json::to_string(&amount).unwrap();
            prop_assert_eq!(serde_json::from_str::<Usd>(&json).unwrap(), amount, "{}", json);
        }
    }
}
