//! Rules for writing an Llm: it sends a credential to an address.

use std::sync::Arc;

use mcpctl_access::Stored;
use mcpctl_api::{
    Id, Kind, Name, Spec, Verb,
    spec::{LlmSpec, SecretKeyRef},
};
use mcpctl_dialect::keys;

use super::{Planner, Refusal, invalid, invalid_hint};

impl Planner<'_> {
    /// Keeping what callers send takes a right of its own, also under another name: the right to edit an Llm is no right to
    /// read along. An editor may leave it as it is, or end it.
    pub(super) fn guard_capture(
        &self,
        existing: Option<&Arc<Stored>>,
        name: &Name,
        llm: &LlmSpec,
    ) -> Result<(), Refusal> {
        let kept = existing.is_some_and(|stored| {
            let same = matches!(&stored.resource.spec, Spec::Llm(old) if old.capture == llm.capture);
            same && stored.name() == name
        });
        if llm.capture.is_off() || kept {
            return Ok(());
        }
        Ok(self.before.authorize_name(self.actor, Verb::Capture, Kind::Llm, name.as_str())?)
    }

    /// INVARIANT 11: a reference to a secret takes the right to `use` it, and is bound to the secret's id and to the
    /// account that made it. Naming a secret without that right is refused; moving the address detaches the credential
    /// that was there.
    pub(super) fn guard_credential(
        &mut self,
        existing: Option<&Arc<Stored>>,
        name: &Name,
        llm: &mut LlmSpec,
    ) -> Result<(), Refusal> {
        let Some(key) = llm.api_key.take() else { return Ok(()) };
        let old = existing.and_then(|stored| match &stored.resource.spec {
            Spec::Llm(old) => Some(old),
            _ => None,
        });
        let old_key = old.and_then(|old| old.api_key.as_ref()).filter(|old| old.same_key(&key));
        let same_address = old.is_some_and(|old| old.url == llm.url && old.provider == llm.provider);
        let secret = key.secret.as_str();
        let current = self.batch.by_name(Kind::Secret, secret).map(|stored| stored.id().clone());
        let may_use = self.before.authorize_name(self.actor, Verb::Use, Kind::Secret, secret);
        if let Some(old_key) = old_key.filter(|_| same_address) {
            let intact = old_key.secret_id == current && self.attached_in_force(old_key);
            // A void reference is attached again only if the document leaves out the server's `secretId`. With it, as in an
            // edit of another field, the reference stays as it is.
            let as_stored = key.secret_id.is_some();
            if intact || as_stored || may_use.is_err() {
                llm.api_key = Some(old_key.clone());
                if !intact && may_use.is_ok() {
                    self.warnings.push(format!(
                        "Llm `{name}` still sends no key: write `apiKey` without `secretId` to attach Secret `{secret}`"
                    ));
                }
                return Ok(());
            }
            self.warnings.push(format!(
                "Llm `{name}` sends Secret `{secret}` to `{}` again, and you answer for it now",
                host_of(llm)
            ));
        }
        match may_use {
            Ok(()) => {
                if let (Some(written), Some(current)) = (&key.secret_id, &current)
                    && written != current
                    && old_key.is_none()
                {
                    return Err(invalid_hint(
                        "apiKey.secretId",
                        format!("the Secret `{secret}` has another id"),
                        "leave `secretId` out to refer to the one that has the name now",
                    ));
                }
                llm.api_key = Some(self.attach(key, current));
                Ok(())
            }
            Err(_) if old_key.is_some() => {
                self.warnings.push(format!(
                    "Llm `{name}` points elsewhere now, so its `apiKey` was detached: you may not use secrets `{secret}`"
                ));
                Ok(())
            }
            Err(denied) => Err(denied.into()),
        }
    }

    fn attach(&self, key: SecretKeyRef, secret: Option<Id>) -> SecretKeyRef {
        let mut accounts = self.actor.makers.clone();
        accounts.push(self.actor.id.clone());
        SecretKeyRef { secret_id: secret, attached_by: accounts, ..key }
    }

    fn attached_in_force(&self, key: &SecretKeyRef) -> bool {
        let may_use =
            |account: &Id| self.before.account_may(account, Verb::Use, Kind::Secret, key.secret.as_str());
        key.attached_by.iter().all(may_use)
    }

    pub(super) fn check_key_exists(&self, llm: &LlmSpec) -> Result<(), Refusal> {
        let Some(key) = &llm.api_key else { return Ok(()) };
        // A writer that may not use the secret, and left the key as it was, learns nothing about the secret.
        let secret = key.secret.as_str();
        if self.before.authorize_name(self.actor, Verb::Use, Kind::Secret, secret).is_err() {
            return Ok(());
        }
        let Some(stored) = self.batch.by_name(Kind::Secret, secret) else {
            return Err(invalid_hint(
                "apiKey.secret",
                format!("there is no Secret `{secret}`"),
                "make it first, or put it into the same file",
            ));
        };
        let Spec::Secret(spec) = &stored.resource.spec else {
            return Err(invalid("apiKey.secret", format!("`{secret}` is not a Secret")));
        };
        if !spec.data.contains_key(&key.key) {
            return Err(invalid("apiKey.key", format!("the Secret `{secret}` has no key `{}`", key.key)));
        }
        if !spec.may_go_to(&llm.url) {
            return Err(invalid_hint(
                "url",
                format!("the Secret `{secret}` may not be sent to `{}`", host_of(llm)),
                "its `hosts` list where it may be sent",
            ));
        }
        Ok(())
    }
}

/// Rejects a name in `allowFields` that is never rejected in a request: it is a typing error.
pub(super) fn check_allowed_fields(llm: &LlmSpec) -> Result<(), Refusal> {
    let Some((at, field)) =
        llm.allow_fields.iter().enumerate().find(|(_, field)| !keys::is_routing_key(field))
    else {
        return Ok(());
    };
    Err(invalid_hint(
        &format!("allowFields[{at}]"),
        format!("`{field}` is not a field that is refused, so that it need not be allowed"),
        "name fields such as `models`, `fallbacks`, `route` or `provider`",
    ))
}

/// Host and port of the provider.
pub(super) fn host_of(llm: &LlmSpec) -> String {
    let host = llm.url.host_str().unwrap_or_default();
    llm.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
