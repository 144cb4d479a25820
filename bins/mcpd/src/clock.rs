//! The current time, as resources and records show it.

use jiff::Timestamp;

/// The current time in whole milliseconds, because people read it.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}
