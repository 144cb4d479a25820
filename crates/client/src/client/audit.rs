//! Requests about the audit, and what an agent hands over to it.

use jiff::Timestamp;
use mcpctl_api::{
    Id,
    audit::{AuditDecision, AuditPage, JournalReceipt},
};
use reqwest::{Method, header::CONTENT_TYPE};
use serde::Serialize;

use super::Client;
use crate::error::ClientError;

/// Selects rows of the audit; what is `None` selects all.
#[derive(Debug, Clone, Default, Serialize)]
pub struct AuditRequest {
    /// An account, e.g. `user/alice`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// An Llm's name or id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub llm: Option<String>,
    /// A verb, or what happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<AuditDecision>,
    /// The agent that reported it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Id>,
    /// From this time on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Maximum of rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl Client {
    /// A page of the audit, newest first.
    ///
    /// # Errors
    /// See [`ClientError`]; so for all the requests below.
    pub async fn audit(&self, wanted: &AuditRequest) -> Result<AuditPage, ClientError> {
        self.read(self.request(Method::GET, &["api", "v1", "audit"])?.query(wanted)).await
    }

    /// The last line of an agent's journal that the caller handed over.
    pub async fn journal_head(&self, agent: &Id) -> Result<JournalReceipt, ClientError> {
        self.read(self.request(Method::GET, &["api", "v1", "agents", agent.as_str(), "journal"])?).await
    }

    /// Hands over lines of an agent's journal. `gap` admits that lines before them are missing.
    pub async fn hand_over_journal(
        &self,
        agent: &Id,
        lines: Vec<u8>,
        gap: bool,
    ) -> Result<JournalReceipt, ClientError> {
        let mut request = self.request(Method::POST, &["api", "v1", "agents", agent.as_str(), "journal"])?;
        if gap {
            request = request.query(&[("gap", true)]);
        }
        self.read(request.header(CONTENT_TYPE, "application/x-ndjson").body(lines)).await
    }
}
