//! Authorization: the decision whether a principal may do something, and the permit that it yields.

use std::{marker::PhantomData, sync::Arc};

use mcpctl_api::{Id, Kind, Name, Revision, Verb, spec::Subject};

use crate::{
    Principal, Reason, Snapshot, Stored,
    rules::{Memberships, Names},
    verb::VerbType,
};

/// Proof that one snapshot allowed a principal the verb `V` on one resource.
///
/// Only [`Snapshot::authorize`], [`Snapshot::permitted`] and [`Snapshot::permitted_after`] make permits. A function that acts on a resource takes the
/// permit for its verb by value; a permit is not `Clone`, so that one decision allows one action.
#[derive(Debug)]
pub struct Permit<V> {
    resource: Arc<Stored>,
    revision: Revision,
    verb: PhantomData<fn() -> V>,
}

impl<V: VerbType> Permit<V> {
    /// The verb that is allowed.
    pub fn verb(&self) -> Verb {
        V::VERB
    }

    /// The resource, as it was when this was decided.
    pub fn resource(&self) -> &Arc<Stored> {
        &self.resource
    }

    /// Spends the permit on the resource itself.
    pub fn into_resource(self) -> Arc<Stored> {
        self.resource
    }

    /// The revision of the snapshot that allowed it.
    pub fn revision(&self) -> Revision {
        self.revision
    }
}

/// Why there is no permit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No rule allows it. Does not show whether the resource exists.
    #[error("`{subject}` may not {verb} {plural} `{target}`{}", if *narrowed { " with this token, which is narrowed" } else { "" }, plural = kind.plural())]
    Forbidden {
        /// The principal.
        subject: String,
        /// The verb.
        verb: Verb,
        /// The kind of the resource.
        kind: Kind,
        /// Name or id, as the request has it.
        target: String,
        /// Whether the rules of the token alone deny it. It shows nothing of what the subject may do.
        narrowed: bool,
    },
    /// The resource does not exist; the principal may do this to every resource of the kind, so may know.
    #[error("there is no {kind} `{target}`")]
    NotFound {
        /// The kind of the resource.
        kind: Kind,
        /// Name or id, as the request has it.
        target: String,
    },
}

impl Snapshot {
    /// Authorizes the verb `V` on the resource of this id or name.
    ///
    /// INVARIANT 9: every route that acts on a resource is authorized here. The resource is resolved first and the rules
    /// match its name, so that a rule for a name holds by id too.
    ///
    /// # Errors
    /// [`Denied::NotFound`] only if the principal may do this to every resource of the kind; else [`Denied::Forbidden`],
    /// whether or not the resource exists.
    pub fn authorize<V: VerbType>(
        &self,
        principal: &Principal,
        kind: Kind,
        id_or_name: &str,
    ) -> Result<Permit<V>, Denied> {
        if let Some(stored) = self.resolve(kind, id_or_name)
            && self.allows(principal, V::VERB, kind, Names::One(stored.name().as_str())).is_some()
        {
            return Ok(self.permit(stored));
        }
        let may_know = self.allows(principal, V::VERB, kind, Names::Every).is_some();
        Err(if may_know {
            Denied::NotFound { kind, target: id_or_name.to_owned() }
        } else {
            self.forbidden(principal, V::VERB, kind, id_or_name)
        })
    }

    /// Authorizes the verb on every resource of the kind, existing or not.
    ///
    /// # Errors
    /// [`Denied::Forbidden`] if no single rule allows it on all names.
    pub fn authorize_all(&self, principal: &Principal, verb: Verb, kind: Kind) -> Result<(), Denied> {
        match self.allows(principal, verb, kind, Names::Every) {
            Some(_) => Ok(()),
            None => Err(self.forbidden(principal, verb, kind, "*")),
        }
    }

    /// Authorizes the creation of a resource of this name.
    ///
    /// # Errors
    /// [`Denied::Forbidden`] if no rule allows it.
    pub fn authorize_create(&self, principal: &Principal, kind: Kind, name: &Name) -> Result<(), Denied> {
        self.authorize_name(principal, Verb::Create, kind, name.as_str())
    }

    /// Authorizes the verb on the resource of this name, which need not exist: for references, and for names that are
    /// checked before the resource is resolved.
    ///
    /// # Errors
    /// [`Denied::Forbidden`] if no rule allows it.
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

    /// Authorizes to view the records of a kind, usage or audit, about an account, which need not exist any more.
    ///
    /// # Errors
    /// [`Denied::Forbidden`] if no rule allows it.
    pub fn authorize_records(
        &self,
        principal: &Principal,
        kind: Kind,
        account: &Subject,
    ) -> Result<(), Denied> {
        self.authorize_name(principal, Verb::View, kind, &account.path())
    }

    /// Whether the account of this id is active and may do this to the resource of this name.
    pub fn account_may(&self, account: &Id, verb: Verb, kind: Kind, name: &str) -> bool {
        self.active_subject(account)
            .is_some_and(|subject| self.maker_holds(&subject, verb, kind, Names::One(name)))
    }

    /// The grant that allows this. A narrowed credential allows only what its rules allow too, and one that other accounts
    /// made for its subject only what each maker may do or grant too.
    pub(crate) fn allows(
        &self,
        principal: &Principal,
        verb: Verb,
        kind: Kind,
        names: Names<'_>,
    ) -> Option<Reason> {
        if narrows_away(principal, verb, kind, names) {
            return None;
        }
        let reason = self.index.find(&principal.subject, principal.memberships(), verb, kind, names)?;
        let holds = |maker: &Id| {
            self.active_subject(maker).is_some_and(|maker| {
                self.maker_holds(&maker, verb, kind, names)
                    || self.maker_holds(&maker, Verb::Grant, kind, names)
            })
        };
        principal.makers.iter().all(holds).then_some(reason)
    }

    /// Whether an account that made a credential, or attached one, may do this. It has no session of its own here, so what
    /// its last sign-in left counts.
    fn maker_holds(&self, maker: &Subject, verb: Verb, kind: Kind, names: Names<'_>) -> bool {
        self.index.find(maker, Memberships::Claimed, verb, kind, names).is_some()
    }

    pub(crate) fn permit<V>(&self, stored: &Arc<Stored>) -> Permit<V> {
        Permit { resource: Arc::clone(stored), revision: self.revision(), verb: PhantomData }
    }

    /// The denial, which shows nothing but the request.
    pub fn forbidden(&self, principal: &Principal, verb: Verb, kind: Kind, target: &str) -> Denied {
        let names = if target == "*" { Names::Every } else { Names::One(target) };
        // The rules match names, so of an id that is not resolved here they decide nothing.
        let narrowed = !Id::has_shape(target) && narrows_away(principal, verb, kind, names);
        Denied::Forbidden {
            subject: principal.subject.to_string(),
            verb,
            kind,
            target: target.to_owned(),
            narrowed,
        }
    }
}

/// Whether the rules of the principal's token deny this, whatever its subject may do.
pub(crate) fn narrows_away(principal: &Principal, verb: Verb, kind: Kind, names: Names<'_>) -> bool {
    principal.narrowing.as_ref().is_some_and(|narrowing| !narrowing.allows(verb, kind, names))
}
