//! Explains decisions: why a principal may do something, and which accounts may.

use mcpctl_api::{Kind, Name, Verb, question::Grantee, spec::Subject};

use crate::{Principal, Reason, Snapshot, rules::Names};

impl Snapshot {
    /// The grant by which the principal may do this to the resource of that name, or, without a name, to at least one
    /// resource of the kind.
    pub fn reason(
        &self,
        principal: &Principal,
        verb: Verb,
        kind: Kind,
        name: Option<&str>,
    ) -> Option<Reason> {
        self.allows(principal, verb, kind, name.map_or(Names::Some, Names::One))
    }

    /// All active accounts that may do this to the resource of that name, each with the grant that allows it.
    pub fn who_can(&self, verb: Verb, kind: Kind, name: &str) -> Vec<Grantee> {
        let mut found: Vec<Grantee> = self
            .accounts()
            .filter(|subject| self.is_active(subject))
            .filter_map(|subject| {
                let reason = self.index.find(&subject, verb, kind, Names::One(name))?;
                let Reason { binding, role, via_group } = reason;
                Some(Grantee { subject, role, binding, via_group })
            })
            .collect();
        found.sort();
        found
    }

    /// The groups that name this subject.
    pub fn groups_of(&self, subject: &Subject) -> Vec<Name> {
        self.index.groups_of(subject).to_vec()
    }

    /// The roles that this subject holds, directly or by a group, each once.
    pub fn roles_of(&self, subject: &Subject) -> Vec<Name> {
        let mut roles: Vec<Name> = self.index.held_by(subject).map(|(grant, _)| grant.role.clone()).collect();
        roles.sort();
        roles.dedup();
        roles
    }
}
