//! Bounds the audit rows of each tenant: rows within its rate are stored, further ones are summed, so that a credential
//! or a network that is denied again and again does not fill the disk. No I/O.
//!
//! The first row beyond the rate is stored and announces the sum. Rows after it are counted until the window ends; then
//! one more row has their number. So a kill in between loses the number, not the fact.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use mcpctl_api::{HumanDuration, Id, Kind};
use mcpctl_store::{AuditRow, Decision};

use crate::{
    config::{Rate, RecordLimits},
    login::Network,
};

/// Maximum of principals, and of networks, whose rows are counted at once.
const MAX_TENANTS: usize = 10_000;
/// Maximum of sums at once; beyond it, denials of all tenants share sums.
const MAX_SUMS: usize = 4096;
/// Rate of rows that all callers without a credential cause together.
const UNAUTHENTICATED_RATE: Rate = Rate::new(1000, 5);

/// A unit whose rows are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Tenant {
    /// A principal, by id, whatever tokens it uses.
    Principal(Id),
    /// All callers of a network that have no credential.
    Network(Network),
}

/// Counts rows and sums them.
pub struct Ledger {
    limits: RecordLimits,
    state: Mutex<LedgerState>,
}

#[derive(Default)]
struct LedgerState {
    principals: HashMap<Id, Timestamp>,
    networks: HashMap<Network, Timestamp>,
    unauthenticated: HashMap<(), Timestamp>,
    sums: HashMap<SumKey, Sum>,
}

/// Rows of one key share a sum. An allowed decision is never summed with one about another resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SumKey {
    tenant: Option<Tenant>,
    action: String,
    kind: Kind,
    decision: Decision,
    resource_id: Option<Id>,
}

struct Sum {
    first: AuditRow,
    more: u64,
    until: Timestamp,
}

impl Ledger {
    /// An empty ledger.
    pub fn new(limits: RecordLimits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    /// The limits of this ledger.
    pub fn limits(&self) -> &RecordLimits {
        &self.limits
    }

    fn lock(&self) -> MutexGuard<'_, LedgerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a row. Returns the row to store before the response is sent, or `None` if it was added to a sum.
    pub fn enter(&self, tenant: Tenant, mut row: AuditRow) -> Option<AuditRow> {
        let now = row.at;
        let mut state = self.lock();
        if state.is_within_rate(&tenant, self.limits.rows, now) {
            return Some(row);
        }
        let allowed = row.decision == Decision::Allowed;
        let mut key = SumKey {
            tenant: Some(tenant),
            action: row.action.clone(),
            kind: row.kind,
            decision: row.decision,
            resource_id: row.resource_id.clone().filter(|_| allowed),
        };
        if state.sums.len() >= MAX_SUMS && !state.sums.contains_key(&key) {
            if allowed {
                return Some(row);
            }
            key.tenant = None;
        }
        if let Some(sum) = state.sums.get_mut(&key) {
            sum.count(&row);
            return None;
        }
        let window = SignedDuration::try_from(self.limits.window.0).unwrap_or(SignedDuration::MAX);
        let until = now.saturating_add(window).unwrap_or(now);
        state.sums.insert(key, Sum { first: row.clone(), more: 0, until });
        let window = self.limits.window;
        row.reason =
            joined(&row.reason, &format!("more of this kind within {window} are counted, not listed"));
        Some(row)
    }

    /// Removes the sums whose window has ended, or all, and returns their rows.
    pub fn ended(&self, now: Timestamp, all: bool) -> Vec<AuditRow> {
        let mut state = self.lock();
        let ended = state.sums.extract_if(|_, sum| all || sum.until <= now);
        ended.filter(|(_, sum)| sum.more > 0).map(|(_, sum)| sum.row(now)).collect()
    }
}

impl LedgerState {
    fn is_within_rate(&mut self, tenant: &Tenant, rate: Rate, now: Timestamp) -> bool {
        match tenant {
            Tenant::Principal(id) => take_slot(&mut self.principals, id.clone(), rate, now),
            Tenant::Network(network) => {
                take_slot(&mut self.networks, *network, rate, now)
                    && take_slot(&mut self.unauthenticated, (), UNAUTHENTICATED_RATE, now)
            }
        }
    }
}

/// Counts a row of a tenant if it is within the rate: a leaky bucket, stored as the time at which it is empty (GCRA).
fn take_slot<K: Hash + Eq>(
    tenants: &mut HashMap<K, Timestamp>,
    tenant: K,
    rate: Rate,
    now: Timestamp,
) -> bool {
    if tenants.len() >= MAX_TENANTS && !tenants.contains_key(&tenant) {
        tenants.retain(|_, empty_at| *empty_at > now);
        if tenants.len() >= MAX_TENANTS {
            return false;
        }
    }
    let HumanDuration(every) = rate.every;
    let empty_at = tenants.entry(tenant).or_insert(now);
    let next = (*empty_at).max(now).saturating_add(every).unwrap_or(now);
    let within_rate =
        next.duration_since(now) <= SignedDuration::try_from(every * rate.burst).unwrap_or_default();
    if within_rate {
        *empty_at = next;
    }
    within_rate
}

impl Sum {
    fn count(&mut self, row: &AuditRow) {
        self.more += 1;
        let first = &mut self.first;
        // Clears fields that differ, so that every field of the row holds for all.
        if first.principal_id != row.principal_id || first.principal != row.principal {
            first.principal_id = None;
            first.principal.clear();
        }
        if first.token_id != row.token_id {
            first.token_id = None;
        }
        if first.resource_name != row.resource_name || first.resource_id != row.resource_id {
            first.resource_name.clear();
            first.resource_id = None;
        }
        if first.reason != row.reason {
            first.reason.clear();
        }
        first.revision = row.revision;
    }

