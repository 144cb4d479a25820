//! How the counters of a Limit stand, as `GET /api/v1/limits/:idOrName/status` shows them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Name, Usd,
    spec::{Ceiling, Measure, Subject},
};

/// `GET /api/v1/limits/:idOrName/status`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitStatus {
    /// The Limit's name.
    #[schema(value_type = String)]
    pub limit: Name,
    /// Its counters; of a Limit per subject, those of the subjects that used something and that the caller may view.
    pub counters: Vec<LimitCount>,
    /// How many counters are not shown, because the caller may not view their subjects, or there are too many.
    pub hidden: u64,
}

/// One counter of a Limit. Requests that run count by their estimate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitCount {
    /// Whose counter it is; absent where all share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// What is counted.
    pub measure: Measure,
    /// The time over which it counts: a length such as `1h`, or `day`, `week`, `month`.
    pub per: String,
    /// The most: requests, tokens, or US dollars.
    #[schema(value_type = f64)]
    pub max: serde_json::Number,
    /// How much of it is used.
    #[schema(value_type = f64)]
    pub used: serde_json::Number,
    /// How much of it is left.
    #[schema(value_type = f64)]
    pub remaining: serde_json::Number,
    /// When all of it is free again.
    #[schema(value_type = String, format = DateTime)]
    pub resets_at: Timestamp,
}

impl LimitCount {
    /// A counter of which so much is used.
    pub fn new(subject: Option<Subject>, ceiling: &Ceiling, used: u64, resets_at: Timestamp) -> Self {
        let number = |amount| number(ceiling.measure, amount);
        Self {
            subject,
            measure: ceiling.measure,
            per: ceiling.span.to_string(),
            max: number(ceiling.max),
            used: number(used),
            remaining: number(ceiling.max.saturating_sub(used)),
            resets_at,
        }
    }

    /// The unit of its amounts.
    pub fn unit(&self) -> &'static str {
        match self.measure {
            Measure::Requests => "requests",
            Measure::Tokens => "tokens",
            Measure::Cost => "USD",
        }
    }
}

fn number(measure: Measure, amount: u64) -> serde_json::Number {
    match measure {
        Measure::Requests | Measure::Tokens => amount.into(),
        Measure::Cost => match serde_json::to_value(Usd::from_nanos(amount)) {
            Ok(serde_json::Value::Number(number)) => number,
            _ => amount.into(),
        },
    }
}
