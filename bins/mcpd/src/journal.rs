//! Takes over agents' journals into the audit. What an agent writes is a statement of the account that hands it over, and no more:
//! each row names that account, and the principal of a row is only what mcpd knows itself, or the reporter.

mod grants;
pub mod in_progress;
pub mod rate;
mod rows;

use mcpctl_api::Id;
use mcpctl_journal::{ChainHead, MAX_LINE_BYTES};
use mcpctl_store::{HandOverError, HandedOver, JournalBatch, JournalVolume};

use crate::{app::App, caller::Caller, clock, writers::Lane};
use in_progress::Busy;
use rate::TooManyLines;
use rows::Rows;

/// Maximum of lines of one request.
pub const MAX_LINES: usize = 500;
/// Maximum of lines of one transaction.
const MAX_CHUNK_LINES: usize = 50;
/// Maximum of bytes of one transaction, more than a line has.
const MAX_CHUNK_BYTES: usize = 256 << 10;
/// A line counts once for each so many bytes that it begins.
const UNIT_BYTES: usize = 1 << 10;

/// Why lines are refused.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// There is no line, or there are too many.
    #[error("{0} lines were sent; a request has 1 to {MAX_LINES}")]
    Count(usize),
    /// A line is too long.
    #[error("line {0} of the body is longer than {MAX_LINE_BYTES} bytes")]
    TooLong(usize),
    /// Others are taken over.
    #[error(transparent)]
    Busy(#[from] Busy),
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
/// When they are refused. Lines at the beginning may have been recorded; a repetition records them no second time.
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
    let account = &caller.principal.id;
    let _running = app.journals.in_progress.begin(account)?;
    app.journals.admit(account, lines.iter().map(|line| units(line)).sum())?;
    let limits = app.journals.limits();
    let mut handed: Option<HandedOver> = None;
    for lines in chunks(&lines) {
        // In turn with all other writes, and few lines at a time: a revocation does not wait for a journal.
        let _turn = app.writers.turn(Lane::Ordinary).await;
        let now = clock::now();
        let rows = Rows::new(app, caller, &agent, now);
        let batch = JournalBatch {
            lines: lines.iter().map(|line| rows.of_line(line)).collect(),
            agent: agent.clone(),
            reported_by: caller.principal.subject.to_string(),
            reported_by_id: account.clone(),
            // The sender answers for the beginning; a break further on is recorded as one.
            gap: gap || handed.is_some(),
            max_agents: limits.agents.get(),
            volume: JournalVolume { per_day: limits.per_day.0, total: limits.total.0 },
            now,
        };
        let mark = |before: &ChainHead, discontinuity| rows.of_discontinuity(before, discontinuity);
        let next = app.store.hand_over(&batch, mark).await?;
        let (recorded, breaks) = handed.map_or((0, 0), |handed| (handed.recorded, handed.breaks));
        handed =
            Some(HandedOver { recorded: recorded + next.recorded, breaks: breaks + next.breaks, ..next });
    }
    let handed = handed.ok_or(JournalError::Count(0))?;
    if handed.breaks > 0 {
        let (reporter, breaks) = (&caller.principal.subject, handed.breaks);
        tracing::warn!(%agent, %reporter, breaks, "an agent's journal does not continue what is known of it");
    }
    Ok(handed)
}

/// What a line counts for: one for each KiB that it begins.
const fn units(line: &[u8]) -> usize {
    if line.is_empty() { 1 } else { line.len().div_ceil(UNIT_BYTES) }
}

/// Lines in portions that the store takes in a short transaction each.
fn chunks<'a>(lines: &'a [&'a [u8]]) -> impl Iterator<Item = &'a [&'a [u8]]> {
    let mut rest = lines;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |line: &&&[u8]| {
            bytes += line.len();
            bytes <= MAX_CHUNK_BYTES
        };
        let count = rest.iter().take(MAX_CHUNK_LINES).take_while(fits).count();
        let (chunk, more) = rest.split_at_checked(count).filter(|(chunk, _)| !chunk.is_empty())?;
        rest = more;
        Some(chunk)
    })
}

/// The last line of an agent that this caller handed over.
///
/// # Errors
/// When the database does not answer.
pub async fn head(app: &App, caller: &Caller, agent: &Id) -> Result<ChainHead, mcpctl_store::StoreError> {
    app.store.journal_head(agent, &caller.principal.id).await
}
