//! Lines of agents' journals: records each exactly once beside the decisions of mcpd, and keeps the end of each chain. What does
//! not continue a chain is recorded as such, never dropped and never passed over in silence.

use jiff::Timestamp;
use mcpctl_api::{Id, visible};
use mcpctl_journal::{Break, ChainHead, ChainWalker, Link};
use serde::Serialize;
use sqlx::Row as _;

use crate::{
    database::{Database, Store, read_connection, write_transaction},
    error::StoreError,
    rows::{AuditRow, unreadable},
};

/// Who reported a row that is not mcpd's own, and what there is to check it by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The agent whose journal it is from.
    pub agent: Id,
    /// Number of the line; `None` of a row about the journal itself.
    pub seq: Option<u64>,
    /// SHA-256 of the line.
    pub hash: Option<String>,
    /// The line, with hidden characters escaped.
    pub line: Option<String>,
    /// The account that handed it over, e.g. `User alice`.
    pub reported_by: String,
    /// Its id.
    pub reported_by_id: Id,
    /// Whether mcpd's own signature in the line names the principal.
    pub confirmed: bool,
}

/// A line as it was received.
#[derive(Debug, Clone)]
pub struct ReportedLine {
    /// Its exact bytes, without the line break.
    pub bytes: Vec<u8>,
    /// Its row in the audit.
    pub row: AuditRow,
    /// As [`Report::confirmed`].
    pub confirmed: bool,
}

