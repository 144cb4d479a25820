//! Signing keys of servers: pinned at the first sign-in, followed through a rotation, refused when they are others.

use std::fs;

use mcpctl_testkit::daemons::{Mcpd, McpdOptions, Mcplocal, eventually, program};
use serde_json::{Value, json};

use crate::shell::{CommandOutput, Shell, beside};

async fn login(shell: &Shell, mcpd: &Mcpd, more: &[&str]) -> CommandOutput {
    let args = [&["login", mcpd.url(), "--token-stdin"], more].concat();
    shell.run_with(&args, &mcpd.admin()).await
}

/// The fingerprints of the current and the next key.
async fn fingerprints(mcpd: &Mcpd) -> [String; 2] {
    let list: Value = mcpd.get("/.well-known/mcpctl-keys", "").await.json().await.unwrap();
    [0, 1].map(|at| list["keys"][at]["fingerprint"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn keys_are_pinned_at_first_contact_and_followed_once() {
    let mcpd = Mcpd::start().await;
    let (shell, other) = (Shell::new(), Shell::new());
    let [current, next] = fingerprints(&mcpd).await;
    let first = login(&shell, &mcpd, &[]).await;
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert!(first.stderr.contains(&format!("  current  {current}\n  next     {next}\n")), "{}", first.stderr);
    // The operator has the same from the daemon's log, and from its data directory while it runs.
    assert!(mcpd.log().contains(&format!("signing key {current}")), "{}", mcpd.log());
    let mut command = std::process::Command::new(program("mcpd"));
    let printed = command.args(["fingerprint", "--data-dir"]).arg(mcpd.data_dir()).output().unwrap();
    let printed = (String::from_utf8(printed.stdout).unwrap(), String::from_utf8(printed.stderr).unwrap());
    assert_eq!(printed.0, format!("current  {current}\nnext     {next}\n"), "{}", printed.1);
    assert!(!login(&shell, &mcpd, &[]).await.stderr.contains("SHA256:"), "nothing new the second time");
    login(&other, &mcpd, &[]).await.succeeded();
    let shown = shell.run(&["whoami"]).await.succeeded();
    assert!(shown.contains(&format!("key:     {current} (pinned)")), "{shown}");
    assert!(shell.run(&["config", "get-contexts"]).await.succeeded().contains(&current[..15]));

    let rotated = shell.run(&["admin", "rotate-keys"]).await.succeeded();
    let [after, later] = fingerprints(&mcpd).await;
    assert_eq!(after, next);
    let rows: Vec<Vec<&str>> = rotated.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1..], [["retired", &current], ["current", &next], ["next", &later]]);
    assert!(shell.run(&["whoami"]).await.succeeded().contains(&next), "its own pins follow");

    // Another user follows at the next sign-in, and not after a second rotation meanwhile.
    let followed = login(&other, &mcpd, &[]).await;
    assert!(followed.stderr.contains("signed by a pinned key"), "{}", followed.stderr);
    let early = shell.run(&["admin", "rotate-keys"]).await.failed(1);
    assert!(
        early.starts_with("error: the keys were rotated ") && early.ends_with(", or add `--again`\n"),
        "{early}"
    );
    for _ in 0..2 {
        shell.run(&["admin", "rotate-keys", "--again"]).await.succeeded();
    }
    let before = fs::read_to_string(other.contexts()).unwrap();
    let refused = login(&other, &mcpd, &[]).await.failed(1);
    let [now, _] = fingerprints(&mcpd).await;
    assert!(refused.starts_with("WARNING: the signing keys of "), "{refused}");
    for line in
        [format!("  pinned   {next}\n"), format!("  shown    {now}\n"), "--accept-new-keys".to_owned()]
    {
        assert!(refused.contains(&line), "{line} is not in {refused}");
    }
    assert_eq!(fs::read_to_string(other.contexts()).unwrap(), before, "nothing is saved");
    login(&other, &mcpd, &["--accept-new-keys"]).await.succeeded();
    assert!(other.run(&["whoami"]).await.succeeded().contains(&now));
}

#[tokio::test]
async fn keys_that_are_not_pinned_are_reported_with_the_next_step() {
    let mcpd = Mcpd::start().await;
    let mut agent = Mcplocal::start(&format!("server: {}\n", mcpd.url())).await;
    let shell = beside(&agent);
    login(&shell, &mcpd, &[]).await.succeeded();
    agent.kill();
    let admin = Shell::signed_in(&mcpd).await;
    for _ in 0..2 {
        admin.run(&["admin", "rotate-keys", "--again"]).await.succeeded();
    }
    let [now, _] = fingerprints(&mcpd).await;
    let found = format!("mcpd signs with {now}, which is not pinned");
    let hint = format!("compare it with the operator's, then: mcpctl login {} --accept-new-keys", mcpd.url());
    let config = agent.config_file().display().to_string();
    let checked = shell.run(&["local", "doctor", "--config", &config]).await;
    assert!(
        checked.code == 1 && checked.stdout.contains(&format!("FAIL probe: {found}\n     hint: {hint}\n")),
        "{}",
        checked.stdout
    );
    agent.restart().await;
    eventually("the agent compares the keys", async || {
        let status = shell.run(&["local", "status"]).await.succeeded();
        (status.contains(&format!("not verified: {found} (")) && status.contains(&hint)).then_some(())
    })
    .await;
    let checked = shell.run(&["doctor"]).await;
    assert!(
        checked.code == 1 && checked.stdout.contains(&format!("FAIL probe: {found} ({hint})\n")),
        "{}",
        checked.stdout
    );
    let whoami = shell.run(&["whoami"]).await;
    assert_eq!(whoami.stderr, format!("warning: {found}\nhint: {hint}\n"));
    login(&shell, &mcpd, &["--accept-new-keys"]).await.succeeded();
    assert!(!shell.run(&["local", "status"]).await.succeeded().contains("not verified"));
    assert_eq!(shell.run(&["whoami"]).await.stderr, "");
}

#[tokio::test]
async fn no_credential_is_sent_to_a_server_with_other_keys() {
    let mut real = Mcpd::start().await;
    let shell = Shell::signed_in(&real).await;
    let address: &'static str = real.url().trim_start_matches("http://").to_owned().leak();
    real.kill();
    let refused = login(&shell, &real, &[]).await.failed(1);
    assert!(refused.contains("cannot be compared: nothing was sent there"), "{refused}");
    let squatter = Mcpd::start_with(McpdOptions { listen: Some(address), ..McpdOptions::default() }).await;
    let refused = login(&shell, &squatter, &[]).await.failed(1);
    assert!(refused.contains("no pinned key signed: nothing was sent there"), "{refused}");
    assert!(!squatter.log().contains("whoami"), "{}", squatter.log());
}

#[tokio::test]
async fn scripts_pin_a_fingerprint() {
    let mcpd = Mcpd::start().await;
    let [current, next] = fingerprints(&mcpd).await;
    for wrong in [next.as_str(), &format!("SHA256:{}", "A".repeat(43))] {
        let shell = Shell::new();
        let refused = login(&shell, &mcpd, &["--pin", wrong]).await.failed(1);
        assert!(refused.contains(&format!("is {current}, not {wrong}")), "{refused}");
        assert!(!shell.contexts().exists(), "nothing is saved");
    }
    let shell = Shell::new();
    login(&shell, &mcpd, &["--pin", "SHA256:short"]).await.failed(2);
    let pinned = login(&shell, &mcpd, &["--pin", &current]).await;
    assert!(pinned.stderr.contains("are pinned; the current one is the named one:"), "{}", pinned.stderr);
    assert!(!pinned.stderr.contains("compare"), "there is nothing left to compare: {}", pinned.stderr);
    assert!(fs::read_to_string(shell.contexts()).unwrap().contains("pins:"));
}

#[tokio::test]
async fn only_an_account_that_may_do_everything_rotates_keys() {
    let mcpd = Mcpd::start().await;
    let before = fingerprints(&mcpd).await;
    let editor = mcpd.user("editor", Some("editor")).await;
    let shell = Shell::new();
    shell.run_with(&["login", mcpd.url(), "--token-stdin"], &editor).await.succeeded();
    let refused = shell.run(&["admin", "rotate-keys"]).await.failed(1);
    assert!(refused.contains("hint: an account that may do everything"), "{refused}");
    assert_eq!(fingerprints(&mcpd).await, before);
    // `failover` of an Llm, as people write it and see it.
    mcpd.llm("claude", "http://127.0.0.1:1").await;
    let admin = Shell::signed_in(&mcpd).await;
    let patch = json!({"failover": {"require": "run", "offlineGrace": "1m"}}).to_string();
    admin.run(&["patch", "llm", "claude", "-p", &patch]).await.succeeded();
    let shown = admin.run(&["get", "llm", "claude", "-o", "yaml"]).await.succeeded();
    let failover = "failover:\n  allowed: true\n  require: run\n  offlineGrace: 1m\n";
    assert!(shown.contains(failover), "{shown}");
    let file = admin.file("llm.yaml", &shown.replace("offlineGrace: 1m", "offlineGrace: 1h"));
    let refused = admin.run(&["apply", "-f", file.to_str().unwrap()]).await.failed(1);
    assert!(refused.contains("failover.offlineGrace: it is at most 5m, `1h` asked for"), "{refused}");
    let file = admin.file("llm.yaml", &shown.replace("offlineGrace: 1m", "offlineGrace: 2m"));
    let diff = admin.run(&["diff", "-f", file.to_str().unwrap()]).await;
    assert!(diff.code == 1 && diff.stdout.contains("+   offlineGrace: 2m"), "{}", diff.stdout);
    assert!(admin.run(&["describe", "llm", "claude"]).await.succeeded().contains("require: run"));
}
