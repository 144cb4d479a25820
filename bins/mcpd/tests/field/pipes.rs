//! Readers that leave: a closed pipe ends what prints and ends, and a daemon goes on without its log.

use std::{
    io::pipe,
    net::TcpListener,
    path::Path,
    process::{Command, Output, Stdio},
};

use mcpctl_testkit::daemons::{Mcpd, eventually, program};
use reqwest::StatusCode;

/// A pipe whose reader has gone already, so that the first byte written fails.
fn closed() -> Stdio {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    writer.into()
}

fn mcpd(args: &[&str]) -> Command {
    let mut command = Command::new(program("mcpd"));
    command.args(args).stdin(Stdio::null());
    command
}

#[tokio::test]
async fn closed_pipe_ends_every_command_quietly() {
    let running = Mcpd::start().await;
    let (data_dir, home) = (running.data_dir(), tempfile::tempdir().unwrap());
    let (data_dir, key) = (data_dir.to_str().unwrap(), home.path().join("key"));
    let key = key.to_str().unwrap();
    for args in [
        &["--help"][..],
        &["--version"],
        &["help", "serve"],
        &["serve", "--help"],
        &["master-key", "--help"],
        &["openapi"],
        &["bootstrap-token", "--data-dir", data_dir],
        &["master-key", "new", "--file", key],
    ] {
        let Output { status, stderr, .. } = mcpd(args).stdout(closed()).output().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{args:?}");
    }
    assert!(Path::new(key).is_file());
}

#[test]
fn closed_pipe_of_errors_keeps_the_exit_code() {
    for (args, code) in
        [(&["serve", "--config", "/nowhere"][..], 1), (&["no-such-command"], 2), (&["serve", "-x"], 2)]
    {
        let status = mcpd(args).stdout(closed()).stderr(closed()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{args:?}");
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let Output { status, stderr, .. } = mcpd(&["openapi"]).stdout(full).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(stderr.starts_with("error: standard output cannot be written"), "{stderr}");
}

#[tokio::test]
async fn closed_log_pipe_does_not_end_the_daemon() {
    let home = tempfile::tempdir().unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut daemon = mcpd(&["serve", "--listen", &address, "--data-dir"]);
    let daemon = daemon.arg(home.path().join("data")).stdout(closed()).stderr(closed());
    let mut daemon = daemon.spawn().unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for _ in 0..3 {
        eventually("readiness", async || {
            let answer = http.get(format!("http://{address}/readyz")).send().await.ok()?;
            (answer.status() == StatusCode::OK).then_some(())
        })
        .await;
        // Refusals are logged.
        let refused =
            http.get(format!("http://{address}/api/v1/llms")).bearer_auth("mcpd_x").send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    }
    assert!(daemon.try_wait().unwrap().is_none(), "it ended");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}
