//! Values that go in and never come out.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::FieldError;

/// What a `Secret` says. When it is read, every value is `null`; a `null` that is written keeps the stored value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretSpec {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Keys and values.
    #[schema(write_only, value_type = std::collections::HashMap<String, Option<String>>)]
    pub data: BTreeMap<String, Option<SecretValue>>,
}

impl SecretSpec {
    /// The most bytes of one value.
    pub const VALUE_MAX: usize = 64 * 1024;
    /// The most keys of one secret.
    pub const KEYS_MAX: usize = 64;

    pub(super) fn validate(&self) -> Result<(), FieldError> {
        if self.data.len() > Self::KEYS_MAX {
            return Err(FieldError::new("data", format!("a secret has at most {} keys", Self::KEYS_MAX)));
        }
        for (key, value) in &self.data {
            let param = || format!("data.{key}");
            let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            if key.is_empty() || key.len() > 63 || !key.bytes().all(fits) {
                return Err(FieldError::new(param(), "a key has 1 to 63 letters, digits, `.`, `_` and `-`"));
            }
            match value {
                Some(value) if value.expose().is_empty() => {
                    return Err(FieldError::new(param(), "the value is empty"));
                }
                Some(value) if value.expose().len() > Self::VALUE_MAX => {
                    return Err(FieldError::new(
                        param(),
                        format!("a value has at most {} bytes", Self::VALUE_MAX),
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A secret text on its way in; never printed by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretValue(String);

impl SecretValue {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
