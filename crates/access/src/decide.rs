//! The one authorization function, and the permit that it gives.

use std::sync::Arc;

use mcpctl_api::{Id, Kind, Name, Revision, Verb};

use crate::{Principal, Reason, Snapshot, Stored, rules::Names};

/// Proof that a principal may do this to this resource, as decided in one snapshot.
///
/// Only this module makes one, and the stages that touch a resource take one.
#[derive(Debug, Clone)]
pub struct Permit {
    principal: Principal,
    verb: Verb,
    resource: Arc<Stored>,
    revision: Revision,
}

impl Permit {
    /// Who may.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Do what.
    pub fn verb(&self) -> Verb {
        self.verb
    }

    /// To which resource, as it was when this was decided.
    pub fn resource(&self) -> &Arc<Stored> {
        &self.resource
    }

    /// The revision in which this was decided.
    pub fn revision(&self) -> Revision {
        self.revision
    }
}

/// Why there is no permit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No rule allows it. Says nothing about whether the resource exists.
    #[error("`{subject}` may not {verb} {plural} `{target}`", plural = kind.plural())]
    Forbidden {
        /// Who asked.
        subject: String,
        /// What was asked.
        verb: Verb,
        /// Of which kind.
        kind: Kind,
        /// Name or id as asked.
        target: String,
    },
    /// There is none, and the caller may do this to all of the kind, so may know.
    #[error("there is no {kind} `{target}`")]
    NotFound {
        /// Of which kind.
        kind: Kind,
        /// Name or id as asked.
        target: String,
    },
}

impl Snapshot {
    /// May this principal do this to that resource, named by id or by name?
    ///
    /// INVARIANT 9: every route that touches a resource asks here. The resource is resolved first and the rules judge
    /// its name, so a rule scoped to a name holds by id too.
    ///
    /// # Errors
    /// [`Denied::NotFound`] only to those who may do this to every resource of the kind; else
    /// [`Denied::Forbidden`], whether or not it exists.
    pub fn authorize(
        &self,
        principal: &Principal,
        verb: Verb,
        kind: Kind,
        id_or_name: &str,
    ) -> Result<Permit, Denied> {
        if let Some(stored) = self.resolve(kind, id_or_name)
            && self.allows(principal, verb, kind, Names::One(stored.name().as_str())).is_some()
        {
            return Ok(self.permit(principal, verb, stored));
        }
        let knows_all = self.allows(principal, verb, kind, Names::Every).is_some();
        Err(if knows_all {
            Denied::NotFound { kind, target: id_or_name.to_owned() }
        } else {
            self.forbidden(principal, verb, kind, id_or_name)
        })
    }

    /// May this principal make a resource of this name?
    ///
    /// # Errors
    /// [`Denied::Forbidden`] where no rule allows it.
    pub fn authorize_create(&self, principal: &Principal, kind: Kind, name: &Name) -> Result<(), Denied> {
        self.authorize_name(principal, Verb::Create, kind, name.as_str())
    }

    /// May this principal do this to whatever has this name, now or later? For references and names that are judged
    /// before it is known whether there is such a resource.
    ///
    /// # Errors
    /// [`Denied::Forbidden`] where no rule allows it.
    pub fn authorize_name(
        &self,
        principal: &Principal,
        verb: Verb,
        kind: Kind,
        name: &str,
    ) -> Result<(), Denied> {
        match self.allows(principal, verb, kind, Names::One(name)) {
            Some(_) => Ok(()),
            None => Err(self.forbidden(principal, verb, kind, name)),
        }
    }

    /// Whether the account of this id is active and may do this to whatever has this name.
    pub fn account_may(&self, account: &Id, verb: Verb, kind: Kind, name: &str) -> bool {
        self.active_subject(account)
            .is_some_and(|subject| self.index.find(&subject, verb, kind, Names::One(name)).is_some())
    }

    /// The grant by which this is allowed. A credential that others made for its subject allows what the subject may do
    /// and each of its makers may do or grant.
    pub(crate) fn allows(
        &self,
        principal: &Principal,
        verb: Verb,
        kind: Kind,
        names: Names<'_>,
    ) -> Option<Reason> {
        let reason = self.index.find(&principal.subject, verb, kind, names)?;
        let holds = |maker: &Id| {
            self.active_subject(maker).is_some_and(|maker| {
                self.index.find(&maker, verb, kind, names).is_some()
                    || self.index.find(&maker, Verb::Grant, kind, names).is_some()
            })
        };
        principal.makers.iter().all(holds).then_some(reason)
    }

    /// Permits for every resource of a kind on which the principal may do this, ordered by name.
    pub fn permitted(&self, principal: &Principal, verb: Verb, kind: Kind) -> Vec<Permit> {
        self.all(kind)
            .filter(|stored| self.allows(principal, verb, kind, Names::One(stored.name().as_str())).is_some())
            .map(|stored| self.permit(principal, verb, stored))
            .collect()
    }

    fn permit(&self, principal: &Principal, verb: Verb, stored: &Arc<Stored>) -> Permit {
        Permit { principal: principal.clone(), verb, resource: Arc::clone(stored), revision: self.revision() }
    }

    /// The refusal that shows nothing but what was asked.
    pub fn forbidden(&self, principal: &Principal, verb: Verb, kind: Kind, target: &str) -> Denied {
        Denied::Forbidden { subject: principal.subject.to_string(), verb, kind, target: target.to_owned() }
    }
}
