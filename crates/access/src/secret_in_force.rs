//! The secret that an Llm sends to one of its upstreams, while its reference is in force.

use std::sync::Arc;

use mcpctl_api::{Kind, Spec, Verb, spec::Upstream};

use crate::{Snapshot, Stored};

impl Snapshot {
    /// The secret of the upstream's key, or `None` if it has none or the reference is no longer in force.
    ///
    /// INVARIANT 11: the reference is bound to the secret's id, so that a secret that is deleted, renamed or made again is
    /// another one; the accounts that attached it must still be allowed to use it; and the secret may restrict the hosts
    /// that it is sent to.
    pub fn secret_in_force(&self, upstream: &Upstream<'_>) -> Option<&Arc<Stored>> {
        let key = upstream.api_key?;
        let stored = self.by_id(key.secret_id.as_ref()?)?;
        let name = stored.name().as_str();
        let Spec::Secret(secret) = &stored.resource.spec else { return None };
        let in_force = name == key.secret.as_str()
            && secret.may_go_to(upstream.url)
            && key.attached_by.iter().all(|account| self.account_may(account, Verb::Use, Kind::Secret, name));
        in_force.then_some(stored)
    }
}
