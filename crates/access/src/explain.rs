//! Explains decisions: why a principal may do something, and which accounts may.

use mcpctl_api::{Kind, Name, Verb, question::Grantee, spec::Subject};

use crate::{
    Principal, Reason, Snapshot,
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

    /// The groups that the principal is a member of.
    pub fn groups_of(&self, principal: &Principal) -> Vec<Name> {
        self.index.groups_of(&principal.subject, principal.memberships()).cloned().collect()
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
