//! `mcpctl local install` and `uninstall`: the agent as a service of this user, by systemd or launchd. Nothing is written
//! before the agent itself has said that its configuration is good, and what cannot be finished is taken back.

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

/// How to take it back.
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
    /// Where programs are found, and the agent's directories where they are not the usual ones.
    environment: Vec<(String, String)>,
    /// Where launchd puts what it writes; systemd has a journal.
    log: PathBuf,
}

/// Who runs it.
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

    /// From the next login on.
    async fn enable(self, file: &Path) -> Result<(), Failure> {
        match self {
            Self::Systemd => systemd::enable(file).await,
            // What lies in its directory is loaded with every login.
            Self::Launchd => Ok(()),
        }
    }

    /// Now; anew where its file `changed`. It answers when this returns.
    async fn start(self, file: &Path, changed: bool) -> Result<(), Failure> {
        match self {
            Self::Systemd => systemd::start(changed).await,
            Self::Launchd => launchd::start(file, changed).await,
        }
    }

    async fn let_go(self) -> Result<(), Failure> {
        match self {
            Self::Systemd => systemd::let_go().await,
            Self::Launchd => launchd::let_go().await,
        }
    }

    /// A file that was removed is not kept in mind either.
    async fn forget(self) {
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
        refuse_by_hand(&file, before.as_deref())?;
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
        take_back(manager, &file, before.as_deref(), changed).await?;
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
        // It said that it is ready, so it is only elsewhere.
        note!("note: mcpctl does not find it: {}", failure.in_one_line());
    }
    Ok(ExitCode::SUCCESS)
}

/// What the service manager did not take is not left lying about, and what ran before runs again.
async fn take_back(
    manager: Manager,
    file: &Path,
    before: Option<&str>,
    changed: bool,
) -> Result<(), Failure> {
    match before {
        Some(before) if changed => {
            write(file, before)?;
            manager.forget().await;
            let _ = manager.start(file, true).await;
        }
        Some(_) => {}
        None => {
            let _ = manager.let_go().await;
            std::fs::remove_file(file)?;
            manager.forget().await;
        }
    }
    Ok(())
}

fn refuse_by_hand(file: &Path, text: Option<&str>) -> Result<(), Failure> {
    match text {
        Some(text) if !is_ours(text) => {
            Err(Failure::new(format!("`{}` was changed by hand", file.display()))
                .hint("keep such changes in a drop-in (`systemctl --user edit mcplocal`), or say --force"))
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
        refuse_by_hand(&file, text.as_deref())?;
    }
    manager.let_go().await?;
    std::fs::remove_file(&file)?;
    manager.forget().await;
    data!("{} removed", file.display())?;
    let (config, state) = (config::config_dir()?, agent::state_dir()?);
    note!("kept: configuration in {}, key, journal and logs in {}", config.display(), state.display());
    Ok(ExitCode::SUCCESS)
}

/// Whether it runs as a service; nothing where it is not installed.
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
    // The manager runs it elsewhere.
    let config = std::path::absolute(&config)?;
    // A service has hardly a PATH of its own, and finds programs where they are found now.
    let environment = ["PATH", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "MCPLOCAL_STATE_DIR"]
        .into_iter()
        .filter_map(|name| {
            Some((name.to_owned(), std::env::var(name).ok().filter(|value| value.starts_with('/'))?))
        })
        .collect();
    let log = home()?.join("Library/Logs/mcplocal.log");
    Ok(Service { program: std::path::absolute(agent::program()?)?, config, environment, log })
}

/// The agent's own word on its configuration, in the surroundings that it will have.
async fn check(service: &Service) -> Result<(), Failure> {
    let mut command = Command::new(&service.program);
    command.arg("--check").arg("--config").arg(&service.config).env_clear().env("HOME", home()?);
    let output = command.envs(service.environment.iter().cloned()).output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        // Providers that are unavailable for now.
        said.lines().for_each(|line| note!("{}", crate::output::one_line(line)));
        return Ok(());
    }
    let (message, hint) = said.trim().split_once("\nhint: ").unwrap_or((said.trim(), "mcpctl local doctor"));
    Err(Failure::new(message.trim_start_matches("error: ")).hint(hint))
}

/// The first line says of what the rest was when it was written, so that a change by hand is told from an older version.
fn marked(text: &str) -> String {
    let (first, rest) = text.split_once("MARK\n").unwrap_or(("", text));
    format!("{first}{} {}\n{rest}", MARK, digest(first, rest))
}

const MARK: &str = "Written by `mcpctl local install`, for a change to be seen:";

fn is_ours(text: &str) -> bool {
    let Some((first, rest)) = text.split_once(MARK) else { return false };
    rest.trim_start().split_once('\n').is_some_and(|(said, rest)| said == digest(first, rest))
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

/// All of it or nothing.
fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new(format!("`{}` cannot be written: {error}", file.display()));
    let parent = file.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(parent).map_err(failed)?;
    // What lies there runs with every login.
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

/// Text that goes into a file of lines: a line's end in a path would begin another.
fn one_line(path: &Path) -> Result<&str, Failure> {
    path.to_str()
        .filter(|text| !text.contains(char::is_control))
        .ok_or_else(|| Failure::new(format!("`{}` cannot stand in a service's file", path.display())))
}

/// Runs a program of the service manager; what it says against it is the error.
async fn run(program: &str, args: &[&str]) -> Result<(), Failure> {
    let shown = format!("{program} {}", args.join(" "));
    let output = Command::new(program).args(args).output().await;
    let output = output.map_err(|error| Failure::new(format!("`{shown}`: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("`{shown}` failed: {}", said.trim())))
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
    fn a_change_by_hand_is_told_from_another_version() {
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
    fn a_path_with_a_line_end_is_refused() {
        let evil = "/a\nExecStartPre=/bin/evil".to_owned();
        let program = Service { program: evil.clone().into(), ..service() };
        let variable = Service { environment: vec![("PATH".to_owned(), evil)], ..service() };
        for service in [program, variable] {
            assert!(Manager::Systemd.render(&service).is_err());
            assert!(Manager::Launchd.render(&service).is_err());
        }
    }

    #[test]
    fn the_property_list_says_what_is_to_be_run() {
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
