//! Which of an Llm's targets a request goes to: the one with the fewest outstanding requests for its weight. Knows neither addresses
//! nor clocks.
//!
//! A target whose breaker is open is ejected, but never the last one: where all are, the one that is due soonest is chosen. Targets
//! that are equally busy take turns in proportion to their weights, so that weights count for requests one after the other too.

use std::{
    cmp::Ordering,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How far a request takes a target of weight 1; one of weight n goes an nth of that.
const STRIDE: u64 = 1 << 20;

/// Outstanding requests and turns of all targets, shared by all requests.
#[derive(Debug, Default)]
pub struct Balancer(Mutex<HashMap<Arc<str>, Load>>);

#[derive(Debug, Clone, Copy, Default)]
struct Load {
    outstanding: u64,
    /// Grows by [`STRIDE`] over the weight with each request; the lowest is next among equally busy targets.
    pass: u64,
}

/// A target that a request may go to.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// What the target's state is kept by.
    pub key: Arc<str>,
    /// Its share of the requests; 0 means the same as 1.
    pub weight: u8,
    /// How long its breaker still skips it; `None` where it does not.
    pub ejected_for: Option<Duration>,
    /// Whether this request was there before.
    pub tried: bool,
}

impl Candidate {
    fn weight(&self) -> u64 {
        u64::from(self.weight).max(1)
    }

    fn stride(&self) -> u64 {
        STRIDE / self.weight()
    }

    /// Which one is better for a request, turns apart. One that is not ejected comes first, then one that was not tried.
    fn compare(&self, load: Load, other: &Self, other_load: Load) -> Ordering {
        let busy = || {
            let (one, two) = (load.outstanding, other_load.outstanding);
            one.saturating_mul(other.weight()).cmp(&two.saturating_mul(self.weight()))
        };
        self.ejected_for.cmp(&other.ejected_for).then(self.tried.cmp(&other.tried)).then_with(busy)
    }
}

/// An outstanding request at a target; counts until it is dropped.
#[derive(Debug)]
pub struct Outstanding {
    balancer: Arc<Balancer>,
    key: Arc<str>,
}

impl Balancer {
    /// Chooses a target and counts the request there, in one step, so that requests at the same time do not all choose the same
    /// one. `None` only where there are no candidates.
    pub fn take(self: &Arc<Self>, candidates: &[Candidate]) -> Option<(usize, Outstanding)> {
        let mut loads = self.lock();
        let load = |of: &Candidate| loads.get(&of.key).copied().unwrap_or_default();
        // Among targets that take turns none lags behind by more than its own stride. One that does is new, or was ejected or busy;
        // it takes turns from now on, and does not catch up.
        let first = candidates.iter().map(|of| load(of).pass).max()?;
        let seen: Vec<_> = candidates
            .iter()
            .map(|of| {
                let Load { outstanding, pass } = load(of);
                (of, Load { outstanding, pass: pass.max(first.saturating_sub(of.stride())) })
            })
            .collect();
        let next = |(of, load): &(&Candidate, Load)| load.pass.saturating_add(of.stride());
        let (at, chosen) = seen.iter().enumerate().min_by(|(_, one), (_, two)| {
            one.0.compare(one.1, two.0, two.1).then_with(|| next(one).cmp(&next(two)))
        })?;
        let outstanding = chosen.1.outstanding.saturating_add(1);
        let (key, load) = (&chosen.0.key, Load { outstanding, pass: next(chosen) });
        loads.insert(Arc::clone(key), load);
        Some((at, Outstanding { balancer: Arc::clone(self), key: Arc::clone(key) }))
    }

    /// Forgets targets that `keep` does not hold for.
    pub fn retain(&self, mut keep: impl FnMut(&str) -> bool) {
        self.lock().retain(|key, _| keep(key));
    }

