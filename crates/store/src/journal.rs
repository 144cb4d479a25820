//! Lines of agents' journals: records each exactly once beside the decisions of mcpd, and keeps the end of each chain. What does
//! not continue a chain, and what continues it a second time, is recorded as such, never dropped and never passed over in silence.

mod agents;
mod batch;
mod chains;
mod rows;
mod volume;

use jiff::Timestamp;
use mcpctl_api::Id;
use mcpctl_journal::{ChainHead, ChainWalker};
use sqlx::Row as _;

use crate::{
    database::{Database, Store, read_connection, write_transaction, write_transaction_of},
    durability::Durability,
    error::StoreError,
    rows::{AuditRow, insert_usage},
};

pub use agents::ReportingAgent;
pub use batch::{
    Confirmation, Discontinuity, HandOverError, HandedOver, JournalBatch, JournalVolume, Report, ReportedLine,
};
use chains::{chain_head, exists, has_sibling, is_known, is_used_up, keep_end, lock_chain};
use rows::{PlacedLine, ROW_BYTES, insert_reported};
use volume::add_volume;

impl Store {
    /// INVARIANT 14: records the lines of a batch that are not known yet, in one transaction. A line is known by agent, number and hash,
    /// from any account, so that a repetition records nothing. `mark` makes the row about a line that follows no known one, or one
    /// that another line follows already; it gets the line before.
    ///
    /// # Errors
    /// When it is refused, or the database does not answer; then nothing was recorded.
    pub async fn hand_over(
        &self,
        batch: &JournalBatch,
        mark: impl Fn(&ChainHead, Discontinuity) -> AuditRow,
    ) -> Result<HandedOver, HandOverError> {
        let select = match &self.database {
            Database::Postgres(_) => chains::SELECT_POSTGRES,
            Database::Sqlite(_) => chains::SELECT_SQLITE,
        };
        let agent = &batch.agent;
        Ok(write_transaction!(&self.database, transaction => {
            let own = lock_chain!(batch, select, transaction);
            let mut walker: Option<ChainWalker> = None;
            // Whether the line before is new: no other line follows it then.
            let mut follows_new = false;
            let (mut end, mut bytes) = (own, 0_u64);
            let mut handed = HandedOver { head: own, recorded: 0, breaks: 0 };
            for reported in &batch.lines {
                let line = PlacedLine::of(reported);
                let nonce = reported.nonce();
                let used_up = match nonce {
                    Some(nonce) => is_used_up!(agent, nonce, transaction),
                    None => false,
                };
                let (row, confirmed) = reported.row(used_up);
                let nonce = nonce.filter(|_| confirmed);
                if insert_reported!(batch, row, Some(&line), confirmed: confirmed, nonce: nonce, transaction)? == 0 {
                    // Known, so whatever did not fit there is on record.
                    if line.head.seq > 0 {
                        walker = Some(ChainWalker::after(Some(line.head)));
                        handed.head = line.head;
                    }
                    follows_new = false;
                    continue;
                }
                handed.recorded += 1;
                bytes = bytes.saturating_add(line.bytes());
                // With the line's row, so that it counts as often as the line is recorded: once.
                if let Some(usage) = reported.usage(used_up) {
                    insert_usage!(usage.clone(), transaction)?;
                    bytes = bytes.saturating_add(ROW_BYTES);
                }

                let begins = walker.is_none();
                let mut walking = walker.unwrap_or(ChainWalker::after(Some(own)));
                let last = walking.head().unwrap_or(own);
                // The line before need not be the last one: a repetition may come first, or another account has handed it over.
                let discontinuity = match (walking.step(&reported.bytes), line.before) {
                    (Ok(_), Some(_)) if follows_new => None,
                    (Err(broken), Some(before)) if !is_known!(agent, before, transaction) => {
                        Some((last, Discontinuity::Break(broken)))
                    }
                    (_, Some(before)) => has_sibling!(agent, before, line.head, transaction)
                        .then_some((before, Discontinuity::Fork)),
                    (followed, None) => followed.err().map(|broken| (last, Discontinuity::Break(broken))),
                };
                if let Some((before, discontinuity)) = discontinuity {
                    if begins && !batch.gap && matches!(discontinuity, Discontinuity::Break(_)) {
                        return Err(HandOverError::DoesNotContinue(own));
                    }
                    handed.breaks += 1;
                    bytes = bytes.saturating_add(ROW_BYTES);
                    let row = mark(&before, discontinuity);
                    insert_reported!(batch, &row, None, confirmed: false, nonce: None, transaction)?;
                }
                follows_new = line.head.seq > 0;
                // Lines that were missing and come later do not set the end of the chain back.
                if follows_new && (discontinuity.is_some() || line.head.seq > end.seq) {
                    end = line.head;
                }
                handed.head = walking.head().unwrap_or(own);
                walker = Some(walking);
            }
            if handed.recorded > 0 {
                add_volume!(batch, bytes, transaction);
                keep_end!(batch, end, transaction);
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
            let row = sqlx::query(chains::SELECT_SQLITE)
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
        Ok(write_transaction_of!(&self.database, Durability::Crash, transaction => {
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
