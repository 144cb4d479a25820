//! `mcpctl local install` and `uninstall`: the agent as a service of this user, by systemd or launchd. Nothing is written
//! before the agent itself has checked its configuration, and an installation that fails is rolled back.

mod launchd;
mod systemd;

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use crate::{Outcome, agent, failure::Failure};
use mcpctl_api::HintedError;
use mcpctl_client::config;
use mcpctl_owner::dir;

/// How to install.
#[derive(clap::Args)]
pub struct InstallArgs {
    /// Configuration of the agent [default: $XDG_CONFIG_HOME/mcpctl/mcplocal.yaml]
    #[arg(long, env = "MCPLOCAL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the service's file and end
    #[arg(long)]
    print: bool,
    /// Start it at the next login, not now
    #[arg(long)]
    no_start: bool,
    /// Overwrite a file that was changed by hand
    #[arg(long)]
    force: bool,
}

/// How to uninstall.
#[derive(clap::Args)]
pub struct UninstallArgs {
    /// Remove a file that was changed by hand
    #[arg(long)]
    force: bool,
}

/// What the service runs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Service {
    program: PathBuf,
    config: PathBuf,
    /// The search path, and the agent's directories where they are not the usual ones.
    environment: Vec<(String, String)>,
    /// Where launchd puts what it writes; systemd has a journal.
    log: PathBuf,
}

/// The service manager of this system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manager {
    Systemd,
    Launchd,
}

impl Manager {
    const fn here() -> Self {
        if cfg!(target_os = "macos") { Self::Launchd } else { Self::Systemd }
    }

    fn file(self) -> Result<PathBuf, Failure> {
        match self {
            Self::Systemd => systemd::file(),
            Self::Launchd => launchd::file(),
        }
    }

    fn render(self, service: &Service) -> Result<String, Failure> {
        match self {
            Self::Systemd => systemd::render(service),
            Self::Launchd => launchd::render(service),
        }
    }

    /// Starts the service at each login from the next one on.
    async fn enable(self, file: &Path) -> Result<(), Failure> {
        match self {
            Self::Systemd => systemd::enable(file).await,
            // launchd loads the files of its directory at each login.
            Self::Launchd => Ok(()),
        }
    }

    /// Starts it now, or restarts it where its file `changed`. Returns when the agent responds.
    async fn start(self, file: &Path, changed: bool) -> Result<(), Failure> {
        match self {
            Self::Systemd => systemd::start(changed).await,
            Self::Launchd => launchd::start(file, changed).await,
        }
    }

    async fn stop(self) -> Result<(), Failure> {
        match self {
            Self::Systemd => systemd::stop().await,
            Self::Launchd => launchd::stop().await,
        }
    }

    /// Makes the manager read its files again, after one was removed.
    async fn reload(self) {
        if self == Self::Systemd {
            let _ = systemd::reload().await;
        }
    }

    async fn runs(self) -> bool {
        match self {
            Self::Systemd => systemd::runs().await,
            Self::Launchd => launchd::runs().await,
        }
    }
}

/// How a service is stopped.
pub const STOP: &str = "`systemctl --user stop mcplocal`, or `launchctl bootout`, stops it until the next login; `mcpctl \
                        local uninstall` removes it";

