//! How long mcpd accepts requests after a signal to end: the key `drainDelay`, and its flag.

use std::{str::FromStr, time::Duration};

use mcpctl_api::HumanDuration;
use serde::Deserialize;

const MAX: Duration = Duration::from_secs(5 * 60);

/// The time in which load balancers notice that `/readyz` is 503, from nothing to 5 minutes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "HumanDuration")]
pub struct DrainDelay(pub Duration);

impl TryFrom<HumanDuration> for DrainDelay {
    type Error = String;

    fn try_from(duration: HumanDuration) -> Result<Self, String> {
        if duration.0 > MAX {
            return Err(format!("`{duration}` is longer than {}", HumanDuration(MAX)));
        }
        Ok(Self(duration.0))
    }
}

impl FromStr for DrainDelay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<HumanDuration>().map_err(|error| error.to_string())?.try_into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_is_bounded() {
        assert_eq!("10s".parse(), Ok(DrainDelay(Duration::from_secs(10))));
        assert_eq!("0s".parse(), Ok(DrainDelay::default()));
        assert_eq!("6m".parse::<DrainDelay>(), Err("`6m` is longer than 5m".to_owned()));
        assert!("soon".parse::<DrainDelay>().is_err());
    }
}
