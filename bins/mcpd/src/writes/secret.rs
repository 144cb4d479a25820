//! Rules for writing a Secret: its values are sealed, and no response contains them.

use std::{collections::BTreeMap, sync::Arc};

use mcpctl_access::{Confidential, Stored};
use mcpctl_api::{
    Id, Kind, Name, Spec, credential,
    spec::{SecretSpec, SecretValue},
};

use super::{Planner, Refusal, Vault, invalid_hint, llm};

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
            let key = llm.api_key.as_ref().map_or("", |key| key.key.as_str());
            let visible = self.may_view(&stored).then(|| stored.name());
            if !spec.data.contains_key(key) {
                match visible {
                    _ if !old.contains_key(key) => {}
                    Some(name) => self.warnings.push(format!(
                        "Llm `{name}` has no key any more: it referred to `{key}` of Secret `{}`",
                        secret.name()
                    )),
                    None => keyless += 1,
                }
                continue;
            }
            match visible {
                Some(name) if !spec.may_go_to(&llm.url) => self.warnings.push(format!(
                    "Llm `{name}` sends no key any more: the `hosts` of Secret `{}` do not allow `{}`",
                    secret.name(),
                    llm::host_of(llm)
                )),
                Some(name) => shown.push(format!("`{name}` ({})", llm::host_of(llm))),
                None if !spec.may_go_to(&llm.url) => {}
                None => hidden += 1,
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
            Spec::Llm(llm) => {
                llm.api_key.as_ref().is_some_and(|key| key.secret_id.as_ref() == Some(secret.id()))
            }
            _ => false,
        };
        self.before.all(Kind::Llm).filter(refers).cloned().collect()
    }
}
