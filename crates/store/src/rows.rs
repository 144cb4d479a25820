//! Rows of audit and usage: inserts them, and reads them newest first.
//!
//! Texts may come from callers and providers, so each is cut to its column's bound where it is inserted: no route can
//! forget it.

use jiff::Timestamp;
use mcpctl_api::{Id, Kind, Revision, visible};
use serde::Serialize;
use sqlx::Row as _;
use uuid::Uuid;

use crate::{
    database::{Store, read_connection},
    error::StoreError,
};

/// The outcome of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Allowed; a change was committed too.
    Allowed,
    /// Denied.
    Denied,
}

impl Decision {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
        }
    }
}

/// A decision about a principal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditRow {
    /// Id of this row; version 7, so in order of time.
    pub id: Uuid,
    /// When the decision was made.
    pub at: Timestamp,
    /// The principal, e.g. `User alice`.
    pub principal: String,
    /// Id of the principal, if known: a name may pass to another account.
    pub principal_id: Option<Id>,
    /// Id of the token that the caller presented, or that a login created.
    pub token_id: Option<Id>,
    /// The verb, or `login`.
    pub action: String,
    /// Kind of the resource.
    pub kind: Kind,
    /// Id of the resource, if known.
    pub resource_id: Option<Id>,
    /// The resource's name, or what the request named.
    pub resource_name: String,
    /// The outcome.
    pub decision: Decision,
    /// Why it was denied; of an allowed one, that bodies are captured, or nothing.
    pub reason: String,
    /// The revision of the snapshot that the decision was made in, or of the change.
    pub revision: Revision,
    /// Id of the request.
    pub request_id: String,
}

/// The usage of one inference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageRow {
    /// Id of this row; version 7, so in order of time.
    pub id: Uuid,
    /// When the request arrived.
    pub at: Timestamp,
    /// The principal, e.g. `User alice`.
    pub principal: String,
    /// Id of the principal; `None` in rows of earlier versions.
    pub principal_id: Option<Id>,
    /// Id of the token that the caller presented.
    pub token_id: Id,
    /// Id of the Llm.
    pub llm_id: Id,
    /// Name of the Llm at that time.
    pub llm_name: String,
    /// The model, as the provider's response names it.
    pub model: String,
    /// Host and port of the target that was asked last; `None` of an Llm without `targets`.
    pub target: Option<String>,
    /// Number of input tokens.
    pub input_tokens: u64,
    /// Number of output tokens.
    pub output_tokens: u64,
    /// Of the input, the tokens that a prompt cache saved.
    pub cached_input_tokens: u64,
    /// Of the input, the tokens that were written to a prompt cache.
    pub cache_write_input_tokens: u64,
    /// Of the output, the tokens spent on reasoning.
    pub reasoning_tokens: u64,
    /// Whether the tokens are an estimate, because the provider did not report them.
    pub estimated: bool,
    /// The cost in nano-dollars; `None` where the price is unknown.
    pub cost_nanos: Option<u64>,
    /// Whether the caller asked for a stream.
    pub stream: bool,
    /// `ok`, or the failure class.
    pub outcome: String,
    /// The provider's HTTP status; 0 if there was no response.
    pub status: u16,
    /// Number of attempts at the provider.
    pub attempts: u32,
    /// Whether this is the first row of its caller's request: each fallback has a row of its own.
    pub begins: bool,
    /// Whether the Llm was asked in place of another one.
    pub fallback: bool,
    /// Time from arrival to the end of the response, in milliseconds.
    pub duration_ms: u64,
    /// Id of the request.
    pub request_id: String,
}

/// Selects audit rows.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only rows of this principal.
    pub principal: Option<String>,
    /// Maximum of rows.
    pub limit: u32,
}

/// Selects usage rows.
#[derive(Debug, Clone, Default)]
pub struct UsageFilter {
    /// Only rows of this principal.
    pub principal: Option<String>,
    /// Only rows of this Llm.
    pub llm_id: Option<Id>,
    /// Maximum of rows.
    pub limit: u32,
}

