//! What `top` shows: lines about mcpd, its Llms, the agent and its model servers, as many as the terminal has room for.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use mcpctl_api::{
    HumanDuration,
    agent::{AgentStatus, FailoverCounts, ProviderStatus},
    breaker_status::LlmState,
    visible,
};
use mcpctl_client::Client;
use serde::Serialize;

use super::rates::{LlmRates, Rates};
use crate::{
    agent,
    failure::Failure,
    output::{
        Tone,
        number::{rate, short, took},
        screen::PageLine,
        table::{Table, age},
        terminal,
    },
};

/// How long it shows that mcpd was started anew.
const NEWS_TIME: Duration = Duration::from_secs(10);
/// Longest name of an Llm or a provider, bytes.
const MAX_NAME: usize = 28;
/// Llms that are shown at least, however many model servers there are.
const MIN_LLMS: usize = 3;

/// What is known, and when.
pub struct View {
    interval: Duration,
    /// mcpd's address; the reason where it cannot be asked.
    server: Result<String, String>,
    rates: Rates,
    agent: Option<AgentStatus>,
    /// Why the last question to mcpd was not answered.
    problem: Option<String>,
    /// When mcpd was seen to have been started anew.
    restarted_at: Option<Instant>,
}

/// As JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How many seconds the rates are of.
    seconds: Option<f64>,
    /// How many replicas of mcpd have answered.
    replicas: usize,
    /// Why mcpd did not answer.
    problem: Option<String>,
    llms: Vec<LlmRates>,
    agent: Option<AgentReport>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AgentReport {
    /// Since the agent's start.
    failovers: FailoverCounts,
    providers: Vec<ProviderReport>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProviderReport {
    name: String,
    failover_for: Vec<String>,
    state: String,
    running: usize,
    queued: usize,
    tokens_per_second: Option<f64>,
    answers: u64,
    output_tokens: u64,
    resident_bytes: Option<u64>,
}

impl View {
    /// Nothing is known yet.
    pub fn new(interval: Duration, mcpd: &Result<Client, Failure>) -> Self {
        let server = match mcpd {
            Ok(client) => Ok(client.server().as_str().trim_end_matches('/').to_owned()),
            Err(failure) => Err(failure.in_one_line()),
        };
        Self { interval, server, rates: Rates::default(), agent: None, problem: None, restarted_at: None }
    }

    /// Takes what came of asking once.
    pub fn add(&mut self, answers: super::Answers) {
        self.agent = answers.agent;
        match answers.mcpd {
            None => {}
            Some(Ok(activity)) => {
                let was_away = self.problem.take().is_some();
                if self.rates.add(answers.at, activity) {
                    self.restarted_at = Some(answers.at);
                } else if was_away {
                    self.restarted_at = None;
                }
            }
            Some(Err(error)) => self.problem = Some(error.to_string()),
        }
    }

    /// For programs.
    pub fn report(&self) -> Report {
        let provider = |provider: &ProviderStatus| {
            let engine = provider.engine.as_ref();
            ProviderReport {
                name: provider.name.clone(),
                failover_for: provider.failover_for.iter().map(ToString::to_string).collect(),
                state: provider_state(provider),
                running: running(provider),
                queued: engine.map(|engine| engine.queued).unwrap_or_default(),
                tokens_per_second: provider.tokens_per_second,
                answers: provider.answers,
                output_tokens: provider.output_tokens,
                resident_bytes: engine.and_then(|engine| engine.resident_bytes),
            }
        };
        let agent = self.agent.as_ref().map(|agent| AgentReport {
            failovers: agent.failover_counts,
            providers: agent.providers.iter().map(provider).collect(),
        });
        Report {
            seconds: self.rates.seconds(),
            replicas: self.rates.replicas(),
            problem: self.problem.clone().or_else(|| self.server.clone().err()),
            llms: self.rates.llms(),
            agent,
        }
    }

    /// Prints all of it once.
    pub fn print(&self, wide: bool) -> Result<(), Failure> {
        let llms = self.rates.llms();
        let width = terminal::width().filter(|_| !wide);
        if let Some((_, message)) = self.message() {
            note!("{message}");
        }
        let is_known = self.rates.up().is_some();
        let summary = |line: &str| match wide {
            true => data!("{line}"),
            false => terminal::paragraph(Tone::Plain, "", line),
        };
        if is_known {
            summary(&self.mcpd_line(&llms))?;
        }
        if !llms.is_empty() {
            data!("")?;
            llm_table(&llms).lines(width).iter().try_for_each(|line| data!("{line}"))?;
        } else if is_known {
            note!("no Llm that you may view");
        }
        if let Some(agent) = &self.agent {
            if is_known {
                data!("")?;
            }
            summary(&agent_line(agent))?;
            if !agent.providers.is_empty() {
                data!("")?;
                provider_table(&agent.providers).lines(width).iter().try_for_each(|line| data!("{line}"))?;
            }
        }
        Ok(())
    }

    /// A page of the terminal.
    pub fn page(&self, columns: u16, rows: u16) -> Vec<PageLine> {
        let rows = usize::from(rows);
        let llms = self.rates.llms();
        let now = Timestamp::now().strftime("%T");
        let at = self.server.as_deref().unwrap_or("this machine");
        let every = HumanDuration(self.interval);
        let mut page = vec![
            PageLine::new(Tone::Title, format!("mcpctl top  q quits  every {every}  {now} UTC  {at}")),
            PageLine::new(Tone::Plain, self.mcpd_line(&llms)),
        ];
        let (tone, message) = self.message().unwrap_or((Tone::Plain, String::new()));
        page.push(PageLine::new(tone, message));
        let below = self.agent_lines(columns);
        let head = page.len();
        // The table's header, and a line for those that do not fit.
        let room = rows.saturating_sub(head + below.len() + 1).max(MIN_LLMS);
        page.extend(llm_lines(&llms, columns, room));
        page.extend(below);
        page.truncate(rows);
        page
    }

    fn agent_lines(&self, columns: u16) -> Vec<PageLine> {
        let Some(agent) = &self.agent else { return Vec::new() };
        let mut lines = vec![PageLine::new(Tone::Plain, ""), PageLine::new(Tone::Plain, agent_line(agent))];
        if !agent.providers.is_empty() {
            let tones = agent.providers.iter().map(|provider| match provider.unavailable {
                Some(_) => Tone::Bad,
                None => Tone::Plain,
            });
            lines.extend(painted(provider_table(&agent.providers).lines(Some(columns)), tones));
        }
        lines
    }

    /// The sums of all Llms.
    fn mcpd_line(&self, llms: &[LlmRates]) -> String {
        let Some(up) = self.rates.up() else { return "mcpd: nothing is known yet".to_owned() };
        let rate_of = |of: fn(&LlmRates) -> Option<f64>| {
            self.rates.seconds().map_or_else(|| "-".to_owned(), |_| rate(llms.iter().filter_map(of).sum()))
        };
        let sum = |of: fn(&LlmRates) -> u64| llms.iter().map(of).sum::<u64>();
        let of = if self.problem.is_some() { "mcpd, when it last answered" } else { "mcpd" };
        let mut text = format!(
            "{of}: {} requests/s, {} tokens/s, running {} (streams {}), errors {}",
            rate_of(|llm| llm.requests_per_second),
            rate_of(|llm| llm.output_tokens_per_second),
            sum(|llm| llm.running),
            sum(|llm| llm.streams),
            sum(|llm| llm.errors),
        );
        text.push_str(&match self.rates.replicas() {
            0 | 1 => format!(", up {}", HumanDuration(up).in_two_units()),
            replicas => format!(", replicas {replicas}"),
        });
        text
    }

    /// What keeps the numbers from being what they seem.
    fn message(&self) -> Option<(Tone, String)> {
        if let Err(reason) = &self.server {
            return Some((Tone::Warning, format!("mcpd is not asked: {reason}")));
        }
        if let Some(problem) = &self.problem {
            return Some((Tone::Bad, format!("mcpd does not answer, asking again: {problem}")));
        }
        let is_news = self.restarted_at.is_some_and(|at| at.elapsed() < NEWS_TIME);
        is_news.then(|| (Tone::Warning, "mcpd was started anew: its counts begin again".to_owned()))
    }
}

/// The lines of the Llms, with one about those that do not fit.
fn llm_lines(llms: &[LlmRates], columns: u16, room: usize) -> Vec<PageLine> {
    if llms.is_empty() {
        return Vec::new();
    }
    let shown = if llms.len() <= room { llms.len() } else { room.saturating_sub(1) };
    let (shown, left_out) = llms.split_at_checked(shown).unwrap_or((llms, &[]));
    let tones = shown.iter().map(|llm| match llm.state {
        LlmState::Failing | LlmState::BreakerOpen | LlmState::NoCredential => Tone::Bad,
        LlmState::BreakerHalfOpen => Tone::Warning,
        LlmState::Ok if llm.errors > 0 => Tone::Warning,
        LlmState::Ok | LlmState::Unknown | LlmState::Other => Tone::Plain,
    });
    let mut lines = painted(llm_table(shown).lines(Some(columns)), tones);
    if !left_out.is_empty() {
        lines.push(PageLine::new(Tone::Plain, format!("and {} with less to do", left_out.len())));
    }
    lines
}

/// Lines of a table, each row in its tone unless rows take several lines.
fn painted(lines: Vec<String>, tones: impl ExactSizeIterator<Item = Tone>) -> Vec<PageLine> {
    let is_one_each = lines.len() == tones.len() + 1;
    let mut tones = tones;
    let mut tone = |at: usize| match at {
        0 => Tone::Title,
        _ if is_one_each => tones.next().unwrap_or(Tone::Plain),
        _ => Tone::Plain,
    };
    lines.into_iter().enumerate().map(|(at, line)| PageLine::new(tone(at), line)).collect()
}

fn llm_table(llms: &[LlmRates]) -> Table {
    let numbers = ["REQ/S", "TOK/S", "FIRST TOKEN", "ERRORS", "FALLBACKS", "RUNNING", "STREAMS"];
    let mut header = vec!["LLM"];
    header.extend(numbers);
    header.push("STATE");
    let mut table = Table::new(&header)
        .numbers(&numbers)
        .unbroken(&numbers)
        .wrapping("STATE")
        .where_they_fit(&["STREAMS", "FALLBACKS", "FIRST TOKEN", "STATE", "ERRORS", "REQ/S"]);
    let some = |rate_of: Option<f64>| rate_of.map_or_else(|| "-".to_owned(), rate);
    for llm in llms {
        table.row([
            visible::short(llm.llm.as_str(), MAX_NAME),
            some(llm.requests_per_second),
            some(llm.output_tokens_per_second),
            llm.first_token_seconds.map_or_else(|| "-".to_owned(), |seconds| took(milliseconds(seconds))),
            short(llm.errors),
            short(llm.fallbacks),
            short(llm.running),
            short(llm.streams),
            llm.state.describe().to_owned(),
        ]);
    }
    table
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time is positive")]
fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1e3).round() as u64
}

