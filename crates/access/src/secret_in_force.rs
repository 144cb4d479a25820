//! The secret that an Llm sends to one of its upstreams, while its reference is in force.

use std::sync::Arc;

use mcpctl_api::{Kind, Spec, Verb, spec::Upstream};

use crate::{Snapshot, Stored};

/// Why a reference to a secret is void: nothing is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VoidKey {
    /// The secret that was attached is no longer there under its name.
    #[error("the secret was deleted, renamed or made again")]
    SecretGone,
    /// The secret may not go to this address.
    #[error("the secret's `hosts` do not list the address")]
    Host,
    /// An account that attached it is deleted or disabled.
    #[error("an account that attached it is deleted or disabled")]
    AccountGone,
    /// An account that attached it has lost the right.
    #[error("an account that attached it may no longer use the secret")]
    MayNotUse,
}

impl Snapshot {
    /// The secret of the upstream's key, or `None` if it has none or the reference is no longer in force.
    pub fn secret_in_force(&self, upstream: &Upstream<'_>) -> Option<&Arc<Stored>> {
        self.attached_secret(upstream)?.ok()
    }

    /// The secret of the upstream's key, or why the reference is void; `None` if the upstream has no key.
    ///
    /// INVARIANT 11: the reference is bound to the secret's id, so that a secret that is deleted, renamed or made again is
    /// another one; the accounts that attached it must still be allowed to use it; and the secret may restrict the hosts
    /// that it is sent to.
    pub fn attached_secret(&self, upstream: &Upstream<'_>) -> Option<Result<&Arc<Stored>, VoidKey>> {
        let key = upstream.api_key?;
        let stored = key.secret_id.as_ref().and_then(|id| self.by_id(id));
        let Some((stored, Spec::Secret(secret))) = stored
            .filter(|stored| stored.name() == &key.secret)
            .map(|stored| (stored, &stored.resource.spec))
        else {
            return Some(Err(VoidKey::SecretGone));
        };
        let name = stored.name().as_str();
        Some(if !secret.may_go_to(upstream.url) {
            Err(VoidKey::Host)
        } else if !self.are_active(&key.attached_by) {
            Err(VoidKey::AccountGone)
        } else if !key
            .attached_by
            .iter()
            .all(|account| self.account_may(account, Verb::Use, Kind::Secret, name))
        {
            Err(VoidKey::MayNotUse)
        } else {
            Ok(stored)
        })
    }
}
