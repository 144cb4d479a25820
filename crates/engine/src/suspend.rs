//! How long this machine was suspended: after that, an engine that was ready may have lost its GPU.

use std::{fmt, sync::Arc, time::Duration};

/// Tells how long the machine was suspended since it was started.
#[derive(Clone)]
pub struct SuspendClock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl SuspendClock {
    /// A clock that is played.
    pub fn new(suspended: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(suspended))
    }

    pub(crate) fn suspended(&self) -> Duration {
        (self.0)()
    }
}

impl Default for SuspendClock {
    /// The machine's own.
    fn default() -> Self {
        Self::new(of_this_machine)
    }
}

impl fmt::Debug for SuspendClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SuspendClock")
    }
}

/// clock_gettime(2): of two clocks that count from the start of the machine, one goes on while it is suspended.
#[cfg(target_os = "linux")]
fn of_this_machine() -> Duration {
    use nix::time::{ClockId, clock_gettime};
    let read = |clock| clock_gettime(clock).map(Duration::from).unwrap_or_default();
    let awake = read(ClockId::CLOCK_MONOTONIC);
    read(ClockId::CLOCK_BOOTTIME).saturating_sub(awake)
}

/// Elsewhere it is not known: an engine that broke meanwhile is noticed by its first request.
#[cfg(not(target_os = "linux"))]
fn of_this_machine() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_stays_awake_was_suspended_no_longer_than_before() {
        let clock = SuspendClock::default();
        let before = clock.suspended();
        // Two clocks are read one after the other, so they differ by that.
        assert!(clock.suspended().abs_diff(before) < Duration::from_millis(500));
    }
}
