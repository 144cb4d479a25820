//! Where a permitted inference request goes: the addresses of its Llm, each with its own credential.

use std::sync::Arc;

use mcpctl_access::{Permit, Snapshot, Stored, verb::Run};
use mcpctl_api::{
    credential,
    spec::{Capability, LlmSpec, ProviderType, SecretKeyRef, SecretValue, Timeouts, Upstream},
};
use mcpctl_dialect::{ExtraOperations, Operation};
use mcpctl_store::Store;
use mcpctl_upstream as upstream;
use secrecy::SecretString;

use super::prepared::{PreparedLlm, PreparedLlms, PreparedUpstream};
use crate::writes::secret;

/// Why no request can be sent to a permitted Llm.
#[derive(Debug, thiserror::Error)]
pub enum Misconfigured {
    /// The permit is for another kind of resource. Cannot happen, and denies if it does.
    #[error("the permit is not for running an Llm")]
    NotAnLlm,
    /// The reference to the secret is no longer in force, or the secret has no such key.
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
    // Does not name the character: those who may edit the Llm may not read the value.
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
        /// The cause.
        #[source]
        source: anyhow::Error,
    },
}

/// The way of a permitted request to the upstreams of its Llm.
pub struct Route(Arc<PreparedLlm>);

/// Spends a permit to run an Llm on the route to its upstreams. Only a permit for `run` is accepted, so that no request is
/// sent without one.
///
/// # Errors
/// When the permit is for another kind of resource, which cannot happen.
pub fn route(permit: Permit<Run>, llms: &PreparedLlms) -> Result<Route, Misconfigured> {
    llms.of(&permit.into_resource()).map(Route).ok_or(Misconfigured::NotAnLlm)
}

impl Route {
    /// The Llm's specification.
    pub fn llm(&self) -> &LlmSpec {
        &self.0.spec
    }

    /// The upstreams, in the order of the document.
    pub fn upstreams(&self) -> impl Iterator<Item = (Upstream<'_>, &PreparedUpstream)> {
        self.0.upstreams()
    }

    /// One of the upstreams, with its credential opened. Whether that is in force is decided in this snapshot.
    ///
    /// # Errors
    /// When the credential cannot be used.
    pub fn target(
        &self,
        upstream: &Upstream<'_>,
        prepared: &PreparedUpstream,
        snapshot: &Snapshot,
        store: &Store,
    ) -> Result<upstream::Target, Misconfigured> {
        let name = self.0.stored().name().as_str();
        let secret =
            secret_in_force(name, upstream, snapshot).inspect_err(|_| prepared.close_unless_from(None))?;
        prepared.target(secret, || open(name, self.llm(), upstream, secret, store))
    }
}

/// An upstream of an Llm, with its credential. It opens the secret, so it is used for permitted requests, and for the check of
/// a credential whose writer may write it.
pub(super) fn target(
    name: &str,
    llm: &LlmSpec,
    upstream: &Upstream<'_>,
    snapshot: &Snapshot,
    store: &Store,
) -> Result<upstream::Target, Misconfigured> {
    let secret = secret_in_force(name, upstream, snapshot)?;
    open(name, llm, upstream, secret, store)
}

/// The secret of an upstream's key; `None` where it has no key.
fn secret_in_force<'a>(
    name: &str,
    upstream: &Upstream<'_>,
    snapshot: &'a Snapshot,
) -> Result<Option<&'a Arc<Stored>>, Misconfigured> {
    let Some(key) = upstream.api_key else { return Ok(None) };
    snapshot.secret_in_force(upstream).map(Some).ok_or_else(|| no_credential(name, key))
}

fn open(
    name: &str,
    llm: &LlmSpec,
    upstream: &Upstream<'_>,
    secret: Option<&Arc<Stored>>,
    store: &Store,
) -> Result<upstream::Target, Misconfigured> {
    let credential = match (upstream.api_key, secret) {
        (None, _) => None,
        (Some(key), None) => return Err(no_credential(name, key)),
        (Some(key), Some(secret)) => {
            let mut data = secret::open(store, secret)
                .map_err(|source| Misconfigured::Sealed { llm: name.to_owned(), source })?;
            let value = data.remove(&key.key).ok_or_else(|| no_credential(name, key))?;
            Some(sendable(name, key, &value)?)
        }
    };
    Ok(upstream::Target::new(upstream::TargetConfig {
        base_url: upstream.url.clone(),
        socket: None,
        model: Some(upstream.model.to_owned()),
        credential,
        timeouts: timeouts(&llm.timeouts),
        api: api_of(llm),
        kind: upstream::UpstreamKind::Provider,
    }))
}

fn no_credential(llm: &str, key: &SecretKeyRef) -> Misconfigured {
    Misconfigured::NoCredential { llm: llm.to_owned(), secret: key.secret.to_string(), key: key.key.clone() }
}

/// The operation at an Llm's provider for one that a caller asks for.
pub fn upstream_operation(asked: Operation, llm: &LlmSpec) -> Operation {
    let extra = ExtraOperations {
        responses: llm.can(Capability::Responses),
        messages: llm.can(Capability::Messages),
        count_tokens: llm.can(Capability::Messages),
    };
    asked.at(api_of(llm).dialect(), extra)
}

/// The API of an Llm's provider.
fn api_of(llm: &LlmSpec) -> upstream::Api {
    match llm.provider {
        ProviderType::Openai => upstream::Api::Openai,
        ProviderType::Anthropic => upstream::Api::Anthropic,
        ProviderType::AzureOpenai => upstream::Api::AzureOpenai { version: llm.api_version.clone() },
    }
}

/// The value as it is sent. A value that was stored before values were checked may be unsendable.
fn sendable(llm: &str, key: &SecretKeyRef, value: &SecretValue) -> Result<SecretString, Misconfigured> {
    let text = credential::without_line_end(value.expose());
    let unsendable = |_| Misconfigured::Unsendable {
        llm: llm.to_owned(),
        secret: key.secret.to_string(),
        key: key.key.clone(),
    };
    credential::check(text).map(|()| SecretString::from(text)).map_err(unsendable)
}

fn timeouts(timeouts: &Timeouts) -> upstream::AttemptTimeouts {
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
    fn an_unsendable_value_is_named_and_not_shown() {
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
