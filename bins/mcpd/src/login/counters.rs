//! The counters of login attempts in this process, and the changes that are not in the store yet. Bounded in bytes; no
//! I/O.
//!
//! A counter is a leaky bucket, stored as the time at which it is refilled (GCRA). Each attempt moves that time by `every`,
//! and an attempt is within the rate while that time is less than `burst` attempts away.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use mcpctl_store::{CounterChange, CounterKey};

use crate::config::Rate;

/// Maximum of counters, about 100 bytes each.
const MAX_COUNTERS: usize = 32_768;
/// How long a counter that was read from the store is fresh, in microseconds.
const FRESH_MICROS: i64 = 250_000;
/// A counter from the store is refilled at most this far from now, in microseconds.
const MAX_REFILL_MICROS: i64 = 24 * 3600 * 1_000_000;

/// The counters of this process. Times are microseconds since 1970, because replicas share them.
#[derive(Default)]
pub struct Counters {
    counters: HashMap<CounterKey, Counter>,
    /// Keys of the counters that have changes for the store; each key once.
    unsent: VecDeque<CounterKey>,
}

#[derive(Clone, Copy, Default)]
struct Counter {
    refilled_at: i64,
    read_at: i64,
    added: i64,
    reset: bool,
    unsent: bool,
    /// The change that is being written to the store.
    sending: Option<CounterChange>,
}

impl Counters {
    /// How long an attempt must wait to be within the rate.
    pub fn wait(&self, key: &CounterKey, rate: Rate, now: i64) -> Duration {
        let refilled_at = self.counters.get(key).map_or(0, |counter| counter.refilled_at);
        let allowed = micros(rate.every.0).saturating_mul(i64::from(rate.burst.saturating_sub(1)));
        let wait = refilled_at.saturating_sub(now).saturating_sub(allowed);
        Duration::from_micros(u64::try_from(wait).unwrap_or(0))
    }

    /// Counts an attempt.
    pub fn charge(&mut self, key: CounterKey, rate: Rate, now: i64) {
        let every = micros(rate.every.0);
        self.change(key, now, |counter| {
            counter.refilled_at = counter.refilled_at.max(now).saturating_add(every);
            counter.added = counter.added.saturating_add(every);
        });
    }

    /// Refunds an attempt.
    pub fn refund(&mut self, key: CounterKey, rate: Rate, now: i64) {
        let every = micros(rate.every.0);
        self.change(key, now, |counter| {
            counter.refilled_at = counter.refilled_at.saturating_sub(every);
            counter.added = counter.added.saturating_sub(every);
        });
    }

    /// Refunds all attempts.
    pub fn reset(&mut self, key: CounterKey, now: i64) {
        self.change(key, now, |counter| {
            counter.refilled_at = now;
            counter.added = 0;
            counter.reset = true;
        });
    }

    fn change(&mut self, key: CounterKey, now: i64, change: impl FnOnce(&mut Counter)) {
        self.make_room(now);
        let counter = self.counters.entry(key).or_default();
        change(counter);
        if !std::mem::replace(&mut counter.unsent, true) {
            self.unsent.push_back(key);
        }
    }

    /// Those of `keys` that must be read from the store before a decision.
    pub fn unread(&self, keys: &[CounterKey], now: i64) -> Vec<CounterKey> {
        let old = |key: &&CounterKey| self.counters.get(*key).is_none_or(|c| now - c.read_at > FRESH_MICROS);
        keys.iter().filter(old).copied().collect()
    }

    /// Merges counters that were read from the store. Those of `keys` that `found` does not list are full.
    pub fn read(&mut self, keys: &[CounterKey], found: &[(CounterKey, i64)], now: i64) {
        self.make_room(now);
        for key in keys {
            let stored = found.iter().find(|(other, _)| other == key).map_or(0, |(_, at)| *at);
            let counter = self.counters.entry(*key).or_default();
            let stored = stored.min(now.saturating_add(MAX_REFILL_MICROS));
            // A change of this process may not be in the store yet.
            let resetting = counter.reset || matches!(counter.sending, Some(CounterChange::Reset(_)));
            if !resetting {
                let changing = counter.unsent || counter.sending.is_some();
                counter.refilled_at = if changing { counter.refilled_at.max(stored) } else { stored };
            }
            counter.read_at = now;
        }
    }

    /// Whether a counter has changes for the store.
    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Takes at most `max` changes for the store.
    pub fn take_unsent(&mut self, max: usize) -> Vec<(CounterKey, CounterChange)> {
        let mut changes = Vec::new();
        while changes.len() < max
            && let Some(key) = self.unsent.pop_front()
        {
            if let Some(counter) = self.counters.get_mut(&key) {
                let added = std::mem::take(&mut counter.added);
                counter.unsent = false;
                let reset = std::mem::take(&mut counter.reset);
                let change = if reset { CounterChange::Reset(added) } else { CounterChange::Add(added) };
                counter.sending = Some(change);
                changes.push((key, change));
            }
        }
        changes
    }

    /// Merges the result of a write to the store.
    pub fn sent(&mut self, stored: &[(CounterKey, i64)], now: i64) {
        for (key, refilled_at) in stored {
            let Some(counter) = self.counters.get_mut(key) else { continue };
            counter.sending = None;
            if !counter.reset {
                counter.refilled_at =
                    refilled_at.saturating_add(counter.added).min(now.saturating_add(MAX_REFILL_MICROS));
                counter.read_at = now;
            }
        }
    }