/// Maximum bytes of a principal (`ServiceAccount` and a name) or of a resource's name.
pub(crate) const MAX_NAME_BYTES: usize = 128;
/// Maximum bytes of an action, an outcome or a request's id.
pub(crate) const MAX_WORD_BYTES: usize = 64;
/// Maximum bytes of the name that a provider gives its model.
pub(crate) const MAX_MODEL_BYTES: usize = 200;
/// Maximum bytes of a target: the longest host that DNS has, and a port.
pub(crate) const MAX_HOST_BYTES: usize = 253 + 6;
/// Maximum bytes of a reason.
pub(crate) const MAX_REASON_BYTES: usize = 512;

/// Cuts a text to `max_bytes`, and escapes what a terminal or a line-based reader would take for an instruction.
pub(crate) fn bounded(text: impl Into<String> + AsRef<str>, max_bytes: usize) -> String {
    let is_short = text.as_ref().len() <= max_bytes && visible::is_plain(text.as_ref());
    if is_short { text.into() } else { visible::short(text.as_ref(), max_bytes) }
}

/// A row's id as its column has it.
pub(crate) fn text_of(id: Uuid) -> String {
    id.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()).to_owned()
}

/// The columns that mcpd's own audit rows fill, in the order of `audit_values`.
macro_rules! audit_columns {
    () => {
        "INTO audit (id, at, principal, action, kind, resource_id, resource_name, decision, reason, \
         revision, request_id, principal_id, token_id) "
    };
}

/// Gives each value of an audit row to a method of a query of either database.
macro_rules! audit_values {
    ($row:expr, $query:ident, $bind:ident) => {{
        let row: $crate::rows::AuditRow = $row;
        $query
            .$bind($crate::rows::text_of(row.id))
            .$bind(row.at.as_microsecond())
            .$bind($crate::rows::bounded(row.principal, $crate::rows::MAX_NAME_BYTES))
            .$bind($crate::rows::bounded(row.action, $crate::rows::MAX_WORD_BYTES))
            .$bind(row.kind.singular())
            .$bind(row.resource_id.map(String::from))
            .$bind($crate::rows::bounded(row.resource_name, $crate::rows::MAX_NAME_BYTES))
            .$bind(row.decision.as_str())
            .$bind($crate::rows::bounded(row.reason, $crate::rows::MAX_REASON_BYTES))
            .$bind($crate::resources::signed(row.revision))
            .$bind($crate::rows::bounded(row.request_id, $crate::rows::MAX_WORD_BYTES))
            .$bind(row.principal_id.map(String::from))
            .$bind(row.token_id.map(String::from))
    }};
}

/// The columns of usage rows, in the order of `usage_values`.
macro_rules! usage_columns {
    () => {
        "INTO usage (id, at, principal, token_id, llm_id, llm_name, model, input_tokens, \
         output_tokens, stream, outcome, status, attempts, duration_ms, request_id, cached_input_tokens, \
         cache_write_input_tokens, reasoning_tokens, estimated, cost_nanos, principal_id, begins, fallback, target) "
    };
}