/// Installs the agent.
pub async fn install(args: InstallArgs) -> Outcome {
    let manager = Manager::here();
    let service = service(args.config)?;
    let text = marked(&manager.render(&service)?);
    if args.print {
        data!("{}", text.trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    check(&service).await?;
    let file = manager.file()?;
    let before = read(&file)?;
    let changed = before.as_deref() != Some(text.as_str());
    if changed && !args.force {
        check_unchanged(&file, before.as_deref())?;
    }
    if !args.no_start && before.is_none() && agent::find().await.is_ok() {
        return Err(Failure::new("mcplocal runs already, and not as a service")
            .hint("end it, e.g. with `mcpctl local down`, then install"));
    }
    if changed {
        write(&file, &text)?;
    }
    let up = async {
        manager.enable(&file).await?;
        if args.no_start { Ok(()) } else { manager.start(&file, changed).await }
    };
    if let Err(failure) = up.await {
        roll_back(manager, &file, before.as_deref(), changed).await?;
        return Err(failure);
    }
    data!("{} {}", file.display(), if changed { "written" } else { "unchanged" })?;
    if args.no_start {
        data!("mcplocal starts at the next login")?;
        return Ok(ExitCode::SUCCESS);
    }
    data!("mcplocal runs, and again after every login")?;
    if manager == Manager::Systemd {
        note!("hint: `loginctl enable-linger` lets it run without a login too");
    }
    if let Err(failure) = agent::find().await {
        // The service manager reports that it is ready, so it has another state directory.
        note!("note: mcpctl does not find it: {}", failure.in_one_line());
    }
    Ok(ExitCode::SUCCESS)
}

/// Restores the file and the service of before, after the service manager failed.
async fn roll_back(
    manager: Manager,
    file: &Path,
    before: Option<&str>,
    changed: bool,
) -> Result<(), Failure> {
    match before {
        Some(before) if changed => {
            write(file, before)?;
            manager.reload().await;
            let _ = manager.start(file, true).await;
        }
        Some(_) => {}
        None => {
            let _ = manager.stop().await;
            std::fs::remove_file(file)?;
            manager.reload().await;
        }
    }
    Ok(())
}

fn check_unchanged(file: &Path, text: Option<&str>) -> Result<(), Failure> {
    match text {
        Some(text) if !is_ours(text) => {
            Err(Failure::new(format!("`{}` was changed by hand", file.display()))
                .hint("keep such changes in a drop-in (`systemctl --user edit mcplocal`), or pass --force"))
        }
        _ => Ok(()),
    }
}

/// Stops the agent and removes the service.
pub async fn uninstall(args: UninstallArgs) -> Outcome {
    let manager = Manager::here();
    let file = manager.file()?;
    let text = read(&file)?;
    if text.is_none() {
        note!("mcplocal is not installed: there is no `{}`", file.display());
        return Ok(ExitCode::SUCCESS);
    }
    if !args.force {
        check_unchanged(&file, text.as_deref())?;
    }
    manager.stop().await?;
    std::fs::remove_file(&file)?;
    manager.reload().await;
    data!("{} removed", file.display())?;
    let (config, state) = (config::config_dir()?, agent::state_dir()?);
    note!("kept: configuration in {}, key, journal and logs in {}", config.display(), state.display());
    Ok(ExitCode::SUCCESS)
}

/// Whether the agent runs as a service; `None` where no service is installed.
pub async fn runs() -> Option<bool> {
    let manager = Manager::here();
    manager.file().ok().filter(|file| file.is_file())?;
    Some(manager.runs().await)
}

fn service(config: Option<PathBuf>) -> Result<Service, Failure> {
    let config = match config {
        Some(config) => config,
        None => config::config_dir()?.join("mcplocal.yaml"),
    };
    // The manager runs it in another directory.
    let config = std::path::absolute(&config)?;
    // A service manager sets a minimal PATH; the service finds programs where this shell finds them.
    let environment = ["PATH", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "MCPLOCAL_STATE_DIR"]
        .into_iter()
        .filter_map(|name| {
            Some((name.to_owned(), std::env::var(name).ok().filter(|value| value.starts_with('/'))?))
        })
        .collect();
    let log = home()?.join("Library/Logs/mcplocal.log");
    Ok(Service { program: std::path::absolute(agent::program()?)?, config, environment, log })
}

/// Makes the agent check its configuration, in the environment that the service will have.
async fn check(service: &Service) -> Result<(), Failure> {
    let mut command = Command::new(&service.program);
    command.arg("--check").arg("--config").arg(&service.config).env_clear().env("HOME", home()?);
    let checked = command.envs(service.environment.iter().cloned()).output().await?;
    let output = String::from_utf8_lossy(&checked.stderr);
    if checked.status.success() {
        // Warnings of providers that are unavailable for now.
        output.lines().for_each(|line| note!("{}", crate::output::one_line(line)));
        return Ok(());
    }
    let HintedError { message, hint } = HintedError::parse(&output);
    let hint = hint.as_deref().unwrap_or("mcpctl local doctor");
    Err(Failure::new(message.trim_start_matches("error: ")).hint(hint))
}

/// Puts a digest of the text into its first line, by which a change by hand is distinguished from an older version.
fn marked(text: &str) -> String {
    let (first, rest) = text.split_once("MARK\n").unwrap_or(("", text));
    format!("{first}{} {}\n{rest}", MARK, digest(first, rest))
}

const MARK: &str = "Written by `mcpctl local install`, for a change to be seen:";

fn is_ours(text: &str) -> bool {
    let Some((first, rest)) = text.split_once(MARK) else { return false };
    rest.trim_start().split_once('\n').is_some_and(|(marked, rest)| marked == digest(first, rest))
}

fn digest(first: &str, rest: &str) -> String {
    let digest = Sha256::new().chain_update(first).chain_update(rest).finalize();
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn read(file: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::new(format!("`{}` cannot be read: {error}", file.display()))),
    }
}

/// Writes the file completely or not at all.
fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new(format!("`{}` cannot be written: {error}", file.display()));
    let parent = file.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(parent).map_err(failed)?;
    // Files there run at each login, so no other user may be able to replace them.
    dir::check_parents(file)?;
    let mut draft = tempfile::NamedTempFile::new_in(parent).map_err(failed)?;
    draft.write_all(text.as_bytes()).map_err(failed)?;
    draft.persist(file).map_err(|error| failed(error.error))?;
    Ok(())
}

