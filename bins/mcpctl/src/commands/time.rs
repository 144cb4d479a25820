//! Points in time on the command line.

use jiff::{SignedDuration, Timestamp};
use mcpctl_api::HumanDuration;

/// A time of RFC 3339, or how long ago, e.g. `2h`.
pub fn point_in_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(HumanDuration(ago)) = text.parse() {
        let ago = SignedDuration::try_from(ago).map_err(|error| error.to_string())?;
        return Timestamp::now().checked_sub(ago).map_err(|error| error.to_string());
    }
    text.parse().map_err(|_| "a time is e.g. `2026-11-26T14:00:00Z`, or `2h` for two hours ago".to_owned())
}