/// Gives each value of a usage row to a method of a query of either database.
macro_rules! usage_values {
    ($row:expr, $query:ident, $bind:ident) => {{
        let row: $crate::rows::UsageRow = $row;
        $query
            .$bind($crate::rows::text_of(row.id))
            .$bind(row.at.as_microsecond())
            .$bind($crate::rows::bounded(row.principal, $crate::rows::MAX_NAME_BYTES))
            .$bind(String::from(row.token_id))
            .$bind(String::from(row.llm_id))
            .$bind($crate::rows::bounded(row.llm_name, $crate::rows::MAX_NAME_BYTES))
            .$bind($crate::rows::bounded(row.model, $crate::rows::MAX_MODEL_BYTES))
            .$bind($crate::rows::number(row.input_tokens))
            .$bind($crate::rows::number(row.output_tokens))
            .$bind(i64::from(row.stream))
            .$bind($crate::rows::bounded(row.outcome, $crate::rows::MAX_WORD_BYTES))
            .$bind(i64::from(row.status))
            .$bind(i64::from(row.attempts))
            .$bind($crate::rows::number(row.duration_ms))
            .$bind($crate::rows::bounded(row.request_id, $crate::rows::MAX_WORD_BYTES))
            .$bind($crate::rows::number(row.cached_input_tokens))
            .$bind($crate::rows::number(row.cache_write_input_tokens))
            .$bind($crate::rows::number(row.reasoning_tokens))
            .$bind(i64::from(row.estimated))
            .$bind(row.cost_nanos.map($crate::rows::number))
            .$bind(row.principal_id.map(String::from))
            .$bind(i64::from(row.begins))
            .$bind(i64::from(row.fallback))
            .$bind(row.target.map(|target| $crate::rows::bounded(target, $crate::rows::MAX_HOST_BYTES)))
    }};
}

/// A count as its column has it.
pub(crate) fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Inserts an audit row in a transaction of either database.
macro_rules! insert_audit {
    ($row:expr, $transaction:ident) => {{
        let query = sqlx::query(concat!(
            "INSERT ",
            $crate::rows::audit_columns!(),
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
        ));
        $crate::rows::audit_values!($row, query, bind).execute(&mut *$transaction).await
    }};
}

/// Inserts a row of usage in a transaction of either database.
macro_rules! insert_usage {
    ($row:expr, $transaction:ident) => {{
        let query = sqlx::query(concat!(
            "INSERT ",
            $crate::rows::usage_columns!(),
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, \
             $21, $22, $23, $24)"
        ));
        $crate::rows::usage_values!($row, query, bind).execute(&mut *$transaction).await
    }};
}

/// Reads an audit row of either database.
macro_rules! read_audit_row {
    ($row:expr) => {
        (|| -> Result<$crate::rows::AuditRow, $crate::error::StoreError> {
            let row = $row;
            let id: String = row.try_get("id")?;
            let bad = |error: &dyn std::fmt::Display| $crate::rows::unreadable("audit row", &id, error);
            let optional = |column: &str| -> Result<Option<mcpctl_api::Id>, $crate::error::StoreError> {
                let text: Option<String> = row.try_get(column)?;
                text.map(|id| id.parse()).transpose().map_err(|error| bad(&error))
            };
            let kind: String = row.try_get("kind")?;
            let decision: String = row.try_get("decision")?;
            let revision: i64 = row.try_get("revision")?;
            Ok($crate::rows::AuditRow {
                id: id.parse().map_err(|error| bad(&error))?,
                at: jiff::Timestamp::from_microsecond(row.try_get("at")?).map_err(|error| bad(&error))?,
                principal: row.try_get("principal")?,
                principal_id: optional("principal_id")?,
                token_id: optional("token_id")?,
                action: row.try_get("action")?,
                kind: $crate::database::parse_kind(&kind, &id)?,
                resource_id: optional("resource_id")?,
                resource_name: row.try_get("resource_name")?,
                decision: match decision.as_str() {
                    "allowed" => $crate::rows::Decision::Allowed,
                    _ => $crate::rows::Decision::Denied,
                },
                reason: row.try_get("reason")?,
                revision: mcpctl_api::Revision(revision.unsigned_abs()),
                request_id: row.try_get("request_id")?,
            })
        })()
    };
}

pub(crate) use {
    audit_columns, audit_values, insert_audit, insert_usage, read_audit_row, usage_columns, usage_values,
};

pub(crate) fn unreadable(kind: &str, id: &str, error: impl std::fmt::Display) -> StoreError {
    StoreError::Unreadable { kind: kind.to_owned(), id: id.to_owned(), reason: error.to_string() }
}

