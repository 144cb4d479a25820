//! Maps the errors of the domain to error responses. No other file but those below it decides which status a domain error has.

mod llm_test;
mod password;
mod rotation;
mod session;
mod sign_on;
mod usage;

mod exchange;

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use mcpctl_access::{Denied, Escalation, Rejected};
use mcpctl_api::{DocumentError, ErrorKind, models::PageError, spec::Span};
use mcpctl_dialect::RequestError;
use mcpctl_failover::FailureClass;
use mcpctl_server::BodyError;
use mcpctl_store::{StoreError, StoreFault};
use mcpctl_upstream::hops::HopError;

use super::{error::HttpError, rate_limits};
use crate::{
    caller::AuthenticationError,
    commit::{TooManyWriters, WriteFailure},
    inference::{
        access::AccessEnded, in_flight::TooManyRequests, outcome::InferenceError, route::Misconfigured,
    },
    issuance::IssueError,
    limits::{LimitError, ledger},
    login::NotChecked,
    watchers::TooManyWatches,
    writes::Refusal,
};

/// `Retry-After` of a rejected watch or feed: it ends whenever its program does.
const WATCH_RETRY_AFTER: Duration = Duration::from_secs(5);

/// `Retry-After` of a request beyond the most in flight.
const REQUEST_RETRY_AFTER: Duration = Duration::from_secs(2);

impl From<Denied> for HttpError {
    fn from(denied: Denied) -> Self {
        let message = denied.to_string();
        match denied {
            Denied::Forbidden { narrowed, .. } => {
                let error =
                    Self::new(StatusCode::FORBIDDEN, ErrorKind::PermissionError, "forbidden", message);
                if narrowed { error.hint("`mcpctl whoami` shows the rules of the token") } else { error }
            }
            Denied::NotFound { .. } => {
                Self::new(StatusCode::NOT_FOUND, ErrorKind::NotFoundError, "not_found", message)
            }
        }
        .class(FailureClass::Denied)
    }
}

impl From<Rejected> for HttpError {
    fn from(rejected: Rejected) -> Self {
        // The holder of a token may know that it expired, or that its issuer is no longer listed; all other reasons look alike.
        match rejected {
            Rejected::Expired => Self::unauthenticated("the credential has expired"),
            Rejected::Unlisted => Self::unauthenticated(&rejected.to_string())
                .hint("sign in again; replicas of one mcpd have to list the same issuers"),
            Rejected::Unknown
            | Rejected::Orphaned
            | Rejected::Disabled
            | Rejected::MakerGone
            | Rejected::BeginningGone => Self::unauthenticated("the credential is not valid"),
        }
    }
}

impl From<StoreError> for HttpError {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "the store did not answer");
        error.fault().into()
    }
}

impl From<StoreFault> for HttpError {
    fn from(fault: StoreFault) -> Self {
        Self::unavailable(&format!("{}, so nothing can be decided", fault.message())).hint(fault.hint())
    }
}

impl From<DocumentError> for HttpError {
    fn from(error: DocumentError) -> Self {
        let http = Self::invalid(&error.param, error.message);
        match error.hint {
            Some(hint) => http.hint(hint),
            None => http,
        }
    }
}

