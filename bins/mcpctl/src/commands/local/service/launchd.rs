//! macOS's launchd: the property list, and the commands that load it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{Service, home, one_line, run};
use crate::{agent, failure::Failure};

/// How long the agent may take to respond; launchd does not report when a service is ready.
const START_TIMEOUT: Duration = Duration::from_secs(15);
const LABEL: &str = "io.mcpctl.mcplocal";

/// The path of the property list.
pub fn file() -> Result<PathBuf, Failure> {
    Ok(home()?.join("Library/LaunchAgents").join(format!("{LABEL}.plist")))
}

/// The property list.
pub fn render(service: &Service) -> Result<String, Failure> {
    let (program, config) = (escaped(one_line(&service.program)?), escaped(one_line(&service.config)?));
    let log = escaped(one_line(&service.log)?);
    let mut environment = String::new();
    for (name, value) in &service.environment {
        let value = escaped(one_line(Path::new(value))?);
        environment += &format!("    <key>{name}</key><string>{value}</string>\n");
    }
    Ok(format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- MARK
-->
<plist version="1.0">
<dict>
  <key>Label</key><string>{LABEL}</string>
  <key>ProgramArguments</key>
  <array>
    <string>{program}</string>
    <string>--config</string>
    <string>{config}</string>
  </array>
  <key>EnvironmentVariables</key>
  <dict>
{environment}  </dict>
  <key>RunAtLoad</key><true/>
  <key>KeepAlive</key>
  <dict>
    <key>SuccessfulExit</key><false/>
  </dict>
  <key>ThrottleInterval</key><integer>10</integer>
  <key>ExitTimeOut</key><integer>120</integer>
  <key>Umask</key><integer>63</integer>
  <key>ProcessType</key><string>Interactive</string>
  <key>StandardOutPath</key><string>{log}</string>
  <key>StandardErrorPath</key><string>{log}</string>
</dict>
</plist>
"#
    ))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Loads the service, which starts it, and waits until the agent responds. Unloads it first where its file `changed`.
pub async fn start(file: &Path, changed: bool) -> Result<(), Failure> {
    if changed {
        stop().await?;
    }
    if !runs().await {
        run("launchctl", &["bootstrap", &domain(), one_line(file)?]).await?;
    }
    let begun = Instant::now();
    loop {
        match agent::find().await {
            Ok(_) => return Ok(()),
            Err(failure) if begun.elapsed() > START_TIMEOUT => {
                return Err(failure.hint("read ~/Library/Logs/mcplocal.log for the reason"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Unloads the service, which stops it.
pub async fn stop() -> Result<(), Failure> {
    if !runs().await {
        return Ok(());
    }
    run("launchctl", &["bootout", &format!("{}/{LABEL}", domain())]).await
}

/// Whether the service is loaded.
pub async fn runs() -> bool {
    run("launchctl", &["print", &format!("{}/{LABEL}", domain())]).await.is_ok()
}

fn domain() -> String {
    format!("gui/{}", nix::unistd::getuid())
}
