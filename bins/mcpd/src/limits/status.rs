//! Reads how the counters of a Limit stand.

use jiff::Timestamp;
use mcpctl_api::{
    Id,
    spec::{Ceiling, LimitScope, LimitSpec},
};
use mcpctl_store::{LimitCounter, Store, StoreError};

use super::{key, ledger, tally::Tally};

/// Maximum of counters that one answer shows.
const MAX_SHOWN: u32 = 1000;

/// A counter of a Limit.
pub struct Count {
    /// Whose it is; `None` if all share it.
    pub subject: Option<Id>,
    /// What the Limit allows.
    pub ceiling: Ceiling,
    /// How much is used.
    pub used: u64,
    /// When all of it is free again.
    pub resets_at: Timestamp,
}

/// The counters of a Limit, and whether there are more. A counter that all share is listed before its first use too.
///
/// # Errors
/// When the store does not answer, or has a malformed counter.
pub async fn counts(store: &Store, limit: &Id, spec: &LimitSpec) -> Result<(Vec<Count>, u64), StoreError> {
    let now = ledger::now();
    let mut stored = store.limit_counters(limit, now, MAX_SHOWN + 1).await?;
    let more = u64::from(stored.len() > MAX_SHOWN as usize);
    stored.truncate(MAX_SHOWN as usize);
    let ceilings: Vec<Ceiling> = spec.ceilings().collect();
    if spec.per == LimitScope::All {
        for ceiling in &ceilings {
            let key = key(limit, None, ceiling);
            if stored.iter().all(|(other, _)| *other != key) {
                stored.push((key, LimitCounter::default()));
            }
        }
    }
    let mut counts = Vec::new();
    for (stored_key, counter) in stored {
        // Counters of an earlier span of the Limit count for nothing.
        let of = |ceiling: &&Ceiling| key(limit, stored_key.subject.clone(), ceiling) == stored_key;
        let Some(ceiling) = ceilings.iter().find(of) else { continue };
        let tally = Tally::parse(&counter.state).ok_or_else(|| ledger::malformed(limit))?;
        let resets_at = tally.cleared_at(ceiling.span, now);
        counts.push(Count {
            subject: stored_key.subject,
            ceiling: *ceiling,
            used: tally.used(ceiling.span, now),
            resets_at: Timestamp::from_millisecond(resets_at).unwrap_or(Timestamp::MAX),
        });
    }
    counts.sort_by_key(|count| count.ceiling.measure);
    Ok((counts, more))
}