impl From<Refusal> for HttpError {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::Denied(denied) => denied.into(),
            Refusal::Escalation(escalation) => {
                let hint = match escalation {
                    Escalation::Gain { .. } | Escalation::HiddenGain => {
                        "an account that holds these rights, or the verb `grant` on them, can do it"
                            .to_owned()
                    }
                    Escalation::TokenRule { .. } => {
                        "narrow the rule, or give the account that it names a role first".to_owned()
                    }
                    Escalation::Narrowed => {
                        "use a token that is not narrowed, or sign in; `mcpctl whoami` shows the rules of this one"
                            .to_owned()
                    }
                    Escalation::HiddenLoss => "it takes the verb `grant` on that account".to_owned(),
                    Escalation::Loss { subject } | Escalation::Credential { subject } => {
                        let kind = subject.kind.kind().plural();
                        format!("it takes the verb `grant` on {kind} `{}`", subject.name)
                    }
                };
                Self::new(StatusCode::FORBIDDEN, ErrorKind::PermissionError, "escalation", message).hint(hint)
            }
            Refusal::OwnTokenName { account } => {
                Self::new(StatusCode::FORBIDDEN, ErrorKind::PermissionError, "forbidden", message).hint(
                    format!("name it e.g. `{account}-laptop`; other names take the verb `create` on tokens"),
                )
            }
            Refusal::LastAdministrator => {
                Self::new(StatusCode::CONFLICT, ErrorKind::ConflictError, "last_administrator", message)
                    .hint("give another account the role `admin` and a credential of its own making first")
            }
            Refusal::Invalid { param, message, hint } => {
                let http = Self::invalid(&param, message);
                match hint {
                    Some(hint) => http.hint(hint),
                    None => http,
                }
            }
            Refusal::Exists { .. } => {
                Self::new(StatusCode::CONFLICT, ErrorKind::ConflictError, "already_exists", message)
            }
            Refusal::PasswordMoved => {
                Self::new(StatusCode::CONFLICT, ErrorKind::ConflictError, "password_changed", message)
                    .hint("try again with the new one")
            }
            Refusal::Stale { .. } => Self::new(
                StatusCode::PRECONDITION_FAILED,
                ErrorKind::ConflictError,
                "stale_revision",
                message,
            )
            .hint("read it again and repeat the change"),
            Refusal::Vault(source) => {
                tracing::error!(error = %format!("{source:#}"), "a secret could not be processed");
                Self::internal()
            }
        }
    }
}

impl From<BodyError> for HttpError {
    fn from(error: BodyError) -> Self {
        let (message, hint, accept) = (error.to_string(), error.hint(), error.accept_encoding());
        let invalid = |status, code| Self::new(status, ErrorKind::InvalidRequestError, code, message.clone());
        match error {
            BodyError::TooLarge { .. } => {
                invalid(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large").class(FailureClass::Rejected)
            }
            BodyError::TooSlow => {
                invalid(StatusCode::REQUEST_TIMEOUT, "body_too_slow").class(FailureClass::Rejected)
            }
            BodyError::Broken(_) | BodyError::Undecodable { .. } => {
                invalid(StatusCode::BAD_REQUEST, "body_unreadable").class(FailureClass::Rejected)
            }
            BodyError::Encoding { .. } => invalid(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding")
                .class(FailureClass::Rejected)
                .hint(hint.unwrap_or_default())
                .accept_encoding(accept.unwrap_or_default()),
            BodyError::CallerBusy { retry_after } => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                Self::new(status, ErrorKind::RateLimitError, "bodies_in_flight", message)
                    .class(FailureClass::Quota)
                    .retry_after(retry_after)
            }
            BodyError::Busy { retry_after } => Self::unavailable(&message).retry_after(retry_after),
        }
    }
}

impl From<AuthenticationError> for HttpError {
    fn from(error: AuthenticationError) -> Self {
        match error {
            AuthenticationError::Rejected(rejected) => rejected.into(),
            AuthenticationError::Store(error) => error.into(),
        }
    }
}

impl From<TooManyWriters> for HttpError {
    fn from(error: TooManyWriters) -> Self {
        Self::unavailable(&error.to_string())
    }
}

impl From<WriteFailure> for HttpError {
    fn from(failure: WriteFailure) -> Self {
        match failure {
            WriteFailure::Refused(refusal) => refusal.into(),
            WriteFailure::Authentication(error) => error.into(),
            WriteFailure::TooManyWrites { retry_after } => {
                let seconds = retry_after.as_secs_f64().ceil().max(1.0);
                let message = format!("too many changes by one account; try again in {seconds} s");
                let status = StatusCode::TOO_MANY_REQUESTS;
                Self::new(status, ErrorKind::RateLimitError, "too_many_writes", message)
                    .retry_after(retry_after)
                    .hint("put many documents into one `mcpctl apply`, or raise `limits.writes`")
            }
            WriteFailure::Busy(busy) => Self::unavailable(&busy.to_string()),
            WriteFailure::Credential(refused) => {
                let message = refused.to_string();
                let status = StatusCode::BAD_REQUEST;
                Self::new(status, ErrorKind::InvalidRequestError, "credential_refused", message)
                    .field(&refused.field)
                    .hint("correct the key or the `url`, or write it unchecked: `--skip-check`")
            }
            WriteFailure::Password(error) => Self::invalid("password", error.to_string()),
            WriteFailure::Store(error) => error.into(),
            WriteFailure::TooManyWriters(error) => error.into(),
        }
    }
}

impl<D> From<IssueError<D>> for HttpError
where
    Self: From<D>,
{
    fn from(error: IssueError<D>) -> Self {
        match error {
            IssueError::Denied(denial) => denial.into(),
            IssueError::NotChecked(not_checked) => not_checked.into(),
            IssueError::Token => Self::internal(),
            IssueError::Store(error) => error.into(),
            IssueError::TooManyWriters(error) => error.into(),
        }
    }
}

impl From<NotChecked> for HttpError {
    fn from(not_checked: NotChecked) -> Self {
        let message = not_checked.to_string();
        let (wait, hint) = match not_checked {
            NotChecked::Name(wait) => (
                wait,
                "wait, or ask an administrator to lift it (`mcpctl admin lift-throttle --user NAME`) or to set a new password",
            ),
            NotChecked::Network(wait) => (
                wait,
                "wait, or ask an administrator to lift it: `mcpctl admin lift-throttle --address ADDRESS`",
            ),
            NotChecked::Attempts { wait, .. } => (wait, "wait; what succeeds is not counted"),
            NotChecked::Busy(wait) => (wait, "others sign in at this moment"),
            NotChecked::Store(error) => return error.into(),
        };
        let message = format!("{message}; try again in {} s", wait.as_millis().div_ceil(1000).max(1));
        Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorKind::RateLimitError, "login_throttled", message)
            .hint(hint)
            .retry_after(wait)
    }
}

