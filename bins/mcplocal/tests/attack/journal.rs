//! What the journal records; and that nothing runs locally while it cannot be written.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
};

use futures::future::join_all;
use mcpctl_testkit::{
    daemons::{Mcplocal, McplocalOptions, closed_address, eventually},
    deployment::Deployment,
    model_server::{ModelServer, Reply},
    response::{content, header},
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::fake_mcpd::{ALLOWED, FakeMcpd, provider, question, unknown_bearer};

/// A deployment whose primary always fails, with lines of the agent's configuration.
async fn start(config: &str) -> Deployment {
    Deployment::builder().unreachable_inference().config(config).start().await
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn line_is_written_before_the_prompt_is_sent() {
    let mut deployment = start("").await;
    deployment.desk.set_default(Reply::hang());
    let url = format!("{}/v1/chat/completions", deployment.agent.url());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = http.post(url).bearer_auth(&deployment.alice).json(&question());
    let chat = tokio::spawn(request.send());
    eventually("the prompt arrives", async || (!deployment.desk.inferences().is_empty()).then_some(())).await;

    // The agent is killed before the model has answered.
    let file = deployment.agent.journal_file();
    deployment.agent.kill();
    let lines = lines(&file);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line = &lines[0];
    assert_eq!(
        (&line["event"], &line["llm"], &line["provider"]),
        (&json!("failover"), &json!("claude"), &json!("desk"))
    );
    assert_eq!(
        (&line["outcome"], &line["access"], &line["class"]),
        (&json!("served"), &json!(["allowed"]), &json!("connect"))
    );
    // INVARIANT 10: the caller is recorded, the bearer is not.
    assert!(line["who"].as_str().unwrap().starts_with("bearer:"), "{line}");
    assert!(!line.to_string().contains(&deployment.alice[5..20]), "{line}");
    let _ = chat.await;
}

#[tokio::test]
async fn callers_are_distinguished_and_users_are_named() {
    let deployment = start("").await;
    let bob = deployment.mcpd.user("bob", Some("llm-user")).await;
    deployment.agent.sign_in(&deployment.mcpd, "alice", &deployment.alice);
    let key = deployment.agent.local_key();
    for bearer in [&deployment.alice, &bob, &deployment.alice, &key] {
        assert_eq!(content(deployment.agent.chat("claude", bearer, false).await).await, "from the desk");
    }
    assert_eq!(content(deployment.agent.chat("local/desk", &key, false).await).await, "from the desk");
    let journal = deployment.agent.journal();
    let entries: Vec<&Value> = journal.iter().filter(|line| line["event"] != "ended").collect();
    let who: Vec<&str> = entries.iter().map(|line| line["who"].as_str().unwrap()).collect();
    assert!(who[0] == who[2] && who[0] != who[1], "{who:?}");
    assert_eq!(who[3..], ["alice", "alice"]);
    assert_eq!((&entries[4]["event"], &entries[4]["provider"]), (&json!("own"), &json!("desk")));
    let text = fs::read_to_string(deployment.agent.journal_file()).unwrap();
    assert!([&deployment.alice, &bob, &key].iter().all(|secret| !text.contains(&secret[5..20])), "{text}");
}

/// Fails unless a change of the journal under a running agent keeps everything from running locally: the caller gets the
/// primary's own error.
async fn denies(why: &str, change: impl Fn(&Path)) {
    let deployment = start("").await;
    deployment.agent.sign_in(&deployment.mcpd, "alice", &deployment.alice);
    assert_eq!(content(deployment.chat().await).await, "from the desk", "{why}: the control");
    let before = deployment.desk.inferences().len();
    change(&deployment.agent.journal_file());
    for stream in [false, true] {
        let answer = deployment.agent.chat("claude", &deployment.alice, stream).await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY, "{why}");
        assert_eq!(header(&answer, "mcpctl-failure"), Some("connect"), "{why}");
        assert_eq!(header(&answer, "mcpctl-no-failover"), Some("no_journal"), "{why}");
        assert_eq!(header(&answer, "mcpctl-failover"), None, "{why}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["error"]["code"], "connect", "{why}");
    }
    let local = deployment.chat_locally("desk").await;
    assert_eq!(local.status(), StatusCode::INTERNAL_SERVER_ERROR, "{why}");
    assert_eq!(local.json::<Value>().await.unwrap()["error"]["code"], "no_journal", "{why}");
    assert_eq!(deployment.desk.inferences().len(), before, "{why}: the local model was called");
    assert_eq!(deployment.agent.status().await["lastFailover"]["outcome"], "failed", "{why}");
}

#[tokio::test]
async fn deleted_journal_denies() {
    denies("deleted", |path| fs::remove_file(path).unwrap()).await;
}

#[tokio::test]
async fn deleted_state_directory_denies() {
    denies("moved", |path| {
        let dir = path.parent().unwrap();
        fs::rename(path, dir.join("elsewhere")).unwrap();
    })
    .await;
}

#[tokio::test]
async fn replaced_journal_denies() {
    denies("replaced", |path| {
        fs::copy(path, path.with_extension("copy")).unwrap();
        fs::rename(path.with_extension("copy"), path).unwrap();
    })
    .await;
    denies("linked", |path| {
        fs::remove_file(path).unwrap();
        std::os::unix::fs::symlink("/dev/null", path).unwrap();
    })
    .await;
}

#[tokio::test]
async fn read_only_or_emptied_journal_denies() {
    denies("read-only", |path| fs::set_permissions(path, fs::Permissions::from_mode(0o400)).unwrap()).await;
    denies("open to others", |path| fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap())
        .await;
    denies("emptied", |path| File::options().write(true).open(path).unwrap().set_len(0).unwrap()).await;
}

#[tokio::test]
async fn full_disk_denies_and_leaves_whole_lines() {
    let mut deployment = start("").await;
    let file = deployment.agent.journal_file();
    // Larger than the log, to which the limit applies too.
    let filler = format!("{}\n", json!({"event": "ended", "model": "x".repeat(900)}));
    deployment.agent.kill();
    fs::write(&file, filler.repeat(1000)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    deployment.agent.restart().await;

    // A limit of file sizes has the effect of a full disk: half of the next line fits.
    let room = fs::metadata(&file).unwrap().len() + 100;
    let limit = format!("--fsize={room}:");
    let limited =
        Command::new("prlimit").args(["--pid", &deployment.agent.pid().to_string(), &limit]).status();
    assert!(limited.unwrap().success());
    for _ in 0..2 {
        let answer = deployment.chat().await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(header(&answer, "mcpctl-no-failover"), Some("no_journal"));
    }
    assert!(deployment.desk.inferences().is_empty(), "the local model was called");
    assert_eq!(lines(&file).len(), 1000, "half a line was left");

    // Once there is room, local providers serve again.
    let unlimited = Command::new("prlimit")
        .args(["--pid", &deployment.agent.pid().to_string(), "--fsize=unlimited:"])
        .status();
    assert!(unlimited.unwrap().success());
    assert_eq!(content(deployment.chat().await).await, "from the desk");
    assert_eq!(lines(&file).len(), 1002);
}

/// A library that lets `fdatasync` fail while a file exists, as a disk with a broken sector does.
const FAILING_DISK: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int fdatasync(int fd) {
    const char *trigger = getenv("FAILING_DISK");
    if (trigger && access(trigger, F_OK) == 0) { errno = EIO; return -1; }
    return syscall(SYS_fdatasync, fd);
}
"#;

#[tokio::test]
async fn disk_error_denies_until_the_disk_takes_lines_again() {
    let dir = tempfile::tempdir().unwrap();
    let (source, library, trigger) =
        (dir.path().join("disk.c"), dir.path().join("disk.so"), dir.path().join("fails"));
    fs::write(&source, FAILING_DISK).unwrap();
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(compiled.unwrap().success());
    let env =
        vec![("LD_PRELOAD", library.into_os_string()), ("FAILING_DISK", trigger.clone().into_os_string())];
    let mut deployment = Deployment::builder()
        .unreachable_inference()
        .options(McplocalOptions { env, ..McplocalOptions::default() })
        .start()
        .await;
    assert_eq!(content(deployment.chat().await).await, "from the desk", "the control");
    let before = deployment.desk.inferences().len();
    fs::write(&trigger, "").unwrap();
    for _ in 0..2 {
        let answer = deployment.chat().await;
        assert_eq!(header(&answer, "mcpctl-no-failover"), Some("no_journal"));
    }
    assert_eq!(deployment.desk.inferences().len(), before);
    let status = deployment.agent.status().await;
    let problem = status["journal"].as_str().unwrap();
    assert!(problem.contains("it is not on the disk"), "{problem}");
    assert!(status["journalHint"].as_str().unwrap().contains("check the disk"), "{status}");

    // No restart is needed; what was written in between is on the disk then too.
    fs::remove_file(&trigger).unwrap();
    assert_eq!(content(deployment.chat().await).await, "from the desk");
    assert_eq!(deployment.agent.status().await["journal"], Value::Null);
    deployment.agent.kill();
    let report = mcpctl_journal::verify(&deployment.agent.state_dir(), None, &[]).unwrap();
    assert_eq!(report.problems, []);
    assert_eq!(report.lines, 8);
}

#[tokio::test]
async fn acknowledgement_of_other_lines_is_none() {
    let receipt = json!({"seq": 2, "hash": "0".repeat(64), "recorded": 2}).to_string();
    let length = receipt.len();
    let receipt = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{receipt}"
    );
    let (mcpd, desk) =
        (FakeMcpd::responding(ALLOWED, &receipt).await, ModelServer::with_default(Reply::text("x")).await);
    let (server, inference, item) = (&mcpd.url, closed_address(), provider(&desk.base_url()));
    let agent =
        Mcplocal::start(&format!("server: {server}\ninference: http://{inference}\nproviders:\n{item}"))
            .await;
    let contexts = agent.homes()[0].1.join("mcpctl/config.yaml");
    fs::create_dir_all(contexts.parent().unwrap()).unwrap();
    let token = unknown_bearer();
    let text = format!(
        "currentContext: c\ncontexts:\n  - name: c\n    server: {server}/\n    user: alice\n    token: {token}\n"
    );
    fs::write(&contexts, text).unwrap();
    fs::set_permissions(&contexts, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(agent.chat("claude", &agent.local_key(), false).await.status(), StatusCode::OK);
    let backlog = eventually("the status has the reason", async || {
        let backlog = agent.status().await["journalBacklog"].clone();
        (backlog["lines"] == 2 && !backlog["reason"].is_null()).then_some(backlog)
    })
    .await;
    let reason = "mcpd acknowledged line 2, which is not the last one that was sent";
    assert_eq!(backlog, json!({"lines": 2, "reason": reason}));
}

#[tokio::test]
async fn torn_line_is_removed_before_the_next_one() {
    let mut deployment = start("").await;
    let file = deployment.agent.journal_file();
    let tear = |file: &Path| {
        File::options().append(true).open(file).unwrap().write_all(b"{\"event\":\"failover\",\"at").unwrap();
    };
    tear(&file);
    deployment.chat().await;
    assert_eq!(lines(&file).len(), 2, "while the agent runs");
    deployment.agent.kill();
    tear(&file);
    deployment.agent.restart().await;
    assert_eq!(lines(&file).len(), 2, "at the start");
    deployment.chat().await;
    assert_eq!(lines(&file).len(), 4);
}

#[tokio::test]
async fn caller_who_leaves_before_the_answer_is_recorded() {
    let deployment = start("").await;
    deployment.desk.set_default(Reply::hang());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/v1/chat/completions", deployment.agent.url());
    let chat = tokio::spawn(http.post(url).bearer_auth(&deployment.alice).json(&question()).send());
    eventually("the prompt arrives", async || (!deployment.desk.inferences().is_empty()).then_some(())).await;
    chat.abort();
    let journal = eventually("the end is recorded", async || {
        let journal = deployment.agent.journal();
        (journal.len() == 2).then_some(journal)
    })
    .await;
    assert_eq!((&journal[1]["event"], &journal[1]["outcome"]), (&json!("ended"), &json!("cancelled")));
    assert_eq!(journal[1]["request"], journal[0]["request"]);
    deployment.desk.wait_for_disconnects(1).await;
}

#[tokio::test]
async fn refusals_of_strangers_cannot_push_lines_out() {
    let deployment = start("limits: {journal: {refusalsPerMinute: 5}}").await;
    assert_eq!(content(deployment.chat().await).await, "from the desk");
    // At once, so that they are over within the minute.
    let bearers: Vec<_> = (0..40).map(|_| unknown_bearer()).collect();
    let chats = bearers.iter().map(|bearer| deployment.agent.chat("claude", bearer, false));
    for answer in join_all(chats).await {
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    }
    let journal = deployment.agent.journal();
    let refused = journal.iter().filter(|line| line["outcome"] == "refused").count();
    assert_eq!((journal.len(), refused), (7, 5));
    assert_eq!(content(deployment.chat().await).await, "from the desk");
    assert_eq!(deployment.agent.journal().len(), 9, "what runs is always recorded");
}

#[tokio::test]
async fn journal_has_a_bound_in_total() {
    let deployment = start("limits: {journal: {maxSize: 64KiB}}").await;
    let total = || -> u64 {
        let entries = fs::read_dir(deployment.agent.state_dir()).unwrap().map(|entry| entry.unwrap());
        let journal = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("journal"));
        journal.map(|entry| entry.metadata().unwrap().len()).sum()
    };
    for _ in 0..200 {
        assert_eq!(deployment.chat().await.status(), StatusCode::OK);
        assert!(total() <= 64 << 10);
    }
    assert!(total() > 32 << 10, "the previous file is kept");
    assert!(!lines(&deployment.agent.journal_file()).is_empty());
}

#[tokio::test]
async fn texts_of_a_model_are_bounded_and_readable() {
    let deployment = start("").await;
    let evil = format!("\u{1b}[2J\u{202e}{}", "m".repeat(100_000));
    deployment.desk.set_default(Reply::text("x").model(&evil));
    assert_eq!(deployment.chat().await.status(), StatusCode::OK);
    let file = fs::read_to_string(deployment.agent.journal_file()).unwrap();
    assert!(file.len() < 2048 && !file.contains(['\u{1b}', '\u{202e}']), "{} bytes", file.len());
}
