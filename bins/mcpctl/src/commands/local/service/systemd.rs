//! systemd's user manager: the unit, and the commands that enable it.

use std::path::{Path, PathBuf};

use super::{Service, home, one_line, run};
use crate::failure::Failure;

const UNIT: &str = "mcplocal.service";
const NO_MANAGER: &str = "where systemd runs no manager for this user, `loginctl enable-linger` starts one; or run `mcplocal` by hand";

/// The path of the unit.
pub fn file() -> Result<PathBuf, Failure> {
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let config = match config {
        Some(config) => config,
        None => home()?.join(".config"),
    };
    Ok(config.join("systemd/user").join(UNIT))
}

/// The unit.
pub fn render(service: &Service) -> Result<String, Failure> {
    let (program, config) = (program(&service.program)?, argument(one_line(&service.config)?));
    let mut environment = String::new();
    for (name, value) in &service.environment {
        let value = one_line(Path::new(value))?;
        environment += &format!("Environment={}\n", quoted(&format!("{name}={value}")));
    }
    Ok(format!(
        "# MARK
[Unit]
Description=mcplocal, the local agent of mcpctl
# A configuration that is wrong is not tried for ever.
StartLimitIntervalSec=60
StartLimitBurst=5

[Service]
Type=notify
NotifyAccess=main
ExecStart={program} --config {config}
{environment}WatchdogSec=30
Restart=on-failure
RestartSec=2
# It is asked alone, lets requests end and stops its engines itself; whatever is left then is killed.
KillMode=mixed
TimeoutStopSec=120
# An engine that takes too much memory is ended, and not the agent with it.
OOMPolicy=continue
UMask=0077
# Prompts and tokens do not belong into core dumps.
LimitCORE=0
# No sandbox: engines compile code for GPUs, and NVIDIA's driver makes its devices with the help of a setuid program.

[Install]
WantedBy=default.target
"
    ))
}

/// The program of a command line. systemd interprets quotes, backslashes and dollars in it, however they are escaped.
fn program(path: &Path) -> Result<String, Failure> {
    let text = one_line(path)?;
    if text.contains(['"', '\'', '\\', '$']) {
        return Err(Failure::new(format!("systemd cannot run `{text}`"))
            .hint("install mcplocal where the path has no quotes, backslashes and dollars"));
    }
    Ok(quoted(text))
}

/// An argument of a command line, in which variables are replaced.
fn argument(text: &str) -> String {
    quoted(text).replace('$', "$$")
}

/// A text as one word, with everything escaped that systemd would interpret.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    format!("\"{escaped}\"")
}

/// Starts the unit at each login. Enabled by its path, because the manager may look for units elsewhere: a shell can have
/// another XDG_CONFIG_HOME than the login had.
pub async fn enable(file: &Path) -> Result<(), Failure> {
    reload().await?;
    systemctl(&["enable", one_line(file)?]).await
}

/// Starts the unit, and returns when it is ready or has failed.
pub async fn start(changed: bool) -> Result<(), Failure> {
    // systemd does not start a unit that failed too often.
    let _ = systemctl(&["reset-failed", UNIT]).await;
    let action = if changed { "restart" } else { "start" };
    let started = systemctl(&[action, UNIT]).await;
    started.map_err(|failure| failure.hint("read the reason with: journalctl --user -u mcplocal -n 20"))
}

/// Stops the unit, and disables it.
pub async fn stop() -> Result<(), Failure> {
    systemctl(&["disable", "--now", UNIT]).await.map_err(|failure| failure.hint(NO_MANAGER))
}

/// Whether the unit is active.
pub async fn runs() -> bool {
    systemctl(&["is-active", "--quiet", UNIT]).await.is_ok()
}

/// Reads the units again.
pub async fn reload() -> Result<(), Failure> {
    systemctl(&["daemon-reload"]).await.map_err(|failure| failure.hint(NO_MANAGER))
}

async fn systemctl(args: &[&str]) -> Result<(), Failure> {
    run("systemctl", &[&["--user"], args].concat()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_stays_one_word_whatever_is_in_it() {
        assert_eq!(argument(r#"/a b/50%/$x/"q"\n"#), r#""/a b/50%%/$$x/\"q\"\\n""#);
        assert_eq!(program(Path::new("/a b/50%/mcplocal")).unwrap(), r#""/a b/50%%/mcplocal""#);
        for path in ["/a\"b", "/a'b", "/a\\b", "/$a"] {
            assert!(program(Path::new(path)).is_err(), "{path}");
        }
    }
}
