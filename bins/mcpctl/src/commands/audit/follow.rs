//! `mcpctl audit -f`: new rows in their order, also after mcpd was away.

use std::{collections::HashMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use mcpctl_api::{audit::AuditEntry, visible};
use mcpctl_client::{AuditRequest, Client};

use super::newest;
use crate::{
    Outcome,
    commands::time::local,
    failure::Failure,
    output::{Shape, one_line},
};

/// How often new rows are asked for.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// How long a row may come after its time, and still be shown: rows of several requests are not stored in the order of their times.
const OVERLAP: SignedDuration = SignedDuration::from_mins(1);
/// Rows of one poll; of more the oldest are left out, with a note.
const MAX_ROWS: usize = 10_000;

/// Prints the last rows, then every new one.
pub async fn run(client: &Client, mut request: AuditRequest, rows: usize, output: Shape) -> Outcome {
    if output == Shape::Yaml {
        return Err(Failure::usage("-f prints a table or JSON").hint("mcpctl audit -f -o json"));
    }
    let asked_since = request.since;
    let mut shown: HashMap<String, Timestamp> = HashMap::new();
    let page = newest(client, &mut request, rows.max(1)).await?;
    let mut latest = page.items.first().map(|entry| entry.at);
    for entry in page.items.iter().rev().skip(usize::from(rows == 0)) {
        print(entry, output)?;
    }
    let overlap = |at: Timestamp| at.checked_sub(OVERLAP).unwrap_or(at);
    // Times are those of rows, because mcpd's clock and this one may differ. Without a row, every one is new.
    if let (Some(first), Some(latest)) = (page.items.first(), latest) {
        request.since = asked_since.max(Some(overlap(latest)));
        let before = newest(client, &mut request, MAX_ROWS).await?.items;
        let is_newer = |entry: &&AuditEntry| entry.id != first.id;
        shown.extend(before.iter().skip_while(is_newer).map(|entry| (entry.id.clone(), entry.at)));
    }
    let mut is_away = false;
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        request.since = asked_since.max(latest.map(overlap));
        let entries = match newest(client, &mut request, MAX_ROWS).await {
            Ok(page) => page.items,
            Err(error) if error.is_passing() => {
                request.after = None;
                if !std::mem::replace(&mut is_away, true) {
                    note!("{error}; going on once it answers");
                }
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if std::mem::replace(&mut is_away, false) {
            note!("mcpd answers again");
        }
        if entries.len() >= MAX_ROWS {
            note!("more than {MAX_ROWS} new rows: older ones are left out");
        }
        latest = latest.max(entries.first().map(|entry| entry.at));
        for entry in entries.iter().rev().filter(|entry| !shown.contains_key(&entry.id)) {
            print(entry, output)?;
        }
        shown.extend(entries.into_iter().map(|entry| (entry.id, entry.at)));
        // Older ones are not asked for again.
        if let Some(since) = latest.map(overlap) {
            shown.retain(|_, at| *at >= since);
        }
    }
}

fn print(entry: &AuditEntry, output: Shape) -> Result<(), Failure> {
    if output == Shape::Json {
        return data!("{}", serde_json::to_string(entry)?);
    }
    let request = if output == Shape::Wide { format!("  {}", entry.request_id) } else { String::new() };
    let reason = if entry.reason.is_empty() { String::new() } else { format!(": {}", entry.reason) };
    let what = format!(
        "{} {} {}/{}{reason}",
        entry.principal,
        entry.action,
        entry.kind.plural(),
        visible::shown(&entry.resource_name, 64)
    );
    let (at, decision) = (local(entry.at).strftime("%m-%d %T"), entry.decision.as_str());
    data!("{at}  {decision:<7}  {}{request}", one_line(&what))
}
