//! A named language model: where it is, how to reach it, how long to wait.

mod failover;
mod fallback;
mod target;

use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

pub use failover::{Failover, FailoverVerb};
pub use fallback::{Breaker, Fallback, FallbackClass, MidStream};
pub use target::{LlmTarget, Upstream};

use super::{FieldError, Price};
use crate::{HumanDuration, Id, Name};

/// The fields of an `Llm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"kind": "Llm", "name": "gpt", "type": "openai", "url": "https://api.openai.com/v1", "model": "gpt-5.2",
    "apiKey": {"secret": "openai", "key": "token"}, "failover": {"require": "run", "offlineGrace": "60s"}}))]
pub struct LlmSpec {
    /// The API that the provider speaks.
    #[serde(rename = "type")]
    pub provider: ProviderType,
    /// Base address of the provider, with or without `/v1`. An Llm has either this or `targets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "https://api.openai.com/v1")]
    pub url: Option<Url>,
    /// The provider's own name of the model; put in place of the Llm's name when a request is forwarded.
    pub model: String,
    /// Several addresses that serve the model. A request goes to the one with the fewest outstanding requests for its weight;
    /// one that keeps failing is skipped for a while, as `breaker` says, unless all do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<LlmTarget>,
    /// What else the provider serves, so that requests need no translation, or an answer can be continued.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<Capability>,
    /// `api-version` of Azure OpenAI, for `type: azure-openai` only: a date such as `2024-10-21` for the API whose paths name
    /// the deployment; left out, or `preview`, for the newer one below `/openai/v1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "2024-10-21")]
    pub api_version: Option<String>,
    /// The provider's key, kept in a secret; with `targets`, each has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<SecretKeyRef>,
    /// Fields of requests by which the provider itself chooses the model or the route (`models`, `fallbacks`, `route`,
    /// `provider`, …); a request with such a field is rejected unless the field is named here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["models"]))]
    pub allow_fields: Vec<String>,
    /// Whether mcpd requests usage in streams (`stream_options.include_usage`) of callers who do not request it themselves.
    /// A provider that rejects the option is detected without this; with `false` mcpd never requests it, and counts what the
    /// stream reports by itself.
    #[serde(default = "requests_usage", skip_serializing_if = "is_requested")]
    #[schema(default = true)]
    pub stream_usage: bool,
    /// What its tokens cost; if left out, the price table of mcpd counts where it lists this model at this address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// How long each step may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// How often a failed attempt is repeated.
    #[serde(default)]
    pub retries: Retries,
    /// When it is skipped because it keeps failing.
    #[serde(default, skip_serializing_if = "Breaker::is_default")]
    pub breaker: Breaker,
    /// The Llms that answer where this one fails, in the order in which they are tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<Fallback>,
    /// What becomes of an answer whose stream breaks after its first content: whether the fallbacks for `server_error` go on
    /// with it. Of a fallback's answer too, the setting of the Llm that was asked for decides.
    #[serde(default, skip_serializing_if = "MidStream::is_error")]
    pub mid_stream: MidStream,
    /// Whether agents may answer from a local provider where it fails.
    #[serde(default, skip_serializing_if = "Failover::is_default")]
    pub failover: Failover,
    /// What mcpd keeps of requests besides their accounts: nothing by default. Takes the verb `capture` on the Llm.
    #[serde(default, skip_serializing_if = "Capture::is_off")]
    pub capture: Capture,
}

const fn requests_usage() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_requested(stream_usage: &bool) -> bool {
    *stream_usage
}

/// The API that a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProviderType {
    /// OpenAI's, and that of every compatible server.
    Openai,
    /// Anthropic's.
    Anthropic,
    /// OpenAI's, as Azure serves it: other paths, and another header for the key.
    AzureOpenai,
}

impl ProviderType {
    /// The name in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
            Self::AzureOpenai => "azure-openai",
        }
    }
}

/// What a provider serves besides the API of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Capability {
    /// OpenAI's `/responses`; also by the id of an earlier one.
    Responses,
    /// Anthropic's `/messages` and `/messages/count_tokens`, as vLLM and llama.cpp do.
    Messages,
    /// Continues an answer whose beginning is the last message.
    Prefill,
}

/// What is kept of the requests to an Llm, in mcpd's data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Capture {
    /// The bodies of requests and answers: prompts, and what the model writes.
    pub bodies: bool,
}

impl Capture {
    /// Whether nothing is kept.
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }
}

/// One value of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKeyRef {
    /// The secret's name.
    #[schema(value_type = String)]
    pub secret: Name,
    /// The key in its `data`.
    pub key: String,
    /// The secret's id, set by the server: a secret that is made later under the same name is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, read_only)]
    pub secret_id: Option<Id>,
    /// Ids of the accounts that made the reference, set by the server: the value is sent only while each of them may `use`
    /// the secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, read_only)]
    pub attached_by: Vec<Id>,
}

