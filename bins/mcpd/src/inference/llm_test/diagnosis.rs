//! What a failed test means: the step that failed, the reason, and the next step for the person who can change the Llm. Pure.

use mcpctl_api::{
    HumanDuration,
    llm_test::{Step, TestProblem},
    spec::{SecretKeyRef, Timeouts},
};
use mcpctl_dialect::error::UpstreamError;
use mcpctl_failover::FailureClass;
use mcpctl_relay::StreamOutcome;
use mcpctl_tls::{TlsFault, TlsProblem};
use mcpctl_upstream::{Failure, Target, TimeoutKind, shown_message};

use super::way::{End, Way};
use crate::inference::route::Misconfigured;

/// What is wrong.
pub struct Diagnosis {
    /// The step that failed.
    pub step: Step,
    /// The last step that is known to work.
    pub proven: Option<Step>,
    /// Why it failed.
    pub problem: TestProblem,
}

/// What is wrong; `None` where nothing is.
pub fn of(way: &Way<'_>, end: &End<'_>) -> Option<Diagnosis> {
    match end {
        End::Whole | End::Streamed(StreamOutcome::Completed | StreamOutcome::Cancelled) => None,
        End::Streamed(StreamOutcome::Broken(class)) => Some(Diagnosis {
            step: Step::Answer,
            proven: Some(Step::FirstToken),
            problem: TestProblem {
                class: class.as_str().to_owned(),
                reason: "the stream broke off after its first content".to_owned(),
                hint: Some("see the server's log; a proxy before it may cut streams".to_owned()),
            },
        }),
        End::Misconfigured(error) => Some(Diagnosis {
            step: Step::Credential,
            proven: None,
            problem: TestProblem {
                class: FailureClass::UpstreamCredentials.as_str().to_owned(),
                reason: error.to_string(),
                hint: Some(
                    match error {
                        Misconfigured::Unsendable { .. } => "write the value of the secret again",
                        _ => "write the Llm's `apiKey` again, as an account that may use the secret",
                    }
                    .to_owned(),
                ),
            },
        }),
        End::Failed { failure, target } => Some(Failed { way, failure, target }.diagnosis()),
    }
}

/// What callers learn who may not edit the Llm: the step, and nothing of the target or of what it answered.
pub fn for_callers(Diagnosis { step, problem, .. }: Diagnosis) -> TestProblem {
    let limited = problem.class == FailureClass::RateLimited.as_str();
    let reason = match step {
        _ if limited => "the provider limits the requests of this Llm's key",
        Step::Name => "the name of the provider's host cannot be resolved",
        Step::Connect => "the provider cannot be reached",
        Step::Tls => "no encrypted connection to the provider can be made",
        Step::Api => "the provider's address does not answer as the API of a model server",
        Step::Credential => "the Llm's key is missing, or the provider refuses it",
        Step::Model => "the provider does not have the model of the Llm",
        Step::FirstToken => "the provider accepts requests, and its model does not answer",
        Step::Answer => "the provider's answer broke off",
    };
    let hint = if limited {
        "try again later".to_owned()
    } else {
        "an account that may edit the Llm sees more: ask an administrator".to_owned()
    };
    TestProblem { reason: reason.to_owned(), hint: Some(hint), ..problem }
}

/// A request that failed.
struct Failed<'a> {
    way: &'a Way<'a>,
    failure: &'a Failure,
    target: &'a Target,
}

/// The next step after a reason.
type Hint = Option<String>;

fn hint(text: &str) -> Hint {
    Some(text.to_owned())
}