impl Store {
    /// Audit rows, newest first.
    ///
    /// # Errors
    /// When the database does not answer or a row cannot be read.
    pub async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditRow>, StoreError> {
        read_connection!(&self.database, connection => {
            let rows = sqlx::query(
                "SELECT * FROM audit WHERE ($1 = '' OR principal = $1) ORDER BY at DESC, id DESC LIMIT $2",
            )
            .bind(filter.principal.clone().unwrap_or_default())
            .bind(i64::from(filter.limit))
            .fetch_all(&mut *connection)
            .await?;
            rows.iter().map(|row| read_audit_row!(row)).collect()
        })
    }

    /// Usage rows, newest first.
    ///
    /// # Errors
    /// When the database does not answer or a row cannot be read.
    pub async fn usage(&self, filter: &UsageFilter) -> Result<Vec<UsageRow>, StoreError> {
        read_connection!(&self.database, connection => {
            let rows = sqlx::query(
                "SELECT * FROM usage WHERE ($1 = '' OR principal = $1) AND ($2 = '' OR llm_id = $2) \
                 ORDER BY at DESC, id DESC LIMIT $3",
            )
            .bind(filter.principal.clone().unwrap_or_default())
            .bind(filter.llm_id.as_ref().map(|id| id.to_string()).unwrap_or_default())
            .bind(i64::from(filter.limit))
            .fetch_all(&mut *connection)
            .await?;
            rows.iter()
                .map(|row| {
                    let id: String = row.try_get("id")?;
                    let bad = |error: &dyn std::fmt::Display| unreadable("usage row", &id, error);
                    let number = |column: &str| -> Result<u64, sqlx::Error> {
                        let number: i64 = row.try_get(column)?;
                        Ok(number.unsigned_abs())
                    };
                    let token_id: String = row.try_get("token_id")?;
                    let llm_id: String = row.try_get("llm_id")?;
                    let principal_id: Option<String> = row.try_get("principal_id")?;
                    Ok(UsageRow {
                        id: id.parse().map_err(|error| bad(&error))?,
                        at: Timestamp::from_microsecond(row.try_get("at")?).map_err(|error| bad(&error))?,
                        principal: row.try_get("principal")?,
                        principal_id: principal_id
                            .map(|id| id.parse())
                            .transpose()
                            .map_err(|error| bad(&error))?,
                        token_id: token_id.parse().map_err(|error| bad(&error))?,
                        llm_id: llm_id.parse().map_err(|error| bad(&error))?,
                        llm_name: row.try_get("llm_name")?,
                        model: row.try_get("model")?,
                        target: row.try_get("target")?,
                        input_tokens: number("input_tokens")?,
                        output_tokens: number("output_tokens")?,
                        cached_input_tokens: number("cached_input_tokens")?,
                        cache_write_input_tokens: number("cache_write_input_tokens")?,
                        reasoning_tokens: number("reasoning_tokens")?,
                        estimated: number("estimated")? != 0,
                        cost_nanos: row.try_get::<Option<i64>, _>("cost_nanos")?.map(i64::unsigned_abs),
                        stream: number("stream")? != 0,
                        outcome: row.try_get("outcome")?,
                        status: u16::try_from(number("status")?).unwrap_or_default(),
                        attempts: u32::try_from(number("attempts")?).unwrap_or_default(),
                        begins: number("begins")? != 0,
                        fallback: number("fallback")? != 0,
                        duration_ms: number("duration_ms")?,
                        request_id: row.try_get("request_id")?,
                    })
                })
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::bounded;

    #[test]
    fn texts_are_cut_at_characters_and_show_no_controls() {
        assert_eq!(bounded("gpt", 3), "gpt");
        assert_eq!(bounded("gpt-4", 4), "g…");
        assert_eq!(bounded("é".repeat(100), 9), "ééé…");
        assert_eq!(bounded("a\nb\u{202e}c\u{9b}", 64), "a b\\u202ec\\u009b");
    }
}
