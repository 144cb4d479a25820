//! How much inference subjects may use: requests, tokens and money, in sliding windows or per calendar period.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{FieldError, NamePattern, Subject};
use crate::{HumanDuration, money::Usd};

/// The fields of a `Limit`. Every Limit that covers a request must allow it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"kind": "Limit", "name": "team-cost", "subjects": [{"kind": "Group", "name": "team"}], "per": "all",
    "cost": {"max": "200", "period": "month"}}))]
pub struct LimitSpec {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Users, service accounts and groups; everyone if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subjects: Option<Vec<Subject>>,
    /// Names of Llms, in which `*` stands for any characters; every Llm if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub llms: Option<Vec<NamePattern>>,
    /// Whether each user and service account has this much, or all of them share it.
    pub per: LimitScope,
    /// How many requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Allowance<u64>>,
    /// How many tokens, of input and output together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Allowance<u64>>,
    /// How much money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Budget>,
}

/// Who shares what a Limit allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LimitScope {
    /// Each user and service account has it for itself.
    Subject,
    /// All whom the Limit covers share it.
    All,
}

/// So much in a window or a period; exactly one of the two is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Allowance<T> {
    /// The most, at least 1.
    #[schema(value_type = u64)]
    pub max: T,
    /// In any stretch of this length, 1 s to 31 d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<HumanDuration>,
    /// In each calendar period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
}

/// An amount of money in a window or a period; exactly one of the two is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Budget {
    /// The most, more than zero.
    pub max: Usd,
    /// The currency.
    #[serde(default)]
    pub currency: Currency,
    /// In any stretch of this length, 1 s to 31 d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<HumanDuration>,
    /// In each calendar period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
}

/// The currency of prices and budgets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Currency {
    /// US dollars, in which providers publish their prices.
    #[default]
    Usd,
}

/// A calendar period in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// From midnight.
    Day,
    /// From midnight of Monday.
    Week,
    /// From midnight of the first.
    Month,
}

/// The time over which an allowance counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Span {
    /// Any stretch of this length.
    Window(HumanDuration),
    /// Each period of the calendar.
    Period(Period),
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Window(window) => window.fmt(f),
            Self::Period(Period::Day) => f.write_str("day"),
            Self::Period(Period::Week) => f.write_str("week"),
            Self::Period(Period::Month) => f.write_str("month"),
        }
    }
}

/// What a Limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// Requests.
    Requests,
    /// Tokens of input and output.
    Tokens,
    /// Money.
    Cost,
}

impl Measure {
    /// Every measure.
    pub const ALL: [Self; 3] = [Self::Requests, Self::Tokens, Self::Cost];

    /// The key of documents, e.g. `requests`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Cost => "cost",
        }
    }

    /// An amount with its unit, as messages show it.
    pub fn show(self, amount: u64) -> String {
        let plural = if amount == 1 { "" } else { "s" };
        match self {
            Self::Requests => format!("{amount} request{plural}"),
            Self::Tokens => format!("{amount} token{plural}"),
            Self::Cost => format!("{} USD", Usd::from_nanos(amount)),
        }
    }
}

/// One allowance of a Limit: so much of a measure in a span. Money is in nano-dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceiling {
    /// What is counted.
    pub measure: Measure,
    /// The most.
    pub max: u64,
    /// The time over which it counts.
    pub span: Span,
}

impl LimitSpec {
    /// Most subjects of one Limit; groups keep the list short.
    pub const MAX_SUBJECTS: usize = 1000;
    /// Most patterns of Llms of one Limit; bounds the work of a request.
    pub const MAX_LLMS: usize = 100;
    /// The shortest and the longest window; a longer one would keep its counters for longer than a month.
    const WINDOWS: (HumanDuration, HumanDuration) =
        (HumanDuration::from_secs(1), HumanDuration::from_secs(31 * 86_400));
    /// The most requests or tokens: more is no limit, and sums stay far from overflowing.
    const MAX_COUNT: u64 = 1_000_000_000_000_000;

    /// The allowances, in the order of [`Measure`]. One without a window or a period is left out; no such Limit is stored.
    pub fn ceilings(&self) -> impl Iterator<Item = Ceiling> {
        let counted = |measure, allowance: Option<Allowance<u64>>| {
            let Allowance { max, window, period } = allowance?;
            Some(Ceiling { measure, max, span: span(window, period)? })
        };
        let cost = self.cost.and_then(|Budget { max, window, period, .. }| {
            Some(Ceiling { measure: Measure::Cost, max: max.nanos(), span: span(window, period)? })
        });
        let counts = [counted(Measure::Requests, self.requests), counted(Measure::Tokens, self.tokens), cost];
        counts.into_iter().flatten()
    }

