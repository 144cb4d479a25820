//! Takes over agents' journals into the audit. What an agent writes is a statement of the account that hands it over, and no more:
//! each row names that account, and the principal of a row is only what mcpd knows itself, or the reporter.

pub mod rate;
mod rows;

use mcpctl_api::Id;
use mcpctl_journal::{ChainHead, MAX_LINE_BYTES};
use mcpctl_store::{HandOverError, HandedOver, JournalBatch};

use crate::{app::App, caller::Caller, clock};
use rate::TooManyLines;
use rows::Rows;

/// Maximum of lines of one request.
pub const MAX_LINES: usize = 500;

/// Why lines are refused.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// There is no line, or there are too many.
    #[error("{0} lines were sent; a request has 1 to {MAX_LINES}")]
    Count(usize),
    /// A line is too long.
    #[error("line {0} of the body is longer than {MAX_LINE_BYTES} bytes")]
    TooLong(usize),
    /// The account's rate.
    #[error(transparent)]
    Rate(#[from] TooManyLines),
    /// The store refuses them.
    #[error(transparent)]
    HandOver(#[from] HandOverError),
}

/// Records lines of an agent's journal, as the body of a request has them. `gap` admits that lines before them are missing.
///
/// # Errors
/// When they are refused; then none was recorded.
pub async fn receive(
    app: &App,
    caller: &Caller,
    agent: Id,
    body: &[u8],
    gap: bool,
) -> Result<HandedOver, JournalError> {
    let text = body.strip_suffix(b"\n").unwrap_or(body);
    let count = text.iter().filter(|byte| **byte == b'\n').count() + 1;
    if text.is_empty() || count > MAX_LINES {
        return Err(JournalError::Count(if text.is_empty() { 0 } else { count }));
    }
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    if let Some(at) = lines.iter().position(|line| line.len() > MAX_LINE_BYTES) {
        return Err(JournalError::TooLong(at + 1));
    }
    app.journals.admit(&caller.principal.id, lines.len())?;
    let now = clock::now();
    let rows = Rows::new(app, caller, &agent, now);
    let batch = JournalBatch {
        lines: lines.into_iter().map(|line| rows.of_line(line)).collect(),
        agent: agent.clone(),
        reported_by: caller.principal.subject.to_string(),
        reported_by_id: caller.principal.id.clone(),
        gap,
        max_agents: app.journals.limits().agents.get(),
        now,
    };
    let handed = app.store.hand_over(&batch, |before, broken| rows.of_break(before, broken)).await?;
    if handed.breaks > 0 {
        let (reporter, breaks) = (&batch.reported_by, handed.breaks);
        tracing::warn!(%agent, reporter, breaks, "an agent's journal does not continue what is known of it");
    }
    Ok(handed)
}

/// The last line of an agent that this caller handed over.
///
/// # Errors
/// When the database does not answer.
pub async fn head(app: &App, caller: &Caller, agent: &Id) -> Result<ChainHead, mcpctl_store::StoreError> {
    app.store.journal_head(agent, &caller.principal.id).await
}