/// Lines of one journal, in their order.
#[derive(Debug)]
pub struct JournalBatch {
    /// The agent.
    pub agent: Id,
    /// The account that hands them over, e.g. `User alice`.
    pub reported_by: String,
    /// Its id.
    pub reported_by_id: Id,
    /// The lines.
    pub lines: Vec<ReportedLine>,
    /// Whether they are recorded although they do not continue what is known, because the reporter has no others.
    pub gap: bool,
    /// Maximum of agents of one account.
    pub max_agents: u32,
    /// The present time.
    pub now: Timestamp,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandedOver {
    /// The last line; it and those before need not be sent again.
    pub head: ChainHead,
    /// How many lines were new.
    pub recorded: u64,
    /// How many places did not continue the chain.
    pub breaks: u64,
}

/// Why a batch is refused; nothing of it was recorded.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// It does not continue what is known, and does not admit that.
    #[error("the lines do not continue line {}, the last one that is known of this agent", .0.seq)]
    DoesNotContinue(ChainHead),
    /// The account has as many agents as it may.
    #[error("{0} agents of yours are known, which is the most")]
    TooManyAgents(u32),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for HandOverError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Inserts a row that an agent reported; no row where the line is known.
macro_rules! insert_reported {
    ($batch:expr, $row:expr, $line:expr, $transaction:ident) => {{
        let line: Option<(&ReportedLine, ChainHead)> = $line;
        let row: &AuditRow = $row;
        sqlx::query(
            "INSERT INTO audit (id, at, principal, action, kind, resource_id, resource_name, decision, reason, \
             revision, request_id, principal_id, token_id, agent_id, line_seq, line_hash, line, reported_by, \
             reported_by_id, confirmed) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20) \
             ON CONFLICT DO NOTHING",
        )
        .bind(row.id.to_string())
        .bind(row.at.as_microsecond())
        .bind($crate::rows::bounded(&row.principal, $crate::rows::MAX_NAME_BYTES))
        .bind($crate::rows::bounded(&row.action, $crate::rows::MAX_WORD_BYTES))
        .bind(row.kind.singular())
        .bind(row.resource_id.as_ref().map(|id| id.to_string()))
        .bind($crate::rows::bounded(&row.resource_name, $crate::rows::MAX_NAME_BYTES))
        .bind(row.decision.as_str())
        .bind($crate::rows::bounded(&row.reason, $crate::rows::MAX_REASON_BYTES))
        .bind($crate::resources::signed(row.revision))
        .bind($crate::rows::bounded(&row.request_id, $crate::rows::MAX_WORD_BYTES))
        .bind(row.principal_id.as_ref().map(|id| id.to_string()))
        .bind(row.token_id.as_ref().map(|id| id.to_string()))
        .bind($batch.agent.as_str())
        .bind(line.map(|(_, head)| number(head.seq)))
        .bind(line.map(|(_, head)| head.hash.to_string()))
        .bind(line.map(|(line, _)| text(&line.bytes)))
        .bind($crate::rows::bounded(&$batch.reported_by, $crate::rows::MAX_NAME_BYTES))
        .bind($batch.reported_by_id.as_str())
        .bind(i64::from(line.is_some_and(|(line, _)| line.confirmed)))
        .execute(&mut *$transaction)
        .await
        .map(|done| done.rows_affected())
    }};
}

/// A line as a column takes it, for people and terminals too.
fn text(bytes: &[u8]) -> String {
    visible::one_line(&String::from_utf8_lossy(bytes)).into_owned()
}

fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// The place of a line; 0 for one that has none.
fn head_of(line: &ReportedLine) -> ChainHead {
    let seq = Link::of(&line.bytes).map_or(0, |link| link.seq);
    ChainHead { seq, hash: mcpctl_journal::LineHash::of(&line.bytes) }
}

/// Without `FOR UPDATE`: a write transaction of SQLite is the only one.
const SELECT_SQLITE: &str = "SELECT seq, hash FROM journal_chains WHERE agent_id = $1 AND reporter_id = $2";
const SELECT_POSTGRES: &str =
    "SELECT seq, hash FROM journal_chains WHERE agent_id = $1 AND reporter_id = $2 FOR UPDATE";

impl Store {
    /// INVARIANT 14: records the lines of a batch that are not known yet, in one transaction. A line is known by agent, number and hash,
    /// whoever sent it, so that a repetition records nothing. `mark` makes the row about a place that does not continue the
    /// chain.
    ///
    /// # Errors
    /// When it is refused, or the database does not answer; then nothing was recorded.
    pub async fn hand_over(
        &self,
        batch: &JournalBatch,
        mark: impl Fn(&ChainHead, Option<Break>) -> AuditRow,
    ) -> Result<HandedOver, HandOverError> {
        let genesis = ChainHead::genesis(&batch.agent);
        let select = match &self.database {
            Database::Postgres(_) => SELECT_POSTGRES,
            Database::Sqlite { .. } => SELECT_SQLITE,
        };
        Ok(write_transaction!(&self.database, transaction => {
            let created = sqlx::query(
                "INSERT INTO journal_chains (agent_id, reporter_id, seq, hash, updated_at) \
                 VALUES ($1, $2, 0, $3, $4) ON CONFLICT DO NOTHING",
            )
            .bind(batch.agent.as_str())
            .bind(batch.reported_by_id.as_str())
            .bind(genesis.hash.to_string())
            .bind(batch.now.as_microsecond())
            .execute(&mut *transaction)
            .await?;
            if created.rows_affected() > 0 {
                let agents: i64 = sqlx::query("SELECT COUNT(*) AS agents FROM journal_chains WHERE reporter_id = $1")
                    .bind(batch.reported_by_id.as_str())
                    .fetch_one(&mut *transaction)
                    .await?
                    .try_get("agents")?;
                if agents > i64::from(batch.max_agents) {
                    return Err(HandOverError::TooManyAgents(batch.max_agents));
                }
            }
            // From here on two batches of one agent and account take turns.
            let own = sqlx::query(select)
                .bind(batch.agent.as_str())
                .bind(batch.reported_by_id.as_str())
                .fetch_one(&mut *transaction)
                .await?;
            let own = chain_head(own.try_get("seq")?, &own.try_get::<String, _>("hash")?)?;

            let mut walker: Option<ChainWalker> = None;
            let mut handed = HandedOver { head: own, recorded: 0, breaks: 0 };
            for line in &batch.lines {
                let head = head_of(line);
                if insert_reported!(batch, &line.row, Some((line, head)), transaction)? == 0 {
                    // Known, so whatever did not fit there is on record.
                    if head.seq > 0 {
                        walker = Some(ChainWalker::after(Some(head)));
                        handed.head = head;
                    }
                    continue;
                }
                handed.recorded += 1;
                let begins = walker.is_none();
                let mut walking = match walker {
                    Some(walking) => walking,
                    None => {
                        // Another account may have handed over what comes before; only who has the journal knows its hash.
                        let before = Link::of(&line.bytes).map(|link| (link.seq.saturating_sub(1), link.prev));
                        let (seq, hash) = before.unwrap_or((0, genesis.hash));
                        let fits = sqlx::query(
                            "SELECT 1 AS one FROM journal_chains WHERE agent_id = $1 AND seq = $2 AND hash = $3 LIMIT 1",
                        )
                        .bind(batch.agent.as_str())
                        .bind(number(seq))
                        .bind(hash.to_string())
                        .fetch_optional(&mut *transaction)
                        .await?
                        .is_some();
                        ChainWalker::after(Some(if fits && seq > 0 { ChainHead { seq, hash } } else { own }))
                    }
                };
                let before = walking.head().unwrap_or(own);
                if let Err(broken) = walking.step(&line.bytes) {
                    if begins && !batch.gap {
                        return Err(HandOverError::DoesNotContinue(own));
                    }
                    handed.breaks += 1;
                    insert_reported!(batch, &mark(&before, Some(broken)), None, transaction)?;
                }
                walker = Some(walking);
                handed.head = walking.head().unwrap_or(own);
            }
            if handed.recorded > 0 {
                sqlx::query(
                    "UPDATE journal_chains SET seq = $3, hash = $4, updated_at = $5 \
                     WHERE agent_id = $1 AND reporter_id = $2",
                )
                .bind(batch.agent.as_str())
                .bind(batch.reported_by_id.as_str())
                .bind(number(handed.head.seq))
                .bind(handed.head.hash.to_string())
                .bind(batch.now.as_microsecond())
                .execute(&mut *transaction)
                .await?;
            }
            handed
        }))
    }