impl SecretKeyRef {
    /// Whether both name the same key of a secret of the same name.
    pub fn same_key(&self, other: &Self) -> bool {
        self.secret == other.secret && self.key == other.key
    }
}

/// How long each step of an attempt may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Timeouts {
    /// Until the connection is established, TLS included.
    pub connect: HumanDuration,
    /// Until the response head of a streamed request.
    pub response: HumanDuration,
    /// Until the whole answer of a request that is not streamed, or the first content of a stream, all attempts together;
    /// and between two events with content of a stream.
    pub answer: HumanDuration,
    /// Silence of a stream before its first content; comments, empty deltas and reasoning end a silence.
    pub first_token: HumanDuration,
    /// Silence of a stream after that.
    pub idle: HumanDuration,
}

impl Timeouts {
    /// The longest timeout of any step: a request holds a connection and counts as in-flight meanwhile.
    pub const MAX: HumanDuration = HumanDuration::from_secs(24 * 60 * 60);
}

/// The defaults of docs/reference/contract.md.
impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: HumanDuration::from_secs(3),
            response: HumanDuration::from_secs(30),
            answer: HumanDuration::from_secs(600),
            first_token: HumanDuration::from_secs(120),
            idle: HumanDuration::from_secs(60),
        }
    }
}

/// How often a failed attempt is repeated at the same upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retries {
    /// Maximum number of attempts after the first; 0 to 2.
    pub max: u8,
}

impl Default for Retries {
    fn default() -> Self {
        Self { max: Self::MAX }
    }
}

impl Retries {
    /// The highest `max`.
    pub const MAX: u8 = 2;
}

impl LlmSpec {
    /// The most fields that `allowFields` names.
    const MAX_ALLOW_FIELDS: usize = 64;

    /// Longest `apiVersion`, in bytes.
    const MAX_API_VERSION: usize = 40;

    /// Whether the provider is known to have a capability.
    pub fn can(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }

    fn validate_api(&self) -> Result<(), FieldError> {
        if let Some((at, _)) = self
            .capabilities
            .iter()
            .enumerate()
            .find(|(at, one)| self.capabilities.iter().take(*at).any(|earlier| earlier == *one))
        {
            return Err(FieldError::new(format!("capabilities[{at}]"), "the capability is named twice"));
        }
        let foreign = |one: &Capability| matches!(one, Capability::Responses | Capability::Messages);
        if self.provider == ProviderType::Anthropic
            && let Some(at) = self.capabilities.iter().position(foreign)
        {
            let message = "a provider of `type: anthropic` serves messages, and no responses";
            return Err(FieldError::new(format!("capabilities[{at}]"), message).hint("leave it out"));
        }
        let Some(version) = &self.api_version else { return Ok(()) };
        if self.provider != ProviderType::AzureOpenai {
            let message = format!("a provider of `type: {}` has no `apiVersion`", self.provider.as_str());
            return Err(FieldError::new("apiVersion", message).hint("it belongs to `type: azure-openai`"));
        }
        let is_version = !version.is_empty()
            && version.len() <= Self::MAX_API_VERSION
            && version.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
        if !is_version {
            return Err(FieldError::new("apiVersion", "it is not a version of Azure's API")
                .hint("write for example `2024-10-21`, or leave it out"));
        }
        Ok(())
    }

    pub(super) fn validate(&self) -> Result<(), FieldError> {
        self.validate_upstreams()?;
        self.validate_api()?;
        if self.allow_fields.len() > Self::MAX_ALLOW_FIELDS {
            let message = format!("at most {} fields may be named", Self::MAX_ALLOW_FIELDS);
            return Err(FieldError::new("allowFields", message));
        }
        if let Some(price) = &self.price {
            price.validate("price")?;
        }
        // INVARIANT 15: a zero limit never means "for ever", so it is rejected where it is written.
        let t = &self.timeouts;
        for (name, value) in [
            ("connect", t.connect),
            ("response", t.response),
            ("answer", t.answer),
            ("firstToken", t.first_token),
            ("idle", t.idle),
        ] {
            if value.is_zero() {
                return Err(FieldError::new(format!("timeouts.{name}"), "a timeout is more than zero"));
            }
            if value > Timeouts::MAX {
                return Err(FieldError::new(
                    format!("timeouts.{name}"),
                    format!("a timeout is at most {}, `{value}` asked for", Timeouts::MAX),
                ));
            }
        }
        if self.retries.max > Retries::MAX {
            return Err(FieldError::new(
                "retries.max",
                format!("at most {} repetitions, {} asked for", Retries::MAX, self.retries.max),
            ));
        }
        self.breaker.validate()?;
        self.failover.validate()?;
        fallback::validate(&self.fallbacks, self.mid_stream)
    }
}
