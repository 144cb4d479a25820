//! Which resources refer to what, so that a write finds those that it affects without a walk over a kind.
//!
//! Rights have an index of their own (`rules.rs`); the methods here read both.

use std::{collections::BTreeSet, sync::Arc};

use mcpctl_api::{
    Id, Kind, Name, Spec,
    oidc::IssuerUrl,
    spec::{Subject, TokenOrigin},
};

use crate::{Snapshot, Stored, rules::external_identity, shared::Lists};

/// Lists by what they refer to. A change updates the entries of the resource that it is about.
#[derive(Debug, Clone, Default)]
pub(crate) struct References {
    /// The resources of a kind whose credentials an account made, set or attached.
    made_by: Lists<(Kind, Id)>,
    /// The users that are linked to an account at a provider.
    linked: Lists<TokenOrigin>,
    /// The users that are linked to some account at a provider.
    linked_at: Lists<IssuerUrl>,
    /// The Llms that name an Llm as a fallback.
    falling_back: Lists<Name>,
}

impl References {
    /// Adds what a resource refers to.
    pub(crate) fn put(&mut self, stored: &Arc<Stored>) {
        for maker in makers(stored) {
            self.made_by.add((stored.kind(), maker.clone()), stored);
        }
        if let Some(origin) = origin(stored) {
            self.linked_at.add(origin.issuer.clone(), stored);
            self.linked.add(origin, stored);
        }
        for fallback in fallbacks(stored) {
            self.falling_back.add(fallback.clone(), stored);
        }
    }

    /// Removes what a resource referred to.
    pub(crate) fn remove(&mut self, stored: &Stored) {
        for maker in makers(stored) {
            self.made_by.take(&(stored.kind(), maker.clone()), stored);
        }
        if let Some(origin) = origin(stored) {
            self.linked_at.take(&origin.issuer, stored);
            self.linked.take(&origin, stored);
        }
        for fallback in fallbacks(stored) {
            self.falling_back.take(fallback, stored);
        }
    }
}

impl Snapshot {
    /// The bindings, then the groups, then the Limits that name this subject, whether or not it exists.
    pub fn naming(&self, subject: &Subject) -> impl Iterator<Item = &Arc<Stored>> {
        self.index.naming(subject)
    }

    /// The bindings to the role of this name, whether or not it exists.
    pub fn bindings_of(&self, role: &Name) -> impl Iterator<Item = &Arc<Stored>> {
        self.index.bindings_of(role)
    }

    /// The resources of a kind that this account made a credential of: a token, a password, a link to a provider, a trust,
    /// or the key of an Llm.
    pub fn made_by(&self, kind: Kind, account: &Id) -> impl Iterator<Item = &Arc<Stored>> {
        self.references.made_by.of(&(kind, account.clone()))
    }

    /// The users that are linked to this account at a provider.
    pub fn linked_to(&self, account: &TokenOrigin) -> impl Iterator<Item = &Arc<Stored>> {
        self.references.linked.of(account)
    }

    /// How many users are linked to an account at this provider.
    pub fn count_linked_at(&self, issuer: &IssuerUrl) -> usize {
        self.references.linked_at.of(issuer).count()
    }

    /// The Llms that name this one as a fallback.
    pub fn falling_back_to(&self, llm: &Name) -> impl Iterator<Item = &Arc<Stored>> {
        self.references.falling_back.of(llm)
    }
}

/// The accounts that made a credential of this resource, each once.
fn makers(stored: &Stored) -> BTreeSet<&Id> {
    match &stored.resource.spec {
        Spec::Token(token) => token.issued_by.iter().collect(),
        Spec::User(user) => {
            let linked_by = user.external.identity().map_or(&[][..], |identity| &identity.linked_by);
            user.password_set_by.iter().chain(linked_by).collect()
        }
        Spec::ServiceAccount(account) => account.trust_set_by.iter().collect(),
        Spec::Llm(llm) => {
            llm.upstreams().filter_map(|of| of.api_key).flat_map(|key| &key.attached_by).collect()
        }
        _ => BTreeSet::new(),
    }
}

fn origin(stored: &Stored) -> Option<TokenOrigin> {
    let identity = external_identity(stored)?;
    Some(TokenOrigin { issuer: identity.issuer.clone(), subject: identity.subject.clone() })
}

fn fallbacks(stored: &Stored) -> impl Iterator<Item = &Name> {
    let fallbacks = match &stored.resource.spec {
        Spec::Llm(llm) => llm.fallbacks.as_slice(),
        _ => &[],
    };
    fallbacks.iter().map(|fallback| &fallback.llm)
}
