//! `mcpctl local history`: the requests that fell back to this machine, one row each. Reads the agent's files as `local journal` does,
//! which shows every line of them.

mod fallback;
mod follow;

use std::{collections::BTreeMap, io, path::Path, process::ExitCode};

use clap::ValueEnum as _;
use jiff::Timestamp;
use mcpctl_journal::{HeadRecord, JournalPaths, Line, Position, StoredLines};

use crate::{
    Outcome, agent,
    commands::time::point_in_time,
    failure::Failure,
    output::{ReportFormat, Tone, csv, number::took, table::Table},
};
use fallback::{Fallback, Fallbacks, HandedOver, Outcome as FallbackOutcome};

/// Which requests to show.
#[derive(clap::Args)]
pub struct Args {
    /// Only requests for this Llm, by name or id
    #[arg(long)]
    llm: Option<String>,
    /// Only requests with this outcome; several are separated by commas
    #[arg(long, value_name = "OUTCOME", value_enum, value_delimiter = ',', hide_possible_values = true,
          help = outcome_help())]
    outcome: Vec<FallbackOutcome>,
    /// Only requests that were not allowed, or no longer: denied, unreachable, revoked
    #[arg(long, conflicts_with = "outcome")]
    denied: bool,
    /// Only requests from then on: today, yesterday, a date, a time, or how long ago, e.g. 2h
    #[arg(long, value_name = "TIME", value_parser = point_in_time)]
    since: Option<Timestamp>,
    /// The newest so many requests
    #[arg(long, short = 'n', default_value_t = 50, value_name = "COUNT")]
    rows: usize,
    /// Go on with every new request: one line where it falls back and one where it ends
    #[arg(long, short)]
    follow: bool,
    /// table, wide, csv, json or yaml; with -f one line of JSON for each change
    #[arg(long, short, value_enum, default_value = "table")]
    output: ReportFormat,
}

fn outcome_help() -> String {
    let words = FallbackOutcome::value_variants().iter().map(|outcome| outcome.as_str());
    format!("Only requests with one of these outcomes: {}", words.collect::<Vec<_>>().join(", "))
}

impl Args {
    pub(super) const fn follows(&self) -> bool {
        self.follow
    }

    fn selects(&self, fallback: &Fallback) -> bool {
        let names = [Some(&fallback.llm), fallback.llm_id.as_ref()];
        let is_wanted = match self.denied {
            true => FallbackOutcome::NOT_ALLOWED.contains(&fallback.outcome),
            false => self.outcome.is_empty() || self.outcome.contains(&fallback.outcome),
        };
        is_wanted
            && self.since.is_none_or(|since| fallback.at >= since)
            && self.llm.as_ref().is_none_or(|llm| names.into_iter().flatten().any(|name| name == llm))
    }
}