    /// How many requests are outstanding at a target.
    pub fn outstanding(&self, key: &str) -> u64 {
        self.lock().get(key).map_or(0, |load| load.outstanding)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Load>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        if let Some(load) = self.balancer.lock().get_mut(&self.key) {
            load.outstanding = load.outstanding.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(at: usize, weight: u8) -> Candidate {
        Candidate { key: at.to_string().into(), weight, ejected_for: None, tried: false }
    }

    fn candidates(weights: &[u8]) -> Vec<Candidate> {
        weights.iter().enumerate().map(|(at, weight)| candidate(at, *weight)).collect()
    }

    #[test]
    fn equally_busy_targets_take_turns() {
        let balancer = Arc::new(Balancer::default());
        let chosen = |of: &[Candidate]| of[balancer.take(of).unwrap().0].key.parse::<usize>().unwrap();
        let all = candidates(&[1, 1, 1]);
        let turns: Vec<_> = (0..6).map(|_| chosen(&all)).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
        // One more takes its turns as the others do, and not all those that it missed.
        let all = candidates(&[1, 1, 1, 1]);
        let turns: Vec<_> = (0..8).map(|_| chosen(&all)).collect();
        for at in 0..4 {
            assert!((1..=3).contains(&turns.iter().filter(|turn| **turn == at).count()), "{turns:?}");
        }
        // Nor does one that was left out for a while.
        for _ in 0..100 {
            chosen(&all[1..]);
        }
        let turns: Vec<_> = (0..8).map(|_| chosen(&all)).collect();
        assert!(turns.iter().filter(|turn| **turn == 0).count() <= 3, "{turns:?}");
    }

    #[test]
    fn ejected_target_does_not_catch_up() {
        let balancer = Arc::new(Balancer::default());
        let mut all = candidates(&[1, 1]);
        all[0].ejected_for = Some(Duration::from_secs(5));
        for _ in 0..100 {
            assert_eq!(balancer.take(&all).unwrap().0, 1);
        }
        all[0].ejected_for = None;
        let back: Vec<_> = (0..10).map(|_| balancer.take(&all).unwrap().0).collect();
        let first = back.iter().filter(|at| **at == 0).count();
        assert!((4..=6).contains(&first), "{back:?}");
    }

    #[test]
    fn last_target_is_never_ejected() {
        let balancer = Arc::new(Balancer::default());
        let mut all = candidates(&[1, 1, 1]);
        for (of, seconds) in all.iter_mut().zip([9, 3, 6]) {
            of.ejected_for = Some(Duration::from_secs(seconds));
        }
        assert_eq!(balancer.take(&all).unwrap().0, 1, "the one that is due soonest");
        all[0].ejected_for = None;
        all[0].tried = true;
        assert_eq!(balancer.take(&all).unwrap().0, 0, "a repetition comes before an ejected target");
        assert!(balancer.take(&[]).is_none());
    }

    #[test]
    fn retry_goes_to_another_target_however_busy() {
        let balancer = Arc::new(Balancer::default());
        let mut all = candidates(&[100, 1]);
        let _busy: Vec<_> = (0..5).map(|_| balancer.take(&all[1..]).unwrap()).collect();
        all[0].tried = true;
        assert_eq!(balancer.take(&all).unwrap().0, 1);
    }

    proptest! {
        #[test]
        fn requests_one_after_the_other_follow_weights(weights in prop::collection::vec(1..=100_u8, 1..6)) {
            let balancer = Arc::new(Balancer::default());
            let all = candidates(&weights);
            let sum: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
            let mut counts = vec![0_usize; weights.len()];
            for _ in 0..10 * sum {
                counts[balancer.take(&all).unwrap().0] += 1;
            }
            for (count, weight) in counts.iter().zip(&weights) {
                let expected = 10 * usize::from(*weight);
                prop_assert!(count.abs_diff(expected) <= 2, "{counts:?} for {weights:?}");
            }
        }

        #[test]
        fn chosen_target_has_the_fewest_for_its_weight(
            weights in prop::collection::vec(1..=5_u8, 1..6),
            steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>(), any::<u8>()), 1..200),
        ) {
            let balancer = Arc::new(Balancer::default());
            let mut running: Vec<(usize, Outstanding)> = Vec::new();
            for (ends, which, ejected) in steps {
                if ends && !running.is_empty() {
                    running.swap_remove(which.index(running.len()));
                } else {
                    let mut all = candidates(&weights);
                    for (at, of) in all.iter_mut().enumerate() {
                        of.ejected_for = (ejected >> at & 1 == 1).then_some(Duration::from_secs(1));
                    }
                    let count = |at: usize| running.iter().filter(|(of, _)| *of == at).count();
                    let available: Vec<_> = (0..all.len()).filter(|at| all[*at].ejected_for.is_none()).collect();
                    let (at, guard) = balancer.take(&all).unwrap();
                    let expected = if available.is_empty() { (0..all.len()).collect() } else { available };
                    prop_assert!(expected.contains(&at));
                    for other in expected {
                        let (one, two) = (usize::from(weights[at]), usize::from(weights[other]));
                        prop_assert!(count(at) * two <= count(other) * one);
                    }
                    running.push((at, guard));
                }
                for at in 0..weights.len() {
                    let counted = running.iter().filter(|(of, _)| *of == at).count();
                    prop_assert_eq!(balancer.outstanding(&at.to_string()), counted as u64);
                }
            }
            running.clear();
            prop_assert!(balancer.lock().values().all(|load| load.outstanding == 0));
            balancer.retain(|_| false);
            prop_assert!(balancer.lock().is_empty());
        }
    }
}
