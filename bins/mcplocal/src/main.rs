//! `mcplocal`: the agent on a workstation. Serves the same inference API as `mcpd`, forwards to it, and fails over to a local
//! provider as far as mcpd allows.

mod access;
mod agent_id;
mod app;
mod capabilities;
mod config;
mod discovery;
mod doctor;
mod expiry;
mod failover_counters;
mod http;
mod identity;
mod journal;
mod llm_names;
mod log_file;
mod meter;
mod pipeline;
mod port;
mod prewarm;
mod primary_targets;
mod probing;
mod providers;
mod service;
mod silence;

use std::{
    fs::{File, TryLockError},
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use axum::Router;
use clap::{Parser, Subcommand};
use mcpctl_api::HintedError;
use mcpctl_client::{AgentRecord, config as user};
use mcpctl_engine::{EngineHost, guardian};
use mcpctl_owner::{
    dir,
    file::{self, OpenMode},
};
use mcpctl_server::{Connections, ShutdownSignal};
use mcpctl_telemetry::{LevelFilter, LogFilter, LogFormat, LogGuard, OtlpUrl, Traces, output};

use crate::{
    app::App,
    config::{Config, DefaultServer},
    identity::Identity,
    journal::Journal,
    log_file::LogFile,
};

/// The agent of mcpctl: a local endpoint that forwards to mcpd and fails over to a local model
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Configuration [default: $XDG_CONFIG_HOME/mcpctl/mcplocal.yaml]
    #[arg(long, global = true, env = "MCPLOCAL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of the local key, the journal, and the engines' logs [default: $XDG_STATE_HOME/mcpctl/mcplocal]
    #[arg(long, global = true, env = "MCPLOCAL_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// How log lines are written
    #[arg(
        long,
        global = true,
        env = "MCPLOCAL_LOG_FORMAT",
        value_name = "text|json",
        default_value = "text"
    )]
    log_format: LogFormat,
    /// Which log lines are written, e.g. `info` or `mcplocal=debug` [default: `warn` on a terminal, else `info`]
    #[arg(long, global = true, env = "MCPLOCAL_LOG", value_name = "FILTER")]
    log: Option<LogFilter>,
    /// Collector that traces are sent to, as OTLP over HTTP [env: OTEL_EXPORTER_OTLP_ENDPOINT and OpenTelemetry's others too]
    #[arg(long, global = true, env = "MCPLOCAL_OTLP", value_name = "URL")]
    otlp: Option<OtlpUrl>,
    /// Log each request, on a terminal too; -vv for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Check the configuration and end
    #[arg(long)]
    check: bool,
    /// Look for what is wrong, print it as JSON and end; `mcpctl local doctor` shows it
    #[arg(long, conflicts_with = "check")]
    doctor: bool,
    /// Look for model servers and models on this machine, print them as JSON and end; `mcpctl local init` offers them
    #[arg(long, conflicts_with_all = ["check", "doctor"])]
    discover: bool,
    /// Detach from the terminal and log to this file, as `mcpctl local up` does
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    background: Option<PathBuf>,
}

#[derive(Clone, Copy, Subcommand)]
enum Command {
    /// Run the agent until SIGTERM or SIGINT; the default
    Serve,
}

impl Args {
    /// A terminal belongs to the person who works there: without `-v` it gets warnings alone.
    fn is_quiet(&self) -> bool {
        self.log.is_none()
            && self.verbose == 0
            && self.background.is_none()
            && std::io::stderr().is_terminal()
    }

    fn start_log(&self) -> anyhow::Result<LogGuard> {
        let filter = match (&self.log, self.verbose) {
            (Some(filter), _) => filter.clone(),
            (None, 0 | 1) if self.is_quiet() => LogFilter::level(LevelFilter::WARN),
            (None, 0 | 1) => LogFilter::level(LevelFilter::INFO),
            (None, _) => LogFilter::level(LevelFilter::DEBUG),
        };
        let running = mcpctl_server::log_fields;
        let started = match &self.background {
            None => mcpctl_telemetry::init("mcplocal", self.log_format, &filter, running),
            Some(path) => {
                let file = LogFile::open(path).map_err(|error| with_hint(&error, error.hint()))?;
                mcpctl_telemetry::init_to("mcplocal", self.log_format, &filter, running, file)
            }
        };
        Ok(started?)
    }
}

