//! Counters of attempts in this process: digests of what is counted, when each is refilled, and what the store does not
//! know yet. Bounded in bytes; without I/O.
//!
//! A counter is a leaky bucket kept as one moment (GCRA): each attempt moves the moment at which the counter is refilled
//! by `every`, and an attempt is in time while that moment is less than `burst` attempts away.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use mcpctl_store::{CounterChange, CounterKey};

use crate::config::Rate;

/// Counters held at once, some 100 bytes each.
const MAX_COUNTERS: usize = 32_768;
/// How long what the store said of a counter is good, microseconds.
const FRESH: i64 = 250_000;
/// No counter is refilled later than this from now, whatever the store says, microseconds.
const FARTHEST: i64 = 24 * 3600 * 1_000_000;

/// Moments are microseconds since 1970, because replicas share them.
#[derive(Default)]
pub struct Counters {
    counters: HashMap<CounterKey, Counter>,
    /// What the store does not know yet; each key once.
    unsent: VecDeque<CounterKey>,
}

#[derive(Clone, Copy, Default)]
struct Counter {
    refilled_at: i64,
    read_at: i64,
    added: i64,
    reset: bool,
    unsent: bool,
    /// What is on its way to the store.
    sending: Option<CounterChange>,
}

impl Counters {
    /// How long an attempt has to wait to be in time.
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

    /// Takes an attempt back.
    pub fn refund(&mut self, key: CounterKey, rate: Rate, now: i64) {
        let every = micros(rate.every.0);
        self.change(key, now, |counter| {
            counter.refilled_at = counter.refilled_at.saturating_sub(every);
            counter.added = counter.added.saturating_sub(every);
        });
    }

    /// Takes all attempts back.
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

    /// Which of these have to be read from the store before they count for anything.
    pub fn unread(&self, keys: &[CounterKey], now: i64) -> Vec<CounterKey> {
        let old = |key: &&CounterKey| self.counters.get(*key).is_none_or(|c| now - c.read_at > FRESH);
        keys.iter().filter(old).copied().collect()
    }

    /// Takes over what the store said of `keys`; what it does not list is full.
    pub fn read(&mut self, keys: &[CounterKey], found: &[(CounterKey, i64)], now: i64) {
        self.make_room(now);
        for key in keys {
            let stored = found.iter().find(|(other, _)| other == key).map_or(0, |(_, at)| *at);
            let counter = self.counters.entry(*key).or_default();
            let stored = stored.min(now.saturating_add(FARTHEST));
            // What this process changed meanwhile may not be in the store yet.
            let resetting = counter.reset || matches!(counter.sending, Some(CounterChange::Reset(_)));
            if !resetting {
                let changing = counter.unsent || counter.sending.is_some();
                counter.refilled_at = if changing { counter.refilled_at.max(stored) } else { stored };
            }
            counter.read_at = now;
        }
    }

    /// Whether there is anything that the store does not know.
    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// At most so many changes for the store.
    pub fn take_unsent(&mut self, most: usize) -> Vec<(CounterKey, CounterChange)> {
        let mut changes = Vec::new();
        while changes.len() < most
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

    /// Takes over what the store made of the changes that it was sent.
    pub fn sent(&mut self, stored: &[(CounterKey, i64)], now: i64) {
        for (key, refilled_at) in stored {
            let Some(counter) = self.counters.get_mut(key) else { continue };
            counter.sending = None;
            if !counter.reset {
                counter.refilled_at =
                    refilled_at.saturating_add(counter.added).min(now.saturating_add(FARTHEST));
                counter.read_at = now;
            }
        }
    }

    /// Keeps changes for later that the store did not take.
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

    /// Forgets what is full first, then what is nearest to it: the attempts that are forgotten are the fewest.
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
    fn attempts_run_out_and_are_earned_again() {
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
    fn the_store_is_sent_sums_and_its_answer_counts() {
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
    fn a_reset_on_its_way_is_not_undone_by_a_read() {
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
    fn what_the_store_did_not_take_is_sent_again() {
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
    fn a_store_with_a_broken_clock_locks_out_for_a_day_at_most() {
        let mut counters = Counters::default();
        counters.read(&[[1; 16]], &[([1; 16], i64::MAX)], NOW);
        assert!(seconds(&counters, [1; 16], NOW) <= 24 * 3600);
    }

    #[test]
    fn the_table_is_bounded_and_keeps_who_tried_most() {
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