fn home() -> Result<PathBuf, Failure> {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    home.ok_or_else(|| Failure::new("HOME is not set"))
}

/// A path for a file of lines: a line end in it would begin another line.
fn one_line(path: &Path) -> Result<&str, Failure> {
    path.to_str()
        .filter(|text| !text.contains(char::is_control))
        .ok_or_else(|| Failure::new(format!("`{}` cannot stand in a service's file", path.display())))
}

/// Runs a program of the service manager; its standard error becomes the message.
async fn run(program: &str, args: &[&str]) -> Result<(), Failure> {
    let shown = format!("{program} {}", args.join(" "));
    let output = Command::new(program).args(args).output().await;
    let output = output.map_err(|error| Failure::new(format!("`{shown}`: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("`{shown}` failed: {}", error.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> Service {
        Service {
            program: "/home/a b/bin/mcplocal".into(),
            config: "/home/a b/50%.yaml".into(),
            environment: vec![("XDG_STATE_HOME".to_owned(), "/home/a b/state".to_owned())],
            log: "/Users/a/Library/Logs/mcplocal.log".into(),
        }
    }

    #[test]
    fn change_by_hand_is_distinguished_from_another_version() {
        for manager in [Manager::Systemd, Manager::Launchd] {
            let text = marked(&manager.render(&service()).unwrap());
            assert!(is_ours(&text), "{text}");
            let other = Service { config: "/elsewhere".into(), ..service() };
            assert!(is_ours(&marked(&manager.render(&other).unwrap())), "{text}");
            assert!(!is_ours(&text.replace("120", "1200")), "{text}");
            assert!(!is_ours(&text.replace(MARK, "")), "{text}");
        }
        assert!(!is_ours(""));
    }

    #[test]
    fn path_with_a_line_end_is_rejected() {
        let evil = "/a\nExecStartPre=/bin/evil".to_owned();
        let program = Service { program: evil.clone().into(), ..service() };
        let variable = Service { environment: vec![("PATH".to_owned(), evil)], ..service() };
        for service in [program, variable] {
            assert!(Manager::Systemd.render(&service).is_err());
            assert!(Manager::Launchd.render(&service).is_err());
        }
    }

    #[test]
    fn property_list_names_program_and_environment() {
        let text = marked(&Manager::Launchd.render(&service()).unwrap());
        for part in [
            "<string>/home/a b/bin/mcplocal</string>",
            "<string>/home/a b/50%.yaml</string>",
            "<key>XDG_STATE_HOME</key><string>/home/a b/state</string>",
            "<key>SuccessfulExit</key><false/>",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
