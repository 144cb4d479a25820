//! Reads the audit for people: pages of it, newest first, with what agents reported.

use jiff::Timestamp;
use mcpctl_api::{Id, Kind};
use serde::Serialize;
use sqlx::{QueryBuilder, Row as _};
use uuid::Uuid;

use crate::{
    connection::Connection,
    database::{Database, Store},
    error::StoreError,
    journal::Report,
    rows::{AuditRow, Decision, read_audit_row, unreadable},
    sqlite::Interrupt,
};

/// A row of the audit, mcpd's own or reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// The decision.
    #[serde(flatten)]
    pub row: AuditRow,
    /// Who reported it; `None` of mcpd's own decisions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
}

/// Selects rows of the audit. What is `None` selects all.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Only rows about the account of this id, under whichever name.
    pub principal_id: Option<Id>,
    /// Only rows about this principal, e.g. `User alice`.
    pub principal: Option<String>,
    /// Only rows about resources of this kind.
    pub kind: Option<Kind>,
    /// Only rows about the resource of this id or name.
    pub resource: Option<String>,
    /// Only rows of this action.
    pub action: Option<String>,
    /// Only rows with this outcome.
    pub decision: Option<Decision>,
    /// Only rows that this agent reported.
    pub agent: Option<Id>,
    /// Only rows about requests of these ids.
    pub requests: Option<Vec<String>>,
    /// Only rows from this time on.
    pub since: Option<Timestamp>,
    /// Only rows before this time.
    pub until: Option<Timestamp>,
    /// Only rows that come after this one in the order, newest first.
    pub after: Option<(Timestamp, Uuid)>,
    /// Maximum of rows.
    pub limit: u32,
}

/// The conditions of a query, for either database.
macro_rules! push_conditions {
    ($query:ident, $filter:expr) => {
        let AuditQuery {
            principal_id,
            principal,
            kind,
            resource,
            action,
            decision,
            agent,
            requests,
            since,
            until,
            after,
            limit,
        } = $filter;
        if let Some(id) = principal_id {
            $query.push(" AND principal_id = ").push_bind(id.to_string());
        }
        if let Some(principal) = principal {
            $query.push(" AND principal = ").push_bind(principal.clone());
        }
        if let Some(kind) = kind {
            $query.push(" AND kind = ").push_bind(kind.singular());
        }
        if let Some(resource) = resource {
            $query.push(" AND (resource_name = ").push_bind(resource.clone());
            $query.push(" OR resource_id = ").push_bind(resource.clone()).push(")");
        }
        if let Some(action) = action {
            $query.push(" AND action = ").push_bind(action.clone());
            if !matches!(action.as_str(), "run" | "view") {
                // The condition of the index `audit_rare_action`, word for word.
                $query.push(" AND action NOT IN ('run', 'view')");
            }
        }
        if let Some(decision) = decision {
            // Not bound, so that the index `audit_denied` serves it.
            $query.push(match decision {
                Decision::Allowed => " AND decision = 'allowed'",
                Decision::Denied => " AND decision = 'denied'",
            });
        }
        if let Some(agent) = agent {
            $query.push(" AND agent_id = ").push_bind(agent.to_string());
        }
        if let Some(requests) = requests {
            // Of no request there are no rows; without the first value the list would be no SQL.
            $query.push(" AND request_id IN (NULL");
            for request in requests {
                $query.push(", ").push_bind(request.clone());
            }
            $query.push(")");
        }
        if let Some(since) = since {
            $query.push(" AND at >= ").push_bind(since.as_microsecond());
        }
        if let Some(until) = until {
            $query.push(" AND at < ").push_bind(until.as_microsecond());
        }
        if let Some((at, id)) = after {
            $query.push(" AND (at < ").push_bind(at.as_microsecond());
            $query.push(" OR (at = ").push_bind(at.as_microsecond());
            $query.push(" AND id < ").push_bind(id.to_string()).push("))");
        }
        $query.push(" ORDER BY at DESC, id DESC LIMIT ").push_bind(i64::from(*limit));
    };
}

/// Reads the rows of a query, on a connection of either database.
macro_rules! read_events {
    ($connection:ident, $filter:ident) => {{
        let mut query = QueryBuilder::new("SELECT * FROM audit WHERE TRUE");
        push_conditions!(query, $filter);
        let rows = query.build().fetch_all(&mut *$connection).await?;
        rows.iter()
            .map(|found| -> Result<AuditEvent, StoreError> {
                let row = read_audit_row!(found)?;
                let agent: Option<String> = found.try_get("agent_id")?;
                let report = match agent {
                    None => None,
                    Some(agent) => {
                        let bad = |error: &dyn std::fmt::Display| {
                            unreadable("audit row", &row.id.to_string(), error)
                        };
                        let reporter: String = found.try_get("reported_by_id")?;
                        Some(Report {
                            agent: agent.parse().map_err(|error| bad(&error))?,
                            seq: found.try_get::<Option<i64>, _>("line_seq")?.map(i64::unsigned_abs),
                            hash: found.try_get("line_hash")?,
                            line: found.try_get("line")?,
                            at: found
                                .try_get::<Option<i64>, _>("reported_at")?
                                .and_then(|at| Timestamp::from_microsecond(at).ok()),
                            reported_by: found.try_get("reported_by")?,
                            reported_by_id: reporter.parse().map_err(|error| bad(&error))?,
                            confirmed: found.try_get::<i64, _>("confirmed")? != 0,
                        })
                    }
                };
                Ok(AuditEvent { row, report })
            })
            .collect::<Result<Vec<_>, StoreError>>()?
    }};
}

impl Store {
    /// A page of the audit, newest first. A caller that no longer waits ends the query.
    ///
    /// # Errors
    /// When the database does not answer or a row cannot be read.
    pub async fn audit_events(&self, filter: &AuditQuery) -> Result<Vec<AuditEvent>, StoreError> {
        Ok(match &self.database {
            Database::Sqlite(sqlite) => {
                let mut connection = sqlite.reader().await?;
                let interrupt = Interrupt::of(&mut connection).await?;
                let events = read_events!(connection, filter);
                interrupt.remove(&mut connection).await?;
                connection.release();
                events
            }
            Database::Postgres(pool) => {
                let mut connection = Connection::acquire(pool).await?;
                let events = read_events!(connection, filter);
                connection.release();
                events
            }
        })
    }
}
