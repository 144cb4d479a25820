//! Why an answer is not the primary's, or why there is none, with the next step.

use jiff::Timestamp;
use mcpctl_api::{
    agent::{AgentStatus, FailoverOutcome},
    error::{ACCESS_REVOKED, ACCESS_UNCONFIRMED},
    header::NO_PROVIDER,
};
use mcpctl_client::{Client, ClientError};

use crate::{
    failure::Failure,
    output::{self, Tone},
};

/// What a failure class means to a person.
pub fn class(class: &str) -> &str {
    match class {
        "connect" => "mcpd or its provider cannot be reached",
        "no_response" => "mcpd did not answer in time",
        "no_first_token" => "the central model did not begin in time",
        "server_error" => "mcpd's provider is in trouble",
        "rate_limited" => "mcpd's provider has no room",
        "upstream_credentials" => "mcpd has no key that its provider accepts",
        "context_length" => "the prompt is too long for the central model",
        other => other,
    }
}

/// Prints why no local provider answered, which the primary's own error does not contain. `word` is that of its header.
pub async fn no_failover(agent: &Client, llm: &str, since: Timestamp, word: Option<&str>) {
    let why = match word {
        Some(NO_PROVIDER) => {
            Some(format!("no fallback: no local provider is for `{llm}`: none has it in `failoverFor`"))
        }
        _ => agent.local_status().await.ok().and_then(|status| why_no_failover(&status, llm, since)),
    };
    if let Some(why) = why {
        note!(Tone::Warning, &format!("[{}]", output::one_line(&why)); "");
    }
}

/// Why no local provider answered in place of the primary since then; `None` where that is not known.
fn why_no_failover(status: &AgentStatus, llm: &str, since: Timestamp) -> Option<String> {
    let last = status.last_failover.as_ref().filter(|last| last.llm == llm && last.at >= since)?;
    let server = status.server.as_str().trim_end_matches('/');
    let (name, reason) = (&last.provider, last.reason.as_deref().unwrap_or_default());
    match (last.outcome, last.access.last().map(String::as_str)) {
        (FailoverOutcome::Failed, _) => {
            Some(format!("no fallback: the local provider `{name}` could not be used: {reason}"))
        }
        (FailoverOutcome::Refused, Some("unreachable")) => {
            let reason = if reason.is_empty() { "no answer of mcpd" } else { reason };
            Some(format!(
                "no fallback: mcpd at {server} cannot be asked ({reason}), and the local provider `{name}` may be used in place of \
                 `{llm}` only while mcpd allows it; for its own sake it can be: mcpctl chat local/{name}"
            ))
        }
        (FailoverOutcome::Refused, Some("forbidden")) if !reason.is_empty() => {
            Some(format!("no fallback: the local provider `{name}` may not be used: {reason}"))
        }
        (FailoverOutcome::Refused, Some("forbidden")) => Some(format!(
            "no fallback: mcpd at {server} does not allow you `{llm}`, so the local provider `{name}` may not be used in its place"
        )),
        _ => None,
    }
}

pub fn failure(error: ClientError, renewal: &str, llm: &str) -> Failure {
    let hint = match &error {
        // Whatever the agent forwards of mcpd's hint to programs.
        ClientError::Refused { status, .. } if status.as_u16() == 401 => Some(renewal.to_owned()),
        ClientError::Refused { error: body, .. } if error.hint().is_none() => {
            next_step(body.error.code.as_deref(), llm)
        }
        _ => None,
    };
    let failure = Failure::from(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// What to do about an error with this code.
pub fn next_step(code: Option<&str>, llm: &str) -> Option<String> {
    match code? {
        // Asking again changes nothing about it.
        "forbidden" | ACCESS_REVOKED => {
            Some(format!("ask an administrator, who can run: mcpctl auth who-can run llms {llm}"))
        }
        ACCESS_UNCONFIRMED => Some("ask again once mcpd answers".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_step_depends_on_how_access_ended() {
        for (code, expected) in [
            ("forbidden", Some("ask an administrator, who can run: mcpctl auth who-can run llms gpt")),
            (ACCESS_REVOKED, Some("ask an administrator, who can run: mcpctl auth who-can run llms gpt")),
            (ACCESS_UNCONFIRMED, Some("ask again once mcpd answers")),
            ("server_error", None),
        ] {
            assert_eq!(next_step(Some(code), "gpt").as_deref(), expected, "{code}");
        }
        assert_eq!(next_step(None, "gpt"), None);
    }
}