impl Failed<'_> {
    fn diagnosis(&self) -> Diagnosis {
        let (step, proven) = self.step();
        let (reason, hint) = match step {
            Step::Name => self.name(),
            Step::Connect => self.connect(),
            Step::Tls => self.tls(),
            Step::Api => self.api(),
            Step::Credential => self.credential(),
            Step::Model => self.model(),
            Step::FirstToken | Step::Answer => self.first_token(),
        };
        let problem = TestProblem { class: self.failure.class.as_str().to_owned(), reason, hint };
        Diagnosis { step, proven, problem }
    }

    /// The step that failed, and the last one before it that is known to work.
    fn step(&self) -> (Step, Option<Step>) {
        let reached = &self.way.reached;
        let head = self.failure.status.is_some();
        if self.failure.is_lookup()
            || (reached.connected.is_none()
                && reached.resolved.is_none()
                && self.way.is_needed(Step::Name)
                && !self.failure.is_for_logs_alone())
        {
            return (Step::Name, None);
        }
        if reached.connected.is_none() {
            return (Step::Connect, Some(Step::Name));
        }
        if self.failure.tls_problem().is_some() || (reached.ready.is_none() && self.way.is_needed(Step::Tls))
        {
            return (Step::Tls, Some(Step::Connect));
        }
        if !head {
            return match self.failure.class {
                // The deadline of the test, after the head.
                _ if reached.head.is_some() => (Step::FirstToken, Some(Step::Model)),
                _ => (Step::Api, Some(Step::Tls)),
            };
        }
        let status = self.status();
        match self.failure.class {
            _ if self.failure.quota_used_up || status == 402 => (Step::Credential, Some(Step::Api)),
            FailureClass::UpstreamCredentials => (Step::Credential, Some(Step::Api)),
            FailureClass::ModelUnavailable => (Step::Model, Some(Step::Credential)),
            FailureClass::RateLimited => (Step::FirstToken, Some(Step::Credential)),
            FailureClass::NoFirstToken | FailureClass::NoResponse | FailureClass::ContextLength => {
                (Step::FirstToken, Some(Step::Model))
            }
            // Neither an answer nor an error of a model server.
            _ if (200..400).contains(&status) && self.message().is_none() => (Step::Api, Some(Step::Tls)),
            _ if matches!(status, 403..=405) || self.wants_tls() => (Step::Api, Some(Step::Tls)),
            _ if self.message().is_none() => (Step::Api, Some(Step::Tls)),
            _ => (Step::FirstToken, Some(Step::Api)),
        }
    }

    fn status(&self) -> u16 {
        self.failure.status.map_or(0, |status| status.as_u16())
    }

    /// The provider's own words; `None` where it has none in the shape of a model server's error.
    fn message(&self) -> Option<String> {
        let UpstreamError { message, kind, .. } = UpstreamError::read(&self.failure.body);
        // What mcpd has put in place of an answer that is not for callers.
        let own = kind.as_deref() == Some("upstream_error");
        message.filter(|_| !own).map(|message| shown_message(self.target, message))
    }

    /// `status 404: no such route`
    fn answer(&self) -> String {
        match self.message() {
            Some(message) => format!("status {}: {message}", self.status()),
            None => format!("status {}", self.status()),
        }
    }

    fn host(&self) -> String {
        format!("`{}`", self.way.upstream.host())
    }

    fn is_plain(&self) -> bool {
        !self.way.is_needed(Step::Tls)
    }

    /// Whether a server with TLS answers that the request came without.
    fn wants_tls(&self) -> bool {
        let names_tls = |message: String| message.contains("TLS") || message.contains("HTTPS");
        self.is_plain() && self.status() == 400 && self.message().is_some_and(names_tls)
    }

    fn name(&self) -> (String, Hint) {
        let host = self.way.upstream.url.host_str().unwrap_or_default();
        let reason = match &self.failure.timeout {
            Some(timeout) => {
                format!("the name `{host}` is not resolved within {}", HumanDuration(timeout.duration))
            }
            None => format!("the name `{host}` cannot be resolved"),
        };
        let field = self.way.upstream.field("url");
        let next = format!("correct the host in `{field}`, or the DNS of the machine that mcpd runs on");
        (reason, Some(next))
    }

    fn connect(&self) -> (String, Hint) {
        if self.failure.is_for_logs_alone() {
            let next = "mcpd's log has the reason: `upstreamAddresses` may not allow the address";
            return ("the provider cannot be reached".to_owned(), hint(next));
        }
        let reason = self.failure.detail().to_owned();
        let field = self.way.upstream.field("url");
        let next = match &self.failure.timeout {
            Some(_) => format!(
                "a firewall may drop the packets, or `{field}` is wrong; `timeouts.connect` bounds the wait"
            ),
            None => format!("start the server, or correct host and port in `{field}`"),
        };
        (reason, Some(next))
    }

    fn tls(&self) -> (String, Hint) {
        let (host, field) = (self.host(), self.way.upstream.field("url"));
        let Some(TlsProblem { reason, fault, .. }) = self.failure.tls_problem() else {
            let reason = match &self.failure.timeout {
                Some(timeout) => {
                    let time = HumanDuration(timeout.duration);
                    format!("the TLS handshake with {host} does not end within {time}")
                }
                None => self.failure.detail().to_owned(),
            };
            return (reason, Some(format!("check the port in `{field}`, and what is between mcpd and it")));
        };
        let next = match fault {
            TlsFault::Plain => Some(format!("begin `{field}` with http://, or name the port of https")),
            TlsFault::Authority => hint(
                "add its authority to those that mcpd's machine trusts (on Debian a file in \
                 /usr/local/share/ca-certificates, then `update-ca-certificates`), and restart mcpd",
            ),
            TlsFault::Name => Some(format!("use a name of the certificate in `{field}`")),
            TlsFault::Time => hint("renew it there; and check the clock of the machine that mcpd runs on"),
            TlsFault::Client => {
                hint("mcpd presents no certificate to providers: use an address that asks for none")
            }
            TlsFault::Other => None,
        };
        (format!("TLS with {host}: {reason}"), next)
    }

    fn api(&self) -> (String, Hint) {
        let (host, field) = (self.host(), self.way.upstream.field("url"));
        if self.failure.status.is_none() {
            let reason = self.failure.detail().to_owned();
            let next = if self.failure.class == FailureClass::NoResponse {
                self.patience(TimeoutKind::Response)
            } else if self.is_plain() {
                Some(format!("where it speaks TLS, begin `{field}` with https://; else check the port"))
            } else {
                Some(format!("check the port in `{field}`, and the server's log"))
            };
            return (reason, next);
        }
        if let Some(place) = &self.failure.redirect {
            let next = format!("where that is the right address, write it as `{field}`");
            return (format!("{host} redirects to `{place}`, where requests are not sent"), Some(next));
        }
        let path = self.target.endpoint(self.operation()).path().to_owned();
        let base = format!(
            "write the base of the API in `{field}`, with or without `/v1` at its end, and nothing after it"
        );
        match self.status() {
            404 | 405 => (format!("there is no `{path}` at {host}: {}", self.answer()), Some(base)),
            403 => (
                format!("{host} refuses the request: {}", self.answer()),
                hint(
                    "a firewall before it may not let mcpd's machine through, or the key may not use this API",
                ),
            ),
            400 if self.is_plain() => (
                format!("{host} does not answer as a model server: {}", self.answer()),
                Some(format!("where it speaks TLS, begin `{field}` with https://; else {base}")),
            ),
            500..=599 => (
                format!("{host} answers with {} and without an error of a model server", self.answer()),
                hint("a gateway may be there that does not reach the model server: see its log"),
            ),
            status if self.is_web_page() => {
                let reason = format!("{host} answers `{path}` with status {status} and a web page");
                (reason, Some(format!("a sign-in or a console may be there: {base}")))
            }
            status => (
                format!("{host} answers `{path}` with status {status}, and not as a model server"),
                Some(base),
            ),
        }
    }

    fn is_web_page(&self) -> bool {
        let kind = self.failure.headers.get("content-type").and_then(|kind| kind.to_str().ok());
        kind.is_some_and(|kind| kind.starts_with("text/html"))
    }

    fn credential(&self) -> (String, Hint) {
        let host = self.host();
        if self.failure.quota_used_up || self.status() == 402 {
            let reason = format!("the account of the key has no credit left at {host}: {}", self.answer());
            return (reason, hint("pay for more there, or attach the key of another account"));
        }
        let field = self.way.upstream.field("apiKey");
        match self.way.upstream.api_key {
            None => {
                let next = format!("attach one: `{field}: {{secret: NAME, key: KEY}}`");
                (format!("{host} asks for a key, and the Llm has none: {}", self.answer()), Some(next))
            }
            Some(SecretKeyRef { secret, key, .. }) => {
                let next = format!("write one that is valid there: mcpctl set secret {secret} {key}");
                (format!("{host} refuses the key: {}", self.answer()), Some(next))
            }
        }
    }

    fn model(&self) -> (String, Hint) {
        let (host, model) = (self.host(), self.way.upstream.model);
        let field = match (self.way.upstream.place, &self.target.model) {
            (Some(_), _) => self.way.upstream.field("model"),
            (None, _) => "model".to_owned(),
        };
        let reason = format!("{host} does not have the model `{model}`: {}", self.answer());
        (reason, Some(format!("write the name that it has there in `{field}`, or load it at the server")))
    }

    fn first_token(&self) -> (String, Hint) {
        let host = self.host();
        match self.failure.class {
            FailureClass::RateLimited => {
                let wait = self.failure.retry_after.map(|wait| {
                    let wait = HumanDuration::from_secs(wait.as_secs().max(1));
                    format!("; it can be asked again in {wait}")
                });
                let reason = format!("{host} limits requests: {}{}", self.answer(), wait.unwrap_or_default());
                (
                    reason,
                    hint("wait, or raise the limits of the key's account there; the key itself is accepted"),
                )
            }
            FailureClass::NoFirstToken => {
                (self.failure.detail().to_owned(), self.patience(TimeoutKind::FirstToken))
            }
            FailureClass::NoResponse => {
                (self.failure.detail().to_owned(), self.patience(TimeoutKind::Answer))
            }
            FailureClass::ServerError => {
                (format!("{host} fails: {}", self.answer()), hint("see the log of the model server"))
            }
            _ => (
                format!("{host} rejects the request: {}", self.answer()),
                hint("is it a model for chats? The test sends one short question and asks for a stream"),
            ),
        }
    }

    /// What to do about a wait that was too long.
    fn patience(&self, kind: TimeoutKind) -> Hint {
        let Timeouts { response, answer, first_token, .. } = self.way.timeouts;
        let own = match kind {
            TimeoutKind::FirstToken => first_token,
            TimeoutKind::Response => response,
            _ => answer,
        };
        let waited = self.failure.timeout.as_ref().map(|timeout| timeout.duration);
        let key = kind.key();
        Some(match waited {
            Some(waited) if waited < own.0 => format!(
                "is it loading the model, or overloaded? Requests wait for longer than the test, {own} (`timeouts.{key}`)"
            ),
            _ => format!("is it loading the model, or overloaded? `timeouts.{key}` bounds the wait"),
        })
    }

    fn operation(&self) -> mcpctl_dialect::Operation {
        match self.target.api.dialect() {
            mcpctl_dialect::Dialect::Openai => mcpctl_dialect::Operation::Chat,
            mcpctl_dialect::Dialect::Anthropic => mcpctl_dialect::Operation::Messages,
        }
    }
}
