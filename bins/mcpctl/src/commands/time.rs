//! Points in time on the command line.

use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, Time},
    tz::Offset,
};
use mcpctl_api::HumanDuration;

/// A time of RFC 3339, a day (its beginning, UTC), `today`, `yesterday`, or how long ago, e.g. `2h`. Times are shown in UTC, so days
/// are meant so too.
pub fn point_in_time(text: &str) -> Result<Timestamp, String> {
    parse(text, Timestamp::now())
}

fn parse(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(HumanDuration(ago)) = text.parse() {
        let ago = SignedDuration::try_from(ago).map_err(|error| error.to_string())?;
        return now.checked_sub(ago).map_err(|error| error.to_string());
    }
    let today = Offset::UTC.to_datetime(now).date();
    let day = match text {
        "now" => return Ok(now),
        "today" => Some(today),
        "yesterday" => today.yesterday().ok(),
        // A text with a time is read below.
        _ if text.len() == "2026-11-26".len() => text.parse::<Date>().ok(),
        _ => None,
    };
    let begin = |day: Date| Offset::UTC.to_timestamp(day.to_datetime(Time::midnight())).ok();
    day.and_then(begin).or_else(|| text.parse().ok()).ok_or_else(|| {
        "a time is e.g. `yesterday`, `2026-11-26`, `2026-11-26T14:00:00Z`, or `2h` for two hours ago"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_begin_at_midnight_utc() {
        let now = "2026-11-27T08:30:00Z".parse().unwrap();
        for (text, expected) in [
            ("today", "2026-11-27T00:00:00Z"),
            ("yesterday", "2026-11-26T00:00:00Z"),
            ("2026-11-01", "2026-11-01T00:00:00Z"),
            ("2h", "2026-11-27T06:30:00Z"),
            ("2026-11-26T14:00:00+02:00", "2026-11-26T12:00:00Z"),
            ("now", "2026-11-27T08:30:00Z"),
        ] {
            assert_eq!(parse(text, now).unwrap().to_string(), expected, "{text}");
        }
        for wrong in ["", "tomorrow", "2026-13-01", "11-26", "2026-11-26 14:00"] {
            assert!(parse(wrong, now).is_err(), "{wrong}");
        }
    }
}
