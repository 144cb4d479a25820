//! The delay before a failing program is started again: a pure function of the number of failures.

use std::time::Duration;

const FIRST_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_secs(60);

/// The delay before the next start after this many failures in a row. The first failure costs none: its cause may be
/// fixed already.
pub fn restart_delay(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        n => FIRST_DELAY.saturating_mul(1 << (n - 2).min(16)).min(MAX_DELAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_doubles_up_to_a_minute() {
        let seconds: Vec<u64> = (0..12).map(|n| restart_delay(n).as_secs()).collect();
        assert_eq!(seconds, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        assert_eq!(restart_delay(u32::MAX), MAX_DELAY);
    }
}
