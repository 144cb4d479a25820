//! macOS's launchd: the property list, and the commands that take it up.

use std::path::{Path, PathBuf};

use super::{Service, home, one_line, run};
use crate::failure::Failure;

const LABEL: &str = "io.mcpctl.mcplocal";

/// Where agents of this user lie.
pub fn file() -> Result<PathBuf, Failure> {
    Ok(home()?.join("Library/LaunchAgents").join(format!("{LABEL}.plist")))
}

/// The property list.
pub fn render(service: &Service) -> Result<String, Failure> {
    let (program, config) = (escaped(one_line(&service.program)?), escaped(one_line(&service.config)?));
    let log = escaped(one_line(&service.log)?);
    let mut environment = String::new();
    for (name, value) in &service.directories {
        environment += &format!("    <key>{name}</key><string>{}</string>\n", escaped(value));
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
  <key>ExitTimeOut</key><integer>90</integer>
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

/// Loads it, which starts it; one that was loaded before goes first.
pub async fn take_up(file: &Path, start: bool) -> Result<(), Failure> {
    if !start {
        return Ok(());
    }
    let _ = let_go().await;
    run("launchctl", &["bootstrap", &domain(), one_line(file)?]).await
}

/// Unloads it, which stops it.
pub async fn let_go() -> Result<(), Failure> {
    run("launchctl", &["bootout", &format!("{}/{LABEL}", domain())]).await
}

/// Whether it is loaded.
pub async fn runs() -> bool {
    run("launchctl", &["print", &format!("{}/{LABEL}", domain())]).await.is_ok()
}

fn domain() -> String {
    format!("gui/{}", nix::unistd::getuid())
}
