//! Rules for writing a Secret: its values are sealed, and no response contains them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mcpctl_access::{Confidential, Stored};
use mcpctl_api::{
    Id, Kind, Name, Spec, credential,
    spec::{LlmSpec, SecretKeyRef, SecretSpec, SecretValue, Upstream},
};

use super::{Planner, Refusal, Vault, invalid_hint};

/// Opens the data of a stored secret.
pub(crate) fn open(vault: &dyn Vault, stored: &Stored) -> anyhow::Result<BTreeMap<String, SecretValue>> {
    Ok(serde_json::from_slice(&vault.open(stored)?)?)
}

impl Planner<'_> {
    /// Moves the values out of `secret`, which keeps `null`, and seals them. A `null` keeps the stored value.
    pub(super) fn seal_secret(
        &mut self,
        id: &Id,
        existing: Option<&Arc<Stored>>,
        name: &Name,
        secret: &mut SecretSpec,
    ) -> Result<Confidential, Refusal> {
        let old = match existing {
            Some(stored) => open(self.vault, stored).map_err(Refusal::Vault)?,
            None => BTreeMap::new(),
        };
        let mut data = BTreeMap::new();
        for (key, value) in &mut secret.data {
            let Some(value) = value.take().or_else(|| old.get(key).cloned()) else {
                return Err(invalid_hint(
                    &format!("data.{key}"),
                    "there is no stored value to keep",
                    "write the value instead of `null`",
                ));
            };
            let text = credential::without_line_end(value.expose());
            if text.len() < value.expose().len() {
                self.warnings.push(format!(
                    "the line end after `data.{key}` of Secret `{name}` is left out of the value"
                ));
                data.insert(key.clone(), SecretValue::new(text));
            } else {
                data.insert(key.clone(), value);
            }
        }
        if let Some(stored) = existing {
            let old_hosts = match &stored.resource.spec {
                Spec::Secret(old) => old.hosts.as_slice(),
                _ => &[],
            };
            if secret.hosts.is_empty() && !old_hosts.is_empty() {
                self.warnings
                    .push(format!("Secret `{name}` may be sent to any host now: `hosts` is left out"));
            }
            if stored.name() != name {
                self.secret_unbound(stored);
            } else if data != old || old_hosts != secret.hosts {
                self.show_destinations(stored, secret, &old);
            }
        }
        // Sealing again would look like a change.
        if let Some(sealed) = existing.filter(|_| data == old).and_then(|stored| stored.confidential.clone())
        {
            return Ok(sealed);
        }
        let plain = serde_json::to_vec(&data).map_err(|error| Refusal::Vault(error.into()))?;
        self.vault.seal(id, &plain).map(Confidential::Sealed).map_err(Refusal::Vault)
    }

    /// Warns the writer of a value which addresses it is sent to.
    fn show_destinations(&mut self, secret: &Stored, spec: &SecretSpec, old: &BTreeMap<String, SecretValue>) {
        let (mut shown, mut hidden, mut keyless) = (Vec::new(), 0_usize, 0_usize);
        for stored in self.referring(secret) {
            let Spec::Llm(llm) = &stored.resource.spec else { continue };
            let Destinations { lost, forbidden, sent } = Destinations::of(llm, secret, spec, old);
            if !self.may_view(&stored) {
                keyless += usize::from(!lost.is_empty());
                hidden += usize::from(!sent.is_empty());
                continue;
            }
            let name = stored.name();
            for key in lost {
                self.warnings.push(format!(
                    "Llm `{name}` has no key any more: it referred to `{key}` of Secret `{}`",
                    secret.name()
                ));
            }
            for host in forbidden {
                self.warnings.push(format!(
                    "Llm `{name}` sends no key any more: the `hosts` of Secret `{}` do not allow `{host}`",
                    secret.name()
                ));
            }
            if !sent.is_empty() {
                shown.push(format!("`{name}` ({})", Vec::from_iter(sent).join(", ")));
            }
        }
        self.warn_of_keyless(keyless);
        if hidden > 0 {
            shown.push(format!("{hidden} that you may not view"));
        }
        if !shown.is_empty() {
            let list = shown.join(", ");
            self.warnings
                .push(format!("Secret `{}` is sent to the providers of Llms: {list}", secret.name()));
        }
    }

    /// Warns of the Llms whose reference to a deleted or renamed secret is void.
    pub(super) fn secret_unbound(&mut self, secret: &Stored) {
        let referring = self.referring(secret);
        let all = referring.len();
        let shown = self.shown(referring);
        let hidden = all - shown.len();
        for llm in shown {
            self.warnings
                .push(format!("Llm `{llm}` has no key any more: it referred to Secret `{}`", secret.name()));
        }
        self.warn_of_keyless(hidden);
    }

    fn warn_of_keyless(&mut self, hidden: usize) {
        if hidden > 0 {
            self.warnings.push(format!("{hidden} Llm(s) that you may not view have no key any more"));
        }
    }

    fn referring(&self, secret: &Stored) -> Vec<Arc<Stored>> {
        let refers = |stored: &&Arc<Stored>| match &stored.resource.spec {
            Spec::Llm(llm) => references(llm, secret).next().is_some(),
            _ => false,
        };
        self.before.all(Kind::Llm).filter(refers).cloned().collect()
    }
}

/// Where an Llm sends a secret that is written.
#[derive(Default)]
struct Destinations {
    /// The keys that the secret has no more.
    lost: BTreeSet<String>,
    /// The hosts that the secret may not be sent to.
    forbidden: BTreeSet<String>,
    /// The hosts that it is sent to.
    sent: BTreeSet<String>,
}

impl Destinations {
    fn of(llm: &LlmSpec, secret: &Stored, spec: &SecretSpec, old: &BTreeMap<String, SecretValue>) -> Self {
        let mut found = Self::default();
        for (upstream, key) in references(llm, secret) {
            if !spec.data.contains_key(&key.key) {
                if old.contains_key(&key.key) {
                    found.lost.insert(key.key.clone());
                }
            } else if spec.may_go_to(upstream.url) {
                found.sent.insert(upstream.host());
            } else {
                found.forbidden.insert(upstream.host());
            }
        }
        found
    }
}

/// The upstreams of an Llm that refer to a secret.
fn references<'a>(
    llm: &'a LlmSpec,
    secret: &Stored,
) -> impl Iterator<Item = (Upstream<'a>, &'a SecretKeyRef)> {
    llm.upstreams().filter_map(|upstream| {
        let key = upstream.api_key.filter(|key| key.secret_id.as_ref() == Some(secret.id()))?;
        Some((upstream, key))
    })
}
