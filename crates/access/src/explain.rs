//! Explains decisions: why a principal may do something, and which accounts may.

use mcpctl_api::{
    Kind, Name, Spec, Verb,
    question::{Grantee, HeldRule},
    spec::{Rule, Subject},
};

use crate::{
    Principal, Reason, Snapshot, builtin,
    decide::narrows_away,
    rules::{Memberships, Names},
};

impl Snapshot {
    /// The grant by which the principal may do this to the resource of that name, or, without a name, to at least one
    /// resource of the kind.
    ///
    /// Without a name the result errs towards no: it is yes only where one of the names or patterns that are written down
    /// is covered by the subject, by each maker and by the token's rules.
    pub fn reason(
        &self,
        principal: &Principal,
        verb: Verb,
        kind: Kind,
        name: Option<&str>,
    ) -> Option<Reason> {
        if let Some(name) = name {
            return self.allows(principal, verb, kind, Names::One(name));
        }
        let makers = principal.makers.iter().filter_map(|maker| self.active_subject(maker));
        let subjects: Vec<Subject> = std::iter::once(principal.subject.clone()).chain(makers).collect();
        let held = subjects.iter().flat_map(|subject| self.index.held_by(subject, Memberships::Claimed));
        let held = held.flat_map(|(grant, _)| grant.rules.iter());
        let narrowing = principal.narrowing.iter().flat_map(|narrowing| narrowing.rules());
        let mut names = held.chain(narrowing).flat_map(|rule| {
            // What a maker may grant counts like what it holds.
            rule.names_for(verb, kind).chain(rule.names_for(Verb::Grant, kind))
        });
        names.find_map(|names| self.allows(principal, verb, kind, Names::Matching(names)))
    }

    /// Why the principal may not do this, where [`Snapshot::reason`] finds nothing. It shows nothing of what the subject may
    /// do with another credential.
    pub fn denial_reason(
        &self,
        principal: &Principal,
        verb: Verb,
        kind: Kind,
        name: Option<&str>,
    ) -> &'static str {
        let narrows = match (name, &principal.narrowing) {
            (Some(name), _) => narrows_away(principal, verb, kind, Names::One(name)),
            (None, Some(narrowing)) => !narrowing.rules().iter().any(|rule| rule.is_about(verb, kind)),
            (None, None) => false,
        };
        if narrows { "this token is narrowed, and none of its rules allows it" } else { "no rule allows it" }
    }

    /// All active accounts that may do this to the resource of that name, each with the grant that allows it; where that comes
    /// by a claim, in sessions that such a sign-in began.
    pub fn who_can(&self, verb: Verb, kind: Kind, name: &str) -> Vec<Grantee> {
        let mut found: Vec<Grantee> = self
            .accounts()
            .filter(|subject| self.is_active(subject))
            .filter_map(|subject| {
                let reason = self.index.find(&subject, Memberships::Claimed, verb, kind, Names::One(name))?;
                let Reason { binding, role, via_group } = reason;
                Some(Grantee { subject, role, binding, via_group })
            })
            .collect();
        found.sort();
        found
    }

    /// The grant by which this account may do this to the resource of that name, or, without a name, to at least one; where it
    /// comes by a claim, in sessions that such a sign-in began. Nothing for a disabled account.
    pub fn reason_for(
        &self,
        subject: &Subject,
        verb: Verb,
        kind: Kind,
        name: Option<&str>,
    ) -> Option<Reason> {
        if !self.is_active(subject) {
            return None;
        }
        if let Some(name) = name {
            return self.index.find(subject, Memberships::Claimed, verb, kind, Names::One(name));
        }
        let mut held = self.index.held_by(subject, Memberships::Claimed);
        let (grant, via) =
            held.find(|(grant, _)| grant.rules.iter().any(|rule| rule.is_about(verb, kind)))?;
        Some(Reason { binding: grant.binding.clone(), role: grant.role.clone(), via_group: via.cloned() })
    }

    /// Every rule that the principal's account holds with this credential's memberships, before what takes away from it.
    pub fn rules_of(&self, principal: &Principal) -> Vec<HeldRule> {
        self.held_rules(&principal.subject, principal.memberships())
    }

    /// Every rule that an account holds, disabled or not, with those that come by a claim.
    pub fn rules_for(&self, subject: &Subject) -> Vec<HeldRule> {
        self.held_rules(subject, Memberships::Claimed)
    }

    fn held_rules(&self, subject: &Subject, memberships: Memberships) -> Vec<HeldRule> {
        let held = self.index.held_by(subject, memberships).flat_map(|(grant, via)| {
            let held = move |rule| HeldRule {
                rule,
                role: grant.role.clone(),
                binding: grant.binding.clone(),
                via_group: via.cloned(),
            };
            self.rules_of_role(grant.role).into_iter().map(held)
        });
        held.collect()
    }

    fn rules_of_role(&self, role: &Name) -> Vec<Rule> {
        match self.by_name(Kind::Role, role.as_str()).map(|stored| &stored.resource.spec) {
            Some(Spec::Role(role)) => role.rules.clone(),
            _ => builtin::rules(role.as_str()).unwrap_or_default(),
        }
    }

    /// The groups of an account, with those that come by a claim.
    pub fn groups_for(&self, subject: &Subject) -> Vec<Name> {
        self.index.groups_of(subject, Memberships::Claimed).cloned().collect()
    }

    /// The groups that the principal is a member of.
    pub fn groups_of(&self, principal: &Principal) -> Vec<Name> {
        self.index.groups_of(&principal.subject, principal.memberships()).cloned().collect()
    }

    /// The groups that an account is a member of, those too that the claims of its last sign-in map to.
    pub fn groups_of_account(&self, account: &Subject) -> impl Iterator<Item = &Name> {
        self.index.groups_of(account, Memberships::Claimed)
    }

    /// The roles that the principal holds, directly or by a group, each once.
    pub fn roles_of(&self, principal: &Principal) -> Vec<Name> {
        let held = self.index.held_by(&principal.subject, principal.memberships());
        let mut roles: Vec<Name> = held.map(|(grant, _)| grant.role.clone()).collect();
        roles.sort();
        roles.dedup();
        roles
    }
}
