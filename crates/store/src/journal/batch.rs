//! Lines of an agent's journal on their way into the store, and what becomes of them.

use jiff::Timestamp;
use mcpctl_api::Id;
use mcpctl_journal::{Break, ChainHead};
use serde::Serialize;

use crate::{
    error::StoreError,
    rows::{AuditRow, UsageRow},
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
    /// The line, with hidden characters escaped; of one that mcpd cannot read the beginning.
    pub line: Option<String>,
    /// When it happened, by the agent's clock.
    pub at: Option<Timestamp>,
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
    /// What is kept of it, without hidden characters.
    pub text: String,
    /// When it happened, by the agent's clock; `None` of a line without a time.
    pub at: Option<Timestamp>,
    /// Its row in the audit, as the reporter states it.
    pub row: AuditRow,
    /// Its row where mcpd's own signature confirms it.
    pub confirmation: Option<Confirmation>,
}

impl ReportedLine {
    /// What the proof in the line can be used up by.
    pub(super) fn nonce(&self) -> Option<&str> {
        self.confirmation.as_ref()?.nonce.as_deref()
    }

    /// Its row, and whether it is confirmed.
    pub(super) const fn row(&self, used_up: bool) -> (&AuditRow, bool) {
        match &self.confirmation {
            None => (&self.row, false),
            Some(confirmation) if used_up => (&confirmation.used_up, false),
            Some(confirmation) => (&confirmation.row, true),
        }
    }

    /// What it adds to usage. What nothing of mcpd's confirms adds nothing.
    pub(super) fn usage(&self, used_up: bool) -> Option<&UsageRow> {
        self.confirmation.as_ref().filter(|_| !used_up)?.usage.as_ref()
    }
}

/// What mcpd's own signature in a line confirms.
#[derive(Debug, Clone)]
pub struct Confirmation {
    /// The row.
    pub row: AuditRow,
    /// What a proof confirms one line by; `None` of a lease, which covers each line of its time.
    pub nonce: Option<String>,
    /// The row where another line has used that up.
    pub used_up: AuditRow,
    /// The row of usage, by which the failover counts; `None` of one that counts for nothing.
    pub usage: Option<UsageRow>,
}

/// Why the row about a place in a chain is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discontinuity {
    /// A line does not follow any line that is known.
    Break(Break),
    /// A line follows one that another line follows already.
    Fork,
}

/// How much of journals one account may have in the store.
#[derive(Debug, Clone, Copy)]
pub struct JournalVolume {
    /// Maximum of bytes that are added on one day (UTC).
    pub per_day: u64,
    /// Maximum of bytes in all, until the retention of the audit removes them.
    pub total: u64,
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
    /// Maximum of bytes of one account.
    pub volume: JournalVolume,
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
    /// The account has handed over as much today as it may.
    #[error("{0} bytes of journals were recorded for you today, which is the most")]
    DayFull(u64),
    /// The account has as much in the store as it may.
    #[error("{0} bytes of journals are recorded for you, which is the most")]
    Full(u64),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for HandOverError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}
