//! What a change takes away, before it is committed.

use mcpctl_api::{
    question::HeldRule,
    spec::{Subject, SubjectKind},
};

use crate::Snapshot;

/// An account, and the rules that it holds no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawn {
    /// A user or a service account, under its name before the change.
    pub account: Subject,
    /// The rules, each with the role and the binding by which it is held. The account may hold the same right by another binding.
    pub rules: Vec<HeldRule>,
}

/// What a change takes away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Withdrawals {
    /// By account, in order.
    pub accounts: Vec<Withdrawn>,
    /// How many more accounts the change is about.
    pub not_examined: usize,
}

impl Snapshot {
    /// What `after` takes away from at most so many accounts, by a claim too. The two snapshots share what did not change, so that this
    /// costs as much as the change.
    pub fn withdrawals(&self, after: &Self, max_accounts: usize) -> Withdrawals {
        let exists = |subject: &Subject| {
            subject.kind != SubjectKind::Group
                && self.by_name(subject.kind.kind(), subject.name.as_str()).is_some()
        };
        let mut affected = self.affected(after).into_iter().filter(exists);
        let examined: Vec<Subject> = affected.by_ref().take(max_accounts).collect();
        let withdrawn = examined.into_iter().filter_map(|account| {
            // An account that the change disables loses all that it holds.
            let is_disabled = self.is_active(&account) && !after.is_active(&account);
            let left = if is_disabled { Vec::new() } else { after.rules_for(&account) };
            let mut rules = self.rules_for(&account);
            rules.retain(|rule| !left.contains(rule));
            (!rules.is_empty()).then_some(Withdrawn { account, rules })
        });
        Withdrawals { accounts: withdrawn.collect(), not_examined: affected.count() }
    }
}
