//! The agent as a service. The service manager is a script that records its calls; the agent is real.

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf};

use mcpctl_testkit::daemons::{Mcpd, Mcplocal};

use crate::shell::{Shell, beside};

/// A shell with a `systemctl` that fails for the command in the file `fails`.
fn with_manager(mut shell: Shell) -> Shell {
    let bin = shell.home.path().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {0}/calls\nif [ -e {0}/fails ] && [ \"$2\" = \"$(cat {0}/fails)\" ]; then echo 'Failed to connect to bus' >&2; exit 1; fi\n",
        shell.home.path().display()
    );
    let path = bin.join("systemctl");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    shell.env.push(("PATH", format!("{}:/usr/bin:/bin", bin.display())));
    shell
}

fn calls(shell: &Shell) -> Vec<String> {
    let path = shell.home.path().join("calls");
    let calls = std::fs::read_to_string(&path).unwrap_or_default();
    let _ = std::fs::remove_file(path);
    calls.lines().map(|line| line.trim_start_matches("--user ").to_owned()).collect()
}

/// An agent in the place of the service's, and a configuration for the service.
async fn setup() -> (Mcpd, Mcplocal, Shell, PathBuf, PathBuf) {
    let mcpd = Mcpd::start().await;
    let agent = Mcplocal::start(&format!("server: {}\n", mcpd.url())).await;
    let shell = with_manager(beside(&agent));
    let [(_, config_home), _] = agent.homes();
    let config = shell.file("mcplocal.yaml", &format!("server: {}\n", mcpd.url()));
    (mcpd, agent, shell, config_home.join("systemd/user/mcplocal.service"), config)
}

#[tokio::test]
async fn service_is_installed_once_and_removed() {
    let (_mcpd, _agent, shell, unit, config) = setup().await;
    let config = config.to_str().unwrap();
    // An agent that a user started holds the port and the directories.
    let error = shell.run(&["local", "install", "--config", config]).await.failed(1);
    assert!(error.contains("mcplocal runs already") && !unit.exists(), "{error}");

    let output = shell.run(&["local", "install", "--config", config, "--no-start"]).await.succeeded();
    assert!(output.contains("mcplocal.service written"), "{output}");
    let enable = format!("enable {}", unit.display());
    assert_eq!(calls(&shell), ["daemon-reload", &enable]);
    let text = std::fs::read_to_string(&unit).unwrap();
    assert!(text.contains(&format!("--config \"{config}\"")) && text.contains("Type=notify"), "{text}");
    assert_eq!(shell.run(&["local", "install", "--config", config, "--print"]).await.succeeded(), text);

    let output = shell.run(&["local", "install", "--config", config]).await.succeeded();
    assert!(
        output.contains("unchanged") && output.contains("mcplocal runs, and again after every login"),
        "{output}"
    );
    // An unchanged service is not restarted: it may be serving requests.
    assert_eq!(
        calls(&shell),
        ["daemon-reload", &enable, "reset-failed mcplocal.service", "start mcplocal.service"]
    );

    std::fs::write(&unit, text.replace("TimeoutStopSec=120", "TimeoutStopSec=1200")).unwrap();
    let error = shell.run(&["local", "install", "--config", config]).await.failed(1);
    assert!(error.contains("was changed by hand") && error.contains("--force"), "{error}");
    assert!(std::fs::read_to_string(&unit).unwrap().contains("1200") && calls(&shell).is_empty());
    let error = shell.run(&["local", "uninstall"]).await.failed(1);
    assert!(error.contains("was changed by hand") && unit.exists() && calls(&shell).is_empty(), "{error}");
    shell.run(&["local", "install", "--config", config, "--force"]).await.succeeded();
    assert_eq!(std::fs::read_to_string(&unit).unwrap(), text);
    assert_eq!(calls(&shell).last().unwrap(), "restart mcplocal.service");

    calls(&shell);
    let output = shell.run(&["local", "uninstall"]).await;
    assert!(output.stderr.contains("kept: configuration in"), "{}", output.stderr);
    assert_eq!(calls(&shell), ["disable --now mcplocal.service", "daemon-reload"]);
    assert!(!unit.exists());
    assert!(shell.run(&["local", "uninstall"]).await.stderr.contains("is not installed"));
}

#[tokio::test]
async fn failed_installation_is_undone() {
    let (_mcpd, _agent, shell, unit, config) = setup().await;
    let config = config.to_str().unwrap();
    for word in ["daemon-reload", "enable"] {
        shell.file("fails", word);
        let error = shell.run(&["local", "install", "--config", config, "--no-start"]).await.failed(1);
        assert!(error.contains("Failed to connect to bus") && !unit.exists(), "{word}: {error}");
    }
    // An installed service that does not start with a new configuration runs again with the old one.
    std::fs::remove_file(shell.home.path().join("fails")).unwrap();
    shell.run(&["local", "install", "--config", config, "--no-start"]).await.succeeded();
    let before = std::fs::read_to_string(&unit).unwrap();
    let other = shell.file("other.yaml", &std::fs::read_to_string(config).unwrap());
    shell.file("fails", "restart");
    calls(&shell);
    let error = shell.run(&["local", "install", "--config", other.to_str().unwrap()]).await.failed(1);
    assert!(error.contains("hint: read the reason with: journalctl --user -u mcplocal"), "{error}");
    assert_eq!(std::fs::read_to_string(&unit).unwrap(), before);
    let calls = calls(&shell);
    assert!(!calls.iter().any(|line| line.starts_with("disable")), "{calls:?}");
    assert_eq!(calls.iter().filter(|line| line.starts_with("restart")).count(), 2, "{calls:?}");
    // A configuration that the agent rejects is not installed.
    let wrong = shell.file("wrong.yaml", "server: https://mcpd.example.com\nservre: x\n");
    let error = shell.run(&["local", "install", "--config", wrong.to_str().unwrap()]).await.failed(1);
    assert!(error.contains("unknown field `servre`"), "{error}");
    assert_eq!(std::fs::read_to_string(&unit).unwrap(), before);
}

#[tokio::test]
async fn systemd_accepts_the_unit() {
    let (_mcpd, _agent, shell, _, config) = setup().await;
    let strange = config.with_file_name("50% of $HOME and \"more\" \\n.yaml");
    std::fs::rename(&config, &strange).unwrap();
    let unit =
        shell.run(&["local", "install", "--config", strange.to_str().unwrap(), "--print"]).await.succeeded();
    let path = shell.file("mcplocal.service", &unit);
    let runtime = tempfile::tempdir().unwrap();
    let mut verify = tokio::process::Command::new("systemd-analyze");
    verify.args(["--user", "verify"]).arg(&path).env("XDG_RUNTIME_DIR", runtime.path());
    match verify.output().await {
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && !errors.contains("mcplocal.service"), "{errors}\n{unit}");
        }
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}"),
    }
}
