//! Readers that leave: a closed pipe ends every command quietly, also one that waits for more.

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

/// How long a command may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// A pipe whose reader has left, so that the first write fails.
fn closed() -> Stdio {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    writer.into()
}

/// Runs a command whose reader has left; fails unless it succeeds without an error.
async fn ends_quietly(shell: &Shell, args: &[&str]) {
    // Not `output()`, which replaces this pipe by its own.
    let child = shell.command(args).stdin(Stdio::null()).stdout(closed()).spawn().unwrap();
    let ended = tokio::time::timeout(COMMAND_TIMEOUT, child.wait_with_output()).await;
    let Output { status, stderr, .. } = ended.unwrap_or_else(|_| panic!("{args:?} does not end")).unwrap();
    let output = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(0), "{args:?}: {output}");
    assert!(!output.contains("panicked") && !output.contains("error:"), "{args:?}: {output}");
    // The same with a closed stderr; a change may be rejected the second time.
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
    shell.run_with(&["login", mcpd.url(), "--token-stdin"], &mcpd.admin()).await.succeeded();
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
        &["token", "list"],
        &["admin", "rotate-keys"],
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
        &["rotate", "token", "bobs"],
        &["delete", "user", "bob"],
        &["chat", "m", "-p", "hi"],
        &["llm", "test", "m"],
        &["audit"],
        &["audit", "-f"],
        &["usage"],
        &["top", "--once"],
        &["doctor"],
        &["local", "status"],
        &["local", "status", "-o", "json"],
        &["local", "status", "--watch"],
        &["local", "doctor"],
        &["local", "env"],
        &["explain", "llm"],
        &["man"],
        &["options"],
        &["reference"],
    ];
    for args in commands {
        ends_quietly(&shell, args).await;
    }
    let untested =
        ["login", "logout", "edit", "help", "passwd", "group", "set", "replace", "label", "annotate", "wait"];
    let help = shell.run(&["--help"]).await.succeeded();
    let commands_of_help = help.lines().take_while(|line| !line.starts_with("Options"));
    let listed = commands_of_help.filter_map(|line| line.strip_prefix("  "));
    for command in listed.filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase())) {
        let command = command.split_whitespace().next().unwrap();
        let tested = commands.iter().any(|args| args[0] == command) || untested.contains(&command);
        assert!(tested, "`{command}` is not tested with a closed pipe");
    }
}

/// Starts a command, closes the pipe after the first `m`, and expects the command to end although it has nothing more to print.
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
