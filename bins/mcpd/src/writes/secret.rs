//! What is special about writing a Secret: values go in and never come out.

use std::{collections::BTreeMap, sync::Arc};

use mcpctl_access::{Confidential, Stored};
use mcpctl_api::{
    Id,
    spec::{SecretSpec, SecretValue},
};

use super::{Planner, Refusal, Vault, invalid_hint};

/// The data of a stored secret.
pub(crate) fn open(vault: &dyn Vault, stored: &Stored) -> anyhow::Result<BTreeMap<String, SecretValue>> {
    Ok(serde_json::from_slice(&vault.open(stored)?)?)
}

impl Planner<'_> {
    /// Takes the values out of `secret`, leaving `null`, and seals them; a `null` keeps the value that is stored.
    pub(super) fn seal_secret(
        &self,
        id: &Id,
        existing: Option<&Arc<Stored>>,
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
            data.insert(key.clone(), value);
        }
        // Sealing afresh would look like a change.
        if let Some(sealed) = existing.filter(|_| data == old).and_then(|stored| stored.confidential.clone())
        {
            return Ok(sealed);
        }
        let plain = serde_json::to_vec(&data).map_err(|error| Refusal::Vault(error.into()))?;
        self.vault.seal(id, &plain).map(Confidential::Sealed).map_err(Refusal::Vault)
    }
}
