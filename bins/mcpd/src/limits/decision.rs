//! Decides whether a request fits under all Limits on it, and what it reserves. Pure; [`super::ledger`] runs it on counters that
//! are locked.

use std::collections::BTreeMap;

use mcpctl_api::{
    Name,
    spec::{Ceiling, Measure, Span},
};
use mcpctl_store::LimitKey;

use super::tally::{Millis, Tally};

/// What a request would take from one counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The counter.
    pub key: LimitKey,
    /// The Limit's name.
    pub limit: Name,
    /// What the Limit allows.
    pub ceiling: Ceiling,
    /// How much the request takes.
    pub amount: u64,
}

/// What a request has taken from one counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The counter.
    pub key: LimitKey,
    /// What is counted.
    pub measure: Measure,
    /// The time over which it counts.
    pub span: Span,
    /// The slot that holds the amount.
    pub slot: Millis,
    /// How much.
    pub amount: u64,
}

/// How a counter stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What is counted.
    pub measure: Measure,
    /// The most.
    pub max: u64,
    /// How much of it is left.
    pub remaining: u64,
    /// When all of it is free again.
    pub resets_at: Millis,
}

/// A Limit that a request does not fit under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    /// The Limit's name.
    pub limit: Name,
    /// What it allows.
    pub ceiling: Ceiling,
    /// How much of it is taken.
    pub used: u64,
    /// How much the request takes.
    pub asked: u64,
    /// When the request fits; `None` if it is too large ever to fit.
    pub fits_at: Option<Millis>,
}

/// Takes what the request needs from all counters, or from none. Returns how each of them stands in either case.
pub fn reserve(
    tallies: &mut BTreeMap<LimitKey, Tally>,
    charges: &[Charge],
    now: Millis,
) -> (Result<Vec<Entry>, Exceeded>, Vec<Standing>) {
    let exceeded = charges.iter().filter_map(|charge| {
        let Charge { key, limit, ceiling, amount } = charge;
        let empty = Tally::default();
        let tally = tallies.get(key).unwrap_or(&empty);
        let used = tally.used(ceiling.span, now);
        let over = used.saturating_add(*amount).checked_sub(ceiling.max).filter(|over| *over > 0)?;
        let fits_at = (*amount <= ceiling.max).then(|| tally.freed_at(ceiling.span, now, over)).flatten();
        Some(Exceeded { limit: limit.clone(), ceiling: *ceiling, used, asked: *amount, fits_at })
    });
    // The one that lasts longest, so that a caller who comes again then is not refused by another one.
    let worst = exceeded.max_by_key(|exceeded| exceeded.fits_at.unwrap_or(Millis::MAX));
    let reserved = match worst {
        Some(exceeded) => Err(exceeded),
        None => Ok(charges
            .iter()
            .map(|Charge { key, ceiling, amount, .. }| {
                let tally = tallies.entry(key.clone()).or_default();
                let slot = tally.add(ceiling.span, now, *amount);
                Entry {
                    key: key.clone(),
                    measure: ceiling.measure,
                    span: ceiling.span,
                    slot,
                    amount: *amount,
                }
            })
            .collect()),
    };
    let standings = charges.iter().map(|charge| {
        let tally = tallies.get(&charge.key).cloned().unwrap_or_default();
        standing(&tally, &charge.ceiling, now)
    });
    let standings = standings.collect();
    (reserved, standings)
}

/// How a counter stands now.
pub fn standing(tally: &Tally, ceiling: &Ceiling, now: Millis) -> Standing {
    Standing {
        measure: ceiling.measure,
        max: ceiling.max,
        remaining: ceiling.max.saturating_sub(tally.used(ceiling.span, now)),
        resets_at: tally.cleared_at(ceiling.span, now),
    }
}

#[cfg(test)]
mod tests {
    use mcpctl_api::{HumanDuration, Id, spec::Period};
    use proptest::prelude::*;

    use super::*;

    fn charge(counts: &str, measure: Measure, max: u64, span: Span, amount: u64) -> Charge {
        let limit: Id = "caaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap();
        Charge {
            key: LimitKey { limit, subject: None, counts: counts.to_owned() },
            limit: counts.parse().unwrap(),
            ceiling: Ceiling { measure, max, span },
            amount,
        }
    }

    #[test]
    fn a_request_takes_from_all_limits_or_from_none() {
        let minute = Span::Window(HumanDuration::from_secs(60));
        let month = Span::Period(Period::Month);
        let mut tallies = BTreeMap::new();
        let of = |requests, cost| {
            [
                charge("rate", Measure::Requests, 3, minute, requests),
                charge("budget", Measure::Cost, 10, month, cost),
            ]
        };
        let (first, standings) = reserve(&mut tallies, &of(1, 9), 1_000_000);
        assert_eq!(first.unwrap().len(), 2);
        assert_eq!(standings.iter().map(|s| s.remaining).collect::<Vec<_>>(), [2, 1]);

        let (second, standings) = reserve(&mut tallies, &of(1, 2), 1_000_000);
        let exceeded = second.unwrap_err();
        assert_eq!((exceeded.limit.as_str(), exceeded.used, exceeded.asked), ("budget", 9, 2));
        assert_eq!(exceeded.fits_at, Some(2_678_400_000), "the first of February 1970");
        assert_eq!(standings[0].remaining, 2, "the other Limit lost nothing");

        let (never, _) = reserve(&mut tallies, &of(4, 1), 1_000_000);
        assert_eq!(never.unwrap_err().fits_at, None);
    }

    proptest! {
        /// Requests reserve, settle and are dropped in any order: what counts is never more than the maximum plus what settled
        /// above its reservation, and in the end exactly what was settled.
        #[test]
        fn nothing_leaks_and_nothing_exceeds_the_estimates(
            max in 10_u64..100,
            steps in prop::collection::vec((1_u64..30, 0_u64..40, any::<bool>(), any::<prop::sample::Index>()), 1..60),
        ) {
            let span = Span::Period(Period::Month);
            let mut tallies = BTreeMap::new();
            let (mut running, mut settled, mut error): (Vec<(Entry, u64, bool)>, u64, u64) = (Vec::new(), 0, 0);
            for (estimate, truth, dropped, which) in steps {
                let (reserved, _) = reserve(&mut tallies, &[charge("x", Measure::Tokens, max, span, estimate)], 5);
                if let Ok(mut entries) = reserved {
                    running.push((entries.remove(0), truth, dropped));
                }
                let key = charge("x", Measure::Tokens, max, span, 0).key;
                if running.len() > 3 {
                    let (entry, truth, dropped) = running.swap_remove(which.index(running.len()));
                    let actual = if dropped { 0 } else { truth };
                    settled += actual;
                    error += actual.saturating_sub(entry.amount);
                    tallies.get_mut(&key).unwrap().correct(entry.slot, actual as i64 - entry.amount as i64);
                }
                let used = tallies.get(&key).map_or(0, |tally| tally.used(span, 5));
                prop_assert!(used <= max + error, "{} of {} and {}", used, max, error);
            }
            for (entry, _, _) in running.drain(..) {
                tallies.get_mut(&entry.key).unwrap().correct(entry.slot, -(entry.amount as i64));
            }
            let used: u64 = tallies.values().map(|tally| tally.used(span, 5)).sum();
            prop_assert_eq!(used, settled);
        }
    }
}
