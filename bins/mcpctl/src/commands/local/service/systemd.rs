//! systemd's user manager: the unit, and the commands that take it up.

use std::path::PathBuf;

use super::{Service, home, one_line, run};
use crate::failure::Failure;

const UNIT: &str = "mcplocal.service";

/// Where units of this user lie.
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
    let (program, config) = (quoted(one_line(&service.program)?), quoted(one_line(&service.config)?));
    let mut environment = String::new();
    for (name, value) in &service.directories {
        environment += &format!("Environment={}\n", quoted(&format!("{name}={value}")).replace("$$", "$"));
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
TimeoutStopSec=90
UMask=0077
# Nothing that engines need: they compile code for GPUs, so memory may be writable and executable.
NoNewPrivileges=yes
LockPersonality=yes
RestrictSUIDSGID=yes

[Install]
WantedBy=default.target
"
    ))
}

/// As one word of a command line, with nothing in it that systemd would read otherwise.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{escaped}\"")
}

/// Enables it, and starts it anew.
pub async fn take_up(start: bool) -> Result<(), Failure> {
    reload().await?;
    systemctl(&["enable", UNIT]).await?;
    if !start {
        return Ok(());
    }
    // It answers when it is ready, or has failed.
    let started = systemctl(&["restart", UNIT]).await;
    if started.is_err() {
        let _ = systemctl(&["disable", UNIT]).await;
    }
    started.map_err(|failure| failure.hint("journalctl --user -u mcplocal -n 20 says why"))
}

/// Stops it for good.
pub async fn let_go() -> Result<(), Failure> {
    systemctl(&["disable", "--now", UNIT]).await
}

/// Whether it is up.
pub async fn runs() -> bool {
    systemctl(&["is-active", "--quiet", UNIT]).await.is_ok()
}

/// Reads the units again.
pub async fn reload() -> Result<(), Failure> {
    systemctl(&["daemon-reload"]).await.map_err(|failure| {
        failure.hint("systemd runs no manager for this user here: log in on the machine itself, or run `mcplocal` by hand")
    })
}

async fn systemctl(args: &[&str]) -> Result<(), Failure> {
    run("systemctl", &[&["--user"], args].concat()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_one_word_whatever_is_in_it() {
        assert_eq!(quoted(r#"/a b/50%/$x/"q"\n"#), r#""/a b/50%%/$$x/\"q\"\\n""#);
    }
}
