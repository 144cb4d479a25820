//! `mcpd serve --check`: whether mcpd would start with these arguments. Changes nothing, and reports all that is wrong.

use std::{net::SocketAddr, path::Path, time::Duration};

use clap::ValueEnum;
use mcpctl_api::HintedError;
use mcpctl_owner::{PathError, PathProblem, dir, file};
use mcpctl_secret::master_key_file::{self, IfMissing, MasterKeyFileError};
use mcpctl_server::{Address, BindError, Listener};
use mcpctl_store::{
    Location, Ownership,
    transfer::{Source, TransferError},
};
use mcpctl_telemetry::output;

use super::{Keys, transfer_error};
use crate::{
    DATABASE_SUFFIXES,
    config::{Config, ServeArgs},
    health, print, print_error, tls, with_hint,
};

/// What the remark about a password in the configuration file reads.
pub const PASSWORD_IN_FILE: &str =
    "`databaseUrl` holds a password, in a file that is copied, shown and kept in repositories";
/// The next step.
pub const PASSWORD_HINT: &str =
    "write the url into a file with mode 600, and name that file as `databaseUrlFile`";

/// How long the database may take.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(10);

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// All that a start needs, where mcpd is to run.
    Start,
    /// The configuration and the files that it names, on any machine.
    Files,
}

/// What is found.
#[derive(Default)]
struct Findings {
    problems: Vec<anyhow::Error>,
    /// What is no obstacle, or ends before the start.
    remarks: Vec<HintedError>,
}

impl Findings {
    /// The value of a step, where it has succeeded.
    fn take<T>(&mut self, step: anyhow::Result<T>) -> Option<T> {
        step.map_err(|error| self.problems.push(error)).ok()
    }
}

/// Runs the check.
///
/// # Errors
/// When mcpd would not start; all problems but the last are printed.
pub async fn run(args: ServeArgs, scope: Scope) -> anyhow::Result<()> {
    let config = args.resolve()?;
    let tls = tls::read(config.tls.clone())?;
    let mut findings = Findings::default();
    if config.password_in_file {
        findings.remarks.push(HintedError::with(PASSWORD_IN_FILE, PASSWORD_HINT));
    }
    let served = format!("{}://{}", if tls.is_some() { "https" } else { "http" }, config.listen);
    let store = match scope {
        Scope::Files => None,
        Scope::Start => {
            let store = check_store(&config, &mut findings).await;
            let asks_for_certificates = tls.as_ref().is_some_and(|tls| tls.asks_for_certificates());
            let who = Who { tls: tls.is_some(), asks_for_certificates };
            check_addresses(&config, who, &mut findings).await;
            store
        }
    };
    for remark in &findings.remarks {
        output::note(format_args!("warning: {}", remark.lines()));
    }
    if let Some(last) = findings.problems.pop() {
        findings.problems.iter().for_each(print_error);
        return Err(last);
    }
    print(&format!("ok: mcpd would serve {served}"))?;
    match store {
        None => print(
            "not checked: directories, master key, database and addresses; `--check` does, as the user of mcpd where it runs",
        ),
        Some(store) => {
            print(&format!("ok: the store is {}{store}", config.database.for_people()))?;
            print(
                "not checked: room on the disk; whether providers, issuers and the collector of traces answer",
            )
        }
    }
}

