//! Nobody hands out what they do not hold. Compares what everybody may do before and after a write, so that roles,
//! bindings, groups, new accounts under a bound name and re-enabled ones are all one case.

use std::{collections::BTreeSet, sync::Arc};

use mcpctl_api::{
    Kind, Verb,
    spec::{Allowed, NamePattern, Rule, Subject},
};

use crate::{Principal, Snapshot};

/// A right that a write would hand out and that the writer does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this would let {subject} {verb} {plural} `{names}`, which you may not do yourself",
    plural = kind.plural()
)]
pub struct Escalation {
    /// Who would gain it.
    pub subject: Subject,
    /// Kind of the right.
    pub kind: Kind,
    /// Verb of the right.
    pub verb: Verb,
    /// Names of the right.
    pub names: String,
}

impl Snapshot {
    /// INVARIANT 12: whether the step from `self` to `after` gives anybody a right that `actor` does not hold in `self`
    /// and may not `grant`.
    ///
    /// # Errors
    /// The first such right.
    pub fn check_escalation(&self, after: &Self, actor: &Principal) -> Result<(), Escalation> {
        let bound: BTreeSet<&Subject> = after.index.bound().collect();
        // What bindings say is judged even for subjects that do not exist yet: they may come later.
        if !Arc::ptr_eq(&self.index, &after.index) {
            for subject in bound {
                let had = rules(self.index.direct(subject));
                let gets = rules(after.index.direct(subject));
                self.check_gain(actor, subject, &had, &gets)?;
            }
        }
        for subject in after.principals().filter(|subject| after.is_active(subject)) {
            let existed = self.is_active(&subject) && same_id(self, after, &subject);
            if existed && Arc::ptr_eq(&self.index, &after.index) {
                continue;
            }
            let had = if existed { self.effective(&subject) } else { Vec::new() };
            let gets = after.effective(&subject);
            self.check_gain(actor, &subject, &had, &gets)?;
        }
        Ok(())
    }

    /// INVARIANT 12: whether `actor` holds, or may grant, all that `subject` may do, so that acting as `subject` gains
    /// nothing. Asked before a token or a password is made for somebody.
    ///
    /// # Errors
    /// The first right that the actor lacks.
    pub fn check_impersonation(&self, actor: &Principal, subject: &Subject) -> Result<(), Escalation> {
        if actor.subject == *subject {
            return Ok(());
        }
        self.check_gain(actor, subject, &[], &self.effective(subject))
    }

    fn effective<'a>(&'a self, subject: &'a Subject) -> Vec<&'a Rule> {
        self.index.held_by(subject).flat_map(|(grant, _)| grant.rules.iter()).collect()
    }

    fn check_gain(
        &self,
        actor: &Principal,
        subject: &Subject,
        had: &[&Rule],
        gets: &[&Rule],
    ) -> Result<(), Escalation> {
        let holds = self.effective(&actor.subject);
        for right in gets.iter().flat_map(|rule| rights(rule)) {
            let (kind, verb, names) = right;
            let has = covers(had, kind, verb, names)
                || covers(&holds, kind, verb, names)
                || covers(&holds, kind, Verb::Grant, names);
            if !has {
                return Err(Escalation {
                    subject: subject.clone(),
                    kind,
                    verb,
                    names: names.as_str().to_owned(),
                });
            }
        }
        Ok(())
    }
}

fn same_id(before: &Snapshot, after: &Snapshot, subject: &Subject) -> bool {
    let id = |snapshot: &Snapshot| {
        snapshot.by_name(subject.kind.kind(), subject.name.as_str()).map(|stored| stored.id().clone())
    };
    id(before) == id(after)
}

fn rules(grants: &[crate::rules::Grant]) -> Vec<&Rule> {
    grants.iter().flat_map(|grant| grant.rules.iter()).collect()
}

/// A rule as single rights: one kind, one verb, one pattern each.
fn rights(rule: &Rule) -> impl Iterator<Item = (Kind, Verb, &NamePattern)> {
    let kinds = Kind::ALL.into_iter().filter(|kind| listed(&rule.kinds, kind));
    kinds.flat_map(move |kind| {
        let verbs = Verb::ALL.into_iter().filter(|verb| listed(&rule.verbs, verb));
        verbs.flat_map(move |verb| rule.names.iter().map(move |names| (kind, verb, names)))
    })
}

fn listed<T: PartialEq>(list: &[Allowed<T>], value: &T) -> bool {
    list.iter().any(|one| one.includes(value))
}

fn covers(rules: &[&Rule], kind: Kind, verb: Verb, names: &NamePattern) -> bool {
    rules.iter().any(|rule| {
        listed(&rule.kinds, &kind)
            && listed(&rule.verbs, &verb)
            && rule.names.iter().any(|pattern| pattern.covers(names))
    })
}
