//! What inference needs beyond a request: the client to providers, and each Llm's retry budget.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use mcpctl_access::{Permit, Snapshot, Stored};
use mcpctl_api::{
    Id, Kind, Spec, Verb, credential,
    spec::{LlmSpec, ProviderType, SecretKeyRef, SecretValue, Timeouts},
};
use mcpctl_relay::RetryBudget;
use mcpctl_store::Store;
use mcpctl_upstream as upstream;
use secrecy::SecretString;

use crate::{stream_usage::StreamUsage, writes::secret};

/// Llms whose retry budget is remembered.
const MAX_BUDGETS: usize = 4096;

/// Shared by all inference requests.
pub struct Inference {
    /// Connections to providers.
    pub client: upstream::Client,
    /// Providers that refuse `stream_options`.
    pub stream_usage: StreamUsage,
    budgets: Mutex<HashMap<Id, Arc<RetryBudget>>>,
}

impl Inference {
    /// A client without connections yet, which makes those that the policy allows.
    pub fn new(addresses: upstream::AddressPolicy) -> Self {
        let upstream::AddressPolicy { loopback, private, networks, .. } = &addresses;
        tracing::info!(loopback, private, ?networks, "where Llms may point, besides public addresses");
        let addresses = Some(Arc::new(addresses));
        let config = upstream::ClientConfig { addresses, ..upstream::ClientConfig::default() };
        Self {
            client: upstream::Client::new(config),
            stream_usage: StreamUsage::default(),
            budgets: Mutex::default(),
        }
    }

    /// The retry budget of the Llm of this id.
    pub fn budget(&self, llm: &Id) -> Arc<RetryBudget> {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        if budgets.len() >= MAX_BUDGETS {
            // Of Llms that no request is at; they begin anew.
            budgets.retain(|_, budget| Arc::strong_count(budget) > 1);
        }
        Arc::clone(budgets.entry(llm.clone()).or_default())
    }
}

/// Why a permitted Llm cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum Misconfigured {
    /// The permit is for something else; cannot happen, and denies if it does.
    #[error("the permit is not for running an Llm")]
    NotAnLlm,
    /// The reference to the secret is not in force any more, or the secret has no such key.
    #[error(
        "the Llm `{llm}` has no credential: key `{key}` of secret `{secret}` is gone or may not be used any more"
    )]
    NoCredential {
        /// The Llm.
        llm: String,
        /// The secret's name.
        secret: String,
        /// The key in it.
        key: String,
    },
    /// The value was stored before values were checked.
    // Without a word on which character: those who may edit the Llm may not read the value.
    #[error(
        "the credential of the Llm `{llm}` cannot be sent: key `{key}` of secret `{secret}` does not fit into a header"
    )]
    Unsendable {
        /// The Llm.
        llm: String,
        /// The secret's name.
        secret: String,
        /// The key in it.
        key: String,
    },
    /// The secret cannot be decrypted.
    #[error("the credential of the Llm `{llm}` cannot be opened")]
    Sealed {
        /// The Llm.
        llm: String,
        /// Why.
        #[source]
        source: anyhow::Error,
    },
}

/// Where a permitted request goes. Takes the permit, so that nothing is sent without one.
pub struct Route {
    /// The permit that allows it.
    pub permit: Permit,
    /// Address, credential and time limits.
    pub target: upstream::Target,
    /// What the Llm says.
    pub llm: LlmSpec,
}

/// Turns a permit to run an Llm into the place where the request goes.
///
/// # Errors
/// When the Llm's credential cannot be had.
pub fn route(permit: Permit, snapshot: &Snapshot, store: &Store) -> Result<Route, Misconfigured> {
    let name = permit.resource().name().to_string();
    let Spec::Llm(llm) = permit.resource().resource.spec.clone() else { return Err(Misconfigured::NotAnLlm) };
    let credential = match &llm.api_key {
        None => None,
        Some(key) => {
            let missing = || Misconfigured::NoCredential {
                llm: name.clone(),
                secret: key.secret.to_string(),
                key: key.key.clone(),
            };
            let stored = credential(snapshot, &llm, key).ok_or_else(missing)?;
            let mut data = secret::open(store, stored)
                .map_err(|source| Misconfigured::Sealed { llm: name.clone(), source })?;
            let value = data.remove(&key.key).ok_or_else(missing)?;
            Some(sendable(&name, key, &value)?)
        }
    };
    let target = upstream::Target {
        base_url: llm.url.clone(),
        socket: None,
        model: Some(llm.model.clone()),
        credential,
        timeouts: limits(&llm.timeouts),
        kind: match llm.provider {
            ProviderType::Openai => upstream::UpstreamKind::Provider,
        },
    };
    Ok(Route { permit, target, llm })
}

/// The value as it is sent. One that was stored before values were checked may be none.
fn sendable(llm: &str, key: &SecretKeyRef, value: &SecretValue) -> Result<SecretString, Misconfigured> {
    let text = credential::without_line_end(value.expose());
    let unsendable = |_| Misconfigured::Unsendable {
        llm: llm.to_owned(),
        secret: key.secret.to_string(),
        key: key.key.clone(),
    };
    credential::check(text).map(|()| SecretString::from(text)).map_err(unsendable)
}

/// The secret that the Llm refers to, while the reference is in force. INVARIANT 11: it is bound to the secret's id, so
/// that a secret which is deleted, renamed or made again is another one; the accounts that answer for it must still be
/// allowed to use it; and the secret may say where it may be sent.
pub(crate) fn credential<'a>(
    snapshot: &'a Snapshot,
    llm: &LlmSpec,
    key: &SecretKeyRef,
) -> Option<&'a Arc<Stored>> {
    let stored = snapshot.by_id(key.secret_id.as_ref()?)?;
    let name = stored.name().as_str();
    let Spec::Secret(secret) = &stored.resource.spec else { return None };
    let in_force = name == key.secret.as_str()
        && secret.may_go_to(&llm.url)
        && key.attached_by.iter().all(|account| snapshot.account_may(account, Verb::Use, Kind::Secret, name));
    in_force.then_some(stored)
}

fn limits(timeouts: &Timeouts) -> upstream::AttemptTimeouts {
    upstream::AttemptTimeouts {
        connect: timeouts.connect.0,
        response: timeouts.response.0,
        answer: timeouts.answer.0,
        first_token: timeouts.first_token.0,
        idle: timeouts.idle.0,
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_stored_value_that_cannot_travel_is_named_and_not_shown() {
        let key = SecretKeyRef {
            secret: "prod".parse().unwrap(),
            key: "token".to_owned(),
            secret_id: None,
            attached_by: Vec::new(),
        };
        let sendable = |text: &str| sendable("gpt", &key, &SecretValue::new(text));
        for text in ["sk-a", "sk-a\n", "sk-a\r\n"] {
            assert_eq!(sendable(text).unwrap().expose_secret(), "sk-a", "{text:?}");
        }
        for text in ["sk-\na", "\u{feff}sk-a", " sk-a", "sk-\u{43e}", "Bearer sk-a"] {
            let error = sendable(text).unwrap_err().to_string();
            assert!(
                error.contains("`gpt`") && error.contains("`token`") && error.contains("`prod`"),
                "{error}"
            );
            assert!(!error.contains("sk-"), "{error}");
        }
    }
}
