//! How long this computer has been suspended: after that, an engine that was ready may have lost its GPU.

use std::{fmt, sync::Arc, time::Duration};

/// Reads how long the computer has been suspended since it booted.
#[derive(Clone)]
pub struct SuspendClock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl SuspendClock {
    /// A clock of this function, for tests.
    pub fn new(suspended: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(suspended))
    }

    pub(crate) fn suspended(&self) -> Duration {
        (self.0)()
    }
}

impl Default for SuspendClock {
    /// The computer's own clock.
    fn default() -> Self {
        Self::new(suspended_since_boot)
    }
}

impl fmt::Debug for SuspendClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SuspendClock")
    }
}

/// clock_gettime(2): both clocks count from boot, and only `CLOCK_BOOTTIME` goes on while the computer is suspended.
#[cfg(target_os = "linux")]
fn suspended_since_boot() -> Duration {
    use nix::time::{ClockId, clock_gettime};
    let read = |clock| clock_gettime(clock).map(Duration::from).unwrap_or_default();
    let awake = read(ClockId::CLOCK_MONOTONIC);
    read(ClockId::CLOCK_BOOTTIME).saturating_sub(awake)
}

/// Not known elsewhere: the first request notices an engine that broke meanwhile.
#[cfg(not(target_os = "linux"))]
fn suspended_since_boot() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspended_time_does_not_grow_while_awake() {
        let clock = SuspendClock::default();
        let before = clock.suspended();
        // The two clocks are read one after the other and differ by that moment.
        assert!(clock.suspended().abs_diff(before) < Duration::from_millis(500));
    }
}
