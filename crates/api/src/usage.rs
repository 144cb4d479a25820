//! Usage as `GET /api/v1/usage` shows it: sums of what accounts used, grouped by what the question names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

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
    /// Whether the account is gone; only where the caller may view accounts of its name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub principal_deleted: bool,
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
    /// Whether the Llm is gone; only where the caller may view Llms of its name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub llm_deleted: bool,
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

/// Names of Llms and accounts for people, each Llm and account under its own: `gpt (deleted)` beside a `gpt` that was made later, and the end
/// of the id where even that is the same.
#[derive(Debug, Default)]
pub struct DistinctNames(BTreeSet<String>);

impl DistinctNames {
    /// Characters of an id that are shown.
    const ID_END: usize = 6;

    /// The names in these items.
    pub fn of(items: &[UsageItem]) -> Self {
        let mut ids: BTreeMap<String, String> = BTreeMap::new();
        let mut shared = BTreeSet::new();
        for (name, id) in items.iter().flat_map(|item| [llm(item), principal(item)]).flatten() {
            if *ids.entry(name.clone()).or_insert_with(|| id.clone()) != id {
                shared.insert(name);
            }
        }
        Self(shared)
    }

    /// The name of an item's Llm.
    pub fn llm(&self, item: &UsageItem) -> Option<String> {
        Some(self.distinct(llm(item)?))
    }

    /// The name of an item's account.
    pub fn principal(&self, item: &UsageItem) -> Option<String> {
        Some(self.distinct(principal(item)?))
    }

    fn distinct(&self, (name, id): (String, String)) -> String {
        if id.is_empty() || !self.0.contains(&name) {
            return name;
        }
        let start = id.char_indices().rev().nth(Self::ID_END - 1).map_or(0, |(at, _)| at);
        format!("{name} …{}", id.get(start..).unwrap_or_default())
    }
}

fn llm(item: &UsageItem) -> Option<(String, String)> {
    Some((named(item.llm.as_ref()?, item.llm_deleted), item.llm_id.clone().unwrap_or_default()))
}

fn principal(item: &UsageItem) -> Option<(String, String)> {
    let id = item.principal_id.as_ref().map(ToString::to_string).unwrap_or_default();
    Some((named(item.principal.as_ref()?, item.principal_deleted), id))
}

fn named(name: &str, deleted: bool) -> String {
    if deleted { format!("{name} (deleted)") } else { name.to_owned() }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llms_of_one_name_are_told_apart() {
        let item = |name: &str, id: &str, deleted| UsageItem {
            llm: Some(name.to_owned()),
            llm_id: Some(id.to_owned()),
            llm_deleted: deleted,
            ..UsageItem::default()
        };
        let items = [
            item("gpt", "c000000000000000000aaaaaa", false),
            item("gpt", "c000000000000000000bbbbbb", true),
            item("claude", "c000000000000000000cccccc", true),
            item("claude", "c000000000000000000dddddd", true),
            item("claude", "c000000000000000000dddddd", true),
        ];
        let names = DistinctNames::of(&items);
        let shown: Vec<_> = items.iter().filter_map(|item| names.llm(item)).collect();
        assert_eq!(
            shown,
            [
                "gpt",
                "gpt (deleted)",
                "claude (deleted) …cccccc",
                "claude (deleted) …dddddd",
                "claude (deleted) …dddddd"
            ]
        );
        assert_eq!(names.principal(&items[0]), None);
    }
}
