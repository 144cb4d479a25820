//! Fallbacks as a journal records them: its lines about one request, put together.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    ops::RangeInclusive,
};

use jiff::Timestamp;
use mcpctl_api::{
    agent::FailoverOutcome,
    error::{ACCESS_REVOKED, ACCESS_UNCONFIRMED},
};
use mcpctl_journal::{JournalEntry, Line, Served};
use serde::Serialize;

/// The result of a probe that mcpd denied, as the journal has it.
const FORBIDDEN: &str = "forbidden";

/// A request whose Llm failed, and which was to be answered on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// When it fell back.
    pub at: Timestamp,
    /// The request's id.
    pub request: String,
    /// Whose it was: the signed-in user, or the beginning of a bearer's digest.
    pub who: String,
    /// The Llm that was asked for.
    pub llm: String,
    /// Its id, where the agent knew it.
    pub llm_id: Option<String>,
    /// The local provider.
    pub provider: String,
    /// The class in which the Llm failed; `None` where the agent did not record one.
    pub class: Option<String>,
    /// The results of the probes, in order.
    pub access: Vec<String>,
    /// The result.
    pub outcome: Outcome,
    /// Why no local provider answered, or how the answer ended.
    pub reason: Option<String>,
    /// From the fallback to the last byte.
    pub took_ms: Option<u64>,
    /// What the local model calls itself.
    pub model: Option<String>,
    /// Tokens of the prompt, as the local model counted them.
    pub input_tokens: Option<u64>,
    /// Tokens of the answer.
    pub output_tokens: Option<u64>,
    /// Whether mcpd has it.
    pub handed_over: HandedOver,
    /// Number of its last line.
    #[serde(skip)]
    last_line: u64,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The local provider answered in full.
    Answered,
    /// The local provider is answering.
    Running,
    /// The agent ended before the answer did.
    Unfinished,
    /// The caller went away.
    Cancelled,
    /// The answer broke off.
    Broken,
    /// The answer was cut, because its caller lost access.
    Revoked,
    /// The local provider did not answer.
    Failed,
    /// mcpd did not allow it.
    Denied,
    /// mcpd could not be asked, so it was not allowed.
    Unreachable,
}

impl Outcome {
    /// Those in which a request did not get what it asked for, by mcpd's rules.
    pub const NOT_ALLOWED: [Self; 3] = [Self::Denied, Self::Unreachable, Self::Revoked];

    /// The word of tables and of `--outcome`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Running => "running",
            Self::Unfinished => "unfinished",
            Self::Cancelled => "cancelled",
            Self::Broken => "broken",
            Self::Revoked => "revoked",
            Self::Failed => "failed",
            Self::Denied => "denied",
            Self::Unreachable => "unreachable",
        }
    }

    fn of_end(word: &str) -> Self {
        match word {
            "ok" => Self::Answered,
            "cancelled" => Self::Cancelled,
            ACCESS_REVOKED | ACCESS_UNCONFIRMED => Self::Revoked,
            _ => Self::Broken,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether mcpd has the lines about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HandedOver {
    /// It has all of them.
    Yes,
    /// They wait.
    No,
    /// It will not get them; a line `lost` of the journal has the reason.
    Never,
}

impl HandedOver {
    /// The word of tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Never => "never",
        }
    }
}

/// The fallbacks of a journal whose lines are added in their order.
#[derive(Default)]
pub struct Fallbacks {
    /// By the number of their first line.
    all: BTreeMap<u64, Fallback>,
    /// Those whose answer has not ended, by request.
    open: HashMap<String, u64>,
    /// Those that the lines since the last call of [`Fallbacks::take_changed`] are about.
    changed: BTreeSet<u64>,
    /// Numbers of lines that mcpd will not get.
    lost: Vec<RangeInclusive<u64>>,
    /// Refusals that have no lines of their own.
    pub omitted: u64,
    /// The number and time of the first line that was added.
    pub first: Option<(u64, Timestamp)>,
    last: u64,
}

impl Fallbacks {
    /// Adds a line; one that was added before changes nothing.
    pub fn add(&mut self, line: Line) {
        let Line { seq, entry, .. } = line;
        if seq <= self.last {
            return;
        }
        self.last = seq;
        self.first.get_or_insert((seq, entry.at()));
        match entry {
            JournalEntry::Failover { .. } => self.begin(seq, entry),
            JournalEntry::Ended { .. } => self.end(seq, entry),
            JournalEntry::Omitted { refusals, .. } => self.omitted = self.omitted.saturating_add(refusals),
            JournalEntry::Lost { from, to, .. } => self.lost.push(from..=to),
            JournalEntry::Own { .. } => {}
        }
    }

