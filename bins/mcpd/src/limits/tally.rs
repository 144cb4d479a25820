//! What one counter of a Limit has counted, by slots of time. Pure: the clock and the store are the caller's.
//!
//! A window is cut into slots, and a slot counts until its end is a whole window ago. So no stretch of the window's length ever
//! holds more than the maximum, and an amount is free again at most a slot later than it could be. A period is one slot.

use jiff::{Timestamp, ToSpan as _, civil::Weekday, tz::TimeZone};
use mcpctl_api::spec::{Period, Span};

/// Slots of a window: its amounts are freed in steps of a thirtieth.
const SLOTS: i64 = 30;
/// Maximum of slots that a state holds: those of a window, and some of a clock that ran ahead. More is no state of mcpd.
const MAX_SLOTS: usize = 128;

/// Milliseconds since 1970.
pub type Millis = i64;

/// The amounts of a counter by the beginning of their slot, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    slots: Vec<(Millis, u64)>,
}

/// The slot of this time.
pub fn slot_of(span: Span, now: Millis) -> Millis {
    match span {
        Span::Window(window) => now - now.rem_euclid(slot_length(window.0.as_millis())),
        Span::Period(period) => bounds(period, now).0,
    }
}

/// The time from which a slot no longer counts.
pub fn counts_until(span: Span, slot: Millis) -> Millis {
    match span {
        Span::Window(window) => {
            let window = window.0.as_millis();
            slot.saturating_add(slot_length(window)).saturating_add(clamped(window))
        }
        Span::Period(period) => bounds(period, slot).1,
    }
}

fn clamped(millis: u128) -> Millis {
    Millis::try_from(millis).unwrap_or(Millis::MAX)
}

fn slot_length(window: u128) -> Millis {
    clamped(window).div_euclid(SLOTS).max(1)
}

/// Beginning and end of the calendar period of this time, in UTC.
fn bounds(period: Period, now: Millis) -> (Millis, Millis) {
    let calendar = || -> Result<(Millis, Millis), jiff::Error> {
        let today = TimeZone::UTC.to_datetime(Timestamp::from_millisecond(now)?).date();
        let (first, next) = match period {
            Period::Day => (today, today.tomorrow()?),
            Period::Week => {
                let monday = today.tomorrow()?.nth_weekday(-1, Weekday::Monday)?;
                (monday, monday.checked_add(1.week())?)
            }
            Period::Month => {
                let first = today.first_of_month();
                (first, first.checked_add(1.month())?)
            }
        };
        let millis = |date: jiff::civil::Date| {
            Ok::<_, jiff::Error>(TimeZone::UTC.to_timestamp(date.into())?.as_millisecond())
        };
        Ok((millis(first)?, millis(next)?))
    };
    // Beyond the years of a calendar nothing is ever free again.
    calendar().unwrap_or((now, Millis::MAX))
}

impl Tally {
    /// Reads the text that [`Self::to_text`] writes; `None` for another text.
    pub fn parse(text: &str) -> Option<Self> {
        let mut slots = Vec::new();
        for entry in text.split(' ').filter(|entry| !entry.is_empty()).take(MAX_SLOTS + 1) {
            let (slot, amount) = entry.split_once(':')?;
            let slot: Millis = slot.parse().ok()?;
            if slots.last().is_some_and(|(last, _)| *last >= slot) {
                return None;
            }
            slots.push((slot, amount.parse().ok()?));
        }
        (slots.len() <= MAX_SLOTS).then_some(Self { slots })
    }

    /// The state as the store keeps it.
    pub fn to_text(&self) -> String {
        self.slots.iter().map(|(slot, amount)| format!("{slot}:{amount}")).collect::<Vec<_>>().join(" ")
    }

    /// The amount that counts now.
    pub fn used(&self, span: Span, now: Millis) -> u64 {
        let counting = self.slots.iter().filter(|(slot, _)| counts_until(span, *slot) > now);
        counting.fold(0, |sum, (_, amount)| sum.saturating_add(*amount))
    }

    /// Adds an amount now, and returns its slot.
    pub fn add(&mut self, span: Span, now: Millis, amount: u64) -> Millis {
        self.slots.retain(|(slot, _)| counts_until(span, *slot) > now);
        let slot = slot_of(span, now);
        match self.slots.binary_search_by_key(&slot, |(slot, _)| *slot) {
            Ok(at) => {
                if let Some((_, sum)) = self.slots.get_mut(at) {
                    *sum = sum.saturating_add(amount);
                }
            }
            Err(at) => self.slots.insert(at, (slot, amount)),
        }
        slot
    }

    /// Corrects an amount that was added to a slot. A slot that is gone counts no longer, and stays gone.
    pub fn correct(&mut self, slot: Millis, by: i64) {
        if let Ok(at) = self.slots.binary_search_by_key(&slot, |(slot, _)| *slot)
            && let Some((_, sum)) = self.slots.get_mut(at)
        {
            *sum = sum.saturating_add_signed(by);
        }
    }

