//! Asks a model server whether it accepts a credential: first for its list of models, which costs nothing, and where that does
//! not show it, for a message of one token. It reports nothing else of what is at the address.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{ACCEPT, USER_AGENT},
};
use mcpctl_api::{header::HOPS, visible};
use mcpctl_dialect::{Dialect, Operation, error::UpstreamError};
use mcpctl_failover::FailureClass;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{
    Client, Failure, Request, Target,
    attempt::send,
    body::{Body, read_body},
    classify::classify,
    connection::Connection,
    hops,
    request::{ANTHROPIC_VERSION, authorize, message, path_of},
    screen::Screen,
};

/// How long a check takes at most, all its requests together.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of a list is read. The lists of routers have hundreds of KiB, and their beginning shows what they are.
const MAX_READ_BYTES: usize = 64 * 1024;
/// Longest text of a provider that is repeated, in bytes.
const MAX_MESSAGE_BYTES: usize = 400;

/// What a model server's answers show about a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialCheck {
    /// It is accepted.
    Accepted,
    /// It is refused.
    Refused {
        /// The server's words, without the credential.
        message: Option<String>,
    },
    /// Nothing: there is no server, none that answers in time, or none that shows it.
    Unknown,
    /// Nothing, because the address policy allows no connection to it.
    NotAsked {
        /// Which setting of the policy.
        why: String,
    },
}

/// The answer to a request for the list of models.
enum Listed {
    Models,
    Refused {
        status: StatusCode,
        error: UpstreamError,
    },
    /// A server without such a list.
    NoList,
    Nothing,
}

/// Checks the credential of a target, within 5 s.
pub async fn check_credential(client: &Client, target: &Target) -> CredentialCheck {
    if let Some(why) = client.refusal(target) {
        return CredentialCheck::NotAsked { why };
    }
    let until = Instant::now() + CHECK_TIMEOUT;
    match list(client, target, until).await {
        Listed::Nothing => CredentialCheck::Unknown,
        Listed::NoList => send_message(client, target, until).await,
        Listed::Refused { status: StatusCode::UNAUTHORIZED, error } => refused(target, error),
        // A restricted key may be refused the list and nothing else.
        Listed::Refused { status, error } => match send_message(client, target, until).await {
            CredentialCheck::Unknown if is_about_credential(target, status, &error) => refused(target, error),
            other => other,
        },
        Listed::Models => {
            let anonymous = target.with(|target| target.credential = None);
            match list(client, &anonymous, until).await {
                // A list for everyone shows nothing about the key.
                Listed::Models => match send_message(client, target, until).await {
                    CredentialCheck::Unknown => CredentialCheck::Accepted,
                    other => other,
                },
                _ => CredentialCheck::Accepted,
            }
        }
    }
}

fn is_about_credential(target: &Target, status: StatusCode, error: &UpstreamError) -> bool {
    classify(target.kind, status, &HeaderMap::new(), error) == FailureClass::UpstreamCredentials
}

fn refused(target: &Target, error: UpstreamError) -> CredentialCheck {
    CredentialCheck::Refused { message: error.message.map(|message| shown_message(target, message)) }
}

/// A provider's message in one line, without the credential: providers repeat parts of it, with asterisks for the rest.
pub fn shown_message(target: &Target, message: String) -> String {
    let screen = Screen::of(target, Operation::Chat);
    let screened = screen.text(Bytes::from(message));
    let text = String::from_utf8_lossy(&screened);
    let words = text.split(' ').map(|word| if word.contains("**") { "[redacted]" } else { word });
    visible::short(&words.collect::<Vec<_>>().join(" "), MAX_MESSAGE_BYTES)
}

async fn list(client: &Client, target: &Target, until: Instant) -> Listed {
    let asked = timeout_at(until, ask_for_models(client, target));
    let Ok(Some(response)) = asked.await else { return Listed::Nothing };
    let status = response.status();
    let timer = pin!(sleep_until(until));
    let (body, _) = read_body(response.into_body(), Bytes::new(), MAX_READ_BYTES, timer).await;
    match status.as_u16() {
        401 | 403 => Listed::Refused { status, error: UpstreamError::read(&body) },
        404 | 405 | 501 => Listed::NoList,
        _ if status.is_success() && is_list(&body) => Listed::Models,
        _ => Listed::Nothing,
    }
}

async fn ask_for_models(client: &Client, target: &Target) -> Option<Response<Body>> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("mcpctl/", env!("CARGO_PKG_VERSION"))));
    headers.insert(HOPS, hops::onward(&HeaderMap::new(), client.instance()));
    if target.api.dialect() == Dialect::Anthropic {
        headers.insert(ANTHROPIC_VERSION, HeaderValue::from_static("2023-06-01"));
    }
    authorize(&mut headers, target).ok()?;
    let request = message(Method::GET, path_of(&target.models()).ok()?, headers, Bytes::new());
    let pool = client.pool(target).ok()?;
    Connection::fresh(&pool).await.ok()?.send(request).await.ok()
}

/// Whether a body begins as a list of models does, in OpenAI's or Anthropic's shape, or as a bare list.
fn is_list(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    let names = ["\"id\"", "\"data\""];
    text.trim_start().starts_with(['{', '[']) && names.iter().any(|name| text.contains(name))
}

async fn send_message(client: &Client, target: &Target, until: Instant) -> CredentialCheck {
    let (Some(model), Some(left)) = (&target.model, until.checked_duration_since(Instant::now())) else {
        return CredentialCheck::Unknown;
    };
    let body = serde_json::json!({
        "model": model, "max_tokens": 1, "messages": [{ "role": "user", "content": "." }],
    });
    let operation = match target.api.dialect() {
        Dialect::Openai => Operation::Chat,
        Dialect::Anthropic => Operation::Messages,
    };
    let request = Request {
        operation,
        body: Bytes::from(body.to_string()),
        stream: false,
        choices: 1,
        headers: HeaderMap::new(),
    };
    let target = target.with(|target| {
        target.timeouts.answer = left;
        target.timeouts.response = left;
    });
    match send(client, &target, &request).await {
        Ok(_) => CredentialCheck::Accepted,
        Err(failure) => by_failure(&target, &failure),
    }
}

fn by_failure(target: &Target, failure: &Failure) -> CredentialCheck {
    let refuses = matches!(failure.status, Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN));
    match failure.class {
        FailureClass::UpstreamCredentials if refuses => refused(target, UpstreamError::read(&failure.body)),
        // What only a server that accepts the key reports.
        FailureClass::RateLimited | FailureClass::ContextLength | FailureClass::ModelUnavailable => {
            CredentialCheck::Accepted
        }
        _ => CredentialCheck::Unknown,
    }
}
