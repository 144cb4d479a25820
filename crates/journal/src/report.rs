//! Checks a whole journal: its chain over both files, its beginning and its end.

use std::path::Path;

use mcpctl_api::Id;
use serde::Serialize;

use crate::{Break, ChainHead, ChainWalker, HeadRecord, JournalPaths, StoredLine, StoredLines};

/// Maximum of problems that are described; the others are counted.
const MAX_PROBLEMS: usize = 100;

/// What is wrong at a place of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChainProblem {
    /// `journal.jsonl:12`, or the file.
    pub place: String,
    /// What is wrong with it.
    pub message: String,
}

/// The result of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalReport {
    /// Whole lines in both files.
    pub lines: u64,
    /// Number of the oldest one.
    pub first: Option<u64>,
    /// Number of the newest one.
    pub last: Option<u64>,
    /// Number of the last one that mcpd has.
    pub handed_over: u64,
    /// What is wrong, in the order of the lines.
    pub problems: Vec<ChainProblem>,
    /// The number of further problems.
    pub more_problems: u64,
    /// Whether the last line is torn or being written; the agent cuts it off at its next write.
    pub torn: bool,
}

impl JournalReport {
    fn problem(&mut self, place: impl Into<String>, message: impl Into<String>) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(ChainProblem { place: place.into(), message: message.into() });
        } else {
            self.more_problems += 1;
        }
    }
}

/// Checks the journal of a state directory. `known` are further lines that are known from elsewhere, such as mcpd's last one.
///
/// # Errors
/// When a file cannot be read.
pub fn verify(state_dir: &Path, agent: Option<&Id>, known: &[ChainHead]) -> std::io::Result<JournalReport> {
    let paths = JournalPaths::of(state_dir);
    let mut report = JournalReport::default();
    // Before the lines, which are written before it.
    let record = HeadRecord::read(&paths.head);
    let (record, unreadable) = match record {
        Ok(record) => (record, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let mut heads = known.to_vec();
    heads.extend(record.as_ref().map(|record| record.head));
    let agent = agent.or(record.as_ref().map(|record| &record.agent));

    let mut lines = StoredLines::open(&paths, None)?;
    let mut walker = ChainWalker::after(None);
    let mut before: Option<String> = None;
    let mut last = 0;
    while let Some(line) = lines.next_line()? {
        report.lines += 1;
        let place = place(&paths, &line);
        if report.lines == 1 {
            walker = beginning(&line, agent);
        }
        match walker.step(&line.bytes) {
            Ok(_) => {}
            Err(Break::Unreadable) => report.problem(&place, "it is not a line of a journal"),
            Err(Break::Missing { from, to }) if from == to => {
                report.problem(&place, format!("the line with the number {from} is missing before it"));
            }
            Err(Break::Missing { from, to }) => {
                report.problem(
                    &place,
                    format!("the lines with the numbers {from} to {to} are missing before it"),
                );
            }
            Err(Break::OutOfOrder) => {
                report.problem(&place, "its number is not above those before it: it was moved or repeated");
            }
            Err(Break::PreviousChanged) => match &before {
                Some(before) => report
                    .problem(before, "it was changed or replaced: the next line has another hash for it"),
                None => report.problem(&place, "it is not the first line of this agent's journal"),
            },
        }
        if let Some(head) = walker.head().filter(|_| crate::Link::of(&line.bytes).is_some()) {
            report.first.get_or_insert(head.seq);
            last = last.max(head.seq);
            for known in heads.iter().filter(|known| known.seq == head.seq && known.hash != head.hash) {
                report.problem(
                    &place,
                    format!(
                        "it was changed: line {} has another hash where the end of the journal is kept",
                        known.seq
                    ),
                );
            }
        }
        before = Some(place);
    }
    report.last = report.first.map(|_| last);
    report.torn = lines.is_torn();
    let current = name(&paths.current);
    if let Some(end) = heads.iter().map(|head| head.seq).max().filter(|end| *end > last) {
        report.problem(
            &current,
            format!("the lines with the numbers {} to {end} are missing at its end", last + 1),
        );
    }
    if let Some(reason) = unreadable {
        report.problem(name(&paths.head), reason);
    }
    match (&record, report.first) {
        (None, Some(_)) if report.problems.is_empty() => report.problem(name(&paths.head), "it is missing"),
        (Some(record), Some(first)) if first > record.first.max(1) => {
            let (from, to) = (record.first.max(1), first - 1);
            report.problem(
                &current,
                format!("the lines with the numbers {from} to {to} are missing at its beginning"),
            );
        }
        (Some(record), _) if agent.is_some_and(|agent| *agent != record.agent) => {
            report.problem(name(&paths.head), format!("it is of another agent, {}", record.agent));
        }
        _ => {}
    }
    report.handed_over = record.map_or(0, |record| record.handed_over);
    Ok(report)
}

/// Line 1 follows nothing; before a later one, lines are no longer kept.
fn beginning(line: &StoredLine, agent: Option<&Id>) -> ChainWalker {
    let is_first = crate::Link::of(&line.bytes).is_some_and(|link| link.seq == 1);
    ChainWalker::after(agent.filter(|_| is_first).map(ChainHead::genesis))
}

fn place(paths: &JournalPaths, line: &StoredLine) -> String {
    let file = if line.older { &paths.older } else { &paths.current };
    format!("{}:{}", name(file), line.number)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