fn agent_line(agent: &AgentStatus) -> String {
    let FailoverCounts { served, refused, failed } = agent.failover_counts;
    let up = age(agent.started_at);
    format!("agent: up {up}, failovers {served}, refused {refused}, failed {failed}")
}

fn provider_table(providers: &[ProviderStatus]) -> Table {
    let numbers = ["RUNNING", "QUEUED", "TOK/S", "ANSWERS", "MEMORY"];
    let mut header = vec!["PROVIDER", "FOR", "STATE"];
    header.extend(numbers);
    let mut table = Table::new(&header)
        .numbers(&numbers)
        .unbroken(&numbers)
        .wrapping("STATE")
        .where_they_fit(&["MEMORY", "ANSWERS", "FOR", "QUEUED", "TOK/S"])
        .without_empty();
    for provider in providers {
        let engine = provider.engine.as_ref();
        let llms: Vec<&str> = provider.failover_for.iter().map(|llm| llm.as_str()).collect();
        let resident = engine.and_then(|engine| engine.resident_bytes);
        table.row([
            visible::short(&provider.name, MAX_NAME),
            visible::short(&llms.join(","), MAX_NAME),
            provider_state(provider),
            running(provider).to_string(),
            engine.map_or_else(String::new, |engine| engine.queued.to_string()),
            provider.tokens_per_second.map_or_else(|| "-".to_owned(), rate),
            short(provider.answers),
            resident.map_or_else(String::new, |bytes| format!("{} MiB", bytes >> 20)),
        ]);
    }
    table
}