fn main() -> ExitCode {
    // A guardian is this program with another first argument: it ends its engine when the agent ends, however that happens.
    // First, because it must not become an agent.
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == GUARDIAN) {
        return guardian::run(words);
    }
    let args = Args::parse();
    // Before threads are started, because it concerns the whole process.
    if args.background.is_some()
        && let Err(error) = nix::unistd::setsid()
    {
        return fail(&anyhow::anyhow!("cannot detach from the terminal: {error}"));
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error)),
    };
    match runtime.block_on(run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

const GUARDIAN: &str = "engine-guardian";

fn fail(error: &anyhow::Error) -> ExitCode {
    let hint = error.downcast_ref::<HintedError>().and_then(|hinted| hinted.hint.as_ref());
    output::note(format_args!("error: {}", HintedError::new(format_args!("{error:#}"), hint).lines()));
    ExitCode::FAILURE
}

fn with_hint(message: impl std::fmt::Display, hint: Option<impl std::fmt::Display>) -> anyhow::Error {
    HintedError::new(message, hint).into()
}

async fn run(args: Args) -> anyhow::Result<()> {
    if args.discover {
        let found = serde_json::to_string(&discovery::discover().await)?;
        return output::data(found).context("standard output cannot be written");
    }
    let path = match &args.config {
        Some(path) => path.clone(),
        None => user::config_dir().map_err(|e| with_hint(&e, e.hint()))?.join("mcplocal.yaml"),
    };
    if args.doctor {
        return examine(&path, args.state_dir).await;
    }
    let contexts = user::Config::default_path().map_err(|e| with_hint(&e, e.hint()))?;
    let config = Config::read(&path, DefaultServer::Context(&contexts))
        .map_err(|error| with_hint(&error, error.hint()))?;
    // At the start, and not only when a request needs a provider.
    providers::check(&config, &path).map_err(|error| with_hint(&error, error.hint()))?;
    if args.check {
        return warn_of(&config, &path).await;
    }
    let _log = args.start_log()?;
    let traces = Traces::start("mcplocal", args.otlp.as_ref(), &config.telemetry)?;
    let quiet = args.is_quiet();
    let background = args.background.is_some();
    let state_dir = private(&state_dir(args.state_dir)?)?;
    // Held until the agent ends: two agents would end each other's engines.
    let _lock = lock(&state_dir)?;
    let descriptors = mcpctl_server::raise_descriptor_limit().context("the limit of open files")?;
    let connections = Connections::new(config.limits.http.clone(), descriptors);
    let listener = port::bind(config.listen.clone(), &state_dir).await?;
    let own_socket = http::own_socket::bind(&state_dir).await?;

    let host = EngineHost::new(
        std::env::current_exe().context("this program's own path")?,
        state_dir.join("engines"),
        state_dir.join("logs"),
    );
    private(&host.state_dir)?;
    private(&host.log_dir)?;
    for leftover in mcpctl_engine::sweep(&host.state_dir).await {
        if leftover.gone {
            tracing::warn!(?leftover, "an engine was left over from an agent that was killed; ended it");
        } else {
            tracing::error!(
                ?leftover,
                "an engine was left over from an agent that was killed, and does not end"
            );
        }
    }

    let identity = Identity::load(&state_dir, contexts)?;
    mcpctl_server::handle_size_limit()?;
    let agent_id = agent_id::load(&state_dir)?;
    mcpctl_server::prevent_core_dumps().context("the limit of core dumps")?;
    let journal = Journal::open(&state_dir, &agent_id, config.limits.journal);
    let app = Arc::new(App::new(config, listener.address().clone(), host, identity, agent_id, journal)?);
    // Before the agent reports ready, so that its service manager can stop it from then on.
    let mut shutdown = ShutdownSignal::new()?;
    tracing::info!(listen = %listener.address(), version = env!("CARGO_PKG_VERSION"), "mcplocal is ready");
    if let Some(context) = app.runtime.load().config.context.as_deref() {
        let server = app.runtime.load().config.server.to_string();
        tracing::info!(
            server,
            context,
            "the configuration names no server; that of mcpctl's context is used"
        );
    }

    let record = AgentRecord { pid: std::process::id(), listen: listener.address().to_string(), background };
    // No error: `mcpctl` can use the agent's socket too, and a full disk must not keep the agent from forwarding.
    if let Err(error) = record.write(&state_dir) {
        tracing::warn!(%error, "the address of this agent is not recorded");
    }
    if quiet {
        let server = app.runtime.load().config.server.clone();
        output::note(format_args!(
            "mcplocal listens on {} and forwards to {server}; Ctrl-C ends it, -v shows requests",
            listener.address()
        ));
    }

    app.runtime.load_full().keys.log().await;
    port::watch(listener.address());
    // Before the first status, so that it has the result.
    app.llm_names.get(&app.runtime.load().config, app.identity.contexts());
    let (config, named) = (app.runtime.load().config.clone(), path.clone());
    tokio::spawn(async move { providers::warn_of_missing(&config, &named).await });

    let journal = Arc::clone(&app);
    tokio::spawn(async move { journal.journal.sync_the_rest().await });
    tokio::spawn(journal::hand_over::follow(Arc::clone(&app)));
    let (user, signed_in) = tokio::sync::watch::channel(None);
    tokio::spawn(probing::signed_in::follow(Arc::clone(&app), user));
    let follow = tokio::spawn(config::watch::follow(Arc::clone(&app), path));
    tokio::spawn(probing::key_rotation::follow(Arc::clone(&app)));
    tokio::spawn(expiry::follow(Arc::clone(&app)));
    tokio::spawn(probing::ahead::keep(Arc::clone(&app), signed_in));
    let draining = app.drain.subscribe();
    let routes = http::routes(Arc::clone(&app), Router::new());
    let server =
        tokio::spawn(listener.serve(routes, Arc::clone(&connections), draining.clone(), App::DRAIN_TIMEOUT));
    let routes = http::own_socket::routes(Arc::clone(&app));
    let own_server =
        tokio::spawn(own_socket.serve(routes, Arc::clone(&connections), draining, App::DRAIN_TIMEOUT));
    service::ready(&app);
    shutdown.recv().await;
    service::stopping();
    tracing::info!(
        "asked to end: letting running requests finish, then stopping engines; ask again to end at once"
    );
    if quiet {
        output::note("letting requests end, then stopping engines; Ctrl-C again ends at once");
    }
    // Before the drain, because a new configuration would start engines after `stop_engines`.
    follow.abort();
    app.drain.send_replace(true);
    let ended = async {
        server.await?;
        own_server.await?;
        // INVARIANT 16: no engine is left behind.
        app.stop_engines().await;
        traces.shutdown().await;
        anyhow::Ok(())
    };
    tokio::select! {
        ended = ended => ended?,
        // The guardians see the pipes close, and end the engines.
        () = shutdown.recv() => {
            let _ = AgentRecord::remove(&state_dir);
            tracing::warn!("asked again: ending at once");
            connections.cut().await;
            return Ok(());
        }
    }
    // A record that stays is recognised as stale: its process does not listen there.
    let _ = AgentRecord::remove(&state_dir);
    tracing::info!("ended");
    Ok(())
}

/// What the agent would do with a configuration.
fn summary(config: &Config) -> String {
    let (listen, server) = (&config.listen, config.server.as_str().trim_end_matches('/'));
    let mut text = format!("ok: mcplocal would listen on {listen} and forward to {server}");
    if config.providers.is_empty() {
        text.push_str("\nno request falls back: `providers` is empty");
    }
    for provider in &config.providers {
        let (name, llms) = (&provider.name, &provider.failover_for);
        let names = llms.iter().map(|llm| llm.as_str()).collect::<Vec<_>>().join(", ");
        text.push_str(&match llms.len() {
            0 => format!("\nprovider {name}: no request falls back to it without `failoverFor`; clients name it `local/{name}`"),
            _ => format!("\nprovider {name}: takes over for {names}"),
        });
    }
    text
}

/// Prints what keeps a provider from being used but not the agent from starting, and what the agent would do.
async fn warn_of(config: &Config, path: &Path) -> anyhow::Result<()> {
    for error in providers::missing(config, path).await {
        output::note(format_args!("warning: {}", HintedError::new(&error, error.hint()).lines()));
    }
    // Offline there are no names to compare with, which is no error.
    if let Ok(contexts) = user::Config::default_path() {
        for unknown in llm_names::unknown(config, &contexts).await.unwrap_or_default() {
            let place = format!("{}:{}:1", path.display(), unknown.line);
            let message = format!("{place}: provider `{}`: {unknown}", unknown.provider);
            output::note(format_args!("warning: {}", HintedError::with(message, unknown.hint()).lines()));
        }
    }
    // Not among the warnings, which `mcpctl` reads.
    output::data(summary(config)).context("standard output cannot be written")
}

async fn examine(config: &Path, chosen: Option<PathBuf>) -> anyhow::Result<()> {
    let findings = doctor::examine(config, &state_dir(chosen)?).await;
    output::data(serde_json::to_string_pretty(&findings)?).context("standard output cannot be written")
}

fn state_dir(chosen: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    match chosen {
        Some(dir) => Ok(dir),
        None => user::agent_state_dir().map_err(|e| with_hint(&e, e.hint())),
    }
}

fn private(path: &Path) -> anyhow::Result<PathBuf> {
    dir::ensure_private(path).map_err(|error| with_hint(&error, error.hint()))
}

fn lock(state_dir: &Path) -> anyhow::Result<File> {
    let path = state_dir.join("lock");
    let file = file::open_own(&path, OpenMode::ReadWrite).map_err(|error| with_hint(&error, error.hint()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(HintedError::with(
            format_args!("another mcplocal runs with the state directory `{}`", state_dir.display()),
            "end it, or give this one another --state-dir"
        )),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("`{}` cannot be locked", path.display()))
        }
    }
}
