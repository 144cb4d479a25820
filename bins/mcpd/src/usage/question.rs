//! What is asked about usage, and which hours and days that is.

use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, Time},
    tz::TimeZone,
};
use mcpctl_api::usage::UsageBy;
use mcpctl_store::{StoreError, UsageAccount, UsageTime};

/// Seconds of an hour.
const HOUR: i64 = 3600;
/// Maximum of hours that are shown by the days of a zone: ten years.
const MAX_HOURS_OF_DAYS: i64 = 10 * 366 * 24;
/// Days are counted from this one.
const FIRST_DAY: Date = Date::constant(1970, 1, 1);

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// From the hour of this time on.
    pub since: Timestamp,
    /// Up to the end of the hour before this time, or of the one that it is in.
    pub until: Timestamp,
    /// What the sums are grouped by.
    pub by: Vec<UsageBy>,
    /// The zone whose days are meant.
    pub zone: TimeZone,
    /// Whose usage.
    pub account: Option<UsageAccount>,
    /// An Llm's name or id.
    pub llm: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// The end is not after the beginning.
    #[error("`until` is not after `since`")]
    Empty,
    /// More days than there is usage of.
    #[error("usage by day is shown of ten years at most")]
    TooManyDays,
    /// More parts than an answer may have.
    #[error("the answer has more than {0} rows")]
    TooManyParts(usize),
    /// Too much to add up.
    #[error("adding up the usage takes too long")]
    TooLong,
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Hours of one length of days: in a zone, those between two changes of its clocks.
pub(super) struct Stretch {
    pub(super) since: i64,
    pub(super) until: i64,
    pub(super) time: Option<UsageTime>,
}

impl Question {
    /// The hours that the question is about: the first one, and the one after the last.
    pub(super) fn hours(&self) -> Result<(i64, i64), UsageError> {
        let first = self.since.as_second().div_euclid(HOUR);
        // An hour that has begun is in it.
        let end = self.until.as_second().div_euclid(HOUR)
            + i64::from(self.until.as_nanosecond() % (i128::from(HOUR) * 1_000_000_000) != 0);
        if end <= first { Err(UsageError::Empty) } else { Ok((first, end)) }
    }

    /// The hours in order, divided where the zone changes its offset if days are asked for.
    pub(super) fn stretches(&self) -> Result<Vec<Stretch>, UsageError> {
        let (since, until) = self.hours()?;
        if !self.by.contains(&UsageBy::Day) {
            let time = self.by.contains(&UsageBy::Hour).then_some(UsageTime::Hour);
            return Ok(vec![Stretch { since, until, time }]);
        }
        if until - since > MAX_HOURS_OF_DAYS {
            return Err(UsageError::TooManyDays);
        }
        let mut stretches = Vec::new();
        let mut from = since;
        let mut add = |until: i64, at: Timestamp| {
            let time = Some(UsageTime::Day { offset: self.zone.to_offset(at).seconds() });
            stretches.push(Stretch { since: from, until, time });
            from = until;
        };
        let mut offset_since = hour(since);
        for change in self.zone.following(hour(since)) {
            // Clocks change within an hour of UTC where the offset has half an hour: it counts by the offset that it begins with.
            let at = change.timestamp().as_second();
            let first = at.div_euclid(HOUR) + i64::from(at.rem_euclid(HOUR) != 0);
            if first >= until {
                break;
            }
            add(first, offset_since);
            offset_since = change.timestamp();
        }
        add(until, offset_since);
        Ok(stretches)
    }

    /// When a day begins, in days since 1970.
    pub(super) fn day(&self, number: i64) -> Timestamp {
        let days = i64::from(i32::try_from(number).unwrap_or(i32::MAX));
        let date = FIRST_DAY.checked_add(SignedDuration::from_hours(24 * days)).ok();
        let begin = date.and_then(|date| self.zone.to_timestamp(date.to_datetime(Time::midnight())).ok());
        begin.unwrap_or(Timestamp::MAX)
    }
}

/// When an hour begins, in hours since 1970.
pub(super) fn hour(number: i64) -> Timestamp {
    Timestamp::from_second(number.saturating_mul(HOUR)).unwrap_or(Timestamp::MAX)
}

/// The number of the hour before which sums are removed, of those that are kept for so long.
///
/// # Errors
/// When the time is before the first one that there is.
pub fn first_kept_hour(now: Timestamp, retention: SignedDuration) -> Result<i64, jiff::Error> {
    Ok(now.checked_sub(retention)?.as_second().div_euclid(HOUR))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(zone: &str, since: &str, until: &str) -> Question {
        let zone = TimeZone::get(zone).unwrap();
        let [since, until] = [since, until].map(|time| time.parse().unwrap());
        Question { since, until, by: vec![UsageBy::Day], zone, account: None, llm: None }
    }

    fn stretches(question: &Question) -> Vec<(String, String, i32)> {
        let shown = |Stretch { since, until, time }| {
            let Some(UsageTime::Day { offset }) = time else { panic!("{time:?}") };
            (hour(since).to_string(), hour(until).to_string(), offset)
        };
        question.stretches().unwrap().into_iter().map(shown).collect()
    }

    #[test]
    fn days_follow_the_clocks_of_their_zone() {
        let berlin = question("Europe/Berlin", "2026-10-24T22:00:00Z", "2026-10-26T23:00:00Z");
        let text = |text: &str| text.to_owned();
        assert_eq!(
            stretches(&berlin),
            [
                (text("2026-10-24T22:00:00Z"), text("2026-10-25T01:00:00Z"), 7200),
                (text("2026-10-25T01:00:00Z"), text("2026-10-26T23:00:00Z"), 3600),
            ]
        );
        let sunday = hour(0).duration_until(berlin.since).as_hours() / 24 + 1;
        assert_eq!(berlin.day(sunday).to_string(), "2026-10-24T22:00:00Z");
        assert_eq!(berlin.day(sunday + 1).to_string(), "2026-10-25T23:00:00Z");
        let utc = question("UTC", "2026-10-24T22:00:00Z", "2026-10-26T23:00:00Z");
        assert_eq!(stretches(&utc).len(), 1);
        assert_eq!(utc.day(sunday).to_string(), "2026-10-25T00:00:00Z");
        // Its clocks change by half an hour.
        let howe = question("Australia/Lord_Howe", "2026-04-04T00:00:00Z", "2026-04-05T00:00:00Z");
        assert_eq!(
            stretches(&howe),
            [
                (text("2026-04-04T00:00:00Z"), text("2026-04-04T15:00:00Z"), 39_600),
                (text("2026-04-04T15:00:00Z"), text("2026-04-05T00:00:00Z"), 37_800),
            ]
        );
    }

    #[test]
    fn days_are_of_a_bounded_time() {
        let ages = question("UTC", "1970-01-01T00:00:00Z", "9999-01-01T00:00:00Z");
        assert!(matches!(ages.stretches(), Err(UsageError::TooManyDays)));
        let whole = Question { by: Vec::new(), ..ages };
        assert_eq!(whole.stretches().unwrap().len(), 1);
    }
}
