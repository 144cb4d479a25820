//! What is special about writing an Llm: it sends a credential to an address.

use std::sync::Arc;

use mcpctl_access::Stored;
use mcpctl_api::{
    Kind, Name, Spec, Verb,
    spec::{LlmSpec, SecretKeyRef},
};

use super::{Planner, Refusal, invalid, invalid_hint};

impl Planner<'_> {
    /// INVARIANT 11: whoever decides where a credential is sent must be allowed to set that secret. Naming a secret
    /// without that right is refused; moving the address detaches the credential that was there.
    pub(super) fn guard_credential(
        &mut self,
        existing: Option<&Arc<Stored>>,
        name: &Name,
        llm: &mut LlmSpec,
    ) -> Result<(), Refusal> {
        let Some(key) = llm.api_key.clone() else { return Ok(()) };
        let old = existing.and_then(|stored| match &stored.resource.spec {
            Spec::Llm(old) => Some(old),
            _ => None,
        });
        let same_place = old.is_some_and(|old| old.url == llm.url && old.provider == llm.provider);
        let same_key = old.is_some_and(|old| old.api_key.as_ref() == Some(&key));
        if (same_place && same_key) || self.may_set(&key) {
            return Ok(());
        }
        if same_key {
            llm.api_key = None;
            self.plan.warnings.push(format!(
                "Llm `{name}` points elsewhere now, so its `apiKey` was detached: you may not edit secrets `{}`",
                key.secret
            ));
            return Ok(());
        }
        let secret = key.secret.as_str();
        let forbidden = self.before.authorize(self.actor, Verb::Edit, Kind::Secret, secret).err();
        Err(forbidden.map_or_else(|| invalid("apiKey.secret", "this secret may not be used"), Refusal::from))
    }

    fn may_set(&self, key: &SecretKeyRef) -> bool {
        let secret = key.secret.as_str();
        if self.before.authorize(self.actor, Verb::Edit, Kind::Secret, secret).is_ok() {
            return true;
        }
        // A secret that this same batch makes is its maker's to use.
        self.before.by_name(Kind::Secret, secret).is_none()
            && self.before.authorize_create(self.actor, Kind::Secret, &key.secret).is_ok()
    }

    pub(super) fn check_key_exists(&self, llm: &LlmSpec) -> Result<(), Refusal> {
        let Some(key) = &llm.api_key else { return Ok(()) };
        let Some(stored) = self.batch.by_name(Kind::Secret, key.secret.as_str()) else {
            return Err(invalid_hint(
                "apiKey.secret",
                format!("there is no Secret `{}`", key.secret),
                "make it first, or put it into the same file",
            ));
        };
        match &stored.resource.spec {
            Spec::Secret(secret) if secret.data.contains_key(&key.key) => Ok(()),
            _ => Err(invalid("apiKey.key", format!("the Secret `{}` has no key `{}`", key.secret, key.key))),
        }
    }
}
