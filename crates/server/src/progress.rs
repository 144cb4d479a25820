//! Whether data that is ready keeps moving: the same rule for request bodies, answers and whole connections.

use std::time::Duration;

use tokio::time::Instant;

/// The least number of bytes that must move in a time while one side waits for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeastRate {
    /// The time in which `bytes` have to move.
    pub window: Duration,
    /// The least number of bytes of a window.
    pub bytes: u64,
}

/// Bytes moved since one side began to wait for the other. Time without a wait does not count.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    since: Option<Instant>,
    moved: u64,
}

impl Progress {
    /// Data is ready and the other side has not moved it.
    pub(crate) fn waiting(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// Bytes moved. When they are enough for this window, a new one begins.
    pub(crate) fn moved(&mut self, bytes: u64, now: Instant, least: LeastRate) {
        if self.since.is_none() {
            return;
        }
        self.moved = self.moved.saturating_add(bytes);
        if self.moved >= least.bytes {
            (self.since, self.moved) = (Some(now), 0);
        }
    }

    /// No data is waiting any more.
    pub(crate) fn done(&mut self) {
        (self.since, self.moved) = (None, 0);
    }

    /// Whether data is waiting.
    pub(crate) fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// The end of the current window.
    pub(crate) fn deadline(&self, least: LeastRate) -> Option<Instant> {
        self.since.map(|since| since + least.window)
    }

    /// Whether a window passed in which too little moved.
    pub(crate) fn is_stalled(&self, now: Instant, least: LeastRate) -> bool {
        self.deadline(least).is_some_and(|deadline| now >= deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: LeastRate = LeastRate { window: Duration::from_secs(10), bytes: 100 };

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn waiting_data_without_movement_is_a_stall() {
        let (mut progress, start) = (Progress::default(), Instant::now());
        assert!(!progress.is_stalled(start + seconds(1000), LEAST), "nothing waits");
        progress.waiting(start);
        assert!(!progress.is_stalled(start + seconds(9), LEAST));
        assert!(progress.is_stalled(start + seconds(10), LEAST));
        progress.done();
        assert!(!progress.is_stalled(start + seconds(1000), LEAST));
    }

    #[test]
    fn movement_below_the_rate_is_a_stall() {
        let (mut progress, start) = (Progress::default(), Instant::now());
        progress.waiting(start);
        for second in 0..10 {
            progress.moved(9, start + seconds(second), LEAST);
            progress.waiting(start + seconds(second));
        }
        assert!(progress.is_stalled(start + seconds(10), LEAST));
    }

    #[test]
    fn movement_at_the_rate_is_no_stall() {
        let (mut progress, start) = (Progress::default(), Instant::now());
        progress.waiting(start);
        for second in 1..1000 {
            assert!(!progress.is_stalled(start + seconds(second), LEAST), "{second}");
            progress.moved(12, start + seconds(second), LEAST);
        }
    }
}