    fn begin(&mut self, seq: u64, entry: JournalEntry) {
        let JournalEntry::Failover { at, served, class, access, outcome, reason, .. } = entry else { return };
        let outcome = match outcome {
            FailoverOutcome::Served => Outcome::Running,
            FailoverOutcome::Failed => Outcome::Failed,
            FailoverOutcome::Refused if access.last().is_some_and(|access| access == FORBIDDEN) => {
                Outcome::Denied
            }
            FailoverOutcome::Refused => Outcome::Unreachable,
        };
        let Served { request, who, llm, llm_id, provider, .. } = served;
        // A provider that was to answer, and failed after all, has two lines.
        let begun = (outcome != Outcome::Running).then(|| self.open.remove(&request)).flatten();
        let begun = begun.and_then(|first| Some((first, self.all.get(&first)?.at)));
        let (first, began) = begun.unwrap_or((seq, at));
        if outcome == Outcome::Running {
            self.open.insert(request.clone(), first);
        }
        let fallback = Fallback {
            at: began,
            request,
            who,
            llm: llm.unwrap_or_default(),
            llm_id,
            provider,
            class,
            access,
            outcome,
            reason,
            took_ms: begun.map(|_| millis(began, at)),
            model: None,
            input_tokens: None,
            output_tokens: None,
            handed_over: HandedOver::No,
            last_line: seq,
        };
        self.all.insert(first, fallback);
        self.changed.insert(first);
    }

    fn end(&mut self, seq: u64, entry: JournalEntry) {
        let JournalEntry::Ended { at, served, outcome: word, model, tokens, .. } = entry else { return };
        // Else of a request for the user's own provider, or of one whose beginning the journal no longer has.
        let Some(first) = self.open.remove(&served.request) else { return };
        let Some(fallback) = self.all.get_mut(&first) else { return };
        let outcome = Outcome::of_end(&word);
        fallback.outcome = outcome;
        fallback.reason = (outcome != Outcome::Answered && outcome != Outcome::Cancelled)
            .then(|| format!("the answer ended with {word}"));
        fallback.took_ms = Some(millis(fallback.at, at));
        fallback.model = model;
        fallback.input_tokens = tokens.map(|tokens| tokens.input_tokens);
        fallback.output_tokens = tokens.map(|tokens| tokens.output_tokens);
        fallback.last_line = seq;
        self.changed.insert(first);
    }

    /// All of them, oldest first. mcpd has the lines up to `handed_over`; what began before the agent did, and has not ended, will
    /// not.
    pub fn settled(self, handed_over: u64, agent_since: Option<Timestamp>) -> Vec<Fallback> {
        let Self { all, lost, .. } = self;
        all.into_values().map(|fallback| settle(fallback, &lost, handed_over, agent_since)).collect()
    }

    /// Those that lines were added about since the last call, oldest first. What has ended is forgotten.
    pub fn take_changed(&mut self, handed_over: u64, agent_since: Option<Timestamp>) -> Vec<Fallback> {
        let mut taken = Vec::new();
        for first in std::mem::take(&mut self.changed) {
            if let Some(fallback) = self.all.get(&first) {
                taken.push(settle(fallback.clone(), &self.lost, handed_over, agent_since));
            }
        }
        let running: BTreeSet<u64> = self.open.values().copied().collect();
        self.all.retain(|first, _| running.contains(first));
        taken
    }
}

fn settle(
    mut fallback: Fallback,
    lost: &[RangeInclusive<u64>],
    handed_over: u64,
    agent_since: Option<Timestamp>,
) -> Fallback {
    let is_lost = lost.iter().any(|lines| lines.contains(&fallback.last_line));
    fallback.handed_over = match fallback.last_line <= handed_over {
        _ if is_lost => HandedOver::Never,
        true => HandedOver::Yes,
        false => HandedOver::No,
    };
    if fallback.outcome == Outcome::Running && agent_since.is_none_or(|since| fallback.at < since) {
        fallback.outcome = Outcome::Unfinished;
    }
    fallback
}

