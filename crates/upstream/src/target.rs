//! Where an attempt goes and how long it may take. The caller builds a [`TargetConfig`] from an Llm or a local provider; this
//! crate depends on neither.

use std::{fmt, path::PathBuf, time::Duration};

use mcpctl_api::{
    HumanDuration,
    base_url::{anthropic_base_path, azure_base_path, base_path},
};
use secrecy::SecretString;
use url::Url;

use mcpctl_dialect::{Dialect, Operation};

/// What is at the other end. It decides which headers of an answer are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamKind {
    /// A model provider: its `mcpctl-` headers are ignored and removed, its 401 and 403 are about our key.
    Provider,
    /// `mcpd`, as an agent's upstream: its `mcpctl-failure` and `mcpctl-error-source` are trusted, its 401 and 403 are about the
    /// caller.
    Mcpd,
}

/// The API that a model server has: its dialect, its paths, and the header for its key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Api {
    /// OpenAI's, and that of every compatible server.
    #[default]
    Openai,
    /// Anthropic's.
    Anthropic,
    /// OpenAI's, as Azure serves it.
    AzureOpenai {
        /// `api-version`: a date for the API whose paths name the deployment.
        version: Option<String>,
    },
}

/// The header that a credential is sent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer …`
    Bearer,
    /// Anthropic's `x-api-key`.
    XApiKey,
    /// Azure's `api-key`.
    ApiKey,
}

impl Api {
    /// The dialect of its requests and answers.
    pub const fn dialect(&self) -> Dialect {
        match self {
            Self::Openai | Self::AzureOpenai { .. } => Dialect::Openai,
            Self::Anthropic => Dialect::Anthropic,
        }
    }

    /// How it takes its key.
    pub const fn auth(&self) -> Auth {
        match self {
            Self::Openai => Auth::Bearer,
            Self::Anthropic => Auth::XApiKey,
            Self::AzureOpenai { .. } => Auth::ApiKey,
        }
    }

    /// The path of an operation, and the query where there is one. `model` is the deployment at Azure.
    fn path(&self, url: &Url, operation: Operation, model: Option<&str>) -> (String, Option<String>) {
        let path = operation.path();
        match self {
            Self::Openai => (format!("{}{path}", base_path(url)), None),
            Self::Anthropic => (format!("{}{path}", anthropic_base_path(url)), None),
            Self::AzureOpenai { version } => {
                let (base, query) =
                    (azure_base_path(url), version.as_ref().map(|at| format!("api-version={at}")));
                let is_dated =
                    version.as_ref().is_some_and(|at| at.starts_with(|c: char| c.is_ascii_digit()));
                match (is_dated, operation, model) {
                    (true, Operation::Chat | Operation::Completions | Operation::Embeddings, Some(model)) => {
                        (format!("{base}/deployments/{}{path}", segment(model)), query)
                    }
                    // These paths never name the deployment; the body does.
                    (true, ..) => (format!("{base}{path}"), query),
                    (false, ..) => (format!("{base}/v1{path}"), query),
                }
            }
        }
    }
}

/// A text as one segment of a path.
fn segment(text: &str) -> String {
    const UNRESERVED: &[u8] = b"-._~";
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || UNRESERVED.contains(&byte) {
            true => segment.push(char::from(byte)),
            false => segment.extend(['%', hex(byte >> 4), hex(byte & 15)]),
        }
    }
    // These are no names, and would lead to another path.
    if matches!(segment.as_str(), "." | "..") { segment.replace('.', "%2E") } else { segment }
}

fn hex(digit: u8) -> char {
    char::from_digit(digit.into(), 16).unwrap_or('0').to_ascii_uppercase()
}

/// The timeouts of one attempt (`docs/reference/contract.md`). Zero expires at once; it never means "no timeout".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptTimeouts {
    /// DNS, TCP and TLS together.
    pub connect: Duration,
    /// From sending until the response head of a streamed request, connecting included.
    pub response: Duration,
    /// From sending until the last byte of an answer that is not streamed, or the first content of a stream, and between
    /// two events with content after that.
    pub answer: Duration,
    /// Silence after the response head, until the first event with content. Comments, empty deltas and reasoning restart it,
    /// because a model may think for minutes.
    pub first_token: Duration,
    /// Silence once content has begun. Comments restart it too.
    pub idle: Duration,
}