    /// Whether the Limit is about the Llm of this name.
    pub fn covers_llm(&self, name: &str) -> bool {
        self.llms.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(name)))
    }

    pub(super) fn validate(&self) -> Result<(), FieldError> {
        if let Some(subjects) = &self.subjects {
            // INVARIANT 15: an empty list applies to no one; one that is written is a mistake, and rejected.
            if subjects.is_empty() {
                return Err(FieldError::new("subjects", "an empty list applies to no one")
                    .hint("leave `subjects` out to cover everyone"));
            }
            if subjects.len() > Self::MAX_SUBJECTS {
                let message =
                    format!("at most {} subjects, this list has {}", Self::MAX_SUBJECTS, subjects.len());
                return Err(FieldError::new("subjects", message).hint("name groups instead of accounts"));
            }
        }
        if let Some(llms) = &self.llms {
            if llms.is_empty() {
                return Err(FieldError::new("llms", "an empty list applies to no Llm")
                    .hint("leave `llms` out to cover every Llm"));
            }
            if llms.len() > Self::MAX_LLMS {
                let message = format!("at most {} names, this list has {}", Self::MAX_LLMS, llms.len());
                return Err(FieldError::new("llms", message).hint("use a pattern such as `team-a-*`"));
            }
        }
        if let Some(account) = self.llms.iter().flatten().find(|llm| llm.names_kind()) {
            let message = format!("`{}` names an account, not an Llm", account.as_str());
            return Err(FieldError::new("llms", message).hint("accounts belong into `subjects`"));
        }
        if self.requests.is_none() && self.tokens.is_none() && self.cost.is_none() {
            return Err(FieldError::new("requests", "a Limit bounds `requests`, `tokens` or `cost`"));
        }
        for (key, allowance) in [("requests", self.requests), ("tokens", self.tokens)] {
            let Some(Allowance { max, window, period }) = allowance else { continue };
            if !(1..=Self::MAX_COUNT).contains(&max) {
                let message = format!("`{max}` is not between 1 and {}", Self::MAX_COUNT);
                return Err(no_zero(key, message));
            }
            check_span(key, window, period)?;
        }
        if let Some(Budget { max, window, period, .. }) = self.cost {
            if max == Usd::ZERO {
                return Err(no_zero("cost", "a budget is more than zero".to_owned()));
            }
            check_span("cost", window, period)?;
        }
        Ok(())
    }
}

fn span(window: Option<HumanDuration>, period: Option<Period>) -> Option<Span> {
    match (window, period) {
        (Some(window), None) => Some(Span::Window(window)),
        (None, Some(period)) => Some(Span::Period(period)),
        _ => None,
    }
}

fn no_zero(key: &str, message: String) -> FieldError {
    FieldError::new(format!("{key}.max"), message).hint("to forbid an Llm, take away the right to `run` it")
}

fn check_span(key: &str, window: Option<HumanDuration>, period: Option<Period>) -> Result<(), FieldError> {
    let (shortest, longest) = LimitSpec::WINDOWS;
    match span(window, period) {
        None => Err(FieldError::new(key, "exactly one of `window` and `period` is needed")
            .hint("write e.g. `window: 1m`, or `period: month`")),
        Some(Span::Window(window)) if !(shortest..=longest).contains(&window) => {
            let message = format!("`{window}` is not between {shortest} and {longest}");
            Err(FieldError::new(format!("{key}.window"), message))
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<LimitSpec, String> {
        let spec: LimitSpec = serde_json::from_str(json).map_err(|error| error.to_string())?;
        spec.validate().map_err(|error| error.to_string())?;
        Ok(spec)
    }

    #[test]
    fn ceilings_are_read_in_order() {
        let spec = read(
            r#"{"per":"all","cost":{"max":0.5,"period":"month"},"tokens":{"max":9,"period":"day"},
                "requests":{"max":60,"window":"1m"},"llms":["team-a-*"]}"#,
        )
        .unwrap();
        let ceilings: Vec<_> =
            spec.ceilings().map(|c| format!("{} per {}", c.measure.show(c.max), c.span)).collect();
        assert_eq!(ceilings, ["60 requests per 1m", "9 tokens per day", "0.5 USD per month"]);
        assert!(spec.covers_llm("team-a-x") && !spec.covers_llm("team-b"));
    }

    #[test]
    fn inv_15_what_could_mean_no_limit_is_refused() {
        for (json, expected) in [
            (r#"{"requests":{"max":1,"window":"1m"}}"#, "missing field `per`"),
            (r#"{"per":"all"}"#, "bounds `requests`, `tokens` or `cost`"),
            (r#"{"per":"all","requests":{"max":0,"window":"1m"}}"#, "`0` is not between"),
            (r#"{"per":"all","requests":{"max":1}}"#, "exactly one of"),
            (r#"{"per":"all","requests":{"max":1,"window":"1m","period":"day"}}"#, "exactly one of"),
            (r#"{"per":"all","requests":{"max":1,"window":"0s"}}"#, "`0s` is not between"),
            (r#"{"per":"all","tokens":{"max":1,"window":"32d"}}"#, "`32d` is not between"),
            (r#"{"per":"all","cost":{"max":0,"period":"day"}}"#, "more than zero"),
            (r#"{"per":"all","cost":{"max":1,"currency":"EUR","period":"day"}}"#, "unknown variant `EUR`"),
            (r#"{"per":"all","subjects":[],"requests":{"max":1,"window":"1m"}}"#, "applies to no one"),
            (r#"{"per":"all","llms":[],"requests":{"max":1,"window":"1m"}}"#, "applies to no Llm"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        }
    }
}