/// Checks the directories, the database and its key. Returns what there is of the store.
async fn check_store(config: &Config, findings: &mut Findings) -> Option<&'static str> {
    let refused =
        |error: PathError| with_hint(format!("the data directory is refused: {error}"), error.hint());
    findings.take(dir::check_ensurable(&config.data_dir).map_err(refused))?;
    if let Location::Sqlite(database) = &config.database {
        for path in std::iter::once(database.clone())
            .chain(DATABASE_SUFFIXES.into_iter().map(|suffix| file::beside(database, suffix)))
        {
            findings.take(file::is_own(&path).map_err(refused))?;
        }
        if let Some(taken) = Ownership::taken(database) {
            findings.remarks.push(HintedError::with(taken, "it has to end before this start"));
        }
    }
    let Some(opened) = findings.take(open(config).await) else {
        // Of a database that does not answer it is not known whether it has a key; one that is there is read.
        findings.take(check_new_key(config));
        return None;
    };
    let is_new = match opened {
        None => true,
        Some(mut source) => {
            let keys = findings.take(Keys::load(config))?;
            let keys = findings.take(keys.of(&mut source).await)?;
            match source.check_key(&keys).await {
                Ok(()) => false,
                // The first start was interrupted.
                Err(TransferError::Missing { .. }) => true,
                Err(error) => return findings.take(Err(transfer_error(error))),
            }
        }
    };
    if is_new {
        findings.take(check_new_key(config))?;
    }
    Some(if is_new { ", which the first start makes" } else { "" })
}

/// The store; `None` where the first start makes it.
async fn open(config: &Config) -> anyhow::Result<Option<Source>> {
    if let Location::Sqlite(database) = &config.database
        && database.metadata().map_or(0, |there| there.len()) == 0
    {
        return Ok(None);
    }
    match tokio::time::timeout(DATABASE_TIMEOUT, Source::open(&config.database)).await {
        Ok(Ok(source)) => Ok(Some(source)),
        Ok(Err(TransferError::Missing { .. })) => Ok(None),
        Ok(Err(error)) => Err(transfer_error(error)),
        Err(_) => {
            let message = format!(
                "the database {} does not answer within {} s",
                config.database.for_people(),
                DATABASE_TIMEOUT.as_secs()
            );
            Err(with_hint(message, Some("check its address, and that the server runs")))
        }
    }
}

/// Checks the master key of a store that the first start makes: it can be read, or made.
fn check_new_key(config: &Config) -> anyhow::Result<()> {
    let path = &config.master_key_file;
    match master_key_file::load_or_create(path, IfMissing::Fail) {
        Ok(_) => Ok(()),
        // Made with its directory, which was checked.
        Err(MasterKeyFileError::Missing { .. }) if path.parent() == Some(&config.data_dir) => Ok(()),
        Err(MasterKeyFileError::Missing { .. }) => {
            let directory = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
            dir::check_writable(directory).map_err(|error| {
                let hint = match &error.problem {
                    PathProblem::Io(io) if io.kind() == std::io::ErrorKind::NotFound => {
                        Some("create that directory first, or name another file".to_owned())
                    }
                    _ => error.hint(),
                };
                with_hint(format!("the master key `{}` cannot be made: {error}", path.display()), hint)
            })
        }
        Err(error) => Err(with_hint(error.to_string(), error.hint())),
    }
}

/// How a running mcpd is asked.
#[derive(Clone, Copy)]
struct Who {
    tls: bool,
    asks_for_certificates: bool,
}

/// Checks that the addresses are free, or that the mcpd has them that this one is to replace.
async fn check_addresses(config: &Config, who: Who, findings: &mut Findings) {
    let mut bound = Vec::new();
    // An mcpd that asks for a client's certificate answers nothing without it.
    let unasked = who.asks_for_certificates
        && match &config.database {
            Location::Sqlite(database) => Ownership::taken(database).is_some(),
            Location::Postgres(_) => true,
        };
    for address in std::iter::once(config.listen).chain(config.inference_listen) {
        match Listener::bind(Address::Tcp(address)).await {
            // Held, so that the second one cannot have the same.
            Ok(listener) => bound.push(listener),
            Err(error)
                if error.is_in_use()
                    && bound.is_empty()
                    && (unasked || health::is_mcpd(address, who.tls).await) =>
            {
                findings.remarks.push(in_use(address, &error));
            }
            Err(error) => findings.problems.push(with_hint(error.to_string(), Some(error.hint()))),
        }
    }
}

fn in_use(address: SocketAddr, error: &BindError) -> HintedError {
    HintedError::with(
        format_args!("an mcpd runs already: {error}"),
        format_args!("a restart frees `{address}`; a second mcpd needs an address of its own"),
    )
}