    /// When so much of what counts now is free again; `None` if so much does not count.
    pub fn freed_at(&self, span: Span, now: Millis, amount: u64) -> Option<Millis> {
        let mut left = amount;
        for (slot, sum) in &self.slots {
            let until = counts_until(span, *slot);
            if until > now {
                left = left.saturating_sub(*sum);
                if left == 0 {
                    return Some(until);
                }
            }
        }
        None
    }

    /// When nothing counts any more.
    pub fn cleared_at(&self, span: Span, now: Millis) -> Millis {
        self.slots.last().map_or(now, |(slot, _)| counts_until(span, *slot).max(now))
    }
}

#[cfg(test)]
mod tests {
    use mcpctl_api::HumanDuration;
    use proptest::prelude::*;

    use super::*;

    const DAY: Millis = 86_400_000;
    /// Thursday, 26 November 2026, 10:00 UTC.
    const NOW: Millis = 1_795_687_200_000;

    fn window(seconds: u64) -> Span {
        Span::Window(HumanDuration::from_secs(seconds))
    }

    fn show(at: Millis) -> String {
        Timestamp::from_millisecond(at).unwrap().to_string()
    }

    #[test]
    fn periods_are_those_of_the_calendar_in_utc() {
        for (period, from, until) in [
            (Period::Day, "2026-11-26T00:00:00Z", "2026-11-27T00:00:00Z"),
            (Period::Week, "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
            (Period::Month, "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
        ] {
            let span = Span::Period(period);
            let slot = slot_of(span, NOW);
            assert_eq!((show(slot).as_str(), show(counts_until(span, slot)).as_str()), (from, until));
            assert_eq!(slot_of(span, slot), slot, "the first moment of a {span} belongs to it");
        }
    }

    #[test]
    fn a_budget_is_free_again_with_the_next_period() {
        let (mut tally, span) = (Tally::default(), Span::Period(Period::Day));
        tally.add(span, NOW, 7);
        assert_eq!((tally.used(span, NOW + DAY / 2), tally.used(span, NOW + DAY)), (7, 0));
        assert_eq!(show(tally.freed_at(span, NOW, 1).unwrap()), "2026-11-27T00:00:00Z");
        assert_eq!(tally.freed_at(span, NOW, 8), None);
    }

    #[test]
    fn corrections_reach_their_slot_alone() {
        let (mut tally, span) = (Tally::default(), window(60));
        let early = tally.add(span, NOW, 10);
        let late = tally.add(span, NOW + 30_000, 10);
        tally.correct(early, -8);
        tally.correct(late, 5);
        tally.correct(late + 1, 99);
        assert_eq!(tally.used(span, NOW + 30_000), 17);
        assert_eq!(tally.used(span, NOW + 63_000), 15, "the early slot is gone");
        tally.correct(early, -100);
        assert_eq!(tally.used(span, NOW + 63_000), 15);
    }

    #[test]
    fn a_foreign_state_is_not_read() {
        for text in ["x", "1:", "1:2:3", "2:1 1:1", "1:1 1:1", "1:-1"] {
            assert_eq!(Tally::parse(text), None, "{text}");
        }
        let many: Vec<String> = (0..=MAX_SLOTS).map(|slot| format!("{slot}:1")).collect();
        assert_eq!(Tally::parse(&many.join(" ")), None);
        assert_eq!(Tally::parse(""), Some(Tally::default()));
    }

    proptest! {
        /// Compared with a list of all amounts and their times.
        #[test]
        fn no_stretch_of_a_window_holds_more_than_was_allowed(
            seconds in 1_u64..100, max in 1_u64..50,
            steps in prop::collection::vec((0_i64..5_000, 1_u64..20), 1..80),
        ) {
            let (span, length) = (window(seconds), i64::try_from(seconds).unwrap() * 1000);
            let (mut tally, mut now, mut admitted) = (Tally::default(), NOW, Vec::new());
            for (wait, amount) in steps {
                now += wait;
                if tally.used(span, now) + amount > max {
                    let needed = (tally.used(span, now) + amount).saturating_sub(max);
                    if let Some(at) = tally.freed_at(span, now, needed) {
                        prop_assert!(tally.used(span, at) + amount <= max, "it fits when it is free");
                        prop_assert!(tally.used(span, at - 1) + amount > max, "and not before");
                    }
                    continue;
                }
                tally.add(span, now, amount);
                admitted.push((now, amount));
                tally = Tally::parse(&tally.to_text()).unwrap();
                let last: u64 = admitted.iter().filter(|(at, _)| *at > now - length).map(|(_, a)| a).sum();
                prop_assert!(last <= max, "{last} within {seconds} s");
                let later = now + length + slot_length(u128::from(seconds) * 1000);
                prop_assert_eq!(tally.used(span, later), 0, "nothing counts for longer");
            }
        }
    }
}
