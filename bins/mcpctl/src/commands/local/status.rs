//! `mcpctl local status`: what the agent and its model servers are doing, once or every second.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use mcpctl_api::agent::{AgentStatus, EngineState, FollowState, JournalBacklog, ProviderStatus};
use mcpctl_client::{
    config::{Config, Context, same_server},
    expiry::{self, ExpiryWarning},
};

use crate::{
    Outcome, agent,
    failure::Failure,
    output::{
        Shape, Tone, breaker, one_line,
        table::{Table, age},
        terminal::{paragraph, width},
    },
};

const POLL_INTERVAL: Duration = Duration::from_secs(1);
const COLUMNS: [&str; 12] = [
    "PROVIDER",
    "TYPE",
    "MODEL",
    "FAILOVER FOR",
    "TOOLS",
    "STATE",
    "MEMORY",
    "GPU",
    "RUNNING",
    "QUEUED",
    "TOKENS/S",
    "SINCE",
];

/// Prints the status; with `watch` again every second.
pub async fn run(output: Shape, watch: bool) -> Outcome {
    let agent = agent::client()?;
    loop {
        let status = agent.local_status().await.map_err(agent::not_running)?;
        if watch && std::io::stdout().is_terminal() {
            // Moves the cursor home and clears the screen.
            write!(std::io::stdout(), "\x1b[H\x1b[2J")?;
        }
        if !output.print(&status)? {
            table(&status)?;
        }
        if !watch {
            return Ok(ExitCode::SUCCESS);
        }
        if !std::io::stdout().is_terminal() {
            data!("")?;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn table(status: &AgentStatus) -> Result<(), Failure> {
    data!("mcplocal {} on {}", one_line(&status.version), one_line(&status.listen))?;
    data!("server:    {}", one_line(status.server.as_str()))?;
    data!("signed in: {}", one_line(&account(status)))?;
    text("probe:     ", &status.proof.describe(&status.server))?;
    if let Some(unverified) = &status.proof.unverified {
        let at = age(unverified.at);
        let reason = one_line(&unverified.reason);
        paragraph(Tone::Bad, "not verified:", &format!(" {reason} ({at} ago)"))?;
    }
    if let Some(step) = &status.proof.hint {
        hint(step)?;
    }
    if let Some(ignored) = &status.ignored_config {
        let (since, reason) = (age(ignored.since), one_line(&ignored.reason));
        let broken = format!(" broken for {since}, the one before it runs: {reason}");
        paragraph(Tone::Warning, "configuration:", &broken)?;
        if let Some(step) = &ignored.hint {
            hint(&format!("{step}; no restart is needed"))?;
        }
    }
    text("feed:      ", &feed(status))?;
    if status.feed.state == FollowState::Denied {
        hint(&login_hint(status))?;
    }
    if status.leases > 0 {
        text("leases:    ", &leases(status))?;
    }
    if let Some(warning) = expiry_warning(status) {
        paragraph(Tone::Warning, "warning:", &format!(" {}", one_line(&warning.to_string())))?;
    }
    data!("")?;
    let mut table = Table::new(&COLUMNS).wrapping("MODEL").without_empty();
    status.providers.iter().for_each(|provider| table.row(Row::of(provider).cells()));
    match width().filter(|width| table.longest_line() > usize::from(*width)) {
        None => table.print()?,
        Some(_) => status.providers.iter().try_for_each(two_lines)?,
    }
    problems(status)?;
    for provider in status.providers.iter().filter(|provider| runs_beside_gpu(provider)) {
        data!("")?;
        let name = one_line(&provider.name);
        text(&format!("`{name}` runs on the CPU: "), "it holds no memory of the machine's GPU")?;
        hint(&format!(
            "its program may lack a library of the driver, or be built without it: mcpctl local logs {name}"
        ))?;
    }
    // Too long for a column, whose beginning would not show the cause.
    let engines = status.providers.iter().filter_map(|provider| provider.engine.as_ref());
    for error in engines.filter_map(|engine| engine.last_error.as_ref()) {
        data!("")?;
        text("last error: ", error)?;
    }
    for primary in &status.breakers {
        let (llm, stands) = (one_line(&primary.llm), breaker(&primary.status));
        data!("")?;
        text(&format!("breaker of the primary of `{llm}`: "), &stands)?;
    }
    if let Some(last) = &status.last_failover {
        let failover = format!(
            "{} ago, `{}` by `{}`: {} (primary: {})",
            age(last.at),
            one_line(&last.llm),
            one_line(&last.provider),
            last.outcome.as_str(),
            one_line(last.class.as_deref().unwrap_or("unknown"))
        );
        data!("")?;
        text("last failover: ", &failover)?;
        if let Some(reason) = &last.reason {
            text("reason: ", reason)?;
        }
    }
    Ok(())
}

/// A text of the agent's, after what it is about.
fn text(about: &str, text: &str) -> Result<(), Failure> {
    paragraph(Tone::Plain, about, &one_line(text))
}

/// The next step.
fn hint(step: &str) -> Result<(), Failure> {
    text("hint: ", step)
}

/// How the feed stands by which the agent learns at once that access has ended.
pub fn feed(status: &AgentStatus) -> String {
    let feed = &status.feed;
    let mut text = feed.state.as_str().to_owned();
    if let Some(since) = feed.since {
        text.push_str(&format!(" for {}", age(since)));
    }
    if let Some(reason) = &feed.reason {
        text.push_str(&format!(": {reason}"));
    }
    let others = status.feeds.saturating_sub(usize::from(feed.state != FollowState::Off));
    if others > 0 {
        text.push_str(&format!(" (of other callers: {others})"));
    }
    text
}

/// What leases cover while mcpd cannot be asked: the Llms of the signed-in user, and how many of other callers there are.
fn leases(status: &AgentStatus) -> String {
    let own =
        status.leased_llms.iter().map(|leased| format!("{} ({}s left)", leased.llm, leased.seconds_left));
    let others = status.leases.saturating_sub(status.leased_llms.len());
    let others = (others > 0).then(|| format!("of other callers: {others}"));
    own.chain(others).collect::<Vec<_>>().join(", ")
}

/// The next step where mcpd does not accept the credential of the signed-in user.
pub fn login_hint(status: &AgentStatus) -> String {
    contexts().login_command(&status.server)
}

/// The user's contexts, or none where the file cannot be read.
fn contexts() -> Config {
    Config::default_path().and_then(|path| Config::load(&path)).unwrap_or_default()
}

/// What keeps local providers from answering, with the next step.
fn problems(status: &AgentStatus) -> Result<(), Failure> {
    for provider in &status.providers {
        if let Some(unavailable) = &provider.unavailable {
            data!("")?;
            text(&format!("`{}` is unavailable: ", one_line(&provider.name)), &unavailable.reason)?;
            hint(&format!("{}; no restart is needed", unavailable.hint.as_deref().unwrap_or_default()))?;
        }
    }
    for provider in status.providers.iter().filter(|provider| provider.capabilities.tools == Some(false)) {
        if let Some(gap) = &provider.without_tools {
            data!("")?;
            text(&format!("`{}`: ", one_line(&provider.name)), &gap.reason)?;
            hint(&gap.hint)?;
        }
    }
    for unknown in &status.unknown_llms {
        data!("")?;
        text(&format!("`{}`: ", one_line(&unknown.provider)), &unknown.reason)?;
        hint(&unknown.hint)?;
    }
    if let Some(problem) = &status.journal {
        data!("")?;
        text("nothing runs locally: the journal cannot be written: ", problem)?;
        hint(status.journal_hint.as_deref().unwrap_or_default())?;
    }
    if let Some(JournalBacklog { lines, reason: Some(reason) }) = &status.journal_backlog {
        data!("")?;
        text(&format!("journal: lines that wait for mcpd: {lines}: "), reason)?;
    }
    Ok(())
}

/// Whether an engine serves without the GPU that the machine has.
fn runs_beside_gpu(provider: &ProviderStatus) -> bool {
    let ready = provider.engine.as_ref().filter(|engine| engine.state == EngineState::Ready);
    ready.is_some_and(|engine| engine.gpu_bytes == Some(0))
}

/// A provider on a terminal that is too narrow for the table: its state and what it is for, then the rest.
fn two_lines(provider: &ProviderStatus) -> Result<(), Failure> {
    let row = Row::of(provider);
    let purpose =
        if row.failover_for.is_empty() { String::new() } else { format!(", for {}", row.failover_for) };
    let since = if row.since.is_empty() { String::new() } else { format!(" for {}", row.since) };
    let state = format!(" {}", one_line(&format!("{}{since}{purpose}", row.state)));
    paragraph(Tone::Title, &one_line(&row.name), &state)?;
    let named = [
        ("tools: ", row.tools),
        ("memory ", row.memory),
        ("GPU ", row.gpu),
        ("running ", row.running),
        ("queued ", row.queued),
    ];
    let named = named
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}{value}"));
    let rate = (!row.rate.is_empty()).then(|| format!("{} tokens/s", row.rate));
    let rest: Vec<String> =
        [row.kind, row.model].into_iter().filter(|text| !text.is_empty()).chain(named).chain(rate).collect();
    text("  ", &rest.join(", "))
}

/// The account for which the local key acts, or the next step where there is none.
fn account(status: &AgentStatus) -> String {
    if let Some(account) = &status.signed_in_as {
        return account.clone();
    }
    let contexts = contexts();
    let is_signed_in =
        |context: &&Context| context.token.is_some() && same_server(&context.server, &status.server);
    match contexts.contexts.iter().find(is_signed_in) {
        Some(other) => format!("no account (mcpctl config use-context {})", other.name),
        None => format!("no account ({})", contexts.login_command(&status.server)),
    }
}

/// The warning that the token of the signed-in user ends soon; the agent sends that token.
fn expiry_warning(status: &AgentStatus) -> Option<ExpiryWarning> {
    let contexts = Config::load(&Config::default_path().ok()?).ok()?;
    expiry::warning(contexts.signed_in_at(&status.server)?)
}

/// What is shown of a provider; empty where there is nothing to show.
struct Row {
    name: String,
    kind: String,
    model: String,
    failover_for: String,
    tools: String,
    state: String,
    memory: String,
    gpu: String,
    running: String,
    queued: String,
    rate: String,
    since: String,
}

impl Row {
    fn of(provider: &ProviderStatus) -> Self {
        let engine = provider.engine.as_ref();
        let failover_for: Vec<&str> = provider.failover_for.iter().map(|llm| llm.as_str()).collect();
        // Of a path the last segment is the most specific.
        let model = provider.model.as_deref().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        let count = |count: Option<usize>| count.map_or_else(String::new, |count| count.to_string());
        let mebibytes =
            |bytes: Option<u64>| bytes.map_or_else(String::new, |bytes| format!("{} MiB", bytes >> 20));
        Self {
            name: provider.name.clone(),
            kind: provider.kind.clone(),
            model: model.to_owned(),
            failover_for: failover_for.join(", "),
            // Of one that computes embeddings there is nothing to know.
            tools: match provider.capabilities.embeddings {
                Some(true) => String::new(),
                _ => provider.capabilities.tools_word().to_owned(),
            },
            state: match (&provider.unavailable, engine) {
                (Some(_), _) => "unavailable".to_owned(),
                (None, Some(engine)) => agent::engine_state(engine),
                (None, None) => "external".to_owned(),
            },
            memory: mebibytes(engine.and_then(|engine| engine.resident_bytes)),
            gpu: mebibytes(engine.and_then(|engine| engine.gpu_bytes)),
            running: count(engine.map(|engine| engine.in_flight)),
            queued: count(engine.map(|engine| engine.queued).filter(|queued| *queued > 0)),
            rate: provider.tokens_per_second.map_or_else(String::new, |rate| format!("{rate:?}")),
            since: engine.map_or_else(String::new, |engine| age(engine.since)),
        }
    }

    /// In the order of [`COLUMNS`].
    fn cells(self) -> [String; COLUMNS.len()] {
        let Self { name, kind, model, failover_for, tools, state, memory, gpu, running, queued, rate, since } =
            self;
        [name, kind, model, failover_for, tools, state, memory, gpu, running, queued, rate, since]
    }
}
