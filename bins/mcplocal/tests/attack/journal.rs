//! What the journal records, and what happens when it cannot.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use mcpctl_testkit::{
    daemons::{Mcplocal, eventually},
    model_server::Reply,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::centre::{World, header, made_up, question, text};

fn path(agent: &Mcplocal) -> PathBuf {
    agent.state_dir().join("journal.jsonl")
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn line_is_written_before_the_prompt_leaves() {
    let world = World::cut("").await;
    world.desk.set_default(Reply::hang());
    let url = format!("{}/v1/chat/completions", world.agent.url());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let asked = http.post(url).bearer_auth(&world.alice).json(&question());
    let asking = tokio::spawn(asked.send());
    eventually("the prompt", async || (!world.desk.inferences().is_empty()).then_some(())).await;

    // The model has not answered yet; the agent is killed, and the line is there.
    let file = path(&world.agent);
    let home = world.agent.kill();
    let file = home.path().join(file.strip_prefix(file.ancestors().nth(4).unwrap()).unwrap());
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
    // INVARIANT 10: who, and never the bearer.
    assert!(line["who"].as_str().unwrap().starts_with("bearer:"), "{line}");
    assert!(!line.to_string().contains(&world.alice[5..20]), "{line}");
    let _ = asking.await;
}

#[tokio::test]
async fn callers_are_told_apart_and_users_named() {
    let world = World::cut("").await;
    let bob = world.mcpd.user("bob", Some("llm-user")).await;
    world.agent.sign_in(&world.mcpd, "alice", &world.alice);
    let key = world.agent.local_key();
    for bearer in [&world.alice, &bob, &world.alice, &key] {
        assert_eq!(text(world.agent.chat("claude", bearer, false).await).await, "from the desk");
    }
    assert_eq!(text(world.agent.chat("local/desk", &key, false).await).await, "from the desk");
    let journal = world.agent.journal();
    let begun: Vec<&Value> = journal.iter().filter(|line| line["event"] != "ended").collect();
    let who: Vec<&str> = begun.iter().map(|line| line["who"].as_str().unwrap()).collect();
    assert!(who[0] == who[2] && who[0] != who[1], "{who:?}");
    assert_eq!(who[3..], ["alice", "alice"]);
    assert_eq!((&begun[4]["event"], &begun[4]["provider"]), (&json!("own"), &json!("desk")));
    let text = fs::read_to_string(path(&world.agent)).unwrap();
    assert!([&world.alice, &bob, &key].iter().all(|secret| !text.contains(&secret[5..20])), "{text}");
}

/// Changes the journal under a running agent: nothing runs locally, and the caller gets the primary's own error.
async fn denies(why: &str, change: impl Fn(&Path)) {
    let world = World::cut("").await;
    world.agent.sign_in(&world.mcpd, "alice", &world.alice);
    assert_eq!(text(world.chat().await).await, "from the desk", "{why}: the control");
    let before = world.desk.inferences().len();
    change(&path(&world.agent));
    for stream in [false, true] {
        let answer = world.agent.chat("claude", &world.alice, stream).await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY, "{why}");
        assert_eq!(header(&answer, "mcpctl-failure"), Some("connect"), "{why}");
        assert_eq!(header(&answer, "mcpctl-no-failover"), Some("no_journal"), "{why}");
        assert_eq!(header(&answer, "mcpctl-failover"), None, "{why}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["error"]["code"], "connect", "{why}");
    }
    let own = world.agent.chat("local/desk", &world.agent.local_key(), false).await;
    assert_eq!(own.status(), StatusCode::INTERNAL_SERVER_ERROR, "{why}");
    assert_eq!(own.json::<Value>().await.unwrap()["error"]["code"], "no_journal", "{why}");
    assert_eq!(world.desk.inferences().len(), before, "{why}: the local model was called");
    assert_eq!(world.agent.status().await["lastFailover"]["outcome"], "failed", "{why}");
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
    let world = World::cut("").await;
    let file = path(&world.agent);
    // Larger than the log, which the limit bounds too.
    let filler = format!("{}\n", json!({"event": "ended", "model": "x".repeat(900)}));
    let home = world.agent.kill();
    let file = home.path().join(file.strip_prefix(file.ancestors().nth(4).unwrap()).unwrap());
    fs::write(&file, filler.repeat(1000)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let agent = Mcplocal::start_in(home, &World::config(&world.mcpd, &world.desk, "")).await;

    // A limit on file sizes stands for the full disk: the next line fits by half.
    let room = fs::metadata(&file).unwrap().len() + 100;
    let limit = format!("--fsize={room}:");
    let limited = Command::new("prlimit").args(["--pid", &agent.pid().to_string(), &limit]).status();
    assert!(limited.unwrap().success());
    for _ in 0..2 {
        let answer = agent.chat("claude", &world.alice, false).await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(header(&answer, "mcpctl-no-failover"), Some("no_journal"));
    }
    assert!(world.desk.inferences().is_empty(), "the local model was called");
    assert_eq!(lines(&file).len(), 1000, "half a line was left");

    // With room again, it goes on.
    let unlimited =
        Command::new("prlimit").args(["--pid", &agent.pid().to_string(), "--fsize=unlimited:"]).status();
    assert!(unlimited.unwrap().success());
    assert_eq!(text(agent.chat("claude", &world.alice, false).await).await, "from the desk");
    assert_eq!(lines(&file).len(), 1002);
}

#[tokio::test]
async fn torn_line_is_cut_off_before_the_next() {
    let world = World::cut("").await;
    let file = path(&world.agent);
    let tear = |file: &Path| {
        File::options().append(true).open(file).unwrap().write_all(b"{\"event\":\"failover\",\"at").unwrap();
    };
    tear(&file);
    world.chat().await;
    assert_eq!(lines(&file).len(), 2, "while it runs");
    let home = world.agent.kill();
    let file = home.path().join(file.strip_prefix(file.ancestors().nth(4).unwrap()).unwrap());
    tear(&file);
    let agent = Mcplocal::start_in(home, &World::config(&world.mcpd, &world.desk, "")).await;
    assert_eq!(lines(&file).len(), 2, "at the start");
    agent.chat("claude", &world.alice, false).await;
    assert_eq!(lines(&file).len(), 4);
}

#[tokio::test]
async fn caller_who_leaves_before_the_answer_is_recorded() {
    let world = World::cut("").await;
    world.desk.set_default(Reply::hang());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/v1/chat/completions", world.agent.url());
    let asking = tokio::spawn(http.post(url).bearer_auth(&world.alice).json(&question()).send());
    eventually("the prompt", async || (!world.desk.inferences().is_empty()).then_some(())).await;
    asking.abort();
    let journal = eventually("the end on record", async || {
        let journal = world.agent.journal();
        (journal.len() == 2).then_some(journal)
    })
    .await;
    assert_eq!((&journal[1]["event"], &journal[1]["outcome"]), (&json!("ended"), &json!("cancelled")));
    assert_eq!(journal[1]["request"], journal[0]["request"]);
    world.desk.wait_for_disconnects(1).await;
}

#[tokio::test]
async fn refusals_of_strangers_cannot_push_lines_out() {
    let world = World::cut("limits: {journal: {refusalsPerMinute: 5}}").await;
    assert_eq!(text(world.chat().await).await, "from the desk");
    for _ in 0..40 {
        let answer = world.agent.chat("claude", &made_up(), false).await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    }
    let journal = world.agent.journal();
    let refused = journal.iter().filter(|line| line["outcome"] == "refused").count();
    assert_eq!((journal.len(), refused), (7, 5));
    assert_eq!(text(world.chat().await).await, "from the desk");
    assert_eq!(world.agent.journal().len(), 9, "what runs is always on record");
}

#[tokio::test]
async fn journal_has_a_bound_in_all() {
    let world = World::cut("limits: {journal: {maxSize: 64KiB}}").await;
    let total = || -> u64 {
        let entries = fs::read_dir(world.agent.state_dir()).unwrap().map(|entry| entry.unwrap());
        let journal = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("journal"));
        journal.map(|entry| entry.metadata().unwrap().len()).sum()
    };
    for _ in 0..200 {
        assert_eq!(world.chat().await.status(), StatusCode::OK);
        assert!(total() <= 64 << 10);
    }
    assert!(total() > 32 << 10, "the file before is kept");
    assert!(!lines(&path(&world.agent)).is_empty());
}

#[tokio::test]
async fn texts_of_a_model_are_bounded_and_readable() {
    let world = World::cut("").await;
    let evil = format!("\u{1b}[2J\u{202e}{}", "m".repeat(100_000));
    world.desk.set_default(Reply::text("x").model(&evil));
    assert_eq!(world.chat().await.status(), StatusCode::OK);
    let file = fs::read_to_string(path(&world.agent)).unwrap();
    assert!(file.len() < 2048 && !file.contains(['\u{1b}', '\u{202e}']), "{} bytes", file.len());
}
