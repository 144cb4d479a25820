//! Counts refusals, which any caller with a made-up bearer can cause: unbounded, they would push the lines of local answers
//! out of the journal.

use std::time::{Duration, Instant};

/// The interval over which refusals are counted.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(60);

/// The refusals of one interval.
pub(super) struct Refusals {
    since: Instant,
    written: u32,
    omitted: u64,
}

impl Refusals {
    pub(super) const fn since(since: Instant) -> Self {
        Self { since, written: 0, omitted: 0 }
    }

    /// How many refusals of an interval that is over have no line.
    pub(super) fn omitted_of_last_interval(&mut self) -> Option<u64> {
        if self.since.elapsed() < REFUSAL_INTERVAL {
            return None;
        }
        if self.omitted == 0 {
            self.begin_interval();
            return None;
        }
        Some(self.omitted)
    }

    /// Begins a new interval, once the number of the last one is written.
    pub(super) fn begin_interval(&mut self) {
        *self = Self::since(Instant::now());
    }

    /// Whether one more refusal gets a line.
    pub(super) const fn admit(&mut self, limit: u32) -> bool {
        if self.written >= limit {
            self.omitted += 1;
            return false;
        }
        self.written += 1;
        true
    }

    #[cfg(test)]
    pub(super) fn end_interval(&mut self) {
        self.since = Instant::now() - REFUSAL_INTERVAL;
    }
}
