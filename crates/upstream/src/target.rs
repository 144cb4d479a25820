//! Where an attempt goes and how long it may take. The caller builds a [`Target`] from an Llm or a local provider; this crate
//! depends on neither.

use std::{fmt, path::PathBuf, time::Duration};

use mcpctl_api::{HumanDuration, base_url::base_path};
use secrecy::SecretString;
use url::Url;

use mcpctl_dialect::Operation;

/// What is at the other end. It decides which headers of an answer are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamKind {
    /// A model provider: its `mcpctl-` headers are ignored and removed, its 401 and 403 are about our key.
    Provider,
    /// `mcpd`, as an agent's upstream: its `mcpctl-failure` and `mcpctl-error-source` are trusted, its 401 and 403 are about the
    /// caller.
    Mcpd,
}

/// The timeouts of one attempt (`docs/contract.md`). Zero expires at once; it never means "no timeout".
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

/// One model server, as an attempt needs it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The base of an OpenAI API, with or without `/v1`.
    pub base_url: Url,
    /// The Unix socket that the server listens on, instead of the URL's host and port.
    pub socket: Option<PathBuf>,
    /// The model that replaces the one in the body.
    pub model: Option<String>,
    /// Sent as the bearer; for [`UpstreamKind::Mcpd`] it is the caller's own.
    pub credential: Option<SecretString>,
    /// How long the attempt may take.
    pub timeouts: AttemptTimeouts,
    /// What answers.
    pub kind: UpstreamKind,
}

impl Target {
    /// The URL of an operation.
    ///
    /// A provider's base follows [`base_path`]; `mcpd` serves `/v1` below whatever prefix it is reached by. A query
    /// stays, and a user name or password in the URL is left out: credentials are sent as the bearer only.
    pub fn endpoint(&self, operation: Operation) -> Url {
        let mut url = self.base_url.clone();
        let base = match self.kind {
            UpstreamKind::Provider => base_path(&url),
            UpstreamKind::Mcpd => {
                let prefix = url.path().trim_end_matches('/');
                format!("{}/v1", prefix.strip_suffix("/v1").unwrap_or(prefix))
            }
        };
        url.set_path(&format!("{base}{}", operation.path()));
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
            let target = Target {
                base_url: base.parse().unwrap(),
                socket: None,
                model: None,
                credential: None,
                timeouts: AttemptTimeouts::default(),
                kind,
            };
            assert_eq!(target.endpoint(Operation::Chat).as_str(), expected, "{base}");
        }
    }
}
