//! `mcpd`: the central daemon. Owns Llms, secrets, people, roles and tokens; proxies inference.

mod app;
mod audit;
mod bootstrap;
mod caller;
mod captures;
mod clock;
mod commit;
mod config;
mod consequences;
mod exchange;
mod feeds;
mod health;
mod http;
mod inference;
mod issuance;
mod jobs;
mod journal;
mod limits;
mod login;
mod maintenance;
mod master_key;
mod passwords;
mod prices;
mod readiness;
mod record_questions;
mod service;
mod sessions;
mod sign_on;
mod signing;
mod tls;
mod token_uses;
mod usage;
mod watchers;
mod writers;
mod writes;

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use jiff::Timestamp;
use mcpctl_access::ListedIssuers;
use mcpctl_api::HintedError;
use mcpctl_owner::{
    PathError, dir,
    file::{self, OpenMode},
};
use mcpctl_server::{Address, Connections, Listener, RequestBodies, Runtimes, ShutdownSignal};
use mcpctl_store::{Location, OpenError, Ownership, Recorder, Replica, Store, transfer::Reservation};
use mcpctl_telemetry::{Traces, output};
use mcpctl_tls::ServerTls;
use tokio::sync::watch;

use crate::{
    app::{App, InstallationFacts},
    config::{Config, ServeArgs},
    http::guard::Guard,
    maintenance::{backup, check, fsck, migrate, restore, rotate_master_key},
    master_key::MasterKey,
    watchers::{Watched, Watchers},
};

/// How long running requests may take to end once the shutdown begins.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long statements that still run may delay the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What is beside an SQLite database: SQLite's own files, and mcpd's lock.
const DATABASE_SUFFIXES: [&str; 4] = ["-wal", "-shm", "-journal", "-owner"];

