//! Usage as `GET /api/v1/usage` shows it: sums of what accounts used, grouped by what the question names.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Id, Name};

/// What sums are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UsageBy {
    /// Users and service accounts.
    User,
    /// Groups, by their members at the time of the question. An account in several counts in each.
    Group,
    /// Llms.
    Llm,
    /// Models, as the providers name them.
    Model,
    /// Days (UTC).
    Day,
    /// Hours (UTC).
    Hour,
}

impl UsageBy {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::User, Self::Group, Self::Llm, Self::Model, Self::Day, Self::Hour];

    /// The word of questions.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
            Self::Llm => "llm",
            Self::Model => "model",
            Self::Day => "day",
            Self::Hour => "hour",
        }
    }
}

impl fmt::Display for UsageBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that usage is not grouped by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("usage is shown by user, group, llm, model, day or hour, not by `{0}`")]
pub struct UnknownPart(String);

impl FromStr for UsageBy {
    type Err = UnknownPart;

    fn from_str(text: &str) -> Result<Self, UnknownPart> {
        let found = Self::ALL.into_iter().find(|by| by.as_str() == text);
        found.ok_or_else(|| UnknownPart(text.chars().take(32).collect()))
    }
}

/// `GET /api/v1/usage`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsagePage {
    /// The beginning of the first hour that is in it.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// The end of the last hour that is in it.
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    /// What the items are grouped by.
    pub by: Vec<UsageBy>,
    /// In the order of what they are grouped by; none where nothing is named.
    pub items: Vec<UsageItem>,
    /// The sums of all pages; each request counts once, in however many groups its account is.
    pub totals: UsageTotals,
    /// Whether every request that is on record is counted. False for a while after an upgrade from a version without sums.
    pub complete: bool,
    /// `after` of the next page; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The sums of one part; a field is there where the question names it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageItem {
    /// The account, e.g. `User alice`, under its name of now; of one that is gone, its last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Its id; absent of requests before ids were recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub principal_id: Option<Id>,
    /// The group; absent of accounts in none that the caller may view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub group: Option<Name>,
    /// The Llm's name of now; of one that is gone, its last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm: Option<String>,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm_id: Option<String>,
    /// The model as its provider names it; empty where no answer named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// When the day or hour begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub from: Option<Timestamp>,
    /// What was used.
    #[serde(flatten)]
    pub totals: UsageTotals,
}

/// Sums of usage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageTotals {
    /// Requests that went to a provider, each counted once, at the Llm that was tried first.
    pub requests: u64,
    /// Times that an Llm was tried in place of another one, or a local provider by an agent, under the model `(local)`.
    pub fallbacks: u64,
    /// Times that an Llm failed. A request whose fallback answered counts here at its first Llm. One that its caller cancelled does not.
    pub failures: u64,
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Of the input, the tokens that a prompt cache saved.
    pub cached_input_tokens: u64,
    /// Of the input, the tokens that were written to a prompt cache.
    pub cache_write_input_tokens: u64,
    /// Of the output, the tokens spent on reasoning.
    pub reasoning_tokens: u64,
    /// How often the tokens are an estimate, because the provider did not count them.
    pub estimated: u64,
    /// How often tokens have no known price; their cost is missing in `cost`.
    pub unpriced: u64,
    /// The cost in US dollars.
    pub cost: f64,
}