/// Which of [`AttemptTimeouts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeoutKind {
    /// `connect`
    Connect,
    /// `response`
    Response,
    /// `answer`
    Answer,
    /// `firstToken`
    FirstToken,
    /// `idle`
    Idle,
}

impl TimeoutKind {
    /// The configuration key, below `timeouts`.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Response => "response",
            Self::Answer => "answer",
            Self::FirstToken => "firstToken",
            Self::Idle => "idle",
        }
    }
}

/// One timeout of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptTimeout {
    /// Which one.
    pub kind: TimeoutKind,
    /// Its duration.
    pub duration: Duration,
}

impl fmt::Display for AttemptTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", HumanDuration(self.duration), self.kind.key())
    }
}

impl Default for AttemptTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            response: Duration::from_secs(30),
            answer: Duration::from_secs(600),
            first_token: Duration::from_secs(120),
            idle: Duration::from_secs(60),
        }
    }
}

/// One model server, as attempts need it.
#[derive(Debug, Clone)]
pub struct TargetConfig {
    /// The base of its API, with or without `/v1`.
    pub base_url: Url,
    /// The Unix socket that the server listens on, instead of the URL's host and port.
    pub socket: Option<PathBuf>,
    /// The model that replaces the one in the body.
    pub model: Option<String>,
    /// Sent in the header of the API; for [`UpstreamKind::Mcpd`] it is the caller's own bearer.
    pub credential: Option<SecretString>,
    /// How long the attempt may take.
    pub timeouts: AttemptTimeouts,
    /// The API that it has. `mcpd` has all of OpenAI's and of Anthropic's, and takes a bearer.
    pub api: Api,
    /// What answers.
    pub kind: UpstreamKind,
}

impl TargetConfig {
    /// The header of its credential.
    pub const fn auth(&self) -> Auth {
        match self.kind {
            UpstreamKind::Provider => self.api.auth(),
            UpstreamKind::Mcpd => Auth::Bearer,
        }
    }

    /// The URL of the list of models, which is beside the operations.
    pub fn models(&self) -> Url {
        let beside = match self.api.dialect() {
            Dialect::Openai => Operation::Responses,
            Dialect::Anthropic => Operation::Messages,
        };
        let mut url = self.endpoint(beside);
        let base = url.path().strip_suffix(beside.path()).unwrap_or_default().to_owned();
        url.set_path(&format!("{base}/models"));
        url
    }

    /// The URL of an operation.
    ///
    /// A provider's base follows its API; `mcpd` serves `/v1` below whatever prefix it is reached by. A query stays where the API
    /// has none of its own, and a user name or password in the URL is left out: credentials are sent in a header only.
    pub fn endpoint(&self, operation: Operation) -> Url {
        let mut url = self.base_url.clone();
        let (path, query) = match self.kind {
            UpstreamKind::Provider => self.api.path(&url, operation, self.model.as_deref()),
            UpstreamKind::Mcpd => {
                let prefix = url.path().trim_end_matches('/');
                let prefix = prefix.strip_suffix("/v1").unwrap_or(prefix);
                (format!("{prefix}/v1{}", operation.path()), None)
            }
        };
        url.set_path(&path);
        if query.is_some() {
            url.set_query(query.as_deref());
        }
        url.set_fragment(None);
        // These fail only for URLs that cannot have a user name or password.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_follows_the_base_with_and_without_a_path() {
        for (kind, base, expected) in [
            (
                UpstreamKind::Provider,
                "https://api.openai.com/v1",
                "https://api.openai.com/v1/chat/completions",
            ),
            (
                UpstreamKind::Provider,
                "https://api.openai.com/v1/",
                "https://api.openai.com/v1/chat/completions",
            ),
            (
                UpstreamKind::Provider,
                "https://api.anthropic.com",
                "https://api.anthropic.com/v1/chat/completions",
            ),
            (UpstreamKind::Provider, "http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1/chat/completions"),
            (
                UpstreamKind::Provider,
                "https://gw.example/openai",
                "https://gw.example/openai/chat/completions",
            ),
            (
                UpstreamKind::Provider,
                "http://127.0.0.1:8000//v1//",
                "http://127.0.0.1:8000/v1/chat/completions",
            ),
            (
                UpstreamKind::Provider,
                "https://openrouter.ai/api",
                "https://openrouter.ai/api/v1/chat/completions",
            ),
            (
                UpstreamKind::Provider,
                "https://api.perplexity.ai",
                "https://api.perplexity.ai/chat/completions",
            ),
            (
                UpstreamKind::Provider,
                "https://u:p@gw.example/a?v=1#x",
                "https://gw.example/a/chat/completions?v=1",
            ),
            (UpstreamKind::Mcpd, "https://mcpd.example.com", "https://mcpd.example.com/v1/chat/completions"),
            (UpstreamKind::Mcpd, "https://example.com/llm/", "https://example.com/llm/v1/chat/completions"),
            (UpstreamKind::Mcpd, "https://example.com/llm/v1", "https://example.com/llm/v1/chat/completions"),
        ] {
            let target = TargetConfig {
                base_url: base.parse().unwrap(),
                socket: None,
                model: None,
                credential: None,
                timeouts: AttemptTimeouts::default(),
                api: Api::Openai,
                kind,
            };
            assert_eq!(target.endpoint(Operation::Chat).as_str(), expected, "{base}");
        }
    }