/// The central daemon of mcpctl: named Llms, secrets, people, RBAC, inference proxy
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon until SIGTERM or SIGINT
    Serve {
        #[command(flatten)]
        args: ServeArgs,
        /// Check what a start needs, change nothing, and end: the files, the directories, the master key, the database and the
        /// addresses; with `=files` the configuration and the files it names alone, as on another machine
        #[arg(
            long,
            value_name = "start|files",
            num_args = 0..=1,
            require_equals = true,
            default_missing_value = "start",
            hide_possible_values = true
        )]
        check: Option<check::Scope>,
    },
    /// Ask a running mcpd whether it can serve; fails where it cannot, for health checks of containers
    Health(health::HealthArgs),
    /// Write a new token for the user `admin`, when all others are lost
    BootstrapToken(ServeArgs),
    /// Make the key that encrypts secrets at rest, ahead of the first start
    #[command(subcommand)]
    MasterKey(MasterKey),
    /// Write the store into an encrypted file; also while mcpd runs
    Backup(backup::BackupArgs),
    /// Make an empty store from a backup, in SQLite or PostgreSQL, whichever the backup is from
    Restore(restore::RestoreArgs),
    /// Move the store from SQLite to PostgreSQL, or back, while mcpd is stopped
    Migrate(migrate::MigrateArgs),
    /// Seal all secrets and signing keys anew with a new master key, while mcpd is stopped
    RotateMasterKey(ServeArgs),
    /// Check the store, and print what is wrong and what to do; also while mcpd runs
    Fsck(ServeArgs),
    /// Print the fingerprints of the keys that sign mcpd's answers to agents; also while mcpd runs
    Fingerprint(ServeArgs),
    /// Print the OpenAPI document
    Openapi,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve { args, check: Some(scope) } => Box::pin(check::run(args, scope)).await,
        Command::Serve { args, check: None } => serve(args).await,
        Command::Health(args) => health::run(args).await,
        Command::BootstrapToken(args) => bootstrap_token(args).await,
        Command::MasterKey(command) => master_key::run(command).await,
        Command::Backup(args) => Box::pin(backup::run(args)).await,
        Command::Restore(args) => Box::pin(restore::run(args)).await,
        Command::Migrate(args) => Box::pin(migrate::run(args)).await,
        Command::RotateMasterKey(args) => Box::pin(rotate_master_key::run(args)).await,
        Command::Fsck(args) => Box::pin(fsck::run(args)).await,
        Command::Fingerprint(args) => fingerprint(args).await,
        Command::Openapi => print_openapi(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Prints an error in one line, and its hint in another.
fn print_error(error: &anyhow::Error) {
    let hint = error.downcast_ref::<HintedError>().and_then(|hinted| hinted.hint.as_ref());
    output::note(format_args!("error: {}", HintedError::new(format_args!("{error:#}"), hint).lines()));
}

fn print_openapi() -> anyhow::Result<()> {
    print(&serde_json::to_string_pretty(&http::openapi())?)
}

fn print(text: &str) -> anyhow::Result<()> {
    output::data(text).context("standard output cannot be written")
}

async fn bind(address: SocketAddr, tls: Option<&Arc<ServerTls>>) -> anyhow::Result<Listener> {
    let bound = Listener::bind(Address::Tcp(address)).await;
    let listener = bound.map_err(|error| with_hint(error.to_string(), Some(error.hint())))?;
    Ok(listener.with_tls(tls.cloned()))
}

fn warn_if_exposed(address: SocketAddr) {
    if !address.ip().is_loopback() {
        tracing::warn!(
            %address,
            "plain http is allowed, and other machines reach this address: passwords, tokens and prompts can be read on \
             the way unless a reverse proxy with TLS is the only one that reaches it"
        );
    }
}

fn tcp_address(listener: &Listener) -> Option<SocketAddr> {
    match listener.address() {
        Address::Tcp(address) => Some(*address),
        Address::Unix(_) => None,
    }
}

async fn open(config: &Config, reservation: Option<&Reservation>) -> anyhow::Result<Store> {
    private_files(config)?;
    let key_was_there = config.master_key_file.exists();
    let (location, key) = (&config.database, &config.master_key_file);
    let opened = match reservation {
        None => Store::open_with_key_file(location, key).await,
        Some(reservation) => reservation.open(location, key).await,
    };
    let store = opened.map_err(|error| with_hint(error.to_string(), error.hint()))?;
    if !key_was_there {
        tracing::warn!(
            path = %config.master_key_file.display(),
            "first start: the master key is in this file; keep a copy, because stored secrets are lost without it, and \
             give the same file to every other mcpd on this database"
        );
    }
    Ok(store)
}

/// Opens the store to serve it. An SQLite database is served by one process.
async fn open_owned(config: &Config) -> anyhow::Result<Store> {
    let Location::Sqlite(database) = &config.database else { return open(config, None).await };
    private_files(config)?;
    // Before it is opened, because to open it may migrate it.
    let ownership =
        Ownership::take(database).map_err(|error| with_hint(error.to_string(), Some(error.hint())))?;
    Ok(open(config, None).await?.owned(ownership))
}

fn with_hint(message: impl std::fmt::Display, hint: Option<impl std::fmt::Display>) -> anyhow::Error {
    HintedError::new(message, hint).into()
}

/// Creates the data directory, and checks that only this user can read it and the database in it. SQLite follows links,
/// and gives its other files the permissions of the database.
fn private_files(config: &Config) -> anyhow::Result<()> {
    let refused =
        |error: PathError| with_hint(format!("the data directory is refused: {error}"), error.hint());
    dir::ensure_private(&config.data_dir).map_err(refused)?;
    let Location::Sqlite(database) = &config.database else { return Ok(()) };
    file::open_own(database, OpenMode::ReadWrite).map_err(refused)?;
    for suffix in DATABASE_SUFFIXES {
        let beside = file::beside(database, suffix);
        if beside.symlink_metadata().is_ok() {
            file::open_own(&beside, OpenMode::ReadWrite).map_err(refused)?;
        }
    }
    Ok(())
}

async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let config = args.resolve()?;
    let _log = mcpctl_telemetry::init("mcpd", config.log_format, &config.log, mcpctl_server::log_fields)?;
    if config.password_in_file {
        tracing::warn!(hint = check::PASSWORD_HINT, "{}", check::PASSWORD_IN_FILE);
    }
    let traces = Traces::start("mcpd", config.otlp.as_ref(), &config.telemetry)?;
    mcpctl_server::handle_size_limit()?;
    mcpctl_server::prevent_core_dumps().context("the limit of core dumps")?;
    let descriptors = mcpctl_server::raise_descriptor_limit().context("the limit of open files")?;
    let connections = Connections::new(config.limits.http.clone(), descriptors);
    let tls = tls::read(config.tls.clone())?;
    for address in std::iter::once(config.listen).chain(config.inference_listen).filter(|_| tls.is_none()) {
        warn_if_exposed(address);
    }
    // Bind before anything is written, so that a second mcpd on the same port changes nothing.
    let listener = bind(config.listen, tls.as_ref()).await?;
    let inference_listener = match config.inference_listen {
        Some(address) => Some((address, bind(address, tls.as_ref()).await?)),
        None => None,
    };
    let store = open_owned(&config).await?;
    let listed = ListedIssuers {
        sign_in: config.oidc.iter().map(|provider| provider.issuer.clone()).collect(),
        exchange: config.token_exchange.iter().map(|issuer| issuer.issuer.clone()).collect(),
    };
    let replica = Replica::start_listing(store.clone(), listed).await?;
    if let Some(path) = bootstrap::prepare(&store, &replica, &config.data_dir, Timestamp::now()).await? {
        tracing::info!(path = %path.display(), "first start: the token of the user `admin` is in this file");
    }
    let own = std::iter::once(&listener)
        .chain(inference_listener.as_ref().map(|(_, listener)| listener))
        .filter_map(tcp_address)
        .collect();
    let addresses = config.upstream_addresses.policy(config.shared, own);
    let signing = signing::Signing::start(store.clone()).await?;
    let (leave, leaving) = watch::channel(false);
    let (drain, draining) = watch::channel(false);
    let recorder = Recorder::new(store.clone(), config.limits.records.durability);
    let metrics = Arc::new(mcpctl_telemetry::McpdMetrics::new());
    if let Some(tls) = tls.clone() {
        tls::follow(tls, config.public_host.as_ref(), Arc::clone(&metrics))?;
    }
    let inference = inference::Inference::new(addresses);
    let sign_on = sign_on::providers::SignOn::new(config.oidc, &inference.client);
    let trusted_issuers =
        exchange::trusted_issuers::TrustedIssuers::new(config.token_exchange, &inference.client);
    let app = Arc::new(App {
        access: inference::access::AccessWatches::start(&replica),
        feeds: feeds::Feeds::start(&replica, Watchers::new(Watched::Access, config.limits.feeds)),
        in_flight: inference::in_flight::InFlight::new(config.limits.inference),
        replica,
        audit: audit::Audit::start(recorder.clone(), config.limits.records, Arc::clone(&metrics)),
        recorder,
        metrics,
        inference,
        trusted_issuers,
        limits: limits::Limits::start(store.clone()),
        prices: config.prices,
        logins: login::Logins::start(store.clone(), config.limits.logins, config.trusted_proxies)?,
        journals: journal::rate::JournalRates::new(config.limits.journal),
        sign_on,
        captures: captures::Captures::start(&config.data_dir, config.limits.captures)
            .context("the writer of captures")?,
        readiness: readiness::Readiness::default(),
        signing,
        token_uses: token_uses::TokenUses::default(),
        usage: usage::UsageReports::default(),
        record_questions: record_questions::RecordQuestions::default(),
        writers: writers::Writers::new(config.limits.writes.clone()),
        bodies: RequestBodies::new(&config.limits.http),
        watchers: Watchers::new(Watched::Resources, config.limits.watches),
        facts: InstallationFacts {
            shared: config.shared,
            inference_listener: config.inference_listen.is_some(),
            tls,
        },
        draining: draining.clone(),
        leaving,
        store,
    });
    jobs::start(&app);
    tokio::spawn({
        let app = Arc::clone(&app);
        async move { tokio::join!(app.sign_on.look_up(), app.trusted_issuers.look_up()) }
    });
    // Before mcpd reports ready, so that its service manager can stop it from then on.
    let mut shutdown = ShutdownSignal::new()?;
    tracing::info!(listen = %listener.address(), version = env!("CARGO_PKG_VERSION"), "mcpd is ready");
    service::ready(&listener.address().to_string());

    let runtimes = Runtimes::start(http::workload).context("the threads for inference")?;
    let guard = |address| Guard::new(address, config.public_host.clone(), &config.allowed_origins);
    let guarded = guard(config.listen);
    let management = http::Faces::default().management();
    let management = if config.console { management.console() } else { management };
    let mut servers = tokio::task::JoinSet::new();
    match inference_listener {
        Some((address, inference_listener)) => {
            tracing::info!(listen = %inference_listener.address(), "inference has an address of its own");
            let routes = http::serve(http::Faces::default().inference(), Arc::clone(&app), guard(address));
            servers.spawn(inference_listener.placed_by(runtimes.clone()).serve(
                routes,
                Arc::clone(&connections),
                draining.clone(),
                DRAIN_TIMEOUT,
            ));
            let routes = http::serve(management, Arc::clone(&app), guarded);
            servers.spawn(listener.serve(routes, connections, draining, DRAIN_TIMEOUT));
        }
        None => {
            let routes = http::serve(management.inference(), Arc::clone(&app), guarded);
            servers.spawn(listener.placed_by(runtimes).serve(routes, connections, draining, DRAIN_TIMEOUT));
        }
    }
    shutdown.recv().await;
    // With what records and the database take in between.
    service::stopping(config.drain_delay.0 + DRAIN_TIMEOUT + CLOSE_TIMEOUT + CLOSE_TIMEOUT);
    leave.send_replace(true);
    service::wait_for_load_balancers(config.drain_delay, &mut shutdown).await;
    tracing::info!("shutdown: accepting no new connections, waiting for running requests");
    drain.send_replace(true);
    while let Some(ended) = servers.join_next().await {
        ended?;
    }
    app.logins.finish().await;
    app.limits.close().await;
    app.audit.finish().await;
    // Rows of responses that were sent are stored before the process ends.
    app.recorder.close().await;
    app.token_uses.store(&app.store).await;
    app.captures.finish().await;
    traces.shutdown().await;
    app.store.sync().await.context("the last records may not be on the disk")?;
    if tokio::time::timeout(CLOSE_TIMEOUT, app.store.close()).await.is_err() {
        tracing::warn!("the database was not closed in time: copy it with its log, or use `mcpd backup`");
    }
    tracing::info!("ended");
    Ok(())
}