    /// Keeps changes for the next write, after a write failed.
    pub fn not_sent(&mut self, changes: Vec<(CounterKey, CounterChange)>) {
        for (key, change) in changes {
            let Some(counter) = self.counters.get_mut(&key) else { continue };
            counter.sending = None;
            let (added, reset) = match change {
                CounterChange::Add(added) => (added, false),
                CounterChange::Reset(added) => (added, true),
            };
            if !counter.reset {
                counter.added = counter.added.saturating_add(added);
                counter.reset = reset;
            }
            if !std::mem::replace(&mut counter.unsent, true) {
                self.unsent.push_back(key);
            }
        }
    }

    /// Removes full counters, then those nearest to full, so that the fewest attempts are forgotten.
    fn make_room(&mut self, now: i64) {
        if self.counters.len() < MAX_COUNTERS {
            return;
        }
        self.counters.retain(|_, counter| counter.unsent || counter.refilled_at > now);
        if self.counters.len() >= MAX_COUNTERS / 4 * 3 {
            let mut moments: Vec<i64> = self.counters.values().map(|counter| counter.refilled_at).collect();
            let middle = moments.len() / 2;
            let (_, median, _) = moments.select_nth_unstable(middle);
            let median = *median;
            self.counters.retain(|_, counter| counter.refilled_at > median);
            let counters = &self.counters;
            self.unsent.retain(|key| counters.contains_key(key));
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate::new(5, 10);
    const SECOND: i64 = 1_000_000;
    const NOW: i64 = 1_800_000_000 * SECOND;

    fn seconds(counters: &Counters, key: CounterKey, now: i64) -> u64 {
        counters.wait(&key, RATE, now).as_secs()
    }

    #[test]
    fn attempts_run_out_and_refill() {
        let (mut counters, key) = (Counters::default(), [1; 16]);
        for _ in 0..5 {
            assert_eq!(seconds(&counters, key, NOW), 0);
            counters.charge(key, RATE, NOW);
        }
        assert_eq!(seconds(&counters, key, NOW), 10);
        assert_eq!(seconds(&counters, [2; 16], NOW), 0, "one counter does not touch another");
        assert_eq!(seconds(&counters, key, NOW + 10 * SECOND), 0);
        counters.charge(key, RATE, NOW + 10 * SECOND);
        assert_eq!(seconds(&counters, key, NOW + 10 * SECOND), 10);
        counters.refund(key, RATE, NOW + 10 * SECOND);
        assert_eq!(seconds(&counters, key, NOW + 10 * SECOND), 0);
        counters.reset(key, NOW);
        assert_eq!(seconds(&counters, key, NOW), 0);
    }

    #[test]
    fn sums_are_sent_and_the_result_counts() {
        let (mut counters, key) = (Counters::default(), [1; 16]);
        assert_eq!(counters.unread(&[key], NOW), [key]);
        counters.read(&[key], &[], NOW);
        assert!(counters.unread(&[key], NOW).is_empty());
        counters.charge(key, RATE, NOW);
        counters.charge(key, RATE, NOW);
        let changes = counters.take_unsent(10);
        assert_eq!(changes, [(key, CounterChange::Add(20 * SECOND))]);
        assert!(counters.take_unsent(10).is_empty());
        // Another replica counted four, and this one counts one more before the answer is here.
        counters.charge(key, RATE, NOW);
        counters.sent(&[(key, NOW + 60 * SECOND)], NOW);
        assert_eq!(seconds(&counters, key, NOW), 30);
        assert_eq!(counters.take_unsent(10), [(key, CounterChange::Add(10 * SECOND))]);
    }

    #[test]
    fn a_read_does_not_undo_a_reset_in_flight() {
        let (mut counters, key) = (Counters::default(), [1; 16]);
        counters.charge(key, RATE, NOW);
        counters.reset(key, NOW);
        let stored = [(key, NOW + 500 * SECOND)];
        counters.read(&[key], &stored, NOW);
        assert_eq!(seconds(&counters, key, NOW), 0, "before it is sent");
        let _ = counters.take_unsent(10);
        counters.read(&[key], &stored, NOW);
        assert_eq!(seconds(&counters, key, NOW), 0, "while it is sent");
        counters.sent(&[(key, NOW)], NOW);
        counters.read(&[key], &stored, NOW);
        assert_eq!(seconds(&counters, key, NOW), 460, "another replica counted since");
    }

    #[test]
    fn changes_of_a_failed_write_are_sent_again() {
        let (mut counters, key) = (Counters::default(), [1; 16]);
        counters.charge(key, RATE, NOW);
        let changes = counters.take_unsent(10);
        counters.charge(key, RATE, NOW);
        counters.not_sent(changes);
        assert_eq!(counters.take_unsent(10), [(key, CounterChange::Add(20 * SECOND))]);
        counters.reset(key, NOW);
        assert_eq!(counters.take_unsent(10), [(key, CounterChange::Reset(0))]);
    }

    #[test]
    fn a_broken_clock_locks_out_for_a_day_at_most() {
        let mut counters = Counters::default();
        counters.read(&[[1; 16]], &[([1; 16], i64::MAX)], NOW);
        assert!(seconds(&counters, [1; 16], NOW) <= 24 * 3600);
    }

    #[test]
    fn the_table_is_bounded_and_keeps_the_busiest() {
        let mut counters = Counters::default();
        for _ in 0..10 {
            counters.charge([0xff; 16], RATE, NOW);
        }
        for number in 0..200_000_u64 {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&number.to_le_bytes());
            let now = NOW + i64::try_from(number).unwrap();
            counters.charge(key, RATE, now);
            if number % 3 == 0 {
                counters.take_unsent(3);
            }
        }
        assert!(counters.counters.len() <= MAX_COUNTERS && counters.unsent.len() <= MAX_COUNTERS);
        assert!(seconds(&counters, [0xff; 16], NOW + SECOND) > 0, "the guesser was forgotten");
    }
}
