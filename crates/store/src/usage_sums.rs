//! Sums of usage by time, account, Llm and model. They are kept beside the rows, and longer: of hours, days and 30 days, of each account
//! and of all, so that an answer about a year reads few of them.

mod count;
mod read;

use mcpctl_api::Id;

/// The spans of sums, in hours, the longest first: each divides the one before it.
const SPANS: [i64; 3] = [LONGEST_SPAN, 24, 1];
/// The longest span, 30 days. Sums are removed in such spans, so that those of all lengths agree.
const LONGEST_SPAN: i64 = 720;

/// The sums of some rows of usage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageSums {
    /// Requests of callers.
    pub requests: u64,
    /// Times that an Llm was asked in place of another one.
    pub fallbacks: u64,
    /// Times that an Llm failed.
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
    /// Rows whose tokens are an estimate.
    pub estimated: u64,
    /// Rows with tokens of an unknown price.
    pub unpriced: u64,
    /// The cost of all others, in nano-dollars.
    pub cost_nanos: u64,
}

impl UsageSums {
    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        let Self {
            requests,
            fallbacks,
            failures,
            input_tokens,
            output_tokens,
            cached_input_tokens,
            cache_write_input_tokens,
            reasoning_tokens,
            estimated,
            unpriced,
            cost_nanos,
        } = self;
        for (sum, more) in [
            (requests, other.requests),
            (fallbacks, other.fallbacks),
            (failures, other.failures),
            (input_tokens, other.input_tokens),
            (output_tokens, other.output_tokens),
            (cached_input_tokens, other.cached_input_tokens),
            (cache_write_input_tokens, other.cache_write_input_tokens),
            (reasoning_tokens, other.reasoning_tokens),
            (estimated, other.estimated),
            (unpriced, other.unpriced),
            (cost_nanos, other.cost_nanos),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

/// What sums are grouped by, besides the hours of the query.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageParts {
    /// Each account.
    pub account: bool,
    /// Each Llm.
    pub llm: bool,
    /// Each model, as providers name it.
    pub model: bool,
    /// Each time of this length.
    pub time: Option<UsageTime>,
}

/// A time that sums are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageTime {
    /// Hours.
    Hour,
    /// Days at so many seconds east of UTC. An hour belongs to the day that it begins in.
    Day {
        /// The offset.
        offset: i32,
    },
}

/// Selects sums of usage; what is `None` selects all.
#[derive(Debug, Clone, Default)]
pub struct UsageQuery {
    /// From this hour on, in hours since 1970.
    pub since: i64,
    /// Before this hour.
    pub until: i64,
    /// Only of this account.
    pub account: Option<UsageAccount>,
    /// Only of the Llm of this id or name.
    pub llm: Option<String>,
    /// What they are grouped by.
    pub parts: UsageParts,
}

/// The account that usage is asked for.
#[derive(Debug, Clone)]
pub enum UsageAccount {
    /// Of this id, under whichever name.
    Id(Id),
    /// Under this name, e.g. `User alice`: of accounts that are gone, and of rows without an id.
    Named(String),
}

/// Sums of one part. What the query does not group by is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsagePart {
    /// The account's id; `None` of rows without one.
    pub account: Option<Id>,
    /// Its kind and name at that time.
    pub principal: String,
    /// The Llm's id.
    pub llm_id: String,
    /// Its name at that time.
    pub llm_name: String,
    /// The model.
    pub model: String,
    /// The hour, in hours since 1970, or the day at its offset, in days since 1970.
    pub time: i64,
    /// What was used.
    pub sums: UsageSums,
}