/// By the agent's clock, which may have been set back.
fn millis(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_millis()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use mcpctl_journal::{CallerKind, ChainHead, TokenCount};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn served(request: &str) -> Served {
        Served {
            request: request.to_owned(),
            who: "alice".to_owned(),
            caller: CallerKind::User,
            llm: Some("claude".to_owned()),
            llm_id: None,
            provider: "desk".to_owned(),
        }
    }

    fn failover(request: &str, second: i64, outcome: FailoverOutcome, access: &str) -> JournalEntry {
        JournalEntry::Failover {
            at: at(second),
            served: served(request),
            class: Some("server_error".to_owned()),
            access: vec![access.to_owned()],
            outcome,
            reason: None,
            proof: None,
        }
    }

    fn ended(request: &str, second: i64, outcome: &str) -> JournalEntry {
        JournalEntry::Ended {
            at: at(second),
            served: served(request),
            outcome: outcome.to_owned(),
            model: Some("m".to_owned()),
            tokens: Some(TokenCount { input_tokens: 3, output_tokens: 4 }),
            cost: 0,
        }
    }

    /// Lines with the numbers from 1 on.
    fn lines(entries: Vec<JournalEntry>) -> Vec<Line> {
        let mut head = ChainHead::genesis(&mcpctl_api::Id::mint());
        let mut line = |entry| {
            let (bytes, next) = Line::after(head, &entry).unwrap();
            head = next;
            serde_json::from_slice(&bytes).unwrap()
        };
        entries.into_iter().map(&mut line).collect()
    }

    fn outcomes(entries: Vec<JournalEntry>, agent_since: Option<Timestamp>) -> Vec<Outcome> {
        let mut fallbacks = Fallbacks::default();
        lines(entries).into_iter().for_each(|line| fallbacks.add(line));
        fallbacks.settled(0, agent_since).into_iter().map(|fallback| fallback.outcome).collect()
    }

    #[test]
    fn each_request_has_one_outcome() {
        use FailoverOutcome::{Failed, Refused, Served};
        let cases = [
            (vec![failover("a", 1, Refused, "forbidden")], Outcome::Denied),
            (vec![failover("a", 1, Refused, "unreachable")], Outcome::Unreachable),
            (vec![failover("a", 1, Served, "allowed")], Outcome::Running),
            (vec![failover("a", 1, Served, "allowed"), ended("a", 2, "ok")], Outcome::Answered),
            (vec![failover("a", 1, Served, "allowed"), ended("a", 2, "cancelled")], Outcome::Cancelled),
            (vec![failover("a", 1, Served, "allowed"), ended("a", 2, "access_revoked")], Outcome::Revoked),
            (vec![failover("a", 1, Served, "lease"), ended("a", 2, "access_unconfirmed")], Outcome::Revoked),
            (vec![failover("a", 1, Served, "allowed"), ended("a", 2, "broken_stream")], Outcome::Broken),
            (vec![failover("a", 1, Served, "allowed"), failover("a", 2, Failed, "allowed")], Outcome::Failed),
            (vec![failover("a", 1, Failed, "allowed")], Outcome::Failed),
        ];
        for (entries, outcome) in cases {
            assert_eq!(outcomes(entries.clone(), Some(at(0))), [outcome], "{entries:?}");
        }
        // Another agent than the one that runs now.
        let running = vec![failover("a", 1, Served, "allowed")];
        assert_eq!(outcomes(running.clone(), Some(at(2))), [Outcome::Unfinished]);
        assert_eq!(outcomes(running, None), [Outcome::Unfinished]);
    }

    #[test]
    fn ends_belong_to_their_beginnings_and_mcpd_has_whole_requests() {
        let own = JournalEntry::Own { at: at(5), served: Served { llm: None, ..served("own") } };
        let entries = vec![
            ended("dropped", 0, "ok"),
            failover("a", 1, FailoverOutcome::Served, "allowed"),
            failover("b", 2, FailoverOutcome::Served, "allowed"),
            ended("b", 4, "ok"),
            own,
            ended("own", 6, "ok"),
            JournalEntry::Omitted { at: at(7), refusals: 5 },
            ended("a", 9, "broken_stream"),
            JournalEntry::Lost { at: at(10), from: 3, to: 4, reason: "another mcpd".to_owned() },
        ];
        let mut fallbacks = Fallbacks::default();
        let lines = lines(entries);
        // Once more each: nothing is counted twice.
        lines.iter().chain(&lines).cloned().for_each(|line| fallbacks.add(line));
        assert_eq!((fallbacks.omitted, fallbacks.first), (5, Some((1, at(0)))));
        let shown: Vec<_> = fallbacks
            .settled(7, None)
            .into_iter()
            .map(|f| (f.request, f.outcome, f.took_ms, f.output_tokens, f.handed_over))
            .collect();
        let expected = [
            ("a".to_owned(), Outcome::Broken, Some(8_000), Some(4), HandedOver::No),
            ("b".to_owned(), Outcome::Answered, Some(2_000), Some(4), HandedOver::Never),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn changes_are_taken_once() {
        let entries = vec![
            failover("a", 1, FailoverOutcome::Served, "allowed"),
            failover("b", 2, FailoverOutcome::Refused, "forbidden"),
            ended("a", 3, "ok"),
        ];
        let mut fallbacks = Fallbacks::default();
        let mut taken = Vec::new();
        for line in lines(entries) {
            fallbacks.add(line);
            let changed = fallbacks.take_changed(0, Some(at(0)));
            taken.extend(changed.into_iter().map(|fallback| (fallback.request, fallback.outcome)));
        }
        let [a, b] = ["a", "b"].map(str::to_owned);
        assert_eq!(taken, [(a.clone(), Outcome::Running), (b, Outcome::Denied), (a, Outcome::Answered)]);
        assert!(fallbacks.all.is_empty() && fallbacks.open.is_empty());
    }
}
