//! `mcpctl local journal`: what ran on this machine in place of an Llm, and whether the record of it is whole. Reads the agent's
//! files, so that it works while the agent does not run.

use std::{collections::VecDeque, path::Path, process::ExitCode};

use clap::Subcommand;
use jiff::Timestamp;
use mcpctl_api::Id;
use mcpctl_journal::{
    ChainHead, ChainProblem, JournalEntry, JournalPaths, JournalReport, Line, StoredLines, verify,
};

use crate::{
    Outcome, agent,
    commands::time::point_in_time,
    context::Global,
    failure::Failure,
    output::{
        Shape, Tone, one_line,
        table::{Table, age},
    },
};

/// Which lines to show.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    lines: LineArgs,
}

#[derive(Subcommand)]
enum Action {
    /// Check that no line was removed, changed or moved; exit code 1 where one was
    Verify {
        /// Do not ask mcpd for the last line that it has
        #[arg(long)]
        offline: bool,
        /// table, json or yaml
        #[arg(long, short, value_enum, default_value = "table")]
        output: Shape,
    },
}

#[derive(clap::Args)]
struct LineArgs {
    /// Only lines of these events: failover, own, ended, omitted, lost
    #[arg(long, value_name = "EVENT")]
    event: Vec<String>,
    /// Only lines about this Llm, by name or id
    #[arg(long)]
    llm: Option<String>,
    /// Only lines about this caller: a user, or `bearer:…`
    #[arg(long)]
    who: Option<String>,
    /// Only lines of this request
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// Only lines from then on: a time, or how long ago, e.g. 2h
    #[arg(long, value_name = "TIME", value_parser = point_in_time)]
    since: Option<Timestamp>,
    /// The newest so many lines
    #[arg(long, short = 'n', default_value_t = 50, value_name = "COUNT")]
    lines: usize,
    /// table, wide, json or yaml
    #[arg(long, short, value_enum, default_value = "table")]
    output: Shape,
}

/// Runs the command.
pub async fn run(global: &Global, args: Args) -> Outcome {
    let state_dir = agent::state_dir()?;
    match args.action {
        None => show(&state_dir, &args.lines),
        Some(Action::Verify { offline, output }) => check(global, &state_dir, offline, output).await,
    }
}

