//! Rules for writing an Llm: it sends a credential to an address.

use std::sync::Arc;

use mcpctl_access::Stored;
use mcpctl_api::{
    Id, Kind, Name, Spec, Verb,
    spec::{LlmSpec, SecretKeyRef, Upstream},
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
    /// account that made it. Naming a secret without that right is refused. A reference holds for the address beside which it
    /// was written and no other: where the address has moved, or the keys of two targets changed places, it is detached.
    pub(super) fn guard_credentials(
        &mut self,
        existing: Option<&Arc<Stored>>,
        name: &Name,
        llm: &mut LlmSpec,
    ) -> Result<(), Refusal> {
        let old = existing.and_then(|stored| match &stored.resource.spec {
            Spec::Llm(old) => Some(old.as_ref()),
            _ => None,
        });
        let mut keys = Vec::new();
        for upstream in llm.upstreams() {
            keys.push(match upstream.api_key {
                Some(key) => self.guard_key(old, name, &upstream, key.clone())?,
                None => None,
            });
        }
        llm.api_keys_mut().zip(keys).for_each(|(place, key)| *place = key);
        Ok(())
    }

    /// The key of one upstream as it is stored; `None` where it is detached.
    fn guard_key(
        &mut self,
        old: Option<&LlmSpec>,
        name: &Name,
        upstream: &Upstream<'_>,
        key: SecretKeyRef,
    ) -> Result<Option<SecretKeyRef>, Refusal> {
        let secret = key.secret.as_str();
        let current = self.batch.by_name(Kind::Secret, secret).map(|stored| stored.id().clone());
        let may_use = self.before.authorize_name(self.actor, Verb::Use, Kind::Secret, secret);
        let whose = match upstream.place {
            None => format!("Llm `{name}`"),
            Some(_) => format!("Llm `{name}` at `{}`", upstream.host()),
        };
        let is_intact = |old: &SecretKeyRef| old.secret_id == current && self.attached_in_force(old);
        let references: Vec<(Upstream<'_>, &SecretKeyRef)> = old
            .into_iter()
            .flat_map(LlmSpec::upstreams)
            .filter_map(|of| of.api_key.filter(|old| old.same_key(&key)).map(|old| (of, old)))
            .collect();
        // Targets at one address may differ in their models, and in who attached the key.
        let here = references
            .iter()
            .filter(|(of, _)| of.provider == upstream.provider && of.address() == upstream.address())
            .max_by_key(|(of, old)| (of.model == upstream.model, is_intact(old)));
        if let Some((_, old_key)) = here {
            let intact = is_intact(old_key);
            // A void reference is attached again only if the document leaves out the server's `secretId`. With it, as in an
            // edit of another field, the reference stays as it is.
            let as_stored = key.secret_id.is_some();
            if intact || as_stored || may_use.is_err() {
                if !intact && may_use.is_ok() {
                    self.warnings.push(format!(
                        "{whose} still sends no key: write `apiKey` without `secretId` to attach Secret `{secret}`"
                    ));
                }
                return Ok(Some((*old_key).clone()));
            }
            self.warnings.push(format!(
                "{whose} sends Secret `{secret}` to `{}` again, and you answer for it now",
                upstream.host()
            ));
        }
        match may_use {
            Ok(()) => {
                if let (Some(written), Some(current)) = (&key.secret_id, &current)
                    && written != current
                    && references.is_empty()
                {
                    return Err(invalid_hint(
                        &upstream.field("apiKey.secretId"),
                        format!("the Secret `{secret}` has another id"),
                        "leave `secretId` out to refer to the one that has the name now",
                    ));
                }
                Ok(Some(self.attach(key, current)))
            }
            Err(_) if !references.is_empty() => {
                self.warnings.push(match upstream.place {
                    None => format!(
                        "Llm `{name}` points elsewhere now, so its `apiKey` was detached: you may not use secrets `{secret}`"
                    ),
                    Some(_) => format!(
                        "{whose} sends no key: it went elsewhere, so it was detached, and you may not use secrets `{secret}`"
                    ),
                });
                Ok(None)
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

    pub(super) fn check_keys_exist(&self, llm: &LlmSpec) -> Result<(), Refusal> {
        llm.upstreams().try_for_each(|upstream| self.check_key_exists(&upstream))
    }

    fn check_key_exists(&self, upstream: &Upstream<'_>) -> Result<(), Refusal> {
        let Some(key) = upstream.api_key else { return Ok(()) };
        // A writer that may not use the secret, and left the key as it was, learns nothing about the secret.
        let secret = key.secret.as_str();
        if self.before.authorize_name(self.actor, Verb::Use, Kind::Secret, secret).is_err() {
            return Ok(());
        }
        let Some(stored) = self.batch.by_name(Kind::Secret, secret) else {
            return Err(invalid_hint(
                &upstream.field("apiKey.secret"),
                format!("there is no Secret `{secret}`"),
                "make it first, or put it into the same file",
            ));
        };
        let Spec::Secret(spec) = &stored.resource.spec else {
            return Err(invalid(&upstream.field("apiKey.secret"), format!("`{secret}` is not a Secret")));
        };
        if !spec.data.contains_key(&key.key) {
            let message = format!("the Secret `{secret}` has no key `{}`", key.key);
            return Err(invalid(&upstream.field("apiKey.key"), message));
        }
        if !spec.may_go_to(upstream.url) {
            return Err(invalid_hint(
                &upstream.field("url"),
                format!("the Secret `{secret}` may not be sent to `{}`", upstream.host()),
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
