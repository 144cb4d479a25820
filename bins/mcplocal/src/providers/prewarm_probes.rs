//! Bounds what prewarming costs mcpd.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Most concurrent probes of the prewarm trigger for one provider: any caller can cause one, and it outlives the request.
const MAX_PROBES: usize = 8;

/// The probes of one provider's prewarm trigger. Clones share the count.
#[derive(Clone, Default)]
pub struct PrewarmProbes(Arc<AtomicUsize>);

/// Held during a probe.
pub struct PrewarmProbe(Arc<AtomicUsize>);

impl PrewarmProbes {
    /// Begins a probe, unless too many are under way.
    pub fn begin(&self) -> Option<PrewarmProbe> {
        let probe = PrewarmProbe(Arc::clone(&self.0));
        // Where there is no room, dropping it restores the count.
        (self.0.fetch_add(1, Ordering::AcqRel) < MAX_PROBES).then_some(probe)
    }
}

impl Drop for PrewarmProbe {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrent_probes_have_a_bound() {
        let probes = PrewarmProbes::default();
        let held: Vec<_> = (0..MAX_PROBES * 2).map(|_| probes.begin()).collect();
        assert_eq!(held.iter().flatten().count(), MAX_PROBES);
        assert!(probes.begin().is_none());
        drop(held);
        assert!(probes.begin().is_some() && probes.0.load(Ordering::Acquire) == 0);
    }
}
