//! The agent as a service. The service manager is played by a script that writes down what it is asked; the agent is real.

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf};

use mcpctl_testkit::daemons::{Mcpd, Mcplocal};

use crate::shell::{Shell, beside};

/// A shell with a `systemctl` that fails where there is a file `fails` with its word in it.
fn with_manager(mut shell: Shell) -> Shell {
    let bin = shell.home.path().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {0}/asked\nif [ -e {0}/fails ] && [ \"$2\" = \"$(cat {0}/fails)\" ]; then echo 'Failed to connect to bus' >&2; exit 1; fi\n",
        shell.home.path().display()
    );
    let path = bin.join("systemctl");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    shell.more.push(("PATH", format!("{}:/usr/bin:/bin", bin.display())));
    shell
}

fn asked(shell: &Shell) -> Vec<String> {
    let path = shell.home.path().join("asked");
    let asked = std::fs::read_to_string(&path).unwrap_or_default();
    let _ = std::fs::remove_file(path);
    asked.lines().map(|line| line.trim_start_matches("--user ").to_owned()).collect()
}

/// An agent that answers where the service's would, and a configuration that it would be given.
async fn world() -> (Mcpd, Mcplocal, Shell, PathBuf, PathBuf) {
    let mcpd = Mcpd::start().await;
    let agent = Mcplocal::start(&format!("server: {}\n", mcpd.url())).await;
    let shell = with_manager(beside(&agent));
    let [(_, config_home), _] = agent.homes();
    let config = shell.file("mcplocal.yaml", &format!("server: {}\n", mcpd.url()));
    (mcpd, agent, shell, config_home.join("systemd/user/mcplocal.service"), config)
}

#[tokio::test]
async fn it_is_installed_once_kept_as_it_was_changed_and_removed() {
    let (_mcpd, _agent, shell, unit, config) = world().await;
    let config = config.to_str().unwrap();
    // One that runs by hand holds the port and the directories.
    let said = shell.run(&["local", "install", "--config", config]).await.failed(1);
    assert!(said.contains("mcplocal runs already") && !unit.exists(), "{said}");

    let said = shell.run(&["local", "install", "--config", config, "--no-start"]).await.good();
    assert!(said.contains("mcplocal.service written"), "{said}");
    let enable = format!("enable {}", unit.display());
    assert_eq!(asked(&shell), ["daemon-reload", &enable]);
    let text = std::fs::read_to_string(&unit).unwrap();
    assert!(text.contains(&format!("--config \"{config}\"")) && text.contains("Type=notify"), "{text}");
    assert_eq!(shell.run(&["local", "install", "--config", config, "--print"]).await.good(), text);

    let said = shell.run(&["local", "install", "--config", config]).await.good();
    assert!(
        said.contains("unchanged") && said.contains("mcplocal runs, and again after every login"),
        "{said}"
    );
    // What did not change is not started anew: it may be in the midst of requests.
    assert_eq!(
        asked(&shell),
        ["daemon-reload", &enable, "reset-failed mcplocal.service", "start mcplocal.service"]
    );

    std::fs::write(&unit, text.replace("TimeoutStopSec=120", "TimeoutStopSec=1200")).unwrap();
    let said = shell.run(&["local", "install", "--config", config]).await.failed(1);
    assert!(said.contains("was changed by hand") && said.contains("--force"), "{said}");
    assert!(std::fs::read_to_string(&unit).unwrap().contains("1200") && asked(&shell).is_empty());
    let said = shell.run(&["local", "uninstall"]).await.failed(1);
    assert!(said.contains("was changed by hand") && unit.exists() && asked(&shell).is_empty(), "{said}");
    shell.run(&["local", "install", "--config", config, "--force"]).await.good();
    assert_eq!(std::fs::read_to_string(&unit).unwrap(), text);
    assert_eq!(asked(&shell).last().unwrap(), "restart mcplocal.service");

    asked(&shell);
    let said = shell.run(&["local", "uninstall"]).await;
    assert!(said.err.contains("kept: configuration in"), "{}", said.err);
    assert_eq!(asked(&shell), ["disable --now mcplocal.service", "daemon-reload"]);
    assert!(!unit.exists());
    assert!(shell.run(&["local", "uninstall"]).await.err.contains("is not installed"));
}

#[tokio::test]
async fn what_cannot_be_finished_is_taken_back() {
    let (_mcpd, _agent, shell, unit, config) = world().await;
    let config = config.to_str().unwrap();
    for word in ["daemon-reload", "enable"] {
        shell.file("fails", word);
        let said = shell.run(&["local", "install", "--config", config, "--no-start"]).await.failed(1);
        assert!(said.contains("Failed to connect to bus") && !unit.exists(), "{word}: {said}");
    }
    // One that was installed and cannot be started with what is new is as it was, and runs again.
    std::fs::remove_file(shell.home.path().join("fails")).unwrap();
    shell.run(&["local", "install", "--config", config, "--no-start"]).await.good();
    let before = std::fs::read_to_string(&unit).unwrap();
    let other = shell.file("other.yaml", &std::fs::read_to_string(config).unwrap());
    shell.file("fails", "restart");
    asked(&shell);
    let said = shell.run(&["local", "install", "--config", other.to_str().unwrap()]).await.failed(1);
    assert!(said.contains("hint: journalctl --user -u mcplocal"), "{said}");
    assert_eq!(std::fs::read_to_string(&unit).unwrap(), before);
    let asked = asked(&shell);
    assert!(!asked.iter().any(|line| line.starts_with("disable")), "{asked:?}");
    assert_eq!(asked.iter().filter(|line| line.starts_with("restart")).count(), 2, "{asked:?}");
    // A configuration that the agent would refuse never becomes a service.
    let wrong = shell.file("wrong.yaml", "server: https://mcpd.example.com\nservre: x\n");
    let said = shell.run(&["local", "install", "--config", wrong.to_str().unwrap()]).await.failed(1);
    assert!(said.contains("unknown field `servre`"), "{said}");
    assert_eq!(std::fs::read_to_string(&unit).unwrap(), before);
}

#[tokio::test]
async fn systemd_takes_the_unit() {
    let (_mcpd, _agent, shell, _, config) = world().await;
    let strange = config.with_file_name("50% of $HOME and \"more\" \\n.yaml");
    std::fs::rename(&config, &strange).unwrap();
    let unit =
        shell.run(&["local", "install", "--config", strange.to_str().unwrap(), "--print"]).await.good();
    let path = shell.file("mcplocal.service", &unit);
    let runtime = tempfile::tempdir().unwrap();
    let mut verify = tokio::process::Command::new("systemd-analyze");
    verify.args(["--user", "verify"]).arg(&path).env("XDG_RUNTIME_DIR", runtime.path());
    match verify.output().await {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && !said.contains("mcplocal.service"), "{said}\n{unit}");
        }
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}"),
    }
}