fn provider_state(provider: &ProviderStatus) -> String {
    match (&provider.unavailable, &provider.engine) {
        (Some(_), _) => "unavailable".to_owned(),
        (None, Some(engine)) => agent::engine_state(engine),
        (None, None) => "external".to_owned(),
    }
}

/// Requests that run there; also ones that have not got their first byte.
fn running(provider: &ProviderStatus) -> usize {
    provider.engine.as_ref().map_or(provider.running, |engine| engine.in_flight.max(provider.running))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llm(name: &str, running: u64) -> LlmRates {
        LlmRates {
            llm: name.parse().unwrap(),
            state: LlmState::Failing,
            requests_per_second: Some(12.3),
            input_tokens_per_second: Some(5.0),
            output_tokens_per_second: Some(12_345.0),
            first_token_seconds: Some(1.25),
            errors: 3,
            fallbacks: 4,
            running,
            streams: running,
        }
    }

    #[test]
    fn rows_fit_every_terminal() {
        let llms = [llm("claude", 7), llm("a-model-with-a-very-long-name-at-a-provider", 1234)];
        for columns in [20, 40, 60, 80, 120] {
            let lines = llm_lines(&llms, columns, 5);
            for line in &lines {
                assert!(line.text.chars().count() <= usize::from(columns), "{columns}: {}", line.text);
            }
        }
        let wide: Vec<String> = llm_lines(&llms[..1], 120, 5).into_iter().map(|line| line.text).collect();
        let words: Vec<&str> = wide[1].split_whitespace().collect();
        assert_eq!(words, ["claude", "12.3", "12.3k", "1.2s", "3", "4", "7", "7", "failing"]);
        let narrow: Vec<String> = llm_lines(&llms[..1], 40, 5).into_iter().map(|line| line.text).collect();
        assert!(narrow[0].contains("TOK/S") && narrow[0].contains("RUNNING"), "{narrow:?}");
        assert!(!narrow[0].contains("STREAMS") && narrow.len() == 2, "{narrow:?}");
    }

    #[test]
    fn rows_without_room_are_counted() {
        let llms: Vec<LlmRates> = (0..10).map(|number| llm(&format!("llm-{number}"), 0)).collect();
        let lines = llm_lines(&llms, 80, 4);
        assert_eq!((lines.len(), lines[4].text.as_str()), (5, "and 7 with less to do"));
        assert_eq!(llm_lines(&llms, 80, 10).len(), 11);
    }
}
