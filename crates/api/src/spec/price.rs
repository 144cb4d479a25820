//! What the tokens of a model cost.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::FieldError;
use crate::money::Usd;

/// Prices in US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Price {
    /// Of the input.
    pub input: Usd,
    /// Of the output.
    pub output: Usd,
    /// Of input that a prompt cache saved; as `input` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<Usd>,
    /// Of input that is written to a prompt cache; as `input` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<Usd>,
    /// Of reasoning, which is part of the output; as `output` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Usd>,
}

impl Price {
    /// The highest price per million tokens: a higher one is more likely a price per token count of another size.
    pub const MAX: Usd = Usd::from_nanos(10_000 * 1_000_000_000);

    /// Rejects a price that can only be a mistake; `param` is where it is.
    ///
    /// # Errors
    /// The first field that is too high.
    pub fn validate(&self, param: &str) -> Result<(), FieldError> {
        let fields = [
            ("input", Some(self.input)),
            ("output", Some(self.output)),
            ("cachedInput", self.cached_input),
            ("cacheWrite", self.cache_write),
            ("reasoning", self.reasoning),
        ];
        match fields.into_iter().find(|(_, price)| price.is_some_and(|price| price > Self::MAX)) {
            Some((field, _)) => {
                let message = format!("a price is at most {} US dollars per million tokens", Self::MAX);
                Err(FieldError::new(format!("{param}.{field}"), message))
            }
            None => Ok(()),
        }
    }
}
