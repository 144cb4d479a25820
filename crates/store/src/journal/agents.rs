//! The agents whose journals are handed over, as the ends of their chains show them.

use jiff::Timestamp;
use mcpctl_api::Id;
use sqlx::{QueryBuilder, Row as _};

use crate::{
    database::{Store, read_connection},
    error::StoreError,
    rows::unreadable,
};

/// An agent, as one account reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportingAgent {
    /// The agent.
    pub agent: Id,
    /// The account that hands its journal over.
    pub reporter: Id,
    /// Number of the last line.
    pub lines: u64,
    /// When mcpd received it.
    pub at: Timestamp,
}

impl Store {
    /// Agents, those first that reported last: all of them, or those of one account. `after` is the last one of the page before.
    ///
    /// # Errors
    /// When the database does not answer or a row cannot be read.
    pub async fn reporting_agents(
        &self,
        reporter: Option<&Id>,
        after: Option<&ReportingAgent>,
        limit: u32,
    ) -> Result<Vec<ReportingAgent>, StoreError> {
        read_connection!(&self.database, connection => {
            let mut query = QueryBuilder::new("SELECT agent_id, reporter_id, seq, updated_at FROM journal_chains WHERE TRUE");
            if let Some(reporter) = reporter {
                query.push(" AND reporter_id = ").push_bind(reporter.to_string());
            }
            if let Some(ReportingAgent { agent, reporter, at, .. }) = after {
                let at = at.as_microsecond();
                query.push(" AND (updated_at < ").push_bind(at);
                query.push(" OR (updated_at = ").push_bind(at);
                query.push(" AND (agent_id > ").push_bind(agent.to_string());
                query.push(" OR (agent_id = ").push_bind(agent.to_string());
                query.push(" AND reporter_id > ").push_bind(reporter.to_string()).push("))))");
            }
            query.push(" ORDER BY updated_at DESC, agent_id, reporter_id LIMIT ").push_bind(i64::from(limit));
            let rows = query.build().fetch_all(&mut *connection).await?;
            rows.iter()
                .map(|row| {
                    let (agent, reporter): (String, String) = (row.try_get("agent_id")?, row.try_get("reporter_id")?);
                    let at: i64 = row.try_get("updated_at")?;
                    let bad = |error: &dyn std::fmt::Display| unreadable("chain of a journal", &agent, error);
                    Ok(ReportingAgent {
                        agent: agent.parse().map_err(|error| bad(&error))?,
                        reporter: reporter.parse().map_err(|error| bad(&error))?,
                        lines: row.try_get::<i64, _>("seq")?.unsigned_abs(),
                        at: Timestamp::from_microsecond(at).map_err(|error| bad(&error))?,
                    })
                })
                .collect::<Result<Vec<_>, StoreError>>()
        })
    }
}