    /// The paths that `AzureOpenAI` of OpenAI's Python package requests (3.57), and `OpenAI` at the base that Microsoft
    /// documents for the newer API.
    #[test]
    fn azure_paths_are_those_of_the_official_client() {
        let at = |version: Option<&str>| TargetConfig {
            base_url: "https://x.openai.azure.com".parse().unwrap(),
            socket: None,
            model: Some("m".to_owned()),
            credential: None,
            timeouts: AttemptTimeouts::default(),
            api: Api::AzureOpenai { version: version.map(str::to_owned) },
            kind: UpstreamKind::Provider,
        };
        let path = |url: &Url| url.as_str().trim_start_matches("https://x.openai.azure.com").to_owned();
        let (dated, newer) = (at(Some("2024-10-21")), at(None));
        for (operation, at_dated, at_newer) in [
            (
                Operation::Chat,
                "/openai/deployments/m/chat/completions?api-version=2024-10-21",
                "/openai/v1/chat/completions",
            ),
            (
                Operation::Completions,
                "/openai/deployments/m/completions?api-version=2024-10-21",
                "/openai/v1/completions",
            ),
            (
                Operation::Embeddings,
                "/openai/deployments/m/embeddings?api-version=2024-10-21",
                "/openai/v1/embeddings",
            ),
            // Not below a deployment: the body names it.
            (Operation::Responses, "/openai/responses?api-version=2024-10-21", "/openai/v1/responses"),
        ] {
            assert_eq!(path(&dated.endpoint(operation)), at_dated);
            assert_eq!(path(&newer.endpoint(operation)), at_newer);
        }
        assert_eq!(path(&dated.models()), "/openai/models?api-version=2024-10-21");
        assert_eq!(path(&newer.models()), "/openai/v1/models");
    }

    #[test]
    fn endpoint_follows_the_api() {
        let azure = |version: Option<&str>| Api::AzureOpenai { version: version.map(str::to_owned) };
        let (base, dated) = ("https://x.openai.azure.com", Some("2024-10-21"));
        for (api, base, operation, expected) in [
            (
                Api::Anthropic,
                "https://api.anthropic.com",
                Operation::Messages,
                "https://api.anthropic.com/v1/messages",
            ),
            (
                Api::Anthropic,
                "https://gw.example/anthropic/",
                Operation::CountTokens,
                "https://gw.example/anthropic/v1/messages/count_tokens",
            ),
            (azure(None), base, Operation::Chat, "https://x.openai.azure.com/openai/v1/chat/completions"),
            (
                azure(Some("preview")),
                "https://x.openai.azure.com/openai/v1",
                Operation::Responses,
                "https://x.openai.azure.com/openai/v1/responses?api-version=preview",
            ),
            (
                azure(dated),
                base,
                Operation::Chat,
                "https://x.openai.azure.com/openai/deployments/d%2F..%2Fe/chat/completions?api-version=2024-10-21",
            ),
            (
                azure(dated),
                base,
                Operation::Responses,
                "https://x.openai.azure.com/openai/responses?api-version=2024-10-21",
            ),
        ] {
            let target = TargetConfig {
                base_url: base.parse().unwrap(),
                socket: None,
                model: Some("d/../e".to_owned()),
                credential: None,
                timeouts: AttemptTimeouts::default(),
                api,
                kind: UpstreamKind::Provider,
            };
            assert_eq!(target.endpoint(operation).as_str(), expected);
        }
    }
}