fn show(state_dir: &Path, args: &LineArgs) -> Outcome {
    let mut lines = StoredLines::open(&JournalPaths::of(state_dir), None)?;
    let mut chosen = VecDeque::new();
    let mut unreadable = 0_u64;
    while let Some(stored) = lines.next_line()? {
        match serde_json::from_slice::<Line>(&stored.bytes) {
            Ok(line) if args.selects(&line.entry) => {
                if chosen.len() >= args.lines {
                    chosen.pop_front();
                }
                chosen.push_back(line);
            }
            Ok(_) => {}
            Err(_) => unreadable += 1,
        }
    }
    if unreadable > 0 {
        note!(Tone::Warning, "warning:"; " lines that cannot be read: {unreadable}; see `mcpctl local journal verify`");
    }
    if args.output.print(&chosen)? {
        return Ok(ExitCode::SUCCESS);
    }
    let wide = args.output == Shape::Wide;
    let mut columns = vec!["SEQ", "AGE", "EVENT", "WHO", "LLM", "PROVIDER", "RESULT"];
    columns.extend(wide.then_some("REQUEST"));
    let mut table = Table::new(&columns).wrapping("RESULT").in_one_line(wide);
    for line in &chosen {
        let request = line.entry.served().map(|served| served.request.clone()).unwrap_or_default();
        table.row(row(line).into_iter().chain(wide.then_some(request)));
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

impl LineArgs {
    fn selects(&self, entry: &JournalEntry) -> bool {
        let served = entry.served();
        let about = |wanted: &Option<String>, is: &dyn Fn(&str) -> bool| wanted.as_deref().is_none_or(is);
        (self.event.is_empty() || self.event.iter().any(|event| event == entry.event()))
            && self.since.is_none_or(|since| entry.at() >= since)
            && about(&self.who, &|who| served.is_some_and(|served| served.who == who))
            && about(&self.request, &|request| served.is_some_and(|served| served.request == request))
            && about(&self.llm, &|llm| {
                served.is_some_and(|served| {
                    [&served.llm, &served.llm_id].into_iter().flatten().any(|known| known == llm)
                })
            })
    }
}

fn row(line: &Line) -> [String; 7] {
    let entry = &line.entry;
    let served = entry.served();
    let result = match entry {
        JournalEntry::Failover { class, outcome, access, reason, .. } => {
            let class = class.as_deref().unwrap_or("-");
            let access = access.last().map_or("-", String::as_str);
            let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("{} ({class}, probe {access}){reason}", outcome.as_str())
        }
        JournalEntry::Own { .. } => String::new(),
        JournalEntry::Ended { outcome, tokens: Some(tokens), .. } => {
            format!("{outcome}, {}+{} tokens", tokens.input_tokens, tokens.output_tokens)
        }
        JournalEntry::Ended { outcome, tokens: None, .. } => {
            format!("{outcome}, tokens not counted")
        }
        JournalEntry::Omitted { refusals, .. } => format!("{refusals} more refusals"),
        JournalEntry::Lost { from, to, reason, .. } => {
            format!("lines {from} to {to}: {reason}")
        }
    };
    [
        line.seq.to_string(),
        age(entry.at()),
        entry.event().to_owned(),
        served.map(|served| served.who.clone()).unwrap_or_default(),
        served.and_then(|served| served.llm.clone()).unwrap_or_default(),
        served.map(|served| served.provider.clone()).unwrap_or_default(),
        result,
    ]
}

async fn check(global: &Global, state_dir: &Path, offline: bool, output: Shape) -> Outcome {
    let agent_id = agent::id(state_dir)?;
    let mut known = Vec::new();
    if let (false, Some(agent_id)) = (offline, &agent_id) {
        match head_at_mcpd(global, agent_id).await {
            Ok(head) => known.extend(head),
            Err(failure) => note!("mcpd was not asked: {}", failure.in_one_line()),
        }
    }
    let mut report = verify(state_dir, agent_id.as_ref(), &known)?;
    // Files that are whole may be others than those that the agent writes to.
    let running = agent::find().await.ok().and_then(|agent| agent.status.journal);
    if let Some(problem) = running {
        let message = format!("the running agent cannot write it: {problem}");
        report.problems.push(ChainProblem { place: "journal.jsonl".to_owned(), message });
    }
    let whole = report.problems.is_empty();
    if !output.print(&report)? {
        print(&report)?;
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The last line that mcpd has from the signed-in user.
async fn head_at_mcpd(global: &Global, agent: &Id) -> Result<Option<ChainHead>, Failure> {
    let receipt = global.client()?.journal_head(agent).await?;
    let hash = receipt.hash.parse().map_err(Failure::new)?;
    Ok((receipt.seq > 0).then_some(ChainHead { seq: receipt.seq, hash }))
}

fn print(report: &JournalReport) -> Result<(), Failure> {
    for problem in &report.problems {
        data!(Tone::Bad, "FAIL"; " {}: {}", one_line(&problem.place), one_line(&problem.message))?;
    }
    if report.more_problems > 0 {
        data!("and {} more", report.more_problems)?;
    }
    let (Some(first), Some(last)) = (report.first, report.last) else {
        return data!("the journal has no lines");
    };
    let waiting = last.saturating_sub(report.handed_over);
    data!("lines: {} (numbers {first} to {last}), not handed over to mcpd yet: {waiting}", report.lines)?;
    if report.problems.is_empty() {
        data!(Tone::Good, "the journal is whole"; "")?;
    }
    Ok(())
}