/// Prints the requests, oldest first.
pub async fn run(args: Args) -> Outcome {
    let journal = JournalFiles::of(&agent::state_dir()?);
    if args.follow {
        return follow::run(&journal, &args).await;
    }
    let mut fallbacks = Fallbacks::default();
    let unreadable = journal.read(None, &mut fallbacks)?.unreadable;
    if unreadable > 0 {
        note!(Tone::Warning, "warning:"; " lines that cannot be read: {unreadable}; see `mcpctl local journal verify`");
    }
    let (first, omitted) = (fallbacks.first, fallbacks.omitted);
    let all = fallbacks.settled(journal.handed_over(), agent_since().await);
    let has_any = !all.is_empty();
    let mut chosen: Vec<Fallback> = all.into_iter().filter(|fallback| args.selects(fallback)).collect();
    let selected = chosen.len();
    chosen.drain(..selected.saturating_sub(args.rows));
    match args.output {
        ReportFormat::Csv => return print_csv(&chosen),
        other if other.print(&chosen)? => return Ok(ExitCode::SUCCESS),
        _ => {}
    }
    if chosen.is_empty() {
        match (first, has_any) {
            (None, _) => {
                note!("no fallback is on record: the agent's journal has no lines");
                note!(Tone::Hint, "hint:"; " it is looked for at `{}`; MCPLOCAL_STATE_DIR names another state directory", journal.paths.current.display());
            }
            (Some(_), false) => note!("no request has fallen back"),
            (Some(_), true) => note!("no fallback is like that; without options all are shown"),
        }
    } else {
        table(&chosen, args.output == ReportFormat::Wide)?;
        note!("{}", summary(&chosen, selected));
    }
    if omitted > 0 {
        note!("refusals that have no lines of their own, because there were many: {omitted}");
    }
    if let Some((number, at)) = first.filter(|(number, _)| *number > 1) {
        let begin = at.strftime("%F %T");
        note!(
            "the journal begins at line {number}, {begin} UTC; `mcpctl audit --action failover` has what mcpd got before"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Since when the agent runs; `None` where it does not.
async fn agent_since() -> Option<Timestamp> {
    Some(agent::find().await.ok()?.status.started_at)
}

/// The files of the agent's journal.
struct JournalFiles {
    paths: JournalPaths,
}

/// How far a journal was read.
struct ReadTo {
    position: Option<Position>,
    /// Lines that could not be read.
    unreadable: u64,
}

impl JournalFiles {
    fn of(state_dir: &Path) -> Self {
        Self { paths: JournalPaths::of(state_dir) }
    }

    /// Adds the lines from a position on.
    fn read(&self, from: Option<Position>, fallbacks: &mut Fallbacks) -> io::Result<ReadTo> {
        let mut lines = StoredLines::open(&self.paths, from)?;
        let mut unreadable = 0;
        while let Some(stored) = lines.next_line()? {
            match serde_json::from_slice::<Line>(&stored.bytes) {
                Ok(line) => fallbacks.add(line),
                Err(_) => unreadable += 1,
            }
        }
        Ok(ReadTo { position: lines.position(), unreadable })
    }

    /// Number of the last line that mcpd has; 0 where that is not known.
    fn handed_over(&self) -> u64 {
        match HeadRecord::read(&self.paths.head) {
            Ok(head) => head.map_or(0, |head| head.handed_over),
            Err(error) => {
                note!(Tone::Warning, "warning:"; " `{}`: {error}", self.paths.head.display());
                0
            }
        }
    }
}

fn table(fallbacks: &[Fallback], wide: bool) -> Result<(), Failure> {
    let mut columns = vec!["TIME", "LLM", "OUTCOME", "BY", "TOOK", "TOKENS", "SENT"];
    if wide {
        columns.extend(["WHO", "MODEL", "REQUEST"]);
    }
    columns.push("WHY");
    let mut table =
        Table::new(&columns).wrapping("WHY").unbroken(&["TIME", "OUTCOME", "SENT"]).in_one_line(wide);
    for fallback in fallbacks {
        let mut row = vec![
            fallback.at.strftime("%m-%d %T").to_string(),
            fallback.llm.clone(),
            fallback.outcome.to_string(),
            fallback.provider.clone(),
            fallback.took_ms.map(took).unwrap_or_default(),
            tokens(fallback).unwrap_or_default(),
            fallback.handed_over.as_str().to_owned(),
        ];
        if wide {
            row.push(fallback.who.clone());
            row.push(fallback.model.clone().unwrap_or_default());
            row.push(fallback.request.clone());
        }
        row.push(why(fallback));
        table.row(row);
    }
    table.print()
}

/// Why the Llm did not answer, and why no local provider did.
fn why(fallback: &Fallback) -> String {
    let class = fallback.class.as_deref().unwrap_or("connect");
    match &fallback.reason {
        Some(reason) if fallback.outcome == FallbackOutcome::Failed => {
            format!("{class}; {}: {reason}", fallback.provider)
        }
        Some(reason) => format!("{class}; {reason}"),
        None => match fallback.outcome {
            FallbackOutcome::Denied => format!("{class}; mcpd does not allow it"),
            FallbackOutcome::Unreachable => format!("{class}; mcpd could not be asked"),
            _ => class.to_owned(),
        },
    }
}

fn tokens(fallback: &Fallback) -> Option<String> {
    Some(format!("{}+{}", fallback.input_tokens?, fallback.output_tokens?))
}

/// How many there are of each outcome, and of how many.
fn summary(shown: &[Fallback], selected: usize) -> String {
    let mut counts: BTreeMap<FallbackOutcome, usize> = BTreeMap::new();
    for fallback in shown {
        *counts.entry(fallback.outcome).or_default() += 1;
    }
    let counts: Vec<String> =
        counts.into_iter().map(|(outcome, count)| format!("{outcome} {count}")).collect();
    let waiting = shown.iter().filter(|fallback| fallback.handed_over == HandedOver::No).count();
    let mut text = counts.join(", ");
    if shown.len() < selected {
        text = format!("the newest {} of {selected} (-n): {text}", shown.len());
    }
    if waiting > 0 {
        text = format!("{text}; not sent to mcpd yet: {waiting}");
    }
    text
}

fn print_csv(fallbacks: &[Fallback]) -> Outcome {
    let header = [
        "time",
        "llm",
        "llm_id",
        "outcome",
        "provider",
        "class",
        "reason",
        "access",
        "took_ms",
        "model",
        "input_tokens",
        "output_tokens",
        "handed_over",
        "who",
        "request",
    ];
    data!("{}", csv::line(header))?;
    let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    for fallback in fallbacks {
        data!(
            "{}",
            csv::line([
                fallback.at.to_string(),
                fallback.llm.clone(),
                fallback.llm_id.clone().unwrap_or_default(),
                fallback.outcome.to_string(),
                fallback.provider.clone(),
                fallback.class.clone().unwrap_or_default(),
                fallback.reason.clone().unwrap_or_default(),
                fallback.access.join(" "),
                number(fallback.took_ms),
                fallback.model.clone().unwrap_or_default(),
                number(fallback.input_tokens),
                number(fallback.output_tokens),
                fallback.handed_over.as_str().to_owned(),
                fallback.who.clone(),
                fallback.request.clone(),
            ])
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
