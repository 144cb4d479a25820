//! Readers that leave: a closed pipe ends a command quietly, and the agent continues without its log.

use std::{
    io::pipe,
    process::{Command, Output, Stdio},
};

use mcpctl_testkit::daemons::{eventually, program};
use serde_json::Value;

/// A pipe whose reader has left, so that the first write fails.
fn closed() -> Stdio {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    writer.into()
}

fn mcplocal(home: &std::path::Path, args: &[&str]) -> Command {
    let mut command = Command::new(program("mcplocal"));
    command.args(args).stdin(Stdio::null());
    command.env("XDG_CONFIG_HOME", home.join("config")).env("XDG_STATE_HOME", home.join("state"));
    command
}

#[test]
fn closed_pipe_ends_every_command_quietly() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("mcplocal.yaml");
    std::fs::write(&config, "server: http://127.0.0.1:1\n").unwrap();
    let config = config.to_str().unwrap();
    for args in [
        &["--help"][..],
        &["-h"],
        &["--version"],
        &["--check", "--config", config],
        &["--doctor", "--config", config],
    ] {
        let Output { status, stderr, .. } = mcplocal(home.path(), args).stdout(closed()).output().unwrap();
        let errors = String::from_utf8(stderr).unwrap();
        assert_eq!((status.code(), errors.as_str()), (Some(0), ""), "{args:?}");
    }
    for (args, code) in
        [(&["--config", "/nowhere"][..], 1), (&["--check", "--config", "/nowhere"], 1), (&["-x"], 2)]
    {
        let status = mcplocal(home.path(), args).stdout(closed()).stderr(closed()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{args:?}");
    }
}

#[tokio::test]
async fn agent_continues_when_the_reader_of_its_log_leaves() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("mcplocal.yaml");
    std::fs::write(&config, "server: http://127.0.0.1:1\nlisten: 127.0.0.1:0\n").unwrap();
    let mut agent = mcplocal(home.path(), &["--config", config.to_str().unwrap()]);
    let mut agent = agent.stdout(closed()).stderr(closed()).spawn().unwrap();
    let record = home.path().join("state/mcpctl/mcplocal/agent.json");
    let address = eventually("the agent records its address", async || {
        let record: Value = serde_json::from_slice(&std::fs::read(&record).ok()?).ok()?;
        record["listen"].as_str().map(str::to_owned)
    })
    .await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for _ in 0..3 {
        eventually("an answer", async || http.get(format!("http://{address}/v1/models")).send().await.ok())
            .await;
    }
    assert!(agent.try_wait().unwrap().is_none(), "the agent ended");
    agent.kill().unwrap();
    agent.wait().unwrap();
}