impl From<TooManyWatches> for HttpError {
    fn from(error: TooManyWatches) -> Self {
        let (status, message) = (StatusCode::TOO_MANY_REQUESTS, error.to_string());
        let key = error.watched().key();
        Self::new(status, ErrorKind::RateLimitError, &format!("too_many_{key}"), message)
            .hint(format!("end another one, or have an administrator raise `limits.{key}`"))
            .retry_after(WATCH_RETRY_AFTER)
    }
}

impl From<TooManyRequests> for HttpError {
    fn from(error: TooManyRequests) -> Self {
        let message = error.to_string();
        match error {
            // The caller's own doing, so that the agent does not fail over.
            TooManyRequests::Principal(_) => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                ErrorKind::RateLimitError,
                "requests_in_flight",
                message,
            )
            .hint("wait for the answers to others, or have an administrator raise `limits.inference`")
            .class(FailureClass::Quota)
            .retry_after(REQUEST_RETRY_AFTER),
            TooManyRequests::Total(_) => Self::unavailable(&message).retry_after(REQUEST_RETRY_AFTER),
        }
    }
}

impl From<InferenceError> for HttpError {
    fn from(error: InferenceError) -> Self {
        let message = error.to_string();
        match error {
            // It never fails over: another upstream would be in the loop too.
            InferenceError::Hops(HopError::Malformed) => {
                Self::invalid("", message).class(FailureClass::Rejected)
            }
            InferenceError::Hops(HopError::Loop | HopError::TooMany) => {
                Self::new(StatusCode::LOOP_DETECTED, ErrorKind::UpstreamError, "loop_detected", message)
                    .hint("an administrator can correct the `url` of the Llms on the way")
                    .class(FailureClass::Rejected)
            }
            InferenceError::Malformed(error) => error.into(),
            InferenceError::Untranslatable(_) => Self::invalid("", message).class(FailureClass::Rejected),
            InferenceError::Denied(denied) => denied.into(),
            InferenceError::ChoosesUpstream { field, llm } => Self::invalid(&field, message)
                .hint(format!("leave it out, or have `{field}` listed in `allowFields` of the Llm `{llm}`"))
                .class(FailureClass::Rejected),
            // mcpd's fault, not the provider's. Only those who may correct it learn where the credential is kept.
            InferenceError::Misconfigured { error, llm, may_edit } => {
                tracing::error!(error = &error as &dyn std::error::Error, "a permitted Llm cannot be asked");
                let (message, hint) = match (may_edit, error) {
                    (true, Misconfigured::Unsendable { .. }) => {
                        (message, "write the value of the secret again")
                    }
                    (true, _) => {
                        (message, "an account that may use the secret can write the Llm's `apiKey` again")
                    }
                    (false, _) => (
                        format!("the Llm `{llm}` has no credential that can be used"),
                        "ask an administrator of mcpd to correct the Llm",
                    ),
                };
                Self::new(StatusCode::BAD_GATEWAY, ErrorKind::UpstreamError, "misconfigured", message)
                    .hint(hint)
                    .class(FailureClass::UpstreamCredentials)
            }
            InferenceError::AccessEnded(ended) => ended.into(),
            InferenceError::TooMany(error) => error.into(),
            InferenceError::Limit(error) => error.into(),
            InferenceError::Store(error) => error.into(),
        }
    }
}