    /// The last line of an agent that this account handed over; before the first one, where the chain begins.
    ///
    /// # Errors
    /// When the database does not answer or the row cannot be read.
    pub async fn journal_head(&self, agent: &Id, reporter: &Id) -> Result<ChainHead, StoreError> {
        read_connection!(&self.database, connection => {
            let row = sqlx::query(SELECT_SQLITE)
                .bind(agent.as_str())
                .bind(reporter.as_str())
                .fetch_optional(&mut *connection)
                .await?;
            match row {
                Some(row) => chain_head(row.try_get("seq")?, &row.try_get::<String, _>("hash")?),
                None => Ok(ChainHead::genesis(agent)),
            }
        })
    }

    /// Forgets at most `limit` chains that were not continued since this time, and returns how many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn prune_journal_chains(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        Ok(write_transaction!(&self.database, transaction => {
            sqlx::query(
                "DELETE FROM journal_chains WHERE (agent_id, reporter_id) IN \
                 (SELECT agent_id, reporter_id FROM journal_chains WHERE updated_at < $1 LIMIT $2)",
            )
            .bind(before.as_microsecond())
            .bind(i64::from(limit))
            .execute(&mut *transaction)
            .await?
            .rows_affected()
        }))
    }
}

fn chain_head(seq: i64, hash: &str) -> Result<ChainHead, StoreError> {
    let hash = hash.parse().map_err(|error| unreadable("chain of a journal", hash, error))?;
    Ok(ChainHead { seq: seq.unsigned_abs(), hash })
}
