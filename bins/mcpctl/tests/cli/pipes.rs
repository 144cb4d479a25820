//! Readers that leave: a closed pipe ends every command quietly, whatever it prints, and also while it waits for more.

use std::{
    io::pipe,
    process::{Output, Stdio},
    time::Duration,
};

use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal, eventually},
    model_server::{ModelServer, Reply},
};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::shell::{Shell, beside};

/// How long any command may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A pipe whose reader has gone already, so that the first byte written fails.
fn closed() -> Stdio {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    writer.into()
}

/// What a command says on stderr to a reader of its data that has gone.
async fn quiet(shell: &Shell, args: &[&str]) {
    // Not `output()`, which puts a pipe of its own in place of this one.
    let child = shell.command(args).stdin(Stdio::null()).stdout(closed()).spawn().unwrap();
    let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let Output { status, stderr, .. } = ended.unwrap_or_else(|_| panic!("{args:?} does not end")).unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(0), "{args:?}: {said}");
    assert!(!said.contains("panicked") && !said.contains("error:"), "{args:?}: {said}");
    // And where nothing reads the errors either; a second change may be refused.
    let status = shell.command(args).stdin(Stdio::null()).stdout(closed()).stderr(closed()).status();
    let code = status.await.unwrap().code().expect("an exit code");
    assert!(code != 101, "{args:?} panicked");
}

#[tokio::test]
async fn closed_pipe_ends_every_command_quietly() {
    let mcpd = Mcpd::start().await;
    let provider = ModelServer::with_default(Reply::text("hello")).await;
    mcpd.llm("m", &provider.base_url()).await;
    let agent = Mcplocal::start(&format!("server: {}\n", mcpd.url())).await;
    let shell = beside(&agent);
    shell.run_with(&["login", mcpd.url(), "--token-stdin"], &mcpd.admin()).await.good();
    let user = shell.file("user.yaml", "kind: User\nname: bob\n");
    let changed = shell.file("changed.yaml", "kind: User\nname: bob\ndisplayName: Bob\n");
    let (user, changed) = (user.display().to_string(), changed.display().to_string());
    let commands: &[&[&str]] = &[
        &["--help"],
        &["--version"],
        &["help", "get"],
        &["get", "--help"],
        &["completion", "bash"],
        &["completion", "zsh"],
        &["version"],
        &["api-resources"],
        &["config", "get-contexts"],
        &["whoami"],
        &["auth", "can-i", "run", "llms", "m"],
        &["auth", "who-can", "run", "llms", "m"],
        &["get", "llms"],
        &["get", "llms", "-o", "wide"],
        &["get", "llms", "-o", "json"],
        &["get", "llms", "-o", "yaml"],
        &["get", "llms", "-o", "name"],
        &["get", "llm", "m", "-o", "jsonpath={.model}"],
        &["get", "llms", "-w"],
        &["describe", "llm", "m"],
        &["diff", "-f", &user],
        &["apply", "-f", &user],
        &["apply", "-f", &changed],
        &["patch", "user", "bob", "-p", "{\"displayName\": \"B\"}"],
        &["create", "token", "bobs", "--for", "User/bob"],
        &["delete", "user", "bob"],
        &["chat", "m", "-p", "hi"],
        &["doctor"],
        &["local", "status"],
        &["local", "status", "-o", "json"],
        &["local", "status", "--watch"],
        &["local", "doctor"],
        &["local", "env"],
    ];
    for args in commands {
        quiet(&shell, args).await;
    }
    let untested = ["login", "logout", "edit", "help"];
    let help = shell.run(&["--help"]).await.good();
    let listed = help.lines().filter_map(|line| line.strip_prefix("  "));
    for command in listed.filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase())) {
        let command = command.split_whitespace().next().unwrap();
        let tested = commands.iter().any(|args| args[0] == command) || untested.contains(&command);
        assert!(tested, "`{command}` is not tested with a closed pipe");
    }
}

/// Starts a command, reads its first line, leaves, and expects it to end though nothing more comes.
async fn ends_when_its_reader_leaves(shell: &Shell, args: &[&str]) {
    let mut child = shell.command(args).stdin(Stdio::null()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = Vec::new();
    out.read_until(b'm', &mut line).await.unwrap();
    assert!(!line.is_empty(), "{args:?} printed nothing");
    drop(out);
    let status = eventually("the end of the command", || {
        let ended = child.try_wait().unwrap();
        async move { ended }
    })
    .await;
    assert_eq!(status.code(), Some(0), "{args:?}");
}

#[tokio::test]
async fn command_that_waits_for_more_ends_when_its_reader_leaves() {
    let mcpd = Mcpd::start().await;
    let reply = Reply::text("m and more").stall_after(1);
    let provider = ModelServer::with_default(reply).await;
    mcpd.llm("m", &provider.base_url()).await;
    let shell = Shell::signed_in(&mcpd).await;
    ends_when_its_reader_leaves(&shell, &["get", "llms", "-w"]).await;
    ends_when_its_reader_leaves(&shell, &["chat", "m", "-p", "hi"]).await;
}