    fn row(self, now: Timestamp) -> AuditRow {
        let Self { first, more, .. } = self;
        let reason =
            joined(&first.reason, &format!("and {more} more of this kind from {} until {now}", first.at));
        AuditRow { id: uuid::Uuid::now_v7(), at: now, reason, request_id: String::new(), ..first }
    }
}

/// Puts the note first, so that the bound of the column cannot cut it off.
fn joined(reason: &str, note: &str) -> String {
    if reason.is_empty() { note.to_owned() } else { format!("{note}: {reason}") }
}

#[cfg(test)]
mod tests {
    use mcpctl_api::Revision;

    use super::*;

    fn ledger() -> Ledger {
        Ledger::new(RecordLimits { rows: Rate::new(3, 10), ..RecordLimits::default() })
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn row(principal: &Id, target: &str, second: i64) -> AuditRow {
        AuditRow {
            id: uuid::Uuid::now_v7(),
            at: at(second),
            principal: "User alice".to_owned(),
            principal_id: Some(principal.clone()),
            token_id: None,
            action: "view".to_owned(),
            kind: Kind::Llm,
            resource_id: None,
            resource_name: target.to_owned(),
            decision: Decision::Denied,
            reason: "no rule".to_owned(),
            revision: Revision(1),
            request_id: "r".to_owned(),
        }
    }

    #[test]
    fn denials_beyond_the_rate_are_summed_without_loss() {
        let (ledger, alice) = (ledger(), Id::mint());
        let enter = |n: i64| ledger.enter(Tenant::Principal(alice.clone()), row(&alice, &format!("l{n}"), 0));
        let stored: Vec<AuditRow> = (0..100).filter_map(enter).collect();
        assert_eq!(stored.len(), 4);
        assert!(
            stored[3].reason.starts_with("more of this kind within 5m are counted"),
            "{}",
            stored[3].reason
        );
        assert!(ledger.ended(at(299), false).is_empty());
        let summed = ledger.ended(at(300), false);
        assert_eq!(summed.len(), 1);
        assert!(summed[0].reason.starts_with("and 96 more of this kind"), "{}", summed[0].reason);
        assert_eq!((summed[0].resource_name.as_str(), &summed[0].principal_id), ("", &Some(alice.clone())));
        assert!(ledger.ended(at(999), true).is_empty());
        let later = ledger.enter(Tenant::Principal(alice.clone()), row(&alice, "l", 400)).unwrap();
        assert_eq!(later.reason, "no rule", "the rate refills");
    }

    #[test]
    fn principals_have_rates_of_their_own() {
        let (ledger, alice, bob) = (ledger(), Id::mint(), Id::mint());
        for _ in 0..10 {
            ledger.enter(Tenant::Principal(alice.clone()), row(&alice, "l", 0));
        }
        assert!(ledger.enter(Tenant::Principal(bob.clone()), row(&bob, "l", 0)).is_some());
    }

    #[test]
    fn allowed_decisions_are_summed_by_resource() {
        let (ledger, alice) = (ledger(), Id::mint());
        let llms = [Id::mint(), Id::mint()];
        for n in 0..40 {
            let llm = Some(llms[n % 2].clone());
            let row = AuditRow { decision: Decision::Allowed, resource_id: llm, ..row(&alice, "l", 0) };
            ledger.enter(Tenant::Principal(alice.clone()), row);
        }
        let summed = ledger.ended(at(300), true);
        assert_eq!(summed.len(), 2);
        assert!(summed.iter().all(|row| row.resource_id.as_ref().is_some_and(|id| llms.contains(id))));
    }

    #[test]
    fn sums_and_tenants_are_bounded() {
        let ledger = Ledger::new(RecordLimits { rows: Rate::new(1, 3600), ..RecordLimits::default() });
        let mut stored = 0;
        for _ in 0..30_000 {
            let id = Id::mint();
            for _ in 0..3 {
                stored +=
                    usize::from(ledger.enter(Tenant::Principal(id.clone()), row(&id, "l", 0)).is_some());
            }
        }
        let state = ledger.lock();
        assert!(state.sums.len() <= MAX_SUMS + 1 && state.principals.len() <= MAX_TENANTS);
        assert!(stored <= MAX_TENANTS + MAX_SUMS + 1, "{stored}");
    }
}
