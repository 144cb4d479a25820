//! The audit as `GET /api/v1/audit` shows it, and the receipt of what an agent hands over to it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Id, Kind, Revision};

/// `GET /api/v1/audit`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// The rows, newest first.
    pub items: Vec<AuditEntry>,
    /// `after` of the next page; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The outcome of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuditDecision {
    /// Allowed; a change was committed too.
    Allowed,
    /// Denied, or a place where an agent's journal is not whole.
    Denied,
}

impl AuditDecision {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
        }
    }
}

/// A row of the audit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Id of the row: a UUID of version 7, whose time is when mcpd recorded it.
    pub id: String,
    /// When it was decided; of a report, when mcpd received it.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The principal, e.g. `User alice`; `(reported) …` where an agent names it and mcpd cannot confirm it.
    pub principal: String,
    /// Its id, if known.
    #[schema(value_type = Option<String>)]
    pub principal_id: Option<Id>,
    /// The token that was presented; of a report, the reporter's.
    #[schema(value_type = Option<String>)]
    pub token_id: Option<Id>,
    /// The verb, or what happened.
    pub action: String,
    /// Kind of the resource.
    #[schema(value_type = String)]
    pub kind: Kind,
    /// Id of the resource, if known.
    #[schema(value_type = Option<String>)]
    pub resource_id: Option<Id>,
    /// Its name, or what the request named.
    pub resource_name: String,
    /// The outcome.
    pub decision: AuditDecision,
    /// Why, or what else there is to know.
    pub reason: String,
    /// The revision that it was decided at; of a report, that at which mcpd received it.
    #[schema(value_type = u64)]
    pub revision: Revision,
    /// Id of the request.
    pub request_id: String,
    /// Who reported it; absent of mcpd's own decisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<AuditReport>,
}

/// Who reported a row, and what it was made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditReport {
    /// The agent's id.
    #[schema(value_type = String)]
    pub agent: Id,
    /// Number of the line in its journal; absent of a row about the journal itself.
    pub seq: Option<u64>,
    /// SHA-256 of the line.
    pub hash: Option<String>,
    /// The line; of one that mcpd cannot read the beginning.
    pub line: Option<String>,
    /// When it happened, by the agent's clock.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<Timestamp>,
    /// The account that handed it over.
    pub reported_by: String,
    /// Its id.
    #[schema(value_type = String)]
    pub reported_by_id: Id,
    /// Whether mcpd's own signature in the line names the principal.
    pub confirmed: bool,
}

/// What mcpd has of an agent's journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JournalReceipt {
    /// Number of the last line; 0 before the first one.
    pub seq: u64,
    /// Its SHA-256.
    pub hash: String,
    /// How many lines were new.
    pub recorded: u64,
}
