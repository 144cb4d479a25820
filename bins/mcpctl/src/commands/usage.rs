//! `mcpctl usage`: who used how much.

mod report;

use std::{io::IsTerminal as _, process::ExitCode};

use jiff::{Timestamp, tz::TimeZone};
use mcpctl_api::usage::{UsageBy, UsagePage};
use mcpctl_client::{Client, UsageRequest};

use super::time::{UTC, point_in_time, zone_name};
use crate::{Outcome, context::Global, failure::Failure, output::ReportFormat, suggest};

/// Maximum of items of one request: all of them, so that they are of one moment.
const MAX_PAGE: usize = 50_000;

/// Whose usage to show, of when, and grouped by what.
#[derive(clap::Args)]
pub struct Args {
    /// What to group by: user, group, llm, model, day, hour. Days are those of your time zone
    #[arg(long, value_name = "PARTS", value_delimiter = ',', default_value = "user,llm")]
    by: Vec<UsageBy>,
    /// Only of this account, e.g. alice or serviceaccount/ci
    #[arg(long, value_name = "ACCOUNT", visible_alias = "subject")]
    user: Option<String>,
    /// Only of this Llm, by name or id
    #[arg(long)]
    llm: Option<String>,
    /// From then on: today, yesterday, a date, a time, or how long ago, e.g. 12h; 30 days ago by default
    #[arg(long, value_name = "TIME", value_parser = point_in_time)]
    since: Option<Timestamp>,
    /// Up to then
    #[arg(long, value_name = "TIME", value_parser = point_in_time)]
    until: Option<Timestamp>,
    /// table, wide, csv, json or yaml
    #[arg(long, short, value_enum, default_value = "table")]
    output: ReportFormat,
    /// Show shares as bars: auto is where standard output is a terminal
    #[arg(long, value_name = "WHEN", default_value = "auto", num_args = 0..=1, default_missing_value = "always", require_equals = true)]
    plot: Plot,
}

/// `--plot`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Plot {
    /// Where standard output is a terminal.
    Auto,
    /// In every table.
    Always,
    /// In none.
    Never,
}

/// Prints the sums.
pub async fn run(global: &Global, args: Args) -> Outcome {
    let zone = TimeZone::system();
    let request = UsageRequest {
        subject: args.user,
        llm: args.llm,
        since: args.since,
        until: args.until,
        zone: args.by.contains(&UsageBy::Day).then(|| zone_name(&zone)).filter(|name| name != UTC),
        ..UsageRequest::by(&args.by)
    };
    let (client, subject, llm) = (global.client()?, request.subject.clone(), request.llm.clone());
    let page = read(&client, request).await?;
    let is_empty = page.items.is_empty();
    let plots = match args.plot {
        Plot::Auto => std::io::stdout().is_terminal(),
        Plot::Always => true,
        Plot::Never => false,
    };
    match args.output {
        ReportFormat::Table => report::table(page, &zone, false, plots)?,
        ReportFormat::Wide => report::table(page, &zone, true, plots)?,
        ReportFormat::Csv => report::csv(&page, &zone)?,
        ReportFormat::Json | ReportFormat::Yaml => drop(args.output.print(&page)?),
    }
    if is_empty {
        suggest::note_unknown(&client, subject.as_deref(), llm.as_deref()).await;
    }
    Ok(ExitCode::SUCCESS)
}

/// All pages as one.
async fn read(client: &Client, mut request: UsageRequest) -> Result<UsagePage, Failure> {
    request.limit = Some(MAX_PAGE);
    let mut all = client.usage(&request).await?;
    // Later pages have the same hours, whatever the time is by then.
    (request.since, request.until) = (Some(all.since), Some(all.until));
    while let Some(after) = all.next.take() {
        request.after = Some(after.clone());
        let page = client.usage(&request).await?;
        if page.next.as_ref() == Some(&after) {
            return Err(Failure::new("mcpd sends the same page of usage again"));
        }
        all.items.extend(page.items);
        all.next = page.next;
    }
    Ok(all)
}
