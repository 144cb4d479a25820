//! Rows of the audit that agents reported.

use jiff::Timestamp;
use mcpctl_journal::{ChainHead, LineHash, Link};

use super::batch::ReportedLine;

/// Maximum of bytes that a row takes besides its line: its other columns are bounded, and eight indexes have entries for it.
pub(super) const ROW_BYTES: u64 = 2048;

/// A line with its place in the chain, as its columns take it.
pub(super) struct PlacedLine {
    /// Its number and hash; the number is 0 where it has none.
    pub(super) head: ChainHead,
    /// The line before it, by its own account.
    pub(super) before: Option<ChainHead>,
    /// What is kept of its text.
    pub(super) text: String,
    /// The agent's time.
    pub(super) at: Option<Timestamp>,
}

impl PlacedLine {
    pub(super) fn of(line: &ReportedLine) -> Self {
        let link = Link::of(&line.bytes);
        let hash = LineHash::of(&line.bytes);
        Self {
            head: ChainHead { seq: link.map_or(0, |link| link.seq), hash },
            before: link.map(|link| ChainHead { seq: link.seq.saturating_sub(1), hash: link.prev }),
            text: line.text.clone(),
            at: line.at,
        }
    }

    /// The bytes that it takes in the store, at most.
    pub(super) fn bytes(&self) -> u64 {
        u64::try_from(self.text.len()).unwrap_or(u64::MAX).saturating_add(ROW_BYTES)
    }
}

pub(super) fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// Inserts a row that an agent reported; no row where the line is known. `$nonce` is that of the proof that confirms it.
macro_rules! insert_reported {
    ($batch:expr, $row:expr, $line:expr, confirmed: $confirmed:expr, nonce: $nonce:expr, $transaction:ident) => {{
        let line: Option<&$crate::journal::rows::PlacedLine> = $line;
        let nonce: Option<&str> = $nonce;
        let row: &$crate::rows::AuditRow = $row;
        sqlx::query(
            "INSERT INTO audit (id, at, principal, action, kind, resource_id, resource_name, decision, reason, \
             revision, request_id, principal_id, token_id, agent_id, line_seq, line_hash, line, reported_by, \
             reported_by_id, confirmed, line_prev, proof_nonce, \
             reported_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, \
             $21, $22, $23) ON CONFLICT (agent_id, line_seq, line_hash) WHERE line_hash IS NOT NULL DO NOTHING",
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
        .bind(line.map(|line| $crate::journal::rows::number(line.head.seq)))
        .bind(line.map(|line| line.head.hash.to_string()))
        .bind(line.map(|line| line.text.clone()))
        .bind($crate::rows::bounded(&$batch.reported_by, $crate::rows::MAX_NAME_BYTES))
        .bind($batch.reported_by_id.as_str())
        .bind(i64::from($confirmed))
        .bind(line.and_then(|line| line.before).map(|before| before.hash.to_string()))
        .bind(nonce)
        .bind(line.and_then(|line| line.at).map(|at| at.as_microsecond()))
        .execute(&mut *$transaction)
        .await
        .map(|done| done.rows_affected())
    }};
}

pub(super) use insert_reported;
