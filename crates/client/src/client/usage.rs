//! Requests about usage.

use jiff::Timestamp;
use mcpctl_api::usage::{UsageBy, UsagePage};
use reqwest::Method;
use serde::Serialize;

use super::Client;
use crate::error::ClientError;

/// Selects usage; what is `None` selects all that the caller may view.
#[derive(Debug, Clone, Default, Serialize)]
pub struct UsageRequest {
    /// What sums are grouped by, e.g. `user,llm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// An account, e.g. `user/alice`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// An Llm's name or id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub llm: Option<String>,
    /// From the hour of this time on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Up to this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The zone whose days are meant, e.g. `Europe/Berlin`; UTC where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Maximum of items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl UsageRequest {
    /// A request for sums that are grouped by these.
    pub fn by(parts: &[UsageBy]) -> Self {
        let by = parts.iter().map(|by| by.as_str()).collect::<Vec<_>>().join(",");
        Self { by: (!by.is_empty()).then_some(by), ..Self::default() }
    }
}

impl Client {
    /// A page of usage.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn usage(&self, wanted: &UsageRequest) -> Result<UsagePage, ClientError> {
        self.read(self.request(Method::GET, &["api", "v1", "usage"])?.query(wanted)).await
    }
}
