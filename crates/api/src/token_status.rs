//! What changes of a token by itself, as `GET /api/v1/tokens/:idOrName/status` and `GET /api/v1/auth/token-status` show it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Id, Name,
    spec::{Rule, Subject},
};

/// How a token stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenStatus {
    /// The token's id.
    #[schema(value_type = String)]
    pub id: Id,
    /// The token's name.
    #[schema(value_type = String)]
    pub token: Name,
    /// The account that it is for.
    pub subject: Subject,
    /// Whether it is accepted.
    pub state: TokenState,
    /// Why it is not accepted; absent where it is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The first characters of its secret; absent of sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// When it was made, or got its present secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_at: Option<Timestamp>,
    /// The time from which it is rejected.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// What it is narrowed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<Rule>>,
    /// Whether a login made it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub session: bool,
    /// When it was last used, up to a minute ago; absent where it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
}

/// Whether a token is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum TokenState {
    /// It is accepted.
    Active,
    /// Its time is over.
    Expired,
    /// Its account is disabled, or an account that made it is deleted or disabled.
    Void,
    /// A state of a newer mcpd.
    #[serde(other)]
    Other,
}

impl TokenState {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Void => "void",
            Self::Other => "other",
        }
    }
}

/// `GET /api/v1/auth/token-status`: the tokens that the caller may view, by name
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenStatusList {
    /// The tokens.
    pub items: Vec<TokenStatus>,
}
