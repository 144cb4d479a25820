//! Times on the command line, in the time zone of the one who types: that of the system, or of the environment variable `TZ`.

use jiff::{
    SignedDuration, Timestamp, ZonedDateTime, civil::Date, fmt::temporal::DateTimePrinter, tz::TimeZone,
};
use mcpctl_api::{HumanDuration, duration::NotADuration};

/// A time of RFC 3339, a day (its beginning), `today`, `yesterday`, or how long ago, e.g. `2h`.
pub fn point_in_time(text: &str) -> Result<Timestamp, String> {
    parse(text, &ZonedDateTime::now())
}

/// A time as it is shown to people.
pub fn local(at: Timestamp) -> ZonedDateTime {
    at.to_zoned_datetime(TimeZone::system())
}

/// The name of the zone that is meant where none is named.
pub const UTC: &str = "UTC";

/// The zone as mcpd reads it and as people know it, e.g. `Europe/Berlin`; UTC where the system does not know it.
pub fn zone_name(zone: &TimeZone) -> String {
    if zone.is_unknown() || zone.iana_name() == Some("Etc/UTC") {
        return UTC.to_owned();
    }
    DateTimePrinter::new().time_zone_to_string(zone).unwrap_or_else(|_| UTC.to_owned())
}

fn parse(text: &str, now: &ZonedDateTime) -> Result<Timestamp, String> {
    match text.parse() {
        Ok(HumanDuration(ago)) => {
            let ago = SignedDuration::try_from(ago).map_err(|error| error.to_string())?;
            return now.timestamp().checked_sub(ago).map_err(|error| error.to_string());
        }
        Err(NotADuration::Unreadable(_)) => {}
        Err(error @ (NotADuration::WithoutUnit(_) | NotADuration::TooLong(_))) => {
            return Err(error.to_string());
        }
    }
    let day = match text {
        "now" => return Ok(now.timestamp()),
        "today" => Some(now.date()),
        "yesterday" => now.date().yesterday().ok(),
        // A text with a time is read below.
        _ if text.len() == "2026-11-26".len() => text.parse::<Date>().ok(),
        _ => None,
    };
    let begin =
        |day: Date| day.to_zoned_datetime(now.time_zone().clone()).ok().map(|begin| begin.timestamp());
    day.and_then(begin).or_else(|| text.parse().ok()).ok_or_else(|| {
        "a time is e.g. `yesterday`, `2026-11-26`, `2026-11-26T14:00:00Z`, or `2h` for two hours ago"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_begin_at_midnight_where_one_is() {
        let now: Timestamp = "2026-11-27T03:30:00Z".parse().unwrap();
        let utc = now.to_zoned_datetime(TimeZone::UTC);
        for (text, expected) in [
            ("today", "2026-11-27T00:00:00Z"),
            ("yesterday", "2026-11-26T00:00:00Z"),
            ("2026-11-01", "2026-11-01T00:00:00Z"),
            ("2h", "2026-11-27T01:30:00Z"),
            ("2026-11-26T14:00:00+02:00", "2026-11-26T12:00:00Z"),
            ("now", "2026-11-27T03:30:00Z"),
        ] {
            assert_eq!(parse(text, &utc).unwrap().to_string(), expected, "{text}");
        }
        let new_york = now.to_zoned_datetime(TimeZone::get("America/New_York").unwrap());
        for (text, expected) in [
            ("today", "2026-11-26T05:00:00Z"),
            ("yesterday", "2026-11-25T05:00:00Z"),
            // Before the clocks changed.
            ("2026-11-01", "2026-11-01T04:00:00Z"),
        ] {
            assert_eq!(parse(text, &new_york).unwrap().to_string(), expected, "{text}");
        }
        for wrong in ["", "tomorrow", "2026-13-01", "11-26", "2026-11-26 14:00"] {
            assert!(parse(wrong, &utc).is_err(), "{wrong}");
        }
    }

    #[test]
    fn zone_has_the_name_that_mcpd_reads() {
        assert_eq!(zone_name(&TimeZone::get("Europe/Berlin").unwrap()), "Europe/Berlin");
        assert_eq!(zone_name(&TimeZone::UTC), "UTC");
        assert_eq!(zone_name(&TimeZone::fixed(jiff::tz::offset(-5))), "-05:00");
    }
}
