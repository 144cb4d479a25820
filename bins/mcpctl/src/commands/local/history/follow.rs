//! `mcpctl local history -f`: each request as it falls back and as it ends, over restarts of the agent.

use std::time::Duration;

use super::{
    Args, JournalFiles, agent_since,
    fallback::{Fallback, Fallbacks, Outcome as FallbackOutcome},
    tokens, why,
};
use crate::{
    Outcome,
    failure::Failure,
    output::{ReportFormat, number::took, one_line},
};

/// How often the files are looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Prints the last requests, then every change.
pub(super) async fn run(journal: &JournalFiles, args: &Args) -> Outcome {
    if matches!(args.output, ReportFormat::Yaml | ReportFormat::Csv) {
        return Err(Failure::usage("-f prints a table or JSON").hint("mcpctl local history -f -o json"));
    }
    let mut fallbacks = Fallbacks::default();
    let mut read = journal.read(None, &mut fallbacks)?;
    let mut since = agent_since().await;
    let mut changed = fallbacks.take_changed(journal.handed_over(), since);
    changed.retain(|fallback| args.selects(fallback));
    changed.drain(..changed.len().saturating_sub(args.rows));
    for fallback in &changed {
        print(fallback, args.output)?;
    }
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        read = journal.read(read.position, &mut fallbacks)?;
        let mut changed = fallbacks.take_changed(journal.handed_over(), since);
        if changed.iter().any(|fallback| fallback.outcome == FallbackOutcome::Unfinished) {
            // An agent that was started meanwhile has begun it.
            since = agent_since().await.or(since);
        }
        for fallback in &mut changed {
            if fallback.outcome == FallbackOutcome::Unfinished
                && since.is_some_and(|since| fallback.at >= since)
            {
                fallback.outcome = FallbackOutcome::Running;
            }
        }
        for fallback in changed.iter().filter(|fallback| args.selects(fallback)) {
            print(fallback, args.output)?;
        }
    }
}

fn print(fallback: &Fallback, output: ReportFormat) -> Result<(), Failure> {
    if output == ReportFormat::Json {
        return data!("{}", serde_json::to_string(fallback)?);
    }
    let mut parts = vec![format!("{} by {}: {}", fallback.llm, fallback.provider, why(fallback))];
    parts.extend(fallback.took_ms.map(took));
    parts.extend(tokens(fallback).map(|tokens| format!("{tokens} tokens")));
    if output == ReportFormat::Wide {
        parts.push(fallback.who.clone());
        parts.push(fallback.request.clone());
    }
    let at = fallback.at.strftime("%m-%d %T");
    data!("{at}  {:<11}  {}", fallback.outcome.as_str(), one_line(&parts.join(", ")))
}
