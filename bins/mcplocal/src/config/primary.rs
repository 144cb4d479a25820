//! `primary` and `failover`: how long mcpd may take, when it is skipped, and which failures fall back. The file's keys replace
//! the defaults, and a provider's replace the file's, key by key.

use std::time::Duration;

use mcpctl_api::{HumanDuration, spec::MidStream, yaml::YamlError};
use mcpctl_failover::{BreakerPolicy, FailureClass};
use mcpctl_upstream::AttemptTimeouts;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::check::{check_duration, wrong};

/// Timeouts and breaker of the primary. The timeouts are longer than mcpd's own, because mcpd retries within its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PrimaryConfig {
    /// The timeout of each step.
    pub timeouts: PrimaryTimeouts,
    /// When the primary is skipped.
    pub breaker: BreakerPolicy,
}

/// The timeout of each step of a request to mcpd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrimaryTimeouts {
    connect: Duration,
    response: Duration,
    /// As long as `response` where it was left out.
    first_token: Option<Duration>,
    answer: Duration,
    idle: Duration,
}

impl PrimaryTimeouts {
    /// The timeouts of an attempt at mcpd.
    pub fn of_attempt(self) -> AttemptTimeouts {
        let Self { connect, response, first_token, answer, idle } = self;
        AttemptTimeouts { connect, response, answer, first_token: first_token.unwrap_or(response), idle }
    }
}

/// The defaults of docs/reference/contract.md.
impl Default for PrimaryTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            response: Duration::from_secs(180),
            first_token: None,
            answer: Duration::from_secs(660),
            idle: Duration::from_secs(75),
        }
    }
}

/// Which failures fall back besides the defaults, and what becomes of streams that break.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FailoverConfig {
    /// Classes that do not fail over by default, such as `context_length`.
    pub on: Vec<FailureClass>,
    /// Whether a local provider goes on with a stream of the primary's that broke after its first content.
    pub mid_stream: MidStream,
}

/// `primary` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct PrimaryEntry {
    timeouts: TimeoutsEntry,
    breaker: BreakerEntry,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct TimeoutsEntry {
    /// To connect to mcpd [default: 3s].
    connect: Option<Spanned<HumanDuration>>,
    /// To the head of the answer [default: 3m].
    response: Option<Spanned<HumanDuration>>,
    /// To the first content of a stream [default: that of response].
    first_token: Option<Spanned<HumanDuration>>,
    /// To the end of an answer that is not streamed [default: 11m].
    answer: Option<Spanned<HumanDuration>>,
    /// Between two events of a stream [default: 75s].
    idle: Option<Spanned<HumanDuration>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct BreakerEntry {
    /// Failures in a row after which the primary is skipped [default: 3].
    failures: Option<Spanned<u32>>,
    /// How long it is skipped [default: 10s].
    open: Option<Spanned<HumanDuration>>,
}

/// `failover` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct FailoverEntry {
    /// Failure classes that fall back besides those that do by default, such as `context_length`; an error where a class never does.
    on: Option<Spanned<Vec<FailureClass>>>,
    /// What becomes of a stream of mcpd's that breaks after its first content [default: error].
    mid_stream: Option<MidStream>,
}

impl PrimaryEntry {
    /// `base`, with the keys that are written here.
    ///
    /// # Errors
    /// When a value is out of bounds, with its place.
    pub(super) fn over(&self, base: PrimaryConfig) -> Result<PrimaryConfig, YamlError> {
        let Self { timeouts, breaker } = self;
        let PrimaryConfig { timeouts: below, breaker: policy } = base;
        if let Some(failures) = breaker.failures.as_ref().filter(|failures| failures.value == 0) {
            return Err(wrong(failures, "`primary.breaker.failures` is at least 1"));
        }
        Ok(PrimaryConfig {
            timeouts: PrimaryTimeouts {
                connect: duration("timeouts.connect", timeouts.connect.as_ref())?.unwrap_or(below.connect),
                response: duration("timeouts.response", timeouts.response.as_ref())?
                    .unwrap_or(below.response),
                first_token: duration("timeouts.firstToken", timeouts.first_token.as_ref())?
                    .or(below.first_token),
                answer: duration("timeouts.answer", timeouts.answer.as_ref())?.unwrap_or(below.answer),
                idle: duration("timeouts.idle", timeouts.idle.as_ref())?.unwrap_or(below.idle),
            },
            breaker: BreakerPolicy {
                failures: breaker.failures.as_ref().map_or(policy.failures, |failures| failures.value),
                open: duration("breaker.open", breaker.open.as_ref())?.unwrap_or(policy.open),
            },
        })
    }
}

/// A duration of `primary`, checked.
fn duration(key: &str, written: Option<&Spanned<HumanDuration>>) -> Result<Option<Duration>, YamlError> {
    let Some(written) = written else { return Ok(None) };
    let HumanDuration(time) = written.value;
    check_duration(&format!("primary.{key}"), written.value)
        .map_err(|message| wrong(written, message))
        .map(|()| Some(time))
}

impl FailoverEntry {
    /// `base`, with the keys that are written here.
    ///
    /// # Errors
    /// INVARIANT 2: what the caller caused never fails over, so it cannot be listed.
    pub(super) fn over(&self, base: &FailoverConfig) -> Result<FailoverConfig, YamlError> {
        let mid_stream = self.mid_stream.unwrap_or(base.mid_stream);
        let Some(on) = &self.on else { return Ok(FailoverConfig { mid_stream, ..base.clone() }) };
        match on.value.iter().find(|class| !class.may_fail_over(&[**class])) {
            Some(class) => {
                let hint = "leave it out: it is the caller's own doing, or a decision of mcpd's".to_owned();
                Err(YamlError { hint: Some(hint), ..wrong(on, format!("`{class}` never fails over")) })
            }
            None => Ok(FailoverConfig { on: on.value.clone(), mid_stream }),
        }
    }
}
