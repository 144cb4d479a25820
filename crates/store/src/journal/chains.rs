//! The end of each chain that an account hands over, and what is known of the lines of an agent.

use mcpctl_journal::ChainHead;

use crate::{error::StoreError, rows::unreadable};

/// Without `FOR UPDATE`: a write transaction of SQLite is the only one.
pub(super) const SELECT_SQLITE: &str =
    "SELECT seq, hash FROM journal_chains WHERE agent_id = $1 AND reporter_id = $2";
pub(super) const SELECT_POSTGRES: &str =
    "SELECT seq, hash FROM journal_chains WHERE agent_id = $1 AND reporter_id = $2 FOR UPDATE";

/// The end of a chain as its row has it.
pub(super) fn chain_head(seq: i64, hash: &str) -> Result<ChainHead, StoreError> {
    let hash = hash.parse().map_err(|error| unreadable("chain of a journal", hash, error))?;
    Ok(ChainHead { seq: seq.unsigned_abs(), hash })
}

/// Whether a statement with these values finds a row.
macro_rules! exists {
    ($transaction:ident, $statement:literal, $($value:expr),+) => {
        sqlx::query($statement)$(.bind($value))+.fetch_optional(&mut *$transaction).await?.is_some()
    };
}

/// The end of the account's chain of an agent, made where there is none. From here on two batches of one agent and account take
/// turns.
macro_rules! lock_chain {
    ($batch:expr, $select:expr, $transaction:ident) => {{
        let batch: &$crate::journal::batch::JournalBatch = $batch;
        let created = sqlx::query(
            "INSERT INTO journal_chains (agent_id, reporter_id, seq, hash, updated_at) \
             VALUES ($1, $2, 0, $3, $4) ON CONFLICT DO NOTHING",
        )
        .bind(batch.agent.as_str())
        .bind(batch.reported_by_id.as_str())
        .bind(mcpctl_journal::LineHash::genesis(&batch.agent).to_string())
        .bind(batch.now.as_microsecond())
        .execute(&mut *$transaction)
        .await?;
        if created.rows_affected() > 0 {
            let agents: i64 =
                sqlx::query("SELECT COUNT(*) AS agents FROM journal_chains WHERE reporter_id = $1")
                    .bind(batch.reported_by_id.as_str())
                    .fetch_one(&mut *$transaction)
                    .await?
                    .try_get("agents")?;
            if agents > i64::from(batch.max_agents) {
                return Err($crate::journal::batch::HandOverError::TooManyAgents(batch.max_agents));
            }
        }
        let row = sqlx::query($select)
            .bind(batch.agent.as_str())
            .bind(batch.reported_by_id.as_str())
            .fetch_one(&mut *$transaction)
            .await?;
        $crate::journal::chains::chain_head(row.try_get("seq")?, &row.try_get::<String, _>("hash")?)?
    }};
}

/// Keeps the end of the account's chain.
macro_rules! keep_end {
    ($batch:expr, $end:expr, $transaction:ident) => {{
        let (batch, end): (&$crate::journal::batch::JournalBatch, mcpctl_journal::ChainHead) = ($batch, $end);
        sqlx::query(
            "UPDATE journal_chains SET seq = $3, hash = $4, updated_at = $5 \
             WHERE agent_id = $1 AND reporter_id = $2",
        )
        .bind(batch.agent.as_str())
        .bind(batch.reported_by_id.as_str())
        .bind($crate::journal::rows::number(end.seq))
        .bind(end.hash.to_string())
        .bind(batch.now.as_microsecond())
        .execute(&mut *$transaction)
        .await?
    }};
}

/// Whether a line is known of an agent, whatever account handed it over. One that the audit no longer has may be the end of a chain.
macro_rules! is_known {
    ($agent:expr, $line:expr, $transaction:ident) => {{
        let (agent, line): (&mcpctl_api::Id, mcpctl_journal::ChainHead) = ($agent, $line);
        let (number, hash) = ($crate::journal::rows::number(line.seq), line.hash.to_string());
        line == mcpctl_journal::ChainHead::genesis(agent)
            || exists!(
                $transaction,
                "SELECT 1 AS one FROM audit WHERE agent_id = $1 AND line_seq = $2 AND line_hash = $3",
                agent.as_str(),
                number,
                hash.as_str()
            )
            || exists!(
                $transaction,
                "SELECT 1 AS one FROM journal_chains WHERE agent_id = $1 AND seq = $2 AND hash = $3 LIMIT 1",
                agent.as_str(),
                number,
                hash.as_str()
            )
    }};
}

/// Whether a line other than this one follows the line before it.
macro_rules! has_sibling {
    ($agent:expr, $before:expr, $line:expr, $transaction:ident) => {
        exists!(
            $transaction,
            "SELECT 1 AS one FROM audit WHERE agent_id = $1 AND line_prev = $2 AND line_hash <> $3 LIMIT 1",
            $agent.as_str(),
            $before.hash.to_string(),
            $line.hash.to_string()
        )
    };
}

/// Whether the proof with this nonce has confirmed a line of the agent.
macro_rules! is_used_up {
    ($agent:expr, $nonce:expr, $transaction:ident) => {
        exists!(
            $transaction,
            "SELECT 1 AS one FROM audit WHERE agent_id = $1 AND proof_nonce = $2",
            $agent.as_str(),
            $nonce
        )
    };
}

pub(super) use {exists, has_sibling, is_known, is_used_up, keep_end, lock_chain};