async fn bootstrap_token(args: ServeArgs) -> anyhow::Result<()> {
    let config = args.resolve()?;
    let store = open_started(&config, None).await?;
    let path = bootstrap::reissue(&store, &config.data_dir, Timestamp::now()).await?;
    store.close().await;
    print(&path.display().to_string())
}

/// Prints what a sign-in shows at the first contact, for the operator whom users ask.
async fn fingerprint(args: ServeArgs) -> anyhow::Result<()> {
    let store = open_started(&args.resolve()?, None).await?;
    let keys = store.signing_keys().await?;
    store.close().await;
    let (current, next) = (keys.current.public().fingerprint(), keys.next.public().fingerprint());
    print(&format!("current  {current}\nnext     {next}"))
}

/// Opens the store of an installation that was started before: a mistyped directory must not become an empty installation with
/// keys and a token of its own.
async fn open_started(config: &Config, reservation: Option<&Reservation>) -> anyhow::Result<Store> {
    let opened = |error: OpenError| with_hint(error.to_string(), error.hint());
    if !Store::has_master_key(&config.database).await.map_err(opened)? {
        return Err(match &config.database {
            Location::Sqlite(path) if !path.exists() => with_hint(
                format!("there is no database at `{}`", path.display()),
                Some("name the data directory of the running mcpd with --data-dir"),
            ),
            _ => with_hint(
                "mcpd was never started on this database".to_owned(),
                Some("start it once with `mcpd serve`: the first start writes a token and makes the keys"),
            ),
        });
    }
    open(config, reservation).await
}