impl From<AccessEnded> for HttpError {
    fn from(ended: AccessEnded) -> Self {
        let message = ended.to_string();
        match ended {
            AccessEnded::Unconfirmed | AccessEnded::Reconfigured => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorKind::ServerError, ended.code(), message)
                    .class(FailureClass::ServerError)
                    .retry_after(Duration::from_secs(1))
            }
            AccessEnded::Revoked | AccessEnded::Expired => {
                Self::new(StatusCode::FORBIDDEN, ErrorKind::PermissionError, ended.code(), message)
                    .class(FailureClass::Denied)
            }
        }
    }
}

impl From<PageError> for HttpError {
    fn from(error: PageError) -> Self {
        Self::invalid(error.param(), error.to_string())
    }
}

impl From<RequestError> for HttpError {
    fn from(error: RequestError) -> Self {
        let http = Self::invalid(error.param().unwrap_or_default(), error.to_string());
        match error.hint() {
            Some(hint) => http.hint(hint),
            None => http,
        }
        .class(FailureClass::Rejected)
    }
}

/// Clients that obey `Retry-After` wait for at most a minute; one that would not wait longer should not retry at once either.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

impl From<LimitError> for HttpError {
    fn from(error: LimitError) -> Self {
        let message = error.to_string();
        match error {
            LimitError::Exceeded { exceeded, standings } => {
                // OpenAI's codes: clients retry the first and give up at the second.
                let code = match exceeded.ceiling.span {
                    Span::Window(_) => "rate_limit_exceeded",
                    Span::Period(_) => "insufficient_quota",
                };
                let mut headers = HeaderMap::new();
                rate_limits::insert(&mut headers, &standings);
                let wait = exceeded.fits_at.map(|at| {
                    Duration::from_millis(u64::try_from(at.saturating_sub(ledger::now())).unwrap_or(0))
                });
                if wait.is_none_or(|wait| wait > LONGEST_RETRY) {
                    // The clients of OpenAI and Anthropic do not retry then.
                    headers.insert("x-should-retry", HeaderValue::from_static("false"));
                }
                let refused = |message: String| {
                    Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorKind::RateLimitError, code, message)
                        .class(FailureClass::Quota)
                        .headers(headers)
                };
                match (wait, exceeded.fits_at) {
                    (Some(wait), Some(at)) => {
                        let at = Timestamp::from_millisecond(at).unwrap_or(Timestamp::MAX);
                        refused(format!("{message}; it fits again at {at:.0}")).retry_after(wait)
                    }
                    _ => refused(message).hint("shorten the prompt, or ask for fewer tokens (`max_tokens`)"),
                }
            }
            LimitError::NoPrice { .. } => {
                Self::new(StatusCode::FORBIDDEN, ErrorKind::PermissionError, "price_unknown", message)
                    .hint("an account that may edit the Llm can write its `price`; `{input: 0, output: 0}` if it is free")
                    .class(FailureClass::Denied)
            }
            LimitError::Store(error) => error.into(),
        }
    }
}
